//! What a list of calls reads on Postgres, when there are many.

use stockade_testkit::postgres::Database;

use super::*;
use crate::{Store, sql::Ask};

/// Two hundred thousand calls of 40 projects, 100 people and 400 runs, in sessions of 40; one model of which there are few.
const FILL: &str = "INSERT INTO calls SELECT 'mdl_' || lpad(n::text, 26, '0'), 'rec_' || lpad(n::text, 26, '0'), \
    'rec_0' || lpad(n::text, 25, '0'), 'rnr_' || repeat('0', 26), 'run_' || lpad((n % 400)::text, 26, '0'), \
    'prj_' || lpad((n % 40)::text, 26, '0'), '/srv/x', 'usr_' || lpad((n % 100)::text, 26, '0'), \
    CASE WHEN n % 1000 = 7 THEN 'rare' ELSE 'model-' || n % 8 END, 'up', 'provider-' || n % 3, 'messages', 'client-' || n % 5, \
    'session-' || n / 40, n % 40, CASE WHEN n % 500 = 0 THEN 'error' ELSE 'ok' END, NULL, 1000, 100, 0, 0, 4500000, \
    n::bigint * 1000000, 900 FROM generate_series(1, 200000) n; ANALYZE calls";

/// How many rows of the table this connection has read of late, and how many of them without an index.
async fn read_so_far(tx: &mut Tx) -> (i64, i64) {
    let sql = "SELECT CAST(COALESCE(idx_tup_fetch, 0) + seq_tup_read AS BIGINT) AS every, CAST(seq_tup_read AS BIGINT) AS plain \
               FROM pg_stat_xact_user_tables WHERE relname = 'calls'";
    let row = tx.maybe(Ask { sql, values: Vec::new() }).await.unwrap().unwrap();
    (row.int("every").unwrap(), row.int("plain").unwrap())
}

/// If you are here because this failed: with a million calls, that list would read many times what it shows. Look at its plan with
/// these very values, and again after the same connection has asked a few times: Postgres then plans without looking at them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_calls_reads_hardly_more_than_it_shows_however_often_it_is_asked_for() {
    let Some(database) = Database::create().unwrap() else { return };
    let store = Store::open(&database.url()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    tx.plain(FILL).await.unwrap();
    tx.commit().await.unwrap();
    drop(store);

    // A store of its own for the reading: what was written is not in these counts.
    let store = Store::open(&database.url()).await.unwrap();
    let any = CallFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let (person, project, run) = (numbered::<UserId>("usr"), numbered::<ProjectId>("prj"), numbered::<RunId>("run"));
    let hour = |n: i64| Some(Timestamp(n * 3_600_000_000));
    for (name, filter) in [
        ("all", any()),
        ("person", CallFilter { person, ..any() }),
        ("project", CallFilter { project, ..any() }),
        ("model", CallFilter { model: text("model-3"), ..any() }),
        ("a model of few calls", CallFilter { model: text("rare"), ..any() }),
        ("a model of none", CallFilter { model: text("nobody"), ..any() }),
        ("time", CallFilter { since: hour(1), until: hour(40), ..any() }),
        ("session", CallFilter { session: text("session-77"), ..any() }),
        ("run", CallFilter { run, ..any() }),
        ("client", CallFilter { client: text("client-1"), ..any() }),
        ("provider", CallFilter { provider: text("provider-1"), ..any() }),
        ("status", CallFilter { status: text("error"), ..any() }),
        ("a status of none", CallFilter { status: text("refused"), ..any() }),
        ("person and project", CallFilter { person, project, ..any() }),
    ] {
        let mut tx = store.read().await.unwrap();
        // What this connection has read for others may still be among it.
        let (mut before, by_hand) = read_so_far(&mut tx).await;
        for time in 1..=8 {
            let found = list(&mut tx, &filter, &Page::default()).await.unwrap().items.len();
            let (every, plain) = read_so_far(&mut tx).await;
            let read = every - before;
            before = every;
            assert_eq!(plain, by_hand, "{name}, time {time}: the whole table was read");
            assert!(read <= 2_500, "{name}, time {time}: {read} rows were read for a page of {found}");
        }
    }
}

/// As `FILL` writes them.
fn numbered<T: std::str::FromStr>(kind: &str) -> Option<T> {
    format!("{kind}_{:026}", 20).parse().ok()
}
