//! The programs that were started inside, gathered from what the guest noted until they are told.
//!
//! It owns how many kinds of programs fit into one telling, and that nothing is told twice: what was gathered rests sealed beside the run,
//! together with the number up to which the guest was heard, and the telling has a number of its own. It refuses to believe the guest more than
//! that: numbers only grow, paths are cut. *Invariant:* each start that the guest told of is in exactly one telling, or counted there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stockade_api::{
    guest::Execution,
    site::{StartedProgram, StartedPrograms},
};
use stockade_domain::{ContentRef, EventKind, Timestamp, ids::EnvironmentId};

/// So many different programs are in one telling; starts of yet others are counted.
pub const MAX_PROGRAMS: usize = 500;
/// So many calls are named with a program.
pub const MAX_CALLS: usize = 8;
/// So many different arguments are named with a program.
pub const MAX_EXAMPLES: usize = 4;
/// So many arguments are in one example.
const MAX_ARGUMENTS: usize = 16;
/// So much of them together is kept, in characters.
const MAX_ARGUMENT_CHARS: usize = 256;
/// So much of a path is kept, in characters.
const MAX_PATH: usize = 512;
/// So much of the name that a start of a guest gives itself, in characters.
const MAX_BOOT: usize = 64;

/// What was gathered and not told, as it rests on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// Where.
    pub environment: EnvironmentId,
    /// The number that its telling will have.
    pub batch: u64,
    /// When the first of it came.
    pub began: Option<Timestamp>,
    boot: String,
    after: u64,
    dropped: u64,
    /// Whether that guest was heard to its end.
    heard_out: bool,
    starts: u64,
    left_out: u64,
    lost: u64,
    incomplete: bool,
    programs: BTreeMap<String, StartedProgram>,
}

impl Programs {
    /// Nothing is gathered; so many tellings there were before.
    pub fn new(environment: EnvironmentId, told: u64) -> Self {
        Self {
            environment,
            batch: told.saturating_add(1),
            began: None,
            boot: String::new(),
            after: 0,
            dropped: 0,
            heard_out: true,
            starts: 0,
            left_out: 0,
            lost: 0,
            incomplete: false,
            programs: BTreeMap::new(),
        }
    }

    /// As it was found on the disk, where tellings up to `told` are in the run: what they held is not told again.
    #[must_use]
    pub fn found(mut self, told: u64) -> Self {
        if self.batch <= told {
            self.told();
            self.batch = told.saturating_add(1);
        }
        self
    }

    /// The number up to which this start of a guest was heard.
    pub fn after(&self, boot: &str) -> u64 {
        if self.boot == cut(boot, MAX_BOOT) { self.after } else { 0 }
    }

    /// Takes what a guest told. True if anything of it is new.
    pub fn take(&mut self, now: Timestamp, boot: &str, executions: &[Execution], dropped: u64) -> bool {
        let before = (self.after, self.dropped, self.incomplete);
        let boot = cut(boot, MAX_BOOT);
        let anew = self.boot != boot;
        if anew {
            // What the guest before it had noted last is gone with it.
            self.incomplete |= !self.heard_out;
            (self.boot, self.after, self.dropped) = (boot, 0, 0);
        }
        self.heard_out = false;
        for one in executions {
            if one.number <= self.after {
                continue;
            }
            self.after = one.number;
            self.add(now, one);
        }
        self.lost = self.lost.saturating_add(dropped.saturating_sub(self.dropped));
        self.dropped = self.dropped.max(dropped);
        let news = anew || before != (self.after, self.dropped, self.incomplete);
        if news && self.began.is_none() && self.is_news() {
            self.began = Some(now);
        }
        news
    }

    fn add(&mut self, now: Timestamp, one: &Execution) {
        self.starts = self.starts.saturating_add(1);
        let path = cut(&one.path, MAX_PATH);
        if self.programs.len() >= MAX_PROGRAMS && !self.programs.contains_key(&path) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let age_us = i64::try_from(one.age_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let at = Timestamp(now.0.saturating_sub(age_us).max(0));
        let (arguments, calls) = (Vec::new(), Vec::new());
        let empty = StartedProgram { path: path.clone(), starts: 0, first_at: at, last_at: at, arguments, calls };
        let known = self.programs.entry(path).or_insert(empty);
        known.starts = known.starts.saturating_add(1);
        known.first_at = known.first_at.min(at);
        known.last_at = known.last_at.max(at);
        if let Some(call) = one.call
            && known.calls.len() < MAX_CALLS
            && !known.calls.contains(&call)
        {
            known.calls.push(call);
        }
        if known.arguments.len() < MAX_EXAMPLES {
            let mut room = MAX_ARGUMENT_CHARS;
            let mut fits = |text: &String| {
                let text = cut(text, room);
                room = room.saturating_sub(text.chars().count());
                text
            };
            let given: Vec<String> = one.arguments.iter().take(MAX_ARGUMENTS).map(&mut fits).collect();
            if !known.arguments.contains(&given) {
                known.arguments.push(given);
            }
        }
    }

    /// The guest is about to be ended, and was heard to its end.
    pub const fn heard_out(&mut self) {
        self.heard_out = true;
    }

    /// Whether there is anything to tell.
    pub const fn is_news(&self) -> bool {
        self.starts > 0 || self.lost > 0 || self.incomplete
    }

    /// What is to be sealed of it.
    pub fn content(&self) -> StartedPrograms {
        StartedPrograms { programs: self.programs.values().cloned().collect() }
    }

    /// What is told of it in plain text.
    pub fn event(&self, content: ContentRef) -> EventKind {
        EventKind::Executions {
            environment: self.environment,
            batch: self.batch,
            starts: self.starts,
            programs: self.programs.len() as u64,
            left_out: self.left_out,
            lost: self.lost,
            incomplete: self.incomplete,
            content,
        }
    }

    /// It is in the run now: the next telling begins.
    pub fn told(&mut self) {
        self.batch = self.batch.saturating_add(1);
        self.began = None;
        (self.starts, self.left_out, self.lost, self.incomplete) = (0, 0, 0, false);
        self.programs.clear();
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stockade_domain::{Id, ids::CallId};

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn one(number: u64, path: &str) -> Execution {
        Execution {
            number,
            age_ms: number,
            call: Some(CallId::from_bytes([1; 16])),
            pid: 2,
            path: path.to_owned(),
            arguments: vec![path.to_uppercase()],
        }
    }

    fn fresh() -> Programs {
        Programs::new(Id::from_bytes([7; 16]), 0)
    }

    #[test]
    fn starts_are_counted_by_program_and_each_once() {
        let mut programs = fresh();
        assert!(programs.take(NOW, "a", &[one(1, "/bin/sh"), one(2, "/bin/ls"), one(3, "/bin/sh")], 0));
        // A repeated answer brings nothing new.
        assert!(!programs.take(NOW, "a", &[one(2, "/bin/ls"), one(3, "/bin/sh")], 0));
        assert_eq!((programs.starts, programs.after("a"), programs.after("b")), (3, 3, 0));
        let content = programs.content();
        let seen: Vec<_> = content.programs.iter().map(|p| (p.path.as_str(), p.starts)).collect();
        assert_eq!(seen, [("/bin/ls", 1), ("/bin/sh", 2)]);
        let sh = &content.programs[1];
        assert_eq!(sh.arguments, [["/BIN/SH"]], "the same ones once");
        assert_eq!((NOW.ms_since(sh.first_at), NOW.ms_since(sh.last_at), sh.calls.len()), (3, 1, 1));
    }

    #[test]
    fn what_does_not_fit_and_what_was_lost_is_counted_and_said() {
        let mut programs = fresh();
        let many: Vec<_> = (1..=600).map(|n| one(n, &format!("/tmp/{n}"))).collect();
        programs.take(NOW, "a", &many, 40);
        programs.take(NOW, "a", &[], 45);
        assert_eq!((programs.starts, programs.content().programs.len()), (600, MAX_PROGRAMS));
        assert_eq!((programs.left_out, programs.lost, programs.incomplete), (100, 45, false));
        // A guest that ends without being heard out may have noted more; one that was heard out has not.
        programs.take(NOW, "b", &[], 0);
        assert!(programs.incomplete);
        programs.told();
        assert!(!programs.is_news());
        programs.heard_out();
        programs.take(NOW, "c", &[], 0);
        assert!(!programs.incomplete && !programs.is_news());
    }

    #[test]
    fn what_was_told_before_a_crash_is_not_told_again_and_what_was_not_is() {
        let mut programs = fresh();
        programs.take(NOW, "a", &[one(1, "/bin/sh")], 0);
        let bytes = serde_json::to_vec(&programs).unwrap();
        let read = || serde_json::from_slice::<Programs>(&bytes).unwrap();
        // The telling was not written: all of it is still there, and the guest is asked for what comes after.
        let again = read().found(0);
        assert_eq!((again.starts, again.batch, again.after("a")), (1, 1, 1));
        // It was written, and the crash came before that was noted here.
        let again = read().found(1);
        assert_eq!((again.starts, again.batch, again.after("a")), (0, 2, 1));
    }

    proptest! {
        #[test]
        fn no_guest_makes_it_panic_or_grow_without_bound(
            told in prop::collection::vec(
                (".{0,20}", any::<u64>(), prop::collection::vec((any::<u64>(), any::<u64>(), ".{0,700}"), 0..40)),
                0..20
            )
        ) {
            let mut programs = fresh();
            let mut before = 0;
            for (boot, dropped, executions) in told {
                let executions: Vec<_> = executions
                    .into_iter()
                    .map(|(number, age_ms, path)| Execution { number, age_ms, call: None, pid: -1, arguments: vec![path.clone(); 40], path })
                    .collect();
                programs.take(NOW, &boot, &executions, dropped);
                prop_assert!(programs.programs.len() <= MAX_PROGRAMS);
                prop_assert!(programs.starts >= before);
                before = programs.starts;
                let in_programs: u64 = programs.programs.values().map(|p| p.starts).sum();
                prop_assert_eq!(in_programs + programs.left_out, programs.starts);
                let long = |given: &Vec<String>| given.iter().map(|text| text.chars().count()).sum::<usize>() > 256;
                prop_assert!(!programs.programs.values().any(|p| p.arguments.len() > 4 || p.arguments.iter().any(long)));
            }
        }
    }
}
