//! A provider's answer becomes neutral events: from a stream, or from a body in one piece.
//!
//! Whatever is not known (events, deltas, fields of later versions) passes without harm. *Invariant:* the events do not depend on how
//! the bytes were cut.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    MAX_CAPTURE_BYTES,
    counts::Raw,
    error,
    frames::{self, Frames},
};
use crate::{
    Dialect, Framing,
    neutral::{ApiFault, Decode, Delta, Event, MAX_SIGNATURE, PartHead, Signature, StopReason},
    sse,
};

/// The most parts that are open at once.
const MAX_OPEN: usize = 1_000;

/// The reader of events, however they are framed.
#[derive(Debug, Default)]
pub(super) struct Steps {
    usage: Raw,
    open: BTreeMap<u32, Open>,
    done: bool,
}

/// What is still to be said of a part that is open.
#[derive(Debug)]
struct Open {
    call: bool,
    input: bool,
    signature: String,
}

impl Steps {
    /// Takes the data of one event.
    pub(super) fn event(&mut self, data: &[u8], out: &mut Vec<Event>) {
        if self.done {
            return;
        }
        let Ok(value) = serde_json::from_slice::<Value>(data) else {
            return out.push(Event::Unreadable);
        };
        match value.get("type").and_then(Value::as_str) {
            Some("message_start") => self.start(value.get("message").unwrap_or(&Value::Null), out),
            Some("content_block_start") => self.block(&value, out),
            Some("content_block_delta") => self.delta(&value, out),
            Some("content_block_stop") => {
                if let Some(index) = index_of(&value) {
                    self.close(index, out);
                }
            }
            Some("message_delta") => {
                self.count(value.get("usage"), out);
                stop(value.get("delta").unwrap_or(&Value::Null), out);
            }
            Some("message_stop") => {
                self.close_all(out);
                self.done = true;
                out.push(Event::End);
            }
            Some("ping") => out.push(Event::Ping),
            Some("error") => {
                self.done = true;
                out.push(Event::Error(error::read(None, data)));
            }
            _ => {}
        }
    }

    /// The framing said that something went wrong.
    pub(super) fn fault(&mut self, code: &str, message: &str, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.done, true) {
            let kind = frames::kind_of(code);
            out.push(Event::Error(ApiFault { kind, code: code.to_owned(), message: message.to_owned() }));
        }
    }

    fn start(&mut self, message: &Value, out: &mut Vec<Event>) {
        let text = |key: &str| message.get(key).and_then(Value::as_str).map(str::to_owned);
        out.push(Event::Start { id: text("id"), model: text("model") });
        self.count(message.get("usage"), out);
    }

    fn count(&mut self, usage: Option<&Value>, out: &mut Vec<Event>) {
        if usage.is_some_and(|usage| self.usage.take(usage)) {
            out.push(Event::Usage(self.usage.usage()));
        }
    }

    fn block(&mut self, value: &Value, out: &mut Vec<Event>) {
        let Some(index) = index_of(value) else { return out.push(Event::Unreadable) };
        self.begin(index, value.get("content_block").unwrap_or(&Value::Null), out);
    }

    fn begin(&mut self, index: u32, block: &Value, out: &mut Vec<Event>) {
        let text = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
        if self.open.len() >= MAX_OPEN {
            return out.push(Event::Unreadable);
        }
        let (part, first) = match text("type") {
            "text" => (PartHead::Text, Delta::Text(text("text").to_owned())),
            "thinking" => (PartHead::Reasoning { id: None }, Delta::Reasoning(text("thinking").to_owned())),
            "redacted_thinking" => {
                let data = Signature::new(Dialect::Messages, text("data"));
                (PartHead::Redacted { data }, Delta::Text(String::new()))
            }
            "tool_use" => {
                let input = block.get("input").filter(|input| input.as_object().is_some_and(|input| !input.is_empty()));
                let input = input.map(Value::to_string).unwrap_or_default();
                let head =
                    PartHead::ToolCall { id: text("id").to_owned(), name: text("name").to_owned(), free_form: false };
                (head, Delta::Input(input))
            }
            _ => (PartHead::Foreign { value: block.clone() }, Delta::Text(String::new())),
        };
        let call = matches!(part, PartHead::ToolCall { .. });
        let signature = text("signature").to_owned();
        out.push(Event::PartStart { index, part });
        self.open.insert(index, Open { call, input: false, signature });
        self.more(index, first, out);
        for citation in block.get("citations").and_then(Value::as_array).into_iter().flatten() {
            out.push(Event::Delta { index, delta: Delta::Citation(citation.clone()) });
        }
    }

    fn more(&mut self, index: u32, delta: Delta, out: &mut Vec<Event>) {
        match &delta {
            Delta::Text(text) | Delta::Reasoning(text) | Delta::Input(text) if text.is_empty() => return,
            Delta::Input(_) => {
                if let Some(open) = self.open.get_mut(&index) {
                    open.input = true;
                }
            }
            _ => {}
        }
        out.push(Event::Delta { index, delta });
    }

    fn delta(&mut self, value: &Value, out: &mut Vec<Event>) {
        let Some(index) = index_of(value) else { return out.push(Event::Unreadable) };
        let delta = value.get("delta").unwrap_or(&Value::Null);
        let text = |key: &str| delta.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match delta.get("type").and_then(Value::as_str) {
            Some("text_delta") => self.more(index, Delta::Text(text("text")), out),
            Some("thinking_delta") => self.more(index, Delta::Reasoning(text("thinking")), out),
            Some("input_json_delta") => self.more(index, Delta::Input(text("partial_json")), out),
            // A summary by the provider: it is shown to nobody, and counted.
            Some("compaction_delta") => self.more(index, Delta::Text(text("content")), out),
            Some("citations_delta") => {
                let citation = delta.get("citation").cloned().unwrap_or_default();
                self.more(index, Delta::Citation(citation), out);
            }
            Some("signature_delta") => {
                if let Some(open) = self.open.get_mut(&index).filter(|open| open.signature.len() <= MAX_SIGNATURE) {
                    open.signature.push_str(&text("signature"));
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, index: u32, out: &mut Vec<Event>) {
        let Some(open) = self.open.remove(&index) else { return };
        if open.call && !open.input {
            out.push(Event::Delta { index, delta: Delta::Input("{}".to_owned()) });
        }
        if open.signature.len() > MAX_SIGNATURE {
            out.push(Event::Unreadable);
        } else if !open.signature.is_empty() {
            let signature = Signature::new(Dialect::Messages, open.signature);
            out.push(Event::Delta { index, delta: Delta::Signature(signature) });
        }
        out.push(Event::PartStop { index });
    }

    fn close_all(&mut self, out: &mut Vec<Event>) {
        while let Some(index) = self.open.keys().next().copied() {
            self.close(index, out);
        }
    }

    /// Reads an answer in one piece.
    fn whole(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return out.push(Event::Unreadable);
        };
        if value.get("type").and_then(Value::as_str) == Some("error") {
            return out.push(Event::Error(error::read(None, bytes)));
        }
        let Some(content) = value.get("content").and_then(Value::as_array) else {
            return out.push(Event::Unreadable);
        };
        self.start(&json!({"id": value.get("id"), "model": value.get("model")}), out);
        for (index, block) in (0u32..).zip(content) {
            self.begin(index, block, out);
            self.close(index, out);
        }
        self.count(value.get("usage"), out);
        stop(&value, out);
        out.push(Event::End);
    }
}

fn index_of(value: &Value) -> Option<u32> {
    value.get("index").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok())
}

fn stop(delta: &Value, out: &mut Vec<Event>) {
    let Some(said) = delta.get("stop_reason").and_then(Value::as_str) else { return };
    let reason = match said {
        "end_turn" => StopReason::End,
        "max_tokens" => StopReason::MaxTokens,
        "stop_sequence" => StopReason::StopSequence,
        "tool_use" => StopReason::ToolUse,
        "refusal" => StopReason::Refusal,
        "pause_turn" => StopReason::Pause,
        "model_context_window_exceeded" => StopReason::ContextFull,
        _ => StopReason::Other,
    };
    let sequence = delta.get("stop_sequence").and_then(Value::as_str).map(str::to_owned);
    out.push(Event::Stop { reason, said: said.to_owned(), sequence });
}

/// What reads a provider's answer.
#[must_use]
pub fn decoder(framing: Framing) -> Box<dyn Decode> {
    match framing {
        Framing::Events => Box::new(Stream::default()),
        Framing::Frames => Box::new(Frames::default()),
        Framing::Whole | Framing::Array => Box::new(Whole::default()),
    }
}

#[derive(Debug, Default)]
struct Stream {
    reader: sse::Reader,
    steps: Steps,
}

impl Decode for Stream {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let steps = &mut self.steps;
        self.reader.push(bytes, |event| steps.event(event.data, out));
    }

    fn finish(&mut self, _ended: bool, out: &mut Vec<Event>) {
        // Here, and not where they were met: a chunk's end must not change the order of events.
        for _ in 0..self.reader.oversized().min(1_000) {
            out.push(Event::Unreadable);
        }
    }
}

#[derive(Debug, Default)]
struct Whole {
    body: Vec<u8>,
    cut: bool,
}

impl Decode for Whole {
    fn push(&mut self, bytes: &[u8], _out: &mut Vec<Event>) {
        let room = MAX_CAPTURE_BYTES.saturating_sub(self.body.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.body.extend_from_slice(taken);
        self.cut |= taken.len() < bytes.len();
    }

    fn finish(&mut self, ended: bool, out: &mut Vec<Event>) {
        if ended && !self.cut {
            Steps::default().whole(&self.body, out);
        } else if !self.body.is_empty() {
            out.push(Event::Unreadable);
        }
        self.body = Vec::new();
    }
}
