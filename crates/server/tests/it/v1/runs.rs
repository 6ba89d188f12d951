//! `/v1/runs`

use std::time::Duration;

use stockade_api::{http::ListEvents, ticket::Ticket};
use stockade_domain::{Desired, RunState, RunTransition, World};
use stockade_ledger::VerifyingKey;

use crate::{
    harness::{App, databases, start},
    runner::LISTENER,
};

#[tokio::test]
async fn a_run_is_watched_as_it_goes() {
    for database in databases() {
        let app = App::on(database).await;
        let mut runner = app.runner().await;
        let run = start(&app.admin, &app.project("p").await).await.unwrap();
        let fence = runner.lease(run.id).await.unwrap().fence;
        let first = app.admin.events(run.id, &ListEvents::default()).await.unwrap();

        // Somebody waits for what comes next, and gets it as soon as it is there.
        let query = ListEvents { after: first.after, wait_ms: 20_000, ..ListEvents::default() };
        let watch = app.admin.events(run.id, &query);
        let entries = vec![runner.state(run.id, fence, RunTransition::Prepare)];
        let (seen, shipped) =
            tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(watch, runner.ship(entries)) })
                .await
                .unwrap();
        shipped.unwrap();
        let seen = seen.unwrap();
        assert_eq!((seen.items.len(), seen.state), (1, RunState::Preparing));
        assert!(seen.after > first.after);
        app.stop().await;
    }
}

#[tokio::test]
async fn a_run_is_cancelled_by_its_runner_when_it_has_one() {
    let app = App::new().await;
    let mut runner = app.runner().await;
    let run = start(&app.admin, &app.project("p").await).await.unwrap();
    runner.work_until_asked(run.id).await;
    app.admin.cancel(run.id).await.unwrap();
    assert_eq!(app.last_records(2).await, ["close ok", "open run.cancel"]);
    let told = runner.poll(0, 0, 0).await.unwrap();
    assert_eq!(told.assignments[0].order, Some(stockade_api::runner::Order::Cancel));
    app.stop().await;
}

#[tokio::test]
async fn erasing_takes_the_key_away_and_leaves_the_ciphertext() {
    for database in databases() {
        let app = App::on(database).await;
        let runner = app.runner().await;
        let run = start(&app.admin, &app.project("p").await).await.unwrap();
        let assignment = runner.poll(0, 0, 0).await.unwrap().assignments.remove(0);
        assert!(assignment.wrapped_key.is_some());
        let before = app.admin.sealed_content(run.id, assignment.task_content.digest).await.unwrap();

        assert!(app.admin.erase(run.id).await.unwrap().erased);
        let told = runner.poll(0, 0, 0).await.unwrap();
        assert!(told.assignments.iter().all(|assignment| assignment.wrapped_key.is_none()));
        let after = app.admin.sealed_content(run.id, assignment.task_content.digest).await.unwrap();
        assert_eq!(before, after);
        app.stop().await;
    }
}

#[tokio::test]
async fn a_ticket_says_who_asks_and_is_signed_by_the_server() {
    let app = App::new().await;
    let runner = app.runner().await;
    let run = start(&app.admin, &app.project("p").await).await.unwrap();
    let issued = app.admin.ticket(run.id).await.unwrap();
    assert_eq!(issued.listener, LISTENER);
    let (ticket, signed, signature) = Ticket::decode(&issued.ticket).unwrap();
    let key: VerifyingKey = runner.server_key.parse().unwrap();
    assert!(key.verify(&signed, &signature));
    let me = app.admin.me().await.unwrap();
    assert_eq!((ticket.user, ticket.roles, ticket.run, ticket.runner), (me.user, me.roles, run.id, runner.id));
    assert!(ticket.expires_at > app.world.now());
    app.stop().await;
}

/// What the reconcilers do: a run that nobody hears of for a week is over, and its environment is to be deleted.
#[tokio::test]
async fn a_run_that_nobody_hears_of_expires_with_its_environment() {
    for database in databases() {
        let app = App::on(database).await;
        let runner = app.runner().await;
        let run = start(&app.admin, &app.project("p").await).await.unwrap();
        let mut after = app.admin.events(run.id, &ListEvents::default()).await.unwrap().after;
        app.world.push_seconds(7 * 24 * 3_600 + 1);
        while app.admin.run(run.id).await.unwrap().state != RunState::Expired {
            let query = ListEvents { after, wait_ms: 10_000, ..ListEvents::default() };
            after = app.admin.events(run.id, &query).await.unwrap().after;
        }
        let mut revision = 0;
        loop {
            let told = runner.poll(revision, 1, 10_000).await.unwrap();
            revision = told.revision;
            if told.assignments.iter().all(|assignment| assignment.desired == Desired::Deleted) {
                break;
            }
        }
        let records = app.admin.records(&Default::default()).await.unwrap().items;
        assert!(records.iter().any(|record| record.record["body"]["code"] == "run.expired"));
        app.stop().await;
    }
}
