//! What waits for the writer, in the order in which it came.
//!
//! It owns the waiting: a batch in haste is handed over at once, with all that came before it; a batch without haste waits for company,
//! for [`PATIENCE`] at most, so that the end of one deed and the beginning of the next are one write. It refuses to hold more than
//! its places: whoever brings more waits.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{LogError, Staged, frame::GROUP_BYTES};

/// How long a batch without haste waits for others.
pub const PATIENCE: Duration = Duration::from_millis(2);

/// Whether somebody waits for a batch before going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// Now.
    Now,
    /// Nobody goes on because of it.
    None,
}

/// A batch in the queue, holding its place and its share of the queue's memory.
pub(super) struct Queued {
    pub batch: Box<dyn Staged>,
    pub bytes: usize,
    pub haste: Haste,
    pub _place: OwnedSemaphorePermit,
    pub _room: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Queued>,
    /// Some of them are in haste.
    haste: bool,
    /// The writer looks again soon, whoever comes.
    awake: bool,
    closed: bool,
}

/// The queue. Its writer is one thread.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    come: Condvar,
    pub places: Arc<Semaphore>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting().batches.len()).finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn new(places: usize) -> Self {
        Self { waiting: Mutex::default(), come: Condvar::new(), places: Arc::new(Semaphore::new(places)) }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change under this lock is a single step: a panic elsewhere leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, queued: Queued) -> Result<(), LogError> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(LogError::Closed);
        }
        let hurry = queued.haste == Haste::Now;
        let first = waiting.batches.is_empty() && !waiting.awake;
        waiting.haste |= hurry;
        waiting.batches.push_back(queued);
        drop(waiting);
        if first || hurry {
            self.come.notify_one();
        }
        Ok(())
    }

    /// Takes no more; what waits is still handed over.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.come.notify_one();
    }

    /// Waits until somebody is in haste, or for as long as a batch without haste waits.
    fn patient<'q>(&self, mut waiting: MutexGuard<'q, Waiting>) -> MutexGuard<'q, Waiting> {
        let calm = |waiting: &mut Waiting| !waiting.haste && !waiting.closed;
        if calm(&mut waiting) {
            waiting.awake = true;
            let waited = self.come.wait_timeout_while(waiting, PATIENCE, calm);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
            waiting.awake = false;
        }
        waiting
    }

    /// The next group, waiting for it. Nothing once the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Vec<Queued>> {
        // Whoever has just written expects more: what comes without haste need not wake him.
        let mut waiting = self.patient(self.waiting());
        while waiting.batches.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.come.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting = self.patient(waiting);
        }
        let (mut group, mut bytes) = (Vec::new(), 0_usize);
        while bytes < GROUP_BYTES
            && let Some(next) = waiting.batches.pop_front()
        {
            bytes = bytes.saturating_add(next.bytes);
            group.push(next);
        }
        // What did not fit was already waited for.
        waiting.haste = !waiting.batches.is_empty();
        Some(group)
    }
}
