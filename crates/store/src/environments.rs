//! Environments: what they should be, apart from what they were seen to be.

use stockade_domain::{
    Desired, EnvironmentEvent, EnvironmentState, EnvironmentUsage, Nanos, Timestamp,
    ids::{EnvironmentId, ProjectId, RunId, RunnerId, UserId},
};

use crate::{
    Page, Paged, Result, StoreError, Tx, sites,
    sql::{Row, ask, json, statements},
};

macro_rules! environment_columns {
    () => {
        "SELECT e.id, e.run, r.project, r.owner, e.runner, e.desired, e.generation, e.observed, \
         e.observed_generation, e.version, e.class, e.used, e.cost, e.created_at, e.updated_at FROM environments e JOIN runs r ON r.id = e.run "
    };
}

statements! {
    ADD_ENVIRONMENT = "INSERT INTO environments (id, run, runner, desired, generation, observed, \
                       observed_generation, version, created_at, updated_at) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8) ON CONFLICT DO NOTHING";
    WHICH_ENVIRONMENT_IS_THIS = concat!(environment_columns!(), "WHERE e.id = $1");
    WHICH_ENVIRONMENTS_ARE_THERE = concat!(
        environment_columns!(),
        "WHERE e.id < $1 AND (CAST($3 AS TEXT) IS NULL OR e.run = $3) AND (CAST($4 AS TEXT) IS NULL OR e.runner = $4) \
         AND ($5 = 1 OR e.observed <> 'deleted') ORDER BY e.id DESC LIMIT $2"
    );
    WHICH_ENVIRONMENTS_ARE_ORPHANED = "SELECT e.id FROM environments e JOIN runs r ON r.id = e.run \
        WHERE e.desired <> 'deleted' AND (r.state IN ('succeeded', 'failed', 'cancelled', 'expired') \
        OR r.environment IS NULL OR r.environment <> e.id) ORDER BY e.id LIMIT $1";
    MOVE_ENVIRONMENT = "UPDATE environments SET desired = $3, generation = $4, observed = $5, \
                        observed_generation = $6, updated_at = $7, version = version + 1 \
                        WHERE id = $1 AND version = $2";
    NOTE_CLASS = "UPDATE environments SET class = $2 WHERE id = $1";
    NOTE_USED = "UPDATE environments SET used = $2, cost = $3 WHERE id = $1";
    WHAT_HAVE_ITS_ENVIRONMENTS_USED = "SELECT used FROM environments WHERE run = $1 AND used IS NOT NULL ORDER BY id";
}

/// What one environment costs at most: a million dollars. Whatever a runner says, sums do not overflow.
const MAX_COST: Nanos = Nanos(1_000_000 * Nanos::DOLLAR.0);

/// How often a compare-and-swap that lost is repeated on what the winner wrote.
const MAX_SWAPS: u32 = 8;

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Which.
    pub id: EnvironmentId,
    /// For which run.
    pub run: RunId,
    /// Of which project.
    pub project: ProjectId,
    /// Who asked for the run.
    pub owner: UserId,
    /// On which runner.
    pub runner: RunnerId,
    /// What it should be and was seen to be.
    pub state: EnvironmentState,
    /// Its class, once its runner has said it.
    pub class: Option<String>,
    /// What it has used, as its runner last said.
    pub usage: Option<EnvironmentUsage>,
    /// What that costs.
    pub cost: Nanos,
    /// Grows with every change.
    pub version: u64,
    /// Since when.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
}

/// Which environments.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentFilter {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only on this runner.
    pub runner: Option<RunnerId>,
    /// Also those that are deleted.
    pub deleted: bool,
}

/// One environment.
pub async fn get(tx: &mut Tx, id: EnvironmentId) -> Result<Environment> {
    let row = tx.maybe(ask!(WHICH_ENVIRONMENT_IS_THIS, id)).await?;
    read(&row.ok_or_else(|| StoreError::not_found("environment", id))?)
}

/// Environments, newest first.
pub async fn list(tx: &mut Tx, filter: &EnvironmentFilter, page: &Page) -> Result<Paged<Environment>> {
    let ask =
        ask!(WHICH_ENVIRONMENTS_ARE_THERE, page.before()?, page.fetch(), filter.run, filter.runner, filter.deleted);
    let rows = tx.all(ask).await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_>>()?, |environment| environment.id.to_string()))
}

/// Somebody wants it otherwise. Compare-and-swap; the runner's revision grows.
pub async fn desire(tx: &mut Tx, id: EnvironmentId, desired: Desired, now: Timestamp) -> Result<Environment> {
    let (before, environment) = swap(tx, id, EnvironmentEvent::Desire { desired }, now).await?;
    if before != environment.state {
        sites::touch(tx, environment.runner).await?;
    }
    Ok(environment)
}

/// Environments that nobody wants deleted although their run is over or has another one, oldest first.
pub async fn orphaned(tx: &mut Tx, limit: u32) -> Result<Vec<EnvironmentId>> {
    let rows = tx.all(ask!(WHICH_ENVIRONMENTS_ARE_ORPHANED, limit)).await?;
    rows.iter().map(|row| row.word("id")).collect()
}

/// What the environments of a run have used together; nothing if none of them has been heard of.
pub async fn used_by(tx: &mut Tx, run: RunId) -> Result<Option<EnvironmentUsage>> {
    let rows = tx.all(ask!(WHAT_HAVE_ITS_ENVIRONMENTS_USED, run)).await?;
    let used = rows.iter().map(|row| row.json("used")).collect::<Result<Vec<EnvironmentUsage>>>()?;
    Ok(used.into_iter().reduce(EnvironmentUsage::and))
}

/// Its runner says of which class it is.
pub(crate) async fn note_class(tx: &mut Tx, id: EnvironmentId, class: &str) -> Result<()> {
    tx.run(ask!(NOTE_CLASS, id, class)).await.map(drop)
}

/// Its runner says what it has used. What was said before and is more stays: it only grows.
pub(crate) async fn note_used(tx: &mut Tx, id: EnvironmentId, usage: EnvironmentUsage, cost: Nanos) -> Result<()> {
    let before = get(tx, id).await?;
    let usage = before.usage.map_or(usage, |known| known.at_least(usage));
    let cost = before.cost.max(cost.clamp(Nanos::ZERO, MAX_COST));
    tx.run(ask!(NOTE_USED, id, json(&usage)?, cost)).await.map(drop)
}

/// Adds one that should run.
pub(crate) async fn add(tx: &mut Tx, id: EnvironmentId, run: RunId, runner: RunnerId, now: Timestamp) -> Result<()> {
    let new = EnvironmentState::new();
    let ask = ask!(
        ADD_ENVIRONMENT,
        id,
        run,
        runner,
        new.desired.as_str(),
        new.generation,
        new.observed.as_str(),
        new.observed_generation,
        now
    );
    match tx.run(ask).await? {
        0 => Err(StoreError::exists("environment", id)),
        _ => Ok(()),
    }
}

/// Carries out an event by compare-and-swap; gives the state before and the environment after.
pub(crate) async fn swap(
    tx: &mut Tx,
    id: EnvironmentId,
    event: EnvironmentEvent,
    now: Timestamp,
) -> Result<(EnvironmentState, Environment)> {
    for _ in 0..MAX_SWAPS {
        let found = get(tx, id).await?;
        let next = found.state.apply(event)?;
        if next == found.state {
            return Ok((found.state, found));
        }
        let ask = ask!(
            MOVE_ENVIRONMENT,
            id,
            found.version,
            next.desired.as_str(),
            next.generation,
            next.observed.as_str(),
            next.observed_generation,
            now
        );
        if tx.run(ask).await? == 1 {
            return Ok((found.state, get(tx, id).await?));
        }
    }
    Err(StoreError::conflict("environment", id))
}

pub(crate) fn read(row: &Row) -> Result<Environment> {
    Ok(Environment {
        id: row.word("id")?,
        run: row.word("run")?,
        project: row.word("project")?,
        owner: row.word("owner")?,
        runner: row.word("runner")?,
        state: EnvironmentState {
            desired: row.word("desired")?,
            generation: row.count("generation")?,
            observed: row.word("observed")?,
            observed_generation: row.count("observed_generation")?,
        },
        class: row.maybe_text("class")?,
        usage: row.maybe_json("used")?,
        cost: row.nanos("cost")?,
        version: row.count("version")?,
        created_at: row.at("created_at")?,
        updated_at: row.at("updated_at")?,
    })
}
