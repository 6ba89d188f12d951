//! What travels between the processes of Stockade.
//!
//! This crate owns the request and response types of the public API ([`http`]), the frames between
//! runner and server ([`runner`]), the frames between runner and guest ([`guest`]), the error envelope
//! ([`error`]), content tickets ([`ticket`]), the form of a token for the gateway ([`gateway_token`]) and, with the feature `client`, what people's tools say to a
//! site's listener ([`site`]) and the Rust client of both ([`client`]).
//!
//! It refuses: SQL, policy, and any meaning beyond shape. Everything read from a peer is untrusted until
//! whoever reads it has checked it.

#[cfg(feature = "client")]
pub mod client;
/// The words, for those who only import what travels.
pub use stockade_domain as domain;

pub mod error;
pub mod gateway_token;
pub mod guest;
#[cfg(feature = "client")]
pub mod http;
pub mod runner;
#[cfg(feature = "client")]
pub mod site;
pub mod ticket;

/// Base64 (standard, padded), as everywhere in JSON of ours.
pub mod base64 {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    /// The text for some bytes.
    pub fn encode(bytes: impl AsRef<[u8]>) -> String {
        STANDARD.encode(bytes)
    }

    /// The bytes of a text; nothing if it is no base64.
    pub fn decode(text: &str) -> Option<Vec<u8>> {
        STANDARD.decode(text).ok()
    }
}
