//! Offline verification of an export (being filled in).

use std::io::BufRead;

use serde::Serialize;
use stockade_domain::{Digest, ids::RecordId};

use crate::{Producer, VerifyingKey};

/// The longest line of an export, in bytes. A longer one is refused.
pub const MAX_EXPORT_LINE_BYTES: usize = 96 * 1024 * 1024;

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// For each ledger in the export.
    pub producers: Vec<ProducerReport>,
    /// How many sealed pieces of content came along and are what the records say.
    pub contents: u64,
}

/// What was verified of one ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProducerReport {
    /// Whose.
    pub producer: Producer,
    /// How many records.
    pub records: u64,
    /// The size that the last checkpoint signs.
    pub size: u64,
    /// The root that it signs.
    pub root: Digest,
    /// How many checkpoints were checked.
    pub checkpoints: u64,
    /// Who has signed the last one.
    pub signatures: Vec<SignatureReport>,
    /// Deeds that were opened and not closed.
    pub unclosed: Vec<RecordId>,
}

/// A signature that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureReport {
    /// Who.
    pub name: String,
    /// With which key.
    pub key: VerifyingKey,
    /// Whether the caller knew the key; else it came with the export and is worth comparing.
    pub known: bool,
}

/// What is wrong with an export.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is empty.
    #[error("this is no export")]
    NotAnExport,
}

/// Verifies an export with the keys that are in it.
pub fn verify(reader: impl BufRead) -> Result<Report, VerifyError> {
    verify_with_keys(reader, &[])
}

/// The same; a key of a name in `known` must be the one given there.
pub fn verify_with_keys(_reader: impl BufRead, _known: &[(String, VerifyingKey)]) -> Result<Report, VerifyError> {
    Err(VerifyError::NotAnExport)
}
