//! Breakers: a provider that fails is left alone for a while, and then asked once.
//!
//! One for each pair of provider and key. *Invariant:* while one is open nothing passes before its time, then exactly one
//! call at a time as a probe; and whatever becomes of the probe, there will be another.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use stockade_domain::Timestamp;

use super::BreakerRules;

/// What a call says about its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, if only to refuse what we asked: it lives.
    Ok,
    /// It failed: no connection, silence, 5xx.
    Failed,
    /// It wants to be left alone (429, 529, 503 with `retry-after`), for so many milliseconds if it says so.
    Limited {
        /// For how long.
        retry_after_ms: Option<u64>,
    },
    /// Nothing: the client went away, or the call was never sent.
    Nothing,
}

/// What is known of a provider and key, for `/metrics` and for choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Closed: it works.
    Well,
    /// Half open: one call finds out.
    Probing,
    /// Open until then.
    Ill(Timestamp),
}

/// The breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the provider is not asked at the moment, because it failed too often: try again in {retry_after_ms} ms")]
pub struct Tripped {
    /// When it is asked again.
    pub retry_after_ms: u64,
}

type Known = BTreeMap<(Arc<str>, u32), Breaker>;

/// All breakers, by provider and key.
#[derive(Clone, Default)]
pub struct Breakers {
    all: Arc<Mutex<Known>>,
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").field("known", &self.lock().len()).finish()
    }
}

/// The right to send one call. Reports [`Outcome::Nothing`] when it is dropped.
#[derive(Debug)]
#[must_use = "a pass that is dropped says nothing about the provider"]
pub struct Pass {
    breakers: Breakers,
    provider: Arc<str>,
    key: u32,
    generation: u64,
    rules: BreakerRules,
    reported: bool,
}

impl Pass {
    /// What became of the call.
    pub fn report(mut self, outcome: Outcome, now: Timestamp) {
        self.tell(outcome, now);
    }

    fn tell(&mut self, outcome: Outcome, now: Timestamp) {
        self.reported = true;
        if let Some(breaker) = self.breakers.lock().get_mut(&(Arc::clone(&self.provider), self.key)) {
            breaker.report(self.generation, outcome, self.rules, now);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.reported {
            // `Nothing` is the one outcome for which the time does not matter.
            self.tell(Outcome::Nothing, Timestamp(0));
        }
    }
}

impl Breakers {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to send a call to this provider with the key of this number.
    ///
    /// # Errors
    /// [`Tripped`] while it is left alone.
    pub fn pass(&self, provider: &Arc<str>, key: u32, rules: BreakerRules, now: Timestamp) -> Result<Pass, Tripped> {
        let mut all = self.lock();
        let breaker = all.entry((Arc::clone(provider), key)).or_default();
        let generation = breaker.pass(now)?;
        drop(all);
        Ok(Pass { breakers: self.clone(), provider: Arc::clone(provider), key, generation, rules, reported: false })
    }

    /// How a provider and key are. One that was never asked is well.
    #[must_use]
    pub fn health(&self, provider: &Arc<str>, key: u32, now: Timestamp) -> Health {
        let all = self.lock();
        all.get(&(Arc::clone(provider), key)).map_or(Health::Well, |breaker| breaker.health(now))
    }

    /// How all are, by provider and key.
    #[must_use]
    pub fn states(&self, now: Timestamp) -> Vec<(Arc<str>, u32, Health)> {
        let all = self.lock();
        all.iter().map(|((provider, key), breaker)| (Arc::clone(provider), *key, breaker.health(now))).collect()
    }

    /// Forgets those of providers that a new configuration does not have.
    pub fn keep(&self, mut there: impl FnMut(&str, u32) -> bool) {
        self.lock().retain(|(provider, key), _| there(provider, *key));
    }
}

#[derive(Debug, Default)]
struct Breaker {
    state: State,
    /// Grows with every change of state: a call that began before the change says nothing any more.
    generation: u64,
    /// Times that it opened without having closed since.
    opened: u32,
}

#[derive(Debug)]
enum State {
    Closed {
        in_row: u32,
        /// The last outcomes, the newest in the lowest bit; 1 is a failure.
        last: u64,
        known: u32,
    },
    Open {
        until: Timestamp,
    },
    Probing,
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { in_row: 0, last: 0, known: 0 }
    }
}

impl Breaker {
    const fn health(&self, now: Timestamp) -> Health {
        match self.state {
            State::Closed { .. } => Health::Well,
            State::Open { until } if now.0 < until.0 => Health::Ill(until),
            State::Open { .. } | State::Probing => Health::Probing,
        }
    }

    fn pass(&mut self, now: Timestamp) -> Result<u64, Tripped> {
        match self.state {
            State::Closed { .. } => {}
            State::Open { until } if now < until => {
                return Err(Tripped { retry_after_ms: until.ms_since(now).max(1) });
            }
            State::Open { .. } => {
                self.state = State::Probing;
                self.generation += 1;
            }
            State::Probing => return Err(Tripped { retry_after_ms: 1_000 }),
        }
        Ok(self.generation)
    }

    fn report(&mut self, generation: u64, outcome: Outcome, rules: BreakerRules, now: Timestamp) {
        if generation != self.generation {
            // Late words of calls from before: only a provider's own wish still counts, and only longer.
            if let (State::Open { until }, Outcome::Limited { retry_after_ms: Some(ms) }) = (&mut self.state, outcome) {
                *until = (*until).max(now.plus_ms(ms.min(rules.retry_after_most_ms)));
            }
            return;
        }
        match (&mut self.state, outcome) {
            (_, Outcome::Limited { retry_after_ms: Some(ms) }) => {
                self.open(now.plus_ms(ms.min(rules.retry_after_most_ms)));
            }
            (State::Closed { in_row, last, known }, Outcome::Ok | Outcome::Failed | Outcome::Limited { .. }) => {
                let failed = outcome != Outcome::Ok;
                *in_row = if failed { *in_row + 1 } else { 0 };
                *last = (*last << 1) | u64::from(failed);
                *known = (*known + 1).min(64);
                let of = rules.of.clamp(1, 64);
                let failures = (*last & (u64::MAX >> (64 - of))).count_ones();
                let share = *known >= of && failures * 100 >= rules.percent * of;
                if *in_row >= rules.failures || (failed && share) {
                    self.open(self.pause(rules, now));
                }
            }
            (State::Probing, Outcome::Ok) => {
                (self.state, self.opened) = (State::default(), 0);
                self.generation += 1;
            }
            (State::Probing, Outcome::Failed | Outcome::Limited { .. }) => self.open(self.pause(rules, now)),
            // The probe found out nothing: the next call is the probe.
            (State::Probing, Outcome::Nothing) => {
                self.state = State::Open { until: Timestamp(i64::MIN) };
                self.generation += 1;
            }
            (State::Closed { .. } | State::Open { .. }, _) => {}
        }
    }

    fn pause(&self, rules: BreakerRules, now: Timestamp) -> Timestamp {
        let ms = rules.open_ms.saturating_mul(1 << self.opened.min(20)).min(rules.open_most_ms);
        now.plus_ms(ms)
    }

    fn open(&mut self, until: Timestamp) {
        self.state = State::Open { until };
        self.generation += 1;
        self.opened = self.opened.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: BreakerRules = BreakerRules {
        failures: 3,
        of: 4,
        percent: 50,
        open_ms: 1_000,
        open_most_ms: 4_000,
        retry_after_most_ms: 60_000,
    };

    const fn ms(ms: i64) -> Timestamp {
        Timestamp(ms * 1_000)
    }

    fn call(breakers: &Breakers, outcome: Outcome, at: i64) -> Result<(), Tripped> {
        breakers.pass(&"p".into(), 0, RULES, ms(at)).map(|pass| pass.report(outcome, ms(at)))
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_closes_it() {
        let breakers = Breakers::default();
        for _ in 0..3 {
            call(&breakers, Outcome::Failed, 0).unwrap();
        }
        assert_eq!(call(&breakers, Outcome::Ok, 400), Err(Tripped { retry_after_ms: 600 }));
        assert_eq!(breakers.health(&"p".into(), 0, ms(400)), Health::Ill(ms(1_000)));
        assert_eq!(breakers.health(&"p".into(), 1, ms(400)), Health::Well);
        let probe = breakers.pass(&"p".into(), 0, RULES, ms(1_000)).unwrap();
        assert!(call(&breakers, Outcome::Ok, 1_000).is_err(), "one probe at a time");
        probe.report(Outcome::Failed, ms(1_100));
        assert_eq!(call(&breakers, Outcome::Ok, 1_100), Err(Tripped { retry_after_ms: 2_000 }));
        call(&breakers, Outcome::Ok, 3_100).unwrap();
        assert_eq!(breakers.health(&"p".into(), 0, ms(3_100)), Health::Well);
    }

    #[test]
    fn a_share_of_failures_opens_it() {
        let breakers = Breakers::default();
        for outcome in [Outcome::Failed, Outcome::Ok, Outcome::Ok] {
            call(&breakers, outcome, 0).unwrap();
        }
        call(&breakers, Outcome::Failed, 0).unwrap();
        assert!(call(&breakers, Outcome::Ok, 1).is_err());
    }

    #[test]
    fn a_provider_that_names_a_time_is_left_alone_so_long() {
        let breakers = Breakers::default();
        call(&breakers, Outcome::Limited { retry_after_ms: Some(7_000) }, 0).unwrap();
        assert_eq!(call(&breakers, Outcome::Ok, 1), Err(Tripped { retry_after_ms: 6_999 }));
        call(&breakers, Outcome::Limited { retry_after_ms: Some(u64::MAX) }, 7_000).unwrap();
        assert_eq!(call(&breakers, Outcome::Ok, 7_000), Err(Tripped { retry_after_ms: 60_000 }));
    }

    #[test]
    fn a_probe_that_is_lost_is_followed_by_another() {
        let breakers = Breakers::default();
        call(&breakers, Outcome::Limited { retry_after_ms: Some(1) }, 0).unwrap();
        drop(breakers.pass(&"p".into(), 0, RULES, ms(10)).unwrap());
        call(&breakers, Outcome::Ok, 10).unwrap();
        assert_eq!(breakers.health(&"p".into(), 0, ms(10)), Health::Well);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Pass,
        Report(usize, u8, u64),
        Drop(usize),
        Wait(i64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => Just(Op::Pass),
            4 => (any::<usize>(), 0..4_u8, 0..90_000_u64).prop_map(|(which, what, ms)| Op::Report(which, what, ms)),
            1 => any::<usize>().prop_map(Op::Drop),
            2 => (0..3_000_i64).prop_map(Op::Wait),
        ]
    }

    proptest! {
        #[test]
        fn it_keeps_its_time_probes_once_and_never_locks_up(ops in proptest::collection::vec(op(), 0..120)) {
            let breakers = Breakers::default();
            let provider: Arc<str> = "p".into();
            let (mut now, mut passes) = (0, Vec::new());
            let mut probing: Option<u64> = None;
            for op in ops {
                let before = breakers.health(&provider, 0, ms(now));
                match op {
                    Op::Wait(by) => now += by,
                    Op::Pass => match breakers.pass(&provider, 0, RULES, ms(now)) {
                        Ok(pass) => {
                            prop_assert!(!matches!(before, Health::Ill(_)), "passed while open");
                            if before == Health::Probing {
                                prop_assert!(probing.is_none(), "two probes at once");
                                probing = Some(pass.generation);
                            }
                            passes.push(pass);
                        }
                        Err(tripped) => {
                            prop_assert!(before != Health::Well);
                            prop_assert!((1..=60_000).contains(&tripped.retry_after_ms));
                        }
                    },
                    Op::Report(which, what, after) if !passes.is_empty() => {
                        let pass = passes.swap_remove(which % passes.len());
                        let outcome = match what {
                            0 => Outcome::Ok,
                            1 => Outcome::Failed,
                            2 => Outcome::Limited { retry_after_ms: (after % 2 == 0).then_some(after) },
                            _ => Outcome::Nothing,
                        };
                        probing = probing.filter(|probe| *probe != pass.generation);
                        pass.report(outcome, ms(now));
                    }
                    Op::Drop(which) if !passes.is_empty() => {
                        let pass = passes.swap_remove(which % passes.len());
                        probing = probing.filter(|probe| *probe != pass.generation);
                    }
                    _ => {}
                }
            }
            // Whatever happened: once nobody holds a pass and the longest time is over, a good call closes it.
            passes.clear();
            now += 60_000;
            prop_assert!(call(&breakers, Outcome::Ok, now).is_ok());
            prop_assert_eq!(breakers.health(&provider, 0, ms(now)), Health::Well);
        }
    }
}
