//! The machine: where it is, and what that wants. How it moves is in `step`.

use std::collections::BTreeSet;

use serde_json::Value;
use stockade_domain::{FailureCause, Nanos, Timestamp, Usage, ids::CallId};

use crate::{Config, Input, Line, Notice, Want, calls::Calls, conversation::Conversation, message, repeat::Repeats};

/// One run's agent. Two agents with the same configuration that were given the same lines are equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    pub(crate) config: Config,
    pub(crate) phase: Phase,
    pub(crate) conversation: Conversation,
    /// The calls of the model's last message, while they have no results in the conversation.
    pub(crate) calls: Calls,
    /// Every call identifier that a runner has chosen.
    pub(crate) call_ids: BTreeSet<CallId>,
    pub(crate) task: String,
    /// What must succeed at the end, as a program inside is told.
    pub(crate) gates: Vec<String>,
    pub(crate) clock: Clock,
    pub(crate) turn: u32,
    /// The next model request's, or the program's next start.
    pub(crate) attempt: u32,
    pub(crate) usage: Usage,
    pub(crate) cost: Nanos,
    /// Where limits are counted from: the beginning, or the last time a person wanted it tried again.
    pub(crate) since: Since,
    pub(crate) counts: Counts,
    pub(crate) repeats: Repeats,
    /// Whether a file was written since the beginning.
    pub(crate) changed: bool,
    /// Whether a command ran, which may have changed something.
    pub(crate) ran: bool,
    /// What a person said while the model was not to be asked.
    pub(crate) said: Vec<String>,
}

/// Where the agent is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    New,
    Model { not_before: Option<Timestamp> },
    Harness { prompt: String, not_before: Option<Timestamp> },
    Tools,
    Person { call: CallId, question: String },
    Gates { finish: Finish },
    Opening { finish: Finish },
    Finished { finish: Finish },
    Failed { cause: FailureCause, text: String, before: Box<Self> },
}

/// How the agent said that it is done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finish {
    pub title: String,
    pub summary: String,
    /// The call, unless it just stopped.
    pub call: Option<CallId>,
}

/// Time as the lines tell it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Clock {
    pub now: Timestamp,
    pub worked_ms: u64,
    pub paused: bool,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Since {
    pub turn: u32,
    pub worked_ms: u64,
    pub tokens: u64,
}

/// What happened in a row.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Counts {
    /// The model failed.
    pub failures: u32,
    /// The context was too long.
    pub overflows: u32,
    /// The model did nothing.
    pub idle: u32,
    /// The model's answer was cut off, or paused, without a call.
    pub cut_offs: u32,
    /// The gates failed; not in a row but in all.
    pub gates: u32,
}

/// A line that does not fit where the agent is. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It answers something that was not wanted.
    #[error("`{input}` was not expected while the agent {state}; do what `wants()` says and journal its answer")]
    Unexpected {
        /// The kind of input.
        input: &'static str,
        /// What the agent does.
        state: &'static str,
    },
    /// The identifiers for the calls are not as many as the calls, or one was used before.
    #[error("the message has {wanted} tool calls and needs as many fresh identifiers: {given} fresh ones were given")]
    Calls {
        /// Calls in the message.
        wanted: usize,
        /// Fresh identifiers that were given.
        given: usize,
    },
}

impl Agent {
    /// An agent that has been told nothing.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            phase: Phase::New,
            conversation: Conversation::default(),
            calls: Calls::default(),
            call_ids: BTreeSet::new(),
            task: String::new(),
            gates: vec![],
            clock: Clock::default(),
            turn: 0,
            attempt: 1,
            usage: Usage::default(),
            cost: Nanos::ZERO,
            since: Since::default(),
            counts: Counts::default(),
            repeats: Repeats::default(),
            changed: false,
            ran: false,
            said: vec![],
        }
    }

    /// Takes the next line. An answer to something that was wanted before the run failed or was stopped is no error: what it
    /// cost is counted. After an error nothing has changed.
    pub fn apply(&mut self, line: &Line) -> Result<Vec<Notice>, ApplyError> {
        self.accepts(&line.input)?;
        let mut notices = vec![];
        self.step(line, &mut notices);
        Ok(notices)
    }

    /// What shall be done now: one want, or nothing before it began.
    pub fn wants(&self) -> Vec<Want> {
        let want = match &self.phase {
            Phase::New => return vec![],
            Phase::Model { not_before } => Want::Model {
                turn: self.turn,
                attempt: self.attempt,
                body: self.conversation.request(&self.config),
                not_before: *not_before,
            },
            Phase::Harness { prompt, not_before } => {
                Want::Harness { attempt: self.attempt, prompt: prompt.clone(), not_before: *not_before }
            }
            Phase::Tools => Want::Tools { calls: self.calls.batch() },
            Phase::Person { question, .. } => Want::Person { question: question.clone() },
            Phase::Gates { .. } => Want::Gates { attempt: self.counts.gates.saturating_add(1) },
            Phase::Opening { finish } => Want::OpenChange { title: finish.title.clone(), body: finish.summary.clone() },
            Phase::Finished { finish } => {
                Want::Finished { title: finish.title.clone(), summary: finish.summary.clone() }
            }
            Phase::Failed { cause, text, .. } => Want::Failed { cause: *cause, text: text.clone() },
        };
        vec![want]
    }

    /// When `Input::Tick` should be given unless something else happens before. Nothing while time stands still.
    pub fn deadline(&self) -> Option<Timestamp> {
        let left = self.config.max_time_ms.saturating_sub(self.clock.worked_ms.saturating_sub(self.since.worked_ms));
        self.is_working().then(|| self.clock.now.plus_ms(left))
    }

    /// The turn, from 1; 0 before the first.
    pub const fn turn(&self) -> u32 {
        self.turn
    }

    /// What all model calls used and cost.
    pub const fn spent(&self) -> (Usage, Nanos) {
        (self.usage, self.cost)
    }

    /// Whether it is over.
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Finished { .. } | Phase::Failed { .. })
    }

    /// The conversation so far, as the `messages` of a request: for transcripts.
    pub fn conversation(&self) -> Value {
        Value::Array(self.conversation.messages())
    }

    /// How it is configured.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Whether time passes.
    pub(crate) const fn is_working(&self) -> bool {
        !self.clock.paused
            && matches!(
                self.phase,
                Phase::Model { .. }
                    | Phase::Harness { .. }
                    | Phase::Tools
                    | Phase::Gates { .. }
                    | Phase::Opening { .. }
            )
    }

    /// Whether an input fits where the agent is: `apply` fails if and only if this does. For a runner that wants to know before
    /// it writes the line into the journal.
    pub fn accepts(&self, input: &Input) -> Result<(), ApplyError> {
        let fits = match (input, &self.phase) {
            (Input::Began { .. }, phase) => matches!(phase, Phase::New),
            (Input::Retry {}, phase) => matches!(phase, Phase::Failed { .. }),
            (Input::Paused {} | Input::Resumed {} | Input::Tick {} | Input::Stop { .. }, _) => true,
            // The last of its calls may be told of after its end.
            (Input::Reply { .. } | Input::Called { .. }, phase) => !matches!(phase, Phase::New),
            (_, Phase::Finished { .. } | Phase::Failed { .. }) => true,
            (Input::Model { attempt, message, calls, .. }, Phase::Model { .. }) if *attempt == self.attempt => {
                return self.check_calls(message, calls);
            }
            (Input::ModelFailed { attempt, .. }, Phase::Model { .. }) => *attempt == self.attempt,
            (Input::HarnessEnded { attempt, .. }, Phase::Harness { .. }) => *attempt == self.attempt,
            (Input::Tool { call, .. }, Phase::Tools) => self.calls.is_wanted(*call),
            (Input::Gates { attempt, .. }, Phase::Gates { .. }) => *attempt == self.counts.gates.saturating_add(1),
            (Input::ChangeOpened {} | Input::ChangeDenied { .. } | Input::NoChange {}, Phase::Opening { .. }) => true,
            _ => false,
        };
        if fits { Ok(()) } else { Err(ApplyError::Unexpected { input: input.name(), state: self.phase.name() }) }
    }

    fn check_calls(&self, message: &Value, calls: &[CallId]) -> Result<(), ApplyError> {
        let wanted = message::tool_calls(message);
        let fresh: BTreeSet<_> = calls.iter().filter(|call| !self.call_ids.contains(call)).collect();
        if calls.len() == wanted && fresh.len() == wanted {
            Ok(())
        } else {
            Err(ApplyError::Calls { wanted, given: fresh.len() })
        }
    }
}

impl Phase {
    const fn name(&self) -> &'static str {
        match self {
            Self::New => "has not begun",
            Self::Model { .. } => "waits for the model",
            Self::Harness { .. } => "waits for the program inside",
            Self::Tools => "waits for tool calls",
            Self::Person { .. } => "waits for a person",
            Self::Gates { .. } => "waits for the gates",
            Self::Opening { .. } => "waits for its change to be opened",
            Self::Finished { .. } => "has finished",
            Self::Failed { .. } => "has failed",
        }
    }
}
