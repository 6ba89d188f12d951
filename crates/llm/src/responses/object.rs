//! The object `response`, as complete as clients' types want it.

use serde_json::{Map, Value, json};

use super::tools;
use crate::{
    Usage,
    neutral::{ApiFault, ForClient, OutputForm, Request, ToolChoice, ToolKind},
    openai::{error, usage},
};

/// How an answer stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Status<'a> {
    /// It comes.
    InProgress,
    /// It is whole.
    Completed,
    /// It is not, for this reason.
    Incomplete(&'static str),
    /// Something went wrong.
    Failed(&'a ApiFault),
}

/// The object. What the client asked for is repeated once, in the last one: it is large.
pub(super) fn object(client: &ForClient, status: Status<'_>, output: Vec<Value>, used: Option<&Usage>) -> Value {
    let default = Request::default();
    let request = client.request.as_deref().unwrap_or(&default);
    let (word, last) = match status {
        Status::InProgress => ("in_progress", false),
        Status::Completed => ("completed", true),
        Status::Incomplete(_) => ("incomplete", true),
        Status::Failed(_) => ("failed", true),
    };
    let mut object = Map::new();
    let mut set = |key: &str, value: Value| object.insert(key.to_owned(), value);
    set("id", json!(format!("resp_{}", client.id)));
    set("object", json!("response"));
    set("created_at", json!(client.created));
    set("status", json!(word));
    set("background", json!(false));
    set(
        "error",
        match status {
            Status::Failed(fault) => failure(fault),
            _ => Value::Null,
        },
    );
    set(
        "incomplete_details",
        match status {
            Status::Incomplete(reason) => json!({ "reason": reason }),
            _ => Value::Null,
        },
    );
    set("instructions", Value::Null);
    set("max_output_tokens", json!(request.max_output));
    set("max_tool_calls", Value::Null);
    set("metadata", request.extra.get("metadata").cloned().unwrap_or_else(|| json!({})));
    set("model", json!(client.model));
    set("output", Value::Array(output));
    set("parallel_tool_calls", json!(request.parallel_tools.unwrap_or(true)));
    set("previous_response_id", Value::Null);
    set("prompt_cache_key", json!(request.cache_key));
    set("reasoning", reasoning(request));
    set("safety_identifier", json!(request.user));
    set("service_tier", json!("default"));
    set("store", json!(false));
    set("temperature", request.temperature.clone().map_or_else(|| json!(1.0), Value::Number));
    set("text", text(request));
    set("tool_choice", choice(request));
    let tools = request.tools.iter().filter(|_| last);
    set(
        "tools",
        tools
            .filter(|tool| !tool.name.starts_with("::"))
            .map(|tool| tools::write(tool, tools::apart(&tool.name).1))
            .collect(),
    );
    set("top_logprobs", json!(0));
    set("top_p", request.top_p.clone().map_or_else(|| json!(1.0), Value::Number));
    set("truncation", json!("disabled"));
    set("usage", used.map_or(Value::Null, usage::responses));
    set("user", Value::Null);
    Value::Object(object)
}

/// What went wrong, within an answer.
pub(super) fn failure(fault: &ApiFault) -> Value {
    let (_, code) = error::words(fault);
    json!({ "code": code.unwrap_or("invalid_prompt"), "message": fault.message })
}

fn reasoning(request: &Request) -> Value {
    let wish = request.reasoning.as_ref();
    let effort = wish.and_then(|wish| wish.effort).map(crate::neutral::Effort::as_str);
    let summary = wish.and_then(|wish| wish.show).filter(|show| *show).map(|_| "auto");
    json!({ "effort": effort, "summary": summary })
}

fn text(request: &Request) -> Value {
    let format = match &request.output {
        OutputForm::Text => json!({ "type": "text" }),
        OutputForm::Json => json!({ "type": "json_object" }),
        OutputForm::Schema { name, schema, strict } => json!({
            "type": "json_schema", "name": name.as_deref().unwrap_or("answer"), "schema": schema,
            "strict": strict.unwrap_or(false),
        }),
    };
    json!({ "format": format, "verbosity": request.verbosity.as_deref().unwrap_or("medium") })
}

fn choice(request: &Request) -> Value {
    match &request.tool_choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::Any => json!("required"),
        ToolChoice::None => json!("none"),
        ToolChoice::Named(name) => {
            let free =
                request.tools.iter().any(|tool| tool.name == *name && matches!(tool.kind, ToolKind::FreeForm { .. }));
            json!({ "type": if free { "custom" } else { "function" }, "name": tools::apart(name).1 })
        }
    }
}
