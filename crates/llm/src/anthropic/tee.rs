//! Puts an answer together from a copy of its bytes. It returns nothing while it reads, so it can neither delay,
//! change nor fail what is relayed; what it could not read it counts.

use serde_json::{Map, Value, json};

use super::counts::Raw;
use crate::{Estimate, Usage, anthropic::ApiError, estimate::most_tokens, sse};

/// The most that a tee keeps of one answer.
pub const MAX_CAPTURE_BYTES: usize = 32 * 1024 * 1024;
/// The most content blocks of one answer.
pub const MAX_BLOCKS: usize = 10_000;

/// How an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As server-sent events.
    Events,
    /// As one JSON body.
    Whole,
    /// In a form that is not read (compressed, or something else altogether).
    Opaque,
}

/// The reader of a copy.
#[derive(Debug)]
pub struct Tee {
    shape: Shape,
    limit: usize,
    reader: sse::Reader,
    body: Vec<u8>,
    seen: Seen,
    usage: Raw,
    has_usage: bool,
    blocks: Vec<Option<Block>>,
    message: Option<Map<String, Value>>,
    kept: usize,
}

/// What an answer was, as far as it was seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    /// The message, as far as it came: for a stream, put together from its events.
    pub message: Option<Value>,
    /// Whether it came to its proper end.
    pub complete: bool,
    /// What the provider said that it used; the last word on each count, for counts are cumulative.
    pub usage: Option<Usage>,
    /// At most so many tokens were in the content that was seen.
    pub output_tokens_seen: u64,
    /// Why the model stopped, in the provider's word.
    pub stop_reason: Option<String>,
    /// The error that the provider sent.
    pub error: Option<ApiError>,
    /// How many events (or bodies) could not be read.
    pub unreadable: u64,
    /// Whether content was let go because of a limit.
    pub truncated: bool,
    /// Whether the provider worked on the request before it failed. Of no meaning where there is usage.
    pub worked_on: bool,
}

#[derive(Debug, Default)]
struct Block {
    value: Map<String, Value>,
    partial_json: String,
}

impl Tee {
    /// A tee for an answer of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self::with_limit(shape, MAX_CAPTURE_BYTES)
    }

    /// A tee that keeps at most so many bytes.
    #[must_use]
    pub fn with_limit(shape: Shape, limit: usize) -> Self {
        Self {
            shape,
            limit,
            reader: sse::Reader::with_limit(limit.min(sse::MAX_EVENT_BYTES)),
            body: Vec::new(),
            seen: Seen::default(),
            usage: Raw::default(),
            has_usage: false,
            blocks: Vec::new(),
            message: None,
            kept: 0,
        }
    }

    /// A tee for an answer with this `content-type`.
    #[must_use]
    pub fn for_content_type(content_type: Option<&str>) -> Self {
        let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        Self::new(if essence.eq_ignore_ascii_case("text/event-stream") {
            Shape::Events
        } else if essence.is_empty() || essence.eq_ignore_ascii_case("application/json") {
            Shape::Whole
        } else {
            Shape::Opaque
        })
    }

    /// Takes a copy of the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        match self.shape {
            Shape::Opaque => self.seen.truncated |= !bytes.is_empty(),
            Shape::Whole => {
                let room = self.limit.saturating_sub(self.body.len());
                let taken = bytes.get(..room).unwrap_or(bytes);
                self.body.extend_from_slice(taken);
                self.seen.truncated |= taken.len() < bytes.len();
            }
            Shape::Events => {
                let mut reader = std::mem::take(&mut self.reader);
                reader.push(bytes, |event| self.event(event));
                self.reader = reader;
            }
        }
    }

    /// At most so many tokens were seen so far.
    #[must_use]
    pub const fn output_tokens_seen(&self) -> u64 {
        self.seen.output_tokens_seen
    }

    /// What was seen. `ended` says whether the bytes came to the end that the transport promised.
    #[must_use]
    pub fn finish(mut self, ended: bool) -> Seen {
        match self.shape {
            Shape::Opaque => self.seen.unreadable += 1,
            Shape::Whole => self.finish_body(ended),
            Shape::Events => {
                self.seen.unreadable = self.seen.unreadable.saturating_add(self.reader.oversized());
                self.seen.truncated |= self.reader.dropped_bytes() > 0;
                let dropped = self.reader.dropped_bytes().div_ceil(2);
                self.seen.output_tokens_seen = self.seen.output_tokens_seen.saturating_add(dropped);
                self.seen.message = self.assemble();
            }
        }
        self.seen.usage = self.has_usage.then(|| self.usage.usage());
        self.seen
    }

    fn finish_body(&mut self, ended: bool) {
        let whole = ended && !self.seen.truncated;
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(value) if whole => {
                self.seen.error = ApiError::from_value(&value);
                if self.seen.error.is_none() {
                    if let Some(usage) = value.get("usage") {
                        self.has_usage = self.usage.take(usage);
                    }
                    self.seen.stop_reason = text(&value, "stop_reason");
                    self.seen.complete = value.get("content").is_some_and(Value::is_array);
                    self.seen.unreadable += u64::from(!self.seen.complete);
                    self.seen.message = Some(value);
                }
            }
            _ => self.seen.unreadable += u64::from(whole || !self.body.is_empty()),
        }
        let seen = most_tokens(&String::from_utf8_lossy(&self.body));
        self.seen.output_tokens_seen = if self.seen.error.is_none() { seen } else { 0 };
    }

    fn event(&mut self, event: sse::Event<'_>) {
        let Ok(value) = serde_json::from_slice::<Value>(event.data) else {
            self.seen.unreadable = self.seen.unreadable.saturating_add(1);
            let lost = (event.data.len() as u64).div_ceil(2);
            self.seen.output_tokens_seen = self.seen.output_tokens_seen.saturating_add(lost);
            return;
        };
        match value.get("type").and_then(Value::as_str) {
            Some("message_start") => self.start(value, event.data.len()),
            Some("content_block_start") => self.block_start(&value),
            Some("content_block_delta") => self.block_delta(&value),
            Some("content_block_stop") => self.block_stop(&value),
            Some("message_delta") => self.delta(&value, event.data.len()),
            Some("message_stop") => self.seen.complete = true,
            Some("error") => self.seen.error = self.seen.error.take().or_else(|| ApiError::from_value(&value)),
            // Pings, and whatever will be invented.
            _ => {}
        }
    }

    fn start(&mut self, mut value: Value, len: usize) {
        let Some(message) = value.get_mut("message").map(Value::take) else { return };
        if let Some(usage) = message.get("usage") {
            self.has_usage |= self.usage.take(usage);
        }
        if self.message.is_none()
            && self.keep(len)
            && let Value::Object(message) = message
        {
            self.message = Some(message);
        }
    }

    fn slot(&mut self, value: &Value) -> Option<&mut Option<Block>> {
        let index = value.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok())?;
        if index >= MAX_BLOCKS {
            self.seen.truncated = true;
            return None;
        }
        if self.blocks.len() <= index {
            self.blocks.resize_with(index + 1, || None);
        }
        self.blocks.get_mut(index)
    }

    /// Whether so many more bytes may be kept.
    fn keep(&mut self, bytes: usize) -> bool {
        let fits = self.kept.saturating_add(bytes) <= self.limit;
        if fits {
            self.kept += bytes;
        } else {
            self.seen.truncated = true;
        }
        fits
    }

    fn count(&mut self, text: &str) {
        self.seen.output_tokens_seen = self.seen.output_tokens_seen.saturating_add(most_tokens(text));
    }

    fn block_start(&mut self, value: &Value) {
        let Some(Value::Object(block)) = value.get("content_block") else { return };
        for key in ["name", "text", "thinking", "data"] {
            self.count(block.get(key).and_then(Value::as_str).unwrap_or_default());
        }
        if !self.keep(Value::Object(block.clone()).to_string().len()) {
            return;
        }
        let block = Block { value: block.clone(), partial_json: String::new() };
        if let Some(slot) = self.slot(value) {
            *slot = Some(block);
        }
    }

    fn block_delta(&mut self, value: &Value) {
        let Some(delta) = value.get("delta") else { return };
        let Some(kind) = delta.get("type").and_then(Value::as_str) else { return };
        let (field, piece) = match kind {
            "text_delta" => ("text", text_of(delta, "text")),
            "thinking_delta" => ("thinking", text_of(delta, "thinking")),
            "signature_delta" => ("signature", text_of(delta, "signature")),
            "compaction_delta" => ("content", text_of(delta, "content")),
            "input_json_delta" => ("", text_of(delta, "partial_json")),
            "citations_delta" => {
                let citation = delta.get("citation").cloned().unwrap_or_default();
                if self.keep(citation.to_string().len())
                    && let Some(Some(block)) = self.slot(value)
                    && let Value::Array(list) = block.value.entry("citations").or_insert_with(|| json!([]))
                {
                    list.push(citation);
                }
                return;
            }
            // Something new: counted, so that a hang-up is charged for it.
            _ => return self.count(&delta.to_string()),
        };
        // Signatures are not tokens that anybody is charged for.
        if kind != "signature_delta" {
            self.count(piece);
        }
        if !self.keep(piece.len()) {
            return;
        }
        let Some(Some(block)) = self.slot(value) else { return };
        if kind == "input_json_delta" {
            block.partial_json.push_str(piece);
        } else {
            match block.value.entry(field).or_insert_with(|| json!("")) {
                Value::String(text) => text.push_str(piece),
                other => *other = json!(piece),
            }
        }
    }

    fn block_stop(&mut self, value: &Value) {
        if let Some(Some(block)) = self.slot(value) {
            block.close();
        }
    }

    fn delta(&mut self, value: &Value, len: usize) {
        let fits = self.keep(len);
        if let Some(usage) = value.get("usage") {
            self.has_usage |= self.usage.take(usage);
            if let (true, Some(message), Value::Object(new)) = (fits, &mut self.message, usage)
                && let Value::Object(known) = message.entry("usage").or_insert_with(|| json!({}))
            {
                known.extend(new.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())));
            }
        }
        if let Some(Value::Object(delta)) = value.get("delta") {
            if let Some(reason) = delta.get("stop_reason").and_then(Value::as_str) {
                self.seen.stop_reason = Some(reason.to_owned());
            }
            if let (true, Some(message)) = (fits, &mut self.message) {
                message.extend(delta.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        if let (true, Some(message), Some(context)) = (fits, &mut self.message, value.get("context_management")) {
            message.insert("context_management".to_owned(), context.clone());
        }
    }

    fn assemble(&mut self) -> Option<Value> {
        let mut message = self.message.take()?;
        let blocks = std::mem::take(&mut self.blocks).into_iter().flatten().map(|mut block| {
            block.close();
            Value::Object(block.value)
        });
        message.insert("content".to_owned(), Value::Array(blocks.collect()));
        Some(Value::Object(message))
    }
}

impl Block {
    /// Puts the input together. What does not read as JSON (a stream cut short) is kept as text, so that it is not lost.
    fn close(&mut self) {
        let partial = std::mem::take(&mut self.partial_json);
        if !partial.is_empty() {
            let input = serde_json::from_str(&partial).unwrap_or(Value::String(partial));
            self.value.insert("input".to_owned(), input);
        }
    }
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// What is charged for an answer that began with status 200: what the provider said, and where it could not say it any
/// more, at least what was seen. *Invariant:* never nothing, unless the provider's first and only word was an error, or an error
/// before any content says that the request was not taken. An answer that had begun before it failed has cost its input, in every
/// dialect: Messages and Gemini say how much, for the others it is our bound.
#[must_use]
pub fn billed(seen: &Seen, input_bound: u64, estimate: &Estimate) -> Usage {
    let at_most = |tokens: u64| tokens.min(estimate.output_tokens);
    match seen.usage {
        Some(usage) if seen.complete => usage,
        Some(mut usage) => {
            if usage.all_input() == 0 {
                usage.input_tokens = input_bound;
            }
            usage.output_tokens = usage.output_tokens.max(at_most(seen.output_tokens_seen));
            usage
        }
        None if seen.error.is_some() && seen.output_tokens_seen == 0 && !seen.worked_on => Usage::default(),
        // An answer came to its end, or was not readable, and nothing told what it used: all that it may have used.
        None if seen.complete || seen.unreadable > 0 => {
            Usage { input_tokens: input_bound, output_tokens: estimate.output_tokens, ..Usage::default() }
        }
        None => {
            Usage { input_tokens: input_bound, output_tokens: at_most(seen.output_tokens_seen), ..Usage::default() }
        }
    }
}

#[cfg(test)]
mod tests;
