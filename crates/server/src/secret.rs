//! Bearer tokens: how they look, and the digest that is all that is kept of them.

use secrecy::{ExposeSecret, SecretString};
use stockade_domain::{Digest, World};

/// What a person's token begins with, so that secret scanners find it.
pub const USER_PREFIX: &str = "stk_";

/// What a one-time enrolment token begins with.
pub const ENROLL_PREFIX: &str = "ste_";

/// The longest token that is looked at, in bytes. A longer one is unknown.
pub const MAX_TOKEN: usize = 128;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A fresh token: the prefix and 32 random bytes in base 32 (RFC 4648, lower case, unpadded).
pub fn generate(world: &dyn World, prefix: &str) -> SecretString {
    let mut bytes = [0; 32];
    world.random(&mut bytes);
    let mut text = String::with_capacity(prefix.len() + 52);
    text.push_str(prefix);
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in bytes.iter() {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(&mut text, buffer >> bits);
        }
    }
    if bits > 0 {
        push(&mut text, buffer << (5 - bits));
    }
    SecretString::from(text)
}

/// A fresh token for the gateway.
pub fn generate_gateway(world: &dyn World) -> SecretString {
    let mut bytes = [0; 32];
    world.random(&mut bytes);
    SecretString::from(stockade_api::gateway_token::encode(&bytes))
}

/// What is kept of a token.
pub fn digest(token: &SecretString) -> Digest {
    stockade_ledger::sha256(&[token.expose_secret().as_bytes()])
}

fn push(text: &mut String, five: u32) {
    text.push(char::from(ALPHABET.get((five & 31) as usize).copied().unwrap_or(b'a')));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_different() {
        let world = stockade_ledger::SystemWorld;
        let (a, b) = (generate(&world, USER_PREFIX), generate(&world, USER_PREFIX));
        assert_eq!(a.expose_secret().len(), 4 + 52);
        assert!(a.expose_secret().starts_with("stk_"));
        assert_ne!(digest(&a), digest(&b));
    }
}
