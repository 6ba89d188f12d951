//! What waits for the server: records, sealed content, events and spending, in one durable order.
//!
//! Owns the index that a restart rebuilds (the last event number of every run, every slice of money), what an entry looks
//! like on the wire, how much may wait, and the archive of sealed content that has been shipped. It refuses to lose anything:
//! at the bound new deeds are refused, never old entries dropped.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stockade_api::runner::{BudgetEntry, Entry};
use stockade_domain::{ContentRef, Digest, RunEvent, ids::RunId};
use stockade_ledger::{EntryKind, Log, LogEntry, LogError};
use tokio::sync::watch;

use crate::{files, purse::Money};

/// The file beside the log from which a restart takes up the index.
pub const INDEX_FILE: &str = "runner.index";
/// The most entries that are read at once.
pub const READ_ITEMS: usize = 512;
/// The most bytes of payload that are read at once.
pub const READ_BYTES: usize = 6 * 1024 * 1024;

/// Why the spool refuses.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Too much waits for the server.
    #[error(
        "{waiting} bytes wait for the server, the bound is {bound}: no new deed begins until the server takes them"
    )]
    Full {
        /// How much waits.
        waiting: u64,
        /// How much may.
        bound: u64,
    },
    /// An entry is none of ours.
    #[error("entry {position} of the spool cannot be read: {why}")]
    Damaged {
        /// Where.
        position: u64,
        /// What is wrong.
        why: String,
    },
    /// The index does not read, or does not belong to this log.
    #[error("`{}` is damaged: {why}; restore it from a backup, together with the log beside it", path.display())]
    Index {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file beside the log.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// What follows from the entries up to a position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The position up to which it speaks.
    pub position: u64,
    /// The number of the last event of each run.
    pub events: BTreeMap<RunId, u64>,
    /// Leased money.
    pub money: Money,
}

#[derive(Serialize, Deserialize)]
struct EventLine {
    fence: u64,
    line: RunEvent,
}

impl Index {
    fn take(&mut self, position: u64, entry: &LogEntry) -> Result<(), SpoolError> {
        let damaged = |e: serde_json::Error| SpoolError::Damaged { position, why: e.to_string() };
        match entry.kind {
            EntryKind::Event => {
                let EventLine { line, .. } = serde_json::from_slice(&entry.payload).map_err(damaged)?;
                self.events.insert(line.run, line.seq);
            }
            EntryKind::Budget => {
                let entry: BudgetEntry = serde_json::from_slice(&entry.payload).map_err(damaged)?;
                self.money.take(&entry);
            }
            EntryKind::Record | EntryKind::Content => {}
        }
        self.position = position + 1;
        Ok(())
    }
}

/// The spool.
#[derive(Debug)]
pub struct Spool {
    log: Arc<Log>,
    archive: PathBuf,
    live: Mutex<BTreeMap<RunId, u64>>,
    shipped: Mutex<Index>,
    /// What the server expects next. Behind the index only after the server was restored from an older state.
    cursor: watch::Sender<u64>,
    bound: u64,
}

impl Spool {
    /// Takes up the spool of a log: reads what is there. The leased money comes with it.
    pub fn start(log: Arc<Log>, archive: PathBuf, bound: u64) -> Result<(Self, Money), SpoolError> {
        let path = log.dir().join(INDEX_FILE);
        let file = |source| SpoolError::File { path: path.clone(), source };
        let shipped: Index = match files::read_if_there(&path).map_err(file)? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| SpoolError::Index { path: path.clone(), why: e.to_string() })?,
            None => Index::default(),
        };
        if shipped.position < log.start() || shipped.position > log.end() {
            let why = format!(
                "it ends at {} and the log reaches from {} to {}: one of them was restored without the other",
                shipped.position,
                log.start(),
                log.end()
            );
            return Err(SpoolError::Index { path, why });
        }
        let mut live = shipped.clone();
        while live.position < log.end() {
            for (position, entry) in log.read(live.position, READ_ITEMS, READ_BYTES)? {
                live.take(position, &entry)?;
            }
        }
        let spool = Self {
            log,
            archive,
            live: Mutex::new(live.events),
            cursor: watch::Sender::new(shipped.position),
            shipped: Mutex::new(shipped),
            bound,
        };
        Ok((spool, live.money))
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<RunId, u64>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log.
    pub const fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The number that the next event of a run has. Whoever asks is the run's only writer.
    pub fn next_seq(&self, run: RunId) -> u64 {
        self.live().get(&run).copied().unwrap_or(0) + 1
    }

    /// Events of a run are durable up to this number.
    pub fn told(&self, run: RunId, last_seq: u64) {
        let mut live = self.live();
        let last = live.entry(run).or_default();
        *last = (*last).max(last_seq);
    }

    /// Appends entries.
    pub async fn append(&self, entries: Vec<LogEntry>) -> Result<u64, SpoolError> {
        Ok(self.log.append(entries).await?)
    }

    /// How many entries wait for the server.
    pub fn waiting(&self) -> u64 {
        self.log.end().saturating_sub(self.cursor())
    }

    /// Refuses if too much waits for the server. Asked before a new deed begins. What counts is the space on the disk, as far as
    /// it belongs to entries that wait: the log gives space back a segment at a time.
    pub fn room(&self) -> Result<(), SpoolError> {
        let (entries, all) = (self.waiting(), self.log.end().saturating_sub(self.log.start()));
        if entries == 0 {
            return Ok(());
        }
        let bytes = self.log.bytes();
        let share = u128::from(bytes) * u128::from(entries) / u128::from(all.max(1));
        let waiting = u64::try_from(share).unwrap_or(u64::MAX);
        if waiting < self.bound { Ok(()) } else { Err(SpoolError::Full { waiting, bound: self.bound }) }
    }

    /// The position to ship next.
    pub fn cursor(&self) -> u64 {
        *self.cursor.borrow()
    }

    /// Waits until the server has everything before `position`.
    pub async fn shipped(&self, position: u64) {
        // The sender is ours: there is an end only when there is nobody to wait.
        let _ = self.cursor.subscribe().wait_for(|cursor| *cursor >= position).await;
    }

    /// How far the server has had it, as far as is known.
    pub fn shipped_to(&self) -> u64 {
        self.shipped.lock().unwrap_or_else(PoisonError::into_inner).position
    }

    /// The server has everything before `next`: archives the content on the way. Blocking.
    pub fn shipped_before(&self, next: u64) -> Result<(), SpoolError> {
        self.cursor.send_replace(next);
        let mut index = self.shipped.lock().unwrap_or_else(PoisonError::into_inner).clone();
        while index.position < next {
            let want = usize::try_from(next - index.position).unwrap_or(READ_ITEMS).min(READ_ITEMS);
            for (position, entry) in self.log.read(index.position, want, READ_BYTES)? {
                if entry.kind == EntryKind::Content {
                    self.keep(position, &entry)?;
                }
                index.take(position, &entry)?;
            }
        }
        *self.shipped.lock().unwrap_or_else(PoisonError::into_inner) = index;
        Ok(())
    }

    /// Makes the index durable and gives back the space of what the server has. Blocking. The ledger's own state has been
    /// saved before.
    pub fn forget(&self) -> Result<(), SpoolError> {
        let index = self.shipped.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let path = self.log.dir().join(INDEX_FILE);
        let bytes = serde_json::to_vec(&index).unwrap_or_default();
        files::replace(&path, &bytes).map_err(|source| SpoolError::File { path, source })?;
        Ok(self.log.forget_before(index.position)?)
    }

    fn kept(&self, run: RunId, digest: Digest) -> PathBuf {
        self.archive.join(run.to_string()).join(digest.to_string().replace(':', "-"))
    }

    fn keep(&self, position: u64, entry: &LogEntry) -> Result<(), SpoolError> {
        let (run, content, bytes) = content_of(position, entry)?;
        let path = self.kept(run, content.digest);
        if path.exists() {
            return Ok(());
        }
        let file = |source| SpoolError::File { path: path.clone(), source };
        files::private_dir(path.parent().unwrap_or(&self.archive)).map_err(file)?;
        files::replace(&path, &bytes).map_err(file)
    }

    /// The sealed content of a run that was made here, shipped or not.
    pub const fn contents(&self, run: RunId) -> Contents<'_> {
        Contents { spool: self, run, waiting: None }
    }

    /// Where the contents of a run are that wait for the server. Blocking.
    fn positions(&self, run: RunId) -> Result<HashMap<Digest, u64>, SpoolError> {
        let (mut found, mut position) = (HashMap::new(), self.shipped_to());
        while position < self.log.end() {
            for (at, entry) in self.log.read(position, READ_ITEMS, READ_BYTES)? {
                if entry.kind == EntryKind::Content {
                    let (of, content, _) = content_of(at, &entry)?;
                    if of == run {
                        found.insert(content.digest, at);
                    }
                }
                position = at + 1;
            }
        }
        Ok(found)
    }

    /// Removes the archived content of a run. Blocking.
    pub fn erase(&self, run: RunId) -> Result<(), SpoolError> {
        let path = self.archive.join(run.to_string());
        files::remove_all(&path).map_err(|source| SpoolError::File { path, source })
    }
}

/// The contents of one run: what waits for the server is looked through once.
#[derive(Debug)]
pub struct Contents<'a> {
    spool: &'a Spool,
    run: RunId,
    waiting: Option<HashMap<Digest, u64>>,
}

impl Contents<'_> {
    fn archived(&self, digest: Digest) -> Result<Option<Bytes>, SpoolError> {
        let path = self.spool.kept(self.run, digest);
        let file = |source| SpoolError::File { path: path.clone(), source };
        Ok(files::read_if_there(&path).map_err(file)?.map(Bytes::from))
    }

    /// The sealed bytes of one of them. Blocking.
    pub fn get(&mut self, digest: Digest) -> Result<Option<Bytes>, SpoolError> {
        if let Some(bytes) = self.archived(digest)? {
            return Ok(Some(bytes));
        }
        let waiting = match self.waiting.take() {
            Some(known) => known,
            None => self.spool.positions(self.run)?,
        };
        let position = self.waiting.insert(waiting).get(&digest).copied();
        let Some(position) = position else { return Ok(None) };
        match self.spool.log.read(position, 1, READ_BYTES) {
            Ok(entries) => match entries.first() {
                Some((at, entry)) => Ok(Some(content_of(*at, entry)?.2)),
                None => Ok(None),
            },
            // Shipped and archived since this began.
            Err(LogError::Forgotten { .. }) => self.archived(digest),
            Err(error) => Err(error.into()),
        }
    }
}

/// An event as a log entry.
pub fn event_entry(fence: u64, line: RunEvent) -> LogEntry {
    LogEntry::new(EntryKind::Event, serde_json::to_vec(&EventLine { fence, line }).unwrap_or_default())
}

/// Spending as a log entry.
pub fn budget_entry(entry: &BudgetEntry) -> LogEntry {
    LogEntry::new(EntryKind::Budget, serde_json::to_vec(entry).unwrap_or_default())
}

/// An entry as it travels.
pub fn on_the_wire(position: u64, entry: &LogEntry) -> Result<Entry, SpoolError> {
    let damaged = |why: String| SpoolError::Damaged { position, why };
    Ok(match entry.kind {
        EntryKind::Record => {
            Entry::Record { canonical: String::from_utf8(entry.payload.to_vec()).map_err(|e| damaged(e.to_string()))? }
        }
        EntryKind::Event => {
            let EventLine { fence, line } =
                serde_json::from_slice(&entry.payload).map_err(|e| damaged(e.to_string()))?;
            Entry::Event { fence, line }
        }
        EntryKind::Content => {
            let (run, content, bytes) = content_of(position, entry)?;
            Entry::Content { run, content, sealed: BASE64_STANDARD.encode(&bytes) }
        }
        EntryKind::Budget => {
            Entry::Budget { entry: serde_json::from_slice(&entry.payload).map_err(|e| damaged(e.to_string()))? }
        }
    })
}

fn content_of(position: u64, entry: &LogEntry) -> Result<(RunId, ContentRef, Bytes), SpoolError> {
    let why = || SpoolError::Damaged { position, why: "it is no sealed content".to_owned() };
    entry.as_content().ok_or_else(why)
}

/// Where the archive of a data folder is.
pub fn archive_dir(data: &Path) -> PathBuf {
    data.join("contents")
}
