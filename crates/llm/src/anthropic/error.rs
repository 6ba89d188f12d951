//! The error shape: `{"type":"error","error":{"type":KIND,"message":TEXT}}`.

use bytes::Bytes;
use serde_json::{Value, json};

/// The kinds of errors that clients of this dialect know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 400: the request cannot be served as it is. Also every final refusal: clients stop at once and show the text.
    InvalidRequest,
    /// 401.
    Authentication,
    /// 403.
    Permission,
    /// 404.
    NotFound,
    /// 413.
    RequestTooLarge,
    /// 429.
    RateLimit,
    /// 500 and its kin.
    Api,
    /// 501: clients of this dialect probe for it.
    NotSupported,
    /// 504.
    Timeout,
    /// 529.
    Overloaded,
}

impl ErrorKind {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::NotFound => "not_found_error",
            Self::RequestTooLarge => "request_too_large",
            Self::RateLimit => "rate_limit_error",
            Self::Api => "api_error",
            Self::NotSupported => "not_supported",
            Self::Timeout => "timeout_error",
            Self::Overloaded => "overloaded_error",
        }
    }
}

/// The body of an error.
#[must_use]
pub fn error_body(kind: ErrorKind, message: &str) -> Bytes {
    let body = json!({ "type": "error", "error": { "type": kind.as_str(), "message": message } });
    Bytes::from(body.to_string())
}

/// An error that a provider sent, in a body or in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The provider's word, for example `overloaded_error`.
    pub kind: String,
    /// The provider's text.
    pub message: String,
}

impl ApiError {
    /// Reads an error from a value of that shape.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        if value.get("type").and_then(Value::as_str) != Some("error") {
            return None;
        }
        let text = |key: &str| value.get("error").and_then(|error| error.get(key)).and_then(Value::as_str);
        Some(Self {
            kind: text("type").unwrap_or("api_error").to_owned(),
            message: text("message").unwrap_or_default().to_owned(),
        })
    }
}
