//! Tasks and runs: from what somebody asked for to what came of it.

use stockade_domain::{
    ContentRef, Desired, EventKind, FailureCause, Harness, Level, Nanos, Observed, Period, RunKind, RunState,
    RunTransition, Timestamp, Usage,
    ids::{BudgetId, EnvironmentId, ProjectId, RunId, RunnerId, SiteId, TaskId, UserId},
};

use crate::{
    Page, Paged, Result, StoreError, Tx, budgets, connections, contents, environments, events, projects, sites,
    sql::{Row, ask, json, statements},
    tokens,
};

macro_rules! run_columns {
    () => {
        "SELECT id, kind, task, project, owner, site, state, cause, wanted, version, runner, environment, fence, \
         lease_until, spec, project_spec, content, turn, cost, tokens, change_made, created_at, started_at, \
         finished_at, updated_at, erased_at, (SELECT CAST(COALESCE(SUM(e.cost), 0) AS BIGINT) FROM environments e \
         WHERE e.run = runs.id) AS environment_cost FROM runs "
    };
}

statements! {
    ADD_TASK = "INSERT INTO tasks (id, project, owner, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    ADD_RUN = "INSERT INTO runs (id, task, project, owner, site, state, version, fence, fence_since, fence_seen, spec, \
               project_spec, content, turn, cost, tokens, events, created_at, updated_at, kind, started_at) \
               VALUES ($1, $2, $3, $4, $5, $11, 1, 0, 0, 0, $6, $7, $8, 0, 0, '{}', 0, $9, $9, $10, $12) \
               ON CONFLICT DO NOTHING";
    ADD_RUN_KEY = "INSERT INTO run_keys (run, wrapped) VALUES ($1, $2)";
    WHICH_KEY_HAS_THIS_RUN = "SELECT wrapped FROM run_keys WHERE run = $1";
    DESTROY_RUN_KEY = "DELETE FROM run_keys WHERE run = $1";
    WHICH_RUN_IS_THIS = concat!(run_columns!(), "WHERE id = $1");
    WHICH_RUNS_ARE_THERE = concat!(
        run_columns!(),
        "WHERE id < $1 AND (CAST($3 AS TEXT) IS NULL OR project = $3) AND (CAST($4 AS TEXT) IS NULL OR owner = $4) \
         AND (CAST($5 AS TEXT) IS NULL OR state = $5) AND (CAST($6 AS TEXT) IS NULL OR kind = $6) ORDER BY id DESC LIMIT $2"
    );
    WHICH_RUNS_ARE_OVERDUE = "SELECT id FROM runs WHERE state IN ('queued', 'preparing', 'working', \
                              'waiting_approval', 'waiting_input') AND kind = 'task' AND updated_at < $1 \
                              ORDER BY updated_at LIMIT $2";
    MOVE_RUN = "UPDATE runs SET state = $3, cause = $4, wanted = $5, started_at = COALESCE(started_at, $6), \
                finished_at = $7, updated_at = $8, version = version + 1 WHERE id = $1 AND version = $2";
    WANT_OF_RUN = "UPDATE runs SET wanted = $3, updated_at = $4, version = version + 1 WHERE id = $1 AND version = $2";
    LOSE_THE_PLACE = "UPDATE runs SET environment = NULL, version = version + 1 WHERE id = $1 AND version = $2";
    MARK_RUN_ERASED = "UPDATE runs SET erased_at = COALESCE(erased_at, $2), updated_at = $2, version = version + 1 \
                       WHERE id = $1";
    NOTE_TURN = "UPDATE runs SET turn = $2 WHERE id = $1 AND turn < $2";
    NOTE_SPENT = "UPDATE runs SET cost = $2, tokens = $3 WHERE id = $1";
    NOTE_CHANGE = "UPDATE runs SET change_made = $2 WHERE id = $1";
}

/// How often a compare-and-swap that lost is repeated on what the winner wrote.
const MAX_SWAPS: u32 = 8;

/// How the agent works, fixed when the task starts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunSpec {
    /// Who does the work.
    #[serde(default)]
    pub harness: Harness,
    /// The model's name, as people ask for it.
    pub model: String,
    /// The class of its environment; the site's first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
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
    /// What the run is an attempt at.
    pub kind: RunKind,
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
    /// When the run's own budget starts again.
    pub period: Period,
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
    /// What it is an attempt at.
    pub kind: RunKind,
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
    /// What its environments cost so far.
    pub environment_cost: Nanos,
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
    /// Only of this kind.
    pub kind: Option<RunKind>,
}

/// Writes task, run, the run's key, the sealed content and the run's own budget. The run is queued; `placement::place`
/// may follow in the same transaction. A repeated identifier is `Exists`.
pub async fn start(tx: &mut Tx, start: &Start) -> Result<Run> {
    let project = projects::get(tx, start.project).await?;
    let spec = ProjectSpec {
        name: project.name,
        repository: project.repository,
        base_branch: project.base_branch,
        gates: project.gates,
        gate_attempts: project.gate_attempts,
    };
    sites::get(tx, start.site).await?;
    if tx.run(ask!(ADD_TASK, start.task, start.project, start.owner, start.now)).await? == 0 {
        return Err(StoreError::exists("task", start.task));
    }
    let ask = ask!(
        ADD_RUN,
        start.run,
        start.task,
        start.project,
        start.owner,
        start.site,
        json(&start.spec)?,
        json(&spec)?,
        json(&start.content)?,
        start.now,
        start.kind.as_str(),
        start.kind.begins().as_str(),
        (!start.kind.is_placed()).then_some(start.now)
    );
    if tx.run(ask).await? == 0 {
        return Err(StoreError::exists("run", start.run));
    }
    tx.run(ask!(ADD_RUN_KEY, start.run, &start.wrapped_key)).await?;
    contents::put(tx, start.run, start.content, &start.sealed, start.now).await?;
    // One run has one budget of its own for ever: their identifiers may share the number.
    let budget = BudgetId::from_bytes(*start.run.as_bytes());
    budgets::add_for_run(tx, budget, start).await?;
    get(tx, start.run).await
}

/// One run.
pub async fn get(tx: &mut Tx, id: RunId) -> Result<Run> {
    let row = tx.maybe(ask!(WHICH_RUN_IS_THIS, id)).await?;
    read(&row.ok_or_else(|| StoreError::not_found("run", id))?)
}

/// Runs, newest first.
pub async fn list(tx: &mut Tx, filter: &RunFilter, page: &Page) -> Result<Paged<Run>> {
    let ask = ask!(
        WHICH_RUNS_ARE_THERE,
        page.before()?,
        page.fetch(),
        filter.project,
        filter.owner,
        filter.state.map(RunState::as_str),
        filter.kind.map(RunKind::as_str)
    );
    let rows = tx.all(ask).await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_>>()?, |run| run.id.to_string()))
}

/// A person wants the run to end (`Cancel`) or to be tried again (`Resume`). What needs no runner is done at once: a
/// queued run that nobody has is cancelled, a failed or expired one is queued again (and placed anew if its
/// environment is gone). Otherwise the runner is told. `Erase` is [`erase`].
pub async fn order(tx: &mut Tx, id: RunId, order: Order, now: Timestamp) -> Result<Run> {
    match order {
        Order::Erase => erase(tx, id, now).await,
        Order::Cancel => cancel(tx, id, now).await,
        Order::Resume => resume(tx, id, now).await,
    }
}

/// Destroys the run's wrapped key and tells the runner to destroy the plain one. Content stays as ciphertext that nobody can open. Repeatable.
pub async fn erase(tx: &mut Tx, id: RunId, now: Timestamp) -> Result<Run> {
    let run = get(tx, id).await?;
    tx.run(ask!(DESTROY_RUN_KEY, id)).await?;
    tx.run(ask!(MARK_RUN_ERASED, id, now)).await?;
    connections::forget(tx, id).await?;
    if run.kind == RunKind::Personal {
        tokens::erase_run(tx, id, now).await?;
        return get(tx, id).await;
    }
    let Some(runner) = run.runner else {
        // Nobody has ever had it, so nobody has a key of it.
        return if run.state.is_final() {
            get(tx, id).await
        } else {
            transition(tx, id, None, RunTransition::Fail { cause: FailureCause::Erased }, now).await
        };
    };
    if run.erased_at.is_none() {
        want(tx, id, Some(Order::Erase), now).await?;
        sites::touch(tx, runner).await?;
    }
    get(tx, id).await
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
    let (before, run) = swap(tx, id, version, transition, now).await?;
    if before != run.state {
        events::append(tx, id, now, EventKind::State { transition }).await?;
        if let Some(runner) = run.runner {
            sites::touch(tx, runner).await?;
        }
    }
    Ok(run)
}

/// Runs that are not over although `max_age_ms` has passed since they were last heard of, oldest first.
pub async fn overdue(tx: &mut Tx, max_age_ms: u64, now: Timestamp, limit: u32) -> Result<Vec<RunId>> {
    let before = Timestamp(now.0.saturating_sub(Timestamp::default().plus_ms(max_age_ms).0));
    let rows = tx.all(ask!(WHICH_RUNS_ARE_OVERDUE, before, limit)).await?;
    rows.iter().map(|row| row.word("id")).collect()
}

/// The run's wrapped key, unless it was destroyed.
pub async fn wrapped_key(tx: &mut Tx, id: RunId) -> Result<Option<String>> {
    let row = tx.maybe(ask!(WHICH_KEY_HAS_THIS_RUN, id)).await?;
    row.map(|row| row.text("wrapped")).transpose()
}

/// Carries out a transition by compare-and-swap and gives the state before and the run after. No event is written.
pub(crate) async fn swap(
    tx: &mut Tx,
    id: RunId,
    version: Option<u64>,
    transition: RunTransition,
    now: Timestamp,
) -> Result<(RunState, Run)> {
    for _ in 0..MAX_SWAPS {
        let run = get(tx, id).await?;
        if version.is_some_and(|version| version != run.version) {
            break;
        }
        let next = run.state.apply(transition)?;
        if next == run.state {
            return Ok((run.state, run));
        }
        let cause = match transition {
            RunTransition::Fail { cause } => Some(cause),
            _ => None,
        };
        // What was wanted has happened; the destroying of a key is told apart.
        let order = match (run.order, next) {
            (Some(Order::Erase), RunState::Failed) if cause == Some(FailureCause::Erased) => None,
            (Some(Order::Erase), _) => Some(Order::Erase),
            (Some(Order::Cancel), next) if next.is_final() => None,
            (Some(Order::Resume), RunState::Preparing | RunState::Working) => None,
            (order, _) => order,
        };
        let ask = ask!(
            MOVE_RUN,
            id,
            run.version,
            next.as_str(),
            cause.map(FailureCause::as_str),
            order.map(Order::as_str),
            (!matches!(next, RunState::Queued)).then_some(now),
            next.is_final().then_some(now),
            now
        );
        if tx.run(ask).await? == 1 {
            return Ok((run.state, get(tx, id).await?));
        }
    }
    Err(StoreError::conflict("run", id))
}

async fn cancel(tx: &mut Tx, id: RunId, now: Timestamp) -> Result<Run> {
    let run = get(tx, id).await?;
    if run.state == RunState::Cancelled {
        return Ok(run);
    }
    // Is it still to be had at all?
    run.state.apply(RunTransition::Cancel)?;
    if run.kind == RunKind::Personal {
        tokens::end_run(tx, id, RunTransition::Cancel, now).await?;
        return get(tx, id).await;
    }
    match run.runner {
        Some(runner) if run.environment.is_some() => {
            if run.order.is_none() || run.order == Some(Order::Resume) {
                want(tx, id, Some(Order::Cancel), now).await?;
                sites::touch(tx, runner).await?;
            }
            get(tx, id).await
        }
        _ => transition(tx, id, Some(run.version), RunTransition::Cancel, now).await,
    }
}

async fn resume(tx: &mut Tx, id: RunId, now: Timestamp) -> Result<Run> {
    let run = get(tx, id).await?;
    if !run.kind.is_placed() {
        let why = format!("{id} belongs to a gateway token and cannot be tried again; make a new token");
        return Err(StoreError::Invalid { what: "run", why });
    }
    if run.erased_at.is_some() {
        return Err(StoreError::Invalid {
            what: "run",
            why: format!("{id} was erased and cannot be resumed; start the task again"),
        });
    }
    if !matches!(run.state, RunState::Failed | RunState::Expired) {
        // What is under way needs no resuming, what is over for ever cannot be resumed: the lifecycle says which.
        if run.state.is_final() {
            run.state.apply(RunTransition::Requeue)?;
        }
        return Ok(run);
    }
    // Run, then environment, then the runner's revision: the order in which everybody locks.
    let (_, run) = swap(tx, id, Some(run.version), RunTransition::Requeue, now).await?;
    events::append(tx, id, now, EventKind::State { transition: RunTransition::Requeue }).await?;
    want(tx, id, Some(Order::Resume), now).await?;
    let run = get(tx, run.id).await?;
    if let Some(environment) = run.environment {
        let environment = environments::get(tx, environment).await?;
        let usable =
            environment.state.desired == Desired::Running && !matches!(environment.state.observed, Observed::Failed);
        if !usable {
            if tx.run(ask!(LOSE_THE_PLACE, id, run.version)).await? == 0 {
                return Err(StoreError::conflict("run", id));
            }
            environments::desire(tx, environment.id, Desired::Deleted, now).await?;
        }
    }
    if let Some(runner) = run.runner {
        sites::touch(tx, runner).await?;
    }
    get(tx, id).await
}

/// Sets or clears what people want of a run.
pub(crate) async fn want(tx: &mut Tx, id: RunId, order: Option<Order>, now: Timestamp) -> Result<()> {
    for _ in 0..MAX_SWAPS {
        let run = get(tx, id).await?;
        if run.order == order {
            return Ok(());
        }
        if tx.run(ask!(WANT_OF_RUN, id, run.version, order.map(Order::as_str), now)).await? == 1 {
            return Ok(());
        }
    }
    Err(StoreError::conflict("run", id))
}

pub(crate) async fn note_turn(tx: &mut Tx, id: RunId, turn: u32) -> Result<()> {
    tx.run(ask!(NOTE_TURN, id, turn)).await.map(drop)
}

pub(crate) async fn note_spent(tx: &mut Tx, id: RunId, cost: Nanos, usage: Usage) -> Result<()> {
    tx.run(ask!(NOTE_SPENT, id, cost, json(&usage)?)).await.map(drop)
}

/// A model call ended: its cost shows at once. The runner's own sum, told at the end, is the one that stays. The run's
/// row is locked by whoever asked whether the event may be written.
pub(crate) async fn add_spent(tx: &mut Tx, id: RunId, cost: Nanos, usage: Usage) -> Result<()> {
    let run = get(tx, id).await?;
    note_spent(tx, id, run.cost.saturating_add(cost), run.usage.plus(usage)).await
}

pub(crate) async fn note_change(tx: &mut Tx, id: RunId, change: &Change) -> Result<()> {
    tx.run(ask!(NOTE_CHANGE, id, json(change)?)).await.map(drop)
}

impl Order {
    /// The word, as in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Erase => "erase",
            Self::Resume => "resume",
        }
    }
}

impl std::str::FromStr for Order {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Cancel, Self::Erase, Self::Resume]
            .into_iter()
            .find(|order| order.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no order"))
    }
}

fn read(row: &Row) -> Result<Run> {
    Ok(Run {
        id: row.word("id")?,
        kind: row.word("kind")?,
        task: row.word("task")?,
        project: row.word("project")?,
        owner: row.word("owner")?,
        site: row.word("site")?,
        state: row.word("state")?,
        cause: row.maybe_word("cause")?,
        order: row.maybe_word("wanted")?,
        version: row.count("version")?,
        runner: row.maybe_word("runner")?,
        environment: row.maybe_word("environment")?,
        fence: row.count("fence")?,
        lease_until: row.maybe_at("lease_until")?,
        spec: row.json("spec")?,
        project_spec: row.json("project_spec")?,
        content: row.json("content")?,
        turn: row.small("turn")?,
        cost: row.nanos("cost")?,
        environment_cost: row.nanos("environment_cost")?,
        usage: row.json("tokens")?,
        change: row.maybe_json("change_made")?,
        created_at: row.at("created_at")?,
        started_at: row.maybe_at("started_at")?,
        finished_at: row.maybe_at("finished_at")?,
        updated_at: row.at("updated_at")?,
        erased_at: row.maybe_at("erased_at")?,
    })
}
