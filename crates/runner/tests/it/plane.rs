//! A control plane that speaks `api::runner` and can be steered: away, lost leases, orders, answers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::de::DeserializeOwned;
use stockade_api::{
    runner::{
        AgentSpec, ApprovalAnswer, Assignment, BudgetEntry, BundleText, Countersign, Countersigned, Enroll, Enrolled,
        Entry, Heartbeat, Heartbeaten, Lease, LeaseSlice, Order, Poll, Polled, ProjectSpec, Ship, Shipped, Slice,
        TakeLease, signed_bytes,
    },
    ticket::Ticket,
};
use stockade_domain::{
    BudgetScope, Desired, EventKind, FailureCause, Harness, Level, Nanos, Role, RunEvent, RunState, RunTransition,
    World,
    ids::{ApprovalId, RunId, RunnerId, UserId},
};
use stockade_ledger::{SigningKey, SitePublicKey, SystemWorld, VerifyingKey};

/// What the control plane knows.
pub struct Plane {
    pub addr: SocketAddr,
    pub inner: Mutex<Inner>,
    pub changed: tokio::sync::watch::Sender<u64>,
    key: SigningKey,
}

#[derive(Default)]
pub struct Inner {
    pub away: bool,
    pub runner: Option<(RunnerId, VerifyingKey, SitePublicKey)>,
    pub assignments: Vec<Assignment>,
    pub fences: BTreeMap<RunId, u64>,
    pub lose: Vec<RunId>,
    pub next: u64,
    pub entries: Vec<Entry>,
    /// Every byte that was ever received.
    pub received: Vec<u8>,
    pub absences: u32,
    pub listener: String,
    pub limit: Nanos,
    pub spent: Nanos,
    pub leased: BTreeMap<String, Nanos>,
    pub stale: u32,
    /// Who does the work of what is assigned.
    pub harness: Harness,
    /// The class that it is to have.
    pub class: Option<String>,
    /// How often the runner has asked what is new.
    pub polls: u64,
}

impl Plane {
    pub async fn start() -> Arc<Self> {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = Inner { limit: Nanos(1_000 * 1_000_000_000), ..Inner::default() };
        let plane = Arc::new(Self {
            addr: socket.local_addr().unwrap(),
            inner: Mutex::new(inner),
            changed: tokio::sync::watch::Sender::new(1),
            key: SigningKey::generate(),
        });
        let router = Router::new().route("/v1/runner/{what}", post(serve)).with_state(Arc::clone(&plane));
        tokio::spawn(async move { axum::serve(socket, router).await });
        plane
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn set(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.changed.send_modify(|n| *n += 1);
    }

    /// Something to do at this repository.
    pub fn assign(&self, repository: &str, level: u8, gates: &[&str], cassette: &str, task: &str) -> RunId {
        let world: &dyn World = &SystemWorld;
        let run: RunId = world.id();
        let site = self.lock().runner.as_ref().unwrap().2.to_string();
        let sealed = stockade_runner::offline::seal_task(&site, run, task).unwrap();
        let harness = self.lock().harness;
        let assignment = Assignment {
            run,
            task: world.id(),
            owner: world.id(),
            state: RunState::Queued,
            order: None,
            environment: world.id(),
            desired: Desired::Running,
            generation: 1,
            class: self.lock().class.clone(),
            project: ProjectSpec {
                id: world.id(),
                name: "sample".into(),
                repository: repository.into(),
                base_branch: String::new(),
                gates: gates.iter().map(|g| (*g).to_owned()).collect(),
                gate_attempts: 3,
                level: Level::try_from(level).unwrap(),
            },
            agent: AgentSpec {
                harness,
                model: if harness.is_inside() { "claude-x".to_owned() } else { format!("rehearsal/{cassette}") },
                max_turns: 50,
                max_time_ms: 600_000,
                max_tokens: 1_000_000,
                max_cost: Nanos(10 * 1_000_000_000),
                approval_timeout_ms: 600_000,
            },
            wrapped_key: Some(sealed.wrapped_key),
            task_content: sealed.content,
            task_sealed: sealed.sealed,
            approvals: vec![],
            replies: vec![],
        };
        self.set(|inner| inner.assignments.push(assignment));
        run
    }

    pub fn of(&self, run: RunId, change: impl FnOnce(&mut Assignment)) {
        self.set(|inner| change(inner.assignments.iter_mut().find(|a| a.run == run).unwrap()));
    }

    pub fn events(&self, run: RunId) -> Vec<RunEvent> {
        let inner = self.lock();
        let lines = inner.entries.iter().filter_map(|e| match e {
            Entry::Event { line, .. } if line.run == run => Some(line.clone()),
            _ => None,
        });
        lines.collect()
    }

    /// The events of a run are numbered from 1 without gaps and doubles.
    pub fn assert_contiguous(&self, run: RunId) {
        let seqs: Vec<u64> = self.events(run).iter().map(|e| e.seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    }

    pub async fn state(&self, run: RunId, wanted: &str) {
        let last = || self.lock().assignments.iter().find(|a| a.run == run).map(|a| a.state);
        let since = std::time::Instant::now();
        crate::until(&format!("{run} to be {wanted}"), async || {
            let state = last()?;
            let late = since.elapsed() > std::time::Duration::from_secs(35);
            assert!(
                !late,
                "{run} stays {state}:\n{:#?}",
                self.events(run).iter().map(|e| &e.event).collect::<Vec<_>>()
            );
            let ended = state.is_final() && state.as_str() != wanted;
            assert!(!ended, "{run} is {state}:\n{:#?}", self.events(run).iter().map(|e| &e.event).collect::<Vec<_>>());
            (state.as_str() == wanted).then_some(())
        })
        .await;
    }

    pub async fn asked(&self, run: RunId, count: usize) -> ApprovalId {
        crate::until("an approval to be wanted", async || {
            let asked: Vec<ApprovalId> = self
                .events(run)
                .iter()
                .filter_map(|e| match e.event {
                    EventKind::ApprovalRequested { approval, .. } => Some(approval),
                    _ => None,
                })
                .collect();
            asked.get(count - 1).copied()
        })
        .await
    }

    pub fn answer(&self, run: RunId, approval: ApprovalId, granted: bool) {
        let world: &dyn World = &SystemWorld;
        let answer = ApprovalAnswer { approval, granted, by: Some(world.id()), at: world.now() };
        self.of(run, |a| a.approvals.push(answer));
    }

    pub fn order(&self, run: RunId, order: Order) {
        self.of(run, |a| {
            a.order = Some(order);
            match order {
                Order::Erase => a.wrapped_key = None,
                Order::Resume => a.state = RunState::Queued,
                Order::Cancel => {}
            }
        });
    }

    pub fn ticket(&self, run: RunId, roles: Vec<Role>) -> String {
        let inner = self.lock();
        let a = inner.assignments.iter().find(|a| a.run == run).unwrap();
        let ticket = Ticket {
            user: UserId::from_bytes([9; 16]),
            roles,
            run,
            project: a.project.id,
            owner: a.owner,
            runner: inner.runner.as_ref().unwrap().0,
            expires_at: SystemWorld.now().plus_seconds(60),
            wrapped_key: None,
        };
        ticket.encode(&self.key.sign(&ticket.signed_bytes()))
    }

    fn take(&self, inner: &mut Inner, entry: Entry) {
        match &entry {
            Entry::Event { fence, line } => {
                if inner.fences.get(&line.run).is_none_or(|f| f != fence) {
                    inner.stale += 1;
                }
                if let Some(a) = inner.assignments.iter_mut().find(|a| a.run == line.run) {
                    match &line.event {
                        EventKind::State { transition } => {
                            a.state = a.state.apply(*transition).unwrap_or(a.state);
                            if a.state.is_final() && a.order != Some(Order::Erase)
                                || matches!(transition, RunTransition::Prepare)
                                || matches!(transition, RunTransition::Fail { cause: FailureCause::Erased })
                            {
                                a.order = None;
                            }
                        }
                        EventKind::Notice { code } if code == "erased" => a.order = None,
                        _ => {}
                    }
                }
            }
            Entry::Budget { entry } => match entry {
                BudgetEntry::Settled { slice, spent, .. } => {
                    inner.spent.0 += spent.0;
                    inner.leased.get_mut(&slice.to_string()).unwrap().0 -= spent.0;
                }
                BudgetEntry::Returned { slice, amount } => {
                    inner.leased.get_mut(&slice.to_string()).unwrap().0 -= amount.0;
                }
                BudgetEntry::Leased { .. } | BudgetEntry::Reserved { .. } => {}
            },
            Entry::Record { .. } | Entry::Content { .. } => {}
        }
        inner.entries.push(entry);
    }
}

async fn serve(
    State(plane): State<Arc<Plane>>,
    axum::extract::Path(what): axum::extract::Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if plane.lock().away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    plane.lock().received.extend_from_slice(&body);
    if what != "enroll" {
        // Nothing is believed that is not signed by the key that enrolled.
        let head = |name: &str| headers[name].to_str().unwrap().to_owned();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let signed = signed_bytes("POST", &format!("/v1/runner/{what}"), head("stockade-time").parse().unwrap(), &hex);
        let signature = BASE64_STANDARD.decode(head("stockade-signature")).unwrap();
        let (id, key, _) = plane.lock().runner.unwrap();
        assert!(key.verify(&signed, &signature) && head("stockade-runner") == id.to_string());
    }
    match what.as_str() {
        "enroll" => {
            let asked: Enroll = read(&body);
            assert_eq!(asked.token, "one-time");
            let world: &dyn World = &SystemWorld;
            let runner = world.id();
            let (key, site) = (asked.public_key.parse().unwrap(), asked.site_public_key.parse().unwrap());
            plane.lock().runner = Some((runner, key, site));
            let server_public_key = plane.key.public().to_string();
            Json(Enrolled { runner, site: world.id(), server_public_key }).into_response()
        }
        "poll" => {
            let asked: Poll = read(&body);
            plane.lock().polls += 1;
            let mut changed = plane.changed.subscribe();
            let wait = std::time::Duration::from_millis(asked.wait_ms);
            let news = changed.wait_for(|now| *now != asked.revision);
            let revision = tokio::time::timeout(wait, news).await.map_or(asked.revision, |now| *now.unwrap());
            let mut inner = plane.lock();
            if inner.away {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            inner.listener = asked.listener;
            let bundle = (asked.bundle != 1)
                .then(|| BundleText { number: 1, text: stockade_policy::default_bundle().to_owned() });
            let assignments = inner.assignments.clone();
            Json(Polled { revision, bundle, assignments, tokens: vec![], erased: vec![], answers: vec![] })
                .into_response()
        }
        "lease" => {
            let asked: TakeLease = read(&body);
            let mut inner = plane.lock();
            let fence = inner.fences.entry(asked.run).or_default();
            *fence += 1;
            Json(Lease { run: asked.run, fence: *fence, ttl_ms: 30_000 }).into_response()
        }
        "heartbeat" => {
            let asked: Heartbeat = read(&body);
            let mut inner = plane.lock();
            inner.absences += u32::from(asked.away_since.is_some());
            let lose = std::mem::take(&mut inner.lose);
            let (lost, renewed): (Vec<_>, Vec<_>) = asked.leases.into_iter().partition(|(run, _)| lose.contains(run));
            let runs = |leases: Vec<(RunId, u64)>| leases.into_iter().map(|(run, _)| run).collect();
            Json(Heartbeaten { renewed: runs(renewed), lost: runs(lost), now: SystemWorld.now() }).into_response()
        }
        "ship" => {
            let asked: Ship = read(&body);
            let mut inner = plane.lock();
            if asked.first <= inner.next {
                let skip = usize::try_from(inner.next - asked.first).unwrap();
                for entry in asked.entries.into_iter().skip(skip) {
                    plane.take(&mut inner, entry);
                    inner.next += 1;
                }
            }
            let next = inner.next;
            drop(inner);
            plane.changed.send_modify(|n| *n += 1);
            Json(Shipped { next }).into_response()
        }
        "slice" => {
            let asked: LeaseSlice = read(&body);
            let mut inner = plane.lock();
            let out: Nanos = inner.leased.values().copied().sum();
            let known = inner.leased.get(&asked.slice.to_string()).copied();
            let head = inner.limit.0 - inner.spent.0 - out.0;
            let amount = known.unwrap_or(if head >= asked.need.0 { asked.want.min(Nanos(head)) } else { Nanos(0) });
            if amount.0 > 0 {
                inner.leased.insert(asked.slice.to_string(), amount);
            }
            let exhausted = (amount.0 == 0).then_some(BudgetScope::Project);
            Json(Slice { slice: asked.slice, amount, exhausted }).into_response()
        }
        "checkpoint" => {
            let asked: Countersign = read(&body);
            Json(Countersigned { note: asked.note }).into_response()
        }
        other => panic!("nobody asks for {other}"),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap()
}
