//! Projects: a repository with its rules.

use stockade_domain::{
    Level, Timestamp,
    ids::{ProjectId, SiteId},
};

use crate::{Page, Paged, Result, Tx};

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
    /// Grows with every change.
    pub version: u64,
    /// Since when.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
}

/// Adds a project; the name must be free. `version` is taken as 1.
pub async fn add(tx: &mut Tx, project: &Project) -> Result<()> {
    todo!()
}

/// One project.
pub async fn get(tx: &mut Tx, id: ProjectId) -> Result<Project> {
    todo!()
}

/// One project by its name.
pub async fn by_name(tx: &mut Tx, name: &str) -> Result<Project> {
    todo!()
}

/// Projects, newest first.
pub async fn list(tx: &mut Tx, page: &Page) -> Result<Paged<Project>> {
    todo!()
}

/// Writes everything but `id` and `created_at`, if the version in the database is `project.version`; otherwise
/// `Conflict`. Gives back the new version.
pub async fn update(tx: &mut Tx, project: &Project) -> Result<u64> {
    todo!()
}
