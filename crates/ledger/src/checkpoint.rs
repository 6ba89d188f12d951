//! Checkpoints: a producer's word for what its log is, signed, in the text form that others' tools read
//! (C2SP tlog-checkpoint inside C2SP signed-note, Ed25519).
//!
//! ```text
//! stockade/rnr_01jd…          the origin
//! 42                          the size
//! u6bJ…=                      the root, base64
//!
//! — stockade/rnr_01jd… 5b1c…=  one line for each signature: the key's name, base64 of key id and signature
//! ```

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stockade_domain::Digest;

use crate::{Producer, SigningKey, VerifyingKey, tree::sha256};

/// The longest note, in bytes. A longer one is refused.
pub const MAX_NOTE_BYTES: usize = 16 * 1024;
/// The most signatures in a note. One with more is refused; no more are added.
pub const MAX_NOTE_SIGNATURES: usize = 16;

const SIGNATURE_MARK: &str = "\u{2014} ";
const ED25519_ALGORITHM: u8 = 1;

/// What a log is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: see [`Checkpoint::origin_of`].
    pub origin: String,
    /// How many records it has.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Digest,
}

/// A checkpoint with signatures under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    checkpoint: Checkpoint,
    signatures: Vec<NoteSignature>,
}

/// One signature under a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The name of the key that claims to have made it.
    pub name: String,
    /// The key's id: a hint that tells keys of one name apart.
    pub key_id: [u8; 4],
    /// The signature; what it is depends on the key.
    pub bytes: Vec<u8>,
}

/// Why a text is no signed checkpoint, or a signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not in the form of a signed checkpoint.
    #[error("this is no signed checkpoint: {0}")]
    Malformed(&'static str),
    /// No signature of this name is under it.
    #[error("nobody called `{name}` has signed this checkpoint with the expected key")]
    NotSigned {
        /// Who was expected.
        name: String,
    },
    /// A signature that names the key was not made with it.
    #[error("the signature of `{name}` under this checkpoint is wrong: the checkpoint was changed after signing")]
    WrongSignature {
        /// Whose it claims to be.
        name: String,
    },
    /// The note has its share of signatures.
    #[error("the checkpoint has {MAX_NOTE_SIGNATURES} signatures already")]
    Full,
}

impl Checkpoint {
    /// The origin of a producer's log, which is also the name of the producer's key: `stockade/` and the id.
    pub fn origin_of(producer: &Producer) -> String {
        format!("stockade/{producer}")
    }

    /// The signed text.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// With a first signature, by the key called `name`.
    pub fn sign(self, name: &str, key: &SigningKey) -> SignedNote {
        let signature = sign(&self, name, key);
        SignedNote { checkpoint: self, signatures: vec![signature] }
    }
}

impl SignedNote {
    /// What it says. Whether that is to be believed is for [`verify`](Self::verify).
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signatures under it, unchecked.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature by the key called `name`; one of the same key is replaced.
    pub fn add_signature(&mut self, name: &str, key: &SigningKey) -> Result<(), NoteError> {
        let signature = sign(&self.checkpoint, name, key);
        self.signatures.retain(|old| (old.name.as_str(), old.key_id) != (name, signature.key_id));
        if self.signatures.len() >= MAX_NOTE_SIGNATURES {
            return Err(NoteError::Full);
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// What it says, if the key called `name` has signed it.
    pub fn verify(&self, name: &str, key: &VerifyingKey) -> Result<&Checkpoint, NoteError> {
        let id = key_id(name, key);
        let named = |signature: &&NoteSignature| signature.name == name && signature.key_id == id;
        let signature =
            self.signatures.iter().find(named).ok_or_else(|| NoteError::NotSigned { name: name.to_owned() })?;
        if key.verify(self.checkpoint.text().as_bytes(), &signature.bytes) {
            Ok(&self.checkpoint)
        } else {
            Err(NoteError::WrongSignature { name: name.to_owned() })
        }
    }
}

impl VerifyingKey {
    /// The key in the text form of C2SP signed-note, for other people's tools: `name+id+base64`.
    pub fn note_key(&self, name: &str) -> String {
        let id: String = key_id(name, self).iter().map(|byte| format!("{byte:02x}")).collect();
        let bytes = [&[ED25519_ALGORITHM], self.as_bytes().as_slice()].concat();
        format!("{name}+{id}+{}", STANDARD.encode(bytes))
    }
}

fn sign(checkpoint: &Checkpoint, name: &str, key: &SigningKey) -> NoteSignature {
    NoteSignature {
        name: name.to_owned(),
        key_id: key_id(name, &key.public()),
        bytes: key.sign(checkpoint.text().as_bytes()).to_vec(),
    }
}

/// C2SP signed-note: the first four bytes of the SHA-256 of the name, a line feed, the algorithm and the key.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let Digest([a, b, c, d, ..]) = sha256(&[name.as_bytes(), b"\n", &[ED25519_ALGORITHM], key.as_bytes()]);
    [a, b, c, d]
}

/// A key's name or an origin: not empty, no white space, no plus.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.checkpoint.text())?;
        self.signatures.iter().try_for_each(|signature| {
            let bytes = [signature.key_id.as_slice(), &signature.bytes].concat();
            writeln!(f, "{SIGNATURE_MARK}{} {}", signature.name, STANDARD.encode(bytes))
        })
    }
}

impl FromStr for SignedNote {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        use NoteError::Malformed;
        if text.len() > MAX_NOTE_BYTES {
            return Err(Malformed("it is too long"));
        }
        let (body, signatures) = text.split_once("\n\n").ok_or(Malformed("no empty line before the signatures"))?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|line| is_name(line)).ok_or(Malformed("no origin"))?;
        let size = lines.next().ok_or(Malformed("no size"))?;
        let root = lines.next().ok_or(Malformed("no root"))?;
        if lines.next().is_some() {
            return Err(Malformed("lines after the root"));
        }
        let size_number: u64 = size.parse().map_err(|_| Malformed("the size is no number"))?;
        let root_bytes = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root_bytes = root_bytes.ok_or(Malformed("the root is no base64 of 32 bytes"))?;
        let checkpoint = Checkpoint { origin: origin.to_owned(), size: size_number, root: Digest(root_bytes) };
        // What is signed is the text: a second spelling of the same checkpoint would not verify anyway.
        if checkpoint.text().strip_suffix('\n') != Some(body) {
            return Err(Malformed("the size or the root is not in its shortest form"));
        }
        let signatures = signatures.strip_suffix('\n').ok_or(Malformed("no line feed at the end"))?;
        let signatures: Vec<_> = signatures.split('\n').map(signature_line).collect::<Result<_, _>>()?;
        if signatures.len() > MAX_NOTE_SIGNATURES {
            return Err(Malformed("too many signatures"));
        }
        Ok(Self { checkpoint, signatures })
    }
}

fn signature_line(line: &str) -> Result<NoteSignature, NoteError> {
    let wrong = NoteError::Malformed("a signature line is not `— name base64`");
    let rest = line.strip_prefix(SIGNATURE_MARK).ok_or_else(|| wrong.clone())?;
    let (name, bytes) = rest.split_once(' ').filter(|(name, _)| is_name(name)).ok_or_else(|| wrong.clone())?;
    let bytes = STANDARD.decode(bytes).map_err(|_| wrong.clone())?;
    let (key_id, signature) = bytes.split_first_chunk::<4>().ok_or(wrong)?;
    Ok(NoteSignature { name: name.to_owned(), key_id: *key_id, bytes: signature.to_vec() })
}

impl Serialize for SignedNote {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for SignedNote {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
