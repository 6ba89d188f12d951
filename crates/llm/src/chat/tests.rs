//! Tests of this dialect: golden requests and answers, and properties of both ways.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    Dialect::Chat,
    Framing::{self, Events, Whole},
    Target,
    neutral::{
        ApiFault, ConvertError, Delta, Effort, Encode, Event, FaultKind, Media, MediaKind, Part, PartHead, Reasoning,
        ReasoningWish, Request, Role, Signature, Source, StopReason, Tool, ToolChoice, ToolKind, Turn,
    },
    openai::testing::{TARGET, answer, client, cut, decoded, encoded, folded, lines, request, stream, text},
};

fn read(value: &Value) -> Request {
    super::read_request(value.to_string().as_bytes()).unwrap()
}

fn written(request: &Request, target: &Target) -> Value {
    serde_json::from_slice(&super::write_request(request, target).unwrap().body).unwrap()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

/// As OpenCode sends it, in its second turn.
fn opencode() -> Value {
    json!({
        "model": "gpt-5.1", "max_tokens": 32000, "stream": true, "stream_options": {"include_usage": true},
        "reasoning_effort": "medium", "tool_choice": "auto", "store": false, "prompt_cache_key": "ses_1",
        "messages": [
            {"role": "system", "content": "You are OpenCode."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is in a.txt and in this picture?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "high"}}]},
            {"role": "assistant", "content": "I shall look.", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": "{\"path\":\"a.txt\"}"}},
                {"id": "call_2", "type": "function", "function": {"name": "mcp__files_and_folders__list", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "alpha"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "a.txt"}, {"type": "text", "text": "b.txt"}]},
            {"role": "user", "content": "And now?"}],
        "tools": [
            {"type": "function", "function": {"name": "read", "description": "Reads a file",
                "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}},
            {"type": "function", "function": {"name": "mcp__files_and_folders__list"}}],
    })
}

#[test]
fn row_18_a_request_with_parallel_calls_is_read_and_written() {
    let request = read(&opencode());
    assert_eq!(request.turns.len(), 4, "results of one round are one turn");
    insta::assert_snapshot!("opencode_gpt", pretty(&written(&request, &TARGET)));
    let open = Request { model: "qwen3".to_owned(), ..request };
    insta::assert_snapshot!(
        "opencode_open_model",
        pretty(&written(&open, &Target { max_output: 8_192, reasoning: false }))
    );
}

#[test]
fn a_request_of_aider_is_read() {
    let request = read(&json!({
        "model": "gpt-4o", "stream": true, "temperature": 0, "n": 1, "logprobs": false, "metadata": null,
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Act as an expert.", "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": "I switched to a new code base."}, {"role": "assistant", "content": "Ok."},
            {"role": "user", "content": "Change it."}, {"role": "system", "content": "Only whole files."}]}));
    assert!(request.extra.is_empty() && !request.include_usage && request.stream);
    assert_eq!(
        request.system,
        [Part::Text { text: "Act as an expert.".to_owned(), cache: Some(crate::neutral::CacheMark::Short) }]
    );
    assert_eq!(request.turns.last().unwrap().role, Role::System);
    let made = super::write_request(&request, &TARGET).unwrap();
    assert_eq!(made.dropped.iter().map(|dropped| dropped.rule).collect::<Vec<_>>(), ["cached-unasked"]);
}

#[test]
fn forms_of_tool_choice_and_tools_are_read() {
    let with = |choice: Value| {
        read(&json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "tool_choice": choice,
            "tools": [{"type": "function", "function": {"name": "a"}},
                {"type": "custom", "custom": {"name": "b", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: X"}}}}]}))
    };
    assert_eq!(with(json!("required")).tool_choice, ToolChoice::Any);
    assert_eq!(
        with(json!({"type": "function", "function": {"name": "a"}})).tool_choice,
        ToolChoice::Named("a".to_owned())
    );
    assert_eq!(with(json!({"type": "custom", "custom": {"name": "b"}})).tool_choice, ToolChoice::Named("b".to_owned()));
    let allowed = with(
        json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "custom", "custom": {"name": "b"}}]}}),
    );
    assert_eq!(allowed.tool_choice, ToolChoice::Any);
    assert_eq!(allowed.tools.len(), 1);
    let request = Request { model: "gpt-5".to_owned(), ..allowed };
    insta::assert_snapshot!(written(&request, &TARGET)["tools"].to_string(), @r#"[{"type":"custom","custom":{"name":"b","format":{"type":"grammar","grammar":{"syntax":"lark","definition":"start: X"}}}}]"#);
    let open = Request { model: "qwen3".to_owned(), ..request };
    assert_eq!(written(&open, &TARGET)["tools"][0]["function"]["parameters"]["required"], json!(["input"]));
}

#[test]
fn what_cannot_be_passed_on_is_refused_by_name() {
    let turn = |part: Part| Request {
        model: "gpt-5".to_owned(),
        turns: vec![Turn { role: Role::User, parts: vec![part] }],
        ..Request::default()
    };
    let media = |kind, source| turn(Part::Media(Media { kind, source, name: None, detail: None, cache: None }));
    let refused = |request: &Request| super::write_request(request, &TARGET).unwrap_err().to_string();
    assert!(refused(&media(MediaKind::Video, Source::Url("u".to_owned()))).contains("a film"));
    assert!(refused(&media(MediaKind::Image, Source::File("f".to_owned()))).contains("another provider"));
    assert!(refused(&media(MediaKind::Document, Source::Url("u".to_owned()))).contains("a document"));
    assert!(refused(&turn(Part::Foreign(json!({"type": "server_tool_use"})))).contains("server_tool_use"));
    let tool = Tool {
        name: "w".to_owned(),
        description: None,
        kind: ToolKind::Foreign(json!({"type": "web_search"})),
        strict: None,
        cache: None,
    };
    assert!(refused(&Request { tools: vec![tool], ..turn(text("x")) }).contains("`web_search`"));
    let many = read(&json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 3}));
    assert!(refused(&many).contains("`n`"));
    for body in [
        r#"{"messages":[]}"#,
        r#"{"model":"m","messages":3}"#,
        r#"{"model":"m","messages":[{"role":"x"}]}"#,
        "[]",
        r#"{"model":"m","messages":[],"reasoning_effort":"huge"}"#,
    ] {
        assert!(matches!(super::read_request(body.as_bytes()), Err(ConvertError::Syntax { .. })), "{body}");
    }
    let old = super::read_request(br#"{"model":"m","messages":[],"functions":[]}"#);
    assert!(old.unwrap_err().to_string().contains("use `tools`"));
}

#[test]
fn row_15_and_17_thoughts_ids_and_names_of_others_are_left_out_or_renamed() {
    let thought = Reasoning {
        text: "hm".to_owned(),
        signature: Some(Signature::new(crate::Dialect::Messages, "sig")),
        ..Reasoning::default()
    };
    let name = format!("mcp__{}", "x".repeat(80));
    let id = format!("toolu_{}", "y".repeat(60));
    let request = Request {
        model: "gpt-5".to_owned(),
        reasoning: Some(ReasoningWish {
            budget_tokens: Some(10_000),
            enabled: Some(true),
            show: Some(true),
            ..ReasoningWish::default()
        }),
        temperature: serde_json::Number::from_f64(0.5),
        stop: vec!["END".to_owned()],
        user: Some("{\"device_id\":\"0123456789\",\"account_uuid\":\"\",\"session_id\":\"01234567-89ab\"}".to_owned()),
        turns: vec![
            Turn { role: Role::User, parts: vec![text("go")] },
            Turn {
                role: Role::Assistant,
                parts: vec![
                    Part::Reasoning(thought),
                    Part::ToolCall {
                        id: id.clone(),
                        name: name.clone(),
                        input: "{}".to_owned(),
                        free_form: false,
                        signature: None,
                        cache: None,
                    },
                ],
            },
            Turn {
                role: Role::User,
                parts: vec![Part::ToolResult {
                    id,
                    name: Some(name.clone()),
                    parts: vec![Part::Media(Media {
                        kind: MediaKind::Image,
                        source: Source::Url("https://example.org/a.png".to_owned()),
                        name: None,
                        detail: None,
                        cache: None,
                    })],
                    is_error: true,
                    cache: None,
                }],
            },
        ],
        tools: vec![Tool {
            name: name.clone(),
            description: None,
            kind: ToolKind::Function { schema: Value::Null },
            strict: None,
            cache: None,
        }],
        ..Request::default()
    };
    let made = super::write_request(&request, &TARGET).unwrap();
    let body: Value = serde_json::from_slice(&made.body).unwrap();
    insta::assert_snapshot!("claude_to_gpt", pretty(&body));
    let rules: Vec<String> = made.dropped.iter().map(|dropped| format!("{}: {}", dropped.what, dropped.rule)).collect();
    insta::assert_snapshot!(rules.join("\n"), @r"
    `is_error` of a tool result: error-flag
    readable thoughts: thoughts-hidden
    reasoning of an earlier turn: foreign-reasoning
    stop: not-when-thinking
    temperature: not-when-thinking
    ");
    let alias = body["tools"][0]["function"]["name"].as_str().unwrap();
    assert_eq!(made.aliases.original(alias), name);
}

/// A stream as OpenAI sends it, with two calls at once and usage at the end.
fn parallel() -> Vec<Value> {
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-2025-08-07", "service_tier": "default",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}], "usage": null, "obfuscation": "x"})
    };
    let call = |index: u64, id: &str, name: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
    let more = |index: u64, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    vec![
        chunk(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null),
        chunk(json!({"content": "Both"}), Value::Null),
        chunk(json!({"content": "."}), Value::Null),
        chunk(call(0, "call_a", "read"), Value::Null),
        chunk(more(0, "{\"p\":"), Value::Null),
        chunk(more(0, "1}"), Value::Null),
        chunk(call(1, "call_b", "list"), Value::Null),
        chunk(more(1, "{}"), Value::Null),
        chunk(json!({}), json!("tool_calls")),
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-2025-08-07", "choices": [],
            "usage": {"prompt_tokens": 90, "completion_tokens": 20, "total_tokens": 110, "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 4}}}),
    ]
}

fn events(chunks: &[Value]) -> Vec<Event> {
    let mut bytes = stream(chunks);
    bytes.extend_from_slice(b"data: [DONE]\n\n");
    decoded(Chat, Events, [&bytes[..]])
}

#[test]
fn row_18_parallel_calls_in_a_stream_keep_apart() {
    insta::assert_snapshot!(lines(&events(&parallel())));
}

#[test]
fn streams_of_other_servers_are_read() {
    // Azure: first the results of its filter, without choices and without a model.
    let azure = [
        json!({"id": "", "model": "", "created": 0, "object": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
        json!({"id": "c", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "hi"}, "content_filter_results": {}}]}),
        json!({"id": "c", "model": "gpt-4o", "choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}),
    ];
    insta::assert_snapshot!("azure", lines(&events(&azure)));
    // Thoughts in a field of their own; a call in one piece, its number missing, and `stop` for a reason all the same.
    let open = [
        json!({"id": "c", "model": "deepseek", "choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}}]}),
        json!({"id": "c", "choices": [{"delta": {"content": null, "reasoning_content": null, "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": {"a": 1}}}]}}]}),
        json!({"id": "c", "choices": [{"delta": {"tool_calls": [{"id": "y", "function": {"name": "f", "arguments": "{}"}}]}}]}),
        json!({"id": "c", "choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 9}}),
    ];
    insta::assert_snapshot!("open_models", lines(&events(&open)));
    // Every call at the same place.
    let same = [
        json!({"model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": "{\"a\":1}"}}]}}]}),
        json!({"model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "y", "function": {"name": "g", "arguments": "{\"b\":2}"}}]}, "finish_reason": "tool_calls"}]}),
    ];
    let parts = folded(&events(&same)).parts;
    assert!(
        matches!(&parts[..], [Part::ToolCall { id: a, input: b, .. }, Part::ToolCall { id: c, input: d, .. }]
        if (a.as_str(), b.as_str(), c.as_str(), d.as_str()) == ("x", "{\"a\":1}", "y", "{\"b\":2}")),
        "{parts:?}"
    );
}

#[test]
fn an_answer_in_one_piece_is_read() {
    let whole = |value: Value| decoded(Chat, Whole, [value.to_string().as_bytes()]);
    let answer = whole(
        json!({"id": "c", "model": "gpt-4o", "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "length",
        "message": {"role": "assistant", "content": "hi", "refusal": null, "annotations": []}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}),
    );
    insta::assert_snapshot!(lines(&answer), @r#"
    Start { id: Some("c"), model: Some("gpt-4o") }
    PartStart { index: 0, part: Text }
    Delta { index: 0, delta: Text("hi") }
    PartStop { index: 0 }
    Usage(Usage { input_tokens: 3, output_tokens: 1, cache_read_tokens: 0, cache_write_5m_tokens: 0, cache_write_1h_tokens: 0, reasoning_tokens: None, tier: None })
    Stop { reason: MaxTokens, said: "length", sequence: None }
    End
    "#);
    assert_eq!(whole(json!({"hello": 1})), [Event::Unreadable]);
    assert_eq!(decoded(Chat, Whole, [&b"{"[..]]), [Event::Unreadable]);
    assert!(matches!(&whole(json!({"error": {"message": "m", "type": "server_error"}}))[..], [Event::Error(_)]));
}

#[test]
fn row_24_an_error_in_a_stream_is_its_end() {
    let mut chunks = parallel();
    chunks.truncate(3);
    chunks.push(json!({"error": {"message": "overloaded", "type": "server_error", "code": "server_is_overloaded"}}));
    chunks.push(json!({"choices": [{"index": 0, "delta": {"content": "never"}}]}));
    let seen = events(&chunks);
    let Some(Event::Error(fault)) = seen.last() else { panic!("{seen:?}") };
    assert_eq!(fault.kind, FaultKind::Overloaded);
    // And for a client: an error, and nothing that says it is over.
    let text = String::from_utf8(encoded(Chat, Events, client(None), &seen)).unwrap();
    assert!(
        text.contains("\"type\":\"server_error\"") && text.ends_with("}}\n\n") && !text.contains("[DONE]"),
        "{text}"
    );
}

#[test]
fn a_stream_without_its_last_word_is_whole_only_if_it_said_why_it_stopped() {
    let cut_at = |count: usize, ended: bool| {
        let bytes = stream(&parallel()[..count]);
        let (mut decoder, mut out) = (super::decoder(Events), Vec::new());
        decoder.push(&bytes, &mut out);
        decoder.finish(ended, &mut out);
        folded(&out)
    };
    assert!(cut_at(10, true).complete && !cut_at(10, false).complete && !cut_at(8, true).complete);
    assert_eq!(cut_at(10, false).stop, Some(StopReason::ToolUse));
}

#[test]
fn row_16_a_client_gets_thoughts_calls_and_their_signatures() {
    let signature = Signature::new(crate::Dialect::Gemini, "sealed");
    let part = |index, part| Event::PartStart { index, part };
    let delta = |index, delta| Event::Delta { index, delta };
    let events = [
        Event::Start { id: None, model: Some("gemini".to_owned()) },
        part(0, PartHead::Reasoning { id: None }),
        delta(0, Delta::Reasoning("hm".to_owned())),
        Event::PartStop { index: 0 },
        part(1, PartHead::Text),
        delta(1, Delta::Text("Both.".to_owned())),
        Event::PartStop { index: 1 },
        part(2, PartHead::ToolCall { id: "a".to_owned(), name: "f".to_owned(), free_form: false }),
        delta(2, Delta::Signature(signature.clone())),
        part(3, PartHead::ToolCall { id: "b".to_owned(), name: "patch".to_owned(), free_form: false }),
        delta(3, Delta::Input("{\"inp".to_owned())),
        delta(2, Delta::Input("{\"x\":1}".to_owned())),
        delta(3, Delta::Input("ut\":\"*** Begin\"}".to_owned())),
        Event::PartStop { index: 2 },
        Event::PartStop { index: 3 },
        Event::Stop { reason: StopReason::ToolUse, said: "STOP".to_owned(), sequence: None },
        Event::Usage(crate::Usage {
            input_tokens: 5,
            output_tokens: 2,
            cache_read_tokens: 1,
            ..crate::Usage::default()
        }),
        Event::End,
    ];
    let free = Tool {
        name: "patch".to_owned(),
        description: None,
        kind: ToolKind::FreeForm { format: None },
        strict: None,
        cache: None,
    };
    let asked = Request { tools: vec![free], ..Request::default() };
    let text = String::from_utf8(encoded(Chat, Events, client(Some(asked.clone())), &events)).unwrap();
    insta::assert_snapshot!("signed_calls", text);
    let quiet = crate::neutral::ForClient { include_usage: false, ..client(None) };
    assert!(!String::from_utf8(encoded(Chat, Events, quiet, &events)).unwrap().contains("usage"));
    let whole: Value = serde_json::from_slice(&encoded(Chat, Whole, client(Some(asked)), &events)).unwrap();
    insta::assert_snapshot!("signed_calls_whole", pretty(&whole));
    // What the client sends back with its next turn.
    let back = read(&json!({"model": "m", "messages": [
        whole["choices"][0]["message"], {"role": "tool", "tool_call_id": whole["choices"][0]["message"]["tool_calls"][0]["id"], "content": "1"}]}));
    let Part::ToolCall { id, signature: carried, .. } = &back.turns[0].parts[2] else { panic!("{back:?}") };
    assert_eq!((id.as_str(), carried), ("a", &Some(signature)));
    assert!(
        matches!(&back.turns[1].parts[0], Part::ToolResult { id, name: Some(name), .. } if id == "a" && name == "f")
    );
}

#[test]
fn calls_over_the_limit_are_counted() {
    let call = |number: usize| json!({"index": number, "id": format!("c{number}"), "function": {"name": "f", "arguments": "{}"}});
    let calls: Vec<Value> = (0..1_002).map(call).collect();
    let chunk =
        json!({"model": "m", "choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}]});
    let answer = folded(&events(&[chunk]));
    assert_eq!((answer.parts.len(), answer.unreadable, answer.complete), (1_000, 2, true));
    let choices: Vec<Value> = (0..130).map(|number| json!({"index": number, "delta": {"content": "x"}})).collect();
    assert_eq!(folded(&events(&[json!({"model": "m", "choices": choices})])).unreadable, 2);
}

#[test]
fn an_answer_over_the_limit_ends_with_an_error() {
    let made = |text: &str| {
        let mut encoder = super::encode::Whole::with_room(client(None), 10);
        let mut out = bytes::BytesMut::new();
        let delta = Event::Delta { index: 0, delta: Delta::Text(text.to_owned()) };
        [Event::PartStart { index: 0, part: PartHead::Text }, delta, Event::End]
            .iter()
            .for_each(|event| encoder.push(event, &mut out));
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert!(made("0123456789").contains("\"content\":\"0123456789\""));
    assert!(made("0123456789a").starts_with("{\"error\":"));
}

#[test]
fn what_breaks_off_is_said_once() {
    for framing in [Events, Whole] {
        let mut encoder = super::encoder(framing, client(None));
        let mut out = bytes::BytesMut::new();
        encoder.push(&Event::Start { id: None, model: None }, &mut out);
        encoder.broken(&ApiFault::new(FaultKind::Api, "the provider broke off"), &mut out);
        let len = out.len();
        assert!(String::from_utf8_lossy(&out).contains("the provider broke off"));
        encoder.broken(&ApiFault::new(FaultKind::Api, "again"), &mut out);
        encoder.push(&Event::End, &mut out);
        assert_eq!(out.len(), len);
    }
}

proptest! {
    #[test]
    fn a_request_survives_being_written_and_read(request in request()) {
        let made = super::write_request(&request, &TARGET).unwrap();
        prop_assert!(made.dropped.is_empty() && made.aliases.is_empty(), "{:?}", made.dropped);
        let wanted = Request { include_usage: request.stream, ..request };
        prop_assert_eq!(super::read_request(&made.body).unwrap(), wanted);
    }

    #[test]
    fn an_answer_survives_being_written_and_read(events in answer(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let bytes = encoded(Chat, Events, client(None), &events);
        let seen = decoded(Chat, Events, [&bytes[..]]);
        prop_assert_eq!(&decoded(Chat, Events, cut(&bytes, &cuts)), &seen);
        prop_assert_eq!(&decoded(Chat, Events, bytes.chunks(1)), &seen);
        let wanted = folded(&events);
        let seen = folded(&seen);
        prop_assert_eq!((&seen.parts, seen.usage, seen.stop, seen.complete), (&wanted.parts, wanted.usage, wanted.stop, true));
        let whole = encoded(Chat, Whole, client(None), &events);
        let seen = folded(&decoded(Chat, Whole, [&whole[..]]));
        prop_assert_eq!((&seen.parts, seen.usage, seen.stop, seen.complete), (&wanted.parts, wanted.usage, wanted.stop, true));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), framing in prop::sample::select(vec![Framing::Events, Framing::Whole])) {
        let _ = super::read_request(&bytes);
        let _ = super::read_error(400, &bytes);
        let _ = decoded(Chat, framing, [&bytes[..]]);
    }

    #[test]
    fn no_chunk_makes_the_reader_panic(pieces in prop::collection::vec(prop::sample::select(vec![
        "{\"choices\":[{\"delta\":", "{\"tool_calls\":[{\"index\":1,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}", "{\"content\":\"x\"}", "null", "}]}", "\n\n", "data: ",
        ",\"finish_reason\":\"stop\"", "[DONE]", "[1]", "{\"error\":7}", "{\"index\":9,", "{\"tool_calls\":[{\"index\":1,\"function\":{\"arguments\":\"x\"}}]}"]), 0..40)) {
        let text = pieces.concat();
        let whole = decoded(Chat, Events, [text.as_bytes()]);
        prop_assert_eq!(decoded(Chat, Events, text.as_bytes().chunks(3)), whole.clone());
        for framing in [Events, Whole] {
            let _ = encoded(Chat, framing, client(None), &whole);
        }
    }
}

#[test]
fn a_thought_goes_back_to_open_models_that_think() {
    let request = Request {
        model: "deepseek-v3.2".to_owned(),
        reasoning: Some(ReasoningWish { effort: Some(Effort::Max), ..ReasoningWish::default() }),
        turns: vec![Turn {
            role: Role::Assistant,
            parts: vec![Part::Reasoning(Reasoning { text: "hm".to_owned(), ..Reasoning::default() }), text("yes")],
        }],
        ..Request::default()
    };
    let body = written(&request, &TARGET);
    assert_eq!(body["messages"][0]["reasoning_content"], "hm");
    assert_eq!(body["reasoning_effort"], "high");
    let other = written(&request, &Target { reasoning: false, ..TARGET });
    assert_eq!((&other["messages"][0]["reasoning_content"], &other["reasoning_effort"]), (&Value::Null, &Value::Null));
}
