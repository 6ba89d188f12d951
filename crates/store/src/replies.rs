//! What people answered to questions of the agent: sealed, numbered from 1 in each run.

use stockade_domain::{
    ContentRef, Refused, Timestamp,
    ids::{RunId, UserId},
};

use crate::{
    Result, Tx, contents, runs, sites,
    sql::{Row, ask, json, statements},
};

statements! {
    LOCK_THE_RUN = "UPDATE runs SET version = version + 1 WHERE id = $1";
    HOW_MANY_REPLIES_ARE_THERE = "SELECT COUNT(*) AS number FROM replies WHERE run = $1";
    ADD_REPLY = "INSERT INTO replies (run, number, content, sealed, author, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6)";
    WHAT_WAS_REPLIED = "SELECT number, content, sealed, author, created_at FROM replies WHERE run = $1 ORDER BY number";
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its number.
    pub number: u64,
    /// What it is.
    pub content: ContentRef,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// Whose.
    pub by: UserId,
    /// When.
    pub at: Timestamp,
}

/// Adds a reply and gives its number. `Refused` if the run is over. The runner's revision grows.
pub async fn give(
    tx: &mut Tx,
    run: RunId,
    content: ContentRef,
    sealed: &[u8],
    by: UserId,
    now: Timestamp,
) -> Result<u64> {
    contents::verify(content, sealed)?;
    tx.run(ask!(LOCK_THE_RUN, run)).await?;
    let found = runs::get(tx, run).await?;
    if found.state.is_final() {
        return Err(Refused { what: "a run", event: "be answered".to_owned(), state: found.state.to_string() }.into());
    }
    let number = match tx.maybe(ask!(HOW_MANY_REPLIES_ARE_THERE, run)).await? {
        Some(row) => row.count("number")? + 1,
        None => 1,
    };
    tx.run(ask!(ADD_REPLY, run, number, json(&content)?, sealed, by, now)).await?;
    contents::put(tx, run, content, sealed, now).await?;
    if let Some(runner) = found.runner {
        sites::touch(tx, runner).await?;
    }
    Ok(number)
}

/// All replies of a run, in order.
pub async fn list(tx: &mut Tx, run: RunId) -> Result<Vec<Reply>> {
    tx.all(ask!(WHAT_WAS_REPLIED, run)).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Reply> {
    Ok(Reply {
        number: row.count("number")?,
        content: row.json("content")?,
        sealed: row.blob("sealed")?,
        by: row.word("author")?,
        at: row.at("created_at")?,
    })
}
