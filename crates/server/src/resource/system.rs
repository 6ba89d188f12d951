//! The installation: is it there, is it well, what can it do.

use std::sync::Arc;

use axum::{
    extract::State,
    http::HeaderValue,
    http::header,
    response::{IntoResponse, Response},
};
use stockade_api::http::{Check, Doctor, Health};
use stockade_store::{Engine, bundles, records, sites, spool};

use crate::{
    answer::{Answer, Failure, Json},
    app::App,
    context::Cx,
    reconcile::RUNNER_LIVE_MS,
};

/// Does the server answer, and its database too?
#[utoipa::path(get, path = "/v1/health", tag = "system", responses((status = 200, body = Health)))]
pub async fn health(State(app): State<Arc<App>>) -> Answer<Health> {
    let mut tx = app.store.read().await?;
    stockade_store::people::installation(&mut tx).await?;
    Ok(Json(Health { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }))
}

/// This API as a document that programs read.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "system", responses((status = 200, body = Object)))]
pub async fn openapi() -> Result<Response, Failure> {
    let text = crate::document().to_json().map_err(|error| Failure::bug("write its own description", &error))?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

/// What the server finds when it examines itself.
#[utoipa::path(get, path = "/v1/doctor", tag = "system", responses((status = 200, body = Doctor)))]
pub async fn doctor(cx: Cx) -> Answer<Doctor> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let now = cx.app.now();
    let mut checks = Vec::new();
    let mut say = |name: &str, ok: bool, detail: String, hint: Option<&str>| {
        checks.push(Check { name: name.to_owned(), ok, detail, hint: hint.filter(|_| !ok).map(str::to_owned) });
    };

    let engine = match cx.app.store.engine() {
        Engine::Sqlite => "SQLite",
        Engine::Postgres => "Postgres",
    };
    say("database", true, format!("{engine} answers"), None);
    let bundle = bundles::current(&mut tx).await?;
    let loads = cx.app.engines.current(&mut tx).await.is_ok();
    say("policy", loads, format!("bundle {} is in force", bundle.number), Some("Put a bundle into force that loads."));
    let runners = sites::runners(&mut tx).await?;
    let live = runners.iter().filter(|runner| now.ms_since(runner.seen_at) < RUNNER_LIVE_MS).count();
    let detail = format!("{live} of {} runners were heard of in the last {} s", runners.len(), RUNNER_LIVE_MS / 1_000);
    say("runners", live > 0, detail, Some("Start one: `stockade runner`, or `stockade up` for all in one."));
    for runner in &runners {
        let detail = format!("{} has {} entries in its spool", runner.name, runner.spooled);
        say("spool", runner.spooled < MANY_SPOOLED, detail, Some("Look at the runner's log: it cannot ship."));
    }
    let refused = spool::refusals(&mut tx, 1).await?;
    let detail = refused.first().map_or_else(
        || "nothing that a runner shipped was refused".to_owned(),
        |refusal| format!("last refused entry: {} of {}: {}", refusal.position, refusal.runner, refusal.why),
    );
    say("shipments", true, detail, None);
    for ledger in records::ledgers(&mut tx).await? {
        let detail =
            format!("{}: {} records, {} of them under a checkpoint", ledger.producer, ledger.size, ledger.note_size);
        say("ledger", true, detail, None);
    }
    Ok(Json(Doctor { version: env!("CARGO_PKG_VERSION").to_owned(), checks }))
}

/// From so many waiting entries on, the doctor says that a runner does not get rid of them.
const MANY_SPOOLED: u64 = 10_000;
