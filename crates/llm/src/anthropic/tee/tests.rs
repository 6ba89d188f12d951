//! The tee against streams as providers send them, cut anywhere, and against bytes that nobody sends.

use proptest::prelude::*;

use super::*;

/// A stream with everything in it: text, signed and empty reasoning, a tool's input in pieces, a ping, news.
const STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":30,"cache_read_input_tokens":40,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"output_tokens":1}}}

event: ping
data: {"type": "ping"}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me "}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"see."}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB+/=="}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"opaque"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Größe \ud83d\ude80"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"read","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"pa"}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"th\":\"a\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":3}

event: something_new
data: {"type":"something_new","x":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":null,"output_tokens":77}}

event: message_stop
data: {"type":"message_stop"}

"#;

fn read<'a>(shape: Shape, chunks: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut tee = Tee::new(shape);
    chunks.into_iter().for_each(|chunk| tee.push(chunk));
    tee.finish(true)
}

#[test]
fn a_stream_becomes_the_message_that_it_was() {
    let seen = read(Shape::Events, [STREAM.as_bytes()]);
    assert!(seen.complete && seen.error.is_none() && seen.unreadable == 0 && !seen.truncated);
    assert_eq!(seen.stop_reason.as_deref(), Some("tool_use"));
    let message = seen.message.unwrap();
    assert_eq!(
        message["content"],
        json!([
            {"type": "thinking", "thinking": "Let me see.", "signature": "EqQB+/=="},
            {"type": "redacted_thinking", "data": "opaque"},
            {"type": "text", "text": "Größe 🚀"},
            {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "a"}},
        ])
    );
    assert_eq!((&message["id"], &message["stop_reason"]), (&json!("msg_1"), &json!("tool_use")));
    // Cumulative: the last word that is not null, never a sum (WIRE, row 13).
    let usage = Usage {
        input_tokens: 25,
        output_tokens: 77,
        cache_read_tokens: 40,
        cache_write_5m_tokens: 10,
        cache_write_1h_tokens: 20,
        reasoning_tokens: None,
        tier: None,
    };
    assert_eq!(seen.usage, Some(usage));
    assert_eq!(message["usage"]["output_tokens"], 77);
    assert_eq!(message["usage"]["input_tokens"], 25);
}

#[test]
fn a_whole_body_is_read_the_same() {
    let body = json!({"type": "message", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "cache_creation_input_tokens": 9, "output_tokens": 4}});
    let seen = read(Shape::Whole, body.to_string().as_bytes().chunks(3));
    assert!(seen.complete);
    let usage = Usage { input_tokens: 3, output_tokens: 4, cache_write_5m_tokens: 9, ..Usage::default() };
    assert_eq!((seen.usage, seen.message), (Some(usage), Some(body)));
    let error = br#"{"type":"error","error":{"type":"overloaded_error","message":"later"}}"#;
    let seen = read(Shape::Whole, [&error[..]]);
    assert_eq!(seen.error, Some(ApiError { kind: "overloaded_error".into(), message: "later".into() }));
    assert!(!seen.complete && seen.message.is_none());
}

#[test]
fn parts_that_the_sum_leaves_out_are_counted() {
    let mut raw = Raw::default();
    raw.take(&json!({"input_tokens": 10, "output_tokens": 5,
        "iterations": [{"input_tokens": 100, "output_tokens": 50}, {"input_tokens": 10, "output_tokens": 5}]}));
    assert_eq!(raw.usage(), Usage { input_tokens: 110, output_tokens: 55, ..Usage::default() });
}

#[test]
fn a_stream_cut_short_is_charged_for_what_was_seen_and_never_nothing() {
    let estimate = Estimate { input_tokens: Some(500), output_tokens: 1_000, ..Estimate::default() };
    let at = |end: &str, more: usize| STREAM.find(end).unwrap() + more;
    let bill = |bytes: &[u8]| {
        let mut tee = Tee::new(Shape::Events);
        tee.push(bytes);
        billed(&tee.finish(false), 500, &estimate)
    };
    // Before the first event nothing was said: the bound of the input.
    assert_eq!(bill(b""), Usage { input_tokens: 500, ..Usage::default() });
    // After it: the provider's input, and at least what was seen.
    let started = bill(&STREAM.as_bytes()[..at("event: ping", 0)]);
    assert_eq!((started.input_tokens, started.cache_read_tokens, started.output_tokens), (25, 40, 1));
    let later = bill(&STREAM.as_bytes()[..at("event: something_new", 0)]);
    assert!(later.output_tokens > 10 && later.output_tokens < 100, "{later:?}");
    // A lying or broken `message_start` of 0 input (WIRE, row 12).
    let zero = bill(
        b"data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n\n",
    );
    assert_eq!(zero.input_tokens, 500);
    // What cannot be read at all: all that it may have used.
    let mut tee = Tee::new(Shape::Opaque);
    tee.push(b"\x1f\x8b");
    assert_eq!(
        billed(&tee.finish(true), 500, &estimate),
        Usage { input_tokens: 500, output_tokens: 1_000, ..Usage::default() }
    );
    // The provider's first and only word was an error.
    assert_eq!(bill(b"data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"), Usage::default());
}

#[test]
fn limits_hold_and_usage_survives_them() {
    let mut tee = Tee::with_limit(Shape::Events, 2_000);
    tee.push(
        b"data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n",
    );
    tee.push(
        b"data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    );
    tee.push(b"data: {\"type\":\"content_block_start\",\"index\":99999999,\"content_block\":{\"type\":\"text\"}}\n\n");
    for _ in 0..100 {
        let text = "x".repeat(500);
        tee.push(format!("data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n").as_bytes());
    }
    tee.push(format!("data: {}\n\n", "y".repeat(10_000)).as_bytes());
    tee.push(b"data: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":9}}\n\n");
    let seen = tee.finish(true);
    assert!(seen.truncated && seen.unreadable == 1);
    assert_eq!(seen.usage, Some(Usage { input_tokens: 7, output_tokens: 9, ..Usage::default() }));
    assert!(seen.message.unwrap().to_string().len() < 4_000);
}

proptest! {
    #[test]
    fn where_the_bytes_are_split_makes_no_difference(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30)) {
        let bytes = STREAM.as_bytes();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.sort_unstable();
        let (mut chunks, mut from) = (Vec::new(), 0);
        for cut in at {
            chunks.push(&bytes[from..cut]);
            from = cut;
        }
        chunks.push(&bytes[from..]);
        prop_assert_eq!(read(Shape::Events, chunks), read(Shape::Events, [bytes]));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), shape in 0usize..3) {
        let shape = [Shape::Events, Shape::Whole, Shape::Opaque][shape];
        read(shape, bytes.chunks(7));
    }

    #[test]
    fn no_events_make_it_panic(events in prop::collection::vec(event(), 0..20)) {
        let bytes: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let seen = read(Shape::Events, [bytes.as_bytes()]);
        let _ = billed(&seen, 5, &Estimate::default());
    }

    #[test]
    fn usage_is_the_last_word_that_is_not_null(words in prop::collection::vec(prop::option::of(0u64..1_000), 1..12)) {
        let mut tee = Tee::new(Shape::Events);
        tee.push(b"data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n");
        for word in &words {
            let usage = json!({"type": "message_delta", "usage": {"output_tokens": word}});
            tee.push(format!("data: {usage}\n\n").as_bytes());
        }
        let last = words.iter().rev().find_map(|word| *word).unwrap_or(1);
        prop_assert_eq!(tee.finish(true).usage.unwrap().output_tokens, last);
    }
}

/// Events of known types with fields of every wrong type.
fn event() -> impl Strategy<Value = Value> {
    const KINDS: &[&str] = &[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
        "ping",
    ];
    const DELTAS: &[&str] =
        &["text_delta", "thinking_delta", "signature_delta", "input_json_delta", "citations_delta", "new"];
    let odd = || {
        prop_oneof![
            Just(json!(null)),
            Just(json!(-1)),
            Just(json!("x")),
            Just(json!([])),
            Just(json!({})),
            Just(json!(1e300)),
            Just(json!(u64::MAX)),
            Just(json!({"type": "text", "text": 3})),
            Just(json!({"type": "tool_use", "text": [], "citations": 1})),
            Just(json!({"usage": {"input_tokens": u64::MAX, "iterations": [{"output_tokens": u64::MAX}, 3]}})),
        ]
    };
    (prop::sample::select(KINDS), prop::sample::select(DELTAS), 0u64..3, odd(), odd(), odd()).prop_map(
        |(kind, delta, index, a, b, c)| {
            json!({
                "type": kind, "index": index, "message": a, "content_block": b, "usage": c["usage"],
                "delta": {"type": delta, "text": c, "thinking": b, "partial_json": "{", "citation": a}, "error": b,
            })
        },
    )
}
