//! What a list of connections reads, when there are many.

use stockade_testkit::postgres::Database;

use super::*;
use crate::{Store, sql::Ask};

/// Two hundred thousand connections of 40 projects and 400 runs to 300 hosts; few are refused, fewer push, one in 5,000 is open.
const FILL: &str = "INSERT INTO connections SELECT 'rec_' || lpad(n::text, 26, '0'), 'rec_0' || lpad(n::text, 25, '0'), NULL, \
    'rnr_' || repeat('0', 26), 'run_' || lpad((n % 400)::text, 26, '0'), 'prj_' || lpad((n % 40)::text, 26, '0'), \
    'env_' || lpad((n % 400)::text, 26, '0'), CASE WHEN n % 1000 = 7 THEN 'git.push' ELSE 'connection.open' END, \
    CASE WHEN n % 1000 = 9 THEN 'rare.example' ELSE 'host-' || n % 300 END, 443, 'tls', 0, NULL, NULL, NULL, NULL, NULL, \
    CASE WHEN n % 500 = 0 THEN 'deny' ELSE 'allow' END, 'web', 'The web', NULL, \
    CASE WHEN n % 500 = 0 THEN 'refused' WHEN n % 5000 = 3 THEN 'open' ELSE 'ok' END, NULL, NULL, 1000, 90000, '192.0.2.1:443', \
    0, CASE WHEN n % 300 = 0 THEN 1 ELSE 0 END, n::bigint * 1000000, n::bigint * 1000000 + 900000, n::bigint * 1000000 \
    FROM generate_series(1, 200000) n; ANALYZE connections";

/// How many rows of the table this connection has read of late, and how many of them without an index.
async fn read_so_far(tx: &mut Tx) -> (i64, i64) {
    let sql = "SELECT CAST(COALESCE(idx_tup_fetch, 0) + seq_tup_read AS BIGINT) AS every, CAST(seq_tup_read AS BIGINT) AS plain \
               FROM pg_stat_xact_user_tables WHERE relname = 'connections'";
    let row = tx.maybe(Ask { sql, values: Vec::new() }).await.unwrap().unwrap();
    (row.int("every").unwrap(), row.int("plain").unwrap())
}

/// If you are here because this failed: with a million connections, that list would read many times what it shows. Look at its plan
/// with these very values, and again after the same connection has asked a few times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_connections_reads_hardly_more_than_it_shows_however_often_it_is_asked_for() {
    let Some(database) = Database::create().unwrap() else { return };
    let store = Store::open(&database.url()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    tx.plain(FILL).await.unwrap();
    tx.commit().await.unwrap();
    drop(store);

    // A store of its own for the reading: what was written is not in these counts.
    let store = Store::open(&database.url()).await.unwrap();
    let any = ConnectionFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let (project, run) = (numbered::<ProjectId>("prj"), numbered::<RunId>("run"));
    let hour = |n: i64| Some(Timestamp(n * 3_600_000_000));
    for (name, filter) in [
        ("all", any()),
        ("run", ConnectionFilter { run, ..any() }),
        ("what is told of a run", ConnectionFilter { run, notable: Some(true), ..any() }),
        ("project", ConnectionFilter { project, ..any() }),
        ("host", ConnectionFilter { host: text("host-7"), ..any() }),
        ("a host that is rare", ConnectionFilter { host: text("rare.example"), ..any() }),
        ("a host of none", ConnectionFilter { host: text("nowhere.example"), ..any() }),
        ("refused", ConnectionFilter { decision: Some(Answer::Deny), ..any() }),
        ("asked", ConnectionFilter { decision: Some(Answer::Ask), ..any() }),
        ("pushes", ConnectionFilter { action: text("git.push"), ..any() }),
        ("open", ConnectionFilter { status: text("open"), ..any() }),
        ("time", ConnectionFilter { since: hour(1), until: hour(40), ..any() }),
        ("run and host", ConnectionFilter { run, host: text("host-7"), ..any() }),
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
    let mut tx = store.read().await.unwrap();
    for (name, filter) in [("of all", any()), ("of a run", ConnectionFilter { run, ..any() })] {
        let (before, by_hand) = read_so_far(&mut tx).await;
        let since = Timestamp(199_000 * 1_000_000);
        let found = changed(&mut tx, &filter, since, &Page::default()).await.unwrap();
        let (every, plain) = read_so_far(&mut tx).await;
        assert!(plain == by_hand && every - before <= 2_500, "{name}: {} rows", every - before);
        assert!(!found.items.is_empty() && found.items.iter().all(|row| row.noted_at >= since), "{name}");
    }
}

/// If you are here because this failed: with a million connections, that question would read all of them. It needs an index
/// whose first column it names.
#[tokio::test]
async fn no_question_reads_every_connection() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}", folder.path().join("connections.db").display())).await.unwrap();
    let mut tx = store.read().await.unwrap();
    let questions: Vec<_> =
        STATEMENTS.iter().chain(FOLD_STATEMENTS).filter(|(_, sql)| !sql.starts_with("INSERT")).collect();
    assert!(questions.len() > 15, "{questions:?}");
    for (name, sql) in questions {
        let sql = Box::leak(format!("EXPLAIN QUERY PLAN {sql}").into_boxed_str());
        let plan = tx.all(Ask { sql, values: Vec::new() }).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.text("detail").unwrap()).collect();
        assert!(steps.iter().any(|step| step.starts_with("SEARCH")), "{name}: {steps:?}");
        assert!(!steps.iter().any(|step| step.starts_with("SCAN")), "{name}: {steps:?}");
        // The hosts of one run are few.
        let sorted = steps.iter().any(|step| step.contains("TEMP B-TREE"));
        assert_eq!(sorted, *name == "WHERE_DID_THIS_RUN_GO", "{name}: {steps:?}");
    }
}

/// As `FILL` writes them.
fn numbered<T: std::str::FromStr>(kind: &str) -> Option<T> {
    format!("{kind}_{:026}", 20).parse().ok()
}
