//! Bedrock's Converse, as Bedrock takes and gives it.
//!
//! It owns what the real one demands of a request, and the message and events of an answer. It refuses what the real one
//! refuses: roles that do not alternate, ids and names beyond 64 characters, blank text.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    check::{Checked, Node, Refused, distinct, runs},
    script::{Given, IdForm, Said, Script, Step, Stop, pieces},
    tools::Tool,
};

const IDS: IdForm = IdForm { prefix: "tooluse_", length: 22 };

/// A request that was found good.
#[derive(Debug)]
pub(super) struct Asked {
    thinking: bool,
    tools: Vec<Tool>,
    past: usize,
}

const FIELDS: &[&str] = &[
    "messages",
    "system",
    "inferenceConfig",
    "toolConfig",
    "guardrailConfig",
    "additionalModelRequestFields",
    "promptVariables",
    "additionalModelResponseFieldPaths",
    "requestMetadata",
    "performanceConfig",
    "serviceTier",
    "outputConfig",
];

/// Looks at a request.
pub(super) fn check(body: &Value, given: &Given) -> Checked<Asked> {
    let root = Node::root(body, false);
    root.only(FIELDS)?;
    if let Some(config) = root.maybe("inferenceConfig") {
        config.only(&["maxTokens", "temperature", "topP", "stopSequences"])?;
        config.at_least("maxTokens", 1)?;
        config.between("temperature", 0.0, 1.0)?;
        config.between("topP", 0.0, 1.0)?;
        if let Some(stops) = config.maybe("stopSequences") {
            stops.list()?.iter().try_for_each(|stop| stop.text().map(|_| ()))?;
        }
    }
    for block in root.maybe("system").map_or(Ok(Vec::new()), |node| node.list())? {
        block.only(&["text", "guardContent", "cachePoint"])?;
        one(&block)?;
        text(&block)?;
    }
    let (mut thinking, mut budgeted) = (false, false);
    if let Some(more) = root.maybe("additionalModelRequestFields") {
        more.object()?;
        if let Some(found) = more.maybe("thinking").or_else(|| more.maybe("reasoning_config")) {
            let kind = found.field("type")?.one_of(&["enabled", "disabled", "adaptive"])?;
            if kind == "enabled" && found.field("budget_tokens")?.whole()? < 1024 {
                return Err(found.wrong("budget_tokens: Input should be greater than or equal to 1024"));
            }
            thinking = kind != "disabled";
            budgeted = kind == "enabled";
        }
    }
    let config = &body["inferenceConfig"];
    if thinking && config.get("temperature").is_some_and(|value| value.as_f64() != Some(1.0)) {
        return Err(Refused::bad("`temperature` may only be set to 1 when thinking is enabled."));
    }
    let tools = tools(&root)?;
    let messages = root.field("messages")?.list()?;
    conversation(&messages, root.maybe("toolConfig").is_some(), budgeted, given)?;
    Ok(Asked { thinking, tools, past: runs(messages.iter().map(|message| message.value["role"] == "assistant")) })
}

/// A union has one member.
fn one<'a>(node: &Node<'a>) -> Checked<&'a str> {
    let object = node.object()?;
    match (object.len(), object.keys().next()) {
        (1, Some(name)) => Ok(name),
        (count, _) => Err(node.wrong(&format!("a union has exactly one member, not {count}"))),
    }
}

fn text(block: &Node<'_>) -> Checked<()> {
    let Some(text) = block.maybe("text") else { return Ok(()) };
    if text.text()?.trim().is_empty() {
        return Err(Refused::bad(format!(
            "The text field in the ContentBlock object at {} is blank. Add text.",
            block.at
        )));
    }
    Ok(())
}

fn tools(root: &Node<'_>) -> Checked<Vec<Tool>> {
    let mut tools = Vec::new();
    let Some(config) = root.maybe("toolConfig") else { return Ok(tools) };
    config.only(&["tools", "toolChoice"])?;
    let list = config.field("tools")?.list()?;
    if list.is_empty() {
        return Err(config.wrong("tools: Member must have length greater than or equal to 1"));
    }
    for tool in list {
        tool.only(&["toolSpec", "cachePoint", "systemTool"])?;
        one(&tool)?;
        let Some(spec) = tool.maybe("toolSpec") else { continue };
        spec.only(&["name", "description", "inputSchema", "strict"])?;
        let name = spec.field("name")?.name(64, "")?;
        if spec.maybe("description").is_some_and(|text| text.value == "") {
            return Err(spec.wrong("description: Member must have length greater than or equal to 1"));
        }
        let schema = spec.field("inputSchema")?;
        schema.only(&["json"])?;
        let schema = schema.field("json")?;
        schema.field("type")?.one_of(&["object"])?;
        tools.push(Tool { name: name.to_owned(), schema: schema.value.clone() });
    }
    distinct(tools.iter().map(|tool| tool.name.as_str()), "tool names")?;
    if let Some(choice) = config.maybe("toolChoice") {
        choice.only(&["auto", "any", "tool"])?;
        one(&choice)?;
    }
    Ok(tools)
}

fn conversation(messages: &[Node<'_>], has_tools: bool, budgeted: bool, given: &Given) -> Checked<()> {
    let mut open: BTreeSet<&str> = BTreeSet::new();
    let mut all = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        message.only(&["role", "content"])?;
        let role = message.field("role")?.one_of(&["user", "assistant"])?;
        if at == 0 && role != "user" {
            return Err(Refused::bad(
                "A conversation must start with a user message. Try again with a conversation that starts with a user message.",
            ));
        }
        if at > 0 && messages.get(at - 1).is_some_and(|before| before.value["role"] == role) {
            return Err(Refused::bad(
                "A conversation must alternate between user and assistant roles. Make sure the conversation alternates between \
                 user and assistant roles and try again.",
            ));
        }
        let blocks = message.field("content")?.list()?;
        if blocks.is_empty() {
            return Err(Refused::bad(format!("The content field in the Message object at {} is empty.", message.at)));
        }
        let (mut signed, mut answered) = (None, BTreeSet::new());
        for block in &blocks {
            let kind = one(block)?;
            text(block)?;
            if kind.starts_with("tool") && !has_tools {
                return Err(Refused::bad(
                    "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
                ));
            }
            match (kind, role) {
                ("toolUse", "assistant") => {
                    let call = block.field("toolUse")?;
                    call.only(&["toolUseId", "name", "input", "type"])?;
                    let id = call.field("toolUseId")?.name(64, "")?;
                    call.field("name")?.name(64, "")?;
                    call.field("input")?.object()?;
                    if budgeted
                        && let Some(signature) = given.calls.get(id)
                        && signed != Some(signature.as_str())
                    {
                        return Err(Refused::bad(format!(
                            "The model returned the following errors: {}: Expected `thinking` or `redacted_thinking`, but found \
                             `tool_use`.",
                            block.at
                        )));
                    }
                    all.push(id);
                    open.insert(id);
                }
                ("toolResult", "user") => {
                    let id = result(block)?;
                    if !open.contains(id) {
                        return Err(counts(block));
                    }
                    answered.insert(id);
                }
                ("reasoningContent", "assistant") => signed = reasoning(block, given)?,
                ("text" | "image" | "document" | "video" | "guardContent" | "cachePoint", "user")
                | ("text" | "cachePoint" | "citationsContent", "assistant") => {}
                (kind, _) => return Err(block.wrong(&format!("`{kind}` does not belong here"))),
            }
        }
        if role == "user" {
            if open.difference(&answered).next().is_some() {
                return Err(counts(message));
            }
            open.clear();
        }
    }
    if !open.is_empty() {
        return Err(Refused::bad("Expected toolResult blocks for the toolUse blocks of the previous turn."));
    }
    distinct(all, "toolUse ids")
}

fn counts(node: &Node<'_>) -> Refused {
    Refused::bad(format!(
        "The number of toolResult blocks at {} exceeds or falls short of the number of toolUse blocks of previous turn.",
        node.at
    ))
}

fn result<'a>(block: &Node<'a>) -> Checked<&'a str> {
    let result = block.field("toolResult")?;
    result.only(&["toolUseId", "content", "status", "type"])?;
    for part in result.field("content")?.list()? {
        part.only(&["json", "text", "image", "document", "video", "searchResult"])?;
        one(&part)?;
        part.texts(&["text"])?;
        part.objects(&["json"])?;
    }
    if let Some(status) = result.maybe("status") {
        status.one_of(&["success", "error"])?;
    }
    result.field("toolUseId")?.name(64, "")
}

fn reasoning<'a>(block: &Node<'a>, given: &Given) -> Checked<Option<&'a str>> {
    let content = block.field("reasoningContent")?;
    content.only(&["reasoningText", "redactedContent"])?;
    one(&content)?;
    let Some(said) = content.maybe("reasoningText") else { return Ok(None) };
    said.only(&["text", "signature"])?;
    let text = said.field("text")?.text()?;
    let Some(signature) = said.maybe("signature") else {
        return Err(said.wrong("signature: Field required"));
    };
    let signature = signature.text()?;
    match given.signatures.get(signature) {
        Some(was) if was == text => Ok(Some(signature)),
        _ => Err(Refused::bad(format!("{}: Invalid `signature` in `thinking` block", block.at))),
    }
}

/// The turn that answers this request.
pub(super) fn step(script: &Script, asked: &Asked) -> Checked<Step> {
    let step = script.step(asked.past, &asked.tools, IDS).map_err(Refused::bad)?;
    Ok(if asked.thinking { step } else { step.without_reasoning() })
}

fn stop(step: &Step) -> &'static str {
    match step.stop {
        Stop::MaxTokens => "max_tokens",
        Stop::Refusal => "content_filtered",
        Stop::End if step.calls() => "tool_use",
        Stop::End => "end_turn",
    }
}

fn usage(step: &Step) -> Value {
    let usage = step.usage;
    json!({
        "inputTokens": usage.input, "outputTokens": usage.output, "totalTokens": usage.all_input() + usage.output,
        "cacheReadInputTokens": usage.cache_read, "cacheWriteInputTokens": usage.cache_write,
    })
}

/// The answer of a turn.
pub(super) fn answer(step: &Step) -> Value {
    let content: Vec<Value> = step
        .parts
        .iter()
        .map(|part| match part {
            Said::Text(text) => json!({"text": text}),
            Said::Reasoning { text, signature } => {
                json!({"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}})
            }
            Said::Call { id, name, arguments, .. } => {
                json!({"toolUse": {"toolUseId": id, "name": name, "input": arguments}})
            }
        })
        .collect();
    json!({
        "output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop(step), "usage": usage(step),
        "metrics": {"latencyMs": 7},
    })
}

/// The same as the events of a stream, with their types.
pub(super) fn events(step: &Step) -> Vec<(&'static str, Value)> {
    let mut events = vec![("messageStart", json!({"role": "assistant"}))];
    for (index, part) in step.parts.iter().enumerate() {
        let delta = |delta: Value| ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}));
        match part {
            Said::Text(text) => events.extend(pieces(text, 3).iter().map(|piece| delta(json!({"text": piece})))),
            Said::Reasoning { text, signature } => {
                events.extend(pieces(text, 2).iter().map(|piece| delta(json!({"reasoningContent": {"text": piece}}))));
                events.push(delta(json!({"reasoningContent": {"signature": signature}})));
            }
            Said::Call { id, name, arguments, .. } => {
                let start = json!({"toolUse": {"toolUseId": id, "name": name}});
                events.push(("contentBlockStart", json!({"contentBlockIndex": index, "start": start})));
                let arguments = arguments.to_string();
                events.extend(pieces(&arguments, 3).iter().map(|piece| delta(json!({"toolUse": {"input": piece}}))));
            }
        }
        events.push(("contentBlockStop", json!({"contentBlockIndex": index})));
    }
    events.push(("messageStop", json!({"stopReason": stop(step)})));
    events.push(("metadata", json!({"usage": usage(step), "metrics": {"latencyMs": 7}})));
    events
}
