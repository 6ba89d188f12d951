//! Answers, read and written.

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CAN, WORDS};
use crate::{
    Dialect, Framing, Usage,
    gemini::{decoder, encoder, read_error, read_request},
    neutral::{ApiFault, Delta, Event, FaultKind, ForClient, Part, PartHead, Reasoning, Signature, StopReason, any},
};

fn read(chunks: &[Value]) -> Vec<Event> {
    let (mut decoder, mut out) = (decoder(Framing::Events), Vec::new());
    chunks.iter().for_each(|chunk| decoder.push(format!("data: {chunk}\r\n\r\n").as_bytes(), &mut out));
    decoder.finish(true, &mut out);
    out
}

fn write(framing: Framing, events: &[Event]) -> String {
    let client = ForClient { model: "my-model".to_owned(), id: "77".to_owned(), ..ForClient::default() };
    let (mut encoder, mut out) = (encoder(framing, client), BytesMut::new());
    events.iter().for_each(|event| encoder.push(event, &mut out));
    String::from_utf8(out.to_vec()).unwrap()
}

fn said(parts: &Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}],
        "responseId": "r", "modelVersion": "gemini-3"})
}

#[test]
fn a_stream_becomes_events() {
    let mut last = said(&json!([{"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "x", "name": "g"}}]));
    last["candidates"][0]["finishReason"] = json!("STOP");
    last["usageMetadata"] = json!({"promptTokenCount": 100, "cachedContentTokenCount": 60, "candidatesTokenCount": 10,
        "thoughtsTokenCount": 7, "toolUsePromptTokenCount": 5});
    insta::assert_debug_snapshot!(read(&[
        said(&json!([{"text": "I think", "thought": true}])),
        said(&json!([{"text": " so.", "thought": true}, {"text": "Well"}])),
        said(&json!([{"text": "."}, {"text": "", "thoughtSignature": "dGV4dA=="}])),
        last,
    ]));
}

#[test]
fn row_13_usage_is_cumulative_and_thoughts_are_billed() {
    let mut first = said(&json!([{"text": "a"}]));
    first["usageMetadata"] = json!({"promptTokenCount": 100, "cachedContentTokenCount": 60});
    let mut last = said(&json!([{"text": "b"}]));
    last["usageMetadata"] = json!({"candidatesTokenCount": 10, "thoughtsTokenCount": 7});
    let usage = |events: Vec<Event>| {
        events.into_iter().rev().find_map(|event| if let Event::Usage(usage) = event { Some(usage) } else { None })
    };
    let expected = Usage {
        input_tokens: 40,
        output_tokens: 17,
        cache_read_tokens: 60,
        reasoning_tokens: Some(7),
        ..Usage::default()
    };
    assert_eq!(usage(read(&[first, last])), Some(expected));
}

#[test]
fn a_blocked_prompt_is_a_refusal_and_what_ends_without_a_reason_is_no_answer() {
    let events = read(&[json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})]);
    assert!(matches!(&events[1], Event::PartStart { part: PartHead::Refusal, .. }));
    assert!(matches!(&events[4], Event::Stop { reason: StopReason::Refusal, .. }));
    assert_eq!(events.last(), Some(&Event::End));
    assert_eq!(read(&[said(&json!([{"text": "a"}]))]).last(), Some(&Event::PartStop { index: 0 }));
    let safety = json!({"candidates": [{"finishReason": "SAFETY"}]});
    assert!(read(&[safety]).iter().any(|event| matches!(event, Event::Stop { reason: StopReason::Refusal, .. })));
}

#[test]
fn errors_are_known_in_a_body_and_in_a_stream() {
    let error = json!({"error": {"code": 429, "message": "slower", "status": "RESOURCE_EXHAUSTED"}});
    let fault =
        ApiFault { kind: FaultKind::RateLimit, code: "RESOURCE_EXHAUSTED".to_owned(), message: "slower".to_owned() };
    assert_eq!(read_error(429, error.to_string().as_bytes()), fault);
    assert_eq!(read_error(429, json!([error]).to_string().as_bytes()), fault);
    assert_eq!(read(std::slice::from_ref(&error)), [Event::Error(fault.clone())]);
    for framing in [Framing::Events, Framing::Array, Framing::Whole] {
        let written = write(framing, &[Event::Error(fault.clone()), Event::End]);
        let [events, ..] = any::arrivals(Dialect::Gemini, framing, written.as_bytes(), true);
        assert_eq!(events, [Event::Error(fault.clone())], "{framing:?}");
    }
}

/// What a client of this dialect keeps of an answer and sends with the next turn: no thoughts, and texts joined.
fn kept(answer: &str) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for event in answer.split("\n\n").filter_map(|event| event.strip_prefix("data: ")) {
        let chunk: Value = serde_json::from_str(event).unwrap();
        for part in chunk["candidates"][0]["content"]["parts"].as_array().unwrap() {
            if part["thought"] == true || part["text"] == "" {
                continue;
            }
            match (kept.last_mut().and_then(|last| last.get_mut("text")), part.get("text")) {
                (Some(Value::String(text)), Some(Value::String(more))) => text.push_str(more),
                _ => kept.push(part.clone()),
            }
        }
    }
    kept
}

#[test]
fn row_14_thoughts_of_another_provider_come_back_through_a_client_that_throws_thoughts_away() {
    let signed = Signature::new(Dialect::Messages, "EuYBCoYB/+==");
    let sealed = Signature::new(Dialect::Messages, "c2VhbGVk");
    let events = [
        Event::Start { id: None, model: None },
        Event::PartStart { index: 0, part: PartHead::Reasoning { id: None } },
        Event::Delta { index: 0, delta: Delta::Reasoning("hm".to_owned()) },
        Event::Delta { index: 0, delta: Delta::Signature(signed.clone()) },
        Event::PartStop { index: 0 },
        Event::PartStart { index: 1, part: PartHead::Redacted { data: sealed.clone() } },
        Event::PartStop { index: 1 },
        Event::PartStart { index: 2, part: PartHead::Text },
        Event::Delta { index: 2, delta: Delta::Text("I re".to_owned()) },
        Event::Delta { index: 2, delta: Delta::Text("ad.".to_owned()) },
        Event::PartStop { index: 2 },
        Event::PartStart {
            index: 3,
            part: PartHead::ToolCall { id: "t".to_owned(), name: "f".to_owned(), free_form: false },
        },
        Event::Delta { index: 3, delta: Delta::Input("{}".to_owned()) },
        Event::PartStop { index: 3 },
        Event::Stop { reason: StopReason::ToolUse, said: "tool_use".to_owned(), sequence: None },
        Event::End,
    ];
    let next = json!({"contents": [{"role": "model", "parts": kept(&write(Framing::Events, &events))}]});
    let request = read_request(next.to_string().as_bytes()).unwrap();
    let thought = |text: &str, signature: &Signature, redacted| {
        let signature = Some(signature.clone());
        Part::Reasoning(Reasoning { text: text.to_owned(), signature, redacted, id: None })
    };
    let call = Part::ToolCall {
        id: "t".to_owned(),
        name: "f".to_owned(),
        input: "{}".to_owned(),
        free_form: false,
        signature: None,
        cache: None,
    };
    let text = Part::Text { text: "I read.".to_owned(), cache: None };
    assert_eq!(request.turns[0].parts, [thought("hm", &signed, false), thought("", &sealed, true), text, call]);
}

#[test]
fn an_answer_of_another_provider_is_written() {
    let events = [
        Event::Start { id: None, model: None },
        Event::PartStart { index: 0, part: PartHead::Reasoning { id: None } },
        Event::Delta { index: 0, delta: Delta::Reasoning("hm".to_owned()) },
        Event::PartStop { index: 0 },
        Event::PartStart { index: 1, part: PartHead::Text },
        Event::Delta { index: 1, delta: Delta::Text("He".to_owned()) },
        Event::Delta { index: 1, delta: Delta::Text("llo".to_owned()) },
        Event::PartStop { index: 1 },
        Event::Usage(Usage { input_tokens: 3, output_tokens: 4, cache_read_tokens: 5, ..Usage::default() }),
        Event::Stop { reason: StopReason::MaxTokens, said: "length".to_owned(), sequence: None },
        Event::End,
    ];
    let all = [Framing::Events, Framing::Array, Framing::Whole].map(|framing| write(framing, &events));
    insta::assert_snapshot!(all.join("\n----\n"));
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(events in any::answer(CAN)) {
        let mut expected = any::plain(events.clone());
        join_parts(&mut expected);
        for framing in [Framing::Events, Framing::Array, Framing::Whole] {
            let mut back = any::there_and_back(Dialect::Gemini, framing, &events);
            join_parts(&mut back);
            prop_assert_eq!(back, expected.clone(), "{:?}", framing);
        }
    }

    #[test]
    fn nothing_makes_the_decoder_panic(
        chunks in prop::collection::vec(any::json(WORDS), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        ended in any::<bool>(),
    ) {
        for framing in [Framing::Events, Framing::Array, Framing::Whole] {
            let mut bytes: Vec<u8> = chunks
                .iter()
                .flat_map(|chunk| if framing == Framing::Events { format!("data: {chunk}\n\n") } else { format!("{chunk},") }.into_bytes())
                .collect();
            bytes.extend(&noise);
            let [at_once, one_by_one, pieces] = any::arrivals(Dialect::Gemini, framing, &bytes, ended);
            prop_assert_eq!(&at_once, &one_by_one);
            prop_assert_eq!(&at_once, &pieces);
            write(framing, &at_once);
        }
    }
}

/// Two texts that follow each other are one in this dialect: without borders, and without order of usage and stop.
fn join_parts(events: &mut Vec<Event>) {
    let mut out: Vec<Event> = Vec::new();
    let mut last: Option<u32> = None;
    let mut next = 0;
    for event in events.drain(..) {
        match event {
            Event::PartStart { part, .. } => {
                let same = matches!(
                    (&part, out.iter().rev().find(|event| matches!(event, Event::PartStart { .. }))),
                    (PartHead::Text, Some(Event::PartStart { part: PartHead::Text, .. }))
                );
                if same {
                    continue;
                }
                last = Some(next);
                next += 1;
                out.push(Event::PartStart { index: next - 1, part });
            }
            Event::Delta { delta, .. } => match (out.last_mut(), delta) {
                (Some(Event::Delta { delta: Delta::Text(text), .. }), Delta::Text(more)) => text.push_str(&more),
                (_, delta) => out.push(Event::Delta { index: last.unwrap_or(0), delta }),
            },
            Event::PartStop { .. } | Event::Start { .. } => {}
            event => out.push(event),
        }
    }
    let usage = out.iter().position(|event| matches!(event, Event::Usage(_))).map(|at| out.remove(at));
    out.extend(usage);
    *events = out;
}
