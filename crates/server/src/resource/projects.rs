//! Projects: a repository with its rules.

use stockade_api::http::{CreateProject, ListProjects, Page, Project, UpdateProject};
use stockade_domain::{Level, ids::ProjectId};
use stockade_store::{StoreError, Tx, projects};

use super::{classes, page, paged, whole};
use crate::{
    answer::{Answer, Failure, Json, Path, Query},
    app::App,
    context::Cx,
};

/// The longest name of a project, in bytes.
const MAX_NAME: usize = 64;
/// The longest address of a repository or name of a branch, in bytes.
const MAX_REPOSITORY: usize = 1_000;
/// The most gates of a project.
const MAX_GATES: usize = 50;
/// The longest command of a gate, in bytes.
const MAX_GATE: usize = 4_096;
/// The most attempts at the gates.
const MAX_GATE_ATTEMPTS: u32 = 20;
/// How often the agent may try to make the gates pass when nobody said.
const DEFAULT_GATE_ATTEMPTS: u32 = 3;

/// Projects, newest first.
#[utoipa::path(get, path = "/v1/projects", tag = "projects", params(ListProjects),
    responses((status = 200, body = Page<Project>)))]
pub async fn list(cx: Cx, Query(query): Query<ListProjects>) -> Answer<Page<Project>> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    if let Some(name) = query.name {
        let found = match projects::by_name(&mut tx, &name).await {
            Ok(project) => vec![shown(project)],
            Err(StoreError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        return Ok(Json(whole(found)));
    }
    let found = projects::list(&mut tx, &page(query.limit, query.cursor)).await?;
    Ok(Json(paged(found, shown)))
}

/// One project.
#[utoipa::path(get, path = "/v1/projects/{project}", tag = "projects", params(("project" = String, Path)),
    responses((status = 200, body = Project)))]
pub async fn show(cx: Cx, Path(project): Path<ProjectId>) -> Answer<Project> {
    let mut tx = cx.may(cx.read().await?, cx.on_project(project)?).await?;
    Ok(Json(shown(projects::get(&mut tx, project).await?)))
}

/// Adds a project.
#[utoipa::path(post, path = "/v1/projects", tag = "projects", request_body = CreateProject,
    responses((status = 200, body = Project)))]
pub async fn create(cx: Cx, Json(body): Json<CreateProject>) -> Answer<Project> {
    let project = new(&cx.app, body);
    check(&project)?;
    let mut work = cx.open(cx.write().await?, cx.on_organization()?).await?;
    let result = add(&mut work.tx, &project).await;
    work.end(result.map(|()| Json(shown(project)))).await
}

/// Changes a project. Runs that have begun keep what they began with.
#[utoipa::path(patch, path = "/v1/projects/{project}", tag = "projects", params(("project" = String, Path)),
    request_body = UpdateProject, responses((status = 200, body = Project)))]
pub async fn update(cx: Cx, Path(id): Path<ProjectId>, Json(body): Json<UpdateProject>) -> Answer<Project> {
    let mut work = cx.open(cx.write().await?, cx.on_project(id)?).await?;
    let result = change(&cx.app, &mut work.tx, id, body).await;
    work.end(result.map(|project| Json(shown(project)))).await
}

async fn add(tx: &mut Tx, project: &projects::Project) -> Result<(), Failure> {
    classes::known(tx, project).await?;
    Ok(projects::add(tx, project).await?)
}

async fn change(app: &App, tx: &mut Tx, id: ProjectId, body: UpdateProject) -> Result<projects::Project, Failure> {
    let mut project = projects::get(tx, id).await?;
    project.repository = body.repository.unwrap_or(project.repository);
    project.base_branch = body.base_branch.unwrap_or(project.base_branch);
    project.gates = body.gates.unwrap_or(project.gates);
    project.gate_attempts = body.gate_attempts.unwrap_or(project.gate_attempts);
    project.level = body.level.unwrap_or(project.level);
    if let Some(class) = body.class {
        project.class = Some(class).filter(|class| !class.is_empty());
        classes::known(tx, &project).await?;
    }
    project.updated_at = app.now();
    check(&project)?;
    project.version = projects::update(tx, &project).await?;
    Ok(project)
}

fn new(app: &App, body: CreateProject) -> projects::Project {
    let now = app.now();
    projects::Project {
        id: (*app.world).id(),
        name: body.name,
        repository: body.repository,
        base_branch: body.base_branch,
        gates: body.gates,
        gate_attempts: body.gate_attempts.unwrap_or(DEFAULT_GATE_ATTEMPTS),
        level: body.level.unwrap_or(Level::ON_THE_LOOP),
        site: None,
        class: body.class.filter(|class| !class.is_empty()),
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

fn check(project: &projects::Project) -> Result<(), Failure> {
    let wrong = |what: &str, why: &str| Err(Failure::invalid("bad_project", format!("`{what}` {why}")));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let name = project.name.as_bytes();
    if name.len() > MAX_NAME
        || !name.first().copied().is_some_and(plain)
        || !name.iter().all(|byte| plain(*byte) || b"-_.".contains(byte))
    {
        return wrong("name", "must have 1 to 64 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or a digit");
    }
    // A leading dash would be read as an option by git.
    let odd = |text: &str| text.len() > MAX_REPOSITORY || text.starts_with('-') || text.chars().any(char::is_control);
    if project.repository.is_empty() || odd(&project.repository) {
        return wrong("repository", "must be a path or a URL of one line that does not begin with a dash");
    }
    if odd(&project.base_branch) {
        return wrong("base_branch", "must be the name of a branch");
    }
    if project.gates.len() > MAX_GATES {
        return wrong("gates", "may have 50 commands at most");
    }
    if project.gates.iter().any(|gate| gate.trim().is_empty() || gate.len() > MAX_GATE || gate.contains('\0')) {
        return wrong("gates", "must be commands of 1 to 4096 bytes");
    }
    if !(1..=MAX_GATE_ATTEMPTS).contains(&project.gate_attempts) {
        return wrong("gate_attempts", "must be 1 to 20");
    }
    Ok(())
}

fn shown(project: projects::Project) -> Project {
    Project {
        id: project.id,
        name: project.name,
        repository: project.repository,
        base_branch: project.base_branch,
        gates: project.gates,
        gate_attempts: project.gate_attempts,
        level: project.level,
        class: project.class,
        created_at: project.created_at,
    }
}
