//! What a TLS client says first, read as it comes.
//!
//! [`Reader`] puts a `ClientHello` (RFC 8446 §4.1.2) together from records (§5.1) and reads, however they are cut, and
//! says which server is named (RFC 6066 §3), which protocols are offered (RFC 7301), which versions, and whether there
//! is an encrypted hello inside (RFC 9849). It changes nothing: the bytes are kept as they came and are handed on.
//!
//! It refuses what two programs could read differently: lengths that do not meet, an extension twice, a second name or
//! one that is no name, other records between, bytes behind the hello in its record, and whatever never ends. It
//! verifies nothing else of TLS: the two sides do that. It says the same whatever way the bytes are cut.

use crate::host::{self, HostError};

/// So many bytes of records may come before the hello is whole.
pub const MAX_BYTES: usize = 64 * 1024;
/// So many records may the hello be cut into.
pub const MAX_RECORDS: usize = 1024;
/// So many extensions may a hello have; browsers have about twenty.
pub const MAX_EXTENSIONS: usize = 128;
/// The longest piece in one record (RFC 8446 §5.1).
pub const MAX_RECORD: usize = 1 << 14;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// What the bytes are, so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The hello is not whole yet. Whoever waits measures the time.
    NeedMore,
    /// The hello is whole and unambiguous.
    Hello(ClientHello),
    /// The first bytes are not those of TLS: no handshake record begins here.
    NotTls,
    /// It began like TLS and is not to be believed.
    Refused(HelloError),
}

/// What a client says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The name it wants to speak with: ASCII, small letters, no dot at the end, no address. With
    /// [`ClientHello::encrypted_client_hello`] this is the outer name, and the one to compare.
    pub server_name: Option<String>,
    /// The protocols it offers, best first, as sent.
    pub alpn: Vec<Vec<u8>>,
    /// There is an encrypted hello inside, or one that only looks so (GREASE): from outside nobody can tell.
    pub encrypted_client_hello: bool,
    /// The versions it offers as sent, reserved ones included; without that extension its `legacy_version` alone.
    pub versions: Vec<u16>,
}

/// Why a hello is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// More than [`MAX_BYTES`].
    #[error("the TLS hello is longer than 64 KiB")]
    TooLong,
    /// More than [`MAX_RECORDS`].
    #[error("the TLS hello is cut into more than 1024 records")]
    TooManyRecords,
    /// A version of the record layer that nobody speaks.
    #[error("the TLS record has an unknown version")]
    RecordVersion,
    /// A record without bytes, or with more than [`MAX_RECORD`].
    #[error("a TLS record of the hello is empty or longer than 16 KiB")]
    RecordLength,
    /// Something else came before the hello was whole.
    #[error("a TLS record of another type stands inside the hello")]
    OtherRecord,
    /// The handshake begins with something else.
    #[error("the TLS handshake does not begin with a client's hello")]
    OtherMessage,
    /// Bytes behind the hello in its last record.
    #[error("something stands behind the hello in its TLS record")]
    Trailing,
    /// A length inside does not meet what is there.
    #[error("a length inside the TLS hello is wrong: {0}")]
    Length(&'static str),
    /// More than [`MAX_EXTENSIONS`].
    #[error("the TLS hello has more than 128 extensions")]
    TooManyExtensions,
    /// The same extension twice (RFC 8446 §4.2).
    #[error("the TLS hello has extension {0} twice")]
    Twice(u16),
    /// More than one server is named.
    #[error("the TLS hello names more than one server")]
    TwoNames,
    /// A server is named otherwise than by the name of a host.
    #[error("the TLS hello names its server in an unknown way ({0})")]
    NameType(u8),
    /// What stands there is no name.
    #[error("the server name in the TLS hello is not usable: {0}")]
    Name(HostError),
}

/// Reads a hello piece by piece.
#[derive(Debug, Default)]
pub struct Reader {
    raw: Vec<u8>,
    /// The hello without its records.
    message: Vec<u8>,
    header: Header,
    records: usize,
    /// Bytes of the present record that are still to come.
    left: usize,
    verdict: Option<Progress>,
}

/// The five bytes before a record's content, as far as they have come.
#[derive(Debug, Default)]
struct Header {
    bytes: [u8; 5],
    have: usize,
}

impl Reader {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and says what all of them are. Once it has said something else than
    /// [`Progress::NeedMore`] it says the same for ever, and keeps what is pushed: the caller stops.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        let before = self.raw.len();
        self.raw.extend_from_slice(bytes);
        if self.verdict.is_none() {
            let room = MAX_BYTES.saturating_sub(before);
            self.verdict = self.take(bytes.get(..room).unwrap_or(bytes));
            if self.verdict.is_none() && self.raw.len() >= MAX_BYTES {
                self.verdict = Some(Progress::Refused(HelloError::TooLong));
            }
        }
        self.verdict.clone().unwrap_or(Progress::NeedMore)
    }

    /// All bytes that were pushed, as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.raw
    }

    /// All bytes that were pushed, as they came: to be handed on.
    pub fn into_bytes(self) -> Vec<u8> {
        self.raw
    }

    fn take(&mut self, mut bytes: &[u8]) -> Option<Progress> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left == 0 {
                bytes = rest;
                if let Some(end) = self.header_byte(*first) {
                    return Some(end);
                }
                continue;
            }
            // As much of the record as is needed for the next thing that can be judged, and no more: that is why
            // splits make no difference.
            let wanted = self.wanted().min(self.left);
            let (piece, after) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            self.message.extend_from_slice(piece);
            self.left -= piece.len();
            bytes = after;
            if let Some(end) = self.judge() {
                return Some(end);
            }
        }
        None
    }

    /// One byte of a record's header.
    fn header_byte(&mut self, byte: u8) -> Option<Progress> {
        let refused = |why| Some(Progress::Refused(why));
        let at = self.header.have;
        if let Some(place) = self.header.bytes.get_mut(at) {
            *place = byte;
        }
        self.header.have = at + 1;
        match at {
            0 if self.records == MAX_RECORDS => refused(HelloError::TooManyRecords),
            0 if byte != HANDSHAKE && self.records > 0 => refused(HelloError::OtherRecord),
            0 if byte != HANDSHAKE => Some(Progress::NotTls),
            1 if byte != 3 && self.records > 0 => refused(HelloError::RecordVersion),
            1 if byte != 3 => Some(Progress::NotTls),
            2 if byte > 4 => refused(HelloError::RecordVersion),
            4 => {
                let [.., high, low] = self.header.bytes;
                self.left = usize::from(u16::from_be_bytes([high, low]));
                self.header = Header::default();
                self.records += 1;
                let fits = (1..=MAX_RECORD).contains(&self.left);
                if fits { None } else { refused(HelloError::RecordLength) }
            }
            _ => None,
        }
    }

    /// How many bytes of the message are missing until something can be said.
    fn wanted(&self) -> usize {
        match self.message.as_slice() {
            [] => 1,
            [_, high, mid, low, body @ ..] => (length24(*high, *mid, *low)).saturating_sub(body.len()).max(1),
            short => 4 - short.len(),
        }
    }

    fn judge(&self) -> Option<Progress> {
        match self.message.as_slice() {
            [kind, ..] if *kind != CLIENT_HELLO => Some(Progress::Refused(HelloError::OtherMessage)),
            [_, high, mid, low, body @ ..] => {
                let length = length24(*high, *mid, *low);
                if length > MAX_BYTES {
                    return Some(Progress::Refused(HelloError::TooLong));
                }
                (body.len() >= length).then(|| match hello(body) {
                    _ if self.left > 0 => Progress::Refused(HelloError::Trailing),
                    Ok(hello) => Progress::Hello(hello),
                    Err(why) => Progress::Refused(why),
                })
            }
            _ => None,
        }
    }
}

fn length24(high: u8, mid: u8, low: u8) -> usize {
    usize::from(high) << 16 | usize::from(mid) << 8 | usize::from(low)
}

/// What is left of a structure, and what it is called if it ends too early.
struct Fields<'a>(&'a [u8], &'static str);

impl<'a> Fields<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(HelloError::Length(self.1))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, HelloError> {
        self.bytes(1).map(|taken| taken.iter().fold(0, |_, byte| *byte))
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        self.bytes(2).map(|taken| taken.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte)))
    }

    /// A vector with one byte of length, which may have so many bytes.
    fn short(&mut self, what: &'static str, bounds: std::ops::RangeInclusive<usize>) -> Result<Self, HelloError> {
        let length = usize::from(self.u8()?);
        self.vector(what, length, bounds)
    }

    /// A vector with two bytes of length, of this many bytes or more.
    fn long(&mut self, what: &'static str, least: usize) -> Result<Self, HelloError> {
        let length = usize::from(self.u16()?);
        self.vector(what, length, least..=usize::from(u16::MAX))
    }

    fn vector(
        &mut self,
        what: &'static str,
        length: usize,
        bounds: std::ops::RangeInclusive<usize>,
    ) -> Result<Self, HelloError> {
        let taken = self.bytes(length).map_err(|_| HelloError::Length(what))?;
        if bounds.contains(&length) { Ok(Self(taken, what)) } else { Err(HelloError::Length(what)) }
    }

    /// Two-byte values to the end.
    fn words(&mut self) -> Result<Vec<u16>, HelloError> {
        let mut words = Vec::new();
        while !self.0.is_empty() {
            words.push(self.u16()?);
        }
        Ok(words)
    }

    fn end(&self) -> Result<(), HelloError> {
        if self.0.is_empty() { Ok(()) } else { Err(HelloError::Length(self.1)) }
    }
}

fn hello(body: &[u8]) -> Result<ClientHello, HelloError> {
    let mut fields = Fields(body, "hello");
    let legacy_version = fields.u16()?;
    fields.bytes(32)?;
    fields.short("session", 0..=32)?;
    fields.long("cipher suites", 2)?.words()?;
    fields.short("compression methods", 1..=255)?;
    let mut found = ClientHello {
        server_name: None,
        alpn: Vec::new(),
        encrypted_client_hello: false,
        versions: vec![legacy_version],
    };
    // Before TLS 1.3 a hello may end here.
    if fields.0.is_empty() {
        return Ok(found);
    }
    let mut extensions = fields.long("extensions", 0)?;
    fields.end()?;
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut data = extensions.long("extension", 0)?;
        if seen.contains(&kind) {
            return Err(HelloError::Twice(kind));
        }
        if seen.len() == MAX_EXTENSIONS {
            return Err(HelloError::TooManyExtensions);
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => found.server_name = Some(server_name(&mut data)?),
            ALPN => found.alpn = protocols(&mut data)?,
            SUPPORTED_VERSIONS => {
                found.versions = data.short("versions", 2..=254)?.words()?;
                data.end()?;
            }
            // The encrypted hello, its drafts, and what was before it.
            0xfe08..=0xfe0d | 0xffce => found.encrypted_client_hello = true,
            _ => {}
        }
    }
    Ok(found)
}

fn server_name(data: &mut Fields<'_>) -> Result<String, HelloError> {
    let mut list = data.long("server name", 1)?;
    data.end()?;
    let kind = list.u8()?;
    if kind != 0 {
        return Err(HelloError::NameType(kind));
    }
    let name = list.long("server name", 1)?;
    if !list.0.is_empty() {
        return Err(HelloError::TwoNames);
    }
    host::name(name.0).map_err(HelloError::Name)
}

fn protocols(data: &mut Fields<'_>) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut list = data.long("protocols", 2)?;
    data.end()?;
    let mut names = Vec::new();
    while !list.0.is_empty() {
        names.push(list.short("protocol", 1..=255)?.0.to_vec());
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
