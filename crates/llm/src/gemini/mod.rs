//! Google's `generateContent` API: requests, answers in one piece or as a stream, and errors.

mod carried;
mod decode;
mod encode;
mod error;
mod model;
mod read;
mod schema;
mod split;
#[cfg(test)]
mod tests;
mod thinking;
mod view;
mod write;

pub use decode::decoder;
pub use encode::encoder;
pub use error::{error_body, read_error};
pub use read::read_request;
pub use view::view;
pub use write::write_request;
