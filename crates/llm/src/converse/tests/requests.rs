//! Requests, looked at, read and written.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    CacheUse, Dialect, RequestError, Target,
    converse::{read_request, view, write_request},
    neutral::{
        ConvertError, Effort, Media, MediaKind, OutputForm, Part, Reasoning, ReasoningWish, Request, Role, Signature,
        Source, Tool, ToolChoice, ToolKind, Turn, Written,
    },
};

const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
const TARGET: Target = Target { max_output: 8_000, reasoning: true };

fn text(text: &str) -> Part {
    Part::Text { text: text.to_owned(), cache: None }
}

fn user(parts: Vec<Part>) -> Turn {
    Turn { role: Role::User, parts }
}

fn assistant(parts: Vec<Part>) -> Turn {
    Turn { role: Role::Assistant, parts }
}

fn call(id: &str, name: &str) -> Part {
    let (id, name, input) = (id.to_owned(), name.to_owned(), "{\"a\":1}".to_owned());
    Part::ToolCall { id, name, input, free_form: false, signature: None, cache: None }
}

fn result(id: &str, parts: Vec<Part>) -> Part {
    Part::ToolResult { id: id.to_owned(), name: None, parts, is_error: false, cache: None }
}

fn tool(name: &str) -> Tool {
    let kind = ToolKind::Function { schema: json!({"properties": {"a": {"type": "integer"}}}) };
    Tool { name: name.to_owned(), description: Some("It does".to_owned()), kind, strict: Some(false), cache: None }
}

fn asked(turns: Vec<Turn>) -> Request {
    Request { model: CLAUDE.to_owned(), turns, ..Request::default() }
}

fn written(request: &Request) -> (Value, Written) {
    let written = write_request(request, &TARGET).unwrap();
    (serde_json::from_slice(&written.body).unwrap(), written)
}

fn rules(written: &Written) -> Vec<String> {
    written.dropped.iter().map(|dropped| format!("{}: {}", dropped.what, dropped.rule)).collect()
}

#[test]
fn names_that_are_too_long_or_strange_have_others_that_lead_back() {
    let long = "mcp__a_server_with_a_long_name__and_a_tool_with_an_even_longer_name";
    let id = "call.of:somebody/else|with=signs";
    let request = Request {
        tools: vec![tool(long), tool("ok")],
        tool_choice: ToolChoice::Named(long.to_owned()),
        ..asked(vec![
            user(vec![text("go")]),
            assistant(vec![call(id, long)]),
            user(vec![result(id, vec![text("done")])]),
        ])
    };
    let (body, written) = written(&request);
    let alias = body["toolConfig"]["tools"][0]["toolSpec"]["name"].as_str().unwrap();
    assert!(alias.len() <= 64 && alias.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
    assert_eq!(written.aliases.original(alias), long);
    assert_eq!(body["toolConfig"]["toolChoice"]["tool"]["name"], alias);
    let called = &body["messages"][1]["content"][0]["toolUse"];
    assert_eq!(called["name"], alias);
    let other = called["toolUseId"].as_str().unwrap();
    assert_eq!(body["messages"][2]["content"][0]["toolResult"]["toolUseId"], other);
    assert_eq!(written.aliases.original(other), id);
}

#[test]
fn parallel_calls_have_their_results_in_one_turn_directly_after_them() {
    let request = Request {
        tools: vec![tool("t")],
        ..asked(vec![
            user(vec![text("go")]),
            assistant(vec![call("a", "t")]),
            assistant(vec![call("b", "t"), call("c", "t")]),
            user(vec![text("by the way"), result("b", vec![])]),
            user(vec![result("a", vec![text("  ")]), result("nobody", vec![text("lost")])]),
        ])
    };
    let (body, written) = written(&request);
    let content = body["messages"][2]["content"].as_array().unwrap();
    let ids: Vec<&Value> = content.iter().filter_map(|block| block.get("toolResult")?.get("toolUseId")).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(content[0]["toolResult"]["content"], json!([{"text": "(no output)"}]));
    assert_eq!(content[2]["toolResult"]["status"], "error");
    assert_eq!(content[3], json!({"text": "by the way"}));
    assert_eq!(body["messages"].as_array().unwrap().len(), 3);
    assert_eq!(rules(&written), ["tool_use: missing-result", "tool_result: orphan-result"]);
    let roles: Vec<&Value> = body["messages"].as_array().unwrap().iter().map(|message| &message["role"]).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
}

#[test]
fn calls_in_the_conversation_need_tools_even_if_the_client_sends_none() {
    let turns = || {
        let result = result("a", vec![text("r")]);
        vec![user(vec![text("go")]), assistant(vec![call("a", "gone")]), user(vec![result, text("sum up")])]
    };
    let (body, _) = written(&asked(turns()));
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["name"], "gone");
    let request = Request { tools: vec![tool("t")], tool_choice: ToolChoice::None, ..asked(turns()) };
    let (body, kept) = written(&request);
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["name"], "t");
    assert_eq!(rules(&kept), ["tool_choice: no-such-choice"]);
    let request =
        Request { tools: vec![tool("t")], tool_choice: ToolChoice::None, ..asked(vec![user(vec![text("go")])]) };
    assert!(written(&request).0.get("toolConfig").is_none());
}

#[test]
fn thoughts_return_only_to_those_who_signed_them() {
    let thought = |signature: Option<Signature>, redacted| {
        Part::Reasoning(Reasoning { text: "hm".to_owned(), signature, redacted, id: None })
    };
    let own = || Some(Signature::new(Dialect::Converse, "S+/="));
    let request = asked(vec![
        user(vec![text("go")]),
        assistant(vec![
            thought(own(), false),
            thought(Some(Signature::new(Dialect::Converse, "AAE=")), true),
            thought(Some(Signature::new(Dialect::Gemini, "g")), false),
            thought(None, false),
            text("so"),
        ]),
        user(vec![text("and?")]),
    ]);
    let (body, written) = written(&request);
    let expected = json!([
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "S+/="}}},
        {"reasoningContent": {"redactedContent": "AAE="}},
        {"text": "so"},
    ]);
    assert_eq!(body["messages"][1]["content"], expected);
    assert_eq!(rules(&written), ["reasoning: foreign-reasoning", "reasoning: unsigned-reasoning"]);
}

#[test]
fn the_wish_to_think_is_said_as_the_family_takes_it() {
    let wish = |effort| Some(ReasoningWish { effort: Some(effort), ..ReasoningWish::default() });
    let with = |model: &str, reasoning: Option<ReasoningWish>| {
        let temperature = serde_json::Number::from_f64(0.5);
        let request =
            Request { model: model.to_owned(), reasoning, temperature, ..asked(vec![user(vec![text("go")])]) };
        let (body, written) = written(&request);
        (body["additionalModelRequestFields"].clone(), body["outputConfig"].clone(), rules(&written))
    };
    let none = || Value::Null;
    assert_eq!(
        with(CLAUDE, wish(Effort::Low)),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 2_048}}),
            none(),
            vec!["temperature: not-when-thinking".to_owned()]
        )
    );
    assert_eq!(
        with("us.anthropic.claude-opus-4-6-v1", wish(Effort::High)).0,
        json!({"thinking": {"type": "adaptive"}})
    );
    assert_eq!(with("us.anthropic.claude-opus-4-6-v1", wish(Effort::High)).1, json!({"effort": "high"}));
    assert_eq!(
        with("openai.gpt-oss-120b-1:0", wish(Effort::High)),
        (json!({"reasoning_effort": "high"}), none(), vec![])
    );
    assert_eq!(
        with("us.amazon.nova-2-lite-v1:0", wish(Effort::Medium)).0,
        json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}})
    );
    assert_eq!(
        with("meta.llama4-maverick-17b-instruct-v1:0", wish(Effort::Medium)),
        (none(), none(), vec!["reasoning: no-reasoning".to_owned()])
    );
    assert_eq!(with(CLAUDE, wish(Effort::None)).0, json!({"thinking": {"type": "disabled"}}));
    assert_eq!(with(CLAUDE, None), (none(), none(), vec![]));

    // What a model that thinks by budget would refuse together with it.
    let forced = Request {
        tools: vec![tool("t")],
        tool_choice: ToolChoice::Any,
        reasoning: wish(Effort::High),
        ..asked(vec![user(vec![text("go")])])
    };
    assert_eq!(rules(&written(&forced).1), ["reasoning: forced-tool"]);
    let unthought = Request {
        reasoning: wish(Effort::High),
        ..asked(vec![user(vec![text("go")]), assistant(vec![call("a", "t")]), user(vec![result("a", vec![text("r")])])])
    };
    assert_eq!(rules(&written(&unthought).1), ["reasoning: unthought-calls"]);
}

#[test]
fn points_stand_where_the_client_has_them_or_where_they_help() {
    let point = json!({"cachePoint": {"type": "default"}});
    let conversation = || vec![user(vec![text("one")]), assistant(vec![text("two")]), user(vec![text("three")])];
    let system = vec![text("be")];
    let request = Request { system: system.clone(), tools: vec![tool("t")], ..asked(conversation()) };
    let (body, kept) = written(&request);
    assert_eq!((&body["system"][1], &body["toolConfig"]["tools"][1]), (&point, &point));
    assert_eq!((&body["messages"][0]["content"][1], &body["messages"][2]["content"][1]), (&point, &point));
    assert_eq!(kept.cache, CacheUse::FiveMinutes);
    // A single question is not kept.
    assert_eq!(written(&Request { system, ..asked(conversation()) }).1.cache, CacheUse::None);
    let marked: Part = Part::Text { text: "be".to_owned(), cache: Some(crate::neutral::CacheMark::Hour) };
    let request = Request { system: vec![marked], tools: vec![tool("t")], ..asked(conversation()) };
    let (body, kept) = written(&request);
    assert_eq!(body["system"][1], json!({"cachePoint": {"type": "default", "ttl": "1h"}}));
    assert_eq!((body["toolConfig"]["tools"].as_array().unwrap().len(), kept.cache), (1, CacheUse::Hour));
    let short = |text: &str| Part::Text { text: text.to_owned(), cache: Some(crate::neutral::CacheMark::Short) };
    let many = Request { system: ["a", "b", "c", "d", "e"].map(short).to_vec(), ..asked(conversation()) };
    let (body, kept) = written(&many);
    assert_eq!(body["system"].as_array().unwrap().len(), 9);
    assert_eq!(rules(&kept), ["cache_control: too-many-marks"]);
    let other = Request { model: "meta.llama4".to_owned(), ..request };
    let (body, kept) = written(&other);
    assert_eq!((body["system"].as_array().unwrap().len(), kept.cache), (1, CacheUse::None));
    assert_eq!(rules(&kept), ["cache_control: no-prompt-cache"]);
}

#[test]
fn pictures_and_documents_have_the_services_words() {
    let media = |kind, source, name: Option<&str>| {
        Part::Media(Media { kind, source, name: name.map(str::to_owned), detail: None, cache: None })
    };
    let base64 = |media_type: &str| Source::Base64 { media_type: media_type.to_owned(), data: "AAAA".to_owned() };
    let (body, _) = written(&asked(vec![user(vec![
        media(MediaKind::Image, base64("image/JPEG"), None),
        media(MediaKind::Document, base64("application/pdf"), Some("../a  b.pdf")),
        media(MediaKind::Document, Source::Text("hi".to_owned()), Some("a b pdf")),
        media(MediaKind::Image, Source::Url("s3://bucket/x.png".to_owned()), None),
    ])]));
    let expected = json!([
        {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}},
        {"document": {"format": "pdf", "name": "a b pdf", "source": {"bytes": "AAAA"}}},
        {"document": {"format": "txt", "name": "a b pdf (2)", "source": {"bytes": "aGk="}}},
        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/x.png"}}}},
        {"text": "(See the document.)"},
    ]);
    assert_eq!(body["messages"][0]["content"], expected);
    for (kind, source) in [
        (MediaKind::Image, base64("image/tiff")),
        (MediaKind::Image, Source::Url("https://example.com/x.png".to_owned())),
        (MediaKind::Document, Source::File("file_1".to_owned())),
        (MediaKind::Document, Source::Url("s3://bucket/what".to_owned())),
    ] {
        let error = write_request(&asked(vec![user(vec![media(kind, source, None)])]), &TARGET).unwrap_err();
        assert!(matches!(error, ConvertError::Unsupported { .. }));
    }
}

#[test]
fn the_rest_is_said_or_named() {
    let number = serde_json::Number::from_f64;
    let request = Request {
        max_output: Some(9_000),
        temperature: number(1.5),
        top_p: number(0.5),
        top_k: Some(5.into()),
        seed: Some(1.into()),
        stop: vec!["END".to_owned(), "\n".to_owned()],
        output: OutputForm::Schema {
            name: Some("n".to_owned()),
            schema: json!({"type": "object"}),
            strict: Some(true),
        },
        user: Some("u".to_owned()),
        cache_key: Some("k".to_owned()),
        ..asked(vec![user(vec![text("go"), text(" ")])])
    };
    let (body, kept) = written(&request);
    assert_eq!(body["inferenceConfig"], json!({"maxTokens": 8_000, "temperature": 1, "stopSequences": ["END"]}));
    assert_eq!(body["additionalModelRequestFields"], json!({"top_k": 5}));
    let form = json!({"jsonSchema": {"name": "n", "schema": "{\"type\":\"object\"}"}});
    assert_eq!(body["outputConfig"]["textFormat"], json!({"type": "json_schema", "structure": form}));
    assert_eq!(
        rules(&kept),
        [
            "max_tokens: clamped",
            "temperature: clamped",
            "top_p: one-of-temperature-and-top-p",
            "stop: blank-stop",
            "seed: no-counterpart",
            "user: no-counterpart",
            "prompt_cache_key: marks-instead"
        ]
    );
    assert!(body.get("model").is_none() && body.get("stream").is_none());
    let foreign = asked(vec![user(vec![Part::Foreign(json!({"type": "web_search_call"}))])]);
    assert!(write_request(&foreign, &TARGET).unwrap_err().to_string().contains("web_search_call"));
}

/// A request with everything that the neutral form has a word for.
fn whole() -> Value {
    json!({
        "system": [{"text": "be"}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": [
                {"text": "look"},
                {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                {"document": {"format": "pdf", "name": "d", "source": {"bytes": "BBBB"}}},
                {"cachePoint": {"type": "default"}},
            ]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
                {"toolUse": {"toolUseId": "a", "name": "t", "input": {"x": [1]}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "a", "content": [{"text": "r"}], "status": "error"}},
            ]},
        ],
        "inferenceConfig": {"maxTokens": 5_000, "temperature": 1, "stopSequences": ["S"]},
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "t", "description": "d", "inputSchema": {"json": {"type": "object"}}}}],
        },
        "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2_000}},
    })
}

#[test]
fn what_is_read_is_written_alike() {
    let mut request = read_request(whole().to_string().as_bytes()).unwrap();
    assert!(request.extra.is_empty());
    request.model = CLAUDE.to_owned();
    assert_eq!(written(&request).0, whole());
}

#[test]
fn what_only_bedrock_has_is_named_or_refused() {
    let with = |key: &str, value: Value| {
        let mut body = whole();
        body[key] = value;
        read_request(body.to_string().as_bytes())
    };
    for key in ["guardrailConfig", "promptVariables"] {
        assert!(with(key, json!({"x": 1})).unwrap_err().to_string().contains(key));
    }
    let odd = json!([{"role": "user", "content": [
        {"document": {"format": "md", "name": "n", "source": {"content": [{"text": "a"}, {"text": "b"}]},
            "context": "why", "citations": {"enabled": true}}},
        {"guardContent": {"text": {"text": "x"}}},
        {"toolResult": {"toolUseId": "z", "content": [{"json": {"a": 1}}]}},
        {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://b/i.webp"}}}},
    ]}]);
    let request = with("messages", odd).unwrap();
    let parts = &request.turns[0].parts;
    assert_eq!(parts[0], text("why"));
    assert!(matches!(&parts[1], Part::Media(Media { source: Source::Text(text), .. }) if text == "a\nb"));
    assert!(matches!(&parts[2], Part::Foreign(value) if value["type"] == "guardContent"));
    assert!(matches!(&parts[3], Part::ToolResult { parts, .. } if parts[0] == text("{\"a\":1}")));
    assert!(matches!(&parts[4], Part::Media(Media { source: Source::File(_), .. })));
    assert_eq!(request.leftovers().unwrap()[0].what, "document.citations");
    for (key, value) in
        [("messages", json!({})), ("system", json!("text")), ("inferenceConfig", json!({"maxTokens": "x"}))]
    {
        assert!(matches!(with(key, value), Err(ConvertError::Syntax { .. })), "{key}");
    }
}

#[test]
fn a_look_bounds_the_request_and_refuses_what_has_no_price() {
    let mut body = whole();
    let looked = view(body.to_string().as_bytes()).unwrap();
    assert_eq!((looked.messages, looked.max_output, looked.answers, looked.model), (3, Some(5_000), 1, None));
    // A PDF has no bound but the context; without it there is one.
    assert_eq!((looked.estimate.input_tokens, looked.estimate.cache), (None, CacheUse::Hour));
    body["messages"][0]["content"][2] =
        json!({"document": {"format": "txt", "name": "d", "source": {"text": "A1".repeat(50_000)}}});
    assert!(view(body.to_string().as_bytes()).unwrap().estimate.input_tokens.unwrap() > 100_000);
    body["messages"][0]["content"][2] = json!({"toolUse": {"image": {"source": "A1".repeat(50_000)}}});
    assert!(view(body.to_string().as_bytes()).unwrap().estimate.input_tokens.unwrap() > 100_000);
    for (key, value) in [
        ("serviceTier", json!({"type": "priority"})),
        ("performanceConfig", json!({"latency": "optimized"})),
        ("guardrailConfig", json!({"guardrailIdentifier": "g"})),
        ("toolConfig", json!({"tools": [{"systemTool": {"name": "nova_grounding"}}]})),
        ("additionalModelRequestFields", json!({"tools": [{"type": "web_search_20250305", "name": "w"}]})),
        ("additionalModelRequestFields", json!({"speed": "fast"})),
    ] {
        let mut body = whole();
        body[key] = value;
        assert!(matches!(view(body.to_string().as_bytes()), Err(RequestError::Unpriced(_))), "{key}");
    }
    for (key, value) in
        [("promptVariables", json!({"a": {}})), ("additionalModelRequestFields", json!({"max_tokens": 9}))]
    {
        let mut body = whole();
        body[key] = value;
        assert!(matches!(view(body.to_string().as_bytes()), Err(RequestError::Unsupported(..))), "{key}");
    }
    assert_eq!(view(b"{}"), Err(RequestError::Missing("messages")));
    let twice = br#"{"messages":[],"inferenceConfig":{"maxTokens":1,"maxTokens":2}}"#;
    assert!(view(twice).unwrap_err().to_string().contains("duplicate"));
    assert!(
        view(br#"{"messages":[],"additionalModelRequestFields":{},"additionalModelRequestFields":{"n":2}}"#).is_err()
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,40}") {
        let _ = (view(&bytes), read_request(&bytes));
        for body in [json!({"messages": [{"role": "user", "content": [{text.clone(): {"source": text}}]}]}), json!({text: 1})] {
            let body = body.to_string();
            let _ = view(body.as_bytes());
            if let Ok(request) = read_request(body.as_bytes()) {
                let _ = write_request(&request, &TARGET);
            }
        }
    }
}
