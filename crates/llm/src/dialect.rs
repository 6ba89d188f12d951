//! The seam between the gateway and the dialects. Whoever adds a dialect adds a variant and an arm here.

use bytes::Bytes;

use crate::anthropic::{self, ErrorKind, Request, RequestError, Tee};

/// A way of speaking to models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Anthropic's Messages API.
    AnthropicMessages,
}

impl Dialect {
    /// The word for it, in paths and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic",
        }
    }

    /// Where a provider takes such requests, below its base URL.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "/v1/messages",
        }
    }

    /// Reads a request.
    ///
    /// # Errors
    /// If it is not a request of this dialect, or asks for something that the price table cannot bound.
    pub fn request(self, body: &[u8]) -> Result<Request, RequestError> {
        match self {
            Self::AnthropicMessages => Request::parse(body),
        }
    }

    /// What reads a copy of the answer. `content_type` is the header as it came.
    #[must_use]
    pub fn tee(self, content_type: Option<&str>) -> Tee {
        match self {
            Self::AnthropicMessages => Tee::for_content_type(content_type),
        }
    }

    /// The body of a refusal, in this dialect.
    #[must_use]
    pub fn error_body(self, kind: ErrorKind, message: &str) -> Bytes {
        match self {
            Self::AnthropicMessages => anthropic::error_body(kind, message),
        }
    }
}
