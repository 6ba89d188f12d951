//! The machine where a program inside does the work: what it is told, what its end means, and when it is started again.
//!
//! *Invariant:* every start has a number of its own, and after each end there is either something else to do or a new number.

use stockade_domain::{FailureCause, Nanos, Usage};

use crate::{
    Agent, Facts, HarnessEnd, Notice,
    agent::{Finish, Phase},
    prompt::MAX_TASK,
    step::backoff_ms,
    text::{capped, shorten},
    tool::MAX_WORDS,
};

/// The program may fail so often in a row; then the run fails.
pub const MAX_HARNESS_FAILURES: u32 = 3;
/// The longest word about the last attempt that the program is given, in bytes.
const MAX_TOLD: usize = 48 * 1024;
/// The most gates that are named.
const MAX_GATES: usize = 32;
/// The longest gate that is named whole, in bytes.
const MAX_GATE: usize = 1024;

const FRAME: &str = "You work unattended in a disposable environment, in the repository at /workspace. Leave your work there as \
                     changed files: do not commit, push or open anything, that is done for you when you stop.";
const AGAIN: &str =
    "You have been at this before. What you did stands in the workspace: look at it, and go on from there.";
const INTERRUPTED: &str = "[interrupted] Your last attempt was cut off before its end.";

impl Agent {
    /// The program shall begin.
    pub(crate) fn begin_harness(&mut self, facts: &Facts) {
        self.gates = facts.gates.iter().take(MAX_GATES).map(|gate| shorten(gate, MAX_GATE)).collect();
        self.phase = Phase::Harness { prompt: self.prompt(""), not_before: None };
        self.want_harness();
    }

    /// What the program is told. It reads the repository's own instructions for itself.
    pub(crate) fn prompt(&self, told: &str) -> String {
        let task = self.task.trim();
        let task = if task.is_empty() { "(The person left the task empty.)" } else { task };
        let mut prompt = shorten(task, MAX_TASK);
        prompt.push_str("\n\n");
        prompt.push_str(FRAME);
        if !self.gates.is_empty() {
            prompt.push_str(" When you stop, these commands must succeed there:");
            for gate in &self.gates {
                prompt.push_str("\n- ");
                prompt.push_str(gate);
            }
        }
        if !told.is_empty() {
            prompt.push_str("\n\n");
            prompt.push_str(AGAIN);
            prompt.push_str("\n\n");
            prompt.push_str(&shorten(told, MAX_TOLD));
        }
        prompt
    }

    /// The program is wanted, with what people have said meanwhile, if the limits allow.
    pub(crate) fn want_harness(&mut self) {
        let said = std::mem::take(&mut self.said);
        if let Phase::Harness { prompt, not_before } = &mut self.phase {
            *not_before = None;
            for words in said {
                prompt.push_str("\n\nA person says:\n\n");
                prompt.push_str(&words);
            }
        }
        self.check_time();
        self.check_limits(self.turn);
    }

    /// A model was called by the program.
    pub(crate) fn called(&mut self, ok: bool, usage: Usage, cost: Nanos, notices: &mut Vec<Notice>) {
        self.spend(usage, cost);
        if !ok {
            return;
        }
        self.turn = self.turn.saturating_add(1);
        notices.push(Notice::Turn { turn: self.turn });
        if matches!(self.phase, Phase::Harness { .. }) {
            self.check_time();
            // The last answer that it may have is still acted on: one more is too many.
            self.check_limits(self.turn.saturating_sub(1));
        }
    }

    /// The program came to its end.
    pub(crate) fn harness_ended(&mut self, outcome: HarnessEnd, said: &str, notices: &mut Vec<Notice>) {
        self.attempt = self.attempt.saturating_add(1);
        if !matches!(self.phase, Phase::Harness { .. }) {
            return;
        }
        let words = shorten(said.trim(), MAX_WORDS);
        let text = capped(&words, 2000);
        match outcome {
            HarnessEnd::Done => {
                self.counts.failures = 0;
                let title = self.title(None, &words);
                self.phase = Phase::Gates { finish: Finish { title, summary: words, call: None } };
            }
            HarnessEnd::Failed => self.start_again(&format!("[failed] Your last attempt ended early: {text}"), notices),
            HarnessEnd::Interrupted => self.start_again(INTERRUPTED, notices),
            HarnessEnd::TimedOut => self.fail(FailureCause::Time, "the agent used all its time".to_owned()),
            HarnessEnd::Missing => self.fail(FailureCause::Environment, text),
            HarnessEnd::Denied | HarnessEnd::Refused => self.fail(FailureCause::Policy, text),
            HarnessEnd::Budget => self.fail(FailureCause::Budget, text),
        }
    }

    fn start_again(&mut self, told: &str, notices: &mut Vec<Notice>) {
        self.counts.failures = self.counts.failures.saturating_add(1);
        let failures = self.counts.failures;
        self.phase = Phase::Harness { prompt: self.prompt(told), not_before: None };
        if failures >= MAX_HARNESS_FAILURES {
            return self
                .fail(FailureCause::GaveUp, format!("the agent failed {failures} times in a row, at last: {told}"));
        }
        self.want_harness();
        if let Phase::Harness { not_before, .. } = &mut self.phase {
            *not_before = Some(self.clock.now.plus_ms(backoff_ms(failures, self.clock.now)));
            notices.push(Notice::HarnessRetry { failures });
        }
    }
}
