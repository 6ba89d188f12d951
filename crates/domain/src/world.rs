//! Time and randomness, handed in from outside.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Id, Kind};

/// A moment in microseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole milliseconds since the epoch.
    pub const fn unix_ms(self) -> u64 {
        if self.0 < 0 { 0 } else { self.0.unsigned_abs() / 1_000 }
    }

    /// This moment, `seconds` later; it saturates.
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        self.plus_ms(seconds.saturating_mul(1_000))
    }

    /// This moment, `ms` milliseconds later; it saturates.
    pub const fn plus_ms(self, ms: u64) -> Self {
        let us = ms.saturating_mul(1_000);
        let us = if us > i64::MAX as u64 { i64::MAX } else { us.cast_signed() };
        Self(self.0.saturating_add(us))
    }

    /// Milliseconds from `earlier` to this moment; zero if it is not earlier.
    pub const fn ms_since(self, earlier: Self) -> u64 {
        let us = self.0.saturating_sub(earlier.0);
        if us < 0 { 0 } else { us.unsigned_abs() / 1_000 }
    }
}

/// Where time and randomness come from. Production has one implementation; tests steer theirs.
pub trait World: Send + Sync + fmt::Debug {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Fills `out` with bytes that nobody can guess.
    fn random(&self, out: &mut [u8]);
}

impl dyn World + '_ {
    /// A fresh identifier.
    pub fn id<K: Kind>(&self) -> Id<K> {
        let mut random = [0; 10];
        self.random(&mut random);
        Id::from_parts(self.now().unix_ms(), random)
    }
}
