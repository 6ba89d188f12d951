//! Errors: a body `{"message": …}`, the type in the header `x-amzn-errortype` or in `__type`, and in streams an exception.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::neutral::{ApiFault, FaultKind};

/// The type of an error, for the header `x-amzn-errortype`.
#[must_use]
pub const fn error_type(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::InvalidRequest | FaultKind::TooLarge | FaultKind::NotSupported => "ValidationException",
        FaultKind::Authentication | FaultKind::Permission => "AccessDeniedException",
        FaultKind::NotFound => "ResourceNotFoundException",
        FaultKind::RateLimit => "ThrottlingException",
        FaultKind::Api => "InternalServerException",
        FaultKind::Timeout => "ModelTimeoutException",
        FaultKind::Overloaded => "ServiceUnavailableException",
    }
}

/// The exception of a stream that says this best: a stream knows fewer.
pub(super) const fn exception(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::InvalidRequest
        | FaultKind::TooLarge
        | FaultKind::NotSupported
        | FaultKind::Authentication
        | FaultKind::Permission
        | FaultKind::NotFound => "validationException",
        FaultKind::RateLimit => "throttlingException",
        FaultKind::Api => "internalServerException",
        FaultKind::Timeout => "modelStreamErrorException",
        FaultKind::Overloaded => "serviceUnavailableException",
    }
}

/// What an error's type means, in either spelling.
pub(super) fn kind_of(name: &str) -> Option<FaultKind> {
    // `x-amzn-errortype` and `__type` may have a namespace before it and an address after it.
    let name = name.rsplit('#').next().unwrap_or(name);
    let name = name.split(':').next().unwrap_or(name);
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    let kinds = [
        ("ValidationException", FaultKind::InvalidRequest),
        ("AccessDeniedException", FaultKind::Permission),
        ("UnrecognizedClientException", FaultKind::Authentication),
        ("InvalidSignatureException", FaultKind::Authentication),
        ("MissingAuthenticationTokenException", FaultKind::Authentication),
        ("ExpiredTokenException", FaultKind::Authentication),
        ("ResourceNotFoundException", FaultKind::NotFound),
        ("ThrottlingException", FaultKind::RateLimit),
        ("ServiceQuotaExceededException", FaultKind::RateLimit),
        ("ModelTimeoutException", FaultKind::Timeout),
        ("ModelNotReadyException", FaultKind::Overloaded),
        ("ServiceUnavailableException", FaultKind::Overloaded),
        ("InternalServerException", FaultKind::Api),
        ("ModelErrorException", FaultKind::Api),
        ("ModelStreamErrorException", FaultKind::Api),
    ];
    kinds.iter().find(|(known, _)| is(known)).map(|(_, kind)| *kind)
}

/// The body of a refusal.
#[must_use]
pub fn error_body(fault: &ApiFault) -> Bytes {
    json!({ "__type": error_type(fault.kind), "message": fault.message }).to_string().into()
}

/// A provider's refusal, read.
#[must_use]
pub fn read_error(status: u16, body: &[u8]) -> ApiFault {
    let Ok(Value::Object(said)) = serde_json::from_slice::<Value>(body) else {
        return ApiFault::of_text(status, body);
    };
    let text = |keys: &[&str]| keys.iter().find_map(|key| said.get(*key)).and_then(Value::as_str).map(str::to_owned);
    let Some(message) = text(&["message", "Message"]) else { return ApiFault::of_text(status, body) };
    let code = text(&["__type", "code"]).unwrap_or_default();
    ApiFault { kind: kind_of(&code).unwrap_or(FaultKind::of_status(status)), code, message }
}

/// An exception of a stream, read.
pub(super) fn read_exception(name: &str, payload: &[u8]) -> ApiFault {
    let said = serde_json::from_slice::<Value>(payload).unwrap_or_default();
    let text = |key: &str| said.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let status = said.get("originalStatusCode").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
    let message = text("originalMessage").or(text("message")).unwrap_or(name);
    let of_model = status.filter(|_| name.eq_ignore_ascii_case("modelStreamErrorException")).map(FaultKind::of_status);
    let kind = of_model.or(kind_of(name)).unwrap_or(FaultKind::Api);
    ApiFault { kind, code: name.to_owned(), message: message.to_owned() }
}
