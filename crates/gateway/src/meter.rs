//! How much of the budget a call holds while it runs.
//!
//! A stream can be cut off, so it need not hold all that it might ever write: it begins with a plausible part, and takes more before
//! what it holds is used up. An answer in one piece cannot be cut off, so it holds all of it from the beginning.
//! *Invariant:* what a call holds is never less than what the part of the answer that was seen can cost.

use stockade_domain::Nanos;
use stockade_llm::{Estimate, Price};

/// What a stream holds at first, in tokens written, and what it takes in addition each time.
pub(crate) const STEP_TOKENS: u64 = 8_192;
/// How many tokens before the end of what it holds a stream takes more: what may arrive while the money is on its way.
pub(crate) const AHEAD_TOKENS: u64 = 2_048;

/// What one call holds.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    price: Option<(Price, Estimate)>,
    held_tokens: u64,
    held: Nanos,
}

impl Meter {
    /// For a call with this price and this upper bound. `grows` says whether it may begin with a part.
    pub(crate) fn new(price: &Price, bound: &Estimate, grows: bool) -> Self {
        let held_tokens = if grows { bound.output_tokens.min(STEP_TOKENS) } else { bound.output_tokens };
        let held = Nanos(price.upper_bound(&Estimate { output_tokens: held_tokens, ..*bound }));
        Self { price: Some((price.clone(), *bound)), held_tokens, held }
    }

    /// For a call that costs nothing.
    pub(crate) const fn free() -> Self {
        Self { price: None, held_tokens: u64::MAX, held: Nanos::ZERO }
    }

    /// What is held.
    pub(crate) const fn reserved(&self) -> Nanos {
        self.held
    }

    /// What has to be taken in addition, now that so many tokens were seen: the meter's next state and the difference in money.
    pub(crate) fn more(&self, seen: u64) -> Option<(Self, Nanos)> {
        let (price, bound) = self.price.as_ref()?;
        if self.held_tokens >= bound.output_tokens || seen.saturating_add(AHEAD_TOKENS) < self.held_tokens {
            return None;
        }
        let held_tokens = seen.saturating_add(STEP_TOKENS).min(bound.output_tokens).max(self.held_tokens);
        let held = Nanos(price.upper_bound(&Estimate { output_tokens: held_tokens, ..*bound }));
        let more = held.saturating_sub(self.held);
        Some((Self { price: self.price.clone(), held_tokens, held }, more))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stockade_llm::PriceTable;

    use super::*;

    proptest! {
        #[test]
        fn what_is_held_always_covers_what_was_seen(
            output in 1u64..200_000,
            pieces in prop::collection::vec(1u64..AHEAD_TOKENS, 1..200),
        ) {
            let table = PriceTable::shipped().unwrap();
            let price = table.get("claude-sonnet-4-6").unwrap();
            let bound = Estimate { input_tokens: Some(1_000), output_tokens: output, ..Estimate::default() };
            let mut meter = Meter::new(price, &bound, true);
            let (mut seen, mut taken) = (0u64, meter.reserved());
            for piece in pieces {
                seen = (seen + piece).min(output);
                let cost = price.upper_bound(&Estimate { output_tokens: seen, ..bound });
                prop_assert!(cost <= taken.0);
                if let Some((next, more)) = meter.more(seen) {
                    prop_assert!(more >= Nanos::ZERO);
                    taken = taken.saturating_add(more);
                    meter = next;
                }
                prop_assert_eq!(taken, meter.reserved());
            }
            prop_assert!(taken.0 <= price.upper_bound(&bound));
        }
    }

    #[test]
    fn a_small_answer_does_not_hold_the_whole_headroom() {
        let table = PriceTable::shipped().unwrap();
        let price = table.get("claude-sonnet-4-6").unwrap();
        let bound = Estimate { input_tokens: Some(1_000), output_tokens: 128_000, ..Estimate::default() };
        let (part, whole) = (Meter::new(price, &bound, true), Meter::new(price, &bound, false));
        assert!(part.reserved().0 * 10 < whole.reserved().0);
        assert!(part.more(0).is_none() && whole.more(127_999).is_none());
        assert!(Meter::free().more(u64::MAX).is_none());
    }
}
