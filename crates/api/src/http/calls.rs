//! Model calls: who used which model on which repository when, and what it cost.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    ContentRef, Nanos, Timestamp,
    ids::{ModelCallId, ProjectId, RecordId, RunId, RunnerId, UserId},
};
use utoipa::{IntoParams, ToSchema};

/// A model call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelCall {
    /// Which.
    #[schema(value_type = String)]
    pub id: ModelCallId,
    /// The record that opened it.
    #[schema(value_type = String)]
    pub opened: RecordId,
    /// The record that closed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub closed: Option<RecordId>,
    /// Whose gateway made it.
    #[schema(value_type = String)]
    pub runner: RunnerId,
    /// For which run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// For which project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// The project's repository at that time.
    pub repository: String,
    /// The person behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub person: Option<UserId>,
    /// The name that was asked for.
    pub model: String,
    /// The exact version.
    pub upstream: String,
    /// Who served it.
    pub provider: String,
    /// How the client spoke.
    pub dialect: String,
    /// The client's program and version.
    pub client: String,
    /// The client's session; empty if it names none.
    pub session: String,
    /// How many messages the conversation had.
    pub turn: u64,
    /// `open`, `ok`, `error`, `cancelled`, `unknown` or `refused`.
    pub status: String,
    /// A fixed word that says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Tokens in, those of caches left out.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// Tokens read from the provider's cache.
    pub cache_read_tokens: u64,
    /// Tokens written to it.
    pub cache_write_tokens: u64,
    /// What it cost, in nano-dollars.
    #[schema(value_type = i64)]
    pub cost: Nanos,
    /// When it began.
    #[schema(value_type = i64)]
    pub started_at: Timestamp,
    /// How long it took, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// A model call with the content that its records cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownCall {
    /// The call.
    #[serde(flatten)]
    pub call: ModelCall,
    /// What belongs to it, sealed, in the order of the records.
    #[schema(value_type = Vec<Object>)]
    pub contents: Vec<ContentRef>,
}

/// Which calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListCalls {
    /// Only of this person; `me` for the caller. Everybody's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only for this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Only with this name of a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Only by this provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Only of this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only for this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// Only from this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Only those that ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub since: Option<Timestamp>,
    /// Before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub until: Option<Timestamp>,
    /// At most so many items: 50 if absent, 200 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From the last answer's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The calls of one agent session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The client's session.
    pub session: String,
    /// The run it belongs to.
    #[schema(value_type = String)]
    pub run: RunId,
    /// For which project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// The person behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub person: Option<UserId>,
    /// The client's program and version.
    pub client: String,
    /// How many calls.
    pub calls: u64,
    /// The most messages that a conversation of it had.
    pub turns: u64,
    /// Tokens of all kinds.
    pub tokens: u64,
    /// What it cost, in nano-dollars.
    #[schema(value_type = i64)]
    pub cost: Nanos,
    /// When its first call began.
    #[schema(value_type = i64)]
    pub first_at: Timestamp,
    /// When something of it was last heard.
    #[schema(value_type = i64)]
    pub last_at: Timestamp,
}

/// Which sessions.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListSessions {
    /// Only of this person; `me` for the caller. Everybody's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only for this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Only the one that the client calls so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// Only from this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Only those of which something was heard at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub since: Option<Timestamp>,
    /// Only those that began before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub until: Option<Timestamp>,
    /// At most so many items: 50 if absent, 200 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From the last answer's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Sums of calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SumCalls {
    /// `user`, `project`, `model`, `provider`, `client` or `day`.
    pub by: String,
    /// Only of this person; `me` for the caller. Everybody's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only for this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Only with this name of a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Only by this provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Only from this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Not before the day (UTC) of this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub since: Option<Timestamp>,
    /// Not after the day of this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub until: Option<Timestamp>,
}

/// Calls that are over, summed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallSum {
    /// Whose: an identifier, a name, or a day in microseconds since 1970.
    pub what: String,
    /// The name of the person or project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many.
    pub calls: u64,
    /// Tokens in, those of caches too.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// What they cost, in nano-dollars.
    #[schema(value_type = i64)]
    pub cost: Nanos,
}
