//! Policy bundles: numbered from 1, never changed.

use stockade_domain::{Timestamp, ids::UserId};

use crate::{
    Result, StoreError, Tx, sites,
    sql::{Row, ask, statements},
};

statements! {
    LOCK_THE_BUNDLES = "UPDATE locks SET version = version + 1 WHERE name = 'bundles'";
    WHICH_IS_THE_LAST_NUMBER = "SELECT COALESCE(MAX(number), 0) AS number FROM bundles";
    ADD_BUNDLE = "INSERT INTO bundles (number, body, author, created_at) VALUES ($1, $2, $3, $4)";
    WHICH_BUNDLE_IS_THIS = "SELECT number, body, author, created_at FROM bundles WHERE number = $1";
    WHICH_BUNDLES_ARE_THERE = "SELECT number, body, author, created_at FROM bundles ORDER BY number DESC LIMIT $1";
}

/// A bundle as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its number.
    pub number: u64,
    /// Its source.
    pub text: String,
    /// Who put it into force; nobody for the first.
    pub by: Option<UserId>,
    /// Since when.
    pub created_at: Timestamp,
}

/// Puts a new bundle into force and gives its number. If `after` is given and the current number is another:
/// `Conflict`. Every runner's revision grows.
pub async fn put(tx: &mut Tx, after: Option<u64>, text: &str, by: Option<UserId>, now: Timestamp) -> Result<u64> {
    tx.run(ask!(LOCK_THE_BUNDLES)).await?;
    let last = match tx.maybe(ask!(WHICH_IS_THE_LAST_NUMBER)).await? {
        Some(row) => row.count("number")?,
        None => 0,
    };
    if after.is_some_and(|after| after != last) {
        return Err(StoreError::conflict("policy bundle", last));
    }
    let number = last + 1;
    tx.run(ask!(ADD_BUNDLE, number, text, by, now)).await?;
    let runners = sites::runners(tx).await?;
    sites::touch_these(tx, runners.into_iter().map(|runner| runner.id).collect()).await?;
    Ok(number)
}

/// The one in force.
pub async fn current(tx: &mut Tx) -> Result<Bundle> {
    let bundles = list(tx, 1).await?;
    bundles.into_iter().next().ok_or_else(|| StoreError::not_found("policy bundle", "in force"))
}

/// One by its number.
pub async fn get(tx: &mut Tx, number: u64) -> Result<Bundle> {
    let row = tx.maybe(ask!(WHICH_BUNDLE_IS_THIS, number)).await?;
    read(&row.ok_or_else(|| StoreError::not_found("policy bundle", number))?)
}

/// All of them, newest first, at most `limit`.
pub async fn list(tx: &mut Tx, limit: u32) -> Result<Vec<Bundle>> {
    tx.all(ask!(WHICH_BUNDLES_ARE_THERE, limit.min(crate::MAX_PAGE))).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Bundle> {
    Ok(Bundle {
        number: row.count("number")?,
        text: row.text("body")?,
        by: row.maybe_word("author")?,
        created_at: row.at("created_at")?,
    })
}
