//! The journal of call ids: what began, and how it ended. It makes a repeated call harmless.
//!
//! A file of records, each a length (u32, little endian), a CRC-32 and that many bytes of JSON. A record is
//! durable before the guest goes on. A torn last record is cut off; damage elsewhere is refused, because a call
//! that was forgotten could be carried out twice.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::OwnedFd,
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use stockade_api::guest::{MAX_FRAME, Reply};
use stockade_domain::ids::CallId;

/// Above this the journal is rewritten without its oldest answers.
pub const MAX_JOURNAL_BYTES: u64 = 64 << 20;

/// So many bytes of the newest answers stay when it is rewritten.
pub const KEPT_JOURNAL_BYTES: u64 = 16 << 20;

/// So many calls one environment ever takes; their ids are never forgotten.
pub const MAX_CALLS: usize = 200_000;

const NAME: &str = "journal";
const FRESH: &str = "journal.new";
const HEAD: u64 = 8;
const HEAD_BYTES: usize = 8;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It could not be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is damaged before its end.
    #[error("it is damaged at byte {at}: the environment cannot go on without risking to do something twice")]
    Damaged {
        /// Where.
        at: u64,
    },
    /// Another guest has it open.
    #[error("another guest has it open")]
    InUse,
    /// It holds as many calls as it may.
    #[error("this environment has carried out {MAX_CALLS} calls, which is its limit")]
    Full,
}

/// What a call is about to do, as far as that helps after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Something that must not be done twice.
    Once,
    /// A file gets this content: a length and a checksum tell whether it already has it.
    Content {
        /// Bytes.
        length: u64,
        /// FNV-1a, 64 bits; no secret hangs on it.
        sum: u64,
    },
}

/// What to do with a call.
#[derive(Debug)]
pub enum Begun {
    /// It is new: go on, then call [`Journal::end`].
    Fresh,
    /// It began before a crash: go on if this is already so, or is safe to do again.
    Again(Intent),
    /// It ended, now or before: this is its answer.
    Answered(Reply),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Began { call: CallId, intent: Intent },
    Ended { call: CallId, reply: Reply },
    Forgot { call: CallId },
}

#[derive(Debug, Clone)]
enum Slot {
    /// A thread is at it; the answer comes by [`Inner::changed`].
    Running,
    Began(Intent),
    Ended {
        at: u64,
        length: u32,
    },
    /// It ended, and the file could not take the answer.
    Held(Arc<Reply>),
    Forgotten,
}

#[derive(Debug)]
struct Inner {
    file: File,
    end: u64,
    slots: HashMap<CallId, Slot>,
    /// Whether a line may have been written in part, so that its place must be written again.
    torn: bool,
    /// Whether the file's name is durable too.
    named: bool,
    max_bytes: u64,
    kept_bytes: u64,
}

/// The journal.
#[derive(Debug)]
pub struct Journal {
    folder: OwnedFd,
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Journal {
    /// Opens or makes the journal in a folder.
    pub fn open(folder: OwnedFd) -> Result<Self, JournalError> {
        Self::with_limits(folder, MAX_JOURNAL_BYTES, KEPT_JOURNAL_BYTES)
    }

    fn with_limits(folder: OwnedFd, max_bytes: u64, kept_bytes: u64) -> Result<Self, JournalError> {
        let file = open_file(&folder, NAME, OFlags::empty())?;
        let (slots, end) = scan(&file)?;
        // A torn end goes, for certain, before anything is written over it. A file that is new is made durable with
        // its first line, so that a guest is quick to answer.
        if file.metadata()?.len() != end {
            file.set_len(end)?;
            file.sync_all()?;
        }
        let inner = Inner { file, end, slots, torn: false, named: end > 0, max_bytes, kept_bytes };
        Ok(Self { folder, inner: Mutex::new(inner), changed: Condvar::new() })
    }

    /// Begins a call. `intent` is made durable first; without one the call is safe to repeat and is noted only
    /// when it ends. A call that another thread is at is waited for.
    pub fn begin(&self, call: CallId, intent: Option<&Intent>) -> Result<Begun, JournalError> {
        let mut inner = self.lock();
        loop {
            match inner.slots.get(&call).cloned() {
                None => break,
                Some(Slot::Running) => {
                    inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                }
                Some(Slot::Began(intent)) => {
                    inner.slots.insert(call, Slot::Running);
                    return Ok(Begun::Again(intent));
                }
                Some(Slot::Ended { at, length }) => return Ok(Begun::Answered(inner.read(at, length)?)),
                Some(Slot::Held(reply)) => return Ok(Begun::Answered(Reply::clone(&reply))),
                Some(Slot::Forgotten) => {
                    let message = "this call ended so long ago that its answer is no longer kept".to_owned();
                    return Ok(Begun::Answered(Reply::Error { code: "io".into(), message }));
                }
            }
        }
        if inner.slots.len() >= MAX_CALLS {
            return Err(JournalError::Full);
        }
        if let Some(intent) = intent {
            inner.append(&self.folder, &Line::Began { call, intent: intent.clone() })?;
        }
        inner.slots.insert(call, Slot::Running);
        Ok(Begun::Fresh)
    }

    /// Notes what a running call is about to do, once that is known.
    pub fn intend(&self, call: CallId, intent: &Intent) -> Result<(), JournalError> {
        self.lock().append(&self.folder, &Line::Began { call, intent: intent.clone() }).map(drop)
    }

    /// Gives a call up that has done nothing: it may be asked for anew.
    pub fn abandon(&self, call: CallId) {
        self.lock().slots.remove(&call);
        self.changed.notify_all();
    }

    /// Ends a call. The answer holds even if it could not be made durable; then a crash would forget it, and
    /// what began would be told as interrupted.
    pub fn end(&self, call: CallId, reply: &Reply) -> Result<(), JournalError> {
        let mut inner = self.lock();
        let line = Line::Ended { call, reply: reply.clone() };
        let result = inner.append(&self.folder, &line);
        let slot = match &result {
            Ok((at, length)) => Slot::Ended { at: *at, length: *length },
            Err(_) => Slot::Held(Arc::new(reply.clone())),
        };
        inner.slots.insert(call, slot);
        if inner.end > inner.max_bytes {
            // Failing to shrink is no failure of this call; the next one tries again.
            let _ = inner.shrink(&self.folder);
        }
        drop(inner);
        self.changed.notify_all();
        result.map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_file(folder: &OwnedFd, name: &str, flags: OFlags) -> Result<File, JournalError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | flags;
    let mode = Mode::RUSR | Mode::WUSR;
    let fd = rustix::fs::openat(folder, name, flags, mode).map_err(io::Error::from)?;
    rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).map_err(|_| JournalError::InUse)?;
    Ok(fd.into())
}

fn encode(line: &Line) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(line)?;
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = Vec::with_capacity(body.len() + 8);
    bytes.extend(length.to_le_bytes());
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    Ok(bytes)
}

/// A line is an answer (within a frame) and some framing.
const MAX_LINE: u64 = MAX_FRAME as u64 + 1024;

fn scan(file: &File) -> Result<(HashMap<CallId, Slot>, u64), JournalError> {
    let size = file.metadata()?.len();
    let mut reader = io::BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    let mut slots = HashMap::new();
    let mut at = 0;
    let mut body = Vec::new();
    while at + HEAD <= size {
        let mut head = [0; HEAD_BYTES];
        reader.read_exact(&mut head)?;
        let [l0, l1, l2, l3, c0, c1, c2, c3] = head;
        let (length, sum) = (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([c0, c1, c2, c3]));
        let after = at + HEAD + u64::from(length);
        if u64::from(length) > MAX_LINE && after <= size {
            return Err(JournalError::Damaged { at });
        }
        if after > size {
            // The length runs past the end: the last write was torn.
            break;
        }
        body.clear();
        (&mut reader).take(length.into()).read_to_end(&mut body)?;
        let line = if crc32fast::hash(&body) == sum { serde_json::from_slice::<Line>(&body).ok() } else { None };
        match line {
            Some(Line::Began { call, intent }) => slots.insert(call, Slot::Began(intent)),
            Some(Line::Ended { call, .. }) => slots.insert(call, Slot::Ended { at, length }),
            Some(Line::Forgot { call }) => slots.insert(call, Slot::Forgotten),
            None if after == size => break,
            None => return Err(JournalError::Damaged { at }),
        };
        at = after;
    }
    Ok((slots, at))
}

impl Inner {
    fn append(&mut self, folder: &OwnedFd, line: &Line) -> Result<(u64, u32), JournalError> {
        let bytes = encode(line)?;
        let at = self.end;
        if self.torn {
            self.file.set_len(at)?;
            self.torn = false;
        }
        self.torn = true;
        self.file.write_all_at(&bytes, at)?;
        self.file.sync_data()?;
        if !self.named {
            rustix::fs::fsync(folder).map_err(io::Error::from)?;
            self.named = true;
        }
        self.torn = false;
        self.end = at + bytes.len() as u64;
        Ok((at, u32::try_from(bytes.len() - 8).unwrap_or(u32::MAX)))
    }

    fn read(&self, at: u64, length: u32) -> Result<Reply, JournalError> {
        let mut body = vec![0; length as usize];
        self.file.read_exact_at(&mut body, at + HEAD)?;
        match serde_json::from_slice(&body).map_err(io::Error::from)? {
            Line::Ended { reply, .. } => Ok(reply),
            Line::Began { .. } | Line::Forgot { .. } => Err(JournalError::Damaged { at }),
        }
    }

    /// Writes the journal anew: every id, and the newest answers as far as they fit.
    fn shrink(&mut self, folder: &OwnedFd) -> Result<(), JournalError> {
        let mut ended: Vec<(u64, u32, CallId)> = Vec::new();
        let mut lines = Vec::new();
        for (call, slot) in &self.slots {
            match slot {
                Slot::Ended { at, length } => ended.push((*at, *length, *call)),
                Slot::Began(intent) => lines.push(Line::Began { call: *call, intent: intent.clone() }),
                // Began and still at it: only its intent matters to a later boot, and that is never safe to repeat.
                Slot::Running => lines.push(Line::Began { call: *call, intent: Intent::Once }),
                Slot::Held(reply) => lines.push(Line::Ended { call: *call, reply: Reply::clone(reply) }),
                Slot::Forgotten => lines.push(Line::Forgot { call: *call }),
            }
        }
        ended.sort_unstable_by_key(|(at, ..)| std::cmp::Reverse(*at));
        let mut room = self.kept_bytes;
        for (at, length, call) in ended {
            if room >= u64::from(length) {
                room -= u64::from(length);
                lines.push(Line::Ended { call, reply: self.read(at, length)? });
            } else {
                room = 0;
                lines.push(Line::Forgot { call });
            }
        }
        let file = open_file(folder, FRESH, OFlags::TRUNC)?;
        let mut writer = io::BufWriter::new(&file);
        for line in &lines {
            writer.write_all(&encode(line)?)?;
        }
        writer.flush()?;
        drop(writer);
        file.sync_all()?;
        rustix::fs::renameat(folder, FRESH, folder, NAME).map_err(io::Error::from)?;
        rustix::fs::fsync(folder).map_err(io::Error::from)?;
        let running: Vec<CallId> =
            self.slots.iter().filter(|(_, slot)| matches!(slot, Slot::Running)).map(|(call, _)| *call).collect();
        let (slots, end) = scan(&file)?;
        (self.file, self.slots, self.end) = (file, slots, end);
        self.slots.extend(running.into_iter().map(|call| (call, Slot::Running)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder(path: &std::path::Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    fn call(n: u8) -> CallId {
        CallId::from_bytes([n; 16])
    }

    fn text(text: &str) -> Reply {
        Reply::Text { text: text.into(), truncated: false }
    }

    #[test]
    fn what_ended_is_answered_and_what_only_began_is_told_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder(dir.path())).unwrap();
        assert!(matches!(journal.begin(call(1), Some(&Intent::Once)), Ok(Begun::Fresh)));
        journal.end(call(1), &text("one")).unwrap();
        assert!(matches!(journal.begin(call(2), Some(&Intent::Once)), Ok(Begun::Fresh)));
        assert!(matches!(Journal::open(folder(dir.path())), Err(JournalError::InUse)));
        drop(journal);
        let journal = Journal::open(folder(dir.path())).unwrap();
        assert!(matches!(journal.begin(call(1), None), Ok(Begun::Answered(reply)) if reply == text("one")));
        assert!(matches!(journal.begin(call(2), None), Ok(Begun::Again(Intent::Once))));
        assert!(matches!(journal.begin(call(3), None), Ok(Begun::Fresh)));
    }

    #[test]
    fn a_torn_end_is_cut_and_damage_before_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let journal = Journal::open(folder(dir.path())).unwrap();
        for n in 0..3 {
            journal.begin(call(n), Some(&Intent::Once)).unwrap();
            journal.end(call(n), &text("answer")).unwrap();
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            Journal::open(folder(dir.path())).expect("a torn end is no damage");
        }
        let mut damaged = whole.clone();
        damaged[12] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(Journal::open(folder(dir.path())), Err(JournalError::Damaged { at: 0 })));
    }

    #[test]
    fn above_its_limit_it_forgets_old_answers_but_no_call() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::with_limits(folder(dir.path()), 4_000, 1_000).unwrap();
        journal.begin(call(200), Some(&Intent::Once)).unwrap();
        for n in 0..100 {
            journal.begin(call(n), Some(&Intent::Once)).unwrap();
            journal.end(call(n), &text(&"x".repeat(100))).unwrap();
        }
        assert!(std::fs::metadata(dir.path().join(NAME)).unwrap().len() < 12_000);
        assert!(matches!(journal.begin(call(99), None), Ok(Begun::Answered(Reply::Text { .. }))));
        drop(journal);
        let journal = Journal::open(folder(dir.path())).unwrap();
        assert!(matches!(journal.begin(call(0), None), Ok(Begun::Answered(Reply::Error { .. }))));
        assert!(matches!(journal.begin(call(200), None), Ok(Begun::Again(Intent::Once))));
    }

    #[test]
    fn a_call_that_another_thread_is_at_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder(dir.path())).unwrap();
        journal.begin(call(1), Some(&Intent::Once)).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| journal.begin(call(1), Some(&Intent::Once)).unwrap());
            journal.end(call(1), &text("once")).unwrap();
            assert!(matches!(waiting.join().unwrap(), Begun::Answered(reply) if reply == text("once")));
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_file_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(NAME), &bytes).unwrap();
            let _ = Journal::open(folder(dir.path()));
        }
    }
}
