//! Environments: isolated, disposable places to work.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    Desired, EnvironmentUsage, Nanos, Observed, Timestamp,
    ids::{EnvironmentId, ProjectId, RunId, RunnerId},
};
use utoipa::{IntoParams, ToSchema};

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Environment {
    /// Which.
    #[schema(value_type = String)]
    pub id: EnvironmentId,
    /// The run it is for.
    #[schema(value_type = String)]
    pub run: RunId,
    /// The run's project.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// The runner that has it.
    #[schema(value_type = String)]
    pub runner: RunnerId,
    /// What it should be.
    #[schema(value_type = String)]
    pub desired: Desired,
    /// Counts the changes of `desired`.
    pub generation: u64,
    /// What it was last seen to be.
    #[schema(value_type = String)]
    pub observed: Observed,
    /// The generation that `observed` speaks about.
    pub observed_generation: u64,
    /// Its class, once its runner has begun with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What it has used, as its runner last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub usage: Option<EnvironmentUsage>,
    /// What that costs by its class, in nano-dollars.
    #[serde(default)]
    #[schema(value_type = i64)]
    pub cost: Nanos,
    /// Since when.
    #[schema(value_type = i64)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = i64)]
    pub updated_at: Timestamp,
}

/// Which environments, newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListEnvironments {
    /// Only of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// Those that are gone as well.
    #[serde(default)]
    pub deleted: bool,
    /// At most so many items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From the last answer's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
