//! What travels between the processes of Stockade.
//!
//! This crate owns the request and response types of the public API ([`http`]), the frames between
//! runner and server ([`runner`]), the frames between runner and guest ([`guest`]), the error envelope
//! ([`error`]) and, with the feature `client`, the Rust client of the public API.
//!
//! It refuses: SQL, policy, and any meaning beyond shape. Everything read from a peer is untrusted until
//! whoever reads it has checked it.

pub mod error;
pub mod guest;
pub mod runner;
pub mod ticket;
