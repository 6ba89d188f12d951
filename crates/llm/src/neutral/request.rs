//! A request, in no dialect.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Number, Value};

use super::{Aliases, Signature};

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
    /// error when the request is written in another dialect. Readers leave out what is meaningless elsewhere (`store: false`).
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
    /// As much as there is.
    Max,
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
