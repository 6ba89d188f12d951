//! Bedrock's Converse API: requests, answers in one piece or as a stream, and errors; and how Bedrock carries bodies of the
//! Messages API ([`invoke`]), with what it refuses of them ([`refused`]).
//!
//! The schema is that of Amazon's own service model (`bedrock-runtime`, 2023-09-30). The model and whether the answer is a
//! stream stand in the path: `/model/{id}/converse` and `/model/{id}/converse-stream`.

mod blocks;
mod decode;
mod encode;
mod error;
pub mod invoke;
mod read;
pub mod refused;
#[cfg(test)]
mod tests;
mod thinking;
mod view;
mod write;

pub use decode::{MAX_ANSWER_BYTES, decoder};
pub use encode::encoder;
pub use error::{error_body, error_type, read_error};
pub use read::read_request;
pub use view::view;
pub use write::write_request;

/// The dialect in sentences.
const NAME: &str = "Converse";
