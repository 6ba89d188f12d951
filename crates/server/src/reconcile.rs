//! Reconcilers: each re-reads the world and makes one thing so. None takes input: an event may wake them,
//! never tell them anything. All may run on several servers at once; every step is a transaction of its own
//! that does nothing where another server was quicker.

use std::{sync::Arc, time::Duration};

use stockade_domain::{Desired, RunTransition, Timestamp, ids::RunId};
use stockade_store::{
    StoreError, Tx, approvals, budgets, environments, leases,
    placement::{self, RunnerLoad},
    records, runs,
};

use crate::{answer::chain, app::App, ledger};

/// How often the reconcilers run without being woken, in milliseconds.
pub const EVERY_MS: u64 = 1_000;
/// A runner that was not heard of for so long is given no new work, in milliseconds.
pub const RUNNER_LIVE_MS: u64 = 60_000;
/// How many things one pass of one reconciler does at most. The rest is done by the next pass, at once.
pub const BATCH: u32 = 100;
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
    let queued = placement::queued(&mut tx, BATCH).await?;
    drop(tx);
    for waiting in queued {
        let mut tx = app.store.write().await?;
        if place_now(app, &mut tx, waiting.run).await? {
            tx.commit().await?;
            app.changed();
        }
    }
    // What has no runner waits for one; going round at once would not bring it.
    Ok(false)
}

/// Places one run within the caller's transaction, if there is a runner for it.
pub async fn place_now(app: &App, tx: &mut Tx, run: RunId) -> Result<bool, StoreError> {
    let found = placement::queued(tx, BATCH).await?.into_iter().find(|waiting| waiting.run == run);
    let Some(waiting) = found else { return Ok(false) };
    let since = Timestamp(app.now().0.saturating_sub(RUNNER_LIVE_MS.cast_signed().saturating_mul(1_000)));
    let live: Vec<RunnerLoad> =
        placement::live_runners(tx, since).await?.into_iter().filter(|load| load.site == waiting.site).collect();
    let before = live.iter().find(|load| Some(load.runner) == waiting.previous);
    let Some(chosen) = before.or_else(|| live.first()) else { return Ok(false) };
    placement::place(tx, run, chosen.runner, (*app.world).id(), app.now()).await
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
