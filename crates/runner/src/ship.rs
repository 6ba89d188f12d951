//! Shipping the spool: in order, each entry once, from where the server says.
//!
//! Owns the two loops that talk to the server about the spool (shipping, and the counter-signature of checkpoints) and the
//! back-off while it is away. It refuses to guess: where the server expects an entry that is no longer here, it stops and
//! says so.

use std::{sync::Arc, time::Duration};

use stockade_api::runner::{Countersign, Ship};
use stockade_ledger::Ledger;
use tokio_util::sync::CancellationToken;

use crate::{
    error::chain,
    files,
    link::{Link, LinkError},
    spool::{READ_BYTES, READ_ITEMS, Spool, SpoolError, on_the_wire},
};

/// The shortest wait after the server did not answer.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// So many shipped entries are remembered before the index is written and space is given back.
pub const FORGET_EVERY: u64 = 2_000;
/// How often a checkpoint is sent to be counter-signed, if there is a new one. What is not signed yet is in no export.
pub const COUNTERSIGN_EVERY: Duration = Duration::from_secs(1);

/// A wait that grows.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Backoff {
    /// The first wait is the shortest.
    pub const fn new() -> Self {
        Self(BACKOFF_MIN)
    }
    /// It went well: begin anew.
    pub const fn reset(&mut self) {
        self.0 = BACKOFF_MIN;
    }
    /// Waits, or ends early when `stop` is cancelled. The next wait is twice as long.
    pub async fn wait(&mut self, stop: &CancellationToken) {
        let () = stop.run_until_cancelled(tokio::time::sleep(self.0)).await.unwrap_or_default();
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
    }
}

/// What shipping one batch came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing waits.
    Nothing,
    /// The server has everything before this position.
    Up(u64),
}

/// Ships until stopped.
pub async fn run(spool: Arc<Spool>, ledger: Arc<Ledger>, link: Arc<Link>, stop: CancellationToken) {
    let mut end = spool.log().watch_end();
    let mut backoff = Backoff::new();
    let mut forgotten = spool.shipped_to();
    let mut signed = 0;
    // What keeps the spool from being shipped is said once, not with every attempt.
    let mut said = String::new();
    let mut countersign = tokio::time::interval(COUNTERSIGN_EVERY);
    while !stop.is_cancelled() {
        match batch(&spool, &link).await {
            Ok(Sent::Nothing) => {
                backoff.reset();
                if spool.shipped_to() > forgotten + FORGET_EVERY {
                    forgotten = forget(&spool, &ledger).await.unwrap_or(forgotten);
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    changed = end.changed() => if changed.is_err() { break },
                    _ = countersign.tick() => signed = checkpoint(&spool, &ledger, &link, signed).await,
                }
            }
            Ok(Sent::Up(_)) => {
                backoff.reset();
                said.clear();
                if spool.shipped_to() > forgotten + FORGET_EVERY {
                    forgotten = forget(&spool, &ledger).await.unwrap_or(forgotten);
                }
            }
            Err(ShipError::Link(error)) if error.is_away() => backoff.wait(&stop).await,
            Err(error) => {
                let text = chain(&error);
                if text != said {
                    tracing::error!(error = text, waiting = spool.waiting(), "the spool cannot be shipped: {text}");
                    said = text;
                }
                backoff.wait(&stop).await;
            }
        }
    }
    if spool.shipped_to() > forgotten {
        let _ = forget(&spool, &ledger).await;
    }
}

/// Why a batch was not shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The server.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The two disagree beyond repair.
    #[error(
        "the server expects entry {wanted} and the spool reaches from {start} to {end}: one of them was restored from a backup"
    )]
    Gap {
        /// What the server expects.
        wanted: u64,
        /// The first entry here.
        start: u64,
        /// The end here.
        end: u64,
    },
}

/// Ships one batch.
pub async fn batch(spool: &Arc<Spool>, link: &Link) -> Result<Sent, ShipError> {
    let first = spool.cursor();
    let (end, theirs) = (spool.log().end(), Arc::clone(spool));
    if first >= end {
        return Ok(Sent::Nothing);
    }
    let entries = blocking(move || {
        let read = theirs.log().read(first, READ_ITEMS, READ_BYTES)?;
        read.iter().map(|(position, entry)| on_the_wire(*position, entry)).collect::<Result<Vec<_>, _>>()
    })
    .await?;
    let shipped = link.ship(&Ship { first, entries }).await?;
    let (start, end) = (spool.log().start(), spool.log().end());
    // Less than it had means that the server was restored from an older state: its word counts as long as the entries are
    // still here.
    if shipped.next > end || shipped.next < start {
        return Err(ShipError::Gap { wanted: shipped.next, start, end });
    }
    let theirs = Arc::clone(spool);
    blocking(move || theirs.shipped_before(shipped.next)).await?;
    Ok(Sent::Up(shipped.next))
}

async fn forget(spool: &Arc<Spool>, ledger: &Ledger) -> Option<u64> {
    let to = spool.shipped_to();
    if let Err(error) = ledger.save_state().await {
        tracing::warn!(%error, "the ledger's state cannot be saved; the spool is not shortened");
        return None;
    }
    let theirs = Arc::clone(spool);
    match blocking(move || theirs.forget()).await {
        Ok(()) => Some(to),
        Err(error) => {
            tracing::warn!(%error, "the spool cannot be shortened");
            None
        }
    }
}

/// Has the present checkpoint counter-signed, if it is a new one; gives the number of entries it was made at.
async fn checkpoint(spool: &Spool, ledger: &Ledger, link: &Link, signed: u64) -> u64 {
    let at = spool.cursor();
    if at == signed {
        return signed;
    }
    let note = ledger.checkpoint().to_string();
    match link.countersign(&Countersign { note }).await {
        Ok(answer) => {
            let path = spool.log().dir().join("checkpoint.note");
            if let Err(error) = files::replace(&path, answer.note.as_bytes()) {
                tracing::warn!(%error, "the counter-signed checkpoint cannot be kept");
            }
            at
        }
        Err(error) => {
            // A record may have been written since the spool was empty: the next checkpoint is as good.
            let early = matches!(&error, LinkError::Refused(refused) if refused.code == "not_shipped");
            if !error.is_away() && !early {
                tracing::warn!(%error, "the server does not counter-sign the checkpoint: {error}");
            }
            signed
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, SpoolError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(SpoolError::Damaged { position: 0, why: format!("a task ended early: {e}") }))
}
