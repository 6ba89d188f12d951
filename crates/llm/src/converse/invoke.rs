//! How Bedrock (and Vertex) carry bodies of the Messages API.
//!
//! The body has no `model`, which stands in the path, and says its version and, at Bedrock, its beta flags; a stream is frames
//! of the type `chunk` with one event in base64 each. Bodies are changed by cutting and inserting: *every byte that is not
//! named here goes on as it came*. Events are taken out of their frames and put into others unread.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, json};

use super::{
    error::{exception, read_exception},
    refused::{self, Upstream},
};
use crate::{
    Splice,
    anthropic::{ErrorKind, error_body, read_error},
    eventstream::{self, FrameError, Message, Reader},
    neutral::{ApiFault, FaultKind},
    spliced, sse,
};

/// What a body at Bedrock says as `anthropic_version`.
pub const BEDROCK_VERSION: &str = "bedrock-2023-05-31";
/// What a body at Vertex says as `anthropic_version`.
pub const VERTEX_VERSION: &str = "vertex-2023-10-16";
/// What the API itself calls its version.
const VERSION: &str = "2023-06-01";

/// A body for another carrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The body.
    pub body: Bytes,
    /// Flags for the header `anthropic-beta`, where they stand there.
    pub flags: Vec<String>,
    /// What was left out, with the reason.
    pub refused: Vec<(String, &'static str)>,
}

/// A body is no JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request does not read as one of the Messages API: expected a JSON object")]
pub struct NoObject;

/// A Messages body as `upstream` takes it. `flags` are those of the header `anthropic-beta`.
///
/// # Errors
/// If the body is no JSON object.
pub fn carry<'a>(
    body: &Bytes,
    flags: impl IntoIterator<Item = &'a str>,
    upstream: Upstream,
) -> Result<Carried, NoObject> {
    let top = Top::read(body)?;
    let wanted = flags.into_iter().map(str::to_owned).chain(top.flags());
    let wanted: Vec<String> = wanted.collect();
    let (mut flags, mut refused) = refused::flags(upstream, wanted.iter().map(String::as_str));
    let bedrock = matches!(upstream, Upstream::Invoke | Upstream::Converse);
    let cuts: &[&str] = match upstream {
        Upstream::Invoke | Upstream::Converse => &["model", "stream", "anthropic_version", "anthropic_beta"],
        Upstream::Vertex => &["model", "anthropic_version", "anthropic_beta"],
        Upstream::Foundry => &[],
    };
    let mut cuts: Vec<String> = cuts.iter().map(|key| (*key).to_owned()).collect();
    let fields: Vec<_> = refused::fields(upstream, &flags).collect();
    cuts.extend(fields.iter().map(|field| field.path.to_owned()));
    let cut = Cut::of(body, &cuts)?;
    for field in fields.iter().filter(|field| cut.met.iter().any(|path| path == field.path)) {
        refused.push((field.path.to_owned(), field.reason));
        // It must be true that the client wanted it, which only its value says.
        let asked = field.path.rsplit(['.', ']']).next().is_some_and(|key| says_true(body, key));
        if let Some(instead) = field.instead.filter(|flag| asked && !flags.iter().any(|known| known == flag)) {
            flags.push(instead.to_owned());
        }
    }
    let version = if bedrock { BEDROCK_VERSION } else { VERTEX_VERSION };
    let mut head = format!("\"anthropic_version\":{}", json!(version));
    if bedrock && !flags.is_empty() {
        head.push_str(&format!(",\"anthropic_beta\":{}", json!(flags)));
    }
    if upstream == Upstream::Foundry {
        head.clear();
    }
    let body = cut.apply(body, &head);
    Ok(Carried { body, flags: if bedrock { Vec::new() } else { flags }, refused })
}

/// A body that came over another carrier, as the API itself takes it: with the model, and with `stream` if it is one. Its flags
/// belong into the header `anthropic-beta`.
///
/// # Errors
/// If the body is no JSON object.
pub fn uncarry(body: &Bytes, model: &str, stream: bool) -> Result<Carried, NoObject> {
    let top = Top::read(body)?;
    let cuts = ["model", "stream", "anthropic_version", "anthropic_beta"].map(str::to_owned);
    let mut head = format!("\"model\":{}", json!(model));
    if stream {
        head.push_str(",\"stream\":true");
    }
    let body = Cut::of(body, &cuts)?.apply(body, &head);
    Ok(Carried { body, flags: top.flags(), refused: Vec::new() })
}

/// The version for the header `anthropic-version`.
#[must_use]
pub const fn version() -> &'static str {
    VERSION
}

/// The flags that an object says in its body. A member that stands twice counts twice: no reader agrees with another on which it is.
struct Top {
    flags: Vec<String>,
}

impl Top {
    fn read(body: &[u8]) -> Result<Self, NoObject> {
        serde_json::from_slice(body).map_err(|_| NoObject)
    }

    fn flags(&self) -> Vec<String> {
        self.flags.clone()
    }
}

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Top;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top, A::Error> {
                let mut flags = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "anthropic_beta" {
                        let listed = map.next_value::<Value>()?;
                        let texts = listed.as_array().into_iter().flatten().filter_map(Value::as_str);
                        flags.extend(texts.map(str::to_owned));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Top { flags })
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Whether `"key": true` stands somewhere.
fn says_true(body: &[u8], key: &str) -> bool {
    let quoted = format!("\"{key}\"");
    memchr::memmem::find_iter(body, quoted.as_bytes()).any(|at| {
        let rest = body.get(at + quoted.len()..).unwrap_or_default().trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"true"))
    })
}

/// Finds members of objects by their paths, in bytes that are known to be JSON.
struct Cut<'a> {
    bytes: &'a [u8],
    at: usize,
    wanted: &'a [String],
    splices: Vec<Splice>,
    met: Vec<String>,
    /// Where members may be inserted at the top, and whether any follows there.
    top: (usize, bool),
}

/// Where a member stands: its key's first byte, and the first after its value.
struct Member {
    from: usize,
    to: usize,
    cut: bool,
}

impl<'a> Cut<'a> {
    fn of(bytes: &'a [u8], wanted: &'a [String]) -> Result<Self, NoObject> {
        let mut cut = Self { bytes, at: 0, wanted, splices: Vec::new(), met: Vec::new(), top: (0, false) };
        cut.space();
        cut.object("").ok_or(NoObject)?;
        Ok(cut)
    }

    fn apply(mut self, body: &Bytes, head: &str) -> Bytes {
        if !head.is_empty() {
            let (at, more) = self.top;
            let with = Bytes::from(if more { format!("{head},") } else { head.to_owned() });
            // A cut that begins here takes the place of what it cuts, so that nothing stands twice at one position.
            match self.splices.iter_mut().find(|splice| splice.at.start == at) {
                Some(splice) => splice.with = with,
                None => self.splices.push(Splice { at: at..at, with }),
            }
        }
        spliced(body, self.splices)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// Passes over an object, and notes what is to be cut of it. The depth is that of the longest wanted path.
    fn object(&mut self, path: &str) -> Option<()> {
        self.take(b'{')?;
        self.space();
        let begin = self.at;
        let mut members = Vec::new();
        while self.peek()? != b'}' {
            let from = self.at;
            self.string()?;
            let key: Cow<'_, str> = serde_json::from_slice(self.bytes.get(from..self.at)?).ok()?;
            let here = if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") };
            self.take(b':')?;
            self.space();
            let cut = self.wanted.contains(&here);
            if cut {
                self.skip()?;
                self.met.push(here);
            } else {
                self.value(&here)?;
            }
            members.push(Member { from, to: self.at, cut });
            self.space();
            if self.peek()? == b',' {
                self.at += 1;
                self.space();
            }
        }
        self.at += 1;
        if path.is_empty() {
            self.top = (begin, members.iter().any(|member| !member.cut));
        }
        self.cut_members(&members);
        Some(())
    }

    fn cut_members(&mut self, members: &[Member]) {
        let with = Bytes::new;
        // What is cut before something that stays goes with the comma behind it; at the end, with the comma before it.
        let last_kept = members.iter().rposition(|member| !member.cut);
        let mut index = 0;
        while let Some(member) = members.get(index) {
            index += 1;
            if !member.cut {
                continue;
            }
            let mut end = index;
            while members.get(end).is_some_and(|next| next.cut) {
                end += 1;
            }
            let at = match (members.get(end), last_kept) {
                (Some(next), _) => member.from..next.from,
                (None, Some(kept)) => members.get(kept).map_or(member.from, |kept| kept.to)..last_end(members),
                (None, None) => member.from..last_end(members),
            };
            self.splices.push(Splice { at, with: with() });
            index = end;
        }
    }

    fn value(&mut self, path: &str) -> Option<()> {
        let within = |suffix: &str| {
            let prefix = format!("{path}{suffix}");
            self.wanted.iter().any(|wanted| wanted.starts_with(&prefix))
        };
        match self.peek()? {
            b'{' if within(".") => self.object(path),
            b'[' if within("[]") => {
                self.at += 1;
                self.space();
                let element = format!("{path}[]");
                while self.peek()? != b']' {
                    self.value(&element)?;
                    self.space();
                    if self.peek()? == b',' {
                        self.at += 1;
                        self.space();
                    }
                }
                self.at += 1;
                Some(())
            }
            _ => self.skip(),
        }
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let rest = self.bytes.get(self.at..)?;
            let next = memchr::memchr2(b'"', b'\\', rest)?;
            self.at += next + 1;
            if rest.get(next) == Some(&b'"') {
                return Some(());
            }
            self.at += 1;
        }
    }

    /// Passes over a value of any depth.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' => self.at += 1,
                byte if byte.is_ascii_whitespace() => self.at += 1,
                _ => {
                    while self.peek().is_some_and(|byte| !b",]}: \t\r\n".contains(&byte)) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

fn last_end(members: &[Member]) -> usize {
    members.last().map_or(0, |member| member.to)
}

/// The type of an event, and nothing else of it.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

fn typed(event: &[u8]) -> Option<Cow<'_, str>> {
    serde_json::from_slice::<Typed<'_>>(event).ok().map(|typed| typed.kind)
}

/// Takes the events of a stream at Bedrock out of their frames and writes them as server-sent events, unread.
#[derive(Debug, Default)]
pub struct ToEvents {
    reader: Reader,
    done: bool,
}

impl ToEvents {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// If a frame is damaged. What was whole before it is in `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut BytesMut) -> Result<(), FrameError> {
        let done = &mut self.done;
        self.reader.push(bytes, |frame| {
            if *done {
                return;
            }
            let fault = match frame.message() {
                Message::Event("chunk") => match chunk(&frame.payload) {
                    Some(event) => {
                        write_event(&event, out);
                        *done = typed(&event).is_some_and(|kind| matches!(kind.as_ref(), "message_stop" | "error"));
                        return;
                    }
                    None => ApiFault::new(FaultKind::Api, "an event of the provider does not read"),
                },
                Message::Event(_) => return,
                Message::Exception(name) => read_exception(name, &frame.payload),
                Message::Error { code, message } => {
                    read_exception(code, json!({ "message": message }).to_string().as_bytes())
                }
            };
            *done = true;
            write_event(&crate::anthropic::error_of(&fault), out);
        })
    }

    /// The upstream broke off: the client is told as the API would tell it.
    pub fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.done, true) {
            write_event(&crate::anthropic::error_of(fault), out);
        }
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// If the last frame was not whole.
    pub fn finish(&self) -> Result<(), FrameError> {
        self.reader.finish()
    }
}

fn chunk(payload: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow)]
        bytes: Cow<'a, str>,
    }
    let chunk: Chunk<'_> = serde_json::from_slice(payload).ok()?;
    STANDARD.decode(chunk.bytes.as_bytes()).ok()
}

fn write_event(event: &[u8], out: &mut BytesMut) {
    if let Some(kind) = typed(event).filter(|kind| !kind.contains(['\r', '\n'])) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\n");
    }
    // Line ends between the tokens of an event end a line here too.
    for line in event.split(|byte| matches!(byte, b'\r' | b'\n')).filter(|line| !line.is_empty()) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.extend_from_slice(b"\n");
    }
    out.extend_from_slice(b"\n");
}

/// Puts server-sent events of the Messages API into Bedrock's frames. The last one is told what was used.
#[derive(Debug, Default)]
pub struct ToFrames {
    reader: sse::Reader,
    counts: [u64; 4],
    done: bool,
}

/// The counts of `amazon-bedrock-invocationMetrics` by their names in a usage.
const COUNTS: [(&str, &str); 4] = [
    ("input_tokens", "inputTokenCount"),
    ("output_tokens", "outputTokenCount"),
    ("cache_read_input_tokens", "cacheReadInputTokenCount"),
    ("cache_creation_input_tokens", "cacheWriteInputTokenCount"),
];

impl ToFrames {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], out: &mut BytesMut) {
        // Line by line, so that nothing is written that came after an event that was lost.
        for line in bytes.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
            self.line(line, out);
            if self.reader.oversized() > 0 {
                // Too large to be held: what follows without it would look whole.
                self.broken(&ApiFault::new(FaultKind::Api, "an event of the provider is too large"), out);
            }
        }
    }

    fn line(&mut self, bytes: &[u8], out: &mut BytesMut) {
        let Self { reader, counts, done } = self;
        reader.push(bytes, |event| {
            if *done {
                return;
            }
            match typed(event.data).as_deref() {
                Some("error") => {
                    *done = true;
                    let fault = read_error(200, event.data);
                    write_exception(&fault, out);
                }
                Some("message_start" | "message_delta") => {
                    count(event.data, counts);
                    write_chunk(event.data, out);
                }
                Some("message_stop") => {
                    *done = true;
                    write_chunk(&with_metrics(event.data, counts), out);
                }
                _ => write_chunk(event.data, out),
            }
        });
    }

    /// The upstream broke off: the client is told as Bedrock would tell it.
    pub fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.done, true) {
            write_exception(fault, out);
        }
    }
}

fn write_exception(fault: &ApiFault, out: &mut BytesMut) {
    let payload = json!({"message": fault.message}).to_string();
    out.extend_from_slice(&eventstream::exception(exception(fault.kind), payload.as_bytes()));
}

fn write_chunk(event: &[u8], out: &mut BytesMut) {
    let payload = format!("{{\"bytes\":\"{}\"}}", STANDARD.encode(event));
    out.extend_from_slice(&eventstream::event("chunk", payload.as_bytes()));
}

/// Usage is cumulative: the last value of each count holds.
fn count(event: &[u8], counts: &mut [u64; 4]) {
    let event = serde_json::from_slice::<Value>(event).unwrap_or_default();
    let usage = event.get("usage").or_else(|| event.pointer("/message/usage"));
    for (slot, (name, _)) in counts.iter_mut().zip(COUNTS) {
        *slot = usage.and_then(|usage| usage.get(name)).and_then(Value::as_u64).unwrap_or(*slot);
    }
}

fn with_metrics(event: &[u8], counts: &[u64; 4]) -> Vec<u8> {
    let metrics: serde_json::Map<String, Value> =
        COUNTS.iter().zip(counts).map(|((_, name), count)| ((*name).to_owned(), json!(count))).collect();
    let end = event.iter().rposition(|byte| *byte == b'}').unwrap_or(event.len());
    let (before, after) = event.split_at(end);
    let mut out = before.to_vec();
    out.extend_from_slice(format!(",\"amazon-bedrock-invocationMetrics\":{}", Value::Object(metrics)).as_bytes());
    out.extend_from_slice(after);
    out
}

/// The body of a Messages error, for a client of that API, from one that Bedrock sent.
#[must_use]
pub fn error_for_messages(status: u16, body: &[u8]) -> Bytes {
    let fault = super::read_error(status, body);
    match fault.kind {
        FaultKind::Overloaded => error_body(ErrorKind::Overloaded, &fault.message),
        _ => crate::anthropic::error_of(&fault),
    }
}
