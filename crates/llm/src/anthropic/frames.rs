//! Bedrock's frames around this dialect's events: `{"bytes": BASE64}` in frames of the type `chunk`, and exceptions.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use serde_json::{Value, json};

use super::decode::Steps;
use crate::{
    eventstream::{self, Message, Reader},
    neutral::{ApiFault, Decode, Event, FaultKind},
};

/// What an exception's name means.
pub(super) fn kind_of(exception: &str) -> FaultKind {
    match exception {
        "validationException" => FaultKind::InvalidRequest,
        "accessDeniedException" => FaultKind::Permission,
        "resourceNotFoundException" => FaultKind::NotFound,
        "throttlingException" | "serviceQuotaExceededException" => FaultKind::RateLimit,
        "modelTimeoutException" => FaultKind::Timeout,
        "serviceUnavailableException" | "modelNotReadyException" => FaultKind::Overloaded,
        _ => FaultKind::Api,
    }
}

/// The exception that says this best. A stream knows only five of them.
const fn exception_of(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::InvalidRequest
        | FaultKind::Authentication
        | FaultKind::Permission
        | FaultKind::NotFound
        | FaultKind::TooLarge
        | FaultKind::NotSupported => "validationException",
        FaultKind::RateLimit => "throttlingException",
        FaultKind::Timeout => "modelTimeoutException",
        FaultKind::Overloaded => "serviceUnavailableException",
        FaultKind::Api => "internalServerException",
    }
}

/// Writes one event.
pub(super) fn write(event: &Value, out: &mut BytesMut) {
    let payload = json!({"bytes": STANDARD.encode(event.to_string())}).to_string();
    out.extend_from_slice(&eventstream::event("chunk", payload.as_bytes()));
}

/// Writes what went wrong.
pub(super) fn write_fault(fault: &ApiFault, out: &mut BytesMut) {
    let payload = json!({"message": fault.message}).to_string();
    out.extend_from_slice(&eventstream::exception(exception_of(fault.kind), payload.as_bytes()));
}

/// Reads events in frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    reader: Reader,
    steps: Steps,
}

impl Decode for Frames {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let steps = &mut self.steps;
        // A damaged frame is told at the end.
        let _ = self.reader.push(bytes, |frame| match frame.message() {
            Message::Event("chunk") => match chunk(&frame.payload) {
                Some(data) => steps.event(&data, out),
                None => out.push(Event::Unreadable),
            },
            Message::Event(_) => {}
            Message::Exception(name) => {
                let said = serde_json::from_slice::<Value>(&frame.payload).ok();
                let message = said.as_ref().and_then(|said| said.get("message")).and_then(Value::as_str);
                steps.fault(name, message.unwrap_or(name), out);
            }
            Message::Error { code, message } => steps.fault(code, message, out),
        });
    }

    fn finish(&mut self, ended: bool, out: &mut Vec<Event>) {
        if ended && self.reader.finish().is_err() {
            out.push(Event::Unreadable);
        }
    }
}

fn chunk(payload: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    STANDARD.decode(value.get("bytes")?.as_str()?).ok()
}
