//! Requests, read and written.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CAN, TARGET, WORDS};
use crate::{
    CacheUse, Dialect, Target,
    anthropic::{read_request, view, write_request},
    neutral::{
        CacheMark, ConvertError, Effort, Media, MediaKind, OutputForm, Part, Reasoning, ReasoningWish, Request, Role,
        Signature, Source, ToolChoice, Turn, any,
    },
};

fn read(value: &Value) -> Request {
    read_request(value.to_string().as_bytes()).unwrap()
}

fn write(request: &Request) -> Value {
    serde_json::from_slice(&write_request(request, &TARGET).unwrap().body).unwrap()
}

fn dropped(request: &Request) -> Vec<String> {
    let written = write_request(request, &TARGET).unwrap();
    written.dropped.iter().map(|dropped| format!("{}: {}", dropped.what, dropped.rule)).collect()
}

fn said(role: Role, text: &str) -> Turn {
    Turn { role, parts: vec![Part::Text { text: text.to_owned(), cache: None }] }
}

fn asks(parts: Vec<Part>) -> Request {
    Request { model: CAN.model.to_owned(), turns: vec![Turn { role: Role::User, parts }], ..Request::default() }
}

/// Like what a coding agent sends in its third turn.
fn agents_request() -> Value {
    json!({
        "model": "claude-opus-4-8",
        "max_tokens": 32000,
        "stream": true,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197.f00; cc_entrypoint=sdk-cli;"},
            {"type": "text", "text": "You are a coding agent.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ],
        "metadata": {"user_id": "{\"device_id\":\"d\",\"account_uuid\":\"\",\"session_id\":\"5e55-10n\"}"},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "tools": [
            {"name": "Read", "description": "Reads a file.", "input_schema": {"type": "object", "properties": {
                "path": {"type": "string"}}, "required": ["path"]}, "eager_input_streaming": true},
        ],
        "messages": [
            {"role": "user", "content": "What is in a.txt?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "I read it.", "signature": "c2lnbmVk"},
                {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a.txt"}},
                {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {"path": "b.txt"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "hello"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true,
                    "content": [{"type": "text", "text": "no such file"}], "cache_control": {"type": "ephemeral"}},
            ]},
        ],
    })
}

#[test]
fn an_agents_request_becomes_neutral() {
    insta::assert_debug_snapshot!(read(&agents_request()));
}

#[test]
fn row_20_the_billing_header_is_stripped_and_the_session_is_the_key_of_the_cache() {
    let request = read(&agents_request());
    assert_eq!(request.system.len(), 1, "{:?}", request.system);
    assert_eq!((request.cache_key.as_deref(), request.user), (Some("5e55-10n"), None));
    assert!(!write(&read(&agents_request())).to_string().contains("billing"));
    let body = agents_request().to_string();
    assert_eq!(view(body.as_bytes()).unwrap().session.as_deref(), Some("5e55-10n"));
    // Of a block that goes on, only the first line is the header.
    let mut more = agents_request();
    more["system"] = json!("x-anthropic-billing-header: cc_version=1; cch=ab;\nYou are an agent.");
    assert_eq!(read(&more).system, [Part::Text { text: "You are an agent.".to_owned(), cache: None }]);
}

#[test]
fn a_conversation_of_another_model_is_put_in_order() {
    let call = |id: &str| Part::ToolCall {
        id: id.to_owned(),
        name: "mcp server.tool".to_owned(),
        input: "{\"a\":1}".to_owned(),
        free_form: false,
        signature: Some(Signature::new(Dialect::Gemini, "c2ln")),
        cache: None,
    };
    let result = |id: &str| Part::ToolResult {
        id: id.to_owned(),
        name: None,
        parts: vec![Part::Text { text: format!("of {id}"), cache: None }],
        is_error: false,
        cache: None,
    };
    let turn = |role, parts| Turn { role, parts };
    let thought = Part::Reasoning(Reasoning {
        text: "hm".to_owned(),
        signature: Some(Signature::new(Dialect::Responses, "x")),
        ..Reasoning::default()
    });
    let request = Request {
        model: CAN.model.to_owned(),
        system: vec![Part::Text { text: "Be kind.".to_owned(), cache: None }],
        turns: vec![
            said(Role::System, "Be short."),
            said(Role::Assistant, "Hello."),
            said(Role::User, "Go"),
            said(Role::System, "Now in French."),
            turn(Role::Assistant, vec![thought, call("call|1"), call("call|2")]),
            turn(Role::Assistant, vec![call("call|3")]),
            turn(Role::User, vec![Part::Text { text: "And?".to_owned(), cache: None }, result("call|2")]),
            turn(Role::User, vec![result("call|1"), result("nobody's")]),
            said(Role::Assistant, "Done. \n"),
        ],
        ..Request::default()
    };
    insta::assert_snapshot!(serde_json::to_string_pretty(&write(&request)["messages"]).unwrap());
    assert_eq!(
        dropped(&request),
        [
            "reasoning: foreign-reasoning",
            "thought_signature: foreign-signature",
            "tool_use: missing-result",
            "tool_result: orphan-result"
        ]
    );
}

#[test]
fn marks_are_placed_only_where_the_client_has_none() {
    let mut request = asks(vec![Part::Text { text: "a".to_owned(), cache: None }]);
    request.system = vec![Part::Text { text: "s".to_owned(), cache: None }];
    let body = write(&request);
    assert_eq!(body["system"][0]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(body["messages"][0]["content"][0]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(write_request(&request, &TARGET).unwrap().cache, CacheUse::FiveMinutes);
    request.system = vec![Part::Text { text: "s".to_owned(), cache: Some(CacheMark::Hour) }];
    let body = write(&request);
    assert_eq!(body["system"][0]["cache_control"], json!({"type": "ephemeral", "ttl": "1h"}));
    assert_eq!(body["messages"][0]["content"][0]["cache_control"], Value::Null);
    assert_eq!(write_request(&request, &TARGET).unwrap().cache, CacheUse::Hour);
}

#[test]
fn the_wish_to_think_is_said_as_the_model_takes_it() {
    let with = |model: &str, wish: ReasoningWish, max: u64| {
        let mut request = asks(vec![Part::Text { text: "a".to_owned(), cache: None }]);
        (request.model, request.reasoning, request.max_output) = (model.to_owned(), Some(wish), Some(max));
        let body = write(&request);
        (body["thinking"].to_string(), body["output_config"]["effort"].to_string(), dropped(&request))
    };
    let effort = |effort| ReasoningWish { effort: Some(effort), ..ReasoningWish::default() };
    let tokens = |tokens| ReasoningWish { budget_tokens: Some(tokens), ..ReasoningWish::default() };
    let cases = [
        ("claude-haiku-4-5", effort(Effort::High), 32_000),
        ("claude-haiku-4-5", effort(Effort::High), 4_096),
        ("claude-haiku-4-5", effort(Effort::High), 1_000),
        ("claude-haiku-4-5", tokens(5_000), 32_000),
        ("claude-haiku-4-5", effort(Effort::None), 32_000),
        ("claude-opus-4-6", effort(Effort::XHigh), 32_000),
        ("claude-opus-4-8", effort(Effort::XHigh), 32_000),
        ("claude-opus-4-8", tokens(5_000), 32_000),
        ("claude-opus-4-8", effort(Effort::None), 32_000),
        ("claude-fable-5", effort(Effort::None), 32_000),
    ];
    let lines =
        cases.map(|(model, wish, max)| format!("{model} {max} {wish:?}\n    {:?}\n", with(model, wish.clone(), max)));
    insta::assert_snapshot!(lines.concat());
    let mut request = asks(vec![Part::Text { text: "a".to_owned(), cache: None }]);
    request.reasoning = Some(effort(Effort::High));
    let plain = Target { reasoning: false, ..TARGET };
    let written = write_request(&request, &plain).unwrap();
    assert_eq!(written.dropped[0].rule, "no-reasoning");
    assert!(!String::from_utf8_lossy(&written.body).contains("thinking"));
}

#[test]
fn a_model_that_thinks_by_budget_goes_on_after_calls_that_another_made() {
    let mut request = read(&agents_request());
    request.model = "claude-sonnet-4-5".to_owned();
    assert_eq!(write(&request)["thinking"]["type"], "enabled");
    request.turns[1].parts.remove(0);
    assert_eq!(write(&request)["thinking"], Value::Null);
    assert!(dropped(&request).contains(&"reasoning: unthought-calls".to_owned()));
}

#[test]
fn what_cannot_be_said_is_named_or_refused() {
    let mut request = asks(vec![Part::Text { text: "a".to_owned(), cache: None }]);
    request.temperature = serde_json::Number::from_f64(0.2);
    request.seed = Some(7.into());
    request.stop = vec!["\n".to_owned(), "END".to_owned()];
    request.output = OutputForm::Json;
    request.max_output = Some(1_000_000);
    request.tool_choice = ToolChoice::Auto;
    assert_eq!(
        dropped(&request),
        [
            "max_tokens: most-output",
            "response_format: json-by-instruction",
            "temperature: no-sampling",
            "stop: blank-stop",
            "seed: no-counterpart"
        ]
    );
    request.model = "claude-haiku-4-5".to_owned();
    request.temperature = serde_json::Number::from_f64(1.5);
    request.top_p = serde_json::Number::from_f64(0.9);
    assert_eq!(write(&request)["temperature"], 1);
    assert!(dropped(&request).contains(&"top_p: one-of-temperature-and-top-p".to_owned()));

    let refused = |part: Part| match write_request(&asks(vec![part]), &TARGET) {
        Err(ConvertError::Unsupported { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let media = |kind, source| Part::Media(Media { kind, source, name: None, detail: None, cache: None });
    assert_eq!(refused(media(MediaKind::Audio, Source::Url("https://a".to_owned()))), "sound");
    assert_eq!(refused(media(MediaKind::Image, Source::Url("gs://a".to_owned()))), "a image by this address");
    assert_eq!(refused(media(MediaKind::Image, Source::File("f".to_owned()))), "a image by its name at the provider");
    assert_eq!(refused(Part::Foreign(json!({"type": "web_search_call"}))), "`web_search_call`");
    request.extra.insert("previous_response_id".to_owned(), json!("r"));
    assert!(matches!(write_request(&request, &TARGET), Err(ConvertError::Unsupported { .. })));
}

#[test]
fn row_16_a_signature_of_another_dialect_comes_back_to_its_call() {
    let signed = Signature::new(Dialect::Gemini, "dGhvdWdodA==");
    let request = read(&json!({"model": "m", "max_tokens": 1, "messages": [{"role": "assistant", "content": [
        {"type": "thinking", "thinking": "", "signature": signed.for_client(Dialect::Messages)},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]}]}));
    let Part::ToolCall { signature, .. } = &request.turns[0].parts[0] else { panic!("{request:?}") };
    assert_eq!(signature.as_ref(), Some(&signed));
    assert!(!write(&request).to_string().contains("stk1"));
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(request in any::request(CAN)) {
        let written = write_request(&request, &TARGET).unwrap();
        let mut back = read_request(&written.body).unwrap();
        if !format!("{request:?}").contains("Some(Short)") && !format!("{request:?}").contains("Some(Hour)") {
            clear(&mut back);
        }
        if written.dropped.iter().all(|dropped| dropped.rule == "most-output" || dropped.rule == "too-many-marks") {
            let mut request = request;
            if written.dropped.iter().any(|dropped| dropped.rule == "too-many-marks") {
                clear(&mut back);
                clear(&mut request);
            }
            prop_assert_eq!(back, request);
        } else {
            prop_assert!(false, "{:?}", written.dropped);
        }
    }

    #[test]
    fn nothing_makes_the_reader_or_the_writer_panic(mut body in any::json(WORDS), messages in any::json(WORDS)) {
        let _ = read_request(body.to_string().as_bytes());
        if let Value::Object(body) = &mut body {
            body.insert("messages".to_owned(), json!([{"role": "user", "content": [messages]}]));
            body.insert("model".to_owned(), json!("claude-haiku-4-5"));
        }
        if let Ok(request) = read_request(body.to_string().as_bytes()) {
            let _ = write_request(&request, &TARGET);
        }
    }
}

fn clear(request: &mut Request) {
    let parts = request.turns.iter_mut().flat_map(|turn| turn.parts.iter_mut()).chain(request.system.iter_mut());
    for part in parts {
        if let Part::ToolResult { parts, .. } = part {
            parts.iter_mut().filter_map(super::super::read::cache_slot).for_each(|slot| *slot = None);
        }
        if let Some(slot) = super::super::read::cache_slot(part) {
            *slot = None;
        }
    }
    request.tools.iter_mut().for_each(|tool| tool.cache = None);
}
