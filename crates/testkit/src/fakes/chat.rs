//! OpenAI chat completions, as OpenAI and Azure take and give them.
//!
//! It owns what the real one demands of a request, and the completion and chunks of an answer. It refuses what the real one
//! refuses, down to ids and names that are too long.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    check::{Checked, Node, Refused, distinct, runs},
    script::{IdForm, Said, Script, Step, Stop, pieces, smallest, word},
    tools::Tool,
};

const IDS: IdForm = IdForm { prefix: "call_", length: 24 };

/// A request that was found good.
#[derive(Debug)]
pub(super) struct Asked {
    pub model: String,
    pub stream: bool,
    include_usage: bool,
    tools: Vec<Tool>,
    past: usize,
    format: Option<Value>,
}

const FIELDS: &[&str] = &[
    "messages",
    "model",
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];

/// Whether a model reasons, and so takes neither `max_tokens` nor a temperature. Of a deployment with a name of its own nobody
/// can say.
pub(super) fn reasons(model: &str) -> Option<bool> {
    let families = ["gpt-5", "gpt-6", "o1", "o3", "o4"];
    if families.iter().any(|family| model.starts_with(family)) && !model.contains("-chat") {
        return Some(true);
    }
    model.starts_with("gpt-").then_some(false)
}

/// Looks at a request. `model` is the deployment in the path, where it stands there.
pub(super) fn check(body: &Value, model: Option<&str>) -> Checked<Asked> {
    let root = Node::root(body, true);
    if let Some(name) = root.object()?.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(Refused::bad(format!("Unrecognized request argument supplied: {name}")));
    }
    let model = match model {
        Some(model) => model.to_owned(),
        None => root.field("model")?.text()?.to_owned(),
    };
    if reasons(&model) == Some(true) {
        if root.maybe("max_tokens").is_some() {
            return Err(Refused::bad(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            ));
        }
        for name in ["temperature", "top_p"] {
            if root.maybe(name).is_some_and(|node| node.value.as_f64() != Some(1.0)) {
                return Err(Refused::bad(format!("Unsupported value: '{name}' is not supported with this model.")));
            }
        }
        if root.maybe("stop").is_some() {
            return Err(Refused::bad("Unsupported parameter: 'stop' is not supported with this model."));
        }
    } else if reasons(&model) == Some(false) && root.maybe("reasoning_effort").is_some_and(|node| node.value != "none")
    {
        return Err(Refused::bad("Unrecognized request argument supplied: reasoning_effort"));
    }
    root.between("temperature", 0.0, 2.0)?;
    root.between("top_p", 0.0, 1.0)?;
    root.between("frequency_penalty", -2.0, 2.0)?;
    root.between("presence_penalty", -2.0, 2.0)?;
    for name in ["max_tokens", "max_completion_tokens", "n"] {
        root.at_least(name, 1)?;
    }
    root.texts(&["user", "prompt_cache_key", "safety_identifier", "service_tier", "verbosity"])?;
    root.flags(&["store", "logprobs"])?;
    if let Some(effort) = root.maybe("reasoning_effort") {
        effort.one_of(&["none", "minimal", "low", "medium", "high", "xhigh"])?;
    }
    let stream = root.maybe_flag("stream")?;
    if let Some(options) = root.maybe("stream_options") {
        options.only(&["include_usage", "include_obfuscation"])?;
        if !stream {
            return Err(Refused::bad("The 'stream_options' parameter is only allowed when 'stream' is enabled."));
        }
    }
    let tools = tools(&root)?;
    if let Some(choice) = root.maybe("tool_choice") {
        match choice.value {
            Value::String(_) => {
                choice.one_of(&["none", "auto", "required"])?;
            }
            _ => {
                choice.field("type")?.one_of(&["function", "allowed_tools", "custom"])?;
            }
        }
        root.field("tools").map_err(|_| Refused::bad("'tool_choice' is only allowed when 'tools' are specified."))?;
    }
    if root.maybe("parallel_tool_calls").is_some() {
        root.maybe_flag("parallel_tool_calls")?;
        root.field("tools")
            .map_err(|_| Refused::bad("'parallel_tool_calls' is only allowed when 'tools' are specified."))?;
    }
    let messages = root.field("messages")?.list()?;
    conversation(&messages)?;
    Ok(Asked {
        model,
        stream,
        include_usage: body["stream_options"]["include_usage"] == true,
        tools,
        past: runs(messages.iter().map(|message| message.value["role"] == "assistant")),
        format: format(&root)?,
    })
}

fn format(root: &Node<'_>) -> Checked<Option<Value>> {
    let Some(format) = root.maybe("response_format") else { return Ok(None) };
    match format.field("type")?.one_of(&["text", "json_object", "json_schema"])? {
        "json_schema" => {
            let inner = format.field("json_schema")?;
            inner.only(&["name", "description", "schema", "strict"])?;
            inner.field("name")?.name(64, "")?;
            Ok(inner.maybe("schema").map(|schema| schema.value.clone()))
        }
        "json_object" => Ok(Some(json!({"type": "object"}))),
        _ => Ok(None),
    }
}

fn tools(root: &Node<'_>) -> Checked<Vec<Tool>> {
    let mut tools = Vec::new();
    let Some(node) = root.maybe("tools") else { return Ok(tools) };
    let list = node.list()?;
    if list.is_empty() || list.len() > 128 {
        return Err(Refused::bad(format!("Invalid 'tools': expected 1 to 128 items, got {}.", list.len())));
    }
    for tool in list {
        match tool.field("type")?.one_of(&["function", "custom"])? {
            "function" => {
                tool.only(&["type", "function"])?;
                let function = tool.field("function")?;
                tools.push(self::function(&function)?);
            }
            _ => {
                tool.field("custom")?.field("name")?.name(64, "")?;
            }
        }
    }
    Ok(tools)
}

/// A function with its schema, as both of OpenAI's ways of speaking have it.
pub(super) fn function(function: &Node<'_>) -> Checked<Tool> {
    let name = function.field("name")?.name(64, "")?;
    function.texts(&["description"])?;
    function.flags(&["strict"])?;
    let mut schema = json!({"type": "object", "properties": {}});
    if let Some(parameters) = function.maybe("parameters") {
        parameters.object()?;
        if parameters.value.get("type").is_some_and(|kind| kind != "object") {
            return Err(Refused::bad(format!(
                "Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'"
            )));
        }
        schema = parameters.value.clone();
    }
    if function.value["strict"] == true {
        strict(&schema, name)?;
    }
    function.only(&["type", "name", "description", "parameters", "strict", "defer_loading"])?;
    Ok(Tool { name: name.to_owned(), schema })
}

/// What `strict` demands of a schema: every object closed, every property required.
pub(super) fn strict(schema: &Value, name: &str) -> Checked<()> {
    if let Some(properties) = schema["properties"].as_object() {
        let required: BTreeSet<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if schema["additionalProperties"] != false {
            return Err(Refused::bad(format!(
                "Invalid schema for '{name}': 'additionalProperties' is required to be supplied and to be false."
            )));
        }
        if let Some(missing) = properties.keys().find(|property| !required.contains(property.as_str())) {
            return Err(Refused::bad(format!(
                "Invalid schema for '{name}': 'required' is required to be supplied and to be an array including every key in \
                 properties. Missing '{missing}'."
            )));
        }
        return properties.values().try_for_each(|property| strict(property, name));
    }
    Ok(())
}

fn conversation(messages: &[Node<'_>]) -> Checked<()> {
    if messages.is_empty() {
        return Err(Refused::bad("Invalid 'messages': empty array. Expected an array with minimum length 1."));
    }
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for message in messages {
        let role = message.field("role")?.one_of(&["developer", "system", "user", "assistant", "tool", "function"])?;
        if role == "tool" {
            message.only(&["role", "content", "tool_call_id"])?;
            content(message, &["text"])?;
            let id = message.field("tool_call_id")?.text()?;
            if !open.remove(id) {
                return Err(Refused::bad(format!(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with \
                     'tool_calls'. ({}: {id})",
                    message.at
                )));
            }
            continue;
        }
        unanswered(&open)?;
        match role {
            "assistant" => {
                message.only(&[
                    "role",
                    "content",
                    "name",
                    "refusal",
                    "tool_calls",
                    "function_call",
                    "audio",
                    "annotations",
                ])?;
                let calls = message.maybe("tool_calls").map_or(Ok(Vec::new()), |node| {
                    let calls = node.list()?;
                    if calls.is_empty() {
                        Err(node.wrong("Expected an array with minimum length 1"))
                    } else {
                        Ok(calls)
                    }
                })?;
                if calls.is_empty() && message.maybe("content").is_none() && message.maybe("refusal").is_none() {
                    return Err(message.wrong("expected a string or an array in 'content', got null"));
                }
                if message.maybe("content").is_some() {
                    content(message, &["text", "refusal"])?;
                }
                for call in &calls {
                    open.insert(self::call(call)?);
                }
                let ids = calls.iter().filter_map(|call| call.value["id"].as_str());
                distinct(ids, "ids of tool calls")?;
            }
            "user" => {
                message.only(&["role", "content", "name"])?;
                content(message, &["text", "image_url", "input_audio", "file"])?;
            }
            _ => {
                message.only(&["role", "content", "name"])?;
                content(message, &["text"])?;
            }
        }
    }
    unanswered(&open)
}

fn call<'a>(call: &Node<'a>) -> Checked<&'a str> {
    let id = call.field("id")?;
    let text = id.text()?;
    if text.len() > 40 || text.is_empty() {
        return Err(id.wrong(&format!("string too long. Expected a string with maximum length 40, got {}", text.len())));
    }
    match call.field("type")?.one_of(&["function", "custom"])? {
        "function" => {
            call.only(&["id", "type", "function"])?;
            let function = call.field("function")?;
            function.only(&["name", "arguments"])?;
            function.field("name")?.name(64, "")?;
            function.field("arguments")?.text()?;
        }
        _ => {
            call.field("custom")?.object()?;
        }
    }
    Ok(text)
}

fn content(message: &Node<'_>, kinds: &[&str]) -> Checked<()> {
    let content = message.field("content")?;
    if content.value.is_string() {
        return Ok(());
    }
    for part in content.list()? {
        match part.field("type")?.one_of(kinds)? {
            "text" => {
                part.only(&["type", "text", "prompt_cache_breakpoint"])?;
                part.field("text")?.text()?;
            }
            "image_url" => {
                part.only(&["type", "image_url", "prompt_cache_breakpoint"])?;
                let image = part.field("image_url")?;
                image.only(&["url", "detail"])?;
                image.field("url")?.text()?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn unanswered(open: &BTreeSet<&str>) -> Checked<()> {
    if open.is_empty() {
        return Ok(());
    }
    let ids = open.iter().copied().collect::<Vec<_>>().join(", ");
    Err(Refused::bad(format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The \
         following tool_call_ids did not have response messages: {ids}"
    )))
}

/// The turn that answers this request. This way of speaking shows no reasoning.
pub(super) fn step(script: &Script, asked: &Asked) -> Checked<Step> {
    let mut step = script.step(asked.past, &asked.tools, IDS).map_err(Refused::bad)?.without_reasoning();
    if let Some(schema) = &asked.format {
        step.parts = vec![Said::Text(smallest(schema).to_string())];
    }
    Ok(step)
}

fn usage(step: &Step) -> Value {
    let usage = step.usage;
    json!({
        "prompt_tokens": usage.all_input(), "completion_tokens": usage.output,
        "total_tokens": usage.all_input() + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

fn finish(step: &Step) -> &'static str {
    match step.stop {
        Stop::MaxTokens => "length",
        Stop::Refusal => "content_filter",
        Stop::End if step.calls() => "tool_calls",
        Stop::End => "stop",
    }
}

fn said(step: &Step) -> String {
    step.parts.iter().filter_map(|part| if let Said::Text(text) = part { Some(text.as_str()) } else { None }).collect()
}

fn calls(step: &Step) -> Vec<(&str, &str, String)> {
    let mut calls = Vec::new();
    for part in &step.parts {
        if let Said::Call { id, name, arguments, .. } = part {
            calls.push((id.as_str(), name.as_str(), arguments.to_string()));
        }
    }
    calls
}

fn id(step: &Step) -> String {
    format!("chatcmpl-{}", word(&format!("completion {}", step.number), 29))
}

/// The completion of a turn.
pub(super) fn completion(step: &Step, asked: &Asked, azure: bool) -> Value {
    let text = said(step);
    let content = if text.is_empty() { Value::Null } else { text.into() };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
    let calls: Vec<Value> = calls(step)
        .into_iter()
        .map(|(id, name, args)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": args}}))
        .collect();
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    let mut choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish(step)});
    let mut whole = json!({
        "id": id(step), "object": "chat.completion", "created": 1_760_000_000, "model": asked.model, "usage": usage(step),
        "service_tier": "default", "system_fingerprint": "fp_testkit",
    });
    if azure {
        choice["content_filter_results"] = filtered();
        whole["prompt_filter_results"] = json!([{"prompt_index": 0, "content_filter_results": filtered()}]);
    }
    whole["choices"] = json!([choice]);
    whole
}

fn filtered() -> Value {
    let safe = json!({"filtered": false, "severity": "safe"});
    json!({"hate": safe, "self_harm": safe, "sexual": safe, "violence": safe})
}

/// The same as the chunks of a stream. What ends it (`[DONE]`) is not among them.
pub(super) fn chunks(step: &Step, asked: &Asked, azure: bool) -> Vec<Value> {
    let chunk = |choices: Value| {
        let mut chunk = json!({
            "id": id(step), "object": "chat.completion.chunk", "created": 1_760_000_000, "model": asked.model,
            "service_tier": "default", "system_fingerprint": "fp_testkit", "choices": choices,
        });
        if asked.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let delta = |delta: Value, finish: Value| {
        let mut choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        if azure {
            choice["content_filter_results"] = json!({});
        }
        chunk(json!([choice]))
    };
    let mut chunks = Vec::new();
    if azure {
        let mut first = json!({"id": "", "object": "", "created": 0, "model": "", "choices": []});
        first["prompt_filter_results"] = json!([{"prompt_index": 0, "content_filter_results": filtered()}]);
        chunks.push(first);
    }
    chunks.push(delta(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null));
    for piece in pieces(&said(step), 3) {
        chunks.push(delta(json!({"content": piece}), Value::Null));
    }
    for (index, (id, name, arguments)) in calls(step).into_iter().enumerate() {
        let begun = json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
        chunks.push(delta(json!({"tool_calls": [begun]}), Value::Null));
        for piece in pieces(&arguments, 3) {
            let more = json!({"index": index, "function": {"arguments": piece}});
            chunks.push(delta(json!({"tool_calls": [more]}), Value::Null));
        }
    }
    chunks.push(delta(json!({}), finish(step).into()));
    if asked.include_usage {
        let mut last = chunk(json!([]));
        last["usage"] = usage(step);
        chunks.push(last);
    }
    chunks
}

/// The body of a refusal.
pub(super) fn error(status: u16, text: &str) -> Value {
    let (kind, code) = match status {
        401 => ("invalid_request_error", json!("invalid_api_key")),
        404 => ("invalid_request_error", json!("model_not_found")),
        429 => ("tokens", json!("rate_limit_exceeded")),
        500.. => ("server_error", Value::Null),
        _ => ("invalid_request_error", Value::Null),
    };
    json!({"error": {"message": text, "type": kind, "param": null, "code": code}})
}
