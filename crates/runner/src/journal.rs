//! The journal of one run: sealed entries, each durable before anything follows from it.
//!
//! Owns the file's form (length, sealed bytes), its limits and what is done about a torn end. It refuses to know what the
//! entries mean. *Invariant:* an entry that was acknowledged is there after any crash, in its place; what a crash cut off at
//! the end was never acknowledged and is removed; anything else that cannot be read is an error, never skipped.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use stockade_agent::Input;
use stockade_domain::{
    ContentKind, ContentRef, Digest, EnvironmentClass, EventKind, Nanos, Timestamp, Usage, World,
    ids::{ApprovalId, CallId, EnvironmentId, RecordId},
};
use stockade_ledger::RunKey;

use crate::{
    files,
    workspace::{Base, Commission, Stat},
};

/// The largest entry, sealed, in bytes. A larger one is refused before anything follows from it.
pub const MAX_ENTRY: usize = 48 * 1024 * 1024;

/// Why a journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk.
    #[error("cannot use the journal `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An entry in the middle cannot be opened, or is out of place.
    #[error("entry {number} of the journal `{}` is damaged: {why}; the run cannot go on", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Which entry, from 1.
        number: u64,
        /// What is wrong.
        why: String,
    },
    /// It is larger than an entry may be.
    #[error("an entry of {0} bytes is larger than an entry of a journal may be ({MAX_ENTRY})")]
    TooLarge(usize),
    /// It cannot be sealed.
    #[error("an entry of the journal cannot be sealed: {0}")]
    Seal(String),
}

/// One entry: what the agent was told, what the runner itself must remember, and what follows from it outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Its number in the run, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What the agent is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// What the runner remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// The number that the first of `events` has in the run.
    pub first_seq: u64,
    /// What is told about it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventKind>,
    /// The record that ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close: Option<Close>,
    /// Sealed content that goes with the events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<Held>,
}

/// How a record is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// Which.
    pub record: RecordId,
    /// `ok`, `error`, `unknown` or `cancelled`.
    pub status: EndStatus,
    /// A fixed word, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
    /// What it cost.
    #[serde(default)]
    pub cost: Nanos,
}

/// How a deed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndStatus {
    /// It was done.
    Ok,
    /// It failed.
    Error,
    /// Nobody knows.
    Unknown,
    /// A person ended it.
    Cancelled,
}

/// A sealed piece of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What it is.
    pub content: ContentRef,
    /// The sealed bytes, base64.
    pub sealed: String,
}

/// About what a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum About {
    /// A tool call.
    Call {
        /// Which.
        call: CallId,
    },
    /// The change: the n-th that the agent wanted opened.
    Change {
        /// From 1.
        number: u32,
    },
    /// A model call.
    Model {
        /// What would be said.
        request: Digest,
    },
}

/// What the runner itself must remember of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// The run is taken; its environment is being made.
    Taken {
        /// In which environment.
        environment: EnvironmentId,
        /// Its class, as it was then: what is promised of an environment when it is made holds until its end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<Box<EnvironmentClass>>,
    },
    /// On what it stands.
    Based {
        /// The commit.
        base: Base,
        /// The repository it is from, and into which alone the change may go.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
    },
    /// It waits for an answer.
    Asked {
        /// To what.
        approval: ApprovalId,
        /// About what.
        #[serde(flatten)]
        about: About,
        /// Of the deed with all its circumstances: a yes to it is no yes to another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deed: Option<Digest>,
        /// When silence becomes a no.
        expires_at: Timestamp,
    },
    /// The answer was taken note of.
    Answered {
        /// To what.
        approval: ApprovalId,
        /// Yes or no.
        granted: bool,
    },
    /// A person is asked something; the reply with this number answers.
    Questioned {
        /// The reply's number.
        reply: u64,
    },
    /// That reply has arrived.
    Replied {
        /// The reply's number.
        reply: u64,
    },
    /// A commit is made and may be opened.
    Committed {
        /// Which.
        change: Box<Change>,
    },
    /// The run is over in a way that a person may take back.
    Over {},
    /// A person has taken it back.
    Again {},
    /// Nothing but its events.
    Aside {},
}

/// A commit on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The how-many-th that the agent wanted opened, from 1.
    pub number: u32,
    /// The tree.
    pub tree: String,
    /// The commit.
    pub commit: String,
    /// What it was made of.
    pub commission: Commission,
    /// Its size.
    pub stat: Stat,
    /// Its diff.
    pub diff: Held,
    /// Whether gates ran and passed.
    pub gated: bool,
}

/// The journal's file, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Arc<File>,
    key: Arc<RunKey>,
    next: u64,
    len: u64,
}

impl Journal {
    /// Opens a journal, or makes it, and gives what it holds.
    pub fn open(path: &Path, key: Arc<RunKey>) -> Result<(Self, Vec<Entry>), JournalError> {
        let failed = |source| JournalError::File { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        files::sync_parent(path).map_err(failed)?;
        let (entries, good) = read(path, &file, &key)?;
        let len = file.metadata().map_err(failed)?.len();
        if len > good {
            tracing::warn!(journal = %path.display(), bytes = len - good, "cut {} bytes off that a crash left", len - good);
            file.set_len(good).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        let next = entries.len() as u64 + 1;
        Ok((Self { path: path.to_owned(), file: Arc::new(file), key, next, len: good }, entries))
    }

    /// The number of the next entry.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Appends an entry; it is durable when this returns.
    pub async fn append(&mut self, world: &dyn World, entry: &Entry) -> Result<(), JournalError> {
        let plain = serde_json::to_vec(entry).map_err(|e| JournalError::Seal(e.to_string()))?;
        let sealed =
            self.key.seal(world, ContentKind::Transcript, &plain).map_err(|e| JournalError::Seal(e.to_string()))?.bytes;
        let len = u32::try_from(sealed.len()).ok().filter(|len| *len as usize <= MAX_ENTRY);
        let len = len.ok_or(JournalError::TooLarge(sealed.len()))?;
        let mut frame = Vec::with_capacity(sealed.len() + 4);
        frame.extend_from_slice(&len.to_be_bytes());
        frame.extend_from_slice(&sealed);
        let (file, at) = (Arc::clone(&self.file), self.len);
        let written = frame.len() as u64;
        let wrote = tokio::task::spawn_blocking(move || {
            // Always at the known end: what an earlier failed attempt left there is overwritten.
            (&*file).seek(SeekFrom::Start(at))?;
            (&*file).write_all(&frame)?;
            file.set_len(at + frame.len() as u64)?;
            file.sync_data()
        })
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)));
        wrote.map_err(|source| JournalError::File { path: self.path.clone(), source })?;
        self.len += written;
        self.next += 1;
        Ok(())
    }
}

/// Reads a journal without opening it for writing: for transcripts.
pub fn read_entries(path: &Path, key: &RunKey) -> Result<Vec<Entry>, JournalError> {
    let file = File::open(path).map_err(|source| JournalError::File { path: path.to_owned(), source })?;
    Ok(read(path, &file, key)?.0)
}

fn read(path: &Path, mut file: &File, key: &RunKey) -> Result<(Vec<Entry>, u64), JournalError> {
    let failed = |source| JournalError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    file.read_to_end(&mut bytes).map_err(failed)?;
    let mut rest = bytes.as_slice();
    let mut entries: Vec<Entry> = Vec::new();
    let mut good = 0;
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let len = u32::from_be_bytes(*head) as usize;
        let Some((sealed, after)) = (len <= MAX_ENTRY).then_some(tail).and_then(|t| t.split_at_checked(len)) else {
            break;
        };
        let number = entries.len() as u64 + 1;
        let opened = key
            .open(ContentKind::Transcript, sealed)
            .map_err(|e| e.to_string())
            .and_then(|plain| serde_json::from_slice::<Entry>(&plain).map_err(|e| e.to_string()));
        match opened {
            Ok(entry) if entry.number == number => entries.push(entry),
            Ok(entry) => {
                let why = format!("it says that it is entry {}", entry.number);
                return Err(JournalError::Damaged { path: path.to_owned(), number, why });
            }
            // The last write may have been torn within its length.
            Err(_) if after.is_empty() => break,
            Err(why) => return Err(JournalError::Damaged { path: path.to_owned(), number, why }),
        }
        good += 4 + len as u64;
        rest = after;
    }
    Ok((entries, good))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stockade_domain::Id;
    use stockade_ledger::SystemWorld;

    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            number,
            at: Timestamp(7),
            input: Some(Input::Tick {}),
            step: Some(Step::Aside {}),
            first_seq: number,
            events: vec![EventKind::Notice { code: "x".into() }],
            close: None,
            contents: vec![],
        }
    }

    async fn written(path: &Path, key: &Arc<RunKey>, count: u64) {
        let (mut journal, _) = Journal::open(path, Arc::clone(key)).unwrap();
        for number in journal.next()..=count {
            journal.append(&SystemWorld, &entry(number)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_a_crash_cut_off_is_removed_and_what_was_acknowledged_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let key = Arc::new(RunKey::generate(&SystemWorld, Id::from_bytes([1; 16])));
        written(&path, &key, 3).await;
        let whole = std::fs::read(&path).unwrap();
        assert!(!whole.windows(4).any(|w| w == b"tick"), "a journal is sealed");
        let second = read_entries(&path, &key).unwrap();
        assert_eq!(second.iter().map(|e| e.number).collect::<Vec<_>>(), [1, 2, 3]);
        for cut in 1..whole.len() / 3 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (journal, entries) = Journal::open(&path, Arc::clone(&key)).unwrap();
            assert_eq!((entries.len(), journal.next()), (2, 3), "cut by {cut}");
        }
        written(&path, &key, 3).await;
        assert_eq!(read_entries(&path, &key).unwrap().len(), 3);
    }

    #[tokio::test]
    async fn damage_before_the_end_and_another_key_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let key = Arc::new(RunKey::generate(&SystemWorld, Id::from_bytes([1; 16])));
        written(&path, &key, 3).await;
        let whole = std::fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[40] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(matches!(read_entries(&path, &key), Err(JournalError::Damaged { number: 1, .. })));
        // One entry left out: the next one is out of its place.
        let first = 4 + u32::from_be_bytes(whole[..4].try_into().unwrap()) as usize;
        std::fs::write(&path, &whole[first..]).unwrap();
        assert!(matches!(read_entries(&path, &key), Err(JournalError::Damaged { number: 1, .. })));
        std::fs::write(&path, &whole).unwrap();
        let other = RunKey::generate(&SystemWorld, Id::from_bytes([1; 16]));
        assert!(read_entries(&path, &other).is_err());
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            std::fs::write(&path, bytes).unwrap();
            let key = RunKey::generate(&SystemWorld, Id::from_bytes([1; 16]));
            let _ = read_entries(&path, &key);
        }
    }
}
