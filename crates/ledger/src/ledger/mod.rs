//! One producer's ledger over a [`Log`].
//!
//! It owns the numbering of records, the tree over them, and the knowledge of which deeds are open. It refuses to write a record
//! that could not be read back, to close a deed twice, and to go on over a log in which records are missing.
//!
//! *Invariants.* When [`Ledger::open`] returns, the record and all content it covers are on the disk; only then does the caller get its permit
//! back. If it fails, the permit is gone and nothing was recorded. Numbers have no gaps whatever fails. If a caller's future is dropped while it
//! waits, the record may stand all the same: it is then one of [`Ledger::unclosed`], and the reaper closes it.

mod draft;
mod state;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use stockade_domain::{
    ContextValue, Decision, Deed, Nanos, Usage, World,
    ids::{ApprovalId, ProjectId, RecordId, RunId},
};
use tokio::sync::oneshot;

use self::{
    draft::{Draft, SaveState, references},
    state::{OpenDeed, Saved},
};
use crate::{
    Body, Checkpoint, DeedFacts, EntryKind, Log, LogEntry, LogError, Outcome, Producer, Record, RecordError, Sealed,
    SignedNote, SigningKey, Tree, VerifyingKey, leaf_hash, log::Haste,
};

/// The file beside the log's segments from which a restart takes up the tree.
pub const STATE_FILE: &str = "ledger.state";
/// The state is written again after so many records: so many at most are read back at a start.
pub const SAVE_EVERY: u64 = 4096;

/// Why the ledger refuses.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The log. The source says what happened and what to try.
    #[error("the record could not be made durable, so the deed must not happen")]
    Log(#[from] LogError),
    /// The record.
    #[error("the record cannot be written")]
    Record(#[from] RecordError),
    /// The record is not open.
    #[error("{of} is not open: it was closed before, or this ledger never opened it")]
    AlreadyClosed {
        /// The opening record.
        of: RecordId,
    },
    /// There is one already.
    #[error("the log in {dir} has a ledger already")]
    Attached {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A record in the log cannot be read.
    #[error("the entry at position {position} of the log is no record of this version")]
    Unreadable {
        /// Where.
        position: u64,
        /// Why.
        source: RecordError,
    },
    /// A record in the log is somebody else's.
    #[error("the log holds the ledger of {found}, not of {expected}: it is another producer's directory")]
    OtherProducer {
        /// Who opens it.
        expected: Producer,
        /// Whose it is.
        found: Producer,
    },
    /// Records are missing.
    #[error(
        "the record at position {position} of the log has number {found}, expected {expected}: records are missing"
    )]
    Sequence {
        /// Where.
        position: u64,
        /// The number that was expected.
        expected: u64,
        /// The number that was found.
        found: u64,
    },
    /// The log's end was cut off from outside.
    #[error("the log ends at position {end}, but had {known} entries when {path} was written: records are missing")]
    LogTooShort {
        /// Where it ends.
        end: u64,
        /// How far it had come.
        known: u64,
        /// The state file.
        path: PathBuf,
    },
    /// The log does not reach back to its beginning, and the state from which to take it up is not there.
    #[error("the log begins at position {start} and {path} is missing or damaged: restore it from a backup")]
    StateLost {
        /// Where it begins.
        start: u64,
        /// The state file.
        path: PathBuf,
    },
    /// The state file.
    #[error("cannot {doing} {path}")]
    State {
        /// What was tried.
        doing: &'static str,
        /// The state file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How a deed ended.
#[derive(Debug, Clone)]
pub struct Closing {
    /// In a word.
    pub outcome: Outcome,
    /// What it used, if it was a model call.
    pub usage: Option<Usage>,
    /// What it cost, if it cost.
    pub cost: Option<Nanos>,
    /// What else is to be said of it: mechanism, never content.
    pub facts: BTreeMap<String, ContextValue>,
    /// What came of it.
    pub contents: Vec<Sealed>,
}

impl Closing {
    /// It ended like this, used nothing and left no content.
    pub const fn new(outcome: Outcome) -> Self {
        Self { outcome, usage: None, cost: None, facts: BTreeMap::new(), contents: Vec::new() }
    }
}

/// A permit whose record is durable: what an effect asks for.
#[derive(Debug)]
#[must_use = "an opened record must be closed, or a restart will call its outcome unknown"]
pub struct Opened<P> {
    record: RecordId,
    permit: P,
}

impl<P> Opened<P> {
    /// The opening record.
    pub const fn record(&self) -> RecordId {
        self.record
    }

    /// The permit.
    pub const fn permit(&self) -> &P {
        &self.permit
    }

    /// The permit, to be used up.
    pub fn into_permit(self) -> P {
        self.permit
    }
}

/// What the writer's thread needs of a ledger.
struct Core {
    producer: Producer,
    world: Arc<dyn World>,
    path: PathBuf,
    needed: Arc<AtomicU64>,
    state: Mutex<State>,
}

struct State {
    /// Over all durable records.
    tree: Tree,
    /// Over those too that are just being written.
    pending: Tree,
    open: HashMap<RecordId, OpenDeed>,
    /// The log's end as of `tree`.
    position: u64,
    since_saved: u64,
}

impl Core {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A group that ends at `end` is durable, with `records` more records of ours.
    fn advance(&self, end: u64, records: u64) {
        let mut state = self.state();
        state.tree = state.pending.clone();
        state.position = end;
        state.since_saved += records;
        let due = state.since_saved >= SAVE_EVERY;
        drop(state);
        if due && let Err(e) = self.save() {
            // Nothing is lost: a start reads more. It is tried again after as many records.
            tracing::warn!(error = %e, "the ledger's state was not saved");
            self.state().since_saved = 0;
        }
    }

    /// Makes the state durable. Only the writer's thread calls this, between groups.
    fn save(&self) -> Result<(), LedgerError> {
        let saved = {
            let mut state = self.state();
            state.since_saved = 0;
            let mut open: Vec<_> = state.open.values().cloned().collect();
            open.sort_by_key(|deed| deed.seq);
            Saved::new(self.producer, state.position, state.tree.clone(), open)
        };
        let failed = |source| LedgerError::State { doing: "write", path: self.path.clone(), source };
        saved.save(&self.path).map_err(failed)?;
        self.needed.store(saved.position, Ordering::Release);
        Ok(())
    }
}

/// One producer's ledger.
pub struct Ledger {
    log: Arc<Log>,
    key: SigningKey,
    core: Arc<Core>,
}

impl Ledger {
    /// Takes up the ledger where the log ends: reads the records since the state was last saved. Reads files.
    pub fn start(
        log: Arc<Log>,
        producer: Producer,
        key: SigningKey,
        world: Arc<dyn World>,
    ) -> Result<Self, LedgerError> {
        if !log.attach() {
            return Err(LedgerError::Attached { dir: log.dir().to_owned() });
        }
        let path = log.dir().join(STATE_FILE);
        let core = take_up(&log, producer, &path).map(|state| {
            let needed = log.needed();
            Arc::new(Core { producer, world, path, needed, state: Mutex::new(state) })
        });
        match core.and_then(|core| core.save().map(|()| core)) {
            Ok(core) => Ok(Self { log, key, core }),
            Err(e) => {
                log.detach();
                Err(e)
            }
        }
    }

    /// Whose it is.
    pub fn producer(&self) -> Producer {
        self.core.producer
    }

    /// The log below.
    pub const fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The key with which its checkpoints verify.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.public()
    }

    /// How many records are durable.
    pub fn size(&self) -> u64 {
        self.core.state().tree.size()
    }

    /// Records that a deed begins: record and contents are durable when this returns. Fails for a decision that is
    /// not an allowance only in what the record then says; that a permit exists is the proof that it may be done.
    pub async fn open<P>(
        &self,
        deed: &Deed,
        decision: &Decision,
        contents: Vec<Sealed>,
        permit: P,
    ) -> Result<Opened<P>, LedgerError> {
        self.open_with(deed, decision, contents, permit, Vec::new()).await
    }

    /// The same, with more entries in the same batch: all are durable, or none.
    pub async fn open_with<P>(
        &self,
        deed: &Deed,
        decision: &Decision,
        contents: Vec<Sealed>,
        permit: P,
        extra: Vec<LogEntry>,
    ) -> Result<Opened<P>, LedgerError> {
        let facts = DeedFacts::from(deed);
        let about = about(&facts);
        let body = Body::Open { deed: facts, decision: decision.clone(), contents: references(&contents) };
        let record = self.write(about, body, &contents, extra).await?;
        Ok(Opened { record, permit })
    }

    /// Records that a deed was refused.
    pub async fn refuse(
        &self,
        deed: &Deed,
        decision: &Decision,
        contents: Vec<Sealed>,
    ) -> Result<RecordId, LedgerError> {
        self.refuse_with(deed, decision, contents, Vec::new()).await
    }

    /// The same, with more entries in the same batch.
    pub async fn refuse_with(
        &self,
        deed: &Deed,
        decision: &Decision,
        contents: Vec<Sealed>,
        extra: Vec<LogEntry>,
    ) -> Result<RecordId, LedgerError> {
        let facts = DeedFacts::from(deed);
        let about = about(&facts);
        let body = Body::Refused { deed: facts, decision: decision.clone(), contents: references(&contents) };
        self.write(about, body, &contents, extra).await
    }

    /// Records that a deed waits for a person.
    pub async fn asked(
        &self,
        deed: &Deed,
        decision: &Decision,
        approval: ApprovalId,
        contents: Vec<Sealed>,
    ) -> Result<RecordId, LedgerError> {
        self.asked_with(deed, decision, approval, contents, Vec::new()).await
    }

    /// The same, with more entries in the same batch.
    pub async fn asked_with(
        &self,
        deed: &Deed,
        decision: &Decision,
        approval: ApprovalId,
        contents: Vec<Sealed>,
        extra: Vec<LogEntry>,
    ) -> Result<RecordId, LedgerError> {
        let facts = DeedFacts::from(deed);
        let about = about(&facts);
        let contents_of = references(&contents);
        let body = Body::Asked { deed: facts, decision: decision.clone(), approval, contents: contents_of };
        self.write(about, body, &contents, extra).await
    }

    /// Records how a deed ended, once: a second close of the same record is [`LedgerError::AlreadyClosed`], and
    /// nothing of it, not even its content, is written.
    pub async fn close(&self, of: RecordId, closing: Closing) -> Result<RecordId, LedgerError> {
        self.close_with(of, closing, Vec::new()).await
    }

    /// The same, with more entries in the same batch.
    pub async fn close_with(
        &self,
        of: RecordId,
        closing: Closing,
        extra: Vec<LogEntry>,
    ) -> Result<RecordId, LedgerError> {
        self.end(of, closing, extra, Haste::Now).await
    }

    /// The same without haste: it waits for what comes next, for [`PATIENCE`](crate::PATIENCE) at most, so that both are one
    /// write. For whoever has already given what it had to give, and goes on with nothing.
    pub async fn close_in_passing(
        &self,
        of: RecordId,
        closing: Closing,
        extra: Vec<LogEntry>,
    ) -> Result<RecordId, LedgerError> {
        self.end(of, closing, extra, Haste::None).await
    }

    async fn end(
        &self,
        of: RecordId,
        closing: Closing,
        extra: Vec<LogEntry>,
        haste: Haste,
    ) -> Result<RecordId, LedgerError> {
        let Closing { outcome, usage, cost, facts, contents } = closing;
        let body = Body::Close { of, outcome, usage, cost, facts, contents: references(&contents) };
        self.write_with((None, None), body, &contents, extra, haste).await
    }

    /// Records something that is no deed. `facts` are mechanism, never content.
    pub async fn note(
        &self,
        code: &str,
        run: Option<RunId>,
        facts: BTreeMap<String, ContextValue>,
    ) -> Result<RecordId, LedgerError> {
        self.note_with(code, run, facts, Vec::new(), Vec::new()).await
    }

    /// The same, with content and more entries in the same batch.
    pub async fn note_with(
        &self,
        code: &str,
        run: Option<RunId>,
        facts: BTreeMap<String, ContextValue>,
        contents: Vec<Sealed>,
        extra: Vec<LogEntry>,
    ) -> Result<RecordId, LedgerError> {
        let body = Body::Note { code: code.to_owned(), facts, contents: references(&contents) };
        self.write((run, None), body, &contents, extra).await
    }

    /// Deeds that were opened and not closed, oldest first.
    pub fn unclosed(&self) -> Vec<(RecordId, DeedFacts, Option<RunId>)> {
        let mut open: Vec<_> = self.core.state().open.values().cloned().collect();
        open.sort_by_key(|deed| deed.seq);
        open.into_iter().map(|deed| (deed.record, deed.deed, deed.run)).collect()
    }

    /// The signed checkpoint of all durable records.
    pub fn checkpoint(&self) -> SignedNote {
        let (size, root) = {
            let state = self.core.state();
            (state.tree.size(), state.tree.root())
        };
        let origin = Checkpoint::origin_of(&self.core.producer);
        Checkpoint { origin: origin.clone(), size, root }.sign(&origin, &self.key)
    }

    /// Makes the state durable from which a restart takes up, so that the log's older entries can be forgotten.
    pub async fn save_state(&self) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.log.stage(Box::new(SaveState { core: Arc::clone(&self.core), reply }), 0, Haste::Now).await?;
        answer.await.map_err(|_| LogError::Closed)?
    }

    async fn write(
        &self,
        about: (Option<RunId>, Option<ProjectId>),
        body: Body,
        contents: &[Sealed],
        extra: Vec<LogEntry>,
    ) -> Result<RecordId, LedgerError> {
        self.write_with(about, body, contents, extra, Haste::Now).await
    }

    async fn write_with(
        &self,
        about: (Option<RunId>, Option<ProjectId>),
        body: Body,
        contents: &[Sealed],
        extra: Vec<LogEntry>,
        haste: Haste,
    ) -> Result<RecordId, LedgerError> {
        let contents: Vec<_> = contents.iter().map(LogEntry::content).collect();
        self.log.check_extra(&extra)?;
        if contents.len() + extra.len() >= crate::MAX_BATCH_ENTRIES {
            return Err(LogError::BatchTooLarge.into());
        }
        let bytes = contents.iter().chain(&extra).map(|entry| entry.payload.len() + 5).sum::<usize>() + TYPICAL_RECORD;
        let (reply, answer) = oneshot::channel();
        let draft = Draft::new(Arc::clone(&self.core), about, body, (contents, extra), reply);
        self.log.stage(Box::new(draft), bytes, haste).await?;
        answer.await.map_err(|_| LogError::Closed)?
    }
}

/// What a record weighs in the log's queue, in bytes.
const TYPICAL_RECORD: usize = 1024;

impl Drop for Ledger {
    fn drop(&mut self) {
        self.log.detach();
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("producer", &self.core.producer).field("log", &self.log).finish_non_exhaustive()
    }
}

fn about(facts: &DeedFacts) -> (Option<RunId>, Option<ProjectId>) {
    (facts.run(), facts.resource.project)
}

/// The state at the end of the log: what was saved, and the records since.
fn take_up(log: &Log, producer: Producer, path: &std::path::Path) -> Result<State, LedgerError> {
    let (start, end) = (log.start(), log.end());
    let saved = Saved::load(path)?;
    let (tree, open, from) = match saved {
        Some(saved) => {
            if saved.producer != producer {
                return Err(LedgerError::OtherProducer { expected: producer, found: saved.producer });
            }
            if saved.position > end {
                return Err(LedgerError::LogTooShort { end, known: saved.position, path: path.to_owned() });
            }
            if saved.position < start {
                return Err(LedgerError::StateLost { start, path: path.to_owned() });
            }
            (saved.tree, saved.open, saved.position)
        }
        None if start == 0 => (Tree::new(), Vec::new(), 0),
        None => return Err(LedgerError::StateLost { start, path: path.to_owned() }),
    };
    let open = open.into_iter().map(|deed| (deed.record, deed)).collect();
    let mut state = State { pending: tree.clone(), tree, open, position: end, since_saved: 0 };
    let mut failed = None;
    log.read_while(from, |position, entry| {
        if entry.kind != EntryKind::Record {
            return ControlFlow::Continue(());
        }
        match replay(&mut state, producer, position, &entry.payload) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                failed = Some(e);
                ControlFlow::Break(())
            }
        }
    })?;
    state.pending = state.tree.clone();
    failed.map_or(Ok(state), Err)
}

fn replay(state: &mut State, producer: Producer, position: u64, canonical: &[u8]) -> Result<(), LedgerError> {
    let record = Record::parse(canonical).map_err(|source| LedgerError::Unreadable { position, source })?;
    if record.producer != producer {
        return Err(LedgerError::OtherProducer { expected: producer, found: record.producer });
    }
    let expected = state.tree.size();
    if record.seq != expected {
        return Err(LedgerError::Sequence { position, expected, found: record.seq });
    }
    state.tree.append(leaf_hash(canonical));
    let Record { id, seq, run, project, body, .. } = record;
    match body {
        Body::Open { deed, .. } => drop(state.open.insert(id, OpenDeed { record: id, seq, run, project, deed })),
        Body::Close { of, .. } => drop(state.open.remove(&of)),
        Body::Refused { .. } | Body::Asked { .. } | Body::Note { .. } => {}
    }
    Ok(())
}
