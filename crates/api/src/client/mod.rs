//! The Rust client of the public API, and of a site's listener.
//!
//! One typed method for every operation. Whatever goes wrong becomes an [`ApiError`]: the server's own, or
//! one with fault `outside` and a hint if there was no proper answer. It refuses: retries (the caller knows
//! whether repeating is safe), redirects (a token must not follow one) and caching.

mod connections;
mod gateway;
mod ledger;
mod people;
mod site;
mod transport;
mod work;

pub use gateway::GatewayClient;
pub use site::{ExecStream, SiteClient};
pub use transport::ByteStream;

use secrecy::SecretString;

use crate::error::ApiError;
use transport::Transport;

/// The longest answer that is read whole, in bytes. A longer one is an error with the code `answer_too_long`.
pub const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// How long an ordinary request may take, in seconds; what waits by itself gets that time on top.
pub const TIMEOUT_S: u64 = 60;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// A client of the server at `base` (`http://127.0.0.1:7080`), with a person's token. Without one only
    /// the public operations answer.
    pub fn new(base: &str, token: Option<SecretString>) -> Result<Self, ApiError> {
        Ok(Self { transport: Transport::new(base, token, "the server")? })
    }
}
