//! Git's wire protocol, as far as deciding about fetch and push needs it.
//!
//! The modules read what a client and a server say (gitprotocol-common, -pack, -v2, -http; gitformat-pack) and give
//! typed facts: which repository, which service, which references, which commits, which paths. They hold no sockets
//! and no files, and they never change what passes through but for the one place that [`advertisement`] names.
//!
//! They refuse what they do not understand: what was not understood cannot have been decided about.

#![deny(clippy::indexing_slicing)]

use std::fmt;

use sha1_checked::Sha1;
use sha2::{Digest as _, Sha256};

pub mod advertisement;
pub mod base;
pub mod config;
pub mod fetch;
pub mod gate;
pub mod gzip;
pub mod object;
pub mod pack;
pub mod path;
pub mod pkt;
pub mod protected;
pub mod push;
pub mod refs;
pub mod report;
pub mod review;

mod delta;
#[cfg(test)]
mod real;

/// How a repository names its objects: the capability `object-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Format {
    /// 20 bytes; what is meant where nothing is said.
    #[default]
    Sha1,
    /// 32 bytes.
    Sha256,
}

impl Format {
    /// The word in capabilities.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// The format that the word means.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256].into_iter().find(|format| format.as_str() == word)
    }

    /// Bytes of a name.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// An object's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    bytes: [u8; 32],
    format: Format,
}

impl ObjectId {
    /// The name that stands for "no object".
    #[must_use]
    pub const fn zero(format: Format) -> Self {
        Self { bytes: [0; 32], format }
    }

    /// From exactly as many bytes as the format has.
    #[must_use]
    pub fn from_bytes(format: Format, bytes: &[u8]) -> Option<Self> {
        let mut id = Self::zero(format);
        if bytes.len() != format.bytes() {
            return None;
        }
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(id)
    }

    /// From exactly as many hexadecimal digits as the format has; both cases are one name (gitprotocol-pack, "Reference Discovery").
    #[must_use]
    pub fn from_hex(format: Format, hex: &[u8]) -> Option<Self> {
        if hex.len() != format.bytes() * 2 {
            return None;
        }
        let mut id = Self::zero(format);
        for (byte, pair) in id.bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(id)
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.format.bytes()).unwrap_or(&self.bytes)
    }

    /// How it is made.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// It stands for no object.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.bytes == [0; 32]
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The value of a hexadecimal digit.
const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Makes names and checksums. SHA-1 notices input that was made to collide.
#[derive(Debug, Clone)]
enum Hasher {
    Sha1(Box<Sha1>),
    Sha256(Sha256),
}

/// Two things were made to have one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Collision;

impl Hasher {
    /// For objects' names.
    fn new(format: Format) -> Self {
        match format {
            Format::Sha1 => Self::Sha1(Box::new(Sha1::new())),
            Format::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    /// For sums against damage, where collisions are nobody's attack.
    fn plain(format: Format) -> Self {
        match format {
            Format::Sha1 => Self::Sha1(Box::new(Sha1::builder().detect_collision(false).build())),
            Format::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hasher) => sha1_checked::Digest::update(hasher.as_mut(), bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Result<ObjectId, Collision> {
        match self {
            Self::Sha1(hasher) => {
                let result = hasher.try_finalize();
                if result.has_collision() {
                    return Err(Collision);
                }
                ObjectId::from_bytes(Format::Sha1, result.hash()).ok_or(Collision)
            }
            Self::Sha256(hasher) => ObjectId::from_bytes(Format::Sha256, &hasher.finalize()).ok_or(Collision),
        }
    }
}

/// The sum that stands at the end of a pack.
#[must_use]
pub fn checksum(format: Format, bytes: &[u8]) -> ObjectId {
    let mut hasher = Hasher::plain(format);
    hasher.update(bytes);
    hasher.finish().unwrap_or(ObjectId::zero(format))
}

/// Hostile bytes as they can be shown to a person: printable, and not long.
fn shown(bytes: &[u8]) -> String {
    let text: String =
        bytes.iter().take(80).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
    if bytes.len() > 80 { format!("{text}…") } else { text }
}
