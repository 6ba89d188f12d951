//! The rows of the ledgers: this server's own and the runners'. The canonical bytes are the record; the other columns
//! only help to find it.

use stockade_domain::{
    Action, Digest, Timestamp,
    ids::{ProjectId, RecordId, RunId, ServerId},
};

use crate::{Page, Paged, Result, Tx};

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Who made it: a runner's or a server's identifier as text.
    pub producer: String,
    /// Its number in the producer's ledger, from 0.
    pub seq: u64,
    /// Which.
    pub id: RecordId,
    /// When, by the producer's clock.
    pub at: Timestamp,
    /// The canonical bytes, UTF-8 JSON.
    pub canonical: String,
}

/// A producer's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerState {
    /// Whose.
    pub producer: String,
    /// How many records.
    pub size: u64,
    /// The root hash over all of them.
    pub root: Digest,
    /// The last checkpoint, a signed note; empty if there is none.
    pub note: String,
    /// The number of records it covers.
    pub note_size: u64,
}

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only of this project.
    pub project: Option<ProjectId>,
    /// Only by this principal (identifier as text; a user's also finds what agents did for that person).
    pub principal: Option<String>,
    /// Only this action.
    pub action: Option<Action>,
    /// Only of this producer.
    pub producer: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Only where this text occurs in the record, whatever the case.
    pub text: Option<String>,
}

/// One record.
pub async fn get(tx: &mut Tx, id: RecordId) -> Result<StoredRecord> {
    todo!()
}

/// Records, newest first.
pub async fn list(tx: &mut Tx, filter: &RecordFilter, page: &Page) -> Result<Paged<StoredRecord>> {
    todo!()
}

/// Records of one producer in order, from number `from`, at most `limit`.
pub async fn export(tx: &mut Tx, producer: &str, from: u64, limit: u32) -> Result<Vec<StoredRecord>> {
    todo!()
}

/// The leaf hashes of one producer in order, from number `from`, at most `limit`: for inclusion proofs.
pub async fn leaf_hashes(tx: &mut Tx, producer: &str, from: u64, limit: u32) -> Result<Vec<Digest>> {
    todo!()
}

/// All ledgers.
pub async fn ledgers(tx: &mut Tx) -> Result<Vec<LedgerState>> {
    todo!()
}

/// One ledger; empty if the producer has none yet.
pub async fn ledger(tx: &mut Tx, producer: &str) -> Result<LedgerState> {
    todo!()
}

/// Keeps a checkpoint (a signed note, already verified and counter-signed by the caller) that covers `size` records.
/// An older one than the last is passed over: false.
pub async fn set_checkpoint(tx: &mut Tx, producer: &str, size: u64, note: &str, now: Timestamp) -> Result<bool> {
    todo!()
}
