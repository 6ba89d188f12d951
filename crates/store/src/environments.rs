//! Environments: what they should be, apart from what they were seen to be.

use stockade_domain::{
    Desired, EnvironmentState, Timestamp,
    ids::{EnvironmentId, ProjectId, RunId, RunnerId, UserId},
};

use crate::{Page, Paged, Result, Tx};

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Which.
    pub id: EnvironmentId,
    /// For which run.
    pub run: RunId,
    /// Of which project.
    pub project: ProjectId,
    /// Who asked for the run.
    pub owner: UserId,
    /// On which runner.
    pub runner: RunnerId,
    /// What it should be and was seen to be.
    pub state: EnvironmentState,
    /// Grows with every change.
    pub version: u64,
    /// Since when.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
}

/// Which environments.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentFilter {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only on this runner.
    pub runner: Option<RunnerId>,
    /// Also those that are deleted.
    pub deleted: bool,
}

/// One environment.
pub async fn get(tx: &mut Tx, id: EnvironmentId) -> Result<Environment> {
    todo!()
}

/// Environments, newest first.
pub async fn list(tx: &mut Tx, filter: &EnvironmentFilter, page: &Page) -> Result<Paged<Environment>> {
    todo!()
}

/// Somebody wants it otherwise. Compare-and-swap; the runner's revision grows.
pub async fn desire(tx: &mut Tx, id: EnvironmentId, desired: Desired, now: Timestamp) -> Result<Environment> {
    todo!()
}

/// Environments that nobody wants deleted although their run is over or has another one, oldest first.
pub async fn orphaned(tx: &mut Tx, limit: u32) -> Result<Vec<EnvironmentId>> {
    todo!()
}
