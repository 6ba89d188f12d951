//! A cassette from what really happened.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use stockade_llm::anthropic::{Shape, Tee};

use super::{
    Cassette, CassetteError,
    cassette::{Block, Figures, File, MAX_FIGURE, TurnEntry, in_toml, names},
};

impl Cassette {
    /// Makes one from captured exchanges: the bodies of requests and of their answers (JSON or event stream), in order.
    /// Answers that did not come whole are left out, and of several answers at the same place in the conversation (a
    /// repetition after a failure) the last one counts.
    ///
    /// # Errors
    /// [`CassetteError`] if nothing is left, or an answer holds something that cannot be rehearsed.
    pub fn from_exchanges(name: &str, exchanges: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, CassetteError> {
        let wrong = |turn, what: String| CassetteError { origin: name.to_owned(), turn, what };
        let mut turns: BTreeMap<usize, TurnEntry> = BTreeMap::new();
        let mut model = String::new();
        for (request, response) in exchanges {
            let request: Value = serde_json::from_slice(request)
                .map_err(|error| wrong(None, format!("a captured request does not read: {error}")))?;
            let is_answer = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("assistant");
            let messages = request.get("messages").and_then(Value::as_array);
            let place = messages.map_or(0, |messages| messages.iter().filter(is_answer).count());
            let json = response.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
            let mut tee = Tee::new(if json { Shape::Whole } else { Shape::Events });
            tee.push(response);
            let seen = tee.finish(true);
            let Some(message) = seen.message.filter(|_| seen.complete && seen.error.is_none()) else { continue };
            if let Some(text) = request.get("model").and_then(Value::as_str) {
                text.clone_into(&mut model);
            }
            let blocks = message.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let content = blocks.iter().map(block).collect::<Result<Vec<_>, _>>();
            let content = content.map_err(|what| wrong(Some(place + 1), what))?;
            if content.is_empty() {
                continue;
            }
            let usage = seen.usage.map(|usage| Figures {
                input: usage.input_tokens.min(MAX_FIGURE),
                output: usage.output_tokens.min(MAX_FIGURE),
                cache_read: usage.cache_read_tokens.min(MAX_FIGURE),
                cache_write: usage.cache_write_5m_tokens.saturating_add(usage.cache_write_1h_tokens).min(MAX_FIGURE),
            });
            let templates = !blocks.iter().any(|block| names(&block.to_string()).next().is_some());
            let turn = TurnEntry {
                stop_reason: seen.stop_reason,
                delay_ms: 0,
                templates,
                usage,
                expect: Vec::new(),
                capture: Vec::new(),
                content,
            };
            turns.insert(place, turn);
        }
        if turns.keys().enumerate().any(|(index, place)| index != *place) {
            let text = "the conversation has a gap: an answer is missing, or the context was shortened on the way";
            return Err(wrong(None, text.to_owned()));
        }
        if turns.is_empty() {
            return Err(wrong(None, "no whole answer is among the captured exchanges".to_owned()));
        }
        let description = format!("Recorded from {model}.");
        Self::from_file(name, File { name: name.to_owned(), description, turn: turns.into_values().collect() })
    }
}

fn block(value: &Value) -> Result<Block, String> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(match text("type").as_str() {
        "text" => Block::Text { text: text("text") },
        "thinking" => Block::Thinking { text: text("thinking"), signature: Some(text("signature")) },
        "redacted_thinking" => Block::RedactedThinking { data: text("data") },
        "tool_use" => match value.get("input") {
            Some(Value::Object(input)) if input.values().all(in_toml) => {
                Block::ToolUse { name: text("name"), input: Some(input.clone()), input_json: None }
            }
            input => {
                let input = input.cloned().unwrap_or_else(|| Value::Object(Map::new()));
                Block::ToolUse { name: text("name"), input: None, input_json: Some(input.to_string()) }
            }
        },
        other => return Err(format!("a block of type `{other}` cannot be rehearsed")),
    })
}
