//! Neutral events become an answer for a client of this dialect: a stream of events, a list in pieces, or one body.
//!
//! Clients of this dialect keep signatures of calls and texts and throw thoughts away, so thoughts that another provider signed travel
//! in the signature of the part that follows them ([`super::carried`]). A turn in which a text is empty is thrown away by one client: none
//! is written but in the last piece.

use std::collections::BTreeMap;

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{carried::Carried, error};
use crate::{
    Dialect, Framing, Usage,
    anthropic::MAX_CAPTURE_BYTES,
    free, likely_tokens,
    neutral::{ApiFault, Delta, Encode, Event, FaultKind, ForClient, PartHead, Reasoning, Signature, StopReason},
};

/// What writes an answer for a client.
#[must_use]
pub fn encoder(framing: Framing, client: ForClient) -> Box<dyn Encode> {
    Box::new(Writer {
        client,
        framing,
        open: BTreeMap::new(),
        carried: Vec::new(),
        parts: Vec::new(),
        usage: None,
        stop: None,
        written: 0,
        held: 0,
        begun: false,
        done: false,
    })
}

/// A part that is not over.
#[derive(Debug)]
struct Open {
    head: PartHead,
    /// What was thought, or the input of a call.
    text: String,
    signature: Option<Signature>,
}

#[derive(Debug)]
struct Writer {
    client: ForClient,
    framing: Framing,
    open: BTreeMap<u32, Open>,
    /// Thoughts that the next part carries.
    carried: Vec<Reasoning>,
    /// Of an answer in one piece: all parts.
    parts: Vec<Value>,
    usage: Option<Usage>,
    stop: Option<StopReason>,
    written: usize,
    held: usize,
    begun: bool,
    done: bool,
}

impl Writer {
    fn emit(&mut self, value: &Value, out: &mut BytesMut) {
        let text = value.to_string();
        match self.framing {
            Framing::Whole => out.extend_from_slice(text.as_bytes()),
            Framing::Events | Framing::Frames => out.extend_from_slice(format!("data: {text}\n\n").as_bytes()),
            Framing::Array => {
                let before = if self.begun { ",\n" } else { "[" };
                out.extend_from_slice(format!("{before}{text}").as_bytes());
            }
        }
        self.begun = true;
    }

    fn answer(&self, parts: Vec<Value>) -> Value {
        json!({
            "candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}],
            "modelVersion": self.client.model,
            "responseId": self.client.id,
        })
    }

    /// Writes a part, or keeps it for an answer in one piece.
    fn part(&mut self, part: Value, out: &mut BytesMut) {
        if self.framing != Framing::Whole {
            let answer = self.answer(vec![part]);
            return self.emit(&answer, out);
        }
        // In one piece, pieces of one text are one part.
        let plain = |part: &Value| part.get("thoughtSignature").is_none();
        if let (Some(Value::String(more)), true) = (part.get("text"), plain(&part))
            && let Some(last) = self.parts.last_mut()
            && last.get("thought") == part.get("thought")
            && (plain(last) || part.get("thought").is_none())
            && let Some(Value::String(text)) = last.get_mut("text")
        {
            return text.push_str(more);
        }
        self.parts.push(part);
    }

    fn signed(&mut self, mut part: Value, own: Option<Signature>) -> Value {
        let carried = Carried { thoughts: std::mem::take(&mut self.carried), own };
        if let Some(text) = carried.text() {
            part["thoughtSignature"] = json!(text);
        }
        part
    }

    fn delta(&mut self, index: u32, delta: &Delta, out: &mut BytesMut) {
        let Some(open) = self.open.get_mut(&index) else { return };
        let (Delta::Text(piece) | Delta::Reasoning(piece) | Delta::Input(piece)) = delta else {
            if let Delta::Signature(signature) = delta {
                open.signature = Some(signature.clone());
            }
            return;
        };
        if piece.is_empty() {
            return;
        }
        self.written = self.written.saturating_add(piece.len());
        match (&open.head, delta) {
            (PartHead::Text | PartHead::Refusal, Delta::Text(text)) => {
                let part = self.signed(json!({"text": text}), None);
                self.part(part, out);
            }
            (PartHead::Reasoning { .. }, Delta::Reasoning(text)) => {
                open.text.push_str(text);
                self.held = self.held.saturating_add(text.len());
                self.part(json!({"text": text, "thought": true}), out);
            }
            (PartHead::ToolCall { .. }, Delta::Input(text)) => {
                open.text.push_str(text);
                self.held = self.held.saturating_add(text.len());
            }
            _ => {}
        }
        if self.held > MAX_CAPTURE_BYTES {
            let fault = ApiFault::new(FaultKind::Api, "the model thinks and calls more than is passed on");
            self.broken(&fault, out);
        }
    }

    fn close(&mut self, index: u32, out: &mut BytesMut) {
        let Some(Open { head, text, signature }) = self.open.remove(&index) else { return };
        match head {
            PartHead::Reasoning { id } => match signature {
                Some(signature) if signature.origin() == Dialect::Gemini => {
                    let part = json!({"text": "", "thought": true, "thoughtSignature": signature.data()});
                    self.part(part, out);
                }
                Some(_) => self.carried.push(Reasoning { text, signature, redacted: false, id }),
                None => {}
            },
            PartHead::Redacted { data } => {
                self.carried.push(Reasoning { signature: Some(data), redacted: true, ..Reasoning::default() });
            }
            PartHead::ToolCall { id, name, free_form } => {
                let name = self.client.aliases.original(&name);
                let id = self.client.aliases.original(&id);
                let mut call = json!({"name": name, "args": free::object(&text, free_form)});
                if !id.is_empty() {
                    call["id"] = json!(id);
                }
                let part = self.signed(json!({"functionCall": call}), signature);
                self.part(part, out);
            }
            PartHead::Text | PartHead::Refusal | PartHead::Foreign { .. } => {}
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        for index in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(index, out);
        }
        let mut parts = std::mem::take(&mut self.parts);
        if parts.is_empty() || !self.carried.is_empty() {
            let last = self.signed(json!({"text": ""}), None);
            parts.push(last);
        }
        let reason = match self.stop.unwrap_or(StopReason::End) {
            StopReason::End | StopReason::ToolUse | StopReason::StopSequence | StopReason::Pause => "STOP",
            StopReason::MaxTokens | StopReason::ContextFull => "MAX_TOKENS",
            StopReason::Refusal => "SAFETY",
            StopReason::Other => "OTHER",
        };
        let usage = self.usage.unwrap_or_else(|| Usage {
            input_tokens: self.client.likely_input_tokens,
            output_tokens: likely_tokens(self.written),
            ..Usage::default()
        });
        let mut answer = self.answer(parts);
        answer["candidates"][0]["finishReason"] = json!(reason);
        // What was thought is not in what was said.
        let thought = usage.reasoning_tokens.unwrap_or(0).min(usage.output_tokens);
        answer["usageMetadata"] = json!({
            "promptTokenCount": usage.all_input(),
            "cachedContentTokenCount": usage.cache_read_tokens,
            "candidatesTokenCount": usage.output_tokens - thought,
            "totalTokenCount": usage.all_input().saturating_add(usage.output_tokens),
        });
        if thought > 0 {
            answer["usageMetadata"]["thoughtsTokenCount"] = json!(thought);
        }
        self.emit(&answer, out);
        self.finish(out);
    }

    fn finish(&mut self, out: &mut BytesMut) {
        self.done = true;
        if self.framing == Framing::Array {
            out.extend_from_slice(b"]");
        }
    }
}

impl Encode for Writer {
    fn push(&mut self, event: &Event, out: &mut BytesMut) {
        if self.done {
            return;
        }
        match event {
            Event::PartStart { index, part } => {
                // A provider that begins a part anew has ended it.
                self.close(*index, out);
                self.open.insert(*index, Open { head: part.clone(), text: String::new(), signature: None });
            }
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::PartStop { index } => self.close(*index, out),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Stop { reason, .. } => self.stop = Some(*reason),
            Event::Start { .. } | Event::Unreadable => {}
            Event::Ping => out.extend_from_slice(self.keep_alive()),
            Event::Error(fault) => self.broken(fault, out),
            Event::End => self.end(out),
        }
    }

    fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        if !self.done {
            self.emit(&error::value_of(fault), out);
            self.finish(out);
        }
    }

    /// White space: clients of this dialect are confused by comments.
    fn keep_alive(&self) -> &'static [u8] {
        match self.framing {
            Framing::Whole => b"",
            Framing::Events | Framing::Frames => b"\n\n",
            Framing::Array => b"\n",
        }
    }
}
