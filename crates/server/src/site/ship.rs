//! The runner's spool arrives: exactly once, in order, without gaps. And its checkpoints, counter-signed.

use std::sync::Arc;

use axum::extract::State;
use stockade_api::runner::{BudgetEntry, Countersign, Countersigned, Entry, Ship, Shipped};
use stockade_ledger::{Checkpoint, Producer, SignedNote, Tree, VerifyingKey};
use stockade_store::{Tx, records, spool};

use super::proven::Proven;
use crate::{
    answer::{Answer, Failure, Json, parse},
    app::App,
    ledger,
    resource::records::leaves,
};

/// Takes the next entries of a runner's spool.
pub async fn ship(State(app): State<Arc<App>>, proven: Proven) -> Answer<Shipped> {
    let body: Ship = parse(&proven.body)?;
    if body.entries.len() > spool::MAX_ENTRIES {
        return Err(Failure::invalid(
            "too_many_entries",
            format!("a shipment may have {} entries at most", spool::MAX_ENTRIES),
        ));
    }
    let first = body.first;
    let entries = body.entries.into_iter().zip(first..).map(|(entry, position)| {
        taken(entry).ok_or_else(|| Failure::invalid("bad_entry", format!("entry {position}: `sealed` is not base64")))
    });
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let mut tx = app.store.write().await?;
    let ingested = spool::ingest(&mut tx, proven.runner.id, first, &entries, app.now()).await?;
    tx.commit().await?;
    if ingested.refused > 0 {
        let refused = ingested.refused;
        tracing::warn!(runner = %proven.runner.id, refused, "some entries were kept and not applied");
    }
    if ingested.taken > 0 {
        app.changed();
    }
    Ok(Json(Shipped { next: ingested.next }))
}

/// Adds the server's signature to a runner's checkpoint, if the records that were received say the same.
pub async fn checkpoint(State(app): State<Arc<App>>, proven: Proven) -> Answer<Countersigned> {
    let body: Countersign = parse(&proven.body)?;
    let wrong = |why: &str| Failure::invalid("bad_checkpoint", format!("the checkpoint is refused: {why}"));
    let mut note: SignedNote =
        body.note.parse().map_err(|error: stockade_ledger::NoteError| wrong(&error.to_string()))?;
    let producer = proven.runner.id.to_string();
    let origin = Checkpoint::origin_of(&Producer::Runner(proven.runner.id));
    let key: VerifyingKey =
        proven.runner.public_key.parse().map_err(|error| Failure::bug("read a runner's key", &error))?;
    let claimed = note.verify(&origin, &key).map_err(|error| wrong(&error.to_string()))?.clone();
    if claimed.origin != origin {
        return Err(wrong("it is of another log"));
    }
    let mut tx = app.store.write().await?;
    agrees(&mut tx, &producer, &claimed).await?;
    note.add_signature(&ledger::key_name(&app), &app.key).map_err(|error| wrong(&error.to_string()))?;
    let text = note.to_string();
    records::set_checkpoint(&mut tx, &producer, claimed.size, &text, app.now()).await?;
    tx.commit().await?;
    Ok(Json(Countersigned { note: text }))
}

/// Whether the log that the server received is the one that the runner claims.
async fn agrees(tx: &mut Tx, producer: &str, claimed: &Checkpoint) -> Result<(), Failure> {
    let state = records::ledger(tx, producer).await?;
    if claimed.size > state.size {
        return Err(Failure::conflict(
            "not_shipped",
            format!("the checkpoint covers {} records, the server has {}", claimed.size, state.size),
        )
        .hint("Ship the records first."));
    }
    let root = if claimed.size == state.size {
        state.root
    } else {
        let mut tree = Tree::new();
        leaves(tx, producer, claimed.size).await?.into_iter().for_each(|leaf| tree.append(leaf));
        tree.root()
    };
    if root == claimed.root {
        return Ok(());
    }
    tracing::error!(producer, size = claimed.size, "{producer} claims another history than the one it shipped");
    Err(Failure::conflict("other_history", format!("{producer} claims another history than the one it shipped"))
        .hint("Do not delete anything: export the ledger and compare it with the runner's."))
}

fn taken(entry: Entry) -> Option<spool::Entry> {
    Some(match entry {
        Entry::Record { canonical } => spool::Entry::Record { canonical },
        Entry::Content { run, content, sealed } => {
            spool::Entry::Content { run, content, sealed: stockade_api::base64::decode(&sealed)? }
        }
        Entry::Event { fence, line } => spool::Entry::Event { fence, line },
        Entry::Budget { entry } => spool::Entry::Budget(match entry {
            BudgetEntry::Leased { slice, run, amount, .. } => spool::BudgetEntry::Leased { slice, run, amount },
            BudgetEntry::Reserved { slice, call, amount } => spool::BudgetEntry::Reserved { slice, call, amount },
            BudgetEntry::Settled { slice, call, spent } => spool::BudgetEntry::Settled { slice, call, spent },
            BudgetEntry::Returned { slice, amount } => spool::BudgetEntry::Returned { slice, amount },
        }),
    })
}
