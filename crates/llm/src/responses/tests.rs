//! Tests of this dialect: golden requests and answers, and properties of both ways.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::words::{TOOL_SEARCH, seal};
use crate::{
    Dialect::{self, Responses},
    Framing::{self, Events, Whole},
    Target,
    neutral::{
        ApiFault, ConvertError, Delta, Encode, Event, FaultKind, Part, PartHead, Reasoning, ReasoningWish, Request,
        Role, Signature, StopReason, Tool, ToolKind, Turn,
    },
    openai::testing::{TARGET, answer, client, cut, decoded, encoded, folded, lines, request, text},
};

fn read(value: &Value) -> Request {
    super::read_request(value.to_string().as_bytes()).unwrap()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// As Codex sends it, in its second turn.
fn codex() -> Value {
    json!({
        "model": "gpt-5.1-codex", "instructions": "You are Codex.", "stream": true, "store": false, "parallel_tool_calls": true,
        "tool_choice": "auto", "include": ["reasoning.encrypted_content"], "prompt_cache_key": "019a-session",
        "client_metadata": {"x-codex-installation-id": "i"}, "reasoning": {"effort": "medium", "summary": "auto"},
        "text": {"verbosity": "low"},
        "tools": [
            {"type": "function", "name": "exec_command", "description": "Runs a command.", "strict": false,
                "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}},
            {"type": "custom", "name": "apply_patch", "description": "Changes files.",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch"}},
            {"type": "namespace", "name": "mcp__docs", "description": "Documentation.", "tools": [
                {"type": "function", "name": "find", "description": "Finds.", "strict": false, "parameters": {"type": "object", "properties": {}}},
                {"type": "function", "name": "open", "strict": false, "parameters": {"type": "object", "properties": {}}}]},
            {"type": "tool_search", "execution": "client", "description": "Finds tools.",
                "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}}],
        "input": [
            {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "update_plan", "strict": false, "parameters": {"type": "object", "properties": {}}}]},
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandbox: off."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context/>"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look at it."},
                {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "content": null, "encrypted_content": "stk1-messages-c2ln"},
            {"type": "message", "role": "assistant", "phase": "commentary", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "name": "exec_command", "arguments": "{\"cmd\":\"ls\"}", "call_id": "call_1"},
            {"type": "function_call", "name": "find", "namespace": "mcp__docs", "arguments": "{}", "call_id": "call_2"},
            {"type": "custom_tool_call", "status": "completed", "call_id": "call_3", "name": "apply_patch", "input": "*** Begin Patch"},
            {"type": "tool_search_call", "call_id": "call_4", "execution": "client", "arguments": {"query": "x"}, "status": "completed"},
            {"type": "function_call_output", "call_id": "call_1", "output": "a.txt"},
            {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "found"}, {"type": "input_image", "image_url": "https://example.org/a.png"}]},
            {"type": "custom_tool_call_output", "call_id": "call_3", "output": "Done"},
            {"type": "tool_search_output", "call_id": "call_4", "execution": "client", "status": "completed", "tools": [{"type": "function", "name": "late", "parameters": {}}]}],
    })
}

#[test]
fn row_27_a_request_of_codex_is_read_with_every_kind_of_tool() {
    let request = read(&codex());
    let names: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(
        names,
        ["exec_command", "apply_patch", "mcp__docs::find", "mcp__docs::open", TOOL_SEARCH, "update_plan", "late"]
    );
    assert!(request.extra.is_empty(), "{:?}", request.extra);
    let wish = request.reasoning.clone().unwrap();
    assert!(wish.sealed && wish.show == Some(true));
    let roles: Vec<Role> = request.turns.iter().map(|turn| turn.role).collect();
    assert_eq!(roles, [Role::User, Role::User, Role::Assistant, Role::User]);
    assert_eq!(request.system.len(), 2);
    let Part::Reasoning(thought) = &request.turns[2].parts[0] else { panic!() };
    assert_eq!(thought.signature, Some(Signature::new(Dialect::Messages, "sig")));
    // For a model that has functions only, and for one of OpenAI behind the older API.
    let made = Dialect::Chat.write_request(&Request { model: "qwen3".to_owned(), ..request.clone() }, &TARGET).unwrap();
    insta::assert_snapshot!("codex_to_open_model", pretty(&parsed(&made.body)));
    let rules: Vec<&str> = made.dropped.iter().map(|dropped| dropped.rule).collect();
    assert_eq!(rules, ["foreign-reasoning", "thoughts-hidden", "no-counterpart"], "{:?}", made.dropped);
    assert_eq!(
        made.aliases.original(parsed(&made.body)["tools"][2]["function"]["name"].as_str().unwrap()),
        "mcp__docs::find"
    );
    let made = super::write_request(&request, &TARGET).unwrap();
    insta::assert_snapshot!("codex_to_responses", pretty(&parsed(&made.body)));
}

#[test]
fn row_27_calls_of_every_kind_come_back_to_codex() {
    let asked = read(&codex());
    let made = Dialect::Chat.write_request(&Request { model: "qwen3".to_owned(), ..asked.clone() }, &TARGET).unwrap();
    let tools = parsed(&made.body)["tools"].clone();
    let name = |at: usize| tools[at]["function"]["name"].as_str().unwrap().to_owned();
    let call = |index: u32, name: String, input: &str| {
        let part = PartHead::ToolCall { id: format!("c{index}"), name, free_form: false };
        let delta = Delta::Input(input.to_owned());
        [Event::PartStart { index, part }, Event::Delta { index, delta }, Event::PartStop { index }]
    };
    let mut events = vec![Event::Start { id: None, model: None }];
    events.extend(call(0, name(0), "{\"cmd\":\"ls\"}"));
    events.extend(call(1, name(1), "{\"input\":\"*** Begin Patch\"}"));
    events.extend(call(2, name(2), "{}"));
    events.extend(call(3, name(4), "{\"query\":\"y\"}"));
    events.extend([
        Event::Stop { reason: StopReason::ToolUse, said: "tool_calls".to_owned(), sequence: None },
        Event::End,
    ]);
    let for_codex = crate::neutral::ForClient { aliases: made.aliases, ..client(Some(asked)) };
    insta::assert_snapshot!(
        "calls_for_codex",
        String::from_utf8(encoded(Responses, Events, for_codex.clone(), &events)).unwrap()
    );
    // And what it sends back is what was called.
    let whole = parsed(&encoded(Responses, Whole, for_codex, &events));
    let again = read(&json!({"model": "m", "input": whole["output"]}));
    let names: Vec<&str> = again.turns[0]
        .parts
        .iter()
        .map(|part| match part {
            Part::ToolCall { name, .. } => name.as_str(),
            _ => "?",
        })
        .collect();
    assert_eq!(names, ["exec_command", "apply_patch", "mcp__docs::find", TOOL_SEARCH]);
}

#[test]
fn row_15_thoughts_come_with_their_seals_and_go_back() {
    let part = |index, part| Event::PartStart { index, part };
    let delta = |index, delta| Event::Delta { index, delta };
    let stop = |index| Event::PartStop { index };
    let seal_of = |data: &str| Signature::new(Dialect::Messages, data);
    let events = [
        Event::Start { id: None, model: None },
        part(0, PartHead::Reasoning { id: None }),
        delta(0, Delta::Reasoning("let me ".to_owned())),
        delta(0, Delta::Reasoning("see".to_owned())),
        delta(0, Delta::Signature(seal_of("sig"))),
        stop(0),
        part(1, PartHead::Redacted { data: seal_of("red") }),
        stop(1),
        part(2, PartHead::Reasoning { id: None }),
        delta(2, Delta::Signature(seal_of("mute"))),
        stop(2),
        part(3, PartHead::Text),
        delta(3, Delta::Text("Yes".to_owned())),
        delta(3, Delta::Text(".".to_owned())),
        stop(3),
        part(4, PartHead::Refusal),
        delta(4, Delta::Text("But no.".to_owned())),
        stop(4),
        Event::Usage(crate::Usage {
            input_tokens: 10,
            output_tokens: 7,
            cache_read_tokens: 4,
            cache_write_5m_tokens: 2,
            reasoning_tokens: Some(3),
            ..crate::Usage::default()
        }),
        Event::Stop { reason: StopReason::End, said: "end_turn".to_owned(), sequence: None },
        Event::End,
    ];
    let asked =
        Request { reasoning: Some(ReasoningWish { sealed: true, ..ReasoningWish::default() }), ..Request::default() };
    let text = String::from_utf8(encoded(Responses, Events, client(Some(asked.clone())), &events)).unwrap();
    insta::assert_snapshot!("thoughts", text);
    assert!(!text.contains("[DONE]"));
    let whole = parsed(&encoded(Responses, Whole, client(Some(asked)), &events));
    // What was streamed is what the last word says: same items, same identifiers.
    let last = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert_eq!(parsed(last.as_bytes())["response"], whole);
    for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event = parsed(line.as_bytes());
        if event["type"] == "response.output_item.done" {
            assert!(whole["output"].as_array().unwrap().contains(&event["item"]));
        }
    }
    let back = read(&json!({"model": "m", "input": whole["output"]}));
    let seals: Vec<(String, bool, Option<Signature>)> = back.turns[0]
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Reasoning(thought) => Some((thought.text.clone(), thought.redacted, thought.signature.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(
        seals,
        [
            ("let me see".to_owned(), false, Some(seal_of("sig"))),
            (String::new(), true, Some(seal_of("red"))),
            (String::new(), false, Some(seal_of("mute"))),
        ]
    );
    // Nobody asked for seals: thoughts in words only.
    let open = String::from_utf8(encoded(Responses, Events, client(None), &events)).unwrap();
    assert!(open.contains("let me see") && !open.contains("stk1-"));
}

/// A stream as OpenAI sends it: a thought in two paragraphs, a text, a call, and events that nobody here acts on.
fn openai_stream() -> Vec<u8> {
    let events = [
        json!({"type": "response.created", "response": {"id": "resp_1", "model": "gpt-5-2025-08-07", "status": "in_progress", "output": []}}),
        json!({"type": "response.in_progress", "response": {"id": "resp_1"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": "rs_1", "type": "reasoning", "summary": []}}),
        json!({"type": "response.reasoning_summary_part.added", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "part": {"type": "summary_text", "text": ""}}),
        json!({"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "delta": "first"}),
        json!({"type": "response.reasoning_summary_part.added", "item_id": "rs_1", "output_index": 0, "summary_index": 1, "part": {"type": "summary_text", "text": ""}}),
        json!({"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0, "summary_index": 1, "delta": "second"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": {"id": "rs_1", "type": "reasoning", "encrypted_content": "gAAA", "summary": [{"text": "first"}, {"text": "second"}]}}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"id": "msg_1", "type": "message", "content": []}}),
        json!({"type": "response.content_part.added", "output_index": 1, "content_index": 0, "part": {"type": "output_text", "text": ""}}),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "hi", "obfuscation": "x"}),
        json!({"type": "response.something.new", "output_index": 1}),
        json!({"type": "response.output_text.done", "output_index": 1, "content_index": 0, "text": "hi"}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "hi"}]}}),
        json!({"type": "response.output_item.added", "output_index": 2, "item": {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "find", "namespace": "docs", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"}),
        json!({"type": "response.function_call_arguments.done", "output_index": 2, "arguments": "{}"}),
        json!({"type": "response.output_item.done", "output_index": 2, "item": {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "find", "namespace": "docs", "arguments": "{}"}}),
        json!({"type": "response.output_item.done", "output_index": 3, "item": {"id": "ws_1", "type": "web_search_call", "status": "completed"}}),
        json!({"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "error": null, "output": [{"type": "reasoning"}, {"type": "message"}, {"type": "function_call"}, {"type": "web_search_call"}],
            "usage": {"input_tokens": 80, "input_tokens_details": {"cached_tokens": 64}, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 89}}}),
    ];
    events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))
        .collect::<String>()
        .into_bytes()
}

#[test]
fn a_stream_of_openai_is_read() {
    insta::assert_snapshot!(lines(&decoded(Responses, Events, [&openai_stream()[..]])));
}

#[test]
fn what_stands_only_in_the_last_word_is_read_all_the_same() {
    let whole = json!({"id": "resp_1", "object": "response", "model": "m", "status": "incomplete", "error": null,
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "cut"}]},
            {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin"}],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}});
    let body = decoded(Responses, Whole, [whole.to_string().as_bytes()]);
    let event = format!("data: {}\n\n", json!({"type": "response.incomplete", "response": whole}));
    assert_eq!(decoded(Responses, Events, [event.as_bytes()]), body);
    insta::assert_snapshot!(lines(&body), @r#"
    Start { id: Some("resp_1"), model: Some("m") }
    PartStart { index: 0, part: Text }
    Delta { index: 0, delta: Text("cut") }
    PartStop { index: 0 }
    PartStart { index: 1, part: ToolCall { id: "c", name: "apply_patch", free_form: true } }
    Delta { index: 1, delta: Input("*** Begin") }
    PartStop { index: 1 }
    Usage(Usage { input_tokens: 1, output_tokens: 2, cache_read_tokens: 0, cache_write_5m_tokens: 0, cache_write_1h_tokens: 0, reasoning_tokens: None, tier: None })
    Stop { reason: MaxTokens, said: "max_output_tokens", sequence: None }
    End
    "#);
    assert_eq!(decoded(Responses, Whole, [&b"{}"[..]]), [Event::Unreadable]);
    assert_eq!(decoded(Responses, Whole, [&b"{"[..]]), [Event::Unreadable]);
}

#[test]
fn row_24_errors_in_a_stream_are_its_end() {
    for (event, kind) in [
        (
            json!({"type": "error", "code": "rate_limit_exceeded", "message": "m", "param": null, "sequence_number": 1}),
            FaultKind::RateLimit,
        ),
        (json!({"type": "error", "error": {"type": "server_error", "message": "m"}}), FaultKind::Api),
        (
            json!({"type": "response.failed", "response": {"id": "r", "status": "failed", "output": [], "error": {"code": "server_is_overloaded", "message": "m"}}}),
            FaultKind::Overloaded,
        ),
        (json!({"error": {"message": "m", "code": 503}}), FaultKind::Overloaded),
    ] {
        let seen = decoded(Responses, Events, [format!("data: {event}\n\ndata: {event}\n\n").as_bytes()]);
        let Some(Event::Error(fault)) = seen.last() else { panic!("{seen:?}") };
        assert_eq!((fault.kind, fault.message.as_str()), (kind, "m"));
        assert_eq!(seen.iter().filter(|event| matches!(event, Event::Error(_))).count(), 1);
    }
    let fault = ApiFault::new(FaultKind::InvalidRequest, "prompt is too long: 9 > 8");
    let text = String::from_utf8(encoded(Responses, Events, client(None), &[Event::Error(fault)])).unwrap();
    assert!(text.starts_with("event: response.created\n") && text.contains("event: response.failed\n"), "{text}");
    assert!(text.contains("context_length_exceeded") && !text.contains("response.completed"));
    let whole = encoded(Responses, Whole, client(None), &[Event::Error(ApiFault::new(FaultKind::RateLimit, "slow"))]);
    assert_eq!(parsed(&whole)["error"]["code"], "rate_limit_exceeded");
}

#[test]
fn items_over_the_limit_are_counted() {
    let event = |place: u64| {
        format!("data: {}\n\n", json!({"type": "response.output_text.delta", "output_index": place, "delta": "x"}))
    };
    let stream: String = (0..10_001).map(event).collect();
    let answer = folded(&decoded(Responses, Events, [stream.as_bytes()]));
    assert_eq!((answer.parts.len(), answer.unreadable), (10_000, 1));
}

#[test]
fn an_answer_over_the_limit_ends_with_an_error() {
    let piece = |len| Event::Delta { index: 0, delta: Delta::Text("x".repeat(len)) };
    let start = Event::PartStart { index: 0, part: PartHead::Text };
    for framing in [Events, Whole] {
        let made = |more: usize| {
            let mut encoder = super::encode::Encoder::with_room(framing, client(None), 10);
            let mut out = bytes::BytesMut::new();
            [start.clone(), piece(10), piece(more), Event::End].iter().for_each(|event| encoder.push(event, &mut out));
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert!(!made(0).contains("longer than what is held"), "{framing:?}");
        let over = made(1);
        assert!(over.contains("longer than what is held") && !over.contains("response.completed"), "{framing:?}");
    }
}

#[test]
fn what_is_kept_elsewhere_or_run_by_the_provider_is_refused() {
    let written = |value: &Value| Dialect::Chat.write_request(&read(value), &TARGET).unwrap_err().to_string();
    for (key, value, says) in [
        ("previous_response_id", json!("resp_1"), "previous_response_id"),
        ("conversation", json!("conv_1"), "conversation"),
        ("prompt", json!({"id": "p"}), "prompt"),
        ("tools", json!([{"type": "web_search"}]), "web_search"),
        ("tools", json!([{"type": "mcp", "server_label": "x"}]), "mcp"),
        ("input", json!([{"type": "web_search_call", "id": "ws_1"}]), "web_search_call"),
    ] {
        let mut body = json!({"model": "m", "input": "x"});
        body[key] = value;
        let text = written(&body);
        assert!(text.contains(says), "{text}");
    }
    let refused = |text: &str| super::read_request(text.as_bytes()).unwrap_err();
    assert!(
        refused(r#"{"model":"m","input":[{"type":"item_reference","id":"x"}]}"#)
            .to_string()
            .contains("send the item itself")
    );
    assert!(
        refused(r#"{"model":"m","input":"x","tool_choice":{"type":"web_search"}}"#).to_string().contains("web_search")
    );
    for body in [
        "[]",
        r#"{"input":"x"}"#,
        r#"{"model":"m","input":3}"#,
        r#"{"model":"m","input":[{"role":"x","content":"y"}]}"#,
        r#"{"model":"m","tools":[{"type":"function","name":"a::b"}]}"#,
        r#"{"model":"m","input":[{"type":"function_call"}]}"#,
    ] {
        assert!(matches!(refused(body), ConvertError::Syntax { .. }), "{body}");
    }
}

#[test]
fn row_14_own_thoughts_go_back_with_the_identifier_of_their_item() {
    let request = Request {
        model: "gpt-5.1".to_owned(),
        turns: vec![Turn {
            role: Role::Assistant,
            parts: vec![
                Part::Reasoning(Reasoning {
                    text: "hm".to_owned(),
                    signature: Some(seal(Some("rs_7"), "gAAA")),
                    ..Reasoning::default()
                }),
                Part::Reasoning(Reasoning {
                    text: "foreign".to_owned(),
                    signature: Some(Signature::new(Dialect::Messages, "x")),
                    ..Reasoning::default()
                }),
                text("yes"),
            ],
        }],
        max_output: Some(1),
        ..Request::default()
    };
    let made = super::write_request(&request, &TARGET).unwrap();
    let body = parsed(&made.body);
    insta::assert_snapshot!(body["input"].to_string(), @r#"[{"type":"reasoning","id":"rs_7","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"gAAA"},{"role":"assistant","content":"yes"}]"#);
    assert_eq!(body["max_output_tokens"], 16);
    let rules: Vec<&str> = made.dropped.iter().map(|dropped| dropped.rule).collect();
    assert_eq!(rules, ["clamped", "foreign-reasoning"]);
    let plain = super::write_request(&request, &Target { reasoning: false, ..TARGET }).unwrap();
    assert!(parsed(&plain.body).get("include").is_none());
}

#[test]
fn a_tool_of_the_shell_has_items_of_its_own() {
    let asked = read(&json!({"model": "m", "input": "x", "tools": [{"type": "local_shell"}]}));
    let Tool { name, kind: ToolKind::Function { .. }, .. } = &asked.tools[0] else { panic!() };
    let events = [
        Event::PartStart {
            index: 0,
            part: PartHead::ToolCall { id: "c".to_owned(), name: name.clone(), free_form: false },
        },
        Event::Delta { index: 0, delta: Delta::Input("{\"command\":[\"ls\"]}".to_owned()) },
        Event::End,
    ];
    let whole = parsed(&encoded(Responses, Whole, client(Some(asked.clone())), &events));
    insta::assert_snapshot!(whole["output"].to_string(), @r#"[{"id":"lsh_abc123_0","status":"completed","call_id":"c","type":"local_shell_call","action":{"command":["ls"],"type":"exec","env":{}}}]"#);
    let back = read(
        &json!({"model": "m", "input": [whole["output"][0], {"type": "local_shell_call_output", "id": "c", "output": "a"}]}),
    );
    assert!(matches!(&back.turns[1].parts[0], Part::ToolResult { name: Some(called), .. } if called == name));
}

proptest! {
    #[test]
    fn a_request_survives_being_written_and_read(request in request()) {
        let made = super::write_request(&request, &TARGET).unwrap();
        prop_assert!(made.dropped.is_empty() && made.aliases.is_empty(), "{:?}", made.dropped);
        let mut wanted = request;
        // What is asked for always, so that the next turn is as good.
        wanted.reasoning.get_or_insert_default().sealed = true;
        let mut seen = super::read_request(&made.body).unwrap();
        for part in seen.turns.iter_mut().chain(&mut wanted.turns).flat_map(|turn| &mut turn.parts) {
            if let Part::Media(media) = part {
                media.detail.get_or_insert_with(|| "auto".to_owned());
            }
        }
        prop_assert_eq!(seen, wanted);
    }

    #[test]
    fn an_answer_survives_being_written_and_read(events in answer(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let bytes = encoded(Responses, Events, client(None), &events);
        let seen = decoded(Responses, Events, [&bytes[..]]);
        prop_assert_eq!(&decoded(Responses, Events, cut(&bytes, &cuts)), &seen);
        prop_assert_eq!(&decoded(Responses, Events, bytes.chunks(1)), &seen);
        let (wanted, seen) = (folded(&events), folded(&seen));
        let whole = encoded(Responses, Whole, client(None), &events);
        let at_once = folded(&decoded(Responses, Whole, [&whole[..]]));
        for seen in [seen, at_once] {
            let parts: Vec<Part> = seen.parts.into_iter().map(|part| match part {
                Part::Reasoning(thought) => Part::Reasoning(Reasoning { id: None, ..thought }),
                other => other,
            }).collect();
            // Clients of this dialect are always told a tier.
            let usage = seen.usage.map(|usage| crate::Usage { tier: None, ..usage });
            prop_assert_eq!((&parts, usage, seen.stop, seen.complete), (&wanted.parts, wanted.usage, wanted.stop, true));
        }
    }

    #[test]
    fn numbers_of_events_go_up_by_one(events in answer()) {
        let text = String::from_utf8(encoded(Responses, Events, client(None), &events)).unwrap();
        let events: Vec<Value> = text.lines().filter_map(|line| line.strip_prefix("data: ")).map(|line| parsed(line.as_bytes())).collect();
        for (number, event) in events.iter().enumerate() {
            prop_assert_eq!(&event["sequence_number"], &json!(number));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), framing in prop::sample::select(vec![Framing::Events, Framing::Whole])) {
        let _ = super::read_request(&bytes);
        let _ = decoded(Responses, framing, [&bytes[..]]);
    }

    #[test]
    fn no_order_of_events_makes_the_reader_panic(order in prop::collection::vec(0usize..20, 0..40)) {
        let stream = String::from_utf8(openai_stream()).unwrap();
        let pieces: Vec<&str> = stream.split_inclusive("\n\n").collect();
        let text: String = order.iter().filter_map(|at| pieces.get(*at).copied()).collect();
        let whole = decoded(Responses, Events, [text.as_bytes()]);
        prop_assert_eq!(decoded(Responses, Events, text.as_bytes().chunks(7)), whole.clone());
        for framing in [Events, Whole] {
            let _ = encoded(Responses, framing, client(None), &whole);
        }
    }
}
