//! What other dialects sign, in the one field that clients of this dialect return: a part's `thoughtSignature`.
//!
//! Clients of this dialect throw thoughts away and keep signatures of calls and texts. So thoughts that another provider has signed
//! travel in the signature of the part that follows them: a list in JSON, in base64 because clients take the field for bytes.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE},
};
use serde::{Deserialize, Serialize};

use crate::{
    Dialect,
    neutral::{MAX_SIGNATURE, Reasoning, Signature},
};

/// What begins such a text before base64, and after.
const MARK: &str = "stkb1:";
const MARKED: &str = "c3RrYjE6";
/// What a client sends that has no signature and needs one. The provider's own word for it, and what we send in its place.
pub(super) const NONE: &str = "skip_thought_signature_validator";

/// What a part's signature carries.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Carried {
    /// Thoughts that stood before the part.
    pub thoughts: Vec<Reasoning>,
    /// The part's own signature.
    pub own: Option<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    thoughts: Vec<Thought>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Thought {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    #[serde(default)]
    redacted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl Carried {
    /// The text for the client: the provider's own if that is all there is. Nothing if there is nothing to carry.
    pub(super) fn text(&self) -> Option<String> {
        if self.thoughts.is_empty() {
            let own = self.own.as_ref()?;
            if let Some(native) = own.native(Dialect::Gemini) {
                return Some(native.to_owned());
            }
        }
        let thought = |thought: &Reasoning| Thought {
            text: thought.text.clone(),
            signature: thought.signature.as_ref().map(Signature::packed),
            redacted: thought.redacted,
            id: thought.id.clone(),
        };
        let wire = Wire {
            thoughts: self.thoughts.iter().map(thought).collect(),
            own: self.own.as_ref().map(Signature::packed),
        };
        let json = serde_json::to_string(&wire).ok()?;
        Some(URL_SAFE.encode(format!("{MARK}{json}")))
    }

    /// Reads what a client returned.
    pub(super) fn read(text: &str) -> Self {
        if text.is_empty() || text == NONE || text.len() > 2 * MAX_SIGNATURE {
            return Self::default();
        }
        if !text.starts_with(MARKED) {
            return Self { own: Signature::read(Dialect::Gemini, text), ..Self::default() };
        }
        Self::unpacked(text).unwrap_or_default()
    }

    fn unpacked(text: &str) -> Option<Self> {
        // Clients read the field into bytes and write it anew, in one alphabet or the other, padded or not.
        const ANY: GeneralPurpose = GeneralPurpose::new(
            &alphabet::URL_SAFE,
            GeneralPurposeConfig::new()
                .with_decode_padding_mode(DecodePaddingMode::Indifferent)
                .with_decode_allow_trailing_bits(true),
        );
        let bytes = ANY.decode(text.replace('+', "-").replace('/', "_")).ok()?;
        let wire: Wire = serde_json::from_slice(bytes.strip_prefix(MARK.as_bytes())?).ok()?;
        let signature = |text: Option<String>| text.and_then(|text| Signature::read(Dialect::Gemini, &text));
        let thought = |thought: Thought| Reasoning {
            text: thought.text,
            signature: signature(thought.signature),
            redacted: thought.redacted,
            id: thought.id,
        };
        Some(Self { thoughts: wire.thoughts.into_iter().map(thought).collect(), own: signature(wire.own) })
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_carried_comes_back_however_a_client_spells_base64(
            thoughts in prop::collection::vec((".{0,9}", "[ -~]{1,9}", any::<bool>()), 0..3),
            own in prop::option::of("[ -~]{1,9}"),
        ) {
            let signature = |data: String| Signature::new(Dialect::Messages, data);
            let thought = |(text, data, redacted)| Reasoning { text, signature: Some(signature(data)), redacted, id: None };
            let carried =
                Carried { thoughts: thoughts.into_iter().map(thought).collect(), own: own.map(signature) };
            let Some(text) = carried.text() else { return Ok(()) };
            let bytes = URL_SAFE.decode(&text).unwrap();
            for text in [text, STANDARD.encode(&bytes), STANDARD_NO_PAD.encode(&bytes)] {
                prop_assert_eq!(Carried::read(&text), Carried { thoughts: carried.thoughts.clone(), own: carried.own.clone() });
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(c3RrYjE6)?[A-Za-z0-9+/=_-]{0,40}") {
            let _ = Carried::read(&text);
        }
    }

    #[test]
    fn the_mark_is_what_it_is_in_base64() {
        assert_eq!(URL_SAFE.encode(MARK), MARKED);
        let native = Carried { own: Some(Signature::new(Dialect::Gemini, "abc=")), ..Carried::default() };
        assert_eq!(native.text().as_deref(), Some("abc="));
        assert_eq!(Carried::read(NONE), Carried::default());
    }
}
