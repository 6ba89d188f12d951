//! What a run's journal comes to: the agent, and what the runner itself must remember. A fold, without input and output.

use std::collections::BTreeMap;

use stockade_agent::{Agent, ApplyError, Config, Input, Line, Notice};
use stockade_api::runner::Assignment;
use stockade_domain::{
    Digest, EnvironmentClass, EventKind, Observed, RunTransition, Timestamp,
    ids::{ApprovalId, EnvironmentId},
};

use crate::{
    journal::{About, Change, Entry, Step},
    workspace::Base,
};

/// The state of a run.
#[derive(Debug, Clone)]
pub struct State {
    /// The agent.
    pub agent: Agent,
    /// Whether the agent has begun.
    pub began: bool,
    /// The environment in which the workspace is.
    pub environment: Option<EnvironmentId>,
    /// Its class, as it was when it was taken.
    pub class: Option<EnvironmentClass>,
    /// Since when.
    pub taken_at: Option<Timestamp>,
    /// Since when it was seen to run.
    pub runs_since: Option<Timestamp>,
    /// How often programs that were started there were told of.
    pub executions: u64,
    /// Since when a person is waited for.
    pub waits_since: Option<Timestamp>,
    /// On what it stands.
    pub base: Option<Base>,
    /// The repository that the base is from.
    pub repository: Option<String>,
    /// What it waits for.
    pub asked: Option<(ApprovalId, About, Timestamp)>,
    /// What people were last asked about, as it was then.
    pub deeds: BTreeMap<About, Digest>,
    /// What people have answered.
    pub answers: BTreeMap<About, (ApprovalId, bool)>,
    /// Which reply it waits for.
    pub questioned: Option<u64>,
    /// The last reply that was taken note of.
    pub replied: u64,
    /// The commit on its way.
    pub change: Option<Change>,
    /// How many changes have been dealt with.
    pub changes: u32,
    /// Whether it is over.
    pub over: bool,
    /// How often a person had it tried again.
    pub again: u32,
    /// The last state that was told.
    pub told: Option<RunTransition>,
    /// What was last told about the environment.
    pub seen: Option<(EnvironmentId, Observed, u64)>,
}

/// How the agent of an assignment is configured.
pub fn agent_config(assignment: &Assignment) -> Config {
    let spec = &assignment.agent;
    Config {
        harness: spec.harness,
        max_turns: spec.max_turns,
        max_time_ms: spec.max_time_ms,
        max_tokens: spec.max_tokens,
        max_cost: spec.max_cost,
        gate_attempts: assignment.project.gate_attempts,
        ..Config::new(spec.model.clone())
    }
}

impl State {
    /// Before the first entry.
    pub fn new(config: Config) -> Self {
        Self {
            agent: Agent::new(config),
            began: false,
            environment: None,
            class: None,
            taken_at: None,
            runs_since: None,
            executions: 0,
            waits_since: None,
            base: None,
            repository: None,
            asked: None,
            deeds: BTreeMap::new(),
            answers: BTreeMap::new(),
            questioned: None,
            replied: 0,
            change: None,
            changes: 0,
            over: false,
            again: 0,
            told: None,
            seen: None,
        }
    }

    /// Folds a journal.
    pub fn fold(config: Config, entries: &[Entry]) -> Result<Self, ApplyError> {
        let mut state = Self::new(config);
        for entry in entries {
            if let Some(input) = &entry.input {
                state.agent.apply(&Line { at: entry.at, input: input.clone() })?;
            }
            state.take(entry);
        }
        Ok(state)
    }

    /// What the agent would be after an input, and what it wants noticed. Nothing has changed yet.
    pub fn tried(&self, at: Timestamp, input: &Input) -> Result<(Agent, Vec<Notice>), ApplyError> {
        let mut agent = self.agent.clone();
        let notices = agent.apply(&Line { at, input: input.clone() })?;
        Ok((agent, notices))
    }

    /// Folds what an entry says to the runner; the agent has been told by the caller.
    pub fn take(&mut self, entry: &Entry) {
        match &entry.input {
            Some(Input::Began { .. }) => self.began = true,
            Some(Input::ChangeOpened {} | Input::ChangeDenied { .. } | Input::NoChange {}) => {
                self.changes += 1;
                self.change = None;
            }
            _ => {}
        }
        match &entry.step {
            Some(Step::Taken { environment, class }) => {
                self.environment = Some(*environment);
                self.class = class.as_deref().cloned();
                self.taken_at = Some(entry.at);
                self.runs_since = None;
                self.executions = 0;
            }
            Some(Step::Based { base, repository }) => {
                self.base = Some(base.clone());
                self.repository.clone_from(repository);
            }
            Some(Step::Asked { approval, about, deed, expires_at }) => {
                self.asked = Some((*approval, *about, *expires_at));
                self.waits_since = Some(entry.at);
                match deed {
                    Some(deed) => self.deeds.insert(*about, *deed),
                    None => self.deeds.remove(about),
                };
            }
            Some(Step::Answered { approval, granted }) => {
                if let Some((asked, about, _)) = self.asked.take() {
                    if asked == *approval {
                        self.answers.insert(about, (*approval, *granted));
                    } else {
                        self.asked = Some((asked, about, Timestamp::default()));
                    }
                }
            }
            Some(Step::Questioned { reply }) => {
                self.questioned = Some(*reply);
                self.waits_since = Some(entry.at);
            }
            Some(Step::Replied { reply }) => {
                self.replied = *reply;
                self.questioned = None;
            }
            Some(Step::Committed { change }) => self.change = Some((**change).clone()),
            Some(Step::Over {}) => self.over = true,
            Some(Step::Again {}) => {
                self.over = false;
                self.again += 1;
                // Whoever has it tried again may be asked again about what it says.
                self.answers.retain(|about, _| !matches!(about, About::Model { .. }));
                self.asked = None;
                self.questioned = None;
            }
            Some(Step::Aside {}) | None => {}
        }
        for event in &entry.events {
            match event {
                EventKind::State { transition } => self.told = Some(*transition),
                EventKind::Environment { environment, observed, generation, .. } => {
                    self.seen = Some((*environment, *observed, *generation));
                    self.runs_since = match observed {
                        Observed::Running => self.runs_since.or(Some(entry.at)),
                        _ => None,
                    };
                }
                EventKind::Executions { environment, batch, .. } if Some(*environment) == self.environment => {
                    self.executions = self.executions.max(*batch);
                }
                _ => {}
            }
        }
    }
}

/// A notice of the agent as an event.
pub fn event_of(notice: &Notice) -> EventKind {
    match notice {
        Notice::Turn { turn } => EventKind::Turn { turn: *turn },
        Notice::Compacted { before_tokens, after_tokens } => {
            EventKind::Compacted { before_tokens: *before_tokens, after_tokens: *after_tokens }
        }
        other => EventKind::Notice { code: other.code().to_owned() },
    }
}
