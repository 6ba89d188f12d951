//! The machine.

use serde_json::Value;
use stockade_domain::{Nanos, Timestamp, Usage};

use crate::{Config, Line, Notice, Want};

/// One run's agent. Two agents with the same configuration that were given the same lines are equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    config: Config,
}

/// A line that does not fit where the agent is. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It answers something that was not wanted.
    #[error("{input} was not expected while the agent {state}")]
    Unexpected {
        /// The kind of input.
        input: &'static str,
        /// What the agent does.
        state: &'static str,
    },
    /// The identifiers for the calls are not as many as the calls, or one was used before.
    #[error("the message has {wanted} tool calls and needs as many fresh identifiers: {given} were given")]
    Calls {
        /// Calls in the message.
        wanted: usize,
        /// Identifiers that were given.
        given: usize,
    },
}

impl Agent {
    /// An agent that has been told nothing.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Takes the next line.
    pub fn apply(&mut self, line: &Line) -> Result<Vec<Notice>, ApplyError> {
        let _ = line;
        Ok(vec![])
    }

    /// What shall be done now: one want, or nothing before it began.
    pub fn wants(&self) -> Vec<Want> {
        vec![]
    }

    /// When `Input::Tick` should be given unless something else happens before. Nothing while time stands still.
    pub fn deadline(&self) -> Option<Timestamp> {
        None
    }

    /// The turn, from 1; 0 before the first.
    pub fn turn(&self) -> u32 {
        0
    }

    /// What all model calls used and cost.
    pub fn spent(&self) -> (Usage, Nanos) {
        (Usage::default(), Nanos::ZERO)
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        false
    }

    /// The conversation so far, as the `messages` of a request: for transcripts.
    pub fn conversation(&self) -> Value {
        Value::Array(vec![])
    }

    /// How it is configured.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
