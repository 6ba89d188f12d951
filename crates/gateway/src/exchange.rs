//! The one way of a model call.
//!
//! `admit` answers whether it may be made and ends with an open record; `relay` makes it; `finish` (in `settle`) ends it.
//! All of it happens in a task of its own, so that nothing that the client does can leave a reservation or a record behind.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use secrecy::SecretString;
use stockade_domain::{
    Action, ContentKind, ContentRef, Context, Deed, Nanos, Resource, ResourceKind, Timestamp,
    ids::{ModelCallId, RecordId, RunId},
};
use stockade_ledger::{Opened, RunKey, Sealed};
use stockade_llm::{Dialect, anthropic::Request, anthropic::Tee};
use stockade_policy::{Permit, Ruling};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::{
    CallError, Caller, Finished, Limits, PurseError,
    gateway::Parts,
    headers,
    limits::CHUNKS_IN_FLIGHT,
    models::Route,
    settle::{Answer, Ending},
    upstream::{Parcel, SendError, Upstream, chain},
};

/// What a gateway holds.
pub(crate) struct Inner {
    pub(crate) parts: Parts,
    pub(crate) limits: Limits,
    pub(crate) tasks: TaskTracker,
    upstream: Upstream,
    all: Arc<Semaphore>,
    by_run: Arc<Mutex<HashMap<RunId, usize>>>,
}

/// What a client sent, as it sent it.
pub(crate) struct Wish {
    pub(crate) dialect: Dialect,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Option<String>,
    pub(crate) body: Bytes,
}

/// An answer that has begun.
pub(crate) struct Exchange {
    /// Nothing if the provider gave no answer at all; then `end` says why.
    pub(crate) head: Option<Head>,
    pub(crate) body: mpsc::Receiver<Result<Bytes, Broken>>,
    pub(crate) end: oneshot::Receiver<Finished>,
}

/// The beginning of a provider's answer.
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// The provider's answer ended before its end. The client's connection is broken off too, so that it cannot take a part
/// for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the provider's answer was cut off")]
pub(crate) struct Broken;

/// A call whose record is open.
pub(crate) struct Call {
    pub(crate) id: ModelCallId,
    pub(crate) caller: Caller,
    pub(crate) route: Route,
    pub(crate) request: Request,
    pub(crate) reserved: Nanos,
    pub(crate) record: RecordId,
    pub(crate) sealed_request: ContentRef,
    pub(crate) key: Arc<RunKey>,
    pub(crate) started: Timestamp,
    _slot: Slot,
}

/// A place among the calls at once. Given back when dropped.
struct Slot {
    run: RunId,
    by_run: Arc<Mutex<HashMap<RunId, usize>>>,
    _all: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut by_run = self.by_run.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_run.get_mut(&self.run) {
            *count -= 1;
            if *count == 0 {
                by_run.remove(&self.run);
            }
        }
    }
}

/// The client's ends of an exchange, as the task holds them.
struct Client {
    head: Option<oneshot::Sender<Result<Option<Head>, CallError>>>,
    body: mpsc::Sender<Result<Bytes, Broken>>,
}

impl Client {
    fn begin(&mut self, head: Result<Option<Head>, CallError>) {
        if let Some(sender) = self.head.take() {
            // If nobody waits any more, `body` is closed too, and that is looked at.
            let _ = sender.send(head);
        }
    }

    /// Hands a chunk over. False if the client is gone, or does not read.
    async fn chunk(&self, chunk: Bytes, stall: Duration) -> bool {
        matches!(tokio::time::timeout(stall, self.body.send(Ok(chunk))).await, Ok(Ok(())))
    }
}

impl Inner {
    pub(crate) fn new(parts: Parts, limits: Limits) -> Self {
        let secure = parts.models.providers().any(|provider| provider.base_url().scheme() == "https");
        Self {
            upstream: Upstream::new(limits.connect, secure),
            all: Arc::new(Semaphore::new(limits.calls)),
            by_run: Arc::default(),
            tasks: TaskTracker::new(),
            parts,
            limits,
        }
    }

    /// Begins a call. Returns when the answer begins.
    pub(crate) async fn begin(self: &Arc<Self>, caller: Caller, wish: Wish) -> Result<Exchange, CallError> {
        let (head_out, head) = oneshot::channel();
        let (body_out, body) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let (end_out, end) = oneshot::channel();
        if self.tasks.is_closed() {
            return Err(CallError::Stopped);
        }
        let this = self.clone();
        self.tasks.spawn(async move {
            let mut client = Client { head: Some(head_out), body: body_out };
            match this.admit(caller, &wish).await {
                Err(error) => client.begin(Err(error)),
                Ok((call, opened, parcel)) => {
                    let (ending, answer) = this.relay(&call, opened, parcel, &mut client).await;
                    let broken = !matches!(ending, Ending::Whole);
                    let finished = this.finish(call, ending, answer).await;
                    client.begin(Ok(None));
                    if broken {
                        let _ = client.body.try_send(Err(Broken));
                    }
                    let _ = end_out.send(finished);
                }
            }
        });
        let head = head.await.map_err(|_| CallError::Stopped)??;
        Ok(Exchange { head, body, end })
    }

    fn slot(&self, run: RunId) -> Result<Slot, CallError> {
        let all = self.all.clone().try_acquire_owned().map_err(|_| CallError::Busy)?;
        let mut by_run = self.by_run.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_run.entry(run).or_default();
        if *count >= self.limits.calls_per_run {
            return Err(CallError::BusyRun);
        }
        *count += 1;
        Ok(Slot { run, by_run: self.by_run.clone(), _all: all })
    }

    /// Whether this call may be made: known, priced, allowed, paid for, recorded.
    async fn admit(&self, caller: Caller, wish: &Wish) -> Result<(Call, Opened<Permit>, Parcel), CallError> {
        let parts = &self.parts;
        let started = parts.world.now();
        let slot = self.slot(caller.run)?;
        let request = Request::parse(&wish.body)?;
        let route = parts.models.resolve(&request.model)?;
        let key = parts.runs.key(caller.run).ok_or(CallError::Erased)?;
        let credential = self.credential(&route)?;
        let reserved = Nanos(route.price.upper_bound(&request.estimate));
        let body = request.with_model(&wish.body, &route.upstream);
        let sealed = self.seal(&key, &body)?;
        let sealed_request = sealed.content;

        let id: ModelCallId = parts.world.id();
        let permit = match parts.policy.load().decide(deed(&caller, id, &route, reserved)) {
            Ruling::Allow(permit) => permit,
            Ruling::Ask(question) => {
                let refusal = question.refused();
                let record = self.refuse(refusal.deed(), refusal.decision(), sealed).await?;
                return Err(CallError::NeedsPerson { title: refusal.title().to_owned(), record });
            }
            Ruling::Deny(refusal) => {
                let record = self.refuse(refusal.deed(), refusal.decision(), sealed).await?;
                return Err(CallError::Denied { title: refusal.title().to_owned(), record });
            }
        };

        match parts.purse.reserve(caller.run, id, reserved).await {
            Ok(()) => {}
            Err(PurseError::Exhausted { scope }) => {
                self.note_exhausted(&caller, id, &route, reserved, scope).await?;
                return Err(CallError::Exhausted { scope });
            }
            Err(PurseError::Unavailable(why)) => {
                tracing::warn!(call = %id, run = %caller.run, why, "no model call: the budget cannot be reached");
                return Err(CallError::PurseUnavailable { why });
            }
        }
        let (deed, decision) = (permit.deed().clone(), permit.decision().clone());
        let opened = match parts.ledger.open(&deed, &decision, vec![sealed], permit).await {
            Ok(opened) => opened,
            Err(error) => {
                let why = chain(&error);
                tracing::error!(call = %id, run = %caller.run, why, "no model call: it cannot be recorded");
                if let Err(error) = parts.purse.settle(id, Nanos::ZERO).await {
                    tracing::error!(call = %id, %error, "a reservation could not be given back");
                }
                return Err(CallError::RecordUnavailable { why });
            }
        };
        let parcel = Parcel { headers: wish.headers.clone(), query: wish.query.clone(), body, key: credential };
        let record = opened.record();
        let call = Call { id, caller, route, request, reserved, record, sealed_request, key, started, _slot: slot };
        Ok((call, opened, parcel))
    }

    fn credential(&self, route: &Route) -> Result<Option<SecretString>, CallError> {
        route.provider.key().get().map_err(|source| {
            tracing::error!(model = route.name, provider = route.provider.name(), why = chain(&source), "no key");
            CallError::NotSetUp { model: route.name.clone(), source }
        })
    }

    fn seal(&self, key: &RunKey, body: &[u8]) -> Result<Sealed, CallError> {
        key.seal(&*self.parts.world, ContentKind::ModelRequest, body)
            .map_err(|error| CallError::RecordUnavailable { why: chain(&error) })
    }

    async fn refuse(
        &self,
        deed: &Deed,
        decision: &stockade_domain::Decision,
        sealed: Sealed,
    ) -> Result<RecordId, CallError> {
        let refused = self.parts.ledger.refuse(deed, decision, vec![sealed]).await;
        refused.map_err(|error| CallError::RecordUnavailable { why: chain(&error) })
    }

    async fn note_exhausted(
        &self,
        caller: &Caller,
        call: ModelCallId,
        route: &Route,
        wanted: Nanos,
        scope: stockade_domain::BudgetScope,
    ) -> Result<(), CallError> {
        let facts = [
            ("call".to_owned(), call.to_string().into()),
            ("estimate_nanos".to_owned(), wanted.0.into()),
            ("model".to_owned(), route.name.as_str().into()),
            ("scope".to_owned(), scope.as_str().into()),
        ];
        let noted = self.parts.ledger.note("budget_exhausted", Some(caller.run), facts.into()).await;
        noted.map(|_| ()).map_err(|error| CallError::RecordUnavailable { why: chain(&error) })
    }

    /// Makes the call and passes on what comes, until its end or the client's.
    async fn relay(
        &self,
        call: &Call,
        opened: Opened<Permit>,
        parcel: Parcel,
        client: &mut Client,
    ) -> (Ending, Answer) {
        let mut answer = Answer::default();
        if client.body.is_closed() {
            return (Ending::ClientGoneEarly, answer);
        }
        // A stream is cut off when its reader is gone. An answer in one piece was paid for as a whole and comes as a
        // whole: it is waited for, so that what it used is known and what it said is kept.
        let cut = call.request.stream;
        let sent = tokio::select! {
            sent = tokio::time::timeout(self.limits.first_byte, self.upstream.send(opened, &call.route, parcel)) => sent,
            () = client.body.closed(), if cut => return (Ending::ClientGone, answer),
        };
        let response = match sent {
            Err(_) => return (Ending::Silent, answer),
            Ok(Err(SendError::NotSent(why))) => return (Ending::NotSent(why), answer),
            Ok(Err(SendError::Lost(why))) => return (Ending::Lost(why), answer),
            Ok(Ok(response)) => response,
        };
        let (head, body) = response.into_parts();
        answer.status = Some(head.status.as_u16());
        answer.retry_after_ms = retry_after(&head.headers);
        let mut tee = tee(call.route.provider.dialect(), &head.headers);
        client.begin(Ok(Some(Head { status: head.status, headers: headers::returning(&head.headers) })));
        let ending = self.pump(body, client, cut, &mut tee, &mut answer).await;
        answer.seen = tee.finish(matches!(ending, Ending::Whole));
        (ending, answer)
    }

    async fn pump(
        &self,
        mut body: Incoming,
        client: &Client,
        cut: bool,
        tee: &mut Watched,
        answer: &mut Answer,
    ) -> Ending {
        let mut gone = false;
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(self.limits.idle, body.frame()) => next,
                () = client.body.closed(), if cut => return Ending::ClientGone,
            };
            let data = match next {
                Err(_) => return Ending::Silent,
                Ok(None) => return Ending::Whole,
                Ok(Some(Err(error))) => return Ending::Lost(chain(&error)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            // The client first, the copy afterwards: the tee cannot delay what is relayed.
            gone = gone || !client.chunk(data.clone(), self.limits.client_stall).await;
            tee.push(&data);
            let room = self.limits.capture_bytes.saturating_sub(answer.bytes.len());
            let kept = data.get(..room).unwrap_or(&data);
            answer.bytes.extend_from_slice(kept);
            answer.bytes_cut |= kept.len() < data.len();
            if gone && cut {
                return Ending::ClientGone;
            }
        }
    }
}

/// A tee that cannot fail the stream: should it ever panic, it is let go and the answer counts as not readable.
struct Watched(Option<Tee>);

impl Watched {
    fn push(&mut self, bytes: &[u8]) {
        if let Some(mut tee) = self.0.take() {
            self.0 = catch_unwind(AssertUnwindSafe(|| {
                tee.push(bytes);
                tee
            }))
            .ok();
        }
    }

    fn finish(self, ended: bool) -> stockade_llm::anthropic::Seen {
        let unreadable = || stockade_llm::anthropic::Seen { unreadable: 1, ..Default::default() };
        let Some(tee) = self.0 else { return unreadable() };
        catch_unwind(AssertUnwindSafe(|| tee.finish(ended))).unwrap_or_else(|_| unreadable())
    }
}

fn tee(dialect: Dialect, headers: &HeaderMap) -> Watched {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let plain = text(header::CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    // What came compressed although it was not to is not read.
    let content_type = if plain { text(header::CONTENT_TYPE) } else { Some("application/octet-stream") };
    {
        let _ = dialect;
        Watched(Some(Tee::for_content_type(content_type)))
    }
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}

/// The record names the call, as the budget's entries do: after a crash each cost finds its record.
fn deed(caller: &Caller, call: ModelCallId, route: &Route, reserved: Nanos) -> Deed {
    Deed {
        principal: caller.principal.clone(),
        action: Action::ModelCall,
        resource: Resource::new(ResourceKind::Model, &route.name).in_project(caller.project).in_run(caller.run),
        context: Context::default()
            .with("level", i64::from(caller.level.get()))
            .with("call", call.to_string())
            .with("model", route.name.as_str())
            .with("provider", route.provider.name())
            .with("estimate_nanos", reserved.0),
    }
}
