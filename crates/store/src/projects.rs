//! Projects: a repository with its rules.

use stockade_domain::{
    Level, Timestamp,
    ids::{ProjectId, SiteId},
};

use crate::{
    Page, Paged, Result, StoreError, Tx,
    sql::{Row, ask, json, statements},
};

statements! {
    ADD_PROJECT = "INSERT INTO projects (id, name, repository, base_branch, gates, gate_attempts, level, site, version, \
                   created_at, updated_at, class) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10, $11) ON CONFLICT DO NOTHING";
    WHICH_PROJECT_IS_THIS = "SELECT id, name, repository, base_branch, gates, gate_attempts, level, site, version, \
                             created_at, updated_at, class FROM projects WHERE id = $1";
    WHICH_PROJECT_HAS_THIS_NAME = "SELECT id, name, repository, base_branch, gates, gate_attempts, level, site, \
                                   version, created_at, updated_at, class FROM projects WHERE name = $1";
    WHICH_PROJECTS_ARE_THERE = "SELECT id, name, repository, base_branch, gates, gate_attempts, level, site, version, \
                                created_at, updated_at, class FROM projects WHERE id < $1 ORDER BY id DESC LIMIT $2";
    WHO_ELSE_HAS_THIS_NAME = "SELECT id FROM projects WHERE name = $1 AND id <> $2";
    CHANGE_PROJECT = "UPDATE projects SET name = $3, repository = $4, base_branch = $5, gates = $6, \
                      gate_attempts = $7, level = $8, site = $9, updated_at = $10, class = $11, version = version + 1 \
                      WHERE id = $1 AND version = $2";
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Which.
    pub id: ProjectId,
    /// Its name; unique.
    pub name: String,
    /// Where its repository is: a path on the runner's machine, or a URL that `git` understands.
    pub repository: String,
    /// The branch to stand on; empty for the repository's own default.
    pub base_branch: String,
    /// The commands that must succeed before a change is opened.
    pub gates: Vec<String>,
    /// How often the agent may try to make them pass.
    pub gate_attempts: u32,
    /// The highest autonomy level its runs may have.
    pub level: Level,
    /// Where its runs go; nothing for the oldest site.
    pub site: Option<SiteId>,
    /// The class of its environments; nothing for the site's first.
    pub class: Option<String>,
    /// Grows with every change.
    pub version: u64,
    /// Since when.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
}

/// Adds a project; the name must be free. `version` is taken as 1.
pub async fn add(tx: &mut Tx, project: &Project) -> Result<()> {
    let ask = ask!(
        ADD_PROJECT,
        project.id,
        &project.name,
        &project.repository,
        &project.base_branch,
        json(&project.gates)?,
        project.gate_attempts,
        u32::from(project.level.get()),
        project.site,
        project.created_at,
        project.updated_at,
        project.class.as_deref()
    );
    match tx.run(ask).await? {
        0 => Err(StoreError::exists("project", &project.name)),
        _ => Ok(()),
    }
}

/// One project.
pub async fn get(tx: &mut Tx, id: ProjectId) -> Result<Project> {
    let row = tx.maybe(ask!(WHICH_PROJECT_IS_THIS, id)).await?;
    read(&row.ok_or_else(|| StoreError::not_found("project", id))?)
}

/// One project by its name.
pub async fn by_name(tx: &mut Tx, name: &str) -> Result<Project> {
    let row = tx.maybe(ask!(WHICH_PROJECT_HAS_THIS_NAME, name)).await?;
    read(&row.ok_or_else(|| StoreError::not_found("project", name))?)
}

/// Projects, newest first.
pub async fn list(tx: &mut Tx, page: &Page) -> Result<Paged<Project>> {
    let rows = tx.all(ask!(WHICH_PROJECTS_ARE_THERE, page.before()?, page.fetch())).await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_>>()?, |project| project.id.to_string()))
}

/// Writes everything but `id` and `created_at`, if the version in the database is `project.version`; otherwise
/// `Conflict`. Gives back the new version.
pub async fn update(tx: &mut Tx, project: &Project) -> Result<u64> {
    if tx.maybe(ask!(WHO_ELSE_HAS_THIS_NAME, &project.name, project.id)).await?.is_some() {
        return Err(StoreError::exists("project", &project.name));
    }
    let ask = ask!(
        CHANGE_PROJECT,
        project.id,
        project.version,
        &project.name,
        &project.repository,
        &project.base_branch,
        json(&project.gates)?,
        project.gate_attempts,
        u32::from(project.level.get()),
        project.site,
        project.updated_at,
        project.class.as_deref()
    );
    if tx.run(ask).await? == 0 {
        get(tx, project.id).await?;
        return Err(StoreError::conflict("project", project.id));
    }
    Ok(project.version + 1)
}

fn read(row: &Row) -> Result<Project> {
    let level = u8::try_from(row.int("level")?).map_err(|error| StoreError::bad_row("level", error))?;
    Ok(Project {
        id: row.word("id")?,
        name: row.text("name")?,
        repository: row.text("repository")?,
        base_branch: row.text("base_branch")?,
        gates: row.json("gates")?,
        gate_attempts: row.small("gate_attempts")?,
        level: Level::try_from(level).map_err(|error| StoreError::bad_row("level", error))?,
        site: row.maybe_word("site")?,
        class: row.maybe_text("class")?,
        version: row.count("version")?,
        created_at: row.at("created_at")?,
        updated_at: row.at("updated_at")?,
    })
}
