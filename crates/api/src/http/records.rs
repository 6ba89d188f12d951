//! The ledger: records, checkpoints, proofs, export.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    Action, Timestamp,
    ids::{ProjectId, RecordId, RunId},
};
use utoipa::{IntoParams, ToSchema};

/// A record.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// Which.
    #[schema(value_type = String)]
    pub id: RecordId,
    /// The runner or server that wrote it.
    pub producer: String,
    /// Its place in the producer's log, from 0.
    pub seq: u64,
    /// The record itself, as its canonical bytes say it.
    #[schema(value_type = Object)]
    pub record: serde_json::Value,
    /// The exact bytes (RFC 8785 JSON) that the log's hashes cover.
    pub canonical: String,
}

/// Which records, newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListRecords {
    /// Only of this producer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    /// Only of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// Only of this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Only of this principal: a user's, runner's or server's id, an agent's run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Only of this action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub action: Option<Action>,
    /// Only where this text occurs in the record, whatever the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Not before this time, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub since: Option<Timestamp>,
    /// Before this time, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<i64>)]
    pub until: Option<Timestamp>,
    /// At most so many items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From the last answer's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One producer's log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    /// The runner or server.
    pub producer: String,
    /// How many records the server has of it.
    pub size: u64,
    /// The root of the tree over them, `sha256:…`.
    pub root: String,
    /// The last checkpoint: a signed note (C2SP), the server's signature included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The producer's Ed25519 public key, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// That one record stands in the log that a checkpoint speaks about.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Proof {
    /// The runner or server.
    pub producer: String,
    /// The record's place.
    pub seq: u64,
    /// The record's exact bytes.
    pub canonical: String,
    /// The inclusion proof, as the ledger crate reads it.
    #[schema(value_type = Object)]
    pub proof: serde_json::Value,
    /// The checkpoint that it leads to: a signed note.
    pub checkpoint: String,
}

/// What to export. The answer is a stream of JSON lines (`stockade-export-1`).
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Export {
    /// With the sealed content of this run, still sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub content_of: Option<RunId>,
    /// With all sealed content, still sealed.
    #[serde(default)]
    pub content: bool,
}
