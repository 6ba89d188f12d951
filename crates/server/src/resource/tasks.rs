//! Tasks: what people ask for. The text is sealed before it comes here.

use stockade_api::http::{PrepareTask, PreparedTask, Run, StartTask, TaskLimits};
use stockade_domain::{ContentKind, Context, Level, Nanos, Period, Resource, ResourceKind, RunKind};
use stockade_store::{
    Tx,
    projects::{self, Project},
    runs::{self, RunSpec},
    sites::{self, Site},
};

use super::{classes, runs::shown};
use crate::{
    answer::{Answer, Failure, Json},
    context::Cx,
};

/// The largest sealed task, in bytes.
pub const MAX_TASK: usize = 1024 * 1024;
/// The longest name of a model, in bytes.
const MAX_MODEL: usize = 200;

/// What a limit is when nobody said, and the most that anybody may say.
struct Bound {
    default: u64,
    most: u64,
}

const TURNS: Bound = Bound { default: 100, most: 2_000 };
const TIME_MS: Bound = Bound { default: 2 * 3_600_000, most: 24 * 3_600_000 };
const TOKENS: Bound = Bound { default: 20_000_000, most: 1_000_000_000 };
const APPROVAL_MS: Bound = Bound { default: 24 * 3_600_000, most: 7 * 24 * 3_600_000 };
/// A run's own budget when nobody said.
const DEFAULT_MAX_COST: Nanos = Nanos(5_000_000_000);

/// What is needed to seal a task. Writes nothing.
#[utoipa::path(post, path = "/v1/tasks/prepare", tag = "tasks", request_body = PrepareTask,
    responses((status = 200, body = PreparedTask)))]
pub async fn prepare(cx: Cx, Json(body): Json<PrepareTask>) -> Answer<PreparedTask> {
    let mut tx = cx.read().await?;
    let project = projects::get(&mut tx, body.project).await?;
    let deed = cx.on_project(body.project)?;
    let mut tx = cx.may(tx, deed).await?;
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

/// Starts a task: makes it and its first run.
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks", request_body = StartTask,
    responses((status = 200, body = Run)))]
pub async fn start(cx: Cx, Json(body): Json<StartTask>) -> Answer<Run> {
    let sealed = stockade_api::base64::decode(&body.sealed)
        .ok_or_else(|| Failure::invalid("bad_content", "`sealed` is not base64"))?;
    if body.content.kind != ContentKind::Task || sealed.is_empty() || sealed.len() > MAX_TASK {
        return Err(Failure::invalid(
            "bad_content",
            format!("`content` must be of the kind `task` and have 1 to {MAX_TASK} bytes"),
        ));
    }
    if body.model.is_empty() || body.model.len() > MAX_MODEL || body.model.chars().any(char::is_control) {
        return Err(Failure::invalid("bad_model", "`model` must be the name of a model"));
    }
    let mut tx = cx.write().await?;
    let project = projects::get(&mut tx, body.project).await?;
    let level = body.level.unwrap_or(project.level);
    let mut spec = spec(&body, level)?;
    // What is wrong with it is told to whoever may start a task.
    let class = classes::of_task(&mut tx, &project, body.class.as_deref(), spec.harness).await;
    let mut context = Context::default()
        .with("owner", cx.user.id.to_string())
        .with("level", i64::from(project.level.get()))
        .with("requested_level", i64::from(level.get()))
        .with("model", body.model.as_str())
        .with("harness", spec.harness.as_str())
        .with("budget_nanos", spec.max_cost.0)
        .with_content("repository", project.repository.as_str());
    if let Ok(class) = &class {
        spec.class.clone_from(&class.named);
        if let Some(name) = &class.known {
            context = context.with("class", name.as_str());
        }
    }
    let resource = Resource::new(ResourceKind::Project, project.id).in_project(project.id).in_run(body.run);
    let mut work = cx.open_with(tx, cx.deed(resource, context)?, vec![body.content]).await?;
    let result = match class {
        Ok(_) => begin(&cx, &mut work.tx, &project, body, spec, sealed).await,
        Err(failure) => Err(failure),
    };
    work.end(result.map(|run| Json(shown(run)))).await
}

async fn begin(
    cx: &Cx,
    tx: &mut Tx,
    project: &Project,
    body: StartTask,
    spec: RunSpec,
    sealed: Vec<u8>,
) -> Result<runs::Run, Failure> {
    // The project's level is a ceiling, and not only a policy's: policy may lower it, nobody may pass it.
    if spec.level > project.level {
        return Err(Failure::invalid(
            "level_too_high",
            format!("level {} is above the project's, which is {}", spec.level, project.level),
        )
        .hint("Ask for less, or have an admin raise the project's level."));
    }
    let site = site_of(tx, project).await?;
    if site.id != body.site {
        return Err(Failure::conflict("other_site", "the project's work goes to another site by now")
            .hint("Prepare the task again: what you sealed was for another key."));
    }
    let start = runs::Start {
        kind: RunKind::Task,
        period: Period::Total,
        task: body.task,
        run: body.run,
        project: project.id,
        owner: cx.user.id,
        site: site.id,
        spec,
        wrapped_key: body.wrapped_key,
        content: body.content,
        sealed,
        now: cx.app.now(),
    };
    let run = runs::start(tx, &start).await?;
    crate::reconcile::place_now(&cx.app, tx, &run).await?;
    Ok(runs::get(tx, run.id).await?)
}

/// The site that does a project's work: its own, or the oldest one that has a key.
pub(super) async fn site_of(tx: &mut Tx, project: &Project) -> Result<Site, Failure> {
    let site = match project.site {
        Some(site) => Some(sites::get(tx, site).await?),
        None => sites::list(tx).await?.into_iter().find(|site| site.public_key.is_some()),
    };
    site.filter(|site| site.public_key.is_some()).ok_or_else(|| {
        Failure::conflict("no_runner", "no runner has joined yet, so there is no key to seal the task to")
            .hint("Start one: `stockade runner`, or `stockade up` for all in one.")
    })
}

fn spec(body: &StartTask, level: Level) -> Result<RunSpec, Failure> {
    let TaskLimits { max_turns, max_time_ms, max_tokens, approval_timeout_ms } = body.limits;
    let bounded = |name: &str, value: Option<u64>, bound: &Bound| match value.unwrap_or(bound.default) {
        value if (1..=bound.most).contains(&value) => Ok(value),
        _ => Err(Failure::invalid("bad_limit", format!("`{name}` must be 1 to {}", bound.most))),
    };
    let max_cost = body.budget.unwrap_or(DEFAULT_MAX_COST);
    if max_cost.0 <= 0 {
        return Err(Failure::invalid("bad_limit", "`budget` must be more than nothing"));
    }
    let turns = bounded("max_turns", max_turns.map(u64::from), &TURNS)?;
    Ok(RunSpec {
        harness: body.harness,
        model: body.model.clone(),
        class: None,
        level,
        max_turns: u32::try_from(turns).unwrap_or(u32::MAX),
        max_time_ms: bounded("max_time_ms", max_time_ms, &TIME_MS)?,
        max_tokens: bounded("max_tokens", max_tokens, &TOKENS)?,
        max_cost,
        approval_timeout_ms: bounded("approval_timeout_ms", approval_timeout_ms, &APPROVAL_MS)?,
    })
}
