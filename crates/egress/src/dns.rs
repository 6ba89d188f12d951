//! What an environment is answered when it asks for names: [`answer`].
//!
//! It owns the messages (RFC 1035, RFC 6891, RFC 7766 for TCP) and the table of [`Names`]. It refuses to ask anybody: no question
//! leaves the runner, so nothing can be told to the outside by asking. A name gets an address of ours, and what is behind it is
//! decided and resolved when somebody connects to that address.
//!
//! The rules for names:
//!
//! | asked | answered |
//! |---|---|
//! | a name of two labels or more | A and AAAA its addresses of ours, everything else no data; the name has its place from then on |
//! | `localhost` and below | 127.0.0.1 and ::1 (RFC 6761 §6.3) |
//! | the reverse of an address of ours or of loopback | PTR its name; if it has none, and for every other address, no such name |
//! | anything else below `arpa` | no such name; so nobody finds a translator (RFC 7050) or another resolver (RFC 9462) |
//! | `local`, `invalid`, `onion`, `alt` and below | no such name (RFC 6762 §22, RFC 6761 §6.4, RFC 7686, RFC 9476): the DNS does not know them |
//! | `use-application-dns.net` | no such name: that tells Firefox to leave its own resolver over HTTPS alone |
//! | the root, a single label, `arpa` | no data: it is there, as other names are below it (RFC 8020), and has no address; no search list is used |
//! | what is no [`Name`] | no such name |
//! | more names below one parent than [`MAX_NAMES_BELOW`] | REFUSED, and the first such answer says so to the record |
//! | more names than [`MAX_NAMES`] | SERVFAIL, likewise |
//!
//! *Invariant:* a reply has the question's id and its question byte for byte, however letters were written; the table, the
//! record and every address know small letters only, so the writing tells nobody anything. There is no reply to a reply.

mod names;
mod tcp;
mod wire;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

pub use names::{Addresses, MAX_NAMES, MAX_NAMES_BELOW, Names, Turned};
pub use tcp::{FrameError, Messages, framed};
pub use wire::{MAX_QUERY_BYTES, MAX_UDP_REPLY_BYTES, Malformed, TTL_SECONDS};

use crate::{
    address::ours_v6,
    name::{Name, NameError},
};
use wire::{Data, Query, Rcode, Reply};

/// By what way a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A reply is as long as the client can take, [`MAX_UDP_REPLY_BYTES`] at most, or says that it was cut.
    Udp,
    /// A reply is as long as it is.
    Tcp,
}

/// The type of a question, RFC 1035 §3.2.2 and its successors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// An IPv4 address.
    pub const A: Self = Self(1);
    /// A name for an address.
    pub const PTR: Self = Self(12);
    /// An IPv6 address.
    pub const AAAA: Self = Self(28);
    const IXFR: Self = Self(251);
    const AXFR: Self = Self(252);
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.0 {
            1 => "A",
            2 => "NS",
            5 => "CNAME",
            6 => "SOA",
            10 => "NULL",
            12 => "PTR",
            15 => "MX",
            16 => "TXT",
            28 => "AAAA",
            33 => "SRV",
            64 => "SVCB",
            65 => "HTTPS",
            251 => "IXFR",
            252 => "AXFR",
            255 => "ANY",
            other => return write!(f, "TYPE{other}"),
        };
        f.write_str(word)
    }
}

/// What was asked, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name in small letters; what is none is written with the escapes of RFC 1035 §5.1, so it is printable and has no space in it.
    pub name: String,
    /// The type.
    pub kind: Kind,
}

/// How a question was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// With an address, or the name of one.
    Answered,
    /// The name is there and has nothing of this type.
    NoData,
    /// By a rule there is no such name.
    NoSuchName,
    /// It is no host name.
    NotAName(NameError),
    /// The table turned it away.
    Turned(Turned),
    /// Another class than the internet's (IN).
    Class(u16),
    /// All names of a zone were asked for (AXFR, IXFR).
    Transfer,
    /// Something else than a question: an update, a notification.
    Opcode(u8),
    /// A version of EDNS that we do not know.
    EdnsVersion(u8),
    /// It does not read.
    Malformed(Malformed),
}

impl Verdict {
    /// The word, as in records.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoData => "no_data",
            Self::NoSuchName => "no_such_name",
            Self::NotAName(_) => "not_a_name",
            Self::Turned(Turned::Crowded { .. }) => "crowded",
            Self::Turned(Turned::Full { .. }) => "full",
            Self::Class(_) => "class",
            Self::Transfer => "transfer",
            Self::Opcode(_) => "opcode",
            Self::EdnsVersion(_) => "edns_version",
            Self::Malformed(_) => "malformed",
        }
    }

    const fn rcode(&self) -> Rcode {
        match self {
            Self::Answered | Self::NoData => Rcode::NoError,
            Self::NoSuchName | Self::NotAName(_) => Rcode::NxDomain,
            Self::Turned(Turned::Full { .. }) => Rcode::ServFail,
            Self::Turned(Turned::Crowded { .. }) | Self::Class(_) | Self::Transfer => Rcode::Refused,
            Self::Opcode(_) => Rcode::NotImp,
            Self::EdnsVersion(_) => Rcode::BadVers,
            Self::Malformed(_) => Rcode::FormErr,
        }
    }
}

/// What comes of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The bytes to send back. None if the query was itself a reply, or too short to have an id.
    pub reply: Option<Vec<u8>>,
    /// What was asked, if that could be read.
    pub asked: Option<Question>,
    /// How it was answered.
    pub verdict: Verdict,
}

/// Answers one query: the bytes of a datagram, or of one message of a connection ([`Messages`]).
pub fn answer(names: &mut Names, query: &[u8], transport: Transport) -> Answered {
    let (header, rest) = match wire::header(query) {
        Ok(read) => read,
        Err(error) => return Answered { reply: None, asked: None, verdict: Verdict::Malformed(error) },
    };
    if header.opcode() != 0 {
        let verdict = Verdict::Opcode(header.opcode());
        return Answered { reply: Some(Reply::bare(header, verdict.rcode())), asked: None, verdict };
    }
    let query = match wire::question(header, query.len(), rest) {
        Ok(query) => query,
        Err(error) => {
            let verdict = Verdict::Malformed(error);
            return Answered { reply: Some(Reply::bare(header, verdict.rcode())), asked: None, verdict };
        }
    };
    let asked = Some(Question { name: query.text(), kind: query.kind });
    let (verdict, data) = decide(names, &query);
    let limit = match transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp => usize::from(u16::MAX),
    };
    Answered { reply: Some(Reply::to(&query, verdict.rcode(), data, limit)), asked, verdict }
}

/// What is wrong with the query beyond its question, or what its name is answered.
fn decide(names: &mut Names, query: &Query<'_>) -> (Verdict, Option<Data>) {
    if query.class != wire::CLASS_IN {
        return (Verdict::Class(query.class), None);
    }
    if matches!(query.kind, Kind::AXFR | Kind::IXFR) {
        return (Verdict::Transfer, None);
    }
    match query.edns {
        Err(error) => return (Verdict::Malformed(error), None),
        Ok(Some(edns)) if edns.version != 0 => return (Verdict::EdnsVersion(edns.version), None),
        Ok(_) => {}
    }
    if query.labels.is_empty() {
        return (Verdict::NoData, None);
    }
    match Name::from_labels(query.labels.iter().copied()) {
        Ok(name) => look_up(names, &name, query.kind),
        Err(error) => (Verdict::NotAName(error), None),
    }
}

/// Names of which the DNS says that they are not there, and all below them.
const NOWHERE: [&str; 5] = ["local", "invalid", "onion", "alt", "use-application-dns.net"];

fn look_up(names: &mut Names, name: &Name, kind: Kind) -> (Verdict, Option<Data>) {
    if name.is_or_below("localhost") {
        return addresses(Addresses { v4: Ipv4Addr::LOCALHOST, v6: Ipv6Addr::LOCALHOST }, kind);
    }
    if name.is_or_below("arpa") {
        return backwards(names, name, kind);
    }
    if NOWHERE.iter().any(|nowhere| name.is_or_below(nowhere)) {
        return (Verdict::NoSuchName, None);
    }
    if name.labels().nth(1).is_none() {
        return (Verdict::NoData, None);
    }
    match names.give(name) {
        Ok(given) => addresses(given, kind),
        Err(turned) => (Verdict::Turned(turned), None),
    }
}

fn addresses(given: Addresses, kind: Kind) -> (Verdict, Option<Data>) {
    match kind {
        Kind::A => (Verdict::Answered, Some(Data::A(given.v4))),
        Kind::AAAA => (Verdict::Answered, Some(Data::Aaaa(given.v6))),
        _ => (Verdict::NoData, None),
    }
}

/// Names below `arpa`.
fn backwards(names: &Names, name: &Name, kind: Kind) -> (Verdict, Option<Data>) {
    let found = match reversed(name) {
        Reversed::Address(address) if address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST => {
            Name::parse("localhost").ok()
        }
        Reversed::Address(address) => names.name_of(address).cloned(),
        Reversed::Above => return (Verdict::NoData, None),
        Reversed::Not => None,
    };
    match found {
        Some(found) if kind == Kind::PTR => (Verdict::Answered, Some(Data::Ptr(found))),
        Some(_) => (Verdict::NoData, None),
        None => (Verdict::NoSuchName, None),
    }
}

/// What a name below `arpa` stands for.
enum Reversed {
    /// A whole address.
    Address(IpAddr),
    /// The beginning of one, below which there may be addresses of ours.
    Above,
    /// Neither.
    Not,
}

/// Reads the names of RFC 1035 §3.5 and RFC 3596 §2.5. A number has one spelling.
fn reversed(name: &Name) -> Reversed {
    let mut labels = name.labels().rev().skip(1);
    let family = labels.next();
    let labels = labels.take(33);
    let (address, above) = match family {
        None => return Reversed::Above,
        Some("in-addr") => {
            let Some(octets) = labels.map(octet).collect::<Option<Vec<_>>>() else { return Reversed::Not };
            let known: [&[u8]; 3] = [&[127, 0, 0], &[198, 18], &[198, 19]];
            let address = <[u8; 4]>::try_from(&*octets).map(IpAddr::from).ok();
            (address, octets.len() < 4 && known.iter().any(|known| begins_like(&octets, known)))
        }
        Some("ip6") => {
            let Some(nibbles) = labels.map(nibble).collect::<Option<Vec<_>>>() else { return Reversed::Not };
            let ours = nibbles_of(ours_v6(Ipv4Addr::UNSPECIFIED));
            let known: [&[u8]; 2] = [&[0; 31], ours.get(..24).unwrap_or_default()];
            let bits = nibbles.iter().fold(0, |bits: u128, nibble| bits << 4 | u128::from(*nibble));
            let address = (nibbles.len() == 32).then(|| Ipv6Addr::from_bits(bits).into());
            (address, nibbles.len() < 32 && known.iter().any(|known| begins_like(&nibbles, known)))
        }
        Some(_) => return Reversed::Not,
    };
    match address {
        Some(address) => Reversed::Address(address),
        None if above => Reversed::Above,
        None => Reversed::Not,
    }
}

/// Whether one is the beginning of the other.
fn begins_like(one: &[u8], other: &[u8]) -> bool {
    one.iter().zip(other).all(|(one, other)| one == other)
}

fn octet(label: &str) -> Option<u8> {
    label.parse::<u8>().ok().filter(|byte| byte.to_string() == label)
}

fn nibble(label: &str) -> Option<u8> {
    let mut chars = label.chars();
    let digit = chars.next()?.to_digit(16)?;
    if chars.next().is_some() { None } else { u8::try_from(digit).ok() }
}

fn nibbles_of(address: Ipv6Addr) -> Vec<u8> {
    address.octets().iter().flat_map(|byte| [byte >> 4, byte & 15]).collect()
}

#[cfg(test)]
mod tests;
