//! The program inside that does the work in place of our own loop: permitted, recorded, started by the guest, watched, and ended.
//!
//! *Invariant:* the call id that goes to the guest follows from the run and the attempt, so a program that was started before a crash is not
//! started again: the guest answers from its journal, or says that it still runs. Its token goes into the environment with the command and
//! nowhere else.

pub mod program;

use std::{pin::Pin, time::Duration};

use secrecy::ExposeSecret as _;
use serde_json::json;
use stockade_agent::{HarnessEnd, Input, MAX_RESULT, Ran};
use stockade_api::guest::{Exec, Op, Reply};
use stockade_domain::{
    Action, Answer, ContentKind, Deed, EventKind, Nanos, Resource, ResourceKind, Timestamp, ToolOutcome, Usage,
    ids::CallId,
};
use stockade_ledger::{Opened, Sealed};
use stockade_policy::Permit;

use super::{Drive, DriveError, Rest, Verdict, guests, guests::AskError, prepare::notice};
use crate::{
    book::{Draft, hold},
    guest::{Answered, GuestError},
    journal::{About, Close, EndStatus},
    pinhole,
    slot::Halt,
};
use program::Program;

/// The name of the tool that starting a program is, in policies and records.
pub const TOOL: &str = "harness";
/// How much of each stream of a program is kept, in bytes: the first half and the last.
pub const MAX_HARNESS_OUTPUT: u64 = 512 * 1024;
/// The longest that a program may run, in milliseconds: as long as the guest lets a command run.
pub const MAX_HARNESS_MS: u64 = 24 * 3_600_000;
/// How long a program that is asked to end may take before it is killed.
pub const HARNESS_GRACE: Duration = Duration::from_secs(5);
/// How long writing one of its files may take, in milliseconds.
const FILE_TIMEOUT_MS: u64 = 10_000;
/// How much of a program's own words about its failure is told.
const MAX_WORDS: usize = 4 * 1024;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// Writes standard input into a file below the home.
const WRITE: &str = r#"umask 077 && mkdir -p "$HOME/$(dirname "$FILE")" && cat > "$HOME/$FILE""#;

/// How it came to an end.
struct End {
    outcome: HarnessEnd,
    said: String,
    transcript: String,
}

impl End {
    fn new(outcome: HarnessEnd, said: impl Into<String>) -> Self {
        let said = said.into();
        Self { outcome, transcript: said.clone(), said }
    }
}

type Asking = Pin<Box<dyn Future<Output = Result<Answered, AskError>> + Send>>;

impl Drive {
    /// Has the program do the work, and tells the agent how that ended.
    pub(super) async fn harness(
        &mut self,
        attempt: u32,
        prompt: String,
        not_before: Option<Timestamp>,
    ) -> Result<Option<Rest>, DriveError> {
        let deadline = self.state.agent.deadline();
        if let Some(moment) = not_before {
            self.until(deadline.map_or(moment, |d| d.min(moment))).await?;
        }
        if deadline.is_some_and(|d| self.now() >= d) {
            self.write(Draft::input(Input::Tick {}, vec![])).await?;
            return Ok(None);
        }
        let (harness, model) = (self.a.agent.harness, self.a.agent.model.clone());
        let program = program::program(harness, &model, &pinhole::base())
            .ok_or_else(|| DriveError::Defect(format!("`{harness}` is no program")))?;
        let began = self.now();
        let call = self.harness_call(attempt);
        let shown = json!({"tool": TOOL, "harness": harness, "model": model, "prompt": prompt});
        let json = serde_json::to_vec(&shown).map_err(|e| DriveError::Defect(e.to_string()))?;
        let input = self.seal(ContentKind::ToolInput, &json)?;
        // Asked about once: a yes is to its working here, however often it has to be started.
        let about = About::Call { call: self.harness_call(0) };
        let permit = match self.decide(self.harness_deed(), about) {
            Verdict::Go(permit) => permit,
            Verdict::Ask(question) => return self.park(question, about, input).await.map(Some),
            Verdict::No(refusal) => {
                let (deed, decision) = (refusal.deed(), refusal.decision());
                let record = self.site.desk.ledger.refuse(deed, decision, vec![input.clone()]).await?;
                let answer = if decision.answer == Answer::Allow { Answer::Deny } else { decision.answer };
                let event = event(call, answer, ToolOutcome::Denied, record, 0, &input, None);
                let said = refusal.title().to_owned();
                let told = Input::HarnessEnded { attempt, outcome: HarnessEnd::Denied, said };
                self.write(Draft::input(told, vec![event])).await?;
                return Ok(None);
            }
        };
        let (deed, decision) = (permit.deed().clone(), permit.decision().clone());
        let opened = self.site.desk.ledger.open(&deed, &decision, vec![input.clone()], permit).await?;
        self.slot.calls.open();
        let end = self.at_work(call, &program, prompt, deadline).await;
        match end {
            Ok(Some(end)) => {
                self.tell_calls().await?;
                self.slot.calls.close();
                self.harness_ended(attempt, call, &opened, &input, began, end).await?;
                Ok(None)
            }
            Ok(None) => {
                // It was ended because people ended the run: that is what comes next.
                self.tell_calls().await?;
                self.slot.calls.close();
                let record = opened.record();
                let ms = self.now().ms_since(began);
                let answer = opened.permit().decision().answer;
                let event = event(call, answer, ToolOutcome::Interrupted, record, ms, &input, None);
                let close = close(&opened, EndStatus::Cancelled, None);
                self.write(Draft { events: vec![event], close: Some(close), ..Draft::default() }).await?;
                Err(DriveError::Halted)
            }
            Err(error) => {
                if self.slot.halted() == Some(Halt::LeaseLost) {
                    self.slot.calls.close();
                }
                Err(error)
            }
        }
    }

    fn harness_deed(&self) -> Deed {
        let mut deed = self.deed(Action::ToolCall, Resource::new(ResourceKind::Tool, TOOL));
        deed.context =
            deed.context.with("tool", TOOL).with("read_only", false).with("harness", self.a.agent.harness.as_str());
        deed
    }

    fn harness_call(&self, attempt: u32) -> CallId {
        let name = format!("harness\n{}\n{}\n{}\n{attempt}", self.a.run, self.a.environment, self.state.again);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        CallId::from_bytes(bytes)
    }

    /// Starts the program, or finds it at work, and watches it to its end. Nothing: the run was ended by people, and the program with it.
    async fn at_work(
        &mut self,
        call: CallId,
        program: &Program,
        prompt: String,
        deadline: Option<Timestamp>,
    ) -> Result<Option<End>, DriveError> {
        for (path, content) in &program.files {
            self.home_file(path, content).await?;
        }
        let token = pinhole::token(&self.key, self.a.environment);
        let mut env = program.env.clone();
        env.push((program.token.to_owned(), token.expose_secret().to_owned()));
        let left = deadline.map_or(MAX_HARNESS_MS, |d| d.ms_since(self.now())).clamp(1, MAX_HARNESS_MS);
        let op = Op::Exec(Exec {
            argv: program.argv.clone(),
            env,
            stdin: Some(prompt),
            timeout_ms: left,
            max_output: MAX_HARNESS_OUTPUT,
            ..Exec::default()
        });
        let mut deaths = 0;
        loop {
            // Halting leaves the program to the guest, so whoever asks has no part in it.
            let asked: Asking =
                Box::pin(guests::ask_owned(self.site.clone(), self.slot.clone(), Some(call), op.clone()));
            match self.watched(call, asked).await? {
                Watched::Answered(Ok(answered)) => return Ok(Some(self.end_of(answered.reply))),
                Watched::Answered(Err(AskError::Died(why))) if deaths < guests::MAX_RESTARTS => {
                    deaths += 1;
                    self.revive(&why).await?;
                }
                Watched::Answered(Err(AskError::Died(why))) => return Err(DriveError::Guest(GuestError::Gone(why))),
                Watched::Answered(Err(AskError::Other(error))) => return Err(error),
                Watched::Ended => return Ok(None),
                Watched::Stopped(reply) => {
                    let end = reply.map_or_else(|| End::new(HarnessEnd::Interrupted, ""), |reply| self.end_of(reply));
                    return Ok(Some(End { outcome: HarnessEnd::Interrupted, ..end }));
                }
            }
        }
    }

    /// Waits for the program's end, writes down what it does meanwhile, and ends it when a limit is reached or people want it.
    async fn watched(&mut self, call: CallId, mut asked: Asking) -> Result<Watched, DriveError> {
        loop {
            let (slot, halt, deadline) = (self.slot.clone(), self.halt.clone(), self.state.agent.deadline());
            tokio::select! {
                answer = &mut asked => return Ok(Watched::Answered(answer)),
                () = slot.calls.news() => {}
                () = self.passed(deadline) => {
                    self.write(Draft::input(Input::Tick {}, vec![])).await?;
                }
                () = halt.cancelled() => {
                    if slot.halted() == Some(Halt::Changed) {
                        self.end_program(call, &mut asked).await;
                        return Ok(Watched::Ended);
                    }
                    return Err(DriveError::Halted);
                }
            }
            self.tell_calls().await?;
            if self.state.agent.is_over() {
                return Ok(Watched::Stopped(self.end_program(call, &mut asked).await));
            }
        }
    }

    /// Asks the program to end, and kills it if it does not. Gives what the guest says of its end.
    async fn end_program(&self, call: CallId, asked: &mut Asking) -> Option<Reply> {
        for signal in [SIGTERM, SIGKILL] {
            let op = Op::Signal { exec: call, signal };
            // If the guest is gone, so is the program.
            let told = guests::ask_owned(self.site.clone(), self.slot.clone(), None, op);
            if tokio::time::timeout(HARNESS_GRACE, told).await.is_err() {
                tracing::warn!(run = %self.a.run, signal, "the guest of {} takes no signal", self.a.run);
            }
            if let Ok(answer) = tokio::time::timeout(HARNESS_GRACE, &mut *asked).await {
                return answer.ok().map(|answered| answered.reply);
            }
        }
        tracing::warn!(run = %self.a.run, "the program of {} was killed and its guest does not say so", self.a.run);
        None
    }

    /// Writes down what the program did at the gateway.
    pub(super) async fn tell_calls(&mut self) -> Result<(), DriveError> {
        for told in self.slot.calls.take() {
            self.write(Draft::input(told.input, vec![told.event])).await?;
        }
        Ok(())
    }

    async fn home_file(&mut self, path: &str, content: &str) -> Result<(), DriveError> {
        let exec = Exec {
            argv: vec!["sh".to_owned(), "-c".to_owned(), WRITE.to_owned()],
            env: vec![("FILE".to_owned(), path.to_owned())],
            stdin: Some(content.to_owned()),
            timeout_ms: FILE_TIMEOUT_MS,
            max_output: 4 * 1024,
            ..Exec::default()
        };
        match self.ask(None, Op::Exec(exec)).await?.reply {
            Reply::Exited { status: 0, .. } => Ok(()),
            _ => Err(DriveError::Guest(GuestError::Gone(format!("`{path}` cannot be written into the home")))),
        }
    }

    /// What the guest's answer means.
    fn end_of(&self, reply: Reply) -> End {
        let harness = self.a.agent.harness;
        let (status, signal, timed_out, stdout, stderr) = match reply {
            Reply::Exited { status, signal, timed_out, stdout, stderr, .. } => {
                (status, signal, timed_out, stdout, stderr)
            }
            Reply::Interrupted {} => return End::new(HarnessEnd::Interrupted, "it was cut off by a crash"),
            Reply::Error { code, message } if code == "not_found" || code == "io" => {
                return End::new(HarnessEnd::Missing, missing(harness, &message));
            }
            Reply::Error { message, .. } => return End::new(HarnessEnd::Failed, message),
            _ => return End::new(HarnessEnd::Failed, "the environment gave an answer that does not fit the question"),
        };
        let said = program::said(harness, &stdout);
        let transcript = Ran { status, signal, timed_out, stdout: &stdout, stderr: &stderr }.to_string();
        if timed_out {
            return End { outcome: HarnessEnd::TimedOut, said: said.words, transcript };
        }
        if status == 0 && said.error.is_none() {
            return End { outcome: HarnessEnd::Done, said: said.words, transcript };
        }
        if let Some((outcome, said)) = self.slot.calls.turned() {
            return End { outcome, said, transcript };
        }
        let why = said.error.unwrap_or_else(|| last_of(if stderr.trim().is_empty() { &stdout } else { &stderr }));
        let outcome = if signal.is_some() { HarnessEnd::Interrupted } else { HarnessEnd::Failed };
        End { outcome, said: format!("{harness} ended with exit status {status}: {}", last_of(&why)), transcript }
    }

    async fn harness_ended(
        &mut self,
        attempt: u32,
        call: CallId,
        opened: &Opened<Permit>,
        input: &Sealed,
        began: Timestamp,
        end: End,
    ) -> Result<(), DriveError> {
        let End { outcome, said, transcript } = end;
        let output = self.seal(ContentKind::ToolOutput, transcript.as_bytes())?;
        let (told, status, code) = match outcome {
            HarnessEnd::Done => (ToolOutcome::Ok, EndStatus::Ok, None),
            HarnessEnd::Interrupted => (ToolOutcome::Interrupted, EndStatus::Unknown, Some("interrupted")),
            HarnessEnd::TimedOut => (ToolOutcome::Error, EndStatus::Error, Some("timed_out")),
            HarnessEnd::Missing => (ToolOutcome::Error, EndStatus::Error, Some("missing")),
            _ => (ToolOutcome::Error, EndStatus::Error, None),
        };
        let at = self.now();
        let answer = opened.permit().decision().answer;
        let mut events = vec![event(call, answer, told, opened.record(), at.ms_since(began), input, Some(&output))];
        if outcome == HarnessEnd::Missing {
            tracing::error!(run = %self.a.run, "{}: {said}", self.a.run);
            events.push(notice("harness_missing"));
        }
        let said: String = said.chars().take(MAX_RESULT).collect();
        let draft = Draft {
            input: Some(Input::HarnessEnded { attempt, outcome, said }),
            events,
            close: Some(close(opened, status, code)),
            contents: vec![hold(&output)],
            ..Draft::default()
        };
        self.write_at(at, draft).await
    }
}

/// How watching it ended.
enum Watched {
    /// The guest answered.
    Answered(Result<Answered, AskError>),
    /// People ended the run.
    Ended,
    /// A limit was reached. With what is left of it.
    Stopped(Option<Reply>),
}

/// What is said of a program that is not there, and what to do.
fn missing(harness: stockade_domain::Harness, why: &str) -> String {
    let Some(origin) = program::origin(harness) else { return why.to_owned() };
    let (program, package) = (origin.program, origin.package);
    format!(
        "{harness} cannot be started in the environment: {why}. Install it on the runner's machine where environments see it, for example \
         `npm install --global --prefix /usr/local {package}`; `stockade doctor` says which are found (looked for: `{program}`)"
    )
}

/// The end of a text, at most so long.
fn last_of(text: &str) -> String {
    let text = text.trim();
    text.get(text.ceil_char_boundary(text.len().saturating_sub(MAX_WORDS))..).unwrap_or_default().to_owned()
}

fn event(
    call: CallId,
    answer: Answer,
    outcome: ToolOutcome,
    record: stockade_domain::ids::RecordId,
    duration_ms: u64,
    input: &Sealed,
    output: Option<&Sealed>,
) -> EventKind {
    let tool = TOOL.to_owned();
    let (input, output) = (Some(input.content), output.map(|output| output.content));
    EventKind::ToolCall { call, tool, answer, outcome, record, duration_ms, input, output }
}

fn close(opened: &Opened<Permit>, status: EndStatus, code: Option<&str>) -> Close {
    let record = opened.record();
    Close { record, status, code: code.map(str::to_owned), usage: Usage::default(), cost: Nanos::ZERO }
}
