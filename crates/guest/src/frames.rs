//! Frames on a stream: a length and that many bytes of JSON. The other side is not trusted.

use std::io::{self, Read, Write};

use stockade_api::guest::{Answer, MAX_FRAME, Reply, Request};

/// Why a frame could not be read. The connection is closed after any of them.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed or ended within a frame.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// Longer than [`MAX_FRAME`].
    #[error("a frame of {0} bytes is more than {MAX_FRAME}")]
    TooLarge(usize),
    /// Not a request.
    #[error("the frame is no request: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Reads a request from the bytes of one frame.
pub fn parse_request(bytes: &[u8]) -> Result<Request, FrameError> {
    if bytes.len() > MAX_FRAME {
        return Err(FrameError::TooLarge(bytes.len()));
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// Reads the bytes of the next frame; nothing if the stream ended between frames.
pub fn read_frame(from: &mut impl Read) -> Result<Option<Vec<u8>>, FrameError> {
    let mut length = [0; 4];
    let mut filled = 0;
    while let Some(rest) = length.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    // Grown as bytes arrive: a length alone makes nobody set memory aside.
    let mut bytes = Vec::with_capacity(length.min(64 * 1024));
    from.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(bytes))
}

/// Writes an answer as one frame. One that is too large goes out as an error instead.
pub fn write_frame(to: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let mut body = serde_json::to_vec(answer)?;
    if body.len() > MAX_FRAME {
        let message = "the answer is larger than a frame: ask for less".to_owned();
        let reply = Reply::Error { code: "too_large".into(), message };
        body = serde_json::to_vec(&Answer { id: answer.id, replayed: answer.replayed, reply })?;
    }
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.append(&mut body);
    to.write_all(&frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_above_the_limit_is_refused_before_anything_is_read() {
        let mut bytes = &[0xff, 0xff, 0xff, 0xff][..];
        assert!(matches!(read_frame(&mut bytes), Err(FrameError::TooLarge(_))));
        let mut at = &[&u32::try_from(MAX_FRAME).unwrap().to_be_bytes()[..], b" "].concat()[..];
        assert!(
            matches!(read_frame(&mut at), Err(FrameError::Io(_))),
            "the bound itself is let in, and then ends early"
        );
    }

    #[test]
    fn an_answer_that_is_too_large_becomes_an_error() {
        let mut out = Vec::new();
        let reply = Reply::Text { text: "x".repeat(MAX_FRAME), truncated: false };
        write_frame(&mut out, &Answer { id: 3, replayed: false, reply }).unwrap();
        assert!(out.len() < 300);
        assert!(String::from_utf8_lossy(&out).contains("too_large"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_request(&bytes);
            let _ = read_frame(&mut &bytes[..]);
        }

        #[test]
        fn no_json_makes_it_panic(text in "\\{\"id\":[0-9]{1,25},\"op\":\"(exec|read|put|edit)\",.{0,60}\\}") {
            let _ = parse_request(text.as_bytes());
        }
    }
}
