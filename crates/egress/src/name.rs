//! Host names and where they stand: [`Name`], [`Host`], [`Authority`].
//!
//! A name is established here once, and every other part of the way out takes the type: what the DNS was asked, what TLS and
//! HTTP say, what a rule names. It has one spelling. It refuses whatever two programs could read differently: bytes that a C
//! string or a URL ends at, percent signs, other alphabets, and every text that some program takes for an address.
//!
//! *Invariant:* no `Name` is an address, neither to the parser of URLs (<https://url.spec.whatwg.org/#ends-in-a-number-checker>)
//! nor to `inet_aton`; an address has one spelling too if it is IPv4, and stands in brackets if it is IPv6.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most bytes of a name as text, RFC 1035 §2.3.4: 255 on the wire are 253 of text.
pub const MAX_NAME_BYTES: usize = 253;
/// The most bytes of one label, RFC 1035 §2.3.4.
pub const MAX_LABEL_BYTES: usize = 63;
/// The most bytes of an authority that are looked at: the longest name with its final dot, a colon and a port.
pub const MAX_AUTHORITY_BYTES: usize = MAX_NAME_BYTES + 1 + 1 + 5;

/// Why a text is no host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or nothing but a dot.
    #[error("the host name is empty")]
    Empty,
    /// Two dots side by side, or one at the beginning.
    #[error("the host name has an empty label: two dots side by side, or one in front")]
    EmptyLabel,
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("the host name has more than {MAX_NAME_BYTES} bytes")]
    TooLong,
    /// A label longer than [`MAX_LABEL_BYTES`].
    #[error("a label of the host name has more than {MAX_LABEL_BYTES} bytes")]
    LabelTooLong,
    /// A zero byte: programs written in C read the name up to it and no further.
    #[error("the host name has a zero byte in it")]
    Nul,
    /// Another byte below 0x20, or 0x7f.
    #[error("the host name has a control character in it")]
    Control,
    /// `@`: what stands before it would be a user.
    #[error("the host name has an `@` in it; a user does not belong into a host")]
    At,
    /// `%`: some decode it, others do not.
    #[error("the host name has a `%` in it; write the name itself, not an encoding of it")]
    Percent,
    /// A space.
    #[error("the host name has a space in it")]
    Space,
    /// A backslash, which browsers read as a slash.
    #[error("the host name has a backslash in it")]
    Backslash,
    /// A byte above 0x7f.
    #[error("the host name is not ASCII; write an internationalised name as it goes over the wire, with `xn--`")]
    NotAscii,
    /// A dot inside one label of the wire, where text would have two labels.
    #[error("a label of the host name has a dot in it")]
    Dot,
    /// A label that begins or ends with `-`.
    #[error("a label of the host name begins or ends with `-`")]
    Hyphen,
    /// The last label is a number: some programs read an IPv4 address, in whatever spelling.
    #[error(
        "the host name ends in a number, which some programs read as an address; write an IPv4 address as four decimal numbers"
    )]
    Address,
    /// Any other byte that is no letter, digit, `-` or `_`.
    #[error("the host name has a `{0}` in it; names are of letters, digits, `-`, `_` and dots")]
    Char(char),
}

/// A host name that may be asked for: lower-case ASCII, at least one label, no dot at the end.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Reads a name as people and programs write it. One dot at the end is taken off; letters become small ones.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong);
        }
        Self::from_labels(text.split('.').map(str::as_bytes))
    }

    /// Reads the labels of a name on the wire, without the root's.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NameError> {
        let mut name = String::new();
        let mut number = false;
        for (at, label) in labels.into_iter().enumerate() {
            check_label(label)?;
            if at > 0 {
                name.push('.');
            }
            if name.len() + label.len() > MAX_NAME_BYTES {
                return Err(NameError::TooLong);
            }
            name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            number = is_number(label);
        }
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if number {
            return Err(NameError::Address);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels, from the left.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether it is `above` or stands somewhere below it. `notexample.com` is not below `example.com`.
    pub fn is_or_below(&self, above: &str) -> bool {
        self.0.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// The last `count` labels, or all if there are fewer.
    pub fn last_labels(&self, count: usize) -> &str {
        let Some(before) = count.checked_sub(1) else { return "" };
        self.0.rmatch_indices('.').nth(before).and_then(|(dot, _)| self.0.get(dot + 1..)).unwrap_or(&self.0)
    }
}

/// One label; how the whole is spelt is looked at elsewhere.
fn check_label(label: &[u8]) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if label.len() > MAX_LABEL_BYTES {
        return Err(NameError::LabelTooLong);
    }
    for byte in label {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {}
            0 => return Err(NameError::Nul),
            1..=0x1f | 0x7f => return Err(NameError::Control),
            0x80.. => return Err(NameError::NotAscii),
            b'@' => return Err(NameError::At),
            b'%' => return Err(NameError::Percent),
            b' ' => return Err(NameError::Space),
            b'\\' => return Err(NameError::Backslash),
            b'.' => return Err(NameError::Dot),
            other => return Err(NameError::Char(char::from(*other))),
        }
    }
    if label.starts_with(b"-") || label.ends_with(b"-") {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

/// What the parser of URLs calls a number at the end: digits only, or `0x` with hexadecimal digits or none. Every spelling that
/// `inet_aton` knows ends in one of these.
fn is_number(label: &[u8]) -> bool {
    let hexadecimal = label.strip_prefix(b"0x").or_else(|| label.strip_prefix(b"0X"));
    label.iter().all(u8::is_ascii_digit) || hexadecimal.is_some_and(|rest| rest.iter().all(u8::is_ascii_hexdigit))
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Neither an address nor a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Four decimal numbers, but not as an address is written.
    #[error("this is the address {0} in another spelling; write it exactly so")]
    Spelling(Ipv4Addr),
    /// An IPv6 address outside of brackets.
    #[error("an IPv6 address stands in brackets here, as in `[::1]`")]
    NoBrackets,
    /// A bracket without its other one, or something between them that is no IPv6 address.
    #[error("what stands in brackets is no IPv6 address")]
    Brackets,
    /// `fe80::1%eth0`: an interface of this machine.
    #[error("an IPv6 address with a zone (`%…`) means an interface of one machine; write it without")]
    Zone,
}

/// A name or an address, as it stands in a `Host` header or a CONNECT line before the port.
///
/// *Invariant:* an IPv4 address is the one that every program reads here. What an IPv6 address carries is for
/// [`address::class`](crate::address::class) to say: `[::ffff:127.0.0.1]` is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name.
    Name(Name),
    /// An address.
    Address(IpAddr),
}

impl Host {
    /// Reads a host without a port.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.len() > MAX_AUTHORITY_BYTES {
            return Err(NameError::TooLong.into());
        }
        if let Some(rest) = text.strip_prefix('[') {
            let inside = rest.strip_suffix(']').ok_or(HostError::Brackets)?;
            if inside.contains('%') {
                return Err(HostError::Zone);
            }
            let address = inside.parse::<Ipv6Addr>().map_err(|_| HostError::Brackets)?;
            return Ok(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            // The standard library knows one spelling today; should it ever learn others, they are none here.
            return if address.to_string() == text {
                Ok(Self::Address(address.into()))
            } else {
                Err(HostError::Spelling(address))
            };
        }
        let bare = text.split('%').next().unwrap_or(text);
        if bare.parse::<Ipv6Addr>().is_ok() {
            return Err(HostError::NoBrackets);
        }
        Ok(Self::Name(Name::parse(text)?))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

/// Why a text is no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A colon, and no port after it.
    #[error("there is no port after the colon; leave the colon out or write the port")]
    NoPort,
    /// What stands after the colon.
    #[error("the port is a number from 1 to 65535 without sign and leading zeros")]
    Port,
    /// Something between the closing bracket and the colon or the end.
    #[error("after the bracket comes nothing, or a colon and the port")]
    AfterBracket,
}

/// A host with its port where one is said: the `Host` header of HTTP/1, `:authority` of HTTP/2, a CONNECT line.
///
/// A user (`user@host`) is no part of it and is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port, if one was said.
    pub port: Option<NonZeroU16>,
}

impl Authority {
    /// Reads `host` or `host:port`.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        if text.len() > MAX_AUTHORITY_BYTES {
            return Err(HostError::Name(NameError::TooLong).into());
        }
        let (host, port) = if text.starts_with('[') {
            let end = text.find(']').ok_or(HostError::Brackets)?;
            let (host, rest) = text.split_at_checked(end + 1).ok_or(HostError::Brackets)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(AuthorityError::AfterBracket),
            }
        } else {
            match text.split_once(':') {
                Some((_, rest)) if rest.contains(':') => (text, None),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let host = Host::parse(host)?;
        Ok(Self { host, port: port.map(parse_port).transpose()? })
    }

    /// The port that was said, or else the one that the scheme means.
    pub fn port_or(&self, default: NonZeroU16) -> NonZeroU16 {
        self.port.unwrap_or(default)
    }
}

fn parse_port(text: &str) -> Result<NonZeroU16, AuthorityError> {
    if text.is_empty() {
        return Err(AuthorityError::NoPort);
    }
    if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::Port);
    }
    text.parse().map_err(|_| AuthorityError::Port)
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for Authority {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        Self::parse(text)
    }
}

macro_rules! serde_as_text {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(Name, Host, Authority);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::{Class, class};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_name_has_one_spelling() {
        for (written, kept) in [
            ("example.com", "example.com"),
            ("ALLOWED", "allowed"),
            ("allowed.", "allowed"),
            ("EXAMPLE.com.", "example.com"),
            ("_dmarc.Example.Com", "_dmarc.example.com"),
            ("a-b.c_d", "a-b.c_d"),
            ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
            ("1.2.3.4.example", "1.2.3.4.example"),
            ("0xg", "0xg"),
            ("3com.com", "3com.com"),
            ("127.0.0.1.nip.io", "127.0.0.1.nip.io"),
        ] {
            assert_eq!(name(written).as_str(), kept, "{written}");
            assert_eq!(serde_json::to_string(&name(written)).unwrap(), format!("\"{kept}\""));
        }
    }

    /// Row N15: what two programs could read differently is no name.
    #[test]
    fn row_n15_no_text_that_two_programs_read_differently_is_a_name() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = format!("{}.com", ["a".repeat(62).as_str(); 4].join("."));
        for (text, error) in [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("..", NameError::EmptyLabel),
            ("allowed..", NameError::EmptyLabel),
            (".allowed", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            (&long, NameError::LabelTooLong),
            (&longer, NameError::TooLong),
            ("attacker\0.allowed", NameError::Nul),
            ("allowed\0", NameError::Nul),
            ("allowed\r\nHost: attacker", NameError::Control),
            ("allowed\t", NameError::Control),
            ("allowed\x7f", NameError::Control),
            ("allowed@attacker", NameError::At),
            ("attacker%2eallowed", NameError::Percent),
            ("allowed%00.attacker", NameError::Percent),
            ("allowed .attacker", NameError::Space),
            (" allowed", NameError::Space),
            ("attacker\\.allowed", NameError::Backslash),
            ("münchen.de", NameError::NotAscii),
            // A full stop of another alphabet, which some read as a dot; full-width digits; a soft hyphen; a Kelvin sign.
            ("attacker。allowed", NameError::NotAscii),
            ("allo\u{ad}wed", NameError::NotAscii),
            ("\u{212a}.com", NameError::NotAscii),
            ("-allowed.com", NameError::Hyphen),
            ("allowed-.com", NameError::Hyphen),
            ("allowed/attacker", NameError::Char('/')),
            ("allowed#attacker", NameError::Char('#')),
            ("allowed?attacker", NameError::Char('?')),
            ("allowed:443", NameError::Char(':')),
            ("*.allowed", NameError::Char('*')),
            ("[allowed]", NameError::Char('[')),
            ("allowed,attacker", NameError::Char(',')),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text:?}");
        }
        let fullwidth = "\u{ff11}.\u{ff11}.\u{ff11}.\u{ff11}";
        assert_eq!(Name::parse(fullwidth), Err(NameError::NotAscii));
        let limit = format!("{}.{}", ["a".repeat(62).as_str(); 4].join("."), "b");
        assert_eq!(limit.len(), MAX_NAME_BYTES);
        assert_eq!(name(&limit).as_str(), limit);
        assert_eq!(name(&format!("{limit}.")).as_str(), limit);
        assert_eq!(Name::parse(&format!("{limit}b")), Err(NameError::TooLong));
    }

    /// Row N15 and N8: every spelling of an address but the one is refused as a host.
    #[test]
    fn row_n15_no_spelling_of_an_address_is_a_name() {
        for text in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0177.0.0.1",
            "0177.1",
            "017700000001",
            "0x7f000001",
            "0X7F.1",
            "0x7f.0.0.0x1",
            "0x",
            "127.0.0.0x",
            "0",
            "1",
            "00000000000",
            "1.2.3.4.5",
            "256.256.256.256",
            "999999999999999999999",
            "example.1",
            "example.0x1f",
            "127.0.0.1.",
            "0x7f000001.",
            "169.254.43518",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "example.09",
        ] {
            assert_eq!(Name::parse(text), Err(NameError::Address), "{text}");
            let Ok(host) = Host::parse(text) else { continue };
            assert_eq!((host.to_string().as_str(), text), ("127.0.0.1", "127.0.0.1"));
        }
        assert_eq!(Host::parse("127.0.0.1").unwrap(), Host::Address(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(Host::parse("01.2.3.4"), Err(NameError::Address.into()));
    }

    #[test]
    fn row_n18_an_ipv6_address_stands_in_brackets_and_has_no_zone() {
        for (text, kept, is) in [
            ("[::1]", "[::1]", Class::Loopback),
            ("[0:0:0:0:0:0:0:1]", "[::1]", Class::Loopback),
            ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]", Class::Loopback),
            ("[::ffff:7f00:1]", "[::ffff:127.0.0.1]", Class::Loopback),
            ("[64:ff9b::169.254.169.254]", "[64:ff9b::a9fe:a9fe]", Class::Metadata),
            ("[2606:4700::1111]", "[2606:4700::1111]", Class::Public),
            ("[FE80::1]", "[fe80::1]", Class::LinkLocal),
        ] {
            let host = Host::parse(text).unwrap();
            assert_eq!(host.to_string(), kept);
            let Host::Address(address) = host else { unreachable!("{text}") };
            assert_eq!(class(address), is, "{text}");
        }
        for (text, error) in [
            ("[fe80::1%eth0]", HostError::Zone),
            ("[fe80::1%25lo]", HostError::Zone),
            ("fe80::1%lo", HostError::NoBrackets),
            ("::1", HostError::NoBrackets),
            ("[::1", HostError::Brackets),
            ("[]", HostError::Brackets),
            ("[1.2.3.4]", HostError::Brackets),
            ("[::01.2.3.4]", HostError::Brackets),
            ("[::1]]", HostError::Brackets),
            ("[[::1]]", HostError::Brackets),
            ("[v1.fe80]", HostError::Brackets),
            ("[ ::1]", HostError::Brackets),
            ("[00000::1]", HostError::Brackets),
            ("::1]", HostError::Name(NameError::Char(':'))),
        ] {
            assert_eq!(Host::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn row_n15_an_authority_is_a_host_and_a_port_and_nothing_else() {
        for text in ["example.com", "example.com:443", "1.2.3.4:1", "[::1]:65535", "[2606:4700::1111]"] {
            assert_eq!(Authority::parse(text).unwrap().to_string(), text);
        }
        for (text, error) in [
            ("example.com:", AuthorityError::NoPort),
            ("[::1]:", AuthorityError::NoPort),
            ("example.com:0", AuthorityError::Port),
            ("example.com:0443", AuthorityError::Port),
            ("example.com:+443", AuthorityError::Port),
            ("example.com:-1", AuthorityError::Port),
            ("example.com:65536", AuthorityError::Port),
            ("example.com:443 ", AuthorityError::Port),
            ("example.com:４４３", AuthorityError::Port),
            ("example.com:443/", AuthorityError::Port),
            ("[::1]x:443", AuthorityError::AfterBracket),
            ("[::1]443", AuthorityError::AfterBracket),
            ("[::1", AuthorityError::Host(HostError::Brackets)),
            ("::1", AuthorityError::Host(HostError::NoBrackets)),
            (":443", AuthorityError::Host(NameError::Empty.into())),
            ("allowed:443:443", AuthorityError::Host(NameError::Char(':').into())),
            ("allowed@attacker:443", AuthorityError::Host(NameError::At.into())),
            ("allowed:pw@attacker", AuthorityError::Port),
            ("2130706433:80", AuthorityError::Host(NameError::Address.into())),
        ] {
            assert_eq!(Authority::parse(text), Err(error), "{text}");
        }
        let long = "a".repeat(MAX_AUTHORITY_BYTES + 1);
        assert_eq!(Authority::parse(&long), Err(HostError::Name(NameError::TooLong).into()));
        assert_eq!(Authority::parse("a").unwrap().port_or(NonZeroU16::MIN).get(), 1);
    }

    #[test]
    fn below_means_at_a_dot() {
        assert!(name("example.com").is_or_below("example.com"));
        assert!(name("a.b.example.com").is_or_below("example.com"));
        assert!(!name("notexample.com").is_or_below("example.com"));
        assert!(!name("com").is_or_below("example.com"));
        assert_eq!(name("a.b.example.com").last_labels(2), "example.com");
        assert_eq!(name("com").last_labels(2), "com");
        assert_eq!(name("com").last_labels(0), "");
        assert_eq!(name("a.b").labels().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_label_of_the_wire_is_no_text_with_dots() {
        assert_eq!(Name::from_labels([b"attacker.com".as_slice(), b"allowed"]), Err(NameError::Dot));
        assert_eq!(Name::from_labels([]), Err(NameError::Empty));
        assert_eq!(Name::from_labels([b"A".as_slice(), b"b"]), Ok(name("a.b")));
    }

    #[test]
    fn what_is_no_name_is_none_in_a_file_either() {
        assert_eq!(serde_json::from_str::<Name>("\"A.b.\"").unwrap(), name("a.b"));
        assert!(serde_json::from_str::<Name>("\"127.1\"").unwrap_err().to_string().contains("ends in a number"));
        assert_eq!(serde_json::from_str::<Authority>("\"a:1\"").unwrap(), Authority::parse("a:1").unwrap());
    }

    /// What programs that read URLs make of the same text.
    fn url_host(text: &str) -> Option<url::Host<String>> {
        url::Url::parse(&format!("http://{text}/")).ok()?.host().map(|host| host.to_owned())
    }

    fn spellings() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-zA-Z0-9_.-]{0,30}",
            "(0x|0X|0)?[0-9a-fA-F]{0,11}(\\.(0x|0)?[0-9a-fA-F]{0,4}){0,4}\\.?",
            "\\[[0-9a-f:.%]{0,30}\\]",
            "[ -~]{0,20}",
            ".{0,12}",
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in spellings()) {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(Name::parse(name.as_str()), Ok(name.clone()));
                prop_assert_eq!(Name::from_labels(name.labels().map(str::as_bytes)), Ok(name));
            }
            if let Ok(authority) = Authority::parse(&text) {
                prop_assert_eq!(Authority::parse(&authority.to_string()), Ok(authority));
            }
        }

        #[test]
        fn a_parser_of_urls_reads_the_same_host_or_none(text in spellings()) {
            match (Host::parse(&text), url_host(&text)) {
                (Ok(Host::Name(name)), Some(url::Host::Domain(theirs))) => {
                    prop_assert_eq!(theirs.strip_suffix('.').unwrap_or(&theirs), name.as_str());
                }
                (Ok(Host::Address(IpAddr::V4(address))), theirs) => prop_assert_eq!(theirs, Some(url::Host::Ipv4(address))),
                (Ok(Host::Address(IpAddr::V6(address))), theirs) => prop_assert_eq!(theirs, Some(url::Host::Ipv6(address))),
                (Ok(Host::Name(name)), Some(theirs)) => prop_assert!(false, "{name} is {theirs} to others"),
                // Only a label that claims to be internationalised and is not makes a name that others do not read.
                (Ok(Host::Name(name)), None) => prop_assert!(name.labels().any(|label| label.starts_with("xn--"))),
                (Err(_), _) => {}
            }
        }

        #[test]
        fn the_standard_library_reads_no_name_as_an_address(text in spellings()) {
            if let Ok(name) = Name::parse(&text) {
                prop_assert!(name.as_str().parse::<IpAddr>().is_err());
                prop_assert!(name.as_str().parse::<std::net::SocketAddr>().is_err());
            }
        }

        #[test]
        fn every_address_reads_back(v4: [u8; 4], v6: [u8; 16], port: NonZeroU16) {
            for host in [Host::Address(Ipv4Addr::from(v4).into()), Host::Address(Ipv6Addr::from(v6).into())] {
                let authority = Authority { host, port: Some(port) };
                prop_assert_eq!(Authority::parse(&authority.to_string()), Ok(authority));
            }
        }
    }
}
