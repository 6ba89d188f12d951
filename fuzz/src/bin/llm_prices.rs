//! Price tables: every price that reads gives amounts that are none below zero and bounds that hold.
#![no_main]

use stockade_llm::{CacheUse, Estimate, PriceTable, Usage};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(table) = PriceTable::parse(text) else { return };
    for name in table.names().take(8) {
        let price = table.get(name).expect("a name that is listed has a price");
        for tokens in [0, 1, 999, 200_001, u64::MAX] {
            for cache in [CacheUse::None, CacheUse::FiveMinutes, CacheUse::Hour] {
                let estimate = Estimate { input_tokens: Some(tokens), output_tokens: tokens, cache };
                let (bound, input) = (price.upper_bound(&estimate), price.most_input(&estimate));
                let plain = Usage { input_tokens: input, output_tokens: tokens, ..Usage::default() };
                let read = Usage { cache_read_tokens: input, output_tokens: tokens, ..Usage::default() };
                for usage in [plain, read] {
                    let cost = price.cost(&usage);
                    assert!((0..=bound).contains(&cost), "{name}: {cost} is not within {bound}");
                }
            }
        }
    }
});
