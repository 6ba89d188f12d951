//! Which runner works on which run, in which environment.

use stockade_domain::{
    ContentRef, Desired, EnvironmentClass, RunState, RunTransition, Timestamp,
    ids::{ApprovalId, EnvironmentId, ProjectId, RunId, RunnerId, SiteId, TaskId, UserId},
};

use crate::{
    Result, Tx,
    approvals::{self, ApprovalState},
    contents, environments, replies,
    runs::{self, Order, ProjectSpec, RunSpec},
    sites,
    sql::{ask, statements},
};

statements! {
    WHICH_RUNS_WAIT_FOR_A_PLACE = "SELECT id, site, runner, spec FROM runs WHERE state = 'queued' AND environment IS NULL \
                                   ORDER BY id LIMIT $1";
    WHICH_RUNNERS_LIVE = "SELECT n.id, n.site, n.classes, (SELECT COUNT(*) FROM runs r WHERE r.runner = n.id \
                          AND r.environment IS NOT NULL \
                          AND r.state IN ('queued', 'preparing', 'working', 'waiting_approval', 'waiting_input')) \
                          AS runs FROM runners n WHERE n.seen_at >= $1 ORDER BY runs, n.id";
    GIVE_RUN_TO_RUNNER = "UPDATE runs SET runner = $2, environment = $3, updated_at = $4, version = version + 1 \
                          WHERE id = $1 AND state = 'queued' AND environment IS NULL \
                          AND site = (SELECT n.site FROM runners n WHERE n.id = $2)";
    TAKE_RUN_AWAY = "UPDATE runs SET runner = NULL, environment = NULL, fence = fence + 1, fence_since = fence + 1, \
                     fence_seen = fence + 1, lease_runner = NULL, lease_until = NULL, updated_at = $2, \
                     version = version + 1 WHERE id = $1";
    WHAT_SHOULD_THIS_RUNNER_HAVE = "SELECT e.id, e.run, e.desired, e.generation FROM environments e \
        JOIN runs r ON r.id = e.run WHERE e.runner = $1 AND (e.observed <> 'deleted' OR (r.wanted = 'erase' \
        AND r.runner = $1 AND e.id = (SELECT MAX(x.id) FROM environments x WHERE x.run = r.id AND x.runner = $1))) \
        ORDER BY e.id";
}

/// A run that waits for a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Which.
    pub run: RunId,
    /// It must stay in this site.
    pub site: SiteId,
    /// Who worked on it before: it has the journal, so it should go on if it lives.
    pub previous: Option<RunnerId>,
    /// The class of its environment; any runner's first if absent.
    pub class: Option<String>,
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
    /// The names of the classes of environments that it makes.
    pub classes: Vec<String>,
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
    let rows = tx.all(ask!(WHICH_RUNS_WAIT_FOR_A_PLACE, limit)).await?;
    rows.iter()
        .map(|row| {
            let (run, site, previous) = (row.word("id")?, row.word("site")?, row.maybe_word("runner")?);
            Ok(Queued { run, site, previous, class: row.json::<RunSpec>("spec")?.class })
        })
        .collect()
}

/// Runners heard of since `since`, with their load, least loaded first.
pub async fn live_runners(tx: &mut Tx, since: Timestamp) -> Result<Vec<RunnerLoad>> {
    let rows = tx.all(ask!(WHICH_RUNNERS_LIVE, since)).await?;
    rows.iter()
        .map(|row| {
            let classes: Option<Vec<EnvironmentClass>> = row.maybe_json("classes")?;
            let classes = classes.into_iter().flatten().map(|class| class.name).collect();
            Ok(RunnerLoad { runner: row.word("id")?, site: row.word("site")?, runs: row.count("runs")?, classes })
        })
        .collect()
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
    if tx.run(ask!(GIVE_RUN_TO_RUNNER, run, runner, environment, now)).await? == 0 {
        return Ok(false);
    }
    environments::add(tx, environment, run, runner, now).await?;
    sites::touch(tx, runner).await?;
    Ok(true)
}

/// Takes a run away from its runner, which is gone for good: its environment should be deleted, its fence grows,
/// and it is queued again if it was not over.
pub async fn unplace(tx: &mut Tx, run: RunId, now: Timestamp) -> Result<()> {
    let found = runs::get(tx, run).await?;
    tx.run(ask!(TAKE_RUN_AWAY, run, now)).await?;
    if !found.state.is_final() {
        runs::transition(tx, run, None, RunTransition::Requeue, now).await?;
    }
    if let Some(environment) = found.environment {
        environments::desire(tx, environment, Desired::Deleted, now).await?;
    }
    if let Some(runner) = found.runner {
        sites::touch(tx, runner).await?;
    }
    Ok(())
}

/// All that a runner should have: every environment of its that is not known to be deleted, and every run with an
/// order. Whole, never a difference.
pub async fn assignments(tx: &mut Tx, runner: RunnerId) -> Result<Vec<Assignment>> {
    let rows = tx.all(ask!(WHAT_SHOULD_THIS_RUNNER_HAVE, runner)).await?;
    let mut assignments = Vec::with_capacity(rows.len());
    for row in rows {
        let run = runs::get(tx, row.word("run")?).await?;
        let (_, sealed) = contents::get(tx, run.id, run.content.digest).await?;
        let approvals = approvals::of_run(tx, run.id).await?;
        let answered = |approval: &approvals::Approval| {
            let at = approval.answered_at?;
            let granted = approval.state == ApprovalState::Granted;
            Some(Answered { approval: approval.id, granted, by: approval.by, at })
        };
        assignments.push(Assignment {
            run: run.id,
            task: run.task,
            owner: run.owner,
            project: run.project,
            state: run.state,
            order: run.order,
            environment: row.word("id")?,
            desired: row.word("desired")?,
            generation: row.count("generation")?,
            wrapped_key: runs::wrapped_key(tx, run.id).await?,
            content: run.content,
            sealed,
            approvals: approvals.iter().filter_map(answered).collect(),
            replies: replies::list(tx, run.id).await?,
            project_spec: run.project_spec,
            spec: run.spec,
        });
    }
    Ok(assignments)
}
