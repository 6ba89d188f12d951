//! What a crash left open, closed at the start, before anything else happens.
//!
//! Owns the order: first the journals complete what they know the end of, then money that was set aside is charged, then
//! every record that is still open is closed as unknown.

use std::collections::BTreeMap;

use stockade_domain::{Action, ContextValue, Nanos, ids::RunId};
use stockade_ledger::{Closing, Outcome, Status};

use crate::{RunnerError, book::Book, erase, site::Site, slot};

/// Closes what is open.
pub async fn run(site: &Site) -> Result<(), RunnerError> {
    let failed = |e: &dyn std::fmt::Display| RunnerError::part("ledger", e);
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
    let mut charged: BTreeMap<RunId, Vec<Nanos>> = BTreeMap::new();
    for (run, call, amount) in site.purse.charge_reserved().await.map_err(|e| failed(&e))? {
        tracing::warn!(%run, %call, %amount, "model call {call} was cut off: it is charged what was set aside, {amount}");
        let facts = BTreeMap::from([
            ("call".to_owned(), ContextValue::Text(call.to_string())),
            ("charged_nanos".to_owned(), ContextValue::Long(amount.0)),
        ]);
        site.desk.ledger.note("reservation_charged", Some(run), facts).await.map_err(|e| failed(&e))?;
        charged.entry(run).or_default().push(amount);
    }
    let open = site.desk.ledger.unclosed();
    for (record, deed, run) in &open {
        let is_model = |action: Action| action == Action::ModelCall;
        let of_run = open.iter().filter(|(_, d, r)| is_model(d.action) && r == run).count();
        // Which money belongs to which record is only known where there is one of each.
        let cost = run
            .filter(|_| is_model(deed.action) && of_run == 1)
            .and_then(|run| charged.get(&run))
            .and_then(|amounts| if let [one] = amounts.as_slice() { Some(*one) } else { None });
        let outcome = Outcome::with_code(Status::Unknown, "runner_restarted");
        let closing = Closing { outcome, usage: None, cost, contents: Vec::new() };
        site.desk.ledger.close(*record, closing).await.map_err(|e| failed(&e))?;
        tracing::info!(%record, action = %deed.action, "{record} was left open: closed as unknown");
    }
    Ok(())
}
