//! That they are strict: a request that the real provider would not take is not taken, in the provider's own shape.

use serde_json::{Value, json};
use stockade_testkit::fakes::{Fake, Kind};

use super::{
    Answer, BEARER, CHAT, CONVERSE, GEMINI, GOOGLE, MESSAGES, RESPONSES, ask, chat, converse, fake, gemini, messages,
    responses,
};

fn at<'a>(value: &'a mut Value, path: &str) -> &'a mut Value {
    value.pointer_mut(path).unwrap_or_else(|| panic!("no {path}"))
}

fn with(mut request: Value, field: &str, value: Value) -> Value {
    request[field] = value;
    request
}

/// Every request is refused with 400 and a text that holds the word, and all of it is kept.
fn refuses(fake: &Fake, send: impl Fn(&Value) -> Answer, cases: &[(Value, &str)], shape: impl Fn(&Value) -> String) {
    for (request, word) in cases {
        let answer = send(request);
        assert_eq!(answer.status, 400, "{word}: {}", String::from_utf8_lossy(&answer.body));
        let told = shape(&answer.json());
        assert!(told.contains(word), "{told:?} does not say {word:?}");
    }
    assert_eq!(fake.refusals().len(), cases.len());
}

#[test]
fn messages_is_what_it_must_be() {
    let fake = fake(Kind::Anthropic);
    let call = json!({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}});
    let result = json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"});
    let told = |list: Value| with(messages(), "messages", list);
    let user = |content: Value| json!({"role": "user", "content": content});
    let model = |content: Value| json!({"role": "assistant", "content": content});
    let cases = [
        (with(messages(), "reasoning_effort", "low".into()), "reasoning_effort: Extra inputs"),
        (with(messages(), "context_management", json!({})), "context_management: Extra inputs"),
        (with(messages(), "max_tokens", "9".into()), "valid integer"),
        (with(messages(), "max_tokens", 1024.into()), "must be greater than `thinking.budget_tokens`"),
        (with(messages(), "temperature", 0.5.into()), "only be set to 1 when thinking"),
        (with(messages(), "tool_choice", json!({"type": "any"})), "forces tool use"),
        (told(json!([model("x".into())])), "first message must use"),
        (told(json!([user("".into())])), "non-empty"),
        (told(json!([user(json!([{"type": "text", "text": ""}]))])), "text content blocks must be non-empty"),
        (told(json!([user("go".into()), model(json!([call])), user("x".into())])), "without `tool_result`"),
        (told(json!([user("go".into()), user(json!([result]))])), "unexpected `tool_use_id`"),
        (
            told(json!([
                user("go".into()),
                model(json!([{"type": "tool_use", "id": "a:b", "name": "Bash", "input": {}}]))
            ])),
            "should match pattern",
        ),
        (
            told(json!([
                user("go".into()),
                model(json!([{"type": "thinking", "thinking": "x", "signature": "made up"}]))
            ])),
            "Invalid `signature`",
        ),
        (with(messages(), "tools", json!([{"name": "a", "input_schema": {}}])), "input_schema.type: Field required"),
        (with(messages(), "tools", json!([{"name": "x".repeat(129), "input_schema": super::schema()}])), "at most 128"),
    ];
    let send = |request: &Value| ask(&fake, MESSAGES.0, MESSAGES.1, request);
    refuses(&fake, send, &cases, |body| {
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
        body["error"]["message"].as_str().unwrap().to_owned()
    });
}

#[test]
fn reasoning_comes_back_as_it_was_in_messages() {
    let fake = fake(Kind::Anthropic);
    let mut request = messages();
    let first = ask(&fake, MESSAGES.0, MESSAGES.1, &request).json();
    let id = first["content"][2]["id"].clone();
    let told = request["messages"].as_array_mut().unwrap();
    told.push(json!({"role": "assistant", "content": first["content"]}));
    told.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "x"}]}));
    assert_eq!(ask(&fake, MESSAGES.0, MESSAGES.1, &request).status, 200);
    let mut changed = request.clone();
    *at(&mut changed, "/messages/1/content/0/thinking") = "Look first: \"it\".".into();
    assert_eq!(ask(&fake, MESSAGES.0, MESSAGES.1, &changed).status, 400);
    let mut missing = request.clone();
    at(&mut missing, "/messages/1/content").as_array_mut().unwrap().remove(0);
    assert_eq!(ask(&fake, MESSAGES.0, MESSAGES.1, &missing).status, 400);
    missing.as_object_mut().unwrap().remove("thinking");
    assert_eq!(ask(&fake, MESSAGES.0, MESSAGES.1, &missing).status, 200, "without thinking it may be left out");
}

#[test]
fn chat_completions() {
    let fake = fake(Kind::OpenAi);
    let told = |messages: Value| with(chat(), "messages", messages);
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "bash", "arguments": "{}"}});
    let calls = |id: &str| json!({"role": "assistant", "content": null, "tool_calls": [call(id)]});
    let user = json!({"role": "user", "content": "go"});
    let long = "x".repeat(41);
    let cases = [
        (with(chat(), "thinking", json!({})), "Unrecognized request argument supplied: thinking"),
        (with(with(chat(), "model", "gpt-5".into()), "max_tokens", 9.into()), "max_completion_tokens"),
        (with(chat(), "reasoning_effort", "low".into()), "reasoning_effort"),
        (with(chat(), "stream_options", json!({"include_usage": true})), "only allowed when 'stream'"),
        (with(chat(), "tools", json!([])), "expected 1 to 128"),
        (told(json!([user, calls("a"), user])), "did not have response messages: a"),
        (told(json!([user, {"role": "tool", "tool_call_id": "a", "content": "x"}])), "must be a response"),
        (told(json!([user, calls(&long)])), "maximum length 40"),
        (told(json!([{"role": "user", "content": [{"type": "input_text", "text": "x"}]}])), "should be one of"),
        (told(json!([{"role": "user", "content": "x", "cache_control": {}}])), "Extra inputs"),
        (
            with(chat(), "tools", json!([{"type": "function", "function": {"name": "x".repeat(65)}}])),
            "at most 64 characters",
        ),
    ];
    let send = |request: &Value| ask(&fake, CHAT, BEARER, request);
    refuses(&fake, send, &cases, |body| body["error"]["message"].as_str().unwrap().to_owned());
}

#[test]
fn responses_and_its_encrypted_reasoning() {
    let fake = fake(Kind::OpenAi);
    let first = ask(&fake, RESPONSES, BEARER, &responses()).json();
    let output = first["output"].as_array().unwrap().clone();
    let id = output[2]["call_id"].clone();
    let result = json!({"type": "function_call_output", "call_id": id, "output": "x"});
    let told = |items: Vec<Value>| with(responses(), "input", items.into());
    let user = json!({"role": "user", "content": "go"});
    let (thought, text, call) = (output[0].clone(), output[1].clone(), output[2].clone());
    let whole = told(vec![user.clone(), thought.clone(), text.clone(), call.clone(), result.clone()]);
    assert_eq!(ask(&fake, RESPONSES, BEARER, &whole).status, 200);
    let mangled = with(thought.clone(), "encrypted_content", "made up".into());
    let cases = [
        (with(responses(), "messages", json!([])), "Unknown parameter: 'messages'"),
        (told(vec![user.clone(), text.clone(), call.clone(), result.clone()]), "without its required 'reasoning'"),
        (told(vec![user.clone(), mangled, text, call.clone(), result.clone()]), "could not be verified"),
        (told(vec![user.clone(), result]), "No tool call found"),
        (told(vec![user.clone(), thought, call]), "No tool output found"),
        (told(vec![with(user, "content", json!([{"type": "text", "text": "x"}]))]), "should be one of"),
        (with(responses(), "temperature", 0.2.into()), "'temperature' is not supported"),
        (with(responses(), "model", "gpt-4.1".into()), "Encrypted content is not supported"),
    ];
    let send = |request: &Value| ask(&fake, RESPONSES, BEARER, request);
    refuses(&fake, send, &cases, |body| body["error"]["message"].as_str().unwrap().to_owned());
}

#[test]
fn gemini_and_its_signatures() {
    let fake = fake(Kind::Gemini);
    let first = ask(&fake, GEMINI, GOOGLE, &gemini()).json();
    let said = first["candidates"][0]["content"].clone();
    let user = json!({"role": "user", "parts": [{"text": "go"}]});
    let answer = |name: &str| json!({"functionResponse": {"name": name, "response": {"output": "x"}}});
    let answers = json!({"role": "user", "parts": [answer("run_shell_command")]});
    let told = |contents: Vec<Value>| with(gemini(), "contents", contents.into());
    let whole = told(vec![user.clone(), said.clone(), answers.clone()]);
    assert_eq!(ask(&fake, GEMINI, GOOGLE, &whole).status, 200);
    let mut unsigned = said.clone();
    at(&mut unsigned, "/parts/2").as_object_mut().unwrap().remove("thoughtSignature");
    let mut mangled = said.clone();
    *at(&mut mangled, "/parts/2/functionCall/args/command") = "rm it".into();
    let declared = |parameters: Value| {
        with(gemini(), "tools", json!([{"functionDeclarations": [{"name": "a", "parameters": parameters}]}]))
    };
    let twice = json!({"role": "user", "parts": [answer("run_shell_command"), answer("run_shell_command")]});
    let cases = [
        (with(gemini(), "messages", json!([])), "Unknown name \"messages\""),
        (declared(json!({"type": "object", "additionalProperties": false})), "Unknown name \"additionalProperties\""),
        (declared(json!({"type": "array"})), "items: missing field"),
        (told(vec![user.clone(), unsigned, answers.clone()]), "missing a thought_signature"),
        (told(vec![user.clone(), mangled, answers.clone()]), "it belongs to another call"),
        (told(vec![user.clone(), said.clone(), twice]), "number of function response parts"),
        (told(vec![user.clone(), said.clone(), json!({"role": "user", "parts": [answer("other")]})]), "do not answer"),
        (told(vec![user.clone(), answers]), "immediately after a function call"),
        (told(vec![user, said]), "function call turn comes immediately"),
        (with(gemini(), "tools", json!([{"functionDeclarations": [{"name": "9a"}]}])), "Must start with a letter"),
    ];
    let send = |request: &Value| ask(&fake, GEMINI, GOOGLE, request);
    refuses(&fake, send, &cases, |body| {
        assert_eq!(body["error"]["status"], "INVALID_ARGUMENT");
        body["error"]["message"].as_str().unwrap().to_owned()
    });
}

#[test]
fn converse_and_its_reasoning() {
    let fake = fake(Kind::Bedrock);
    let first = ask(&fake, CONVERSE, BEARER, &converse()).json();
    let said = first["output"]["message"].clone();
    let user = json!({"role": "user", "content": [{"text": "go"}]});
    let id = said["content"][2]["toolUse"]["toolUseId"].clone();
    let result = json!({"role": "user", "content": [{"toolResult": {"toolUseId": id, "content": [{"text": "x"}]}}]});
    let told = |messages: Vec<Value>| with(converse(), "messages", messages.into());
    assert_eq!(ask(&fake, CONVERSE, BEARER, &told(vec![user.clone(), said.clone(), result.clone()])).status, 200);
    let mut bare = said.clone();
    at(&mut bare, "/content").as_array_mut().unwrap().remove(0);
    let mut long = said.clone();
    *at(&mut long, "/content/2/toolUse/toolUseId") = "x".repeat(65).into();
    let mut blank = user.clone();
    *at(&mut blank, "/content/0/text") = "  ".into();
    let mut toolless = told(vec![user.clone(), said.clone(), result.clone()]);
    toolless.as_object_mut().unwrap().remove("toolConfig");
    let cases = [
        (with(converse(), "stream", true.into()), "stream: Extra inputs"),
        (told(vec![user.clone(), user.clone()]), "must alternate"),
        (told(vec![blank]), "is blank"),
        (told(vec![user.clone(), long, result.clone()]), "at most 64"),
        (told(vec![user.clone(), bare, result.clone()]), "Expected `thinking`"),
        (toolless, "toolConfig field must be defined"),
        (told(vec![user.clone(), said, user.clone()]), "toolResult blocks"),
    ];
    let send = |request: &Value| ask(&fake, CONVERSE, BEARER, request);
    refuses(&fake, send, &cases, |body| body["message"].as_str().unwrap().to_owned());
}

#[test]
fn bedrock_knows_few_betas() {
    let fake = fake(Kind::Bedrock);
    let mut request = messages();
    request.as_object_mut().unwrap().remove("model");
    request["anthropic_version"] = "bedrock-2023-05-31".into();
    request["anthropic_beta"] = json!(["interleaved-thinking-2025-05-14"]);
    let path = CONVERSE.replace("converse", "invoke");
    assert_eq!(ask(&fake, &path, BEARER, &request).status, 200);
    request["anthropic_beta"] = json!(["files-api-2025-04-14"]);
    let answer = ask(&fake, &path, BEARER, &request);
    assert_eq!(
        (answer.status, answer.json()["message"].as_str().unwrap()),
        (400, "invalid beta flag: files-api-2025-04-14")
    );
}

#[test]
fn what_becomes_of_thinking_from_elsewhere_wants_its_beta() {
    let fake = fake(Kind::Bedrock);
    let mut request = messages();
    request.as_object_mut().unwrap().remove("model");
    request["anthropic_version"] = "bedrock-2023-05-31".into();
    request["thinking"] = json!({"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}});
    let path = CONVERSE.replace("converse", "invoke");
    let answer = ask(&fake, &path, BEARER, &request);
    assert_eq!(
        (answer.status, answer.json()["message"].as_str().unwrap()),
        (400, "thinking.block_binding: Extra inputs are not permitted")
    );
    request["anthropic_beta"] = json!(["thinking-binding-controls-2026-08-01"]);
    assert_eq!(ask(&fake, &path, BEARER, &request).status, 200);
    request["thinking"]["block_binding"]["prefix_mismatch_behavior"] = "forget".into();
    assert_eq!(ask(&fake, &path, BEARER, &request).status, 400);
}

#[test]
fn a_signature_must_be_well_formed() {
    let fake = fake(Kind::Bedrock);
    let send = |authorization: &str| {
        let headers = [("authorization", authorization), ("x-amz-date", "20261121T030000Z")];
        ask(&fake, CONVERSE, &headers, &converse()).status
    };
    let scope = "AWS4-HMAC-SHA256 Credential=key-of-the-test/20261121/us-east-1/bedrock/aws4_request";
    let hex = "0".repeat(64);
    assert_eq!(send(&format!("{scope}, SignedHeaders=host;x-amz-date, Signature={hex}")), 200);
    assert_eq!(send(&format!("{scope}, SignedHeaders=x-amz-date, Signature={hex}")), 403, "the host is not signed");
    assert_eq!(send(&format!("{scope}, SignedHeaders=host;x-amz-date, Signature=0")), 403);
    assert_eq!(send(&format!("{scope}, SignedHeaders=host;x-amz-security-token, Signature={hex}")), 403);
    let other = scope.replace("/bedrock/", "/s3/");
    assert_eq!(send(&format!("{other}, SignedHeaders=host;x-amz-date, Signature={hex}")), 403);
    assert_eq!(send("Bearer another"), 401);
}

#[test]
fn a_key_and_a_model_that_are_not_there() {
    let mut script = super::script();
    script.models = vec!["mine".to_owned()];
    let fake = Fake::start(Kind::Anthropic, super::KEY, script).unwrap();
    let answer = ask(&fake, MESSAGES.0, &[("anthropic-version", "2023-06-01")], &messages());
    assert_eq!((answer.status, answer.json()["error"]["type"].as_str().unwrap()), (401, "authentication_error"));
    let answer = ask(&fake, MESSAGES.0, MESSAGES.1, &messages());
    assert_eq!((answer.status, answer.json()["error"]["type"].as_str().unwrap()), (404, "not_found_error"));
    assert_eq!(fake.refusals().len(), 2);
}
