//! A runner that does what a test says: it signs its requests and ships what it is given.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use stockade_api::{
    error::{ApiError, ErrorBody},
    http::Run,
    runner::{
        Countersign, Countersigned, Enroll, Enrolled, Entry, Heartbeat, Heartbeaten, Lease, LeaseSlice, Poll, Polled,
        Ship, Shipped, Slice, TakeLease, signed_bytes,
    },
};
use stockade_domain::{
    Action, Answer, ContentKind, ContentRef, ContextValue, Decision, EnvironmentClass, EventKind, Nanos, Principal,
    Resource, ResourceKind, RunEvent, RunTransition, Usage, WaitReason, World,
    ids::{ApprovalId, ModelCallId, ProjectId, RecordId, RunId, RunnerId, UserId},
};
use stockade_ledger::{
    Body, Checkpoint, DeedFacts, Outcome, Producer, Record, SigningKey, SiteKey, Status, Tree, sha256,
};

use crate::harness::TestWorld;

pub const LISTENER: &str = "http://127.0.0.1:7081";

/// A runner that has joined.
pub struct FakeRunner {
    pub id: RunnerId,
    pub key: SigningKey,
    pub server_key: String,
    /// What it knows of its own ledger.
    pub tree: Tree,
    /// The classes of environments that it says it makes.
    pub classes: Vec<EnvironmentClass>,
    url: String,
    http: reqwest::Client,
    world: Arc<TestWorld>,
    /// Where its spool ends.
    position: u64,
    lines: u64,
}

impl FakeRunner {
    pub async fn enroll(url: &str, token: &str, world: Arc<TestWorld>) -> Result<Self, ApiError> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let key = SigningKey::generate();
        let body = Enroll {
            token: token.to_owned(),
            name: "tester".to_owned(),
            public_key: key.public().to_string(),
            site_public_key: SiteKey::generate().unwrap().public().to_string(),
            listener: LISTENER.to_owned(),
        };
        let body = serde_json::to_vec(&body).unwrap();
        let response = http.post(format!("{url}/v1/runner/enroll")).body(body).send().await.unwrap();
        let enrolled: Enrolled = read(response).await?;
        Ok(Self {
            id: enrolled.runner,
            key,
            server_key: enrolled.server_public_key,
            tree: Tree::new(),
            classes: Vec::new(),
            url: url.to_owned(),
            http,
            world,
            position: 0,
            lines: 0,
        })
    }

    /// A request with a signature; `time_us` and `signed` may lie.
    pub async fn send(&self, path: &str, time_us: i64, signed: &[u8], sent: &[u8]) -> reqwest::Response {
        let digest = sha256(&[signed]).to_string();
        let message = signed_bytes("POST", path, time_us, digest.trim_start_matches("sha256:"));
        self.http
            .post(format!("{}{path}", self.url))
            .header("stockade-runner", self.id.to_string())
            .header("stockade-time", time_us.to_string())
            .header("stockade-signature", stockade_api::base64::encode(self.key.sign(&message)))
            .body(sent.to_vec())
            .send()
            .await
            .unwrap()
    }

    async fn call<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiError> {
        let body = serde_json::to_vec(body).unwrap();
        read(self.send(path, self.world.now().0, &body, &body).await).await
    }

    pub async fn poll(&self, revision: u64, bundle: u64, wait_ms: u64) -> Result<Polled, ApiError> {
        let classes = self.classes.clone();
        let body = Poll { revision, wait_ms, listener: LISTENER.to_owned(), bundle, classes };
        self.call("/v1/runner/poll", &body).await
    }

    pub async fn lease(&self, run: RunId) -> Result<Lease, ApiError> {
        self.call("/v1/runner/lease", &TakeLease { run }).await
    }

    pub async fn heartbeat(&self, leases: Vec<(RunId, u64)>) -> Result<Heartbeaten, ApiError> {
        self.call("/v1/runner/heartbeat", &Heartbeat { leases, spooled: 3, away_since: None }).await
    }

    pub async fn slice(&self, ask: &LeaseSlice) -> Result<Slice, ApiError> {
        self.call("/v1/runner/slice", ask).await
    }

    pub async fn checkpoint(&self, note: &str) -> Result<Countersigned, ApiError> {
        self.call("/v1/runner/checkpoint", &Countersign { note: note.to_owned() }).await
    }

    pub async fn ship_at(&self, first: u64, entries: Vec<Entry>) -> Result<Shipped, ApiError> {
        self.call("/v1/runner/ship", &Ship { first, entries }).await
    }

    /// Ships the next entries of its spool.
    pub async fn ship(&mut self, entries: Vec<Entry>) -> Result<u64, ApiError> {
        let shipped = self.ship_at(self.position, entries).await?;
        self.position = shipped.next;
        Ok(shipped.next)
    }

    /// The next line of a run.
    pub fn line(&mut self, run: RunId, fence: u64, event: EventKind) -> Entry {
        self.lines += 1;
        Entry::Event { fence, line: RunEvent { run, seq: self.lines, at: self.world.now(), event } }
    }

    /// Ships these as the next lines of a run.
    pub async fn tell(&mut self, run: RunId, fence: u64, events: Vec<EventKind>) {
        let lines = events.into_iter().map(|event| self.line(run, fence, event)).collect();
        self.ship(lines).await.unwrap();
    }

    pub fn state(&mut self, run: RunId, fence: u64, transition: RunTransition) -> Entry {
        self.line(run, fence, EventKind::State { transition })
    }

    /// The next record of its ledger.
    pub fn note(&mut self, code: &str) -> Entry {
        let record = Record {
            producer: Producer::Runner(self.id),
            seq: self.tree.size(),
            at: self.world.now(),
            id: (&*self.world as &dyn World).id(),
            run: None,
            project: None,
            body: Body::Note { code: code.to_owned(), facts: [].into(), contents: Vec::new() },
        };
        self.tree.append(record.leaf());
        Entry::Record { canonical: String::from_utf8(record.canonical()).unwrap() }
    }

    fn record(&mut self, run: RunId, project: ProjectId, body: Body) -> (RecordId, Entry) {
        let id = (&*self.world as &dyn World).id();
        let record = Record {
            producer: Producer::Runner(self.id),
            seq: self.tree.size(),
            at: self.world.now(),
            id,
            run: Some(run),
            project: Some(project),
            body,
        };
        self.tree.append(record.leaf());
        (id, Entry::Record { canonical: String::from_utf8(record.canonical()).unwrap() })
    }

    /// A model call of a person's own tool, from its beginning to its end.
    pub async fn call_model(&mut self, run: RunId, project: ProjectId, person: UserId) -> ModelCallId {
        let call: ModelCallId = (&*self.world as &dyn World).id();
        let text = |text: &str| ContextValue::Text(text.to_owned());
        let context = [
            ("call", text(&call.to_string())),
            ("model", text("sonnet")),
            ("provider", text("anthropic")),
            ("client", text("claude-code/2.1.197")),
            ("session", text("00112233aabbccdd")),
            ("turn", ContextValue::Long(3)),
        ];
        let deed = DeedFacts {
            principal: Principal::User { id: person, roles: vec![] },
            action: Action::ModelCall,
            resource: Resource::new(ResourceKind::Model, "sonnet").in_project(project).in_run(run),
            context: context.map(|(name, value)| (name.to_owned(), value)).into(),
        };
        let decision = Decision { answer: Answer::Allow, bundle: 1, policies: vec![], approval: None };
        let (opened, first) = self.record(run, project, Body::Open { deed, decision, contents: vec![] });
        let outcome = Outcome::new(Status::Ok);
        let usage = Some(Usage { input_tokens: 100, output_tokens: 20, ..Usage::default() });
        let close = Body::Close {
            of: opened,
            outcome,
            usage,
            cost: Some(Nanos(700)),
            facts: BTreeMap::new(),
            contents: vec![],
        };
        let (_, last) = self.record(run, project, close);
        self.ship(vec![first, last]).await.unwrap();
        call
    }

    /// A connection out of a run's environment, and one that is refused.
    pub async fn connect(&mut self, run: &Run) -> (RecordId, RecordId) {
        let text = |text: &str| ContextValue::Text(text.to_owned());
        let deed = |host: &str| DeedFacts {
            principal: Principal::Agent { run: run.id, owner: run.owner },
            action: Action::ConnectionOpen,
            resource: Resource::new(ResourceKind::Host, host).in_project(run.project).in_run(run.id),
            context: [("port".to_owned(), ContextValue::Long(443)), ("protocol".to_owned(), text("tls"))].into(),
        };
        let decision = |answer| Decision { answer, bundle: 1, policies: vec![], approval: None };
        let contents = vec![ContentRef { kind: ContentKind::DeedContext, digest: sha256(&[b"path"]), len: 4 }];
        let body = Body::Open { deed: deed("crates.example"), decision: decision(Answer::Allow), contents };
        let (opened, first) = self.record(run.id, run.project, body);
        let facts = [("bytes_in".to_owned(), ContextValue::Long(70)), ("address".to_owned(), text("192.0.2.1:443"))];
        let outcome = Outcome::new(Status::Ok);
        let body = Body::Close { of: opened, outcome, usage: None, cost: None, facts: facts.into(), contents: vec![] };
        let (_, second) = self.record(run.id, run.project, body);
        let body = Body::Refused { deed: deed("far.example"), decision: decision(Answer::Deny), contents: vec![] };
        let (refused, third) = self.record(run.id, run.project, body);
        self.ship(vec![first, second, third]).await.unwrap();
        (opened, refused)
    }

    /// Its own checkpoint of what it has, or of another tree.
    pub fn signed(&self, tree: &Tree) -> String {
        let origin = Checkpoint::origin_of(&Producer::Runner(self.id));
        let checkpoint = Checkpoint { origin: origin.clone(), size: tree.size(), root: tree.root() };
        checkpoint.sign(&origin, &self.key).to_string()
    }

    /// Brings a placed run to a waiting approval.
    pub async fn work_until_asked(&mut self, run: RunId) -> ApprovalId {
        let fence = self.lease(run).await.unwrap().fence;
        let approval: ApprovalId = (&*self.world as &dyn World).id();
        let expires_at = self.world.now().plus_seconds(600);
        let asked = EventKind::ApprovalRequested {
            approval,
            action: Action::ToolCall,
            resource: "run".to_owned(),
            policy: "commands ask".to_owned(),
            expires_at,
            content: None,
        };
        let entries = vec![
            self.state(run, fence, RunTransition::Prepare),
            self.state(run, fence, RunTransition::Work),
            self.line(run, fence, asked),
            self.state(run, fence, RunTransition::Wait { reason: WaitReason::Approval }),
        ];
        self.ship(entries).await.unwrap();
        approval
    }
}

async fn read<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, ApiError> {
    let ok = response.status().is_success();
    let body = response.bytes().await.unwrap();
    if ok {
        return Ok(serde_json::from_slice(&body).unwrap());
    }
    Err(serde_json::from_slice::<ErrorBody>(&body).unwrap().error)
}
