//! The error shape: `{"error":{"code":STATUS,"message":TEXT,"status":WORD}}`.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::neutral::{ApiFault, FaultKind};

/// What an error is in this dialect.
pub(super) fn value_of(fault: &ApiFault) -> Value {
    let (code, status) = match fault.kind {
        FaultKind::InvalidRequest => (400, "INVALID_ARGUMENT"),
        FaultKind::Authentication => (401, "UNAUTHENTICATED"),
        FaultKind::Permission => (403, "PERMISSION_DENIED"),
        FaultKind::NotFound => (404, "NOT_FOUND"),
        FaultKind::TooLarge => (413, "INVALID_ARGUMENT"),
        FaultKind::RateLimit => (429, "RESOURCE_EXHAUSTED"),
        FaultKind::Api => (500, "INTERNAL"),
        FaultKind::NotSupported => (501, "UNIMPLEMENTED"),
        FaultKind::Timeout => (504, "DEADLINE_EXCEEDED"),
        FaultKind::Overloaded => (503, "UNAVAILABLE"),
    };
    json!({"error": {"code": code, "message": fault.message, "status": status}})
}

/// The body of a refusal.
#[must_use]
pub fn error_body(fault: &ApiFault) -> Bytes {
    Bytes::from(value_of(fault).to_string())
}

/// Reads an error from a value of that shape, or from a list that begins with one.
pub(super) fn from_value(status: Option<u16>, value: &Value) -> Option<ApiFault> {
    let error = value.as_array().and_then(|list| list.first()).unwrap_or(value).get("error")?;
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let code = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let kind = match text("status") {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" if code != Some(413) => FaultKind::InvalidRequest,
        "UNAUTHENTICATED" => FaultKind::Authentication,
        "PERMISSION_DENIED" => FaultKind::Permission,
        "NOT_FOUND" => FaultKind::NotFound,
        "RESOURCE_EXHAUSTED" => FaultKind::RateLimit,
        "UNIMPLEMENTED" => FaultKind::NotSupported,
        "DEADLINE_EXCEEDED" => FaultKind::Timeout,
        "UNAVAILABLE" => FaultKind::Overloaded,
        _ => FaultKind::of_status(code.or(status).unwrap_or(500)),
    };
    Some(ApiFault { kind, code: text("status").to_owned(), message: text("message").to_owned() })
}

/// A provider's refusal, read.
#[must_use]
pub fn read_error(status: u16, body: &[u8]) -> ApiFault {
    let value = serde_json::from_slice::<Value>(body).ok();
    value.and_then(|value| from_value(Some(status), &value)).unwrap_or_else(|| ApiFault::of_text(status, body))
}
