//! The way of a request to its origin, as git needs it.

use std::{error::Error, fmt};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

/// The body of a request or an answer, as it streams by.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is known.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Whoever sends it is gone, or sends what is none.
    #[error("the body broke off")]
    Lost(#[source] Box<dyn Error + Send + Sync>),
    /// Policy changed, or the environment ends.
    #[error("the request was cut: {0}")]
    Cut(&'static str),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("the origin gave no answer that can be read")]
pub struct OriginError;

/// Sends requests to one origin, and gives their answers when their heads have come.
#[async_trait]
pub trait Origin: Send + Sync + fmt::Debug {
    /// Sends a request.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, OriginError>;
}
