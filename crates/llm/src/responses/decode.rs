//! A provider's answer, read: events, or one body.
//!
//! Of the 58 kinds of events those are acted on that carry content, usage or the end. Others pass: what they are about stands
//! in the item that is done.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{tools, words};
use crate::{
    Framing, Usage,
    neutral::{ApiFault, Decode, Delta, Event, FaultKind, PartHead, StopReason},
    openai::{Body, error, some_text, text_of, usage},
    sse,
};

/// The most items of one answer.
const MAX_ITEMS: usize = 10_000;

/// What reads an answer.
#[derive(Debug)]
pub(super) struct Decoder {
    framing: Framing,
    reader: sse::Reader,
    body: Body,
    oversized: u64,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    /// The proper end, or an error, was told.
    over: bool,
    next: u32,
    items: BTreeMap<u64, Item>,
    calls: bool,
    refused: bool,
}

/// An item, as far as it came.
#[derive(Debug, Default)]
struct Item {
    /// Texts and refusals, by their place in the message.
    texts: BTreeMap<u64, Text>,
    /// The call or the thought that this is.
    part: Option<u32>,
    /// Of a call or a thought: whether any of its content came in pieces.
    any: bool,
    /// A thought's next piece begins a new paragraph.
    gap: bool,
    done: bool,
}

#[derive(Debug)]
struct Text {
    index: u32,
    any: bool,
    stopped: bool,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        let (reader, body, state) = (sse::Reader::default(), Body::default(), State::default());
        Self { framing, reader, body, oversized: 0, state }
    }
}

impl Decode for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        if self.framing != Framing::Events {
            return self.body.push(bytes);
        }
        let state = &mut self.state;
        self.reader.push(bytes, |event| state.data(event.data, out));
        for _ in self.oversized..self.reader.oversized() {
            out.push(Event::Unreadable);
        }
        self.oversized = self.reader.oversized();
    }

    fn finish(&mut self, ended: bool, out: &mut Vec<Event>) {
        if self.framing == Framing::Events {
            return;
        }
        match self.body.read::<Value>() {
            Some(value) if ended => self.state.whole(&value, out),
            Some(_) | None => out.push(Event::Unreadable),
        }
    }
}

impl State {
    fn data(&mut self, data: &[u8], out: &mut Vec<Event>) {
        // Some servers end like the older dialect.
        if self.over || data.trim_ascii() == b"[DONE]" {
            return;
        }
        match serde_json::from_slice::<Value>(data) {
            Ok(value) => self.event(&value, out),
            Err(_) => out.push(Event::Unreadable),
        }
    }

    fn event(&mut self, value: &Value, out: &mut Vec<Event>) {
        let kind = text_of(value, "type");
        let place = value.get("output_index").and_then(Value::as_u64).unwrap_or(0);
        if !self.items.contains_key(&place) && self.items.len() >= MAX_ITEMS {
            return out.push(Event::Unreadable);
        }
        let within = value.get("content_index").and_then(Value::as_u64).unwrap_or(0);
        let delta = || some_text(value, "delta");
        match kind.strip_prefix("response.").unwrap_or(kind) {
            "created" | "in_progress" | "queued" => self.start(value.get("response"), out),
            "keepalive" => out.push(Event::Ping),
            "output_item.added" => self.added(place, value.get("item").unwrap_or(&Value::Null), out),
            "output_item.done" => self.done(place, value.get("item").unwrap_or(&Value::Null), out),
            "output_text.delta" => self.text(place, within, false, delta(), out),
            "refusal.delta" => self.text(place, within, true, delta(), out),
            "output_text.done" => self.whole_text(place, within, false, text_of(value, "text"), out),
            "refusal.done" => self.whole_text(place, within, true, text_of(value, "refusal"), out),
            "output_text.annotation.added" => {
                let item = self.items.entry(place).or_default();
                if let (Some(text), Some(citation)) = (item.texts.get(&within), value.get("annotation")) {
                    out.push(Event::Delta { index: text.index, delta: Delta::Citation(citation.clone()) });
                }
            }
            "function_call_arguments.delta" | "custom_tool_call_input.delta" => self.input(place, delta(), out),
            "reasoning_summary_part.added" => {
                let item = self.items.entry(place).or_default();
                item.gap = item.any;
            }
            "reasoning_summary_text.delta" | "reasoning_text.delta" => {
                self.thought(place, some_text(value, "item_id"), delta(), out);
            }
            "completed" | "incomplete" | "failed" | "cancelled" => {
                self.whole(value.get("response").unwrap_or(&Value::Null), out);
            }
            "error" => {
                let inner = value.get("error").filter(|error| error.is_object()).unwrap_or(value);
                self.fault(fault_of(inner), out);
            }
            // Nothing that says what it is: an error of a server that is not quite compatible, or nonsense.
            "" => match value.get("error").and_then(error::in_band) {
                Some(fault) => self.fault(fault, out),
                None => out.push(Event::Unreadable),
            },
            // The others say what stands in the item that is done, or what nobody here acts on.
            _ => {}
        }
    }

    fn start(&mut self, response: Option<&Value>, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            let text = |key: &str| response.and_then(|response| some_text(response, key));
            out.push(Event::Start { id: text("id"), model: text("model") });
        }
    }

    fn fault(&mut self, fault: ApiFault, out: &mut Vec<Event>) {
        self.over = true;
        out.push(Event::Error(fault));
    }

    fn begin(&mut self, part: PartHead, out: &mut Vec<Event>) -> u32 {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        out.push(Event::PartStart { index, part });
        index
    }

    fn added(&mut self, place: u64, item: &Value, out: &mut Vec<Event>) {
        if self.items.entry(place).or_default().part.is_none() {
            let part = self.call(item, out);
            self.items.entry(place).or_default().part = part;
        }
    }

    /// Begins a call, if this is one.
    fn call(&mut self, item: &Value, out: &mut Vec<Event>) -> Option<u32> {
        let free_form = match text_of(item, "type") {
            "function_call" => false,
            "custom_tool_call" => true,
            _ => return None,
        };
        self.calls = true;
        let name = tools::full_name(item)?;
        let id = some_text(item, "call_id").or_else(|| some_text(item, "id"));
        let id = id.unwrap_or_else(|| format!("call_{}", self.next));
        Some(self.begin(PartHead::ToolCall { id, name, free_form }, out))
    }

    fn text(&mut self, place: u64, within: u64, refusal: bool, delta: Option<String>, out: &mut Vec<Event>) {
        let Some(delta) = delta else { return };
        let index = self.text_part(place, within, refusal, out);
        if let Some(text) = self.items.entry(place).or_default().texts.get_mut(&within) {
            text.any = true;
        }
        out.push(Event::Delta { index, delta: Delta::Text(delta) });
    }

    fn text_part(&mut self, place: u64, within: u64, refusal: bool, out: &mut Vec<Event>) -> u32 {
        if let Some(text) = self.items.entry(place).or_default().texts.get(&within) {
            return text.index;
        }
        self.refused |= refusal;
        let index = self.begin(if refusal { PartHead::Refusal } else { PartHead::Text }, out);
        let text = Text { index, any: false, stopped: false };
        self.items.entry(place).or_default().texts.insert(within, text);
        index
    }

    /// A text that is complete: said now if none of it came before.
    fn whole_text(&mut self, place: u64, within: u64, refusal: bool, whole: &str, out: &mut Vec<Event>) {
        let known = self.items.entry(place).or_default().texts.get(&within);
        if known.is_some_and(|text| text.stopped) || known.is_none() && whole.is_empty() {
            return;
        }
        let index = self.text_part(place, within, refusal, out);
        if let Some(text) = self.items.entry(place).or_default().texts.get_mut(&within) {
            if !text.any && !whole.is_empty() {
                out.push(Event::Delta { index, delta: Delta::Text(whole.to_owned()) });
            }
            (text.any, text.stopped) = (true, true);
            out.push(Event::PartStop { index });
        }
    }

    fn input(&mut self, place: u64, delta: Option<String>, out: &mut Vec<Event>) {
        let item = self.items.entry(place).or_default();
        // Without a name it waits for the item that is done.
        if let (Some(index), Some(delta), false) = (item.part, delta, item.done) {
            item.any = true;
            out.push(Event::Delta { index, delta: Delta::Input(delta) });
        }
    }

    fn thought(&mut self, place: u64, id: Option<String>, delta: Option<String>, out: &mut Vec<Event>) {
        let Some(delta) = delta else { return };
        let index = match self.items.entry(place).or_default().part {
            Some(index) => index,
            None => self.begin(PartHead::Reasoning { id }, out),
        };
        let item = self.items.entry(place).or_default();
        item.part = Some(index);
        item.any = true;
        let gap = if std::mem::take(&mut item.gap) { "\n\n" } else { "" };
        out.push(Event::Delta { index, delta: Delta::Reasoning(format!("{gap}{delta}")) });
    }

    /// An item that is complete: what did not come in pieces is said now.
    fn done(&mut self, place: u64, item: &Value, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.items.entry(place).or_default().done, true) {
            return;
        }
        match text_of(item, "type") {
            "message" => {
                let content = item.get("content").and_then(Value::as_array).into_iter().flatten();
                for (within, part) in (0u64..).zip(content) {
                    let refusal = text_of(part, "type") == "refusal";
                    let text = if refusal { text_of(part, "refusal") } else { text_of(part, "text") };
                    self.whole_text(place, within, refusal, text, out);
                }
                self.stop_texts(place, out);
            }
            "function_call" => self.call_done(place, item, "arguments", out),
            "custom_tool_call" => self.call_done(place, item, "input", out),
            "reasoning" => self.thought_done(place, item, out),
            _ if item.is_object() => {
                let index = self.begin(PartHead::Foreign { value: item.clone() }, out);
                out.push(Event::PartStop { index });
            }
            _ => out.push(Event::Unreadable),
        }
    }

    fn stop_texts(&mut self, place: u64, out: &mut Vec<Event>) {
        let texts = &mut self.items.entry(place).or_default().texts;
        for text in texts.values_mut().filter(|text| !text.stopped) {
            text.stopped = true;
            out.push(Event::PartStop { index: text.index });
        }
    }

    fn call_done(&mut self, place: u64, value: &Value, key: &str, out: &mut Vec<Event>) {
        let begun = self.items.entry(place).or_default().part;
        let Some(index) = begun.or_else(|| self.call(value, out)) else { return out.push(Event::Unreadable) };
        let item = self.items.entry(place).or_default();
        item.part = Some(index);
        if let (false, Some(input)) = (item.any, some_text(value, key)) {
            out.push(Event::Delta { index, delta: Delta::Input(input) });
        }
        out.push(Event::PartStop { index });
    }

    fn thought_done(&mut self, place: u64, value: &Value, out: &mut Vec<Event>) {
        let id = some_text(value, "id");
        let texts = |key: &str| {
            let items = value.get(key).and_then(Value::as_array).into_iter().flatten();
            items.map(|item| text_of(item, "text")).collect::<Vec<_>>().join("\n\n")
        };
        let (full, summary) = (texts("content"), texts("summary"));
        let text = if full.is_empty() { summary } else { full };
        let sealed = some_text(value, "encrypted_content");
        let item = self.items.entry(place).or_default();
        let (begun, any) = (item.part, item.any);
        if begun.is_none() && text.is_empty() && sealed.is_none() {
            // It thought, and shows nothing of it.
            return;
        }
        let index = begun.unwrap_or_else(|| self.begin(PartHead::Reasoning { id: id.clone() }, out));
        if !any && !text.is_empty() {
            out.push(Event::Delta { index, delta: Delta::Reasoning(text) });
        }
        if let Some(sealed) = sealed {
            out.push(Event::Delta { index, delta: Delta::Signature(words::seal(id.as_deref(), &sealed)) });
        }
        out.push(Event::PartStop { index });
    }

    /// The whole answer: the body, or what stands in the last event. Only what did not come before is said.
    fn whole(&mut self, response: &Value, out: &mut Vec<Event>) {
        if self.over {
            return;
        }
        let status = text_of(response, "status");
        let failed = response.get("error").filter(|error| !error.is_null());
        if !response.is_object() || status.is_empty() && failed.is_none() && response.get("output").is_none() {
            return out.push(Event::Unreadable);
        }
        if failed.is_none() || response.get("id").is_some() {
            self.start(Some(response), out);
        }
        let items = response.get("output").and_then(Value::as_array).into_iter().flatten();
        for (place, item) in (0u64..).zip(items).take(MAX_ITEMS) {
            self.done(place, item, out);
        }
        // Begun and never said to be done.
        let open: Vec<u64> = self.items.iter().filter(|(_, item)| !item.done).map(|(place, _)| *place).collect();
        for place in open {
            self.stop_texts(place, out);
            if let Some(index) = self.items.entry(place).or_default().part {
                out.push(Event::PartStop { index });
            }
        }
        if let Some(usage) = response.get("usage").and_then(usage::read) {
            out.push(Event::Usage(Usage { tier: usage::tier(response), ..usage }));
        }
        let why = response.pointer("/incomplete_details/reason").and_then(Value::as_str);
        let (reason, said) = match (status, why) {
            ("failed" | "cancelled", _) => return self.fault(failed.map_or_else(nameless, fault_of), out),
            _ if failed.is_some() => return self.fault(failed.map_or_else(nameless, fault_of), out),
            ("incomplete", Some("max_output_tokens")) => (StopReason::MaxTokens, "max_output_tokens"),
            ("incomplete", Some("content_filter")) => (StopReason::Refusal, "content_filter"),
            ("incomplete", why) => (StopReason::Other, why.unwrap_or("incomplete")),
            // It is made later, and fetched: nothing here does that.
            ("queued" | "in_progress", _) => return out.push(Event::Unreadable),
            _ if self.calls => (StopReason::ToolUse, status),
            _ if self.refused => (StopReason::Refusal, status),
            _ => (StopReason::End, status),
        };
        self.over = true;
        out.push(Event::Stop { reason, said: said.to_owned(), sequence: None });
        out.push(Event::End);
    }
}

fn fault_of(value: &Value) -> ApiFault {
    error::in_band(value).unwrap_or_else(nameless)
}

fn nameless() -> ApiFault {
    ApiFault::new(FaultKind::Api, "the provider says that the answer failed, and not why")
}
