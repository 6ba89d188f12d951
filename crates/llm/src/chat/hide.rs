//! Takes out of a relayed stream the one chunk that the gateway asked for and the client did not: usage at the end.
//!
//! Every other byte passes as it came, as soon as its event is whole. *Invariant:* what passes does not depend on where the bytes were split,
//! as long as events stay within the limit; of a larger one all bytes pass.

use bytes::{Bytes, BytesMut};
use serde_json::Value;

/// The largest event that is held until it is whole. A chunk of usage has less than one of these.
const MAX_HELD: usize = 64 * 1024;

/// The filter of one stream.
#[derive(Debug, Default)]
pub struct HideUsage {
    held: BytesMut,
}

impl HideUsage {
    /// Takes the next bytes, and gives those that may pass.
    pub fn push(&mut self, bytes: &[u8]) -> Bytes {
        self.held.extend_from_slice(bytes);
        let mut out = BytesMut::new();
        while let Some(end) = end_of_event(&self.held) {
            let event = self.held.split_to(end);
            if !is_usage(&event) {
                out.extend_from_slice(&event);
            }
        }
        if self.held.len() > MAX_HELD {
            out.extend_from_slice(&self.held);
            self.held.clear();
        }
        out.freeze()
    }

    /// What is left: there are no more bytes.
    pub fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }
}

/// Where the first event ends: after its empty line.
fn end_of_event(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    for at in memchr::memchr_iter(b'\n', bytes) {
        if matches!(bytes.get(from..at), Some(b"" | b"\r")) {
            return Some(at + 1);
        }
        from = at + 1;
    }
    None
}

fn is_usage(event: &[u8]) -> bool {
    // Most chunks have a delta: they are not read.
    let has = |word: &[u8]| memchr::memmem::find(event, word).is_some();
    if !has(b"\"usage\"") || has(b"\"delta\"") {
        return false;
    }
    let lines = event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    let Ok(value) = serde_json::from_slice::<Value>(&lines.collect::<Vec<_>>().concat()) else { return false };
    let empty = value.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty);
    empty && value.get("usage").is_some_and(Value::is_object)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::openai::testing::cut;

    const STREAM: &str = ": hello\n\ndata: {\"choices\":[],\"prompt_filter_results\":[]}\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}],\"usage\":null}\n\n\
         data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 1}}\n\ndata: [DONE]\n\nunfinished";

    fn passed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut filter = HideUsage::default();
        let mut out: Vec<u8> = pieces.into_iter().flat_map(|piece| filter.push(piece)).collect();
        out.extend_from_slice(&filter.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_chunk_of_usage_is_taken_out_and_nothing_else() {
        let wanted = STREAM.replace("data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 1}}\n\n", "");
        assert_ne!(wanted, STREAM);
        assert_eq!(passed([STREAM.as_bytes()]), wanted);
    }

    #[test]
    fn an_event_over_the_limit_passes_before_it_is_whole() {
        let mut filter = HideUsage::default();
        let large = [b"data: ".as_slice(), &vec![b'x'; MAX_HELD]].concat();
        assert_eq!(filter.push(&large).len(), large.len());
        assert_eq!(filter.push(b"\n\n").len(), 2);
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_split_makes_no_difference(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
            prop_assert_eq!(passed(cut(STREAM.as_bytes(), &cuts)), passed([STREAM.as_bytes()]));
        }

        #[test]
        fn what_is_no_usage_passes_as_it_came(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut filter = HideUsage::default();
            let mut out = filter.push(&bytes).to_vec();
            out.extend_from_slice(&filter.finish());
            prop_assert_eq!(out, bytes);
        }
    }
}
