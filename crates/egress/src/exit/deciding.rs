//! How a deed on the way out is decided and recorded.
//!
//! It owns the deed's form, the question to the policy and to people, the record before the effect, and the bound on refusals that are written
//! down. It refuses any other way to an [`Opened`] permit. *Invariant:* what a person is asked about, and what is recorded, is the deed as the
//! policy saw it; whoever goes away while a deed is recorded leaves no record open.

use std::sync::Arc;

use stockade_domain::{Action, Answer, ContentKind, Context, DecidingPolicy, Decision, Deed, Resource, ResourceKind};
use stockade_ledger::{Closing, Ledger, LedgerError, Opened, Outcome, Sealed, Status};
use stockade_policy::{Permit, Ruling};
use tokio::sync::oneshot;

use super::{Exit, Refused, Who};

/// Why a deed is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turned {
    /// Policy, or a person: the title of what decided, which is all that the environment is told.
    Refused(String),
    /// It cannot be recorded now, there is no room for that, or everything ends.
    Unrecorded,
}

/// A recorded right to act that nobody has taken yet. Dropped, its record is closed: nothing was done.
#[derive(Debug)]
pub(crate) struct Pledge {
    opened: Option<Opened<Permit>>,
    ledger: Arc<Ledger>,
}

impl Pledge {
    /// The right itself. Whoever has it sees to the end of its record.
    ///
    /// # Errors
    /// None: it is there until it is taken.
    pub(crate) fn take(mut self) -> Result<Opened<Permit>, Turned> {
        self.opened.take().ok_or(Turned::Unrecorded)
    }
}

impl Drop for Pledge {
    fn drop(&mut self) {
        let Some(opened) = self.opened.take() else { return };
        let (ledger, record) = (self.ledger.clone(), opened.record());
        // Without a runtime the reaper closes it at the next start.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let outcome = Outcome::with_code(Status::Error, "client_lost");
            if let Err(error) = ledger.close_in_passing(record, Closing::new(outcome), Vec::new()).await {
                tracing::error!(%record, %error, "the record of what nobody waited for was not closed: {error}");
            }
        });
    }
}

impl Exit {
    /// What the policy of now says.
    pub(crate) fn ruling(&self, deed: Deed) -> Ruling {
        self.parts.policy.load().decide(deed)
    }

    /// Makes of a ruling a recorded right to act: asks people where the policy wants one, opens the record, or writes the refusal down.
    ///
    /// # Errors
    /// Why it may not be done.
    pub(crate) async fn go(&self, ruling: Ruling) -> Result<Opened<Permit>, Turned> {
        self.pledged(ruling).await?.take()
    }

    /// The same for what is held while more is decided: dropped, it is closed.
    ///
    /// # Errors
    /// Why it may not be done.
    pub(crate) async fn pledged(&self, ruling: Ruling) -> Result<Pledge, Turned> {
        if !self.parts.room.has_room() {
            return Err(Turned::Unrecorded);
        }
        let permit = match ruling {
            Ruling::Allow(permit) => Ok(permit),
            Ruling::Deny(refusal) => Err(refusal),
            Ruling::Ask(question) => match self.contents(question.deed()) {
                Ok(contents) => tokio::select! {
                    biased;
                    () = self.stopped() => return Err(Turned::Unrecorded),
                    said = self.parts.people.ask(question, contents, self.limits.asking) => said,
                },
                Err(turned) => return Err(turned),
            },
        };
        match permit {
            Ok(permit) => self.record(permit).await,
            Err(refusal) => {
                self.write_refusal(refusal.deed().clone(), refusal.decision()).await;
                Err(Turned::Refused(refusal.title().to_owned()))
            }
        }
    }

    /// Opens the record of a deed, beside whoever waits for it: a client may be gone before the disk has it, and takes its request with it, not
    /// the end of its record.
    async fn record(&self, permit: Permit) -> Result<Pledge, Turned> {
        let contents = self.contents(permit.deed())?;
        let (deed, decision) = (permit.deed().clone(), permit.decision().clone());
        let ledger = self.parts.ledger.clone();
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let opened = ledger.open(&deed, &decision, contents, permit).await;
            // Nobody waits: the pledge is dropped, and closes it.
            let _ = tell.send(opened.map(|opened| Pledge { opened: Some(opened), ledger: ledger.clone() }));
        });
        match told.await {
            Ok(Ok(pledge)) => Ok(pledge),
            Ok(Err(error)) => {
                self.unrecorded(&error);
                Err(Turned::Unrecorded)
            }
            Err(_) => Err(Turned::Unrecorded),
        }
    }

    /// A connection as a deed.
    pub(crate) fn connection(&self, host: &str, port: u16, protocol: Option<&str>, inspected: bool) -> Deed {
        let mut deed = self.deed(Action::ConnectionOpen, ResourceKind::Host, host, port);
        deed.context = deed.context.with("inspected", inspected);
        if let Some(protocol) = protocol {
            deed.context = deed.context.with("protocol", protocol);
        }
        deed
    }

    /// A deed of this environment's run, at a port.
    pub(crate) fn deed(&self, action: Action, kind: ResourceKind, id: &str, port: u16) -> Deed {
        let Who { principal, run, project, level, .. } = &self.who;
        Deed {
            principal: principal.clone(),
            action,
            resource: Resource::new(kind, id).in_project(*project).in_run(*run),
            context: Context::default().with("level", i64::from(level.get())).with("port", i64::from(port)),
        }
    }

    /// What of a deed is content, sealed.
    fn contents(&self, deed: &Deed) -> Result<Vec<Sealed>, Turned> {
        if deed.context.content.is_empty() {
            return Ok(Vec::new());
        }
        let sealed = serde_json::to_vec(&deed.context.content).map_err(|error| error.to_string()).and_then(|plain| {
            self.who.key.seal(&*self.parts.world, ContentKind::DeedContext, &plain).map_err(|e| e.to_string())
        });
        sealed.map(|sealed| vec![sealed]).map_err(|error| {
            tracing::error!(run = %self.who.run, error, "what was asked for on a connection could not be sealed: {error}");
            Turned::Unrecorded
        })
    }

    /// Writes down what no policy refused.
    pub(super) async fn refuse(&self, host: &str, port: u16, protocol: Option<&str>, why: &Refused) {
        let mut deed = self.connection(host, port, protocol, false);
        deed.context.public.remove("inspected");
        self.refuse_deed(deed, why.word(), &why.to_string()).await;
    }

    /// Writes a deed down that was refused before any policy was asked, by a word of ours with a title.
    pub(crate) async fn refuse_deed(&self, deed: Deed, word: &str, title: &str) {
        let decision = Decision {
            answer: Answer::Deny,
            bundle: self.parts.policy.load().number(),
            policies: vec![DecidingPolicy { id: word.to_owned(), title: title.to_owned() }],
            approval: None,
        };
        self.write_refusal(deed, &decision).await;
    }

    /// Writes a refusal down, and how many before it were not; or counts it.
    async fn write_refusal(&self, mut deed: Deed, decision: &Decision) {
        if !self.parts.room.has_room() {
            return;
        }
        let Some(left_out) = self.written().refusals.take(self.parts.world.now()) else { return };
        let Ok(contents) = self.contents(&deed) else { return };
        if left_out > 0 {
            deed.context = deed.context.with("left_out", i64::try_from(left_out).unwrap_or(i64::MAX));
        }
        if let Err(error) = self.parts.ledger.refuse(&deed, decision, contents).await {
            self.unrecorded(&error);
        }
    }

    pub(super) fn unrecorded(&self, error: &LedgerError) {
        tracing::error!(run = %self.who.run, %error, "a connection could not be recorded: {error}");
    }
}
