//! The one way of a model call.
//!
//! `plan` looks at the request and finds out where it may go; for each place that is tried, `admit` answers whether it may be
//! called and ends with an open record, `relay` calls it, `finish` (in `settle`) ends it. Every attempt is a call of its own, with its own
//! decision, reservation and record. All of it happens in a task of its own, so that nothing that the client does can leave a
//! reservation or a record behind.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret;
use stockade_domain::{
    Action, ContentKind, ContentRef, Context, ContextValue, Deed, Nanos, Principal, Resource, ResourceKind, Role,
    Timestamp,
    ids::{ModelCallId, RecordId, RunId},
};
use stockade_ledger::{Opened, RunKey, Sealed};
use stockade_llm::{
    Dialect, Estimate, Framing, PathFacts, Target as ModelFacts, View, likely_tokens,
    neutral::{ForClient, Written},
};
use stockade_policy::{
    Engine, Permit, Ruling,
    content::{ContentScope, Direction},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CallError, Caller, Finished, Limits, ModelTable,
    asking::{self, Pending, Waiting, Yes},
    capture::{Capture, Packed},
    content::{Guard, Marker},
    credential::Proof,
    door::{Asked, Envelope},
    envelope,
    gateway::Parts,
    limit::{self, AskRules, BreakerRules, Breakers, Candidate, Fair, Place, Rates, Taken},
    limits::CHUNKS_IN_FLIGHT,
    looked::{LookedThrough, look, look_through, named},
    meter::Meter,
    metrics::{self, Metrics, TraceParent},
    models::{Errand, Route, Target},
    plumbing::{Ends, Kept},
    session::Origin,
    settle::Ending,
    unserved::Unserved,
    upstream::{Parcel, Upstream, chain, parcel},
};

/// How many tokens an answer is thought to have, for rates: corrected when it is over.
const LIKELY_OUTPUT: u64 = 1_024;

/// What a gateway holds.
pub(crate) struct Inner {
    pub(crate) parts: Parts,
    pub(crate) models: ArcSwap<ModelTable>,
    pub(crate) limits: Limits,
    pub(crate) capture: Capture,
    pub(crate) tasks: TaskTracker,
    pub(crate) upstream: Upstream,
    pub(crate) fair: Fair,
    pub(crate) rates: Rates,
    pub(crate) breakers: Breakers,
    pub(crate) metrics: Metrics,
    pub(crate) unserved: Unserved,
    /// Calls that wait for a person.
    pub(crate) waiting: Waiting,
    /// No call waits for a person any more.
    pub(crate) stopping: CancellationToken,
}

/// What a client sent, as it sent it.
pub(crate) struct Wish {
    pub(crate) asked: Asked,
    pub(crate) headers: HeaderMap,
    /// Without anything secret.
    pub(crate) query: Option<String>,
    pub(crate) body: Bytes,
    /// Whether it is our own loop's, which wants the message put together.
    pub(crate) own: bool,
}

impl Wish {
    /// A request of our own loop.
    pub(crate) fn own(headers: HeaderMap, body: Bytes) -> Self {
        let asked = Asked {
            dialect: Dialect::Messages,
            framing: Framing::Events,
            path: PathFacts::default(),
            errand: Errand::Answer,
            envelope: Envelope::Plain,
        };
        Self { asked, headers, query: None, body, own: true }
    }
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

/// A request that is understood, and where it can go.
pub(crate) struct Plan {
    pub(crate) view: View,
    pub(crate) stream: bool,
    pub(crate) route: Route,
    pub(crate) origin: Origin,
    /// When each provider is left alone.
    breaker: BreakerRules,
    ask: AskRules,
    key: Arc<RunKey>,
    /// Given back when the last attempt is over.
    place: Arc<Place>,
}

/// One place that is tried, with one of its credentials.
#[derive(Clone)]
struct Try {
    target: Target,
    credential: usize,
    /// Whether it is the second time, with a new token because the first was not taken.
    renewed: bool,
}

/// A call whose record is open.
pub(crate) struct Call {
    pub(crate) id: ModelCallId,
    pub(crate) caller: Caller,
    /// The name that was asked for.
    pub(crate) model: String,
    pub(crate) target: Target,
    pub(crate) stream: bool,
    pub(crate) errand: Errand,
    /// The most that it can use.
    pub(crate) estimate: Estimate,
    pub(crate) meter: Meter,
    pub(crate) record: RecordId,
    pub(crate) sealed_request: ContentRef,
    pub(crate) key: Arc<RunKey>,
    pub(crate) started: Timestamp,
    /// The client's dialect.
    pub(crate) dialect: Dialect,
    /// The client's own span.
    pub(crate) trace: Option<TraceParent>,
    /// Whether it is our own loop's.
    pub(crate) own: bool,
    _place: Arc<Place>,
}

/// The client's ends of an exchange, as the task holds them.
pub(crate) struct Client {
    head: Option<oneshot::Sender<Result<Option<Head>, CallError>>>,
    pub(crate) body: mpsc::Sender<Result<Bytes, Broken>>,
}

impl Client {
    pub(crate) fn begin(&mut self, head: Result<Option<Head>, CallError>) {
        if let Some(sender) = self.head.take() {
            // If nobody waits any more, `body` is closed too, and that is looked at.
            let _ = sender.send(head);
        }
    }

    /// Hands a chunk over. False if the client is gone, or does not read.
    pub(crate) async fn chunk(&self, chunk: Bytes, stall: Duration) -> bool {
        matches!(tokio::time::timeout(stall, self.body.send(Ok(chunk))).await, Ok(Ok(())))
    }
}

/// A call that may be made: what is sent, and what must be known of the answer.
pub(crate) struct Admitted {
    pub(crate) call: Call,
    pub(crate) ready: Ready,
}

/// What is sent, with the right to send it, and what must be known of the answer.
pub(crate) struct Ready {
    pub(crate) opened: Opened<Permit>,
    pub(crate) parcel: Parcel,
    pub(crate) ends: Ends,
    pub(crate) guard: Option<Guard>,
    /// What is shown, and of which credential. Nothing if another token would not be tried.
    pub(crate) proof: Option<(usize, Proof)>,
}

impl Inner {
    pub(crate) fn new(parts: Parts, limits: Limits) -> Self {
        let secure = parts.models.providers().any(|provider| provider.base_url().scheme() == "https");
        Self {
            upstream: Upstream::new(limits.connect, secure),
            fair: Fair::default(),
            rates: Rates::default(),
            breakers: Breakers::default(),
            capture: Capture::new(limits.capture),
            metrics: Metrics::default(),
            unserved: Unserved::default(),
            waiting: Waiting::default(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            models: ArcSwap::from_pointee(parts.models.clone()),
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
            let client = Client { head: Some(head_out), body: body_out };
            this.serve(caller, wish, client, end_out).await;
        });
        let head = head.await.map_err(|_| CallError::Stopped).and_then(|head| head);
        let head = head.inspect_err(|error| self.metrics.refused(metrics::reason(error)))?;
        Ok(Exchange { head, body, end })
    }

    /// Carries a call out. One that a person is asked about begins anew with the answer: by then, anything may be otherwise.
    async fn serve(&self, mut caller: Caller, wish: Wish, mut client: Client, mut end: oneshot::Sender<Finished>) {
        let (mut yes, mut until) = (None, None);
        loop {
            let pending;
            match self.round(&caller, &wish, client, end, &mut yes).await {
                Round::Over => return,
                Round::Again { asks, to, told } => (pending, client, end) = (asks, to, told),
            }
            yes = None;
            let Some(pending) = pending else { continue };
            let said = self.put(&caller, *pending, &mut until, &client, wish.own).await;
            let renewed = said.and_then(|yes| {
                self.parts.runs.renewed(&caller).map(|caller| (yes, caller)).ok_or(CallError::TokenEnded)
            });
            match renewed {
                Ok((said, now)) => (yes, caller) = (Some(said), now),
                Err(error) => {
                    self.note_unserved(&caller, &wish.asked, &wish.headers, named(&wish).as_deref(), &error).await;
                    return client.begin(Err(error));
                }
            }
        }
    }

    /// Tries one place after the other until one answers; a place whose answer has begun is the last. If none takes the call and
    /// one of them would with a person's yes, that is what comes out, and everything that the call held is given back.
    async fn round(
        &self,
        caller: &Caller,
        wish: &Wish,
        mut client: Client,
        end: oneshot::Sender<Finished>,
        yes: &mut Option<Yes>,
    ) -> Round {
        let looked = look(wish);
        let name = looked.as_ref().map_or_else(|_| named(wish), |(_, name)| Some(name.clone()));
        let planned = match looked {
            Ok((view, name)) => self.plan(caller, wish, view, name).await,
            Err(error) => Err(error),
        };
        let (plan, taken) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                self.note_unserved(caller, &wish.asked, &wish.headers, name.as_deref(), &error).await;
                client.begin(Err(error));
                return Round::Over;
            }
        };
        let mut taken = Some(taken);
        let mut tries = self.tries(&plan);
        if let Some(yes) = yes {
            let is_other =
                |one: &Try| one.target.provider.name() != yes.provider || *one.target.upstream != *yes.upstream;
            tries.make_contiguous().sort_by_key(is_other);
        }
        let (mut refused, mut asks) = (None, None);
        let mut number = 0;
        while let Some(one) = tries.pop_front() {
            let last = tries.is_empty();
            let now = self.parts.world.now();
            let key = u32::try_from(one.credential).unwrap_or(u32::MAX);
            let pass = match self.breakers.pass(one.target.provider.shared_name(), key, plan.breaker, now) {
                Ok(pass) => pass,
                Err(tripped) => {
                    refused.get_or_insert(CallError::Tripped { retry_after_ms: tripped.retry_after_ms });
                    continue;
                }
            };
            let admitted = self.admit(caller, wish, &plan, &one, number, yes).await;
            number += 1;
            let admitted = match admitted {
                Ok(admitted) => admitted,
                Err(Halt::Asks(pending)) => {
                    asks.get_or_insert(pending);
                    continue;
                }
                Err(Halt::Used) => {
                    self.give_back(taken);
                    return Round::Again { asks: None, to: client, told: end };
                }
                Err(Halt::Error(error)) if !last && error.concerns_only_the_target() => {
                    refused.get_or_insert(error);
                    continue;
                }
                Err(Halt::Error(error)) => {
                    // With a person's yes, another place may still take it.
                    asks = asks.filter(|_| error.concerns_only_the_target());
                    refused = Some(error);
                    break;
                }
            };
            let Admitted { call, ready } = admitted;
            let (ending, answer) = self.relay(&call, ready, &mut client, last).await;
            let (broken, again) = (!answer.told && !matches!(ending, Ending::Whole), matches!(ending, Ending::Passed));
            pass.report(ending.about_the_provider(&answer), self.parts.world.now());
            if again {
                if answer.stale_proof {
                    tries.push_front(Try { renewed: true, ..one });
                }
                self.finish(call, ending, answer).await;
                refused = Some(CallError::Tripped { retry_after_ms: 1_000 });
                continue;
            }
            // The client has all that it gets, and does not wait for what we write down of it.
            let Client { head, body } = client;
            if broken {
                let _ = body.try_send(Err(Broken));
            }
            drop(body);
            let finished = self.finish(call, ending, answer).await;
            if let Some(taken) = taken.take() {
                self.rates.settle(taken, finished.usage.total(), self.parts.world.now());
            }
            if let Some(head) = head {
                let _ = head.send(Ok(None));
            }
            let _ = end.send(finished);
            return Round::Over;
        }
        self.give_back(taken);
        if asks.is_some() {
            return Round::Again { asks, to: client, told: end };
        }
        let error = refused.unwrap_or(CallError::Stopped);
        self.note_unserved(caller, &wish.asked, &wish.headers, name.as_deref(), &error).await;
        client.begin(Err(error));
        Round::Over
    }

    fn give_back(&self, taken: Option<Taken>) {
        if let Some(taken) = taken {
            self.rates.give_back(taken);
        }
    }

    /// What is tried, in order: healthy places first, by rank and weight, each with the credential whose turn it is.
    fn tries(&self, plan: &Plan) -> VecDeque<Try> {
        let now = self.parts.world.now();
        let health = |target: &Target, credential: usize| {
            let key = u32::try_from(credential).unwrap_or(u32::MAX);
            self.breakers.health(target.provider.shared_name(), key, now)
        };
        let mut keys: Vec<Vec<usize>> = plan
            .route
            .targets
            .iter()
            .map(|target| target.provider.rotated(|credential| health(target, credential)))
            .collect();
        let candidates: Vec<Candidate> = plan
            .route
            .targets
            .iter()
            .zip(&keys)
            .map(|(target, keys)| Candidate {
                rank: target.rank,
                weight: target.weight,
                health: health(target, keys.first().copied().unwrap_or_default()),
            })
            .collect();
        let mut dice = [0; 8];
        self.parts.world.random(&mut dice);
        let order = limit::order(&candidates, u64::from_le_bytes(dice));
        let mut tries = VecDeque::new();
        // Every place once before any place again with another of its keys.
        while tries.len() < plan.route.attempts {
            let before = tries.len();
            for at in &order {
                let (Some(target), Some(keys)) = (plan.route.targets.get(*at), keys.get_mut(*at)) else { continue };
                if !keys.is_empty() && tries.len() < plan.route.attempts {
                    tries.push_back(Try { target: target.clone(), credential: keys.remove(0), renewed: false });
                }
            }
            if tries.len() == before {
                break;
            }
        }
        tries
    }

    /// Where it can go.
    async fn plan(&self, caller: &Caller, wish: &Wish, view: View, name: String) -> Result<(Plan, Taken), CallError> {
        let asked = &wish.asked;
        if !self.parts.runs.permits(caller.run, &name) {
            return Err(CallError::NotForToken { model: name });
        }
        let models = self.models.load_full();
        let mut route = models.resolve(&name)?;
        for target in &mut route.targets {
            // In another dialect the wish for a tier is left out.
            if target.provider.dialect_for(asked.dialect, &target.upstream) == asked.dialect {
                let unpriced = || stockade_llm::RequestError::Unpriced(format!("the tier `{}`", view.tier.as_str()));
                target.price.of_tier(view.tier).ok_or_else(unpriced)?;
                target.tier = view.tier;
            }
        }
        let rules = models.limits();
        let roles: &[Role] = match &caller.principal {
            Principal::User { roles, .. } => roles,
            _ => &[],
        };
        let bounds = rules.of(&caller.owner.to_string(), roles.iter().map(|role| role.as_str()), &name);
        let likely =
            likely_tokens(wish.body.len()).saturating_add(view.max_output.unwrap_or(LIKELY_OUTPUT).min(LIKELY_OUTPUT));
        let now = self.parts.world.now();
        let taken = self.rates.take(caller.owner, &name, bounds.principal, bounds.model, likely, now)?;
        let patience = tokio::time::sleep(rules.wait());
        let place = match self.fair.acquire(caller.owner, &name, bounds.calls, patience).await {
            Ok(place) => Arc::new(place),
            Err(busy) => {
                self.rates.give_back(taken);
                return Err(busy.into());
            }
        };
        let Some(key) = self.parts.runs.key(caller.run) else {
            self.rates.give_back(taken);
            return Err(CallError::Erased);
        };
        let origin = Origin::of(caller.run, &wish.headers, view.session.as_deref());
        let stream = asked.errand == Errand::Answer && asked.path.stream.unwrap_or(view.stream);
        Ok((Plan { view, stream, route, origin, breaker: rules.breaker, ask: rules.ask, key, place }, taken))
    }

    /// Whether this call may be made there: spoken, allowed, paid for, recorded.
    async fn admit(
        &self,
        caller: &Caller,
        wish: &Wish,
        plan: &Plan,
        one: &Try,
        attempt: usize,
        yes: &mut Option<Yes>,
    ) -> Result<Admitted, Halt> {
        let (parts, target) = (&self.parts, &one.target);
        let started = parts.world.now();
        let id: ModelCallId = parts.world.id();
        let policy = parts.policy.load();
        let guard = self.guard(&policy, caller, wish, plan, target);
        if let Err(error) = parts.purse.room() {
            return Err(self.unpaid(caller, id, plan, Nanos::ZERO, error).await.into());
        }
        let looked = look_through(guard.as_ref(), wish)?;
        let letter = self.letter(wish, plan, &looked, target, id, started)?;
        let estimate = letter.estimate;
        let packed = self.capture.pack(caller.run, plan.origin.session.as_deref(), &letter.body);
        let sealed = self.seal(&plan.key, &packed.plain)?;
        let sealed_request = sealed.content;
        let meter = match wish.asked.errand {
            Errand::Answer | Errand::Compact => {
                let price = target.price.to_reserve(target.tier).unwrap_or_else(|| target.price.clone());
                Meter::new(&price, &estimate, plan.stream && parts.purse.tops_up())
            }
            Errand::Count => Meter::free(),
        };

        let reserved = meter.reserved();
        let facts = Facts { wish, plan, target, attempt, reserved, findings: &looked.findings };
        let ruled = match (policy.decide(deed(caller, id, &facts)), &looked.forbidden) {
            (Ruling::Allow(permit), None) => Ok(permit),
            (Ruling::Allow(permit), Some(rule)) if rule.asks => Err(Ok(permit.questioned(&rule.rule, &rule.title))),
            (Ruling::Allow(permit), Some(rule)) => Err(Err(permit.withheld(&rule.rule, &rule.title))),
            (Ruling::Ask(question), None) => Err(Ok(question)),
            (Ruling::Ask(question), Some(rule)) if rule.asks => Err(Ok(question.also(&rule.rule, &rule.title))),
            (Ruling::Ask(question), Some(rule)) => Err(Err(question.withheld(&rule.rule, &rule.title))),
            (Ruling::Deny(refusal), _) => Err(Err(refusal)),
        };
        let mut yes = yes.as_mut();
        let permit = match ruled {
            Ok(permit) => {
                yes = None;
                permit
            }
            Err(Err(refusal)) => {
                let kept = self.unserved.keeps(caller.run, started).then_some(sealed);
                let is_kept = kept.is_some();
                let record = self.refuse(refusal.deed(), refusal.decision(), kept).await?;
                if is_kept {
                    self.remember(caller.run, packed, sealed_request);
                }
                return Err(CallError::Denied { title: refusal.title().to_owned(), record }.into());
            }
            Err(Ok(question)) => {
                let subject = asking::subject(&question, wish);
                yes = yes.filter(|yes| yes.subject == subject);
                match &yes {
                    Some(yes) => question.granted(yes.approval),
                    None => {
                        let text = asking::shown(&question, wish, &looked.asking);
                        let shown = self.seal_as(&plan.key, ContentKind::Question, text.as_bytes())?;
                        let pending = Pending { question, subject, shown, request: sealed, rules: plan.ask };
                        return Err(Halt::Asks(Box::new(pending)));
                    }
                }
            }
        };

        let Letter { address, headers, body, ends, .. } = letter;
        let (parcel, proof) = self.proven(plan, one, &address, headers, body).await?;
        let proof = (!one.renewed).then_some((one.credential, proof));
        let money = match parts.purse.hold(caller.run, &plan.route.name, id, meter.reserved()).await {
            Ok(entries) => entries,
            Err(error) => return Err(self.unpaid(caller, id, plan, meter.reserved(), error).await.into()),
        };
        if let Some(yes) = yes.filter(|yes| !yes.spent) {
            match parts.approvals.spend(yes.approval).await {
                Ok(true) => yes.spent = true,
                Ok(false) => {
                    parts.purse.release(id);
                    return Err(Halt::Used);
                }
                Err(error) => {
                    parts.purse.release(id);
                    return Err(CallError::RecordUnavailable { why: chain(&error) }.into());
                }
            }
        }
        let (deed, decision) = (permit.deed().clone(), permit.decision().clone());
        let mut contents = vec![sealed];
        if let Some(vault) = &looked.vault {
            contents.push(self.seal_as(&plan.key, ContentKind::Redacted, vault)?);
        }
        let opened = match parts.ledger.open_with(&deed, &decision, contents, permit, money).await {
            Ok(opened) => opened,
            Err(error) => {
                let why = chain(&error);
                tracing::error!(call = %id, run = %caller.run, why, "no model call: it cannot be recorded");
                parts.purse.release(id);
                return Err(CallError::RecordUnavailable { why }.into());
            }
        };
        self.remember(caller.run, packed, sealed_request);
        let call = Call {
            id,
            caller: caller.clone(),
            model: plan.route.name.clone(),
            target: target.clone(),
            stream: plan.stream,
            errand: wish.asked.errand,
            estimate,
            meter,
            record: opened.record(),
            sealed_request,
            key: Arc::clone(&plan.key),
            started,
            dialect: wish.asked.dialect,
            trace: wish.headers.get("traceparent").and_then(|text| TraceParent::parse(text.to_str().ok()?)),
            own: wish.own,
            _place: Arc::clone(&plan.place),
        };
        Ok(Admitted { call, ready: Ready { opened, parcel, ends, guard, proof } })
    }

    /// What is sent there: the client's bytes, or their conversion.
    fn letter(
        &self,
        wish: &Wish,
        plan: &Plan,
        looked: &LookedThrough,
        target: &Target,
        id: ModelCallId,
        started: Timestamp,
    ) -> Result<Letter, CallError> {
        let client_body = looked.body.as_ref().unwrap_or(&wish.body);
        let asked = &wish.asked;
        let provider = &target.provider;
        let dialect = provider.dialect_for(asked.dialect, &target.upstream);
        let same = dialect == asked.dialect;
        let query = wish.query.as_deref().filter(|_| same);
        let array = same && dialect == Dialect::Gemini && asked.framing == Framing::Array;
        let address = provider
            .address(dialect, &target.upstream, plan.stream, array, asked.errand, query)
            .filter(|_| same || asked.errand == Errand::Answer)
            .ok_or_else(|| no_way(asked.errand, &plan.route.name))?;
        let mut for_client = ForClient {
            model: plan.route.name.clone(),
            id: id.to_string().replace('_', ""),
            created: u64::try_from(started.0 / 1_000_000).unwrap_or_default(),
            stream: plan.stream,
            include_usage: plan.view.include_usage,
            likely_input_tokens: likely_tokens(wish.body.len()),
            ..ForClient::default()
        };
        let mut bound = estimate(&plan.view, target, asked.errand);
        let (body, headers) = if same {
            let mut headers = crate::headers::outgoing(&wish.headers);
            let (view, envelope) = (looked.view.as_ref().unwrap_or(&plan.view), asked.envelope);
            let body = envelope::same_dialect(client_body, view, envelope, plan.stream, target, dialect, &mut headers);
            (body, headers)
        } else {
            let kept = self.neutral(wish, plan, client_body)?;
            let mut request = (*kept).clone();
            request.model.clone_from(&target.upstream);
            let facts = ModelFacts { max_output: most_output(target), reasoning: target.reasoning };
            let written = dialect.write_request(&request, &facts)?;
            for dropped in &written.dropped {
                tracing::debug!(call = %id, what = dropped.what, rule = dropped.rule, "left out in conversion");
            }
            bound = bound.at_least(written_bound(dialect, &written, target));
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
            headers.extend(written.headers.iter().cloned());
            for_client.aliases = written.aliases;
            for_client.request = Some(kept);
            let plain = View { model: Some(target.upstream.clone()), ..View::default() };
            // The provider's own envelope, if it wants one.
            let body = envelope::same_dialect(
                &written.body,
                &plain,
                Envelope::Plain,
                plan.stream,
                target,
                dialect,
                &mut headers,
            );
            (body, headers)
        };
        let ends = Ends {
            client: asked.dialect,
            client_framing: asked.framing,
            provider: dialect,
            for_client,
            own: wish.own,
            keep: self.limits.capture_bytes,
        };
        Ok(Letter { address, headers, body, ends, estimate: bound })
    }

    fn neutral(&self, wish: &Wish, plan: &Plan, body: &[u8]) -> Result<Kept, CallError> {
        let path = PathFacts { model: Some(plan.route.name.clone()), stream: Some(plan.stream) };
        Ok(Arc::new(wish.asked.dialect.read_request(body, &path)?))
    }

    /// The request with the proof of who we are.
    async fn proven(
        &self,
        plan: &Plan,
        one: &Try,
        address: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(Parcel, Proof), CallError> {
        let (model, provider) = (&plan.route.name, one.target.provider.name());
        let not_set_up = |why: String| {
            tracing::error!(model, provider, why, "the provider cannot be called");
            CallError::NotSetUp { model: model.clone(), why }
        };
        let (mut parts, whole) = parcel(address, headers, body.clone()).map_err(not_set_up)?.into_parts();
        let credential = one.target.provider.credential(one.credential);
        let credential = credential.ok_or_else(|| not_set_up("it has no such credential".to_owned()))?;
        let signed = credential.sign(&mut parts, &body, self.parts.world.now()).await;
        let proof = signed.map_err(|error| not_set_up(chain(&error)))?;
        Ok((Parcel::from_parts(parts, whole), proof))
    }

    /// The request is durable: what comes next may stand on it.
    fn remember(&self, run: RunId, packed: Packed, content: ContentRef) {
        self.capture.stored(packed, content.digest);
        // The run may have been erased meanwhile: then nobody forgets it for us.
        if self.parts.runs.key(run).is_none() {
            self.capture.forget(run);
        }
    }

    /// The content rules of this call. Nothing if none applies.
    fn guard(&self, policy: &Engine, caller: &Caller, wish: &Wish, plan: &Plan, target: &Target) -> Option<Guard> {
        let (provider, model) = (target.provider.name(), plan.route.name.as_str());
        let scope = ContentScope { project: caller.project, provider, model };
        let (request, response) =
            (policy.content(&scope, Direction::Request), policy.content(&scope, Direction::Response));
        if request.is_empty() && response.is_empty() {
            return None;
        }
        let marker = Marker::new(plan.key.derived("stockade content references 1").expose_secret());
        Some(Guard::for_call(request, response, wish.asked.dialect, marker))
    }

    fn seal(&self, key: &RunKey, body: &[u8]) -> Result<Sealed, CallError> {
        self.seal_as(key, ContentKind::ModelRequest, body)
    }

    fn seal_as(&self, key: &RunKey, kind: ContentKind, body: &[u8]) -> Result<Sealed, CallError> {
        key.seal(&*self.parts.world, kind, body).map_err(|error| CallError::RecordUnavailable { why: chain(&error) })
    }

    async fn refuse(
        &self,
        deed: &Deed,
        decision: &stockade_domain::Decision,
        sealed: Option<Sealed>,
    ) -> Result<RecordId, CallError> {
        let refused = self.parts.ledger.refuse(deed, decision, sealed.into_iter().collect()).await;
        refused.map_err(|error| CallError::RecordUnavailable { why: chain(&error) })
    }
}

/// How a round ended.
enum Round {
    /// The client has its answer, or its refusal.
    Over,
    /// It begins anew: when a person has agreed, or because another call used the yes that this one had.
    Again { asks: Option<Box<Pending>>, to: Client, told: oneshot::Sender<Finished> },
}

/// Why a call may not be made at a place.
enum Halt {
    Error(CallError),
    /// It may, if a person agrees.
    Asks(Box<Pending>),
    /// Another call has used the yes.
    Used,
}

impl From<CallError> for Halt {
    fn from(error: CallError) -> Self {
        Self::Error(error)
    }
}

struct Letter {
    address: String,
    headers: HeaderMap,
    body: Bytes,
    ends: Ends,
    /// The most that it can use there.
    estimate: Estimate,
}

/// The most that the model writes at once.
pub(crate) const fn most_output(target: &Target) -> u64 {
    target.price.max_output
}

/// The provider has no such address.
fn no_way(errand: Errand, model: &str) -> CallError {
    let model = model.to_owned();
    if errand == Errand::Compact { CallError::NoCompact { model } } else { CallError::NoCount { model } }
}

/// The most that the request can use there.
fn estimate(view: &View, target: &Target, errand: Errand) -> Estimate {
    if errand == Errand::Count {
        return Estimate::default();
    }
    let answers = view.answers.max(1);
    let output = match view.max_output {
        Some(_) => view.estimate.output_tokens,
        None => most_output(target).saturating_mul(answers),
    };
    Estimate { output_tokens: output, ..view.estimate }
}

/// What a converted request can use: it is what the provider reads that is paid for, with the cache marks that the writer placed.
fn written_bound(dialect: Dialect, written: &Written, target: &Target) -> Estimate {
    let written_cache = Estimate { cache: written.cache, ..Estimate::default() };
    let view = dialect.view(&written.body);
    view.map_or(Estimate { input_tokens: Some(0), ..written_cache }, |view| {
        estimate(&view, target, Errand::Answer).at_least(Estimate { input_tokens: Some(0), ..written_cache })
    })
}

/// What a deed is made of.
struct Facts<'a> {
    wish: &'a Wish,
    plan: &'a Plan,
    target: &'a Target,
    attempt: usize,
    reserved: Nanos,
    findings: &'a BTreeSet<String>,
}

/// The record names the call, as the budget's entries do: after a crash each cost finds its record.
fn deed(caller: &Caller, call: ModelCallId, facts: &Facts<'_>) -> Deed {
    let Facts { wish, plan, target, attempt, reserved, findings } = facts;
    let route = &plan.route;
    let mut context = Context::default()
        .with("level", i64::from(caller.level.get()))
        .with("call", call.to_string())
        .with("model", route.name.as_str())
        .with("upstream", target.upstream.as_str())
        .with("provider", target.provider.name())
        .with("dialect", wish.asked.dialect.as_str())
        .with("client", plan.origin.client.as_str())
        .with("stream", plan.stream)
        .with("turn", i64::try_from(plan.view.messages).unwrap_or(i64::MAX))
        .with("attempt", i64::try_from(*attempt).unwrap_or(i64::MAX).saturating_add(1))
        .with("estimate_nanos", reserved.0);
    if !findings.is_empty() {
        let findings = ContextValue::Set(findings.iter().cloned().collect());
        context.public.insert("findings".to_owned(), findings);
    }
    if let Some(session) = &plan.origin.session {
        context = context.with("session", session.as_str());
    }
    if let Some(word) = wish.asked.errand.word() {
        context = context.with("errand", word);
    }
    Deed {
        principal: caller.principal.clone(),
        action: Action::ModelCall,
        resource: Resource::new(ResourceKind::Model, &route.name).in_project(caller.project).in_run(caller.run),
        context,
    }
}
