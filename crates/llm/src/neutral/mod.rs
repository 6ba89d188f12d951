//! The neutral form: what every dialect can be read into and written from.
//!
//! It owns the words for a request ([`Request`]), for an answer as it comes ([`Event`]) and as a whole ([`Answer`]), the
//! reversible other names for what a target would refuse ([`Aliases`]), and how a provider's opaque signature travels
//! through a client that speaks another dialect ([`Signature`]). It refuses to be a dialect: nothing here is on a wire.
//!
//! It is used only where the client's and the provider's dialects differ. Where they agree, bytes are relayed and this form
//! is at most made from a copy. *Invariant:* what a target cannot express is either an error ([`ConvertError`]) or is named
//! in [`Written::dropped`]; nothing is lost in silence.

mod alias;
mod answer;
#[cfg(test)]
pub(crate) mod any;
mod event;
#[cfg(test)]
mod manual;
mod request;
mod signature;
mod tee;

pub use alias::{Aliases, NameRules};
pub use answer::Answer;
pub use event::{ApiFault, Delta, Event, FaultKind, PartHead, StopReason};
pub use request::{
    CacheMark, ConvertError, Dropped, Effort, Media, MediaKind, OutputForm, Part, Reasoning, ReasoningWish, Request,
    Role, Source, Tool, ToolChoice, ToolKind, Turn, Written,
};
pub(crate) use signature::join_signatures;
pub use signature::{MAX_SIGNATURE, Signature};
pub use tee::Tee;

use bytes::BytesMut;

/// Reads a provider's answer from a copy of its bytes.
pub trait Decode: Send + std::fmt::Debug {
    /// Takes the next bytes and adds what they complete to `out`. What cannot be read becomes [`Event::Unreadable`].
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>);

    /// There are no more bytes. `ended` says whether the transport came to the end that it promised. A body in one piece
    /// is read here. Adds [`Event::End`] only if the answer came to its own proper end.
    fn finish(&mut self, ended: bool, out: &mut Vec<Event>);
}

/// Writes an answer for a client.
pub trait Encode: Send + std::fmt::Debug {
    /// Writes what this event makes of the answer. An answer in one piece is written at [`Event::End`] or [`Event::Error`].
    fn push(&mut self, event: &Event, out: &mut BytesMut);

    /// The upstream broke off: ends what was begun in the way in which this dialect says that something went wrong, so that
    /// no client takes a part for the whole. After [`Event::End`] or [`Event::Error`] it writes nothing.
    fn broken(&mut self, fault: &ApiFault, out: &mut BytesMut);

    /// A sign of life in this framing, for while the upstream lives and says nothing. Empty for an answer in one piece.
    fn keep_alive(&self) -> &'static [u8] {
        b""
    }
}

/// What an encoder must know besides the events.
#[derive(Debug, Clone, Default)]
pub struct ForClient {
    /// The model's name as the client asked for it.
    pub model: String,
    /// A text that is unique to this call, of letters and digits: identifiers that the client sees are made of it.
    pub id: String,
    /// Seconds since 1970, for dialects that say when an answer was made.
    pub created: u64,
    /// Whether the client wants the answer as a stream.
    pub stream: bool,
    /// Whether a stream in the Chat dialect is to end with a chunk of usage.
    pub include_usage: bool,
    /// What the request probably reads, for dialects that say it before the provider did.
    pub likely_input_tokens: u64,
    /// The other names that the provider was given: encoders turn them back.
    pub aliases: Aliases,
    /// The client's request, for dialects that repeat parts of it in the answer.
    pub request: Option<std::sync::Arc<Request>>,
}
