//! Erasure: a run's key is destroyed, and with it everything that only it opens.
//!
//! Owns the order: the key in memory, the key on the disk, then journal, workspace and archive, then the note in the ledger,
//! then the word to the server. *Invariant:* every step may be repeated, and a crash between two of them leaves less, never more.

use std::{path::Path, sync::Arc, sync::atomic::Ordering, time::Duration};

use stockade_ledger::{RunKey, WrappedKey};

use crate::{
    book::Draft,
    exits, files, reconcile,
    site::Site,
    slot::{self, Phase, Slot},
    tend,
};

/// The key of a run, from its folder.
pub fn key_on_disk(site: &Site, dir: &Path) -> Option<Arc<RunKey>> {
    let wrapped: WrappedKey = slot::wrapped_key(dir).ok().flatten()?.parse().ok()?;
    site.keys.site.unwrap_key(&wrapped).ok().map(Arc::new)
}

/// Erases a run, if it has not been.
pub async fn run(site: Arc<Site>, slot: Arc<Slot>) {
    let run = slot.run;
    match erase(&site, &slot).await {
        Ok(()) => {
            slot.erased.store(true, Ordering::Relaxed);
            tracing::info!(%run, "{run} is erased");
            slot.set_phase(Phase::Over { position: site.desk.spool.log().end() });
        }
        Err(error) => {
            tracing::error!(%run, error, "{run} cannot be erased, it is tried again: {error}");
            tokio::time::sleep(Duration::from_secs(1)).await;
            slot.set_phase(Phase::Later { at: site.world().now() });
        }
    }
    site.wake.notify_one();
}

async fn erase(site: &Site, slot: &Slot) -> Result<(), String> {
    let a = slot.assignment();
    let text = |error: std::io::Error| error.to_string();
    // What it used is told; which programs were started there is content, and forgotten.
    tend::settle(site, slot).await;
    // It seals with the key.
    site.exits.close(a.environment).await;
    slot.set_key(None);
    tend::forget(site, slot).await;
    *slot.book.lock().await = None;
    *slot.guest.lock().await = None;
    slot::set_erased(&slot.dir).map_err(text)?;
    slot::destroy_wrapped_key(&slot.dir).map_err(text)?;
    files::remove_all(&slot.journal()).map_err(text)?;
    for name in ["base.bundle", "out.bundle", "work.bundle", "work.part", "quarantine.git", "executions"] {
        files::remove_all(&slot.dir.join(name)).map_err(text)?;
    }
    site.driver.delete(a.environment).await.map_err(|e| e.to_string())?;
    exits::authority::forget(&slot.dir, a.environment);
    site.workspaces.forget(a.project.id, a.run).await;
    site.gateway.forget(a.run);
    site.desk.spool.erase(a.run).map_err(|e| e.to_string())?;
    site.asking.forget(a.run).map_err(text)?;
    site.purse.end(a.run).await.map_err(|e| e.to_string())?;
    site.desk
        .ledger
        .note("run_erased", Some(a.run), std::collections::BTreeMap::new())
        .await
        .map_err(|e| e.to_string())?;
    let events = reconcile::erased_events(a.state);
    reconcile::aside(site, slot, Draft::events(events)).await.map_err(|e| e.to_string())
}
