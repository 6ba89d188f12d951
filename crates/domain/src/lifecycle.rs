//! The life of a run and of an environment, as pure machines.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{FailureCause, UnknownWord, deed::words};

words! {
    /// What a run is an attempt at.
    RunKind "run kind" {
        Task "task" "A task: it is placed, has an environment, and an agent of ours works in it.",
        Personal "personal" "What a person does with a gateway token: it works until the token ends, and nobody places it.",
    }
}

impl RunKind {
    /// Where a run of this kind begins.
    pub const fn begins(self) -> RunState {
        match self {
            Self::Task => RunState::Queued,
            Self::Personal => RunState::Working,
        }
    }

    /// Whether runs of this kind are given to a runner, with an environment, and can be tried again.
    pub const fn is_placed(self) -> bool {
        matches!(self, Self::Task)
    }
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Nobody works on it yet.
    Queued,
    /// A runner makes its environment.
    Preparing,
    /// The agent works.
    Working,
    /// It waits for a person; no process is held.
    WaitingApproval,
    /// It waits for a person's answer to a question.
    WaitingInput,
    /// A change came out.
    Succeeded,
    /// It ended without one.
    Failed,
    /// A person ended it.
    Cancelled,
    /// Its time ran out.
    Expired,
}

/// For what a run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// A yes or no.
    Approval,
    /// An answer.
    Input,
}

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum RunTransition {
    /// A runner took it.
    Prepare,
    /// The agent begins, or goes on after waiting.
    Work,
    /// It parks until a person has spoken.
    Wait {
        /// For what.
        reason: WaitReason,
    },
    /// A change came out, or the task needed none.
    Succeed,
    /// It ended without a change.
    Fail {
        /// Why.
        cause: FailureCause,
    },
    /// A person ended it.
    Cancel,
    /// Its time ran out.
    Expire,
    /// A person wants it tried again from where it stopped, or its runner is gone for good.
    Requeue,
}

/// A transition that the present state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot {event} while it is {state}")]
pub struct Refused {
    /// `a run` or `an environment`.
    pub what: &'static str,
    /// What was tried.
    pub event: String,
    /// The state it is in.
    pub state: String,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Preparing,
        Self::Working,
        Self::WaitingApproval,
        Self::WaitingInput,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The word, as in the database and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Preparing => "preparing",
            Self::Working => "working",
            Self::WaitingApproval => "waiting_approval",
            Self::WaitingInput => "waiting_input",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing more happens unless a person asks for it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired)
    }

    /// The state after `transition`. A transition into the state it is already in is no error, because
    /// events may be told twice.
    pub fn apply(self, transition: RunTransition) -> Result<Self, Refused> {
        use RunTransition as T;
        let next = match transition {
            T::Prepare => Self::Preparing,
            T::Work => Self::Working,
            T::Wait { reason: WaitReason::Approval } => Self::WaitingApproval,
            T::Wait { reason: WaitReason::Input } => Self::WaitingInput,
            T::Succeed => Self::Succeeded,
            T::Fail { .. } => Self::Failed,
            T::Cancel => Self::Cancelled,
            T::Expire => Self::Expired,
            T::Requeue => Self::Queued,
        };
        let active = matches!(self, Self::Preparing | Self::Working | Self::WaitingApproval | Self::WaitingInput);
        let allowed = next == self
            || match transition {
                T::Prepare => matches!(self, Self::Queued) || active,
                T::Work | T::Wait { .. } => active,
                T::Succeed => matches!(self, Self::Working),
                T::Fail { .. } | T::Cancel | T::Expire => !self.is_final(),
                T::Requeue => active || matches!(self, Self::Failed | Self::Expired),
            };
        if allowed {
            Ok(next)
        } else {
            Err(Refused { what: "a run", event: format!("become {}", next.as_str()), state: self.as_str().to_owned() })
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl FromStr for RunState {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| UnknownWord { what: "run state", word: text.to_owned() })
    }
}

words! {
    /// What an environment should be.
    Desired "desired state" {
        Running "running" "It should run.",
        Stopped "stopped" "It should keep its files and run nothing.",
        Deleted "deleted" "Nothing of it should be left.",
    }
}

words! {
    /// What an environment was last seen to be.
    Observed "observed state" {
        Pending "pending" "Nobody has begun.",
        Creating "creating" "It is being made.",
        Running "running" "Its guest answers.",
        Stopping "stopping" "It is being stopped.",
        Stopped "stopped" "Its files are kept, nothing runs.",
        Deleting "deleting" "It is being removed.",
        Deleted "deleted" "Nothing is left.",
        Failed "failed" "It could not be made, or it broke.",
    }
}

/// An environment: what it should be, apart from what it was seen to be, and for which generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnvironmentState {
    /// What it should be.
    pub desired: Desired,
    /// Counts the changes of `desired`.
    pub generation: u64,
    /// What it was seen to be.
    pub observed: Observed,
    /// The generation that `observed` speaks about.
    pub observed_generation: u64,
}

/// What can happen to an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EnvironmentEvent {
    /// Somebody wants it otherwise.
    Desire {
        /// What it should be.
        desired: Desired,
    },
    /// A runner saw it.
    Observe {
        /// What it is.
        observed: Observed,
        /// For which generation the runner was working.
        generation: u64,
    },
}

impl EnvironmentState {
    /// A new environment that should run.
    pub const fn new() -> Self {
        Self { desired: Desired::Running, generation: 1, observed: Observed::Pending, observed_generation: 0 }
    }

    /// Whether what was seen is what should be, for the present generation.
    pub const fn is_settled(&self) -> bool {
        self.generation == self.observed_generation
            && matches!(
                (self.desired, self.observed),
                (Desired::Running, Observed::Running)
                    | (Desired::Stopped, Observed::Stopped)
                    | (Desired::Deleted, Observed::Deleted)
            )
    }

    /// The state after `event`. Deleted is for ever; an observation about an older generation than the
    /// last one is refused.
    pub fn apply(self, event: EnvironmentEvent) -> Result<Self, Refused> {
        let refuse = |event: &str| Refused {
            what: "an environment",
            event: event.to_owned(),
            state: format!("{} (wanted {}, generation {})", self.observed, self.desired, self.generation),
        };
        match event {
            EnvironmentEvent::Desire { desired } if desired == self.desired => Ok(self),
            EnvironmentEvent::Desire { .. } if self.desired == Desired::Deleted => Err(refuse("come back")),
            EnvironmentEvent::Desire { desired } => Ok(Self { desired, generation: self.generation + 1, ..self }),
            EnvironmentEvent::Observe { observed: Observed::Deleted, .. } if self.observed == Observed::Deleted => {
                Ok(self)
            }
            EnvironmentEvent::Observe { .. } if self.observed == Observed::Deleted => Err(refuse("be seen again")),
            EnvironmentEvent::Observe { generation, .. }
                if generation < self.observed_generation || generation > self.generation =>
            {
                Err(refuse("be seen for that generation"))
            }
            EnvironmentEvent::Observe { observed, generation } => {
                Ok(Self { observed, observed_generation: generation, ..self })
            }
        }
    }
}

impl Default for EnvironmentState {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn transitions() -> impl Strategy<Value = RunTransition> {
        prop_oneof![
            Just(RunTransition::Prepare),
            Just(RunTransition::Work),
            Just(RunTransition::Wait { reason: WaitReason::Approval }),
            Just(RunTransition::Wait { reason: WaitReason::Input }),
            Just(RunTransition::Succeed),
            Just(RunTransition::Fail { cause: FailureCause::Model }),
            Just(RunTransition::Cancel),
            Just(RunTransition::Expire),
            Just(RunTransition::Requeue),
        ]
    }

    proptest! {
        #[test]
        fn succeeded_and_cancelled_are_for_ever(steps in prop::collection::vec(transitions(), 0..40)) {
            let mut state = RunState::Queued;
            for step in steps {
                let before = state;
                if let Ok(next) = state.apply(step) {
                    state = next;
                }
                if matches!(before, RunState::Succeeded | RunState::Cancelled) {
                    prop_assert_eq!(state, before);
                }
            }
        }

        #[test]
        fn telling_it_twice_changes_nothing(steps in prop::collection::vec(transitions(), 0..40)) {
            let mut state = RunState::Queued;
            for step in steps {
                if let Ok(next) = state.apply(step) {
                    prop_assert_eq!(next.apply(step), Ok(next));
                    state = next;
                }
            }
        }
    }

    #[test]
    fn a_run_goes_its_ordinary_way() {
        let mut state = RunState::Queued;
        for (step, expected) in [
            (RunTransition::Prepare, "preparing"),
            (RunTransition::Work, "working"),
            (RunTransition::Wait { reason: WaitReason::Approval }, "waiting_approval"),
            (RunTransition::Work, "working"),
            (RunTransition::Succeed, "succeeded"),
        ] {
            state = state.apply(step).unwrap();
            assert_eq!(state.as_str(), expected);
        }
        assert_eq!(
            state.apply(RunTransition::Work).unwrap_err().to_string(),
            "a run cannot become working while it is succeeded"
        );
    }

    #[test]
    fn a_deleted_environment_stays_deleted() {
        let env = EnvironmentState::new()
            .apply(EnvironmentEvent::Desire { desired: Desired::Deleted })
            .unwrap()
            .apply(EnvironmentEvent::Observe { observed: Observed::Deleted, generation: 2 })
            .unwrap();
        assert!(env.is_settled());
        assert!(env.apply(EnvironmentEvent::Desire { desired: Desired::Running }).is_err());
        assert!(env.apply(EnvironmentEvent::Observe { observed: Observed::Running, generation: 2 }).is_err());
    }

    #[test]
    fn an_old_observation_is_refused() {
        let env = EnvironmentState::new()
            .apply(EnvironmentEvent::Observe { observed: Observed::Running, generation: 1 })
            .unwrap()
            .apply(EnvironmentEvent::Desire { desired: Desired::Stopped })
            .unwrap()
            .apply(EnvironmentEvent::Observe { observed: Observed::Stopped, generation: 2 })
            .unwrap();
        assert!(env.apply(EnvironmentEvent::Observe { observed: Observed::Running, generation: 1 }).is_err());
        assert!(env.apply(EnvironmentEvent::Observe { observed: Observed::Running, generation: 3 }).is_err());
    }
}
