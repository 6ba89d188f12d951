//! The error shape: `{"error":{"message","type","param","code"}}`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::some_text;
use crate::neutral::{ApiFault, FaultKind};

/// The `type` and the `code` that clients of these dialects know.
pub(crate) fn words(fault: &ApiFault) -> (&'static str, Option<&'static str>) {
    if context_full(fault) {
        return ("invalid_request_error", Some("context_length_exceeded"));
    }
    match fault.kind {
        FaultKind::InvalidRequest => ("invalid_request_error", None),
        FaultKind::Authentication => ("invalid_request_error", Some("invalid_api_key")),
        FaultKind::Permission => ("invalid_request_error", Some("permission_denied")),
        FaultKind::NotFound => ("invalid_request_error", Some("model_not_found")),
        FaultKind::TooLarge => ("invalid_request_error", Some("request_too_large")),
        FaultKind::RateLimit => ("rate_limit_error", Some("rate_limit_exceeded")),
        FaultKind::Api => ("server_error", Some("server_error")),
        FaultKind::NotSupported => ("invalid_request_error", Some("not_supported")),
        FaultKind::Timeout => ("server_error", Some("timeout")),
        FaultKind::Overloaded => ("server_error", Some("server_is_overloaded")),
    }
}

/// Whether the provider says that the conversation is too long. Clients shorten it when they are told in their own words.
fn context_full(fault: &ApiFault) -> bool {
    let said = |words: &[&str]| {
        let text = fault.message.to_ascii_lowercase();
        words.iter().any(|word| text.contains(word))
    };
    fault.code == "context_length_exceeded"
        || fault.kind == FaultKind::InvalidRequest
            && said(&[
                "prompt is too long",
                "input is too long",
                "maximum context length",
                "exceeds the context window",
                "exceeds the maximum number of tokens",
            ])
}

/// The object `error`.
pub(crate) fn object(fault: &ApiFault) -> Value {
    let (kind, code) = words(fault);
    json!({ "message": fault.message, "type": kind, "param": null, "code": code })
}

/// The body of a refusal.
pub(crate) fn body(fault: &ApiFault) -> Bytes {
    Bytes::from(json!({ "error": object(fault) }).to_string())
}

/// A provider's refusal, read.
pub(crate) fn read(status: u16, bytes: &[u8]) -> ApiFault {
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(_) => return ApiFault::of_text(status, bytes),
    };
    // Some gateways send a list of one.
    let value = value.as_array().and_then(|items| items.first()).unwrap_or(&value);
    let inner = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
    let message = match inner {
        Value::String(text) => Some(text.clone()),
        inner => some_text(inner, "message").or_else(|| some_text(inner, "detail")),
    };
    let Some(message) = message else { return ApiFault::of_text(status, bytes) };
    ApiFault { kind: FaultKind::of_status(status), code: code_of(inner), message }
}

/// An error in the middle of a stream, where no status tells its kind. Nothing if it is none.
pub(crate) fn in_band(error: &Value) -> Option<ApiFault> {
    let message = match error {
        Value::Null | Value::Bool(false) => return None,
        Value::String(text) => text.clone(),
        error => some_text(error, "message").unwrap_or_else(|| "the provider reports an error".to_owned()),
    };
    let code = code_of(error);
    let status = error.get("code").or_else(|| error.get("status")).and_then(Value::as_u64);
    let kind = match status.and_then(|status| u16::try_from(status).ok()) {
        Some(status @ 400..=599) => FaultKind::of_status(status),
        _ => of_words(&format!("{} {code}", super::text_of(error, "type"))),
    };
    Some(ApiFault { kind, code, message })
}

fn code_of(error: &Value) -> String {
    let number = || error.get("code").and_then(Value::as_u64).map(|code| code.to_string());
    some_text(error, "code").or_else(|| some_text(error, "type")).or_else(number).unwrap_or_default()
}

/// The kind that a provider's words mean.
pub(crate) fn of_words(words: &str) -> FaultKind {
    let has = |part: &str| words.contains(part);
    if has("overloaded") || has("slow_down") || has("unavailable") {
        FaultKind::Overloaded
    } else if has("rate_limit") || has("quota") || has("too_many") {
        FaultKind::RateLimit
    } else if has("authentication") || has("api_key") {
        FaultKind::Authentication
    } else if has("permission") {
        FaultKind::Permission
    } else if has("not_found") {
        FaultKind::NotFound
    } else if has("timeout") {
        FaultKind::Timeout
    } else if has("invalid") || has("context_length") || has("policy") || has("image") {
        FaultKind::InvalidRequest
    } else {
        FaultKind::Api
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_four_fields() {
        let fault = ApiFault::new(FaultKind::InvalidRequest, "No \"x\".");
        assert_eq!(
            body(&fault),
            r#"{"error":{"message":"No \"x\".","type":"invalid_request_error","param":null,"code":null}}"#
        );
        for kind in [FaultKind::RateLimit, FaultKind::Overloaded, FaultKind::Api, FaultKind::Timeout] {
            let fault = ApiFault::new(kind, "m");
            assert_eq!(in_band(&object(&fault)).unwrap().kind, kind);
        }
        let full = ApiFault {
            code: "invalid_request_error".to_owned(),
            ..ApiFault::new(FaultKind::InvalidRequest, "prompt is too long: 9 > 8")
        };
        assert_eq!(words(&full).1, Some("context_length_exceeded"));
    }

    #[test]
    fn refusals_of_many_servers_are_read() {
        let read = |status, text: &str| {
            let fault = read(status, text.as_bytes());
            (fault.kind, fault.code, fault.message)
        };
        assert_eq!(
            read(429, r#"{"error":{"message":"slow","type":"tokens","code":"rate_limit_exceeded"}}"#),
            (FaultKind::RateLimit, "rate_limit_exceeded".to_owned(), "slow".to_owned())
        );
        assert_eq!(read(404, r#"{"error":"no such model"}"#).2, "no such model");
        assert_eq!(
            read(400, r#"{"object":"error","message":"bad","type":"BadRequestError","code":400}"#).1,
            "BadRequestError"
        );
        assert_eq!(
            read(400, r#"[{"error":{"code":400,"message":"bad"}}]"#),
            (FaultKind::InvalidRequest, "400".to_owned(), "bad".to_owned())
        );
        assert_eq!(read(502, "<html>").2, "<html>");
        assert_eq!(read(500, r#"{"error":{}}"#).2, r#"{"error":{}}"#);
        assert_eq!(in_band(&json!({"code": 502, "message": "m"})).unwrap().kind, FaultKind::Api);
        assert_eq!(in_band(&json!(null)), None);
    }
}
