//! A request, in no dialect.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Number, Value};

use super::{Aliases, Signature};
use crate::CacheUse;

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// The name that was asked for. When written for a provider: the provider's name.
    pub model: String,
    /// What stands before the conversation: text, with cache marks.
    pub system: Vec<Part>,
    /// The conversation.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must.
    pub tool_choice: ToolChoice,
    /// Whether several calls at once are welcome. Nothing: as the provider likes.
    pub parallel_tools: Option<bool>,
    /// The most tokens to write.
    pub max_output: Option<u64>,
    /// As the client wrote it.
    pub temperature: Option<Number>,
    /// As the client wrote it.
    pub top_p: Option<Number>,
    /// As the client wrote it.
    pub top_k: Option<Number>,
    /// As the client wrote it.
    pub seed: Option<Number>,
    /// As the client wrote it.
    pub presence_penalty: Option<Number>,
    /// As the client wrote it.
    pub frequency_penalty: Option<Number>,
    /// Texts at which to stop.
    pub stop: Vec<String>,
    /// How much to think.
    pub reasoning: Option<ReasoningWish>,
    /// Which form the answer must have.
    pub output: OutputForm,
    /// How many words: `low`, `medium`, `high`.
    pub verbosity: Option<String>,
    /// Whether the answer should come as a stream.
    pub stream: bool,
    /// Whether a stream is to end with usage (Chat).
    pub include_usage: bool,
    /// An opaque name of the end user, for the provider's abuse detection.
    pub user: Option<String>,
    /// The client's key for prompt caching; stable over a session.
    pub cache_key: Option<String>,
    /// Fields of the client's dialect that this form does not have and that were not empty: each becomes a [`Dropped`] or an
    /// error when the request is written in another dialect ([`Request::leftovers`]). Readers leave out what is meaningless
    /// elsewhere (`store: false`). A field within another is named with dots: `generationConfig.candidateCount`.
    pub extra: Map<String, Value>,
}

/// One turn of the conversation. Two turns of one role may follow each other: a writer joins them where its dialect wants that.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Whose.
    pub role: Role,
    /// What was said.
    pub parts: Vec<Part>,
}

/// Fields in [`Request::extra`] that change what the answer is or where it stands: to leave one out would be a lie.
const REFUSED: &[(&str, &str)] = &[
    ("audio", "this model answers with text only: leave it out"),
    ("background", "answers are not kept here: ask without it"),
    ("cachedContent", "it is kept at another provider: send the content itself"),
    ("candidateCount", "one answer at a time is all that this model gives: ask several times"),
    ("container", "it lives at another provider: leave it out"),
    ("conversation", "it is kept at another provider: send the conversation itself"),
    ("logprobs", "this model does not tell them: leave it out"),
    ("mcp_servers", "the provider would have to reach them, and this one cannot: connect them to the client"),
    ("modalities", "this model answers with text only: leave it out"),
    ("n", "one answer at a time is all that this model gives: ask several times"),
    ("prefill", "this model cannot go on with an answer that is given to it: leave it out"),
    ("previous_response_id", "that answer is kept at another provider: send the conversation itself"),
    ("prompt", "it is kept at another provider: send the text itself"),
    ("responseLogprobs", "this model does not tell them: leave it out"),
    ("responseModalities", "this model answers with text only: leave it out"),
    ("speechConfig", "this model answers with text only: leave it out"),
    ("web_search_options", "this model does not search: leave it out"),
];

impl Request {
    /// What becomes of [`Request::extra`] in another dialect: most of it may be left out (rule `no-counterpart`).
    ///
    /// # Errors
    /// If a field is there that changes what the answer is.
    pub fn leftovers(&self) -> Result<Vec<Dropped>, ConvertError> {
        let one = |key: &String| match REFUSED.iter().find(|(name, _)| key.rsplit('.').next() == Some(name)) {
            Some((_, why)) => Err(ConvertError::Unsupported { what: format!("`{key}`"), why }),
            None => Ok(Dropped { what: key.clone(), rule: "no-counterpart" }),
        };
        self.extra.keys().map(one).collect()
    }
}

/// Whose turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The person's, and results of tools.
    User,
    /// The model's.
    Assistant,
    /// Instructions in the middle of a conversation.
    System,
}

/// A mark after which the provider is to keep what it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheMark {
    /// Five minutes, or as the provider likes.
    Short,
    /// An hour.
    Hour,
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text {
        /// It.
        text: String,
        /// Whether to cache up to here.
        cache: Option<CacheMark>,
    },
    /// A picture, a document, sound.
    Media(Media),
    /// What the model thought.
    Reasoning(Reasoning),
    /// What the model called.
    ToolCall {
        /// The call's identifier.
        id: String,
        /// The tool's name.
        name: String,
        /// JSON text as the model wrote it (never empty: `{}` at least), or plain text for a free-form tool.
        input: String,
        /// Whether the input is free text.
        free_form: bool,
        /// What the provider wants back with the call.
        signature: Option<Signature>,
        /// Whether to cache up to here.
        cache: Option<CacheMark>,
    },
    /// What came of it.
    ToolResult {
        /// Of which call.
        id: String,
        /// The tool's name, where it is known from the call.
        name: Option<String>,
        /// Text and media.
        parts: Vec<Part>,
        /// Whether the tool failed.
        is_error: bool,
        /// Whether to cache up to here.
        cache: Option<CacheMark>,
    },
    /// What the model refused to do, in its own words.
    Refusal(String),
    /// A part of the client's dialect that has no neutral form. Writers of other dialects refuse it by its `type`.
    Foreign(Value),
}

/// A piece that is not text.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// What it is.
    pub kind: MediaKind,
    /// Where it is.
    pub source: Source,
    /// What it is called.
    pub name: Option<String>,
    /// How closely to look (`low`, `high`, `auto`).
    pub detail: Option<String>,
    /// Whether to cache up to here.
    pub cache: Option<CacheMark>,
}

/// What a piece is that is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A document, PDF or text.
    Document,
    /// Sound.
    Audio,
    /// A film.
    Video,
}

/// Where a piece is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Here, in base64.
    Base64 {
        /// Its media type.
        media_type: String,
        /// The text, as the client wrote it.
        data: String,
    },
    /// Plain text that is to count as a document.
    Text(String),
    /// Somewhere.
    Url(String),
    /// At the provider, by its name there: no other provider has it.
    File(String),
}

/// What a model thought, in an earlier turn.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reasoning {
    /// In plain text; empty if only signed.
    pub text: String,
    /// What the provider wants back with it.
    pub signature: Option<Signature>,
    /// Whether only the provider can read it; then `signature` is all there is.
    pub redacted: bool,
    /// The provider's identifier of it.
    pub id: Option<String>,
}

/// How much a model is to think.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReasoningWish {
    /// In words.
    pub effort: Option<Effort>,
    /// In tokens.
    pub budget_tokens: Option<u64>,
    /// Whether it is to think at all: `Some(false)` forbids it.
    pub enabled: Option<bool>,
    /// Whether readable thoughts are wanted.
    pub show: Option<bool>,
    /// Whether the provider's sealed thoughts are wanted for the next turn (Responses: `reasoning.encrypted_content`).
    pub sealed: bool,
}

/// How hard to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    /// Not.
    None,
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// More than much (`xhigh`).
    XHigh,
    /// As much as there is.
    Max,
}

impl Effort {
    /// Every one, from the least.
    pub const ALL: &'static [Self] =
        &[Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::XHigh, Self::Max];

    /// The word for it that most dialects share.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The effort that a word means, in letters of either case.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|effort| effort.as_str().eq_ignore_ascii_case(word))
    }

    /// How many tokens of thought stand for it in dialects that count them.
    #[must_use]
    pub const fn budget_tokens(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Minimal => 1_024,
            Self::Low => 2_048,
            Self::Medium => 8_192,
            Self::High => 16_384,
            Self::XHigh => 24_576,
            Self::Max => 32_000,
        }
    }

    /// The effort that stands for so many tokens of thought in dialects that have words for it.
    #[must_use]
    pub const fn of_budget(tokens: u64) -> Self {
        match tokens {
            0 => Self::None,
            1..=1_024 => Self::Minimal,
            1_025..=4_096 => Self::Low,
            4_097..=12_288 => Self::Medium,
            12_289..=20_480 => Self::High,
            20_481..=28_000 => Self::XHigh,
            _ => Self::Max,
        }
    }
}

/// Which form the answer must have.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum OutputForm {
    /// Any.
    #[default]
    Text,
    /// Some JSON.
    Json,
    /// JSON of this form.
    Schema {
        /// What the form is called.
        name: Option<String>,
        /// The JSON schema.
        schema: Value,
        /// Whether nothing else may come.
        strict: Option<bool>,
    },
}

/// What a model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// What it takes.
    pub kind: ToolKind,
    /// Whether the input must be exactly of the schema.
    pub strict: Option<bool>,
    /// Whether to cache up to here.
    pub cache: Option<CacheMark>,
}

/// What a tool takes.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolKind {
    /// JSON of this schema, run by the client.
    Function {
        /// JSON schema.
        schema: Value,
    },
    /// Free text, run by the client. A dialect without such tools gets a function with one text argument `input`.
    FreeForm {
        /// A grammar, in the client's dialect.
        format: Option<Value>,
    },
    /// A tool that the provider runs, or whose form only the client's dialect knows. Writers of other dialects refuse it.
    Foreign(Value),
}

/// Whether the model must call a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// Some tool.
    Any,
    /// None.
    None,
    /// This one.
    Named(String),
}

/// A request in a provider's dialect.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Written {
    /// The body.
    pub body: Bytes,
    /// Headers that it needs besides those of every request (`anthropic-version`, `anthropic-beta`).
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Other names that the provider sees: needed to read its answer.
    pub aliases: Aliases,
    /// What was left out, by the rules of the manual.
    pub dropped: Vec<Dropped>,
    /// What it may write to the provider's cache, where the writer placed marks of its own: the reservation must hold this.
    pub cache: CacheUse,
}

/// Something that the target cannot express and that may be left out, with the rule that says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dropped {
    /// What, in the words of the client's dialect: a field or the type of a part.
    pub what: String,
    /// Why that is harmless, in a word that stands in the manual (`docs/gateway/conversions.md`).
    pub rule: &'static str,
}

/// Why a request cannot be said in another dialect. The texts are meant for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The body is none of the client's dialect.
    #[error("the request does not read as one of the {dialect} API: {why}")]
    Syntax {
        /// The client's dialect, in words.
        dialect: &'static str,
        /// What is wrong, and where.
        why: String,
    },
    /// The target has nothing like it.
    #[error("{what} cannot be passed on to this model: {why}")]
    Unsupported {
        /// What, in the words of the client's dialect.
        what: String,
        /// Why not, and what to try.
        why: &'static str,
    },
}
