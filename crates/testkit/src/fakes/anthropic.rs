//! Anthropic Messages, as Anthropic, Bedrock (`invoke`) and Vertex (`rawPredict`) take and give it.
//!
//! It owns what the real one demands of a request, and the message and events of an answer. It refuses what the real one
//! refuses: unknown fields, calls without results and results without calls, and reasoning that does not come back as it was.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    check::{Checked, Node, Refused, distinct, runs},
    script::{Given, IdForm, Said, Script, Step, Stop, pieces},
    tools::Tool,
};

/// How ids of calls look here.
const IDS: IdForm = IdForm { prefix: "toolu_01", length: 22 };
const IDS_AT_BEDROCK: IdForm = IdForm { prefix: "toolu_bdrk_01", length: 22 };

/// Where the request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    Anthropic,
    Bedrock,
    Vertex,
}

/// A request that was found good.
#[derive(Debug)]
pub(super) struct Asked {
    pub model: String,
    pub stream: bool,
    thinking: bool,
    tools: Vec<Tool>,
    past: usize,
    format: Option<Value>,
}

const FIELDS: &[&str] = &[
    "messages",
    "max_tokens",
    "system",
    "metadata",
    "stop_sequences",
    "temperature",
    "top_k",
    "top_p",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
];
const FIELDS_OF_ANTHROPIC: &[&str] =
    &["model", "stream", "service_tier", "container", "inference_geo", "cache_control"];
/// Fields that exist with a beta header only, and the beginning of its name.
const BETA_FIELDS: &[(&str, &str)] =
    &[("context_management", "context-management-"), ("mcp_servers", "mcp-client-"), ("speed", "fast-mode-")];
/// Betas that Bedrock knows, by their beginnings. Any other is refused there.
const BETAS_OF_BEDROCK: &[&str] = &[
    "interleaved-thinking-",
    "context-management-",
    "context-1m-",
    "tool-search-tool-",
    "tool-examples-",
    "computer-use-",
    "token-efficient-tools-",
    "output-128k-",
    "dev-full-thinking-",
    "fine-grained-tool-streaming-",
    "effort-",
    "claude-code-",
    BINDING,
];
/// With this one a request may say what becomes of thinking that was thought elsewhere.
const BINDING: &str = "thinking-binding-controls-";

/// Looks at a request for a message. `betas` are those of the header. `model` is the name in the path, where it stands there.
pub(super) fn check(body: &Value, host: Host, model: Option<&str>, betas: &[String], given: &Given) -> Checked<Asked> {
    let root = Node::root(body, false);
    let mut betas: Vec<String> = betas.to_vec();
    let mut fields: Vec<&str> = FIELDS.to_vec();
    match host {
        Host::Anthropic => fields.extend(FIELDS_OF_ANTHROPIC),
        Host::Bedrock => fields.extend(["anthropic_version", "anthropic_beta"]),
        Host::Vertex => fields.extend(["anthropic_version", "anthropic_beta", "stream"]),
    }
    let version = match host {
        Host::Anthropic => None,
        Host::Bedrock => Some("bedrock-2023-05-31"),
        Host::Vertex => Some("vertex-2023-10-16"),
    };
    if let Some(version) = version {
        root.field("anthropic_version")?.one_of(&[version])?;
        for beta in root.maybe("anthropic_beta").map_or(Ok(Vec::new()), |node| node.list())? {
            betas.push(beta.text()?.to_owned());
        }
    }
    if host == Host::Bedrock
        && let Some(beta) = betas.iter().find(|beta| !BETAS_OF_BEDROCK.iter().any(|known| beta.starts_with(known)))
    {
        return Err(Refused::bad(format!("invalid beta flag: {beta}")));
    }
    fields.extend(
        BETA_FIELDS.iter().filter(|(_, beta)| betas.iter().any(|b| b.starts_with(beta))).map(|(field, _)| field),
    );
    root.only(&fields)?;
    let model = match model {
        Some(model) => model.to_owned(),
        None => root.field("model")?.text()?.to_owned(),
    };
    let most = root.field("max_tokens")?;
    if most.whole()? < 1 {
        return Err(most.wrong("Input should be greater than or equal to 1"));
    }
    root.between("temperature", 0.0, 1.0)?;
    root.between("top_p", 0.0, 1.0)?;
    root.at_least("top_k", 0)?;
    if let Some(metadata) = root.maybe("metadata") {
        metadata.only(&["user_id"])?;
    }
    for stop in root.maybe("stop_sequences").map_or(Ok(Vec::new()), |node| node.list())? {
        stop.text()?;
    }
    if let Some(tier) = root.maybe("service_tier") {
        tier.one_of(&["auto", "standard_only"])?;
    }
    let mut marks = 0;
    if let Some(system) = root.maybe("system")
        && !system.value.is_string()
    {
        for block in system.list()? {
            block.field("type")?.one_of(&["text"])?;
            text_block(&block, &mut marks)?;
        }
    }
    let thinking = thinking(&root, most.whole()?, betas.iter().any(|beta| beta.starts_with(BINDING)))?;
    let tools = tools(&root, &mut marks)?;
    tool_choice(&root, thinking != Thinking::Off)?;
    let messages = root.field("messages")?.list()?;
    conversation(&messages, thinking == Thinking::Budgeted, given, &mut marks)?;
    if marks > 4 {
        return Err(Refused::bad(format!("A maximum of 4 blocks with cache_control may be provided. Found {marks}.")));
    }
    Ok(Asked {
        model,
        stream: root.maybe_flag("stream")?,
        thinking: thinking != Thinking::Off,
        tools,
        past: runs(messages.iter().map(|message| message.value["role"] == "assistant")),
        format: body["output_config"]["format"].get("schema").cloned(),
    })
}

/// How a request wants reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thinking {
    Off,
    /// Turns need not begin with reasoning, so it may be left out.
    Adaptive,
    /// Turns with calls must come back with the reasoning that was given out with them.
    Budgeted,
}

/// What is said of thinking from elsewhere.
fn bound(thinking: &Node<'_>) -> Checked<()> {
    let Some(binding) = thinking.maybe("block_binding") else { return Ok(()) };
    binding.only(&["prefix_mismatch_behavior"])?;
    if let Some(word) = binding.maybe("prefix_mismatch_behavior") {
        word.one_of(&["error", "drop_block"])?;
    }
    Ok(())
}

fn thinking(root: &Node<'_>, most: i64, binding: bool) -> Checked<Thinking> {
    let Some(thinking) = root.maybe("thinking") else { return Ok(Thinking::Off) };
    let mut kind = Thinking::Budgeted;
    match thinking.field("type")?.one_of(&["enabled", "disabled", "adaptive"])? {
        "disabled" => {
            thinking.only(&["type"])?;
            return Ok(Thinking::Off);
        }
        "adaptive" => {
            thinking.only(if binding { &["type", "display", "block_binding"] } else { &["type", "display"] })?;
            bound(&thinking)?;
            kind = Thinking::Adaptive;
        }
        _ => {
            let more: &[&str] = &["type", "budget_tokens", "display", "block_binding"];
            thinking.only(if binding { more } else { &["type", "budget_tokens", "display"] })?;
            bound(&thinking)?;
            let budget = thinking.field("budget_tokens")?;
            if budget.whole()? < 1024 {
                return Err(budget.wrong("Input should be greater than or equal to 1024"));
            }
            if budget.whole()? >= most {
                return Err(Refused::bad("`max_tokens` must be greater than `thinking.budget_tokens`."));
            }
        }
    }
    if root.maybe("temperature").is_some_and(|node| node.value.as_f64() != Some(1.0)) {
        return Err(Refused::bad("`temperature` may only be set to 1 when thinking is enabled."));
    }
    Ok(kind)
}

fn tools(root: &Node<'_>, marks: &mut usize) -> Checked<Vec<Tool>> {
    let mut tools = Vec::new();
    for tool in root.maybe("tools").map_or(Ok(Vec::new()), |node| node.list())? {
        mark(&tool, marks)?;
        let kind = tool.maybe("type").map_or(Ok("custom"), |kind| kind.text())?;
        let name = tool.field("name")?.name(128, "")?;
        if kind != "custom" {
            continue;
        }
        tool.only(&[
            "type",
            "name",
            "description",
            "input_schema",
            "cache_control",
            "strict",
            "eager_input_streaming",
            "defer_loading",
            "allowed_callers",
            "input_examples",
        ])?;
        tool.texts(&["description"])?;
        tool.flags(&["strict", "eager_input_streaming", "defer_loading"])?;
        let schema = tool.field("input_schema")?;
        schema.field("type")?.one_of(&["object"])?;
        tools.push(Tool { name: name.to_owned(), schema: schema.value.clone() });
    }
    distinct(tools.iter().map(|tool| tool.name.as_str()), "tools: Tool names")?;
    Ok(tools)
}

fn tool_choice(root: &Node<'_>, thinking: bool) -> Checked<()> {
    let Some(choice) = root.maybe("tool_choice") else { return Ok(()) };
    root.field("tools")?;
    let kind = choice.field("type")?.one_of(&["auto", "any", "tool", "none"])?;
    let fields: &[&str] = match kind {
        "tool" => &["type", "name", "disable_parallel_tool_use"],
        "none" => &["type"],
        _ => &["type", "disable_parallel_tool_use"],
    };
    choice.only(fields)?;
    choice.flags(&["disable_parallel_tool_use"])?;
    if kind == "tool" {
        choice.field("name")?.text()?;
    }
    if thinking && ["any", "tool"].contains(&kind) {
        return Err(Refused::bad("Thinking may not be enabled when tool_choice forces tool use."));
    }
    Ok(())
}

fn mark(block: &Node<'_>, marks: &mut usize) -> Checked<()> {
    let Some(control) = block.maybe("cache_control") else { return Ok(()) };
    if control.value.is_null() {
        return Ok(());
    }
    control.only(&["type", "ttl", "scope"])?;
    control.field("type")?.one_of(&["ephemeral"])?;
    if let Some(ttl) = control.maybe("ttl") {
        ttl.one_of(&["5m", "1h"])?;
    }
    *marks += 1;
    Ok(())
}

fn text_block(block: &Node<'_>, marks: &mut usize) -> Checked<()> {
    block.only(&["type", "text", "cache_control", "citations"])?;
    mark(block, marks)?;
    let text = block.field("text")?;
    if text.text()?.is_empty() {
        return Err(Refused::bad(format!("{}: text content blocks must be non-empty", block.at)));
    }
    Ok(())
}

fn conversation(messages: &[Node<'_>], budgeted: bool, given: &Given, marks: &mut usize) -> Checked<()> {
    if messages.is_empty() {
        return Err(Refused::bad("messages: at least one message is required"));
    }
    let mut open: BTreeSet<&str> = BTreeSet::new();
    let mut all: Vec<&str> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        message.only(&["role", "content"])?;
        let role = message.field("role")?.one_of(&["user", "assistant", "system"])?;
        if at == 0 && role != "user" {
            return Err(Refused::bad("messages: first message must use the \"user\" role"));
        }
        let content = message.field("content")?;
        let last = at + 1 == messages.len();
        if let Some(text) = content.value.as_str() {
            if text.is_empty() && !(last && role == "assistant") {
                return Err(Refused::bad(format!("{}: user messages must have non-empty content", message.at)));
            }
            unanswered(&open, at)?;
            continue;
        }
        let blocks = content.list()?;
        if blocks.is_empty() && !(last && role == "assistant") {
            return Err(Refused::bad(format!("{}: all messages must have non-empty content", message.at)));
        }
        if role == "user" {
            let mut other = false;
            for block in &blocks {
                if block.value["type"] == "tool_result" {
                    let id = tool_result(block, marks)?;
                    if !open.remove(id) {
                        return Err(Refused::bad(format!(
                            "{}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must \
                             have a corresponding `tool_use` block in the previous message.",
                            block.at
                        )));
                    }
                    if other {
                        return Err(Refused::bad(format!("{}: `tool_result` blocks must come first", block.at)));
                    }
                } else {
                    other = true;
                    of_user(block, marks)?;
                }
            }
            unanswered(&open, at)?;
        } else {
            unanswered(&open, at)?;
            let mut signed = None;
            for block in &blocks {
                match block.field("type")?.text()? {
                    "tool_use" => {
                        let id = tool_use(block, marks)?;
                        all.push(id);
                        open.insert(id);
                        if budgeted
                            && let Some(signature) = given.calls.get(id)
                            && signed != Some(signature.as_str())
                        {
                            return Err(Refused::bad(format!(
                                "{}: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is \
                                 enabled, a final `assistant` message must start with a thinking block.",
                                block.at
                            )));
                        }
                    }
                    "thinking" => signed = Some(thinking_block(block, given)?),
                    "redacted_thinking" => block.only(&["type", "data"])?,
                    "text" => text_block(block, marks)?,
                    "server_tool_use" | "web_search_tool_result" | "mcp_tool_use" | "mcp_tool_result" => {}
                    other => return Err(block.wrong(&format!("Input tag '{other}' is not expected here"))),
                }
            }
        }
    }
    unanswered(&open, messages.len())?;
    distinct(all, "messages: `tool_use` ids")
}

fn unanswered(open: &BTreeSet<&str>, at: usize) -> Checked<()> {
    if open.is_empty() {
        return Ok(());
    }
    Err(Refused::bad(format!(
        "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block \
         must have a corresponding `tool_result` block in the next message.",
        open.iter().copied().collect::<Vec<_>>().join(", ")
    )))
}

fn of_user(block: &Node<'_>, marks: &mut usize) -> Checked<()> {
    match block.field("type")?.text()? {
        "text" => text_block(block, marks),
        kind @ ("image" | "document" | "search_result" | "container_upload") => {
            mark(block, marks)?;
            if ["image", "document"].contains(&kind) {
                let source = block.field("source")?;
                match source.field("type")?.one_of(&["base64", "url", "file", "text", "content"])? {
                    "base64" => source.texts(&["media_type", "data"])?,
                    "url" => source.only(&["type", "url"])?,
                    _ => {}
                }
            }
            Ok(())
        }
        other => Err(block.wrong(&format!("Input tag '{other}' is not expected here"))),
    }
}

fn tool_result<'a>(block: &Node<'a>, marks: &mut usize) -> Checked<&'a str> {
    block.only(&["type", "tool_use_id", "content", "is_error", "cache_control"])?;
    block.flags(&["is_error"])?;
    mark(block, marks)?;
    if let Some(content) = block.maybe("content")
        && !content.value.is_string()
    {
        for part in content.list()? {
            match part.field("type")?.one_of(&["text", "image", "document", "search_result", "tool_reference"])? {
                "text" => {
                    part.only(&["type", "text", "cache_control", "citations"])?;
                    mark(&part, marks)?;
                    part.field("text")?.text()?;
                }
                "image" => {
                    part.field("source")?.object()?;
                }
                _ => {}
            }
        }
    }
    block.field("tool_use_id")?.name(256, "")
}

fn tool_use<'a>(block: &Node<'a>, marks: &mut usize) -> Checked<&'a str> {
    block.only(&["type", "id", "name", "input", "cache_control", "caller"])?;
    mark(block, marks)?;
    block.field("name")?.name(200, "")?;
    block.field("input")?.object()?;
    block.field("id")?.name(256, "")
}

fn thinking_block<'a>(block: &Node<'a>, given: &Given) -> Checked<&'a str> {
    block.only(&["type", "thinking", "signature"])?;
    let text = block.field("thinking")?.text()?;
    let signature = block.field("signature")?.text()?;
    match given.signatures.get(signature) {
        Some(was) if was == text => Ok(signature),
        Some(_) => Err(Refused::bad(format!(
            "{}: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified.",
            block.at
        ))),
        None => Err(Refused::bad(format!("{}: Invalid `signature` in `thinking` block", block.at))),
    }
}

/// The turn that answers this request.
pub(super) fn step(script: &Script, asked: &Asked, host: Host) -> Checked<Step> {
    let form = if host == Host::Bedrock { IDS_AT_BEDROCK } else { IDS };
    let mut step = script.step(asked.past, &asked.tools, form).map_err(Refused::bad)?;
    if let Some(schema) = &asked.format {
        step.parts = vec![Said::Text(super::script::smallest(schema).to_string())];
    }
    Ok(if asked.thinking { step } else { step.without_reasoning() })
}

/// The message of a turn.
pub(super) fn message(step: &Step, model: &str) -> Value {
    let content: Vec<Value> = step
        .parts
        .iter()
        .map(|part| match part {
            Said::Text(text) => json!({"type": "text", "text": text}),
            Said::Reasoning { text, signature } => {
                json!({"type": "thinking", "thinking": text, "signature": signature})
            }
            Said::Call { id, name, arguments, .. } => {
                json!({"type": "tool_use", "id": id, "name": name, "input": arguments})
            }
        })
        .collect();
    let stop = match step.stop {
        Stop::Refusal => "refusal",
        Stop::MaxTokens => "max_tokens",
        Stop::End if step.calls() => "tool_use",
        Stop::End => "end_turn",
    };
    let usage = step.usage;
    json!({
        "id": format!("msg_01{}", super::script::word(&format!("message {}", step.number), 22)), "type": "message",
        "role": "assistant", "model": model, "content": content, "stop_reason": stop, "stop_sequence": null,
        "usage": {
            "input_tokens": usage.input, "output_tokens": usage.output,
            "cache_creation_input_tokens": usage.cache_write, "cache_read_input_tokens": usage.cache_read,
            "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write, "ephemeral_1h_input_tokens": 0},
            "service_tier": "standard",
        },
    })
}

/// The same as the events of a stream, with their names.
pub(super) fn events(message: &Value) -> Vec<(&'static str, Value)> {
    let mut begun = message.clone();
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    begun["usage"]["output_tokens"] = 1.into();
    let mut events = vec![("message_start", json!({"type": "message_start", "message": begun}))];
    for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
        let piece = |kind: &str, field: &str, text: &str| json!({"type": kind, field: text});
        let (empty, deltas): (Value, Vec<Value>) = match block["type"].as_str() {
            Some("tool_use") => {
                let mut empty = block.clone();
                empty["input"] = json!({});
                let mut deltas = vec![piece("input_json_delta", "partial_json", "")];
                let input = block["input"].to_string();
                deltas.extend(pieces(&input, 3).iter().map(|text| piece("input_json_delta", "partial_json", text)));
                (empty, deltas)
            }
            Some("thinking") => {
                let text = block["thinking"].as_str().unwrap_or_default();
                let mut deltas: Vec<Value> =
                    pieces(text, 2).iter().map(|text| piece("thinking_delta", "thinking", text)).collect();
                deltas.push(piece("signature_delta", "signature", block["signature"].as_str().unwrap_or_default()));
                (json!({"type": "thinking", "thinking": "", "signature": ""}), deltas)
            }
            _ => {
                let text = block["text"].as_str().unwrap_or_default();
                let deltas = pieces(text, 3).iter().map(|text| piece("text_delta", "text", text)).collect();
                (json!({"type": "text", "text": ""}), deltas)
            }
        };
        events.push((
            "content_block_start",
            json!({"type": "content_block_start", "index": index, "content_block": empty}),
        ));
        if index == 0 {
            events.push(("ping", json!({"type": "ping"})));
        }
        for delta in deltas {
            let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
            events.push(("content_block_delta", delta));
        }
        events.push(("content_block_stop", json!({"type": "content_block_stop", "index": index})));
    }
    let mut usage = message["usage"].clone();
    if let Some(usage) = usage.as_object_mut() {
        usage.retain(|name, _| name.ends_with("_tokens"));
    }
    let ended = json!({"type": "message_delta", "usage": usage,
                       "delta": {"stop_reason": message["stop_reason"], "stop_sequence": null}});
    events.push(("message_delta", ended));
    events.push(("message_stop", json!({"type": "message_stop"})));
    events
}

/// The body of a refusal.
pub(super) fn error(status: u16, text: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_011CTestkit"})
}
