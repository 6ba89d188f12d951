//! Packets: four hexadecimal digits of length, then so many bytes less four (gitprotocol-common, "pkt-line Format").
//!
//! *Invariant:* the packets do not depend on where the bytes were split, after an error there are no more packets, and
//! no byte after the packet that was asked for is taken. It refuses lengths that mean nothing and those above the limit.

use super::digit;

/// The longest packet with its four digits: the protocol's own limit.
pub const MAX_PACKET_BYTES: usize = 65_520;
/// The most bytes that one packet carries.
pub const MAX_PAYLOAD_BYTES: usize = MAX_PACKET_BYTES - 4;

/// Why bytes are no packets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PktError {
    /// The four bytes of the length are no hexadecimal digits.
    #[error("a packet's length is not four hexadecimal digits but `{0}`")]
    Digits(String),
    /// A length that means nothing.
    #[error("a packet's length is {0}: neither a packet nor one of the three marks")]
    Short(usize),
    /// Above the protocol's limit.
    #[error("a packet has {0} bytes, above the protocol's {MAX_PACKET_BYTES}")]
    Long(usize),
    /// The bytes ended within a packet.
    #[error("the bytes ended within a packet")]
    Truncated,
    /// A side-band packet without a known band.
    #[error("a side-band packet begins with {0:?}, not with 1, 2 or 3")]
    Band(Option<u8>),
}

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It carries bytes.
    Data,
    /// `0000`: the end of a message.
    Flush,
    /// `0001`: between the sections of a message (gitprotocol-v2, "Packet-Line Framing").
    Delim,
    /// `0002`: the end of an answer on a connection without state.
    ResponseEnd,
}

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub kind: Kind,
    /// What it carries; empty for the marks.
    pub payload: &'a [u8],
    /// All of it as it came, with the length.
    pub raw: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The payload without the line feed that senders should and receivers need not have.
    #[must_use]
    pub fn line(&self) -> &'a [u8] {
        self.payload.strip_suffix(b"\n").unwrap_or(self.payload)
    }

    /// The explanation, if the packet is `ERR …`: with it the conversation is over.
    #[must_use]
    pub fn error(&self) -> Option<&'a [u8]> {
        self.line().strip_prefix(b"ERR ")
    }
}

/// Reads packets out of bytes that arrive in pieces. It holds at most one packet.
#[derive(Debug, Clone, Default)]
pub struct PacketReader {
    held: Vec<u8>,
    complete: bool,
    failed: Option<PktError>,
}

impl PacketReader {
    /// At the beginning of a packet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next packet, or `None` when all of `input` was taken and it is not whole yet. What follows the packet stays in `input`.
    ///
    /// # Errors
    /// When the bytes are no packets; then always.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Packet<'_>>, PktError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.complete {
            self.held.clear();
            self.complete = false;
        }
        if !self.fill(4, input) {
            return Ok(None);
        }
        let (kind, length) = match head(&self.held) {
            Ok(head) => head,
            Err(error) => {
                self.failed = Some(error.clone());
                return Err(error);
            }
        };
        if !self.fill(length, input) {
            return Ok(None);
        }
        self.complete = true;
        let raw = self.held.as_slice();
        Ok(Some(Packet { kind, payload: raw.get(4..).unwrap_or_default(), raw }))
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// Within a packet, or after an error.
    pub fn finish(&self) -> Result<(), PktError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.complete || self.held.is_empty() => Ok(()),
            None => Err(PktError::Truncated),
        }
    }

    /// Takes bytes until so many are held.
    fn fill(&mut self, wanted: usize, input: &mut &[u8]) -> bool {
        let missing = wanted.saturating_sub(self.held.len()).min(input.len());
        if let Some((taken, rest)) = input.split_at_checked(missing) {
            self.held.extend_from_slice(taken);
            *input = rest;
        }
        self.held.len() >= wanted
    }
}

/// What the four digits say.
fn head(held: &[u8]) -> Result<(Kind, usize), PktError> {
    let digits = held.get(..4).unwrap_or(held);
    let length = digits
        .iter()
        .try_fold(0usize, |length, byte| Some(length << 4 | usize::from(digit(*byte)?)))
        .ok_or_else(|| PktError::Digits(super::shown(digits)))?;
    match length {
        0 => Ok((Kind::Flush, 4)),
        1 => Ok((Kind::Delim, 4)),
        2 => Ok((Kind::ResponseEnd, 4)),
        3 => Err(PktError::Short(length)),
        length if length > MAX_PACKET_BYTES => Err(PktError::Long(length)),
        length => Ok((Kind::Data, length)),
    }
}

/// Writes a packet that carries bytes.
///
/// # Errors
/// When they are more than a packet carries.
pub fn write(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), PktError> {
    let length = payload.len() + 4;
    if length > MAX_PACKET_BYTES {
        return Err(PktError::Long(length));
    }
    out.extend_from_slice(format!("{length:04x}").as_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// Writes `0000`.
pub fn write_flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

/// Writes `0001`.
pub fn write_delim(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0001");
}

/// What a side-band packet carries (gitprotocol-pack, "Packfile Data").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// 1: the answer itself.
    Data,
    /// 2: words for the person who waits.
    Progress,
    /// 3: why it ends here.
    Error,
}

/// Which band a packet's payload belongs to, and what it carries.
///
/// # Errors
/// When it begins with no known band.
pub fn side_band(payload: &[u8]) -> Result<(Band, &[u8]), PktError> {
    match payload.split_first() {
        Some((1, rest)) => Ok((Band::Data, rest)),
        Some((2, rest)) => Ok((Band::Progress, rest)),
        Some((3, rest)) => Ok((Band::Error, rest)),
        other => Err(PktError::Band(other.map(|(band, _)| *band))),
    }
}

/// Writes bytes on a band, in as many packets as they need.
pub fn write_band(out: &mut Vec<u8>, band: Band, bytes: &[u8]) {
    for piece in bytes.chunks(MAX_PAYLOAD_BYTES - 1) {
        out.extend_from_slice(format!("{:04x}", piece.len() + 5).as_bytes());
        out.push(match band {
            Band::Data => 1,
            Band::Progress => 2,
            Band::Error => 3,
        });
        out.extend_from_slice(piece);
    }
}

/// Packets of these lines: an empty one is a flush, `|` a delimiter.
#[cfg(test)]
pub(super) fn packets(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        match *line {
            "" => write_flush(&mut out),
            "|" => write_delim(&mut out),
            line => write(&mut out, line.as_bytes()).unwrap(),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<(Kind, Vec<u8>)>, PktError> {
        let mut reader = PacketReader::new();
        let mut packets = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(packet) = reader.read(&mut piece)? {
                packets.push((packet.kind, packet.payload.to_vec()));
            }
        }
        reader.finish()?;
        Ok(packets)
    }

    #[test]
    fn marks_and_packets_read() {
        let packets = all(&[b"0006a\n0000", b"00010002", b"0005b0004"]).expect("reads");
        assert_eq!(
            packets,
            [
                (Kind::Data, b"a\n".to_vec()),
                (Kind::Flush, vec![]),
                (Kind::Delim, vec![]),
                (Kind::ResponseEnd, vec![]),
                (Kind::Data, b"b".to_vec()),
                (Kind::Data, vec![]),
            ]
        );
    }

    #[test]
    fn lies_in_lengths_are_refused() {
        assert_eq!(all(&[b"0003"]), Err(PktError::Short(3)));
        assert_eq!(all(&[b"fff1"]), Err(PktError::Long(0xfff1)));
        assert_eq!(all(&[b"ffff"]), Err(PktError::Long(0xffff)));
        for digits in ["+004", " 04x", "0x10", "-001", "00\r\n", "PACK"] {
            assert!(matches!(all(&[digits.as_bytes()]), Err(PktError::Digits(_))), "{digits}");
        }
        assert_eq!(all(&[b"0010short"]), Err(PktError::Truncated));
        assert_eq!(all(&[b"00"]), Err(PktError::Truncated));
    }

    #[test]
    fn after_an_error_nothing_more_is_read() {
        let mut reader = PacketReader::new();
        assert!(reader.read(&mut b"0003".as_slice()).is_err());
        assert_eq!(reader.read(&mut b"0000".as_slice()).map(|_| ()), Err(PktError::Short(3)));
    }

    #[test]
    fn what_follows_a_packet_is_not_taken() {
        let mut input = b"0000PACK".as_slice();
        assert_eq!(PacketReader::new().read(&mut input).expect("reads").map(|p| p.kind), Some(Kind::Flush));
        assert_eq!(input, b"PACK");
    }

    #[test]
    fn the_longest_packet_is_written_and_a_longer_one_is_not() {
        let mut out = Vec::new();
        write(&mut out, &[7; MAX_PAYLOAD_BYTES]).expect("fits");
        assert_eq!(all(&[&out]).expect("reads").len(), 1);
        assert_eq!(write(&mut out, &[7; MAX_PAYLOAD_BYTES + 1]), Err(PktError::Long(MAX_PACKET_BYTES + 1)));
    }

    #[test]
    fn bands_are_told_apart() {
        assert_eq!(side_band(b"\x01PACK"), Ok((Band::Data, b"PACK".as_slice())));
        assert_eq!(side_band(b"\x02"), Ok((Band::Progress, b"".as_slice())));
        assert_eq!(side_band(b"\x04x"), Err(PktError::Band(Some(4))));
        assert_eq!(side_band(b""), Err(PktError::Band(None)));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20), cuts in prop::collection::vec(1usize..50, 1..20)) {
            let mut bytes = Vec::new();
            for payload in &payloads {
                write(&mut bytes, payload).expect("short");
                write_flush(&mut bytes);
            }
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            let read = all(&pieces).expect("reads");
            prop_assert_eq!(&read, &all(&[&bytes]).expect("reads"));
            let data: Vec<_> = read.into_iter().filter(|(kind, _)| *kind == Kind::Data).map(|(_, payload)| payload).collect();
            prop_assert_eq!(data, payloads);
        }

        #[test]
        fn bands_written_read_back(bytes in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let mut out = Vec::new();
            write_band(&mut out, Band::Data, &bytes);
            let mut back = Vec::new();
            for (_, payload) in all(&[&out]).expect("reads") {
                let (band, piece) = side_band(&payload).expect("a band");
                prop_assert_eq!(band, Band::Data);
                back.extend_from_slice(piece);
            }
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = all(&[&bytes]);
        }
    }
}
