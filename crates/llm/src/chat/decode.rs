//! A provider's answer, read: chunks, or one body.

use std::collections::BTreeMap;

use serde_json::Value;

use super::words;
use crate::{
    Dialect, Framing, Tier, Usage,
    neutral::{ApiFault, Decode, Delta, Event, PartHead, Signature, StopReason},
    openai::{Body, error, some_text, text_of, usage},
    sse,
};

/// The most answers in one, and the most calls and parts of one answer.
const MAX_CHOICES: usize = 128;
const MAX_CALLS: usize = 1_000;
/// How much of a call's input is looked at, to see when it is whole.
const MAX_LOOKED_AT: usize = 1024 * 1024;

/// What reads an answer.
#[derive(Debug)]
pub(super) struct Decoder {
    framing: Framing,
    reader: sse::Reader,
    body: Body,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    /// The proper end, or an error, was told.
    over: bool,
    next: u32,
    choices: BTreeMap<u64, Choice>,
    stop: Option<(StopReason, String)>,
    oversized: u64,
    /// How it says that it is served. Not every chunk does.
    tier: Option<Tier>,
}

/// One of the answers. Conversion asks for one only; a relayed stream may have more.
#[derive(Debug, Default)]
struct Choice {
    open: Option<(Kind, u32)>,
    calls: Vec<Call>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
    Refusal,
}

#[derive(Debug)]
struct Call {
    /// As the provider counts.
    place: Option<u64>,
    id: String,
    /// As we count, once it has begun.
    index: Option<u32>,
    stopped: bool,
    free_form: bool,
    /// What came before its name was known, and what was looked at since.
    input: String,
    looked_at: bool,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, reader: sse::Reader::default(), body: Body::default(), state: State::default() }
    }
}

impl Decode for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        if self.framing != Framing::Events {
            return self.body.push(bytes);
        }
        let state = &mut self.state;
        self.reader.push(bytes, |event| state.event(event.data, out));
        for _ in state.oversized..self.reader.oversized() {
            out.push(Event::Unreadable);
        }
        state.oversized = self.reader.oversized();
    }

    fn finish(&mut self, ended: bool, out: &mut Vec<Event>) {
        if self.framing == Framing::Events {
            // Some servers leave out the last word. A stream that said why it stopped and came to its end is whole.
            if ended && self.state.stop.is_some() {
                self.state.end(out);
            }
            return self.state.say_stop(out);
        }
        match self.body.read() {
            Some(value) if ended => self.state.chunk(&value, out),
            Some(_) | None => out.push(Event::Unreadable),
        }
        if ended && self.state.stop.is_some() {
            self.state.end(out);
        }
    }
}

impl State {
    fn event(&mut self, data: &[u8], out: &mut Vec<Event>) {
        if self.over {
            return;
        }
        if data.trim_ascii() == b"[DONE]" {
            return self.end(out);
        }
        match serde_json::from_slice::<Value>(data) {
            Ok(value) => self.chunk(&value, out),
            Err(_) => out.push(Event::Unreadable),
        }
    }

    fn end(&mut self, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.close_all(out);
        self.say_stop(out);
        out.push(Event::End);
    }

    /// Why it stopped is said last, after usage.
    fn say_stop(&mut self, out: &mut Vec<Event>) {
        if let Some((reason, said)) = self.stop.take() {
            out.push(Event::Stop { reason, said, sequence: None });
        }
    }

    /// A chunk of a stream, or a whole answer: they differ in one word.
    fn chunk(&mut self, value: &Value, out: &mut Vec<Event>) {
        if let Some(fault) = value.get("error").and_then(error::in_band) {
            return self.fault(fault, out);
        }
        let choices = value.get("choices").and_then(Value::as_array);
        self.tier = usage::tier(value).or(self.tier);
        let said = usage::read(value.get("usage").unwrap_or(&Value::Null))
            .or_else(|| value.pointer("/x_groq/usage").and_then(usage::read));
        if choices.is_none() && said.is_none() {
            return out.push(Event::Unreadable);
        }
        // The first chunk of Azure has nothing but the results of its filter, and no name of a model.
        let model = some_text(value, "model");
        if !self.started && (model.is_some() || choices.is_some_and(|choices| !choices.is_empty())) {
            self.started = true;
            out.push(Event::Start { id: some_text(value, "id"), model });
        }
        for choice in choices.into_iter().flatten() {
            self.choice(choice, out);
        }
        if let Some(usage) = said {
            out.push(Event::Usage(Usage { tier: self.tier, ..usage }));
        }
    }

    fn fault(&mut self, fault: ApiFault, out: &mut Vec<Event>) {
        self.over = true;
        self.stop = None;
        out.push(Event::Error(fault));
    }

    fn choice(&mut self, value: &Value, out: &mut Vec<Event>) {
        if let Some(fault) = value.get("error").and_then(error::in_band) {
            return self.fault(fault, out);
        }
        let number = value.get("index").and_then(Value::as_u64).unwrap_or(0);
        if self.choices.len() >= MAX_CHOICES && !self.choices.contains_key(&number) {
            return out.push(Event::Unreadable);
        }
        let mut choice = self.choices.remove(&number).unwrap_or_default();
        if let Some(delta) = value.get("delta").or_else(|| value.get("message")) {
            self.delta(&mut choice, delta, out);
        }
        if let Some(word) = value.get("finish_reason").and_then(Value::as_str).filter(|word| !word.is_empty()) {
            self.close(&mut choice, out);
            if number == 0 {
                self.stop = Some((words::stop_of(word, !choice.calls.is_empty()), word.to_owned()));
            }
        }
        self.choices.insert(number, choice);
    }

    fn delta(&mut self, choice: &mut Choice, delta: &Value, out: &mut Vec<Event>) {
        let thought = some_text(delta, "reasoning_content").or_else(|| some_text(delta, "reasoning"));
        if let Some(text) = thought {
            self.text(choice, Kind::Reasoning, text, out);
        }
        match delta.get("content") {
            Some(Value::String(text)) if !text.is_empty() => self.text(choice, Kind::Text, text.clone(), out),
            // Servers whose models think say both in one list.
            Some(Value::Array(items)) => {
                for item in items {
                    match item.get("thinking") {
                        Some(Value::String(text)) => self.text(choice, Kind::Reasoning, text.clone(), out),
                        Some(Value::Array(inner)) => {
                            let text: String = inner.iter().map(|item| text_of(item, "text")).collect();
                            self.text(choice, Kind::Reasoning, text, out);
                        }
                        _ => self.text(choice, Kind::Text, text_of(item, "text").to_owned(), out),
                    }
                }
            }
            _ => {}
        }
        if let Some(text) = some_text(delta, "refusal") {
            self.text(choice, Kind::Refusal, text, out);
        }
        for citation in delta.get("annotations").and_then(Value::as_array).into_iter().flatten() {
            if let Some((Kind::Text, index)) = choice.open {
                out.push(Event::Delta { index, delta: Delta::Citation(citation.clone()) });
            }
        }
        let calls = delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
        // The form that came before `tool_calls`: one call, without identifier.
        let old = delta.get("function_call").filter(|call| call.is_object());
        for call in calls {
            let inner = call.get("function").or_else(|| call.get("custom")).unwrap_or(&Value::Null);
            self.call(choice, call, inner, out);
        }
        if let Some(call) = old {
            self.call(choice, &Value::Null, call, out);
        }
    }

    fn begin(&mut self, part: PartHead, out: &mut Vec<Event>) -> u32 {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        out.push(Event::PartStart { index, part });
        index
    }

    fn text(&mut self, choice: &mut Choice, kind: Kind, text: String, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        let index = match choice.open {
            Some((open, index)) if open == kind => index,
            _ => {
                self.close_text(choice, out);
                let index = self.begin(
                    match kind {
                        Kind::Text => PartHead::Text,
                        Kind::Reasoning => PartHead::Reasoning { id: None },
                        Kind::Refusal => PartHead::Refusal,
                    },
                    out,
                );
                choice.open = Some((kind, index));
                index
            }
        };
        let delta = if kind == Kind::Reasoning { Delta::Reasoning(text) } else { Delta::Text(text) };
        out.push(Event::Delta { index, delta });
    }

    fn close_text(&self, choice: &mut Choice, out: &mut Vec<Event>) {
        if let Some((_, index)) = choice.open.take() {
            out.push(Event::PartStop { index });
        }
    }

    /// Which call a piece belongs to: the one at its place, unless it has the identifier of another.
    fn which(choice: &Choice, place: Option<u64>, id: &str, named: bool) -> Option<usize> {
        let same = |call: &Call| if id.is_empty() { !named || !call.is_whole() } else { call.id == id };
        match place {
            Some(_) => {
                let found = choice.calls.iter().rposition(|call| call.place == place)?;
                let call = choice.calls.get(found)?;
                // Some servers give every call the same place.
                (same(call) || !named).then_some(found)
            }
            None if id.is_empty() => choice.calls.len().checked_sub(1).filter(|_| !named),
            None => choice.calls.iter().rposition(|call| call.id == id),
        }
    }

    fn call(&mut self, choice: &mut Choice, value: &Value, inner: &Value, out: &mut Vec<Event>) {
        let place = value.get("index").and_then(Value::as_u64);
        let id = text_of(value, "id");
        let name = text_of(inner, "name");
        let at = match Self::which(choice, place, id, !name.is_empty()) {
            Some(at) => at,
            None if choice.calls.len() < MAX_CALLS => {
                let id = if id.is_empty() { format!("call_{}", choice.calls.len()) } else { id.to_owned() };
                let free_form = value.get("custom").is_some();
                choice.calls.push(Call {
                    place,
                    id,
                    index: None,
                    stopped: false,
                    free_form,
                    input: String::new(),
                    looked_at: true,
                });
                choice.calls.len() - 1
            }
            None => return out.push(Event::Unreadable),
        };
        let piece = match inner.get("arguments").or_else(|| inner.get("input")) {
            Some(Value::String(text)) => text.clone(),
            Some(object @ Value::Object(_)) => object.to_string(),
            _ => String::new(),
        };
        self.close_text(choice, out);
        let begins = choice.calls.get(at).is_some_and(|call| call.index.is_none()) && !name.is_empty();
        if begins {
            // Whatever came before is most likely whole; a provider that goes on with it may still do so if it is not.
            for before in choice.calls.iter_mut().take(at).filter(|call| call.is_whole()) {
                before.stop(out);
            }
        }
        let Some(call) = choice.calls.get_mut(at) else { return };
        if begins {
            let part = PartHead::ToolCall { id: call.id.clone(), name: name.to_owned(), free_form: call.free_form };
            let index = self.begin(part, out);
            call.index = Some(index);
            if let Some(data) = value.pointer("/extra_content/google/thought_signature").and_then(Value::as_str) {
                let delta = Delta::Signature(Signature::new(Dialect::Chat, data));
                out.push(Event::Delta { index, delta });
            }
            let waiting = std::mem::take(&mut call.input);
            call.more(&waiting, out);
        }
        call.more(&piece, out);
    }

    fn close(&mut self, choice: &mut Choice, out: &mut Vec<Event>) {
        self.close_text(choice, out);
        for call in &mut choice.calls {
            call.stop(out);
        }
    }

    fn close_all(&mut self, out: &mut Vec<Event>) {
        let mut choices = std::mem::take(&mut self.choices);
        for choice in choices.values_mut() {
            self.close(choice, out);
        }
    }
}

impl Call {
    fn more(&mut self, piece: &str, out: &mut Vec<Event>) {
        if piece.is_empty() {
            return;
        }
        if self.input.len().saturating_add(piece.len()) <= MAX_LOOKED_AT {
            self.input.push_str(piece);
        } else {
            self.looked_at = false;
        }
        let Some(index) = self.index else { return };
        if self.stopped {
            // It was whole, and goes on: nobody can say what this means.
            if !piece.trim().is_empty() {
                out.push(Event::Unreadable);
            }
            return;
        }
        out.push(Event::Delta { index, delta: Delta::Input(piece.to_owned()) });
    }

    /// Whether its input reads as JSON: then nothing more is to come.
    fn is_whole(&self) -> bool {
        self.looked_at
            && !self.free_form
            && !self.stopped
            && serde_json::from_str::<serde::de::IgnoredAny>(&self.input).is_ok()
    }

    fn stop(&mut self, out: &mut Vec<Event>) {
        match self.index {
            Some(index) if !self.stopped => {
                self.stopped = true;
                out.push(Event::PartStop { index });
            }
            // It never had a name.
            None if !self.stopped => {
                self.stopped = true;
                out.push(Event::Unreadable);
            }
            _ => {}
        }
    }
}
