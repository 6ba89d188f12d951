//! Connections of environments: where a run went, what was decided, and what went over. Never what was said.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stockade_domain::{
    Answer, ContentRef, ContextValue, Timestamp,
    ids::{ApprovalId, EnvironmentId, ProjectId, RecordId, RunId, RunnerId},
};
use utoipa::{IntoParams, ToSchema};

/// A connection out of an environment, or what was done on one: a request, the use of a credential, a fetch, a push. Also what
/// went nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// The record that opened or refused it.
    #[schema(value_type = String)]
    pub id: RecordId,
    /// The record that closed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub closed: Option<RecordId>,
    /// The connection on which a request came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<RecordId>,
    /// Through whose door.
    #[schema(value_type = String)]
    pub runner: RunnerId,
    /// For which run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// For which project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Out of which environment.
    #[schema(value_type = String)]
    pub environment: EnvironmentId,
    /// What was done: `connection.open`, `request.send`, `credential.use`, `git.fetch`, `git.push`; or what went nowhere:
    /// `packet_nowhere`, `names_crowded`, `names_full`.
    pub action: String,
    /// The host's name or address; empty if there is none.
    pub host: String,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
    /// What was spoken: `tls`, `http1`, `http2`, `ssh`, `other`, `silent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Whether it was looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspected: Option<bool>,
    /// A request's method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What a request wanted to go over to, for example `websocket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<String>,
    /// The git repository: host and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Its ref, in full.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// The name of the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// `allow`, `ask` or `deny`.
    #[schema(value_type = String)]
    pub decision: Answer,
    /// The policy that decided; absent if none permits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The approval for which it waits, or that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub approval: Option<ApprovalId>,
    /// `open`, `ok`, `error`, `cancelled`, `unknown`; `refused`; `asked`, and `granted` once somebody has said yes.
    pub status: String,
    /// A fixed word that says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The status with which an HTTP request was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i64>,
    /// What went out, in bytes.
    pub bytes_out: u64,
    /// What came in, in bytes.
    pub bytes_in: u64,
    /// The address that was dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How many refusals before this one have no record of their own.
    pub left_out: u64,
    /// Whether whoever follows the run is told: what is refused or asked, pushes, and what goes to a host for the first time.
    pub notable: bool,
    /// When it was opened or refused.
    #[schema(value_type = i64)]
    pub opened_at: Timestamp,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub closed_at: Option<Timestamp>,
    /// When the server last heard of it, by its own clock.
    #[schema(value_type = i64)]
    pub noted_at: Timestamp,
}

/// A connection with what its records say besides, and the content that they cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownConnection {
    /// The connection.
    #[serde(flatten)]
    pub connection: Connection,
    /// The public circumstances under which it was decided.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub context: BTreeMap<String, ContextValue>,
    /// What was said of its end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub facts: BTreeMap<String, ContextValue>,
    /// What belongs to it, sealed, in the order of the records.
    #[schema(value_type = Vec<Object>)]
    pub contents: Vec<ContentRef>,
}

/// Which connections.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListConnections {
    /// Only of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// Only of this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Only out of this environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub environment: Option<EnvironmentId>,
    /// Only to this host: its whole name, or its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only what was decided so: `allow`, `ask` or `deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub decision: Option<Answer>,
    /// Only this action, for example `git.push`; or a note, for example `packet_nowhere`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Only those that are `open`, or ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Only what whoever follows a run is told (`true`), or the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notable: Option<bool>,
    /// Not opened before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub since: Option<Timestamp>,
    /// Opened before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub until: Option<Timestamp>,
    /// Only those of which the server heard at this time (by its clock) or later, in that order. For following: ask again from the
    /// last `noted_at`, a few seconds back, and pass over what is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub changed_since: Option<Timestamp>,
    /// At most so many items: 50 if absent, 200 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From the last answer's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Of which run connections are summed.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SumConnections {
    /// The run.
    #[param(value_type = String)]
    pub run: RunId,
}

/// What a run did on its way out, summed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionSums {
    /// By action and decision.
    pub all: Vec<ConnectionSum>,
    /// By host and port too, where most went over first. Only so many hosts are told apart.
    pub hosts: Vec<ConnectionSum>,
}

/// What a run did of one kind, summed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionSum {
    /// What was done.
    pub action: String,
    /// `allow`, `ask` or `deny`.
    #[schema(value_type = String)]
    pub decision: Answer,
    /// To which host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// To which port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
    /// How often.
    pub times: u64,
    /// How often besides, without a record of its own.
    pub left_out: u64,
    /// What went out, in bytes.
    pub bytes_out: u64,
    /// What came in, in bytes.
    pub bytes_in: u64,
    /// For the first time.
    #[schema(value_type = i64)]
    pub first_at: Timestamp,
    /// For the last time.
    #[schema(value_type = i64)]
    pub last_at: Timestamp,
}
