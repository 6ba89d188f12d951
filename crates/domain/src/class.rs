//! Classes of environments: what one may use, how long it may live, where it may go and what it costs; and what one has used.
//!
//! The site's operator declares classes, so every word here is mechanism. It refuses values that nobody can mean: a runner tells its classes to
//! the server, which checks them again.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Nanos, UnknownWord, deed::words, inside::Inside};

/// The longest name of a class, in bytes.
pub const MAX_CLASS_NAME: usize = 40;
/// The most classes of a site.
pub const MAX_CLASSES: usize = 100;

/// The longest lifetime and idle time, in seconds: a year.
const MAX_SECONDS: u64 = 366 * 24 * 3_600;
const MIB: u64 = 1024 * 1024;
const HOUR_MS: i128 = 3_600_000;

words! {
    /// Where an environment may go.
    Network "network posture" {
        None "none" "Nowhere: nothing that is opened inside arrives anywhere, the gateway is not there either.",
        Gateway "gateway" "To the gateway, for model calls, and nowhere else, whatever policy allows.",
        Policy "policy" "Where policy allows.",
    }
}

/// A class of environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentClass {
    /// What people call it: 1 to 40 of a-z, 0-9, `-`, `_` and `.`.
    pub name: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Processor time, in thousandths of one processor.
    pub cpu_millis: u64,
    /// Disk, in bytes.
    pub disk_bytes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// What its inside is to those who work there.
    #[serde(default)]
    pub inside: Inside,
    /// After so long its run ends, and it with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds: Option<u64>,
    /// While its run waits for a person and nothing happens inside, it is stopped after so long, and comes back when it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u64>,
    /// Where it may go.
    pub network: Network,
    /// What an hour of one costs, while it runs.
    #[serde(default)]
    pub price_per_hour: Nanos,
    /// What an hour of processor time costs.
    #[serde(default)]
    pub price_per_core_hour: Nanos,
}

impl EnvironmentClass {
    /// The class that is used where nobody declares any.
    pub fn standard() -> Self {
        Self {
            name: "standard".to_owned(),
            memory_bytes: 4 * 1024 * MIB,
            processes: 512,
            cpu_millis: 2_000,
            disk_bytes: 8 * 1024 * MIB,
            open_files: 4_096,
            inside: Inside::default(),
            lifetime_seconds: None,
            idle_seconds: None,
            network: Network::Policy,
            price_per_hour: Nanos::ZERO,
            price_per_core_hour: Nanos::ZERO,
        }
    }

    /// Half and double of it: with it, what a site has where nobody declares anything.
    pub fn shipped() -> Vec<Self> {
        let sized = |name: &str, (times, by): (u64, u64)| {
            let one = Self::standard();
            Self {
                name: name.to_owned(),
                memory_bytes: one.memory_bytes * times / by,
                processes: one.processes * times / by,
                cpu_millis: one.cpu_millis * times / by,
                disk_bytes: one.disk_bytes * times / by,
                ..one
            }
        };
        vec![Self::standard(), sized("small", (1, 2)), sized("large", (2, 1))]
    }

    /// What of it cannot be meant, in words that name it.
    pub fn wrong(&self) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let name = self.name.as_bytes();
        if !name.first().copied().is_some_and(plain)
            || name.len() > MAX_CLASS_NAME
            || !name.iter().all(|byte| plain(*byte) || b"-_.".contains(byte))
        {
            return Some(format!(
                "`name` must have 1 to {MAX_CLASS_NAME} of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or a digit"
            ));
        }
        let within = [
            ("memory", self.memory_bytes, 32 * MIB, 1 << 50),
            ("disk", self.disk_bytes, 32 * MIB, 1 << 50),
            ("processes", self.processes, 16, 1 << 22),
            ("cpu_millis", self.cpu_millis, 10, 1_000_000),
            ("open_files", self.open_files, 64, 1 << 20),
            ("lifetime_seconds", self.lifetime_seconds.unwrap_or(1), 1, MAX_SECONDS),
            ("idle_seconds", self.idle_seconds.unwrap_or(1), 1, MAX_SECONDS),
        ];
        for (what, value, least, most) in within {
            if !(least..=most).contains(&value) {
                return Some(format!("`{what}` is {value}: it must be {least} to {most}"));
            }
        }
        if let Some(why) = self.inside.wrong() {
            return Some(why.to_owned());
        }
        if self.price_per_hour.0 < 0 || self.price_per_core_hour.0 < 0 {
            return Some("a price is below nothing".to_owned());
        }
        None
    }
}

/// What an environment has used since it was made. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EnvironmentUsage {
    /// How long it ran, in milliseconds; while it is stopped it costs nothing.
    pub running_ms: u64,
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
    /// Memory times time, in byte-seconds.
    pub memory_byte_seconds: u64,
    /// The most memory at a time, in bytes.
    pub memory_peak_bytes: u64,
    /// The most disk at a time, in bytes.
    pub disk_peak_bytes: u64,
    /// Bytes that went out on connections that have ended.
    pub bytes_out: u64,
    /// Bytes that came in on them.
    pub bytes_in: u64,
}

impl EnvironmentUsage {
    /// What it costs by a class's prices, rounded up once.
    pub fn cost(&self, class: &EnvironmentClass) -> Nanos {
        let part = |price: Nanos, ms: u64| i128::from(price.0).saturating_mul(i128::from(ms));
        let parts = [part(class.price_per_hour, self.running_ms), part(class.price_per_core_hour, self.cpu_ms)];
        let sum = parts.into_iter().fold(0, i128::saturating_add);
        let whole = sum / HOUR_MS + i128::from(sum % HOUR_MS != 0);
        Nanos(i64::try_from(whole).unwrap_or(i64::MAX))
    }

    /// Of several environments one after the other: sums, and the highest peaks.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            running_ms: self.running_ms.saturating_add(other.running_ms),
            cpu_ms: self.cpu_ms.saturating_add(other.cpu_ms),
            memory_byte_seconds: self.memory_byte_seconds.saturating_add(other.memory_byte_seconds),
            memory_peak_bytes: self.memory_peak_bytes.max(other.memory_peak_bytes),
            disk_peak_bytes: self.disk_peak_bytes.max(other.disk_peak_bytes),
            bytes_out: self.bytes_out.saturating_add(other.bytes_out),
            bytes_in: self.bytes_in.saturating_add(other.bytes_in),
        }
    }

    /// Of two readings of one environment, of which either may be the older: nothing shrinks.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self {
            running_ms: self.running_ms.max(other.running_ms),
            cpu_ms: self.cpu_ms.max(other.cpu_ms),
            memory_byte_seconds: self.memory_byte_seconds.max(other.memory_byte_seconds),
            memory_peak_bytes: self.memory_peak_bytes.max(other.memory_peak_bytes),
            disk_peak_bytes: self.disk_peak_bytes.max(other.disk_peak_bytes),
            bytes_out: self.bytes_out.max(other.bytes_out),
            bytes_in: self.bytes_in.max(other.bytes_in),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::User;

    #[test]
    fn the_classes_that_ship_can_be_meant_and_have_names_of_their_own() {
        let shipped = EnvironmentClass::shipped();
        assert_eq!(shipped.iter().map(|class| class.name.as_str()).collect::<Vec<_>>(), ["standard", "small", "large"]);
        assert_eq!(shipped.iter().find_map(EnvironmentClass::wrong), None);
        assert_eq!((shipped[1].cpu_millis, shipped[2].memory_bytes), (1_000, 8 * 1024 * MIB));
    }

    #[test]
    fn what_cannot_be_meant_is_said_with_its_name() {
        let one = EnvironmentClass::standard();
        for (class, word) in [
            (EnvironmentClass { name: String::new(), ..one.clone() }, "name"),
            (EnvironmentClass { name: "-x".to_owned(), ..one.clone() }, "name"),
            (EnvironmentClass { name: "Big one".to_owned(), ..one.clone() }, "name"),
            (EnvironmentClass { name: "x".repeat(41), ..one.clone() }, "name"),
            (EnvironmentClass { memory_bytes: 1, ..one.clone() }, "memory"),
            (EnvironmentClass { disk_bytes: u64::MAX, ..one.clone() }, "disk"),
            (EnvironmentClass { processes: 0, ..one.clone() }, "processes"),
            (EnvironmentClass { cpu_millis: 0, ..one.clone() }, "cpu_millis"),
            (EnvironmentClass { open_files: 1, ..one.clone() }, "open_files"),
            (EnvironmentClass { lifetime_seconds: Some(0), ..one.clone() }, "lifetime_seconds"),
            (EnvironmentClass { idle_seconds: Some(0), ..one.clone() }, "idle_seconds"),
            (EnvironmentClass { inside: Inside { user: User::Root, ..Inside::default() }, ..one.clone() }, "overlay"),
            (EnvironmentClass { price_per_hour: Nanos(-1), ..one.clone() }, "price"),
        ] {
            assert!(class.wrong().is_some_and(|why| why.contains(word)), "{word}: {:?}", class.wrong());
        }
    }

    #[test]
    fn an_hour_costs_its_price_and_a_moment_never_nothing() {
        let class = EnvironmentClass {
            price_per_hour: Nanos(40_000_000),
            price_per_core_hour: Nanos(10_000_000),
            ..EnvironmentClass::standard()
        };
        let hour = EnvironmentUsage { running_ms: 3_600_000, cpu_ms: 7_200_000, ..EnvironmentUsage::default() };
        assert_eq!(hour.cost(&class), Nanos(60_000_000));
        let moment = EnvironmentUsage { running_ms: 1, ..EnvironmentUsage::default() };
        assert_eq!(moment.cost(&class), Nanos(12));
        assert_eq!(hour.cost(&EnvironmentClass::standard()), Nanos::ZERO);
        let ages = EnvironmentUsage { running_ms: u64::MAX, cpu_ms: u64::MAX, ..hour };
        assert_eq!(ages.cost(&EnvironmentClass { price_per_hour: Nanos(i64::MAX), ..class }), Nanos(i64::MAX));
    }

    #[test]
    fn sums_add_and_peaks_do_not() {
        let one = EnvironmentUsage { cpu_ms: 5, memory_peak_bytes: 7, ..EnvironmentUsage::default() };
        let two = EnvironmentUsage { cpu_ms: 6, memory_peak_bytes: 3, ..EnvironmentUsage::default() };
        assert_eq!((one.and(two).cpu_ms, one.and(two).memory_peak_bytes), (11, 7));
        assert_eq!((one.at_least(two).cpu_ms, two.at_least(one).memory_peak_bytes), (6, 7));
    }
}
