//! Anthropic's Messages API: requests, answers in one piece or as a stream, and errors.

mod error;
mod request;
mod tee;

use bytes::Bytes;
use serde_json::Value;

pub use error::{ApiError, ErrorKind, error_body};
pub use request::Request;
pub use tee::{MAX_BLOCKS, MAX_CAPTURE_BYTES, Seen, Shape, Tee, billed};

use crate::{
    Framing, RequestError, Target, View,
    neutral::{self, ApiFault, ConvertError, Decode, Encode, FaultKind, ForClient, Unserved, Written},
};

/// Looks at a request.
///
/// # Errors
/// [`RequestError`], with a text for the client.
pub fn view(body: &[u8]) -> Result<View, RequestError> {
    Request::parse(body).map(|request| request.into_view(None))
}

/// Reads a client's request into the neutral form.
///
/// # Errors
/// If it is none.
pub fn read_request(_body: &[u8]) -> Result<neutral::Request, ConvertError> {
    Err(ConvertError::Unsupported { what: "Messages".to_owned(), why: "this dialect is not built yet" })
}

/// Writes a request for a provider.
///
/// # Errors
/// If this dialect has nothing for something that was asked.
pub fn write_request(_request: &neutral::Request, _target: &Target) -> Result<Written, ConvertError> {
    Err(ConvertError::Unsupported { what: "Messages".to_owned(), why: "this dialect is not built yet" })
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
pub fn error_of(fault: &ApiFault) -> Bytes {
    let kind = match fault.kind {
        FaultKind::InvalidRequest => ErrorKind::InvalidRequest,
        FaultKind::Authentication => ErrorKind::Authentication,
        FaultKind::Permission => ErrorKind::Permission,
        FaultKind::NotFound => ErrorKind::NotFound,
        FaultKind::TooLarge => ErrorKind::RequestTooLarge,
        FaultKind::RateLimit => ErrorKind::RateLimit,
        FaultKind::Api => ErrorKind::Api,
        FaultKind::NotSupported => ErrorKind::NotSupported,
        FaultKind::Timeout => ErrorKind::Timeout,
        FaultKind::Overloaded => ErrorKind::Overloaded,
    };
    error_body(kind, &fault.message)
}

/// A provider's refusal, read.
#[must_use]
pub fn read_error(status: u16, body: &[u8]) -> ApiFault {
    let read = serde_json::from_slice::<Value>(body).ok().and_then(|value| ApiError::from_value(&value));
    match read {
        Some(error) => ApiFault { kind: FaultKind::of_status(status), code: error.kind, message: error.message },
        None => ApiFault::of_text(status, body),
    }
}
