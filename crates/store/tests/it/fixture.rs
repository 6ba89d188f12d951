//! An installation to begin with: people, a site with two runners, a project, and runs as far as a test wants them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use stockade_domain::{
    ContentKind, ContentRef, EventKind, Id, Kind, Level, Nanos, Period, RunEvent, RunKind, RunTransition, Timestamp,
    World,
    ids::{EnvironmentId, OrganizationId, ProjectId, RunId, RunnerId, ServerId, SiteId, UserId},
};
use stockade_ledger::{Body, Producer, Record, sha256};
use stockade_store::{
    Store, people, placement, projects, runs, sites,
    spool::{self, Entry, Ingested},
};

/// Time that stands still until somebody moves it, and numbers for chance.
#[derive(Debug)]
pub struct Still {
    now: AtomicI64,
    count: AtomicU64,
}

impl World for Still {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }
    fn random(&self, out: &mut [u8]) {
        // Big endian at the front, so that identifiers of one moment sort as they were made.
        let count = self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        for (slot, byte) in out.iter_mut().zip(count.iter().skip(2).chain(&[0; 8])) {
            *slot = *byte;
        }
    }
}

pub struct Fixture {
    pub store: Store,
    pub world: Still,
    pub organization: OrganizationId,
    pub server: ServerId,
    pub admin: UserId,
    pub site: SiteId,
    pub runner: RunnerId,
    pub other_runner: RunnerId,
    pub project: ProjectId,
}

/// Stands for a run's key, wrapped.
pub const WRAPPED: &str = "d3JhcHBlZCBrZXk=";

/// 2026-11-20T00:00:00Z, a Friday.
pub const FRIDAY: Timestamp = Timestamp(1_795_132_800_000_000);

impl Fixture {
    pub async fn new(store: &Store) -> Self {
        let world = Still { now: AtomicI64::new(FRIDAY.0), count: AtomicU64::new(0) };
        let w = &world as &dyn World;
        let (organization, admin, site, server) = (w.id(), w.id(), w.id(), w.id());
        let mut tx = store.write().await.unwrap();
        let first = people::Bootstrap {
            organization,
            organization_name: "Acme".to_owned(),
            admin,
            admin_name: "admin".to_owned(),
            token: w.id(),
            token_hash: sha256(&[b"token"]),
            bundle: "bundle one".to_owned(),
            site,
            site_name: "here".to_owned(),
            now: world.now(),
        };
        assert!(people::bootstrap(&mut tx, &first).await.unwrap());
        people::register_server(&mut tx, server, "server key", world.now()).await.unwrap();
        let mut runners = Vec::new();
        for name in ["one", "two"] {
            let hash = sha256(&[name.as_bytes()]);
            let now = world.now();
            let token = sites::EnrollToken { hash, site, by: admin, created_at: now, expires_at: now.plus_seconds(60) };
            sites::add_enroll_token(&mut tx, &token).await.unwrap();
            let enrolment = sites::Enrolment {
                token_hash: hash,
                runner: w.id(),
                name: name.to_owned(),
                public_key: format!("key of {name}"),
                site_public_key: "site key".to_owned(),
                listener: "http://127.0.0.1:1".to_owned(),
                now,
            };
            runners.push(sites::enroll(&mut tx, &enrolment).await.unwrap().unwrap().id);
        }
        let project = projects::Project {
            id: w.id(),
            name: "sample".to_owned(),
            repository: "/srv/sample".to_owned(),
            base_branch: String::new(),
            gates: vec!["true".to_owned()],
            gate_attempts: 3,
            level: Level::ON_THE_LOOP,
            site: None,
            class: None,
            version: 1,
            created_at: world.now(),
            updated_at: world.now(),
        };
        projects::add(&mut tx, &project).await.unwrap();
        tx.commit().await.unwrap();
        let (runner, other_runner) = (runners[0], runners[1]);
        let (store, project) = (store.clone(), project.id);
        Self { store, world, organization, server, admin, site, runner, other_runner, project }
    }

    pub fn id<K: Kind>(&self) -> Id<K> {
        (&self.world as &dyn World).id()
    }

    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    pub fn pass(&self, seconds: i64) {
        self.world.now.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    pub fn spec(&self, max_cost: Nanos) -> runs::RunSpec {
        runs::RunSpec {
            harness: stockade_domain::Harness::ClaudeCode,
            model: "rehearsal/sample".to_owned(),
            class: None,
            level: Level::ON_THE_LOOP,
            max_turns: 10,
            max_time_ms: 60_000,
            max_tokens: 100_000,
            max_cost,
            approval_timeout_ms: 60_000,
        }
    }

    /// A run that waits for a place.
    pub async fn queued(&self, max_cost: Nanos) -> RunId {
        self.begun(RunKind::Task, max_cost).await
    }

    /// A run of a person's own tool.
    pub async fn personal(&self) -> RunId {
        self.begun(RunKind::Personal, Nanos::DOLLAR).await
    }

    async fn begun(&self, kind: RunKind, max_cost: Nanos) -> RunId {
        let sealed = b"sealed task".to_vec();
        let start = runs::Start {
            kind,
            period: Period::Total,
            task: self.id(),
            run: self.id(),
            project: self.project,
            owner: self.admin,
            site: self.site,
            spec: self.spec(max_cost),
            wrapped_key: WRAPPED.to_owned(),
            content: content(ContentKind::Task, &sealed),
            sealed,
            now: self.now(),
        };
        let mut tx = self.store.write().await.unwrap();
        let run = runs::start(&mut tx, &start).await.unwrap();
        tx.commit().await.unwrap();
        run.id
    }

    /// A run on the first runner.
    pub async fn placed(&self, max_cost: Nanos) -> (RunId, EnvironmentId) {
        let (run, environment) = (self.queued(max_cost).await, self.id());
        let mut tx = self.store.write().await.unwrap();
        assert!(placement::place(&mut tx, run, self.runner, environment, self.now()).await.unwrap());
        tx.commit().await.unwrap();
        (run, environment)
    }

    /// A run on the first runner, leased: its fence too.
    pub async fn leased(&self, max_cost: Nanos) -> (RunId, EnvironmentId, u64) {
        let (run, environment) = self.placed(max_cost).await;
        (run, environment, self.lease(self.runner, run).await)
    }

    pub async fn lease(&self, runner: RunnerId, run: RunId) -> u64 {
        let mut tx = self.store.write().await.unwrap();
        let fence = stockade_store::leases::take(&mut tx, runner, run, 30_000, self.now()).await.unwrap();
        tx.commit().await.unwrap();
        fence
    }

    pub async fn run(&self, run: RunId) -> runs::Run {
        runs::get(&mut self.store.read().await.unwrap(), run).await.unwrap()
    }

    /// Ships entries from where the server expects them.
    pub async fn ship(&self, runner: RunnerId, entries: &[Entry]) -> Ingested {
        let mut tx = self.store.write().await.unwrap();
        let first = spool::next(&mut tx, runner).await.unwrap();
        let done = spool::ingest(&mut tx, runner, first, entries, self.now()).await.unwrap();
        tx.commit().await.unwrap();
        done
    }

    pub fn event(&self, run: RunId, fence: u64, seq: u64, event: EventKind) -> Entry {
        Entry::Event { fence, line: RunEvent { run, seq, at: self.now(), event } }
    }

    pub fn state(&self, run: RunId, fence: u64, seq: u64, transition: RunTransition) -> Entry {
        self.event(run, fence, seq, EventKind::State { transition })
    }

    pub fn record(&self, runner: RunnerId, seq: u64, run: Option<RunId>) -> Entry {
        let record = Record {
            producer: Producer::Runner(runner),
            seq,
            at: self.now(),
            id: self.id(),
            run,
            project: None,
            body: Body::Note { code: "tested".to_owned(), facts: Default::default(), contents: Vec::new() },
        };
        Entry::Record { canonical: String::from_utf8(record.canonical()).unwrap() }
    }

    pub async fn revision(&self, runner: RunnerId) -> u64 {
        sites::revision(&mut self.store.read().await.unwrap(), runner).await.unwrap()
    }
}

pub fn content(kind: ContentKind, sealed: &[u8]) -> ContentRef {
    ContentRef { kind, digest: sha256(&[sealed]), len: sealed.len() as u64 }
}

/// `written!(fixture, |tx| call(&mut tx, …))`: one call in a transaction of its own, which is kept if it succeeds.
macro_rules! written {
    ($f:expr, |$tx:ident| $call:expr) => {{
        let mut $tx = $f.store.write().await.unwrap();
        let result = $call.await;
        if result.is_ok() {
            $tx.commit().await.unwrap();
        }
        result
    }};
}
pub(crate) use written;

/// The same for reading.
macro_rules! seen {
    ($f:expr, |$tx:ident| $call:expr) => {{
        let mut $tx = $f.store.read().await.unwrap();
        $call.await.unwrap()
    }};
}
pub(crate) use seen;
