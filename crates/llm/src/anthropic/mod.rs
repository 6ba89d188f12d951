//! Anthropic's Messages API: requests, answers in one piece or as a stream, and errors.

mod error;
mod request;
mod tee;

pub use error::{ApiError, ErrorKind, error_body};
pub use request::{MAX_MODEL_NAME, Request, RequestError};
pub use tee::{MAX_BLOCKS, MAX_CAPTURE_BYTES, Seen, Shape, Tee, billed};
