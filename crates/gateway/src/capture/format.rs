//! How a packed body lies in the plain text of a content.
//!
//! A packed body is `\x89STKPCK` and the version (1); the CRC-32 of the body, big endian; then, as variable-length numbers of seven
//! bits a byte, lowest first: the length of the body, the number of sources, and for each source its mode (one byte) and
//! its digest (32 bytes); then pieces until the body is complete. A piece is a number (twice its length, plus one for a
//! copy); a copy goes on with the number of its source and the offset in it, a literal with its bytes.
//!
//! What does not begin with the magic is a body as it came. A body that begins with it is packed as one literal, so nothing that a
//! client sends is taken for ours. It refuses whatever is not exactly in this form.

use stockade_domain::Digest;

/// What a packed body begins with.
pub(super) const MAGIC: &[u8; 8] = b"\x89STKPCK\x01";
/// The most sources of one packed body.
pub(super) const MAX_SOURCES: usize = 1_024;

/// What of a source is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// The plain text as it stands.
    Plain,
    /// The body that it stands for.
    Body,
}

/// A content that pieces are copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source {
    /// What of it.
    pub mode: Mode,
    /// Of its sealed bytes.
    pub digest: Digest,
}

/// A piece of a body that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Bytes of a source.
    Copy { source: Source, from: usize, len: usize },
    /// Bytes of the body itself.
    Literal { at: usize, len: usize },
}

/// A piece of a body that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Copy { source: usize, from: usize, len: usize },
    Literal(&'a [u8]),
}

/// A packed body that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfolded<'a> {
    pub crc: u32,
    pub len: usize,
    pub sources: Vec<Source>,
    pub pieces: Vec<Piece<'a>>,
}

/// Whether a plain text is packed.
pub(super) fn is_packed(plain: &[u8]) -> bool {
    // Any version: one that is not known is not a body.
    plain.starts_with(MAGIC.get(..7).unwrap_or(MAGIC))
}

/// The plain text, and where each of the parts that are literals lies in it. Nothing if there are too many sources.
pub(super) fn write(body: &[u8], parts: &[Part]) -> Option<(Vec<u8>, Vec<usize>)> {
    let mut sources: Vec<Source> = Vec::new();
    let mut numbers = std::collections::HashMap::new();
    let mut literals = 0;
    for part in parts {
        match part {
            Part::Copy { source, .. } => {
                numbers.entry(*source).or_insert_with(|| {
                    sources.push(*source);
                    sources.len() - 1
                });
            }
            Part::Literal { len, .. } => literals += len,
        }
    }
    if sources.len() > MAX_SOURCES {
        return None;
    }
    let mut out = Vec::with_capacity(24 + sources.len() * 33 + parts.len() * 8 + literals);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&crc32fast::hash(body).to_be_bytes());
    number(&mut out, body.len());
    number(&mut out, sources.len());
    for source in &sources {
        out.push(match source.mode {
            Mode::Plain => 0,
            Mode::Body => 1,
        });
        out.extend_from_slice(&source.digest.0);
    }
    let mut places = Vec::new();
    for part in parts {
        match part {
            Part::Copy { source, from, len } => {
                number(&mut out, len * 2 + 1);
                number(&mut out, numbers.get(source).copied()?);
                number(&mut out, *from);
            }
            Part::Literal { at, len } => {
                number(&mut out, len * 2);
                places.push(out.len());
                out.extend_from_slice(body.get(*at..at + len)?);
            }
        }
    }
    Some((out, places))
}

/// Reads a packed body. Nothing if it is not in the form above, or longer than `most`.
pub(super) fn read(plain: &[u8], most: usize) -> Option<Unfolded<'_>> {
    let rest = plain.strip_prefix(MAGIC.as_slice())?;
    let (crc, mut rest) = rest.split_first_chunk::<4>()?;
    let len = take_number(&mut rest).filter(|len| *len <= most)?;
    let count = take_number(&mut rest).filter(|count| *count <= MAX_SOURCES)?;
    let mut sources = Vec::with_capacity(count);
    for _ in 0..count {
        let (mode, after) = rest.split_first()?;
        let (digest, after) = after.split_first_chunk::<32>()?;
        let mode = match mode {
            0 => Mode::Plain,
            1 => Mode::Body,
            _ => return None,
        };
        sources.push(Source { mode, digest: Digest(*digest) });
        rest = after;
    }
    let (mut pieces, mut covered) = (Vec::new(), 0_usize);
    while covered < len {
        let head = take_number(&mut rest)?;
        let size = head / 2;
        covered = covered.checked_add(size).filter(|covered| size > 0 && *covered <= len)?;
        if head % 2 == 1 {
            let source = take_number(&mut rest).filter(|source| *source < count)?;
            pieces.push(Piece::Copy { source, from: take_number(&mut rest)?, len: size });
        } else {
            let (literal, after) = rest.split_at_checked(size)?;
            pieces.push(Piece::Literal(literal));
            rest = after;
        }
    }
    rest.is_empty().then_some(Unfolded { crc: u32::from_be_bytes(*crc), len, sources, pieces })
}

fn number(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// A number in its one spelling.
fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for i in 0..9 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (*byte != 0 || i == 0).then(|| usize::try_from(value).ok())?;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_reads_back_and_has_one_spelling(value in 0usize..(1 << 60)) {
            let mut bytes = Vec::new();
            number(&mut bytes, value);
            prop_assert_eq!(take_number(&mut bytes.as_slice()), Some(value));
            *bytes.last_mut().unwrap() |= 0x80;
            bytes.push(0);
            prop_assert_eq!(take_number(&mut bytes.as_slice()), None);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = read(&bytes, 1 << 20);
            bytes.splice(0..0, *MAGIC);
            let _ = read(&bytes, 1 << 20);
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let source = Source { mode: Mode::Body, digest: Digest([3; 32]) };
        let parts = [Part::Copy { source, from: 300, len: 4 }, Part::Literal { at: 4, len: 3 }];
        let (plain, places) = write(b"overnew", &parts).unwrap();
        let read = read(&plain, 7).unwrap();
        assert_eq!((read.len, read.sources, read.crc), (7, vec![source], crc32fast::hash(b"overnew")));
        assert_eq!(read.pieces, [Piece::Copy { source: 0, from: 300, len: 4 }, Piece::Literal(b"new")]);
        assert_eq!(&plain[places[0]..], b"new");
        assert_eq!(super::read(&plain, 6), None, "longer than allowed");
        for len in 0..plain.len() {
            assert_eq!(super::read(&plain[..len], 7), None, "cut at {len}");
        }
        assert_eq!(super::read(&[plain.as_slice(), b"x"].concat(), 7), None, "something after it");
    }
}
