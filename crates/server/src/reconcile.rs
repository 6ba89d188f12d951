//! Reconcilers: each re-reads the world and makes one thing so. None takes input: an event may wake them,
//! never tell them anything. All may run on several servers at once; every step is a transaction of its own
//! that does nothing where another server was quicker.

use std::{sync::Arc, time::Duration};

use stockade_domain::{
    Desired, RunTransition, Timestamp,
    ids::{RunnerId, SiteId},
};
use stockade_store::{
    StoreError, Tx, approvals, budgets, environments, leases,
    placement::{self, RunnerLoad},
    records, runs, tokens,
};

use crate::{answer::chain, app::App, ledger};

/// How often the reconcilers run without being woken, in milliseconds.
pub const EVERY_MS: u64 = 1_000;
/// A runner that was not heard of for so long is given no new work, in milliseconds.
pub const RUNNER_LIVE_MS: u64 = 60_000;
/// How many things one pass of one reconciler does at most. The rest is done by the next pass, at once.
pub const BATCH: u32 = 100;
/// How many queued runs are looked at in one pass, oldest first. Those beyond wait until these are placed.
pub const QUEUE: u32 = 10_000;
/// A run that was not heard of for so long expires, in milliseconds: a week.
pub const RUN_SILENT_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// This server's ledger gets a checkpoint when it has grown and the last one is so old, in milliseconds.
pub const CHECKPOINT_EVERY_MS: u64 = 10_000;

/// Runs all reconcilers until the server stops.
pub async fn run(app: Arc<App>) {
    let mut last_checkpoint = Timestamp(0);
    loop {
        let mut busy = false;
        for (name, done) in [
            ("placement", place(&app).await),
            ("leases", end_leases(&app).await),
            ("approvals", expire_approvals(&app).await),
            ("runs", expire_runs(&app).await),
            ("tokens", expire_tokens(&app).await),
            ("environments", delete_orphans(&app).await),
            ("budgets", reclaim(&app).await),
            ("checkpoint", checkpoint(&app, &mut last_checkpoint).await),
        ] {
            match done {
                Ok(full) => busy |= full,
                // It is tried again in a second, from what is then true.
                Err(error) if error.is_transient() => {
                    tracing::debug!(name, error = %chain(&error), "a reconciler lost")
                }
                Err(error) => tracing::error!(name, error = %chain(&error), "a reconciler failed"),
            }
        }
        if busy && !app.stopping.is_cancelled() {
            continue;
        }
        tokio::select! {
            () = app.work.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(EVERY_MS)) => {}
            () = app.stopping.cancelled() => return,
        }
    }
}

/// Whether a pass did as much as it may, so that there may be more.
type Full = bool;

/// A queued run goes to the least loaded live runner of its site; to the one that had it before, if that lives.
async fn place(app: &App) -> Result<Full, StoreError> {
    let mut tx = app.store.read().await?;
    let queued = placement::queued(&mut tx, QUEUE).await?;
    if queued.is_empty() {
        return Ok(false);
    }
    let mut live = live_runners(app, &mut tx).await?;
    drop(tx);
    for waiting in queued {
        let Some(runner) = choose(&mut live, waiting.site, waiting.class.as_deref(), waiting.previous) else {
            continue;
        };
        let mut tx = app.store.write().await?;
        if placement::place(&mut tx, waiting.run, runner, (*app.world).id(), app.now()).await? {
            tx.commit().await?;
            app.changed();
        }
    }
    // What has no runner waits for one; going round at once would not bring it.
    Ok(false)
}

/// Places a run that was just queued within the caller's transaction, if there is a runner for it.
pub async fn place_now(app: &App, tx: &mut Tx, run: &runs::Run) -> Result<bool, StoreError> {
    let mut live = live_runners(app, tx).await?;
    match choose(&mut live, run.site, run.spec.class.as_deref(), None) {
        Some(runner) => placement::place(tx, run.id, runner, (*app.world).id(), app.now()).await,
        None => Ok(false),
    }
}

async fn live_runners(app: &App, tx: &mut Tx) -> Result<Vec<RunnerLoad>, StoreError> {
    let since = app.now().0.saturating_sub(RUNNER_LIVE_MS.cast_signed().saturating_mul(1_000));
    placement::live_runners(tx, Timestamp(since)).await
}

fn choose(live: &mut [RunnerLoad], site: SiteId, class: Option<&str>, previous: Option<RunnerId>) -> Option<RunnerId> {
    // One that had it before tells why it cannot go on, if it has that class no more.
    let makes = |load: &RunnerLoad| {
        Some(load.runner) == previous || class.is_none_or(|class| load.classes.iter().any(|name| name == class))
    };
    let here = live.iter_mut().filter(|load| load.site == site && makes(load));
    // The previous runner has the journal: only with it does the run go on where it stopped.
    let chosen = here.min_by_key(|load| (Some(load.runner) != previous, load.runs))?;
    chosen.runs += 1;
    Some(chosen.runner)
}

/// A lease that ran out is marked as ended; the runner takes a new one when it is back.
async fn end_leases(app: &App) -> Result<Full, StoreError> {
    let mut tx = app.store.read().await?;
    let expired = leases::expired(&mut tx, app.now(), BATCH).await?;
    drop(tx);
    for lease in &expired {
        let mut tx = app.store.write().await?;
        if leases::clear(&mut tx, lease.run, lease.fence, app.now()).await? {
            tx.commit().await?;
            tracing::warn!(run = %lease.run, runner = %lease.runner, "the lease of {} ran out", lease.run);
        }
    }
    Ok(expired.len() >= BATCH as usize)
}

/// Silence becomes a no.
async fn expire_approvals(app: &App) -> Result<Full, StoreError> {
    let mut tx = app.store.write().await?;
    let expired = approvals::expire(&mut tx, app.now(), BATCH).await?;
    if expired.is_empty() {
        return Ok(false);
    }
    for approval in &expired {
        let run = approvals::get(&mut tx, *approval).await?.run;
        ledger::note(app, &mut tx, "approval.expired", Some(run), [("approval", approval.to_string())]).await?;
    }
    tx.commit().await?;
    app.changed();
    Ok(expired.len() >= BATCH as usize)
}

/// A run that nobody has heard of for a week is over.
async fn expire_runs(app: &App) -> Result<Full, StoreError> {
    let mut tx = app.store.read().await?;
    let overdue = runs::overdue(&mut tx, RUN_SILENT_MS, app.now(), BATCH).await?;
    drop(tx);
    for run in &overdue {
        let mut tx = app.store.write().await?;
        ledger::note(app, &mut tx, "run.expired", Some(*run), []).await?;
        runs::transition(&mut tx, *run, None, RunTransition::Expire, app.now()).await?;
        tx.commit().await?;
        app.changed();
    }
    Ok(overdue.len() >= BATCH as usize)
}

/// A token for the gateway whose time is over ends, and with it its run.
async fn expire_tokens(app: &App) -> Result<Full, StoreError> {
    let mut tx = app.store.write().await?;
    let ended = tokens::expire(&mut tx, app.now(), BATCH).await?;
    if ended == 0 {
        return Ok(false);
    }
    tx.commit().await?;
    app.changed();
    Ok(ended >= BATCH)
}

/// An environment whose run is over should be gone.
async fn delete_orphans(app: &App) -> Result<Full, StoreError> {
    let mut tx = app.store.read().await?;
    let orphans = environments::orphaned(&mut tx, BATCH).await?;
    drop(tx);
    for environment in &orphans {
        let mut tx = app.store.write().await?;
        environments::desire(&mut tx, *environment, Desired::Deleted, app.now()).await?;
        tx.commit().await?;
        app.changed();
    }
    Ok(orphans.len() >= BATCH as usize)
}

/// Money that was leased for a run which is over comes back.
async fn reclaim(app: &App) -> Result<Full, StoreError> {
    let mut tx = app.store.write().await?;
    let back = budgets::reclaim(&mut tx, app.now(), BATCH).await?;
    if back.0 > 0 {
        tx.commit().await?;
    }
    Ok(false)
}

/// This server signs what its ledger is.
async fn checkpoint(app: &App, last: &mut Timestamp) -> Result<Full, StoreError> {
    let now = app.now();
    if now.ms_since(*last) < CHECKPOINT_EVERY_MS {
        return Ok(false);
    }
    let own = app.server.to_string();
    let mut tx = app.store.read().await?;
    let state = records::ledger(&mut tx, &own).await?;
    drop(tx);
    if state.size > state.note_size {
        let mut tx = app.store.write().await?;
        let note = ledger::checkpoint(app, &mut tx).await?;
        records::set_checkpoint(&mut tx, &own, note.checkpoint().size, &note.to_string(), now).await?;
        tx.commit().await?;
    }
    *last = now;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use stockade_domain::Id;

    use super::*;

    #[test]
    fn the_least_loaded_runner_of_the_site_is_chosen_unless_one_has_the_journal() {
        let (here, there) = (Id::from_bytes([1; 16]), Id::from_bytes([2; 16]));
        let load = |n: u8, site, runs| RunnerLoad { runner: Id::from_bytes([n; 16]), site, runs, classes: vec![] };
        let mut live = vec![load(3, there, 0), load(4, here, 1), load(5, here, 0)];
        let mut chosen = |previous: Option<u8>| {
            choose(&mut live, here, None, previous.map(|n| Id::from_bytes([n; 16]))).map(|id| id.as_bytes()[0])
        };
        assert_eq!(chosen(None), Some(5));
        assert_eq!(chosen(Some(4)), Some(4));
        assert_eq!(chosen(None), Some(5), "each placement counts");
        assert_eq!(chosen(Some(3)), Some(4), "a runner of another site has another key");
        assert_eq!(choose(&mut [], here, None, None), None);
    }

    #[test]
    fn only_a_runner_that_makes_the_class_is_chosen_or_the_one_that_had_it() {
        let here = Id::from_bytes([1; 16]);
        let load = |n: u8, classes: &[&str]| {
            let classes = classes.iter().map(ToString::to_string).collect();
            RunnerLoad { runner: Id::from_bytes([n; 16]), site: here, runs: 0, classes }
        };
        let mut live = vec![load(3, &[]), load(4, &["small"]), load(5, &["small", "large"])];
        let mut chosen = |class, previous: Option<u8>| {
            choose(&mut live, here, class, previous.map(|n| Id::from_bytes([n; 16]))).map(|id| id.as_bytes()[0])
        };
        assert_eq!(chosen(Some("large"), None), Some(5));
        assert_eq!(chosen(Some("large"), None), Some(5), "however busy it is");
        assert_eq!(chosen(Some("huge"), None), None);
        assert_eq!(chosen(Some("huge"), Some(4)), Some(4), "it has the journal");
        assert_eq!(chosen(None, None), Some(3));
    }
}
