//! Frames of `application/vnd.amazon.eventstream`, in and out, for bytes that nobody vouches for.
//!
//! A frame is: u32 of its whole length, u32 of its headers' length, CRC-32 of these eight bytes, headers, payload, CRC-32 of
//! all before it; numbers are big-endian. Two checksums and no mark between frames: after a wrong byte nobody knows
//! where the next frame begins.
//!
//! *Invariant:* the frames do not depend on where the bytes were split, and after an error there are no more frames.

use bytes::{Bytes, BytesMut};

/// The largest frame that is read or held, in bytes. Bedrock's own pieces are at most 1 MB before base64.
pub const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// The largest block of headers, in bytes; the format's own limit.
pub const MAX_HEADER_BYTES: usize = 128 * 1024;
/// The most headers of one frame.
pub const MAX_HEADERS: usize = 64;
/// The longest value of one header, in bytes; the format's own limit is one more.
pub const MAX_VALUE_BYTES: usize = 32 * 1024 - 1;
/// The media type.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

/// Why bytes are no event stream, or a frame cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A checksum does not fit.
    #[error("a frame of the event stream is damaged: the checksum of its {0} does not fit")]
    Checksum(&'static str),
    /// A length is impossible or passes a limit.
    #[error("a frame of the event stream says that its {what} has {len} bytes, which cannot be or is above the limit")]
    Length {
        /// Of what.
        what: &'static str,
        /// What was said.
        len: usize,
    },
    /// The headers do not read as headers.
    #[error("the headers of a frame of the event stream do not read: {0}")]
    Header(&'static str),
    /// The stream ended within a frame.
    #[error("the event stream ended within a frame")]
    Truncated,
}

/// A header's value: the format has ten types, of which two are `true` and `false`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Types 0 and 1.
    Bool(bool),
    /// Type 2.
    Byte(i8),
    /// Type 3.
    Short(i16),
    /// Type 4.
    Int(i32),
    /// Type 5.
    Long(i64),
    /// Type 6.
    Bytes(Bytes),
    /// Type 7.
    Text(String),
    /// Type 8: milliseconds since the epoch.
    Time(i64),
    /// Type 9.
    Uuid([u8; 16]),
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// The headers in their order; no name stands twice.
    pub headers: Vec<(String, Value)>,
    /// The payload.
    pub payload: Bytes,
}

impl Frame {
    /// A header that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// What the frame is, by its headers `:message-type`, `:event-type`, `:exception-type` and `:error-code`.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        match self.text(":message-type") {
            Some("exception") => Message::Exception(self.text(":exception-type").unwrap_or_default()),
            Some("error") => Message::Error {
                code: self.text(":error-code").unwrap_or_default(),
                message: self.text(":error-message").unwrap_or_default(),
            },
            _ => Message::Event(self.text(":event-type").unwrap_or_default()),
        }
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// [`FrameError`] if a name, a value or the whole is longer than the format or [`MAX_FRAME_BYTES`] allow, or if a name
    /// stands twice.
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        if self.headers.len() > MAX_HEADERS {
            return Err(FrameError::Header("there are too many"));
        }
        for (index, (name, value)) in self.headers.iter().enumerate() {
            if name.is_empty() || name.len() > usize::from(u8::MAX) {
                return Err(FrameError::Header("a name is empty or longer than 255 bytes"));
            }
            if self.headers.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(FrameError::Header("a name stands twice"));
            }
            let len = match value {
                Value::Bytes(bytes) => bytes.len(),
                Value::Text(text) => text.len(),
                _ => 0,
            };
            if len > MAX_VALUE_BYTES {
                return Err(FrameError::Length { what: "header", len });
            }
        }
        let bytes = write(self.headers.iter().map(|(name, value)| (name.as_str(), value)), &self.payload);
        if bytes.len() > MAX_FRAME_BYTES {
            return Err(FrameError::Length { what: "whole", len: bytes.len() });
        }
        Ok(bytes)
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// An event of this type; frames without a type are events without a name.
    Event(&'a str),
    /// A modelled error of this type, its text in the payload. It may come long after HTTP 200.
    Exception(&'a str),
    /// An unmodelled error.
    Error {
        /// Its code.
        code: &'a str,
        /// Its text.
        message: &'a str,
    },
}

/// The frame of an event with a JSON payload, as services send it.
#[must_use]
pub fn event(kind: &str, payload: &[u8]) -> Bytes {
    modelled("event", ":event-type", kind, payload)
}

/// The frame of an exception with a JSON payload, as services send it.
#[must_use]
pub fn exception(kind: &str, payload: &[u8]) -> Bytes {
    modelled("exception", ":exception-type", kind, payload)
}

fn modelled(message: &str, name: &str, kind: &str, payload: &[u8]) -> Bytes {
    let text = |text: &str| Value::Text(text.to_owned());
    let headers =
        [(name, &text(kind)), (":content-type", &text("application/json")), (":message-type", &text(message))];
    write(headers.into_iter(), payload)
}

fn write<'a>(headers: impl Iterator<Item = (&'a str, &'a Value)>, payload: &[u8]) -> Bytes {
    // What is too long for its length field is cut by `as_u32` and its kin only after `Frame::encode` has refused it.
    let mut block = Vec::with_capacity(96);
    for (name, value) in headers {
        block.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        block.extend_from_slice(name.as_bytes());
        write_value(&mut block, value);
    }
    let whole = PRELUDE + block.len() + payload.len() + CHECKSUM;
    let mut out = Vec::with_capacity(whole);
    out.extend_from_slice(&as_u32(whole).to_be_bytes());
    out.extend_from_slice(&as_u32(block.len()).to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&block);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    Bytes::from(out)
}

fn as_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    let mut sized = |kind: u8, bytes: &[u8]| {
        out.push(kind);
        out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Bytes(bytes) => return sized(6, bytes),
        Value::Text(text) => return sized(7, text.as_bytes()),
        _ => {}
    }
    let (kind, bytes): (u8, &[u8]) = match value {
        Value::Bool(true) => (0, &[]),
        Value::Bool(false) => (1, &[]),
        Value::Byte(value) => (2, &value.to_be_bytes()),
        Value::Short(value) => (3, &value.to_be_bytes()),
        Value::Int(value) => (4, &value.to_be_bytes()),
        Value::Long(value) => (5, &value.to_be_bytes()),
        Value::Time(value) => (8, &value.to_be_bytes()),
        Value::Uuid(value) => (9, value),
        Value::Bytes(_) | Value::Text(_) => return,
    };
    out.push(kind);
    out.extend_from_slice(bytes);
}

/// The reader. Give it bytes as they come.
#[derive(Debug)]
pub struct Reader {
    max: usize,
    held: BytesMut,
    failed: Option<FrameError>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::with_limit(MAX_FRAME_BYTES)
    }
}

impl Reader {
    /// A reader that takes frames of at most `max` bytes, and holds at most one of them.
    #[must_use]
    pub fn with_limit(max: usize) -> Self {
        Self { max, held: BytesMut::new(), failed: None }
    }

    /// Takes the next bytes and calls `each` for every frame that they complete.
    ///
    /// # Errors
    /// [`FrameError`], from the first damaged frame on always the same: where the next one begins is not known.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) -> Result<(), FrameError> {
        loop {
            if let Some(error) = self.failed {
                return Err(error);
            }
            let want = if self.held.len() < PRELUDE { PRELUDE } else { self.whole() };
            let missing = want.saturating_sub(self.held.len());
            let (part, rest) = bytes.split_at(missing.min(bytes.len()));
            self.held.extend_from_slice(part);
            bytes = rest;
            if self.held.len() < want {
                return Ok(());
            }
            let step = if want == PRELUDE { self.check_prelude() } else { self.take(want).map(&mut each) };
            if let Err(error) = step {
                self.held = BytesMut::new();
                self.failed = Some(error);
            }
        }
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// What went wrong, or [`FrameError::Truncated`] if the last frame is not whole.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.held.is_empty() => Ok(()),
            None => Err(FrameError::Truncated),
        }
    }

    fn whole(&self) -> usize {
        u32_at(&self.held, 0)
    }

    fn check_prelude(&self) -> Result<(), FrameError> {
        let lengths = self.held.get(..8).unwrap_or_default();
        if u32_at(&self.held, 8) != crc32fast::hash(lengths) as usize {
            return Err(FrameError::Checksum("prelude"));
        }
        let (whole, headers) = (u32_at(&self.held, 0), u32_at(&self.held, 4));
        // The smallest frame is longer than the prelude, so `push` always comes on from here.
        if whole < PRELUDE + CHECKSUM || whole > self.max {
            return Err(FrameError::Length { what: "whole", len: whole });
        }
        if headers > MAX_HEADER_BYTES || headers > whole - PRELUDE - CHECKSUM {
            return Err(FrameError::Length { what: "headers", len: headers });
        }
        Ok(())
    }

    fn take(&mut self, whole: usize) -> Result<Frame, FrameError> {
        let bytes = self.held.split_to(whole.min(self.held.len())).freeze();
        let end = whole - CHECKSUM;
        if u32_at(&bytes, end) != crc32fast::hash(bytes.get(..end).unwrap_or_default()) as usize {
            return Err(FrameError::Checksum("content"));
        }
        let body = PRELUDE + u32_at(&bytes, 4);
        let headers = read_headers(bytes.get(PRELUDE..body).unwrap_or_default())?;
        Ok(Frame { headers, payload: bytes.slice(body.min(end)..end) })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let found = bytes.get(at..at.saturating_add(4)).and_then(|four| <[u8; 4]>::try_from(four).ok());
    found.map_or(0, |four| u32::from_be_bytes(four) as usize)
}

fn read_headers(mut block: &[u8]) -> Result<Vec<(String, Value)>, FrameError> {
    let mut headers: Vec<(String, Value)> = Vec::new();
    while !block.is_empty() {
        if headers.len() == MAX_HEADERS {
            return Err(FrameError::Header("there are too many"));
        }
        let [len] = fixed::<1>(&mut block)?;
        let name = text(some(&mut block, usize::from(len))?)?;
        if name.is_empty() {
            return Err(FrameError::Header("a name is empty"));
        }
        if headers.iter().any(|(earlier, _)| *earlier == name) {
            return Err(FrameError::Header("a name stands twice"));
        }
        let [kind] = fixed::<1>(&mut block)?;
        let value = match kind {
            0 => Value::Bool(true),
            1 => Value::Bool(false),
            2 => Value::Byte(i8::from_be_bytes(fixed(&mut block)?)),
            3 => Value::Short(i16::from_be_bytes(fixed(&mut block)?)),
            4 => Value::Int(i32::from_be_bytes(fixed(&mut block)?)),
            5 => Value::Long(i64::from_be_bytes(fixed(&mut block)?)),
            6 => Value::Bytes(Bytes::copy_from_slice(sized(&mut block)?)),
            7 => Value::Text(text(sized(&mut block)?)?),
            8 => Value::Time(i64::from_be_bytes(fixed(&mut block)?)),
            9 => Value::Uuid(fixed(&mut block)?),
            _ => return Err(FrameError::Header("a value is of no known type")),
        };
        headers.push((name, value));
    }
    Ok(headers)
}

fn some<'a>(block: &mut &'a [u8], len: usize) -> Result<&'a [u8], FrameError> {
    let (taken, rest) = block.split_at_checked(len).ok_or(FrameError::Header("they end within one"))?;
    *block = rest;
    Ok(taken)
}

fn fixed<const N: usize>(block: &mut &[u8]) -> Result<[u8; N], FrameError> {
    some(block, N)?.try_into().map_err(|_| FrameError::Header("they end within one"))
}

fn sized<'a>(block: &mut &'a [u8]) -> Result<&'a [u8], FrameError> {
    let len = usize::from(u16::from_be_bytes(fixed(block)?));
    if len > MAX_VALUE_BYTES {
        return Err(FrameError::Length { what: "header", len });
    }
    some(block, len)
}

fn text(bytes: &[u8]) -> Result<String, FrameError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| FrameError::Header("a text is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = (Vec<Frame>, Result<(), FrameError>);

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Seen {
        let (mut reader, mut frames) = (Reader::with_limit(4_096), Vec::new());
        for chunk in chunks {
            if let Err(error) = reader.push(chunk, |frame| frames.push(frame)) {
                assert_eq!(reader.push(b"more", |_| panic!("a frame after an error")), Err(error));
                return (frames, Err(error));
            }
        }
        (frames, reader.finish())
    }

    #[test]
    fn the_published_vectors() {
        // From the format's own test suite: an empty message, a payload without headers, one header, an integer.
        let empty = [0, 0, 0, 16, 0, 0, 0, 0, 5, 194, 72, 235, 125, 152, 200, 255];
        assert_eq!(read([&empty[..]]), (vec![Frame::default()], Ok(())));
        assert_eq!(&Frame::default().encode().unwrap()[..], empty);
        let mut plain = vec![0, 0, 0, 29, 0, 0, 0, 0, 253, 82, 140, 90];
        plain.extend_from_slice(b"{'foo':'bar'}\xc3\x65\x39\x36");
        let frame = Frame { headers: Vec::new(), payload: Bytes::from_static(b"{'foo':'bar'}") };
        assert_eq!(read([&plain[..]]), (vec![frame.clone()], Ok(())));
        assert_eq!(frame.encode().unwrap(), plain);
    }

    #[test]
    fn events_and_exceptions_are_told_apart() {
        let (frames, end) = read([&event("chunk", b"{}")[..], &exception("throttlingException", b"{}")[..]]);
        assert_eq!(end, Ok(()));
        assert_eq!(frames[0].message(), Message::Event("chunk"));
        assert_eq!(frames[1].message(), Message::Exception("throttlingException"));
        assert_eq!(frames[0].text(":content-type"), Some("application/json"));
        let text = |text: &str| Value::Text(text.to_owned());
        let headers = vec![(":message-type".to_owned(), text("error")), (":error-code".to_owned(), text("500"))];
        let frame = Frame { headers, payload: Bytes::new() };
        assert_eq!(frame.message(), Message::Error { code: "500", message: "" });
    }

    #[test]
    fn a_frame_at_the_limit_is_read_and_above_it_is_not() {
        let of = |len: usize| Frame { headers: Vec::new(), payload: Bytes::from(vec![7; len]) }.encode().unwrap();
        assert_eq!(read([&of(4_080)[..]]).0.len(), 1);
        assert_eq!(read([&of(4_081)[..]]).1, Err(FrameError::Length { what: "whole", len: 4_097 }));
        assert!(Frame { headers: Vec::new(), payload: Bytes::from(vec![0; MAX_FRAME_BYTES]) }.encode().is_err());
        let many = (0..=MAX_HEADERS).map(|n| (n.to_string(), Value::Bool(true))).collect();
        assert!(Frame { headers: many, payload: Bytes::new() }.encode().is_err());
        let long = vec![("a".to_owned(), Value::Bytes(Bytes::from(vec![0; MAX_VALUE_BYTES + 1])))];
        assert!(Frame { headers: long, payload: Bytes::new() }.encode().is_err());
        let twice = vec![("a".to_owned(), Value::Byte(1)), ("a".to_owned(), Value::Byte(2))];
        let raw = write(twice.iter().map(|(name, value)| (name.as_str(), value)), b"");
        assert_eq!(read([&raw[..]]).1, Err(FrameError::Header("a name stands twice")));
        assert!(Frame { headers: twice, payload: Bytes::new() }.encode().is_err());
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_not_whole() {
        let whole = event("chunk", b"{}");
        for len in 1..whole.len() {
            assert_eq!(read([&whole[..len]]), (Vec::new(), Err(FrameError::Truncated)));
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::Byte),
            any::<i16>().prop_map(Value::Short),
            any::<i32>().prop_map(Value::Int),
            any::<i64>().prop_map(Value::Long),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
            ".{0,12}".prop_map(Value::Text),
            any::<i64>().prop_map(Value::Time),
            any::<[u8; 16]>().prop_map(Value::Uuid),
        ]
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let headers = prop::collection::btree_map("[a-z:-]{1,12}", value(), 0..6);
        let payload = prop::collection::vec(any::<u8>(), 0..60);
        (headers, payload)
            .prop_map(|(headers, payload)| Frame { headers: headers.into_iter().collect(), payload: payload.into() })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            frames in prop::collection::vec(frame(), 0..5),
            tail in prop::collection::vec(any::<u8>(), 0..30),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut wire: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().unwrap()).collect();
            prop_assert_eq!(read([&wire[..]]), (frames.clone(), Ok(())));
            wire.extend_from_slice(&tail);
            let whole = read([&wire[..]]);
            prop_assert_eq!(&whole.0[..frames.len()], &frames[..]);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            at.sort_unstable();
            let (mut chunks, mut from) = (Vec::new(), 0);
            for cut in at {
                chunks.push(&wire[from..cut]);
                from = cut;
            }
            chunks.push(&wire[from..]);
            prop_assert_eq!(read(chunks), whole.clone());
            prop_assert_eq!(read(wire.chunks(1)), whole);
        }

        #[test]
        fn a_byte_that_was_changed_is_refused(
            frame in frame(),
            at in any::<prop::sample::Index>(),
            flip in 1..=u8::MAX,
        ) {
            let mut wire = frame.encode().unwrap().to_vec();
            let at = at.index(wire.len());
            wire[at] ^= flip;
            let (frames, end) = read([&wire[..]]);
            prop_assert!(frames.is_empty() && end.is_err());
        }
    }
}
