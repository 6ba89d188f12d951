//! Projects: a repository with its rules.

use serde::{Deserialize, Serialize};
use stockade_domain::{Level, Timestamp, ids::ProjectId};
use utoipa::{IntoParams, ToSchema};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Which.
    #[schema(value_type = String)]
    pub id: ProjectId,
    /// Its name, unique in the organization.
    pub name: String,
    /// Where its repository is: a path on the runner's machine, or a URL that `git` understands.
    pub repository: String,
    /// The branch to stand on; empty for the repository's own default.
    pub base_branch: String,
    /// The commands that must succeed before a change is opened, each for `sh -c`.
    pub gates: Vec<String>,
    /// How often the agent may try to make the gates pass.
    pub gate_attempts: u32,
    /// The autonomy level of its runs unless a task asks for less.
    #[schema(value_type = u8, minimum = 1, maximum = 4)]
    pub level: Level,
    /// The class of its environments (`GET /v1/classes`); the site's first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Since when.
    #[schema(value_type = i64)]
    pub created_at: Timestamp,
}

/// Adds a project.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    /// Its name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or a digit.
    pub name: String,
    /// Where its repository is.
    pub repository: String,
    /// The branch to stand on.
    #[serde(default)]
    pub base_branch: String,
    /// The commands that must succeed before a change is opened.
    #[serde(default)]
    pub gates: Vec<String>,
    /// How often the agent may try to make the gates pass; 3 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_attempts: Option<u32>,
    /// The autonomy level; 2 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 4)]
    pub level: Option<Level>,
    /// The class of its environments (`GET /v1/classes`); the site's first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

/// Changes a project. What is absent stays. Runs that have begun keep what they began with.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateProject {
    /// Where its repository is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The branch to stand on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// The commands that must succeed before a change is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<Vec<String>>,
    /// How often the agent may try to make the gates pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_attempts: Option<u32>,
    /// The autonomy level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 4)]
    pub level: Option<Level>,
    /// The class of its environments (`GET /v1/classes`); empty for the site's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

/// Which projects.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListProjects {
    /// Only the one of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At most so many items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From the last answer's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
