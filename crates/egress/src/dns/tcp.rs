//! Messages of the DNS in a TCP connection (RFC 1035 §4.2.2, RFC 7766): two bytes of length, then the message.
//!
//! It holds one message at most, and refuses lengths that no question has before it keeps a byte.
//!
//! *Invariant:* the messages do not depend on where the bytes were split, and after an error there are none.

use super::wire::{HEADER_BYTES, MAX_QUERY_BYTES};

/// Why the bytes of a connection are no messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than a header, or longer than [`MAX_QUERY_BYTES`].
    #[error("a question over TCP says that it has {0} bytes; from {HEADER_BYTES} to {MAX_QUERY_BYTES} are read")]
    Length(u16),
}

/// What is read of a connection.
#[derive(Debug, Default)]
pub struct Messages {
    kept: Vec<u8>,
    failed: Option<FrameError>,
}

impl Messages {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes up to the end of one message. Call it until it gives none: then all bytes are taken.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.fill(bytes, 2);
        let &[high, low, ..] = &*self.kept else { return Ok(None) };
        let said = u16::from_be_bytes([high, low]);
        let length = usize::from(said);
        if !(HEADER_BYTES..=MAX_QUERY_BYTES).contains(&length) {
            self.kept = Vec::new();
            return Err(*self.failed.insert(FrameError::Length(said)));
        }
        self.fill(bytes, 2 + length);
        if self.kept.len() < 2 + length {
            return Ok(None);
        }
        let message = self.kept.split_off(2);
        self.kept.clear();
        Ok(Some(message))
    }

    /// Whether the connection may end here: between two messages.
    pub fn is_between(&self) -> bool {
        self.kept.is_empty() && self.failed.is_none()
    }

    fn fill(&mut self, bytes: &mut &[u8], up_to: usize) {
        let wanted = up_to.saturating_sub(self.kept.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
        self.kept.extend_from_slice(taken);
        *bytes = rest;
    }
}

/// A reply with its length in front. None if it is longer than a length can say, which no reply of ours is.
pub fn framed(reply: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(reply.len()).ok()?;
    Some([&length.to_be_bytes(), reply].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(parts: &[&[u8]]) -> (Vec<Vec<u8>>, Option<FrameError>, bool) {
        let (mut messages, mut found) = (Messages::new(), Vec::new());
        for part in parts {
            let mut rest = *part;
            loop {
                match messages.take(&mut rest) {
                    Ok(Some(message)) => found.push(message),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error), false),
                }
            }
            assert!(rest.is_empty());
        }
        (found, None, messages.is_between())
    }

    #[test]
    fn a_length_that_no_question_has_ends_the_connection_before_anything_is_kept() {
        for length in [0, 1, 11, 1_233, u16::MAX] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend([0; 100]);
            assert_eq!(all(&[&bytes]), (vec![], Some(FrameError::Length(length)), false));
        }
        let mut messages = Messages::new();
        assert!(messages.take(&mut [0_u8, 0].as_slice()).is_err());
        assert!(messages.take(&mut [0_u8, 12].as_slice()).is_err());
        assert!(!messages.is_between());
        assert_eq!(framed(&[0; 65_536]), None);
        let limit = vec![7; MAX_QUERY_BYTES];
        assert_eq!(all(&[&framed(&limit).unwrap()]), (vec![limit], None, true));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            said in prop::collection::vec(prop::collection::vec(any::<u8>(), 10..40), 0..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes: Vec<u8> = said.iter().flat_map(|message| framed(message).unwrap()).collect();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let whole = all(&[&bytes]);
            if said.iter().all(|message| message.len() >= HEADER_BYTES) {
                prop_assert_eq!(&whole, &(said, None, true));
            }
            prop_assert_eq!(all(&parts), whole);
        }
    }
}
