//! Queries read and replies written, RFC 1035 §4 and RFC 6891.
//!
//! It refuses what a question never needs: compression, other labels than plain ones, records beside the one of EDNS, bytes after
//! the end. Options of EDNS are skipped unread: nothing of them is answered, kept or sent on.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::Kind;
use crate::name::{MAX_LABEL_BYTES, Name};

/// The longest query that is read, in bytes. A question needs 271; options of EDNS, of which padding is the longest, the rest.
pub const MAX_QUERY_BYTES: usize = 1_232;
/// The longest reply to a datagram, in bytes, for clients that say that they take as much (what passes every network, RFC 9715).
pub const MAX_UDP_REPLY_BYTES: usize = 1_232;
/// How long a client may keep an address or that there is none, in seconds. The table keeps it as long as the environment
/// lives; this is for tools that show it.
pub const TTL_SECONDS: u32 = 30;

/// A reply to a datagram of a client that says nothing of its size, RFC 1035 §4.2.1.
const PLAIN_UDP_BYTES: usize = 512;
pub(super) const HEADER_BYTES: usize = 12;
/// RFC 1035 §3.1: with all lengths and the root's zero.
const MAX_WIRE_NAME_BYTES: usize = 255;
pub(super) const CLASS_IN: u16 = 1;
const SOA: u16 = 6;
const OPT: u16 = 41;

/// Why a query does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than a header.
    #[error("the query is shorter than a header")]
    Short,
    /// It is a reply (QR).
    #[error("the query is a reply")]
    Reply,
    /// Longer than [`MAX_QUERY_BYTES`].
    #[error("the query has more than {MAX_QUERY_BYTES} bytes")]
    Long,
    /// No question or several, RFC 9619.
    #[error("the query has {0} questions; one is answered")]
    Questions(u16),
    /// It ends within the question.
    #[error("the query ends within its question")]
    Truncated,
    /// A compression pointer in the question.
    #[error("the name in the question is compressed")]
    Pointer,
    /// A label of another type, RFC 6891 §5.
    #[error("the name in the question has a label of an unknown type")]
    Label,
    /// Longer than 255 bytes.
    #[error("the name in the question has more than {MAX_WIRE_NAME_BYTES} bytes")]
    Name,
    /// Records where a query has none.
    #[error("the query has records beside its question")]
    Records,
    /// The record of EDNS is not as RFC 6891 §6.1.2 has it.
    #[error("the EDNS record of the query does not read")]
    Edns,
    /// Something after the end.
    #[error("the query goes on after its end")]
    Trailing,
}

/// The fixed beginning of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    id: u16,
    flags: u16,
    counts: [u16; 4],
}

impl Header {
    pub(super) fn opcode(self) -> u8 {
        let [high, _] = self.flags.to_be_bytes();
        (high >> 3) & 15
    }
}

/// The record of EDNS in a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edns {
    size: u16,
    pub(super) version: u8,
    dnssec: bool,
}

/// A query whose question was read.
#[derive(Debug)]
pub(super) struct Query<'a> {
    header: Header,
    /// The question as it came.
    question: &'a [u8],
    pub(super) labels: Vec<&'a [u8]>,
    pub(super) kind: Kind,
    pub(super) class: u16,
    /// What comes after the question: wrong in this way, or perhaps EDNS.
    pub(super) edns: Result<Option<Edns>, Malformed>,
}

impl Query<'_> {
    /// The name for the record, see [`super::Question::name`].
    pub(super) fn text(&self) -> String {
        if self.labels.is_empty() {
            return ".".to_owned();
        }
        let mut text = String::new();
        for (at, label) in self.labels.iter().enumerate() {
            if at > 0 {
                text.push('.');
            }
            for byte in *label {
                match byte {
                    b'.' | b'\\' => text.extend(['\\', char::from(*byte)]),
                    0x21..=0x7e => text.push(char::from(byte.to_ascii_lowercase())),
                    other => {
                        // Writing to a string does not fail.
                        let _ = write!(text, "\\{other:03}");
                    }
                }
            }
        }
        text
    }

    /// How long a reply by UDP may be.
    pub(super) fn udp_limit(&self) -> usize {
        let said = self.edns.ok().flatten().map_or(0, |edns| usize::from(edns.size));
        said.clamp(PLAIN_UDP_BYTES, MAX_UDP_REPLY_BYTES)
    }
}

fn u16_at(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*first), rest))
}

/// Reads the header. An error means that there is nothing to reply to.
pub(super) fn header(query: &[u8]) -> Result<(Header, &[u8]), Malformed> {
    let (header, rest) = query.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Short)?;
    let [a, b, c, d, counts @ ..] = *header;
    let (id, flags) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if flags & 0x8000 != 0 {
        return Err(Malformed::Reply);
    }
    let [a, b, c, d, e, f, g, h] = counts;
    let counts = [[a, b], [c, d], [e, f], [g, h]].map(u16::from_be_bytes);
    Ok((Header { id, flags, counts }, rest))
}

/// Reads the question and what follows it; `length` is the whole query's.
pub(super) fn question(header: Header, length: usize, bytes: &[u8]) -> Result<Query<'_>, Malformed> {
    if length > MAX_QUERY_BYTES {
        return Err(Malformed::Long);
    }
    let [questions, answers, authorities, additional] = header.counts;
    if questions != 1 {
        return Err(Malformed::Questions(questions));
    }
    let (mut labels, mut rest) = (Vec::new(), bytes);
    loop {
        let (first, after) = rest.split_first().ok_or(Malformed::Truncated)?;
        rest = after;
        let length = usize::from(*first);
        match first >> 6 {
            0 if length == 0 => break,
            0 => {}
            3 => return Err(Malformed::Pointer),
            _ => return Err(Malformed::Label),
        }
        debug_assert!(length <= MAX_LABEL_BYTES);
        let (label, after) = rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        // One more byte for the root's zero.
        if bytes.len() - after.len() + 1 > MAX_WIRE_NAME_BYTES {
            return Err(Malformed::Name);
        }
        labels.push(label);
        rest = after;
    }
    let (kind, rest) = u16_at(rest).ok_or(Malformed::Truncated)?;
    let (class, rest) = u16_at(rest).ok_or(Malformed::Truncated)?;
    let question = bytes.get(..bytes.len() - rest.len()).ok_or(Malformed::Truncated)?;
    let edns = if answers == 0 && authorities == 0 { edns(additional, rest) } else { Err(Malformed::Records) };
    Ok(Query { header, question, labels, kind: Kind(kind), class, edns })
}

/// Reads what comes after the question: nothing, or one record of EDNS.
fn edns(count: u16, bytes: &[u8]) -> Result<Option<Edns>, Malformed> {
    match count {
        0 if bytes.is_empty() => return Ok(None),
        0 => return Err(Malformed::Trailing),
        1 => {}
        _ => return Err(Malformed::Records),
    }
    let (fixed, data) = bytes.split_first_chunk::<11>().ok_or(Malformed::Edns)?;
    let [root, k0, k1, s0, s1, _, version, flags, _, l0, l1] = *fixed;
    if root != 0 || u16::from_be_bytes([k0, k1]) != OPT {
        return Err(Malformed::Records);
    }
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if data.len() < length {
        return Err(Malformed::Edns);
    }
    if data.len() > length {
        return Err(Malformed::Trailing);
    }
    Ok(Some(Edns { size: u16::from_be_bytes([s0, s1]), version, dnssec: flags & 0x80 != 0 }))
}

/// How it went, RFC 1035 §4.1.1 and RFC 6891 §9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    /// Its upper bits stand in the record of EDNS.
    BadVers = 16,
}

/// What is answered.
#[derive(Debug)]
pub(super) enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Ptr(Name),
}

/// Writes replies.
#[derive(Debug)]
pub(super) struct Reply;

impl Reply {
    /// A reply to what has no question that reads: the header alone.
    pub(super) fn bare(header: Header, rcode: Rcode) -> Vec<u8> {
        head(header, rcode, false, [0; 4])
    }

    /// A reply with the question as it came. Longer than `limit` it is cut down to the question and says so.
    pub(super) fn to(query: &Query<'_>, rcode: Rcode, data: Option<Data>, limit: usize) -> Vec<u8> {
        let edns = query.edns.ok().flatten().map(|edns| opt(edns, rcode)).unwrap_or_default();
        let negative = data.is_none() && matches!(rcode, Rcode::NoError | Rcode::NxDomain);
        let answer = data.map(record).unwrap_or_default();
        let authority = if negative { authority() } else { Vec::new() };
        let one = |part: &[u8]| u16::from(!part.is_empty());
        let whole = HEADER_BYTES + query.question.len() + answer.len() + authority.len() + edns.len();
        if whole > limit {
            let head = head(query.header, rcode, true, [1, 0, 0, one(&edns)]);
            return [&head, query.question, &edns].concat();
        }
        let head = head(query.header, rcode, false, [1, one(&answer), one(&authority), one(&edns)]);
        [&head, query.question, &answer, &authority, &edns].concat()
    }
}

fn head(header: Header, rcode: Rcode, cut: bool, counts: [u16; 4]) -> Vec<u8> {
    // A reply, by one who asks for others (RA); of the query its kind and the two bits that are the client's (RD, CD).
    let flags = 0x8080 | header.flags & 0x7910 | u16::from(cut) << 9 | rcode as u16 & 15;
    let counts = counts.map(u16::to_be_bytes);
    [header.id.to_be_bytes(), flags.to_be_bytes()].into_iter().chain(counts).flatten().collect()
}

/// The answer's record; its name points at the question's.
fn record(data: Data) -> Vec<u8> {
    let (kind, data) = match data {
        Data::A(v4) => (Kind::A.0, v4.octets().to_vec()),
        Data::Aaaa(v6) => (Kind::AAAA.0, v6.octets().to_vec()),
        Data::Ptr(name) => (Kind::PTR.0, wire_name(name.labels())),
    };
    [&[0xc0, 0x0c], &*fixed(kind, &data), &data].concat()
}

/// Type, class, life and length.
fn fixed(kind: u16, data: &[u8]) -> Vec<u8> {
    // All data here is a name, or shorter.
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    let mut fixed = [kind.to_be_bytes(), CLASS_IN.to_be_bytes()].concat();
    fixed.extend(TTL_SECONDS.to_be_bytes());
    fixed.extend(length.to_be_bytes());
    fixed
}

/// Who says that there is nothing, and for how long (RFC 2308 §3): one zone, from the root on, which is ours.
fn authority() -> Vec<u8> {
    let name = wire_name(["stockade", "invalid"].into_iter());
    // Serial, refresh, retry, expire: nobody copies this zone. Minimum: how long to keep that there is nothing.
    let numbers = [1, 3_600, 600, 86_400, TTL_SECONDS].map(u32::to_be_bytes).concat();
    let data = [&*name, &name, &numbers].concat();
    [&[0], &*fixed(SOA, &data), &data].concat()
}

fn wire_name<'a>(labels: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in labels {
        // A label of a `Name` has 63 bytes at most.
        wire.push(u8::try_from(label.len()).unwrap_or_default());
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// Our record of EDNS: what we take, the upper bits of how it went, version 0, whether DNSSEC was asked for (RFC 3225), no options.
fn opt(edns: Edns, rcode: Rcode) -> Vec<u8> {
    let mut opt = vec![0];
    opt.extend(OPT.to_be_bytes());
    opt.extend(u16::try_from(MAX_QUERY_BYTES).unwrap_or(u16::MAX).to_be_bytes());
    let [_, upper] = ((rcode as u16) >> 4).to_be_bytes();
    opt.extend([upper, 0, if edns.dnssec { 0x80 } else { 0 }, 0, 0, 0]);
    opt
}
