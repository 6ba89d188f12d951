//! What is known of Anthropic's models by their names: how they are asked to think, and what they no longer take.
//!
//! Facts from the provider's public migration guides of 2025 and 2026. A name that is none of theirs (a compatible server) is
//! taken for a model that takes everything and thinks by budget.

/// How a model is asked to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thinking {
    /// `enabled`, with a budget of tokens.
    Budget,
    /// `adaptive`, with an effort.
    Adaptive,
    /// As before, and it cannot be turned off.
    Always,
}

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Model {
    /// How it thinks.
    pub thinking: Thinking,
    /// Whether it takes `temperature`, `top_p` and `top_k`.
    pub sampling: bool,
    /// Whether it takes `temperature` and `top_p` together.
    pub both: bool,
    /// Whether it knows the effort `xhigh`.
    pub xhigh: bool,
}

impl Model {
    /// What this model takes. Names of other clouds (`us.anthropic.claude-…-v1:0`, `claude-…@20251101`) are understood.
    pub(crate) fn of(name: &str) -> Self {
        let Some((_, name)) = name.split_once("claude-") else {
            return Self { thinking: Thinking::Budget, sampling: true, both: true, xhigh: true };
        };
        // What is longer is a date.
        let number = |word: &str| word.parse::<u32>().ok().filter(|_| word.len() <= 2);
        let words: Vec<&str> = name.split(['-', '@', ':', '.']).collect();
        let first = words.iter().position(|word| number(word).is_some());
        let at = |offset: usize| first.and_then(|first| words.get(first + offset)).and_then(|word| number(word));
        // A name without a version is that of a model newer than this list.
        let version = (at(0).unwrap_or(u32::MAX), at(1).unwrap_or(0));
        let thinking = match version {
            _ if name.starts_with("fable") || name.starts_with("mythos") => Thinking::Always,
            (..4, _) | (4, ..6) => Thinking::Budget,
            _ => Thinking::Adaptive,
        };
        let newer = version >= (4, 7);
        Self { thinking, sampling: !newer, both: version < (4, 1), xhigh: newer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_by_their_names() {
        for (name, thinking, sampling) in [
            ("claude-3-7-sonnet-20250219", Thinking::Budget, true),
            ("claude-opus-4-20250514", Thinking::Budget, true),
            ("claude-haiku-4-5-20251001", Thinking::Budget, true),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Thinking::Budget, true),
            ("claude-opus-4-6", Thinking::Adaptive, true),
            ("claude-opus-4-7@20260416", Thinking::Adaptive, false),
            ("claude-sonnet-5", Thinking::Adaptive, false),
            ("claude-haiku-5-5", Thinking::Adaptive, false),
            ("claude-fable-5-1", Thinking::Always, false),
            ("claude-mythos-preview", Thinking::Always, false),
            ("somebody-elses-model", Thinking::Budget, true),
        ] {
            let model = Model::of(name);
            assert_eq!((model.thinking, model.sampling), (thinking, sampling), "{name}");
        }
        assert!(!Model::of("claude-opus-4-5").both && Model::of("claude-3-5-haiku-20241022").both);
    }
}
