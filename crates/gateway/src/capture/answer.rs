//! Answers, stored small.
//!
//! An event stream repeats its envelope with every token, so it is deflated (RFC 1951) before it is sealed: to about a thirtieth.
//! What is stored is `\x89STKDFL` and the version (1), the answer's length (four bytes, big endian) and the deflated bytes; an answer
//! that is short, or that does not become smaller, is stored as it came. One that begins like ours is always wrapped, so nothing that
//! a provider sends is taken for what we wrote. It refuses to inflate to anything but the length that was written down.

use std::borrow::Cow;

use bytes::Bytes;
use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};
use stockade_ledger::MAX_CONTENT_BYTES;

const MAGIC: &[u8; 8] = b"\x89STKDFL\x01";
/// A shorter answer is stored as it came, in bytes.
pub const LEAST: usize = 4 * 1024;
/// From so many bytes on, whoever deflates does it where blocking is allowed.
pub(crate) const LONG: usize = 256 * 1024;
/// One is fastest; more saves hardly anything of an event stream.
const LEVEL: u8 = 1;

/// A content that does not stand for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content is damaged: it does not stand for an answer")]
pub struct AnswerError;

fn looks_ours(bytes: &[u8]) -> bool {
    // Any version: one that is not known is not an answer.
    bytes.starts_with(MAGIC.get(..7).unwrap_or(MAGIC))
}

/// What is to be sealed for an answer.
#[must_use]
pub fn shrink(answer: &[u8]) -> Cow<'_, [u8]> {
    let forced = looks_ours(answer);
    let Ok(len) = u32::try_from(answer.len()) else { return answer.into() };
    if answer.len() < LEAST && !forced {
        return answer.into();
    }
    let deflated = compress_to_vec(answer, LEVEL);
    if deflated.len() > answer.len() / 8 * 7 && !forced {
        return answer.into();
    }
    [MAGIC.as_slice(), &len.to_be_bytes(), &deflated].concat().into()
}

/// The answer that a plain text stands for.
///
/// # Errors
/// [`AnswerError`] if it is damaged.
pub fn restore(plain: Bytes) -> Result<Bytes, AnswerError> {
    if !looks_ours(&plain) {
        return Ok(plain);
    }
    let rest = plain.strip_prefix(MAGIC.as_slice()).ok_or(AnswerError)?;
    let (len, deflated) = rest.split_first_chunk::<4>().ok_or(AnswerError)?;
    let len = u32::from_be_bytes(*len) as usize;
    if len > MAX_CONTENT_BYTES {
        return Err(AnswerError);
    }
    let answer = decompress_to_vec_with_limit(deflated, len).map_err(|_| AnswerError)?;
    if answer.len() == len { Ok(answer.into()) } else { Err(AnswerError) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn there_and_back(answer: &[u8]) -> usize {
        let plain = Bytes::from(shrink(answer).into_owned());
        assert_eq!(restore(plain.clone()).unwrap(), answer);
        plain.len()
    }

    #[test]
    fn an_event_stream_becomes_small() {
        let mut stream = String::new();
        for (i, word) in include_str!("answer.rs").split(' ').enumerate() {
            stream.push_str("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,");
            stream.push_str(&format!("\"delta\":{{\"type\":\"text_delta\",\"text\":{word:?}}},\"n\":{i}}}\n\n"));
        }
        let stored = there_and_back(stream.as_bytes());
        assert!(stored * 10 < stream.len(), "{stored} of {}", stream.len());
    }

    #[test]
    fn what_gains_nothing_is_stored_as_it_came_and_what_looks_like_ours_is_not() {
        assert_eq!(there_and_back(b"short"), 5);
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(10_000)
        .collect();
        assert_eq!(there_and_back(&noise), 10_000);
        assert!(there_and_back(MAGIC) > MAGIC.len());
        assert!(there_and_back(b"\x89STKDFL\x07 from a provider") > 20);
    }

    #[test]
    fn a_wrong_length_is_refused_before_it_is_inflated() {
        let plain = shrink(&[b'a'; 5_000]).into_owned();
        for len in [0_u32, 4_999, 5_001, u32::MAX] {
            let mut wrong = plain.clone();
            wrong[8..12].copy_from_slice(&len.to_be_bytes());
            assert_eq!(restore(wrong.into()), Err(AnswerError), "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_comes_back(parts in prop::collection::vec((0u8..4, 0usize..3_000), 0..8)) {
            let answer: Vec<u8> = parts.into_iter().flat_map(|(byte, len)| vec![b'a' + byte; len]).collect();
            there_and_back(&answer);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            bytes.splice(0..0, *MAGIC);
            let _ = restore(bytes.into());
        }
    }
}
