//! Records: one record, one spelling.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stockade_domain::{
    ContentKind, ContentRef, ContextValue, Digest, Nanos, Timestamp, Usage,
    ids::{ApprovalId, RecordId},
};
use stockade_ledger::{Body, MAX_RECORD_BYTES, Outcome, Record, RecordError, Status};

use crate::common::{decision, deed, producer, run};

fn record(body: Body) -> Record {
    Record {
        producer: producer(),
        seq: 7,
        at: Timestamp(1_800_000_000_000_000),
        id: RecordId::from_parts(1_800_000_000_000, [9; 10]),
        run: Some(run()),
        project: None,
        body,
    }
}

fn open() -> Record {
    record(Body::Open { deed: (&deed()).into(), decision: decision(), contents: vec![] })
}

fn close(usage: Option<Usage>, cost: Option<Nanos>) -> Record {
    let of = RecordId::from_parts(1_800_000_000_000, [8; 10]);
    record(Body::Close {
        of,
        outcome: Outcome::with_code(Status::Error, "overloaded"),
        usage,
        cost,
        facts: BTreeMap::new(),
        contents: vec![],
    })
}

#[test]
fn the_bytes_of_a_record_stay_what_they_are() {
    // If you are here because this failed: every record that anybody ever signed has the old form. Do not accept the
    // new one without a way to read both.
    insta::assert_snapshot!(String::from_utf8(open().canonical()).unwrap(), @r#"{"at":1800000000000000,"body":{"decision":{"answer":"allow","bundle":3,"policies":[{"id":"models","title":"Agents may call models"}]},"deed":{"action":"model.call","context":{"level":2,"model":"sonnet"},"principal":{"kind":"agent","owner":"usr_01mcc5rm00ec1r60r30c1g60r3","run":"run_01mcc5rm00e81840g2081040g2"},"resource":{"id":"sonnet","kind":"model","project":"prj_01mcc5rm00eg2881040g208104","run":"run_01mcc5rm00e81840g2081040g2"}},"phase":"open"},"id":"rec_01mcc5rm00f44rj289144gj289","producer":"rnr_01mcc5rm00e40r2081040g2081","run":"run_01mcc5rm00e81840g2081040g2","seq":7}"#);
}

#[test]
fn no_content_of_a_deed_is_in_its_record() {
    let text = String::from_utf8(open().canonical()).unwrap();
    assert!(text.contains("sonnet") && !text.contains("secret") && !text.contains("command"), "{text}");
}

#[test]
fn another_spelling_of_a_record_is_refused() {
    let bytes = open().canonical();
    assert_eq!(Record::parse(&bytes).unwrap(), open());
    let text = String::from_utf8(bytes).unwrap();
    for other in [
        text.replace("\"seq\":7", "\"seq\": 7"),
        text.replace("\"seq\":7", "\"seq\":\"7\""),
        text.replace("\"seq\":7", "\"seq\":7.0"),
        text.replace("\"seq\":7", "\"seq\":7,\"seq\":7"),
        text.replace("\"seq\":7", "\"seq\":7,\"zzz\":1"),
        text.replace("\"bundle\":3", "\"bundle\":3,\"extra\":1"),
        text.replace("\"bundle\":3", "\"approval\":null,\"bundle\":3"),
        text.replace("sonnet", "\\u0073onnet"),
        format!("{text}\n"),
        format!("\u{feff}{text}"),
        text.replace("rnr_", "run_"),
        "null".into(),
        "{}".into(),
        "[".repeat(60_000),
        String::new(),
    ] {
        assert_ne!(other, text);
        assert!(Record::parse(other.as_bytes()).is_err(), "{other:.200}");
    }
}

#[test]
fn a_record_at_the_limit_reads_and_one_above_does_not() {
    let note = |len| {
        let facts = BTreeMap::from([("what".into(), ContextValue::Text("x".repeat(len)))]);
        record(Body::Note { code: "test".into(), facts, contents: vec![] })
    };
    let room = MAX_RECORD_BYTES - note(0).canonical().len();
    let at = note(room).checked_canonical().unwrap();
    assert_eq!(at.len(), MAX_RECORD_BYTES);
    assert!(Record::parse(&at).is_ok());
    let above = note(room + 1);
    assert!(matches!(above.checked_canonical(), Err(RecordError::TooLong { .. })));
    assert!(matches!(Record::parse(&above.canonical()), Err(RecordError::TooLong { .. })));
}

#[test]
fn a_summary_is_one_line() {
    let mut refused = open();
    if let Body::Open { decision, .. } = &mut refused.body {
        decision.policies[0].title = "two\nlines".into();
    }
    assert_eq!(refused.summary().lines().count(), 1);
    insta::assert_snapshot!(open().summary(), @"model.call model/sonnet by agent run_01mcc5rm00e81840g2081040g2 allow (bundle 3: Agents may call models)");
    let usage = Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() };
    insta::assert_snapshot!(close(Some(usage), Some(Nanos(1_250_000))).summary(), @"close rec_01mcc5rm00f048g2081040g208 error (overloaded) 15 tokens $0.00125");
    let approval = ApprovalId::from_parts(1_800_000_000_000, [5; 10]);
    let asked = record(Body::Asked { deed: (&deed()).into(), decision: decision(), approval, contents: vec![] });
    insta::assert_snapshot!(asked.summary(), @"model.call model/sonnet by agent run_01mcc5rm00e81840g2081040g2 allow (bundle 3: Agents may call models) waits for apr_01mcc5rm00em2ra1850m2ga185");
    let facts = BTreeMap::from([("runs".into(), ContextValue::Long(3)), ("late".into(), ContextValue::Bool(true))]);
    insta::assert_snapshot!(record(Body::Note { code: "run.erased".into(), facts, contents: vec![] }).summary(), @"note run.erased late=true runs=3");
}

prop_compose! {
    fn values()(which in 0..4, yes: bool, n: i64, text in ".{0,20}", set in prop::collection::vec(".{0,8}", 0..4)) -> ContextValue {
        match which {
            0 => ContextValue::Bool(yes),
            // A text of digits stands for an integer beyond what JSON holds, so only those within come back as they were.
            1 => ContextValue::Long(n >> 11),
            2 => ContextValue::Text(text),
            _ => ContextValue::Set(set),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        facts in prop::collection::btree_map(".{0,12}", values(), 0..6),
        code in ".{0,20}", tokens: [u64; 5], cost: i64, digest: [u8; 32], len in 0u64..1 << 50,
    ) {
        let contents = vec![ContentRef { kind: ContentKind::ModelRequest, digest: Digest(digest), len }];
        let mut open = open();
        if let Body::Open { deed, contents: empty, .. } = &mut open.body {
            deed.context = facts.clone();
            *empty = contents.clone();
        }
        let [input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens] = tokens;
        let usage = Usage { input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens };
        for record in [open, close(Some(usage), Some(Nanos(cost))), record(Body::Note { code, facts, contents })] {
            let bytes = record.checked_canonical().unwrap();
            prop_assert_eq!(Record::parse(&bytes).unwrap(), record);
        }
    }

    #[test]
    fn large_integers_in_a_context_keep_their_bytes(n: i64) {
        let facts = BTreeMap::from([("n".to_owned(), ContextValue::Long(n))]);
        let bytes = record(Body::Note { code: "test".into(), facts, contents: vec![] }).canonical();
        prop_assert_eq!(Record::parse(&bytes).unwrap().canonical(), bytes);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Record::parse(&bytes).is_err());
    }

    #[test]
    fn no_damage_makes_the_parser_panic_or_pass(at in 0usize..400, byte: u8) {
        let whole = open().canonical();
        let mut bytes = whole.clone();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(record) = Record::parse(&bytes) {
            prop_assert_eq!(record.canonical(), bytes);
        }
    }
}
