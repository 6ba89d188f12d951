//! What a model call used, in tokens.

use crate::Tier;

/// Tokens by the price they have. `input_tokens` excludes what was read from or written to a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Read at the full price.
    pub input_tokens: u64,
    /// Written by the model, reasoning included.
    pub output_tokens: u64,
    /// Read from the provider's prompt cache.
    pub cache_read_tokens: u64,
    /// Written to the cache for five minutes.
    pub cache_write_5m_tokens: u64,
    /// Written to the cache for an hour.
    pub cache_write_1h_tokens: u64,
    /// So many of `output_tokens` were thought. Nothing where the provider does not say it, or says that there were none.
    pub reasoning_tokens: Option<u64>,
    /// How it was served, where the provider says it in a word that is known here. It may be otherwise than it was asked for, and
    /// decides about the price.
    pub tier: Option<Tier>,
}

impl Usage {
    /// Everything that the model read, however priced.
    #[must_use]
    pub const fn all_input(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_read_tokens)
            .saturating_add(self.cache_write_5m_tokens)
            .saturating_add(self.cache_write_1h_tokens)
    }

    /// Both together, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cache_read_tokens: self.cache_read_tokens.saturating_add(other.cache_read_tokens),
            cache_write_5m_tokens: self.cache_write_5m_tokens.saturating_add(other.cache_write_5m_tokens),
            cache_write_1h_tokens: self.cache_write_1h_tokens.saturating_add(other.cache_write_1h_tokens),
            reasoning_tokens: match (self.reasoning_tokens, other.reasoning_tokens) {
                (Some(one), Some(more)) => Some(one.saturating_add(more)),
                (Some(only), None) | (None, Some(only)) => Some(only),
                (None, None) => None,
            },
            tier: if other.tier.is_some() { other.tier } else { self.tier },
        }
    }
}
