//! A provider's answer becomes neutral events: from a stream of events, from a list in pieces, or from a body.
//!
//! There is no event for the end: an answer is over when a reason to stop was said and the transport came to its end.
//! *Invariant:* the events do not depend on how the bytes were cut.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{error, split::Split};
use crate::{
    Dialect, Framing, Tier, Usage,
    anthropic::MAX_CAPTURE_BYTES,
    neutral::{Decode, Delta, Event, PartHead, Signature, StopReason},
    sse,
};

/// Usage by its names on the wire. It is cumulative: the last value of each count holds.
#[derive(Debug, Default)]
struct Counts {
    prompt: u64,
    tools: u64,
    cached: u64,
    said: u64,
    thought: u64,
    tier: Option<Tier>,
}

impl Counts {
    fn take(&mut self, usage: &Value) {
        for (key, slot) in [
            ("promptTokenCount", &mut self.prompt),
            ("toolUsePromptTokenCount", &mut self.tools),
            ("cachedContentTokenCount", &mut self.cached),
            ("candidatesTokenCount", &mut self.said),
            ("thoughtsTokenCount", &mut self.thought),
        ] {
            if let Some(count) = usage.get(key).and_then(Value::as_u64) {
                *slot = count;
            }
        }
        // The Gemini API and Vertex have words of their own.
        let words = ["serviceTier", "trafficType"].into_iter().filter_map(|key| usage.get(key)?.as_str());
        self.tier = words.filter_map(Tier::of_word).next().or(self.tier);
    }

    fn usage(&self) -> Usage {
        let cached = self.cached.min(self.prompt);
        Usage {
            // What was cached is in the prompt; what tools of the provider gave is not.
            input_tokens: (self.prompt - cached).saturating_add(self.tools),
            // What was thought is not in what was said, and costs the same.
            output_tokens: self.said.saturating_add(self.thought),
            cache_read_tokens: cached,
            reasoning_tokens: (self.thought > 0).then_some(self.thought),
            tier: self.tier,
            ..Usage::default()
        }
    }
}

/// The reader of answers, however they are framed.
#[derive(Debug, Default)]
struct Steps {
    started: bool,
    id: String,
    /// The part that is being said, and whether it is thought.
    open: Option<(u32, bool)>,
    next: u32,
    called: bool,
    counts: Counts,
    stopped: bool,
    failed: bool,
}

impl Steps {
    fn bytes(&mut self, data: &[u8], out: &mut Vec<Event>) {
        match serde_json::from_slice::<Value>(data) {
            Ok(value) => self.chunk(&value, out),
            Err(_) if self.failed => {}
            Err(_) => out.push(Event::Unreadable),
        }
    }

    fn chunk(&mut self, value: &Value, out: &mut Vec<Event>) {
        if self.failed {
            return;
        }
        if let Some(fault) = error::from_value(None, value) {
            self.failed = true;
            return out.push(Event::Error(fault));
        }
        if !value.is_object() {
            return out.push(Event::Unreadable);
        }
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        if !std::mem::replace(&mut self.started, true) {
            self.id = text("responseId").unwrap_or_default();
            out.push(Event::Start { id: text("responseId"), model: text("modelVersion") });
        }
        // Of several answers only the first is read; all are in the usage.
        let candidates = value.get("candidates").and_then(Value::as_array);
        let first = |candidate: &&Value| candidate.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
        let candidate = candidates.and_then(|candidates| candidates.iter().find(first));
        let content = candidate.and_then(|candidate| candidate.get("content"));
        for part in content.and_then(|content| content.get("parts")).and_then(Value::as_array).into_iter().flatten() {
            self.part(part, out);
        }
        let feedback = value.get("promptFeedback");
        if let Some(reason) = feedback.and_then(|feedback| feedback.get("blockReason")).and_then(Value::as_str) {
            let message = feedback.and_then(|feedback| feedback.get("blockReasonMessage")).and_then(Value::as_str);
            self.blocked(reason, message, out);
        }
        if let Some(usage) = value.get("usageMetadata").filter(|usage| usage.is_object()) {
            self.counts.take(usage);
            out.push(Event::Usage(self.counts.usage()));
        }
        let reason = candidate.and_then(|candidate| candidate.get("finishReason")).and_then(Value::as_str);
        if let Some(said) = reason.filter(|said| *said != "FINISH_REASON_UNSPECIFIED") {
            self.close(out);
            self.stop(said, out);
        }
    }

    fn blocked(&mut self, reason: &str, message: Option<&str>, out: &mut Vec<Event>) {
        self.close(out);
        let index = self.begin(PartHead::Refusal, out);
        let text = message.map_or_else(|| format!("The provider blocked this request ({reason})."), str::to_owned);
        out.push(Event::Delta { index, delta: Delta::Text(text) });
        out.push(Event::PartStop { index });
        self.stopped = true;
        out.push(Event::Stop { reason: StopReason::Refusal, said: reason.to_owned(), sequence: None });
    }

    fn stop(&mut self, said: &str, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let reason = match said {
            "STOP" if self.called => StopReason::ToolUse,
            "STOP" => StopReason::End,
            "MAX_TOKENS" => StopReason::MaxTokens,
            "SAFETY"
            | "RECITATION"
            | "LANGUAGE"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "MODEL_ARMOR"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION" => StopReason::Refusal,
            _ => StopReason::Other,
        };
        out.push(Event::Stop { reason, said: said.to_owned(), sequence: None });
    }

    fn begin(&mut self, part: PartHead, out: &mut Vec<Event>) -> u32 {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        out.push(Event::PartStart { index, part });
        index
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        if let Some((index, _)) = self.open.take() {
            out.push(Event::PartStop { index });
        }
    }

    fn part(&mut self, part: &Value, out: &mut Vec<Event>) {
        let signature = part.get("thoughtSignature").and_then(Value::as_str).filter(|text| !text.is_empty());
        let signature = signature.map(|text| Delta::Signature(Signature::new(Dialect::Gemini, text)));
        if let Some(call) = part.get("functionCall") {
            return self.call(call, signature, out);
        }
        let Some(text) = part.get("text").and_then(Value::as_str) else {
            if part.as_object().is_some_and(|part| !part.is_empty()) {
                self.close(out);
                let index = self.begin(PartHead::Foreign { value: part.clone() }, out);
                out.push(Event::PartStop { index });
            }
            return;
        };
        let thought = part.get("thought").and_then(Value::as_bool).unwrap_or(false);
        if !text.is_empty() {
            let index = self.saying(thought, out);
            let delta = if thought { Delta::Reasoning(text.to_owned()) } else { Delta::Text(text.to_owned()) };
            out.push(Event::Delta { index, delta });
        }
        if let Some(delta) = signature {
            // A text has no signature in the neutral form: it becomes a thought without text.
            if !thought {
                self.close(out);
            }
            let index = self.saying(true, out);
            out.push(Event::Delta { index, delta });
            self.close(out);
        }
    }

    fn saying(&mut self, thought: bool, out: &mut Vec<Event>) -> u32 {
        match self.open {
            Some((index, open)) if open == thought => index,
            _ => {
                self.close(out);
                let head = if thought { PartHead::Reasoning { id: None } } else { PartHead::Text };
                let index = self.begin(head, out);
                self.open = Some((index, thought));
                index
            }
        }
    }

    fn call(&mut self, call: &Value, signature: Option<Delta>, out: &mut Vec<Event>) {
        self.close(out);
        let text = |key: &str| call.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let input = call.get("args").filter(|args| args.is_object()).map_or_else(|| "{}".to_owned(), Value::to_string);
        let mut id = text("id");
        if id.is_empty() {
            id = self.make_id(&text("name"), &input);
        }
        self.called = true;
        let index = self.begin(PartHead::ToolCall { id, name: text("name"), free_form: false }, out);
        if let Some(delta) = signature {
            out.push(Event::Delta { index, delta });
        }
        out.push(Event::Delta { index, delta: Delta::Input(input) });
        out.push(Event::PartStop { index });
    }

    /// An identifier where the provider gave none, that no other call has.
    fn make_id(&self, name: &str, input: &str) -> String {
        let digest = Sha256::digest(format!("{}\0{}\0{name}\0{input}", self.id, self.next));
        let digest: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        format!("call_{digest}")
    }

    fn finish(&mut self, ended: bool, out: &mut Vec<Event>) {
        if self.failed {
            return;
        }
        self.close(out);
        if ended && self.stopped {
            out.push(Event::End);
        }
    }
}

/// What reads a provider's answer.
#[must_use]
pub fn decoder(framing: Framing) -> Box<dyn Decode> {
    match framing {
        Framing::Events | Framing::Frames => Box::new(Stream::default()),
        Framing::Array => Box::new(List::default()),
        Framing::Whole => Box::new(Whole::default()),
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
        self.reader.push(bytes, |event| steps.bytes(event.data, out));
    }

    fn finish(&mut self, ended: bool, out: &mut Vec<Event>) {
        for _ in 0..self.reader.oversized().min(1_000) {
            out.push(Event::Unreadable);
        }
        self.steps.finish(ended, out);
    }
}

#[derive(Debug, Default)]
struct List {
    split: Split,
    steps: Steps,
}

impl Decode for List {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let steps = &mut self.steps;
        self.split.push(bytes, |element| steps.bytes(element, out));
    }

    fn finish(&mut self, ended: bool, out: &mut Vec<Event>) {
        for _ in 0..self.split.oversized().min(1_000) {
            out.push(Event::Unreadable);
        }
        self.steps.finish(ended, out);
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
        let mut steps = Steps::default();
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(Value::Array(chunks)) if !self.cut => chunks.iter().for_each(|chunk| steps.chunk(chunk, out)),
            Ok(value) if !self.cut => steps.chunk(&value, out),
            _ if self.body.is_empty() => {}
            _ => out.push(Event::Unreadable),
        }
        steps.finish(ended, out);
        self.body = Vec::new();
    }
}
