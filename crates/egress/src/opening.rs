//! The beginning of a stream that came to a door: which protocol it speaks, and whether it is for the host that was dialled.
//!
//! It owns the waiting: for the first byte, for the rest of a hello. It refuses a hello that drips, and TLS that does not say for whom it is, or says
//! another; that it may hide another is told ([`Opening::may_hide`]). Not a byte is lost: what was read goes on with the stream ([`Opening::bytes`]).

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::Instant,
};

use crate::{
    first::{self, First},
    hello::{ClientHello, HelloError, Progress, Reader},
    name::Host,
};

/// How much is read at a time, in bytes.
const PIECE: usize = 4 * 1024;

/// How long is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the first byte. Who says nothing for so long waits for the other side to speak.
    pub silence: Duration,
    /// For all that is needed, from the beginning.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_millis(500), whole: Duration::from_secs(10) }
    }
}

/// What a stream speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// TLS, with what its hello says.
    Tls(ClientHello),
    /// HTTP/1 in the clear.
    Http1,
    /// HTTP/2 in the clear.
    Http2,
    /// SSH.
    Ssh,
    /// Nothing: the other side speaks first.
    Silent,
    /// None of these.
    Other,
}

impl Protocol {
    /// The word, as in records and policies.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Tls(_) => "tls",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Ssh => "ssh",
            Self::Silent => "silent",
            Self::Other => "other",
        }
    }
}

/// A stream that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// What it speaks.
    pub protocol: Protocol,
    /// What was read of it.
    pub bytes: Vec<u8>,
}

/// Why a stream is refused before anybody is asked about it.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// It is gone.
    #[error("the connection was lost before it said anything")]
    Lost(#[source] io::Error),
    /// It ended without a word.
    #[error("the connection ended without a word")]
    Ended,
    /// It takes too long to say for whom it is.
    #[error("the connection did not say for whom it is in {} s", .0.as_secs())]
    Slow(Duration),
    /// Its hello is none.
    #[error("the connection begins as TLS and is none: {0}")]
    Hello(#[from] HelloError),
}

/// Why TLS is not for the host that was dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misdirected {
    /// It does not say for whom it is.
    #[error("TLS without a server name: the client must say `{0}`")]
    Unsaid(String),
    /// It is for another.
    #[error("TLS for `{said}` on a connection to `{dialled}`")]
    Other {
        /// For whom.
        said: String,
        /// Who was dialled.
        dialled: String,
    },
    /// It may be for another, and nobody may look into it.
    #[error(
        "TLS to `{0}` hides for whom it is (Encrypted Client Hello): turn that off in the client, or let it be looked into"
    )]
    Hidden(String),
}

/// Reads as much of a stream as is needed to know what it speaks, and of TLS the whole hello.
///
/// # Errors
/// [`OpeningError`]; the stream is then of no use.
pub async fn look<S: AsyncRead + Unpin>(stream: &mut S, patience: Patience) -> Result<Opening, OpeningError> {
    let begun = Instant::now();
    let mut bytes = Vec::new();
    let first = loop {
        match First::of(&bytes) {
            First::NeedMore => {}
            known => break known,
        }
        let until = begun + if bytes.is_empty() { patience.silence } else { patience.whole };
        match tokio::time::timeout_at(until, more(stream, &mut bytes)).await {
            Ok(read) => read?,
            // The rest of something that is TLS by its first byte cannot be left out.
            Err(_) if bytes.first() == Some(&0x16) => return Err(OpeningError::Slow(patience.whole)),
            Err(_) => break First::after_silence(&bytes),
        }
    };
    let protocol = match first {
        First::Tls => return hello(stream, bytes, begun, patience).await,
        First::Http1 => Protocol::Http1,
        First::Http2 => Protocol::Http2,
        First::Ssh => Protocol::Ssh,
        First::Silent => Protocol::Silent,
        First::NeedMore | First::Other => Protocol::Other,
    };
    Ok(Opening { protocol, bytes })
}

async fn hello<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: Vec<u8>,
    begun: Instant,
    patience: Patience,
) -> Result<Opening, OpeningError> {
    let mut reader = Reader::new();
    let mut progress = reader.push(&bytes);
    loop {
        match progress {
            Progress::Hello(hello) => {
                return Ok(Opening { protocol: Protocol::Tls(hello), bytes: reader.into_bytes() });
            }
            Progress::NotTls => return Ok(Opening { protocol: Protocol::Other, bytes: reader.into_bytes() }),
            Progress::Refused(error) => return Err(error.into()),
            Progress::NeedMore => {}
        }
        let mut piece = Vec::new();
        let read = tokio::time::timeout_at(begun + patience.whole, more(stream, &mut piece)).await;
        read.map_err(|_| OpeningError::Slow(patience.whole))??;
        progress = reader.push(&piece);
    }
}

/// Reads what is there, at least one byte.
async fn more<S: AsyncRead + Unpin>(stream: &mut S, bytes: &mut Vec<u8>) -> Result<(), OpeningError> {
    bytes.reserve(PIECE);
    match stream.read_buf(bytes).await {
        Ok(0) => Err(OpeningError::Ended),
        Ok(_) => Ok(()),
        Err(error) => Err(OpeningError::Lost(error)),
    }
}

impl Opening {
    /// Whether TLS, if this is TLS, says that it is for the host that was dialled. A client that dialled an address may say any name or none: it was the
    /// address that was decided about.
    ///
    /// # Errors
    /// [`Misdirected`].
    pub fn is_for(&self, host: &Host) -> Result<(), Misdirected> {
        let (Protocol::Tls(hello), Host::Name(name)) = (&self.protocol, host) else { return Ok(()) };
        match &hello.server_name {
            None => Err(Misdirected::Unsaid(name.as_str().to_owned())),
            Some(said) if said != name.as_str() => {
                Err(Misdirected::Other { said: said.clone(), dialled: name.as_str().to_owned() })
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether it may be for another host than it says: there is an encrypted hello in it, or something that looks so, as every browser sends. What is
    /// looked into ends here and cannot be for another.
    pub fn may_hide(&self, host: &Host) -> bool {
        matches!((&self.protocol, host), (Protocol::Tls(hello), Host::Name(_)) if hello.encrypted_client_hello)
    }
}

// The longest beginning that is not TLS, and one reading more.
const _: () = assert!(first::MAX_BYTES < PIECE);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    const CURL: &[u8] = include_bytes!("../testdata/hello/curl");
    const UNNAMED: &[u8] = include_bytes!("../testdata/hello/python-13-no-sni");

    async fn looked(pieces: &[&[u8]]) -> Result<Opening, OpeningError> {
        let (mut near, mut far) = duplex(1 << 20);
        for piece in pieces {
            near.write_all(piece).await.unwrap();
        }
        let _open = near;
        look(&mut far, Patience::default()).await
    }

    #[tokio::test(start_paused = true)]
    async fn each_protocol_is_known_and_no_byte_is_lost() {
        for (bytes, word) in [
            (CURL, "tls"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http1"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0", "http2"),
            (b"SSH-2.0-x\r\n", "ssh"),
            (b"\0\0\0\x10", "other"),
            (b"GE", "other"),
            (b"", "silent"),
        ] {
            let opening = looked(&[bytes]).await.unwrap();
            assert_eq!((opening.protocol.as_str(), opening.bytes.as_slice()), (word, bytes));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn n12_a_hello_in_single_bytes_reads_the_same_and_one_that_drips_is_given_up() {
        let (mut near, mut far) = duplex(1);
        let dripping = tokio::spawn(async move {
            for byte in CURL {
                near.write_all(&[*byte]).await.unwrap();
            }
            near
        });
        let opening = look(&mut far, Patience::default()).await.unwrap();
        assert_eq!(opening, looked(&[CURL]).await.unwrap());
        drop(dripping.await.unwrap());

        let (mut near, mut far) = duplex(1024);
        tokio::spawn(async move {
            for byte in CURL {
                tokio::time::sleep(Duration::from_millis(400)).await;
                near.write_all(&[*byte]).await.unwrap();
            }
        });
        let slow = look(&mut far, Patience::default()).await.unwrap_err();
        assert_eq!(slow.to_string(), "the connection did not say for whom it is in 10 s");
        for begun in [&b"\x16"[..], b"\x16\x03\x01\x02"] {
            assert!(matches!(looked(&[begun]).await, Err(OpeningError::Slow(_))), "{begun:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_or_lies_is_told_apart() {
        let (near, mut far) = duplex(8);
        drop(near);
        assert!(matches!(look(&mut far, Patience::default()).await, Err(OpeningError::Ended)));
        let lies = looked(&[b"\x16\x03\x01\0\x05\x02\0\0\x01\0"]).await.unwrap_err();
        assert!(matches!(lies, OpeningError::Hello(_)), "{lies}");
    }

    #[tokio::test(start_paused = true)]
    async fn n10_tls_is_for_the_host_that_was_dialled() {
        let named = looked(&[CURL]).await.unwrap();
        let host = |text: &str| Host::parse(text).unwrap();
        assert_eq!(named.is_for(&host("registry.example")), Ok(()));
        let other = named.is_for(&host("allowed.example")).unwrap_err();
        assert_eq!(other.to_string(), "TLS for `registry.example` on a connection to `allowed.example`");
        let unnamed = looked(&[UNNAMED]).await.unwrap();
        assert_eq!(unnamed.is_for(&host("a.example")), Err(Misdirected::Unsaid("a.example".to_owned())));
        for opening in [&named, &unnamed] {
            assert_eq!(opening.is_for(&host("93.184.216.34")), Ok(()), "an address was decided about");
        }
        let Protocol::Tls(hello) = named.protocol else { panic!() };
        let hidden = ClientHello { encrypted_client_hello: true, ..hello };
        let hidden = Opening { protocol: Protocol::Tls(hidden), bytes: Vec::new() };
        assert!(hidden.is_for(&host("registry.example")).is_ok() && hidden.may_hide(&host("registry.example")));
        assert!(hidden.is_for(&host("allowed.example")).is_err() && !unnamed.may_hide(&host("a.example")));
        assert!(!hidden.may_hide(&host("93.184.216.34")), "an address was decided about");
    }
}
