//! What a fresh stream speaks, by its first bytes.
//!
//! It owns the question which reader a stream goes to, and answers it from at most [`MAX_BYTES`] bytes, the same
//! whatever way they came. It refuses nothing and believes nothing: the reader that follows judges. Where a stream
//! could be two things it is the one that is looked at more closely, so that nobody chooses less by spelling oddly:
//! whatever begins as a TLS record is TLS (and [`crate::hello`] refuses it if it is not), whatever begins as a request
//! is HTTP (and [`crate::head`] refuses it). Protocols in which the server speaks first are silent here; how long the
//! silence was, the caller measures.

/// No answer needs more bytes than this.
pub const MAX_BYTES: usize = MAX_METHOD + 1 + 8;
/// The longest method of a request, in bytes.
pub const MAX_METHOD: usize = 32;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Not to be told yet.
    NeedMore,
    /// TLS, by its first record.
    Tls,
    /// A request of HTTP/1.0 or 1.1, or what may be taken for one.
    Http1,
    /// The whole preface of HTTP/2 (RFC 9113 §3.4).
    Http2,
    /// An SSH client's banner (RFC 4253 §4.2).
    Ssh,
    /// Nothing came: the other side is to speak first.
    Silent,
    /// None of these.
    Other,
}

impl First {
    /// Judges the bytes that came so far.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [] | [0x16] => return Self::NeedMore,
            [0x16, 3, ..] => return Self::Tls,
            _ => {}
        }
        for (start, what) in [(PREFACE, Self::Http2), (b"SSH-", Self::Ssh)] {
            if bytes.starts_with(start) {
                return what;
            }
            if start.starts_with(bytes) {
                return Self::NeedMore;
            }
        }
        // This method belongs to the preface and to nothing else.
        if bytes.starts_with(b"PRI ") {
            return Self::Other;
        }
        let method = bytes.iter().take_while(|byte| is_token(**byte)).count();
        match bytes.get(method..) {
            _ if method > MAX_METHOD => Self::Other,
            Some([]) => Self::NeedMore,
            Some([b' ', target @ ..]) if method > 0 => Self::of_target(bytes.starts_with(b"CONNECT "), target),
            _ => Self::Other,
        }
    }

    /// Judges the bytes that came, when nothing more has come for as long as the caller waits.
    pub fn after_silence(bytes: &[u8]) -> Self {
        match Self::of(bytes) {
            Self::NeedMore if bytes.is_empty() => Self::Silent,
            Self::NeedMore => Self::Other,
            known => known,
        }
    }

    /// What stands behind a method and a space.
    fn of_target(connect: bool, target: &[u8]) -> Self {
        if target.starts_with(b"/") || (connect && !target.is_empty()) {
            return Self::Http1;
        }
        let mut open = target.is_empty();
        for start in [&b"http://"[..], b"https://", b"* HTTP/"] {
            let (there, wanted) = (target.get(..start.len()), start.get(..target.len()));
            if there.is_some_and(|there| there.eq_ignore_ascii_case(start)) {
                return Self::Http1;
            }
            open |= wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(target));
        }
        if open { Self::NeedMore } else { Self::Other }
    }
}

/// Whether the byte may stand in a method or in a header's name (RFC 9110 §5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hello::{Progress, Reader};

    #[test]
    fn each_protocol_is_known_by_its_beginning() {
        let table: [(&[u8], First); 15] = [
            (include_bytes!("../testdata/hello/curl"), First::Tls),
            (b"GET / HTTP/1.1\r\n", First::Http1),
            (b"VERSION-CONTROL /x HTTP/1.1\r\n", First::Http1),
            (b"GET http://a.example/ HTTP/1.1\r\n", First::Http1),
            (b"GET HTTPS://a.example/ HTTP/1.1\r\n", First::Http1),
            (b"OPTIONS * HTTP/1.1\r\n", First::Http1),
            (b"CONNECT a.example:443 HTTP/1.1\r\n", First::Http1),
            (PREFACE, First::Http2),
            (b"SSH-2.0-OpenSSH_9.6\r\n", First::Ssh),
            (b"OPTIONS * RTSP/1.0\r\n", First::Other),
            (b"EHLO a.example\r\n", First::Other),
            (b"PING\r\n", First::Other),
            (&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f], First::Other),
            (&[5, 1, 0], First::Other),
            (&[0x16, 2], First::Other),
        ];
        for (bytes, what) in table {
            assert_eq!(First::of(bytes), what, "{}", String::from_utf8_lossy(bytes));
            assert_eq!(First::after_silence(bytes), what);
        }
    }

    #[test]
    fn what_may_be_taken_for_a_request_goes_to_the_strict_reader() {
        for bytes in [&b"GET /\r\n"[..], b"get / \n", b"GET / HTTP/1.1\n", b"CONNECT  \r\n"] {
            assert_eq!(First::of(bytes), First::Http1);
        }
    }

    #[test]
    fn what_is_half_of_two_things_is_neither() {
        for bytes in
            [&b"PRI * HTTP/1.1\r\n\r\n"[..], b"PRI / HTTP/1.1\r\n", b"\r\nGET / HTTP/1.1\r\n", b" GET /", &[b'A'; 33]]
        {
            assert_eq!(First::of(bytes), First::Other);
        }
        assert_eq!(First::of(b"PRINT / HTTP/1.1"), First::Http1);
        assert_eq!(First::of(b"SSH /"), First::Http1);
    }

    #[test]
    fn silence_is_told_from_half_a_beginning() {
        assert_eq!(First::of(b""), First::NeedMore);
        assert_eq!(First::after_silence(b""), First::Silent);
        for bytes in [&b"P"[..], b"PRI * HTTP/2.0\r\n", b"SSH", b"GET", b"GET ", b"GET http:", &[0x16]] {
            assert_eq!(First::of(bytes), First::NeedMore);
            assert_eq!(First::after_silence(bytes), First::Other);
        }
    }

    proptest! {
        #[test]
        fn an_answer_is_never_taken_back_and_never_late(
            start in prop::sample::select(vec!["", "GET ", "CONNECT ", "PRI * HTTP/2.0\r\n", "SSH-", "\u{16}\u{3}"]),
            rest in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"/* httpHTTPS:".to_vec())], 0..60),
        ) {
            let bytes = [start.as_bytes(), &rest].concat();
            let whole = First::of(&bytes);
            let answered = (0..=bytes.len()).map(|end| First::of(&bytes[..end])).find(|what| *what != First::NeedMore);
            prop_assert_eq!(answered.unwrap_or(First::NeedMore), whole);
            prop_assert!(whole != First::NeedMore || bytes.len() < MAX_BYTES);
            let tls = bytes.len() > 1 && Reader::new().push(&bytes) != Progress::NotTls;
            prop_assert_eq!(whole == First::Tls, tls);
        }
    }
}
