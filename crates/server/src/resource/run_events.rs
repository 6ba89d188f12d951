//! The numbered lines of a run, as they come.

use std::time::Duration;

use stockade_api::http::{DEFAULT_PAGE, ListEvents, RunEvents};
use stockade_domain::ids::RunId;
use stockade_store::{events, runs};

use crate::{
    answer::{Answer, Json, Path, Query},
    context::Cx,
};

/// The longest that a request for events is held, in milliseconds. A longer `wait_ms` waits this long.
pub const MAX_WAIT_MS: u64 = 25_000;

/// How often a waiting request reads again without being woken, in milliseconds: another server may have
/// written.
pub const REREAD_MS: u64 = 1_000;

/// What happened in a run after a number; waits for it if asked to.
#[utoipa::path(get, path = "/v1/runs/{run}/events", tag = "runs", params(("run" = String, Path), ListEvents),
    responses((status = 200, body = RunEvents)))]
pub async fn list(cx: Cx, Path(run): Path<RunId>, Query(query): Query<ListEvents>) -> Answer<RunEvents> {
    let mut news = cx.app.news.subscribe();
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, events::MAX_EVENTS);
    let deadline = tokio::time::Instant::now() + Duration::from_millis(query.wait_ms.min(MAX_WAIT_MS));
    let mut tx = cx.read().await?;
    let found = runs::get(&mut tx, run).await?;
    let mut tx = cx.may(tx, cx.on_run(&found)?).await?;
    loop {
        news.mark_unchanged();
        let state = runs::get(&mut tx, run).await?.state;
        let items = events::after(&mut tx, run, query.after, limit).await?;
        let now = tokio::time::Instant::now();
        if !items.is_empty() || now >= deadline || cx.app.stopping.is_cancelled() {
            let after = items.last().map_or(query.after, |event| event.seq);
            return Ok(Json(RunEvents { items, state, after }));
        }
        // Held while waiting, a snapshot would keep the database from tidying up.
        drop(tx);
        let reread = (now + Duration::from_millis(REREAD_MS)).min(deadline);
        tokio::select! {
            _ = news.changed() => {}
            () = tokio::time::sleep_until(reread) => {}
            () = cx.app.stopping.cancelled() => {}
        }
        tx = cx.read().await?;
    }
}
