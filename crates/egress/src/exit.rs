//! An environment's exit: what the runner does with everything that arrives at an environment's doors.
//!
//! It owns the way of a connection: whose it is, where it was to go, what it speaks, the decision, the record, dialling, and joining both ends; and the
//! environment's table of names. It refuses whatever the policy does not allow, TLS that is for another host, and what cannot be judged yet: HTTP in
//! the clear, whose every request would have to be held against its connection. *Invariant:* nothing is looked up or dialled before the policy has
//! allowed it and the record of that is durable; whatever becomes of a connection that was opened, its record is closed with what went over.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use stockade_domain::{
    Action, Answer, Context, ContextValue, DecidingPolicy, Decision, Deed, Level, Principal, Resource, ResourceKind,
    Timestamp, World,
    ids::{ProjectId, RecordId, RunId},
};
use stockade_ledger::{Closing, Ledger, LedgerError, Opened, Outcome, Status};
use stockade_policy::{Engine, Permit, Ruling};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::ours,
    dial::{DialError, Dialer, Dialled},
    dns::{self, Messages, Names, Transport},
    name::Host,
    opening::{self, Opening, Protocol},
    relay::{self, Carried, End},
};

/// So many refusals of one environment are written down in a minute.
pub const RECORDED_A_MINUTE: u32 = 60;
/// In microseconds.
const MINUTE: i64 = 60_000_000;
/// Kinds of strays of which the first is written down.
const MAX_STRAY_KINDS: usize = 64;
/// What is read at once of a stream with questions for names.
const PIECE: usize = 4 * 1024;

/// On whose behalf connections are opened.
#[derive(Debug, Clone)]
pub struct Who {
    /// The agent.
    pub principal: Principal,
    /// Its run.
    pub run: RunId,
    /// The run's project.
    pub project: ProjectId,
    /// The run's level.
    pub level: Level,
}

/// What an exit stands on.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The policy of the day.
    pub policy: Arc<ArcSwap<Engine>>,
    /// The record.
    pub ledger: Arc<Ledger>,
    /// The way to hosts.
    pub dialer: Dialer,
    /// The time.
    pub world: Arc<dyn World>,
}

/// Bounds of one environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. One more is closed.
    pub connections: usize,
    /// How long a connection may take to say for whom it is.
    pub opening: opening::Patience,
    /// How long it may be silent.
    pub relay: relay::Patience,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1_024, opening: opening::Patience::default(), relay: relay::Patience::default() }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Exit {
    who: Who,
    parts: Parts,
    limits: Limits,
    names: Mutex<Names>,
    places: Semaphore,
    written: Mutex<Written>,
    stop: CancellationToken,
}

/// What was written down of late.
#[derive(Debug, Default)]
struct Written {
    since: Option<Timestamp>,
    refusals: u32,
    left_out: u64,
    strays: BTreeMap<(u8, u16), u64>,
}

impl Exit {
    /// The exit of an environment, until it is told to [`stop`](Self::stop).
    pub fn new(who: Who, parts: Parts, limits: Limits) -> Self {
        Self {
            who,
            parts,
            limits,
            names: Mutex::new(Names::new()),
            places: Semaphore::new(limits.connections),
            written: Mutex::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Ends every connection that is open, and every one that comes.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Answers a question for a name that came as a datagram. Nothing if it is none.
    pub async fn question(&self, message: &[u8]) -> Option<Vec<u8>> {
        let answered = dns::answer(&mut self.names(), message, Transport::Udp);
        self.turned(&answered.verdict).await;
        answered.reply
    }

    /// Counts what is no stream, and writes the first of a kind down.
    pub async fn stray(&self, protocol: u8, to: SocketAddr) {
        let first = {
            let mut written = self.written();
            let kinds = written.strays.len();
            match written.strays.get_mut(&(protocol, to.port())) {
                Some(count) => {
                    *count = count.saturating_add(1);
                    false
                }
                None if kinds >= MAX_STRAY_KINDS => false,
                None => written.strays.insert((protocol, to.port()), 1).is_none(),
            }
        };
        if first {
            let facts = [
                ("protocol".to_owned(), ContextValue::Long(protocol.into())),
                ("to".to_owned(), to.ip().to_string().as_str().into()),
                ("port".to_owned(), ContextValue::Long(to.port().into())),
            ];
            self.note("packet_nowhere", facts.into()).await;
        }
    }

    /// Carries a stream out, or closes it. It does not fail: what becomes of it is in the record.
    pub async fn stream<S: AsyncRead + AsyncWrite + Unpin + Send>(&self, mut stream: S, wanted: SocketAddr) {
        let Ok(_place) = self.places.try_acquire() else {
            return self.refuse(&shown(wanted.ip()), wanted.port(), None, &Refused::Crowded).await;
        };
        let ended = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            ended = self.begin(&mut stream, wanted) => ended,
        };
        let Some((host, opening)) = ended else { return };
        self.carry(stream, host, wanted.port(), opening).await;
    }

    /// Whose it is and what it speaks; nothing if it is over already.
    async fn begin<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        wanted: SocketAddr,
    ) -> Option<(Host, Opening)> {
        if wanted.port() == 53 {
            self.questions(stream).await;
            return None;
        }
        let host = match ours(wanted.ip()) {
            None => Host::Address(wanted.ip().to_canonical()),
            Some(address) => {
                let name = self.names().name_of(address.into()).cloned();
                let Some(name) = name else {
                    self.refuse(&shown(wanted.ip()), wanted.port(), None, &Refused::Unnamed).await;
                    return None;
                };
                Host::Name(name)
            }
        };
        match opening::look(stream, self.limits.opening).await {
            Ok(opening) => Some((host, opening)),
            // Nothing was wanted: a port was looked at, no more.
            Err(opening::OpeningError::Ended | opening::OpeningError::Lost(_)) => None,
            Err(error) => {
                let why = Refused::Opening(error.to_string());
                self.refuse(&host.to_string(), wanted.port(), None, &why).await;
                None
            }
        }
    }

    async fn carry<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S, host: Host, port: u16, opening: Opening) {
        let (shown, word) = (host.to_string(), opening.protocol.as_str());
        if let Err(why) = opening.is_for(&host) {
            return self.refuse(&shown, port, Some(word), &Refused::Misdirected(why.to_string())).await;
        }
        if matches!(opening.protocol, Protocol::Http1 | Protocol::Http2) {
            return self.refuse(&shown, port, Some(word), &Refused::InTheClear).await;
        }
        let policy = self.parts.policy.load_full();
        let refusal = match policy.decide(self.deed(&shown, port, Some(word))) {
            Ruling::Allow(permit) => {
                let (deed, decision) = (permit.deed().clone(), permit.decision().clone());
                match self.parts.ledger.open(&deed, &decision, Vec::new(), permit).await {
                    Ok(opened) => return self.connect(stream, opened, &host, port, &opening.bytes).await,
                    Err(error) => return self.unrecorded(&error),
                }
            }
            Ruling::Ask(question) => question.refused(),
            Ruling::Deny(refusal) => refusal,
        };
        self.write_refusal(refusal.deed().clone(), refusal.decision()).await;
        let _ = stream.shutdown().await;
    }

    /// Dials, joins, and closes the record.
    async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        opened: Opened<Permit>,
        host: &Host,
        port: u16,
        first: &[u8],
    ) {
        let record = opened.record();
        let dialled = tokio::select! {
            biased;
            () = self.stop.cancelled() => return self.close(record, "stopped", Carried::default(), None).await,
            dialled = self.dial(opened, host, port) => dialled,
        };
        let Dialled { stream: mut far, address, .. } = match dialled {
            Ok(dialled) => dialled,
            Err(error) => {
                tracing::info!(run = %self.who.run, host = %host, %error, "a connection to {host} was allowed and not made: {error}");
                return self.close(record, code_of(&error), Carried::default(), None).await;
            }
        };
        if far.write_all(first).await.is_err() {
            return self.close(record, "lost", Carried::default(), Some(address)).await;
        }
        let (mut carried, end) = relay::join(&mut stream, &mut far, self.limits.relay, &self.stop).await;
        carried.out = carried.out.saturating_add(first.len() as u64);
        let code = match end {
            End::Whole => "",
            End::Silent => "silent",
            End::Stopped => "stopped",
            End::First(_) => "client_lost",
            End::Second(_) => "lost",
        };
        self.close(record, code, carried, Some(address)).await;
    }

    /// The one place from which an environment's connections are dialled.
    async fn dial(&self, opened: Opened<Permit>, host: &Host, port: u16) -> Result<Dialled, DialError> {
        let permit = opened.into_permit();
        let dialled = self.parts.dialer.open(host, port).await;
        drop(permit);
        dialled
    }

    async fn close(&self, record: RecordId, code: &str, carried: Carried, address: Option<SocketAddr>) {
        let status = match code {
            "" => Status::Ok,
            "stopped" => Status::Cancelled,
            _ => Status::Error,
        };
        let bytes = |count: u64| ContextValue::Long(i64::try_from(count).unwrap_or(i64::MAX));
        let mut facts = BTreeMap::from([
            ("bytes_out".to_owned(), bytes(carried.out)),
            ("bytes_in".to_owned(), bytes(carried.back)),
        ]);
        if let Some(address) = address {
            facts.insert("address".to_owned(), address.to_string().as_str().into());
        }
        let outcome = Outcome { status, code: (!code.is_empty()).then(|| code.to_owned()) };
        let closing = Closing { facts, ..Closing::new(outcome) };
        if let Err(error) = self.parts.ledger.close_in_passing(record, closing, Vec::new()).await {
            // The reaper closes it at the next start.
            self.unrecorded(&error);
        }
    }

    /// Questions for names by stream (RFC 7766), one after the other.
    async fn questions<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) {
        let mut messages = Messages::new();
        let mut piece = vec![0; PIECE];
        loop {
            let read = tokio::time::timeout(self.limits.opening.whole, stream.read(&mut piece)).await;
            let Ok(Ok(len @ 1..)) = read else { return };
            let mut rest = piece.get(..len).unwrap_or_default();
            loop {
                let message = match messages.take(&mut rest) {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    Err(_) => return,
                };
                let answered = dns::answer(&mut self.names(), &message, Transport::Tcp);
                self.turned(&answered.verdict).await;
                let Some(reply) = answered.reply.as_deref().and_then(dns::framed) else { return };
                if stream.write_all(&reply).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Writes down that names are turned away, once for each reason.
    async fn turned(&self, verdict: &dns::Verdict) {
        let dns::Verdict::Turned(turned) = verdict else { return };
        let (word, parent) = match turned {
            dns::Turned::Crowded { parent, first: true } => ("names_crowded", Some(parent.as_str())),
            dns::Turned::Full { first: true } => ("names_full", None),
            _ => return,
        };
        let facts = parent.map(|parent| ("below".to_owned(), ContextValue::from(parent)));
        self.note(word, facts.into_iter().collect()).await;
    }

    async fn note(&self, word: &str, facts: BTreeMap<String, ContextValue>) {
        if let Err(error) = self.parts.ledger.note(word, Some(self.who.run), facts).await {
            self.unrecorded(&error);
        }
    }

    /// Writes down what no policy refused.
    async fn refuse(&self, host: &str, port: u16, protocol: Option<&str>, why: &Refused) {
        let decision = Decision {
            answer: Answer::Deny,
            bundle: self.parts.policy.load().number(),
            policies: vec![DecidingPolicy { id: why.word().to_owned(), title: why.to_string() }],
            approval: None,
        };
        self.write_refusal(self.deed(host, port, protocol), &decision).await;
    }

    /// Writes a refusal down, and how many before it were not; or counts it.
    async fn write_refusal(&self, mut deed: Deed, decision: &Decision) {
        let Some(left_out) = self.take() else { return };
        if left_out > 0 {
            deed.context = deed.context.with("left_out", i64::try_from(left_out).unwrap_or(i64::MAX));
        }
        if let Err(error) = self.parts.ledger.refuse(&deed, decision, Vec::new()).await {
            self.unrecorded(&error);
        }
    }

    fn deed(&self, host: &str, port: u16, protocol: Option<&str>) -> Deed {
        let Who { principal, run, project, level } = &self.who;
        let mut context = Context::default().with("level", i64::from(level.get())).with("port", i64::from(port));
        if let Some(protocol) = protocol {
            context = context.with("protocol", protocol);
        }
        Deed {
            principal: principal.clone(),
            action: Action::ConnectionOpen,
            resource: Resource::new(ResourceKind::Host, host).in_project(*project).in_run(*run),
            context,
        }
    }

    /// Whether one more refusal is written down, and how many before it were not.
    fn take(&self) -> Option<u64> {
        let now = self.parts.world.now();
        let mut written = self.written();
        // A clock that went back begins another minute.
        let within = |since: Timestamp| (0..MINUTE).contains(&now.0.saturating_sub(since.0));
        if !written.since.is_some_and(within) {
            (written.since, written.refusals) = (Some(now), 0);
        }
        if written.refusals >= RECORDED_A_MINUTE {
            written.left_out = written.left_out.saturating_add(1);
            return None;
        }
        written.refusals += 1;
        Some(std::mem::take(&mut written.left_out))
    }

    fn unrecorded(&self, error: &LedgerError) {
        tracing::error!(run = %self.who.run, %error, "a connection could not be recorded: {error}");
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        // Every change under this lock is a single step: a panic elsewhere leaves it whole.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

const fn code_of(error: &DialError) -> &'static str {
    match error {
        DialError::Lookup { .. } | DialError::NoAddress { .. } => "unknown_host",
        DialError::NotPublic { .. } => "not_public",
        DialError::Unreachable { .. } => "unreachable",
        DialError::Proxy { .. } => "proxy",
    }
}

/// Why a connection is refused before the policy is asked.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("Too many connections at once")]
    Crowded,
    #[error("An address that no name was given")]
    Unnamed,
    #[error("{0}")]
    Opening(String),
    #[error("{0}")]
    Misdirected(String),
    #[error("HTTP in the clear is not let out: use https")]
    InTheClear,
}

impl Refused {
    const fn word(&self) -> &'static str {
        match self {
            Self::Crowded => "egress:crowded",
            Self::Unnamed => "egress:unnamed",
            Self::Opening(_) => "egress:opening",
            Self::Misdirected(_) => "egress:misdirected",
            Self::InTheClear => "egress:in_the_clear",
        }
    }
}

#[cfg(test)]
mod tests;
