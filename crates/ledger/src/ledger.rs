//! One producer's ledger over a log (being filled in).

use std::{collections::BTreeMap, sync::Arc};

use stockade_domain::{
    ContextValue, Decision, Deed, Nanos, Usage, World,
    ids::{ApprovalId, RecordId, RunId},
};

use crate::{DeedFacts, Log, LogEntry, LogError, Outcome, Producer, RecordError, Sealed, SignedNote, SigningKey};

/// The most bytes of facts in a note, keys and values together.
pub const MAX_FACTS_BYTES: usize = 16 * 1024;
/// The file beside the log's segments from which a restart takes up the tree.
pub const STATE_FILE: &str = "ledger.state";

/// Why the ledger refuses.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The log.
    #[error("the record could not be made durable")]
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
}

/// How a deed ended.
#[derive(Debug)]
pub struct Closing {
    /// In a word.
    pub outcome: Outcome,
    /// What it used.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: Option<Nanos>,
    /// What came of it.
    pub contents: Vec<Sealed>,
}

/// A permit whose record is durable.
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

/// One producer's ledger.
#[derive(Debug)]
pub struct Ledger {
    log: Arc<Log>,
    producer: Producer,
    key: SigningKey,
}

#[expect(clippy::unused_async, unused_variables, reason = "signatures first")]
impl Ledger {
    /// Takes up the ledger where the log ends.
    pub fn start(
        log: Arc<Log>,
        producer: Producer,
        key: SigningKey,
        world: Arc<dyn World>,
    ) -> Result<Self, LedgerError> {
        Ok(Self { log, producer, key })
    }
    /// Whose it is.
    pub const fn producer(&self) -> Producer {
        self.producer
    }
    /// The log below.
    pub const fn log(&self) -> &Arc<Log> {
        &self.log
    }
    /// The key that signs its checkpoints.
    pub fn verifying_key(&self) -> crate::VerifyingKey {
        self.key.public()
    }
    /// Records that a deed begins; durable on return.
    pub async fn open<P>(
        &self,
        deed: &Deed,
        decision: &Decision,
        contents: Vec<Sealed>,
        permit: P,
    ) -> Result<Opened<P>, LedgerError> {
        self.open_with(deed, decision, contents, permit, Vec::new()).await
    }
    /// The same with more entries in the same batch.
    pub async fn open_with<P>(
        &self,
        deed: &Deed,
        decision: &Decision,
        contents: Vec<Sealed>,
        permit: P,
        extra: Vec<LogEntry>,
    ) -> Result<Opened<P>, LedgerError> {
        Err(LogError::Closed.into())
    }
    /// Records a refusal.
    pub async fn refuse(
        &self,
        deed: &Deed,
        decision: &Decision,
        contents: Vec<Sealed>,
    ) -> Result<RecordId, LedgerError> {
        self.refuse_with(deed, decision, contents, Vec::new()).await
    }
    /// The same with more entries in the same batch.
    pub async fn refuse_with(
        &self,
        deed: &Deed,
        decision: &Decision,
        contents: Vec<Sealed>,
        extra: Vec<LogEntry>,
    ) -> Result<RecordId, LedgerError> {
        Err(LogError::Closed.into())
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
    /// The same with more entries in the same batch.
    pub async fn asked_with(
        &self,
        deed: &Deed,
        decision: &Decision,
        approval: ApprovalId,
        contents: Vec<Sealed>,
        extra: Vec<LogEntry>,
    ) -> Result<RecordId, LedgerError> {
        Err(LogError::Closed.into())
    }
    /// Records how a deed ended.
    pub async fn close(&self, of: RecordId, closing: Closing) -> Result<RecordId, LedgerError> {
        self.close_with(of, closing, Vec::new()).await
    }
    /// The same with more entries in the same batch.
    pub async fn close_with(
        &self,
        of: RecordId,
        closing: Closing,
        extra: Vec<LogEntry>,
    ) -> Result<RecordId, LedgerError> {
        Err(LogError::Closed.into())
    }
    /// Records something that is no deed.
    pub async fn note(
        &self,
        code: &str,
        run: Option<RunId>,
        facts: BTreeMap<String, ContextValue>,
    ) -> Result<RecordId, LedgerError> {
        self.note_with(code, run, facts, Vec::new(), Vec::new()).await
    }
    /// The same with content and more entries in the same batch.
    pub async fn note_with(
        &self,
        code: &str,
        run: Option<RunId>,
        facts: BTreeMap<String, ContextValue>,
        contents: Vec<Sealed>,
        extra: Vec<LogEntry>,
    ) -> Result<RecordId, LedgerError> {
        Err(LogError::Closed.into())
    }
    /// Deeds that were opened and not closed, oldest first.
    pub fn unclosed(&self) -> Vec<(RecordId, DeedFacts, Option<RunId>)> {
        Vec::new()
    }
    /// The signed checkpoint of all durable records.
    pub fn checkpoint(&self) -> SignedNote {
        crate::Checkpoint {
            origin: crate::Checkpoint::origin_of(&self.producer),
            size: 0,
            root: crate::Tree::new().root(),
        }
        .sign(&crate::Checkpoint::origin_of(&self.producer), &self.key)
    }
    /// Makes the state durable from which a restart takes up, so that older entries can be forgotten.
    pub async fn save_state(&self) -> Result<(), LedgerError> {
        Ok(())
    }
}
