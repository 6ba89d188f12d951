//! Usage by its names on the wire. It is cumulative: the last value of each count holds, and null is no value.

use serde_json::Value;

use crate::{Tier, Usage};

/// Counts by their names on the wire, each with the last value that was not null.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Raw {
    input: Option<u64>,
    output: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    write_5m: Option<u64>,
    write_1h: Option<u64>,
    thought: Option<u64>,
    tier: Option<Tier>,
    iterations: Option<Usage>,
}

impl Raw {
    /// Takes what is said now. Whether it said anything.
    pub(super) fn take(&mut self, usage: &Value) -> bool {
        let mut any = false;
        let mut set = |slot: &mut Option<u64>, value: Option<&Value>| {
            if let Some(count) = value.and_then(Value::as_u64) {
                *slot = Some(count);
                any = true;
            }
        };
        set(&mut self.input, usage.get("input_tokens"));
        set(&mut self.output, usage.get("output_tokens"));
        set(&mut self.cache_read, usage.get("cache_read_input_tokens"));
        set(&mut self.cache_write, usage.get("cache_creation_input_tokens"));
        let creation = usage.get("cache_creation");
        set(&mut self.write_5m, creation.and_then(|c| c.get("ephemeral_5m_input_tokens")));
        set(&mut self.write_1h, creation.and_then(|c| c.get("ephemeral_1h_input_tokens")));
        let details = usage.get("output_tokens_details");
        set(&mut self.thought, details.and_then(|d| d.get("thinking_tokens")));
        let tier = usage.get("service_tier").and_then(Value::as_str).and_then(Tier::of_word);
        self.tier = tier.or(self.tier);
        if let Some(iterations) = usage.get("iterations").and_then(Value::as_array) {
            let sum = iterations.iter().fold(Usage::default(), |sum, iteration| {
                let mut raw = Self::default();
                raw.take(iteration);
                sum.plus(raw.usage())
            });
            self.iterations = Some(sum);
        }
        any
    }

    /// What was said so far, in our words.
    pub(super) fn usage(&self) -> Usage {
        let (five, hour) = (self.write_5m.unwrap_or(0), self.write_1h.unwrap_or(0));
        // Older models say only the sum; what is not told apart was kept for five minutes, which is the default.
        let rest = self.cache_write.unwrap_or(0).saturating_sub(five.saturating_add(hour));
        let said = Usage {
            input_tokens: self.input.unwrap_or(0),
            output_tokens: self.output.unwrap_or(0),
            cache_read_tokens: self.cache_read.unwrap_or(0),
            cache_write_5m_tokens: five.saturating_add(rest),
            cache_write_1h_tokens: hour,
            reasoning_tokens: self.thought.filter(|count| *count > 0),
            tier: self.tier,
        };
        // The counts on top leave out what the provider did besides; the parts are all of it.
        match self.iterations {
            Some(parts) => Usage {
                input_tokens: said.input_tokens.max(parts.input_tokens),
                output_tokens: said.output_tokens.max(parts.output_tokens),
                cache_read_tokens: said.cache_read_tokens.max(parts.cache_read_tokens),
                cache_write_5m_tokens: said.cache_write_5m_tokens.max(parts.cache_write_5m_tokens),
                cache_write_1h_tokens: said.cache_write_1h_tokens.max(parts.cache_write_1h_tokens),
                reasoning_tokens: said.reasoning_tokens.max(parts.reasoning_tokens),
                tier: said.tier,
            },
            None => said,
        }
    }
}
