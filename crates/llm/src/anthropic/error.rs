//! The error shape: `{"type":"error","error":{"type":KIND,"message":TEXT}}`.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::neutral::{ApiFault, FaultKind};

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

/// Reads a provider's refusal. In a stream there is no status: then only the word tells.
pub(super) fn read(status: Option<u16>, body: &[u8]) -> ApiFault {
    let value = serde_json::from_slice::<Value>(body).ok();
    let Some(error) = value.as_ref().and_then(ApiError::from_value) else {
        return ApiFault::of_text(status.unwrap_or(500), body);
    };
    let kind = match error.kind.as_str() {
        "invalid_request_error" => FaultKind::InvalidRequest,
        "authentication_error" => FaultKind::Authentication,
        "permission_error" | "billing_error" => FaultKind::Permission,
        "not_found_error" => FaultKind::NotFound,
        "request_too_large" => FaultKind::TooLarge,
        "rate_limit_error" => FaultKind::RateLimit,
        "api_error" => FaultKind::Api,
        "not_supported" => FaultKind::NotSupported,
        "timeout_error" => FaultKind::Timeout,
        "overloaded_error" => FaultKind::Overloaded,
        _ => status.map_or(FaultKind::Api, FaultKind::of_status),
    };
    ApiFault { kind, code: error.kind, message: error.message }
}

/// The body of a refusal.
#[must_use]
pub fn error_of(fault: &ApiFault) -> Bytes {
    let kind = match fault.kind {
        FaultKind::InvalidRequest => ErrorKind::InvalidRequest,
        FaultKind::Authentication => ErrorKind::Authentication,
        FaultKind::Permission => ErrorKind::Permission,
        FaultKind::NotFound => ErrorKind::NotFound,
        FaultKind::TooLarge => ErrorKind::RequestTooLarge,
        FaultKind::RateLimit => ErrorKind::RateLimit,
        FaultKind::Api => ErrorKind::Api,
        FaultKind::NotSupported => ErrorKind::NotSupported,
        FaultKind::Timeout => ErrorKind::Timeout,
        FaultKind::Overloaded => ErrorKind::Overloaded,
    };
    error_body(kind, &fault.message)
}
