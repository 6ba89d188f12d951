//! What bounds an agent. Owns the numbers and their defaults; the machine enforces them.

use serde::{Deserialize, Serialize};
use stockade_domain::{Harness, Nanos};

/// How one agent works. The same configuration must be given when a journal is folded again; larger limits may be
/// given when a person wants a failed run tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Who does the work: our own loop, or a program inside the environment.
    #[serde(default)]
    pub harness: Harness,
    /// The model's name, as the gateway knows it.
    pub model: String,
    /// At most so many turns: answers of the model, to our loop or to the program inside.
    pub max_turns: u32,
    /// At most so long in milliseconds, waiting for people not counted.
    pub max_time_ms: u64,
    /// At most so many tokens of all kinds over all model calls.
    pub max_tokens: u64,
    /// At most so much money. The gateway's budget is the hard bound; this one ends the run with a clear word.
    pub max_cost: Nanos,
    /// How many tokens the model can take, its answer included.
    pub context_window: u64,
    /// Above so many tokens, or what the window leaves beside an answer, the context is compacted.
    pub compact_at: u64,
    /// `max_tokens` of every request.
    pub max_output_tokens: u32,
    /// Tokens the model may think, if it shall: at least 1,024 and below `max_output_tokens`, else it counts as none.
    pub thinking_tokens: Option<u32>,
    /// How often the agent may try to make the gates pass.
    pub gate_attempts: u32,
    /// How long a command of the agent may run if it does not say, in milliseconds.
    pub run_timeout_ms: u64,
}

impl Config {
    /// Sensible figures for a model of that name.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            harness: Harness::default(),
            model: model.into(),
            max_turns: 100,
            max_time_ms: 3_600_000,
            max_tokens: 20_000_000,
            max_cost: Nanos(10_000_000_000),
            context_window: 200_000,
            compact_at: 140_000,
            max_output_tokens: 16_000,
            thinking_tokens: None,
            gate_attempts: 3,
            run_timeout_ms: 120_000,
        }
    }
}
