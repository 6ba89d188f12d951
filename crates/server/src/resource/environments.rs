//! Environments: what they should be. What they are, runners tell.

use stockade_api::http::{Environment, ListEnvironments, Page};
use stockade_domain::{Desired, ids::EnvironmentId};
use stockade_store::environments::{self, EnvironmentFilter};

use super::{page, paged};
use crate::{
    answer::{Answer, Failure, Json, Path, Query},
    context::Cx,
};

/// Environments, newest first.
#[utoipa::path(get, path = "/v1/environments", tag = "environments", params(ListEnvironments),
    responses((status = 200, body = Page<Environment>)))]
pub async fn list(cx: Cx, Query(query): Query<ListEnvironments>) -> Answer<Page<Environment>> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let filter = EnvironmentFilter { run: query.run, runner: None, deleted: query.deleted };
    let found = environments::list(&mut tx, &filter, &page(query.limit, query.cursor)).await?;
    Ok(Json(paged(found, shown)))
}

/// One environment.
#[utoipa::path(get, path = "/v1/environments/{environment}", tag = "environments",
    params(("environment" = String, Path)), responses((status = 200, body = Environment)))]
pub async fn show(cx: Cx, Path(environment): Path<EnvironmentId>) -> Answer<Environment> {
    let mut tx = cx.read().await?;
    let environment = environments::get(&mut tx, environment).await?;
    cx.may(tx, cx.on_environment(&environment)?).await?;
    Ok(Json(shown(environment)))
}

/// It and everything in it should be gone. The runner makes it so.
#[utoipa::path(delete, path = "/v1/environments/{environment}", tag = "environments",
    params(("environment" = String, Path)), responses((status = 200, body = Environment)))]
pub async fn delete(cx: Cx, Path(environment): Path<EnvironmentId>) -> Answer<Environment> {
    let mut tx = cx.write().await?;
    let environment = environments::get(&mut tx, environment).await?;
    let mut work = cx.open(tx, cx.on_environment(&environment)?).await?;
    let result = environments::desire(&mut work.tx, environment.id, Desired::Deleted, cx.app.now()).await;
    work.end(result.map(|environment| Json(shown(environment))).map_err(Failure::from)).await
}

fn shown(environment: environments::Environment) -> Environment {
    Environment {
        id: environment.id,
        run: environment.run,
        project: environment.project,
        runner: environment.runner,
        desired: environment.state.desired,
        generation: environment.state.generation,
        observed: environment.state.observed,
        observed_generation: environment.state.observed_generation,
        class: environment.class,
        usage: environment.usage,
        cost: environment.cost,
        created_at: environment.created_at,
        updated_at: environment.updated_at,
    }
}
