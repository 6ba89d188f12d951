//! Tools, read and written: functions, free text, namespaces, and the two that have kinds of items of their own.

use serde_json::{Map, Value, json};

use super::words::{LOCAL_SHELL, OF, TOOL_SEARCH, syntax};
use crate::{
    neutral::{ConvertError, Tool, ToolChoice, ToolKind},
    openai::{some_text, text_of, tools::object_schema},
};

/// Reads a tool, or all of a namespace, into `tools`. One that is there already is not added again.
pub(super) fn read(value: &Value, tools: &mut Vec<Tool>) -> Result<(), ConvertError> {
    let made = match text_of(value, "type") {
        "namespace" => {
            let space = some_text(value, "name").ok_or_else(|| syntax("tools: a namespace without a name"))?;
            let inner = value.get("tools").and_then(Value::as_array).into_iter().flatten();
            let mut about = some_text(value, "description");
            for tool in inner {
                let mut tool = one(tool)?;
                tool.name = format!("{space}{OF}{}", tool.name);
                // What the namespace is for is said once, with its first tool.
                if let Some(about) = about.take() {
                    let own = tool.description.take().unwrap_or_default();
                    tool.description = Some(format!("{own}\n\n{space}: {about}").trim().to_owned());
                }
                add(tool, tools);
            }
            return Ok(());
        }
        // Run by the client: a function under a name that no function has.
        "tool_search" if text_of(value, "execution") == "client" => Tool {
            name: TOOL_SEARCH.to_owned(),
            description: some_text(value, "description").or_else(|| Some("Finds more tools.".to_owned())),
            kind: ToolKind::Function { schema: value.get("parameters").cloned().unwrap_or_else(search_schema) },
            strict: None,
            cache: None,
        },
        "local_shell" => Tool {
            name: LOCAL_SHELL.to_owned(),
            description: Some("Runs a command on the person's machine.".to_owned()),
            kind: ToolKind::Function { schema: shell_schema() },
            strict: None,
            cache: None,
        },
        _ => one(value)?,
    };
    add(made, tools);
    Ok(())
}

fn add(tool: Tool, tools: &mut Vec<Tool>) {
    let foreign = matches!(tool.kind, ToolKind::Foreign(_));
    if foreign || !tools.iter().any(|known| known.name == tool.name) {
        tools.push(tool);
    }
}

fn one(value: &Value) -> Result<Tool, ConvertError> {
    let word = text_of(value, "type");
    let kind = match word {
        "function" => ToolKind::Function { schema: value.get("parameters").cloned().unwrap_or_default() },
        "custom" => {
            let format = value.get("format").filter(|format| text_of(format, "type") == "grammar");
            ToolKind::FreeForm { format: format.cloned() }
        }
        _ => ToolKind::Foreign(value.clone()),
    };
    let name = match &kind {
        ToolKind::Foreign(_) => some_text(value, "name").unwrap_or_else(|| word.to_owned()),
        _ => some_text(value, "name").ok_or_else(|| syntax("tools: a tool without a name"))?,
    };
    if name.contains(OF) {
        return Err(syntax(format!("tools: `{OF}` cannot be part of a name")));
    }
    let strict = value.get("strict").and_then(Value::as_bool);
    Ok(Tool { name, description: some_text(value, "description"), kind, strict, cache: None })
}

fn search_schema() -> Value {
    json!({ "type": "object", "properties": { "query": { "type": "string" } }, "required": ["query"] })
}

fn shell_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "command": { "type": "array", "items": { "type": "string" } },
            "working_directory": { "type": "string" },
            "timeout_ms": { "type": "integer" },
        },
        "required": ["command"],
    })
}

/// A tool for a provider, or for the echo in an answer.
pub(super) fn write(tool: &Tool, name: &str) -> Value {
    let mut made = Map::new();
    made.insert("name".to_owned(), json!(name));
    if let Some(description) = &tool.description {
        made.insert("description".to_owned(), json!(description));
    }
    match &tool.kind {
        ToolKind::Function { schema } => {
            made.insert("type".to_owned(), json!("function"));
            made.insert("parameters".to_owned(), object_schema(schema));
            // Left out, it would mean that the schema is strict.
            made.insert("strict".to_owned(), json!(tool.strict.unwrap_or(false)));
        }
        ToolKind::FreeForm { format } => {
            made.insert("type".to_owned(), json!("custom"));
            if let Some(format) = format {
                made.insert("format".to_owned(), format.clone());
            }
        }
        ToolKind::Foreign(value) => return value.clone(),
    }
    Value::Object(made)
}

/// A namespace and a name, apart.
pub(super) fn apart(name: &str) -> (Option<&str>, &str) {
    match name.split_once(OF) {
        Some((space, name)) if !space.is_empty() => (Some(space), name),
        _ => (None, name),
    }
}

/// A name with its namespace.
pub(super) fn full_name(value: &Value) -> Option<String> {
    let name = some_text(value, "name")?;
    Some(match some_text(value, "namespace") {
        Some(space) => format!("{space}{OF}{name}"),
        None => name,
    })
}

/// Reads a choice, and which tools may be called at all.
pub(super) fn choice(value: &Value) -> Result<(ToolChoice, Option<Vec<String>>), ConvertError> {
    let word = |word: &str| match word {
        "auto" => Ok(ToolChoice::Auto),
        "required" => Ok(ToolChoice::Any),
        "none" => Ok(ToolChoice::None),
        _ => Err(syntax("tool_choice: it is none")),
    };
    if let Some(text) = value.as_str() {
        return Ok((word(text)?, None));
    }
    match text_of(value, "type") {
        "function" | "custom" => match full_name(value) {
            Some(name) => Ok((ToolChoice::Named(name), None)),
            None => Err(syntax("tool_choice: a tool without a name")),
        },
        "allowed_tools" => {
            let tools = value.get("tools").and_then(Value::as_array).into_iter().flatten();
            let mode = some_text(value, "mode").unwrap_or_else(|| "auto".to_owned());
            Ok((word(&mode)?, Some(tools.filter_map(full_name).collect())))
        }
        other => Err(ConvertError::Unsupported {
            what: format!("the tool choice `{other}`"),
            why: "only OpenAI has that tool: choose another, or ask for another model",
        }),
    }
}
