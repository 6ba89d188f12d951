//! OpenAI's Embeddings API. It is relayed, never converted.

use crate::{
    Framing, RequestError, View,
    neutral::{Decode, Unserved},
};

/// Looks at a request.
///
/// # Errors
/// [`RequestError`], with a text for the client.
pub fn view(_body: &[u8]) -> Result<View, RequestError> {
    Err(RequestError::Unsupported("Embeddings".to_owned(), "this dialect is not built yet"))
}

/// What reads a provider's answer.
#[must_use]
pub fn decoder(_framing: Framing) -> Box<dyn Decode> {
    Box::new(Unserved)
}
