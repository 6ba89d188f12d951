//! Messages of a model, read as untrusted.

use serde_json::Value;

/// How many tool calls a provider's message holds: so many identifiers the runner puts into `Input::Model`.
pub fn tool_calls(message: &Value) -> usize {
    let blocks = message.get("content").and_then(Value::as_array);
    blocks
        .map_or(0, |blocks| blocks.iter().filter(|b| b.get("type").and_then(Value::as_str) == Some("tool_use")).count())
}
