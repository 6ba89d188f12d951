//! Anthropic's Messages API: requests, answers in one piece or as a stream, and errors.

mod blocks;
mod counts;
mod decode;
mod encode;
mod error;
mod frames;
mod model;
mod read;
mod request;
mod scan;
mod session;
mod tee;
#[cfg(test)]
mod tests;
mod thinking;
mod write;

pub use decode::decoder;
pub use encode::encoder;
pub use error::{ApiError, ErrorKind, error_body, error_of};
pub(crate) use read::name_results;
pub use read::read_request;
pub use request::Request;
pub use tee::{MAX_BLOCKS, MAX_CAPTURE_BYTES, Seen, Shape, Tee, billed};
pub use write::write_request;

pub(crate) use model::{Model, Thinking};

use crate::{RequestError, View, neutral::ApiFault};

/// Looks at a request.
///
/// # Errors
/// [`RequestError`], with a text for the client.
pub fn view(body: &[u8]) -> Result<View, RequestError> {
    Request::parse(body).map(Request::into_view)
}

/// A provider's refusal, read.
#[must_use]
pub fn read_error(status: u16, body: &[u8]) -> ApiFault {
    error::read(Some(status), body)
}
