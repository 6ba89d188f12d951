//! Neutral events become an answer for a client of this dialect, as a stream or in one piece.
//!
//! It owns the order that clients of this dialect expect: one `message_start` with an estimate of what was read, blocks one after the
//! other, the true usage in `message_delta`, `message_stop`. A call's signature of another dialect, for which this one has no place,
//! goes into a thinking block without text in front of the call; clients return such blocks unchanged.

use std::collections::VecDeque;

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{MAX_CAPTURE_BYTES, error_of, frames};
use crate::{
    Dialect, Framing, Usage, free, likely_tokens,
    neutral::{
        Answer, ApiFault, Delta, Encode, Event, FaultKind, ForClient, Part, PartHead, Reasoning, Signature, StopReason,
    },
};

/// What writes an answer for a client.
#[must_use]
pub fn encoder(framing: Framing, client: ForClient) -> Box<dyn Encode> {
    match framing {
        Framing::Events => Box::new(Stream::new(client, false)),
        Framing::Frames => Box::new(Stream::new(client, true)),
        Framing::Whole | Framing::Array => Box::new(Whole::new(client)),
    }
}

/// The wire's word for why a model stopped. `called` says whether the client has calls to answer: some providers
/// say that all was said although they called.
const fn stop_word(reason: StopReason, called: bool) -> &'static str {
    match reason {
        StopReason::ToolUse | StopReason::End | StopReason::Other if called => "tool_use",
        StopReason::End | StopReason::ToolUse | StopReason::Other => "end_turn",
        StopReason::MaxTokens => "max_tokens",
        StopReason::StopSequence => "stop_sequence",
        StopReason::Refusal => "refusal",
        StopReason::Pause => "pause_turn",
        StopReason::ContextFull => "model_context_window_exceeded",
    }
}

fn usage_of(usage: Usage) -> Value {
    let (five, hour) = (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens);
    let mut said = json!({
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_creation_input_tokens": five.saturating_add(hour),
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
    });
    if let Some(count) = usage.reasoning_tokens {
        said["output_tokens_details"] = json!({"thinking_tokens": count});
    }
    said
}

fn message_of(client: &ForClient, content: Value, usage: Usage) -> Value {
    json!({
        "id": format!("msg_{}", client.id), "type": "message", "role": "assistant", "model": client.model,
        "content": content, "stop_reason": null, "stop_sequence": null, "usage": usage_of(usage),
    })
}

fn call_id(client: &ForClient, id: &str, index: u32) -> String {
    if id.is_empty() { format!("toolu_{}_{index}", client.id) } else { client.aliases.original(id).to_owned() }
}

fn size_of(delta: &Delta) -> usize {
    match delta {
        Delta::Text(text) | Delta::Reasoning(text) | Delta::Input(text) => text.len(),
        Delta::Signature(signature) => signature.data().len(),
        Delta::Citation(_) => 0,
    }
}

/// A stream, as events of which each is made when it is there.
#[derive(Debug)]
struct Stream {
    client: ForClient,
    /// Whether events go into Bedrock's frames.
    frames: bool,
    started: bool,
    done: bool,
    /// Parts in the order in which they began. Only the first is on the wire.
    parts: VecDeque<Pending>,
    next: u32,
    usage: Option<Usage>,
    stop: Option<(StopReason, Option<String>)>,
    called: bool,
    written: usize,
    /// How many bytes waited.
    held: usize,
}

/// A part that began and is not over on the wire.
#[derive(Debug)]
struct Pending {
    index: u32,
    head: PartHead,
    /// What came while another part was on the wire.
    waiting: Vec<Delta>,
    over: bool,
    /// Whether its block was begun on the wire.
    begun: bool,
    /// The text of a free-form call, which is JSON only when it is whole.
    text: String,
}

impl Stream {
    const fn new(client: ForClient, frames: bool) -> Self {
        Self {
            client,
            frames,
            started: false,
            done: false,
            parts: VecDeque::new(),
            next: 0,
            usage: None,
            stop: None,
            called: false,
            written: 0,
            held: 0,
        }
    }

    fn emit(&self, out: &mut BytesMut, value: &Value) {
        if self.frames {
            return frames::write(value, out);
        }
        let name = value.get("type").and_then(Value::as_str).unwrap_or_default();
        out.extend_from_slice(format!("event: {name}\ndata: {value}\n\n").as_bytes());
    }

    fn start(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let usage = Usage { input_tokens: self.client.likely_input_tokens, ..Usage::default() };
        let message = message_of(&self.client, json!([]), usage);
        self.emit(out, &json!({"type": "message_start", "message": message}));
    }

    fn delta(&mut self, index: u32, delta: &Delta, out: &mut BytesMut) {
        let Some(at) = self.parts.iter().position(|part| part.index == index && !part.over) else { return };
        if at > 0 {
            self.held = self.held.saturating_add(size_of(delta));
            if self.held > MAX_CAPTURE_BYTES {
                let fault = ApiFault::new(FaultKind::Api, "the model answers in too many parts at once");
                return self.broken(&fault, out);
            }
            if let Some(part) = self.parts.get_mut(at) {
                part.waiting.push(delta.clone());
            }
            return;
        }
        let Some(mut part) = self.parts.pop_front() else { return };
        self.write(&mut part, delta, out);
        self.parts.push_front(part);
    }

    /// Begins the block of a part. Not before there is something in it: empty text is refused when it comes back.
    fn begin(&mut self, part: &mut Pending, out: &mut BytesMut) {
        if std::mem::replace(&mut part.begun, true) {
            return;
        }
        let block = match &part.head {
            PartHead::Text | PartHead::Refusal => json!({"type": "text", "text": ""}),
            PartHead::Reasoning { .. } => json!({"type": "thinking", "thinking": "", "signature": ""}),
            PartHead::Redacted { data } => {
                json!({"type": "redacted_thinking", "data": data.for_client(Dialect::Messages)})
            }
            PartHead::ToolCall { id, name, .. } => {
                self.called = true;
                let name = self.client.aliases.original(name);
                json!({"type": "tool_use", "id": call_id(&self.client, id, self.next), "name": name, "input": {}})
            }
            PartHead::Foreign { .. } => return,
        };
        self.emit(out, &json!({"type": "content_block_start", "index": self.next, "content_block": block}));
    }

    fn write(&mut self, part: &mut Pending, delta: &Delta, out: &mut BytesMut) {
        let made = match (&part.head, delta) {
            (PartHead::Text | PartHead::Refusal, Delta::Text(text)) if !text.is_empty() => {
                self.written = self.written.saturating_add(text.len());
                json!({"type": "text_delta", "text": text})
            }
            (PartHead::Reasoning { .. }, Delta::Reasoning(text)) if !text.is_empty() => {
                self.written = self.written.saturating_add(text.len());
                json!({"type": "thinking_delta", "thinking": text})
            }
            (PartHead::Reasoning { .. }, Delta::Signature(signature)) => {
                json!({"type": "signature_delta", "signature": signature.for_client(Dialect::Messages)})
            }
            (PartHead::ToolCall { free_form: true, .. }, Delta::Input(text)) => return part.text.push_str(text),
            (PartHead::ToolCall { .. }, Delta::Input(text)) if !text.is_empty() => {
                self.written = self.written.saturating_add(text.len());
                json!({"type": "input_json_delta", "partial_json": text})
            }
            (PartHead::ToolCall { .. }, Delta::Signature(signature)) if !part.begun => {
                return self.signed(signature, out);
            }
            _ => return,
        };
        self.begin(part, out);
        self.emit(out, &json!({"type": "content_block_delta", "index": self.next, "delta": made}));
    }

    /// A block of its own for the signature of the call that follows.
    fn signed(&mut self, signature: &Signature, out: &mut BytesMut) {
        let index = self.next;
        let block = json!({"type": "thinking", "thinking": "", "signature": ""});
        self.emit(out, &json!({"type": "content_block_start", "index": index, "content_block": block}));
        let delta = json!({"type": "signature_delta", "signature": signature.for_client(Dialect::Messages)});
        self.emit(out, &json!({"type": "content_block_delta", "index": index, "delta": delta}));
        self.emit(out, &json!({"type": "content_block_stop", "index": index}));
        self.next = self.next.saturating_add(1);
    }

    /// Ends the parts that are over, and lets those that waited follow.
    fn advance(&mut self, out: &mut BytesMut) {
        while self.parts.front().is_some_and(|part| part.over) {
            let Some(mut part) = self.parts.pop_front() else { return };
            if matches!(part.head, PartHead::ToolCall { .. } | PartHead::Redacted { .. }) {
                self.begin(&mut part, out);
            }
            if let (PartHead::ToolCall { free_form: true, .. }, text) = (&part.head, std::mem::take(&mut part.text)) {
                let json = free::arguments(&text).to_string();
                let delta = json!({"type": "input_json_delta", "partial_json": json});
                self.emit(out, &json!({"type": "content_block_delta", "index": self.next, "delta": delta}));
            }
            if part.begun && !matches!(part.head, PartHead::Foreign { .. }) {
                self.emit(out, &json!({"type": "content_block_stop", "index": self.next}));
                self.next = self.next.saturating_add(1);
            }
            if let Some(mut next) = self.parts.pop_front() {
                for delta in std::mem::take(&mut next.waiting) {
                    self.write(&mut next, &delta, out);
                }
                self.parts.push_front(next);
            }
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.start(out);
        self.parts.iter_mut().for_each(|part| part.over = true);
        self.advance(out);
        let usage = self.usage.unwrap_or_else(|| Usage {
            input_tokens: self.client.likely_input_tokens,
            output_tokens: likely_tokens(self.written),
            ..Usage::default()
        });
        let (reason, sequence) = self.stop.take().unwrap_or((StopReason::End, None));
        let delta = json!({"stop_reason": stop_word(reason, self.called), "stop_sequence": sequence});
        self.emit(out, &json!({"type": "message_delta", "delta": delta, "usage": usage_of(usage)}));
        self.emit(out, &json!({"type": "message_stop"}));
        self.done = true;
    }
}

impl Encode for Stream {
    fn push(&mut self, event: &Event, out: &mut BytesMut) {
        if self.done {
            return;
        }
        match event {
            Event::Start { .. } => self.start(out),
            Event::PartStart { index, part } => {
                self.start(out);
                let (head, index) = (part.clone(), *index);
                let text = String::new();
                self.parts.push_back(Pending { index, head, waiting: Vec::new(), over: false, begun: false, text });
            }
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::PartStop { index } => {
                if let Some(part) = self.parts.iter_mut().find(|part| part.index == *index && !part.over) {
                    part.over = true;
                }
                self.advance(out);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Stop { reason, sequence, .. } => self.stop = Some((*reason, sequence.clone())),
            Event::Ping => out.extend_from_slice(self.keep_alive()),
            Event::Unreadable => {}
            Event::Error(fault) => self.broken(fault, out),
            Event::End => self.end(out),
        }
    }

    fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        if self.frames {
            frames::write_fault(fault, out);
        } else {
            out.extend_from_slice(b"event: error\ndata: ");
            out.extend_from_slice(&error_of(fault));
            out.extend_from_slice(b"\n\n");
        }
    }

    fn keep_alive(&self) -> &'static [u8] {
        if self.frames { b"" } else { b"event: ping\ndata: {\"type\": \"ping\"}\n\n" }
    }
}

/// An answer in one piece.
#[derive(Debug)]
struct Whole {
    client: ForClient,
    answer: Answer,
    room: usize,
    done: bool,
}

impl Whole {
    fn new(client: ForClient) -> Self {
        Self { client, answer: Answer::default(), room: MAX_CAPTURE_BYTES, done: false }
    }

    fn end(&mut self, out: &mut BytesMut) {
        let mut content = Vec::new();
        for part in &self.answer.parts {
            self.block(part, &mut content);
        }
        let called = content.iter().any(|block| block.get("type").and_then(Value::as_str) == Some("tool_use"));
        let usage = self.answer.usage.unwrap_or_else(|| Usage {
            input_tokens: self.client.likely_input_tokens,
            output_tokens: self.answer.output_tokens_seen,
            ..Usage::default()
        });
        let mut message = message_of(&self.client, Value::Array(content), usage);
        message["stop_reason"] = json!(stop_word(self.answer.stop.unwrap_or(StopReason::End), called));
        message["stop_sequence"] = json!(self.answer.stop_sequence);
        out.extend_from_slice(message.to_string().as_bytes());
    }

    fn block(&self, part: &Part, content: &mut Vec<Value>) {
        let signed = |signature: &Option<Signature>| signature.as_ref().map(|it| it.for_client(Dialect::Messages));
        match part {
            Part::Text { text, .. } | Part::Refusal(text) if !text.is_empty() => {
                content.push(json!({"type": "text", "text": text}));
            }
            Part::Reasoning(Reasoning { signature, redacted: true, .. }) => {
                content.push(json!({"type": "redacted_thinking", "data": signed(signature).unwrap_or_default()}));
            }
            Part::Reasoning(Reasoning { text, signature, .. }) if signature.is_some() || !text.is_empty() => {
                let signature = signed(signature).unwrap_or_default();
                content.push(json!({"type": "thinking", "thinking": text, "signature": signature}));
            }
            Part::ToolCall { id, name, input, free_form, signature, .. } => {
                if let Some(signature) = signed(signature) {
                    content.push(json!({"type": "thinking", "thinking": "", "signature": signature}));
                }
                let index = u32::try_from(content.len()).unwrap_or(u32::MAX);
                content.push(json!({
                    "type": "tool_use", "id": call_id(&self.client, id, index),
                    "name": self.client.aliases.original(name), "input": free::object(input, *free_form),
                }));
            }
            _ => {}
        }
    }
}

impl Encode for Whole {
    fn push(&mut self, event: &Event, out: &mut BytesMut) {
        if self.done {
            return;
        }
        self.answer.take(event, &mut self.room);
        match event {
            Event::End => {
                self.done = true;
                self.end(out);
            }
            Event::Error(fault) => self.broken(fault, out),
            _ => {}
        }
    }

    fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.done, true) {
            out.extend_from_slice(&error_of(fault));
        }
    }
}
