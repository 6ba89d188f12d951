//! The durable log that a runner spools into.
//!
//! It owns a directory of segment files ([`frame`] says how they look, [`segment`] how they are checked and cut, [`writer`]
//! how they grow, [`spare`] how the next one is made ready, [`queue`] what waits). Positions count entries from 0 and are never used twice. It refuses: a second opener of the same directory,
//! a batch that is too large, and to open at all when something that was acknowledged is missing or damaged.

mod frame;
mod queue;
mod segment;
mod spare;
mod writer;

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    ops::ControlFlow,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use bytes::{BufMut, Bytes, BytesMut};
use stockade_domain::{ContentKind, ContentRef, ids::RunId};
use tokio::sync::{Semaphore, oneshot, watch};

pub use self::queue::PATIENCE;
use self::{
    frame::{ENTRY_HEAD, SegmentHead},
    queue::{Queue, Queued},
    segment::Segment,
    spare::Spare,
    writer::Writer,
};
pub(crate) use self::{
    queue::Haste,
    writer::{Durable, Staged},
};
use crate::{Sealed, content_ref, sealed_run};

/// How many batches may wait for the writer. At the bound, appending waits.
pub const QUEUE_BATCHES: usize = 1024;
/// How many bytes may wait for the writer. At the bound, appending waits.
pub const QUEUE_BYTES: usize = 256 * 1024 * 1024;
/// The largest batch, in bytes of payload. A larger one is refused.
pub const MAX_BATCH_BYTES: usize = 128 * 1024 * 1024;
/// The most entries in one batch. A larger batch is refused.
pub const MAX_BATCH_ENTRIES: usize = 4096;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl EntryKind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Record),
            2 => Some(Self::Event),
            3 => Some(Self::Content),
            4 => Some(Self::Budget),
            _ => None,
        }
    }
}

impl LogEntry {
    /// An entry.
    pub fn new(kind: EntryKind, payload: impl Into<Bytes>) -> Self {
        Self { kind, payload: payload.into() }
    }

    /// A sealed piece of content: the length of its kind's word (u8), the word, the sealed bytes.
    pub fn content(sealed: &Sealed) -> Self {
        let word = sealed.content.kind.as_str();
        let mut payload = BytesMut::with_capacity(1 + word.len() + sealed.bytes.len());
        payload.put_u8(u8::try_from(word.len()).unwrap_or(0));
        payload.put_slice(word.as_bytes());
        payload.put_slice(&sealed.bytes);
        Self { kind: EntryKind::Content, payload: payload.freeze() }
    }

    /// The sealed piece of content in an entry of kind `Content`: its run, its reference, its sealed bytes.
    /// Nothing if the entry is of another kind or malformed.
    pub fn as_content(&self) -> Option<(RunId, ContentRef, Bytes)> {
        if self.kind != EntryKind::Content {
            return None;
        }
        let (len, rest) = self.payload.split_first()?;
        let (word, sealed) = rest.split_at_checked(usize::from(*len))?;
        let kind: ContentKind = std::str::from_utf8(word).ok()?.parse().ok()?;
        let bytes = self.payload.slice_ref(sealed);
        Some((sealed_run(sealed).ok()?, content_ref(kind, sealed), bytes))
    }
}

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A segment is closed once it has so many bytes. Space is given back by whole segments.
    pub segment_bytes: u64,
    /// Once the last segment has so many bytes, the next one is made ready beside it: a file of `segment_bytes` zeros, in
    /// which an append changes nothing but its own bytes and is therefore quicker. `u64::MAX` for never.
    pub ready_after: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 * 1024 * 1024, ready_after: 64 * 1024 }
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
    #[error("no room left for the log at {path}: nothing was recorded; free some space and try again")]
    Full {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A file could not be used. Nothing of the batch was kept.
    #[error("cannot {doing} {path} of the log")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// What is on the disk is not known any more.
    #[error("the log could not {doing} {path}: it accepts nothing more; see to the disk and start again")]
    Broken {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Another process, or another part of this one, has the directory.
    #[error("the log in {dir} is in use by another process: stop it first")]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Something that was acknowledged is damaged.
    #[error("the log is damaged in {segment} at byte {offset}: {why}; restore the file from a backup")]
    Corrupt {
        /// Which file.
        segment: PathBuf,
        /// From which byte.
        offset: u64,
        /// What was seen.
        why: &'static str,
    },
    /// Segments are missing.
    #[error(
        "the log has a gap before {segment}: it begins at position {found}, expected {expected}; restore the files in between"
    )]
    Gap {
        /// The file after the gap.
        segment: PathBuf,
        /// The position that was expected.
        expected: u64,
        /// The position that it begins with.
        found: u64,
    },
    /// The entries were given back.
    #[error("position {from} is no longer in the log, which begins at {start}")]
    Forgotten {
        /// What was asked for.
        from: u64,
        /// Where the log begins.
        start: u64,
    },
    /// There is nothing yet.
    #[error("position {from} is beyond the log, which ends at {end}")]
    Beyond {
        /// What was asked for.
        from: u64,
        /// Where the log ends.
        end: u64,
    },
    /// More than [`MAX_BATCH_BYTES`] or [`MAX_BATCH_ENTRIES`].
    #[error("the batch is too large: at most {MAX_BATCH_ENTRIES} entries and {MAX_BATCH_BYTES} bytes")]
    BatchTooLarge,
    /// Records are the ledger's alone.
    #[error("a record can only be appended by the ledger of this log")]
    RecordsAreTheLedgers,
    /// The log has ended.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let (path, full) = (path.to_owned(), writer::is_full(&source));
        let source = Arc::new(source);
        if full { Self::Full { path, source } } else { Self::Io { doing, path, source } }
    }

    fn broken(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Broken { doing, path: path.to_owned(), source: Arc::new(source) }
    }
}

/// What the writer and the readers share.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    segments: Mutex<VecDeque<Segment>>,
    end: watch::Sender<u64>,
}

impl Shared {
    fn segments(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        // Every change under this lock is a single step: a panic elsewhere leaves it whole.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_last<T>(&self, f: impl FnOnce(&mut Segment) -> T) -> Option<T> {
        self.segments().back_mut().map(f)
    }

    fn end(&self) -> u64 {
        *self.end.borrow()
    }
}

/// A durable, ordered, append-only log in a directory.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    recovered: Option<Recovered>,
    queue: Arc<Queue>,
    room: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
    attached: AtomicBool,
    /// What the attached ledger still needs, from this position on.
    needed: Arc<AtomicU64>,
    /// Held for its lock.
    lock: File,
}

impl Log {
    /// Opens the log in `dir`, making it if there is none: every frame is checked, and what a crash left at the end is cut.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        fs::create_dir_all(dir).map_err(|e| LogError::io("create", dir, e))?;
        let lock = lock(dir)?;
        let (segments, recovered) = segment::recover(dir)?;
        let mut segments = VecDeque::from(segments);
        if let Some(cut) = &recovered {
            tracing::warn!(
                segment = %cut.segment.display(), offset = cut.offset, bytes = cut.bytes,
                "cut an unfinished write from the end of the log"
            );
        }
        let file = match segments.back() {
            Some(last) => OpenOptions::new().read(true).write(true).open(&last.path),
            None => {
                // If a first segment was cut before its header was written, nothing was ever acknowledged.
                let first = recovered.as_ref().and_then(|cut| cut.segment.file_stem()?.to_str()?.parse().ok());
                let head = SegmentHead { first: first.unwrap_or(0), salt: writer::salt() };
                segment::create(dir, head).map(|(file, segment)| {
                    segments.push_back(segment);
                    file
                })
            }
        };
        let file = file.map_err(|e| LogError::io("open", dir, e))?;
        let end = segments.back().map_or(0, |segment| segment.end);
        let shared =
            Arc::new(Shared { dir: dir.to_owned(), segments: Mutex::new(segments), end: watch::Sender::new(end) });
        let spare = Spare::new(dir, options.segment_bytes).map_err(|e| LogError::io("tidy", dir, e))?;
        let LogOptions { segment_bytes, ready_after } = options;
        let writer = Writer { shared: Arc::clone(&shared), file, segment_bytes, ready_after, spare, broken: None };
        let queue = Arc::new(Queue::new(QUEUE_BATCHES));
        let batches = Arc::clone(&queue);
        let writer = std::thread::Builder::new()
            .name("ledger-log".to_owned())
            .spawn(move || writer.run(&batches))
            .map_err(|e| LogError::io("start the writer of", dir, e))?;
        Ok(Self {
            shared,
            recovered,
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES / ROOM_UNIT)),
            writer: Some(writer),
            attached: AtomicBool::new(false),
            needed: Arc::new(AtomicU64::new(u64::MAX)),
            lock,
        })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// What was cut when it was opened.
    pub const fn recovered(&self) -> Option<&Recovered> {
        self.recovered.as_ref()
    }

    /// Appends entries: all of them or none, and on the disk when this returns. The answer is the position of the
    /// first. If the future is dropped, the entries may be written all the same.
    pub async fn append(&self, entries: Vec<LogEntry>) -> Result<u64, LogError> {
        self.check_extra(&entries)?;
        let (reply, answer) = oneshot::channel();
        let bytes = writer::weight(&entries);
        self.stage(Box::new(Plain { entries, reply }), bytes, Haste::Now).await?;
        answer.await.unwrap_or(Err(LogError::Closed))
    }

    /// Durable entries from position `from` on: at most `max_items`, and no more than `max_bytes` of payload
    /// unless the first one alone is longer. Reads files: in async code, call it where blocking is allowed.
    pub fn read(&self, from: u64, max_items: usize, max_bytes: usize) -> Result<Vec<(u64, LogEntry)>, LogError> {
        let mut found = Vec::new();
        let mut bytes = 0_usize;
        self.read_while(from, |position, entry| {
            bytes = bytes.saturating_add(entry.payload.len());
            if found.len() >= max_items || (bytes > max_bytes && !found.is_empty()) {
                return ControlFlow::Break(());
            }
            found.push((position, entry));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Every durable entry from position `from` on, until `take` breaks.
    pub(crate) fn read_while(
        &self,
        from: u64,
        mut take: impl FnMut(u64, LogEntry) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let (start, end) = (self.start(), self.end());
        if from < start {
            return Err(LogError::Forgotten { from, start });
        }
        if from > end {
            return Err(LogError::Beyond { from, end });
        }
        let mut position = from;
        while position < end {
            let segment = self.shared.segments().iter().find(|segment| segment.end > position).cloned();
            let Some(segment) = segment else { return Ok(()) };
            if segment.read(position, &mut take)?.is_break() {
                return Ok(());
            }
            position = segment.end;
        }
        Ok(())
    }

    /// The position of the oldest entry that is still there.
    pub fn start(&self) -> u64 {
        self.shared.segments().front().map_or(0, |segment| segment.head.first)
    }

    /// The position that the next entry will get: all before it are durable.
    pub fn end(&self) -> u64 {
        self.shared.end()
    }

    /// How many bytes its entries take, with what belongs to them. A segment that is ready takes more on the disk.
    pub fn bytes(&self) -> u64 {
        self.shared.segments().iter().map(|segment| segment.len).sum()
    }

    /// Whether the last segment was made ready, and an append changes nothing but its own bytes.
    pub fn is_ready(&self) -> bool {
        self.shared.segments().back().is_some_and(|last| last.ready > last.len)
    }

    /// Tells of every new [`end`](Self::end).
    pub fn watch_end(&self) -> watch::Receiver<u64> {
        self.shared.end.subscribe()
    }

    /// Gives back the space of entries before `position`, where whole segments of them can go. What the ledger of
    /// this log still needs stays, so start it before forgetting anything.
    pub fn forget_before(&self, position: u64) -> Result<(), LogError> {
        let position = self.needed.load(Ordering::Acquire).min(position);
        loop {
            let path = {
                let segments = self.shared.segments();
                match segments.front() {
                    Some(oldest) if segments.len() > 1 && oldest.end <= position => oldest.path.clone(),
                    _ => return Ok(()),
                }
            };
            // The oldest file goes first, so that whatever interrupts this leaves a log without a gap.
            fs::remove_file(&path).map_err(|e| LogError::io("remove", &path, e))?;
            let mut segments = self.shared.segments();
            if segments.front().is_some_and(|oldest| oldest.path == path) {
                segments.pop_front();
            }
        }
    }

    /// Puts a batch into the queue, waiting for room.
    pub(crate) async fn stage(&self, batch: Box<dyn Staged>, bytes: usize, haste: Haste) -> Result<(), LogError> {
        if bytes > MAX_BATCH_BYTES + MAX_BATCH_ENTRIES * ENTRY_HEAD {
            return Err(LogError::BatchTooLarge);
        }
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.queue.places);
        let place = places.acquire_owned().await.map_err(|_| LogError::Closed)?;
        let room = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| LogError::Closed)?;
        self.queue.push(Queued { batch, bytes, haste, _place: place, _room: room })
    }

    /// Whether these entries may be appended by somebody who is not the ledger.
    pub(crate) fn check_extra(&self, entries: &[LogEntry]) -> Result<(), LogError> {
        if entries.len() > MAX_BATCH_ENTRIES {
            return Err(LogError::BatchTooLarge);
        }
        let attached = self.attached.load(Ordering::Acquire);
        if attached && entries.iter().any(|entry| entry.kind == EntryKind::Record) {
            return Err(LogError::RecordsAreTheLedgers);
        }
        Ok(())
    }

    /// Makes somebody the one ledger of this log. False if there is one.
    pub(crate) fn attach(&self) -> bool {
        !self.attached.swap(true, Ordering::AcqRel)
    }

    /// The ledger has ended.
    pub(crate) fn detach(&self) {
        self.attached.store(false, Ordering::Release);
    }

    /// Where the ledger of this log writes from which position on it needs entries.
    pub(crate) fn needed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.needed)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The writer finishes what is queued and ends; only then is the directory free for another.
        self.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the log's writer has panicked");
        }
        // Closing would not do if a process is just being started: until it is on its way, it holds all that we hold.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the log's folder stays locked until this process ends");
        }
    }
}

/// The queue's memory is counted in units of so many bytes.
const ROOM_UNIT: usize = 1024;

fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|e| LogError::io("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(LogError::io("lock", &path, e)),
    }
}

/// Entries that somebody appends as they are.
struct Plain {
    entries: Vec<LogEntry>,
    reply: oneshot::Sender<Result<u64, LogError>>,
}

impl Staged for Plain {
    fn build(&mut self) -> Vec<LogEntry> {
        std::mem::take(&mut self.entries)
    }

    fn finish(self: Box<Self>, result: Result<Durable, LogError>) {
        // Whoever asked may have gone; the entries are there all the same.
        let _ = self.reply.send(result.map(|durable| durable.first));
    }
}
