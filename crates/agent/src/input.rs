//! What the machine is told. Owns the journal's line; the runner writes it, durably, before it applies it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stockade_domain::{FailureCause, Nanos, Timestamp, ToolOutcome, Usage, ids::CallId};

/// One line of a run's journal. As JSON it reads back as it was, but for fractions in a model's message, whose last binary digit a
/// JSON reader may round: nothing that is decided depends on one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, by the runner's clock. An earlier time than that of the line before counts as the same time.
    pub at: Timestamp,
    /// What.
    pub input: Input,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Input {
    /// The workspace is ready. The first line.
    Began {
        /// What the person asked for.
        task: String,
        /// The text of the repository's `AGENTS.md`. Untrusted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instructions: Option<String>,
        /// What else is known.
        #[serde(default)]
        facts: Facts,
    },
    /// The model answered.
    Model {
        /// That of the [`Want::Model`](crate::Want::Model).
        attempt: u32,
        /// The whole message, as the provider gave it. Untrusted.
        message: Value,
        /// The provider's word.
        stop_reason: String,
        /// What it used.
        usage: Usage,
        /// What it cost.
        cost: Nanos,
        /// A fresh identifier for each call in the message: as many as [`tool_calls`](crate::tool_calls) counts.
        calls: Vec<CallId>,
    },
    /// The model gave no answer.
    ModelFailed {
        /// That of the [`Want::Model`](crate::Want::Model).
        attempt: u32,
        /// Why.
        failure: ModelFailure,
        /// How long the provider wants to be left alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// For people: the provider's message, or the policy's title.
        text: String,
        /// What was used all the same.
        #[serde(default)]
        usage: Usage,
        /// What it cost all the same.
        #[serde(default)]
        cost: Nanos,
    },
    /// A tool call ended.
    Tool {
        /// Which.
        call: CallId,
        /// How. A command that ran is `Ok`, whatever its exit status.
        outcome: ToolOutcome,
        /// What the model is given; for a denied one the policy's title; empty for `finish` and `ask`.
        text: String,
    },
    /// A model answered the program inside, or failed to. Told while it runs; what it used is counted against the limits.
    Called {
        /// Whether it was an answer.
        ok: bool,
        /// What it used.
        usage: Usage,
        /// What it cost.
        cost: Nanos,
    },
    /// The program inside came to its end.
    HarnessEnded {
        /// That of the [`Want::Harness`](crate::Want::Harness).
        attempt: u32,
        /// How.
        outcome: HarnessEnd,
        /// What it said last, or what went wrong. Untrusted.
        said: String,
    },
    /// All gates ran, or those up to the first failure.
    Gates {
        /// That of the [`Want::Gates`](crate::Want::Gates).
        attempt: u32,
        /// Whether all passed.
        passed: bool,
        /// What the model is given if not: which gate, its exit status, its output.
        text: String,
    },
    /// A person answered, or says something unasked.
    Reply {
        /// What.
        text: String,
    },
    /// The change is in the repository.
    ChangeOpened {},
    /// Policy or a person said no to the change.
    ChangeDenied {
        /// The policy's title.
        title: String,
    },
    /// There was nothing to open: the workspace is as it was.
    NoChange {},
    /// From now on the run waits for a person (an approval): time stands still.
    Paused {},
    /// The run goes on, after waiting or in a new process: the time since the line before is not counted.
    Resumed {},
    /// Nothing but the time has changed: given when [`Agent::deadline`](crate::Agent::deadline) has come.
    Tick {},
    /// A person wants a failed run tried again: failures are forgotten, turns, time and tokens counted anew.
    Retry {},
    /// Something outside ends the run.
    Stop {
        /// Why.
        cause: FailureCause,
        /// For people.
        text: String,
    },
}

impl Input {
    /// The word for its kind, as in the journal.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Began { .. } => "began",
            Self::Model { .. } => "model",
            Self::ModelFailed { .. } => "model_failed",
            Self::Tool { .. } => "tool",
            Self::Called { .. } => "called",
            Self::HarnessEnded { .. } => "harness_ended",
            Self::Gates { .. } => "gates",
            Self::Reply { .. } => "reply",
            Self::ChangeOpened {} => "change_opened",
            Self::ChangeDenied { .. } => "change_denied",
            Self::NoChange {} => "no_change",
            Self::Paused {} => "paused",
            Self::Resumed {} => "resumed",
            Self::Tick {} => "tick",
            Self::Retry {} => "retry",
            Self::Stop { .. } => "stop",
        }
    }
}

/// How the program inside came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HarnessEnd {
    /// It says that it is done. The gates see whether that is so.
    Done,
    /// It gave up, or failed. Tried again.
    Failed,
    /// It was cut off: it died with the guest, or somebody killed it. Tried again.
    Interrupted,
    /// It used all its time.
    TimedOut,
    /// It could not be started: it is not there. Final.
    Missing,
    /// Policy or a person said no to starting it. Final.
    Denied,
    /// Policy said no to the model, without which it cannot work. Final.
    Refused,
    /// There is no more money for the model. Final.
    Budget,
}

/// What is known about the work before it begins. Shown to the model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The project's name.
    #[serde(default)]
    pub project: String,
    /// The branch the work stands on.
    #[serde(default)]
    pub branch: String,
    /// The commit it stands on.
    #[serde(default)]
    pub commit: String,
    /// The commands that must succeed before a change is opened.
    #[serde(default)]
    pub gates: Vec<String>,
}

/// Why a model gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelFailure {
    /// Too many requests. Tried again.
    RateLimited,
    /// The provider is overloaded or has a defect. Tried again.
    Overloaded,
    /// It could not be reached, or the connection broke. Tried again.
    Network,
    /// Something of ours was not there for a moment (purse, ledger), or a crash cut the call off. Tried again.
    Unavailable,
    /// What came back was no message. Tried again.
    Nonsense,
    /// The request was longer than the model takes. Tried again with a shorter context.
    TooLong,
    /// The money is spent. Final.
    Budget,
    /// Policy or a person said no. Final.
    Policy,
    /// Reality departed from the cassette. Final.
    Rehearsal,
    /// The provider rejects the request or the credential. Final.
    Rejected,
}

impl ModelFailure {
    /// Whether the same request may succeed later.
    pub const fn passes(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded | Self::Network | Self::Unavailable | Self::Nonsense)
    }

    /// What the run fails of, if it does.
    pub const fn cause(self) -> FailureCause {
        match self {
            Self::Budget => FailureCause::Budget,
            Self::Policy => FailureCause::Policy,
            Self::Rehearsal => FailureCause::Rehearsal,
            Self::TooLong => FailureCause::Tokens,
            _ => FailureCause::Model,
        }
    }
}
