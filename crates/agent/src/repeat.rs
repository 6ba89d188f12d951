//! Noticing that an agent goes round in circles: the same call, with the same input, with the same result.

use std::{
    collections::{BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use serde_json::Value;

/// From so many equal calls on, the agent is told.
pub(crate) const NUDGE: usize = 3;
/// With so many, the run ends.
pub(crate) const STUCK: usize = 6;
/// So many calls are remembered.
const WINDOW: usize = 48;

/// The calls since the last progress.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Repeats {
    recent: VecDeque<u64>,
}

/// What came of noting the calls of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    Nudge,
    Stuck,
}

/// One call with its result, as a number. Equal calls give equal numbers; it is never stored.
pub(crate) fn fingerprint(name: &str, input: &Value, result: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, input.to_string(), result).hash(&mut hasher);
    hasher.finish()
}

impl Repeats {
    /// Notes the calls of one message; equal ones within it count once. A change of a file that was not made before is
    /// progress: what came earlier is forgotten.
    pub fn note(&mut self, calls: impl Iterator<Item = (u64, bool)>) -> Verdict {
        let mut seen = BTreeSet::new();
        let mut most = 0;
        for (print, changes) in calls {
            if !seen.insert(print) {
                continue;
            }
            if changes && !self.recent.contains(&print) {
                self.recent.clear();
            }
            self.recent.push_back(print);
            if self.recent.len() > WINDOW {
                self.recent.pop_front();
            }
            most = most.max(self.recent.iter().filter(|other| **other == print).count());
        }
        match most {
            n if n >= STUCK => Verdict::Stuck,
            NUDGE => Verdict::Nudge,
            _ => Verdict::Fine,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_is_told_and_the_sixth_is_the_end() {
        let mut repeats = Repeats::default();
        let verdicts: Vec<_> = (0..6).map(|_| repeats.note([(1, false), (1, false), (2, true)].into_iter())).collect();
        use Verdict::{Fine, Nudge, Stuck};
        // The first change of file 2 is progress and forgets the call before it.
        assert_eq!(verdicts, [Fine, Fine, Nudge, Fine, Fine, Stuck]);
    }

    #[test]
    fn progress_forgets() {
        let mut repeats = Repeats::default();
        for change in 10..30 {
            assert_eq!(repeats.note([(1, false)].into_iter()), Verdict::Fine);
            assert_eq!(repeats.note([(change, true)].into_iter()), Verdict::Fine);
        }
    }
}
