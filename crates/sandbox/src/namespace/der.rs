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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_read_as_they_are_written() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let body = vec![7; length];
            let mut written = Vec::new();
            write(&mut written, UTF8, &body);
            written.push(9);
            let (found, rest) = element(&written).unwrap();
            assert_eq!((found.tag, found.body.len(), rest), (UTF8, length, &[9][..]), "{length}");
        }
        for wrong in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x30, 0x82, 1],
            &[0x30, 2, 1],
            &[0x30, 0xFF],
        ] {
            assert!(element(wrong).is_none(), "{wrong:?}");
        }
        assert!(element(&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 1]).is_none(), "longer than there is");
    }

    /// A name of some parts, as a certificate has it.
    fn name(parts: &[(u8, String)]) -> Vec<u8> {
        let mut name = Vec::new();
        for (tag, text) in parts {
            let (mut pair, mut part, mut set) = (Vec::new(), Vec::new(), Vec::new());
            write(&mut pair, OBJECT, &[0x55, 4, 3]);
            write(&mut pair, *tag, text.as_bytes());
            write(&mut part, SEQUENCE, &pair);
            write(&mut set, SET, &part);
            name.extend(set);
        }
        name
    }

    proptest! {
        #[test]
        fn what_is_read_of_any_bytes_is_a_part_of_them(bytes: Vec<u8>, begin in prop::sample::select(vec![0x30u8, 0x31, 0xA0])) {
            let bytes = [&[begin], bytes.as_slice()].concat();
            if let Some((found, rest)) = element(&bytes) {
                prop_assert!(found.body.len() + rest.len() + 2 <= bytes.len());
                prop_assert!(bytes.ends_with(rest));
            }
            if let Some(subject) = subject(&bytes) {
                prop_assert!(bytes.windows(subject.len().max(1)).any(|part| part == subject) || subject.is_empty());
            }
            let _ = canonical_name(&bytes);
        }

        #[test]
        fn a_name_has_one_form_however_it_is_spaced_and_spelled(
            parts in prop::collection::vec((prop::sample::select(vec![UTF8, PRINTABLE, IA5, VISIBLE]), "[a-zA-Z \\t\u{e9}]{0,140}"), 0..4)
        ) {
            let canonical = canonical_name(&name(&parts)).unwrap();
            prop_assert_eq!(canonical_name(&canonical).unwrap(), canonical.clone());
            let spaced: Vec<_> = parts.iter().map(|(_, text)| (UTF8, format!("  {} ", text.to_ascii_uppercase().replace(' ', "   ")))).collect();
            prop_assert_eq!(canonical_name(&name(&spaced)).unwrap(), canonical);
        }
    }
}
