//! The export format `stockade-export-1`: one JSON object a line, readable by anybody, verifiable without a server.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use stockade_domain::{ContentKind, Digest, Timestamp};

use crate::{Producer, Sealed, SignedNote, VerifyingKey, leaf_hash};

/// What the header says.
pub const FORMAT: &str = "stockade-export-1";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ExportLine {
    /// The first line.
    Header {
        /// [`FORMAT`].
        format: String,
        /// When it was made.
        at: Timestamp,
    },
    /// A key that signs checkpoints.
    Key {
        /// Its name under checkpoints.
        name: String,
        /// The key.
        key: VerifyingKey,
    },
    /// A record. Those of one producer stand in their order; those of several may be mixed.
    Record {
        /// Its hash as a leaf of the tree, by which a change can be laid at one record.
        leaf: Digest,
        /// Its canonical bytes.
        canonical: String,
    },
    /// A checkpoint.
    Checkpoint {
        /// Whose log it is of.
        producer: Producer,
        /// The signed note.
        note: SignedNote,
    },
    /// A sealed piece of content that some record covers.
    Content {
        /// What it is.
        kind: ContentKind,
        /// Of the sealed bytes.
        digest: Digest,
        /// The sealed bytes, base64.
        sealed: String,
    },
}

impl ExportLine {
    /// The first line of every export.
    pub fn header(at: Timestamp) -> Self {
        Self::Header { format: FORMAT.to_owned(), at }
    }

    /// The line for a record, from its canonical bytes. Bytes that are no UTF-8 are no record and verify as changed.
    pub fn record(canonical: &[u8]) -> Self {
        Self::Record { leaf: leaf_hash(canonical), canonical: String::from_utf8_lossy(canonical).into_owned() }
    }

    /// The line for a sealed piece of content.
    pub fn content(sealed: &Sealed) -> Self {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let content = sealed.content;
        Self::Content { kind: content.kind, digest: content.digest, sealed: STANDARD.encode(&sealed.bytes) }
    }

    /// The line as text, with its line feed.
    pub fn to_line(&self) -> String {
        // These types always serialize: their keys are texts and their values texts and integers.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// Writes an export.
#[derive(Debug)]
pub struct Exporter<W> {
    out: W,
}

impl<W: Write> Exporter<W> {
    /// Begins one: writes the header.
    pub fn new(mut out: W, at: Timestamp) -> io::Result<Self> {
        out.write_all(ExportLine::header(at).to_line().as_bytes())?;
        Ok(Self { out })
    }

    /// Writes a line.
    pub fn line(&mut self, line: &ExportLine) -> io::Result<()> {
        self.out.write_all(line.to_line().as_bytes())
    }

    /// Writes a record from its canonical bytes.
    pub fn record(&mut self, canonical: &[u8]) -> io::Result<()> {
        self.line(&ExportLine::record(canonical))
    }

    /// Writes a checkpoint.
    pub fn checkpoint(&mut self, producer: Producer, note: SignedNote) -> io::Result<()> {
        self.line(&ExportLine::Checkpoint { producer, note })
    }

    /// Writes a key.
    pub fn key(&mut self, name: &str, key: VerifyingKey) -> io::Result<()> {
        self.line(&ExportLine::Key { name: name.to_owned(), key })
    }

    /// Writes a sealed piece of content.
    pub fn content(&mut self, sealed: &Sealed) -> io::Result<()> {
        self.line(&ExportLine::content(sealed))
    }

    /// Ends it and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
