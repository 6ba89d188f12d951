//! Leases, heartbeats, and money for a run.

use std::sync::Arc;

use axum::extract::State;
use stockade_api::runner::{Heartbeat, Heartbeaten, Lease, LeaseSlice, Slice, TakeLease};
use stockade_store::{budgets, leases, sites};

use super::{LEASE_TTL_MS, proven::Proven};
use crate::{
    answer::{Answer, Failure, Json, parse},
    app::App,
};

/// The most leases in one heartbeat.
const MAX_LEASES: usize = 10_000;

/// May I work on this run?
pub async fn lease(State(app): State<Arc<App>>, proven: Proven) -> Answer<Lease> {
    let body: TakeLease = parse(&proven.body)?;
    let mut tx = app.store.write().await?;
    let fence = leases::take(&mut tx, proven.runner.id, body.run, LEASE_TTL_MS, app.now()).await?;
    tx.commit().await?;
    Ok(Json(Lease { run: body.run, fence, ttl_ms: LEASE_TTL_MS }))
}

/// I am alive and still work on these.
pub async fn heartbeat(State(app): State<Arc<App>>, proven: Proven) -> Answer<Heartbeaten> {
    let body: Heartbeat = parse(&proven.body)?;
    if body.leases.len() > MAX_LEASES {
        return Err(Failure::invalid("too_many_leases", format!("a heartbeat may name {MAX_LEASES} leases at most")));
    }
    let now = app.now();
    let mut tx = app.store.write().await?;
    sites::heartbeat(&mut tx, proven.runner.id, body.spooled, body.away_since, now).await?;
    let (renewed, lost) = leases::renew(&mut tx, proven.runner.id, &body.leases, LEASE_TTL_MS, now).await?;
    tx.commit().await?;
    if let Some(since) = body.away_since {
        let away_ms = now.ms_since(since);
        tracing::warn!(runner = %proven.runner.id, away_ms, "{} was away for {away_ms} ms", proven.runner.id);
    }
    Ok(Json(Heartbeaten { renewed, lost, now }))
}

/// Money for the next calls of a run.
pub async fn slice(State(app): State<Arc<App>>, proven: Proven) -> Answer<Slice> {
    let body: LeaseSlice = parse(&proven.body)?;
    if body.model.len() > super::MAX_TEXT {
        return Err(Failure::invalid("bad_slice", "`model` must be the name of a model"));
    }
    if body.need.0 < 0 || body.want < body.need {
        return Err(Failure::invalid("bad_slice", "`need` must not be negative, nor `want` less than it"));
    }
    let ask =
        budgets::LeaseSlice { slice: body.slice, run: body.run, model: body.model, need: body.need, want: body.want };
    let mut tx = app.store.write().await?;
    let leased = budgets::lease_slice(&mut tx, proven.runner.id, &ask, app.now()).await?;
    tx.commit().await?;
    Ok(Json(Slice { slice: leased.slice, amount: leased.amount, exhausted: leased.exhausted }))
}
