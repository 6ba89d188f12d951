//! Requests, read and written.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CAN, TARGET, WORDS};
use crate::{
    Dialect, RequestError,
    gemini::{read_request, view, write_request},
    neutral::{
        CacheMark, ConvertError, Effort, Part, Reasoning, ReasoningWish, Request, Role, Signature, ToolChoice, Turn,
        any,
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

fn asks(parts: Vec<Part>) -> Request {
    let turns = vec![Turn { role: Role::User, parts }];
    Request { model: "gemini-3-pro-preview".to_owned(), turns, ..Request::default() }
}

fn text(text: &str) -> Part {
    Part::Text { text: text.to_owned(), cache: None }
}

/// Like what a coding agent sends in its second turn.
fn agents_request() -> Value {
    json!({
        "systemInstruction": {"role": "user", "parts": [{"text": "You are a coding agent."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "What is in a.txt?"}]},
            {"role": "model", "parts": [
                {"text": "I read both."},
                {"functionCall": {"name": "read_file", "args": {"path": "a.txt"}}, "thoughtSignature": "c2lnbmVk"},
                {"functionCall": {"name": "read_file", "args": {"path": "b.txt"}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "read_file", "response": {"output": "hello"}}},
                {"functionResponse": {"name": "read_file", "response": {"error": "no such file"}}},
            ]},
        ],
        "tools": [{"functionDeclarations": [{"name": "read_file", "description": "Reads a file.",
            "parametersJsonSchema": {"type": "object", "properties": {"path": {"type": "string"}}}}]}],
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "generationConfig": {"temperature": 1, "topP": 0.95, "topK": 64, "maxOutputTokens": 8192,
            "thinkingConfig": {"includeThoughts": true, "thinkingBudget": 8192}},
    })
}

#[test]
fn an_agents_request_becomes_neutral() {
    insta::assert_debug_snapshot!(read(&agents_request()));
}

#[test]
fn an_agents_request_is_written_for_another_provider() {
    let mut request = read(&agents_request());
    request.model = "claude-sonnet-4-5".to_owned();
    let written = Dialect::Messages.write_request(&request, &TARGET).unwrap();
    let body: Value = serde_json::from_slice(&written.body).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json!({
        "messages": body["messages"],
        "thinking": body["thinking"],
        "dropped": written.dropped.iter().map(|dropped| format!("{}: {}", dropped.what, dropped.rule)).collect::<Vec<_>>(),
    })).unwrap());
}

#[test]
fn both_spellings_are_understood_and_never_both_at_once() {
    let older = json!({"contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": "_-8="}}]}],
        "system_instruction": {"parts": {"text": "s"}}, "generation_config": {"max_output_tokens": 5},
        "tools": [{"function_declarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}]});
    let request = read(&older);
    assert_eq!((request.max_output, request.system.len(), request.extra.len()), (Some(5), 1, 0));
    let newer = write(&request);
    assert_eq!(newer["contents"][0]["parts"][0]["inlineData"], json!({"mimeType": "image/png", "data": "/+8="}));
    assert_eq!(newer["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"], json!({"type": "object"}));
    assert_eq!(view(older.to_string().as_bytes()).unwrap().max_output, Some(5));
    let twice = br#"{"contents":[],"generationConfig":{},"generation_config":{"maxOutputTokens":9}}"#;
    assert!(view(twice).unwrap_err().to_string().contains("twice"));
}

#[test]
fn row_16_signatures_come_back_and_calls_without_one_say_so() {
    let request = read(&agents_request());
    let third = Request { model: "gemini-3-pro-preview".to_owned(), ..request.clone() };
    let parts = &write(&third)["contents"][1]["parts"];
    assert_eq!(parts[1]["thoughtSignature"], "c2lnbmVk");
    assert_eq!(parts[2].get("thoughtSignature"), None, "the provider signs only the first of several");

    // The conversation was another model's until now.
    let mut other = third.clone();
    let Part::ToolCall { signature, .. } = &mut other.turns[1].parts[1] else { panic!("{other:?}") };
    *signature = Some(Signature::new(Dialect::Messages, "x"));
    assert_eq!(write(&other)["contents"][1]["parts"][1]["thoughtSignature"], "skip_thought_signature_validator");
    // What we said in its place is no signature when it comes back.
    let Part::ToolCall { signature, .. } = &read(&write(&other)).turns[1].parts[1] else { panic!("{other:?}") };
    assert_eq!(*signature, None);
    // Older models want none.
    other.model = "gemini-2.5-pro".to_owned();
    assert_eq!(write(&other)["contents"][1]["parts"][1].get("thoughtSignature"), None);
}

#[test]
fn thoughts_that_another_provider_signed_never_reach_this_one() {
    let mut request = asks(vec![text("a")]);
    let thought = |signature: Option<Signature>| {
        Part::Reasoning(Reasoning { text: "hm".to_owned(), signature, ..Reasoning::default() })
    };
    let foreign = thought(Some(Signature::new(Dialect::Responses, "x")));
    request.turns.push(Turn { role: Role::Assistant, parts: vec![foreign, thought(None), text("b")] });
    assert_eq!(write(&request)["contents"][1]["parts"], json!([{"text": "b"}]));
    assert_eq!(dropped(&request), ["reasoning: foreign-reasoning", "reasoning: unsigned-reasoning"]);
}

#[test]
fn the_wish_to_think_is_said_as_the_model_takes_it() {
    let effort = |effort| ReasoningWish { effort: Some(effort), ..ReasoningWish::default() };
    let tokens = |tokens| ReasoningWish { budget_tokens: Some(tokens), ..ReasoningWish::default() };
    let on = ReasoningWish { enabled: Some(true), ..ReasoningWish::default() };
    let cases = [
        ("gemini-2.5-flash", effort(Effort::High)),
        ("gemini-2.5-flash", tokens(1_000_000)),
        ("gemini-2.5-flash", effort(Effort::None)),
        ("gemini-2.5-pro", effort(Effort::None)),
        ("gemini-2.5-pro", on.clone()),
        ("gemini-3-pro-preview", effort(Effort::Medium)),
        ("gemini-3.1-pro-preview", effort(Effort::Medium)),
        ("gemini-3-flash", effort(Effort::Minimal)),
        ("gemini-3-flash", tokens(2_000)),
        ("gemini-3-flash", effort(Effort::None)),
        ("gemini-3-flash", on),
    ];
    let lines = cases.map(|(model, wish)| {
        let mut request = asks(vec![text("a")]);
        (request.model, request.reasoning) = (model.to_owned(), Some(wish.clone()));
        format!("{model} {wish:?}\n    {} {:?}\n", write(&request)["generationConfig"], dropped(&request))
    });
    insta::assert_snapshot!(lines.concat());
}

#[test]
fn names_have_other_names_and_results_follow_their_calls() {
    let call = Part::ToolCall {
        id: "a".to_owned(),
        name: format!("mcp__{}", "server".repeat(20)),
        input: "not json".to_owned(),
        free_form: true,
        signature: None,
        cache: Some(CacheMark::Short),
    };
    let mut request = asks(vec![text("a")]);
    request.turns.push(Turn { role: Role::Assistant, parts: vec![call] });
    request.turns.push(Turn { role: Role::User, parts: vec![text("never mind")] });
    request.tool_choice = ToolChoice::Any;
    let written = write_request(&request, &TARGET).unwrap();
    let body: Value = serde_json::from_slice(&written.body).unwrap();
    let name = body["contents"][1]["parts"][0]["functionCall"]["name"].as_str().unwrap();
    assert!(name.len() <= 64 && written.aliases.original(name).len() == 125, "{name}");
    assert_eq!(body["contents"][1]["parts"][0]["functionCall"]["args"], json!({"input": "not json"}));
    assert_eq!(body["contents"][2]["parts"][0]["functionResponse"]["name"], name);
    assert_eq!(dropped(&request), ["cache_control: cached-unasked", "tool_use: missing-result"]);
}

#[test]
fn what_nothing_bounds_is_refused() {
    let with = |key: &str, value: Value| {
        let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
        body[key] = value;
        view(body.to_string().as_bytes())
    };
    for (key, value) in [
        ("tools", json!([{"googleSearch": {}}])),
        ("tools", json!([{"google_search": {}}])),
        ("tools", json!([{"functionDeclarations": []}, {"codeExecution": {}}])),
        ("tools", json!({"urlContext": {}})),
        ("generationConfig", json!({"responseModalities": ["IMAGE"]})),
        ("generationConfig", json!({"speechConfig": {"a": 1}})),
        ("serviceTier", json!("priority")),
        ("contents", json!([{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "aaaa"}}]}])),
    ] {
        assert!(matches!(with(key, value.clone()), Err(RequestError::Unpriced(_))), "{key} {value}");
    }
    assert_eq!(view(b"{}"), Err(RequestError::Missing("contents")));
    let seen = with("generationConfig", json!({"maxOutputTokens": 100, "candidateCount": 3})).unwrap();
    assert_eq!((seen.max_output, seen.answers, seen.estimate.output_tokens, seen.messages), (Some(100), 3, 300, 1));
    assert_eq!(with("cachedContent", json!("cachedContents/x")).unwrap().estimate.input_tokens, None);
}

#[test]
fn the_estimate_knows_pictures_and_is_not_deceived() {
    let of = |part: Value| {
        let body = json!({"contents": [{"role": "user", "parts": [part]}]});
        view(body.to_string().as_bytes()).unwrap().estimate.input_tokens
    };
    let data = "A1".repeat(50_000);
    assert!((10_000..11_000).contains(&of(json!({"inlineData": {"mimeType": "image/png", "data": data}})).unwrap()));
    assert_eq!(of(json!({"inlineData": {"mimeType": "application/pdf", "data": data}})), None);
    assert_eq!(of(json!({"fileData": {"mimeType": "video/mp4", "fileUri": "https://a"}})), None);
    // Within the arguments of a call it is text, whatever it looks like.
    for deceit in [
        json!({"inlineData": {"mimeType": "image/png", "data": data}}),
        json!({"type": "image", "source": {"type": "base64", "data": data}}),
    ] {
        assert!(of(json!({"functionCall": {"name": "f", "args": deceit}})).unwrap() >= 100_000);
    }
}

#[test]
fn what_cannot_be_said_is_refused() {
    let refused = |request: &Request| match write_request(request, &TARGET) {
        Err(ConvertError::Unsupported { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let mut request = asks(vec![text("a")]);
    request.stop = vec!["a".to_owned(); 6];
    assert_eq!(refused(&request), "so many stop sequences");
    let two = read(&json!({"contents": [], "generationConfig": {"candidateCount": 2}}));
    assert_eq!(refused(&two), "`generationConfig.candidateCount`");
    let cached = read(&json!({"contents": [], "cachedContent": "c"}));
    assert_eq!(refused(&cached), "`cachedContent`");
    let searching = read(&json!({"contents": [], "tools": [{"googleSearch": {}}]}));
    assert_eq!(refused(&searching), "the tool `googleSearch`");
    let ran = read(&json!({"contents": [{"role": "model", "parts": [{"executableCode": {"code": "1"}}]}]}));
    assert_eq!(refused(&ran), "`executableCode`");
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(mut request in any::request(CAN)) {
        // Whoever turns thinking on sees it here.
        if let Some(wish) = &mut request.reasoning {
            wish.show = wish.show.or(Some(true));
        }
        let written = write_request(&request, &TARGET).unwrap();
        prop_assert!(written.dropped.is_empty(), "{:?}", written.dropped);
        let mut back = read_request(&written.body).unwrap();
        (back.model, back.stream) = (request.model.clone(), request.stream);
        request.turns.iter_mut().flat_map(|turn| turn.parts.iter_mut()).for_each(one_text);
        prop_assert_eq!(back, request);
    }

    #[test]
    fn nothing_makes_reader_view_or_writer_panic(body in any::json(WORDS), part in any::json(WORDS)) {
        for body in [body.clone(), json!({"contents": [{"role": "model", "parts": [part]}], "generationConfig": body})] {
            let bytes = body.to_string();
            let _ = view(bytes.as_bytes());
            if let Ok(request) = read_request(bytes.as_bytes()) {
                let _ = write_request(&request, &TARGET);
            }
        }
    }
}

/// Results have one text in this dialect, in front of everything else.
fn one_text(part: &mut Part) {
    let Part::ToolResult { parts, .. } = part else { return };
    let mut texts = Vec::new();
    parts.retain(|part| match part {
        Part::Text { text, .. } => {
            texts.push(text.clone());
            false
        }
        _ => true,
    });
    parts.insert(0, text(&texts.join("\n")));
}
