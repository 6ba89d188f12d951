//! An answer, written for a client of this dialect: events, or one body. Both are made of the same items, so the identifiers and the
//! content of what was streamed are those of the last word.

use std::collections::BTreeMap;

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::{
    object::{Status, object},
    tools,
    words::{LOCAL_SHELL, TOOL_SEARCH, for_client},
};
use crate::{
    Framing, Usage,
    neutral::{ApiFault, Delta, Encode, Event, FaultKind, ForClient, PartHead, Signature, StopReason},
    openai::{MAX_BODY, error, free::FreeTools, packed_id, tools::free_input},
};

/// Writes an answer.
#[derive(Debug)]
pub(super) struct Encoder {
    client: ForClient,
    free: FreeTools,
    events: bool,
    begun: bool,
    over: bool,
    sequence: u64,
    /// How many items there are, and those that are done.
    places: u64,
    output: BTreeMap<u64, Value>,
    open: BTreeMap<u32, Item>,
    room: usize,
    usage: Option<Usage>,
    stop: Option<StopReason>,
    refused: bool,
}

#[derive(Debug)]
struct Item {
    kind: Kind,
    /// Where it stands among the items, once it has begun.
    place: Option<u64>,
    /// Its content so far.
    text: String,
    signature: Option<Signature>,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Text,
    Refusal,
    Reasoning,
    /// A thought without words that its provider sealed.
    Sealed,
    Redacted,
    /// A call: the client's name of the tool, and which kind of item it is.
    Call {
        id: String,
        name: String,
        call: Call,
    },
    /// Shown to no other dialect.
    Hidden,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Function,
    /// Free text, as it comes.
    Free,
    /// Free text that comes as a function's argument: unpacked at the end.
    Packed,
    /// Kinds of items of their own, without pieces.
    Search,
    Shell,
}

impl Encoder {
    pub(super) fn new(framing: Framing, client: ForClient) -> Self {
        Self::with_room(framing, client, MAX_BODY)
    }

    /// One that holds at most so many bytes of content.
    pub(super) fn with_room(framing: Framing, client: ForClient, room: usize) -> Self {
        Self {
            free: FreeTools::of(&client),
            client,
            events: framing != Framing::Whole,
            begun: false,
            over: false,
            sequence: 0,
            places: 0,
            output: BTreeMap::new(),
            open: BTreeMap::new(),
            room,
            usage: None,
            stop: None,
            refused: false,
        }
    }

    /// One event, with its name and its number.
    fn event(&mut self, kind: &str, fields: Value, out: &mut BytesMut) {
        if !self.events {
            return;
        }
        let mut event = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        event.insert("type".to_owned(), json!(kind));
        event.insert("sequence_number".to_owned(), json!(self.sequence));
        self.sequence += 1;
        let data = Value::Object(event).to_string();
        for piece in ["event: ", kind, "\ndata: ", &data, "\n\n"] {
            out.extend_from_slice(piece.as_bytes());
        }
    }

    fn begin(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.begun, true) || !self.events {
            return;
        }
        let response = object(&self.client, Status::InProgress, Vec::new(), None);
        self.event("response.created", json!({ "response": response }), out);
        self.event("response.in_progress", json!({ "response": response }), out);
    }

    fn part(&mut self, index: u32, part: &PartHead) {
        let (kind, signature) = match part {
            PartHead::Text => (Kind::Text, None),
            PartHead::Refusal => (Kind::Refusal, None),
            PartHead::Reasoning { .. } => (Kind::Reasoning, None),
            PartHead::Redacted { data } => (Kind::Redacted, Some(data.clone())),
            PartHead::Foreign { .. } => (Kind::Hidden, None),
            PartHead::ToolCall { id, name, free_form } => {
                let name = self.client.aliases.original(name).to_owned();
                let call = match name.as_str() {
                    TOOL_SEARCH => Call::Search,
                    LOCAL_SHELL => Call::Shell,
                    _ if *free_form => Call::Free,
                    name if self.free.has(name) => Call::Packed,
                    _ => Call::Function,
                };
                (Kind::Call { id: id.clone(), name, call }, None)
            }
        };
        self.refused |= kind == Kind::Refusal;
        self.open.insert(index, Item { kind, place: None, text: String::new(), signature });
    }

    fn more(&mut self, index: u32, delta: &Delta, out: &mut BytesMut) {
        // Out of its place for as long as it is written to.
        let Some(mut item) = self.open.remove(&index) else { return };
        match (&item.kind, delta) {
            (Kind::Text | Kind::Refusal, Delta::Text(text))
            | (Kind::Reasoning, Delta::Reasoning(text))
            | (Kind::Call { .. }, Delta::Input(text)) => self.piece(&mut item, text, out),
            (Kind::Reasoning | Kind::Call { .. }, Delta::Signature(signature)) => {
                item.signature = Some(signature.clone())
            }
            _ => {}
        }
        self.open.insert(index, item);
    }

    fn piece(&mut self, item: &mut Item, text: &str, out: &mut BytesMut) {
        if text.is_empty() {
            return;
        }
        let Some(room) = self.room.checked_sub(text.len()) else {
            return self.broken(&ApiFault::new(FaultKind::Api, "the answer is longer than what is held here"), out);
        };
        self.room = room;
        // What is unpacked, or has no pieces, waits for its end.
        if !matches!(item.kind, Kind::Call { call: Call::Packed | Call::Search | Call::Shell, .. }) {
            self.begin_item(item, out);
            self.delta(item, text, out);
        }
        item.text.push_str(text);
    }

    fn item_id(&self, item: &Item) -> String {
        let head = match &item.kind {
            Kind::Text | Kind::Refusal | Kind::Hidden => "msg",
            Kind::Reasoning | Kind::Sealed | Kind::Redacted => "rs",
            Kind::Call { call, .. } => match call {
                Call::Function => "fc",
                Call::Free | Call::Packed => "ctc",
                Call::Search => "tsc",
                Call::Shell => "lsh",
            },
        };
        format!("{head}_{}_{}", self.client.id, item.place.unwrap_or(0))
    }

    fn begin_item(&mut self, item: &mut Item, out: &mut BytesMut) {
        if item.place.is_some() {
            return;
        }
        self.begin(out);
        let place = self.places;
        self.places += 1;
        item.place = Some(place);
        if !self.events {
            return;
        }
        let (id, shown) = (self.item_id(item), self.shown(item, "in_progress"));
        self.event("response.output_item.added", json!({ "output_index": place, "item": shown }), out);
        match &item.kind {
            Kind::Text | Kind::Refusal => {
                let part = content(&item.kind, "");
                let fields = json!({ "item_id": id, "output_index": place, "content_index": 0, "part": part });
                self.event("response.content_part.added", fields, out);
            }
            Kind::Reasoning => {
                let part = json!({ "type": "summary_text", "text": "" });
                let fields = json!({ "item_id": id, "output_index": place, "summary_index": 0, "part": part });
                self.event("response.reasoning_summary_part.added", fields, out);
            }
            Kind::Sealed | Kind::Redacted | Kind::Call { .. } | Kind::Hidden => {}
        }
    }

    fn delta(&mut self, item: &Item, text: &str, out: &mut BytesMut) {
        if !self.events {
            return;
        }
        let mut fields = json!({ "item_id": self.item_id(item), "output_index": item.place, "delta": text });
        let kind = match &item.kind {
            Kind::Text => {
                put(&mut fields, "logprobs", json!([]));
                put(&mut fields, "content_index", json!(0));
                "response.output_text.delta"
            }
            Kind::Refusal => {
                put(&mut fields, "content_index", json!(0));
                "response.refusal.delta"
            }
            Kind::Reasoning => {
                put(&mut fields, "summary_index", json!(0));
                "response.reasoning_summary_text.delta"
            }
            Kind::Call { call: Call::Function, .. } => "response.function_call_arguments.delta",
            Kind::Call { .. } => "response.custom_tool_call_input.delta",
            Kind::Sealed | Kind::Redacted | Kind::Hidden => return,
        };
        self.event(kind, fields, out);
    }

    fn stop_part(&mut self, index: u32, out: &mut BytesMut) {
        let Some(mut item) = self.open.remove(&index) else { return };
        let sealed = self.wants_sealed() && item.signature.is_some();
        match &item.kind {
            Kind::Hidden => return,
            // Nothing was said: nothing is shown.
            Kind::Text | Kind::Refusal if item.text.is_empty() => return,
            Kind::Reasoning | Kind::Redacted if item.text.is_empty() && !sealed => return,
            Kind::Reasoning if item.text.is_empty() => item.kind = Kind::Sealed,
            Kind::Call { call: Call::Packed, .. } => {
                let text = free_input(&item.text);
                item.text.clear();
                self.begin_item(&mut item, out);
                if !text.is_empty() {
                    self.delta(&item, &text, out);
                }
                item.text = text;
            }
            Kind::Call { call: Call::Function, .. } if item.text.is_empty() => {
                self.begin_item(&mut item, out);
                self.delta(&item, "{}", out);
                "{}".clone_into(&mut item.text);
            }
            _ => {}
        }
        self.begin_item(&mut item, out);
        self.done(&item, out);
    }

    /// Everything about the item once more, as a whole.
    fn done(&mut self, item: &Item, out: &mut BytesMut) {
        let place = item.place.unwrap_or(0);
        let shown = self.shown(item, "completed");
        if self.events {
            let at = json!({ "item_id": self.item_id(item), "output_index": place });
            let mut say = |kind: &str, more: Value, this: &mut Self| {
                let mut fields = at.clone();
                if let Value::Object(more) = more {
                    more.into_iter().for_each(|(key, value)| put(&mut fields, &key, value));
                }
                this.event(kind, fields, out);
            };
            let text = &item.text;
            match &item.kind {
                Kind::Text => {
                    say("response.output_text.done", json!({ "content_index": 0, "text": text, "logprobs": [] }), self);
                    say(
                        "response.content_part.done",
                        json!({ "content_index": 0, "part": content(&item.kind, text) }),
                        self,
                    );
                }
                Kind::Refusal => {
                    say("response.refusal.done", json!({ "content_index": 0, "refusal": text }), self);
                    say(
                        "response.content_part.done",
                        json!({ "content_index": 0, "part": content(&item.kind, text) }),
                        self,
                    );
                }
                Kind::Reasoning => {
                    let part = json!({ "type": "summary_text", "text": text });
                    say("response.reasoning_summary_text.done", json!({ "summary_index": 0, "text": text }), self);
                    say("response.reasoning_summary_part.done", json!({ "summary_index": 0, "part": part }), self);
                }
                Kind::Call { call: Call::Function, name, .. } => {
                    let name = tools::apart(name).1;
                    say("response.function_call_arguments.done", json!({ "arguments": text, "name": name }), self);
                }
                Kind::Call { call: Call::Free | Call::Packed, .. } => {
                    say("response.custom_tool_call_input.done", json!({ "input": text }), self);
                }
                Kind::Call { .. } | Kind::Sealed | Kind::Redacted | Kind::Hidden => {}
            }
            self.event("response.output_item.done", json!({ "output_index": place, "item": shown }), out);
        }
        self.output.insert(place, shown);
    }

    fn wants_sealed(&self) -> bool {
        let wish = self.client.request.as_ref().and_then(|request| request.reasoning.as_ref());
        wish.is_some_and(|wish| wish.sealed)
    }

    /// The item, as far as it came.
    fn shown(&self, item: &Item, status: &str) -> Value {
        let mut shown = json!({ "id": self.item_id(item), "status": status });
        let done = status == "completed";
        match &item.kind {
            Kind::Text | Kind::Refusal | Kind::Hidden => {
                put(&mut shown, "type", json!("message"));
                put(&mut shown, "role", json!("assistant"));
                put(&mut shown, "content", if done { json!([content(&item.kind, &item.text)]) } else { json!([]) });
            }
            Kind::Reasoning | Kind::Sealed | Kind::Redacted => {
                let summary = json!([{ "type": "summary_text", "text": item.text }]);
                put(&mut shown, "type", json!("reasoning"));
                put(&mut shown, "summary", if done && !item.text.is_empty() { summary } else { json!([]) });
                if let Some(signature) = item.signature.as_ref().filter(|_| done && self.wants_sealed()) {
                    let sealed = for_client(signature, item.kind == Kind::Redacted);
                    put(&mut shown, "encrypted_content", json!(sealed));
                }
            }
            Kind::Call { id, name, call } => {
                let (space, own) = tools::apart(name);
                put(&mut shown, "call_id", json!(packed_id(id, item.signature.as_ref())));
                let (kind, key) = match call {
                    Call::Function => ("function_call", "arguments"),
                    Call::Free | Call::Packed => ("custom_tool_call", "input"),
                    Call::Search => ("tool_search_call", "arguments"),
                    Call::Shell => ("local_shell_call", "action"),
                };
                put(&mut shown, "type", json!(kind));
                match call {
                    Call::Function | Call::Free | Call::Packed => {
                        put(&mut shown, "name", json!(own));
                        if let Some(space) = space {
                            put(&mut shown, "namespace", json!(space));
                        }
                        put(&mut shown, key, json!(if done { item.text.as_str() } else { "" }));
                    }
                    Call::Search => {
                        put(&mut shown, "execution", json!("client"));
                        put(&mut shown, key, serde_json::from_str(&item.text).unwrap_or_else(|_| json!({})));
                    }
                    Call::Shell => {
                        let mut action = serde_json::from_str(&item.text).unwrap_or_else(|_| json!({}));
                        put(&mut action, "type", json!("exec"));
                        if action.get("env").is_none() {
                            put(&mut action, "env", json!({}));
                        }
                        put(&mut shown, key, action);
                    }
                }
            }
        }
        shown
    }

    fn end(&mut self, out: &mut BytesMut) {
        let open: Vec<u32> = self.open.keys().copied().collect();
        for index in open {
            self.stop_part(index, out);
        }
        self.begin(out);
        let status = match self.stop {
            Some(StopReason::MaxTokens | StopReason::ContextFull) => Status::Incomplete("max_output_tokens"),
            // A refusal in words is an answer.
            Some(StopReason::Refusal) if !self.refused => Status::Incomplete("content_filter"),
            _ => Status::Completed,
        };
        self.last(status, out);
    }

    fn last(&mut self, status: Status<'_>, out: &mut BytesMut) {
        let output = std::mem::take(&mut self.output).into_values().collect();
        let nothing = Usage::default();
        let used = match status {
            Status::Failed(_) => self.usage.as_ref(),
            _ => Some(self.usage.as_ref().unwrap_or(&nothing)),
        };
        let response = object(&self.client, status, output, used);
        self.over = true;
        if !self.events {
            out.extend_from_slice(response.to_string().as_bytes());
            return;
        }
        let kind = match status {
            Status::Incomplete(_) => "response.incomplete",
            Status::Failed(_) => "response.failed",
            Status::Completed | Status::InProgress => "response.completed",
        };
        self.event(kind, json!({ "response": response }), out);
    }
}

impl Encode for Encoder {
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
            Event::End => self.end(out),
        }
    }

    fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        if self.over {
            return;
        }
        if !self.events {
            self.over = true;
            out.extend_from_slice(&error::body(fault));
            return;
        }
        self.begin(out);
        self.last(Status::Failed(fault), out);
    }

    fn keep_alive(&self) -> &'static [u8] {
        if self.events { b": keep-alive\n\n" } else { b"" }
    }
}

/// The content of a message.
fn content(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Refusal => json!({ "type": "refusal", "refusal": text }),
        _ => json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] }),
    }
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}
