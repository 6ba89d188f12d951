//! A world that stands still, and deeds to record.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use stockade_domain::{
    Action, Answer, Context, DecidingPolicy, Decision, Deed, Principal, Resource, ResourceKind, Timestamp, World,
    ids::{ProjectId, RunId, RunnerId, UserId},
};
use stockade_ledger::{Ledger, Log, LogOptions, Producer, SigningKey};

/// A clock that moves by a microsecond with every look, and bytes that everybody can guess.
#[derive(Debug)]
pub struct StillWorld {
    now: AtomicI64,
    next: AtomicU64,
}

impl StillWorld {
    pub fn new() -> Self {
        Self { now: AtomicI64::new(1_800_000_000_000_000), next: AtomicU64::new(1) }
    }
}

impl World for StillWorld {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.fetch_add(1, Ordering::Relaxed))
    }

    fn random(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let n = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            chunk.copy_from_slice(&n[8 - chunk.len()..]);
        }
    }
}

pub fn world() -> Arc<StillWorld> {
    Arc::new(StillWorld::new())
}

pub fn producer() -> Producer {
    RunnerId::from_parts(1_800_000_000_000, [1; 10]).into()
}

pub fn run() -> RunId {
    RunId::from_parts(1_800_000_000_000, [2; 10])
}

/// A model call of an agent, with content in its context that must never be in a record.
pub fn deed() -> Deed {
    Deed {
        principal: Principal::Agent { run: run(), owner: UserId::from_parts(1_800_000_000_000, [3; 10]) },
        action: Action::ModelCall,
        resource: Resource::new(ResourceKind::Model, "sonnet")
            .in_project(ProjectId::from_parts(1_800_000_000_000, [4; 10]))
            .in_run(run()),
        context: Context::default().with("level", 2).with("model", "sonnet").with_content("command", "cat /secret"),
    }
}

pub fn decision() -> Decision {
    Decision {
        answer: Answer::Allow,
        bundle: 3,
        policies: vec![DecidingPolicy { id: "models".into(), title: "Agents may call models".into() }],
        approval: None,
    }
}

pub fn open_log(dir: &Path) -> Arc<Log> {
    Arc::new(Log::open(dir, LogOptions::default()).unwrap())
}

pub fn open_ledger(dir: &Path) -> Ledger {
    Ledger::start(open_log(dir), producer(), SigningKey::generate(), world()).unwrap()
}
