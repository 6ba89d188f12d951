//! A body in chunks (RFC 9112 §7.1), followed over its bytes to find where it ends.
//!
//! It owns the border between a chunked body and the next request on the same connection, and refuses every spelling
//! of it that is known to be read in two ways: chunk extensions, bare line feeds, whitespace or signs at a size, sizes
//! that overflow, and trailers, which some servers take for headers. It keeps no bytes and decodes nothing.

/// A size has so many hexadecimal digits at most.
pub const MAX_DIGITS: u8 = 15;

/// Where the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunks {
    /// All bytes belong to the body, and more of it comes.
    NeedMore,
    /// The body ended after so many of the bytes that were pushed last.
    End(usize),
    /// The body is not to be believed. The connection is closed.
    Refused(ChunkError),
}

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A size is no number.
    #[error("the size of a chunk is not a hexadecimal number")]
    Size,
    /// More than [`MAX_DIGITS`].
    #[error("the size of a chunk has more than 15 digits")]
    TooLong,
    /// Something behind a size.
    #[error("a chunk of the request has an extension")]
    Extension,
    /// A line does not end as it must.
    #[error("a line between the chunks does not end with carriage return and line feed")]
    LineEnd,
    /// Headers behind the body.
    #[error("the request has trailers")]
    Trailer,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// In a size: how many digits there were, and what they make.
    Size(u8, u64),
    /// Behind a size and its carriage return.
    SizeLf(u64),
    /// In a chunk: what is left of it.
    Data(u64),
    DataLf,
    /// Behind the last chunk.
    LastCr,
    LastLf,
    Done,
    Failed(ChunkError),
    #[default]
    Start,
}

/// Follows a body piece by piece.
#[derive(Debug, Default)]
pub struct Reader(At);

impl Reader {
    /// A reader at the beginning of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the connection. Behind the end nothing is taken any more.
    pub fn push(&mut self, bytes: &[u8]) -> Chunks {
        let mut rest = bytes;
        loop {
            match self.0 {
                At::Done => return Chunks::End(bytes.len() - rest.len()),
                At::Failed(why) => return Chunks::Refused(why),
                At::Data(left) if left > 0 => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    rest = rest.get(length..).unwrap_or_default();
                    self.0 = At::Data(left - u64::try_from(length).unwrap_or(left));
                    if length == 0 {
                        return Chunks::NeedMore;
                    }
                }
                at => {
                    let Some((byte, after)) = rest.split_first() else { return Chunks::NeedMore };
                    rest = after;
                    self.0 = step(at, *byte).unwrap_or_else(At::Failed);
                }
            }
        }
    }
}

fn step(at: At, byte: u8) -> Result<At, ChunkError> {
    let digit = char::from(byte).to_digit(16).map(u64::from);
    match (at, byte, digit) {
        (At::Start, _, Some(digit)) => Ok(At::Size(1, digit)),
        (At::Size(MAX_DIGITS, _), _, Some(_)) => Err(ChunkError::TooLong),
        (At::Size(digits, size), _, Some(digit)) => Ok(At::Size(digits + 1, size << 4 | digit)),
        (At::Size(_, size), b'\r', _) => Ok(At::SizeLf(size)),
        (At::Size(..), b';' | b' ' | b'\t', _) => Err(ChunkError::Extension),
        (At::Size(..), b'\n', _) => Err(ChunkError::LineEnd),
        (At::Start | At::Size(..), ..) => Err(ChunkError::Size),
        (At::SizeLf(0), b'\n', _) => Ok(At::LastCr),
        (At::SizeLf(size), b'\n', _) => Ok(At::Data(size)),
        (At::Data(_), b'\r', _) => Ok(At::DataLf),
        (At::DataLf, b'\n', _) => Ok(At::Start),
        (At::LastCr, b'\r', _) => Ok(At::LastLf),
        (At::LastLf, b'\n', _) => Ok(At::Done),
        (At::LastCr, ..) => Err(ChunkError::Trailer),
        _ => Err(ChunkError::LineEnd),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_by_one(bytes: &[u8]) -> Chunks {
        let mut reader = Reader::new();
        for (at, byte) in bytes.iter().enumerate() {
            match reader.push(&[*byte]) {
                Chunks::NeedMore => {}
                Chunks::End(taken) => return Chunks::End(at + taken),
                refused @ Chunks::Refused(_) => return refused,
            }
        }
        Chunks::NeedMore
    }

    #[test]
    fn n13_a_chunked_body_ends_in_one_place() {
        let body = b"5\r\nhello\r\n0a\r\n0\r\n\r\nGET /\r\n0\r\n\r\n";
        for behind in [&b""[..], b"GET / HTTP/1.1\r\n"] {
            let bytes = [&body[..], behind].concat();
            assert_eq!(Reader::new().push(&bytes), Chunks::End(body.len()));
            assert_eq!(one_by_one(&bytes), Chunks::End(body.len()));
        }
    }

    #[test]
    fn n13_what_is_read_in_two_ways_is_refused() {
        use ChunkError::*;
        for (bytes, why) in [
            (&b"5;a=b\r\n"[..], Extension),
            (b"5 \r\n", Extension),
            (b"0;\n", Extension),
            (b"5\n", LineEnd),
            (b"5\r\r", LineEnd),
            (b"1\r\nab", LineEnd),
            (b"1\r\na\n", LineEnd),
            (b"1\r\na\r\r", LineEnd),
            (b"0\r\n\r\r", LineEnd),
            (b"+5\r\n", Size),
            (b"0x5\r\n", Size),
            (b"\r\n", Size),
            (b" 5\r\n", Size),
            (b"5g\r\n", Size),
            (b"1\r\na\r\n\r\n", Size),
            (b"0000000000000000\r\n", TooLong),
            (b"0\r\nHost: b\r\n", Trailer),
            (b"0\r\n\n", Trailer),
        ] {
            assert_eq!(Reader::new().push(bytes), Chunks::Refused(why), "{}", String::from_utf8_lossy(bytes));
            assert_eq!(one_by_one(bytes), Chunks::Refused(why));
        }
        assert_eq!(Reader::new().push(b"fffffffffffffff\r\nx"), Chunks::NeedMore);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_and_what_is_written_ends_where_it_ends(
            sizes in prop::collection::vec(1_usize..40, 0..6),
            flip in prop::option::of((0_usize..60, prop::sample::select(b"\r\n;0 af\0".to_vec()))),
        ) {
            let mut bytes: Vec<u8> = sizes.iter().flat_map(|size| format!("{size:x}\r\n{}\r\n", "0".repeat(*size)).into_bytes()).collect();
            bytes.extend_from_slice(b"0\r\n\r\n");
            let length = bytes.len();
            if let Some((at, byte)) = flip {
                bytes.get_mut(at).into_iter().for_each(|place| *place = byte);
            } else {
                prop_assert_eq!(Reader::new().push(&bytes), Chunks::End(length));
            }
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
            prop_assert_eq!(one_by_one(&bytes), Reader::new().push(&bytes));
        }
    }
}
