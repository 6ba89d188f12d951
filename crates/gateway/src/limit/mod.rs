//! How much at once, how much a minute, and to whom of several: machines without input and output.
//!
//! This part owns rates ([`Rates`]), places for calls at once ([`Fair`]), what is known of a provider's health ([`Breakers`])
//! and the choice among targets and keys ([`order`], [`Rotation`]), and the configuration of all of them ([`LimitRules`]).
//!
//! It refuses: clocks (time is an argument), randomness (an argument too), sleeping, and knowing what a call is. Bounds are
//! arguments as well, so that a new configuration counts at once and what was counted under the old one stays counted.

mod breaker;
mod choice;
mod fair;
mod rates;
mod rules;

pub use breaker::{Breakers, Health, Outcome, Pass, Tripped};
pub use choice::{Candidate, Rotation, order};
pub use fair::{Busy, CallBounds, Fair, Place};
pub use rates::{RateBounds, RateRefusal, Rates, Taken};
pub use rules::{Allowance, AskRules, Bounds, BreakerRules, LimitRules, ModelAllowance, RulesError};
