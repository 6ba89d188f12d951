//! People's tokens for the gateway, each with a run of its own. What is said with one is sealed with a key that never comes
//! here; the token itself is made here, shown once, and kept as its digest.

use secrecy::ExposeSecret;
use stockade_api::http::{
    CreateGatewayToken, CreatedGatewayToken, GatewayToken, ListGatewayTokens, Page, PrepareToken, PreparedTask,
};
use stockade_domain::{
    ContentKind, Context, Deed, Harness, Nanos, Period, Resource, ResourceKind, RunKind,
    ids::{GatewayTokenId, ProjectId},
};
use stockade_store::{
    Tx,
    projects::{self, Project},
    runs::{self, RunSpec},
    sites, tokens,
};

use super::{page, paged, tasks::site_of};
use crate::{
    answer::{Answer, Failure, Json, Path, Query},
    context::Cx,
    secret,
};

/// The longest name of a token, in bytes.
const MAX_NAME: usize = 100;
/// The most models that a token may be bound to.
const MAX_MODELS: usize = 100;
/// The longest name of a model, in bytes.
const MAX_MODEL: usize = 200;
/// The largest sealed name, in bytes.
const MAX_SEALED: usize = 4_096;
/// How long a token lives when nobody said, in seconds: 90 days.
const DEFAULT_LIFE_S: u64 = 90 * 86_400;
/// How long a token may live, in seconds: a year.
const MAX_LIFE_S: u64 = 366 * 86_400;
/// What may be spent with a token in a month when nobody said.
const DEFAULT_BUDGET: Nanos = Nanos(50_000_000_000);

/// What is needed to make a token. Writes nothing.
#[utoipa::path(post, path = "/v1/gateway/tokens/prepare", tag = "gateway", request_body = PrepareToken,
    responses((status = 200, body = PreparedTask)))]
pub async fn prepare(cx: Cx, Json(body): Json<PrepareToken>) -> Answer<PreparedTask> {
    let mut tx = cx.read().await?;
    let project = projects::get(&mut tx, body.project).await?;
    let mut tx = cx.may(tx, on_project(&cx, project.id, None)?).await?;
    let site = site_of(&mut tx, &project).await?;
    let world = &*cx.app.world;
    Ok(Json(PreparedTask {
        task: world.id(),
        run: world.id(),
        site: site.id,
        site_public_key: site.public_key.unwrap_or_default(),
        level: project.level,
    }))
}

/// Makes a token for the caller's own tools. The runners of the site know it within a second.
#[utoipa::path(post, path = "/v1/gateway/tokens", tag = "gateway", request_body = CreateGatewayToken,
    responses((status = 200, body = CreatedGatewayToken)))]
pub async fn create(cx: Cx, Json(body): Json<CreateGatewayToken>) -> Answer<CreatedGatewayToken> {
    let sealed = check(&body)?;
    let mut tx = cx.write().await?;
    let project = projects::get(&mut tx, body.project).await?;
    let budget = body.budget.unwrap_or(DEFAULT_BUDGET);
    let deed = on_project(&cx, project.id, Some(budget))?;
    let mut work = cx.open_with(tx, deed, vec![body.content]).await?;
    let result = make(&cx, &mut work.tx, &project, body, budget, sealed).await;
    work.end(result).await.map(Json)
}

/// Tokens, newest first: the caller's own, or everybody's.
#[utoipa::path(get, path = "/v1/gateway/tokens", tag = "gateway", params(ListGatewayTokens),
    responses((status = 200, body = Page<GatewayToken>)))]
pub async fn list(cx: Cx, Query(query): Query<ListGatewayTokens>) -> Answer<Page<GatewayToken>> {
    let owner = (!query.all).then_some(cx.user.id);
    let context = owner.map_or_else(Context::default, |owner| Context::default().with("owner", owner.to_string()));
    let deed = cx.deed(Resource::new(ResourceKind::Organization, cx.app.organization), context)?;
    let mut tx = cx.may(cx.read().await?, deed).await?;
    let found = tokens::list(&mut tx, owner, &page(query.limit, query.cursor)).await?;
    Ok(Json(paged(found, shown)))
}

/// Ends a token. The gateway does not know it any more within a second.
#[utoipa::path(post, path = "/v1/gateway/tokens/{token}/revoke", tag = "gateway", params(("token" = String, Path)),
    responses((status = 200, body = GatewayToken)))]
pub async fn revoke(cx: Cx, Path(token): Path<GatewayTokenId>) -> Answer<GatewayToken> {
    let mut tx = cx.write().await?;
    let token = tokens::get(&mut tx, token).await?;
    let run = runs::get(&mut tx, token.run).await?;
    let mut work = cx.open(tx, cx.on_run(&run)?).await?;
    let result = tokens::end(&mut work.tx, token.id, cx.app.now()).await;
    work.end(result.map(|token| Json(shown(token))).map_err(Failure::from)).await
}

/// A token is always the caller's own: nobody else could say whose words it seals.
fn on_project(cx: &Cx, project: ProjectId, budget: Option<Nanos>) -> Result<Deed, Failure> {
    let mut context = Context::default().with("owner", cx.user.id.to_string());
    if let Some(budget) = budget {
        context = context.with("budget_nanos", budget.0);
    }
    cx.deed(Resource::new(ResourceKind::Project, project).in_project(project), context)
}

fn check(body: &CreateGatewayToken) -> Result<Vec<u8>, Failure> {
    let line =
        |text: &str, most: usize| !text.trim().is_empty() && text.len() <= most && !text.chars().any(char::is_control);
    if !line(&body.name, MAX_NAME) {
        return Err(Failure::invalid("bad_name", format!("`name` must have 1 to {MAX_NAME} bytes of one line")));
    }
    if body.models.len() > MAX_MODELS || !body.models.iter().all(|model| line(model, MAX_MODEL)) {
        let why = format!("`models` may have {MAX_MODELS} names at most, each of 1 to {MAX_MODEL} bytes");
        return Err(Failure::invalid("bad_models", why));
    }
    if body.budget.is_some_and(|budget| budget.0 <= 0) {
        return Err(Failure::invalid("bad_limit", "`budget` must be more than nothing: write for example 5 or 0.25"));
    }
    if body.expires_in_s.is_some_and(|seconds| !(1..=MAX_LIFE_S).contains(&seconds)) {
        return Err(Failure::invalid(
            "bad_limit",
            "a token lives a second at least and 365 days at most (`expires_in_s`): write for example 30d",
        ));
    }
    if body.wrapped_key.is_empty() || body.wrapped_key.len() > MAX_SEALED {
        return Err(Failure::invalid("bad_key", "`wrapped_key` must be the run's key, wrapped to the site's"));
    }
    let sealed = stockade_api::base64::decode(&body.sealed)
        .ok_or_else(|| Failure::invalid("bad_content", "`sealed` is not base64"))?;
    if body.content.kind != ContentKind::Task || sealed.len() > MAX_SEALED {
        let why = format!("`content` must be of the kind `task`, and `sealed` {MAX_SEALED} bytes at most");
        return Err(Failure::invalid("bad_content", why));
    }
    Ok(sealed)
}

async fn make(
    cx: &Cx,
    tx: &mut Tx,
    project: &Project,
    body: CreateGatewayToken,
    budget: Nanos,
    sealed: Vec<u8>,
) -> Result<CreatedGatewayToken, Failure> {
    let site = site_of(tx, project).await?;
    if site.id != body.site {
        return Err(Failure::conflict("other_site", "the project's work goes to another site by now")
            .hint("Begin again: the key that you made is for another site."));
    }
    let now = cx.app.now();
    // What an agent of ours is bound by means nothing for a person's own tool: only level and money count.
    let spec = RunSpec {
        harness: Harness::default(),
        model: String::new(),
        class: None,
        level: project.level,
        max_turns: 0,
        max_time_ms: 0,
        max_tokens: 0,
        max_cost: budget,
        approval_timeout_ms: 0,
    };
    let start = runs::Start {
        kind: RunKind::Personal,
        period: body.period.unwrap_or(Period::Month),
        task: body.task,
        run: body.run,
        project: project.id,
        owner: cx.user.id,
        site: site.id,
        spec,
        wrapped_key: body.wrapped_key,
        content: body.content,
        sealed,
        now,
    };
    runs::start(tx, &start).await?;
    let secret = secret::generate_gateway(&*cx.app.world);
    let new = tokens::NewToken {
        id: (*cx.app.world).id(),
        name: body.name,
        run: body.run,
        owner: cx.user.id,
        site: site.id,
        hash: secret::digest(&secret),
        models: body.models,
        now,
        expires_at: Some(now.plus_seconds(body.expires_in_s.unwrap_or(DEFAULT_LIFE_S))),
    };
    let about = shown(tokens::add(tx, &new).await?);
    let mut runners: Vec<_> = sites::runners(tx).await?.into_iter().filter(|runner| runner.site == site.id).collect();
    runners.sort_by_key(|runner| std::cmp::Reverse(runner.seen_at));
    let listeners = runners.into_iter().map(|runner| runner.listener).collect();
    Ok(CreatedGatewayToken { about, token: secret.expose_secret().to_owned(), listeners })
}

fn shown(token: tokens::GatewayToken) -> GatewayToken {
    GatewayToken {
        id: token.id,
        name: token.name,
        run: token.run,
        owner: token.owner,
        project: token.project,
        models: token.models,
        state: token.state,
        created_at: token.created_at,
        expires_at: token.expires_at,
        ended_at: token.ended_at,
        limit: token.limit,
        period: token.period,
        cost: token.cost,
        erased: token.is_erased,
    }
}
