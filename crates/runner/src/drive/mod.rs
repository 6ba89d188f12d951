//! The run driver: carries out what the agent machine wants, one journalled step after the other.
//!
//! Owns a run's way from its assignment to its end: environment, workspace, model calls ([`model`]), tool calls ([`tools`]),
//! gates ([`gates`]), the change ([`change`]), waiting for people, and endings. It refuses to hold anything in memory that a
//! restart would need: everything that matters is folded from the journal ([`state`]). *Invariant:* no effect before its
//! record is open, and nothing is told before it is journalled.

mod change;
mod gates;
mod guests;
pub mod harness;
mod model;
mod prepare;
pub mod state;
mod tools;

pub use prepare::broken_off;

use std::{sync::Arc, time::Duration};

use stockade_agent::{Input, Want};
use stockade_api::runner::{Assignment, Order};
use stockade_domain::{
    Action, ContentKind, ContextValue, Deed, Digest, EnvironmentClass, EventKind, FailureCause, Observed, Principal,
    Resource, RunState, RunTransition, Timestamp, WaitReason, ids::ApprovalId,
};
use stockade_ledger::{LedgerError, RunKey, Sealed, sha256};
use stockade_policy::{Permit, Question, Refusal, Ruling};
use tokio_util::sync::CancellationToken;

use crate::{
    book::{BookError, Draft, hold, seal, unhold},
    classes::UnknownClass,
    guest::GuestError,
    journal::{About, Step},
    site::Site,
    slot::{Slot, Terms, Waits},
    spool::SpoolError,
    tend,
    workspace::git::GitError,
};
use state::{State, event_of};

/// After a failure of ours, work on a run is taken up again after so long at first.
pub const RETRY_MIN: Duration = Duration::from_millis(500);
/// And at most after so long.
pub const RETRY_MAX: Duration = Duration::from_secs(60);
/// So often in a row work on a run may fail for reasons of ours before the run fails.
pub const MAX_FAILURES: u32 = 6;
/// How much longer than the server's time-out a runner waits for a person's answer before it takes silence for a no by
/// itself: only while the server is away.
pub const ANSWER_GRACE_MS: u64 = 60_000;

/// How long a run that stands still because the spool is full waits before it looks again, in milliseconds.
pub const ROOM_PAUSE_MS: u64 = 200;

/// How work on a run came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It waits for a person.
    Parked(Waits),
    /// It is over.
    Over,
    /// It was told to stop.
    Halted,
}

/// Why work on a run broke off.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// Journal, spool or ledger.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The ledger.
    #[error("the deed cannot be recorded")]
    Ledger(#[from] LedgerError),
    /// The spool has no room.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Its class is none of this runner's.
    #[error(transparent)]
    Class(#[from] UnknownClass),
    /// The environment.
    #[error("the environment: {0}")]
    Sandbox(#[from] stockade_sandbox::SandboxError),
    /// The guest died, again and again.
    #[error("the guest: {0}")]
    Guest(#[from] GuestError),
    /// The repository.
    #[error("the repository: {0}")]
    Git(#[from] GitError),
    /// A file of ours.
    #[error("cannot use `{path}`: {source}")]
    File {
        /// Which.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The server does not let us work on it, now.
    #[error("the lease: {0}")]
    Lease(crate::link::LinkError),
    /// The run's key cannot be had.
    #[error("the run's key: {0}")]
    Key(String),
    /// A defect of ours.
    #[error("a defect: {0}")]
    Defect(String),
    /// It was told to stop.
    #[error("stopped")]
    Halted,
}

impl DriveError {
    /// What a run fails of, if this does not pass. Nothing: it passes by itself, for as long as it takes.
    const fn cause(&self) -> Option<FailureCause> {
        match self {
            Self::Sandbox(_) | Self::Guest(_) | Self::Class(_) => Some(FailureCause::Environment),
            Self::Git(_) => Some(FailureCause::Repository),
            Self::Defect(_) => Some(FailureCause::Internal),
            Self::Book(_) | Self::Ledger(_) | Self::Spool(_) | Self::File { .. } | Self::Lease(_) | Self::Key(_) => {
                None
            }
            Self::Halted => None,
        }
    }

    /// Whether it is one that a run may fail of if it does not pass.
    pub const fn counts(&self) -> bool {
        self.cause().is_some()
    }

    /// Whether trying again is of no use.
    const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Git(GitError::Address { .. } | GitError::Limit { .. } | GitError::Hostile(_))
                | Self::Defect(_)
                | Self::Class(_)
        )
    }
}

/// Whether a deed may be done now.
enum Verdict {
    /// It may.
    Go(Permit),
    /// It may not.
    No(Refusal),
    /// A person has to be asked.
    Ask(Question),
}

/// One task's work on one run.
pub struct Drive {
    site: Arc<Site>,
    slot: Arc<Slot>,
    a: Arc<Assignment>,
    key: Arc<RunKey>,
    state: State,
    halt: CancellationToken,
    away_told: bool,
    /// How often in a row no money could be set aside.
    moneyless: u32,
}

impl std::fmt::Debug for Drive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drive").field("run", &self.a.run).finish_non_exhaustive()
    }
}

/// Works on a run until it comes to rest. `patience` is spent when it has failed too often: then the run fails.
pub async fn work(
    site: Arc<Site>,
    slot: Arc<Slot>,
    halt: CancellationToken,
    patient: bool,
) -> Result<Rest, DriveError> {
    let mut drive = match Drive::take(site, slot, halt).await? {
        Ok(drive) => drive,
        Err(rest) => return Ok(rest),
    };
    match drive.go().await {
        Err(DriveError::Halted) => Ok(Rest::Halted),
        Err(error) if error.cause().is_some() && (error.is_final() || !patient) => {
            let cause = error.cause().unwrap_or(FailureCause::Internal);
            tracing::warn!(run = %drive.a.run, %cause, %error, "{} fails: {error}", drive.a.run);
            let text = match &error {
                DriveError::Git(GitError::Inside { said, .. }) if !said.is_empty() => format!("{error}: {said}"),
                error => error.to_string(),
            };
            drive.fail(cause, text).await?;
            Ok(Rest::Over)
        }
        other => other,
    }
}

impl Drive {
    async fn go(&mut self) -> Result<Rest, DriveError> {
        if let Some(rest) = self.ended_by_people().await? {
            return Ok(rest);
        }
        if self.state.over {
            let again = self.a.order == Some(Order::Resume) && self.a.state == RunState::Queued;
            if !again {
                // A crash may have come between the end and the return of what was not spent.
                self.site.purse.end(self.a.run).await?;
                return Ok(Rest::Over);
            }
            self.again().await?;
        }
        if self.outlived() {
            return self.end_of_life().await;
        }
        self.adopt().await?;
        if !self.person_has_spoken().await? {
            return Ok(self.parked());
        }
        self.prepare().await?;
        if self.state.began && self.state.told != Some(RunTransition::Work) {
            self.write(Draft::events(vec![EventKind::State { transition: RunTransition::Work }])).await?;
        }
        loop {
            if self.halt.is_cancelled() {
                return Err(DriveError::Halted);
            }
            if let Some(rest) = self.ended_by_people().await? {
                return Ok(rest);
            }
            if self.outlived() {
                return self.end_of_life().await;
            }
            self.tell_about_the_server().await?;
            self.tell_calls().await?;
            self.room().await?;
            let Some(want) = self.state.agent.wants().into_iter().next() else {
                return Err(DriveError::Defect("the agent wants nothing and is not over".to_owned()));
            };
            let rest = match want {
                Want::Model { attempt, body, not_before, .. } => self.model(attempt, body, not_before).await?,
                Want::Harness { attempt, prompt, not_before } => self.harness(attempt, prompt, not_before).await?,
                Want::Tools { calls } => self.tools(calls).await?,
                Want::Gates { attempt } => self.gates(attempt).await?,
                Want::Person { question } => self.question(question).await?,
                Want::OpenChange { title, body } => self.change(&title, &body).await?,
                Want::Finished { .. } => Some(self.over(RunTransition::Succeed).await?),
                Want::Failed { cause, .. } => Some(self.over(RunTransition::Fail { cause }).await?),
            };
            if let Some(rest) = rest {
                return Ok(rest);
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.site.world().now()
    }

    /// Writes an entry into the book and folds it.
    async fn write(&mut self, draft: Draft) -> Result<(), DriveError> {
        let at = self.now();
        self.write_at(at, draft).await
    }

    async fn write_at(&mut self, at: Timestamp, mut draft: Draft) -> Result<(), DriveError> {
        // The agent is tried first: a line that does not fit must never reach the journal.
        let agent = match &draft.input {
            Some(input) => {
                let (agent, notices) = self.state.tried(at, input).map_err(|e| DriveError::Defect(e.to_string()))?;
                draft.events.extend(notices.iter().map(event_of));
                Some(agent)
            }
            None => None,
        };
        let mut book = self.slot.book.lock().await;
        // The lease may have been lost while this waited.
        if self.slot.fence().is_none() {
            return Err(DriveError::Halted);
        }
        let book = book.as_mut().ok_or_else(|| DriveError::Defect("the book is closed".to_owned()))?;
        let entry = book.write(at, draft).await?;
        if let Some(agent) = agent {
            self.state.agent = agent;
        }
        self.state.take(&entry);
        Ok(())
    }

    fn seal(&self, kind: ContentKind, plain: &[u8]) -> Result<Sealed, DriveError> {
        Ok(seal(&self.key, self.site.world(), kind, plain)?)
    }

    fn agent(&self) -> Principal {
        Principal::Agent { run: self.a.run, owner: self.a.owner }
    }

    fn deed(&self, action: Action, resource: Resource) -> Deed {
        let level = ContextValue::Long(i64::from(self.a.project.level.get()));
        Deed {
            principal: self.agent(),
            action,
            resource: resource.in_project(self.a.project.id).in_run(self.a.run),
            context: stockade_domain::Context::default().with("level", level),
        }
    }

    /// Decides a deed, with what people have answered about it.
    fn decide(&self, deed: Deed, about: About) -> Verdict {
        match self.site.policy.load().decide(deed) {
            Ruling::Allow(permit) => Verdict::Go(permit),
            Ruling::Deny(refusal) => Verdict::No(refusal),
            Ruling::Ask(question) => match self.state.answers.get(&about) {
                Some((_, false)) => Verdict::No(question.refused()),
                // A yes is to the deed as it was shown. If its circumstances are others by now, it is asked about again.
                Some((approval, true)) if self.is_as_asked(&question, about) => {
                    Verdict::Go(question.granted(*approval))
                }
                Some((_, true)) | None => Verdict::Ask(question),
            },
        }
    }

    fn is_as_asked(&self, question: &Question, about: About) -> bool {
        self.state.deeds.get(&about).is_none_or(|asked| Some(*asked) == digest_of(question.deed()))
    }

    /// The project's repository, which must be the one on which the run began: an address that changes under way would carry
    /// the work to where nobody has agreed that it goes.
    fn repository(&self) -> Result<String, DriveError> {
        let now = &self.a.project.repository;
        if self.state.repository.as_ref().is_some_and(|then| then != now) {
            let why = "the project's repository is not the one on which the run began";
            return Err(DriveError::Git(GitError::Hostile(why.to_owned())));
        }
        Ok(now.clone())
    }

    /// Parks the run until a person has spoken about a deed.
    async fn park(&mut self, question: Question, about: About, content: Sealed) -> Result<Rest, DriveError> {
        let approval: ApprovalId = self.site.world().id();
        let (deed, decision) = (question.deed().clone(), question.decision().clone());
        self.site.desk.ledger.asked(&deed, &decision, approval, vec![content.clone()]).await?;
        let at = self.now();
        let expires_at = at.plus_ms(self.a.agent.approval_timeout_ms);
        let asked = EventKind::ApprovalRequested {
            approval,
            action: deed.action,
            resource: deed.resource.id.clone(),
            policy: question.title().to_owned(),
            expires_at,
            content: Some(content.content),
        };
        self.park_for(at, Step::Asked { approval, about, deed: digest_of(&deed), expires_at }, asked).await
    }

    /// Parks the run until a person has answered what is asked in this step.
    async fn park_for(&mut self, at: Timestamp, step: Step, asked: EventKind) -> Result<Rest, DriveError> {
        let waits = EventKind::State { transition: RunTransition::Wait { reason: WaitReason::Approval } };
        let events = vec![asked, waits];
        let draft = Draft { input: Some(Input::Paused {}), step: Some(step), events, ..Draft::default() };
        self.write_at(at, draft).await?;
        Ok(self.parked())
    }

    fn parked(&self) -> Rest {
        let approval = self.state.asked.map(|(approval, _, until)| (approval, until.plus_ms(ANSWER_GRACE_MS)));
        let since = self.state.waits_since.unwrap_or_default();
        Rest::Parked(Waits { approval, reply: self.state.questioned, since })
    }

    /// Takes note of what a person has said. False: it still waits.
    async fn person_has_spoken(&mut self) -> Result<bool, DriveError> {
        if let Some((approval, _, expires_at)) = self.state.asked {
            let answer = self.a.approvals.iter().find(|a| a.approval == approval).map(|a| a.granted);
            let silence = self.now() > expires_at.plus_ms(ANSWER_GRACE_MS);
            let Some(granted) = answer.or_else(|| silence.then_some(false)) else { return Ok(false) };
            let events = vec![
                EventKind::ApprovalAnswered { approval, granted },
                EventKind::State { transition: RunTransition::Work },
            ];
            let step = Some(Step::Answered { approval, granted });
            self.write(Draft { input: Some(Input::Resumed {}), step, events, ..Draft::default() }).await?;
        }
        if let Some(number) = self.state.questioned {
            let Some(reply) = self.a.replies.iter().find(|r| r.number == number) else { return Ok(false) };
            let text = self.open_reply(reply)?;
            let events = vec![EventKind::InputReceived {}, EventKind::State { transition: RunTransition::Work }];
            let step = Some(Step::Replied { reply: number });
            self.write(Draft { input: Some(Input::Reply { text }), step, events, ..Draft::default() }).await?;
        }
        Ok(true)
    }

    fn open_reply(&self, reply: &stockade_api::runner::Reply) -> Result<String, DriveError> {
        let held = crate::journal::Held { content: reply.content, sealed: reply.sealed.clone() };
        let sealed = unhold(&held).ok_or_else(|| DriveError::Key("a reply is not base64".to_owned()))?;
        let plain = self.key.open(ContentKind::Reply, &sealed.bytes).map_err(|e| DriveError::Key(e.to_string()))?;
        Ok(String::from_utf8_lossy(&plain).into_owned())
    }

    /// The agent asks a person.
    async fn question(&mut self, question: String) -> Result<Option<Rest>, DriveError> {
        let sealed = self.seal(ContentKind::Question, question.as_bytes())?;
        let events = vec![
            EventKind::InputRequested { content: sealed.content },
            EventKind::State { transition: RunTransition::Wait { reason: WaitReason::Input } },
        ];
        let step = Some(Step::Questioned { reply: self.state.replied + 1 });
        let contents = vec![hold(&sealed)];
        self.write(Draft { step, events, contents, ..Draft::default() }).await?;
        // The answer may be there already, for example after a crash.
        self.a = self.slot.assignment();
        Ok(if self.person_has_spoken().await? { None } else { Some(self.parked()) })
    }

    /// A person wants it tried again.
    async fn again(&mut self) -> Result<(), DriveError> {
        let input =
            if self.state.agent.accepts(&Input::Retry {}).is_ok() { Input::Retry {} } else { Input::Resumed {} };
        let events = vec![
            EventKind::State { transition: RunTransition::Prepare },
            EventKind::Notice { code: "resumed".to_owned() },
        ];
        self.write(Draft { input: Some(input), step: Some(Step::Again {}), events, ..Draft::default() }).await
    }

    /// Whether a person, or the server for them, has ended the run.
    async fn ended_by_people(&mut self) -> Result<Option<Rest>, DriveError> {
        self.a = self.slot.assignment();
        if self.state.over {
            return Ok(None);
        }
        let transition = match (self.a.order, self.a.state) {
            (Some(Order::Cancel), _) | (_, RunState::Cancelled) => RunTransition::Cancel,
            (_, RunState::Expired) => RunTransition::Expire,
            _ => return Ok(None),
        };
        Ok(Some(self.over(transition).await?))
    }

    /// The run fails for a reason outside the agent.
    async fn fail(&mut self, cause: FailureCause, text: String) -> Result<(), DriveError> {
        if !self.state.agent.is_over() {
            self.write(Draft::input(Input::Stop { cause, text }, vec![])).await?;
        }
        self.over(RunTransition::Fail { cause }).await?;
        Ok(())
    }

    /// The class of its environment: as it was when it was taken, or what its name comes to now.
    fn class(&self) -> Result<EnvironmentClass, UnknownClass> {
        match &self.state.class {
            Some(class) if self.state.environment == Some(self.a.environment) => Ok(class.clone()),
            _ => self.site.classes.resolve(self.a.class.as_deref()).cloned(),
        }
    }

    /// What is promised of its environment is known to whoever looks after it.
    fn on_these_terms(&self) {
        let environment = self.a.environment;
        if let (Ok(class), Some(taken_at)) = (self.class(), self.state.taken_at)
            && self.state.environment == Some(environment)
        {
            let (runs_since, executions) = (self.state.runs_since, self.state.executions);
            self.slot.set_terms(Terms { environment, class, taken_at, runs_since, executions });
        }
    }

    fn outlived(&self) -> bool {
        self.slot.terms().is_some_and(|terms| terms.environment == self.a.environment && terms.are_over(self.now()))
    }

    /// The environment's lifetime is over: so is the run, with its work kept for whoever has it tried again, and the environment is stopped.
    async fn end_of_life(&mut self) -> Result<Rest, DriveError> {
        let (environment, generation) = (self.a.environment, self.a.generation);
        let text = self.slot.terms().map_or_else(String::new, |terms| {
            let (class, seconds) = (&terms.class.name, terms.class.lifetime_seconds.unwrap_or_default());
            format!("its environment has lived for {seconds} s, as long as its class `{class}` lets it")
        });
        tracing::warn!(run = %self.a.run, %environment, "{} ends: {text}", self.a.run);
        // Whatever is under way there is not waited for.
        *self.slot.guest.lock().await = None;
        self.fail(FailureCause::Lifetime, text).await?;
        let door = Arc::clone(&self.slot);
        let _door = door.door.lock().await;
        // The server has it deleted; until it is heard, nothing runs on.
        self.site.driver.stop(environment).await?;
        self.see(Observed::Stopped, generation, None).await?;
        Ok(Rest::Over)
    }

    /// The run is over.
    async fn over(&mut self, transition: RunTransition) -> Result<Rest, DriveError> {
        if matches!(transition, RunTransition::Fail { .. } | RunTransition::Expire) {
            self.keep_the_work().await;
        }
        tend::settle(&self.site, &self.slot).await;
        // A call of a program inside may have ended after the program.
        self.slot.calls.close();
        self.tell_calls().await?;
        let (usage, cost) = self.state.agent.spent();
        let events = vec![EventKind::Spent { cost, usage }, EventKind::State { transition }];
        // What still runs inside has nobody any more for whom it would go out.
        self.site.exits.close(self.a.environment).await;
        self.write(Draft::step(Step::Over {}, events)).await?;
        self.site.gateway.forget(self.a.run);
        self.site.purse.end(self.a.run).await?;
        Ok(Rest::Over)
    }

    /// The server is away: that is said once in the run, when it is noticed.
    async fn tell_about_the_server(&mut self) -> Result<(), DriveError> {
        let away = self.site.link.away().borrow().is_some();
        if away && !self.away_told {
            self.write(Draft::events(vec![EventKind::Notice { code: "server_away".to_owned() }])).await?;
        }
        self.away_told = away;
        Ok(())
    }

    /// Waits until the spool takes new deeds. The run does not fail of it, however long it takes.
    async fn room(&self) -> Result<(), DriveError> {
        let mut said = false;
        while let Err(error) = self.site.desk.spool.room() {
            if !said {
                tracing::error!(run = %self.a.run, %error, "{} stands still: {error}", self.a.run);
                said = true;
            }
            self.until(self.now().plus_ms(ROOM_PAUSE_MS)).await?;
        }
        Ok(())
    }

    /// Waits until a moment, or ends early when it is told to stop.
    async fn until(&self, moment: Timestamp) -> Result<(), DriveError> {
        let wait = Duration::from_millis(moment.ms_since(self.now()));
        match self.halt.run_until_cancelled(tokio::time::sleep(wait)).await {
            Some(()) => Ok(()),
            None => Err(DriveError::Halted),
        }
    }
}

/// The digest of a deed with all its circumstances, those that never leave the site included.
fn digest_of(deed: &Deed) -> Option<Digest> {
    Some(sha256(&[&serde_json::to_vec(deed).ok()?]))
}

/// Turns the failure to use a file into one of ours.
fn file_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> DriveError + use<> {
    let path = path.display().to_string();
    move |source| DriveError::File { path, source }
}
