//! The items of a conversation, read into turns.

use serde_json::Value;

use super::{
    tools,
    words::{self, LOCAL_SHELL, TOOL_SEARCH, syntax},
};
use crate::{
    Dialect,
    neutral::{CacheMark, ConvertError, Media, MediaKind, Part, Reasoning, Request, Role, Source, Turn},
    openai::{media, some_text, text_of, unpacked_id},
};

/// Reads `input`: a text, or a list of items.
pub(super) fn read(input: Value, request: &mut Request) -> Result<(), ConvertError> {
    match input {
        Value::String(text) => {
            request.turns.push(Turn { role: Role::User, parts: vec![Part::Text { text, cache: None }] });
            Ok(())
        }
        Value::Array(items) => items.iter().enumerate().try_for_each(|(at, value)| item(at, value, request)),
        _ => Err(syntax("input: a text or a list of items is wanted")),
    }
}

fn item(at: usize, value: &Value, request: &mut Request) -> Result<(), ConvertError> {
    let wrong = |why: &str| syntax(format!("input[{at}]: {why}"));
    let kind = match text_of(value, "type") {
        "" if value.get("role").is_some() => "message",
        kind => kind,
    };
    match kind {
        "message" => message(value, request).ok_or_else(|| wrong("a message has a role and `content`")),
        "reasoning" => {
            if let Some(thought) = reasoning(value) {
                assistant(request, Part::Reasoning(thought));
            }
            Ok(())
        }
        "function_call" | "custom_tool_call" => {
            let free_form = kind == "custom_tool_call";
            let name = tools::full_name(value).ok_or_else(|| wrong("a call has a name"))?;
            let input = match some_text(value, if free_form { "input" } else { "arguments" }) {
                Some(text) => text,
                None if free_form => String::new(),
                None => "{}".to_owned(),
            };
            call(request, text_of(value, "call_id"), name, input, free_form);
            Ok(())
        }
        "tool_search_call" if text_of(value, "execution") == "client" => {
            let input = value.get("arguments").map_or_else(|| "{}".to_owned(), Value::to_string);
            call(request, text_of(value, "call_id"), TOOL_SEARCH.to_owned(), input, false);
            Ok(())
        }
        "local_shell_call" => {
            let action = value.get("action").cloned().unwrap_or_default();
            let id = some_text(value, "call_id").or_else(|| some_text(value, "id")).unwrap_or_default();
            call(request, &id, LOCAL_SHELL.to_owned(), action.to_string(), false);
            Ok(())
        }
        "function_call_output" | "custom_tool_call_output" | "local_shell_call_output" => {
            let id = some_text(value, "call_id").or_else(|| some_text(value, "id"));
            let parts = match value.get("output") {
                Some(Value::String(text)) => vec![Part::Text { text: text.clone(), cache: None }],
                Some(Value::Array(items)) => items.iter().map(part).collect(),
                // Some clients send what came of it as it is.
                Some(other) if !other.is_null() => vec![Part::Text { text: other.to_string(), cache: None }],
                _ => Vec::new(),
            };
            result(request, &id.ok_or_else(|| wrong("`call_id` is wanted"))?, parts);
            Ok(())
        }
        "tool_search_output" => {
            let found = value.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            found.iter().try_for_each(|tool| tools::read(tool, &mut request.tools))?;
            let names: Vec<String> = found.iter().filter_map(|tool| some_text(tool, "name")).collect();
            let text = format!("Found: {}", names.join(", "));
            result(request, text_of(value, "call_id"), vec![Part::Text { text, cache: None }]);
            Ok(())
        }
        "additional_tools" => {
            let more = value.get("tools").and_then(Value::as_array).into_iter().flatten();
            more.into_iter().try_for_each(|tool| tools::read(tool, &mut request.tools))
        }
        "item_reference" => Err(ConvertError::Unsupported {
            what: "an item by reference".to_owned(),
            why: "it is kept at another provider: send the item itself",
        }),
        // A call that the provider ran, or something new: an error as soon as it is written in another dialect.
        _ => {
            assistant(request, Part::Foreign(value.clone()));
            Ok(())
        }
    }
}

fn message(value: &Value, request: &mut Request) -> Option<()> {
    let parts = match value.get("content")? {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![Part::Text { text: text.clone(), cache: None }],
        Value::Array(items) => items.iter().map(part).collect(),
        _ => return None,
    };
    match text_of(value, "role") {
        "assistant" => parts.into_iter().for_each(|part| assistant(request, part)),
        "user" => request.turns.push(Turn { role: Role::User, parts }),
        "system" | "developer" if request.turns.is_empty() => request.system.extend(parts),
        "system" | "developer" => request.turns.push(Turn { role: Role::System, parts }),
        _ => return None,
    }
    Some(())
}

/// What the model said, thought and called without anything in between is one turn.
fn assistant(request: &mut Request, part: Part) {
    match request.turns.last_mut() {
        Some(turn) if turn.role == Role::Assistant => turn.parts.push(part),
        _ => request.turns.push(Turn { role: Role::Assistant, parts: vec![part] }),
    }
}

fn call(request: &mut Request, id: &str, name: String, input: String, free_form: bool) {
    let (id, signature) = unpacked_id(Dialect::Responses, id);
    assistant(request, Part::ToolCall { id, name, input, free_form, signature, cache: None });
}

fn result(request: &mut Request, id: &str, parts: Vec<Part>) {
    let (id, _) = unpacked_id(Dialect::Responses, id);
    let name = request.turns.iter().rev().flat_map(|turn| turn.parts.iter().rev()).find_map(|part| match part {
        Part::ToolCall { id: other, name, .. } if *other == id => Some(name.clone()),
        _ => None,
    });
    let part = Part::ToolResult { id, name, parts, is_error: false, cache: None };
    match request.turns.last_mut() {
        Some(turn) if turn.role == Role::User && only_results(&turn.parts) => turn.parts.push(part),
        _ => request.turns.push(Turn { role: Role::User, parts: vec![part] }),
    }
}

fn only_results(parts: &[Part]) -> bool {
    parts.iter().all(|part| matches!(part, Part::ToolResult { .. }))
}

/// A thought. Nothing if there is nothing in it.
fn reasoning(value: &Value) -> Option<Reasoning> {
    let texts = |key: &str| {
        let items = value.get(key).and_then(Value::as_array).into_iter().flatten();
        items.map(|item| text_of(item, "text").to_owned()).collect::<Vec<String>>().join("\n\n")
    };
    let (full, summary) = (texts("content"), texts("summary"));
    let id = some_text(value, "id");
    let sealed = some_text(value, "encrypted_content").and_then(|text| words::from_client(id.as_deref(), &text));
    let text = if full.is_empty() { summary } else { full };
    let (signature, redacted) = sealed.map_or((None, false), |(signature, redacted)| (Some(signature), redacted));
    (signature.is_some() || !text.is_empty()).then_some(Reasoning { text, signature, redacted, id })
}

fn part(value: &Value) -> Part {
    let cache = value
        .get("prompt_cache_breakpoint")
        .filter(|mark| mark.is_object())
        .map(|mark| if text_of(mark, "ttl") == "12h" { CacheMark::Hour } else { CacheMark::Short });
    let whole = |kind, source| Media { cache, ..media::piece(kind, source) };
    let read = match text_of(value, "type") {
        "input_text" | "output_text" | "text" | "summary_text" => {
            value.get("text").and_then(Value::as_str).map(|text| Part::Text { text: text.to_owned(), cache })
        }
        "refusal" => some_text(value, "refusal").map(Part::Refusal),
        "input_image" => {
            let source = some_text(value, "image_url").map(|url| media::source_of(&url));
            let source = source.or_else(|| some_text(value, "file_id").map(Source::File));
            let detail = some_text(value, "detail");
            source.map(|source| Part::Media(Media { detail, ..whole(MediaKind::Image, source) }))
        }
        "input_file" => {
            let source = some_text(value, "file_data")
                .map(|url| media::source_of(&url))
                .or_else(|| some_text(value, "file_url").map(Source::Url))
                .or_else(|| some_text(value, "file_id").map(Source::File));
            let name = some_text(value, "filename");
            source.map(|source| Part::Media(Media { name, ..whole(MediaKind::Document, source) }))
        }
        "input_audio" => {
            value.get("input_audio").and_then(media::sound_of).map(|piece| Part::Media(Media { cache, ..piece }))
        }
        _ => None,
    };
    read.unwrap_or_else(|| Part::Foreign(value.clone()))
}
