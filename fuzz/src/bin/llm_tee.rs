//! Answers of providers: what is put together does not depend on where the bytes were split, and what is billed is
//! not below what was seen.
#![no_main]

use stockade_fuzz::arrivals;
use stockade_llm::{
    CacheUse, Estimate,
    anthropic::{Shape, Tee, billed},
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for (shape, limit, ended) in [
        (Shape::Events, 256, true),
        (Shape::Events, 1 << 20, true),
        (Shape::Whole, 256, true),
        (Shape::Whole, 1 << 20, false),
        (Shape::Whole, 1 << 20, true),
    ] {
        let seen = arrivals(bytes).map(|pieces| {
            let mut tee = Tee::with_limit(shape, limit);
            pieces.into_iter().for_each(|piece| tee.push(piece));
            tee.finish(ended)
        });
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0], seen[2]);
        let [seen, ..] = seen;
        let estimate = Estimate { input_tokens: Some(10), output_tokens: 1_000, cache: CacheUse::None };
        let usage = billed(&seen, 10, &estimate);
        if !seen.complete && seen.usage.is_some() {
            assert!(usage.output_tokens >= seen.output_tokens_seen.min(estimate.output_tokens));
        }
    }
});
