//! What `cargo xtask bench soak` asks of a gateway that has run for long: whether every record that was opened is closed, whether
//! no money is left set aside, and whether all that went through the spool verifies. Not for anything else.
//!
//! It reads the spool as shipping does and gives its space back as shipping does; what it read it checks at once and keeps
//! nothing of. It refuses to send anything anywhere.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use stockade_api::runner::BudgetEntry;
use stockade_domain::{Nanos, ids::RecordId};
use stockade_gateway::Gateway;
use stockade_ledger::{Body, EntryKind, Ledger, LogEntry, Record, RunKey, Tree, content_ref, leaf_hash};
use tokio_util::sync::CancellationToken;

use crate::{
    purse::{Money, SitePurse},
    ship::FORGET_EVERY,
    spool::{READ_BYTES, READ_ITEMS, Spool, SpoolError},
};

/// One sealed content of so many is opened.
const OPENED_OF: u64 = 64;

/// What stands at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Records of all kinds.
    pub records: u64,
    /// Records of calls that were opened.
    pub opened: u64,
    /// Those of them that nothing closed.
    pub open: u64,
    /// Calls that were refused before anything was sent.
    pub refused: u64,
    /// Sealed contents.
    pub contents: u64,
    /// All bytes that went through the spool.
    pub bytes: u64,
    /// What the purse has set aside in memory, in nano-dollars.
    pub aside: i64,
    /// What is set aside by all that went through the spool.
    pub aside_in_spool: i64,
    /// What was spent by all that went through the spool.
    pub spent: i64,
    /// Entries that do not hold, and what is wrong with the first.
    pub wrong: u64,
    /// That.
    pub first_wrong: Option<String>,
    /// Whether the tree over all records is the one that the ledger signs.
    pub tree_holds: bool,
}

/// What was read so far. Bounded by what is under way.
#[derive(Debug, Default)]
struct Audit {
    position: u64,
    tree: Tree,
    open: HashSet<RecordId>,
    records: u64,
    opened: u64,
    refused: u64,
    contents: u64,
    bytes: u64,
    money: Money,
    wrong: u64,
    first_wrong: Option<String>,
}

impl Audit {
    fn take(&mut self, position: u64, entry: &LogEntry, key: &RunKey) {
        self.position = position + 1;
        self.bytes += entry.payload.len() as u64;
        let held = match entry.kind {
            EntryKind::Record => self.record(&entry.payload),
            EntryKind::Content => self.content(entry, key),
            EntryKind::Budget => self.budget(&entry.payload),
            EntryKind::Event => Ok(()),
        };
        if let Err(why) = held {
            self.wrong += 1;
            self.first_wrong.get_or_insert_with(|| format!("entry {position}: {why}"));
        }
    }

    fn record(&mut self, canonical: &[u8]) -> Result<(), String> {
        self.records += 1;
        self.tree.append(leaf_hash(canonical));
        let record = Record::parse(canonical).map_err(|error| error.to_string())?;
        match record.body {
            Body::Open { .. } => {
                self.opened += 1;
                self.open.insert(record.id);
            }
            Body::Close { of, .. } if !self.open.remove(&of) => {
                return Err(format!("it closes {of}, which is not open"));
            }
            Body::Refused { .. } => self.refused += 1,
            Body::Close { .. } | Body::Asked { .. } | Body::Note { .. } => {}
        }
        Ok(())
    }

    fn content(&mut self, entry: &LogEntry, key: &RunKey) -> Result<(), String> {
        let number = self.contents;
        self.contents += 1;
        let (_, content, sealed) = entry.as_content().ok_or("it is no sealed content")?;
        if content_ref(content.kind, &sealed) != content {
            return Err("its digest is of something else".to_owned());
        }
        if number.is_multiple_of(OPENED_OF) {
            key.open(content.kind, &sealed).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn budget(&mut self, payload: &[u8]) -> Result<(), String> {
        let entry: BudgetEntry = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        self.money.take(&entry);
        Ok(())
    }

    fn read(&mut self, spool: &Spool, key: &RunKey) -> Result<(), SpoolError> {
        while self.position < spool.log().end() {
            for (position, entry) in spool.log().read(self.position, READ_ITEMS, READ_BYTES)? {
                self.take(position, &entry, key);
            }
        }
        Ok(())
    }
}

/// A gateway that is watched.
#[derive(Debug)]
pub struct Soak {
    pub(crate) gateway: Gateway,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) purse: Arc<SitePurse>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) key: Arc<RunKey>,
    audit: Arc<Mutex<Audit>>,
}

impl Soak {
    /// One over these parts. `money` is what was leased before anything went through the spool.
    pub(crate) fn new(
        gateway: Gateway,
        ledger: Arc<Ledger>,
        (purse, money): (Arc<SitePurse>, Money),
        spool: Arc<Spool>,
        key: Arc<RunKey>,
    ) -> Self {
        let audit = Arc::new(Mutex::new(Audit { money, ..Audit::default() }));
        Self { gateway, ledger, purse, spool, key, audit }
    }

    /// Reads what is new.
    async fn catch_up(&self) -> Result<u64, SpoolError> {
        let (audit, spool, key) = (Arc::clone(&self.audit), Arc::clone(&self.spool), Arc::clone(&self.key));
        let read = tokio::task::spawn_blocking(move || {
            let mut audit = audit.lock().unwrap_or_else(PoisonError::into_inner);
            audit.read(&spool, &key).map(|()| audit.position)
        });
        read.await.unwrap_or_else(|error| Err(SpoolError::Damaged { position: 0, why: error.to_string() }))
    }

    /// Reads and gives back space until `stop`; and takes the spans of calls, as an exporter would.
    pub async fn watch(&self, stop: &CancellationToken) -> Result<(), SpoolError> {
        self.gateway.metrics().want_spans();
        let mut end = self.spool.log().watch_end();
        let mut forgotten = 0;
        while !stop.is_cancelled() {
            let position = self.catch_up().await?;
            drop(self.gateway.metrics().take_spans(usize::MAX));
            if position > forgotten + FORGET_EVERY {
                if let Err(error) = self.ledger.save_state().await {
                    return Err(SpoolError::Damaged { position, why: error.to_string() });
                }
                let log = Arc::clone(self.spool.log());
                let forget = tokio::task::spawn_blocking(move || log.forget_before(position));
                forget.await.map_err(|error| SpoolError::Damaged { position, why: error.to_string() })??;
                forgotten = position;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                changed = end.changed() => if changed.is_err() { break },
            }
        }
        Ok(())
    }

    /// Takes no new call, waits for those that are under way, reads the rest and says what stands.
    pub async fn end(&self) -> Result<Verdict, SpoolError> {
        self.gateway.drain().await;
        self.catch_up().await?;
        let note = self.ledger.checkpoint();
        let audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        let slices = audit.money.slices.values();
        let aside_in_spool: Nanos = slices.clone().flat_map(|slice| slice.reserved.values().copied()).sum();
        let spent: Nanos = slices.map(|slice| slice.spent).sum();
        Ok(Verdict {
            records: audit.records,
            opened: audit.opened,
            open: audit.open.len() as u64,
            refused: audit.refused,
            contents: audit.contents,
            bytes: audit.bytes,
            aside: self.purse.aside().0,
            aside_in_spool: aside_in_spool.0,
            spent: spent.0,
            wrong: audit.wrong,
            first_wrong: audit.first_wrong.clone(),
            tree_holds: (note.checkpoint().size, note.checkpoint().root) == (audit.tree.size(), audit.tree.root()),
        })
    }
}
