//! What may stand in the prompts and answers of models.
//!
//! Owns the content rules of a bundle: which class of content ([`detect`]) in which place, going which way, for which
//! projects, providers and models is blocked, redacted, asked about or reported ([`ContentRules`]). The strongest action of
//! all rules that apply wins. Like policies, rules carry examples, and a bundle whose examples do not hold does not load.
//!
//! It refuses: dialects, streams and JSON, which are the gateway's, and any action of its own.

pub mod detect;
pub(crate) mod read;
mod rules;

pub use read::{MAX_CONTENT_PATTERNS, MAX_CONTENT_RULES, MAX_PATTERN_BYTES, MAX_WORD_BYTES, MAX_WORDS};
pub use rules::{
    ContentAction, ContentExampleResult, ContentRule, ContentRules, ContentScope, ContentSet, Direction, Place,
};
