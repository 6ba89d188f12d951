//! The way of a request to its server, as git needs it: credentials are put in on it, and looked for in what comes back.

use std::fmt;

use async_trait::async_trait;
use http::{Request, Response, StatusCode};

pub(crate) use crate::exit::origin::{Body, BodyError, full};

/// Why nothing comes back.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The server had closed its connection before: whoever asks tries again on another.
    Gone,
    /// What is told.
    Told {
        /// The word for the closing record.
        code: &'static str,
        /// What is answered.
        status: StatusCode,
        /// And said.
        text: String,
    },
}

/// The server had closed its connection before the request came.
#[derive(Debug)]
pub(crate) struct Gone;

/// Sends requests to one server, and gives their answers when their heads have come.
#[async_trait]
pub(crate) trait Way: Send + Sync + fmt::Debug {
    /// Sends a request that was decided and recorded.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, NoAnswer>;
}
