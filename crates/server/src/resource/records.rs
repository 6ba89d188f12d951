//! The records of all ledgers: search, show, prove.

use stockade_api::http::{ListRecords, Page, Proof, Record};
use stockade_domain::{Digest, ids::RecordId};
use stockade_ledger::SignedNote;
use stockade_store::{
    Tx,
    records::{self, RecordFilter, StoredRecord},
};

use super::{page, paged};
use crate::{
    answer::{Answer, Failure, Json, Path, Query},
    context::Cx,
    ledger,
};

/// How many leaf hashes are read at once.
const LEAVES_AT_ONCE: u32 = 10_000;

/// The most records of one log over which a proof is made here. Beyond, an export is the way.
pub const MAX_PROVEN: u64 = 5_000_000;

/// Records, newest first.
#[utoipa::path(get, path = "/v1/records", tag = "ledger", params(ListRecords),
    responses((status = 200, body = Page<Record>)))]
pub async fn list(cx: Cx, Query(query): Query<ListRecords>) -> Answer<Page<Record>> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let filter = RecordFilter {
        run: query.run,
        project: query.project,
        principal: query.principal,
        action: query.action,
        producer: query.producer,
        since: query.since,
        until: query.until,
        text: query.text,
    };
    let found = records::list(&mut tx, &filter, &page(query.limit, query.cursor)).await?;
    Ok(Json(paged(found, shown)))
}

/// One record.
#[utoipa::path(get, path = "/v1/records/{record}", tag = "ledger", params(("record" = String, Path)),
    responses((status = 200, body = Record)))]
pub async fn show(cx: Cx, Path(record): Path<RecordId>) -> Answer<Record> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    Ok(Json(shown(records::get(&mut tx, record).await?)))
}

/// That a record stands in its producer's log, under a checkpoint.
#[utoipa::path(get, path = "/v1/records/{record}/proof", tag = "ledger", params(("record" = String, Path)),
    responses((status = 200, body = Proof)))]
pub async fn proof(cx: Cx, Path(record): Path<RecordId>) -> Answer<Proof> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let record = records::get(&mut tx, record).await?;
    let note = if record.producer == cx.app.server.to_string() {
        ledger::checkpoint(&cx.app, &mut tx).await?
    } else {
        let state = records::ledger(&mut tx, &record.producer).await?;
        if state.note_size <= record.seq {
            return Err(Failure::conflict("no_checkpoint", "no checkpoint covers this record yet")
                .hint("Its producer signs one within a minute; try again."));
        }
        state.note.parse::<SignedNote>().map_err(|error| Failure::bug("read a checkpoint it kept", &error))?
    };
    let leaves = leaves(&mut tx, &record.producer, note.checkpoint().size).await?;
    let proof = stockade_ledger::prove(&leaves, record.seq)
        .ok_or_else(|| Failure::bug("prove a record that it has", &record.id))?;
    let proof = serde_json::to_value(proof).map_err(|error| Failure::bug("write a proof", &error))?;
    Ok(Json(Proof {
        producer: record.producer,
        seq: record.seq,
        canonical: record.canonical,
        proof,
        checkpoint: note.to_string(),
    }))
}

/// The first `size` leaf hashes of a producer's log.
pub async fn leaves(tx: &mut Tx, producer: &str, size: u64) -> Result<Vec<Digest>, Failure> {
    if size > MAX_PROVEN {
        return Err(Failure::conflict("too_many_records", "the log is too long for a proof by the server")
            .hint("Export it and prove offline."));
    }
    let mut leaves: Vec<Digest> = Vec::new();
    while (leaves.len() as u64) < size {
        let left = size - leaves.len() as u64;
        let limit = u32::try_from(left).unwrap_or(LEAVES_AT_ONCE).min(LEAVES_AT_ONCE);
        let more = records::leaf_hashes(tx, producer, leaves.len() as u64, limit).await?;
        if more.is_empty() {
            return Err(Failure::bug("find all records of a ledger", &producer));
        }
        leaves.extend(more);
    }
    Ok(leaves)
}

fn shown(record: StoredRecord) -> Record {
    Record {
        id: record.id,
        producer: record.producer,
        seq: record.seq,
        record: serde_json::from_str(&record.canonical).unwrap_or_default(),
        canonical: record.canonical,
    }
}
