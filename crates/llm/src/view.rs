//! A request, seen through the few fields that the gateway acts on. Everything else stays as it was sent.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::{Estimate, prices::Tier};

/// The longest model name that is looked at, in bytes.
pub const MAX_MODEL_NAME: usize = 200;

/// Why a body is no request that the gateway can serve. The texts are meant for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No JSON, a field of the wrong type, a field twice.
    #[error("the request does not read as one of the {0} API: {1}")]
    Syntax(&'static str, String),
    /// A field is missing.
    #[error("{0}: Field required")]
    Missing(&'static str),
    /// The model's name is none.
    #[error("model: expected a name of 1 to {MAX_MODEL_NAME} characters without control characters")]
    ModelName,
    /// It asks for something whose cost nothing here bounds. What has no price is refused, not free.
    #[error("{0} has no price here, so a request with it is refused")]
    Unpriced(String),
    /// It asks for something that the gateway does not do.
    #[error("{0} is not served here: {1}")]
    Unsupported(String, &'static str),
}

/// The typed view of a request. Positions are in the bytes it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The model that is asked for, in dialects that say it in the body.
    pub model: Option<String>,
    /// Where the model's name stands, quotes included.
    pub model_at: Option<Range<usize>>,
    /// Whether the answer should come as a stream, in dialects that say it in the body.
    pub stream: bool,
    /// How many messages (items, contents) the conversation has.
    pub messages: usize,
    /// The most tokens that one answer may have, if the request says it.
    pub max_output: Option<u64>,
    /// How many answers are wanted (`n`, `candidateCount`); 1 if it is not said.
    pub answers: u64,
    /// What is read at most, and cached. `output_tokens` is `max_output` times `answers`, or 0 if the request does not say it.
    pub estimate: Estimate,
    /// What the body says of the client's session, as it stands there: untrusted text.
    pub session: Option<String>,
    /// How it is to be served: another tier has other prices, or none.
    pub tier: Tier,
    /// Chat: whether the client asked for a chunk of usage at the end of a stream.
    pub include_usage: bool,
    /// Chat: what to splice in so that the provider sends usage in a stream although the client did not ask.
    pub ask_for_usage: Option<Splice>,
}

/// A replacement of some bytes of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// Which bytes. Empty: something is inserted.
    pub at: Range<usize>,
    /// What stands there afterwards.
    pub with: Bytes,
}

impl View {
    /// The replacement that gives the request another model. Nothing if it has this name already or says none.
    #[must_use]
    pub fn other_model(&self, model: &str) -> Option<Splice> {
        if self.model.as_deref() == Some(model) {
            return None;
        }
        let at = self.model_at.clone()?;
        Some(Splice { at, with: serde_json::Value::from(model).to_string().into() })
    }
}

/// The same bytes but for the replacements, which must not overlap. Nothing is copied if there are none.
#[must_use]
pub fn spliced(body: &Bytes, mut splices: Vec<Splice>) -> Bytes {
    if splices.is_empty() {
        return body.clone();
    }
    splices.sort_by_key(|splice| (splice.at.start, splice.at.end));
    let more: usize = splices.iter().map(|splice| splice.with.len()).sum();
    let mut out = BytesMut::with_capacity(body.len() + more);
    let mut from = 0;
    for splice in &splices {
        out.extend_from_slice(body.get(from..splice.at.start).unwrap_or_default());
        out.extend_from_slice(&splice.with);
        from = from.max(splice.at.end);
    }
    out.extend_from_slice(body.get(from..).unwrap_or_default());
    out.freeze()
}
