//! OpenAI's Chat Completions API: requests, answers in one piece or as a stream, and errors.
//!
//! Servers that are compatible with it are many and differ: what they add (`reasoning_content`, calls in one piece, usage in odd
//! places) is read, what only OpenAI itself takes is sent to models with OpenAI's names only.

mod decode;
mod encode;
mod hide;
mod read;
mod view;
mod words;
mod write;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use hide::HideUsage;

use crate::{
    Framing, RequestError, Target, View,
    neutral::{ApiFault, ConvertError, Decode, Encode, ForClient, Request, Written},
    openai::error,
};

/// Looks at a request.
///
/// # Errors
/// [`RequestError`], with a text for the client.
pub fn view(body: &[u8]) -> Result<View, RequestError> {
    view::view(body)
}

/// Reads a client's request into the neutral form.
///
/// # Errors
/// If it is none.
pub fn read_request(body: &[u8]) -> Result<Request, ConvertError> {
    read::request(body)
}

/// Writes a request for a provider.
///
/// # Errors
/// If this dialect has nothing for something that was asked.
pub fn write_request(request: &Request, target: &Target) -> Result<Written, ConvertError> {
    write::request(request, target)
}

/// What reads a provider's answer.
#[must_use]
pub fn decoder(framing: Framing) -> Box<dyn Decode> {
    Box::new(decode::Decoder::new(framing))
}

/// What writes an answer for a client.
#[must_use]
pub fn encoder(framing: Framing, client: ForClient) -> Box<dyn Encode> {
    match framing {
        Framing::Whole => Box::new(encode::Whole::new(client)),
        Framing::Events | Framing::Array | Framing::Frames => Box::new(encode::Events::new(client)),
    }
}

/// The body of a refusal.
#[must_use]
pub fn error_body(fault: &ApiFault) -> Bytes {
    error::body(fault)
}

/// A provider's refusal, read.
#[must_use]
pub fn read_error(status: u16, body: &[u8]) -> ApiFault {
    error::read(status, body)
}
