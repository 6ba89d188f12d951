//! The seam between the gateway and the dialects. Whoever adds a dialect adds a variant and an arm here.

use bytes::Bytes;

use crate::{
    View, anthropic, chat, converse, embeddings, gemini,
    neutral::{ApiFault, ConvertError, Decode, Encode, ForClient, Request, Written},
    responses,
    view::RequestError,
};

/// A way of speaking to models: the form of bodies and of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Anthropic's Messages API, also at Vertex (`rawPredict`) and, in other frames, at Bedrock (`invoke`).
    Messages,
    /// OpenAI's Chat Completions API.
    Chat,
    /// OpenAI's Responses API.
    Responses,
    /// OpenAI's Embeddings API.
    Embeddings,
    /// Google's `generateContent`, at the Gemini API and at Vertex.
    Gemini,
    /// Bedrock's Converse API.
    Converse,
}

/// How an answer is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// One JSON body.
    Whole,
    /// Server-sent events.
    Events,
    /// A JSON array whose elements come one after the other (Gemini without `alt=sse`).
    Array,
    /// `application/vnd.amazon.eventstream`. For [`Dialect::Messages`]: events in base64 within `chunk` frames.
    Frames,
}

impl Framing {
    /// What a `content-type` says. Nothing if it is something that is not read. No type at all counts as JSON.
    #[must_use]
    pub fn of_content_type(content_type: Option<&str>) -> Option<Self> {
        let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("text/event-stream") {
            Some(Self::Events)
        } else if is("application/vnd.amazon.eventstream") {
            Some(Self::Frames)
        } else if essence.is_empty() || is("application/json") {
            Some(Self::Whole)
        } else {
            None
        }
    }

    /// The `content-type` of such an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Whole | Self::Array => "application/json",
            Self::Events => "text/event-stream; charset=utf-8",
            Self::Frames => "application/vnd.amazon.eventstream",
        }
    }
}

/// What the path of a request says, in dialects that do not say it in the body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathFacts {
    /// The model.
    pub model: Option<String>,
    /// Whether the answer should come as a stream.
    pub stream: Option<bool>,
}

/// What a writer must know of the model that it writes for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What stands for "as much as you like" in dialects that need a number: the most that the model writes.
    pub max_output: u64,
    /// Whether the model reasons. Wishes for reasoning are dropped (rule `no-reasoning`) if it does not.
    pub reasoning: bool,
}

impl Dialect {
    /// Every one.
    pub const ALL: &'static [Self] =
        &[Self::Messages, Self::Chat, Self::Responses, Self::Embeddings, Self::Gemini, Self::Converse];

    /// The word for it, in records, configuration and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Gemini => "gemini",
            Self::Converse => "converse",
        }
    }

    /// The name of it, in sentences.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Messages => "Messages",
            Self::Chat => "Chat Completions",
            Self::Responses => "Responses",
            Self::Embeddings => "Embeddings",
            Self::Gemini => "Gemini",
            Self::Converse => "Converse",
        }
    }

    /// Looks at a request.
    ///
    /// # Errors
    /// If it is not a request of this dialect, or asks for something that the price table cannot bound.
    pub fn view(self, body: &[u8]) -> Result<View, RequestError> {
        match self {
            Self::Messages => anthropic::view(body),
            Self::Chat => chat::view(body),
            Self::Responses => responses::view(body),
            Self::Embeddings => embeddings::view(body),
            Self::Gemini => gemini::view(body),
            Self::Converse => converse::view(body),
        }
    }

    /// Reads a client's request into the neutral form.
    ///
    /// # Errors
    /// If it is not a request of this dialect.
    pub fn read_request(self, body: &[u8], path: &PathFacts) -> Result<Request, ConvertError> {
        let mut request = match self {
            Self::Messages => anthropic::read_request(body),
            Self::Chat => chat::read_request(body),
            Self::Responses => responses::read_request(body),
            Self::Embeddings => Err(unconverted("an embeddings request")),
            Self::Gemini => gemini::read_request(body),
            Self::Converse => converse::read_request(body),
        }?;
        if let Some(model) = &path.model {
            request.model.clone_from(model);
        }
        request.stream = path.stream.unwrap_or(request.stream);
        Ok(request)
    }

    /// Writes a request for a provider. `request.model` is the provider's name for the model.
    ///
    /// # Errors
    /// If this dialect has nothing for something that was asked.
    pub fn write_request(self, request: &Request, target: &Target) -> Result<Written, ConvertError> {
        match self {
            Self::Messages => anthropic::write_request(request, target),
            Self::Chat => chat::write_request(request, target),
            Self::Responses => responses::write_request(request, target),
            Self::Embeddings => Err(unconverted("a conversation")),
            Self::Gemini => gemini::write_request(request, target),
            Self::Converse => converse::write_request(request, target),
        }
    }

    /// What reads a provider's answer.
    #[must_use]
    pub fn decoder(self, framing: Framing) -> Box<dyn Decode> {
        match self {
            Self::Messages => anthropic::decoder(framing),
            Self::Chat => chat::decoder(framing),
            Self::Responses => responses::decoder(framing),
            Self::Embeddings => embeddings::decoder(framing),
            Self::Gemini => gemini::decoder(framing),
            Self::Converse => converse::decoder(framing),
        }
    }

    /// What writes an answer for a client. Embeddings are never converted, so they have none.
    #[must_use]
    pub fn encoder(self, framing: Framing, client: ForClient) -> Option<Box<dyn Encode>> {
        match self {
            Self::Messages => Some(anthropic::encoder(framing, client)),
            Self::Chat => Some(chat::encoder(framing, client)),
            Self::Responses => Some(responses::encoder(framing, client)),
            Self::Embeddings => None,
            Self::Gemini => Some(gemini::encoder(framing, client)),
            Self::Converse => Some(converse::encoder(framing, client)),
        }
    }

    /// The body of a refusal, in this dialect.
    #[must_use]
    pub fn error_body(self, fault: &ApiFault) -> Bytes {
        match self {
            Self::Messages => anthropic::error_of(fault),
            Self::Chat | Self::Responses | Self::Embeddings => chat::error_body(fault),
            Self::Gemini => gemini::error_body(fault),
            Self::Converse => converse::error_body(fault),
        }
    }

    /// The body of a refusal from a provider of this dialect, read. Text that is none, or that has no message, becomes the message, cut
    /// short.
    #[must_use]
    pub fn read_error(self, status: u16, body: &[u8]) -> ApiFault {
        let mut fault = match self {
            Self::Messages => anthropic::read_error(status, body),
            Self::Chat | Self::Responses | Self::Embeddings => chat::read_error(status, body),
            Self::Gemini => gemini::read_error(status, body),
            Self::Converse => converse::read_error(status, body),
        };
        if fault.message.is_empty() {
            fault.message = ApiFault::of_text(status, body).message;
        }
        fault
    }
}

fn unconverted(what: &str) -> ConvertError {
    ConvertError::Unsupported {
        what: what.to_owned(),
        why: "embeddings go only to a provider of the same dialect: ask for another model",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_without_a_message_says_what_came() {
        for (dialect, body) in [
            (Dialect::Gemini, r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[1]}}]"#),
            (Dialect::Messages, r#"{"type":"error","error":{"type":"api_error","message":""}}"#),
            (Dialect::Converse, r#"{"__type":"ThrottlingException"}"#),
        ] {
            assert_eq!(dialect.read_error(429, body.as_bytes()).message, body);
        }
        assert_eq!(Dialect::Gemini.read_error(429, br#"{"error":{"message":"m"}}"#).message, "m");
    }
}
