//! Answers, read and written.

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CAN, WORDS};
use crate::{
    Dialect, Framing, Usage,
    anthropic::{decoder, encoder, read_error},
    neutral::{ApiFault, Delta, Event, FaultKind, ForClient, PartHead, Signature, StopReason, any},
};

fn read(stream: &str) -> Vec<Event> {
    let (mut decoder, mut out) = (decoder(Framing::Events), Vec::new());
    decoder.push(stream.as_bytes(), &mut out);
    decoder.finish(true, &mut out);
    out
}

fn wire(events: &[Value]) -> String {
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

fn write(framing: Framing, events: &[Event]) -> String {
    let client = ForClient {
        model: "my-model".to_owned(),
        id: "77".to_owned(),
        likely_input_tokens: 4_321,
        ..ForClient::default()
    };
    let (mut encoder, mut out) = (encoder(framing, client), BytesMut::new());
    events.iter().for_each(|event| encoder.push(event, &mut out));
    String::from_utf8(out.to_vec()).unwrap()
}

fn call(index: u32, signature: Option<Signature>) -> Vec<Event> {
    let part = PartHead::ToolCall { id: format!("c{index}"), name: "Read".to_owned(), free_form: false };
    let delta = |delta| Event::Delta { index, delta };
    let mut events = vec![Event::PartStart { index, part }];
    events.extend(signature.map(|signature| delta(Delta::Signature(signature))));
    events.extend(["{\"path\":", "\"a\"}"].map(|text| delta(Delta::Input(text.to_owned()))));
    events.push(Event::PartStop { index });
    events
}

#[test]
fn row_12_the_start_says_an_estimate_and_the_end_the_truth() {
    let usage = Usage {
        input_tokens: 10,
        output_tokens: 20,
        cache_read_tokens: 30,
        cache_write_5m_tokens: 4,
        cache_write_1h_tokens: 5,
        reasoning_tokens: Some(6),
        tier: None,
    };
    let written = write(
        Framing::Events,
        &[
            Event::Start { id: None, model: None },
            Event::Usage(usage),
            Event::Stop { reason: StopReason::End, said: "stop".to_owned(), sequence: None },
            Event::End,
        ],
    );
    let events: Vec<Value> =
        written.split("\n\n").filter_map(|event| serde_json::from_str(event.split_once("data: ")?.1).ok()).collect();
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 4_321);
    assert_eq!(events[0]["message"]["usage"]["output_tokens"], 0);
    let told = &events[1]["usage"];
    assert_eq!((&told["input_tokens"], &told["output_tokens"]), (&json!(10), &json!(20)));
    assert_eq!((&told["cache_read_input_tokens"], &told["cache_creation_input_tokens"]), (&json!(30), &json!(9)));
    assert_eq!(told["cache_creation"]["ephemeral_1h_input_tokens"], 5);
    assert_eq!(events[2]["type"], "message_stop");
}

#[test]
fn row_13_usage_is_cumulative_and_null_is_no_value() {
    let events = read(&wire(&[
        json!({"type": "message_start", "message": {"id": "m", "model": "x", "usage":
            {"input_tokens": 7, "cache_read_input_tokens": 100, "output_tokens": 1}}}),
        json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 10, "input_tokens": null}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage":
            {"output_tokens": 25, "cache_read_input_tokens": null}}),
        json!({"type": "message_stop"}),
    ]));
    let last = events.iter().rev().find_map(|event| if let Event::Usage(usage) = event { Some(*usage) } else { None });
    let expected = Usage { input_tokens: 7, output_tokens: 25, cache_read_tokens: 100, ..Usage::default() };
    assert_eq!(last, Some(expected));
    assert_eq!(events.last(), Some(&Event::End));
}

#[test]
fn row_14_signatures_and_sealed_thoughts_are_byte_exact_even_without_text() {
    let sealed = "EuYBCoYBGAIi+/==";
    let events = read(&wire(&[
        json!({"type": "message_start", "message": {"id": "m", "model": "x"}}),
        json!({"type": "content_block_start", "index": 0, "content_block":
            {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": sealed}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block":
            {"type": "redacted_thinking", "data": sealed}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}),
        json!({"type": "message_stop"}),
    ]));
    let signature = Signature::new(Dialect::Messages, sealed);
    assert_eq!(events[1], Event::PartStart { index: 0, part: PartHead::Reasoning { id: None } });
    assert_eq!(events[2], Event::Delta { index: 0, delta: Delta::Signature(signature.clone()) });
    assert_eq!(events[4], Event::PartStart { index: 1, part: PartHead::Redacted { data: signature } });
    for framing in [Framing::Events, Framing::Whole] {
        assert_eq!(write(framing, &events).matches(sealed).count(), 2, "{framing:?}");
    }
}

#[test]
fn row_16_the_signature_of_a_call_goes_into_a_block_of_its_own() {
    let signature = Signature::new(Dialect::Gemini, "c2ln");
    let mut events = vec![Event::Start { id: None, model: None }];
    events.extend(call(0, Some(signature.clone())));
    events.extend([Event::Stop { reason: StopReason::End, said: "STOP".to_owned(), sequence: None }, Event::End]);
    insta::assert_snapshot!(write(Framing::Events, &events));
    let whole: Value = serde_json::from_str(&write(Framing::Whole, &events)).unwrap();
    assert_eq!(whole["content"][0]["signature"], signature.packed());
    assert_eq!(whole["content"][1]["input"], json!({"path": "a"}));
    assert_eq!(whole["stop_reason"], "tool_use", "whatever the provider says, there is a call to answer");
}

#[test]
fn row_18_parallel_calls_come_one_after_the_other() {
    let (first, second) = (call(0, None), call(1, None));
    // Both begin, and their pieces come in turn.
    let mut events = vec![Event::Start { id: None, model: None }];
    events.extend(first.iter().zip(&second).flat_map(|(a, b)| [a.clone(), b.clone()]));
    events.push(Event::End);
    let mut straight = vec![Event::Start { id: None, model: None }];
    straight.extend(first.into_iter().chain(second));
    straight.push(Event::End);
    assert_eq!(write(Framing::Events, &events), write(Framing::Events, &straight));
}

#[test]
fn what_breaks_off_is_no_answer() {
    let fault = ApiFault::new(FaultKind::Overloaded, "too much");
    let broken = |framing| {
        let (mut encoder, mut out) = (encoder(framing, ForClient::default()), BytesMut::new());
        encoder.push(&Event::Start { id: None, model: None }, &mut out);
        encoder.broken(&fault, &mut out);
        let len = out.len();
        encoder.broken(&fault, &mut out);
        encoder.push(&Event::End, &mut out);
        assert_eq!(out.len(), len, "nothing comes after it");
        String::from_utf8(out.to_vec()).unwrap()
    };
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"too much"}}"#;
    assert!(broken(Framing::Events).ends_with(&format!("event: error\ndata: {error}\n\n")));
    assert_eq!(broken(Framing::Whole), error);
    assert_eq!(
        read(&format!("event: error\ndata: {error}\n\n")),
        [Event::Error(ApiFault { code: "overloaded_error".to_owned(), ..fault })]
    );
}

#[test]
fn errors_are_known_by_their_words_and_by_their_status() {
    let kind = |status, word: &str| {
        let body = json!({"type": "error", "error": {"type": word, "message": "m"}}).to_string();
        read_error(status, body.as_bytes()).kind
    };
    assert_eq!(kind(529, "overloaded_error"), FaultKind::Overloaded);
    assert_eq!(kind(200, "rate_limit_error"), FaultKind::RateLimit);
    assert_eq!(kind(429, "something_new"), FaultKind::RateLimit);
    assert_eq!(read_error(502, b"<html>bad gateway</html>").message, "<html>bad gateway</html>");
}

#[test]
fn what_is_not_known_passes_without_harm() {
    let events = read(&wire(&[
        json!({"type": "message_start", "message": {}, "new": 1}),
        json!({"type": "something_new", "index": 0}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "server_tool_use", "name": "s"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "ping"}),
        json!({"type": "message_stop"}),
    ]));
    assert!(matches!(&events[1], Event::PartStart { part: PartHead::Foreign { .. }, .. }));
    assert_eq!(events[2..], [Event::PartStop { index: 0 }, Event::Ping, Event::End]);
    assert!(!write(Framing::Events, &events).contains("server_tool_use"));
}

#[test]
fn parts_that_never_end_are_bounded() {
    let begin = |index: u32| json!({"type": "content_block_start", "index": index, "content_block": {"type": "thinking", "thinking": ""}});
    let events = read(&wire(&(0..1_001).map(begin).collect::<Vec<_>>()));
    assert_eq!(events.iter().filter(|event| matches!(event, Event::PartStart { .. })).count(), 1_000);
    assert_eq!(events.last(), Some(&Event::Unreadable));

    let piece = json!({"type": "content_block_delta", "index": 0, "delta":
        {"type": "signature_delta", "signature": "s".repeat(1024 * 1024)}});
    let mut long = vec![begin(0)];
    long.extend(std::iter::repeat_n(piece, 5));
    long.push(json!({"type": "content_block_stop", "index": 0}));
    assert_eq!(read(&wire(&long))[1..], [Event::Unreadable, Event::PartStop { index: 0 }]);
}

#[test]
fn what_waits_for_its_turn_is_bounded() {
    let mut events = vec![Event::Start { id: None, model: None }];
    events.extend([0, 1].map(|index| Event::PartStart { index, part: PartHead::Text }));
    let piece = Event::Delta { index: 1, delta: Delta::Text("x".repeat(1024 * 1024)) };
    events.extend(std::iter::repeat_n(piece, 33));
    events.push(Event::End);
    let written = write(Framing::Events, &events);
    assert!(written.contains("event: error") && !written.contains("message_stop") && written.len() < 1_000);
}

#[test]
fn an_exception_in_frames_is_the_end() {
    let fault = ApiFault::new(FaultKind::RateLimit, "slower");
    let (mut encoder, mut out) = (encoder(Framing::Frames, ForClient::default()), BytesMut::new());
    encoder.push(&Event::Start { id: None, model: None }, &mut out);
    encoder.broken(&fault, &mut out);
    let [events, ..] = any::arrivals(Dialect::Messages, Framing::Frames, &out, true);
    let code = "throttlingException".to_owned();
    assert_eq!(events.last(), Some(&Event::Error(ApiFault { code, ..fault })));
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(events in any::answer(CAN)) {
        for framing in [Framing::Events, Framing::Whole, Framing::Frames] {
            prop_assert_eq!(any::there_and_back(Dialect::Messages, framing, &events), any::plain(events.clone()));
        }
    }

    #[test]
    fn nothing_makes_the_decoder_panic(
        events in prop::collection::vec(any::json(WORDS), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        ended in any::<bool>(),
    ) {
        let mut bytes: Vec<u8> = events.iter().flat_map(|event| format!("data: {event}\n\n").into_bytes()).collect();
        bytes.extend(noise);
        for framing in [Framing::Events, Framing::Whole, Framing::Frames] {
            let [at_once, one_by_one, pieces] = any::arrivals(Dialect::Messages, framing, &bytes, ended);
            prop_assert_eq!(&at_once, &one_by_one);
            prop_assert_eq!(&at_once, &pieces);
            write(framing, &at_once);
        }
    }
}
