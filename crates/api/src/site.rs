//! What people's tools say to a site's listener, which is the runner's and answers only within the site.
//!
//! Every request carries a content ticket ([`crate::ticket`]) as its bearer token. The runner decides each
//! by policy and records it; a failed answer has the body [`crate::error::ErrorBody`].
//!
//! | request | answer |
//! |---|---|
//! | `GET /content/{run}/{digest}?kind=KIND` | the plain bytes |
//! | `GET /transcript/{run}?after=N` | JSON lines: the run's journal as [`TranscriptLine`]s with a number greater than N |
//! | `POST /seal/{run}` [`Seal`] | [`crate::http::SealedContent`], to be sent to the server |
//! | `POST /exec/{environment}` [`ExecRequest`] | JSON lines of [`ExecFrame`], as it happens; the last one is final |
//!
//! It refuses: anything that could be asked of the server.

use serde::{Deserialize, Serialize};
use stockade_domain::{ContentKind, Timestamp, ids::CallId};

use crate::{error::ApiError, guest::Stream};

/// The longest text that is sealed for a person, in bytes. A longer one is refused with HTTP 413.
pub const MAX_SEAL: usize = 64 * 1024;

/// One line of a run's journal in plain text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TranscriptLine {
    /// Its number in the run, from 1.
    pub line: u64,
    /// When.
    pub at: Timestamp,
    /// What the agent was told, as the agent loop journals it.
    pub input: serde_json::Value,
}

/// Programs that were started in an environment: the content of the kind `executions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedPrograms {
    /// Sorted by path.
    pub programs: Vec<StartedProgram>,
}

/// One of them. For the record: what it names may have been another thing when the kernel looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedProgram {
    /// As whoever started it wrote it.
    pub path: String,
    /// How often.
    pub starts: u64,
    /// When first.
    pub first_at: Timestamp,
    /// When last.
    pub last_at: Timestamp,
    /// What it was given after its name, for example: the first few that differ, cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<Vec<String>>,
    /// Some of the calls below which it was started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallId>,
}

/// Seal this for the run.
#[derive(Clone, Serialize, Deserialize)]
pub struct Seal {
    /// What it is. A listener seals only `reply`.
    pub kind: ContentKind,
    /// At most [`MAX_SEAL`] bytes.
    pub text: String,
}

/// Shows everything but the text.
impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Run this command in the environment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where, relative to the workspace; empty for the workspace itself.
    #[serde(default)]
    pub cwd: String,
    /// Given to it as standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// After this it and all its children are killed. At most an hour.
    pub timeout_ms: u64,
}

/// What comes of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum ExecFrame {
    /// A piece of output.
    Output {
        /// Of which stream.
        stream: Stream,
        /// The text, lossy UTF-8.
        text: String,
    },
    /// It ended. Final.
    Exited {
        /// Its exit status, or 128 + the signal that killed it.
        status: i32,
        /// Whether the time-out killed it.
        timed_out: bool,
        /// Wall clock.
        duration_ms: u64,
    },
    /// It could not be run, or was cut off. Final.
    Failed {
        /// Why.
        error: ApiError,
    },
}
