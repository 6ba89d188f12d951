//! The project's gates: commands that must succeed inside the environment before a change is opened.
//!
//! *Invariant:* a gate's call id follows from the run, the attempt and the gate's place, so a gate that a crash cut off is
//! answered from the guest's journal and not run twice for one attempt.

use stockade_agent::{Input, Ran};
use stockade_api::guest::{Exec, Op, Reply};
use stockade_domain::{ContentKind, EventKind, GateOutcome, ids::CallId};

use super::{Drive, DriveError, Rest};
use crate::book::{Draft, hold};

/// How long one gate may take, in milliseconds.
pub const GATE_TIMEOUT_MS: u64 = 1_800_000;
/// How much of each stream of a gate is kept, in bytes.
pub const MAX_GATE_OUTPUT: u64 = 64 * 1024;
/// So often a gate that was cut off by the guest's death is begun anew.
const MAX_TRIES: u32 = 4;

impl Drive {
    /// Runs the gates up to the first that fails.
    pub(super) async fn gates(&mut self, attempt: u32) -> Result<Option<Rest>, DriveError> {
        let (mut events, mut contents) = (Vec::new(), Vec::new());
        let mut failure = None;
        let gates = self.a.project.gates.clone();
        for (index, command) in (0u32..).zip(&gates) {
            let began = self.now();
            let reply = self.gate(attempt, index, command).await?;
            let Reply::Exited { status, signal, timed_out, stdout, stderr, .. } = reply else {
                return Err(DriveError::Defect(format!("gate {index} was answered with something else")));
            };
            let ran = Ran { status, signal, timed_out, stdout: &stdout, stderr: &stderr }.to_string();
            let outcome = match (timed_out, status) {
                (true, _) => GateOutcome::TimedOut,
                (false, 0) => GateOutcome::Passed,
                (false, _) => GateOutcome::Failed,
            };
            let output = self.seal(ContentKind::GateOutput, ran.as_bytes())?;
            let duration_ms = self.now().ms_since(began);
            events.push(EventKind::Gate { index, attempt, outcome, duration_ms, output: Some(output.content) });
            contents.push(hold(&output));
            if outcome != GateOutcome::Passed {
                failure = Some(format!("The gate `{command}` did not pass: {ran}"));
                break;
            }
        }
        let input = Input::Gates { attempt, passed: failure.is_none(), text: failure.unwrap_or_default() };
        self.write(Draft { input: Some(input), events, contents, ..Draft::default() }).await?;
        Ok(None)
    }

    async fn gate(&mut self, attempt: u32, index: u32, command: &str) -> Result<Reply, DriveError> {
        for round in 0..MAX_TRIES {
            let op = Op::Exec(Exec {
                argv: vec!["sh".to_owned(), "-c".to_owned(), command.to_owned()],
                timeout_ms: GATE_TIMEOUT_MS,
                max_output: MAX_GATE_OUTPUT,
                ..Exec::default()
            });
            let call = self.gate_call(attempt, index, round);
            match self.ask(Some(call), op).await?.reply {
                // A gate changes nothing that matters, so running it anew under another name is sound.
                Reply::Interrupted {} => {}
                Reply::Error { message, .. } => {
                    return Ok(Reply::Exited {
                        status: 127,
                        signal: None,
                        timed_out: false,
                        stdout: String::new(),
                        stderr: message,
                        duration_ms: 0,
                    });
                }
                reply => return Ok(reply),
            }
        }
        Err(DriveError::Guest(crate::guest::GuestError::Gone("a gate was cut off again and again".to_owned())))
    }

    fn gate_call(&self, attempt: u32, index: u32, round: u32) -> CallId {
        let name = format!("gate\n{}\n{}\n{attempt}\n{index}\n{round}", self.a.run, self.state.again);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        CallId::from_bytes(bytes)
    }
}
