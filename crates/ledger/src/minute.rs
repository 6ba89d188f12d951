//! How much of what repeats is written down: so many records a minute, and then a count.
//!
//! It owns the window. It refuses to forget what was left out: the next record that is written says how much that was.

use stockade_domain::Timestamp;

/// So many refusals of one run or environment are written down in a minute.
pub const RECORDED_A_MINUTE: u32 = 60;
/// In microseconds.
const LONG: i64 = 60_000_000;

/// A minute in which records are written down.
#[derive(Debug, Clone, Copy, Default)]
pub struct Minute {
    since: Option<Timestamp>,
    written: u32,
    left_out: u64,
}

impl Minute {
    /// Whether one more is written down, and how many before it were not.
    pub fn take(&mut self, now: Timestamp) -> Option<u64> {
        self.turn(now);
        if self.written >= RECORDED_A_MINUTE {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }

    /// How many were left out that nobody has said yet. For who writes down the end.
    pub const fn end(&mut self) -> u64 {
        std::mem::replace(&mut self.left_out, 0)
    }

    /// Begins another minute if this one is over, and says whether it was. A clock that went back begins another, too.
    pub fn turn(&mut self, now: Timestamp) -> bool {
        let over = self.is_over(now);
        if over {
            (self.since, self.written) = (Some(now), 0);
        }
        over
    }

    /// Whether nothing would be lost with it: its time is over, and nothing was left out.
    pub fn is_spent(&self, now: Timestamp) -> bool {
        self.is_over(now) && self.left_out == 0
    }

    fn is_over(&self, now: Timestamp) -> bool {
        !self.since.is_some_and(|since| (0..LONG).contains(&now.0.saturating_sub(since.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_written_down_in_a_minute_and_the_rest_is_counted() {
        let at = |seconds: i64| Timestamp(seconds * 1_000_000);
        let mut minute = Minute::default();
        for _ in 0..RECORDED_A_MINUTE {
            assert_eq!(minute.take(at(100)), Some(0));
        }
        assert_eq!((minute.take(at(100)), minute.take(at(159))), (None, None));
        assert!(!minute.is_spent(at(160)), "two were left out");
        assert_eq!((minute.take(at(160)), minute.take(at(160))), (Some(2), Some(0)));
        assert_eq!(minute.end(), 0);
        assert!(minute.is_spent(at(220)) && !minute.is_spent(at(219)));
        assert!(minute.turn(at(50)), "the clock went back");
    }
}
