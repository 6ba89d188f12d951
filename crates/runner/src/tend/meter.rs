//! Adding up what an environment uses, from readings of counters that may begin anew.
//!
//! Arithmetic alone: the time and the readings come in. *Invariant:* nothing shrinks; a counter that begins anew is added to what was
//! counted before, and time counts only between two readings at both of which the environment ran.

use serde::{Deserialize, Serialize};
use stockade_domain::{EnvironmentUsage, Timestamp, ids::EnvironmentId};
use stockade_sandbox::Measured;

/// Whoever uses less than this part of one processor (one in twenty) does nothing: the guest itself looks after its files now and then.
const ACTIVE_PART: u64 = 20;
/// What is used is told when it has run so long at first, in milliseconds.
const TOLD_FIRST_MS: u64 = 60_000;
/// And again at the latest after so long, in milliseconds.
const TOLD_AGAIN_MS: u64 = 600_000;

/// The meter of one environment, as it rests on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// Whose.
    pub environment: EnvironmentId,
    /// What was used up to the last reading.
    pub usage: EnvironmentUsage,
    /// When something was last seen to happen inside.
    pub active_at: Timestamp,
    /// What was last told.
    told: Option<EnvironmentUsage>,
    /// The last reading's time, if it ran then.
    ran_at: Option<Timestamp>,
    since: String,
    counted_us: u64,
    cpu_us: u64,
    memory_bytes: u64,
    /// What the way out has counted in this process.
    #[serde(skip)]
    carried: (u64, u64),
}

impl Meter {
    /// Nothing is counted yet.
    pub fn new(environment: EnvironmentId, now: Timestamp) -> Self {
        Self {
            environment,
            usage: EnvironmentUsage::default(),
            active_at: now,
            told: None,
            ran_at: None,
            since: String::new(),
            counted_us: 0,
            cpu_us: 0,
            memory_bytes: 0,
            carried: (0, 0),
        }
    }

    /// It was started then. What was read before its start counts for nothing after it.
    pub const fn started(&mut self, at: Timestamp) {
        self.ran_at = Some(at);
    }

    /// Takes a reading: whether it runs, what its machine counts, and what went over its connections.
    pub fn read(&mut self, now: Timestamp, runs: bool, measured: Option<&Measured>, carried: (u64, u64)) {
        let ms = self.ran_at.filter(|_| runs).map_or(0, |then| now.ms_since(then));
        self.ran_at = runs.then_some(now);
        let usage = &mut self.usage;
        usage.running_ms = usage.running_ms.saturating_add(ms);
        let grown = |now: u64, then: u64| if now >= then { now - then } else { now };
        usage.bytes_out = usage.bytes_out.saturating_add(grown(carried.0, self.carried.0));
        usage.bytes_in = usage.bytes_in.saturating_add(grown(carried.1, self.carried.1));
        let moved = carried != self.carried;
        self.carried = carried;
        let Some(read) = measured else { return };
        let same = self.since == read.since;
        let cpu_us = if same { read.cpu_us.saturating_sub(self.counted_us) } else { read.cpu_us };
        if same {
            self.counted_us = self.counted_us.max(read.cpu_us);
        } else {
            self.since.clone_from(&read.since);
            self.counted_us = read.cpu_us;
        }
        self.cpu_us = self.cpu_us.saturating_add(cpu_us);
        usage.cpu_ms = self.cpu_us / 1_000;
        let held = (self.memory_bytes / 2).saturating_add(read.memory_bytes / 2);
        let byte_seconds = u128::from(held) * u128::from(ms) / 1_000;
        let byte_seconds = u64::try_from(byte_seconds).unwrap_or(u64::MAX);
        usage.memory_byte_seconds = usage.memory_byte_seconds.saturating_add(byte_seconds);
        usage.memory_peak_bytes = usage.memory_peak_bytes.max(read.memory_peak_bytes).max(read.memory_bytes);
        usage.disk_peak_bytes = usage.disk_peak_bytes.max(read.disk_bytes);
        self.memory_bytes = if runs { read.memory_bytes } else { 0 };
        if moved || (ms > 0 && cpu_us.saturating_mul(ACTIVE_PART) > ms.saturating_mul(1_000)) {
            self.active_at = now;
        }
    }

    /// Whether there is enough that is new to be told.
    pub fn is_due(&self) -> bool {
        let ran = self.usage.running_ms;
        match self.told.map(|told| told.running_ms) {
            None | Some(0) => ran >= TOLD_FIRST_MS,
            Some(told) => ran >= told.saturating_add((told / 2).clamp(TOLD_FIRST_MS, TOLD_AGAIN_MS)),
        }
    }

    /// Whether anything is new at all.
    pub fn is_news(&self) -> bool {
        self.told != Some(self.usage)
    }

    /// What it has is told now.
    pub const fn was_told(&mut self) {
        self.told = Some(self.usage);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stockade_domain::Id;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    fn reading(since: &str, cpu_ms: u64, memory_bytes: u64) -> Measured {
        Measured { since: since.to_owned(), cpu_us: cpu_ms * 1_000, memory_bytes, ..Measured::default() }
    }

    #[test]
    fn time_counts_while_it_runs_and_counters_may_begin_anew() {
        let mut meter = Meter::new(Id::from_bytes([1; 16]), at(0));
        meter.read(at(0), true, Some(&reading("a", 100, 1_000)), (0, 0));
        meter.read(at(10), true, Some(&reading("a", 300, 3_000)), (5, 7));
        assert_eq!((meter.usage.running_ms, meter.usage.cpu_ms), (10_000, 300));
        assert_eq!(meter.usage.memory_byte_seconds, 20_000);
        // It stands still for an hour, and its counters begin anew when it is back.
        meter.read(at(20), false, None, (5, 7));
        meter.read(at(3_620), true, Some(&reading("b", 50, 0)), (5, 7));
        assert_eq!((meter.usage.running_ms, meter.usage.cpu_ms), (10_000, 350));
        meter.read(at(3_621), true, Some(&reading("b", 40, 0)), (1, 8));
        assert_eq!((meter.usage.running_ms, meter.usage.cpu_ms), (11_000, 350), "what shrinks is not believed");
        assert_eq!((meter.usage.bytes_out, meter.usage.bytes_in), (6, 8));
        assert_eq!(meter.usage.memory_peak_bytes, 3_000);
    }

    #[test]
    fn time_counts_from_the_start_and_not_from_the_reading_before_it() {
        let mut meter = Meter::new(Id::from_bytes([1; 16]), at(0));
        meter.started(at(3));
        meter.read(at(5), true, None, (0, 0));
        assert_eq!(meter.usage.running_ms, 2_000);
        meter.started(at(65));
        meter.read(at(66), true, None, (0, 0));
        assert_eq!(meter.usage.running_ms, 3_000);
    }

    #[test]
    fn a_runner_that_was_away_counts_on_from_what_it_wrote_down() {
        let mut meter = Meter::new(Id::from_bytes([1; 16]), at(0));
        meter.read(at(0), true, Some(&reading("a", 100, 0)), (0, 0));
        meter.read(at(10), true, Some(&reading("a", 200, 0)), (100, 100));
        let text = serde_json::to_string(&meter).unwrap();
        let mut again: Meter = serde_json::from_str(&text).unwrap();
        // The environment ran on; the new process's way out counts from nothing.
        again.read(at(110), true, Some(&reading("a", 5_000, 0)), (3, 0));
        assert_eq!((again.usage.running_ms, again.usage.cpu_ms, again.usage.bytes_out), (110_000, 5_000, 103));
    }

    #[test]
    fn little_work_is_none_and_what_goes_over_is_some() {
        let mut meter = Meter::new(Id::from_bytes([1; 16]), at(0));
        meter.read(at(0), true, Some(&reading("a", 0, 0)), (0, 0));
        meter.read(at(10), true, Some(&reading("a", 499, 0)), (0, 0));
        assert_eq!(meter.active_at, at(0));
        meter.read(at(20), true, Some(&reading("a", 1_100, 0)), (0, 0));
        assert_eq!(meter.active_at, at(20));
        meter.read(at(30), true, Some(&reading("a", 1_100, 0)), (1, 0));
        assert_eq!(meter.active_at, at(30));
    }

    #[test]
    fn it_is_told_soon_at_first_and_then_less_and_less_often() {
        let mut meter = Meter::new(Id::from_bytes([1; 16]), at(0));
        let mut told = Vec::new();
        for seconds in (0..7_200).step_by(10) {
            meter.read(at(seconds), true, None, (0, 0));
            if meter.is_due() {
                told.push(seconds);
                meter.was_told();
            }
        }
        assert_eq!(told[..5], [60, 120, 180, 270, 410]);
        assert!(told.len() < 25, "{told:?}");
        assert!(!meter.is_due() && meter.is_news());
    }

    proptest! {
        #[test]
        fn no_readings_make_it_shrink_or_panic(
            readings in prop::collection::vec((any::<i64>(), any::<bool>(), 0_u8..3, any::<u64>(), any::<u64>()), 0..30)
        ) {
            let mut meter = Meter::new(Id::from_bytes([1; 16]), at(0));
            for (now, runs, since, one, two) in readings {
                let before = meter.usage;
                let measured = Measured {
                    since: since.to_string(),
                    cpu_us: one,
                    memory_bytes: two,
                    memory_peak_bytes: one,
                    disk_bytes: two,
                };
                meter.read(Timestamp(now), runs, Some(&measured), (two, one));
                prop_assert_eq!(before.at_least(meter.usage), meter.usage);
                let _ = meter.is_due();
            }
        }
    }
}
