//! The tool calls of one message of the model: in which order they are wanted, and what the model is told of each.

use serde_json::{Value, json};
use stockade_domain::{ToolOutcome, ids::CallId};

use crate::{
    Tool, ToolUse,
    message::Called,
    repeat::fingerprint,
    text::{capped, shorten},
};

/// The longest result that the model is given whole, in bytes. A longer one loses its middle.
pub const MAX_RESULT: usize = 48 * 1024;

/// How the result of a call that a crash cut off begins. The rehearsal provider knows it too.
pub const INTERRUPTED: &str = "[interrupted]";

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pending {
    pub call: CallId,
    called: Called,
    /// Nothing if it could not be read; then it has its result from the beginning.
    tool: Option<Tool>,
    result: Option<Answered>,
}

/// What the model is told.
#[derive(Debug, Clone, PartialEq)]
struct Answered {
    text: String,
    is_error: bool,
    /// None where no runner was involved.
    outcome: Option<ToolOutcome>,
}

/// All calls of one message.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Calls(Vec<Pending>);

impl Calls {
    /// Reads them. `incomplete`: the last one was cut off. Gives the calls that could not be read as well.
    pub fn read(called: Vec<Called>, ids: &[CallId], run_timeout_ms: u64, incomplete: bool) -> (Self, Vec<CallId>) {
        let mut bad = vec![];
        let mut finishes = false;
        let count = called.len();
        let read = |(index, (called, call)): (usize, (Called, &CallId))| {
            let tool = if incomplete && index + 1 == count {
                Err("your answer was cut off at the limit of output tokens before this call was complete, so it was not \
                     carried out; send it again in smaller pieces"
                    .to_owned())
            } else {
                Tool::parse(&called.name, &called.input, run_timeout_ms)
            };
            let tool = match tool {
                Ok(Tool::Finish { .. }) if finishes => Err("`finish` was called before in the same message".to_owned()),
                Ok(tool) => {
                    finishes |= matches!(tool, Tool::Finish { .. });
                    Ok(tool)
                }
                Err(sentence) => Err(sentence),
            };
            let (tool, result) = match tool {
                Ok(tool) => (Some(tool), None),
                Err(sentence) => {
                    bad.push(*call);
                    (None, Some(Answered { text: shorten(&sentence, 2000), is_error: true, outcome: None }))
                }
            };
            Pending { call: *call, called, tool, result }
        };
        let calls = called.into_iter().zip(ids).enumerate().map(read).collect();
        (Self(calls), bad)
    }

    /// What is wanted next: any number of read-only calls, or one other. `finish` comes last.
    pub fn batch(&self) -> Vec<ToolUse> {
        let is_finish = |tool: &Tool| matches!(tool, Tool::Finish { .. });
        let open = || self.0.iter().filter(|p| p.result.is_none()).filter_map(|p| Some((p.call, p.tool.as_ref()?)));
        let mut others = open().filter(|(_, tool)| !is_finish(tool)).peekable();
        let side_by_side = |tool: &Tool| matches!(tool, Tool::Read { .. } | Tool::List { .. } | Tool::Search { .. });
        let chosen: Vec<_> = match others.peek() {
            None => open().take(1).collect(),
            Some((_, first)) if side_by_side(first) => others.take_while(|(_, tool)| side_by_side(tool)).collect(),
            Some(_) => others.take(1).collect(),
        };
        let to_use = |(call, tool): (CallId, &Tool)| ToolUse { call, tool: tool.clone(), read_only: tool.read_only() };
        chosen.into_iter().map(to_use).collect()
    }

    /// Whether `call` is wanted now.
    pub fn is_wanted(&self, call: CallId) -> bool {
        self.batch().iter().any(|wanted| wanted.call == call)
    }

    /// The tool of a call that has no result yet.
    pub fn open(&self, call: CallId) -> Option<&Tool> {
        self.0.iter().find(|p| p.call == call && p.result.is_none()).and_then(|p| p.tool.as_ref())
    }

    /// Whether a call has failed: then nothing is finished.
    pub fn any_failed(&self) -> bool {
        self.0.iter().any(|p| p.result.as_ref().is_some_and(|r| r.is_error))
    }

    /// Takes the result of a call that a runner carried out, or did not.
    pub fn answer(&mut self, call: CallId, outcome: ToolOutcome, text: &str) {
        let said = shorten(text, MAX_RESULT);
        let said = match outcome {
            ToolOutcome::Ok | ToolOutcome::Error if said.is_empty() => "(no output)".to_owned(),
            ToolOutcome::Ok | ToolOutcome::Error => said,
            ToolOutcome::Denied => format!(
                "[denied] {}\nThis is not allowed here. Do not look for a way around it: go on without it, or finish with \
                 `done` false.",
                if text.is_empty() { "refused" } else { &said }
            ),
            ToolOutcome::Interrupted if said.starts_with(INTERRUPTED) => said,
            ToolOutcome::Interrupted => format!(
                "{INTERRUPTED} A crash cut this call off. It is not known how far it came, and it was not repeated. Look at \
                 what it did before you go on.\n{said}"
            )
            .trim_end()
            .to_owned(),
        };
        self.set(call, said, outcome != ToolOutcome::Ok, Some(outcome));
    }

    /// Gives a call the result that the machine itself has for it.
    pub fn tell(&mut self, call: CallId, text: &str, is_error: bool) {
        self.set(call, capped(text, MAX_RESULT), is_error, None);
    }

    fn set(&mut self, call: CallId, text: String, is_error: bool, outcome: Option<ToolOutcome>) {
        if let Some(pending) = self.0.iter_mut().find(|p| p.call == call) {
            pending.result = Some(Answered { text, is_error, outcome });
        }
    }

    /// The results as blocks, in order. A call that has none says so: there must be one for each.
    pub fn results(&self) -> Vec<Value> {
        let block = |pending: &Pending| {
            let (text, is_error) = match &pending.result {
                Some(result) => (result.text.as_str(), result.is_error),
                None => ("not carried out", true),
            };
            let mut block = json!({"type": "tool_result", "tool_use_id": pending.called.id, "content": text});
            if let (true, Some(fields)) = (is_error, block.as_object_mut()) {
                fields.insert("is_error".to_owned(), Value::Bool(true));
            }
            block
        };
        self.0.iter().map(block).collect()
    }

    /// What loop detection looks at: each call that says something about progress, and whether it changed a file.
    /// Interrupted calls say nothing: repeating them is what the agent was told.
    pub fn prints(&self) -> impl Iterator<Item = (u64, bool)> {
        let counts = |p: &&Pending| p.result.as_ref().is_none_or(|r| r.outcome != Some(ToolOutcome::Interrupted));
        self.0.iter().filter(counts).map(|p| {
            let result = p.result.as_ref();
            let text = result.map_or("", |r| r.text.as_str());
            let changes = matches!(p.tool, Some(Tool::Write { .. } | Tool::Edit { .. }))
                && result.is_some_and(|r| r.outcome == Some(ToolOutcome::Ok));
            (fingerprint(&p.called.name, &p.called.input, text), changes)
        })
    }
}
