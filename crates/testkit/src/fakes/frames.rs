//! How pieces of an answer travel: server-sent events, a JSON array that grows, and AWS's event-stream frames.
//!
//! It owns the framing, well-formed and broken on purpose. It refuses to know what is framed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// A framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events.
    Events,
    /// A JSON array, element after element.
    Array,
    /// AWS's frames with checksums.
    Frames,
}

/// An event with a name, or only its data.
pub(super) fn event(name: Option<&str>, data: &Value) -> Vec<u8> {
    match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n").into_bytes(),
        None => format!("data: {data}\n\n").into_bytes(),
    }
}

/// Elements as a growing array, its brackets in the first and last piece.
pub(super) fn array(elements: &[Value]) -> Vec<Vec<u8>> {
    let last = elements.len().saturating_sub(1);
    let piece = |(at, element): (usize, &Value)| {
        let (before, after) = (if at == 0 { "[" } else { ",\r\n" }, if at == last { "]" } else { "" });
        format!("{before}{element}{after}").into_bytes()
    };
    elements.iter().enumerate().map(piece).collect()
}

/// One frame of an event of this type.
pub(super) fn frame(kind: &str, payload: &Value) -> Vec<u8> {
    raw(
        &[(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")],
        &payload.to_string(),
    )
}

/// One frame with a piece of another dialect in it, as `invoke-with-response-stream` has them.
pub(super) fn chunk(inner: &Value) -> Vec<u8> {
    let payload = serde_json::json!({"bytes": STANDARD.encode(inner.to_string()), "p": "abcdefghijk"});
    frame("chunk", &payload)
}

/// A frame that says that it went wrong.
pub(super) fn exception(kind: &str, text: &str) -> Vec<u8> {
    let payload = serde_json::json!({"message": text}).to_string();
    raw(&[(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")], &payload)
}

fn raw(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut named = Vec::new();
    for (name, value) in headers {
        named.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        named.extend_from_slice(name.as_bytes());
        named.push(7);
        named.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        named.extend_from_slice(value.as_bytes());
    }
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = Vec::new();
    frame.extend_from_slice(&size(16 + named.len() + payload.len()));
    frame.extend_from_slice(&size(named.len()));
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(&named);
    frame.extend_from_slice(payload.as_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame
}

impl Framing {
    /// A piece that nobody can read.
    pub(super) fn malformed(self) -> Vec<u8> {
        match self {
            Self::Events => b"data: {\"type\": \"content_block_delta\", \"cut\n\n".to_vec(),
            Self::Array => b",\r\n{\"candidates\": [}}".to_vec(),
            Self::Frames => {
                let mut frame = frame("chunk", &serde_json::json!({"bytes": "e30="}));
                if let Some(last) = frame.last_mut() {
                    *last ^= 0xff;
                }
                frame
            }
        }
    }

    /// A piece with a line (or whatever stands for a line) of so many bytes, which means nothing.
    pub(super) fn gigantic(self, bytes: usize) -> Vec<u8> {
        match self {
            Self::Events => format!("padding: {}\n\n", "x".repeat(bytes)).into_bytes(),
            Self::Array => " ".repeat(bytes).into_bytes(),
            Self::Frames => frame("padding", &Value::String("x".repeat(bytes))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_lengths_and_checksums() {
        let frame = frame("messageStop", &serde_json::json!({"stopReason": "end_turn"}));
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        assert_eq!(word(0) as usize, frame.len());
        assert_eq!(word(8), crc32fast::hash(&frame[..8]));
        assert_eq!(word(frame.len() - 4), crc32fast::hash(&frame[..frame.len() - 4]));
        let payload = &frame[12 + word(4) as usize..frame.len() - 4];
        assert_eq!(payload, b"{\"stopReason\":\"end_turn\"}");
    }

    #[test]
    fn an_array_is_one_in_the_end() {
        let whole = array(&[1.into(), 2.into(), 3.into()]).concat();
        assert_eq!(serde_json::from_slice::<Vec<u64>>(&whole).unwrap(), [1, 2, 3]);
    }
}
