//! The attacks on the box, for any driver: each is tried from inside and must come to the same end, whoever made the environment.
//!
//! The list is `list.rs`; what it comes to is published in docs/attacks.md, which is written from it.

mod list;

use serde_json::json;
use stockade_domain::ids::EnvironmentId;
use stockade_sandbox::{Arrival, Driver};

use self::list::{ATTACKS, Attack, ELSEWHERE, PRELUDE};
use crate::bed::{Bed, Guest, small};

crate::both!(every_attack_comes_to_its_end);

/// Tries every attack in an environment of a driver that runs and whose doors are held by somebody who ends each stream at once. Says
/// those that came to another end.
pub async fn withstand(driver: &dyn Driver, id: EnvironmentId) -> Vec<String> {
    let mut guest = Guest::of(driver, id).await;
    let doors = driver.doors(id).await.unwrap();
    let ending = async {
        loop {
            // A stream is dropped, a question stays without an answer.
            if let Err(error) = doors.arrival().await.map(drop::<Arrival>) {
                return error;
            }
        }
    };
    let trying = async {
        let mut wrong = Vec::new();
        for Attack { row, what, script, outcome } in ATTACKS {
            let text = format!("{PRELUDE}\n{script}\n");
            assert_eq!(guest.ask(json!({"op": "write", "path": "attack.py", "text": text})).await["reply"], "done");
            let ran = guest.run(&["/usr/bin/python3", "attack.py"], 60_000).await;
            if ran.stdout != *outcome {
                wrong.push(format!("{row} {what}:\n--- expected\n{outcome}\n--- came\n{}\n{}", ran.stdout, ran.stderr));
            }
            // The environment is as it was, and so is the guest.
            assert_eq!(guest.sh("echo alive; rm -rf /tmp/* /workspace/*").await.stdout, "alive", "after {row} {what}");
        }
        wrong
    };
    tokio::select! {
        error = ending => vec![format!("the doors closed: {error}")],
        wrong = trying => wrong,
    }
}

async fn every_attack_comes_to_its_end(bed: &Bed) {
    let (id, _) = bed.make(small()).await;
    let wrong = withstand(&bed.driver, id).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The page of the manual.
fn page() -> String {
    let mut page = String::from(
        "# Attacks\n\nEach is tried from inside an environment by the tests of the driver, as root and as a user without any right, and must come to exactly this end. Rows are those of the\n\
         design's list; those about names, hosts and requests are tried where they are decided. This page is written from `crates/sandbox/tests/it/attacks/list.rs`: a test holds it to that.\n\n\
         | row | attack | what becomes of it | namespace, as root | namespace, as a user |\n|---|---|---|---|---|\n",
    );
    for Attack { row, what, outcome, .. } in ATTACKS {
        let ends: Vec<String> = outcome.lines().map(|line| format!("`{line}`")).collect();
        page.push_str(&format!("| {row} | {what} | {} | withstood | withstood |\n", ends.join(", ")));
    }
    page.push_str("\nTried by tests of their own:\n\n| row | attack | by |\n|---|---|---|\n");
    for (row, what, by) in ELSEWHERE {
        page.push_str(&format!("| {row} | {what} | {by} |\n"));
    }
    page
}

#[test]
fn the_published_table_is_that_of_the_list() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/attacks.md");
    let wanted = page();
    if std::env::var_os("STOCKADE_WRITE_ATTACKS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == wanted,
        "docs/attacks.md is not what the list says: run this test with STOCKADE_WRITE_ATTACKS=1 and look at the difference"
    );
}
