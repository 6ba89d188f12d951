//! A client's request, read into the neutral form.

use serde_json::{Map, Value, json};

use super::words::{self, DIALECT};
use crate::{
    Dialect,
    neutral::{
        CacheMark, ConvertError, Effort, Media, MediaKind, OutputForm, Part, Reasoning, Request, Role, Signature,
        Source, Tool, ToolChoice, ToolKind, Turn,
    },
    openai::{media, some_text, text_of, unpacked_id},
};

/// Fields that say nothing to another provider when they hold this.
const MEANINGLESS: &[(&str, &[&str])] = &[
    ("store", &["false"]),
    ("logprobs", &["false"]),
    ("n", &["1"]),
    ("service_tier", &["\"auto\"", "\"default\"", "\"standard\""]),
    ("modalities", &["[\"text\"]"]),
    ("metadata", &["{}"]),
    ("logit_bias", &["{}"]),
    ("top_logprobs", &["0"]),
];

/// Reads a client's request.
pub(super) fn request(body: &[u8]) -> Result<Request, ConvertError> {
    let fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| syntax(error.to_string()))?;
    let mut request = Request::default();
    let mut allowed = None;
    for (key, value) in fields {
        if value.is_null() {
            continue;
        }
        match key.as_str() {
            "model" => request.model = string(&key, value)?,
            "messages" => messages(array(&key, value)?, &mut request)?,
            "tools" => {
                for tool in array(&key, value)? {
                    request.tools.push(read_tool(tool)?);
                }
            }
            "tool_choice" => (request.tool_choice, allowed) = tool_choice(&value)?,
            "parallel_tool_calls" => request.parallel_tools = value.as_bool(),
            "max_tokens" => request.max_output = request.max_output.max(value.as_u64()),
            "max_completion_tokens" => request.max_output = request.max_output.max(value.as_u64()),
            "temperature" => request.temperature = number(&key, value)?,
            "top_p" => request.top_p = number(&key, value)?,
            "top_k" => request.top_k = number(&key, value)?,
            "seed" => request.seed = number(&key, value)?,
            "presence_penalty" => request.presence_penalty = number(&key, value)?,
            "frequency_penalty" => request.frequency_penalty = number(&key, value)?,
            "stop" => request.stop = stop(value)?,
            "reasoning_effort" => {
                let word = string(&key, value)?;
                let effort = Effort::of_word(&word)
                    .ok_or_else(|| syntax(format!("reasoning_effort: no effort is called `{word}`")))?;
                let wish = request.reasoning.get_or_insert_default();
                (wish.effort, wish.enabled) = (Some(effort), Some(effort != Effort::None));
            }
            // Clients that know of a provider of another kind behind this API.
            "thinking" => {
                let wish = request.reasoning.get_or_insert_default();
                wish.budget_tokens = value.get("budget_tokens").and_then(Value::as_u64);
                wish.enabled = Some(text_of(&value, "type") != "disabled");
            }
            "response_format" => request.output = output_form(&value)?,
            "verbosity" => request.verbosity = Some(string(&key, value)?),
            "stream" => request.stream = value.as_bool().unwrap_or(false),
            "stream_options" => {
                request.include_usage = value.get("include_usage").and_then(Value::as_bool).unwrap_or(false);
            }
            "user" => {
                let user = string(&key, value)?;
                request.user.get_or_insert(user);
            }
            "safety_identifier" => request.user = Some(string(&key, value)?),
            "prompt_cache_key" => request.cache_key = Some(string(&key, value)?),
            "prompt_cache_retention" | "prompt_cache_options" => {}
            "functions" | "function_call" => {
                return Err(ConvertError::Unsupported {
                    what: format!("`{key}`"),
                    why: "it was replaced long ago: use `tools` and `tool_choice`",
                });
            }
            _ => {
                let text = value.to_string();
                let meaningless = |(name, values): &(&str, &[&str])| *name == key && values.contains(&text.as_str());
                if !MEANINGLESS.iter().any(meaningless) {
                    request.extra.insert(key, value);
                }
            }
        }
    }
    if request.model.is_empty() {
        return Err(syntax("model: Field required".to_owned()));
    }
    if let Some(names) = allowed {
        request.tools.retain(|tool| names.contains(&tool.name));
    }
    Ok(request)
}

fn syntax(why: String) -> ConvertError {
    ConvertError::Syntax { dialect: DIALECT, why }
}

fn string(key: &str, value: Value) -> Result<String, ConvertError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(syntax(format!("{key}: a text is wanted"))),
    }
}

fn array(key: &str, value: Value) -> Result<Vec<Value>, ConvertError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(syntax(format!("{key}: a list is wanted"))),
    }
}

fn number(key: &str, value: Value) -> Result<Option<serde_json::Number>, ConvertError> {
    match value {
        Value::Number(number) => Ok(Some(number)),
        _ => Err(syntax(format!("{key}: a number is wanted"))),
    }
}

fn stop(value: Value) -> Result<Vec<String>, ConvertError> {
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) => items.into_iter().map(|item| string("stop", item)).collect(),
        _ => Err(syntax("stop: a text or a list of texts is wanted".to_owned())),
    }
}

fn messages(items: Vec<Value>, request: &mut Request) -> Result<(), ConvertError> {
    for (at, message) in items.into_iter().enumerate() {
        let wrong = |why: &str| syntax(format!("messages[{at}]: {why}"));
        if message.get("name").is_some_and(Value::is_string) {
            request.extra.insert("messages.name".to_owned(), json!(true));
        }
        match text_of(&message, "role") {
            "system" | "developer" => {
                let parts = content(&message).ok_or_else(|| wrong("`content` is wanted"))?;
                if request.turns.is_empty() {
                    request.system.extend(parts);
                } else {
                    request.turns.push(Turn { role: Role::System, parts });
                }
            }
            "user" => {
                let parts = content(&message).ok_or_else(|| wrong("`content` is wanted"))?;
                request.turns.push(Turn { role: Role::User, parts });
            }
            "assistant" => {
                let parts = assistant(&message).ok_or_else(|| wrong("a tool call is none"))?;
                request.turns.push(Turn { role: Role::Assistant, parts });
            }
            "tool" => {
                let id = some_text(&message, "tool_call_id").ok_or_else(|| wrong("`tool_call_id` is wanted"))?;
                let (id, _) = unpacked_id(Dialect::Chat, &id);
                let parts = content(&message).ok_or_else(|| wrong("`content` is wanted"))?;
                let cache = parts.iter().rev().find_map(words::mark_of);
                let name = called(&request.turns, &id);
                let result = Part::ToolResult { id, name, parts, is_error: false, cache };
                match request.turns.last_mut() {
                    Some(turn) if turn.role == Role::User && only_results(&turn.parts) => turn.parts.push(result),
                    _ => request.turns.push(Turn { role: Role::User, parts: vec![result] }),
                }
            }
            role => return Err(wrong(&format!("no role is called `{role}`"))),
        }
    }
    Ok(())
}

fn only_results(parts: &[Part]) -> bool {
    parts.iter().all(|part| matches!(part, Part::ToolResult { .. }))
}

/// The name of the tool that was called with this identifier, the last time.
fn called(turns: &[Turn], wanted: &str) -> Option<String> {
    turns.iter().rev().flat_map(|turn| turn.parts.iter().rev()).find_map(|part| match part {
        Part::ToolCall { id, name, .. } if id == wanted => Some(name.clone()),
        _ => None,
    })
}

fn assistant(message: &Value) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let thought = some_text(message, "reasoning_content").or_else(|| some_text(message, "reasoning"));
    if let Some(text) = thought {
        parts.push(Part::Reasoning(Reasoning { text, ..Reasoning::default() }));
    }
    parts.extend(content(message).unwrap_or_default());
    if let Some(refusal) = some_text(message, "refusal") {
        parts.push(Part::Refusal(refusal));
    }
    for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        let (id, packed) = unpacked_id(Dialect::Chat, text_of(call, "id"));
        let own = call.pointer("/extra_content/google/thought_signature").and_then(Value::as_str);
        let signature = packed.or_else(|| own.map(|data| Signature::new(Dialect::Chat, data)));
        let (inner, free_form) = match call.get("custom") {
            Some(custom) => (custom, true),
            None => (call.get("function")?, false),
        };
        let name = some_text(inner, "name")?;
        let input = if free_form {
            text_of(inner, "input").to_owned()
        } else {
            match inner.get("arguments") {
                Some(Value::String(text)) if !text.trim().is_empty() => text.clone(),
                Some(Value::Object(object)) => Value::Object(object.clone()).to_string(),
                _ => "{}".to_owned(),
            }
        };
        parts.push(Part::ToolCall { id, name, input, free_form, signature, cache: None });
    }
    Some(parts)
}

/// The content of a message, text or parts. Nothing if there is none.
fn content(message: &Value) -> Option<Vec<Part>> {
    match message.get("content")? {
        Value::String(text) if text.is_empty() => Some(Vec::new()),
        // Some clients mark the message, not a part of it.
        Value::String(text) => Some(vec![Part::Text { text: text.clone(), cache: mark(message) }]),
        Value::Array(items) => Some(items.iter().map(part).collect()),
        _ => None,
    }
}

/// A cache mark: OpenAI's own, or the one that clients send to models of other providers.
fn mark(value: &Value) -> Option<CacheMark> {
    let own = value.get("prompt_cache_breakpoint").filter(|mark| mark.is_object());
    if let Some(mark) = own {
        return Some(if text_of(mark, "ttl") == "12h" { CacheMark::Hour } else { CacheMark::Short });
    }
    let control = value.get("cache_control").filter(|mark| mark.is_object())?;
    Some(if text_of(control, "ttl") == "1h" { CacheMark::Hour } else { CacheMark::Short })
}

fn part(value: &Value) -> Part {
    let read = match text_of(value, "type") {
        "text" => some_text(value, "text")
            .or_else(|| value.get("text").is_some().then(String::new))
            .map(|text| Part::Text { text, cache: mark(value) }),
        "refusal" => some_text(value, "refusal").map(Part::Refusal),
        "image_url" => {
            let inner = value.get("image_url");
            let url = inner.and_then(|inner| inner.as_str().map(str::to_owned).or_else(|| some_text(inner, "url")));
            url.map(|url| {
                let detail = inner.and_then(|inner| some_text(inner, "detail"));
                let piece = media::piece(MediaKind::Image, media::source_of(&url));
                Part::Media(Media { detail, cache: mark(value), ..piece })
            })
        }
        "input_audio" => value
            .get("input_audio")
            .and_then(media::sound_of)
            .map(|piece| Part::Media(Media { cache: mark(value), ..piece })),
        "file" => value.get("file").and_then(|file| {
            let data = some_text(file, "file_data").map(|url| media::source_of(&url));
            let source = data.or_else(|| some_text(file, "file_id").map(Source::File))?;
            let piece = media::piece(MediaKind::Document, source);
            Some(Part::Media(Media { name: some_text(file, "filename"), cache: mark(value), ..piece }))
        }),
        _ => None,
    };
    read.unwrap_or_else(|| Part::Foreign(value.clone()))
}

fn read_tool(value: Value) -> Result<Tool, ConvertError> {
    let kind = text_of(&value, "type").to_owned();
    let cache = mark(&value);
    let inner = match kind.as_str() {
        "function" | "custom" => value.get(&kind),
        _ => None,
    };
    let Some(inner) = inner else {
        let name = if kind.is_empty() { "tool".to_owned() } else { kind };
        return Ok(Tool { name, description: None, kind: ToolKind::Foreign(value), strict: None, cache });
    };
    let name = some_text(inner, "name").ok_or_else(|| syntax("tools: a tool without a name".to_owned()))?;
    let tool_kind = if kind == "custom" {
        ToolKind::FreeForm { format: inner.get("format").and_then(words::format_of) }
    } else {
        ToolKind::Function { schema: inner.get("parameters").cloned().unwrap_or_default() }
    };
    let strict = inner.get("strict").and_then(Value::as_bool);
    Ok(Tool { name, description: some_text(inner, "description"), kind: tool_kind, strict, cache })
}

type Choice = (ToolChoice, Option<Vec<String>>);

fn tool_choice(value: &Value) -> Result<Choice, ConvertError> {
    let wrong = || syntax("tool_choice: it is none".to_owned());
    let word = |word: &str| match word {
        "auto" => Ok(ToolChoice::Auto),
        "required" => Ok(ToolChoice::Any),
        "none" => Ok(ToolChoice::None),
        _ => Err(wrong()),
    };
    if let Some(text) = value.as_str() {
        return Ok((word(text)?, None));
    }
    let name_in = |value: &Value| {
        let inner = value.get("function").or_else(|| value.get("custom")).unwrap_or(value);
        some_text(inner, "name")
    };
    if text_of(value, "type") == "allowed_tools" {
        let inner = value.get("allowed_tools").unwrap_or(value);
        let tools = inner.get("tools").and_then(Value::as_array).ok_or_else(wrong)?;
        let names = tools.iter().filter_map(name_in).collect();
        return Ok((word(some_text(inner, "mode").as_deref().unwrap_or("auto"))?, Some(names)));
    }
    Ok((ToolChoice::Named(name_in(value).ok_or_else(wrong)?), None))
}

fn output_form(value: &Value) -> Result<OutputForm, ConvertError> {
    match text_of(value, "type") {
        "text" => Ok(OutputForm::Text),
        "json_object" => Ok(OutputForm::Json),
        "json_schema" => {
            let inner = value.get("json_schema").unwrap_or(value);
            let schema = inner.get("schema").cloned().unwrap_or_else(|| json!({}));
            let strict = inner.get("strict").and_then(Value::as_bool);
            Ok(OutputForm::Schema { name: some_text(inner, "name"), schema, strict })
        }
        other => Err(syntax(format!("response_format: no form is called `{other}`"))),
    }
}
