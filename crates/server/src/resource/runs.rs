//! Runs: one attempt at a task.

use stockade_api::http::{Change, ListRuns, Page, Run};
use stockade_domain::{RunKind, ids::RunId};
use stockade_store::{
    environments,
    runs::{self, Order, RunFilter},
};

use super::{page, paged};
use crate::{
    answer::{Answer, Failure, Json, Path, Query},
    context::Cx,
};

/// Runs, newest first.
#[utoipa::path(get, path = "/v1/runs", tag = "runs", params(ListRuns), responses((status = 200, body = Page<Run>)))]
pub async fn list(cx: Cx, Query(query): Query<ListRuns>) -> Answer<Page<Run>> {
    let (mut tx, owner) = cx.for_whom(query.user.as_deref(), query.personal).await?;
    let kind = if query.personal { RunKind::Personal } else { RunKind::Task };
    let filter = RunFilter { project: query.project, owner, state: query.state, kind: Some(kind) };
    let found = runs::list(&mut tx, &filter, &page(query.limit, query.cursor)).await?;
    Ok(Json(paged(found, shown)))
}

/// One run.
#[utoipa::path(get, path = "/v1/runs/{run}", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, body = Run)))]
pub async fn show(cx: Cx, Path(run): Path<RunId>) -> Answer<Run> {
    let mut tx = cx.read().await?;
    let run = runs::get(&mut tx, run).await?;
    let mut tx = cx.may(tx, cx.on_run(&run)?).await?;
    let environment_usage = environments::used_by(&mut tx, run.id).await?;
    Ok(Json(Run { environment_usage, ..shown(run) }))
}

/// Ends it.
#[utoipa::path(post, path = "/v1/runs/{run}/cancel", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, body = Run)))]
pub async fn cancel(cx: Cx, Path(run): Path<RunId>) -> Answer<Run> {
    order(&cx, run, Order::Cancel).await
}

/// Tries a failed or expired run again from where it stopped.
#[utoipa::path(post, path = "/v1/runs/{run}/resume", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, body = Run)))]
pub async fn resume(cx: Cx, Path(run): Path<RunId>) -> Answer<Run> {
    order(&cx, run, Order::Resume).await
}

/// Destroys the key of its content. The ciphertext stays, unreadable, and the ledger still verifies.
#[utoipa::path(post, path = "/v1/runs/{run}/erase", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, body = Run)))]
pub async fn erase(cx: Cx, Path(run): Path<RunId>) -> Answer<Run> {
    order(&cx, run, Order::Erase).await
}

async fn order(cx: &Cx, run: RunId, order: Order) -> Answer<Run> {
    let mut tx = cx.write().await?;
    let run = runs::get(&mut tx, run).await?;
    let mut work = cx.open(tx, cx.on_run(&run)?).await?;
    let now = cx.app.now();
    let result = match order {
        Order::Erase => runs::erase(&mut work.tx, run.id, now).await,
        Order::Cancel | Order::Resume => runs::order(&mut work.tx, run.id, order, now).await,
    };
    work.end(result.map(|run| Json(shown(run))).map_err(Failure::from)).await
}

pub fn shown(run: runs::Run) -> Run {
    Run {
        id: run.id,
        kind: run.kind,
        task: run.task,
        project: run.project,
        project_name: run.project_spec.name,
        owner: run.owner,
        state: run.state,
        cause: run.cause,
        model: run.spec.model,
        harness: run.spec.harness,
        level: run.spec.level,
        runner: run.runner,
        environment: run.environment,
        created_at: run.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        updated_at: run.updated_at,
        class: run.spec.class,
        environment_cost: run.environment_cost,
        environment_usage: None,
        max_cost: run.spec.max_cost,
        cost: run.cost,
        usage: run.usage,
        turn: run.turn,
        change: run.change.map(|change| Change {
            branch: change.branch,
            commit: change.commit,
            base: change.base,
            files: change.files,
            insertions: change.insertions,
            deletions: change.deletions,
            diff: change.diff,
        }),
        erased: run.erased_at.is_some(),
    }
}
