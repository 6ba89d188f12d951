//! The schema, in numbered steps, all of which are taken in one transaction or none.
//!
//! A step that has been released is never changed: a new one is added at the end. The steps are written for SQLite;
//! for Postgres the one word `BLOB` becomes `BYTEA`.

use crate::{
    Engine, Result, Store, StoreError, Tx,
    sql::{ask, statements},
};

/// Every step, in order; the first is number 1.
const STEPS: &[(&str, &str)] = &[
    ("first", include_str!("../migrations/0001_first.sql")),
    ("gateway", include_str!("../migrations/0002_gateway.sql")),
    ("connections", include_str!("../migrations/0003_connections.sql")),
    ("classes", include_str!("../migrations/0004_classes.sql")),
];

statements! {
    WHICH_STEP_WAS_THE_LAST = "SELECT COALESCE(MAX(number), 0) AS number FROM migrations";
    NOTE_THIS_STEP = "INSERT INTO migrations (number, name) VALUES ($1, $2)";
}

const MAKE_THE_LIST: &str = "CREATE TABLE IF NOT EXISTS migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL)";

/// Two servers that start at once on Postgres: the second waits for the first. SQLite has one writer anyway.
const ONE_AT_A_TIME: &str = "DO $$ BEGIN PERFORM pg_advisory_xact_lock(8462010517); END $$";

/// Takes the steps that are missing. Refuses a database that has taken more than are known here, before anything is
/// written.
pub(crate) async fn run(store: &Store) -> Result<()> {
    let mut tx = store.write().await?;
    if store.engine() == Engine::Postgres {
        tx.plain(ONE_AT_A_TIME).await?;
    }
    tx.plain(MAKE_THE_LIST).await?;
    let found = last(&mut tx).await?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    for (number, (name, text)) in (1_i64..).zip(STEPS).filter(|(number, _)| *number > found) {
        let text = match store.engine() {
            Engine::Sqlite => (*text).to_owned(),
            Engine::Postgres => text.replace(" BLOB ", " BYTEA "),
        };
        // The text is ours, word for word.
        tx.plain(sqlx::AssertSqlSafe(text)).await?;
        tx.run(ask!(NOTE_THIS_STEP, number, *name)).await?;
    }
    tx.commit().await
}

async fn last(tx: &mut Tx) -> Result<i64> {
    match tx.maybe(ask!(WHICH_STEP_WAS_THE_LAST)).await? {
        Some(row) => row.int("number"),
        None => Ok(0),
    }
}
