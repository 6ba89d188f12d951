//! Plays runner and model for an agent.

use serde_json::{Value, json};
use stockade_agent::{Agent, Config, Facts, Input, Line, ModelFailure, Notice, Tool, ToolUse, Want, tool_calls};
use stockade_domain::{FailureCause, Nanos, Timestamp, ToolOutcome, Usage, ids::CallId};

pub struct Sim {
    pub agent: Agent,
    pub lines: Vec<Line>,
    pub now: Timestamp,
    pub notices: Vec<Notice>,
    ids: u64,
}

impl Sim {
    pub fn new(config: Config) -> Self {
        Self { agent: Agent::new(config), lines: vec![], now: Timestamp(1_000_000_000), notices: vec![], ids: 0 }
    }

    /// One that has begun with a task, instructions and a gate.
    pub fn begun(config: Config) -> Self {
        let mut sim = Self::new(config);
        sim.give(Input::Began {
            task: "Make the failing test pass.".into(),
            instructions: Some("Run `make test`.".into()),
            facts: Facts {
                project: "words".into(),
                branch: "main".into(),
                commit: "0123abcd".into(),
                gates: vec!["make test".into()],
            },
        });
        sim
    }

    /// Gives an input that must fit; a second passes before it.
    pub fn give(&mut self, input: Input) -> Vec<Notice> {
        self.now = self.now.plus_ms(1000);
        let line = Line { at: self.now, input };
        let notices = self.agent.apply(&line).unwrap();
        self.lines.push(line);
        self.notices.extend(notices.clone());
        notices
    }

    pub fn want(&self) -> Want {
        let mut wants = self.agent.wants();
        assert_eq!(wants.len(), 1);
        wants.remove(0)
    }

    pub fn attempt(&self) -> u32 {
        match self.want() {
            Want::Model { attempt, .. } => attempt,
            other => panic!("wants {other:?}"),
        }
    }

    /// The body that is wanted.
    pub fn body(&self) -> Value {
        match self.want() {
            Want::Model { body, .. } => body,
            other => panic!("wants {other:?}"),
        }
    }

    pub fn fresh(&mut self) -> CallId {
        self.ids += 1;
        CallId::from_parts(self.ids, [1; 10])
    }

    pub fn answer(&mut self, content: Value, stop_reason: &str) -> Vec<Notice> {
        let usage = Usage { input_tokens: 1000, output_tokens: 50, ..Usage::default() };
        self.answer_used(content, stop_reason, usage)
    }

    pub fn answer_used(&mut self, content: Value, stop_reason: &str, usage: Usage) -> Vec<Notice> {
        let message = json!({"role": "assistant", "content": content});
        let calls = (0..tool_calls(&message)).map(|_| self.fresh()).collect();
        let attempt = self.attempt();
        self.give(Input::Model {
            attempt,
            message,
            stop_reason: stop_reason.into(),
            usage,
            cost: Nanos(1_000_000),
            calls,
        })
    }

    /// The model makes these calls.
    pub fn call(&mut self, calls: &[(&str, Value)]) -> Vec<Notice> {
        let attempt = self.attempt();
        let block = |(n, (name, input)): (usize, &(&str, Value))| json!({"type": "tool_use", "id": format!("toolu_{attempt}_{n}"), "name": name, "input": input});
        let content = calls.iter().enumerate().map(block).collect();
        self.answer(content, "tool_use")
    }

    pub fn fail_model(&mut self, failure: ModelFailure, retry_after_ms: Option<u64>) -> Vec<Notice> {
        let attempt = self.attempt();
        self.give(Input::ModelFailed {
            attempt,
            failure,
            retry_after_ms,
            text: "the provider says no".into(),
            usage: Usage::default(),
            cost: Nanos::ZERO,
        })
    }

    pub fn tools(&self) -> Vec<ToolUse> {
        match self.want() {
            Want::Tools { calls } => calls,
            other => panic!("wants {other:?}"),
        }
    }

    /// Answers everything that is wanted of tools, until something else is.
    pub fn carry_out(&mut self, outcome: ToolOutcome, text: &str) {
        while let Want::Tools { calls } = self.want() {
            for wanted in calls {
                let empty = matches!(wanted.tool, Tool::Finish { .. } | Tool::Ask { .. }) && outcome == ToolOutcome::Ok;
                let text = if empty { String::new() } else { text.to_owned() };
                self.give(Input::Tool { call: wanted.call, outcome, text });
            }
        }
    }

    /// The last tool result in the conversation.
    pub fn last_result(&self) -> (String, bool) {
        let conversation = self.agent.conversation();
        let mut blocks = conversation.as_array().unwrap().iter().flat_map(|m| m["content"].as_array().unwrap());
        let last = blocks.rfind(|b| b["type"] == "tool_result").expect("no tool result");
        (last["content"].as_str().unwrap().to_owned(), last["is_error"] == true)
    }

    /// The text of the last block.
    pub fn last_text(&self) -> String {
        let conversation = self.agent.conversation();
        let message = conversation.as_array().unwrap().last().unwrap();
        message["content"].as_array().unwrap().last().unwrap()["text"].as_str().unwrap_or("").to_owned()
    }

    pub fn failed(&self) -> (FailureCause, String) {
        match self.want() {
            Want::Failed { cause, text } => (cause, text),
            other => panic!("wants {other:?}"),
        }
    }
}

/// A configuration with room for everything.
pub fn config() -> Config {
    Config::new("rehearsal/words")
}
