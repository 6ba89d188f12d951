//! The ledger over the log: numbering, closing once, restarts, forgetting.

use std::{collections::BTreeMap, fs, sync::Arc};

use stockade_domain::{
    ContentKind, ContextValue, Nanos, Usage,
    ids::{ApprovalId, RecordId, RunnerId},
};
use stockade_ledger::{
    Body, Checkpoint, Closing, EntryKind, Ledger, LedgerError, Log, LogEntry, LogError, LogOptions, Outcome, Record,
    RunKey, SAVE_EVERY, STATE_FILE, SignedNote, SigningKey, Status, SystemWorld, Tree,
};

use crate::common::{decision, deed, open_ledger, open_log, producer, run, world};

fn ok() -> Closing {
    Closing::new(Outcome::new(Status::Ok))
}

fn records(log: &Log) -> Vec<Record> {
    let entries = log.read(log.start(), usize::MAX, usize::MAX).unwrap().into_iter();
    let records = entries.filter(|(_, entry)| entry.kind == EntryKind::Record);
    records.map(|(_, entry)| Record::parse(&entry.payload).unwrap()).collect()
}

fn said(note: &SignedNote) -> (u64, stockade_domain::Digest) {
    (note.checkpoint().size, note.checkpoint().root)
}

/// The checkpoint must be that of the records in the log.
fn assert_true_to_the_log(ledger: &Ledger) {
    let mut tree = Tree::new();
    for (i, record) in records(ledger.log()).iter().enumerate() {
        assert_eq!(record.seq, i as u64);
        tree.append(record.leaf());
    }
    let note = ledger.checkpoint();
    note.verify(&Checkpoint::origin_of(&ledger.producer()), &ledger.verifying_key()).unwrap();
    assert_eq!(said(&note), (tree.size(), tree.root()));
}

/// How many frames the log's only segment has.
fn frames(log: &Log) -> u64 {
    let all = log.read(0, usize::MAX, usize::MAX).unwrap();
    let entries: u64 = all.iter().map(|(_, entry)| entry.payload.len() as u64 + 5).sum();
    (log.bytes() - 28 - entries) / 28
}

#[tokio::test]
async fn an_end_without_haste_is_written_with_the_next_beginning_or_alone_after_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_ledger(dir.path());
    let of = ledger.open(&deed(), &decision(), vec![], ()).await.unwrap().record();
    assert_eq!(frames(ledger.log()), 1);
    let (deed, decision) = (deed(), decision());
    let (closed, opened) = tokio::join!(
        biased;
        ledger.close_in_passing(of, ok(), vec![]),
        ledger.open(&deed, &decision, vec![], ()),
    );
    let (closed, of) = (closed.unwrap(), opened.unwrap().record());
    assert_eq!(frames(ledger.log()), 2, "both are one write");
    assert_eq!(records(ledger.log())[1].id, closed);
    // Nothing comes: it does not wait for ever.
    ledger.close_in_passing(of, ok(), vec![]).await.unwrap();
    assert_eq!((frames(ledger.log()), ledger.unclosed().len()), (3, 0));
    assert_true_to_the_log(&ledger);
    assert!(matches!(ledger.close_in_passing(of, ok(), vec![]).await, Err(LedgerError::AlreadyClosed { .. })));
}

#[tokio::test]
async fn a_deed_is_opened_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_ledger(dir.path());
    let opened = ledger.open(&deed(), &decision(), vec![], "permit").await.unwrap();
    assert_eq!(*opened.permit(), "permit");
    let of = opened.record();
    assert_eq!(opened.into_permit(), "permit");
    assert_eq!(ledger.unclosed(), [(of, (&deed()).into(), Some(run()))]);

    let usage = Usage { input_tokens: 3, ..Usage::default() };
    let closing = Closing { usage: Some(usage), cost: Some(Nanos(5)), ..ok() };
    let closed = ledger.close(of, closing).await.unwrap();
    assert_eq!(ledger.unclosed(), []);
    let all = records(ledger.log());
    assert_eq!((all[0].id, all[1].id), (of, closed));
    assert_eq!((all[1].run, all[1].project), (all[0].run, all[0].project));
    let outcome = Outcome::new(Status::Ok);
    let close =
        Body::Close { of, outcome, usage: Some(usage), cost: Some(Nanos(5)), facts: BTreeMap::new(), contents: vec![] };
    assert_eq!(all[1].body, close);
    assert_true_to_the_log(&ledger);
}

#[tokio::test]
async fn refusals_questions_and_notes_are_recorded_and_stay_closed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_ledger(dir.path());
    let approval = ApprovalId::from_bytes([5; 16]);
    ledger.refuse(&deed(), &decision(), vec![]).await.unwrap();
    ledger.asked(&deed(), &decision(), approval, vec![]).await.unwrap();
    let facts = BTreeMap::from([("n".to_owned(), ContextValue::Long(1))]);
    ledger.note("run.erased", Some(run()), facts).await.unwrap();
    let all = records(ledger.log());
    assert!(matches!(all[0].body, Body::Refused { .. }));
    assert!(matches!(all[1].body, Body::Asked { approval: found, .. } if found == approval));
    assert!(matches!(&all[2].body, Body::Note { code, .. } if code == "run.erased"));
    assert_eq!(all[2].run, Some(run()));
    assert_eq!(ledger.unclosed(), []);
    assert_true_to_the_log(&ledger);
}

#[tokio::test]
async fn a_deed_closes_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open_ledger(dir.path()));
    let of = ledger.open(&deed(), &decision(), vec![], ()).await.unwrap().record();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.close(of, ok()).await.is_ok() })
        })
        .collect();
    let mut closed = 0;
    for task in tasks {
        closed += u32::from(task.await.unwrap());
    }
    assert_eq!(closed, 1);
    let size = ledger.log().end();
    let error = ledger.close(of, ok()).await.unwrap_err();
    assert!(matches!(error, LedgerError::AlreadyClosed { of: named } if named == of), "{error}");
    let never = RecordId::from_bytes([1; 16]);
    assert!(matches!(ledger.close(never, ok()).await, Err(LedgerError::AlreadyClosed { .. })));
    assert_eq!(ledger.log().end(), size, "nothing of a refused close is written");
    assert_true_to_the_log(&ledger);
}

#[tokio::test]
async fn content_and_extra_entries_are_in_the_same_batch() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_ledger(dir.path());
    let sealed = RunKey::generate(&SystemWorld, run()).seal(&SystemWorld, ContentKind::ModelRequest, b"hi").unwrap();
    let extra = vec![LogEntry::new(EntryKind::Budget, "reserved")];
    let opened = ledger.open_with(&deed(), &decision(), vec![sealed.clone()], (), extra).await.unwrap();
    let kinds: Vec<_> = ledger.log().read(0, 9, 9999).unwrap().into_iter().map(|(_, entry)| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::Content, EntryKind::Record, EntryKind::Budget]);
    assert_eq!(records(ledger.log())[0].contents(), [sealed.content]);

    let smuggled = vec![LogEntry::new(EntryKind::Record, "{}")];
    let error = ledger.close_with(opened.record(), ok(), smuggled.clone()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Log(LogError::RecordsAreTheLedgers)), "{error}");
    assert!(matches!(ledger.log().append(smuggled).await, Err(LogError::RecordsAreTheLedgers)));
    assert!(ledger.close(opened.record(), ok()).await.is_ok(), "a refused close leaves the deed open");
}

#[tokio::test]
async fn a_record_that_is_too_long_leaves_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_ledger(dir.path());
    let mut long = deed();
    long.resource.id = "x".repeat(70_000);
    let error = ledger.open(&long, &decision(), vec![], ()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Record(_)), "{error}");
    assert_eq!((ledger.size(), ledger.log().end()), (0, 0));
    assert!(ledger.unclosed().is_empty());
    ledger.refuse(&deed(), &decision(), vec![]).await.unwrap();
    assert_true_to_the_log(&ledger);
}

#[tokio::test]
async fn a_restart_takes_up_everything() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_ledger(dir.path());
    let first = ledger.open(&deed(), &decision(), vec![], ()).await.unwrap().record();
    let second = ledger.open(&deed(), &decision(), vec![], ()).await.unwrap().record();
    ledger.close(first, ok()).await.unwrap();
    let before = said(&ledger.checkpoint());
    drop(ledger);
    for state in [true, false] {
        if !state {
            fs::remove_file(dir.path().join(STATE_FILE)).unwrap();
        }
        let ledger = open_ledger(dir.path());
        assert_eq!(said(&ledger.checkpoint()), before);
        assert_eq!(ledger.unclosed(), [(second, (&deed()).into(), Some(run()))]);
        assert!(matches!(ledger.close(first, ok()).await, Err(LedgerError::AlreadyClosed { .. })));
        assert_true_to_the_log(&ledger);
    }
    // A damaged state is rebuilt from a log that is whole.
    fs::write(dir.path().join(STATE_FILE), "damaged").unwrap();
    assert_eq!(said(&open_ledger(dir.path()).checkpoint()), before);
}

#[tokio::test]
async fn what_the_ledger_needs_is_not_forgotten_and_what_it_does_not_is() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let log = Arc::new(Log::open(dir.path(), LogOptions { segment_bytes: 2000, ..LogOptions::default() }).unwrap());
        Ledger::start(log, producer(), SigningKey::generate(), world())
    };
    let ledger = open().unwrap();
    let of = ledger.open(&deed(), &decision(), vec![], ()).await.unwrap().record();
    for _ in 0..20 {
        ledger.refuse(&deed(), &decision(), vec![]).await.unwrap();
    }
    ledger.log().forget_before(u64::MAX).unwrap();
    assert_eq!(ledger.log().start(), 0, "the state on the disk is from the start");
    ledger.save_state().await.unwrap();
    ledger.log().forget_before(u64::MAX).unwrap();
    assert!(ledger.log().start() > 10);
    let before = said(&ledger.checkpoint());
    drop(ledger);
    let ledger = open().unwrap();
    assert_eq!(said(&ledger.checkpoint()), before);
    assert_eq!(ledger.unclosed().len(), 1);
    assert!(ledger.close(of, ok()).await.is_ok(), "a deed whose record is forgotten can still be closed");
    drop(ledger);
    fs::remove_file(dir.path().join(STATE_FILE)).unwrap();
    assert!(matches!(open(), Err(LedgerError::StateLost { .. })));
}

#[tokio::test]
async fn the_state_is_saved_every_so_often() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open_ledger(dir.path()));
    let before = fs::read(dir.path().join(STATE_FILE)).unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                for _ in 0..=SAVE_EVERY / 64 {
                    ledger.note("tick", None, BTreeMap::new()).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_ne!(fs::read(dir.path().join(STATE_FILE)).unwrap(), before);
    assert_true_to_the_log(&ledger);
    let checkpoint = said(&ledger.checkpoint());
    drop(ledger);
    assert_eq!(said(&open_ledger(dir.path()).checkpoint()), checkpoint);
}

#[tokio::test]
async fn a_log_with_missing_records_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_ledger(dir.path());
    ledger.refuse(&deed(), &decision(), vec![]).await.unwrap();
    let segment = dir.path().join("00000000000000000000.log");
    let shorter = fs::read(&segment).unwrap();
    ledger.refuse(&deed(), &decision(), vec![]).await.unwrap();
    ledger.save_state().await.unwrap();
    drop(ledger);
    // Somebody puts back an older copy of the log.
    fs::write(&segment, shorter).unwrap();
    let error = Ledger::start(open_log(dir.path()), producer(), SigningKey::generate(), world()).unwrap_err();
    assert!(matches!(error, LedgerError::LogTooShort { end: 1, known: 2, .. }), "{error}");
}

#[tokio::test]
async fn a_log_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = RunnerId::from_bytes([7; 16]).into();
    open_ledger(dir.path()).refuse(&deed(), &decision(), vec![]).await.unwrap();
    for _ in 0..2 {
        let error = Ledger::start(open_log(dir.path()), other, SigningKey::generate(), world()).unwrap_err();
        assert!(matches!(error, LedgerError::OtherProducer { .. }), "{error}");
        let _ = fs::remove_file(dir.path().join(STATE_FILE));
    }
}

#[tokio::test]
async fn a_log_has_one_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let start = || Ledger::start(Arc::clone(&log), producer(), SigningKey::generate(), world());
    let ledger = start().unwrap();
    assert!(matches!(start(), Err(LedgerError::Attached { .. })));
    drop(ledger);
    assert!(start().is_ok());
}

#[tokio::test]
async fn records_that_are_none_or_out_of_order_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    open_log(dir.path()).append(vec![LogEntry::new(EntryKind::Record, "{}")]).await.unwrap();
    let error = Ledger::start(open_log(dir.path()), producer(), SigningKey::generate(), world()).unwrap_err();
    assert!(matches!(error, LedgerError::Unreadable { position: 0, .. }), "{error}");

    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ledger = open_ledger(from.path());
    ledger.refuse(&deed(), &decision(), vec![]).await.unwrap();
    ledger.refuse(&deed(), &decision(), vec![]).await.unwrap();
    let second = ledger.log().read(1, 1, 1).unwrap().remove(0).1;
    open_log(to.path()).append(vec![second]).await.unwrap();
    let error = Ledger::start(open_log(to.path()), producer(), SigningKey::generate(), world()).unwrap_err();
    assert!(matches!(error, LedgerError::Sequence { expected: 0, found: 1, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_deeds_have_numbers_without_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open_ledger(dir.path()));
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                for _ in 0..10 {
                    let opened = ledger.open(&deed(), &decision(), vec![], i).await.unwrap();
                    assert_eq!(*opened.permit(), i);
                    if i % 2 == 0 {
                        ledger.close(opened.record(), ok()).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((ledger.size(), ledger.unclosed().len()), (64 * 10 + 32 * 10, 320));
    assert_true_to_the_log(&ledger);
}

#[tokio::test]
async fn a_dropped_future_leaves_a_deed_for_the_reaper() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_ledger(dir.path());
    {
        let (deed, decision) = (deed(), decision());
        let opening = ledger.open(&deed, &decision, vec![], ());
        // Polled once, which puts it into the queue, and then dropped.
        let mut opening = std::pin::pin!(opening);
        let waker = std::task::Waker::noop();
        let _ = opening.as_mut().poll(&mut std::task::Context::from_waker(waker));
    }
    ledger.save_state().await.unwrap();
    assert_eq!(ledger.unclosed().len(), 1);
    let of = ledger.unclosed()[0].0;
    ledger.close(of, Closing::new(Outcome::new(Status::Unknown))).await.unwrap();
    assert_true_to_the_log(&ledger);
}
