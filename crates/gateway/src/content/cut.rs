//! Streams cut into their events, so that each can be passed on as it came or with other content.
//!
//! *Invariant:* the events, put behind each other, are the bytes that came; and where those were split makes no difference.

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use stockade_llm::{
    Framing,
    eventstream::{self, Frame},
};

/// The largest event that is held, in bytes.
pub const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug)]
pub struct Event {
    /// As it came.
    pub raw: Bytes,
    payload: Payload,
}

#[derive(Debug)]
enum Payload {
    /// A comment, a keep-alive, what stands between the elements of an array.
    None,
    /// A part of the bytes.
    At(Range<usize>),
    /// More than one line of data: the lines' places in the bytes, and what they say together.
    Lines(Vec<Range<usize>>, Vec<u8>),
    /// A frame of Amazon's, and what was in base64 in it, if it was.
    Frame(Box<Frame>, Option<Vec<u8>>),
}

impl Event {
    /// What it says; nothing if it says nothing.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        match &self.payload {
            Payload::None => None,
            Payload::At(range) => self.raw.get(range.clone()),
            Payload::Lines(_, joined) => Some(joined),
            Payload::Frame(_, Some(inner)) => Some(inner),
            Payload::Frame(frame, None) => Some(&frame.payload),
        }
    }

    /// The type that a frame says that it has.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        match &self.payload {
            Payload::Frame(frame, None) => frame.text(":event-type").or_else(|| frame.text(":exception-type")),
            _ => None,
        }
    }

    /// The same event with other content. Nothing if it would be too long for its frame.
    #[must_use]
    pub fn rebuilt(&self, content: &[u8]) -> Option<Bytes> {
        let around = |range: &Range<usize>, content: &[u8]| {
            let mut out = Vec::with_capacity(self.raw.len() + content.len());
            out.extend_from_slice(self.raw.get(..range.start).unwrap_or_default());
            out.extend_from_slice(content);
            out.extend_from_slice(self.raw.get(range.end..).unwrap_or_default());
            Bytes::from(out)
        };
        match &self.payload {
            Payload::None => Some(self.raw.clone()),
            Payload::At(range) => Some(around(range, content)),
            Payload::Lines(lines, _) => {
                // The lines' ends were white space between values: they go where the content has them.
                let whole = lines.first()?.start..lines.last()?.end;
                let lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').collect();
                Some(around(&whole, &lines.join(&b"\ndata: "[..])))
            }
            Payload::Frame(frame, inner) => {
                let mut frame = (**frame).clone();
                frame.payload = match inner {
                    None => Bytes::copy_from_slice(content),
                    Some(_) => {
                        let mut value: serde_json::Map<String, serde_json::Value> =
                            serde_json::from_slice(&frame.payload).ok()?;
                        value.insert("bytes".to_owned(), STANDARD.encode(content).into());
                        Bytes::from(serde_json::to_vec(&value).ok()?)
                    }
                };
                frame.encode().ok()
            }
        }
    }
}

/// Why a stream cannot be cut any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncuttable;

/// What cuts.
#[derive(Debug)]
pub enum Cutter {
    /// Server-sent events.
    Events(Events),
    /// Frames; true if events are in base64 in them; what came of the next one.
    Frames(eventstream::Reader, bool, BytesMut),
    /// The elements of an array.
    Array(Array),
    /// One body.
    Whole(BytesMut),
}

impl Cutter {
    /// For a framing. `wrapped` if frames carry events of another dialect in base64 (Bedrock's `invoke`).
    #[must_use]
    pub fn new(framing: Framing, wrapped: bool) -> Self {
        match framing {
            Framing::Whole => Self::Whole(BytesMut::new()),
            Framing::Events => Self::Events(Events::default()),
            Framing::Array => Self::Array(Array::default()),
            Framing::Frames => Self::Frames(eventstream::Reader::default(), wrapped, BytesMut::new()),
        }
    }

    /// Takes the next bytes, and gives the events that they complete.
    ///
    /// # Errors
    /// If an event is too large or a frame is damaged. There are no more events then.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Uncuttable> {
        match self {
            Self::Whole(held) => {
                held.extend_from_slice(bytes);
                if held.len() > super::MAX_WHOLE_BYTES { Err(Uncuttable) } else { Ok(()) }
            }
            Self::Events(cutter) => cutter.push(bytes, events),
            Self::Array(cutter) => cutter.push(bytes, events),
            Self::Frames(reader, wrapped, tail) => {
                tail.extend_from_slice(bytes);
                let mut damaged = false;
                let read = reader.push(bytes, |frame| match frame.encode() {
                    Ok(raw) if !damaged && tail.starts_with(&raw) => {
                        events.push(Event {
                            raw: tail.split_to(raw.len()).freeze(),
                            payload: unwrapped(frame, *wrapped),
                        });
                    }
                    // One that would be written otherwise than it came is none that we know.
                    _ => damaged = true,
                });
                if read.is_err() || damaged { Err(Uncuttable) } else { Ok(()) }
            }
        }
    }

    /// The end of the stream: what is left of it.
    ///
    /// # Errors
    /// If it ended within a frame.
    pub fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Uncuttable> {
        match self {
            Self::Whole(held) => {
                let raw = std::mem::take(held).freeze();
                events.push(Event { payload: Payload::At(0..raw.len()), raw });
                Ok(())
            }
            Self::Events(cutter) => {
                cutter.finish(events);
                Ok(())
            }
            Self::Array(cutter) => {
                cutter.finish(events);
                Ok(())
            }
            Self::Frames(reader, ..) => reader.finish().map_err(|_| Uncuttable),
        }
    }

    /// What was taken and is not part of an event yet, for whoever gives up cutting.
    #[must_use]
    pub fn rest(&mut self) -> Bytes {
        match self {
            Self::Whole(held) => std::mem::take(held).freeze(),
            Self::Events(cutter) => std::mem::take(&mut cutter.held).freeze(),
            Self::Array(cutter) => std::mem::take(&mut cutter.held).freeze(),
            Self::Frames(_, _, tail) => std::mem::take(tail).freeze(),
        }
    }
}

/// What is in a frame of `invoke`: an event in base64, beside padding.
fn unwrapped(frame: Frame, wrapped: bool) -> Payload {
    #[derive(serde::Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow)]
        bytes: std::borrow::Cow<'a, str>,
    }
    let inner = if wrapped && frame.text(":event-type") == Some("chunk") {
        let chunk: Option<Chunk<'_>> = serde_json::from_slice(&frame.payload).ok();
        chunk.and_then(|chunk| STANDARD.decode(chunk.bytes.as_bytes()).ok())
    } else {
        None
    };
    Payload::Frame(Box::new(frame), inner)
}

/// Cuts server-sent events at their empty lines.
#[derive(Debug, Default)]
pub struct Events {
    held: BytesMut,
    /// Looked at up to here.
    at: usize,
    /// Where the line begins that is being looked at.
    line: usize,
    data: Vec<Range<usize>>,
    after_cr: bool,
    begun: bool,
}

impl Events {
    fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Uncuttable> {
        self.held.extend_from_slice(bytes);
        loop {
            if self.after_cr {
                match self.held.get(self.at) {
                    None => break,
                    Some(b'\n') => {
                        self.at += 1;
                        self.line = self.at;
                    }
                    Some(_) => {}
                }
                self.after_cr = false;
            }
            let rest = self.held.get(self.at..).unwrap_or_default();
            let Some(found) = memchr2(b'\r', b'\n', rest) else {
                self.at = self.held.len();
                break;
            };
            let end = self.at + found;
            let cr = self.held.get(end) == Some(&b'\r');
            if end > self.line {
                self.field(end);
                self.at = end + 1;
                self.line = self.at;
                self.after_cr = cr;
                continue;
            }
            let mut stop = end + 1;
            if cr {
                // A line feed may belong to it.
                match self.held.get(stop) {
                    None => {
                        self.at = end;
                        break;
                    }
                    Some(b'\n') => stop += 1,
                    Some(_) => {}
                }
            }
            self.cut(stop, events);
        }
        if self.held.len() > MAX_EVENT_BYTES { Err(Uncuttable) } else { Ok(()) }
    }

    fn field(&mut self, end: usize) {
        let mut from = self.line;
        let mut line = self.held.get(from..end).unwrap_or_default();
        if !std::mem::replace(&mut self.begun, true) && line.starts_with(b"\xEF\xBB\xBF") {
            from += 3;
            line = line.get(3..).unwrap_or_default();
        }
        if line == b"data" {
            self.data.push(end..end);
        } else if line.starts_with(b"data:") {
            let from = from + 5 + usize::from(line.get(5) == Some(&b' '));
            self.data.push(from..end);
        }
    }

    fn cut(&mut self, stop: usize, events: &mut Vec<Event>) {
        let raw = self.held.split_to(stop.min(self.held.len())).freeze();
        let mut data = std::mem::take(&mut self.data);
        self.begun = true;
        (self.at, self.line) = (0, 0);
        let payload = match data.len() {
            0 => Payload::None,
            1 => data.pop().map_or(Payload::None, Payload::At),
            _ => {
                let lines: Vec<&[u8]> = data.iter().map(|range| raw.get(range.clone()).unwrap_or_default()).collect();
                let joined = lines.join(&b'\n');
                Payload::Lines(data, joined)
            }
        };
        events.push(Event { raw, payload });
    }

    fn finish(&mut self, events: &mut Vec<Event>) {
        let end = self.held.len();
        if end == 0 {
            return;
        }
        if end > self.line {
            let end = if self.held.ends_with(b"\r") { end - 1 } else { end };
            if end > self.line {
                self.field(end);
            }
        }
        self.cut(self.held.len(), events);
    }
}

/// Cuts a JSON array at the ends of its elements.
#[derive(Debug, Default)]
pub struct Array {
    held: BytesMut,
    at: usize,
    depth: usize,
    begin: Option<usize>,
    in_string: bool,
    escaped: bool,
}

impl Array {
    fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Uncuttable> {
        self.held.extend_from_slice(bytes);
        while let Some(byte) = self.held.get(self.at).copied() {
            self.at += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    // The first bracket is the array's own.
                    if self.depth == 1 {
                        self.begin = Some(self.at - 1);
                    }
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 1
                        && let Some(begin) = self.begin.take()
                    {
                        let raw = self.held.split_to(self.at).freeze();
                        events.push(Event { payload: Payload::At(begin..raw.len()), raw });
                        self.at = 0;
                    }
                }
                _ => {}
            }
        }
        if self.held.len() > MAX_EVENT_BYTES { Err(Uncuttable) } else { Ok(()) }
    }

    fn finish(&mut self, events: &mut Vec<Event>) {
        let raw = std::mem::take(&mut self.held).freeze();
        if raw.is_empty() {
            return;
        }
        // What is no array, or breaks off, is looked at as a whole.
        let end = raw.iter().all(|byte| byte.is_ascii_whitespace() || matches!(byte, b']' | b'[' | b','));
        let payload = if end { Payload::None } else { Payload::At(0..raw.len()) };
        events.push(Event { raw, payload });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(framing: Framing, chunks: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut cutter = Cutter::new(framing, false);
        let mut events = Vec::new();
        for chunk in chunks {
            cutter.push(chunk, &mut events).unwrap();
        }
        cutter.finish(&mut events).unwrap();
        let bytes = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        (bytes, events.iter().filter_map(|event| event.payload().map(<[u8]>::to_vec)).collect())
    }

    #[test]
    fn events_and_elements() {
        let said = |framing, text: &str| {
            let (bytes, said) = cut(framing, &[text.as_bytes()]);
            assert_eq!(bytes, text.as_bytes());
            said.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(said(Framing::Events, "event: a\ndata: 1\n\n: ping\n\ndata:2\r\n\r\ndata: 3"), ["1", "2", "3"]);
        assert_eq!(said(Framing::Events, "data: a\ndata: b\n\n"), ["a\nb"]);
        assert_eq!(said(Framing::Events, "\u{feff}data: x\n\n"), ["x"]);
        assert_eq!(
            said(Framing::Array, "[{\"a\":\"]}\\\"\"},\r\n{\"b\":[1]}\n]"),
            ["{\"a\":\"]}\\\"\"}", "{\"b\":[1]}"]
        );
        assert_eq!(said(Framing::Whole, "{}"), ["{}"]);
    }

    #[test]
    fn rebuilding_changes_the_content_only() {
        let mut cutter = Cutter::new(Framing::Events, false);
        let mut events = Vec::new();
        cutter.push(b"id: 1\ndata: a\ndata: b\nretry: 2\n\nevent: x\ndata: {}\n\n", &mut events).unwrap();
        let rebuilt = |n: usize, content: &str| events[n].rebuilt(content.as_bytes()).unwrap();
        assert_eq!(rebuilt(0, "c\nd"), "id: 1\ndata: c\ndata: d\nretry: 2\n\n");
        assert_eq!(rebuilt(0, "c"), "id: 1\ndata: c\nretry: 2\n\n");
        assert_eq!(rebuilt(1, "{1}"), "event: x\ndata: {1}\n\n");
    }

    #[test]
    fn frames_come_back_as_they_were() {
        let chunk = serde_json::json!({ "bytes": STANDARD.encode("{\"a\":1}"), "p": "abc" }).to_string();
        let frame = eventstream::event("chunk", chunk.as_bytes());
        let mut cutter = Cutter::new(Framing::Frames, true);
        let mut events = Vec::new();
        cutter.push(&frame, &mut events).unwrap();
        assert_eq!(events[0].raw, frame);
        assert_eq!(events[0].payload(), Some(&b"{\"a\":1}"[..]));
        let rebuilt = events[0].rebuilt(b"{\"a\":1}").unwrap();
        let mut again = Vec::new();
        Cutter::new(Framing::Frames, true).push(&rebuilt, &mut again).unwrap();
        assert_eq!(again[0].payload(), events[0].payload());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_splits_do_not_matter(
            pieces in prop::collection::vec(prop_oneof![
                Just("data: {\"a\":1}"), Just("\n"), Just("\r"), Just("\r\n"), Just("event: x"), Just(": c"), Just("data"), Just("\n\n"),
                Just("[{\"a\":"), Just("\"x\\\"}\""), Just("}"), Just("]"), Just(","),
            ], 0..30),
            size in 1_usize..9,
        ) {
            let text = pieces.concat();
            for framing in [Framing::Events, Framing::Array, Framing::Whole] {
                let whole = cut(framing, &[text.as_bytes()]);
                prop_assert_eq!(&whole.0, text.as_bytes());
                let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                prop_assert_eq!(cut(framing, &chunks), whole);
            }
        }
    }
}
