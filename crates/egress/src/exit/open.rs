//! What is open: connections, and requests that are still being answered.
//!
//! It owns that a policy which changes reaches what it allowed before. It refuses to ask people again: a yes of a person holds until the policy
//! says no. *Invariant:* what the policy of now would refuse is cut when [`Exit::reconsider`] returns.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use stockade_domain::{Answer, Deed, ids::RecordId};
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
        let refused = |live: &Live| match policy.simulate(&live.deed).answer {
            Answer::Allow => false,
            Answer::Ask => !live.granted,
            Answer::Deny => true,
        };
        let mut cut = 0;
        for live in self.live().values().filter(|live| refused(live)) {
            live.stop.cancel();
            cut += 1;
        }
        cut
    }

    /// Counts a deed among what is open.
    pub(crate) fn hold(self: &Arc<Self>, record: RecordId, deed: Deed, granted: bool) -> Held {
        let stop = self.stop.child_token();
        self.live().insert(record, Live { deed, granted, stop: stop.clone() });
        Held { exit: self.clone(), record, stop }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<RecordId, Live>> {
        // Every change under this lock is a single step: a panic elsewhere leaves it whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
