//! A gateway with everything around it, on a temporary directory.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::{
    BudgetScope, ContentKind, Level, Nanos, Principal, Usage, World,
    ids::{ModelCallId, RunId, RunnerId},
};
use stockade_gateway::{
    Approvals, Caller, Finished, Gateway, Limits, ModelTable, NobodyToAsk, Parts, Purse, PurseError, Runs,
    capture::{restore, unpack},
};
use stockade_ledger::{
    Body, EntryKind, Ledger, Log, LogEntry, LogOptions, Producer, Record, RunKey, SigningKey, Status, SystemWorld,
};
use stockade_policy::{Bundle, Engine, default_bundle};
use tokio_util::sync::CancellationToken;

use crate::fake::Fake;

pub const TOKEN: &str = "run-token-that-is-worth-nothing-elsewhere";
pub const KEY: &str = "sk-provider-key";

/// Money in memory, strict about its own rules.
#[derive(Debug, Default)]
pub struct TestPurse {
    pub limit: i64,
    pub state: Mutex<Money>,
    pub away: AtomicBool,
    pub full: AtomicBool,
    /// Whether streams begin with a part of what they may cost.
    pub grows: AtomicBool,
}

#[derive(Debug, Default)]
pub struct Money {
    pub spent: i64,
    pub reserved: HashMap<ModelCallId, i64>,
    pub spending: HashMap<ModelCallId, i64>,
    pub settled: HashMap<ModelCallId, i64>,
    pub refused: u32,
    pub peak: i64,
}

#[async_trait]
impl Purse for TestPurse {
    async fn hold(
        &self,
        _run: RunId,
        _model: &str,
        call: ModelCallId,
        amount: Nanos,
    ) -> Result<Vec<LogEntry>, PurseError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(PurseError::Unavailable("the server is away".into()));
        }
        tokio::task::yield_now().await;
        let mut money = self.state.lock().unwrap();
        let held = money.spent + money.reserved.values().sum::<i64>();
        if held + amount.0 > self.limit {
            money.refused += 1;
            return Err(PurseError::Exhausted { scope: BudgetScope::Run });
        }
        assert!(money.reserved.insert(call, amount.0).is_none(), "reserved twice");
        money.peak = money.peak.max(held + amount.0);
        Ok(vec![LogEntry::new(EntryKind::Budget, format!("held {call} {amount}"))])
    }

    fn room(&self) -> Result<(), PurseError> {
        if self.full.load(Ordering::SeqCst) { Err(PurseError::Unavailable("the disk is full".into())) } else { Ok(()) }
    }

    fn release(&self, call: ModelCallId) {
        self.state.lock().unwrap().reserved.remove(&call).expect("released without a reservation");
    }

    fn tops_up(&self) -> bool {
        self.grows.load(Ordering::SeqCst)
    }

    async fn top_up(&self, call: ModelCallId, more: Nanos) -> Result<(), PurseError> {
        let mut money = self.state.lock().unwrap();
        let held = money.spent + money.reserved.values().sum::<i64>();
        if held + more.0 > self.limit {
            return Err(PurseError::Exhausted { scope: BudgetScope::Run });
        }
        *money.reserved.get_mut(&call).expect("more without a reservation") += more.0;
        money.peak = money.peak.max(held + more.0);
        Ok(())
    }

    fn spend(&self, call: ModelCallId, spent: Nanos) -> Vec<LogEntry> {
        let mut money = self.state.lock().unwrap();
        let reserved = money.reserved[&call];
        assert!(spent.0 <= reserved, "{} of {reserved}", spent.0);
        money.spending.insert(call, spent.0);
        vec![LogEntry::new(EntryKind::Budget, format!("spent {call} {spent}"))]
    }

    fn spent(&self, call: ModelCallId) {
        let mut money = self.state.lock().unwrap();
        let spent = money.spending.remove(&call).expect("nothing was spent");
        money.reserved.remove(&call).expect("settled without a reservation");
        money.spent += spent;
        assert!(money.settled.insert(call, spent).is_none(), "settled twice");
    }
}

struct OneRun {
    caller: Caller,
    key: Mutex<Option<Arc<RunKey>>>,
    /// A model that its token was not made for.
    not_for_token: Mutex<String>,
}

#[async_trait]
impl Runs for OneRun {
    async fn caller(&self, token: &SecretString) -> Option<Caller> {
        (token.expose_secret() == TOKEN).then(|| self.caller.clone())
    }
    fn permits(&self, _: RunId, model: &str) -> bool {
        *self.not_for_token.lock().unwrap() != model
    }
    fn renewed(&self, caller: &Caller) -> Option<Caller> {
        self.key(caller.run).map(|_| caller.clone())
    }
    fn key(&self, run: RunId) -> Option<Arc<RunKey>> {
        (run == self.caller.run).then(|| self.key.lock().unwrap().clone()).flatten()
    }
}

pub struct House {
    pub gateway: Gateway,
    pub addr: SocketAddr,
    pub caller: Caller,
    pub purse: Arc<TestPurse>,
    pub ledger: Arc<Ledger>,
    pub policy: Arc<ArcSwap<Engine>>,
    runs: Arc<OneRun>,
    key: Arc<RunKey>,
    dir: tempfile::TempDir,
}

pub struct Plan {
    pub limits: Limits,
    pub budget: i64,
    pub bundle: String,
    pub rehearsal: Option<SocketAddr>,
    pub approvals: Arc<dyn Approvals>,
    /// More of the gateway's configuration.
    pub config: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            config: String::new(),
            budget: 1_000_000_000_000,
            bundle: default_bundle().to_owned(),
            rehearsal: None,
            approvals: Arc::new(NobodyToAsk),
        }
    }
}

/// How a call ended, according to the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub status: Status,
    pub code: Option<String>,
    pub usage: Usage,
    pub cost: i64,
    pub request: Vec<u8>,
    pub response: Vec<u8>,
}

impl House {
    pub async fn new(fake: &Fake) -> Self {
        Self::with(fake.addr, Plan::default()).await
    }

    pub async fn with(provider: SocketAddr, plan: Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let log = Arc::new(Log::open(&dir.path().join("log"), LogOptions::default()).unwrap());
        let runner: RunnerId = world.id();
        let ledger =
            Arc::new(Ledger::start(log, Producer::Runner(runner), SigningKey::generate(), world.clone()).unwrap());
        let (run, owner) = (world.id(), world.id());
        let caller = Caller {
            run,
            owner,
            project: world.id(),
            level: Level::ON_THE_LOOP,
            principal: Principal::Agent { run, owner },
        };
        let key = Arc::new(RunKey::generate(&*world, run));
        let runs = Arc::new(OneRun {
            caller: caller.clone(),
            key: Mutex::new(Some(key.clone())),
            not_for_token: Mutex::default(),
        });
        let purse = Arc::new(TestPurse { limit: plan.budget, ..TestPurse::default() });
        let key_file = dir.path().join("key");
        std::fs::write(&key_file, format!("{KEY}\n")).unwrap();
        let mut models = ModelTable::from_config(&format!(
            "[providers.anthropic]\nbase_url = \"http://{provider}/prefix/\"\nkey_file = {key_file:?}\n\
             [models.alias]\nupstream = \"claude-sonnet-4-6\"\n{}",
            plan.config
        ))
        .unwrap();
        if let Some(addr) = plan.rehearsal {
            models = models.with_rehearsal(addr);
        }
        let engine = if plan.bundle == default_bundle() {
            static DEFAULT: OnceLock<Arc<Engine>> = OnceLock::new();
            DEFAULT.get_or_init(|| Arc::new(Bundle::parse(1, default_bundle()).unwrap())).clone()
        } else {
            Arc::new(Bundle::parse(1, &plan.bundle).unwrap())
        };
        let policy = Arc::new(ArcSwap::new(engine));
        let parts = Parts {
            policy: policy.clone(),
            ledger: ledger.clone(),
            purse: purse.clone(),
            runs: runs.clone(),
            approvals: plan.approvals,
            models,
            world,
        };
        let gateway = Gateway::with_limits(parts, plan.limits);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = gateway.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { gateway, addr, caller, purse, ledger, policy, runs, key, dir }
    }

    pub fn key_file(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    pub fn not_for_token(&self, model: &str) {
        model.clone_into(&mut self.runs.not_for_token.lock().unwrap());
    }

    pub fn erase(&self) {
        *self.runs.key.lock().unwrap() = None;
    }

    /// The text in a sealed content of the run.
    pub fn open(&self, kind: ContentKind, sealed: &[u8]) -> String {
        String::from_utf8(self.key.open(kind, sealed).unwrap().to_vec()).unwrap()
    }

    /// A call in process.
    pub async fn call(&self, body: &str) -> Finished {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.gateway.call(self.caller.clone(), body, CancellationToken::new()).await.unwrap()
    }

    pub fn records(&self) -> Vec<Record> {
        let entries = self.ledger.log().read(0, usize::MAX, usize::MAX).unwrap();
        let records = entries.iter().filter(|(_, entry)| entry.kind == EntryKind::Record);
        records.map(|(_, entry)| Record::parse(&entry.payload).unwrap()).collect()
    }

    /// Waits until every call is over, and tells how each ended. Every opened record is closed, and what was charged is
    /// what the records say.
    pub async fn entries(&self) -> Vec<Entry> {
        self.gateway.drain().await;
        assert_eq!(self.ledger.unclosed().len(), 0, "a record is open");
        let records = self.records();
        let contents: HashMap<_, _> = self
            .ledger
            .log()
            .read(0, usize::MAX, usize::MAX)
            .unwrap()
            .iter()
            .filter_map(|(_, entry)| entry.as_content())
            .map(|(_, content, bytes)| (content.digest, bytes))
            .collect();
        let opened = |wanted: ContentKind, refs: &[stockade_domain::ContentRef]| {
            let of_kind = refs.iter().find(|content| content.kind == wanted);
            let open = |digest| Bytes::from(self.key.open(wanted, &contents[&digest]).unwrap());
            // What stands on what was said before is put together, as it is for a person who reads it.
            let read = |digest| match wanted {
                ContentKind::ModelRequest => unpack(digest, |digest| Ok::<_, Infallible>(open(digest))).unwrap(),
                _ => restore(open(digest)).unwrap(),
            };
            of_kind.map(|content| read(content.digest).to_vec()).unwrap_or_default()
        };
        let mut entries = Vec::new();
        for record in &records {
            let Body::Close { of, outcome, usage, cost, contents, .. } = &record.body else { continue };
            let open = records.iter().find(|open| open.id == *of).unwrap();
            let Body::Open { contents: sent, .. } = &open.body else { panic!("not opened") };
            assert_eq!(open.run, Some(self.caller.run));
            entries.push(Entry {
                status: outcome.status,
                code: outcome.code.clone(),
                usage: usage.unwrap(),
                cost: cost.unwrap().0,
                request: opened(ContentKind::ModelRequest, sent),
                response: opened(ContentKind::ModelResponse, contents),
            });
        }
        let money = self.purse.state.lock().unwrap();
        assert!(money.reserved.is_empty(), "a reservation is left");
        assert_eq!(money.spent, entries.iter().map(|entry| entry.cost).sum::<i64>(), "charged is what is recorded");
        drop(money);
        entries
    }

    pub async fn entry(&self) -> Entry {
        let entries = self.entries().await;
        assert_eq!(entries.len(), 1);
        entries.into_iter().next().unwrap()
    }
}
