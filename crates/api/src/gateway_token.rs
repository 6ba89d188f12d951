//! How a token for the gateway looks: `stk_gw_`, 32 random bytes in base 32 (RFC 4648, lower case, unpadded: 52 characters),
//! and seven more that are the CRC-32 (as in gzip) of everything before them. So whoever finds such a text, in a log or in a
//! commit, can tell without asking anybody that it is one.
//!
//! This file owns the form and refuses secrets of its own: the random bytes are handed in.

/// What it begins with.
pub const PREFIX: &str = "stk_gw_";

/// How long it is, in bytes.
pub const LEN: usize = PREFIX.len() + BODY + CHECK;

const BODY: usize = 52;
const CHECK: usize = 7;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The token of these random bytes.
#[must_use]
pub fn encode(random: &[u8; 32]) -> String {
    let mut text = format!("{PREFIX}{}", base32(random));
    let check = crc32(text.as_bytes());
    text.push_str(&base32(&check.to_be_bytes()));
    text
}

/// Whether a text has the form of a token, its checksum too. Whether it is a good one only the site knows.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    text.len() == LEN
        && text.strip_prefix(PREFIX).is_some_and(|rest| rest.bytes().all(|byte| ALPHABET.contains(&byte)))
        && text
            .split_at_checked(LEN - CHECK)
            .is_some_and(|(body, check)| base32(&crc32(body.as_bytes()).to_be_bytes()) == check)
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut buffer, mut bits) = (0u32, 0u32);
    let mut push = |five: u32| text.push(char::from(ALPHABET.get((five & 31) as usize).copied().unwrap_or(b'a')));
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(buffer >> bits);
        }
    }
    if bits > 0 {
        push(buffer << (5 - bits));
    }
    text
}

/// CRC-32 as in gzip (RFC 1952, section 8). A few dozen bytes at a time: no table is worth it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_that_everybody_has() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_token_is_told_from_what_only_looks_like_one() {
        let token = encode(&[7; 32]);
        assert_eq!(token.len(), LEN);
        assert!(is_well_formed(&token), "{token}");
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'q' { b'r' } else { b'q' };
            assert!(!is_well_formed(&String::from_utf8(other).unwrap()), "byte {at} changed");
        }
        for wrong in ["", "stk_gw_", &token[1..], &format!("{token}a"), &token.to_uppercase(), &"é".repeat(33)] {
            assert!(!is_well_formed(wrong), "{wrong}");
        }
    }
}
