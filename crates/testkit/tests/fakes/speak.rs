//! That they speak: whole and streamed, in every dialect, to the end of a conversation.

use serde_json::{Value, json};
use stockade_testkit::fakes::Kind;

use super::{
    BEARER, CHAT, CONVERSE, GEMINI, GOOGLE, KEY, MESSAGES, RESPONSES, ask, chat, converse, fake, gemini, messages,
    responses, usage,
};

#[test]
fn messages_goes_from_turn_to_turn() {
    let fake = fake(Kind::Anthropic);
    let mut request = messages();
    let first = ask(&fake, MESSAGES.0, MESSAGES.1, &request).json();
    assert_eq!(first["stop_reason"], "tool_use");
    assert_eq!(first["content"][2]["name"], "Bash");
    assert_eq!(first["content"][2]["input"], json!({"command": "cat it"}));
    assert_eq!(first["usage"]["cache_read_input_tokens"], usage().cache_read);
    let id = first["content"][2]["id"].clone();
    let told = request["messages"].as_array_mut().unwrap();
    told.push(json!({"role": "assistant", "content": first["content"]}));
    told.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "x"}]}));
    request["stream"] = true.into();
    let second = ask(&fake, MESSAGES.0, MESSAGES.1, &request);
    let starts: Vec<Value> =
        second.events().into_iter().filter(|event| event["type"] == "content_block_start").collect();
    assert_eq!(starts.len(), 2, "two calls at once");
    assert!(second.whole);
    assert_eq!(fake.refusals(), Vec::<String>::new());
    let exchanges = fake.exchanges();
    assert_eq!(exchanges.len(), 2);
    assert_eq!(exchanges[1].body, request.to_string().into_bytes());
    assert_eq!(exchanges[1].answer, second.body);
}

#[test]
fn chat_streams_its_usage_only_when_asked() {
    let fake = fake(Kind::OpenAi);
    let mut request = chat();
    request["stream"] = true.into();
    let without = ask(&fake, CHAT, BEARER, &request);
    assert!(without.body.ends_with(b"data: [DONE]\n\n"));
    assert!(without.events().iter().all(|chunk| chunk.get("usage").is_none()));
    request["stream_options"] = json!({"include_usage": true});
    let with = ask(&fake, CHAT, BEARER, &request).events();
    let last = with.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["prompt_tokens"]), (&json!([]), &usage().all_input().into()));
}

#[test]
fn azure_begins_with_a_chunk_without_choices() {
    let fake = fake(Kind::Azure);
    let mut request = chat();
    request["stream"] = true.into();
    let path = "/openai/deployments/mine/chat/completions";
    assert_eq!(ask(&fake, path, &[("api-key", KEY)], &request).status, 404, "without api-version");
    let answer = ask(&fake, &format!("{path}?api-version=2025-04-01-preview"), &[("api-key", KEY)], &request);
    let events = answer.events();
    assert_eq!(events[0]["choices"], json!([]));
    assert!(events[0]["prompt_filter_results"].is_array());
    assert_eq!(events[1]["model"], "mine");
}

#[test]
fn responses_counts_its_events_and_gives_encrypted_reasoning() {
    let fake = fake(Kind::OpenAi);
    let mut request = responses();
    request["stream"] = true.into();
    let events = ask(&fake, RESPONSES, BEARER, &request).events();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert!(last["response"]["output"][0]["encrypted_content"].as_str().unwrap().len() > 200);
    let added = events.iter().find(|event| event["type"] == "response.output_item.added").unwrap();
    assert_eq!(added["item"]["id"], last["response"]["output"][0]["id"]);
}

#[test]
fn a_websocket_is_told_at_once() {
    use std::io::{Read as _, Write as _};
    let fake = fake(Kind::OpenAi);
    let mut stream = std::net::TcpStream::connect(fake.addr()).unwrap();
    stream.write_all(b"GET /v1/responses HTTP/1.1\r\nconnection: close\r\nupgrade: websocket\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert_eq!(fake.refusals(), Vec::<String>::new());
}

#[test]
fn gemini_comes_as_events_and_as_an_array() {
    let fake = fake(Kind::Gemini);
    let stream = GEMINI.replace("generateContent", "streamGenerateContent");
    let events = ask(&fake, &format!("{stream}?alt=sse"), GOOGLE, &gemini()).events();
    let array = ask(&fake, &stream, GOOGLE, &gemini()).json();
    assert_eq!(array.as_array().unwrap(), &events);
    let whole = ask(&fake, GEMINI, GOOGLE, &gemini()).json();
    let last = events.last().unwrap();
    assert_eq!(whole["usageMetadata"], last["usageMetadata"]);
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    let call = &whole["candidates"][0]["content"]["parts"][2];
    assert_eq!(call["functionCall"]["name"], "run_shell_command");
    assert!(call["thoughtSignature"].is_string());
}

#[test]
fn bedrock_speaks_both_of_its_ways() {
    let fake = fake(Kind::Bedrock);
    let whole = ask(&fake, CONVERSE, BEARER, &converse()).json();
    assert_eq!(whole["stopReason"], "tool_use");
    assert_eq!(whole["usage"]["cacheReadInputTokens"], usage().cache_read);
    let stream = ask(&fake, &format!("{CONVERSE}-stream"), BEARER, &converse());
    assert!(stream.head.contains("application/vnd.amazon.eventstream"));
    let mut request = messages();
    request.as_object_mut().unwrap().remove("model");
    request["anthropic_version"] = "bedrock-2023-05-31".into();
    let invoke = CONVERSE.replace("converse", "invoke");
    assert_eq!(ask(&fake, &invoke, BEARER, &request).json()["stop_reason"], "tool_use");
    let stream = ask(&fake, &format!("{invoke}-with-response-stream"), BEARER, &request);
    assert!(stream.whole && stream.body.windows(7).any(|seven| seven == b"\"bytes\""));
    let models: Vec<Option<String>> = fake.exchanges().into_iter().map(|seen| seen.model).collect();
    assert_eq!(models, vec![Some("us.anthropic.claude:0".to_owned()); 4], "the name is decoded");
    assert_eq!(fake.refusals(), Vec::<String>::new());
}

#[test]
fn vertex_speaks_for_two_publishers() {
    let fake = fake(Kind::Vertex);
    let base = "/v1/projects/p/locations/us-east5/publishers";
    let mut request = messages();
    request.as_object_mut().unwrap().remove("model");
    request["anthropic_version"] = "vertex-2023-10-16".into();
    let claude = format!("{base}/anthropic/models/claude@1");
    assert_eq!(ask(&fake, &format!("{claude}:rawPredict"), BEARER, &request).json()["model"], "claude@1");
    request["stream"] = true.into();
    let events = ask(&fake, &format!("{claude}:streamRawPredict"), BEARER, &request).events();
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    let gemini_path = format!("{base}/google/models/gemini-3-pro:generateContent");
    assert_eq!(ask(&fake, &gemini_path, BEARER, &gemini()).status, 200);
    assert_eq!(fake.refusals(), Vec::<String>::new());
}

#[test]
fn embeddings_and_counts_and_models_are_there() {
    let fake = fake(Kind::OpenAi);
    let answer = ask(&fake, "/v1/embeddings", BEARER, &json!({"model": "e", "input": ["a", "b"]})).json();
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    let fake = self::fake(Kind::Anthropic);
    let path = "/v1/messages/count_tokens";
    let count = ask(&fake, path, MESSAGES.1, &json!({"model": "m", "messages": []})).json();
    assert!(count["input_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn whoever_has_no_tool_for_commands_is_told_something_else() {
    let fake = fake(Kind::OpenAi);
    let request = json!({"model": "gpt-4.1", "messages": [{"role": "user", "content": "A title, please"}]});
    let answer = ask(&fake, CHAT, BEARER, &request).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "A small task");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}
