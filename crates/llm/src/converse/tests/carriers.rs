//! Bodies and events of the Messages API as Bedrock and Vertex carry them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::unframed;
use crate::{
    converse::{
        invoke::{ToEvents, ToFrames, carry, error_for_messages, uncarry},
        refused::{FIELDS, FLAGS, Upstream, fields, flags},
    },
    eventstream::exception,
    neutral::{ApiFault, FaultKind},
};

fn carried(body: &str, flags: &[&str], upstream: Upstream) -> String {
    let carried = carry(&Bytes::from(body.to_owned()), flags.iter().copied(), upstream).unwrap();
    String::from_utf8(carried.body.to_vec()).unwrap()
}

#[test]
fn only_what_is_named_changes_in_a_body() {
    let body = "{ \"model\" : \"m\" ,\n \"max_tokens\":1e2, \"stream\": true, \"odd\":[1 ,{\"model\":\"\\u00e9\"}] }";
    assert_eq!(
        carried(body, &[], Upstream::Invoke),
        "{ \"anthropic_version\":\"bedrock-2023-05-31\",\"max_tokens\":1e2, \"odd\":[1 ,{\"model\":\"\\u00e9\"}] }"
    );
    assert_eq!(
        carried("{\"max_tokens\":1,\"stream\":true,\"model\":\"m\"}", &["context-1m-2025-08-07"], Upstream::Invoke),
        "{\"anthropic_version\":\"bedrock-2023-05-31\",\"anthropic_beta\":[\"context-1m-2025-08-07\"],\"max_tokens\":1}"
    );
    assert_eq!(carried("{\"model\":\"m\"}", &[], Upstream::Invoke), "{\"anthropic_version\":\"bedrock-2023-05-31\"}");
    assert_eq!(carried("{}", &[], Upstream::Vertex), "{\"anthropic_version\":\"vertex-2023-10-16\"}");
    assert_eq!(
        carried("{\"stream\":true,\"model\":\"m\"}", &[], Upstream::Vertex),
        "{\"anthropic_version\":\"vertex-2023-10-16\",\"stream\":true}"
    );
    let same = "{\"model\":\"m\",\"stream\":true}";
    assert_eq!(carried(same, &["anything"], Upstream::Foundry), same);
    assert!(carry(&Bytes::from_static(b"[1]"), [], Upstream::Invoke).is_err());
    assert!(carry(&Bytes::from_static(b"{"), [], Upstream::Invoke).is_err());
}

#[test]
fn flags_and_fields_that_a_cloud_refuses_are_left_out_with_their_reasons() {
    // What Claude Code sends to Anthropic.
    let wanted = [
        "claude-code-20250219",
        "interleaved-thinking-2025-05-14",
        "advanced-tool-use-2025-11-20",
        "tool-search-tool-2025-10-19",
        "prompt-caching-scope-2026-01-05",
        "something-new-2030-01-01",
    ];
    let (kept, refused) = flags(Upstream::Invoke, wanted);
    assert_eq!(kept, ["interleaved-thinking-2025-05-14", "tool-search-tool-2025-10-19"]);
    assert_eq!(refused.len(), 3);
    let (kept, refused) = flags(Upstream::Vertex, wanted);
    assert_eq!(
        kept,
        [
            "claude-code-20250219",
            "interleaved-thinking-2025-05-14",
            "tool-search-tool-2025-10-19",
            "something-new-2030-01-01"
        ]
    );
    assert_eq!(refused.len(), 1);

    let body = json!({
        "context_management": {"edits": []},
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "\"cache_control\":{\"scope\":1}", "cache_control": {"scope": "global", "type": "ephemeral"}},
            {"type": "tool_use", "id": "a", "name": "t", "input": {"cache_control": {"scope": "mine"}}},
        ]}],
        "service_tier": "auto",
        "tools": [{"eager_input_streaming": true, "name": "t", "input_schema": {}}],
    })
    .to_string();
    let body = Bytes::from(body);
    let carried = carry(&body, ["context-management-2025-06-27"], Upstream::Invoke).unwrap();
    let seen: Value = serde_json::from_slice(&carried.body).unwrap();
    assert_eq!(
        seen["anthropic_beta"],
        json!(["context-management-2025-06-27", "fine-grained-tool-streaming-2025-05-14"])
    );
    assert!(seen.get("context_management").is_some() && seen.get("service_tier").is_none());
    assert_eq!(seen["tools"][0], json!({"name": "t", "input_schema": {}}));
    assert_eq!(seen["messages"][0]["content"][0]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(seen["messages"][0]["content"][0]["text"], "\"cache_control\":{\"scope\":1}");
    assert_eq!(seen["messages"][0]["content"][1]["input"], json!({"cache_control": {"scope": "mine"}}));
    let names: Vec<&str> = carried.refused.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["tools[].eager_input_streaming", "messages[].content[].cache_control.scope", "service_tier"]);
    let seen: Value = serde_json::from_slice(&carry(&body, [], Upstream::Invoke).unwrap().body).unwrap();
    assert!(seen.get("context_management").is_none());
}

#[test]
fn what_becomes_of_thinking_from_elsewhere_is_said_at_bedrock_with_its_flag_only() {
    let body = Bytes::from_static(
        b"{\"thinking\":{\"type\":\"adaptive\",\"block_binding\":{\"prefix_mismatch_behavior\":\"drop_block\"}}}",
    );
    let flag = "thinking-binding-controls-2026-08-01";
    let with = carry(&body, [flag], Upstream::Invoke).unwrap();
    let seen: Value = serde_json::from_slice(&with.body).unwrap();
    assert_eq!(seen["anthropic_beta"], json!([flag]));
    assert_eq!(seen["thinking"]["block_binding"], json!({"prefix_mismatch_behavior": "drop_block"}));
    assert_eq!(with.refused, []);
    let without = carry(&body, [], Upstream::Invoke).unwrap();
    let seen: Value = serde_json::from_slice(&without.body).unwrap();
    assert_eq!(seen["thinking"], json!({"type": "adaptive"}));
    let named = |carried: &str| carried == "thinking.block_binding";
    assert!(without.refused.iter().any(|(name, _)| named(name)));
}

#[test]
fn the_table_is_in_order() {
    for flag in FLAGS {
        assert!(!flag.at.is_empty() && !flag.reason.is_empty(), "{}", flag.name);
        let same =
            FLAGS.iter().filter(|other| other.name == flag.name && other.at.iter().any(|at| flag.at.contains(at)));
        assert_eq!(same.count(), 1, "{} stands twice for one provider", flag.name);
    }
    assert!(FIELDS.iter().all(|field| !field.at.is_empty() && !field.reason.is_empty()));
    assert_eq!(fields(Upstream::Vertex, &[]).filter(|field| field.path == "context_management").count(), 0);
}

#[test]
fn a_body_comes_back_with_its_model_and_its_flags() {
    let body = Bytes::from_static(
        b"{\"anthropic_version\":\"bedrock-2023-05-31\",\"anthropic_beta\":[\"a\",\"b\"], \"max_tokens\" : 7}",
    );
    let back = uncarry(&body, "claude-x", true).unwrap();
    assert_eq!(back.body, "{\"model\":\"claude-x\",\"stream\":true,\"max_tokens\" : 7}");
    assert_eq!(back.flags, ["a", "b"]);
    assert_eq!(uncarry(&Bytes::from_static(b"{}"), "m", false).unwrap().body, "{\"model\":\"m\"}");
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","usage":{"input_tokens":5,"cache_read_input_tokens":3,"output_tokens":1}}}"#;
const DELTA: &str = r#"{ "type": "content_block_delta","index":0,"delta":{"type":"text_delta","text":"\u00e9"}}"#;
const END: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

#[test]
fn flags_that_stand_twice_count_twice_and_go_all() {
    let body = Bytes::from_static(br#"{"anthropic_beta":["a"],"max_tokens":5,"anthropic_beta":["b",1],"messages":[]}"#);
    let plain = uncarry(&body, "m", false).unwrap();
    assert_eq!(plain.flags, ["a", "b"]);
    assert_eq!(plain.body, r#"{"model":"m","max_tokens":5,"messages":[]}"#.as_bytes());
    let odd = Bytes::from_static(br#"{"anthropic_beta":"x","max_tokens":5}"#);
    assert_eq!(uncarry(&odd, "m", false).unwrap().flags, Vec::<String>::new());
}

fn events(list: &[&str]) -> String {
    let one = |data: &&str| {
        let kind = serde_json::from_str::<Value>(data).unwrap()["type"].as_str().unwrap().to_owned();
        format!("event: {kind}\ndata: {data}\n\n")
    };
    list.iter().map(one).collect()
}

#[test]
fn events_go_into_frames_and_back_unread() {
    let (mut to_frames, mut wire) = (ToFrames::default(), BytesMut::new());
    for chunk in events(&[START, DELTA, END, STOP]).as_bytes().chunks(7) {
        to_frames.push(chunk, &mut wire);
    }
    let seen = unframed(&wire);
    assert!(seen.iter().all(|(kind, _)| kind == "chunk"));
    let data = |index: usize| STANDARD.decode(seen[index].1["bytes"].as_str().unwrap()).unwrap();
    assert_eq!(data(1), DELTA.as_bytes());
    let last: Value = serde_json::from_slice(&data(3)).unwrap();
    let metrics = json!({"inputTokenCount": 5, "outputTokenCount": 9, "cacheReadInputTokenCount": 3, "cacheWriteInputTokenCount": 0});
    assert_eq!(last, json!({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics}));
    let (mut to_events, mut out) = (ToEvents::default(), BytesMut::new());
    for chunk in wire.chunks(11) {
        to_events.push(chunk, &mut out).unwrap();
    }
    to_events.finish().unwrap();
    let text = String::from_utf8(out.to_vec()).unwrap();
    assert!(text.starts_with(&events(&[START, DELTA, END])));
    assert!(text.ends_with("}}\n\n") && text.contains("event: message_stop\ndata: {\"type\":\"message_stop\","));
}

#[test]
fn what_goes_wrong_in_a_stream_is_said_in_the_other_framing() {
    let (mut to_events, mut out) = (ToEvents::default(), BytesMut::new());
    to_events.push(&exception("throttlingException", b"{\"message\":\"slow\"}"), &mut out).unwrap();
    to_events.push(&crate::eventstream::event("chunk", b"{}"), &mut out).unwrap();
    let expected =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}\n\n";
    assert_eq!(out, expected);
    let (mut to_frames, mut wire) = (ToFrames::default(), BytesMut::new());
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#;
    to_frames.push(events(&[START, error, DELTA]).as_bytes(), &mut wire);
    to_frames.broken(&ApiFault::new(FaultKind::Api, "twice"), &mut wire);
    let seen = unframed(&wire);
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1], ("serviceUnavailableException".to_owned(), json!({"message": "busy"})));
    let body = error_for_messages(400, br#"{"message":"invalid beta flag"}"#);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"], json!({"type": "invalid_request_error", "message": "invalid beta flag"}));
}

#[test]
fn an_event_that_is_too_large_ends_the_stream_and_is_not_left_out() {
    let (mut to_frames, mut wire) = (ToFrames::default(), BytesMut::new());
    let large = format!("{{\"type\":\"content_block_delta\",\"x\":\"{}\"}}", "x".repeat(crate::sse::MAX_EVENT_BYTES));
    to_frames.push(events(&[START, &large, DELTA, STOP]).as_bytes(), &mut wire);
    let kinds: Vec<String> = unframed(&wire).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["chunk", "internalServerException"]);
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            Just("model".to_owned()),
            Just("stream".to_owned()),
            Just("tools".to_owned()),
            Just("cache_control".to_owned()),
            Just("scope".to_owned()),
            Just("eager_input_streaming".to_owned()),
            ".{0,4}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_cut_is_gone_and_the_rest_is_there(value in json_value(), pretty in any::<bool>()) {
        prop_assume!(value.is_object());
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let carried = carry(&Bytes::from(text), [], Upstream::Invoke);
        let Ok(carried) = carried else { return Ok(()) };
        let seen: Value = serde_json::from_slice(&carried.body).unwrap();
        let mut expected = value.as_object().unwrap().clone();
        for key in ["model", "stream", "anthropic_beta"] {
            expected.remove(key);
        }
        expected.insert("anthropic_version".to_owned(), json!("bedrock-2023-05-31"));
        if let Some(Value::Array(tools)) = expected.get_mut("tools") {
            for tool in tools {
                if let Some(tool) = tool.as_object_mut() {
                    tool.remove("eager_input_streaming");
                    if let Some(Value::Object(mark)) = tool.get_mut("cache_control") {
                        mark.remove("scope");
                    }
                }
            }
        }
        if let Some(Value::Object(mark)) = expected.get_mut("cache_control") {
            mark.remove("scope");
        }
        let mut seen = seen.as_object().unwrap().clone();
        seen.remove("anthropic_beta");
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn no_bytes_make_the_carriers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let body = Bytes::from(bytes);
        let _ = carry(&body, [], Upstream::Invoke);
        let _ = uncarry(&body, "m", true);
        let mut out = BytesMut::new();
        let _ = ToEvents::default().push(&body, &mut out);
        let _ = ToEvents::default().push(&crate::eventstream::event("chunk", &body), &mut out);
        ToFrames::default().push(&body, &mut out);
    }
}
