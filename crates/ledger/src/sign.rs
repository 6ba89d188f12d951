//! Ed25519 keys (RFC 8032) of runners and servers: they sign checkpoints, requests and tickets.

use std::{fmt, path::Path, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stockade_domain::World;

use crate::{
    KeyFileError, SystemWorld,
    keyfile::{self, Form},
};

const FORM: Form = Form { what: "signing key", prefix: "stockade-signing-key-1:", len: 32 };

/// A key that signs. Shown as nothing but its public half.
pub struct SigningKey {
    seed: SecretBox<[u8; 32]>,
    pair: Ed25519KeyPair,
}

/// The public half of a [`SigningKey`], shown as base64 (standard, padded) of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyingKey([u8; 32]);

/// A text that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an Ed25519 public key: 44 characters of base64")]
pub struct KeyTextError;

impl SigningKey {
    /// A fresh key.
    pub fn generate() -> Self {
        loop {
            let mut seed = SecretBox::new(Box::new([0; 32]));
            SystemWorld.random(secrecy::ExposeSecretMut::expose_secret_mut(&mut seed));
            // Every seed is a key; should the library ever refuse one, the next will do.
            if let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(seed.expose_secret()) {
                return Self { seed, pair };
            }
        }
    }

    /// The key in a file that [`save`](Self::save) made.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let bytes = keyfile::load(path, &FORM)?;
        let malformed = || KeyFileError::Malformed { path: path.to_owned(), what: FORM.what, prefix: FORM.prefix };
        let seed: [u8; 32] = bytes.expose_secret().try_into().map_err(|_| malformed())?;
        let seed = SecretBox::new(Box::new(seed));
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose_secret()).map_err(|_| malformed())?;
        Ok(Self { seed, pair })
    }

    /// Writes the key into a new file with mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        keyfile::save(path, &FORM, self.seed.expose_secret())
    }

    /// Its public half.
    pub fn public(&self) -> VerifyingKey {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        VerifyingKey(bytes)
    }

    /// The signature over `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        for (to, from) in bytes.iter_mut().zip(self.pair.sign(message).as_ref()) {
            *to = *from;
        }
        bytes
    }
}

impl VerifyingKey {
    /// From its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `signature` over `message` was made with the other half.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public())
    }
}
impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for VerifyingKey {
    type Err = KeyTextError;
    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        if text.len() != 44 {
            return Err(KeyTextError);
        }
        let bytes = STANDARD.decode(text).map_err(|_| KeyTextError)?;
        bytes.try_into().map(Self).map_err(|_| KeyTextError)
    }
}
impl Serialize for VerifyingKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for VerifyingKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let key = SigningKey::generate();
        let signature = key.sign(b"hello");
        assert!(key.public().verify(b"hello", &signature));
        assert!(!key.public().verify(b"hallo", &signature));
        assert!(!SigningKey::generate().public().verify(b"hello", &signature));
        assert!(!key.public().verify(b"hello", &signature[..63]));
    }

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = SigningKey::generate();
        key.save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(SigningKey::load(&path).unwrap().public(), key.public());
        assert!(matches!(key.save(&path), Err(KeyFileError::Exists { .. })));
        for mode in [0o640, 0o604, 0o660, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(SigningKey::load(&path), Err(KeyFileError::Open { .. })), "{mode:o}");
        }
    }

    #[test]
    fn a_malformed_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let long = format!("stockade-signing-key-1:{}", "A".repeat(5000));
        for text in ["", "stockade-signing-key-1:", "stockade-signing-key-1:AAAA", "something else", &long] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(SigningKey::load(&path), Err(KeyFileError::Malformed { .. })), "{text:.30}");
        }
        assert!(matches!(SigningKey::load(&dir.path().join("none")), Err(KeyFileError::Io { .. })));
    }

    #[test]
    fn a_public_key_reads_back() {
        let key = SigningKey::generate().public();
        assert_eq!(key.to_string().parse(), Ok(key));
        for wrong in ["", "AAAA", &"A".repeat(44), &"!".repeat(44)] {
            assert_eq!(wrong.parse::<VerifyingKey>(), Err(KeyTextError), "{wrong}");
        }
    }
}
