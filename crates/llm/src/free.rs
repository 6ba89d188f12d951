//! Free-form tools in dialects that have only functions: a function with one text argument.

use serde_json::{Value, json};

/// The one argument.
pub(crate) const INPUT: &str = "input";

/// The schema of such a function.
pub(crate) fn schema() -> Value {
    json!({"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT], "additionalProperties": false})
}

/// Its description: the tool's own, and the grammar that the provider cannot hold the model to.
pub(crate) fn description(own: Option<&str>, format: Option<&Value>) -> Option<String> {
    let grammar = format.and_then(|format| {
        let definition = format.get("definition").or_else(|| format.get("grammar")?.get("definition"))?;
        Some(format!("The argument `{INPUT}` must follow this grammar:\n{}", definition.as_str()?))
    });
    match (own, grammar) {
        (Some(own), Some(grammar)) => Some(format!("{own}\n\n{grammar}")),
        (own, grammar) => own.map(str::to_owned).or(grammar),
    }
}

/// Text as the arguments of such a function.
pub(crate) fn arguments(text: &str) -> Value {
    json!({INPUT: text})
}

/// The input of a call as an object: JSON as it is, anything else as the one text argument.
pub(crate) fn object(input: &str, free_form: bool) -> Value {
    match serde_json::from_str(input) {
        Ok(value @ Value::Object(_)) if !free_form => value,
        _ if input.is_empty() => json!({}),
        _ => arguments(input),
    }
}
