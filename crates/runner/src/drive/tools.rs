//! Tool calls of the agent loop: decided, recorded, carried out by the guest, journalled, closed.
//!
//! *Invariant:* the call id that goes to the guest is the one in the journal, so a call that a crash cut off is asked for
//! again by the same name and answered from the guest's own journal.

use futures_util::future::join_all;
use stockade_agent::{Input, Ran, Tool, ToolUse};
use stockade_api::guest::{Exec, Op, Reply};
use stockade_domain::{Action, Answer, ContentKind, Deed, EventKind, Resource, ResourceKind, Timestamp, ToolOutcome};
use stockade_ledger::{Opened, Sealed};
use stockade_policy::Permit;

use super::{Drive, DriveError, Rest, Verdict, guests::AskError};
use crate::{
    book::{Draft, hold},
    guest::Answered,
    journal::{About, Close, EndStatus},
};

/// How much of each stream of a command is kept, in bytes.
pub const MAX_TOOL_OUTPUT: u64 = 256 * 1024;
/// So many read-only calls run side by side.
pub const MAX_PARALLEL: usize = 8;

/// A call that may be carried out.
struct Ready {
    call: ToolUse,
    opened: Opened<Permit>,
    input: Sealed,
    began: Timestamp,
}

impl Drive {
    /// Carries out the calls that the agent wants.
    pub(super) async fn tools(&mut self, calls: Vec<ToolUse>) -> Result<Option<Rest>, DriveError> {
        let side_by_side = calls.iter().all(|c| c.read_only);
        let mut rest = calls.into_iter();
        loop {
            let batch: Vec<ToolUse> = rest.by_ref().take(if side_by_side { MAX_PARALLEL } else { 1 }).collect();
            if batch.is_empty() {
                return Ok(None);
            }
            let mut ready = Vec::new();
            for call in batch {
                match self.admit(call).await? {
                    Admitted::Ready(call) => ready.push(*call),
                    Admitted::Refused => {}
                    Admitted::Parked(rest) => {
                        // What was admitted before is carried out first: its record is open.
                        self.carry_out(ready).await?;
                        return Ok(Some(rest));
                    }
                }
                if self.state.agent.is_over() {
                    break;
                }
            }
            self.carry_out(ready).await?;
            if self.state.agent.is_over() {
                return Ok(None);
            }
        }
    }

    fn tool_deed(&self, call: &ToolUse) -> Deed {
        let mut deed = self.deed(Action::ToolCall, Resource::new(ResourceKind::Tool, call.tool.name()));
        deed.context = deed.context.with("tool", call.tool.name()).with("read_only", call.read_only);
        if let Some(path) = call.tool.path() {
            deed.context = deed.context.with_content("path", path);
        }
        if let Some(command) = call.tool.command() {
            deed.context = deed.context.with_content("command", command);
        }
        deed
    }

    /// Decides a call and records what was decided.
    async fn admit(&mut self, call: ToolUse) -> Result<Admitted, DriveError> {
        let began = self.now();
        let about = About::Call { call: call.call };
        let json = serde_json::to_vec(&call.tool).map_err(|e| DriveError::Defect(e.to_string()))?;
        let input = self.seal(ContentKind::ToolInput, &json)?;
        let deed = self.tool_deed(&call);
        match self.decide(deed, about) {
            Verdict::Go(permit) => {
                let (deed, decision) = (permit.deed().clone(), permit.decision().clone());
                let opened = self.site.desk.ledger.open(&deed, &decision, vec![input.clone()], permit).await?;
                Ok(Admitted::Ready(Box::new(Ready { call, opened, input, began })))
            }
            Verdict::No(refusal) => {
                let (deed, decision) = (refusal.deed(), refusal.decision());
                let record = self.site.desk.ledger.refuse(deed, decision, vec![input.clone()]).await?;
                let event = EventKind::ToolCall {
                    call: call.call,
                    tool: call.tool.name().to_owned(),
                    answer: if decision.answer == Answer::Allow { Answer::Deny } else { decision.answer },
                    outcome: ToolOutcome::Denied,
                    record,
                    duration_ms: 0,
                    input: Some(input.content),
                    output: None,
                };
                let text = refusal.title().to_owned();
                let told = Input::Tool { call: call.call, outcome: ToolOutcome::Denied, text };
                self.write(Draft::input(told, vec![event])).await?;
                Ok(Admitted::Refused)
            }
            Verdict::Ask(question) => Ok(Admitted::Parked(self.park(question, about, input).await?)),
        }
    }

    /// Carries out what was admitted, side by side, and journals each as it stands.
    async fn carry_out(&mut self, ready: Vec<Ready>) -> Result<(), DriveError> {
        let mut left: Vec<(Ready, Option<Answered>)> = ready.into_iter().map(|r| (r, None)).collect();
        let mut deaths = 0;
        loop {
            let asked = left.iter().enumerate().filter(|(_, (_, answer))| answer.is_none()).map(|(at, (ready, _))| {
                let op = op_of(&ready.call.tool);
                let this = &*self;
                let call = ready.call.call;
                async move {
                    match op {
                        Some(op) => (at, this.ask_once(Some(call), op).await),
                        None => (at, Ok(Answered { reply: Reply::Done {}, replayed: false })),
                    }
                }
            });
            let answers = join_all(asked).await;
            let mut died = None;
            for (at, answer) in answers {
                match answer {
                    Ok(answered) => {
                        if let Some(slot) = left.get_mut(at) {
                            slot.1 = Some(answered);
                        }
                    }
                    Err(AskError::Died(why)) => died = Some(why),
                    Err(AskError::Other(error)) => return Err(error),
                }
            }
            match died {
                None => break,
                Some(why) if deaths < super::guests::MAX_RESTARTS => {
                    deaths += 1;
                    self.revive(&why).await?;
                }
                Some(why) => return Err(AskError::Died(why).into()),
            }
        }
        for (ready, answered) in left {
            let reply = answered.map_or(Reply::Interrupted {}, |a| a.reply);
            self.close_call(ready, reply).await?;
        }
        Ok(())
    }

    async fn close_call(&mut self, ready: Ready, reply: Reply) -> Result<(), DriveError> {
        let Ready { call, opened, input, began } = ready;
        let (outcome, text) = told_of(&call.tool, reply);
        let output = self.seal(ContentKind::ToolOutput, text.as_bytes())?;
        let at = self.now();
        let event = EventKind::ToolCall {
            call: call.call,
            tool: call.tool.name().to_owned(),
            answer: opened.permit().decision().answer,
            outcome,
            record: opened.record(),
            duration_ms: at.ms_since(began),
            input: Some(input.content),
            output: Some(output.content),
        };
        let (status, code) = match outcome {
            ToolOutcome::Ok => (EndStatus::Ok, None),
            ToolOutcome::Error | ToolOutcome::Denied => (EndStatus::Error, None),
            ToolOutcome::Interrupted => (EndStatus::Unknown, Some("interrupted".to_owned())),
        };
        let close = Close {
            record: opened.record(),
            status,
            code,
            usage: stockade_domain::Usage::default(),
            cost: stockade_domain::Nanos::ZERO,
        };
        let draft = Draft {
            input: Some(Input::Tool { call: call.call, outcome, text }),
            step: None,
            events: vec![event],
            close: Some(close),
            contents: vec![hold(&output)],
        };
        self.write_at(at, draft).await
    }
}

enum Admitted {
    Ready(Box<Ready>),
    Refused,
    Parked(Rest),
}

/// A tool as the guest knows it. Nothing: there is nothing to carry out.
fn op_of(tool: &Tool) -> Option<Op> {
    Some(match tool.clone() {
        Tool::Read { path, from_line, max_lines } => Op::Read { path, from_line, max_lines },
        Tool::Write { path, text } => Op::Write { path, text },
        Tool::Edit { path, old, new } => Op::Edit { path, old, new },
        Tool::List { path, depth } => Op::List { path, depth },
        Tool::Search { pattern, path, glob, max_matches } => Op::Search { pattern, path, glob, max_matches },
        Tool::Run { command, timeout_ms } => Op::Exec(Exec {
            argv: vec!["sh".to_owned(), "-c".to_owned(), command],
            timeout_ms,
            max_output: MAX_TOOL_OUTPUT,
            ..Exec::default()
        }),
        Tool::Finish { .. } | Tool::Ask { .. } => return None,
    })
}

/// What the agent is told about the guest's answer.
fn told_of(tool: &Tool, reply: Reply) -> (ToolOutcome, String) {
    match reply {
        Reply::Done {} if matches!(tool, Tool::Finish { .. } | Tool::Ask { .. }) => (ToolOutcome::Ok, String::new()),
        Reply::Done {} => (ToolOutcome::Ok, "done".to_owned()),
        Reply::Text { text, truncated } => {
            (ToolOutcome::Ok, if truncated { format!("{text}\n[cut off: there is more]") } else { text })
        }
        Reply::Exited { status, signal, timed_out, stdout, stderr, .. } => {
            (ToolOutcome::Ok, Ran { status, signal, timed_out, stdout: &stdout, stderr: &stderr }.to_string())
        }
        Reply::Error { message, .. } => (ToolOutcome::Error, message),
        Reply::Interrupted {} => (
            ToolOutcome::Interrupted,
            "[interrupted] a crash cut this call off; it is not known how far it came, and it was not repeated"
                .to_owned(),
        ),
        Reply::Pong { .. } | Reply::Output { .. } | Reply::Data { .. } | Reply::Executions { .. } => {
            (ToolOutcome::Error, "the environment gave an answer that does not fit the question".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_says_so_in_its_first_word() {
        let tool = Tool::Run { command: "x".into(), timeout_ms: 1 };
        let (outcome, text) = told_of(&tool, Reply::Interrupted {});
        assert_eq!(outcome, ToolOutcome::Interrupted);
        assert!(text.starts_with("[interrupted]"), "{text}");
    }

    #[test]
    fn every_tool_but_finish_and_ask_is_carried_out_by_the_guest() {
        assert!(op_of(&Tool::Ask { question: "?".into() }).is_none());
        let run = op_of(&Tool::Run { command: "make test".into(), timeout_ms: 7 });
        assert!(matches!(run, Some(Op::Exec(Exec { argv, timeout_ms: 7, .. })) if argv == ["sh", "-c", "make test"]));
    }
}
