//! A client's request, read into the neutral form.

use serde_json::{Map, Value, json};

use super::{
    items, tools,
    words::{SEALED, syntax},
};
use crate::{
    neutral::{ConvertError, Effort, OutputForm, Part, ReasoningWish, Request},
    openai::{some_text, text_of},
};

/// Fields that say nothing to another provider when they hold this.
const MEANINGLESS: &[(&str, &[&str])] = &[
    ("store", &["false"]),
    ("background", &["false"]),
    ("service_tier", &["\"auto\"", "\"default\"", "\"standard\""]),
    ("truncation", &["\"disabled\"", "\"auto\""]),
    ("metadata", &["{}"]),
    ("top_logprobs", &["0"]),
    ("context_management", &["[]"]),
];
/// Fields that are about how OpenAI serves a request, not about the answer.
const HOUSEKEEPING: &[&str] = &[
    "client_metadata",
    "prompt_cache_retention",
    "prompt_cache_options",
    "stream_options",
    "image",
    "access_programs",
];

/// Reads a client's request.
pub(super) fn request(body: &[u8]) -> Result<Request, ConvertError> {
    let fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| syntax(error.to_string()))?;
    let mut request = Request::default();
    let mut allowed = None;
    // Instructions stand first, wherever the field stands.
    if let Some(text) = fields.get("instructions").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        request.system.push(Part::Text { text: text.to_owned(), cache: None });
    }
    for (key, value) in fields {
        let text =
            |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| syntax(format!("{key}: a text is wanted")));
        let number = |value: Value| match value {
            Value::Number(number) => Ok(Some(number)),
            _ => Err(syntax(format!("{key}: a number is wanted"))),
        };
        match key.as_str() {
            _ if value.is_null() => {}
            "model" => request.model = text(&value)?,
            "instructions" if value.is_string() => {}
            "input" => items::read(value, &mut request)?,
            "tools" => {
                let list = value.as_array().ok_or_else(|| syntax("tools: a list is wanted"))?;
                let own = std::mem::take(&mut request.tools);
                list.iter().try_for_each(|tool| tools::read(tool, &mut request.tools))?;
                for tool in own {
                    if !request.tools.iter().any(|known| known.name == tool.name) {
                        request.tools.push(tool);
                    }
                }
            }
            "tool_choice" => (request.tool_choice, allowed) = tools::choice(&value)?,
            "parallel_tool_calls" => request.parallel_tools = value.as_bool(),
            "max_output_tokens" => request.max_output = value.as_u64(),
            "temperature" => request.temperature = number(value)?,
            "top_p" => request.top_p = number(value)?,
            "reasoning" => reasoning(&value, &mut request)?,
            "include" => include(&value, &mut request),
            "text" => {
                request.output = output_form(value.get("format").unwrap_or(&Value::Null))?;
                request.verbosity = some_text(&value, "verbosity");
            }
            "stream" => request.stream = value.as_bool().unwrap_or(false),
            "user" => {
                let user = text(&value)?;
                request.user.get_or_insert(user);
            }
            "safety_identifier" => request.user = Some(text(&value)?),
            "prompt_cache_key" => request.cache_key = Some(text(&value)?),
            key if HOUSEKEEPING.contains(&key) => {}
            _ => {
                let said = value.to_string();
                let meaningless = |(name, values): &(&str, &[&str])| *name == key && values.contains(&said.as_str());
                if !MEANINGLESS.iter().any(meaningless) {
                    request.extra.insert(key, value);
                }
            }
        }
    }
    if request.model.is_empty() {
        return Err(syntax("model: Field required"));
    }
    if let Some(names) = allowed {
        request.tools.retain(|tool| names.contains(&tool.name));
    }
    Ok(request)
}

fn reasoning(value: &Value, request: &mut Request) -> Result<(), ConvertError> {
    let wish = request.reasoning.get_or_insert_default();
    if let Some(word) = some_text(value, "effort") {
        let effort = Effort::of_word(&word);
        wish.effort = Some(effort.ok_or_else(|| syntax(format!("reasoning.effort: no effort is called `{word}`")))?);
        wish.enabled = Some(wish.effort != Some(Effort::None));
    }
    if some_text(value, "summary").or_else(|| some_text(value, "generate_summary")).is_some() {
        wish.show = Some(true);
    }
    if *wish == ReasoningWish::default() {
        request.reasoning = None;
    }
    Ok(())
}

fn include(value: &Value, request: &mut Request) {
    for word in value.as_array().into_iter().flatten() {
        if word == SEALED {
            request.reasoning.get_or_insert_default().sealed = true;
        } else {
            request.extra.insert("include".to_owned(), json!(word));
        }
    }
}

fn output_form(format: &Value) -> Result<OutputForm, ConvertError> {
    match text_of(format, "type") {
        "text" | "" => Ok(OutputForm::Text),
        "json_object" => Ok(OutputForm::Json),
        "json_schema" => {
            let schema = format.get("schema").cloned().unwrap_or_else(|| json!({}));
            let strict = format.get("strict").and_then(Value::as_bool);
            Ok(OutputForm::Schema { name: some_text(format, "name"), schema, strict })
        }
        other => Err(syntax(format!("text.format: no form is called `{other}`"))),
    }
}
