//! So much of X.509 as finding a certificate's subject takes (X.690 §8, RFC 5280 §4.1).
//!
//! It refuses what it does not know by saying nothing: then a certificate has no name here, and is found by other ways.

/// A list of things.
pub const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const UTF8: u8 = 0x0C;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
const VISIBLE: u8 = 0x1A;
const EXPLICIT_0: u8 = 0xA0;

/// One thing.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    /// What it is.
    pub tag: u8,
    /// What is in it.
    pub body: &'a [u8],
}

/// The first thing of some bytes, and what comes after it.
pub fn element(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0F))?;
            (digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (body, rest) = rest.split_at_checked(length)?;
    Some((Element { tag, body }, rest))
}

fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = element(bytes)?;
    (found.tag == tag).then_some((found.body, rest))
}

/// The subject of a certificate: what is in its name.
pub fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut fields, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, rest)) = expect(fields, EXPLICIT_0) {
        fields = rest;
    }
    // Number, algorithm, issuer, time.
    for _ in 0..4 {
        fields = element(fields)?.1;
    }
    expect(fields, SEQUENCE).map(|(name, _)| name)
}

/// A name as OpenSSL compares it: each text in UTF-8 and small letters, without spaces around it and with single ones within.
pub fn canonical_name(mut name: &[u8]) -> Option<Vec<u8>> {
    let mut canonical = Vec::new();
    while !name.is_empty() {
        let (mut parts, rest) = expect(name, SET)?;
        name = rest;
        let mut set = Vec::new();
        while !parts.is_empty() {
            let (part, rest) = expect(parts, SEQUENCE)?;
            parts = rest;
            let (kind, value) = expect(part, OBJECT)?;
            let (value, _) = element(value)?;
            if !matches!(value.tag, UTF8 | PRINTABLE | IA5 | VISIBLE) {
                return None;
            }
            let text = std::str::from_utf8(value.body).ok()?;
            let words: Vec<&str> =
                text.split(|c: char| c.is_ascii_whitespace() || c == '\x0B').filter(|word| !word.is_empty()).collect();
            let mut pair = Vec::new();
            write(&mut pair, OBJECT, kind);
            write(&mut pair, UTF8, words.join(" ").to_ascii_lowercase().as_bytes());
            write(&mut set, SEQUENCE, &pair);
        }
        write(&mut canonical, SET, &set);
    }
    Some(canonical)
}

fn write(to: &mut Vec<u8>, tag: u8, body: &[u8]) {
    to.push(tag);
    let digits = body.len().to_be_bytes();
    let digits: Vec<u8> = digits.into_iter().skip_while(|digit| *digit == 0).collect();
    match (digits.as_slice(), body.len()) {
        (&[short], 0..=0x7F) => to.push(short),
        ([], _) => to.push(0),
        (digits, _) => {
            to.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
            to.extend(digits);
        }
    }
    to.extend(body);
}
