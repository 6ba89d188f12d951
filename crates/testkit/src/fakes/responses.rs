//! OpenAI responses, as OpenAI and Azure take and give them.
//!
//! It owns what the real one demands of a request, and the response and events of an answer. It refuses what the real one
//! refuses: calls without outputs and outputs without calls, and reasoning that does not come back as it was given out.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    chat::{function, reasons, strict},
    check::{Checked, Node, Refused, runs},
    script::{Given, IdForm, Said, Script, Step, Stop, pieces, smallest, word},
    tools::Tool,
};

const IDS: IdForm = IdForm { prefix: "call_", length: 24 };

/// A request that was found good.
#[derive(Debug)]
pub(super) struct Asked {
    pub model: String,
    pub stream: bool,
    reasoning: bool,
    summary: bool,
    encrypted: bool,
    tools: Vec<Tool>,
    spaces: Vec<(String, String)>,
    past: usize,
    format: Option<Value>,
}

const FIELDS: &[&str] = &[
    "background",
    "client_metadata",
    "context_management",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// Looks at a request.
pub(super) fn check(body: &Value, given: &Given) -> Checked<Asked> {
    let root = Node::root(body, true);
    if let Some(name) = root.object()?.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(Refused::bad(format!("Unknown parameter: '{name}'.")));
    }
    let model = root.field("model")?.text()?.to_owned();
    let known = reasons(&model);
    let reasoning = known != Some(false);
    if known == Some(true) {
        for name in ["temperature", "top_p"] {
            if root.maybe(name).is_some_and(|node| node.value.as_f64() != Some(1.0)) {
                return Err(Refused::bad(format!("Unsupported parameter: '{name}' is not supported with this model.")));
            }
        }
    } else if !reasoning
        && root.maybe("reasoning").is_some_and(|node| node.maybe("effort").is_some_and(|it| it.value != "none"))
    {
        return Err(Refused::bad("Unsupported parameter: 'reasoning.effort' is not supported with this model."));
    }
    root.between("temperature", 0.0, 2.0)?;
    root.at_least("max_output_tokens", 16)?;
    root.texts(&["instructions", "previous_response_id", "prompt_cache_key", "user", "service_tier", "truncation"])?;
    root.flags(&["store", "parallel_tool_calls", "background"])?;
    let mut include = Vec::new();
    for node in root.maybe("include").map_or(Ok(Vec::new()), |node| node.list())? {
        include.push(node.one_of(&[
            "reasoning.encrypted_content",
            "message.output_text.logprobs",
            "file_search_call.results",
            "web_search_call.results",
            "web_search_call.action.sources",
            "message.input_image.image_url",
            "computer_call_output.output.image_url",
            "code_interpreter_call.outputs",
        ])?);
    }
    if !reasoning && include.contains(&"reasoning.encrypted_content") {
        return Err(Refused::bad("Encrypted content is not supported with this model."));
    }
    let mut summary = false;
    if let Some(reasoning) = root.maybe("reasoning") {
        reasoning.only(&["effort", "summary", "generate_summary", "context", "mode"])?;
        if let Some(effort) = reasoning.maybe("effort") {
            effort.one_of(&["none", "minimal", "low", "medium", "high", "xhigh", "max"])?;
        }
        summary = reasoning.maybe("summary").is_some();
    }
    let mut found = Tools::default();
    for tool in root.maybe("tools").map_or(Ok(Vec::new()), |node| node.list())? {
        found.add(&tool, None)?;
    }
    if let Some(choice) = root.maybe("tool_choice") {
        match choice.value {
            Value::String(_) => choice.one_of(&["none", "auto", "required"]).map(|_| ())?,
            _ => choice.field("type")?.text().map(|_| ())?,
        }
    }
    let input = root.field("input")?;
    let mut past = 0;
    if !input.value.is_string() {
        let items = input.list()?;
        for item in items.iter().filter(|item| item.value["type"] == "additional_tools") {
            for tool in item.field("tools")?.list()? {
                found.add(&tool, None)?;
            }
        }
        conversation(&items, given)?;
        past = runs(items.iter().filter(|item| item.value["type"] != "additional_tools").map(of_model));
    }
    Ok(Asked {
        model,
        stream: root.maybe_flag("stream")?,
        reasoning,
        summary,
        encrypted: include.contains(&"reasoning.encrypted_content"),
        tools: found.tools,
        spaces: found.spaces,
        past,
        format: format(&root)?,
    })
}

#[derive(Default)]
struct Tools {
    tools: Vec<Tool>,
    /// Names that stand in a namespace, and which.
    spaces: Vec<(String, String)>,
}

impl Tools {
    fn add(&mut self, tool: &Node<'_>, space: Option<&str>) -> Checked<()> {
        match tool.field("type")?.text()? {
            "function" => {
                tool.only(&["type", "name", "description", "parameters", "strict", "defer_loading", "output_schema"])?;
                let mut plain = tool.value.clone();
                if let Some(fields) = plain.as_object_mut() {
                    fields.remove("output_schema");
                }
                let tool = function(&Node::root(&plain, true))?;
                if let Some(space) = space {
                    self.spaces.push((tool.name.clone(), space.to_owned()));
                }
                self.tools.push(tool);
                Ok(())
            }
            "namespace" => {
                tool.only(&["type", "name", "description", "tools"])?;
                let name = tool.field("name")?.name(64, "")?;
                tool.field("tools")?.list()?.iter().try_for_each(|inner| self.add(inner, Some(name)))
            }
            "custom" => {
                tool.only(&["type", "name", "description", "format", "defer_loading"])?;
                tool.field("name")?.name(64, "").map(|_| ())
            }
            "web_search"
            | "web_search_preview"
            | "file_search"
            | "code_interpreter"
            | "image_generation"
            | "mcp"
            | "shell"
            | "local_shell"
            | "apply_patch"
            | "computer_use_preview"
            | "computer"
            | "tool_search" => Ok(()),
            other => Err(tool.wrong(&format!("Invalid value: '{other}'"))),
        }
    }
}

fn format(root: &Node<'_>) -> Checked<Option<Value>> {
    let Some(text) = root.maybe("text") else { return Ok(None) };
    text.only(&["format", "verbosity"])?;
    let Some(format) = text.maybe("format") else { return Ok(None) };
    match format.field("type")?.one_of(&["text", "json_object", "json_schema"])? {
        "json_schema" => {
            format.only(&["type", "name", "description", "schema", "strict"])?;
            let name = format.field("name")?.name(64, "")?;
            let schema = format.field("schema")?;
            if format.value["strict"] == true {
                strict(schema.value, name)?;
            }
            Ok(Some(schema.value.clone()))
        }
        "json_object" => Ok(Some(json!({"type": "object"}))),
        _ => Ok(None),
    }
}

fn of_model(item: &Node<'_>) -> bool {
    match item.value["type"].as_str() {
        None | Some("message") => item.value["role"] == "assistant",
        Some(kind) => kind == "reasoning" || kind.ends_with("_call"),
    }
}

fn conversation(items: &[Node<'_>], given: &Given) -> Checked<()> {
    let (mut calls, mut answered) = (BTreeSet::new(), BTreeSet::new());
    let mut shown = BTreeSet::new();
    for item in items {
        let kind = item.maybe("type").map_or(Ok("message"), |kind| kind.text())?;
        if let Some(id) = item.maybe("id") {
            let id = id.text()?;
            if id.len() > 64 {
                return Err(item.wrong(&format!("Invalid 'id': string too long, {} characters of 64: {id}", id.len())));
            }
        }
        match kind {
            "message" => message(item)?,
            "function_call" | "custom_tool_call" => {
                let id = call_id(item)?;
                item.field("name")?.name(64, "")?;
                match kind {
                    "function_call" => {
                        item.only(&["type", "id", "call_id", "name", "namespace", "arguments", "status", "caller"])?;
                        item.field("arguments")?.text()?;
                    }
                    _ => {
                        item.only(&["type", "id", "call_id", "name", "namespace", "input", "status", "caller"])?;
                        item.field("input")?.text()?;
                    }
                }
                if let Some(signature) = given.calls.get(id)
                    && given.encrypted.contains(signature)
                    && !shown.contains(signature.as_str())
                {
                    return Err(Refused::bad(format!(
                        "Item '{id}' of type 'function_call' was provided without its required 'reasoning' item."
                    )));
                }
                if !calls.insert(id) {
                    return Err(item.wrong(&format!("Duplicate call_id {id}")));
                }
            }
            "function_call_output" | "custom_tool_call_output" => {
                item.only(&["type", "id", "call_id", "output", "status", "name", "caller"])?;
                let id = call_id(item)?;
                if !calls.contains(id) {
                    return Err(Refused::bad(format!(
                        "No tool call found for function call output with call_id {id}."
                    )));
                }
                let output = item.field("output")?;
                if !output.value.is_string() {
                    for part in output.list()? {
                        part.field("type")?.one_of(&["input_text", "input_image", "input_file"])?;
                    }
                }
                answered.insert(id);
            }
            "reasoning" => {
                item.only(&["type", "id", "summary", "content", "encrypted_content", "status"])?;
                item.field("summary")?.list()?;
                if let Some(content) = item.maybe("encrypted_content") {
                    let content = content.text()?;
                    if !given.encrypted.contains(content) {
                        return Err(Refused::bad(
                            "The encrypted content for item could not be verified. Reason: Encrypted content could not be \
                             decrypted or parsed.",
                        ));
                    }
                    shown.insert(content);
                }
            }
            "item_reference"
            | "additional_tools"
            | "web_search_call"
            | "tool_search_call"
            | "tool_search_output"
            | "local_shell_call"
            | "local_shell_call_output"
            | "shell_call"
            | "shell_call_output"
            | "compaction" => {}
            other => return Err(item.wrong(&format!("Invalid value: '{other}'"))),
        }
    }
    match calls.difference(&answered).next() {
        Some(id) => Err(Refused::bad(format!("No tool output found for function call {id}."))),
        None => Ok(()),
    }
}

fn call_id<'a>(item: &Node<'a>) -> Checked<&'a str> {
    let id = item.field("call_id")?;
    let text = id.text()?;
    if text.is_empty() || text.len() > 64 {
        return Err(id.wrong(&format!("string too long. Expected a string with maximum length 64, got {}", text.len())));
    }
    Ok(text)
}

fn message(item: &Node<'_>) -> Checked<()> {
    item.only(&["type", "role", "content", "id", "status", "phase"])?;
    let role = item.field("role")?.one_of(&["user", "assistant", "system", "developer"])?;
    let content = item.field("content")?;
    if content.value.is_string() {
        return Ok(());
    }
    let kinds: &[&str] = match role {
        "assistant" => &["output_text", "refusal"],
        _ => &["input_text", "input_image", "input_file", "input_audio"],
    };
    for part in content.list()? {
        match part.field("type")?.one_of(kinds)? {
            "input_text" => part.only(&["type", "text", "prompt_cache_breakpoint"])?,
            "output_text" => part.only(&["type", "text", "annotations", "logprobs"])?,
            "input_image" => part.only(&["type", "image_url", "file_id", "detail", "prompt_cache_breakpoint"])?,
            _ => {}
        }
        part.texts(&["text", "image_url"])?;
    }
    Ok(())
}

/// The turn that answers this request.
pub(super) fn step(script: &Script, asked: &Asked) -> Checked<Step> {
    let mut step = script.step(asked.past, &asked.tools, IDS).map_err(Refused::bad)?;
    if let Some(schema) = &asked.format {
        step.parts = vec![Said::Text(smallest(schema).to_string())];
    }
    Ok(if asked.reasoning { step } else { step.without_reasoning() })
}

/// Whether reasoning is given out encrypted, so that it can come back.
pub(super) fn encrypted(asked: &Asked) -> bool {
    asked.encrypted
}

fn item_id(prefix: &str, step: &Step, at: usize) -> String {
    format!("{prefix}_{}", word(&format!("{prefix} {} {at}", step.number), 48))
}

/// The items of a turn, whole.
fn items(step: &Step, asked: &Asked) -> Vec<Value> {
    step.parts.iter().enumerate().map(|(at, part)| match part {
        Said::Text(text) => json!({
            "id": item_id("msg", step, at), "type": "message", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
        }),
        Said::Reasoning { text, signature } => {
            let summary = if asked.summary { json!([{"type": "summary_text", "text": text}]) } else { json!([]) };
            let mut item = json!({"id": item_id("rs", step, at), "type": "reasoning", "summary": summary});
            if asked.encrypted {
                item["encrypted_content"] = signature.as_str().into();
            }
            item
        }
        Said::Call { id, name, arguments, .. } => {
            let mut item = json!({
                "id": item_id("fc", step, at), "type": "function_call", "status": "completed", "call_id": id, "name": name,
                "arguments": arguments.to_string(),
            });
            if let Some((_, space)) = asked.spaces.iter().find(|(inner, _)| inner == name) {
                item["namespace"] = space.as_str().into();
            }
            item
        }
    }).collect()
}

/// The response of a turn.
pub(super) fn response(step: &Step, asked: &Asked) -> Value {
    let usage = step.usage;
    let (status, why) = match step.stop {
        Stop::MaxTokens => ("incomplete", json!({"reason": "max_output_tokens"})),
        Stop::Refusal => ("incomplete", json!({"reason": "content_filter"})),
        Stop::End => ("completed", Value::Null),
    };
    json!({
        "id": item_id("resp", step, 0), "object": "response", "created_at": 1_760_000_000, "status": status, "error": null,
        "incomplete_details": why, "instructions": null, "max_output_tokens": null, "model": asked.model,
        "output": items(step, asked), "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null}, "store": false, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled",
        "usage": {
            "input_tokens": usage.all_input(), "input_tokens_details": {"cached_tokens": usage.cache_read},
            "output_tokens": usage.output, "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.all_input() + usage.output,
        },
        "user": null, "metadata": {},
    })
}

/// The same as the events of a stream.
pub(super) fn events(step: &Step, asked: &Asked) -> Vec<Value> {
    let whole = response(step, asked);
    let mut begun = whole.clone();
    begun["status"] = "in_progress".into();
    begun["incomplete_details"] = Value::Null;
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let mut events = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
    ];
    for (index, item) in items(step, asked).into_iter().enumerate() {
        let id = item["id"].clone();
        let mut empty = item.clone();
        let mut inner = Vec::new();
        match item["type"].as_str() {
            Some("message") => {
                empty["content"] = json!([]);
                empty["status"] = "in_progress".into();
                let part = item["content"][0].clone();
                let mut hollow = part.clone();
                hollow["text"] = "".into();
                inner.push(json!({"type": "response.content_part.added", "content_index": 0, "part": hollow}));
                for piece in pieces(part["text"].as_str().unwrap_or_default(), 3) {
                    inner.push(json!({"type": "response.output_text.delta", "content_index": 0, "delta": piece,
                                      "logprobs": []}));
                }
                inner.push(json!({"type": "response.output_text.done", "content_index": 0, "text": part["text"],
                                  "logprobs": []}));
                inner.push(json!({"type": "response.content_part.done", "content_index": 0, "part": part}));
            }
            Some("reasoning") => {
                empty["summary"] = json!([]);
                for (at, part) in item["summary"].as_array().into_iter().flatten().enumerate() {
                    let hollow = json!({"type": "summary_text", "text": ""});
                    let text = part["text"].as_str().unwrap_or_default();
                    inner.push(
                        json!({"type": "response.reasoning_summary_part.added", "summary_index": at, "part": hollow}),
                    );
                    for piece in pieces(text, 2) {
                        inner.push(json!({"type": "response.reasoning_summary_text.delta", "summary_index": at,
                                          "delta": piece}));
                    }
                    inner.push(
                        json!({"type": "response.reasoning_summary_text.done", "summary_index": at, "text": text}),
                    );
                    inner.push(
                        json!({"type": "response.reasoning_summary_part.done", "summary_index": at, "part": part}),
                    );
                }
            }
            _ => {
                empty["arguments"] = "".into();
                empty["status"] = "in_progress".into();
                let arguments = item["arguments"].as_str().unwrap_or_default();
                for piece in pieces(arguments, 3) {
                    inner.push(json!({"type": "response.function_call_arguments.delta", "delta": piece}));
                }
                inner.push(json!({"type": "response.function_call_arguments.done", "name": item["name"],
                                  "arguments": arguments}));
            }
        }
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": empty}));
        for mut event in inner {
            event["item_id"] = id.clone();
            event["output_index"] = index.into();
            events.push(event);
        }
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    let end = if step.stop == Stop::End { "response.completed" } else { "response.incomplete" };
    events.push(json!({"type": end, "response": whole}));
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = number.into();
    }
    events
}
