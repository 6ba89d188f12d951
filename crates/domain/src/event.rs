//! The numbered lines of a run, as they leave the site: mechanism in plain text, everything else by
//! reference to sealed content. *Invariant:* no field here carries what a person, a model, a tool or a
//! repository said.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    Answer, ContentRef, EnvironmentUsage, Nanos, RunTransition, Timestamp, UnknownWord, Usage,
    deed::words,
    ids::{ApprovalId, CallId, EnvironmentId, ModelCallId, RecordId, RunId},
    lifecycle::Observed,
};

/// One line of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEvent {
    /// Which run.
    pub run: RunId,
    /// Its number in the run, from 1 without gaps.
    pub seq: u64,
    /// When, by the runner's clock.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The run went into another state.
    State {
        /// How.
        #[serde(flatten)]
        transition: RunTransition,
    },
    /// The environment was seen.
    Environment {
        /// Which.
        environment: EnvironmentId,
        /// As what.
        observed: Observed,
        /// For which generation.
        generation: u64,
        /// How long it took to come there, where that was measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration_ms: Option<u64>,
        /// Its class, told when it is being made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<String>,
    },
    /// What an environment has used since it was made. The last one says all.
    EnvironmentUsage {
        /// Which.
        environment: EnvironmentId,
        /// What.
        #[serde(flatten)]
        usage: EnvironmentUsage,
        /// What that costs by its class.
        cost: Nanos,
    },
    /// Programs that were started inside since the last such line.
    Executions {
        /// Where.
        environment: EnvironmentId,
        /// Counts such lines of the environment, from 1.
        batch: u64,
        /// How many starts there were.
        starts: u64,
        /// Of how many different programs. They are in the content.
        programs: u64,
        /// Starts of yet other programs, for which a line has no room.
        left_out: u64,
        /// Starts that nobody could note.
        lost: u64,
        /// Whether a guest ended before all of its notes could be fetched: then there may have been more.
        incomplete: bool,
        /// The programs, sealed.
        content: ContentRef,
    },
    /// The agent begins a turn.
    Turn {
        /// Its number, from 1.
        turn: u32,
    },
    /// A model call ended.
    ModelCall {
        /// Which.
        call: ModelCallId,
        /// The name that was asked for.
        model: String,
        /// What it used.
        usage: Usage,
        /// What it cost.
        cost: Nanos,
        /// The stop reason in the provider's word, or the kind of failure.
        stop_reason: String,
        /// Whether it gave an answer.
        ok: bool,
        /// Its opening record.
        record: RecordId,
        /// Wall clock.
        duration_ms: u64,
        /// What the agent said, as a transcript line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<ContentRef>,
    },
    /// A tool call ended, or was refused.
    ToolCall {
        /// Which.
        call: CallId,
        /// The tool.
        tool: String,
        /// What was decided.
        answer: Answer,
        /// How it ended.
        outcome: ToolOutcome,
        /// Its opening (or refusing) record.
        record: RecordId,
        /// Wall clock.
        duration_ms: u64,
        /// Its input.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<ContentRef>,
        /// Its output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<ContentRef>,
    },
    /// A deed waits for a person.
    ApprovalRequested {
        /// Which approval.
        approval: ApprovalId,
        /// The deed's action.
        action: crate::Action,
        /// The resource's id: a tool's name, the run.
        resource: String,
        /// The title of the policy that asks.
        policy: String,
        /// When silence becomes a no.
        expires_at: Timestamp,
        /// What exactly is asked, sealed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<ContentRef>,
    },
    /// The runner has taken note of a person's answer, or of the time-out.
    ApprovalAnswered {
        /// Which approval.
        approval: ApprovalId,
        /// Yes or no.
        granted: bool,
    },
    /// The agent asks a person something.
    InputRequested {
        /// The question, sealed.
        content: ContentRef,
    },
    /// The runner has taken note of the answer.
    InputReceived {},
    /// A gate ran.
    Gate {
        /// Its place in the project's list, from 0.
        index: u32,
        /// Which attempt, from 1.
        attempt: u32,
        /// How it ended.
        outcome: GateOutcome,
        /// Wall clock.
        duration_ms: u64,
        /// What it printed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<ContentRef>,
    },
    /// A branch with a commit is in the project's repository.
    Change {
        /// The branch.
        branch: String,
        /// The commit, hexadecimal.
        commit: String,
        /// Its tree, hexadecimal.
        tree: String,
        /// The commit it stands on, hexadecimal.
        base: String,
        /// Files touched.
        files: u32,
        /// Lines added.
        insertions: u32,
        /// Lines removed.
        deletions: u32,
        /// The change itself.
        diff: ContentRef,
        /// The record that opened it.
        record: RecordId,
    },
    /// The context was shortened.
    Compacted {
        /// Tokens before, estimated.
        before_tokens: u64,
        /// Tokens after, estimated.
        after_tokens: u64,
    },
    /// Something that an operator should know. A fixed word, never free text.
    Notice {
        /// The word, for example `model_retry`, `guest_restarted`, `resumed`.
        code: String,
    },
    /// The run's spending so far: tells when the runner gives back what it did not use.
    Spent {
        /// All model calls of the run.
        cost: Nanos,
        /// What they used.
        usage: Usage,
    },
}

words! {
    /// How a tool call ended.
    ToolOutcome "tool outcome" {
        Ok "ok" "It did what it was asked.",
        Error "error" "It answered with an error that the agent sees.",
        Denied "denied" "Policy or a person said no.",
        Interrupted "interrupted" "A crash cut it off; it is not known how far it came, and it was not repeated.",
    }
}

words! {
    /// How a gate ended.
    GateOutcome "gate outcome" {
        Passed "passed" "Exit status 0.",
        Failed "failed" "Another exit status.",
        TimedOut "timed_out" "It ran too long.",
    }
}

words! {
    /// Why a run failed.
    FailureCause "failure cause" {
        Model "model" "The model could not be reached, or answered nonsense, for too long.",
        Rehearsal "rehearsal" "Reality departed from the cassette.",
        Budget "budget" "The money is spent.",
        Turns "turns" "The agent used all its turns.",
        Time "time" "The agent used all its time.",
        Tokens "tokens" "The agent used all its tokens.",
        Policy "policy" "A deed without which it cannot go on was refused.",
        Gates "gates" "The gates did not pass within the allowed attempts.",
        Repository "repository" "The project's repository could not be read or written.",
        Environment "environment" "The environment could not be made or broke for good.",
        Lifetime "lifetime" "The environment came to the end of its class's lifetime.",
        NoChange "no_change" "The agent finished without changing anything.",
        GaveUp "gave_up" "The agent said that it cannot do it.",
        Erased "erased" "The run's key was destroyed.",
        Internal "internal" "A defect of ours; the runner's log says more.",
    }
}
