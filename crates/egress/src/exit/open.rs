//! What is open: connections, and requests that are still being answered.
//!
//! It owns that a policy which changes reaches what it allowed before. It refuses to ask people again: a yes of a person holds until the policy
//! says no. *Invariant:* what the policy of now would refuse is cut when [`Exit::reconsider`] returns.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use stockade_domain::{Answer, Deed, ids::RecordId};
use stockade_policy::{Engine, Permit};
use tokio_util::sync::CancellationToken;

use super::Exit;

/// One thing that is open.
#[derive(Debug)]
pub(super) struct Live {
    deed: Deed,
    /// A person has said yes.
    granted: bool,
    stop: CancellationToken,
}

/// Keeps something among what is open, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    exit: Arc<Exit>,
    record: RecordId,
    stop: CancellationToken,
}

impl Live {
    fn is_refused_by(&self, policy: &Engine) -> bool {
        match policy.simulate(&self.deed).answer {
            Answer::Allow => false,
            Answer::Ask => !self.granted,
            Answer::Deny => true,
        }
    }
}

impl Held {
    /// Of what this is the record.
    pub(crate) const fn record(&self) -> RecordId {
        self.record
    }

    /// Cancelled when it has to end.
    pub(crate) const fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Why it was told to end: the word for its closing record.
    pub(crate) fn why(&self) -> &'static str {
        if self.exit.stop.is_cancelled() { "stopped" } else { "policy" }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.exit.live().remove(&self.record);
    }
}

impl Exit {
    /// Holds everything that is open against the policy of now, and cuts what it refuses. Gives how much that was.
    pub fn reconsider(&self) -> usize {
        let policy = self.parts.policy.load_full();
        let mut cut = 0;
        for live in self.live().values().filter(|live| live.is_refused_by(&policy)) {
            live.stop.cancel();
            cut += 1;
        }
        cut
    }

    /// Counts what is about to be done among what is open.
    pub(crate) fn hold(self: &Arc<Self>, record: RecordId, permit: &Permit) -> Held {
        let stop = self.stop.child_token();
        let (deed, decision) = (permit.deed().clone(), permit.decision());
        let live = Live { deed, granted: decision.approval.is_some(), stop: stop.clone() };
        let held = Held { exit: self.clone(), record, stop };
        let mut open = self.live();
        let live = open.entry(record).insert_entry(live);
        // A policy that came after the decision, and was held against what was open before this was among it.
        let policy = self.parts.policy.load();
        if policy.number() != decision.bundle && live.get().is_refused_by(&policy) {
            held.stop.cancel();
        }
        drop(open);
        held
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<RecordId, Live>> {
        // Every change under this lock is a single step: a panic elsewhere leaves it whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
