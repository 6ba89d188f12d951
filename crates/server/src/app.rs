//! What all handlers and reconcilers share.

use std::sync::Arc;

use stockade_domain::{
    Timestamp, World,
    ids::{OrganizationId, ServerId},
};
use stockade_ledger::SigningKey;
use stockade_store::Store;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{engine::Engines, ledger::RecordIds, site::Replays};

/// What all handlers and reconcilers share.
pub struct App {
    pub store: Store,
    pub world: Arc<dyn World>,
    pub server: ServerId,
    pub organization: OrganizationId,
    pub key: SigningKey,
    pub engines: Engines,
    pub replays: Replays,
    /// Room for long bodies, so that memory has a bound.
    pub shipments: Arc<Semaphore>,
    pub records: RecordIds,
    /// Counts what this process wrote, so that whoever waits for news reads again at once. It tells
    /// nothing: another server may have written as well, so waiting is always bounded too.
    pub news: watch::Sender<u64>,
    /// Wakes the reconcilers.
    pub work: Notify,
    pub stopping: CancellationToken,
}

impl App {
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// Something was written that others may wait for.
    pub fn changed(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
        self.work.notify_one();
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("server", &self.server).finish_non_exhaustive()
    }
}
