//! Counts of tokens, as Chat and Responses say them. What was read *includes* what came from a cache or went into it.

use serde_json::{Value, json};

use crate::{Tier, Usage};

/// Reads a usage object of either dialect. Nothing if it holds no count.
pub(crate) fn read(usage: &Value) -> Option<Usage> {
    let at = |path: &[&str]| path.iter().try_fold(usage, |value, key| value.get(key)).and_then(Value::as_u64);
    let either = |chat: &str, responses: &str| at(&[chat]).or_else(|| at(&[responses]));
    let input = either("prompt_tokens", "input_tokens");
    let output = either("completion_tokens", "output_tokens");
    if input.is_none() && output.is_none() {
        return None;
    }
    let all = input.unwrap_or(0);
    let detail =
        |key: &str| at(&["prompt_tokens_details", key]).or_else(|| at(&["input_tokens_details", key])).unwrap_or(0);
    // Some compatible servers say it on top, under names of their own.
    let said =
        [detail("cached_tokens"), at(&["cached_tokens"]).unwrap_or(0), at(&["prompt_cache_hit_tokens"]).unwrap_or(0)];
    let cached = said.into_iter().max().unwrap_or(0).min(all);
    let written = detail("cache_write_tokens").min(all - cached);
    let long = at(&["input_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"])
        .or_else(|| at(&["prompt_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"]))
        .unwrap_or(0)
        .min(written);
    let output = output.unwrap_or(0);
    let reasoned = at(&["completion_tokens_details", "reasoning_tokens"])
        .or_else(|| at(&["output_tokens_details", "reasoning_tokens"]))
        .filter(|count| *count > 0);
    // Where thoughts are not among what was written, only the sum knows of them.
    let thoughts = at(&["total_tokens"]).unwrap_or(0).saturating_sub(all);
    let output = output.max(thoughts);
    Some(Usage {
        input_tokens: all - cached - written,
        output_tokens: output,
        cache_read_tokens: cached,
        cache_write_5m_tokens: written - long,
        cache_write_1h_tokens: long,
        reasoning_tokens: reasoned.map(|count| count.min(output)),
        tier: None,
    })
}

/// How an answer, or a piece of it, says that it was served.
pub(crate) fn tier(answer: &Value) -> Option<Tier> {
    answer.get("service_tier").and_then(Value::as_str).and_then(Tier::of_word)
}

/// As Chat says it. How much was thought is left out where nobody said it: it is not 0.
pub(crate) fn chat(usage: &Usage) -> Value {
    let written = usage.cache_write_5m_tokens.saturating_add(usage.cache_write_1h_tokens);
    let mut said = json!({
        "prompt_tokens": usage.all_input(),
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.all_input().saturating_add(usage.output_tokens),
        "prompt_tokens_details": { "cached_tokens": usage.cache_read_tokens, "cache_write_tokens": written },
    });
    if let Some(count) = usage.reasoning_tokens {
        said["completion_tokens_details"] = json!({ "reasoning_tokens": count });
    }
    said
}

/// As Responses says it. There the count of thoughts must stand: it is 0 where nobody said one.
pub(crate) fn responses(usage: &Usage) -> Value {
    let written = usage.cache_write_5m_tokens.saturating_add(usage.cache_write_1h_tokens);
    json!({
        "input_tokens": usage.all_input(),
        "input_tokens_details": { "cached_tokens": usage.cache_read_tokens, "cache_write_tokens": written },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning_tokens.unwrap_or(0) },
        "total_tokens": usage.all_input().saturating_add(usage.output_tokens),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cached_is_part_of_what_was_read() {
        let usage = read(&json!({"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
            "completion_tokens_details": {"reasoning_tokens": 5}}))
        .unwrap();
        let wanted = Usage {
            input_tokens: 10,
            output_tokens: 7,
            cache_read_tokens: 60,
            cache_write_5m_tokens: 30,
            cache_write_1h_tokens: 0,
            reasoning_tokens: Some(5),
            tier: None,
        };
        assert_eq!(usage, wanted);
        assert_eq!(read(&chat(&usage)), Some(wanted));
        assert_eq!(read(&responses(&usage)), Some(wanted));
    }

    #[test]
    fn how_much_was_thought_is_left_out_where_nobody_said_it_and_a_schema_allows_that() {
        let silent = Usage { output_tokens: 3, ..Usage::default() };
        assert_eq!(chat(&silent).get("completion_tokens_details"), None);
        assert_eq!(responses(&silent)["output_tokens_details"]["reasoning_tokens"], 0);
        assert_eq!(read(&responses(&silent)), Some(silent));
        let more =
            read(&json!({"input_tokens": 1, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 9}}));
        assert_eq!(more.unwrap().reasoning_tokens, Some(3), "never more than was written");
    }

    #[test]
    fn counts_that_contradict_each_other_never_go_below_nothing() {
        let usage = read(&json!({"input_tokens": 5, "output_tokens": 1, "total_tokens": 90,
            "input_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 3}}))
        .unwrap();
        assert_eq!((usage.input_tokens, usage.cache_read_tokens, usage.cache_write_5m_tokens), (0, 5, 0));
        assert_eq!(usage.output_tokens, 85, "thoughts that only the sum knows of");
        assert_eq!(read(&json!({"total_tokens": 3})), None);
        assert_eq!(read(&json!(null)), None);
        assert_eq!(
            read(&json!({"prompt_tokens": 9, "completion_tokens": 0, "prompt_cache_hit_tokens": 4}))
                .unwrap()
                .cache_read_tokens,
            4
        );
    }
}
