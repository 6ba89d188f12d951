//! An answer, as it comes.

use serde_json::Value;

use crate::Usage;

use super::Signature;

/// One step of an answer. Parts do not overlap in meaning but may in time: each has its own index, counted from 0.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The first thing, once.
    Start {
        /// The provider's identifier of the answer.
        id: Option<String>,
        /// The provider's exact model.
        model: Option<String>,
    },
    /// A part begins.
    PartStart {
        /// Which.
        index: u32,
        /// What it is.
        part: PartHead,
    },
    /// More of a part.
    Delta {
        /// Of which.
        index: u32,
        /// What.
        delta: Delta,
    },
    /// A part is complete.
    PartStop {
        /// Which.
        index: u32,
    },
    /// What was used so far. Cumulative: the last word on each count holds.
    Usage(Usage),
    /// Why the model stopped.
    Stop {
        /// In our words.
        reason: StopReason,
        /// In the provider's own.
        said: String,
        /// The stop sequence that was met.
        sequence: Option<String>,
    },
    /// A sign of life.
    Ping,
    /// The provider said that something went wrong. The last event.
    Error(ApiFault),
    /// Something came that could not be read: passed over, and counted.
    Unreadable,
    /// The proper end. The last event.
    End,
}

/// What kind of part begins.
#[derive(Debug, Clone, PartialEq)]
pub enum PartHead {
    /// Text for the person.
    Text,
    /// Reasoning, readable or at least signed.
    Reasoning {
        /// The provider's identifier of it, for dialects that have one.
        id: Option<String>,
    },
    /// Reasoning that only the provider can read.
    Redacted {
        /// As it came.
        data: Signature,
    },
    /// A tool is called. Its input follows as [`Delta::Input`], JSON text in pieces (for a free-form tool, plain text).
    ToolCall {
        /// The call's identifier.
        id: String,
        /// The tool's name.
        name: String,
        /// Whether the input is free text and not JSON.
        free_form: bool,
    },
    /// The model refuses, in text of its own.
    Refusal,
    /// Something that only the provider's dialect knows (a search by the provider, a file). Shown to no other dialect.
    Foreign {
        /// As it came.
        value: Value,
    },
}

/// More of a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// Text, of a text or a refusal.
    Text(String),
    /// Reasoning in plain text.
    Reasoning(String),
    /// The signature of a reasoning or of a tool call, whole. That of a call comes before its input: dialects that carry it
    /// in the call's identifier say that first.
    Signature(Signature),
    /// A piece of a tool's input.
    Input(String),
    /// A source for what was said, in the provider's form.
    Citation(Value),
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// It had said everything.
    End,
    /// As many tokens as were allowed.
    MaxTokens,
    /// A stop sequence.
    StopSequence,
    /// It waits for results of tools.
    ToolUse,
    /// It refuses, or the provider's filter stepped in.
    Refusal,
    /// It wants to go on after a pause (the provider's own tools).
    Pause,
    /// The context is full.
    ContextFull,
    /// Anything else.
    Other,
}

/// Kinds of errors that all dialects can say somehow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// 400: the request cannot be served as it is. Also every final refusal.
    InvalidRequest,
    /// 401.
    Authentication,
    /// 403.
    Permission,
    /// 404.
    NotFound,
    /// 413.
    TooLarge,
    /// 429.
    RateLimit,
    /// 500 and its kin.
    Api,
    /// 501.
    NotSupported,
    /// 504.
    Timeout,
    /// 529 and 503.
    Overloaded,
}

impl FaultKind {
    /// Whether it says that the request was not taken: too much at once, too long, not allowed, not understood.
    #[must_use]
    pub const fn means_not_taken(self) -> bool {
        match self {
            Self::InvalidRequest
            | Self::Authentication
            | Self::Permission
            | Self::NotFound
            | Self::TooLarge
            | Self::RateLimit
            | Self::NotSupported => true,
            Self::Api | Self::Timeout | Self::Overloaded => false,
        }
    }

    /// What a provider's HTTP status means.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Authentication,
            403 => Self::Permission,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            413 => Self::TooLarge,
            429 => Self::RateLimit,
            501 => Self::NotSupported,
            503 | 529 => Self::Overloaded,
            400..=499 => Self::InvalidRequest,
            _ => Self::Api,
        }
    }

    /// The status that says this best.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Authentication => 401,
            Self::Permission => 403,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::RateLimit => 429,
            Self::Api => 500,
            Self::NotSupported => 501,
            Self::Timeout => 504,
            Self::Overloaded => 529,
        }
    }
}

/// Something that went wrong, as a dialect says it in a body or in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiFault {
    /// Which kind.
    pub kind: FaultKind,
    /// The provider's own word, for example `overloaded_error`; empty if the error is ours.
    pub code: String,
    /// The text, for the client.
    pub message: String,
}

impl ApiFault {
    /// An error of ours.
    #[must_use]
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, code: String::new(), message: message.into() }
    }

    /// A provider's refusal that has no form that we know: its text, cut short.
    #[must_use]
    pub fn of_text(status: u16, body: &[u8]) -> Self {
        const MOST: usize = 2_000;
        let text = String::from_utf8_lossy(body.get(..MOST).unwrap_or(body)).trim().to_owned();
        let message = if text.is_empty() { format!("the provider answered with status {status}") } else { text };
        Self::new(FaultKind::of_status(status), message)
    }
}
