//! People's tokens for the gateway.
//!
//! Two steps, as with tasks: what is said with a token is sealed with a key that the server never sees. [`PrepareToken`] gives
//! the identifiers and the site's public key; whoever asks makes the data key of the token's run, seals the token's name with
//! it, wraps the key to the site and sends [`CreateGatewayToken`]. Nothing is written between the two.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    ContentRef, Nanos, Period, RunState, Timestamp,
    ids::{GatewayTokenId, ProjectId, RunId, SiteId, TaskId, UserId},
};
use utoipa::{IntoParams, ToSchema};

/// I want a token for the gateway.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrepareToken {
    /// For work on which project.
    #[schema(value_type = String)]
    pub project: ProjectId,
}

/// Makes a token for the gateway, for the caller's own tools.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateGatewayToken {
    /// For work on which project.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// What its owner calls it.
    pub name: String,
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
    /// The token's name, sealed; its kind is `task`. It shows that the key is good.
    #[schema(value_type = Object)]
    pub content: ContentRef,
    /// The sealed bytes, base64.
    pub sealed: String,
    /// The most that may be spent with it in a period, in nano-dollars; 50 dollars if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub budget: Option<Nanos>,
    /// That period; a month if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub period: Option<Period>,
    /// When it ends, in seconds from now; 90 days if absent, a year at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// Models it may ask for; all that policy allows if empty.
    #[serde(default)]
    pub models: Vec<String>,
}

/// A token for the gateway, without the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayToken {
    /// Its row.
    #[schema(value_type = String)]
    pub id: GatewayTokenId,
    /// What its owner calls it.
    pub name: String,
    /// Its run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// Whose.
    #[schema(value_type = String)]
    pub owner: UserId,
    /// For work on which project.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// Models it may ask for; all that policy allows if empty.
    pub models: Vec<String>,
    /// `working` while it is good.
    #[schema(value_type = String)]
    pub state: RunState,
    /// Since when.
    #[schema(value_type = i64)]
    pub created_at: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub expires_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub ended_at: Option<Timestamp>,
    /// The most that may be spent with it in a period, in nano-dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub limit: Option<Nanos>,
    /// That period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub period: Option<Period>,
    /// What was spent with it in all, in nano-dollars.
    #[schema(value_type = i64)]
    pub cost: Nanos,
    /// Whether the key of what was said with it was destroyed.
    pub erased: bool,
}

/// A token for the gateway, shown this once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedGatewayToken {
    /// What is known of it.
    #[serde(flatten)]
    pub about: GatewayToken,
    /// The token itself. The server keeps only its digest.
    pub token: String,
    /// The listeners of the site's runners, the one that was heard of last first. The gateway's paths stand below them:
    /// `/gateway/anthropic`, `/gateway/openai/v1`, `/gateway/gemini`.
    pub listeners: Vec<String>,
}

/// Shows everything but the token.
impl std::fmt::Debug for CreatedGatewayToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedGatewayToken").field("about", &self.about).finish_non_exhaustive()
    }
}

/// Which tokens.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListGatewayTokens {
    /// Everybody's, and not only the caller's own.
    #[serde(default)]
    pub all: bool,
    /// At most so many items: 50 if absent, 200 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From the last answer's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
