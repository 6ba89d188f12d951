//! The numbered lines of runs. The number that is kept and given back is the store's own, from 1 without gaps in the
//! order of arrival, so that a second runner of the same run, or the server itself, cannot collide with the first.

use stockade_domain::{EventKind, RunEvent, Timestamp, ids::RunId};

use crate::{
    Result, StoreError, Tx,
    sql::{ask, json, statements},
};

statements! {
    TAKE_THE_NEXT_NUMBER = "UPDATE runs SET events = events + 1 WHERE id = $1";
    WHICH_NUMBER_IS_THE_LAST = "SELECT events FROM runs WHERE id = $1";
    ADD_EVENT = "INSERT INTO events (run, number, at, body) VALUES ($1, $2, $3, $4)";
    WHAT_HAPPENED_AFTER = "SELECT number, at, body FROM events WHERE run = $1 AND number > $2 ORDER BY number LIMIT $3";
}

/// The most lines of one answer.
pub const MAX_EVENTS: u32 = 1_000;

/// The lines after number `seq`, in order, at most `limit` and at most [`MAX_EVENTS`].
pub async fn after(tx: &mut Tx, run: RunId, seq: u64, limit: u32) -> Result<Vec<RunEvent>> {
    let rows = tx.all(ask!(WHAT_HAPPENED_AFTER, run, seq, limit.min(MAX_EVENTS))).await?;
    rows.iter()
        .map(|row| Ok(RunEvent { run, seq: row.count("number")?, at: row.at("at")?, event: row.json("body")? }))
        .collect()
}

/// The number of the last line, 0 if there is none.
pub async fn last(tx: &mut Tx, run: RunId) -> Result<u64> {
    let row = tx.maybe(ask!(WHICH_NUMBER_IS_THE_LAST, run)).await?;
    row.ok_or_else(|| StoreError::not_found("run", run))?.count("events")
}

/// Adds a line that the server itself makes; gives its number. It changes nothing else.
pub async fn append(tx: &mut Tx, run: RunId, at: Timestamp, event: EventKind) -> Result<u64> {
    // Counting locks the run's row: two writers get two numbers, and nobody sees the second without the first.
    if tx.run(ask!(TAKE_THE_NEXT_NUMBER, run)).await? == 0 {
        return Err(StoreError::not_found("run", run));
    }
    let number = last(tx, run).await?;
    tx.run(ask!(ADD_EVENT, run, number, at, json(&event)?)).await?;
    Ok(number)
}
