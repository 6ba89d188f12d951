//! The end of a stream that is stopped, in the client's own form.

use bytes::Bytes;
use serde_json::{Value, json};
use stockade_llm::{
    Dialect, Framing, anthropic, eventstream,
    neutral::{ApiFault, FaultKind},
};

use super::json::Document;

/// What has to be repeated in an error of the Responses API.
#[derive(Debug, Default)]
pub struct Envelope {
    response: Option<Value>,
    sequence: u32,
    /// Whether an element of an array went out before.
    pub begun: bool,
}

impl Envelope {
    /// Looks at an event that goes by.
    pub fn see(&mut self, dialect: Dialect, kind: &str, document: &Document<'_>) {
        if dialect != Dialect::Responses {
            return;
        }
        if let Some(sequence) = document.number(b"sequence_number") {
            self.sequence = sequence;
        }
        if kind == "response.created" {
            let event: Option<Value> = serde_json::from_slice(document.bytes()).ok();
            self.response = event.and_then(|mut event| event.get_mut("response").map(Value::take));
        }
    }
}

/// The text of the error.
fn message(why: &str) -> String {
    format!("The answer was stopped by this organization's content policy: {why}")
}

/// The body of an error, for an answer in one piece.
#[must_use]
pub fn body(dialect: Dialect, why: &str) -> Bytes {
    let fault = ApiFault::new(FaultKind::InvalidRequest, message(why));
    match dialect {
        Dialect::Messages => anthropic::error_of(&fault),
        Dialect::Chat | Dialect::Responses | Dialect::Embeddings => {
            let error =
                json!({ "message": fault.message, "type": "invalid_request_error", "param": null, "code": CODE });
            Bytes::from(json!({ "error": error }).to_string())
        }
        Dialect::Gemini => {
            let error = json!({ "code": 400, "message": fault.message, "status": "INVALID_ARGUMENT" });
            Bytes::from(json!({ "error": error }).to_string())
        }
        Dialect::Converse => Bytes::from(json!({ "message": fault.message }).to_string()),
    }
}

/// The word for it in errors that have one.
const CODE: &str = "content_policy";

/// What ends a stream.
#[must_use]
pub fn end_of_stream(dialect: Dialect, framing: Framing, envelope: &Envelope, why: &str) -> Bytes {
    let body = body(dialect, why);
    let data = |name: &str, body: &[u8]| {
        let name = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
        Bytes::from([name.as_bytes(), b"data: ", body, b"\n\n"].concat())
    };
    match (framing, dialect) {
        (Framing::Whole, _) => body,
        (Framing::Array, _) => Bytes::from([if envelope.begun { b"," } else { b"[" }, &body[..], b"]"].concat()),
        (Framing::Frames, _) => {
            let body = json!({ "message": message(why) }).to_string();
            eventstream::exception("validationException", body.as_bytes())
        }
        (Framing::Events, Dialect::Messages) => data("error", &body),
        (Framing::Events, Dialect::Responses) => {
            let mut response = match &envelope.response {
                Some(Value::Object(known)) => known.clone(),
                _ => serde_json::Map::new(),
            };
            response.insert("status".to_owned(), json!("failed"));
            response.insert("error".to_owned(), json!({ "code": CODE, "message": message(why) }));
            response.entry("object").or_insert_with(|| json!("response"));
            response.entry("id").or_insert_with(|| json!("resp_stopped"));
            response.entry("output").or_insert_with(|| json!([]));
            let sequence = envelope.sequence.saturating_add(1);
            let event = json!({ "type": "response.failed", "sequence_number": sequence, "response": response });
            data("response.failed", event.to_string().as_bytes())
        }
        (Framing::Events, _) => data("", &body),
    }
}
