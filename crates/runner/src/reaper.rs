//! What a crash left open, closed at the start, before anything else happens.
//!
//! Owns the order: first the journals complete what they know the end of, then money that was set aside is charged, then
//! every record that is still open is closed as unknown.

use stockade_domain::{Action, ContextValue, ids::ModelCallId};
use stockade_ledger::{Closing, DeedFacts, Outcome, Status};

use crate::{RunnerError, book::Book, erase, site::Site, slot};

/// Closes what is open.
pub async fn run(site: &Site) -> Result<(), RunnerError> {
    let failed = |e: &dyn std::error::Error| RunnerError::part("ledger", e);
    for run in site.runs.on_disk().map_err(RunnerError::file("read", site.config.data_dir.join("runs")))? {
        let dir = site.runs.dir_of(run);
        if !slot::journal_of(&dir).exists() || slot::is_done(&dir) {
            continue;
        }
        let Some(key) = erase::key_on_disk(site, &dir) else { continue };
        let fence = slot::remembered(&dir).map_or(0, |(fence, _)| fence);
        // Opening settles what the last entry owes. A journal that cannot be opened is that run's trouble alone.
        if let Err(error) = Book::open(run, &slot::journal_of(&dir), key, fence, site.desk.clone()).await {
            tracing::error!(%run, %error, "the book of {run} cannot be opened: {error}");
        }
    }
    let open = site.desk.ledger.unclosed();
    let opened = open.iter().filter_map(|(_, deed, _)| call_of(deed)).collect();
    for (run, call, amount) in site.purse.charge_reserved(&opened).await.map_err(|e| failed(&e))? {
        tracing::warn!(%run, %call, %amount, "model call {call} was cut off: it is charged what was set aside, {amount}");
    }
    for (record, deed, _) in open {
        // What the budget was charged, now or just before the crash.
        let cost = call_of(&deed).and_then(|call| site.purse.cost_of(call));
        let outcome = Outcome::with_code(Status::Unknown, "runner_restarted");
        let closing = Closing { cost, ..Closing::new(outcome) };
        site.desk.ledger.close(record, closing).await.map_err(|e| failed(&e))?;
        tracing::info!(%record, action = %deed.action, "{record} was left open: closed as unknown");
    }
    Ok(())
}

/// The model call that a record names.
fn call_of(deed: &DeedFacts) -> Option<ModelCallId> {
    match deed.context.get("call") {
        Some(ContextValue::Text(call)) if deed.action == Action::ModelCall => call.parse().ok(),
        _ => None,
    }
}
