//! Exports, and what verification says to each way of lying.

use std::io::Write;

use proptest::prelude::*;
use stockade_domain::{Digest, Timestamp};
use stockade_ledger::{
    Checkpoint, EntryKind, ExportLine, Exporter, Ledger, Outcome, Producer, Record, SignedNote, SigningKey, Status,
    Tree, VerifyError, leaf_hash, prove, verify, verify_with_keys,
};

use crate::common::{decision, deed, open_ledger, producer};

/// Everything of a ledger.
pub fn write<W: Write>(ledger: &Ledger, export: &mut Exporter<W>) {
    export.key(&Checkpoint::origin_of(&ledger.producer()), ledger.verifying_key()).unwrap();
    for (_, entry) in ledger.log().read(0, usize::MAX, usize::MAX).unwrap() {
        if entry.kind == EntryKind::Record {
            export.record(&entry.payload).unwrap();
        }
    }
    export.checkpoint(ledger.producer(), ledger.checkpoint()).unwrap();
}

/// Lines of an export of a ledger with this many records, all of them honest, and the key.
struct Fixture {
    lines: Vec<ExportLine>,
    key: SigningKey,
}

const HEAD: usize = 2;

fn name() -> String {
    Checkpoint::origin_of(&producer())
}

fn note_over(leaves: &[Digest], key: &SigningKey) -> SignedNote {
    let mut tree = Tree::new();
    leaves.iter().for_each(|leaf| tree.append(*leaf));
    Checkpoint { origin: name(), size: tree.size(), root: tree.root() }.sign(&name(), key)
}

impl Fixture {
    fn new(records: u64) -> Self {
        let key = SigningKey::generate();
        let mut lines = vec![
            ExportLine::header(Timestamp(1_800_000_000_000_000)),
            ExportLine::Key { name: name(), key: key.public() },
        ];
        let mut leaves = Vec::new();
        for seq in 0..records {
            let canonical = record(seq, "sonnet").canonical();
            leaves.push(leaf_hash(&canonical));
            lines.push(ExportLine::record(&canonical));
        }
        lines.push(ExportLine::Checkpoint { producer: producer(), note: note_over(&leaves, &key) });
        Self { lines, key }
    }

    fn verify(&self) -> Result<stockade_ledger::Report, VerifyError> {
        let text: String = self.lines.iter().map(ExportLine::to_line).collect();
        verify(text.as_bytes())
    }
}

fn record(seq: u64, model: &str) -> Record {
    let mut deed = deed();
    deed.resource.id = model.into();
    Record {
        producer: producer(),
        seq,
        at: Timestamp(1_800_000_000_000_000),
        id: stockade_domain::ids::RecordId::from_parts(1_800_000_000_000 + seq, [9; 10]),
        run: deed.resource.run,
        project: None,
        body: stockade_ledger::Body::Refused { deed: (&deed).into(), decision: decision(), contents: vec![] },
    }
}

#[test]
fn an_honest_export_verifies() {
    for records in [0, 1, 2, 3, 9] {
        let fixture = Fixture::new(records);
        let report = fixture.verify().unwrap();
        assert_eq!((report.producers[0].records, report.producers[0].size), (records, records));
        assert!(!report.producers[0].signatures[0].known);
        assert!(report.to_string().contains("whole and unchanged"), "{report}");
    }
}

#[test]
fn a_changed_record_is_named() {
    let mut fixture = Fixture::new(9);
    let ExportLine::Record { canonical, .. } = &mut fixture.lines[HEAD + 4] else { panic!() };
    *canonical = canonical.replace("sonnet", "sonnex");
    assert!(matches!(fixture.verify(), Err(VerifyError::Changed { seq: 4, .. })));
}

#[test]
fn a_record_changed_together_with_its_hash_is_found_between_two_checkpoints() {
    let mut fixture = Fixture::new(9);
    let leaves: Vec<_> = (0..3).map(|seq| leaf_hash(&record(seq, "sonnet").canonical())).collect();
    fixture.lines.push(ExportLine::Checkpoint { producer: producer(), note: note_over(&leaves, &fixture.key) });
    assert!(fixture.verify().is_ok());
    fixture.lines[HEAD + 4] = ExportLine::record(&record(4, "opus").canonical());
    assert!(matches!(fixture.verify(), Err(VerifyError::OtherTree { size: 9, since: 3, .. })));
}

#[test]
fn a_record_that_is_no_record_any_more_is_found() {
    let mut fixture = Fixture::new(3);
    let ExportLine::Record { canonical, .. } = &mut fixture.lines[HEAD + 1] else { panic!() };
    canonical.push(' ');
    assert!(matches!(fixture.verify(), Err(VerifyError::Unreadable { line: 4, .. })));
}

#[test]
fn a_removed_record_is_named() {
    let mut fixture = Fixture::new(9);
    fixture.lines.remove(HEAD + 4);
    assert!(matches!(fixture.verify(), Err(VerifyError::Removed { seq: 4, .. })));
    let mut fixture = Fixture::new(9);
    fixture.lines.remove(HEAD);
    assert!(matches!(fixture.verify(), Err(VerifyError::Removed { seq: 0, .. })));
}

#[test]
fn an_inserted_record_is_named() {
    let mut fixture = Fixture::new(9);
    fixture.lines.insert(HEAD + 4, ExportLine::record(&record(4, "opus").canonical()));
    assert!(matches!(fixture.verify(), Err(VerifyError::Inserted { seq: 4, .. })));
    let mut fixture = Fixture::new(9);
    fixture.lines.push(ExportLine::record(&record(9, "opus").canonical()));
    assert!(matches!(fixture.verify(), Err(VerifyError::Inserted { seq: 9, .. })));
}

#[test]
fn reordered_records_are_named() {
    let mut fixture = Fixture::new(9);
    fixture.lines.swap(HEAD + 4, HEAD + 6);
    assert!(matches!(fixture.verify(), Err(VerifyError::Reordered { expected: 4, found: 6, .. })));
}

#[test]
fn a_truncated_ledger_is_named() {
    let mut fixture = Fixture::new(9);
    fixture.lines.drain(HEAD + 6..HEAD + 9);
    assert!(matches!(fixture.verify(), Err(VerifyError::Truncated { found: 6, signed: 9, .. })));
}

#[test]
fn a_wrong_signature_is_named() {
    let mut fixture = Fixture::new(3);
    let Some(ExportLine::Checkpoint { note, .. }) = fixture.lines.last_mut() else { panic!() };
    let text = note.to_string();
    let forged = text.replace("\n3\n", "\n2\n");
    *note = forged.parse().unwrap();
    assert!(matches!(fixture.verify(), Err(VerifyError::Signature { .. })));

    // Signed by somebody else under the producer's name.
    let mut fixture = Fixture::new(3);
    let leaves: Vec<_> = (0..3).map(|seq| leaf_hash(&record(seq, "sonnet").canonical())).collect();
    let note = note_over(&leaves, &SigningKey::generate());
    *fixture.lines.last_mut().unwrap() = ExportLine::Checkpoint { producer: producer(), note };
    assert!(matches!(fixture.verify(), Err(VerifyError::Signature { .. })));
}

#[test]
fn a_wrong_counter_signature_is_named() {
    let mut fixture = Fixture::new(3);
    let (server, other) = (SigningKey::generate(), SigningKey::generate());
    let Some(ExportLine::Checkpoint { note, .. }) = fixture.lines.last_mut() else { panic!() };
    note.add_signature("stockade/server", &server).unwrap();
    assert_eq!(fixture.verify().unwrap().producers[0].signatures.len(), 1);
    fixture.lines.push(ExportLine::Key { name: "stockade/server".into(), key: server.public() });
    assert_eq!(fixture.verify().unwrap().producers[0].signatures.len(), 2);
    *fixture.lines.last_mut().unwrap() = ExportLine::Key { name: "stockade/server".into(), key: other.public() };
    assert!(matches!(fixture.verify(), Err(VerifyError::Signature { .. })));
}

#[test]
fn a_missing_checkpoint_is_named() {
    let mut fixture = Fixture::new(3);
    fixture.lines.pop();
    assert!(matches!(fixture.verify(), Err(VerifyError::MissingCheckpoint { .. })));
}

#[test]
fn a_checkpoint_of_another_tree_is_named() {
    let mut fixture = Fixture::new(3);
    let leaves: Vec<_> = (0..3).map(|seq| leaf_hash(&record(seq, "opus").canonical())).collect();
    let note = note_over(&leaves, &fixture.key);
    *fixture.lines.last_mut().unwrap() = ExportLine::Checkpoint { producer: producer(), note };
    assert!(matches!(fixture.verify(), Err(VerifyError::OtherTree { size: 3, since: 0, .. })));

    let mut fixture = Fixture::new(3);
    let checkpoint = Checkpoint { origin: "stockade/rnr_other".into(), size: 3, root: Digest([0; 32]) };
    let note = checkpoint.sign(&name(), &fixture.key);
    *fixture.lines.last_mut().unwrap() = ExportLine::Checkpoint { producer: producer(), note };
    assert!(matches!(fixture.verify(), Err(VerifyError::OtherOrigin { .. })));
}

#[test]
fn a_key_that_is_known_must_be_the_one() {
    let fixture = Fixture::new(3);
    let text: String = fixture.lines.iter().map(ExportLine::to_line).collect();
    let right = [(name(), fixture.key.public())];
    assert!(verify_with_keys(text.as_bytes(), &right).unwrap().producers[0].signatures[0].known);
    let wrong = [(name(), SigningKey::generate().public())];
    assert!(matches!(verify_with_keys(text.as_bytes(), &wrong), Err(VerifyError::OtherKey { .. })));

    let mut fixture = Fixture::new(3);
    fixture.lines.remove(1);
    assert!(matches!(fixture.verify(), Err(VerifyError::MissingKey { .. })));
    let text: String = fixture.lines.iter().map(ExportLine::to_line).collect();
    assert!(verify_with_keys(text.as_bytes(), &[(name(), fixture.key.public())]).is_ok());
}

#[test]
fn what_is_no_export_is_refused() {
    for text in ["", "\n", "{}", "hello", "{\"type\":\"header\",\"format\":\"stockade-export-2\",\"at\":1}"] {
        assert!(matches!(verify(text.as_bytes()), Err(VerifyError::NotAnExport)), "{text}");
    }
    let header = ExportLine::header(Timestamp(1)).to_line();
    assert!(matches!(verify(header.as_bytes()), Err(VerifyError::Empty)));
    for line in ["{}\n", "x\n", &header, "{\"type\":\"record\",\"canonical\":1}\n"] {
        assert!(
            matches!(verify(format!("{header}{line}").as_bytes()), Err(VerifyError::Line { line: 2, .. })),
            "{line}"
        );
    }
    assert!(matches!(verify([header.as_bytes(), b"\xff\xfe\n"].concat().as_slice()), Err(VerifyError::Line { .. })));
}

#[test]
fn changed_or_foreign_content_is_named() {
    use stockade_domain::ContentKind;
    use stockade_ledger::{RunKey, SystemWorld};
    let key = RunKey::generate(&SystemWorld, crate::common::run());
    let sealed = key.seal(&SystemWorld, ContentKind::Task, b"hello").unwrap();
    let mut fixture = Fixture::new(1);
    fixture.lines.push(ExportLine::content(&sealed));
    assert!(matches!(fixture.verify(), Err(VerifyError::ForeignContent { .. })));
    let Some(ExportLine::Content { digest, .. }) = fixture.lines.last_mut() else { panic!() };
    *digest = Digest([0; 32]);
    assert!(matches!(fixture.verify(), Err(VerifyError::ContentChanged { line: 5 })));
}

#[tokio::test]
async fn a_real_ledger_exports_verifies_and_proves() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_ledger(dir.path());
    let first = ledger.open(&deed(), &decision(), vec![], ()).await.unwrap();
    let second = ledger.open(&deed(), &decision(), vec![], ()).await.unwrap();
    ledger.close(first.record(), stockade_ledger::Closing::new(Outcome::new(Status::Ok))).await.unwrap();
    let mut export = Exporter::new(Vec::new(), Timestamp(1)).unwrap();
    write(&ledger, &mut export);
    let report = verify(export.finish().unwrap().as_slice()).unwrap();
    assert_eq!((report.producers[0].records, &report.producers[0].unclosed), (3, &vec![second.record()]));

    let canonical: Vec<_> = ledger.log().read(0, 10, usize::MAX).unwrap().into_iter().map(|(_, e)| e.payload).collect();
    let leaves: Vec<_> = canonical.iter().map(|bytes| leaf_hash(bytes)).collect();
    let note = ledger.checkpoint();
    let checkpoint = note.verify(&Checkpoint::origin_of(&ledger.producer()), &ledger.verifying_key()).unwrap();
    let proof = prove(&leaves, 1).unwrap();
    assert_eq!(proof.verify(&canonical[1], checkpoint), Ok(()));
    assert!(proof.verify(&canonical[0], checkpoint).is_err());
}

#[test]
fn ledgers_of_several_producers_may_be_mixed() {
    let mut fixture = Fixture::new(2);
    let other = Producer::from(stockade_domain::ids::ServerId::from_bytes([6; 16]));
    let origin = Checkpoint::origin_of(&other);
    let mut foreign = record(0, "opus");
    foreign.producer = other;
    let leaf = leaf_hash(&foreign.canonical());
    fixture.lines.insert(HEAD + 1, ExportLine::record(&foreign.canonical()));
    let note = Checkpoint { origin: origin.clone(), size: 1, root: leaf }.sign(&origin, &fixture.key);
    fixture.lines.push(ExportLine::Checkpoint { producer: other, note });
    fixture.lines.push(ExportLine::Key { name: origin, key: fixture.key.public() });
    assert_eq!(fixture.verify().unwrap().producers.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let header = ExportLine::header(Timestamp(1)).to_line();
        prop_assert!(verify(bytes.as_slice()).is_err());
        prop_assert!(verify([header.as_bytes(), &bytes].concat().as_slice()).is_err());
    }

    #[test]
    fn no_single_changed_byte_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0..8) {
        let fixture = Fixture::new(3);
        let text: String = fixture.lines.iter().map(ExportLine::to_line).collect();
        let mut bytes = text.clone().into_bytes();
        // The header's time and the spaces of JSON are covered by nothing: begin after the first line.
        let start = text.find('\n').unwrap() + 1;
        let at = start + at.index(bytes.len() - start - 1);
        bytes[at] ^= 1u8 << bit;
        prop_assert!(verify(bytes.as_slice()).is_err(), "byte {}", at);
    }
}
