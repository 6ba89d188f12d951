//! A provider's answer becomes neutral events: from frames, or from a body in one piece.
//!
//! A block of text or of thought has no beginning on this wire: its first piece says what it is. Whatever is not known passes
//! without harm. *Invariant:* the events do not depend on how the bytes were cut.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::error::read_exception;
use crate::{
    Dialect, Framing, Tier, Usage,
    eventstream::{Message, Reader},
    neutral::{Decode, Delta, Event, MAX_SIGNATURE, PartHead, Signature, StopReason},
};

/// The largest answer in one piece that is read.
pub const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// The most parts that are open at once.
const MAX_OPEN: usize = 1_000;

/// What reads a provider's answer.
#[must_use]
pub fn decoder(framing: Framing) -> Box<dyn Decode> {
    match framing {
        Framing::Frames => Box::new(Stream::default()),
        Framing::Whole | Framing::Array | Framing::Events => Box::new(Whole::default()),
    }
}

#[derive(Debug, Default)]
struct Steps {
    open: BTreeMap<u32, Open>,
    started: bool,
    stopped: bool,
    done: bool,
}

/// What is still to be said of a part that is open.
#[derive(Debug, Default)]
struct Open {
    call: bool,
    input: bool,
    /// A thought that only the provider can read: it is one part, told when it is whole.
    redacted: Option<Vec<u8>>,
    signature: String,
}

impl Steps {
    fn event(&mut self, kind: &str, payload: &[u8], out: &mut Vec<Event>) {
        if self.done {
            return;
        }
        let Ok(value) = serde_json::from_slice::<Value>(payload) else { return out.push(Event::Unreadable) };
        let index = value.get("contentBlockIndex").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok());
        if !self.started {
            self.started = true;
            out.push(Event::Start { id: None, model: None });
        }
        match (kind, index) {
            ("contentBlockStart", Some(index)) => self.begin(index, value.get("start"), out),
            ("contentBlockDelta", Some(index)) => self.delta(index, value.get("delta").unwrap_or(&Value::Null), out),
            ("contentBlockStop", Some(index)) => self.close(index, out),
            ("contentBlockStart" | "contentBlockDelta" | "contentBlockStop", None) => out.push(Event::Unreadable),
            ("messageStop", _) => {
                self.close_all(out);
                stop(&value, out);
                self.stopped = true;
            }
            ("metadata", _) => {
                usage(&value, out);
                if self.stopped {
                    self.done = true;
                    out.push(Event::End);
                }
            }
            _ => {}
        }
    }

    fn fault(&mut self, name: &str, payload: &[u8], out: &mut Vec<Event>) {
        if !self.done {
            self.done = true;
            out.push(Event::Error(read_exception(name, payload)));
        }
    }

    fn begin(&mut self, index: u32, start: Option<&Value>, out: &mut Vec<Event>) {
        if let Some(call) = start.and_then(|start| start.get("toolUse")) {
            let text = |key: &str| call.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            if call.get("type").is_none_or(Value::is_null) {
                let head = PartHead::ToolCall { id: text("toolUseId"), name: text("name"), free_form: false };
                return self.open(index, Some(head), Open { call: true, ..Open::default() }, out);
            }
        }
        // A picture, a tool of the provider. An empty start says nothing: the first piece does.
        let said = start.and_then(Value::as_object).filter(|start| start.values().any(|value| !value.is_null()));
        if let Some(said) = said {
            let head = PartHead::Foreign { value: Value::Object(said.clone()) };
            self.open(index, Some(head), Open::default(), out);
        }
    }

    fn open(&mut self, index: u32, head: Option<PartHead>, open: Open, out: &mut Vec<Event>) {
        if self.open.len() >= MAX_OPEN || self.open.contains_key(&index) {
            return out.push(Event::Unreadable);
        }
        if let Some(part) = head {
            out.push(Event::PartStart { index, part });
        }
        self.open.insert(index, open);
    }

    fn delta(&mut self, index: u32, delta: &Value, out: &mut Vec<Event>) {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        if let Some(said) = text(delta, "text") {
            self.need(index, PartHead::Text, out);
            self.more(index, Delta::Text(said), out);
        } else if let Some(input) = delta.get("toolUse").and_then(|call| text(call, "input")) {
            if let Some(open) = self.open.get_mut(&index) {
                open.input |= !input.is_empty();
            }
            self.more(index, Delta::Input(input), out);
        } else if let Some(thought) = delta.get("reasoningContent") {
            if let Some(data) = text(thought, "redactedContent") {
                return self.redacted(index, &data, out);
            }
            self.need(index, PartHead::Reasoning { id: None }, out);
            if let Some(said) = text(thought, "text") {
                self.more(index, Delta::Reasoning(said), out);
            }
            if let (Some(piece), Some(open)) = (text(thought, "signature"), self.open.get_mut(&index))
                && open.signature.len() <= MAX_SIGNATURE
            {
                open.signature.push_str(&piece);
            }
        } else if let Some(citation) = delta.get("citation") {
            self.need(index, PartHead::Text, out);
            self.more(index, Delta::Citation(citation.clone()), out);
        }
    }

    fn need(&mut self, index: u32, head: PartHead, out: &mut Vec<Event>) {
        if !self.open.contains_key(&index) {
            self.open(index, Some(head), Open::default(), out);
        }
    }

    fn redacted(&mut self, index: u32, data: &str, out: &mut Vec<Event>) {
        if !self.open.contains_key(&index) {
            self.open(index, None, Open { redacted: Some(Vec::new()), ..Open::default() }, out);
        }
        let open = self.open.get_mut(&index).and_then(|open| open.redacted.as_mut());
        match (STANDARD.decode(data), open) {
            (Ok(bytes), Some(held)) if held.len() <= MAX_SIGNATURE => held.extend_from_slice(&bytes),
            (Ok(_), Some(_)) => {}
            _ => out.push(Event::Unreadable),
        }
    }

    fn more(&mut self, index: u32, delta: Delta, out: &mut Vec<Event>) {
        let empty = matches!(&delta, Delta::Text(t) | Delta::Reasoning(t) | Delta::Input(t) if t.is_empty());
        if !empty && self.open.contains_key(&index) {
            out.push(Event::Delta { index, delta });
        }
    }

    fn close(&mut self, index: u32, out: &mut Vec<Event>) {
        let Some(open) = self.open.remove(&index) else { return };
        if open.signature.len() > MAX_SIGNATURE {
            out.push(Event::Unreadable);
        } else if !open.signature.is_empty() {
            let signature = Signature::new(Dialect::Converse, open.signature);
            out.push(Event::Delta { index, delta: Delta::Signature(signature) });
        }
        match open.redacted {
            Some(held) if held.len() > MAX_SIGNATURE => out.push(Event::Unreadable),
            Some(held) => {
                let data = Signature::new(Dialect::Converse, STANDARD.encode(held));
                out.push(Event::PartStart { index, part: PartHead::Redacted { data } });
            }
            None => {}
        }
        if open.call && !open.input {
            out.push(Event::Delta { index, delta: Delta::Input("{}".to_owned()) });
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
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return out.push(Event::Unreadable) };
        let Some(content) = value.pointer("/output/message/content").and_then(Value::as_array) else {
            return out.push(Event::Unreadable);
        };
        self.started = true;
        out.push(Event::Start { id: None, model: None });
        for (index, block) in (0_u32..).zip(content) {
            self.block(index, block, out);
            self.close(index, out);
        }
        usage(&value, out);
        stop(&value, out);
        out.push(Event::End);
    }

    fn block(&mut self, index: u32, block: &Value, out: &mut Vec<Event>) {
        if block.get("text").is_some() {
            return self.delta(index, block, out);
        }
        if let Some(call) = block.get("toolUse") {
            self.begin(index, Some(block), out);
            let input = call.get("input").filter(|input| input.as_object().is_some_and(|input| !input.is_empty()));
            if let Some(input) = input {
                self.delta(index, &json!({"toolUse": {"input": input.to_string()}}), out);
            }
            return;
        }
        if let Some(thought) = block.get("reasoningContent") {
            let said = thought.get("reasoningText").unwrap_or(thought);
            return self.delta(index, &json!({ "reasoningContent": said }), out);
        }
        if let Some(cited) = block.get("citationsContent") {
            self.need(index, PartHead::Text, out);
            for piece in cited.get("content").and_then(Value::as_array).into_iter().flatten() {
                self.delta(index, piece, out);
            }
            for citation in cited.get("citations").and_then(Value::as_array).into_iter().flatten() {
                self.delta(index, &json!({ "citation": citation }), out);
            }
            return;
        }
        self.begin(index, Some(block), out);
    }
}

/// What stands beside the usage says how it was served.
fn usage(value: &Value, out: &mut Vec<Event>) {
    let Some(said) = value.get("usage").filter(|said| said.is_object()) else { return };
    let tier = value.pointer("/serviceTier/type").and_then(Value::as_str).and_then(Tier::of_word);
    let count = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    let details = said.get("cacheDetails").and_then(Value::as_array);
    let hours = details.into_iter().flatten().filter(|detail| detail.get("ttl").and_then(Value::as_str) == Some("1h"));
    let written = count(said, "cacheWriteInputTokens");
    let hour = hours.fold(0_u64, |sum, detail| sum.saturating_add(count(detail, "inputTokens"))).min(written);
    out.push(Event::Usage(Usage {
        input_tokens: count(said, "inputTokens"),
        output_tokens: count(said, "outputTokens"),
        cache_read_tokens: count(said, "cacheReadInputTokens"),
        cache_write_5m_tokens: written - hour,
        cache_write_1h_tokens: hour,
        reasoning_tokens: None,
        tier,
    }));
}

fn stop(value: &Value, out: &mut Vec<Event>) {
    let Some(said) = value.get("stopReason").and_then(Value::as_str) else { return };
    let reason = match said {
        "end_turn" => StopReason::End,
        "tool_use" => StopReason::ToolUse,
        "max_tokens" => StopReason::MaxTokens,
        "stop_sequence" => StopReason::StopSequence,
        "guardrail_intervened" | "content_filtered" => StopReason::Refusal,
        "model_context_window_exceeded" => StopReason::ContextFull,
        _ => StopReason::Other,
    };
    let sequence = value.pointer("/additionalModelResponseFields/stop_sequence").and_then(Value::as_str);
    out.push(Event::Stop { reason, said: said.to_owned(), sequence: sequence.map(str::to_owned) });
}

#[derive(Debug, Default)]
struct Stream {
    reader: Reader,
    steps: Steps,
}

impl Decode for Stream {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let steps = &mut self.steps;
        // What is damaged is told at the end.
        let _ = self.reader.push(bytes, |frame| match frame.message() {
            Message::Event(kind) => steps.event(kind, &frame.payload, out),
            Message::Exception(name) => steps.fault(name, &frame.payload, out),
            Message::Error { code, message } => {
                steps.fault(code, json!({ "message": message }).to_string().as_bytes(), out);
            }
        });
    }

    fn finish(&mut self, ended: bool, out: &mut Vec<Event>) {
        if self.steps.done {
            return;
        }
        let whole = self.reader.finish();
        if whole.is_err() && ended {
            out.push(Event::Unreadable);
        }
        // Everything was said but what was used.
        if self.steps.stopped && ended && whole.is_ok() {
            self.steps.done = true;
            out.push(Event::End);
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
        let room = MAX_ANSWER_BYTES.saturating_sub(self.body.len());
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
