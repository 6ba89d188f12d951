//! The file beside the log from which a restart takes up the tree and the open deeds, so that it need not read
//! everything and shipped entries can be forgotten.
//!
//! It is the CRC-32 of what follows in eight hexadecimal digits, a line feed, and JSON. It is replaced by renaming, so it is always
//! whole. *Invariant:* it tells only of what was durable in the log before it was written; a log that ends before its
//! position has lost records.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};
use stockade_domain::ids::{ProjectId, RecordId, RunId};

use super::{DeedFacts, LedgerError, Producer};
use crate::{Tree, keyfile::sync_parent};

const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    pub producer: Producer,
    /// All entries of the log before this position are in the tree.
    pub position: u64,
    pub tree: Tree,
    pub open: Vec<OpenDeed>,
}

/// A deed that was opened and not closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenDeed {
    pub record: RecordId,
    pub seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    pub deed: DeedFacts,
}

impl Saved {
    pub(super) const fn new(producer: Producer, position: u64, tree: Tree, open: Vec<OpenDeed>) -> Self {
        Self { version: VERSION, producer, position, tree, open }
    }

    /// Replaces the file, durably.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        let next = path.with_extension("state.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(format!("{:08x}\n", crc32fast::hash(&json)).as_bytes())?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        sync_parent(path)
    }

    /// Reads the file. Nothing if there is none, or if it does not check.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, LedgerError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LedgerError::State { doing: "read", path: path.to_owned(), source }),
        };
        let saved = parse(&bytes);
        if saved.is_none() {
            tracing::warn!(path = %path.display(), "the ledger's state does not check: rebuilding it from the log");
        }
        Ok(saved)
    }
}

fn parse(bytes: &[u8]) -> Option<Saved> {
    let (crc, rest) = bytes.split_first_chunk::<8>()?;
    let json = rest.strip_prefix(b"\n")?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    let saved: Saved = (crc == crc32fast::hash(json)).then(|| serde_json::from_slice(json).ok())??;
    (saved.version == VERSION).then_some(saved)
}
