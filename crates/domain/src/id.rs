//! Identifiers: a UUIDv7 (RFC 9562 §5.7) with its kind in the type and in the text.

use std::{cmp::Ordering, fmt, hash, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// What an identifier identifies.
pub trait Kind: 'static {
    /// The word before the underscore, for example `run`.
    const PREFIX: &'static str;
}

/// An identifier of one kind of thing, shown as `run_01jd8…`: the prefix, an underscore and the UUID
/// as 26 characters of Crockford's base 32 in lower case, so that text sorts as time does.
pub struct Id<K> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

/// Why a text is no identifier of the kind that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It names another kind of thing, or nothing.
    #[error("expected an identifier like `{expected}_…`")]
    Prefix {
        /// The prefix that was wanted.
        expected: &'static str,
    },
    /// What follows the prefix is not 26 characters of base 32 within 128 bits.
    #[error("`{expected}_` must be followed by 26 characters of 0-9 and a-z without i, l, o, u")]
    Body {
        /// The prefix that was wanted.
        expected: &'static str,
    },
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const BODY: usize = 26;

impl<K> Id<K> {
    /// Makes an identifier from a time in milliseconds since the epoch and ten random bytes.
    pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
        Self::from_uuid(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// Wraps a UUID that is known to be of this kind.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self { uuid, kind: PhantomData }
    }

    /// The sixteen bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.uuid.as_bytes()
    }

    /// An identifier from its sixteen bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::from_uuid(Uuid::from_bytes(bytes))
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.uuid.as_u128();
        let mut body = [b'0'; BODY];
        for slot in body.iter_mut().rev() {
            // Five bits index a table of 32: always within it.
            *slot = ALPHABET.get((value & 31) as usize).copied().unwrap_or(b'0');
            value >>= 5;
        }
        write!(f, "{}_{}", K::PREFIX, std::str::from_utf8(&body).unwrap_or(""))
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let expected = K::PREFIX;
        let body =
            text.strip_prefix(expected).and_then(|rest| rest.strip_prefix('_')).ok_or(IdError::Prefix { expected })?;
        // 26 characters carry 130 bits: the first may only carry three.
        if body.len() != BODY || body.as_bytes().first().is_none_or(|b| *b > b'7') {
            return Err(IdError::Body { expected });
        }
        let mut value: u128 = 0;
        for byte in body.bytes() {
            let digit = ALPHABET.iter().position(|a| *a == byte).ok_or(IdError::Body { expected })?;
            value = (value << 5) | digit as u128;
        }
        Ok(Self::from_uuid(Uuid::from_u128(value)))
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}
impl<K> hash::Hash for Id<K> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The kinds of things that have identifiers.
pub mod kinds {
    use super::Kind;

    macro_rules! kinds {
        ($($name:ident $prefix:literal $doc:literal),* $(,)?) => {$(
            #[doc = $doc]
            #[derive(Debug)]
            pub enum $name {}
            impl Kind for $name {
                const PREFIX: &'static str = $prefix;
            }
        )*};
    }

    kinds! {
        Organization "org" "The tenant.",
        Project "prj" "A repository with its rules.",
        User "usr" "A person.",
        Token "tok" "A credential's row.",
        Site "sit" "One network with its keys.",
        Runner "rnr" "A runner.",
        Server "srv" "A server.",
        Task "tsk" "What somebody asked for.",
        Run "run" "One attempt at a task.",
        Environment "env" "An isolated place to work.",
        Assignment "asg" "Desired state given to a runner.",
        Approval "apr" "A person's yes or no.",
        Call "call" "A tool call.",
        ModelCall "mdl" "A model call.",
        Record "rec" "A record of the ledger.",
        GatewayToken "gtk" "A person's token for the gateway.",
        Group "grp" "Several people under one name.",
        Budget "bud" "A budget.",
        Slice "slc" "A leased part of a budget.",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_identifier_reads_as_its_kind() {
        let id: Id<kinds::Run> = Id::from_parts(1_700_000_000_000, [7; 10]);
        let text = id.to_string();
        assert!(text.starts_with("run_"), "{text}");
        assert_eq!(text.len(), 30);
        assert_eq!(text.parse::<Id<kinds::Run>>(), Ok(id));
        assert_eq!(text.parse::<Id<kinds::Task>>(), Err(IdError::Prefix { expected: "tsk" }));
    }

    proptest! {
        #[test]
        fn text_and_bytes_agree(bytes: [u8; 16]) {
            let id: Id<kinds::Record> = Id::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<Id<kinds::Record>>().unwrap(), id);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = text.parse::<Id<kinds::Run>>();
        }

        #[test]
        fn text_sorts_as_time_does(a in 0u64..1 << 47, b in 0u64..1 << 47) {
            let (x, y): (Id<kinds::Run>, Id<kinds::Run>) = (Id::from_parts(a, [0; 10]), Id::from_parts(b, [0; 10]));
            prop_assert_eq!(x.to_string().cmp(&y.to_string()), a.cmp(&b));
        }
    }
}
