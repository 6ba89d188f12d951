//! How many tokens a request may use at most, known before it is sent.
//!
//! Providers do not publish their tokenizers, so the bound is built from what byte-pair tokenizers cannot do worse
//! than in practice: two letters of one case, a digit, a punctuation mark, one byte of any other script are a token
//! each. For prose and code that is two to three times the truth, for digests and base 64 it is close to it.

mod runs;

use serde_json::Value;

/// What a provider adds for a picture of any size, at most. Source: the provider's page on vision; the largest that
/// it says for a high-resolution picture is 4,784.
pub const IMAGE_TOKENS: u64 = 5_000;
/// What a provider adds to every request in front of what it was given.
pub const REQUEST_TOKENS: u64 = 64;
/// What a provider adds to a request with tools: it says 264 to 804, depending on model and tool choice.
pub const TOOLS_TOKENS: u64 = 1_000;
/// What marks the borders of a value in the form that the model sees.
pub(crate) const VALUE_TOKENS: u64 = 1;
/// What marks the borders of a message.
pub(crate) const MESSAGE_TOKENS: u64 = 8;

/// The longest time for which a request wants something kept in a prompt cache. Decides which input price bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum CacheUse {
    /// Nothing is written to a cache.
    #[default]
    None,
    /// Five minutes.
    FiveMinutes,
    /// An hour.
    Hour,
}

/// The most that a request can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// Tokens read, of all prices together. Nothing if only the model's context window bounds it (a document by
    /// reference).
    pub input_tokens: Option<u64>,
    /// Tokens written.
    pub output_tokens: u64,
    /// What may be written to a cache.
    pub cache: CacheUse,
}

impl Estimate {
    /// The greater of both, in every respect.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        let input = self.input_tokens.zip(other.input_tokens).map(|(one, two)| one.max(two));
        Self {
            input_tokens: input,
            output_tokens: self.output_tokens.max(other.output_tokens),
            cache: self.cache.max(other.cache),
        }
    }
}

/// At most so many tokens are in this text.
#[must_use]
pub fn most_tokens(text: &str) -> u64 {
    runs::most_tokens(text.as_bytes())
}

/// Roughly so many tokens are in a text of so many bytes: for showing and for deciding when a context is full,
/// never for money.
#[must_use]
pub const fn likely_tokens(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(2).div_ceil(7)
}

/// Walks a request and sums up.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    tokens: u64,
    unbounded: bool,
    cache: CacheUse,
    /// Whether what looks like a picture is text all the same.
    plain: bool,
}

impl Walk {
    pub(crate) fn request(body: &serde_json::Map<String, Value>) -> Self {
        let mut walk = Self { tokens: REQUEST_TOKENS, ..Self::default() };
        for (key, value) in body {
            match key.as_str() {
                "tools" => walk.add(TOOLS_TOKENS),
                "messages" => walk.add((value.as_array().map_or(0, Vec::len) as u64).saturating_mul(MESSAGE_TOKENS)),
                // Without a place in what the model reads; anything else is counted, known or not.
                "metadata" | "model" | "max_tokens" | "stream" | "temperature" | "top_p" | "top_k" => continue,
                _ => {}
            }
            walk.member(key, value);
        }
        walk
    }

    pub(crate) fn estimate(&self, max_tokens: u64) -> Estimate {
        Estimate {
            input_tokens: (!self.unbounded).then_some(self.tokens),
            output_tokens: max_tokens,
            cache: self.cache,
        }
    }

    /// For a dialect that sums up its own fields.
    pub(crate) fn empty() -> Self {
        Self { tokens: REQUEST_TOKENS, plain: true, ..Self::default() }
    }

    /// What a provider adds to a request with tools.
    pub(crate) const fn tools(&mut self) {
        self.add(TOOLS_TOKENS);
    }

    /// What marks the borders of so many messages.
    pub(crate) const fn messages(&mut self, count: usize) {
        self.add((count as u64).saturating_mul(MESSAGE_TOKENS));
    }

    /// Only the model's context window bounds what is read.
    pub(crate) const fn unbound(&mut self) {
        self.unbounded = true;
    }

    /// So many more.
    pub(crate) const fn add(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// A member of an object.
    pub(crate) fn member(&mut self, key: &str, value: &Value) {
        if key == "cache_control" && value.is_object() {
            let hour = value.get("ttl").and_then(Value::as_str).is_some_and(|ttl| ttl != "5m");
            self.cache = self.cache.max(if hour { CacheUse::Hour } else { CacheUse::FiveMinutes });
        }
        self.add(most_tokens(key));
        self.value(value);
    }

    /// Anything.
    pub(crate) fn value(&mut self, value: &Value) {
        self.add(VALUE_TOKENS);
        match value {
            Value::Null | Value::Bool(_) => self.add(1),
            Value::Number(number) => self.add(number.to_string().len() as u64),
            Value::String(text) => self.add(most_tokens(text)),
            Value::Array(items) => items.iter().for_each(|item| self.value(item)),
            Value::Object(members) => {
                let source = members.get("source").and_then(Value::as_object);
                let from = source.and_then(|source| source.get("type")).and_then(Value::as_str);
                let media = match (members.get("type").and_then(Value::as_str), from) {
                    _ if self.plain => false,
                    (Some("image"), Some("base64" | "url" | "file")) => {
                        self.add(IMAGE_TOKENS);
                        true
                    }
                    (Some("document"), Some("base64" | "url" | "file")) => {
                        self.unbounded = true;
                        true
                    }
                    _ => false,
                };
                for (key, value) in members {
                    if !(media && key == "source") {
                        self.member(key, value);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prose_is_bounded_and_not_absurdly() {
        // Counted with a public byte-pair tokenizer: 9 and 12 tokens.
        for (text, truth) in
            [("The quick brown fox jumps over the lazy dog", 9), ("fn main() { println!(\"hello\"); }", 12)]
        {
            let most = most_tokens(text);
            assert!(most >= truth && most <= truth * 3, "{text}: {most}");
        }
        assert_eq!(most_tokens("0123456789abcdef"), 13);
        assert_eq!(most_tokens("日"), 3);
        assert_eq!(most_tokens(""), 0);
        assert_eq!(most_tokens(&" ".repeat(800)), 100);
    }

    proptest! {
        #[test]
        fn more_text_never_has_fewer_tokens(a in ".{0,60}", b in ".{0,60}") {
            let both = format!("{a}{b}");
            prop_assert!(most_tokens(&both) >= most_tokens(&a));
            prop_assert!(most_tokens(&both) <= both.len() as u64);
        }
    }
}
