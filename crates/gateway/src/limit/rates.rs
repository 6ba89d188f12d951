//! Rates: how many requests and tokens in any minute.
//!
//! A sliding window, counted in seconds. *Invariant:* in no sixty seconds is more admitted than the bound, whatever the order
//! of calls, corrections and jumps of the clock; the price is that a bound may be felt for up to a second longer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use stockade_domain::{Timestamp, ids::UserId};

/// The seconds that a window reaches back, the present one included.
const SECONDS: i64 = 61;
/// So many pairs of person and model are counted at once. Above, idle ones are forgotten; if none is idle, whoever is new waits.
pub const MAX_KEYS: usize = 16_384;

/// The bounds of one counter, in any minute. Nothing: not bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateBounds {
    /// Requests.
    pub requests: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
}

impl RateBounds {
    const fn none(self) -> bool {
        self.requests.is_none() && self.tokens.is_none()
    }
}

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateRefusal {
    /// Not now.
    #[error("too many {what} a minute{whose}: try again in {seconds} s", seconds = retry_after_ms.div_ceil(1_000))]
    Later {
        /// `requests` or `tokens`.
        what: &'static str,
        /// Whose bound it is, as the end of a phrase.
        whose: &'static str,
        /// When there is room, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// Never: the request alone is more than the bound.
    #[error(
        "this request may use {wanted} tokens, and{whose} only {bound} a minute are allowed: \
         shorten it or lower its bound of output"
    )]
    TooLarge {
        /// Whose bound it is.
        whose: &'static str,
        /// What was estimated.
        wanted: u64,
        /// The bound.
        bound: u64,
    },
}

/// What was taken for a call: settled, given back, or (if it is dropped) kept as estimated.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what was taken by estimate is corrected when the call is over"]
pub struct Taken {
    who: UserId,
    model: Box<str>,
    at: i64,
    tokens: u64,
    of_principal: bool,
    of_model: bool,
}

/// All rates.
#[derive(Debug, Default)]
pub struct Rates {
    models: Mutex<HashMap<Box<str>, OfModel>>,
}

#[derive(Debug, Default)]
struct OfModel {
    all: Window,
    by: HashMap<UserId, Window>,
}

/// One second's worth. Only seconds in which something happened are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Second {
    at: i64,
    requests: u64,
    tokens: u64,
}

#[derive(Debug, Default)]
struct Window {
    seconds: VecDeque<Second>,
    requests: u64,
    tokens: u64,
}

impl Window {
    /// Forgets what is over. If the clock has gone back, what is counted after `now` counts as of now: it is kept for too
    /// long rather than for too short a time, and never for longer than a window.
    fn advance(&mut self, now: i64) {
        while let Some(first) = self.seconds.front().filter(|first| first.at <= now - SECONDS) {
            self.requests -= first.requests;
            self.tokens -= first.tokens;
            self.seconds.pop_front();
        }
        let mut ahead = Second { at: now, requests: 0, tokens: 0 };
        while let Some(last) = self.seconds.back().filter(|last| last.at > now) {
            ahead.requests += last.requests;
            ahead.tokens += last.tokens;
            self.seconds.pop_back();
        }
        if ahead.requests > 0 || ahead.tokens > 0 {
            (self.requests, self.tokens) = (self.requests - ahead.requests, self.tokens - ahead.tokens);
            self.add(now, ahead.requests, ahead.tokens);
        }
    }

    /// Counts in the present second. `advance` has been called.
    fn add(&mut self, now: i64, requests: u64, tokens: u64) {
        match self.seconds.back_mut().filter(|last| last.at == now) {
            Some(last) => {
                last.requests += requests;
                last.tokens = last.tokens.saturating_add(tokens);
            }
            None => self.seconds.push_back(Second { at: now, requests, tokens }),
        }
        self.requests += requests;
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// Takes back from the second in which it was counted. What is over, or was moved because the clock went back, stays.
    fn remove(&mut self, at: i64, requests: u64, tokens: u64) {
        if let Some(second) = self.seconds.iter_mut().find(|second| second.at == at) {
            let (requests, tokens) = (requests.min(second.requests), tokens.min(second.tokens));
            second.requests -= requests;
            second.tokens -= tokens;
            self.requests -= requests;
            self.tokens -= tokens;
        }
    }

    /// When `more` fits under `bound`, in seconds from now. Zero: at once.
    fn room(&self, now: i64, bound: u64, more: u64, of: impl Fn(&Second) -> u64, sum: u64) -> u64 {
        let mut left = sum;
        if left.saturating_add(more) <= bound {
            return 0;
        }
        for second in &self.seconds {
            left = left.saturating_sub(of(second));
            if left.saturating_add(more) <= bound {
                return u64::try_from(second.at + SECONDS - now).unwrap_or(0).max(1);
            }
        }
        SECONDS.unsigned_abs()
    }

    fn check(&self, now: i64, bounds: RateBounds, tokens: u64, whose: &'static str) -> Result<(), RateRefusal> {
        let later = |what, seconds: u64| match seconds {
            0 => Ok(()),
            seconds => Err(RateRefusal::Later { what, whose, retry_after_ms: seconds * 1_000 }),
        };
        if let Some(bound) = bounds.tokens.filter(|bound| tokens > *bound) {
            return Err(RateRefusal::TooLarge { whose, wanted: tokens, bound });
        }
        if let Some(bound) = bounds.requests {
            later("requests", self.room(now, bound, 1, |second| second.requests, self.requests))?;
        }
        if let Some(bound) = bounds.tokens {
            later("tokens", self.room(now, bound, tokens, |second| second.tokens, self.tokens))?;
        }
        Ok(())
    }

    fn idle(&self, now: i64) -> bool {
        self.seconds.back().is_none_or(|last| last.at <= now - SECONDS)
    }
}

impl Rates {
    fn models(&self) -> MutexGuard<'_, HashMap<Box<str>, OfModel>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request of so many tokens, by estimate, out of both bounds or out of none.
    ///
    /// # Errors
    /// [`RateRefusal`] says when to come back.
    pub fn take(
        &self,
        who: UserId,
        model: &str,
        principal: RateBounds,
        all: RateBounds,
        tokens: u64,
        now: Timestamp,
    ) -> Result<Taken, RateRefusal> {
        let taken =
            |at| Taken { who, model: model.into(), at, tokens, of_principal: !principal.none(), of_model: !all.none() };
        let now = now.0.div_euclid(1_000_000);
        if principal.none() && all.none() {
            return Ok(taken(now));
        }
        let mut models = self.models();
        let known = models.get(model).is_some_and(|of| principal.none() || of.by.contains_key(&who));
        if !known && keys(&models) >= MAX_KEYS {
            forget_idle(&mut models, now);
            if keys(&models) >= MAX_KEYS {
                return Err(RateRefusal::Later { what: "callers", whose: "", retry_after_ms: 1_000 });
            }
        }
        let of = match models.get_mut(model) {
            Some(of) => of,
            None => models.entry(model.into()).or_default(),
        };
        // Both are moved on before either is asked, so that what is kept of a clock that went back is moved for both.
        of.all.advance(now);
        let mut mine = (!principal.none()).then(|| of.by.entry(who).or_default());
        if let Some(mine) = &mut mine {
            mine.advance(now);
            mine.check(now, principal, tokens, " for you")?;
        }
        if !all.none() {
            of.all.check(now, all, tokens, " of everybody for this model")?;
            of.all.add(now, 1, tokens);
        }
        if let Some(mine) = mine {
            mine.add(now, 1, tokens);
        }
        Ok(taken(now))
    }

    /// The call is over and used so many tokens. Less than estimated is given back where it was taken; more is counted now.
    pub fn settle(&self, taken: Taken, tokens: u64, now: Timestamp) {
        let now = now.0.div_euclid(1_000_000);
        let (less, more) = (taken.tokens.saturating_sub(tokens), tokens.saturating_sub(taken.tokens));
        self.windows(&taken, |window| {
            window.remove(taken.at, 0, less);
            if more > 0 {
                window.advance(now);
                window.add(now, 0, more);
            }
        });
    }

    /// The call was not made.
    pub fn give_back(&self, taken: Taken) {
        self.windows(&taken, |window| window.remove(taken.at, 1, taken.tokens));
    }

    fn windows(&self, taken: &Taken, mut change: impl FnMut(&mut Window)) {
        let mut models = self.models();
        let Some(of) = models.get_mut(&taken.model) else { return };
        if taken.of_model {
            change(&mut of.all);
        }
        if let Some(mine) = of.by.get_mut(&taken.who).filter(|_| taken.of_principal) {
            change(mine);
        }
    }

    /// How many counters are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        keys(&self.models())
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn keys(models: &HashMap<Box<str>, OfModel>) -> usize {
    models.values().map(|of| 1 + of.by.len()).sum()
}

fn forget_idle(models: &mut HashMap<Box<str>, OfModel>, now: i64) {
    models.retain(|_, of| {
        of.by.retain(|_, window| !window.idle(now));
        !of.by.is_empty() || !of.all.idle(now)
    });
}

#[cfg(test)]
mod tests;
