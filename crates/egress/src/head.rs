//! The head of an HTTP/1 request as raw bytes, before hyper sees it.
//!
//! hyper hides what it forgives: bare line feeds, empty lines before a request, the second of two equal lengths, a
//! length beside `Transfer-Encoding`, the fragment of a target. An origin may read each of these otherwise, and that
//! difference is how a request is smuggled. [`Reader`] looks at the same bytes first and refuses whatever is known to
//! be read in two ways; what it lets through has one reading, and says how long its body is, so that the next head
//! on the connection is found where the origin finds it.
//!
//! It changes nothing and decides nothing about hosts: [`crate::request`] does, on what hyper has made of the bytes.
//! It says the same whatever way the bytes are cut.

use crate::first::{MAX_METHOD, is_token};

/// The longest head, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// So many headers may a request have.
pub const MAX_HEADERS: usize = 100;

/// What the bytes are, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The head is not whole yet.
    NeedMore,
    /// The head is whole and has one reading: so many bytes, the empty line included.
    Ok(usize),
    /// The head is not to be believed. The connection is closed after the answer.
    Refused(HeadError),
}

/// How long the body behind a head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// So many bytes; none is said as 0.
    Length(u64),
    /// In chunks (RFC 9112 §7.1): [`crate::chunks`] follows them.
    Chunked,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// More than [`MAX_HEAD`].
    #[error("the request's head is longer than 64 KiB")]
    TooLong,
    /// More than [`MAX_HEADERS`].
    #[error("the request has more than 100 headers")]
    TooManyHeaders,
    /// A line feed without a carriage return.
    #[error("a line of the request ends with a bare line feed")]
    BareLf,
    /// A carriage return without a line feed.
    #[error("a carriage return in the request stands alone")]
    BareCr,
    /// A tab, NUL or another control character.
    #[error("the request's head has a tab or control character")]
    Control,
    /// An empty line before the request.
    #[error("an empty line stands before the request")]
    EmptyLine,
    /// The method is none.
    #[error("the request's method is malformed or longer than 32 bytes")]
    Method,
    /// The target is none, or has a fragment or bytes outside ASCII.
    #[error("the request's target is malformed; percent-encode what is not ASCII, and leave out the fragment")]
    Target,
    /// The line is not method, target and version with one space between.
    #[error("the request's first line is not method, target and HTTP/1.1")]
    RequestLine,
    /// HTTP/0.9, or a version that is not spoken here.
    #[error("the request is not of HTTP/1.1 or 1.0")]
    Version,
    /// A header that goes on in the next line.
    #[error("a header of the request is folded over two lines")]
    Folded,
    /// A line without a colon.
    #[error("a line of the request's head has no colon")]
    NoColon,
    /// Whitespace between a header's name and its colon.
    #[error("whitespace stands before the colon of a header")]
    SpaceBeforeColon,
    /// A header's name is none.
    #[error("the name of a header is empty or malformed")]
    HeaderName,
    /// `Content_Length` and its like, which some servers take for the real one.
    #[error("a header is spelt with an underscore where a hyphen would make it decide about the message")]
    Underscore,
    /// None at all, or an empty one.
    #[error("the request names no host")]
    NoHost,
    /// More than one.
    #[error("the request has more than one Host header")]
    TwoHosts,
    /// More than one, equal or not.
    #[error("the request has more than one Content-Length")]
    TwoLengths,
    /// Not digits alone, or too many.
    #[error("the request's Content-Length is not a number")]
    Length,
    /// Anything but `chunked`, or in HTTP/1.0.
    #[error("the request's Transfer-Encoding is not chunked alone")]
    Coding,
    /// Both say how long the body is.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
}

/// Reads a head piece by piece.
#[derive(Debug)]
pub struct Reader {
    raw: Vec<u8>,
    /// Where the present line begins.
    line: usize,
    /// How far was looked.
    seen: usize,
    version: u8,
    begun: bool,
    headers: usize,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    verdict: Verdict,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            raw: Vec::new(),
            line: 0,
            seen: 0,
            version: 1,
            begun: false,
            headers: 0,
            host: false,
            length: None,
            chunked: false,
            verdict: Verdict::NeedMore,
        }
    }
}

impl Reader {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and says what all of them are. Once it has said something else than
    /// [`Verdict::NeedMore`] it says the same for ever, and keeps what is pushed: the caller stops. What stands behind
    /// the head is the body's.
    pub fn push(&mut self, bytes: &[u8]) -> Verdict {
        self.raw.extend_from_slice(bytes);
        while self.verdict == Verdict::NeedMore {
            let Some(byte) = self.raw.get(self.seen).copied() else { break };
            let before = self.seen.checked_sub(1).and_then(|at| self.raw.get(at)).copied();
            self.seen += 1;
            self.verdict = match self.byte(byte, before) {
                Ok(true) => Verdict::Ok(self.seen),
                Ok(false) if self.seen == MAX_HEAD => Verdict::Refused(HeadError::TooLong),
                Ok(false) => Verdict::NeedMore,
                Err(why) => Verdict::Refused(why),
            };
        }
        self.verdict
    }

    /// How long the body is, when the head was found good.
    pub fn body(&self) -> Option<Body> {
        match self.verdict {
            Verdict::Ok(_) if self.chunked => Some(Body::Chunked),
            Verdict::Ok(_) => Some(Body::Length(self.length.unwrap_or(0))),
            _ => None,
        }
    }

    /// All bytes that were pushed, as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.raw
    }

    /// All bytes that were pushed, as they came: to be handed on.
    pub fn into_bytes(self) -> Vec<u8> {
        self.raw
    }

    /// One byte; whether it ends the head.
    fn byte(&mut self, byte: u8, before: Option<u8>) -> Result<bool, HeadError> {
        match (before, byte) {
            (Some(b'\r'), b'\n') => self.line(),
            (Some(b'\r'), _) => Err(HeadError::BareCr),
            (_, b'\n') => Err(HeadError::BareLf),
            (_, b'\r') => Ok(false),
            (_, 0..=31 | 127) => Err(HeadError::Control),
            _ => Ok(false),
        }
    }

    /// A line is whole; whether it ends the head.
    fn line(&mut self) -> Result<bool, HeadError> {
        let raw = std::mem::take(&mut self.raw);
        let line = raw.get(self.line..self.seen.saturating_sub(2)).unwrap_or_default();
        let judged = self.judge(line);
        self.raw = raw;
        self.line = self.seen;
        judged
    }

    fn judge(&mut self, line: &[u8]) -> Result<bool, HeadError> {
        if !self.begun {
            self.begun = true;
            self.version = request_line(line)?;
            return Ok(false);
        }
        if !line.is_empty() {
            return self.header(line).map(|()| false);
        }
        match (self.host, self.length, self.chunked) {
            (false, ..) => Err(HeadError::NoHost),
            (_, Some(_), true) => Err(HeadError::LengthAndCoding),
            (_, _, true) if self.version == 0 => Err(HeadError::Coding),
            _ => Ok(true),
        }
    }

    fn header(&mut self, line: &[u8]) -> Result<(), HeadError> {
        if line.starts_with(b" ") {
            return Err(HeadError::Folded);
        }
        if self.headers == MAX_HEADERS {
            return Err(HeadError::TooManyHeaders);
        }
        self.headers += 1;
        let (name, value) = named(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            if std::mem::replace(&mut self.host, true) {
                return Err(HeadError::TwoHosts);
            }
            if value.is_empty() {
                return Err(HeadError::NoHost);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(number(value).ok_or(HeadError::Length)?).is_some() {
                return Err(HeadError::TwoLengths);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if std::mem::replace(&mut self.chunked, true) || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::Coding);
            }
        } else if name.eq_ignore_ascii_case(b"content_length") || name.eq_ignore_ascii_case(b"transfer_encoding") {
            return Err(HeadError::Underscore);
        }
        Ok(())
    }
}

/// A number of bytes: digits alone, as many as there is room for.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    let digits = value.iter().all(u8::is_ascii_digit) && (1..=18).contains(&value.len());
    digits.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Splits a header into its name and its value without the spaces around it.
pub(crate) fn named(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let at = memchr::memchr(b':', line).ok_or(HeadError::NoColon)?;
    let (name, value) = line.split_at_checked(at).ok_or(HeadError::NoColon)?;
    if name.ends_with(b" ") {
        return Err(HeadError::SpaceBeforeColon);
    }
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(HeadError::HeaderName);
    }
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

/// The first line: method, target, version, and what its last digit is.
fn request_line(line: &[u8]) -> Result<u8, HeadError> {
    if line.is_empty() {
        return Err(HeadError::EmptyLine);
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    if !(1..=MAX_METHOD).contains(&method.len()) || !method.iter().all(|byte| is_token(*byte)) {
        return Err(HeadError::Method);
    }
    let target = parts.next().ok_or(HeadError::RequestLine)?;
    if target.is_empty() || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(HeadError::Target);
    }
    // Two words are HTTP/0.9, whose answer has no head at all.
    let version = parts.next().ok_or(HeadError::Version)?;
    if parts.next().is_some() {
        return Err(HeadError::RequestLine);
    }
    match version {
        b"HTTP/1.1" => Ok(1),
        b"HTTP/1.0" => Ok(0),
        _ => Err(HeadError::Version),
    }
}

#[cfg(test)]
mod tests;
