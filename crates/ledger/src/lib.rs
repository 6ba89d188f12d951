//! The record: what was done, by whom, decided by what, in a form that nobody can quietly change.
//!
//! This crate owns:
//! * records and their canonical bytes ([`Record`]), the RFC 6962 tree over them ([`Tree`]) and signed
//!   checkpoints of it ([`Checkpoint`], [`SignedNote`]);
//! * sealing: content is encrypted with a key per run ([`RunKey`]), which is wrapped to the site's key
//!   ([`SiteKey`]), before it leaves the place that produced it;
//! * the durable [`Log`] that a runner spools into, and the [`Ledger`] of one producer over it, whose
//!   [`Ledger::open`] is durable before an effect may begin;
//! * exports and their verification without any server ([`export`], [`verify`]);
//! * the production [`SystemWorld`].
//!
//! It refuses: deciding, asking who somebody is, networks and databases.
//!
//! *Invariants.* A record that was acknowledged is on the disk. A record never carries content in plain
//! text, only digests of sealed bytes. A failed append acknowledges nothing and leaves no gap in the sequence.

mod canonical;
mod checkpoint;
pub mod export;
mod keyfile;
mod ledger;
mod log;
mod minute;
mod proof;
mod record;
mod seal;
mod sign;
mod tree;
mod verify;
mod world;

pub use checkpoint::{Checkpoint, MAX_NOTE_BYTES, MAX_NOTE_SIGNATURES, NoteError, NoteSignature, SignedNote};
pub use export::{ExportLine, Exporter};
pub use keyfile::{KeyFileError, MAX_KEY_FILE_BYTES};
pub use ledger::{Closing, Ledger, LedgerError, Opened, SAVE_EVERY, STATE_FILE};
pub use log::{
    EntryKind, Log, LogEntry, LogError, LogOptions, MAX_BATCH_BYTES, MAX_BATCH_ENTRIES, PATIENCE, QUEUE_BATCHES,
    QUEUE_BYTES, Recovered,
};
pub use minute::{Minute, RECORDED_A_MINUTE};
pub use proof::{Proof, ProofError, prove};
pub use record::{Body, DeedFacts, MAX_RECORD_BYTES, Outcome, Producer, ProducerError, Record, RecordError, Status};
pub use seal::{
    MAX_CONTENT_BYTES, RunKey, SealError, Sealed, SiteKey, SitePublicKey, WrappedKey, content_ref, sealed_run,
};
pub use sign::{KeyTextError, SigningKey, VerifyingKey};
pub use tree::{FrontierError, Tree, consistency_proof, leaf_hash, sha256, verify_consistency};
pub use verify::{
    MAX_EXPORT_CHECKPOINTS, MAX_EXPORT_KEYS, MAX_EXPORT_LINE_BYTES, MAX_EXPORT_PRODUCERS, ProducerReport, Report,
    SignatureReport, VerifyError, verify, verify_with_keys,
};
pub use world::SystemWorld;
