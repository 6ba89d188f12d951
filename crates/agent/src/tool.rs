//! The tools: what the model is told about them, and how its untrusted input is read.
//!
//! *Invariant:* a [`Tool`] has been checked: paths are relative, below the workspace and without `..`; numbers are
//! within their bounds; texts within their lengths. What cannot be read is answered with a sentence that tells the
//! model what to send instead.

use serde::Serialize;
use serde_json::Value;

/// The longest path, in bytes.
pub const MAX_PATH: usize = 4096;
/// The longest text to write, or to replace, in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;
/// The longest command, in bytes.
pub const MAX_COMMAND: usize = 64 * 1024;
/// The longest pattern or glob, in bytes.
pub const MAX_PATTERN: usize = 4096;
/// The longest summary or question, in bytes.
pub const MAX_WORDS: usize = 32 * 1024;
/// The longest title of a change, in characters. A longer one is cut.
pub const MAX_TITLE: usize = 72;
/// The longest time a command may ask for, in milliseconds.
pub const MAX_TIMEOUT_MS: u64 = 3_600_000;
/// The most lines a search may ask for.
pub const MAX_MATCHES: u32 = 1000;
/// The deepest listing.
pub const MAX_DEPTH: u32 = 16;

/// A tool call that could be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "tool", rename_all = "snake_case")]
pub enum Tool {
    /// Read a file.
    Read {
        /// Which.
        path: String,
        /// First line, from 1.
        from_line: Option<u64>,
        /// At most so many lines.
        max_lines: Option<u64>,
    },
    /// Write a file whole.
    Write {
        /// Which.
        path: String,
        /// Its new text.
        text: String,
    },
    /// Replace the one exact occurrence of a text.
    Edit {
        /// In which file.
        path: String,
        /// What stands there now.
        old: String,
        /// What shall stand there.
        new: String,
    },
    /// List a folder.
    List {
        /// Which; empty for the workspace.
        path: String,
        /// How deep, 1 to [`MAX_DEPTH`].
        depth: u32,
    },
    /// Search file contents.
    Search {
        /// A regular expression.
        pattern: String,
        /// Below which folder; empty for the workspace.
        path: String,
        /// Only files whose path matches.
        glob: Option<String>,
        /// At most so many lines, 1 to [`MAX_MATCHES`].
        max_matches: u32,
    },
    /// Run a command with `sh -c` in the workspace.
    Run {
        /// Which.
        command: String,
        /// At most so long, 1 to [`MAX_TIMEOUT_MS`].
        timeout_ms: u64,
    },
    /// The work is done, or cannot be done.
    Finish {
        /// A line for the change, not empty; absent if the model gave none.
        title: Option<String>,
        /// What was done and why.
        summary: String,
        /// False: it cannot be done.
        done: bool,
    },
    /// Ask a person.
    Ask {
        /// What.
        question: String,
    },
}

impl Tool {
    /// Every name.
    pub const NAMES: [&'static str; 8] = ["read", "write", "edit", "list", "search", "run", "finish", "ask"];

    /// The name, as the model, policies and records have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::Edit { .. } => "edit",
            Self::List { .. } => "list",
            Self::Search { .. } => "search",
            Self::Run { .. } => "run",
            Self::Finish { .. } => "finish",
            Self::Ask { .. } => "ask",
        }
    }

    /// Whether it changes nothing in the workspace.
    pub const fn read_only(&self) -> bool {
        matches!(
            self,
            Self::Read { .. } | Self::List { .. } | Self::Search { .. } | Self::Finish { .. } | Self::Ask { .. }
        )
    }

    /// The path it is about, relative to the workspace. Content.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Read { path, .. }
            | Self::Write { path, .. }
            | Self::Edit { path, .. }
            | Self::List { path, .. }
            | Self::Search { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The command it runs. Content.
    pub fn command(&self) -> Option<&str> {
        match self {
            Self::Run { command, .. } => Some(command),
            _ => None,
        }
    }

    /// Reads a call. `run_timeout_ms` is what a command gets that does not say. The error is a sentence for the model.
    pub fn parse(name: &str, input: &Value, run_timeout_ms: u64) -> Result<Self, String> {
        let _ = (name, input, run_timeout_ms);
        Err(String::new())
    }
}

/// What the model is told about the tools: the `tools` of a Messages request.
pub fn definitions() -> Value {
    Value::Array(vec![])
}
