//! An environment's exit: what the runner does with everything that arrives at an environment's doors.
//!
//! It owns the way of a connection: whose it is, where it was to go, what it speaks, the decision, the record, dialling, and joining both ends; and the
//! environment's table of names. It refuses whatever the policy does not allow, and TLS that is for another host. What may go out only if it is looked
//! into, and HTTP in the clear, goes the inspected way ([`inspect`]). *Invariant:* nothing is looked up or dialled before the policy has
//! allowed it and the record of that is durable; whatever becomes of a connection that was opened, its record is closed with what went over.

pub(crate) mod deciding;
pub mod git;
mod inspect;
mod open;
pub mod origin;
mod tunnel;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use stockade_domain::{
    ContextValue, Level, Principal, World,
    ids::{ProjectId, RecordId, RunId},
};
use stockade_ledger::{Ledger, Minute, RunKey, Sealed};
use stockade_policy::{Engine, Permit, Question, Refusal};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::ours,
    ca::Authority,
    credential::Credentials,
    dial::Dialer,
    dns::{self, Messages, Names, Transport},
    name::Host,
    opening::{self, Opening},
    origins::Origins,
    relay,
};
use open::Live;

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
    /// Seals what of a deed is content.
    pub key: Arc<RunKey>,
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
    /// The environment's own certificate authority. Without one nothing over TLS is looked into, and what may go out only so is refused.
    pub authority: Option<Arc<Authority>>,
    /// Who checks the certificates of servers on connections that are looked into.
    pub origins: Option<Arc<Origins>>,
    /// What requests may be given on their way out.
    pub credentials: Arc<Credentials>,
    /// Who is asked where the policy wants a person.
    pub people: Arc<dyn People>,
    /// What the runner itself serves to the environment.
    pub inside: Option<Arc<dyn Inside>>,
    /// Whether what is done can be written down.
    pub room: Arc<dyn Room>,
    /// The time.
    pub world: Arc<dyn World>,
}

/// Whether the record has room. The runner implements it.
pub trait Room: Send + Sync + fmt::Debug {
    /// False: nothing new is done, so that what was begun can still be written to its end.
    fn has_room(&self) -> bool;
}

/// People who are asked about deeds. The runner implements it.
#[async_trait]
pub trait People: Send + Sync + fmt::Debug {
    /// Puts a question to people and waits for an answer, no longer than `patience`. A question about the same deed of the same run that is
    /// open is joined, and one that was answered gives its answer at once. `contents` is what of the deed is content, sealed.
    async fn ask(&self, question: Question, contents: Vec<Sealed>, patience: Duration) -> Result<Permit, Refusal>;
}

/// Where nobody can be asked: every question is a no.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

#[async_trait]
impl People for Nobody {
    async fn ask(&self, question: Question, _contents: Vec<Sealed>, _patience: Duration) -> Result<Permit, Refusal> {
        Err(question.refused())
    }
}

/// A stream of an environment whose kind nobody needs to know.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A host that the runner itself serves to the environment: the gateway. A connection to it leaves nothing, so it is no deed; what is asked for on
/// it is decided and recorded where it is served.
#[async_trait]
pub trait Inside: Send + Sync + fmt::Debug {
    /// Serves a stream to [`GATEWAY`] on [`GATEWAY_PORT`] until its end.
    async fn serve(&self, stream: Box<dyn Stream>);
}

/// The name by which environments reach the gateway (`.internal`: no name of the internet ends so, ICANN board resolution 2024.07.29.06).
pub const GATEWAY: &str = "gateway.stockade.internal";
/// Its port. In the clear: it never leaves the machine.
pub const GATEWAY_PORT: u16 = 80;

/// Bounds of one environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. One more is closed.
    pub connections: usize,
    /// Of those, so many that are looked into: what they hold of bodies is the runner's memory. One more is refused.
    pub inspected: usize,
    /// How long a connection may take to say for whom it is.
    pub opening: opening::Patience,
    /// How long it may be silent.
    pub relay: relay::Patience,
    /// How long a deed waits for a person before whoever wants it is told to come again.
    pub asking: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            inspected: 256,
            opening: opening::Patience::default(),
            relay: relay::Patience::default(),
            asking: Duration::from_secs(45),
        }
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
    inspected: Semaphore,
    written: Mutex<Written>,
    open: Mutex<BTreeMap<RecordId, Live>>,
    git: git::Desk,
    tally: Arc<Tally>,
    stop: CancellationToken,
}

/// What went over an environment's connections that have ended, in bytes. Several exits, one after the other, may count in one.
#[derive(Debug, Default)]
pub struct Tally {
    out: AtomicU64,
    back: AtomicU64,
}

impl Tally {
    /// Out of the environment, and into it.
    pub fn sums(&self) -> (u64, u64) {
        (self.out.load(Ordering::Relaxed), self.back.load(Ordering::Relaxed))
    }

    fn add(&self, carried: relay::Carried) {
        self.out.fetch_add(carried.out, Ordering::Relaxed);
        self.back.fetch_add(carried.back, Ordering::Relaxed);
    }
}

/// What was written down of late.
#[derive(Debug, Default)]
struct Written {
    refusals: Minute,
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
            inspected: Semaphore::new(limits.inspected),
            written: Mutex::default(),
            open: Mutex::default(),
            git: git::Desk::new(git::Limits::default()),
            tally: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    /// The same, counting there.
    #[must_use]
    pub fn counting(mut self, tally: Arc<Tally>) -> Self {
        self.tally = tally;
        self
    }

    /// Whether anything is on its way now, or waits to be.
    pub fn is_busy(&self) -> bool {
        self.places.available_permits() < self.limits.connections
    }

    /// Ends every connection that is open, and every one that comes.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it is told to stop.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Writes down what was only counted: refusals, and packets that went nowhere. For whoever stood at the doors, once nothing comes any more.
    pub async fn settle(&self) {
        let (left_out, strays) = {
            let mut written = self.written();
            (written.refusals.end(), std::mem::take(&mut written.strays))
        };
        let number = |count: u64| ContextValue::Long(i64::try_from(count).unwrap_or(i64::MAX));
        if left_out > 0 {
            self.note("refusals_left_out", [("left_out".to_owned(), number(left_out))].into()).await;
        }
        let packets = strays.values().fold(0, |all: u64, count| all.saturating_add(*count));
        if packets > strays.len() as u64 {
            self.note("packets_nowhere_in_all", [("packets".to_owned(), number(packets))].into()).await;
        }
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
    pub async fn stream<S: Stream + 'static>(self: &Arc<Self>, mut stream: S, wanted: SocketAddr) {
        let Ok(_place) = self.places.try_acquire() else {
            return self.refuse(&shown(wanted.ip()), wanted.port(), None, &Refused::Crowded).await;
        };
        let host = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            host = self.host(&mut stream, wanted) => host,
        };
        let Some(host) = host else { return };
        if let (Host::Name(name), GATEWAY_PORT, Some(inside)) = (&host, wanted.port(), &self.parts.inside)
            && name.as_str() == GATEWAY
        {
            return tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                () = inside.serve(Box::new(stream)) => {}
            };
        }
        let opening = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            opening = self.opening(&mut stream, &host, wanted.port()) => opening,
        };
        if let Some(opening) = opening {
            self.carry(stream, host, wanted.port(), opening).await;
        }
    }

    /// Whose it is; nothing if it is over already.
    async fn host<S: Stream>(&self, stream: &mut S, wanted: SocketAddr) -> Option<Host> {
        if wanted.port() == 53 {
            self.questions(stream).await;
            return None;
        }
        let Some(address) = ours(wanted.ip()) else { return Some(Host::Address(wanted.ip().to_canonical())) };
        let name = self.names().name_of(address.into()).cloned();
        if name.is_none() {
            self.refuse(&shown(wanted.ip()), wanted.port(), None, &Refused::Unnamed).await;
        }
        name.map(Host::Name)
    }

    /// What it speaks; nothing if it is over already.
    async fn opening<S: Stream>(&self, stream: &mut S, host: &Host, port: u16) -> Option<Opening> {
        match opening::look(stream, self.limits.opening).await {
            Ok(opening) => Some(opening),
            // Nothing was wanted: a port was looked at, no more.
            Err(opening::OpeningError::Ended | opening::OpeningError::Lost(_)) => None,
            Err(error) => {
                let why = Refused::Opening(error.to_string());
                self.refuse(&host.to_string(), port, None, &why).await;
                None
            }
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

/// Why a connection is refused before the policy is asked.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("Too many connections at once")]
    Crowded,
    #[error("Too many connections at once that are looked into")]
    CrowdedInspected,
    #[error("An address that no name was given")]
    Unnamed,
    #[error("{0}")]
    Opening(String),
    #[error("{0}")]
    Misdirected(String),
    #[error("It may go out only if it is looked into, and nothing is there to do that")]
    NoAuthority,
    #[error("It may go out only if it is looked into, and it says that it is not HTTP")]
    NotHttp,
}

impl Refused {
    const fn word(&self) -> &'static str {
        match self {
            Self::Crowded | Self::CrowdedInspected => "egress:crowded",
            Self::Unnamed => "egress:unnamed",
            Self::Opening(_) => "egress:opening",
            Self::Misdirected(_) => "egress:misdirected",
            Self::NoAuthority => "egress:no_authority",
            Self::NotHttp => "egress:not_http",
        }
    }
}

#[cfg(test)]
mod tests;
