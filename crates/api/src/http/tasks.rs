//! Tasks: what people ask for.
//!
//! Two steps, because what is asked is sealed before the server sees it: [`PrepareTask`] gives the
//! identifiers and the site's public key; whoever asks makes the run's data key, seals the text with it,
//! wraps the key to the site and sends [`StartTask`]. Nothing is written between the two.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    ContentRef, Harness, Level, Nanos,
    ids::{ProjectId, RunId, SiteId, TaskId},
};
use utoipa::ToSchema;

/// I want to ask for something.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrepareTask {
    /// Of which project.
    #[schema(value_type = String)]
    pub project: ProjectId,
}

/// What is needed to seal it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PreparedTask {
    /// The task's identifier.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// Its first run's identifier. The data key is bound to it.
    #[schema(value_type = String)]
    pub run: RunId,
    /// The site that will do the work.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Its HPKE public key, `stockade-site-1:…`.
    pub site_public_key: String,
    /// The project's autonomy level.
    #[schema(value_type = u8)]
    pub level: Level,
}

/// Starts a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartTask {
    /// Of which project.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// As prepared.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// As prepared.
    #[schema(value_type = String)]
    pub run: RunId,
    /// As prepared.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The run's data key, wrapped to the site's key, base64.
    pub wrapped_key: String,
    /// What is asked, sealed; its kind is `task`.
    #[schema(value_type = Object)]
    pub content: ContentRef,
    /// The sealed bytes, base64.
    pub sealed: String,
    /// The model's name.
    pub model: String,
    /// Who does the work: `stockade`, our own loop; or a program inside the environment: `claude-code`, `codex`, `gemini`, `opencode`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub harness: Harness,
    /// The class of its environment (`GET /v1/classes`); the project's if absent, and the site's if that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The autonomy level; the project's if absent. Never higher than the project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 4)]
    pub level: Option<Level>,
    /// The run's own budget, in nano-dollars; the installation's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub budget: Option<Nanos>,
    /// Other limits.
    #[serde(default)]
    pub limits: TaskLimits,
}

/// How far a run may go. What is absent is the installation's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskLimits {
    /// At most so many turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// At most so long, in milliseconds, waiting for people not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_time_ms: Option<u64>,
    /// At most so many tokens of all kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// How long an approval waits before silence becomes a no, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_timeout_ms: Option<u64>,
}
