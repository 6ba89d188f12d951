//! The durable log that a runner spools into (being filled in).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use stockade_domain::{ContentRef, ids::RunId};

use crate::Sealed;

/// How many batches may wait for the writer. At the bound, appending waits.
pub const QUEUE_BATCHES: usize = 1024;
/// The largest batch, in bytes of payload. A larger one is refused.
pub const MAX_BATCH_BYTES: usize = 128 * 1024 * 1024;
/// The most entries in one batch. A larger batch is refused.
pub const MAX_BATCH_ENTRIES: usize = 4096;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A ledger record: canonical bytes.
    Record = 1,
    /// A line of a run; what it looks like is for whoever appends it.
    Event = 2,
    /// A sealed piece of content: see [`LogEntry::content`].
    Content = 3,
    /// Spending; what it looks like is for whoever appends it.
    Budget = 4,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// What it is.
    pub kind: EntryKind,
    /// Its bytes.
    pub payload: Bytes,
}

impl LogEntry {
    /// An entry.
    pub fn new(kind: EntryKind, payload: impl Into<Bytes>) -> Self {
        Self { kind, payload: payload.into() }
    }

    /// A sealed piece of content, with its kind.
    pub fn content(_sealed: &Sealed) -> Self {
        Self::new(EntryKind::Content, Bytes::new())
    }

    /// The sealed piece of content in an entry of kind `Content`: its run, its reference, its sealed bytes.
    pub fn as_content(&self) -> Result<(RunId, ContentRef, Bytes), LogError> {
        Err(LogError::Closed)
    }
}

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A segment is closed once it has so many bytes.
    pub segment_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024 }
    }
}

/// What was cut from the end of a log when it was opened: the rest of a write that a crash interrupted and nobody was
/// told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// In which file.
    pub segment: PathBuf,
    /// From which byte.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Why the log refuses.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The disk is full. Nothing of the batch was kept; the log goes on once there is room.
    #[error("no room left for the log in {dir}: nothing was recorded; free some space and try again")]
    Full {
        /// The log's directory.
        dir: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The log has ended.
    #[error("the log is closed")]
    Closed,
}

/// A durable, ordered, append-only log in a directory.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
}

impl Log {
    /// Opens the log in `dir`, making it if there is none.
    pub fn open(dir: &Path, _options: LogOptions) -> Result<Self, LogError> {
        Ok(Self { dir: dir.to_owned() })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was cut when it was opened.
    pub const fn recovered(&self) -> Option<&Recovered> {
        None
    }

    /// Appends entries: all of them or none, and on the disk when this returns. The answer is the position of the first.
    pub async fn append(&self, _entries: Vec<LogEntry>) -> Result<u64, LogError> {
        Err(LogError::Closed)
    }

    /// Durable entries from position `from` on: at most `max_items`, and no more than `max_bytes` of payload
    /// unless the first one alone is longer. Reads files: in async code, call it where blocking is allowed.
    pub fn read(&self, _from: u64, _max_items: usize, _max_bytes: usize) -> Result<Vec<(u64, LogEntry)>, LogError> {
        Err(LogError::Closed)
    }

    /// The position of the oldest entry that is still there.
    pub const fn start(&self) -> u64 {
        0
    }

    /// The position that the next entry will get: all before it are durable.
    pub const fn end(&self) -> u64 {
        0
    }

    /// Tells of every new [`end`](Self::end).
    pub fn watch_end(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }

    /// Gives back the space of entries before `position`, where whole segments of them can go. What an attached
    /// ledger still needs stays.
    pub const fn forget_before(&self, _position: u64) -> Result<(), LogError> {
        Ok(())
    }
}
