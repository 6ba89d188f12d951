//! Bedrock's Converse API: requests, answers in one piece or as a stream, and errors.

use bytes::Bytes;

use crate::{
    Framing, RequestError, Target, View,
    neutral::{ApiFault, ConvertError, Decode, Encode, ForClient, Request, Unserved, Written},
};

/// Looks at a request.
///
/// # Errors
/// [`RequestError`], with a text for the client.
pub fn view(_body: &[u8]) -> Result<View, RequestError> {
    Err(RequestError::Unsupported("Converse".to_owned(), "this dialect is not built yet"))
}

/// Reads a client's request into the neutral form.
///
/// # Errors
/// If it is none.
pub fn read_request(_body: &[u8]) -> Result<Request, ConvertError> {
    Err(ConvertError::Unsupported { what: "Converse".to_owned(), why: "this dialect is not built yet" })
}

/// Writes a request for a provider.
///
/// # Errors
/// If this dialect has nothing for something that was asked.
pub fn write_request(_request: &Request, _target: &Target) -> Result<Written, ConvertError> {
    Err(ConvertError::Unsupported { what: "Converse".to_owned(), why: "this dialect is not built yet" })
}

/// What reads a provider's answer.
#[must_use]
pub fn decoder(_framing: Framing) -> Box<dyn Decode> {
    Box::new(Unserved)
}

/// What writes an answer for a client.
#[must_use]
pub fn encoder(_framing: Framing, _client: ForClient) -> Box<dyn Encode> {
    Box::new(Unserved)
}

/// The body of a refusal.
#[must_use]
pub fn error_body(fault: &ApiFault) -> Bytes {
    Bytes::from(fault.message.clone())
}

/// A provider's refusal, read.
#[must_use]
pub fn read_error(status: u16, body: &[u8]) -> ApiFault {
    ApiFault::of_text(status, body)
}
