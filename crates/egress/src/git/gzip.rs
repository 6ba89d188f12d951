//! Bodies of requests that git packs with gzip (RFC 1952), unpacked within bounds.
//!
//! *Invariant:* what is unpacked does not depend on how the bytes were split, and what was unpacked is what goes on to the
//! server: nobody reads the packed form a second time. It refuses what has two readings: more than one member, bytes behind the
//! end, names and comments in the head, a sum or a length that does not fit; and what unpacks to more than its bounds.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// How many times as long as what came the unpacked bytes may be, after the first [`FREE_BYTES`].
pub const MAX_RATIO: u64 = 200;
/// Unpacked bytes for which the ratio is not asked.
pub const FREE_BYTES: u64 = 1 << 20;
const HEAD: usize = 10;
const TAIL: usize = 8;

/// Why a packed body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GzipError {
    /// The head is not the plain one that git writes.
    #[error("the body does not begin as gzip does, or its head has more than git writes")]
    Head,
    /// The packed bytes are damaged.
    #[error("the packed body does not inflate")]
    Damaged,
    /// Sum or length do not fit.
    #[error("the packed body's sum or length does not fit its bytes")]
    Sum,
    /// Something follows.
    #[error("something follows the packed body")]
    After,
    /// It ended too early.
    #[error("the packed body ended too early")]
    Truncated,
    /// It unpacks to far more than it is.
    #[error("the body unpacks to more than {MAX_RATIO} times its length, as only a bomb does")]
    Bomb,
}

/// Unpacks a body that arrives in pieces.
pub struct Gunzip {
    state: Box<InflateState>,
    stage: Stage,
    /// Bytes of the head or of the tail that came.
    held: Vec<u8>,
    sum: crc32fast::Hasher,
    came: u64,
    made: u64,
    room: Vec<u8>,
    failed: Option<GzipError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    Tail,
    Done,
}

impl std::fmt::Debug for Gunzip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gunzip").field("stage", &self.stage).field("made", &self.made).finish_non_exhaustive()
    }
}

impl Default for Gunzip {
    fn default() -> Self {
        Self::new()
    }
}

impl Gunzip {
    /// At the beginning of a body.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: InflateState::new_boxed(DataFormat::Raw),
            stage: Stage::Head,
            held: Vec::new(),
            sum: crc32fast::Hasher::new(),
            came: 0,
            made: 0,
            room: vec![0; 64 << 10],
            failed: None,
        }
    }

    /// Takes the next bytes and gives what they unpack to, piece by piece.
    ///
    /// # Errors
    /// When the body must be refused, then always; or what `each` fails with.
    pub fn push<E: From<GzipError>>(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        self.came = self.came.saturating_add(bytes.len() as u64);
        let mut rest = bytes;
        loop {
            match self.step(&mut rest) {
                Ok(Some(made)) => each(self.room.get(..made).unwrap_or_default())?,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.failed = Some(error);
                    return Err(error.into());
                }
            }
        }
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// When the body is not whole.
    pub fn finish(&self) -> Result<(), GzipError> {
        match (self.failed, self.stage) {
            (Some(error), _) => Err(error),
            (None, Stage::Done) => Ok(()),
            _ => Err(GzipError::Truncated),
        }
    }

    /// How many bytes it made of what it was given. `None` when more are needed.
    fn step(&mut self, rest: &mut &[u8]) -> Result<Option<usize>, GzipError> {
        match self.stage {
            Stage::Head => {
                if !self.hold(HEAD, rest) {
                    return Ok(None);
                }
                // Deflate, and no flag: neither name nor comment nor extra field (RFC 1952 §2.3).
                if !self.held.starts_with(&[0x1f, 0x8b, 8, 0]) {
                    return Err(GzipError::Head);
                }
                self.held.clear();
                self.stage = Stage::Body;
                Ok(Some(0))
            }
            Stage::Body => {
                let result = inflate(&mut self.state, rest, &mut self.room, MZFlush::None);
                *rest = rest.get(result.bytes_consumed..).unwrap_or_default();
                let made = result.bytes_written;
                match result.status {
                    Ok(MZStatus::StreamEnd) => self.stage = Stage::Tail,
                    Ok(MZStatus::Ok) | Err(MZError::Buf) => {
                        if made == 0 && result.bytes_consumed == 0 {
                            return Ok(None);
                        }
                    }
                    _ => return Err(GzipError::Damaged),
                }
                self.sum.update(self.room.get(..made).unwrap_or_default());
                self.made = self.made.saturating_add(made as u64);
                // Held against what came at all, so that it does not depend on how far the inflater has read.
                if self.made.saturating_sub(FREE_BYTES) > self.came.saturating_mul(MAX_RATIO) {
                    return Err(GzipError::Bomb);
                }
                Ok(Some(made))
            }
            Stage::Tail => {
                if !self.hold(TAIL, rest) {
                    return Ok(None);
                }
                let sum = self.sum.clone().finalize().to_le_bytes();
                let length = u32::try_from(self.made & u64::from(u32::MAX)).unwrap_or_default().to_le_bytes();
                if self.held != [sum, length].concat() {
                    return Err(GzipError::Sum);
                }
                self.stage = Stage::Done;
                Ok(Some(0))
            }
            Stage::Done if rest.is_empty() => Ok(None),
            Stage::Done => Err(GzipError::After),
        }
    }

    fn hold(&mut self, wanted: usize, rest: &mut &[u8]) -> bool {
        let missing = wanted.saturating_sub(self.held.len()).min(rest.len());
        if let Some((taken, after)) = rest.split_at_checked(missing) {
            self.held.extend_from_slice(taken);
            *rest = after;
        }
        self.held.len() >= wanted
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::compress_to_vec;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        out.extend(compress_to_vec(bytes, 6));
        out.extend(crc32fast::hash(bytes).to_le_bytes());
        out.extend(u32::try_from(bytes.len()).expect("short").to_le_bytes());
        out
    }

    fn unpacked(bytes: &[u8], cut: usize) -> Result<Vec<u8>, GzipError> {
        let (mut gunzip, mut out) = (Gunzip::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            gunzip.push(piece, &mut |made| -> Result<(), GzipError> {
                out.extend_from_slice(made);
                Ok(())
            })?;
        }
        gunzip.finish().map(|()| out)
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        let good = packed(b"0011want and want");
        assert_eq!(unpacked(&good, 3), Ok(b"0011want and want".to_vec()));
        assert_eq!(unpacked(&[good.as_slice(), &good].concat(), 7), Err(GzipError::After));
        assert_eq!(unpacked(&[good.as_slice(), b"\0"].concat(), 99), Err(GzipError::After));
        let named = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3, b'x', 0], &good[10..]].concat();
        assert_eq!(unpacked(&named, 99), Err(GzipError::Head));
        assert_eq!(unpacked(b"0000", 99), Err(GzipError::Truncated));
        assert_eq!(unpacked(b"0000000000", 99), Err(GzipError::Head));
        for at in good.len() - 8..good.len() {
            let mut wrong = good.clone();
            wrong[at] ^= 1;
            assert_eq!(unpacked(&wrong, 5), Err(GzipError::Sum), "{at}");
        }
        for end in 0..good.len() {
            assert_eq!(unpacked(&good[..end], 5), Err(GzipError::Truncated), "{end}");
        }
        let damaged = [&good[..10], &[0xff; 9]].concat();
        assert_eq!(unpacked(&damaged, 99), Err(GzipError::Damaged));
    }

    #[test]
    fn a_bomb_ends_early() {
        let bomb = packed(&vec![0; 64 << 20]);
        let (mut gunzip, mut made) = (Gunzip::new(), 0);
        let ended = bomb.chunks(1_000).try_for_each(|piece| {
            gunzip.push(piece, &mut |piece| -> Result<(), GzipError> {
                made += piece.len();
                Ok(())
            })
        });
        assert_eq!(ended, Err(GzipError::Bomb));
        assert!(made < 8 << 20, "{made}");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(bytes in prop::collection::vec(any::<u8>(), 0..3_000), cut in 1usize..200) {
            prop_assert_eq!(unpacked(&packed(&bytes), cut), Ok(bytes));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 1usize..20) {
            let _ = unpacked(&bytes, cut);
            let _ = unpacked(&[&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], bytes.as_slice()].concat(), cut);
        }
    }
}
