//! What is played, as bytes: one JSON body, or events as the provider sends them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{cassette::Figures, play::Play};

/// How long a piece of text or reasoning is, in bytes. Real pieces are of about this size.
const TEXT_PIECE: usize = 24;
/// How long a piece of a tool's input is, in bytes. Real ones split anywhere, in the middle of names too.
const JSON_PIECE: usize = 11;

impl Play {
    /// As one body.
    pub(crate) fn body(&self) -> Bytes {
        let mut message = self.message(&self.content, Some(&self.stop_reason));
        if let Some(message) = message.as_object_mut() {
            message.insert("usage".to_owned(), usage(&self.usage, self.usage.output));
        }
        Bytes::from(message.to_string())
    }

    /// As events, each in one piece.
    pub(crate) fn events(&self) -> Vec<Bytes> {
        let mut events = Vec::new();
        let mut say = |value: Value| {
            let name = value.get("type").and_then(Value::as_str).unwrap_or_default();
            events.push(Bytes::from(format!("event: {name}\ndata: {value}\n\n")));
        };
        let mut start = self.message(&[], None);
        if let Some(message) = start.as_object_mut() {
            message.insert("usage".to_owned(), usage(&self.usage, self.usage.output.min(1)));
        }
        say(json!({"type": "message_start", "message": start}));
        say(json!({"type": "ping"}));
        for (index, block) in self.content.iter().enumerate() {
            let delta = |delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
            let text = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
            let mut begin = block.clone();
            let mut deltas = Vec::new();
            match text("type") {
                "text" => {
                    begin["text"] = json!("");
                    deltas.extend(
                        split(text("text"), TEXT_PIECE).map(|piece| json!({"type": "text_delta", "text": piece})),
                    );
                }
                "thinking" => {
                    begin["thinking"] = json!("");
                    begin["signature"] = json!("");
                    let pieces = split(text("thinking"), TEXT_PIECE);
                    deltas.extend(pieces.map(|piece| json!({"type": "thinking_delta", "thinking": piece})));
                    deltas.push(json!({"type": "signature_delta", "signature": text("signature")}));
                }
                "tool_use" => {
                    begin["input"] = json!({});
                    let input = block.get("input").map(Value::to_string).unwrap_or_default();
                    // The first piece is empty, as from the provider. No input at all is no further piece.
                    deltas.push(json!({"type": "input_json_delta", "partial_json": ""}));
                    let input = if input == "{}" { "" } else { &input };
                    let pieces = split(input, JSON_PIECE);
                    deltas.extend(pieces.map(|piece| json!({"type": "input_json_delta", "partial_json": piece})));
                }
                _ => {}
            }
            say(json!({"type": "content_block_start", "index": index, "content_block": begin}));
            deltas.into_iter().for_each(|piece| say(delta(piece)));
            say(json!({"type": "content_block_stop", "index": index}));
        }
        say(json!({
            "type": "message_delta",
            "delta": {"stop_reason": self.stop_reason, "stop_sequence": null},
            "usage": usage(&self.usage, self.usage.output),
        }));
        say(json!({"type": "message_stop"}));
        events
    }

    fn message(&self, content: &[Value], stop_reason: Option<&str>) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
        })
    }
}

fn usage(figures: &Figures, output: u64) -> Value {
    json!({
        "input_tokens": figures.input,
        "cache_creation_input_tokens": figures.cache_write,
        "cache_read_input_tokens": figures.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": figures.cache_write, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "service_tier": "standard",
    })
}

/// A text in pieces of about so many bytes, never within a character.
fn split(text: &str, size: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = size.min(rest.len());
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        let (piece, left) = rest.split_at(end);
        rest = left;
        Some(piece)
    })
}
