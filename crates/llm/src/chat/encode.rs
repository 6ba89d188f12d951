//! An answer, written for a client of this dialect: chunks, or one body.

use std::collections::BTreeMap;

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::words;
use crate::{
    Usage,
    neutral::{Answer, ApiFault, Delta, Encode, Event, FaultKind, ForClient, Part, PartHead, StopReason},
    openai::{MAX_BODY, error, free::FreeTools, packed_id, tools::free_input, usage},
};

/// Writes a stream.
#[derive(Debug)]
pub(super) struct Events {
    client: ForClient,
    free: FreeTools,
    begun: bool,
    over: bool,
    parts: BTreeMap<u32, Open>,
    calls: u64,
    /// The last kind of part that was text, to keep paragraphs apart.
    said: bool,
    apart: bool,
    usage: Option<Usage>,
    stop: Option<StopReason>,
}

/// A part that is not complete.
#[derive(Debug)]
enum Open {
    Text,
    Reasoning,
    Refusal,
    Call(Call),
    /// Nothing of it is shown.
    Hidden,
}

#[derive(Debug)]
struct Call {
    place: u64,
    id: String,
    name: String,
    /// Whether the client knows it as a tool of free text.
    free: bool,
    /// A function that stands for a tool of free text: what came so far, unpacked at the end.
    packed: Option<String>,
    told: bool,
    any_input: bool,
}

impl Events {
    pub(super) fn new(client: ForClient) -> Self {
        let free = FreeTools::of(&client);
        Self {
            client,
            free,
            begun: false,
            over: false,
            parts: BTreeMap::new(),
            calls: 0,
            said: false,
            apart: false,
            usage: None,
            stop: None,
        }
    }

    fn chunk(&self, out: &mut BytesMut, choices: Value, usage: Option<Value>) {
        let mut chunk = head(&self.client, "chat.completion.chunk");
        chunk.insert("choices".to_owned(), choices);
        if self.client.include_usage {
            chunk.insert("usage".to_owned(), usage.unwrap_or(Value::Null));
        }
        data(out, &Value::Object(chunk));
    }

    fn delta(&mut self, out: &mut BytesMut, delta: Value) {
        self.begin(out);
        self.chunk(out, json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null }]), None);
    }

    /// The role is said first, once.
    fn begin(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            self.delta(out, json!({ "role": "assistant", "content": "", "refusal": null }));
        }
    }

    fn part(&mut self, index: u32, part: &PartHead) {
        let open = match part {
            PartHead::Text => Open::Text,
            PartHead::Reasoning { .. } => Open::Reasoning,
            PartHead::Refusal => Open::Refusal,
            PartHead::Redacted { .. } | PartHead::Foreign { .. } => Open::Hidden,
            PartHead::ToolCall { id, name, free_form } => {
                let name = self.client.aliases.original(name).to_owned();
                let free = *free_form || self.free.has(&name);
                let place = self.calls;
                self.calls += 1;
                Open::Call(Call {
                    place,
                    id: id.clone(),
                    name,
                    free,
                    packed: (free && !free_form).then(String::new),
                    told: false,
                    any_input: false,
                })
            }
        };
        self.apart |= !matches!(open, Open::Text | Open::Hidden);
        self.parts.insert(index, open);
    }

    fn more(&mut self, index: u32, delta: &Delta, out: &mut BytesMut) {
        // Out of its place for as long as it is written to.
        let Some(mut part) = self.parts.remove(&index) else { return };
        match (&mut part, delta) {
            (Open::Text, Delta::Text(text)) if !text.is_empty() => {
                let gap = if self.apart && self.said { "\n\n" } else { "" };
                (self.said, self.apart) = (true, false);
                self.delta(out, json!({ "content": format!("{gap}{text}") }));
            }
            (Open::Refusal, Delta::Text(text)) if !text.is_empty() => self.delta(out, json!({ "refusal": text })),
            (Open::Reasoning, Delta::Reasoning(text)) if !text.is_empty() => {
                self.delta(out, json!({ "reasoning_content": text }));
            }
            (Open::Call(call), Delta::Signature(signature)) if !call.told => {
                call.id = packed_id(&call.id, Some(signature));
            }
            (Open::Call(call), Delta::Input(text)) if !text.is_empty() => {
                if let Some(packed) = &mut call.packed {
                    packed.push_str(text);
                } else {
                    self.tell(call, out);
                    self.input(call, text, out);
                }
            }
            _ => {}
        }
        self.parts.insert(index, part);
    }

    /// The identifier and the name of a call: not before its first input, because a signature may come in between.
    fn tell(&mut self, call: &mut Call, out: &mut BytesMut) {
        if std::mem::replace(&mut call.told, true) {
            return;
        }
        let call = if call.free {
            json!({ "index": call.place, "id": call.id, "type": "custom", "custom": { "name": call.name, "input": "" } })
        } else {
            json!({
                "index": call.place, "id": call.id, "type": "function",
                "function": { "name": call.name, "arguments": "" },
            })
        };
        self.delta(out, json!({ "tool_calls": [call] }));
    }

    fn input(&mut self, call: &mut Call, text: &str, out: &mut BytesMut) {
        call.any_input = true;
        let (kind, key) = if call.free { ("custom", "input") } else { ("function", "arguments") };
        self.delta(out, json!({ "tool_calls": [{ "index": call.place, kind: { key: text } }] }));
    }

    fn stop_part(&mut self, index: u32, out: &mut BytesMut) {
        let Some(Open::Call(mut call)) = self.parts.remove(&index) else { return };
        self.tell(&mut call, out);
        if let Some(packed) = call.packed.take() {
            let text = free_input(&packed);
            if !text.is_empty() {
                self.input(&mut call, &text, out);
            }
        } else if !call.any_input && !call.free {
            self.input(&mut call, "{}", out);
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        let open: Vec<u32> = self.parts.keys().copied().collect();
        for index in open {
            self.stop_part(index, out);
        }
        self.begin(out);
        let word = words::stop(self.stop.unwrap_or(StopReason::End), self.calls > 0);
        self.chunk(out, json!([{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": word }]), None);
        if self.client.include_usage {
            let used = usage::chat(&self.usage.unwrap_or_default());
            self.chunk(out, json!([]), Some(used));
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

impl Encode for Events {
    fn push(&mut self, event: &Event, out: &mut BytesMut) {
        if self.over {
            return;
        }
        match event {
            Event::Start { .. } => self.begin(out),
            Event::PartStart { index, part } => self.part(*index, part),
            Event::Delta { index, delta } => self.more(*index, delta, out),
            Event::PartStop { index } => self.stop_part(*index, out),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Stop { reason, .. } => self.stop = Some(*reason),
            Event::Ping | Event::Unreadable => {}
            Event::Error(fault) => self.broken(fault, out),
            Event::End => {
                self.end(out);
                self.over = true;
            }
        }
    }

    fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.over, true) {
            data(out, &json!({ "error": error::object(fault) }));
        }
    }

    fn keep_alive(&self) -> &'static [u8] {
        b": keep-alive\n\n"
    }
}

/// Writes an answer in one piece.
#[derive(Debug)]
pub(super) struct Whole {
    client: ForClient,
    free: FreeTools,
    answer: Answer,
    room: usize,
    over: bool,
}

impl Whole {
    pub(super) fn new(client: ForClient) -> Self {
        Self::with_room(client, MAX_BODY)
    }

    /// One that holds at most so many bytes of content.
    pub(super) fn with_room(client: ForClient, room: usize) -> Self {
        let free = FreeTools::of(&client);
        Self { client, free, answer: Answer::default(), room, over: false }
    }

    fn body(&self) -> Value {
        let (mut text, mut thought, mut refusal) = (String::new(), String::new(), String::new());
        let (mut calls, mut apart) = (Vec::new(), false);
        for part in &self.answer.parts {
            match part {
                Part::Text { text: more, .. } => {
                    if apart && !text.is_empty() && !more.is_empty() {
                        text.push_str("\n\n");
                    }
                    apart &= more.is_empty();
                    text.push_str(more);
                    continue;
                }
                Part::Reasoning(reasoning) => thought.push_str(&reasoning.text),
                Part::Refusal(words) => refusal.push_str(words),
                Part::ToolCall { .. } => calls.push(self.call(part)),
                Part::Media(_) | Part::ToolResult { .. } | Part::Foreign(_) => {}
            }
            apart = true;
        }
        let word = words::stop(self.answer.stop.unwrap_or(StopReason::End), !calls.is_empty());
        let some = |text: String| if text.is_empty() { Value::Null } else { Value::String(text) };
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        message.insert("refusal".to_owned(), some(refusal));
        let silent = text.is_empty() && !calls.is_empty();
        message.insert("content".to_owned(), if silent { Value::Null } else { Value::String(text) });
        if !thought.is_empty() {
            message.insert("reasoning_content".to_owned(), Value::String(thought));
        }
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        let mut body = head(&self.client, "chat.completion");
        let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": word });
        body.insert("choices".to_owned(), json!([choice]));
        body.insert("usage".to_owned(), usage::chat(&self.answer.usage.unwrap_or_default()));
        Value::Object(body)
    }

    fn call(&self, part: &Part) -> Value {
        let Part::ToolCall { id, name, input, free_form, signature, .. } = part else { return Value::Null };
        let (id, name) = (packed_id(id, signature.as_ref()), self.client.aliases.original(name));
        if *free_form {
            return json!({ "id": id, "type": "custom", "custom": { "name": name, "input": input } });
        }
        if self.free.has(name) {
            return json!({ "id": id, "type": "custom", "custom": { "name": name, "input": free_input(input) } });
        }
        let arguments = if input.is_empty() { "{}" } else { input };
        json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
    }
}

impl Encode for Whole {
    fn push(&mut self, event: &Event, out: &mut BytesMut) {
        if self.over {
            return;
        }
        self.answer.take(event, &mut self.room);
        match event {
            Event::Error(fault) => self.broken(fault, out),
            Event::End if self.answer.truncated => {
                self.broken(
                    &ApiFault::new(FaultKind::Api, "the answer is longer than what is held here: ask for a stream"),
                    out,
                );
            }
            Event::End => {
                self.over = true;
                out.extend_from_slice(self.body().to_string().as_bytes());
            }
            _ => {}
        }
    }

    fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.over, true) {
            out.extend_from_slice(&error::body(fault));
        }
    }
}

fn head(client: &ForClient, object: &str) -> Map<String, Value> {
    let mut head = Map::new();
    head.insert("id".to_owned(), json!(format!("chatcmpl-{}", client.id)));
    head.insert("object".to_owned(), json!(object));
    head.insert("created".to_owned(), json!(client.created));
    head.insert("model".to_owned(), json!(client.model));
    head
}

fn data(out: &mut BytesMut, value: &Value) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(value.to_string().as_bytes());
    out.extend_from_slice(b"\n\n");
}
