//! Frames between runner and guest.
//!
//! A frame is a length (u32, big endian, at most [`MAX_FRAME`]) and that many bytes of JSON. The runner
//! sends [`Request`] frames; the guest answers each with zero or more [`Reply::Output`] frames and one
//! final frame. Requests of one connection may overlap: answers carry the request's `id`. A request with a
//! `call` is journalled by the guest before it acts: a repeated call is answered from the journal and not
//! carried out again. All paths are relative to the workspace, UTF-8, without `..`.

use serde::{Deserialize, Serialize};
use stockade_domain::ids::CallId;

/// The largest frame, in bytes. A larger one closes the connection.
pub const MAX_FRAME: usize = 8 * 1024 * 1024;

/// The largest piece of binary content in one frame, in bytes, before base64.
pub const MAX_CHUNK: usize = 1024 * 1024;

/// What the runner asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Names the request within the connection.
    pub id: u64,
    /// Names the tool call for ever; absent for housekeeping, which is idempotent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    /// What to do.
    #[serde(flatten)]
    pub op: Op,
}

/// What can be done inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// Is anybody there? Answers `Pong`.
    Ping {},
    /// Runs a command. Streams its output; ends with `Exited`.
    Exec(Exec),
    /// Sends a signal to all processes of a running exec of this guest. Ends with `Done`.
    Signal {
        /// The `id`-independent name of the exec: its call.
        exec: CallId,
        /// The signal's number.
        signal: i32,
    },
    /// Reads a file as text with line numbers left out. Ends with `Text`.
    Read {
        /// Which file.
        path: String,
        /// First line, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from_line: Option<u64>,
        /// At most so many lines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_lines: Option<u64>,
    },
    /// Writes a file whole, making its folders. Ends with `Done`.
    Write {
        /// Which file.
        path: String,
        /// Its new text.
        text: String,
    },
    /// Replaces the one exact occurrence of a text. Ends with `Done`, or an error if there is none or several.
    Edit {
        /// Which file.
        path: String,
        /// What stands there now, exactly once.
        old: String,
        /// What shall stand there.
        new: String,
    },
    /// Lists files below a folder. Ends with `Text`, one path a line, folders with a slash.
    List {
        /// Which folder; empty for the workspace.
        path: String,
        /// How deep; 1 is the folder itself.
        depth: u32,
    },
    /// Searches file contents. Ends with `Text`, lines as `path:line:text`.
    Search {
        /// A regular expression (syntax of the `regex` crate).
        pattern: String,
        /// Below which folder; empty for the workspace.
        path: String,
        /// Only files whose path matches this glob.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        glob: Option<String>,
        /// At most so many lines.
        max_matches: u32,
    },
    /// Appends a piece to a file outside the workspace, in the guest's transfer folder; piece 0 starts it anew.
    /// Ends with `Done`. This is how a repository comes in.
    Put {
        /// A plain file name.
        name: String,
        /// Where this piece begins, in bytes.
        offset: u64,
        /// The piece, base64 (standard, padded), at most [`MAX_CHUNK`] before encoding.
        data: String,
    },
    /// Reads a piece of a file in the transfer folder. Ends with `Data`.
    Get {
        /// A plain file name.
        name: String,
        /// Where to begin, in bytes.
        offset: u64,
    },
    /// Asks what programs the workload has started. Ends with `Executions`.
    Executions {
        /// Only those after this number; those up to it are forgotten.
        after: u64,
    },
}

/// A program that the workload was about to start. For the record: what it names may have been another thing when the kernel looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Counts from 1 with each start of the guest.
    pub number: u64,
    /// How long ago.
    pub age_ms: u64,
    /// The call whose command it was below, if that was still running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    /// The process, as the environment counts them.
    pub pid: i32,
    /// What it named, lossy UTF-8, cut: a path as it wrote it, or what its descriptor is called.
    pub path: String,
    /// What it was given after its name, lossy UTF-8, cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments. A program without a slash is looked up in the guest's PATH.
    pub argv: Vec<String>,
    /// Where, relative to the workspace; empty for the workspace itself.
    #[serde(default)]
    pub cwd: String,
    /// Added to the guest's own small environment (PATH, HOME, USER, LANG, TMPDIR, STOCKADE_CALL,
    /// STOCKADE_TRANSFER: the absolute path of the transfer folder).
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Given to it as standard input; nothing means an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// After this it and all its children are killed. At most a day.
    pub timeout_ms: u64,
    /// At most so many bytes of each stream are kept and sent: the first half and the last half, with the
    /// number of bytes left out between them.
    pub max_output: u64,
}

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the guest answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The request's.
    pub id: u64,
    /// Whether this came from the journal and nothing was done now.
    #[serde(default)]
    pub replayed: bool,
    /// What.
    #[serde(flatten)]
    pub reply: Reply,
}

/// A frame from the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The guest is there.
    Pong {
        /// Its version.
        version: String,
        /// A number that is new with every start of the guest.
        boot: String,
    },
    /// A piece of output of a running command, live, lossy UTF-8; not repeated by the journal.
    Output {
        /// Of which stream.
        stream: Stream,
        /// The text.
        text: String,
    },
    /// A command ended. Final.
    Exited {
        /// Its exit status, or 128 + the signal that killed it.
        status: i32,
        /// The signal that killed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Whether the time-out killed it.
        timed_out: bool,
        /// Standard output as kept, lossy UTF-8.
        stdout: String,
        /// Standard error as kept, lossy UTF-8.
        stderr: String,
        /// Wall clock.
        duration_ms: u64,
    },
    /// A text. Final.
    Text {
        /// The text.
        text: String,
        /// Whether a limit cut it.
        truncated: bool,
    },
    /// A piece of a file. Final.
    Data {
        /// Base64 (standard, padded).
        data: String,
        /// The file's whole size in bytes.
        size: u64,
    },
    /// What programs the workload has started. Final.
    Executions {
        /// In their order; there may be more.
        executions: Vec<Execution>,
        /// How many there was no room for, since the guest started.
        dropped: u64,
        /// Whether the kernel tells of them at all here.
        watched: bool,
    },
    /// It is done. Final.
    Done {},
    /// It could not be done; nothing was changed. Final.
    Error {
        /// A stable word: `not_found`, `not_text`, `no_match`, `many_matches`, `outside`, `too_large`,
        /// `bad_pattern`, `io`, `bad_request`, `busy`.
        code: String,
        /// A sentence that the agent may read.
        message: String,
    },
    /// The guest's journal knows that this call began and not how it ended: the guest died in between.
    /// It was not carried out again. Final.
    Interrupted {},
}

impl Reply {
    /// Whether no further frame follows for the request.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Output { .. })
    }
}
