//! What OpenAI's dialects share: one look at a body, words for efforts and tiers, data URLs, errors.
//!
//! It owns nothing that is on the wire of one dialect alone: that is in [`crate::chat`], [`crate::responses`] and
//! [`crate::embeddings`].

pub(crate) mod error;
pub(crate) mod free;
pub(crate) mod media;
pub(crate) mod model;
pub(crate) mod scan;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tools;
pub(crate) mod turns;
pub(crate) mod usage;

use serde_json::Value;

use crate::neutral::Signature;

/// The most of an answer in one piece that is held.
pub(crate) const MAX_BODY: usize = 32 * 1024 * 1024;

/// An answer in one piece, as it comes. What is over the limit is not held, and the answer not read.
#[derive(Debug, Default)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    over: bool,
}

impl Body {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.over || self.bytes.len().saturating_add(bytes.len()) > MAX_BODY {
            self.over = true;
            self.bytes = Vec::new();
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The whole, if it reads as JSON of the wanted form.
    pub fn read<T: serde::de::DeserializeOwned>(&mut self) -> Option<T> {
        let bytes = std::mem::take(&mut self.bytes);
        serde_json::from_slice(&bytes).ok().filter(|_| !self.over)
    }
}

/// What stands between a call's identifier and the signature that travels with it.
const MARK: &str = ".stk1-";

/// The identifier of a call for a client, with the provider's signature in it, so that both come back.
pub(crate) fn packed_id(id: &str, signature: Option<&Signature>) -> String {
    signature.map_or_else(|| id.to_owned(), |signature| format!("{id}.{}", signature.packed()))
}

/// The identifier alone, and the signature that came with it. What is damaged stays in the identifier.
pub(crate) fn unpacked_id(dialect: crate::Dialect, id: &str) -> (String, Option<Signature>) {
    if let Some(at) = id.rfind(MARK)
        && let (Some(own), Some(packed)) = (id.get(..at), id.get(at + 1..))
        && let Some(signature) = Signature::read(dialect, packed)
    {
        return (own.to_owned(), Some(signature));
    }
    (id.to_owned(), None)
}

/// The text that a field holds; empty if there is none.
pub(crate) fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The text that a field holds, if it holds any.
pub(crate) fn some_text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    #[test]
    fn an_answer_over_the_limit_is_not_read() {
        let mut body = Body::default();
        let half = vec![b' '; MAX_BODY / 2];
        body.push(&half);
        body.push(&half[2..]);
        body.push(b"{}");
        assert_eq!(body.read::<Value>(), Some(serde_json::json!({})));
        for piece in [&half[..], &half[1..], b"{}"] {
            body.push(piece);
        }
        assert!(body.bytes.is_empty() && body.read::<Value>().is_none());
    }

    #[test]
    fn row_16_a_signature_travels_in_the_identifier_of_a_call() {
        let signature = Signature::new(Dialect::Gemini, "Ab+/=");
        let id = packed_id("call.1", Some(&signature));
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{id}");
        assert_eq!(unpacked_id(Dialect::Chat, &id), ("call.1".to_owned(), Some(signature)));
        assert_eq!(unpacked_id(Dialect::Chat, "call_1"), ("call_1".to_owned(), None));
        let damaged = "call_1.stk1-nobody-AA";
        assert_eq!(unpacked_id(Dialect::Chat, damaged), (damaged.to_owned(), None));
    }
}
