//! Answers, in frames and in one piece.

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{answer, decoded, frames, unframed};
use crate::{
    Dialect, Framing, Usage,
    converse::{error_body, read_error},
    eventstream::exception,
    neutral::{
        Aliases, ApiFault, Delta, Event, FaultKind, ForClient, NameRules, Part, PartHead, Reasoning, Signature,
        StopReason,
    },
};

/// Thought, said, two calls at once.
fn stream() -> Vec<(&'static str, Value)> {
    let delta = |index: u32, delta: Value| ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}));
    let stop = |index: u32| ("contentBlockStop", json!({"contentBlockIndex": index}));
    let call = |index: u32, id: &str, name: &str| {
        let start = json!({"toolUse": {"toolUseId": id, "name": name}});
        ("contentBlockStart", json!({"contentBlockIndex": index, "start": start}))
    };
    vec![
        ("messageStart", json!({"role": "assistant", "p": "abc"})),
        delta(0, json!({"reasoningContent": {"text": "Let me "}})),
        delta(0, json!({"reasoningContent": {"text": "see."}})),
        delta(0, json!({"reasoningContent": {"signature": "Eq"}})),
        delta(0, json!({"reasoningContent": {"signature": "1+/="}})),
        stop(0),
        delta(1, json!({"reasoningContent": {"redactedContent": "AAEC"}})),
        delta(1, json!({"reasoningContent": {"redactedContent": "Aw=="}})),
        stop(1),
        delta(2, json!({"text": "Here é "})),
        delta(2, json!({"text": "they are."})),
        stop(2),
        call(3, "tooluse_a", "read"),
        delta(3, json!({"toolUse": {"input": "{\"path\":"}})),
        delta(3, json!({"toolUse": {"input": "\"a\"}"}})),
        stop(3),
        call(4, "tooluse_b", "list"),
        delta(4, json!({"toolUse": {"input": ""}})),
        stop(4),
        ("messageStop", json!({"stopReason": "tool_use"})),
        ("somethingNew", json!({"x": 1})),
        (
            "metadata",
            json!({"usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 47, "cacheReadInputTokens": 8,
                "cacheWriteInputTokens": 9, "cacheDetails": [{"ttl": "1h", "inputTokens": 4}, {"ttl": "5m", "inputTokens": 5}]},
                "metrics": {"latencyMs": 7}}),
        ),
    ]
}

fn parts() -> Vec<Part> {
    let signed = |data: &str| Some(Signature::new(Dialect::Converse, data));
    let call = |id: &str, name: &str, input: &str| Part::ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        input: input.to_owned(),
        free_form: false,
        signature: None,
        cache: None,
    };
    vec![
        Part::Reasoning(Reasoning {
            text: "Let me see.".to_owned(),
            signature: signed("Eq1+/="),
            ..Reasoning::default()
        }),
        Part::Reasoning(Reasoning { signature: signed("AAECAw=="), redacted: true, ..Reasoning::default() }),
        Part::Text { text: "Here é they are.".to_owned(), cache: None },
        call("tooluse_a", "read", "{\"path\":\"a\"}"),
        call("tooluse_b", "list", "{}"),
    ]
}

const USED: Usage = Usage {
    input_tokens: 10,
    output_tokens: 20,
    cache_read_tokens: 8,
    cache_write_5m_tokens: 5,
    cache_write_1h_tokens: 4,
    reasoning_tokens: None,
    tier: None,
};

#[test]
fn a_stream_is_read_whole() {
    let wire = frames(&stream());
    let seen = answer(&decoded(Framing::Frames, [&wire[..]]));
    assert_eq!(seen.parts, parts());
    assert_eq!(
        (seen.usage, seen.stop, seen.complete, seen.unreadable),
        (Some(USED), Some(StopReason::ToolUse), true, 0)
    );
}

#[test]
fn an_answer_in_one_piece_is_read_like_the_stream() {
    let body = json!({
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": "Eq1+/="}}},
            {"reasoningContent": {"redactedContent": "AAECAw=="}},
            {"text": "Here é they are."},
            {"toolUse": {"toolUseId": "tooluse_a", "name": "read", "input": {"path": "a"}}},
            {"toolUse": {"toolUseId": "tooluse_b", "name": "list", "input": {}}},
        ]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 10, "outputTokens": 20, "totalTokens": 47, "cacheReadInputTokens": 8,
            "cacheWriteInputTokens": 9, "cacheDetails": [{"ttl": "1h", "inputTokens": 4}]},
        "metrics": {"latencyMs": 7},
    })
    .to_string();
    let seen = answer(&decoded(Framing::Whole, [body.as_bytes()]));
    assert_eq!((seen.parts, seen.usage, seen.stop), (parts(), Some(USED), Some(StopReason::ToolUse)));
    let cited = json!({"output": {"message": {"content": [
        {"citationsContent": {"content": [{"text": "a"}, {"text": "b"}], "citations": [{"title": "t"}]}}]}},
        "stopReason": "end_turn"});
    let seen = answer(&decoded(Framing::Whole, [cited.to_string().as_bytes()]));
    assert_eq!(seen.parts, [Part::Text { text: "ab".to_owned(), cache: None }]);
    for nonsense in ["", "{}", "[", "{\"output\":{}}"] {
        let seen = answer(&decoded(Framing::Whole, [nonsense.as_bytes()]));
        assert!(!seen.complete && seen.unreadable == 1, "{nonsense}");
    }
}

#[test]
fn an_exception_after_200_is_an_error_and_the_end() {
    for (name, payload, kind, text) in [
        ("throttlingException", json!({"message": "slow down"}), FaultKind::RateLimit, "slow down"),
        ("validationException", json!({"message": "bad"}), FaultKind::InvalidRequest, "bad"),
        ("serviceUnavailableException", json!({}), FaultKind::Overloaded, "serviceUnavailableException"),
        (
            "modelStreamErrorException",
            json!({"message": "m", "originalStatusCode": 529, "originalMessage": "busy"}),
            FaultKind::Overloaded,
            "busy",
        ),
        ("somethingElse", json!({"message": "x"}), FaultKind::Api, "x"),
    ] {
        let mut wire = frames(&stream()[..3]);
        wire.extend_from_slice(&exception(name, payload.to_string().as_bytes()));
        wire.extend(frames(&stream()[19..]));
        let events = decoded(Framing::Frames, [&wire[..]]);
        let fault = ApiFault { kind, code: name.to_owned(), message: text.to_owned() };
        assert_eq!(events.last(), Some(&Event::Error(fault)));
    }
}

#[test]
fn a_stream_that_breaks_off_has_no_end() {
    let wire = frames(&stream());
    let before_stop = frames(&stream()[..19]).len();
    let after_stop = frames(&stream()[..20]).len();
    for len in 0..wire.len() {
        let seen = answer(&decoded(Framing::Frames, [&wire[..len]]));
        // Between two frames after the stop, everything was said but what was used.
        let between = len == after_stop || len == frames(&stream()[..21]).len();
        assert_eq!(seen.complete, between, "{len} {before_stop}");
    }
    let mut damaged = wire;
    damaged[after_stop - 5] ^= 1;
    let seen = answer(&decoded(Framing::Frames, [&damaged[..]]));
    assert!(!seen.complete && seen.unreadable == 1);
}

fn encoded(framing: Framing, client: ForClient, events: &[Event]) -> BytesMut {
    let (mut encoder, mut out) = (Dialect::Converse.encoder(framing, client).unwrap(), BytesMut::new());
    events.iter().for_each(|event| encoder.push(event, &mut out));
    encoder.broken(&ApiFault::new(FaultKind::Api, "after the end"), &mut out);
    out
}

#[test]
fn what_was_read_is_written_and_read_again() {
    let events = decoded(Framing::Frames, [&frames(&stream())[..]]);
    let out = encoded(Framing::Frames, ForClient::default(), &events);
    let seen = answer(&decoded(Framing::Frames, [&out[..]]));
    assert_eq!(
        (seen.parts, seen.usage, seen.stop, seen.complete),
        (parts(), Some(USED), Some(StopReason::ToolUse), true)
    );
    let out = encoded(Framing::Whole, ForClient::default(), &events);
    let seen = answer(&decoded(Framing::Whole, [&out[..]]));
    assert_eq!(
        (seen.parts, seen.usage, seen.stop, seen.complete),
        (parts(), Some(USED), Some(StopReason::ToolUse), true)
    );
}

#[test]
fn a_client_gets_its_own_names_and_what_another_provider_signed() {
    let mut aliases = Aliases::default();
    let long = "mcp__a_server_with_a_long_name__and_a_tool_with_an_even_longer_name_still";
    let alias = aliases.alias(long, &NameRules::word(20));
    let client = ForClient { aliases, id: "x1".to_owned(), ..ForClient::default() };
    let signature = Signature::new(Dialect::Gemini, "theirs");
    let events = [
        Event::PartStart { index: 0, part: PartHead::Reasoning { id: None } },
        Event::Delta { index: 0, delta: Delta::Signature(signature.clone()) },
        Event::PartStop { index: 0 },
        Event::PartStart { index: 1, part: PartHead::Redacted { data: signature.clone() } },
        Event::PartStop { index: 1 },
        Event::PartStart { index: 2, part: PartHead::Foreign { value: json!({}) } },
        Event::PartStop { index: 2 },
        Event::PartStart { index: 3, part: PartHead::ToolCall { id: String::new(), name: alias, free_form: true } },
        Event::Delta { index: 3, delta: Delta::Input("a \"b\"".to_owned()) },
        Event::Stop { reason: StopReason::End, said: "STOP".to_owned(), sequence: None },
        Event::End,
    ];
    let seen = unframed(&encoded(Framing::Frames, client, &events));
    let kinds: Vec<&str> = seen.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "messageStart",
            "contentBlockDelta",
            "contentBlockStop",
            "contentBlockDelta",
            "contentBlockStop",
            "contentBlockStart",
            "contentBlockDelta",
            "contentBlockStop",
            "messageStop",
            "metadata"
        ]
    );
    assert_eq!(seen[1].1["delta"]["reasoningContent"]["signature"], signature.packed());
    assert_eq!(seen[5].1["start"]["toolUse"], json!({"toolUseId": "tooluse_x1_2", "name": long}));
    assert_eq!(seen[6].1["delta"]["toolUse"]["input"], "{\"input\":\"a \\\"b\\\"\"}");
    // The model called, whatever its provider says.
    assert_eq!(seen[8].1, json!({"stopReason": "tool_use"}));
    // The client returns the redacted thought in its next turn.
    let data = seen[3].1["delta"]["reasoningContent"]["redactedContent"].as_str().unwrap();
    let body =
        json!({"messages": [{"role": "assistant", "content": [{"reasoningContent": {"redactedContent": data}}]}]});
    let request = crate::converse::read_request(body.to_string().as_bytes()).unwrap();
    let expected = Reasoning { signature: Some(signature), redacted: true, ..Reasoning::default() };
    assert_eq!(request.turns[0].parts, [Part::Reasoning(expected)]);
}

#[test]
fn what_goes_wrong_is_said_as_the_service_says_it() {
    let fault = ApiFault::new(FaultKind::RateLimit, "too many");
    let events = [Event::Start { id: None, model: None }, Event::Error(fault.clone())];
    let seen = unframed(&encoded(Framing::Frames, ForClient::default(), &events));
    assert_eq!(seen[1], ("throttlingException".to_owned(), json!({"message": "too many"})));
    let out = encoded(Framing::Whole, ForClient::default(), &events);
    assert_eq!(out, error_body(&fault));
    let read = read_error(429, &out);
    assert_eq!(
        (read.kind, read.code.as_str(), read.message.as_str()),
        (FaultKind::RateLimit, "ThrottlingException", "too many")
    );
    let long = br#"{"__type":"com.amazon.coral#ValidationException:http://x","message":"no"}"#;
    assert_eq!(read_error(400, long).kind, FaultKind::InvalidRequest);
    assert_eq!(read_error(403, br#"{"Message":"no"}"#).kind, FaultKind::Permission);
    assert_eq!(read_error(503, b"<html>").message, "<html>");
}

proptest! {
    #[test]
    fn the_events_do_not_depend_on_how_the_bytes_were_cut(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let wire = frames(&stream());
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        at.sort_unstable();
        let (mut chunks, mut from) = (Vec::new(), 0);
        for cut in at {
            chunks.push(&wire[from..cut]);
            from = cut;
        }
        chunks.push(&wire[from..]);
        prop_assert_eq!(decoded(Framing::Frames, chunks), decoded(Framing::Frames, [&wire[..]]));
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in "[a-zA-Z]{0,12}", text in ".{0,60}") {
        let _ = decoded(Framing::Whole, [&bytes[..]]);
        let _ = decoded(Framing::Frames, [&bytes[..]]);
        let mut wire = crate::eventstream::event(&kind, text.as_bytes()).to_vec();
        wire.extend_from_slice(&crate::eventstream::event("contentBlockDelta", &bytes));
        let _ = decoded(Framing::Frames, [&wire[..]]);
        let _ = read_error(400, &bytes);
    }
}

/// What a client like boto3 has of a stream: the message that it sends back with the next turn.
fn message_of(wire: &[u8]) -> Value {
    let mut blocks: Vec<Value> = Vec::new();
    for (kind, payload) in unframed(wire) {
        let at = payload["contentBlockIndex"].as_u64().and_then(|at| usize::try_from(at).ok());
        match (kind.as_str(), at) {
            ("contentBlockStart", Some(at)) => {
                assert_eq!(at, blocks.len(), "one after the other");
                let mut call = payload["start"]["toolUse"].clone();
                call["input"] = json!("");
                blocks.push(json!({"toolUse": call}));
            }
            ("contentBlockDelta", Some(at)) => {
                if at == blocks.len() {
                    blocks.push(json!({"reasoningContent": {"reasoningText": {"text": ""}}}));
                }
                let delta = &payload["delta"];
                if let Some(text) = delta["toolUse"]["input"].as_str() {
                    let input = format!("{}{text}", blocks[at]["toolUse"]["input"].as_str().unwrap());
                    blocks[at]["toolUse"]["input"] = json!(input);
                } else if let Some(signature) = delta["reasoningContent"].get("signature") {
                    blocks[at]["reasoningContent"]["reasoningText"]["signature"] = signature.clone();
                }
            }
            _ => {}
        }
    }
    for block in &mut blocks {
        if let Some(text) = block["toolUse"]["input"].as_str() {
            block["toolUse"]["input"] = serde_json::from_str(text).unwrap();
        }
    }
    json!({"role": "assistant", "content": blocks})
}

#[test]
fn row_16_a_calls_signature_comes_back_through_a_client_of_this_dialect() {
    let signature = Signature::new(Dialect::Gemini, "c2lnbmF0dXJl/+==");
    let call = |index, id: &str, name: &str, signed: bool| {
        let head = PartHead::ToolCall { id: id.to_owned(), name: name.to_owned(), free_form: false };
        let mut events = vec![Event::PartStart { index, part: head }];
        if signed {
            events.push(Event::Delta { index, delta: Delta::Signature(signature.clone()) });
        }
        events.push(Event::Delta { index, delta: Delta::Input("{\"a\":1}".to_owned()) });
        events.push(Event::PartStop { index });
        events
    };
    let mut events = vec![Event::Start { id: None, model: None }];
    events.extend(call(0, "first", "read", true));
    events.extend(call(1, "second", "list", false));
    events.extend([Event::Stop { reason: StopReason::ToolUse, said: "STOP".to_owned(), sequence: None }, Event::End]);
    let streamed = message_of(&encoded(Framing::Frames, ForClient::default(), &events));
    let whole: Value = serde_json::from_slice(&encoded(Framing::Whole, ForClient::default(), &events)).unwrap();
    assert_eq!(streamed, whole["output"]["message"]);
    let result = |id: &str| json!({"toolResult": {"toolUseId": id, "content": [{"text": "ok"}]}});
    let body = json!({"messages": [
        {"role": "user", "content": [{"text": "go"}]}, streamed,
        {"role": "user", "content": [result("first"), result("second")]},
    ]});
    let path = crate::PathFacts { model: Some("m".to_owned()), stream: Some(false) };
    let mut request = Dialect::Converse.read_request(body.to_string().as_bytes(), &path).unwrap();
    request.model = "gemini-3-pro".to_owned();
    let facts = crate::Target { max_output: 1_000, reasoning: true };
    let written = Dialect::Gemini.write_request(&request, &facts).unwrap();
    let sent: Value = serde_json::from_slice(&written.body).unwrap();
    let parts = &sent["contents"][1]["parts"];
    assert_eq!(parts[0]["functionCall"]["name"], "read");
    assert_eq!(parts[0]["thoughtSignature"], signature.data());
    assert_eq!((parts[1].get("thoughtSignature"), parts.as_array().unwrap().len()), (None, 2));
    assert!(written.dropped.is_empty(), "{:?}", written.dropped);
}
