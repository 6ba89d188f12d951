//! Tasks and runs: from what somebody asked for to what came of it.

use stockade_domain::{
    ContentRef, FailureCause, Level, Nanos, RunState, RunTransition, Timestamp, Usage,
    ids::{EnvironmentId, ProjectId, RunId, RunnerId, SiteId, TaskId, UserId},
};

use crate::{Page, Paged, Result, Tx};

/// How the agent works, fixed when the task starts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunSpec {
    /// The model's name, as people ask for it.
    pub model: String,
    /// The autonomy level.
    pub level: Level,
    /// At most so many turns.
    pub max_turns: u32,
    /// At most so long, waiting for people not counted.
    pub max_time_ms: u64,
    /// At most so many tokens of all kinds.
    pub max_tokens: u64,
    /// The run's own budget, for ever.
    pub max_cost: Nanos,
    /// How long an approval waits before silence becomes a no.
    pub approval_timeout_ms: u64,
}

/// A project, as it was when the run began.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProjectSpec {
    /// Its name.
    pub name: String,
    /// Where its repository is.
    pub repository: String,
    /// The branch to stand on.
    pub base_branch: String,
    /// The commands that must succeed before a change is opened.
    pub gates: Vec<String>,
    /// How often the agent may try to make them pass.
    pub gate_attempts: u32,
}

/// What somebody asks for.
#[derive(Debug, Clone)]
pub struct Start {
    /// The task.
    pub task: TaskId,
    /// Its first run.
    pub run: RunId,
    /// In which project.
    pub project: ProjectId,
    /// Who asks.
    pub owner: UserId,
    /// Whose key the run's key is wrapped to.
    pub site: SiteId,
    /// How the agent works.
    pub spec: RunSpec,
    /// The run's data key, wrapped to the site's key, base64.
    pub wrapped_key: String,
    /// What is asked for, sealed.
    pub content: ContentRef,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// When.
    pub now: Timestamp,
}

/// What people want a run to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// End it.
    Cancel,
    /// Destroy its key and whatever plain text is left of it.
    Erase,
    /// Try again from where it stopped.
    Resume,
}

/// The branch that came out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// The branch.
    pub branch: String,
    /// The commit, hexadecimal.
    pub commit: String,
    /// The commit it stands on.
    pub base: String,
    /// Files touched.
    pub files: u32,
    /// Lines added.
    pub insertions: u32,
    /// Lines removed.
    pub deletions: u32,
    /// The change itself, sealed.
    pub diff: ContentRef,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Which.
    pub id: RunId,
    /// Its task.
    pub task: TaskId,
    /// Its project.
    pub project: ProjectId,
    /// Who asked.
    pub owner: UserId,
    /// Whose key its content is under.
    pub site: SiteId,
    /// Where it is.
    pub state: RunState,
    /// Why it failed, if it did.
    pub cause: Option<FailureCause>,
    /// What people want it to come to, until that has happened.
    pub order: Option<Order>,
    /// Grows with every change.
    pub version: u64,
    /// Who works on it or worked on it last.
    pub runner: Option<RunnerId>,
    /// Where it is worked on.
    pub environment: Option<EnvironmentId>,
    /// The number of the last lease.
    pub fence: u64,
    /// Until when that lease holds.
    pub lease_until: Option<Timestamp>,
    /// How the agent works.
    pub spec: RunSpec,
    /// The project as it was.
    pub project_spec: ProjectSpec,
    /// What was asked for, sealed.
    pub content: ContentRef,
    /// The last turn that began.
    pub turn: u32,
    /// What it cost so far.
    pub cost: Nanos,
    /// What it used so far.
    pub usage: Usage,
    /// What came out.
    pub change: Option<Change>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When work began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Last changed.
    pub updated_at: Timestamp,
    /// When its key was destroyed.
    pub erased_at: Option<Timestamp>,
}

/// Which runs.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only of this project.
    pub project: Option<ProjectId>,
    /// Only of this person.
    pub owner: Option<UserId>,
    /// Only in this state.
    pub state: Option<RunState>,
}

/// Writes task, run, the run's key, the sealed content and the run's own budget. The run is queued; `placement::place`
/// may follow in the same transaction. A repeated identifier is `Exists`.
pub async fn start(tx: &mut Tx, start: &Start) -> Result<Run> {
    todo!()
}

/// One run.
pub async fn get(tx: &mut Tx, id: RunId) -> Result<Run> {
    todo!()
}

/// Runs, newest first.
pub async fn list(tx: &mut Tx, filter: &RunFilter, page: &Page) -> Result<Paged<Run>> {
    todo!()
}

/// A person wants the run to end (`Cancel`) or to be tried again (`Resume`). What needs no runner is done at once: a
/// queued run that nobody has is cancelled, a failed or expired one is queued again (and placed anew if its
/// environment is gone). Otherwise the runner is told. `Erase` is [`erase`].
pub async fn order(tx: &mut Tx, id: RunId, order: Order, now: Timestamp) -> Result<Run> {
    todo!()
}

/// Destroys the run's wrapped key and tells the runner to destroy the plain one. Content stays as ciphertext that nobody can open. Repeatable.
pub async fn erase(tx: &mut Tx, id: RunId, now: Timestamp) -> Result<Run> {
    todo!()
}

/// Carries out a transition by the server itself, as compare-and-swap; also written as an event of the run. `version`, if given, must
/// be the present one.
pub async fn transition(
    tx: &mut Tx,
    id: RunId,
    version: Option<u64>,
    transition: RunTransition,
    now: Timestamp,
) -> Result<Run> {
    todo!()
}

/// Runs that are not over although `max_age_ms` has passed since they were last heard of, oldest first.
pub async fn overdue(tx: &mut Tx, max_age_ms: u64, now: Timestamp, limit: u32) -> Result<Vec<RunId>> {
    todo!()
}
