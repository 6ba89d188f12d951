//! A gateway with everything around it: a real ledger on a temporary disk, the default policy, money in memory, one token. What
//! comes in and goes out at its door is kept, byte for byte.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use stockade_domain::{
    BudgetScope, ContentKind, ContentRef, Digest, Level, Nanos, Principal, World,
    ids::{ModelCallId, RunId, RunnerId},
};
use stockade_gateway::{Caller, Gateway, ModelTable, NobodyToAsk, Parts, Purse, PurseError, Runs, capture};
use stockade_ledger::{
    Body as RecordBody, EntryKind, Ledger, Log, LogEntry, LogOptions, Producer, Record, RunKey, SigningKey, SystemWorld,
};
use stockade_policy::{Bundle, Engine, default_bundle};
use tokio::runtime::Runtime;

use super::Spec;
use crate::fakes::Fake;

/// What the client shows.
pub const TOKEN: &str = "AKIATESTKITGATEWAY01";
/// What the provider wants.
pub const KEY: &str = "AKIATESTKITPROVIDER1";
/// What a million tokens cost in the cells, in dollars: read, read from the cache, written.
pub const PRICES: (i64, i64, i64) = (3, 1, 15);
/// All the money that there is: a thousand dollars.
const MONEY: i64 = 1_000_000_000_000;

/// The gateway.
#[derive(Debug)]
pub struct House {
    addr: SocketAddr,
    gateway: Gateway,
    ledger: Arc<Ledger>,
    key: Arc<RunKey>,
    purse: Arc<Money>,
    door: Arc<Door>,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

/// A call as its records tell it.
#[derive(Debug, Clone)]
pub struct Told {
    /// `ok`, or how it failed.
    pub outcome: String,
    /// What was used.
    pub usage: stockade_domain::Usage,
    /// What was charged.
    pub cost: i64,
    /// What was sent to the provider.
    pub request: Vec<u8>,
    /// What the provider sent.
    pub answer: Vec<u8>,
}

/// A request and its answer as the client had them.
#[derive(Debug, Clone, Default)]
pub struct Passed {
    /// Method and path.
    pub line: String,
    /// What the client sent.
    pub request: Vec<u8>,
    /// The status that it got.
    pub status: u16,
    /// What it got.
    pub answer: Vec<u8>,
}

#[derive(Debug, Default)]
struct Door(Mutex<Vec<Passed>>);

impl Door {
    fn all(&self) -> MutexGuard<'_, Vec<Passed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl House {
    /// Starts it before this provider.
    ///
    /// # Errors
    /// If the gateway does not take its configuration.
    pub fn start(fake: &Fake, spec: &Spec) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let log = Arc::new(Log::open(&folder.path().join("log"), LogOptions::default())?);
        let runner: RunnerId = world.id();
        let ledger =
            Arc::new(Ledger::start(log, Producer::Runner(runner), SigningKey::generate(), Arc::clone(&world))?);
        let (run, owner) = (world.id(), world.id());
        let caller = Caller {
            run,
            owner,
            project: world.id(),
            level: Level::ON_THE_LOOP,
            principal: Principal::Agent { run, owner },
        };
        let key = Arc::new(RunKey::generate(&*world, run));
        let purse = Arc::new(Money::default());
        let key_file = folder.path().join("key");
        std::fs::write(&key_file, format!("{KEY}\n"))?;
        let models = ModelTable::from_config(&config(fake, spec, &key_file))
            .context("the gateway does not take the matrix's configuration")?;
        let parts = Parts {
            policy: Arc::new(ArcSwap::new(policy()?)),
            ledger: Arc::clone(&ledger),
            purse: Arc::clone(&purse) as Arc<dyn Purse>,
            runs: Arc::new(OneRun { caller, key: Arc::clone(&key) }),
            approvals: Arc::new(NobodyToAsk),
            models,
            world,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let inside = runtime.enter();
        let gateway = Gateway::new(parts);
        let door = Arc::new(Door::default());
        let router = gateway.router().layer(axum::middleware::from_fn_with_state(Arc::clone(&door), kept));
        drop(inside);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let addr = listener.local_addr()?;
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { addr, gateway, ledger, key, purse, door, runtime, _folder: folder })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What passed the door.
    #[must_use]
    pub fn passed(&self) -> Vec<Passed> {
        self.door.all().clone()
    }

    /// Waits until every call is over, and tells how each ended.
    ///
    /// # Errors
    /// If a record is open, a reservation is left, or what was charged is not what the records say.
    pub fn calls(&self) -> Result<Vec<Told>> {
        self.runtime.block_on(self.gateway.drain());
        ensure!(self.ledger.unclosed().is_empty(), "a record is open");
        let entries = self.ledger.log().read(0, usize::MAX, usize::MAX)?;
        let sealed: HashMap<Digest, (ContentKind, Bytes)> = entries
            .iter()
            .filter_map(|(_, entry)| entry.as_content())
            .map(|(_, content, bytes)| (content.digest, (content.kind, bytes)))
            .collect();
        let records = entries.iter().filter(|(_, entry)| entry.kind == EntryKind::Record);
        let records = records.map(|(_, entry)| Record::parse(&entry.payload)).collect::<Result<Vec<Record>, _>>()?;
        let mut calls = Vec::new();
        for record in &records {
            let RecordBody::Close { of, outcome, usage, cost, contents, .. } = &record.body else { continue };
            let opened =
                records.iter().find(|open| open.id == *of).context("a record is closed and was never opened")?;
            let RecordBody::Open { contents: sent, .. } = &opened.body else { continue };
            let code = outcome.code.clone().map(|code| format!(" ({code})")).unwrap_or_default();
            calls.push(Told {
                outcome: format!("{:?}{code}", outcome.status).to_lowercase(),
                usage: usage.unwrap_or_default(),
                cost: cost.unwrap_or_default().0,
                request: self.opened(ContentKind::ModelRequest, sent, &sealed)?,
                answer: self.opened(ContentKind::ModelResponse, contents, &sealed)?,
            });
        }
        let money = self.purse.state();
        ensure!(money.held.is_empty(), "a reservation is left");
        ensure!(money.wrong.is_empty(), "of the purse was asked what nobody may ask: {}", money.wrong.join(", "));
        let charged: i64 = calls.iter().map(|call| call.cost).sum();
        ensure!(money.spent == charged, "{} nano-dollars were spent and {charged} are in the records", money.spent);
        Ok(calls)
    }

    /// What a record holds of this kind, unpacked.
    fn opened(
        &self,
        kind: ContentKind,
        refs: &[ContentRef],
        sealed: &HashMap<Digest, (ContentKind, Bytes)>,
    ) -> Result<Vec<u8>> {
        let Some(content) = refs.iter().find(|content| content.kind == kind) else { return Ok(Vec::new()) };
        let plain = |digest: Digest| -> Result<Bytes> {
            let (kind, bytes) = sealed.get(&digest).context("a record names a content that is not there")?;
            Ok(self.key.open(*kind, bytes)?.into())
        };
        let bytes = plain(content.digest)?;
        if kind != ContentKind::ModelRequest {
            return Ok(capture::restore(bytes)?.to_vec());
        }
        if bytes.starts_with(b"{") {
            return Ok(bytes.to_vec());
        }
        let whole = capture::unpack(content.digest, plain).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(whole.to_vec())
    }
}

/// The default policy, read once in a process.
fn policy() -> Result<Arc<Engine>> {
    static DEFAULT: OnceLock<Arc<Engine>> = OnceLock::new();
    if let Some(engine) = DEFAULT.get() {
        return Ok(Arc::clone(engine));
    }
    let engine = Arc::new(Bundle::parse(1, default_bundle())?);
    Ok(Arc::clone(DEFAULT.get_or_init(|| engine)))
}

/// The configuration of the cell's one provider, in the product's own words.
fn config(fake: &Fake, spec: &Spec, key_file: &Path) -> String {
    let url = fake.url();
    let provider = match spec.provider.as_str() {
        "openai" => format!("kind = \"openai\"\nbase_url = \"{url}/v1\""),
        "openai-compatible" => format!("kind = \"openai-compatible\"\nbase_url = \"{url}/v1\""),
        "azure" => format!("kind = \"azure\"\nbase_url = \"{url}\"\napi_version = \"2025-04-01-preview\""),
        "vertex-gemini" | "vertex-claude" => {
            format!("kind = \"vertex\"\nbase_url = \"{url}\"\nproject = \"p\"\nlocation = \"us-east5\"")
        }
        "bedrock" => format!("kind = \"bedrock\"\nbase_url = \"{url}\""),
        "bedrock-converse" => format!("kind = \"bedrock\"\nbase_url = \"{url}\"\nconverts_to = \"converse\""),
        kind => format!("kind = \"{kind}\"\nbase_url = \"{url}\""),
    };
    let (input, cached, output) = PRICES;
    format!(
        "only_listed = true\n[providers.here]\n{provider}\nkey_file = {key_file:?}\n\
         [models.{model:?}]\nprovider = \"here\"\nupstream = {upstream:?}\nprice = \"matrix\"\nreasoning = {reasoning}\n\
         [prices.matrix]\ninput = \"{input}\"\ncache_read = \"{cached}\"\noutput = \"{output}\"\ncontext_window = 1000000\n",
        model = spec.model,
        upstream = spec.upstream,
        reasoning = !spec.upstream.starts_with("gpt-4"),
    )
}

/// Keeps what passes.
async fn kept(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
    let number = {
        let mut all = door.all();
        all.push(Passed { line: format!("{} {}", head.method, head.uri), request: body.to_vec(), ..Passed::default() });
        all.len() - 1
    };
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    let (head, body) = response.into_parts();
    if let Some(passed) = door.all().get_mut(number) {
        passed.status = head.status.as_u16();
    }
    let stream = body.into_data_stream().map(move |piece| {
        if let (Ok(bytes), Some(passed)) = (&piece, door.all().get_mut(number)) {
            passed.answer.extend_from_slice(bytes);
        }
        piece
    });
    Response::from_parts(head, Body::from_stream(stream))
}

struct OneRun {
    caller: Caller,
    key: Arc<RunKey>,
}

#[async_trait]
impl Runs for OneRun {
    async fn caller(&self, token: &SecretString) -> Option<Caller> {
        (token.expose_secret() == TOKEN).then(|| self.caller.clone())
    }

    fn key(&self, run: RunId) -> Option<Arc<RunKey>> {
        (run == self.caller.run).then(|| Arc::clone(&self.key))
    }
}

/// Money in memory, strict about its own rules.
#[derive(Debug, Default)]
struct Money(Mutex<Account>);

#[derive(Debug, Default)]
struct Account {
    spent: i64,
    held: HashMap<ModelCallId, i64>,
    spending: HashMap<ModelCallId, i64>,
    /// What nobody may ask of a purse and somebody did.
    wrong: Vec<&'static str>,
}

impl Money {
    fn state(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Purse for Money {
    async fn hold(
        &self,
        _run: RunId,
        _model: &str,
        call: ModelCallId,
        amount: Nanos,
    ) -> Result<Vec<LogEntry>, PurseError> {
        let mut account = self.state();
        if account.spent + account.held.values().sum::<i64>() + amount.0 > MONEY {
            return Err(PurseError::Exhausted { scope: BudgetScope::Run });
        }
        if account.held.insert(call, amount.0).is_some() {
            account.wrong.push("held twice");
        }
        Ok(vec![LogEntry::new(EntryKind::Budget, format!("held {call} {amount}"))])
    }

    fn release(&self, call: ModelCallId) {
        let mut account = self.state();
        if account.held.remove(&call).is_none() {
            account.wrong.push("released and not held");
        }
    }

    fn tops_up(&self) -> bool {
        true
    }

    async fn top_up(&self, call: ModelCallId, more: Nanos) -> Result<(), PurseError> {
        let mut account = self.state();
        let held = account.held.get_mut(&call).ok_or_else(|| PurseError::Unavailable("not held".to_owned()))?;
        *held += more.0;
        Ok(())
    }

    fn spend(&self, call: ModelCallId, spent: Nanos) -> Vec<LogEntry> {
        let mut account = self.state();
        if account.held.get(&call).is_none_or(|held| spent.0 > *held) {
            account.wrong.push("more was spent than was held");
        }
        account.spending.insert(call, spent.0);
        vec![LogEntry::new(EntryKind::Budget, format!("spent {call} {spent}"))]
    }

    fn spent(&self, call: ModelCallId) {
        let mut account = self.state();
        match (account.held.remove(&call), account.spending.remove(&call)) {
            (Some(_), Some(spent)) => account.spent += spent,
            _ => account.wrong.push("settled twice, or without a price"),
        }
    }
}
