//! How the machine moves. Every line that comes here fits (`Agent::accepts`).

use serde_json::Value;
use stockade_domain::{FailureCause, Nanos, Timestamp, ToolOutcome, Usage, ids::CallId};

use crate::{
    Agent, Input, Line, ModelFailure, Notice, Tool,
    agent::{Finish, Phase, Since},
    calls::Calls,
    compact::{Pressure, compact},
    message,
    prompt::{first_message, text},
    repeat::Verdict,
    text::shorten,
    tool::one_line,
};

/// The model may fail so often in a row; then the run fails.
pub const MAX_MODEL_FAILURES: u32 = 8;
/// The first wait after a failure of the model, doubled with each further one.
const FIRST_BACKOFF_MS: u64 = 1_000;
/// The longest wait of our own choosing.
const MAX_BACKOFF_MS: u64 = 60_000;
/// The longest wait that a provider may ask for; one that asks for more is asked again earlier.
pub const MAX_RETRY_AFTER_MS: u64 = 600_000;
/// The context may be too long so often in a row.
const MAX_OVERFLOWS: u32 = 3;
/// Answers without a call may be cut off or paused so often in a row.
pub const MAX_CUT_OFFS: u32 = 5;
/// The longest reply of a person that is shown whole, in bytes.
const MAX_REPLY: usize = 64 * 1024;
/// At most so many replies wait for the model; a further one takes the place of the oldest.
const MAX_REPLIES: usize = 64;

const IDLE: &str = "You stopped without calling a tool. If the work is done, call `finish` with a summary; if it cannot be \
                    done, call `finish` with `done` false; otherwise go on.";
const CUT_OFF: &str =
    "Your answer was cut off at the limit of output tokens. Go on from there, in smaller pieces, with a tool call.";
const REPEATING: &str = "You have made the same call several times with the same result. Doing it again will not help: think \
                         about what you have learned, and try something else, or finish with `done` false.";

impl Agent {
    pub(crate) fn step(&mut self, line: &Line, notices: &mut Vec<Notice>) {
        self.advance(line);
        match &line.input {
            Input::Began { task, instructions, facts } => {
                self.task = task.clone();
                if self.config.harness.is_inside() {
                    return self.begin_harness(facts);
                }
                self.conversation.push_user(first_message(task, instructions.as_deref(), facts));
                self.ask_model(notices);
            }
            Input::Called { ok, usage, cost } => self.called(*ok, *usage, *cost, notices),
            Input::HarnessEnded { outcome, said, .. } => self.harness_ended(*outcome, said, notices),
            Input::Model { message, stop_reason, usage, cost, calls, .. } => {
                self.account(*usage, *cost);
                self.call_ids.extend(calls);
                if matches!(self.phase, Phase::Model { .. }) {
                    self.counts.failures = 0;
                    self.answered(message, stop_reason, *usage, calls, notices);
                }
            }
            Input::ModelFailed { failure, retry_after_ms, text, usage, cost, .. } => {
                self.account(*usage, *cost);
                if matches!(self.phase, Phase::Model { .. }) {
                    self.model_failed(*failure, *retry_after_ms, text, notices);
                }
            }
            Input::Tool { call, outcome, text } => self.tool(*call, *outcome, text, notices),
            Input::Gates { passed, text, .. } => self.gates(*passed, text, notices),
            Input::Reply { text } => self.reply(text, notices),
            Input::ChangeOpened {} => {
                if let Phase::Opening { finish } = &self.phase {
                    self.phase = Phase::Finished { finish: finish.clone() };
                }
            }
            Input::ChangeDenied { title } => {
                let title = shorten(title, 1000);
                self.unfinished(&format!("[denied] {title}\nThe change was not opened."));
                self.fail(FailureCause::Policy, format!("the change was refused: {title}"));
            }
            Input::NoChange {} => {
                self.unfinished(
                    "Nothing in the workspace differs from the commit it stands on: there is no change to open.",
                );
                self.fail(FailureCause::NoChange, "the agent finished without changing anything".to_owned());
            }
            Input::Paused {} => self.clock.paused = true,
            Input::Resumed {} => self.clock.paused = false,
            Input::Tick {} => self.check_time(),
            Input::Retry {} => self.retry(notices),
            Input::Stop { cause, text } => self.fail(*cause, text.clone()),
        }
    }

    /// Time passes, unless it stands still.
    fn advance(&mut self, line: &Line) {
        let counts = self.is_working() && !matches!(line.input, Input::Resumed {});
        if counts {
            self.clock.worked_ms = self.clock.worked_ms.saturating_add(line.at.ms_since(self.clock.now));
        }
        self.clock.now = self.clock.now.max(line.at);
    }

    fn account(&mut self, usage: Usage, cost: Nanos) {
        self.attempt = self.attempt.saturating_add(1);
        self.spend(usage, cost);
    }

    pub(crate) fn spend(&mut self, usage: Usage, cost: Nanos) {
        self.usage = self.usage.plus(usage);
        self.cost = self.cost.saturating_add(cost);
    }

    /// The first cause stands. What it was doing is kept, for a person who wants it tried again.
    pub(crate) fn fail(&mut self, cause: FailureCause, text: String) {
        if !self.is_over() {
            let before = Box::new(std::mem::replace(&mut self.phase, Phase::New));
            self.phase = Phase::Failed { cause, text: shorten(&text, 8 * 1024), before };
        }
    }

    pub(crate) fn check_time(&mut self) {
        let worked = self.clock.worked_ms.saturating_sub(self.since.worked_ms);
        if self.is_working() && worked >= self.config.max_time_ms {
            self.fail(FailureCause::Time, format!("the agent worked for {worked} ms, which is all it may"));
        }
    }

    /// Whether there is still room for a turn after the one of that number.
    pub(crate) fn check_limits(&mut self, turn: u32) {
        let turns = turn.saturating_sub(self.since.turn);
        let tokens = self.usage.total().saturating_sub(self.since.tokens);
        if turns >= self.config.max_turns {
            self.fail(FailureCause::Turns, format!("the agent took {turns} turns, which is all it may"));
        } else if tokens >= self.config.max_tokens {
            self.fail(
                FailureCause::Tokens,
                format!("the agent used {tokens} tokens; it may use {}", self.config.max_tokens),
            );
        } else if self.cost >= self.config.max_cost {
            let limit = self.config.max_cost;
            self.fail(FailureCause::Budget, format!("the agent spent {}; it may spend {limit}", self.cost));
        }
    }

    /// A turn begins: the model shall be asked, if the limits allow. The conversation ends with the user.
    fn ask_model(&mut self, notices: &mut Vec<Notice>) {
        let said = std::mem::take(&mut self.said);
        self.conversation.push_user(said.iter().map(|words| text(&format!("A person says:\n\n{words}"))).collect());
        self.phase = Phase::Model { not_before: None };
        self.check_time();
        self.check_limits(self.turn);
        if self.is_over() {
            return;
        }
        self.turn = self.turn.saturating_add(1);
        // The answer needs its room in the window too.
        let room = self.config.context_window.saturating_sub(u64::from(self.config.max_output_tokens));
        let bound = self.config.compact_at.min(room);
        if self.conversation.tokens(self.conversation.bytes()) > bound {
            // Well below the bound, so that the next turns find the provider's cache as it was left.
            let scale = self.conversation.tokens(1_000_000).max(1);
            let target = u128::from(bound) * 600_000 / u128::from(scale);
            self.compact(Pressure::Target(u64::try_from(target).unwrap_or(u64::MAX)), notices);
        }
        notices.push(Notice::Turn { turn: self.turn });
    }

    /// Whether anything became shorter.
    fn compact(&mut self, pressure: Pressure, notices: &mut Vec<Notice>) -> bool {
        let before_tokens = self.conversation.tokens(self.conversation.bytes());
        let shorter = compact(&mut self.conversation, pressure);
        if shorter {
            let after_tokens = self.conversation.tokens(self.conversation.bytes());
            notices.push(Notice::Compacted { before_tokens, after_tokens });
        }
        shorter
    }

    fn answered(&mut self, message: &Value, reason: &str, usage: Usage, ids: &[CallId], notices: &mut Vec<Notice>) {
        if reason == "model_context_window_exceeded" {
            return self.overflow("the conversation fills the model's context", notices);
        }
        let prompt = usage.total().saturating_sub(usage.output_tokens);
        self.conversation.measure(prompt);
        self.counts.overflows = 0;
        let said = message::read(message, self.conversation.ids(), self.attempt);
        if said.mended {
            notices.push(Notice::Mended);
        }
        let words = words(&said.blocks);
        if reason == "refusal" {
            return self.fail(FailureCause::GaveUp, format!("the model refused to go on: {}", shorten(&words, 2000)));
        }
        let silent = said.blocks.is_empty();
        self.conversation.push_assistant(said.blocks);
        if !said.calls.is_empty() {
            self.counts.idle = 0;
            self.counts.cut_offs = 0;
            let cut_off = reason == "max_tokens" && said.ends_in_call;
            if cut_off {
                notices.push(Notice::CutOff);
            }
            let (calls, bad) = Calls::read(said.calls, ids, self.config.run_timeout_ms, cut_off);
            notices.extend(bad.into_iter().map(|call| Notice::BadCall { call }));
            self.calls = calls;
            return self.proceed(notices);
        }
        match reason {
            "max_tokens" | "pause_turn" => self.cut_off(reason, notices),
            _ => self.idle(words, silent, notices),
        }
    }

    fn cut_off(&mut self, reason: &str, notices: &mut Vec<Notice>) {
        self.counts.cut_offs = self.counts.cut_offs.saturating_add(1);
        if reason == "max_tokens" {
            notices.push(Notice::CutOff);
        }
        self.conversation.push_user(vec![text(if reason == "max_tokens" { CUT_OFF } else { "Go on." })]);
        if self.counts.cut_offs > MAX_CUT_OFFS {
            let text = format!("the model's answer was incomplete ({reason}) {} times in a row", self.counts.cut_offs);
            return self.fail(FailureCause::Model, text);
        }
        self.ask_model(notices);
    }

    /// The model stopped by itself without a call.
    fn idle(&mut self, words: String, silent: bool, notices: &mut Vec<Notice>) {
        let nudged = self.counts.idle > 0;
        if (self.changed && !silent) || (nudged && (self.changed || self.ran)) {
            self.counts.idle = 0;
            let title = self.title(None, &words);
            self.phase = Phase::Gates { finish: Finish { title, summary: words, call: None } };
            return;
        }
        self.counts.idle = self.counts.idle.saturating_add(1);
        self.conversation.push_user(vec![text(IDLE)]);
        if nudged {
            return self.fail(
                FailureCause::NoChange,
                "the agent stopped without calling `finish` and without changing anything".to_owned(),
            );
        }
        notices.push(Notice::Idle);
        self.ask_model(notices);
    }

    fn model_failed(
        &mut self,
        failure: ModelFailure,
        retry_after_ms: Option<u64>,
        text: &str,
        notices: &mut Vec<Notice>,
    ) {
        if failure == ModelFailure::TooLong {
            return self.overflow(text, notices);
        }
        self.counts.failures = self.counts.failures.saturating_add(1);
        if !failure.passes() {
            return self.fail(failure.cause(), text.to_owned());
        }
        if self.counts.failures > MAX_MODEL_FAILURES {
            return self.fail(
                FailureCause::Model,
                format!("the model failed {} times in a row, at last with: {text}", self.counts.failures),
            );
        }
        let wait =
            backoff_ms(self.counts.failures, self.clock.now).max(retry_after_ms.unwrap_or(0).min(MAX_RETRY_AFTER_MS));
        self.phase = Phase::Model { not_before: Some(self.clock.now.plus_ms(wait)) };
        notices.push(Notice::ModelRetry { failures: self.counts.failures });
    }

    fn overflow(&mut self, why: &str, notices: &mut Vec<Notice>) {
        self.counts.overflows = self.counts.overflows.saturating_add(1);
        if self.counts.overflows > MAX_OVERFLOWS || !self.compact(Pressure::Hard, notices) {
            return self.fail(
                FailureCause::Tokens,
                format!("the context is full and cannot be made shorter: {}", shorten(why, 2000)),
            );
        }
        self.phase = Phase::Model { not_before: None };
    }

    /// Goes on with the calls of the last message, or with what follows them.
    fn proceed(&mut self, notices: &mut Vec<Notice>) {
        while let [only] = self.calls.batch().as_slice()
            && matches!(only.tool, Tool::Finish { .. })
            && self.calls.any_failed()
        {
            self.calls.tell(only.call, "not finished: another call of the same message failed; see its result", true);
        }
        self.phase = Phase::Tools;
        if self.calls.batch().is_empty() {
            self.give_results(vec![], notices);
        }
    }

    /// All calls have their results: they go into the conversation, and the model is asked.
    fn give_results(&mut self, mut more: Vec<Value>, notices: &mut Vec<Notice>) {
        let verdict = self.repeats.note(self.calls.prints());
        if verdict == Verdict::Nudge {
            notices.push(Notice::Repeating);
        }
        if verdict != Verdict::Fine {
            more.insert(0, text(REPEATING));
        }
        self.push_results(more);
        if verdict == Verdict::Stuck {
            self.repeats.clear();
            self.phase = Phase::Model { not_before: None };
            self.fail(
                FailureCause::GaveUp,
                "stuck: the agent made the same call again and again with the same result".to_owned(),
            );
        } else {
            self.ask_model(notices);
        }
    }

    fn push_results(&mut self, more: Vec<Value>) {
        let mut blocks = std::mem::take(&mut self.calls).results();
        blocks.extend(more);
        self.conversation.push_user(blocks);
    }

    fn tool(&mut self, call: CallId, outcome: ToolOutcome, text: &str, notices: &mut Vec<Notice>) {
        let Some(tool) = self.calls.open(call).cloned() else { return };
        if outcome == ToolOutcome::Ok {
            self.changed |= matches!(tool, Tool::Write { .. } | Tool::Edit { .. });
            self.ran |= matches!(tool, Tool::Run { .. });
        }
        let over = self.is_over();
        match tool {
            // Answered late, these two are asked again if a person wants the run tried again.
            Tool::Finish { .. } | Tool::Ask { .. } if outcome == ToolOutcome::Ok && over => return,
            Tool::Ask { question } if outcome == ToolOutcome::Ok => {
                self.phase = Phase::Person { call, question };
                return;
            }
            Tool::Finish { title, summary, done: true } if outcome == ToolOutcome::Ok => {
                let title = self.title(title, &summary);
                self.phase = Phase::Gates { finish: Finish { title, summary, call: Some(call) } };
                return;
            }
            Tool::Finish { summary, .. } if outcome == ToolOutcome::Ok => {
                self.calls.tell(call, "You said that it cannot be done. A person wants it tried again.", false);
                self.push_results(vec![]);
                self.phase = Phase::Model { not_before: None };
                return self.fail(FailureCause::GaveUp, summary);
            }
            _ => self.calls.answer(call, outcome, text),
        }
        if !over {
            self.proceed(notices);
        }
    }

    fn gates(&mut self, passed: bool, text: &str, notices: &mut Vec<Notice>) {
        let Phase::Gates { finish } = &self.phase else { return };
        if passed {
            self.phase = Phase::Opening { finish: finish.clone() };
            return;
        }
        self.counts.gates = self.counts.gates.saturating_add(1);
        let (attempt, of) = (self.counts.gates, self.config.gate_attempts.max(1));
        let then = if self.config.harness.is_inside() { "" } else { " and call `finish` again" };
        let told = format!(
            "[gates] The project's checks did not pass (attempt {attempt} of {of}). Mend the cause{then}.\n{text}"
        );
        let last = attempt >= of;
        self.unfinished(&told);
        if last {
            self.fail(FailureCause::Gates, format!("the gates did not pass in {attempt} attempts"));
        } else if self.config.harness.is_inside() {
            self.want_harness();
        } else {
            self.ask_model(notices);
        }
    }

    /// What was finished is not: the model is told, as the result of its call if there was one. The conversation then ends with
    /// the user.
    fn unfinished(&mut self, told: &str) {
        let (Phase::Gates { finish } | Phase::Opening { finish }) = &self.phase else { return };
        if self.config.harness.is_inside() {
            self.phase = Phase::Harness { prompt: self.prompt(told), not_before: None };
            return;
        }
        match finish.call {
            Some(call) => {
                self.calls.tell(call, told, true);
                self.push_results(vec![]);
            }
            None => self.conversation.push_user(vec![text(&shorten(told, crate::calls::MAX_RESULT))]),
        }
        self.phase = Phase::Model { not_before: None };
    }

    fn reply(&mut self, words: &str, notices: &mut Vec<Notice>) {
        let words = words.trim();
        let words = if words.is_empty() { "(nothing)".to_owned() } else { shorten(words, MAX_REPLY) };
        if let Phase::Person { call, .. } = self.phase {
            self.calls.tell(call, &format!("The person answers:\n\n{words}"), false);
            return self.proceed(notices);
        }
        if self.said.len() >= MAX_REPLIES {
            self.said.remove(0);
        }
        self.said.push(words);
    }

    fn retry(&mut self, notices: &mut Vec<Notice>) {
        let Phase::Failed { before, .. } = std::mem::replace(&mut self.phase, Phase::New) else { return };
        self.phase = *before;
        self.counts = Default::default();
        self.repeats.clear();
        self.clock.paused = false;
        self.since = Since { turn: self.turn, worked_ms: self.clock.worked_ms, tokens: self.usage.total() };
        match self.phase {
            Phase::Model { .. } => self.ask_model(notices),
            Phase::Harness { .. } => self.want_harness(),
            Phase::Tools => self.proceed(notices),
            _ => {}
        }
    }

    pub(crate) fn title(&self, title: Option<String>, summary: &str) -> String {
        title
            .or_else(|| one_line(summary))
            .or_else(|| one_line(&self.task))
            .unwrap_or_else(|| "Work of an agent".to_owned())
    }
}

/// Twice as long each time, up to a bound, and up to a quarter longer by chance, so that many runs do not come back at the same
/// moment. The chance is the microseconds of the line's time: it is in the journal.
pub(crate) fn backoff_ms(failures: u32, now: Timestamp) -> u64 {
    let doubled = FIRST_BACKOFF_MS.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(MAX_BACKOFF_MS);
    let wait = doubled.min(MAX_BACKOFF_MS);
    wait + now.0.unsigned_abs() % (wait / 4)
}

/// The texts of a message, joined.
fn words(blocks: &[Value]) -> String {
    let texts: Vec<_> = blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str)).collect();
    shorten(texts.join("\n\n").trim(), crate::tool::MAX_WORDS)
}
