//! Which runner works on which run, in which environment.

use stockade_domain::{
    ContentRef, Desired, RunState, Timestamp,
    ids::{ApprovalId, EnvironmentId, ProjectId, RunId, RunnerId, SiteId, TaskId, UserId},
};

use crate::{
    Result, Tx,
    runs::{Order, ProjectSpec, RunSpec},
};

/// A run that waits for a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Which.
    pub run: RunId,
    /// It must stay in this site.
    pub site: SiteId,
    /// Who worked on it before: it has the journal, so it should go on if it lives.
    pub previous: Option<RunnerId>,
}

/// A runner that was heard of lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerLoad {
    /// Which.
    pub runner: RunnerId,
    /// Its site.
    pub site: SiteId,
    /// How many runs it has that are not over.
    pub runs: u64,
}

/// A person's yes or no that the runner may not have taken note of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Which approval.
    pub approval: ApprovalId,
    /// Yes or no.
    pub granted: bool,
    /// Whose; nobody's if time ran out.
    pub by: Option<UserId>,
    /// When.
    pub at: Timestamp,
}

/// One run with its environment, as its runner should have it.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// Who asked.
    pub owner: UserId,
    /// Its project.
    pub project: ProjectId,
    /// Where the server believes the run to be.
    pub state: RunState,
    /// What people want it to come to.
    pub order: Option<Order>,
    /// Its environment.
    pub environment: EnvironmentId,
    /// What the environment should be.
    pub desired: Desired,
    /// Which generation that is.
    pub generation: u64,
    /// The project as it was when the run began.
    pub project_spec: ProjectSpec,
    /// How the agent works.
    pub spec: RunSpec,
    /// The run's key, wrapped; nothing once erased.
    pub wrapped_key: Option<String>,
    /// What was asked for.
    pub content: ContentRef,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// All answers of this run.
    pub approvals: Vec<Answered>,
    /// All replies of this run, in order.
    pub replies: Vec<crate::replies::Reply>,
}

/// Queued runs without an environment, oldest first.
pub async fn queued(tx: &mut Tx, limit: u32) -> Result<Vec<Queued>> {
    todo!()
}

/// Runners heard of since `since`, with their load, least loaded first.
pub async fn live_runners(tx: &mut Tx, since: Timestamp) -> Result<Vec<RunnerLoad>> {
    todo!()
}

/// Gives a queued run to a runner of its site, in a new environment. False if somebody else has placed it meanwhile
/// or it is not queued any more. The runner's revision grows.
pub async fn place(
    tx: &mut Tx,
    run: RunId,
    runner: RunnerId,
    environment: EnvironmentId,
    now: Timestamp,
) -> Result<bool> {
    todo!()
}

/// Takes a run away from its runner, which is gone for good: its environment should be deleted, its fence grows,
/// and it is queued again if it was not over.
pub async fn unplace(tx: &mut Tx, run: RunId, now: Timestamp) -> Result<()> {
    todo!()
}

/// All that a runner should have: every environment of its that is not known to be deleted, and every run with an
/// order. Whole, never a difference.
pub async fn assignments(tx: &mut Tx, runner: RunnerId) -> Result<Vec<Assignment>> {
    todo!()
}
