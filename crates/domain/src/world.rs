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
    /// A fresh identifier. Those made microseconds apart sort as they were made: the twelve bits behind the
    /// milliseconds carry the part of the millisecond (RFC 9562 §6.2, method 3), the rest is random.
    pub fn id<K: Kind>(&self) -> Id<K> {
        let now = self.now();
        let mut random = [0; 10];
        self.random(&mut random);
        // Below a thousand microseconds is below 4096 of the twelve bits' units.
        let part = (now.0.max(0).unsigned_abs() % 1_000) * 4_096 / 1_000;
        let [_, _, _, _, _, _, high, low] = part.to_be_bytes();
        random[0] = high;
        random[1] = low;
        Id::from_parts(now.unix_ms(), random)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::{Timestamp, World};
    use crate::ids::RecordId;

    #[derive(Debug)]
    struct Ticking(AtomicI64);

    impl World for Ticking {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.fetch_add(1, Ordering::Relaxed))
        }
        fn random(&self, out: &mut [u8]) {
            // What comes later has the smaller random part.
            out.fill(u8::MAX - u8::try_from(self.0.load(Ordering::Relaxed) % 256).unwrap_or(0));
        }
    }

    #[test]
    fn identifiers_sort_as_they_were_made() {
        let world = Ticking(AtomicI64::new(1_800_000_000_000_000 - 500));
        let ids: Vec<RecordId> = (0..2_000).map(|_| (&world as &dyn World).id()).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids[0].as_bytes()[6] >> 4, 7, "the version stays");
    }
}
