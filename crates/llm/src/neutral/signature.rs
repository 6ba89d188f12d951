//! A provider's opaque word that must come back with the next turn, and how it gets through a client of another dialect.
//!
//! Within its own dialect a signature is carried as it is. A client of another dialect is given [`Signature::packed`], a text that such
//! clients return unchanged in a field of their own (a thinking block's signature, an encrypted reasoning item, a call's
//! identifier); [`Signature::read`] finds out on the way back whose it is. A signature is only ever sent to the dialect that made it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Part, Reasoning};
use crate::Dialect;

/// What begins a signature that travels through another dialect.
const PACKED: &str = "stk1-";
/// The longest signature that is carried, in bytes.
pub const MAX_SIGNATURE: usize = 4 * 1024 * 1024;

/// An opaque word of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    origin: Dialect,
    data: String,
}

impl Signature {
    /// One that a provider of this dialect made.
    #[must_use]
    pub fn new(origin: Dialect, data: impl Into<String>) -> Self {
        Self { origin, data: data.into() }
    }

    /// Whose it is.
    #[must_use]
    pub const fn origin(&self) -> Dialect {
        self.origin
    }

    /// As the provider made it.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.data
    }

    /// The provider's own text, if it is of this dialect.
    #[must_use]
    pub fn native(&self, dialect: Dialect) -> Option<&str> {
        (self.origin == dialect).then_some(self.data.as_str())
    }

    /// The text for a client of `dialect`: as it is within its own dialect, else packed, of letters, digits, `-` and `_`.
    #[must_use]
    pub fn for_client(&self, dialect: Dialect) -> String {
        self.native(dialect).map_or_else(|| self.packed(), str::to_owned)
    }

    /// `stk1-ORIGIN-BASE64URL`.
    #[must_use]
    pub fn packed(&self) -> String {
        format!("{PACKED}{}-{}", self.origin.as_str(), URL_SAFE_NO_PAD.encode(&self.data))
    }

    /// Reads what a client of `dialect` returned. Nothing if it is packed but damaged, or too long.
    #[must_use]
    pub fn read(dialect: Dialect, text: &str) -> Option<Self> {
        if text.len() > MAX_SIGNATURE {
            return None;
        }
        let Some(packed) = text.strip_prefix(PACKED) else { return Some(Self::new(dialect, text)) };
        let (origin, data) = packed.split_once('-')?;
        let origin = Dialect::ALL.iter().copied().find(|known| known.as_str() == origin)?;
        let data = String::from_utf8(URL_SAFE_NO_PAD.decode(data).ok()?).ok()?;
        Some(Self::new(origin, data))
    }
}

/// Dialects whose signatures stand on calls. Others have no place for one there, so their encoders put it into a thought without
/// text in front of the call.
fn on_calls(signature: &Signature) -> bool {
    matches!(signature.origin(), Dialect::Gemini | Dialect::Chat)
}

/// Gives calls the signatures that came in thoughts in front of them.
pub(crate) fn join_signatures(parts: Vec<Part>) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::with_capacity(parts.len());
    for mut part in parts {
        if let Part::ToolCall { signature: slot @ None, .. } = &mut part
            && let Some(Part::Reasoning(Reasoning { text, signature: Some(signed), redacted: false, .. })) = out.last()
            && text.is_empty()
            && on_calls(signed)
        {
            *slot = Some(signed.clone());
            out.pop();
        }
        out.push(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_signature_comes_back_through_every_dialect(data in ".{0,100}", from in 0..Dialect::ALL.len(), through in 0..Dialect::ALL.len()) {
            let signature = Signature::new(Dialect::ALL[from], data);
            let through = Dialect::ALL[through];
            // A native signature that looks packed would be read as packed: providers make none such.
            prop_assume!(!signature.data().starts_with(PACKED));
            prop_assert_eq!(Signature::read(through, &signature.for_client(through)), Some(signature));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(stk1-)?.{0,60}") {
            let _ = Signature::read(Dialect::Chat, &text);
        }
    }
}
