//! Verification of an export, offline: nothing is asked of anybody.
//!
//! For every ledger in the export it checks that the records are numbered without gaps, that each is in canonical form and
//! hashes to what the export says, that every checkpoint's root is that of the records up to its size, that the last
//! checkpoint covers all of them, and that the producer (and whoever else has signed with a known key) signed it. The error names the ledger and the
//! record: changed, removed, inserted, reordered or truncated.
//!
//! *What it cannot know:* whether the keys in the export are the right ones. Whoever has them from elsewhere hands
//! them in with [`verify_with_keys`]; else the report shows them for comparison.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    io::{self, BufRead, Read},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use stockade_domain::{Digest, ids::RecordId};

use crate::{
    Body, Checkpoint, ExportLine, MAX_CONTENT_BYTES, NoteError, Producer, Record, RecordError, SignedNote, Tree,
    VerifyingKey, export::FORMAT, leaf_hash, sha256,
};

/// The longest line of an export, in bytes. A longer one is refused.
pub const MAX_EXPORT_LINE_BYTES: usize = 96 * 1024 * 1024;
/// The most ledgers in an export. One with more is refused.
pub const MAX_EXPORT_PRODUCERS: usize = 10_000;
/// The most keys in an export. One with more is refused.
pub const MAX_EXPORT_KEYS: usize = 20_000;
/// The most checkpoints of one ledger in an export. One with more is refused.
pub const MAX_EXPORT_CHECKPOINTS: usize = 1_000_000;

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// For each ledger in the export.
    pub producers: Vec<ProducerReport>,
    /// How many sealed pieces of content came along. Each is what some record covers, bit for bit.
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

/// A signature that was checked and holds.
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
    /// It could not be read.
    #[error("the export cannot be read")]
    Io(#[from] io::Error),
    /// It does not begin as an export.
    #[error("this is no export: the first line is not a `{FORMAT}` header")]
    NotAnExport,
    /// A line is not what a line of an export looks like.
    #[error("line {line} is no line of an export: {why}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// Why.
        why: String,
    },
    /// There is more of something than is read.
    #[error("the export has more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are read.
        max: usize,
    },
    /// There is no record and no checkpoint.
    #[error("the export holds nothing to verify")]
    Empty,
    /// A record is not what was signed.
    #[error("record {seq} of {producer} was changed: it does not hash to what its line says")]
    Changed {
        /// Whose ledger.
        producer: Producer,
        /// The record's number.
        seq: u64,
    },
    /// A record's bytes are not a record's.
    #[error("line {line} holds a record that was changed, or none at all")]
    Unreadable {
        /// Which line, from 1.
        line: u64,
        /// Why.
        source: RecordError,
    },
    /// A record is missing, and later ones are there.
    #[error("record {seq} of {producer} was removed")]
    Removed {
        /// Whose ledger.
        producer: Producer,
        /// The first missing number.
        seq: u64,
    },
    /// A record is there that does not belong there.
    #[error("record {seq} of {producer} was inserted: {why}")]
    Inserted {
        /// Whose ledger.
        producer: Producer,
        /// The number.
        seq: u64,
        /// How one sees that.
        why: &'static str,
    },
    /// All records are there, in another order.
    #[error("the records of {producer} were reordered: number {found} stands where {expected} belongs")]
    Reordered {
        /// Whose ledger.
        producer: Producer,
        /// The number that belongs there.
        expected: u64,
        /// The number that stands there.
        found: u64,
    },
    /// The end is missing.
    #[error("the ledger of {producer} was truncated: {found} records are there, {signed} were signed")]
    Truncated {
        /// Whose ledger.
        producer: Producer,
        /// How many are there.
        found: u64,
        /// How many the checkpoint signs.
        signed: u64,
    },
    /// Nobody has signed this ledger.
    #[error("there is no checkpoint of the ledger of {producer}: nothing shows that it is whole")]
    MissingCheckpoint {
        /// Whose ledger.
        producer: Producer,
    },
    /// The checkpoint names another ledger.
    #[error("a checkpoint said to be of {producer} is of `{origin}`")]
    OtherOrigin {
        /// Whose ledger.
        producer: Producer,
        /// What the checkpoint says.
        origin: String,
    },
    /// The checkpoint does not fit the records.
    #[error(
        "the checkpoint of {producer} at {size} records does not fit the records from number {since} on: one of them \
         was changed together with its hash, or the checkpoint is of another tree"
    )]
    OtherTree {
        /// Whose ledger.
        producer: Producer,
        /// The checkpoint's size.
        size: u64,
        /// Up to here, an earlier checkpoint fits.
        since: u64,
    },
    /// A signature does not hold, or the producer's is missing.
    #[error("the checkpoint of {producer} at {size} records is not to be believed")]
    Signature {
        /// Whose ledger.
        producer: Producer,
        /// The checkpoint's size.
        size: u64,
        /// What is wrong.
        source: NoteError,
    },
    /// The producer's key is not known.
    #[error("there is no key called `{name}`: the checkpoint of {producer} cannot be checked")]
    MissingKey {
        /// Whose ledger.
        producer: Producer,
        /// The key's name.
        name: String,
    },
    /// The export's key is not the one that the caller knows.
    #[error("the export brings another key for `{name}` than the one that is known: {found} instead of {expected}")]
    OtherKey {
        /// The key's name.
        name: String,
        /// The known one.
        expected: VerifyingKey,
        /// The export's.
        found: VerifyingKey,
    },
    /// A piece of content is not what its line says.
    #[error("line {line} holds content that was changed")]
    ContentChanged {
        /// Which line, from 1.
        line: u64,
    },
    /// A piece of content that no record covers.
    #[error("the export holds content {digest} that no record covers")]
    ForeignContent {
        /// Of the sealed bytes.
        digest: Digest,
    },
}

/// Verifies an export with the keys that are in it.
pub fn verify(reader: impl BufRead) -> Result<Report, VerifyError> {
    verify_with_keys(reader, &[])
}

/// The same; a key in the export whose name is in `known` must be the one given there.
pub fn verify_with_keys(mut reader: impl BufRead, known: &[(String, VerifyingKey)]) -> Result<Report, VerifyError> {
    let mut seen = Seen::new(known);
    let mut text = String::new();
    for number in 1.. {
        text.clear();
        let limit = MAX_EXPORT_LINE_BYTES as u64 + 1;
        let read = reader.by_ref().take(limit).read_line(&mut text);
        let read = read.map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => VerifyError::Line { line: number, why: "it is no UTF-8".to_owned() },
            _ => VerifyError::Io(e),
        })?;
        if read > MAX_EXPORT_LINE_BYTES {
            return Err(VerifyError::Line { line: number, why: format!("longer than {MAX_EXPORT_LINE_BYTES} bytes") });
        }
        if read == 0 {
            break;
        }
        let line = serde_json::from_str(text.trim_end_matches('\n'));
        match (number, line) {
            (1, Ok(ExportLine::Header { format, .. })) if format == FORMAT => {}
            (1, _) => return Err(VerifyError::NotAnExport),
            (_, Ok(line)) => seen.line(number, line)?,
            (_, Err(e)) => return Err(VerifyError::Line { line: number, why: e.to_string() }),
        }
        if number == 1 {
            seen.begun = true;
        }
    }
    seen.report()
}

/// What stands in an export, as far as it has been read.
struct Seen<'a> {
    begun: bool,
    known: &'a [(String, VerifyingKey)],
    keys: HashMap<String, VerifyingKey>,
    ledgers: BTreeMap<Producer, Seems>,
    covered: HashSet<Digest>,
    contents: HashSet<Digest>,
}

/// One ledger, as it seems to be.
#[derive(Default)]
struct Seems {
    /// Number and hash of each record, in the order of lines.
    leaves: Vec<(u64, Digest)>,
    checkpoints: Vec<SignedNote>,
    /// Opened and not closed; the number keeps them in order.
    open: HashMap<RecordId, u64>,
}

impl<'a> Seen<'a> {
    fn new(known: &'a [(String, VerifyingKey)]) -> Self {
        let keys = known.iter().cloned().collect();
        let (ledgers, covered, contents) = (BTreeMap::new(), HashSet::new(), HashSet::new());
        Self { begun: false, known, keys, ledgers, covered, contents }
    }

    fn ledger(&mut self, producer: Producer) -> Result<&mut Seems, VerifyError> {
        if self.ledgers.len() >= MAX_EXPORT_PRODUCERS && !self.ledgers.contains_key(&producer) {
            return Err(VerifyError::TooMany { what: "ledgers", max: MAX_EXPORT_PRODUCERS });
        }
        Ok(self.ledgers.entry(producer).or_default())
    }

    fn line(&mut self, number: u64, line: ExportLine) -> Result<(), VerifyError> {
        match line {
            ExportLine::Header { .. } => Err(VerifyError::Line { line: number, why: "a second header".to_owned() }),
            ExportLine::Key { name, key } => self.key(name, key),
            ExportLine::Record { leaf, canonical } => self.record(number, leaf, &canonical),
            ExportLine::Checkpoint { producer, note } => {
                let origin = &note.checkpoint().origin;
                if *origin != Checkpoint::origin_of(&producer) {
                    return Err(VerifyError::OtherOrigin { producer, origin: origin.clone() });
                }
                let ledger = self.ledger(producer)?;
                if ledger.checkpoints.len() >= MAX_EXPORT_CHECKPOINTS {
                    return Err(VerifyError::TooMany {
                        what: "checkpoints of one ledger",
                        max: MAX_EXPORT_CHECKPOINTS,
                    });
                }
                ledger.checkpoints.push(note);
                Ok(())
            }
            ExportLine::Content { kind: _, digest, sealed } => {
                let bytes = STANDARD.decode(sealed).ok().filter(|bytes| bytes.len() <= MAX_CONTENT_BYTES + 1024);
                if bytes.is_none_or(|bytes| sha256(&[&bytes]) != digest) {
                    return Err(VerifyError::ContentChanged { line: number });
                }
                self.contents.insert(digest);
                Ok(())
            }
        }
    }

    fn key(&mut self, name: String, found: VerifyingKey) -> Result<(), VerifyError> {
        if self.keys.len() >= MAX_EXPORT_KEYS {
            return Err(VerifyError::TooMany { what: "keys", max: MAX_EXPORT_KEYS });
        }
        match self.keys.get(&name) {
            Some(expected) if *expected != found => Err(VerifyError::OtherKey { name, expected: *expected, found }),
            _ => {
                self.keys.insert(name, found);
                Ok(())
            }
        }
    }

    fn record(&mut self, line: u64, leaf: Digest, canonical: &str) -> Result<(), VerifyError> {
        let record = Record::parse(canonical.as_bytes()).map_err(|source| VerifyError::Unreadable { line, source })?;
        let (producer, seq) = (record.producer, record.seq);
        if leaf_hash(canonical.as_bytes()) != leaf {
            return Err(VerifyError::Changed { producer, seq });
        }
        self.covered.extend(record.contents().iter().map(|content| content.digest));
        let ledger = self.ledger(producer)?;
        ledger.leaves.push((seq, leaf));
        match record.body {
            Body::Open { .. } => drop(ledger.open.insert(record.id, seq)),
            Body::Close { of, .. } => drop(ledger.open.remove(&of)),
            Body::Refused { .. } | Body::Asked { .. } | Body::Note { .. } => {}
        }
        Ok(())
    }

    fn report(self) -> Result<Report, VerifyError> {
        if !self.begun {
            return Err(VerifyError::NotAnExport);
        }
        if self.ledgers.is_empty() {
            return Err(VerifyError::Empty);
        }
        if let Some(digest) = self.contents.iter().find(|digest| !self.covered.contains(digest)) {
            return Err(VerifyError::ForeignContent { digest: *digest });
        }
        let contents = self.contents.len() as u64;
        let check = |(producer, ledger)| ledger_report(producer, ledger, &self.keys, self.known);
        let producers = self.ledgers.into_iter().map(check).collect::<Result<_, _>>()?;
        Ok(Report { producers, contents })
    }
}

fn ledger_report(
    producer: Producer,
    ledger: Seems,
    keys: &HashMap<String, VerifyingKey>,
    known: &[(String, VerifyingKey)],
) -> Result<ProducerReport, VerifyError> {
    check_order(producer, &ledger.leaves)?;
    let records = ledger.leaves.len() as u64;
    let mut notes = ledger.checkpoints;
    notes.sort_by_key(|note| note.checkpoint().size);
    let Some(last) = notes.last() else { return Err(VerifyError::MissingCheckpoint { producer }) };
    let signed = last.checkpoint().size;
    let mut signatures = Vec::new();
    let mut tree = Tree::new();
    let mut leaves = ledger.leaves.iter();
    for note in &notes {
        let Checkpoint { size, root, .. } = *note.checkpoint();
        // Signatures first: a forged checkpoint is to be called that, not a changed record.
        signatures = check_signatures(producer, note, keys, known)?;
        if records < size {
            return Err(VerifyError::Truncated { producer, found: records, signed: size });
        }
        let since = tree.size();
        leaves.by_ref().take(usize::try_from(size - since).unwrap_or(usize::MAX)).for_each(|(_, leaf)| {
            tree.append(*leaf);
        });
        if tree.root() != root {
            return Err(VerifyError::OtherTree { producer, size, since });
        }
    }
    if records > signed {
        let why = "it comes after the last checkpoint";
        return Err(VerifyError::Inserted { producer, seq: signed, why });
    }
    let mut unclosed: Vec<_> = ledger.open.into_iter().collect();
    unclosed.sort_by_key(|(_, seq)| *seq);
    Ok(ProducerReport {
        producer,
        records,
        size: signed,
        root: tree.root(),
        checkpoints: notes.len() as u64,
        signatures,
        unclosed: unclosed.into_iter().map(|(record, _)| record).collect(),
    })
}

/// Numbers must be 0, 1, 2, … in the order of lines. If they are not, says what was done to them.
fn check_order(producer: Producer, leaves: &[(u64, Digest)]) -> Result<(), VerifyError> {
    let Some((expected, found)) = (0..).zip(leaves.iter().map(|(seq, _)| *seq)).find(|(want, seq)| want != seq) else {
        return Ok(());
    };
    let mut sorted: Vec<_> = leaves.iter().map(|(seq, _)| *seq).collect();
    sorted.sort_unstable();
    if let Some(seq) = sorted.windows(2).find_map(|pair| (pair.first() == pair.last()).then(|| pair.first()).flatten())
    {
        return Err(VerifyError::Inserted { producer, seq: *seq, why: "there are two of this number" });
    }
    match (0..).zip(&sorted).find(|(want, seq)| want != *seq) {
        Some((seq, _)) => Err(VerifyError::Removed { producer, seq }),
        None => Err(VerifyError::Reordered { producer, expected, found }),
    }
}

/// The producer must have signed; whoever else's key is here and whose name is under the note must have signed too.
fn check_signatures(
    producer: Producer,
    note: &SignedNote,
    keys: &HashMap<String, VerifyingKey>,
    known: &[(String, VerifyingKey)],
) -> Result<Vec<SignatureReport>, VerifyError> {
    let size = note.checkpoint().size;
    let own = Checkpoint::origin_of(&producer);
    if !keys.contains_key(&own) {
        return Err(VerifyError::MissingKey { producer, name: own });
    }
    let mut names: Vec<&str> = vec![&own];
    names.extend(note.signatures().iter().map(|signature| signature.name.as_str()).filter(|name| *name != own));
    names.dedup();
    let mut checked = Vec::new();
    for (name, key) in names.into_iter().filter_map(|name| Some((name, keys.get(name)?))) {
        note.verify(name, key).map_err(|source| VerifyError::Signature { producer, size, source })?;
        let known = known.iter().any(|(other, _)| other == name);
        checked.push(SignatureReport { name: name.to_owned(), key: *key, known });
    }
    Ok(checked)
}

/// Some lines for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ledger in &self.producers {
            writeln!(f, "{}: {} records, whole and unchanged", ledger.producer, ledger.records)?;
            writeln!(f, "  root {} at {} records, {} checkpoints", ledger.root, ledger.size, ledger.checkpoints)?;
            for SignatureReport { name, key, known } in &ledger.signatures {
                let trust = if *known { "a key you know" } else { "a key from this export: compare it" };
                writeln!(f, "  signed by {name} with {key} ({trust})")?;
            }
            if !ledger.unclosed.is_empty() {
                writeln!(f, "  {} deeds have no end yet", ledger.unclosed.len())?;
            }
        }
        writeln!(f, "{} sealed pieces of content, each as recorded", self.contents)
    }
}
