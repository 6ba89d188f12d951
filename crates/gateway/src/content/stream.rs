//! Answers that come as a stream.
//!
//! Owns how an answer is let through event by event: at once and byte for byte while nothing forbidden has begun, and held back
//! exactly as long as something that has begun could still be completed. A stream that is stopped ends with an error in
//! the client's own form.
//!
//! *Invariant:* what the client gets does not depend on how the provider's bytes were split. While a rule does more than report,
//! nothing goes through that could not be read.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use stockade_llm::{Dialect, Framing};
use stockade_policy::content::{ContentAction, ContentRules, Place};

use super::{
    Finding,
    cut::{Cutter, Event},
    json::{Document, Span, SpanKind, Unescaped},
    lane::{Lane, Ruling},
    place::{opaque, what},
    refusal::{Envelope, end_of_stream},
    scan::{MAX_FINDINGS, scan_spans, splice},
    vault::{Marker, Vault},
};

/// The most that waits in one stream, in bytes. What would wait longer is not let through.
pub const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// The most texts of one answer that are followed at once.
const MAX_LANES: usize = 256;

/// Guards one answer.
#[derive(Debug)]
pub struct StreamGuard {
    rules: ContentRules,
    marker: Marker,
    dialect: Dialect,
    framing: Framing,
    cutter: Cutter,
    open: HashMap<Key, u64>,
    lanes: HashMap<u64, Lane>,
    next_lane: u64,
    queue: VecDeque<Waiting>,
    queued: usize,
    envelope: Envelope,
    findings: Vec<Finding>,
    vault: Vault,
    unreadable: u64,
    /// Nothing is cut any more: what comes is passed on as it is.
    blind: bool,
    stopped: Option<String>,
}

/// Which text of an answer a fragment belongs to: the choice, output or block; the part of it; the kind.
type Key = (u32, u32, u64);

/// An event that is not passed on yet.
#[derive(Debug)]
struct Waiting {
    event: Event,
    edits: Vec<(std::ops::Range<usize>, Vec<u8>)>,
    fragments: Vec<Fragment>,
}

/// A part of a text that an event brings.
#[derive(Debug)]
struct Fragment {
    lane: u64,
    /// Where it begins in that text.
    from: usize,
    text: Vec<u8>,
    /// Where it stands in the event's content.
    range: std::ops::Range<usize>,
}

/// What a span of an event is.
enum Part {
    /// A fragment of a text that goes on in other events.
    Fragment(Key, Place, bool),
    /// A text by itself.
    Whole,
    /// Nothing that anybody reads.
    Nothing,
}

/// Which texts have ended.
#[derive(Debug, Clone, Copy)]
enum Ended {
    All,
    /// Those of one choice, output or block.
    Only(u32),
}

impl Ended {
    const fn holds(self, key: &Key) -> bool {
        match self {
            Self::All => true,
            Self::Only(index) => key.0 == index,
        }
    }
}

/// Keys whose values are the protocol's own words.
const STRUCTURE: [&[u8]; 22] = [
    b"type",
    b"id",
    b"object",
    b"model",
    b"role",
    b"event",
    b"status",
    b"finish_reason",
    b"finishReason",
    b"stop_reason",
    b"stopReason",
    b"item_id",
    b"call_id",
    b"tool_use_id",
    b"toolUseId",
    b"system_fingerprint",
    b"service_tier",
    b"responseId",
    b"modelVersion",
    b"response_id",
    b"previous_response_id",
    b"index",
];

impl StreamGuard {
    /// A guard for an answer that the client gets in this dialect and framing.
    #[must_use]
    pub fn new(rules: ContentRules, marker: Marker, dialect: Dialect, framing: Framing) -> Self {
        Self {
            blind: rules.is_empty(),
            cutter: Cutter::new(framing, dialect == Dialect::Messages),
            rules,
            marker,
            dialect,
            framing,
            open: HashMap::new(),
            lanes: HashMap::new(),
            next_lane: 0,
            queue: VecDeque::new(),
            queued: 0,
            envelope: Envelope::default(),
            findings: Vec::new(),
            vault: Vault::default(),
            unreadable: 0,
            stopped: None,
        }
    }

    /// Takes what the provider sent and gives what the client gets.
    pub fn push(&mut self, bytes: &Bytes) -> Vec<Bytes> {
        if self.stopped.is_some() {
            return Vec::new();
        }
        if self.blind {
            return vec![bytes.clone()];
        }
        let mut events = Vec::new();
        let cut = self.cutter.push(bytes, &mut events);
        let mut out = Vec::new();
        for event in events {
            self.event(event, &mut out);
        }
        if cut.is_err() {
            self.uncuttable(&mut out);
        }
        joined(bytes, out)
    }

    /// Nothing has come for a while: a beginning that is too short to be anything is let go.
    pub fn idle(&mut self) -> Vec<Bytes> {
        self.lanes.values_mut().for_each(Lane::idle);
        let mut out = Vec::new();
        self.release(&mut out);
        out
    }

    /// The provider's answer has ended: what is left.
    pub fn finish(&mut self) -> Vec<Bytes> {
        let mut out = Vec::new();
        if self.stopped.is_some() || self.blind {
            return out;
        }
        let mut events = Vec::new();
        let cut = self.cutter.finish(&mut events);
        for event in events {
            self.event(event, &mut out);
        }
        if cut.is_err() {
            self.uncuttable(&mut out);
        } else if self.stopped.is_none() {
            self.close(Ended::All, &mut out);
            self.release(&mut out);
        }
        out
    }

    /// Why the stream was stopped, if it was: a rule's title, or that something could not be read.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Whether something waits: then [`Self::idle`] is worth a call when nothing comes.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What was found so far.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many events could not be read and were passed on all the same, because rules only report.
    #[must_use]
    pub const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// What was taken out so far, to be sealed.
    pub fn take_vault(&mut self) -> Vault {
        std::mem::take(&mut self.vault)
    }

    fn event(&mut self, event: Event, out: &mut Vec<Bytes>) {
        if self.stopped.is_some() {
            return;
        }
        let payload = event.payload().unwrap_or_default();
        if payload.is_empty() {
            self.wait(Waiting { event, edits: Vec::new(), fragments: Vec::new() }, out);
            return;
        }
        if payload.trim_ascii() == b"[DONE]" {
            self.close(Ended::All, out);
            self.wait(Waiting { event, edits: Vec::new(), fragments: Vec::new() }, out);
            return;
        }
        let Ok(document) = Document::read(payload) else {
            if self.rules.enforce() {
                self.stop("a part of the answer could not be read", out);
            } else {
                self.unreadable = self.unreadable.saturating_add(1);
                self.wait(Waiting { event, edits: Vec::new(), fragments: Vec::new() }, out);
            }
            return;
        };
        let kind = event.kind().or_else(|| document.top(b"type")).unwrap_or_default().to_owned();
        self.envelope.see(self.dialect, &kind, &document);
        let (mut fragments, mut wholes, mut touched) = (Vec::new(), Vec::new(), Vec::new());
        for (n, span) in document.spans.iter().enumerate() {
            match self.part(&kind, &document, span) {
                Part::Nothing => {}
                Part::Whole => wholes.push(n),
                Part::Fragment(key, place, json) => {
                    let lane = self.lane(key, place, json, out);
                    let text = if span.escaped {
                        Unescaped::new(document.raw(span)).text
                    } else {
                        document.raw(span).to_vec()
                    };
                    if let Some(known) = self.lanes.get_mut(&lane) {
                        fragments.push(Fragment {
                            lane,
                            from: known.end,
                            text: text.clone(),
                            range: span.range.clone(),
                        });
                        known.push(&text);
                        known.waiting += 1;
                        touched.push(lane);
                    }
                }
            }
        }
        let mut edits = Vec::new();
        if !wholes.is_empty() {
            let scanned = scan_spans(&self.rules, &self.marker, &document, &wholes);
            let strongest = scanned.strongest().filter(|finding| finding.action > ContentAction::Redact);
            let stop = match strongest {
                Some(finding) => Some(finding.title.clone()),
                None if scanned.overflow => Some("more was found than can be handled".to_owned()),
                None => None,
            };
            self.note(scanned.findings);
            self.vault.join(scanned.vault);
            edits = scanned.edits;
            if let Some(title) = stop {
                self.stop(&title, out);
                return;
            }
        }
        let ends = self.ends(&kind, &document);
        drop(document);
        touched.dedup();
        for lane in touched {
            self.settle(lane, false, out);
        }
        self.wait(Waiting { event, edits, fragments }, out);
        if let Some(ends) = ends {
            self.close(ends, out);
            self.release(out);
        }
    }

    /// What a span of an event is.
    fn part(&self, kind: &str, document: &Document<'_>, span: &Span) -> Part {
        if opaque(document, span) {
            return Part::Nothing;
        }
        let key = document.key(span);
        let number = |key: &[u8]| document.number(key).unwrap_or_default();
        let mut around = document.around(span);
        let inner = around.next();
        let under = inner.map(|inner| inner.key).unwrap_or_default();
        let text = span.kind == SpanKind::Text;
        let known = what(document, span);
        let structure = text && STRUCTURE.contains(&key);
        match self.dialect {
            _ if self.framing == Framing::Whole => Part::Whole,
            Dialect::Messages if text && kind == "content_block_delta" && under == b"delta" && !structure => {
                let place = match key {
                    b"thinking" => Place::Reasoning,
                    b"partial_json" => Place::ToolArgument,
                    _ => Place::Text,
                };
                Part::Fragment((number(b"index"), 0, named(key)), place, key == b"partial_json")
            }
            Dialect::Messages
                if text && kind == "content_block_start" && under == b"content_block" && key == b"text" =>
            {
                Part::Fragment((number(b"index"), 0, named(b"text")), Place::Text, false)
            }
            Dialect::Messages
                if text && kind == "content_block_start" && under == b"content_block" && key == b"thinking" =>
            {
                Part::Fragment((number(b"index"), 0, named(b"thinking")), Place::Reasoning, false)
            }
            Dialect::Chat if text && !structure && document.around(span).any(|around| around.key == b"delta") => {
                // Choices and calls have an index of their own each; a call's is the nearer one.
                let (part, choice) = document.index(span.node).unwrap_or_default();
                let call = document.around(span).any(|around| around.key == b"tool_calls");
                let (part, place) = match (call, key) {
                    (true, _) | (_, b"arguments") => (part.saturating_add(1), Place::ToolArgument),
                    (_, b"reasoning_content" | b"reasoning") => (0, Place::Reasoning),
                    _ => (0, known.place),
                };
                if call && key == b"name" {
                    return Part::Whole;
                }
                Part::Fragment((choice, part, named(key)), place, key == b"arguments")
            }
            Dialect::Responses if text && kind.ends_with(".delta") && span.node == 0 && key == b"delta" => {
                let place = if kind.contains("reasoning") {
                    Place::Reasoning
                } else if ["arguments", "input", "code"].iter().any(|word| kind.contains(word)) {
                    Place::ToolArgument
                } else {
                    Place::Text
                };
                let part = number(b"content_index").max(number(b"summary_index"));
                let json = kind.contains("arguments");
                Part::Fragment((number(b"output_index"), part, named(kind.as_bytes())), place, json)
            }
            Dialect::Gemini if text && key == b"text" && document.around(span).any(|around| around.key == b"parts") => {
                let thought = known.place == Place::Reasoning;
                let (_, choice) = document.index(span.node).unwrap_or_default();
                Part::Fragment((choice, u32::from(thought), 0), known.place, false)
            }
            Dialect::Converse if text && kind == "contentBlockDelta" && !structure => {
                let tool = under == b"toolUse";
                let place = if tool { Place::ToolArgument } else { known.place };
                Part::Fragment((number(b"contentBlockIndex"), 0, named(key) ^ named(under)), place, tool)
            }
            _ if structure => Part::Nothing,
            _ => Part::Whole,
        }
    }

    /// Which texts end with an event.
    fn ends(&self, kind: &str, document: &Document<'_>) -> Option<Ended> {
        let top = |key: &[u8]| document.number(key).map(Ended::Only);
        match (self.dialect, kind) {
            (Dialect::Messages, "content_block_stop") => top(b"index"),
            (Dialect::Messages, "message_delta" | "message_stop" | "error")
            | (Dialect::Responses, "response.completed" | "response.failed" | "response.incomplete" | "error")
            | (Dialect::Converse, "messageStop" | "metadata") => Some(Ended::All),
            (Dialect::Responses, _) if kind.ends_with(".done") => top(b"output_index"),
            (Dialect::Converse, "contentBlockStop") => top(b"contentBlockIndex"),
            (Dialect::Chat | Dialect::Gemini, _) => {
                let said = document.spans.iter().find(|span| {
                    span.kind == SpanKind::Text && matches!(document.key(span), b"finish_reason" | b"finishReason")
                })?;
                let (_, choice) = document.index(said.node).unwrap_or_default();
                Some(Ended::Only(choice))
            }
            _ => None,
        }
    }

    fn lane(&mut self, key: Key, place: Place, json: bool, out: &mut Vec<Bytes>) -> u64 {
        if let Some(lane) = self.open.get(&key) {
            return *lane;
        }
        if self.open.len() >= MAX_LANES {
            self.close(Ended::All, out);
        }
        let lane = self.next_lane;
        self.next_lane += 1;
        self.lanes.insert(lane, Lane::new(&self.rules, place, json));
        self.open.insert(key, lane);
        lane
    }

    fn settle(&mut self, lane: u64, last: bool, out: &mut Vec<Bytes>) {
        if self.stopped.is_some() {
            return;
        }
        let Some(known) = self.lanes.get_mut(&lane) else { return };
        let mut findings = Vec::new();
        let ruling = known.settle(&self.rules, &self.marker, last, &mut findings, &mut self.vault);
        self.note(findings);
        match ruling {
            Ruling::Go => {}
            Ruling::Stop(title) => self.stop(&title, out),
            Ruling::TooMuch => self.stop("a part of the answer is too long to be checked", out),
        }
    }

    fn note(&mut self, findings: Vec<Finding>) {
        let room = MAX_FINDINGS.saturating_sub(self.findings.len());
        self.findings.extend(findings.into_iter().take(room));
    }

    /// Ends texts: what still waits of them is decided.
    fn close(&mut self, which: Ended, out: &mut Vec<Bytes>) {
        let mut ended: Vec<u64> = self.open.iter().filter(|(key, _)| which.holds(key)).map(|(_, lane)| *lane).collect();
        ended.sort_unstable();
        self.open.retain(|key, _| !which.holds(key));
        for lane in ended {
            self.settle(lane, true, out);
            if self.lanes.get(&lane).is_some_and(|lane| lane.waiting == 0) {
                self.lanes.remove(&lane);
            }
        }
    }

    fn wait(&mut self, waiting: Waiting, out: &mut Vec<Bytes>) {
        if self.stopped.is_some() {
            return;
        }
        self.queued += waiting.event.raw.len();
        self.queue.push_back(waiting);
        self.release(out);
        if self.queued > MAX_QUEUED_BYTES {
            self.stop("a part of the answer is too long to be checked", out);
        }
    }

    /// Passes on what can be passed on.
    fn release(&mut self, out: &mut Vec<Bytes>) {
        if self.stopped.is_some() {
            return;
        }
        while let Some(first) = self.queue.front() {
            let cleared = first.fragments.iter().all(|fragment| {
                self.lanes.get(&fragment.lane).is_none_or(|lane| fragment.from + fragment.text.len() <= lane.cleared)
            });
            if !cleared {
                return;
            }
            let Some(waiting) = self.queue.pop_front() else { return };
            self.queued -= waiting.event.raw.len();
            self.envelope.begun |= waiting.event.payload().is_some();
            match self.pass(waiting) {
                Some(bytes) => out.push(bytes),
                None => {
                    self.stop("a part of the answer could not be written anew", out);
                    return;
                }
            }
        }
    }

    /// An event as the client gets it.
    fn pass(&mut self, waiting: Waiting) -> Option<Bytes> {
        let mut edits = waiting.edits;
        for fragment in waiting.fragments {
            let Some(lane) = self.lanes.get_mut(&fragment.lane) else { continue };
            if let Some(text) = lane.rewritten(fragment.from, &fragment.text) {
                let text = serde_json::to_string(&String::from_utf8_lossy(&text)).ok()?;
                let inside = text.get(1..text.len() - 1)?;
                edits.push((fragment.range, inside.as_bytes().to_vec()));
            }
            lane.gone(fragment.from + fragment.text.len());
            lane.waiting = lane.waiting.saturating_sub(1);
            if lane.waiting == 0 && !self.open.values().any(|open| *open == fragment.lane) {
                self.lanes.remove(&fragment.lane);
            }
        }
        if edits.is_empty() {
            return Some(waiting.event.raw);
        }
        edits.sort_by_key(|(range, _)| range.start);
        waiting.event.rebuilt(&splice(waiting.event.payload()?, &edits))
    }

    /// Ends the stream with an error.
    fn stop(&mut self, why: &str, out: &mut Vec<Bytes>) {
        if self.stopped.is_some() {
            return;
        }
        out.push(end_of_stream(self.dialect, self.framing, &self.envelope, why));
        self.stopped = Some(why.to_owned());
        self.queue.clear();
        self.lanes.clear();
        self.open.clear();
    }

    /// What came cannot be cut into events.
    fn uncuttable(&mut self, out: &mut Vec<Bytes>) {
        if self.rules.enforce() {
            self.stop("a part of the answer could not be read", out);
            return;
        }
        self.unreadable = self.unreadable.saturating_add(1);
        self.close(Ended::All, out);
        self.release(out);
        out.push(self.cutter.rest());
        self.blind = true;
    }
}

/// A number for a name.
fn named(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// If all of it goes on as it came, in the one piece that it came in.
fn joined(bytes: &Bytes, out: Vec<Bytes>) -> Vec<Bytes> {
    let len: usize = out.iter().map(Bytes::len).sum();
    let mut at = 0;
    let same = out.len() > 1
        && len == bytes.len()
        && out.iter().all(|part| {
            let equal = bytes.get(at..at + part.len()) == Some(part);
            at += part.len();
            equal
        });
    if same { vec![bytes.clone()] } else { out }
}

#[cfg(test)]
mod tests;
