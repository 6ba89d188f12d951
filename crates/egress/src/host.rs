//! Names of hosts as they stand in a TLS hello or in a request: one strict reading for both.
//!
//! What a name is, [`Name`] says. Here it is refused, too, what people may write and programs may not: a dot at the end; and an IPv6 address
//! is told from a name that is none. It resolves nothing and knows no policy.

use std::net::Ipv6Addr;

use crate::name::{MAX_LABEL_BYTES, MAX_NAME_BYTES, Name, NameError};

/// The longest name, in bytes (RFC 1035 §2.3.4, without the dot at the end).
pub const MAX_NAME: usize = MAX_NAME_BYTES;
/// The longest label of a name, in bytes.
pub const MAX_LABEL: usize = MAX_LABEL_BYTES;

/// Why a text is no name of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is none.
    #[error("the name of the host is empty")]
    Empty,
    /// More than [`MAX_NAME`] bytes.
    #[error("the name of the host is longer than 253 bytes")]
    TooLong,
    /// A label has no bytes, or more than [`MAX_LABEL`].
    #[error("a label of the host's name is empty or longer than 63 bytes")]
    Label,
    /// A byte that no name has: write names in their ASCII form.
    #[error("the name of the host has a character that names do not have; write it in its ASCII form")]
    Character,
    /// A hyphen at the beginning or the end of a label.
    #[error("a label of the host's name begins or ends with a hyphen")]
    Hyphen,
    /// `example.com.`
    #[error("the name of the host ends with a dot; write it without")]
    TrailingDot,
    /// An address, or what somebody's resolver would take for one.
    #[error("there is an address where the name of the host should be")]
    Address,
}

/// Reads a name: ASCII, in small letters, no dot at the end, no address.
pub(crate) fn name(bytes: &[u8]) -> Result<String, HostError> {
    match bytes.len() {
        0 => return Err(HostError::Empty),
        1..=MAX_NAME => {}
        _ => return Err(HostError::TooLong),
    }
    if bytes.contains(&b':') && is_address(bytes) {
        return Err(HostError::Address);
    }
    if let Some(before) = bytes.strip_suffix(b".") {
        return Err(if before.is_empty() || before.ends_with(b".") {
            HostError::Label
        } else {
            HostError::TrailingDot
        });
    }
    let read = Name::from_labels(bytes.split(|byte| *byte == b'.')).map_err(|error| match error {
        NameError::Empty => HostError::Empty,
        NameError::TooLong => HostError::TooLong,
        NameError::EmptyLabel | NameError::LabelTooLong => HostError::Label,
        NameError::Hyphen => HostError::Hyphen,
        NameError::Address => HostError::Address,
        NameError::Nul
        | NameError::Control
        | NameError::At
        | NameError::Percent
        | NameError::Space
        | NameError::Backslash
        | NameError::NotAscii
        | NameError::Dot
        | NameError::Char(_) => HostError::Character,
    });
    read.map(|name| name.as_str().to_owned())
}

/// Whether the text is an IPv6 address, with or without brackets.
fn is_address(bytes: &[u8]) -> bool {
    let inner = bytes.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap_or(bytes);
    std::str::from_utf8(inner).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n15_a_name_has_one_spelling() {
        assert_eq!(name(b"Example.COM").as_deref(), Ok("example.com"));
        assert_eq!(name(b"localhost").as_deref(), Ok("localhost"));
        assert_eq!(name(b"_dmarc.x-y.xn--bcher-kva.example").as_deref(), Ok("_dmarc.x-y.xn--bcher-kva.example"));
        assert_eq!(name(b"0x7f.example").as_deref(), Ok("0x7f.example"));
    }

    #[test]
    fn n15_what_two_parsers_read_differently_is_no_name() {
        let long = [b"a.".repeat(126).as_slice(), b"ab"].concat();
        let table: [(&[u8], HostError); 24] = [
            (b"", HostError::Empty),
            (&long, HostError::TooLong),
            (&[b'a'; 64], HostError::Label),
            (b"a..b", HostError::Label),
            (b".a", HostError::Label),
            (b".", HostError::Label),
            (b"a..", HostError::Label),
            (b"allowed.example.", HostError::TrailingDot),
            (b"attacker\0.allowed.example", HostError::Character),
            (b"allowed.example@attacker", HostError::Character),
            (b"allowed%2eexample", HostError::Character),
            (b"allowed.example:443", HostError::Character),
            (b"allowed.example ", HostError::Character),
            ("b\u{fc}cher.example".as_bytes(), HostError::Character),
            ("allowed\u{3002}example".as_bytes(), HostError::Character),
            (b"*.example", HostError::Character),
            (b"-a.example", HostError::Hyphen),
            (b"a-.example", HostError::Hyphen),
            (b"127.0.0.1", HostError::Address),
            (b"127.1", HostError::Address),
            (b"2130706433", HostError::Address),
            (b"0x7f000001", HostError::Address),
            (b"0177.0.0.01", HostError::Address),
            (b"[::ffff:127.0.0.1]", HostError::Address),
        ];
        for (text, why) in table {
            assert_eq!(name(text), Err(why), "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(name(b"::1"), Err(HostError::Address));
    }
}
