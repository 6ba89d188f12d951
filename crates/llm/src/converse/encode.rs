//! Neutral events become an answer for a client of this dialect, as frames or in one piece.
//!
//! Clients of this dialect read blocks by their index, so parts may overlap as they do in the events. A call's signature of another
//! dialect, for which this one has no place, goes into a thought without text in front of the call. There is no sign of
//! life on this wire: clients take no frame that they do not know.

use std::collections::BTreeMap;

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{
    blocks::redacted_for_client,
    decode::MAX_ANSWER_BYTES,
    error::{error_body, exception},
};
use crate::{
    Dialect, Framing, Usage, eventstream, free,
    neutral::{Answer, ApiFault, Delta, Encode, Event, FaultKind, ForClient, Part, PartHead, Signature, StopReason},
};

/// What writes an answer for a client.
#[must_use]
pub fn encoder(framing: Framing, client: ForClient) -> Box<dyn Encode> {
    match framing {
        Framing::Frames => Box::new(Stream { client, ..Stream::default() }),
        Framing::Whole | Framing::Array | Framing::Events => {
            Box::new(Whole { client, answer: Answer::default(), room: MAX_ANSWER_BYTES, done: false })
        }
    }
}

/// The wire's word for why a model stopped. `called` says whether the client has calls to answer: some providers
/// say that all was said although they called.
const fn stop_word(reason: Option<StopReason>, called: bool) -> &'static str {
    match reason {
        Some(StopReason::MaxTokens) => "max_tokens",
        Some(StopReason::StopSequence) => "stop_sequence",
        Some(StopReason::Refusal) => "content_filtered",
        Some(StopReason::ContextFull) => "model_context_window_exceeded",
        _ if called => "tool_use",
        _ => "end_turn",
    }
}

fn usage_of(usage: Usage) -> Value {
    let (five, hour) = (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens);
    let mut out = json!({
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.all_input().saturating_add(usage.output_tokens),
        "cacheReadInputTokens": usage.cache_read_tokens,
        "cacheWriteInputTokens": five.saturating_add(hour),
    });
    let written = [("5m", five), ("1h", hour)].into_iter().filter(|(_, tokens)| *tokens > 0);
    let details: Vec<Value> = written.map(|(ttl, tokens)| json!({"ttl": ttl, "inputTokens": tokens})).collect();
    if !details.is_empty() {
        out["cacheDetails"] = Value::Array(details);
    }
    out
}

fn call_id(client: &ForClient, id: &str, index: u32) -> String {
    if id.is_empty() { format!("tooluse_{}_{index}", client.id) } else { client.aliases.original(id).to_owned() }
}

#[derive(Debug)]
enum Kind {
    /// A call whose signature may still come: it stands in front.
    Coming {
        id: String,
        name: String,
        free_form: bool,
    },
    Call,
    /// A free-form call, whose text is JSON only when it is whole.
    FreeForm(String),
    Other,
}

#[derive(Debug, Default)]
struct Stream {
    client: ForClient,
    started: bool,
    done: bool,
    /// The client's index of each part that is open, and what it is.
    open: BTreeMap<u32, (u32, Kind)>,
    next: u32,
    called: bool,
    usage: Usage,
    stop: Option<StopReason>,
}

impl Stream {
    fn emit(out: &mut BytesMut, kind: &str, payload: &Value) {
        out.extend_from_slice(&eventstream::event(kind, payload.to_string().as_bytes()));
    }

    fn start(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.started, true) {
            Self::emit(out, "messageStart", &json!({"role": "assistant"}));
        }
    }

    fn part(&mut self, index: u32, part: &PartHead, out: &mut BytesMut) {
        self.start(out);
        if matches!(part, PartHead::Foreign { .. }) {
            return;
        }
        if let PartHead::ToolCall { id, name, free_form } = part {
            self.called = true;
            let coming = Kind::Coming { id: id.clone(), name: name.clone(), free_form: *free_form };
            self.open.insert(index, (0, coming));
            return;
        }
        let at = self.place();
        if let PartHead::Redacted { data } = part {
            Self::delta(out, at, &json!({"reasoningContent": {"redactedContent": redacted_for_client(data)}}));
        }
        self.open.insert(index, (at, Kind::Other));
    }

    fn place(&mut self) -> u32 {
        let at = self.next;
        self.next = self.next.saturating_add(1);
        at
    }

    /// A call begins when more of it comes than its signature.
    fn begin_call(&mut self, index: u32, out: &mut BytesMut) {
        let Some((_, Kind::Coming { id, name, free_form })) = self.open.get(&index) else { return };
        let kind = if *free_form { Kind::FreeForm(String::new()) } else { Kind::Call };
        let (id, name) = (id.clone(), self.client.aliases.original(name).to_owned());
        let at = self.place();
        let call = json!({"toolUseId": call_id(&self.client, &id, at), "name": name});
        Self::emit(out, "contentBlockStart", &json!({"contentBlockIndex": at, "start": {"toolUse": call}}));
        self.open.insert(index, (at, kind));
    }

    /// A thought without text for the signature of the call that follows.
    fn signed(&mut self, signature: &Signature, out: &mut BytesMut) {
        let at = self.place();
        Self::delta(out, at, &json!({"reasoningContent": {"text": ""}}));
        Self::delta(out, at, &json!({"reasoningContent": {"signature": signature.for_client(Dialect::Converse)}}));
        Self::emit(out, "contentBlockStop", &json!({"contentBlockIndex": at}));
    }

    fn delta(out: &mut BytesMut, at: u32, delta: &Value) {
        Self::emit(out, "contentBlockDelta", &json!({"contentBlockIndex": at, "delta": delta}));
    }

    fn more(&mut self, index: u32, delta: &Delta, out: &mut BytesMut) {
        match (self.open.get(&index), delta) {
            (Some((_, Kind::Coming { .. })), Delta::Signature(signature)) => return self.signed(signature, out),
            _ => self.begin_call(index, out),
        }
        let Some((at, kind)) = self.open.get_mut(&index) else { return };
        let made = match (delta, kind) {
            (Delta::Input(text), Kind::FreeForm(held)) => return held.push_str(text),
            (Delta::Input(text), _) => json!({"toolUse": {"input": text}}),
            // A call that has begun has no place for it.
            (Delta::Signature(_), Kind::Call | Kind::FreeForm(_) | Kind::Coming { .. }) => return,
            (Delta::Text(text), _) => json!({ "text": text }),
            (Delta::Reasoning(text), _) => json!({"reasoningContent": {"text": text}}),
            (Delta::Signature(signature), _) => {
                json!({"reasoningContent": {"signature": signature.for_client(Dialect::Converse)}})
            }
            // In the form of another provider.
            (Delta::Citation(_), _) => return,
        };
        Self::delta(out, *at, &made);
    }

    fn close(&mut self, index: u32, out: &mut BytesMut) {
        self.begin_call(index, out);
        let Some((at, kind)) = self.open.remove(&index) else { return };
        if let Kind::FreeForm(text) = kind {
            Self::delta(out, at, &json!({"toolUse": {"input": free::arguments(&text).to_string()}}));
        }
        Self::emit(out, "contentBlockStop", &json!({"contentBlockIndex": at}));
    }

    fn fault(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        self.done = true;
        let payload = json!({"message": fault.message}).to_string();
        out.extend_from_slice(&eventstream::exception(exception(fault.kind), payload.as_bytes()));
    }
}

impl Encode for Stream {
    fn push(&mut self, event: &Event, out: &mut BytesMut) {
        if self.done {
            return;
        }
        match event {
            Event::Start { .. } => self.start(out),
            Event::PartStart { index, part } => self.part(*index, part, out),
            Event::Delta { index, delta } => self.more(*index, delta, out),
            Event::PartStop { index } => self.close(*index, out),
            Event::Usage(usage) => self.usage = *usage,
            Event::Stop { reason, .. } => self.stop = Some(*reason),
            Event::Ping | Event::Unreadable => {}
            Event::Error(fault) => self.fault(fault, out),
            Event::End => {
                self.start(out);
                while let Some(index) = self.open.keys().next().copied() {
                    self.close(index, out);
                }
                self.done = true;
                Self::emit(out, "messageStop", &json!({"stopReason": stop_word(self.stop, self.called)}));
                // How long the provider took is not ours to say.
                let usage = usage_of(self.usage);
                Self::emit(out, "metadata", &json!({"usage": usage, "metrics": {"latencyMs": 0}}));
            }
        }
    }

    fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        if !self.done {
            self.fault(fault, out);
        }
    }
}

#[derive(Debug)]
struct Whole {
    client: ForClient,
    answer: Answer,
    room: usize,
    done: bool,
}

impl Whole {
    fn fault(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        self.done = true;
        out.extend_from_slice(&error_body(fault));
    }

    fn write(&self) -> Value {
        let mut called = false;
        let mut content = Vec::new();
        for (index, part) in (0_u32..).zip(&self.answer.parts) {
            let block = match part {
                Part::Text { text, .. } | Part::Refusal(text) if !text.is_empty() => json!({ "text": text }),
                Part::ToolCall { id, name, input, free_form, signature, .. } => {
                    called = true;
                    if let Some(signature) = signature {
                        let signature = signature.for_client(Dialect::Converse);
                        content
                            .push(json!({"reasoningContent": {"reasoningText": {"text": "", "signature": signature}}}));
                    }
                    let (id, name) = (call_id(&self.client, id, index), self.client.aliases.original(name));
                    json!({"toolUse": {"toolUseId": id, "name": name, "input": free::object(input, *free_form)}})
                }
                Part::Reasoning(thought) if thought.redacted => match &thought.signature {
                    Some(signature) => json!({"reasoningContent": {"redactedContent": redacted_for_client(signature)}}),
                    None => continue,
                },
                Part::Reasoning(thought) => {
                    let mut said = json!({"text": thought.text});
                    if let Some(signature) = &thought.signature {
                        said["signature"] = json!(signature.for_client(Dialect::Converse));
                    }
                    json!({"reasoningContent": {"reasoningText": said}})
                }
                _ => continue,
            };
            content.push(block);
        }
        json!({
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": stop_word(self.answer.stop, called),
            "usage": usage_of(self.answer.usage.unwrap_or_default()),
            "metrics": {"latencyMs": 0},
        })
    }
}

impl Encode for Whole {
    fn push(&mut self, event: &Event, out: &mut BytesMut) {
        if self.done {
            return;
        }
        self.answer.take(event, &mut self.room);
        match event {
            Event::Error(fault) => self.fault(fault, out),
            Event::End if self.answer.truncated => {
                self.fault(&ApiFault::new(FaultKind::Api, "the answer is larger than can be held"), out);
            }
            Event::End => {
                self.done = true;
                out.extend_from_slice(self.write().to_string().as_bytes());
            }
            _ => {}
        }
    }

    fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        if !self.done {
            self.fault(fault, out);
        }
    }
}
