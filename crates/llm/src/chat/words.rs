//! Words that reading and writing share.

use serde_json::{Value, json};

use crate::neutral::{CacheMark, Part, StopReason};

/// The name of this dialect, in sentences.
pub(super) const DIALECT: &str = "Chat Completions";

/// The cache mark of a part.
pub(super) fn mark_of(part: &Part) -> Option<CacheMark> {
    match part {
        Part::Text { cache, .. } | Part::ToolCall { cache, .. } | Part::ToolResult { cache, .. } => *cache,
        Part::Media(media) => media.cache,
        Part::Reasoning(_) | Part::Refusal(_) | Part::Foreign(_) => None,
    }
}

/// The format of a tool of free text, in the neutral spelling, which is that of Responses: the grammar is not nested.
pub(super) fn format_of(format: &Value) -> Option<Value> {
    if format.get("type")? != "grammar" {
        return None;
    }
    let grammar = format.get("grammar").unwrap_or(format);
    Some(json!({ "type": "grammar", "syntax": grammar.get("syntax"), "definition": grammar.get("definition") }))
}

/// The same, as this dialect spells it.
pub(super) fn format(format: &Value) -> Value {
    let grammar = json!({ "syntax": format.get("syntax"), "definition": format.get("definition") });
    json!({ "type": "grammar", "grammar": grammar })
}

/// Why the model stopped, in our words. `calls` says whether a tool was called: some servers then say `stop` all the same.
pub(super) fn stop_of(word: &str, calls: bool) -> StopReason {
    match word {
        "stop" | "eos" | "end_turn" | "function_call" | "tool_calls" if calls => StopReason::ToolUse,
        "tool_calls" | "function_call" => StopReason::ToolUse,
        "stop" | "eos" | "end_turn" => StopReason::End,
        "length" | "max_tokens" => StopReason::MaxTokens,
        "content_filter" => StopReason::Refusal,
        _ => StopReason::Other,
    }
}

/// Why the model stopped, in the words of this dialect.
pub(super) const fn stop(reason: StopReason, calls: bool) -> &'static str {
    match reason {
        StopReason::MaxTokens | StopReason::ContextFull => "length",
        StopReason::ToolUse => "tool_calls",
        StopReason::Refusal => "content_filter",
        StopReason::End | StopReason::StopSequence | StopReason::Pause | StopReason::Other => {
            if calls {
                "tool_calls"
            } else {
                "stop"
            }
        }
    }
}
