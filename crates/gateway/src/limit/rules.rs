//! The part `[limits]` of the gateway's configuration, and which of its bounds are meant for a call.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{CallBounds, RateBounds};

/// The greatest rate that can be configured, a minute.
pub const MAX_RATE: u64 = 1_000_000_000_000;
/// The greatest number of calls at once that can be configured.
pub const MAX_CALLS: usize = 65_536;

/// `[limits]`: everything has a default.
///
/// ```toml
/// [limits]
/// calls = 1024                     # calls at once, of everybody
/// wait_ms = 10000                  # how long a call waits for a place before it is told to come back
/// queue = 64                       # calls of one person that may wait for a place
/// queue_all = 4096                 # calls of everybody that may wait
///
/// [limits.principal]               # each person, for each model
/// calls = 64                       # at once, over all models
/// requests_per_minute = 600        # absent: no bound
/// tokens_per_minute = 2000000      # absent: no bound
///
/// [limits.models.opus]             # everybody together, for the model of that name
/// tokens_per_minute = 4000000
/// calls = 128
/// principal = { requests_per_minute = 60 }   # each person, for this model
///
/// [limits.roles.operator]          # each person with that role
/// requests_per_minute = 60
///
/// [limits.users."usr_0196…"]       # one person
/// tokens_per_minute = 20000000
///
/// [limits.breaker]
/// failures = 5                     # so many failures in a row open it
/// of = 20                          # or …
/// percent = 50                     # … this share of the last `of` calls
/// open_ms = 5000                   # then nothing is sent for so long, doubled each time …
/// open_most_ms = 60000             # … up to this
/// retry_after_most_ms = 300000     # a provider that names a time is left alone for so long, at most this
///
/// [limits.ask]                     # calls about which a person is asked
/// wait_ms = 300000                 # how long such a call waits for the answer; 0: it is told at once to come back
/// valid_ms = 3600000               # how long the question stays open, and for how long a yes can be used
/// waiting = 16                     # calls of one person that may wait for an answer
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitRules {
    /// Calls at once, of everybody.
    pub calls: usize,
    /// How long a call waits for a place, in milliseconds.
    pub wait_ms: u64,
    /// Calls of one person that may wait.
    pub queue: usize,
    /// Calls of everybody that may wait.
    pub queue_all: usize,
    /// Each person.
    pub principal: Allowance,
    /// By the name that is asked for.
    pub models: BTreeMap<String, ModelAllowance>,
    /// Each person with a role.
    pub roles: BTreeMap<String, Allowance>,
    /// One person, by id.
    pub users: BTreeMap<String, Allowance>,
    /// When a provider is left alone.
    pub breaker: BreakerRules,
    /// Calls about which a person is asked.
    pub ask: AskRules,
}

impl Default for LimitRules {
    fn default() -> Self {
        Self {
            calls: 1_024,
            wait_ms: 10_000,
            queue: 64,
            queue_all: 4_096,
            principal: Allowance { calls: Some(64), ..Allowance::default() },
            models: BTreeMap::new(),
            roles: BTreeMap::new(),
            users: BTreeMap::new(),
            breaker: BreakerRules::default(),
            ask: AskRules::default(),
        }
    }
}

/// How much somebody may. What is absent is said by a more general part, or is not bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowance {
    /// Requests in any minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens, read and written, in any minute.
    pub tokens_per_minute: Option<u64>,
    /// Calls at once.
    pub calls: Option<usize>,
}

impl Allowance {
    /// This one, and where it says nothing, the other.
    const fn or(self, other: Self) -> Self {
        const fn first<T: Copy>(one: Option<T>, other: Option<T>) -> Option<T> {
            if one.is_some() { one } else { other }
        }
        Self {
            requests_per_minute: first(self.requests_per_minute, other.requests_per_minute),
            tokens_per_minute: first(self.tokens_per_minute, other.tokens_per_minute),
            calls: first(self.calls, other.calls),
        }
    }

    /// The greater of two words for the same thing; what one of them leaves out, the other says.
    fn greater(self, other: Self) -> Self {
        Self {
            requests_per_minute: self.requests_per_minute.max(other.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.max(other.tokens_per_minute),
            calls: self.calls.max(other.calls),
        }
    }

    const fn rates(self) -> RateBounds {
        RateBounds { requests: self.requests_per_minute, tokens: self.tokens_per_minute }
    }
}

/// How much may be asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelAllowance {
    /// Requests of everybody in any minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens of everybody in any minute.
    pub tokens_per_minute: Option<u64>,
    /// Calls of everybody at once.
    pub calls: Option<usize>,
    /// Each person, for this model. `calls` means nothing here: a person's calls at once are counted over all models.
    pub principal: Allowance,
}

/// When a provider is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerRules {
    /// So many failures in a row open it.
    pub failures: u32,
    /// How many calls the share is taken of: 2 to 64.
    pub of: u32,
    /// This share of them, in percent, opens it.
    pub percent: u32,
    /// For how long, in milliseconds. Doubled each time that the probe fails.
    pub open_ms: u64,
    /// For how long at most, in milliseconds.
    pub open_most_ms: u64,
    /// For how long at most because a provider says so, in milliseconds.
    pub retry_after_most_ms: u64,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self { failures: 5, of: 20, percent: 50, open_ms: 5_000, open_most_ms: 60_000, retry_after_most_ms: 300_000 }
    }
}

/// Calls about which a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskRules {
    /// How long a call waits for the answer, in milliseconds.
    pub wait_ms: u64,
    /// How long the question stays open, and a yes can be used, in milliseconds.
    pub valid_ms: u64,
    /// Calls of one person that may wait for an answer.
    pub waiting: usize,
}

/// The longest that a question can stay open, in milliseconds: a week.
pub const MAX_ASK_MS: u64 = 7 * 24 * 3_600_000;

impl Default for AskRules {
    fn default() -> Self {
        Self { wait_ms: 300_000, valid_ms: 3_600_000, waiting: 16 }
    }
}

/// Why `[limits]` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limits.{at}: {why}")]
pub struct RulesError {
    /// Where.
    pub at: String,
    /// What is wrong there.
    pub why: String,
}

/// The bounds of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of this person, for this model.
    pub principal: RateBounds,
    /// Of everybody, for this model.
    pub model: RateBounds,
    /// Calls at once.
    pub calls: CallBounds,
}

impl LimitRules {
    /// Whether every number can be meant.
    ///
    /// # Errors
    /// [`RulesError`] names the first that cannot.
    pub fn check(&self) -> Result<(), RulesError> {
        let wrong = |at: &str, why: &str| Err(RulesError { at: at.to_owned(), why: why.to_owned() });
        if !(1..=MAX_CALLS).contains(&self.calls) {
            return wrong("calls", &format!("expected 1 to {MAX_CALLS}"));
        }
        if self.wait_ms > 600_000 {
            return wrong("wait_ms", "expected at most 600000");
        }
        if self.queue > MAX_CALLS || self.queue_all > MAX_CALLS {
            return wrong("queue", &format!("expected at most {MAX_CALLS}"));
        }
        let people = |at: &str, of: &BTreeMap<String, Allowance>| {
            of.iter().try_for_each(|(name, allowance)| checked(&format!("{at}.{name}"), *allowance))
        };
        checked("principal", self.principal)?;
        people("roles", &self.roles)?;
        people("users", &self.users)?;
        for (name, model) in &self.models {
            let all = Allowance {
                requests_per_minute: model.requests_per_minute,
                tokens_per_minute: model.tokens_per_minute,
                calls: model.calls,
            };
            checked(&format!("models.{name}"), all)?;
            checked(&format!("models.{name}.principal"), model.principal)?;
            if model.principal.calls.is_some() {
                let why = "a person's calls at once are counted over all models: say it in [limits.principal]";
                return wrong(&format!("models.{name}.principal.calls"), why);
            }
        }
        let breaker = self.breaker;
        if breaker.failures == 0 || !(2..=64).contains(&breaker.of) || !(1..=100).contains(&breaker.percent) {
            return wrong("breaker", "expected failures of 1 or more, `of` from 2 to 64, `percent` from 1 to 100");
        }
        if breaker.open_ms == 0 || breaker.open_most_ms < breaker.open_ms {
            return wrong("breaker.open_ms", "expected 1 or more, and no more than open_most_ms");
        }
        let ask = self.ask;
        if !(1_000..=MAX_ASK_MS).contains(&ask.valid_ms) {
            return wrong("ask.valid_ms", &format!("expected 1000 to {MAX_ASK_MS}"));
        }
        if ask.wait_ms > ask.valid_ms {
            return wrong(
                "ask.wait_ms",
                "expected no more than ask.valid_ms: a call waits no longer than its question",
            );
        }
        if !(1..=MAX_CALLS).contains(&ask.waiting) {
            return wrong("ask.waiting", &format!("expected 1 to {MAX_CALLS}"));
        }
        Ok(())
    }

    /// How long a call waits for a place.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }

    /// The bounds of a call of this person with these roles for this model. The most particular word counts: the person's own,
    /// then the greatest of the roles', then the model's for each person, then everybody's.
    #[must_use]
    pub fn of<'a>(&self, user: &str, roles: impl IntoIterator<Item = &'a str>, model: &str) -> Bounds {
        let own = self.users.get(user).copied().unwrap_or_default();
        let roles = roles.into_iter().filter_map(|role| self.roles.get(role)).copied();
        let roles = roles.reduce(Allowance::greater).unwrap_or_default();
        let of_model = self.models.get(model).copied().unwrap_or_default();
        let principal = own.or(roles).or(of_model.principal).or(self.principal);
        Bounds {
            principal: principal.rates(),
            model: RateBounds { requests: of_model.requests_per_minute, tokens: of_model.tokens_per_minute },
            calls: CallBounds {
                all: self.calls,
                principal: principal.calls.unwrap_or(self.calls),
                model: of_model.calls.unwrap_or(self.calls),
                queue: self.queue,
                queue_all: self.queue_all,
            },
        }
    }
}

fn checked(at: &str, allowance: Allowance) -> Result<(), RulesError> {
    let wrong = |what: &str, why: String| Err(RulesError { at: format!("{at}.{what}"), why });
    for (what, rate) in
        [("requests_per_minute", allowance.requests_per_minute), ("tokens_per_minute", allowance.tokens_per_minute)]
    {
        if rate.is_some_and(|rate| !(1..=MAX_RATE).contains(&rate)) {
            let why = format!("expected 1 to {MAX_RATE}; whom nothing is allowed, a policy forbids it");
            return wrong(what, why);
        }
    }
    if allowance.calls.is_some_and(|calls| !(1..=MAX_CALLS).contains(&calls)) {
        return wrong("calls", format!("expected 1 to {MAX_CALLS}; whom nothing is allowed, a policy forbids it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> LimitRules {
        let rules: LimitRules = toml::from_str(text).unwrap();
        rules.check().unwrap();
        rules
    }

    #[test]
    fn nothing_configured_bounds_calls_at_once_only() {
        let bounds = read("").of("usr_1", ["operator"], "opus");
        let calls = CallBounds { all: 1_024, principal: 64, model: 1_024, queue: 64, queue_all: 4_096 };
        let none = RateBounds::default();
        assert_eq!(bounds, Bounds { principal: none, model: none, calls });
    }

    #[test]
    fn the_most_particular_word_counts() {
        let rules = read(
            "[principal]\nrequests_per_minute = 10\ntokens_per_minute = 1000\n\
             [models.opus]\nrequests_per_minute = 500\ncalls = 7\nprincipal = { requests_per_minute = 3 }\n\
             [roles.operator]\nrequests_per_minute = 20\n[roles.viewer]\nrequests_per_minute = 5\ncalls = 2\n\
             [users.usr_1]\ntokens_per_minute = 9\n",
        );
        let of = |user, roles: &[&'static str], model| rules.of(user, roles.iter().copied(), model).principal;
        let rates = |requests, tokens| RateBounds { requests: Some(requests), tokens: Some(tokens) };
        assert_eq!(of("usr_2", &[], "sonnet"), rates(10, 1_000));
        assert_eq!(of("usr_2", &[], "opus"), rates(3, 1_000));
        assert_eq!(of("usr_2", &["viewer", "operator"], "opus"), rates(20, 1_000));
        assert_eq!(of("usr_1", &["viewer"], "opus"), rates(5, 9));
        let bounds = rules.of("usr_1", ["viewer"], "opus");
        assert_eq!((bounds.calls.principal, bounds.calls.model), (2, 7));
        assert_eq!(bounds.model, RateBounds { requests: Some(500), tokens: None });
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text: &str| toml::from_str::<LimitRules>(text).unwrap().check().unwrap_err().to_string();
        assert!(toml::from_str::<LimitRules>("surprise = 1").is_err());
        assert!(wrong("calls = 0").starts_with("limits.calls: "));
        assert!(wrong("[principal]\nrequests_per_minute = 0").starts_with("limits.principal.requests_per_minute: "));
        assert!(wrong("[users.x]\ntokens_per_minute = 0").starts_with("limits.users.x.tokens_per_minute: "));
        assert!(wrong("[models.m.principal]\ncalls = 3").starts_with("limits.models.m.principal.calls: "));
        assert!(wrong("[ask]\nwait_ms = 4000000").starts_with("limits.ask.wait_ms: "));
        assert!(wrong("[ask]\nvalid_ms = 1").starts_with("limits.ask.valid_ms: "));
        assert!(wrong("[ask]\nwaiting = 0").starts_with("limits.ask.waiting: "));
        assert!(wrong("[breaker]\nof = 65").starts_with("limits.breaker: "));
        assert!(wrong("[breaker]\nopen_ms = 9\nopen_most_ms = 8").starts_with("limits.breaker.open_ms: "));
    }
}
