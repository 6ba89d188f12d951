//! What is known of one request while it is under way, and its closing record.
//!
//! It owns that the record of a request is closed whatever becomes of it: when nothing of the request is left, in the service, in its body or in its answer,
//! the last of them closes it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
};

use stockade_domain::{ContextValue, ids::RecordId};
use stockade_ledger::Opened;
use stockade_policy::Permit;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    exit::{Exit, open::Held},
    relay::Carried,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Ticket {
    exit: Arc<Exit>,
    held: Held,
    /// Cancelled when its whole connection has to end.
    cut: CancellationToken,
    /// Those of the connection.
    tasks: TaskTracker,
    out: AtomicU64,
    back: AtomicU64,
    /// None is 0.
    status: AtomicU16,
    whole: AtomicBool,
    /// A placeholder was seen in its body.
    placeholder: AtomicBool,
    code: OnceLock<&'static str>,
}

impl Ticket {
    pub(crate) fn new(
        exit: &Arc<Exit>,
        opened: Opened<Permit>,
        cut: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let record = opened.record();
        let permit = opened.into_permit();
        let held = exit.hold(record, &permit);
        Arc::new(Self {
            exit: exit.clone(),
            held,
            cut,
            tasks,
            out: AtomicU64::new(0),
            back: AtomicU64::new(0),
            status: AtomicU16::new(0),
            whole: AtomicBool::new(false),
            placeholder: AtomicBool::new(false),
            code: OnceLock::new(),
        })
    }

    pub(crate) const fn record(&self) -> RecordId {
        self.held.record()
    }

    /// Cancelled when the request has to end.
    pub(crate) const fn stop(&self) -> &CancellationToken {
        self.held.stop()
    }

    /// Why it was told to end.
    pub(crate) fn why(&self) -> &'static str {
        self.held.why()
    }

    pub(crate) fn went_out(&self, bytes: usize) {
        self.out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn came_back(&self, bytes: usize) {
        self.back.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn carried(&self, carried: Carried) {
        self.out.fetch_add(carried.out, Ordering::Relaxed);
        self.back.fetch_add(carried.back, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    pub(crate) fn saw_placeholder(&self) {
        self.placeholder.store(true, Ordering::Relaxed);
    }

    /// Its answer has come whole.
    pub(crate) fn whole(&self) {
        self.whole.store(true, Ordering::Relaxed);
    }

    /// It does not end as it should. The first word stands.
    pub(crate) fn failed(&self, code: &'static str) {
        // A second word is a consequence of the first.
        let _ = self.code.set(code);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let code = match (self.code.get(), self.whole.load(Ordering::Relaxed)) {
            (Some(code), _) => code,
            (None, true) => "",
            (None, false) if self.cut.is_cancelled() || self.held.stop().is_cancelled() => self.held.why(),
            // Whoever asked did not wait for the end.
            (None, false) => "client_lost",
        };
        let mut facts = BTreeMap::new();
        match self.status.load(Ordering::Relaxed) {
            0 => {}
            status => drop(facts.insert("status".to_owned(), ContextValue::Long(status.into()))),
        }
        if self.placeholder.load(Ordering::Relaxed) {
            facts.insert("placeholder_in_body".to_owned(), true.into());
        }
        let carried = Carried { out: self.out.load(Ordering::Relaxed), back: self.back.load(Ordering::Relaxed) };
        let (exit, record) = (self.exit.clone(), self.record());
        // Without a runtime the reaper closes it at the next start.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let closing = async move { exit.close_with(record, code, carried, facts).await };
            self.tasks.spawn_on(closing, &runtime);
        }
    }
}
