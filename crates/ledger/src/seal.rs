//! Sealing: content becomes unreadable where it is made, and readable again only within the site.
//!
//! Each run has a [`RunKey`] (AES-256-GCM). It exists in plain form only where content is made or read, and
//! rests as a [`WrappedKey`]: HPKE (RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM) to
//! the site's public key. Destroying every copy of the wrapped key erases the content for ever, while digests of
//! the sealed bytes, and so the ledger, stay whole.
//!
//! A sealed blob is `STKSEAL1`, the run's id (16 bytes), a random nonce (12 bytes), ciphertext and tag (16 bytes).
//! The magic, the run and the kind are authenticated: a blob opens only as what it was sealed as.
//!
//! *Invariant:* no secret here has a `Debug` form, and every one is wiped when it is dropped.

use std::{fmt, path::Path, str::FromStr};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as HPKE,
    hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey},
};
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox, zeroize::Zeroize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stockade_domain::{ContentKind, ContentRef, World, ids::RunId};

use crate::{
    KeyFileError, SystemWorld,
    keyfile::{self, Form},
    tree::sha256,
};

/// The longest piece of content, in bytes of plain text. A longer one is refused: whoever has more, splits it.
pub const MAX_CONTENT_BYTES: usize = 48 * 1024 * 1024;

const FORM: Form = Form { what: "site key", prefix: "stockade-site-key-1:", len: 32 };
const PUBLIC_PREFIX: &str = "stockade-site-1:";
const SEAL_MAGIC: &[u8; 8] = b"STKSEAL1";
const WRAP_MAGIC: &[u8; 8] = b"STKWRAP1";
const WRAP_INFO: &[u8] = b"stockade run key 1";
const TAG: usize = 16;
const HEAD: usize = 8 + 16 + NONCE_LEN;
const WRAPPED: usize = 8 + 16 + 32 + 32 + TAG;

/// Why something could not be sealed or opened. It never says anything about the content.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The piece is longer than [`MAX_CONTENT_BYTES`].
    #[error("content of {len} bytes is too long to seal: at most {MAX_CONTENT_BYTES} are allowed, split it")]
    TooLong {
        /// How long it is.
        len: usize,
    },
    /// The bytes are not in the form of a sealed blob.
    #[error("these bytes are no sealed content")]
    NotSealed,
    /// The blob belongs to another run than the key.
    #[error("the content belongs to {found}, the key to {expected}")]
    OtherRun {
        /// The key's.
        expected: RunId,
        /// The content's.
        found: RunId,
    },
    /// The key is another one, the kind is another one, or the bytes were changed.
    #[error("the {what} does not open: it was changed, is of another kind, or was made for another key")]
    DoesNotOpen {
        /// `content` or `wrapped key`.
        what: &'static str,
    },
    /// A text that is no key.
    #[error("expected a {what}")]
    NotAKey {
        /// What was wanted, and how it looks.
        what: &'static str,
    },
    /// The cryptographic library refused.
    #[error("the {what} could not be made: {why}")]
    Library {
        /// What was being made.
        what: &'static str,
        /// Its reason.
        why: String,
    },
    /// The key file.
    #[error(transparent)]
    File(#[from] KeyFileError),
}

/// The private key of a site (X25519).
pub struct SiteKey {
    secret: SecretBox<[u8; 32]>,
    public: SitePublicKey,
}

/// The public key of a site, shown as `stockade-site-1:` and base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SitePublicKey([u8; 32]);

/// The data key of one run.
pub struct RunKey {
    run: RunId,
    secret: SecretBox<[u8; 32]>,
}

/// A run's key that only the site can unwrap, shown as base64. Bound to its run.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey {
    run: RunId,
    bytes: [u8; WRAPPED],
}

/// A sealed piece of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What records and events say about it.
    pub content: ContentRef,
    /// The sealed bytes.
    pub bytes: Bytes,
}

/// The reference to sealed bytes that are of this kind.
pub fn content_ref(kind: ContentKind, sealed: &[u8]) -> ContentRef {
    ContentRef { kind, digest: sha256(&[sealed]), len: sealed.len() as u64 }
}

/// The run to which sealed bytes belong, by their own account; opening them proves it.
pub fn sealed_run(sealed: &[u8]) -> Result<RunId, SealError> {
    Ok(split(sealed)?.0)
}

impl SiteKey {
    /// A fresh key.
    pub fn generate() -> Result<Self, SealError> {
        let mut secret = SecretBox::new(Box::new([0; 32]));
        SystemWorld.random(secret.expose_secret_mut());
        Self::from_secret(secret)
    }

    /// The key in a file that [`save`](Self::save) made.
    pub fn load(path: &Path) -> Result<Self, SealError> {
        let bytes = keyfile::load(path, &FORM)?;
        let mut secret = SecretBox::new(Box::new([0; 32]));
        secret.expose_secret_mut().copy_from_slice(bytes.expose_secret());
        Self::from_secret(secret)
    }

    /// Writes the key into a new file with mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), SealError> {
        Ok(keyfile::save(path, &FORM, self.secret.expose_secret())?)
    }

    /// Its public half.
    pub const fn public(&self) -> SitePublicKey {
        self.public
    }

    /// The run's key.
    pub fn unwrap_key(&self, wrapped: &WrappedKey) -> Result<RunKey, SealError> {
        let (head, enc, sealed) = wrapped.parts();
        let private = HpkePrivateKey::from(self.secret.expose_secret().to_vec());
        let mut plain = HPKE
            .open(&EncapsulatedSecret(enc.to_vec()), WRAP_INFO, head, sealed, &private)
            .map_err(|_| SealError::DoesNotOpen { what: "wrapped key" })?;
        let mut secret = SecretBox::new(Box::new([0; 32]));
        let fits = plain.len() == secret.expose_secret().len();
        if fits {
            secret.expose_secret_mut().copy_from_slice(&plain);
        }
        plain.zeroize();
        if fits { Ok(RunKey { run: wrapped.run, secret }) } else { Err(SealError::DoesNotOpen { what: "wrapped key" }) }
    }

    fn from_secret(secret: SecretBox<[u8; 32]>) -> Result<Self, SealError> {
        let library = |e: &dyn fmt::Display| SealError::Library { what: "site key", why: e.to_string() };
        let private = PrivateKey::from_private_key(&X25519, secret.expose_secret()).map_err(|e| library(&e))?;
        let public = private.compute_public_key().map_err(|e| library(&e))?;
        let public = public.as_ref().try_into().map_err(|e| library(&e))?;
        Ok(Self { secret, public: SitePublicKey(public) })
    }
}

impl SitePublicKey {
    /// A short form for people to compare: 32 hexadecimal digits in groups of four.
    pub fn fingerprint(&self) -> String {
        let digest = sha256(&[PUBLIC_PREFIX.as_bytes(), &self.0]);
        digest
            .0
            .chunks(2)
            .take(8)
            .map(|pair| pair.iter().map(|b| format!("{b:02x}")).collect())
            .collect::<Vec<String>>()
            .join("-")
    }
}

impl RunKey {
    /// A fresh key for a run.
    pub fn generate(world: &dyn World, run: RunId) -> Self {
        let mut secret = SecretBox::new(Box::new([0; 32]));
        world.random(secret.expose_secret_mut());
        Self { run, secret }
    }

    /// Whose it is.
    pub const fn run(&self) -> RunId {
        self.run
    }

    /// A key for another purpose, which says nothing about this one: HMAC-SHA-256 of the purpose (RFC 5869, section 2.3, with one
    /// block). Gone with the run's key.
    pub fn derived(&self, purpose: &str) -> SecretBox<[u8; 32]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.expose_secret());
        let mut derived = SecretBox::new(Box::new([0; 32]));
        let tag = hmac::sign(&key, &[purpose.as_bytes(), &[1]].concat());
        for (slot, byte) in derived.expose_secret_mut().iter_mut().zip(tag.as_ref()) {
            *slot = *byte;
        }
        derived
    }

    /// The form in which it rests.
    pub fn wrap(&self, site: &SitePublicKey) -> Result<WrappedKey, SealError> {
        let library = |why: String| SealError::Library { what: "wrapped key", why };
        let mut bytes = [0; WRAPPED];
        let head = [WRAP_MAGIC.as_slice(), self.run.as_bytes()].concat();
        let (enc, sealed) = HPKE
            .seal(WRAP_INFO, &head, self.secret.expose_secret(), &HpkePublicKey(site.0.to_vec()))
            .map_err(|e| library(e.to_string()))?;
        let all = [head, enc.0, sealed].concat();
        if all.len() != WRAPPED {
            return Err(library(format!("{} bytes instead of {WRAPPED}", all.len())));
        }
        bytes.copy_from_slice(&all);
        Ok(WrappedKey { run: self.run, bytes })
    }

    /// Seals one piece of content. `world` gives the nonce.
    pub fn seal(&self, world: &dyn World, kind: ContentKind, plain: &[u8]) -> Result<Sealed, SealError> {
        if plain.len() > MAX_CONTENT_BYTES {
            return Err(SealError::TooLong { len: plain.len() });
        }
        let mut nonce = [0; NONCE_LEN];
        world.random(&mut nonce);
        let mut bytes = Vec::with_capacity(HEAD + plain.len() + TAG);
        bytes.extend_from_slice(SEAL_MAGIC);
        bytes.extend_from_slice(self.run.as_bytes());
        bytes.extend_from_slice(&nonce);
        let mut body = plain.to_vec();
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(self.run, kind), &mut body)
            .map_err(|e| SealError::Library { what: "sealed content", why: e.to_string() })?;
        bytes.extend_from_slice(&body);
        Ok(Sealed { content: content_ref(kind, &bytes), bytes: bytes.into() })
    }

    /// Opens what was sealed as this kind.
    pub fn open(&self, kind: ContentKind, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (run, nonce, body) = split(sealed)?;
        if run != self.run {
            return Err(SealError::OtherRun { expected: self.run, found: run });
        }
        let mut body = body.to_vec();
        let len = self
            .cipher()?
            .open_in_place(Nonce::assume_unique_for_key(nonce), aad(run, kind), &mut body)
            .map_err(|_| SealError::DoesNotOpen { what: "content" })?
            .len();
        body.truncate(len);
        Ok(body)
    }

    fn cipher(&self) -> Result<LessSafeKey, SealError> {
        UnboundKey::new(&AES_256_GCM, self.secret.expose_secret())
            .map(LessSafeKey::new)
            .map_err(|e| SealError::Library { what: "cipher", why: e.to_string() })
    }
}

impl WrappedKey {
    /// Whose key it is. Unwrapping proves it.
    pub const fn run(&self) -> RunId {
        self.run
    }

    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let (head, rest) = self.bytes.split_at(24);
        let (enc, sealed) = rest.split_at(32);
        (head, enc, sealed)
    }
}

fn aad(run: RunId, kind: ContentKind) -> Aad<Vec<u8>> {
    Aad::from([SEAL_MAGIC.as_slice(), run.as_bytes(), kind.as_str().as_bytes()].concat())
}

fn split(sealed: &[u8]) -> Result<(RunId, [u8; NONCE_LEN], &[u8]), SealError> {
    let rest = sealed.strip_prefix(SEAL_MAGIC.as_slice()).ok_or(SealError::NotSealed)?;
    let (run, rest) = rest.split_first_chunk::<16>().ok_or(SealError::NotSealed)?;
    let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::NotSealed)?;
    if body.len() < TAG || body.len() > MAX_CONTENT_BYTES + TAG {
        return Err(SealError::NotSealed);
    }
    Ok((RunId::from_bytes(*run), *nonce, body))
}

macro_rules! shown_by_name {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}
shown_by_name! { SiteKey RunKey WrappedKey }

macro_rules! travels_as_text {
    ($($name:ident)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
travels_as_text! { SitePublicKey WrappedKey }

impl fmt::Display for SitePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0))
    }
}
impl fmt::Debug for SitePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for SitePublicKey {
    type Err = SealError;
    fn from_str(text: &str) -> Result<Self, SealError> {
        let wrong = || SealError::NotAKey { what: "site's public key: `stockade-site-1:` and 44 characters of base64" };
        let body = text.strip_prefix(PUBLIC_PREFIX).filter(|body| body.len() == 44).ok_or_else(wrong)?;
        let bytes = STANDARD.decode(body).map_err(|_| wrong())?;
        bytes.try_into().map(Self).map_err(|_| wrong())
    }
}
impl fmt::Display for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.bytes))
    }
}
impl FromStr for WrappedKey {
    type Err = SealError;
    fn from_str(text: &str) -> Result<Self, SealError> {
        let wrong = || SealError::NotAKey { what: "wrapped run key: 140 characters of base64" };
        if text.len() > 256 {
            return Err(wrong());
        }
        let bytes: [u8; WRAPPED] = STANDARD.decode(text).map_err(|_| wrong())?.try_into().map_err(|_| wrong())?;
        let rest = bytes.strip_prefix(WRAP_MAGIC.as_slice()).ok_or_else(wrong)?;
        let run = rest.first_chunk::<16>().ok_or_else(wrong)?;
        Ok(Self { run: RunId::from_bytes(*run), bytes })
    }
}
