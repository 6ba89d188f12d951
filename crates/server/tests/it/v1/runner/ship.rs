//! Leases and shipments.

use std::time::Duration;

use stockade_api::runner::Entry;
use stockade_domain::{RunState, RunTransition, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{App, databases, start};

#[tokio::test]
async fn a_shipment_is_taken_once_in_order_and_without_gaps() {
    for database in databases() {
        let app = App::on(database).await;
        let mut runner = app.runner().await;
        let notes = vec![runner.note("a"), runner.note("b")];
        assert_eq!(runner.ship(notes.clone()).await.unwrap(), 2);
        // Told again, it is passed over; ahead of what is expected, nothing is taken.
        assert_eq!(runner.ship_at(0, notes).await.unwrap().next, 2);
        let next = runner.note("c");
        assert_eq!(runner.ship_at(5, vec![next.clone()]).await.unwrap().next, 2);
        assert_eq!(runner.ship(vec![next]).await.unwrap(), 3);

        // A record out of order can never be taken.
        runner.note("lost");
        let gap = runner.note("d");
        assert_eq!(runner.ship(vec![gap]).await.unwrap_err().code, "bad_entry");
        let wrong = Entry::Record { canonical: "{}".to_owned() };
        assert_eq!(runner.ship_at(3, vec![wrong]).await.unwrap_err().code, "bad_entry");
        app.stop().await;
    }
}

#[tokio::test]
async fn an_older_fence_moves_nothing() {
    let app = App::new().await;
    let mut runner = app.runner().await;
    let run = start(&app.admin, &app.project("p").await).await.unwrap();
    let old = runner.lease(run.id).await.unwrap().fence;
    let new = runner.lease(run.id).await.unwrap().fence;
    assert!(new > old);
    let good = vec![runner.state(run.id, new, RunTransition::Prepare)];
    runner.ship(good).await.unwrap();
    let stale = vec![runner.state(run.id, old, RunTransition::Work)];
    runner.ship(stale).await.unwrap();
    assert_eq!(app.admin.run(run.id).await.unwrap().state, RunState::Preparing);

    let beaten = runner.heartbeat(vec![(run.id, new), (run.id, old)]).await.unwrap();
    assert_eq!(beaten.renewed, [run.id]);
    app.stop().await;
}

#[tokio::test]
async fn another_runners_run_is_not_leased() {
    let app = App::new().await;
    let runner = app.runner().await;
    let run = start(&app.admin, &app.project("p").await).await.unwrap();
    assert_eq!(run.runner, Some(runner.id));
    // A second runner, in a site of its own.
    let other = app.runner_of(Some("elsewhere")).await;
    assert_eq!(other.lease(run.id).await.unwrap_err().code, "no_lease");
    app.stop().await;
}

/// Sixteen shipments are read at a time (`site::SHIPMENTS`); the next one waits for room and then goes through.
#[tokio::test]
async fn one_shipment_too_many_waits_for_room() {
    let app = App::new().await;
    let mut runner = app.runner().await;
    let mut slow = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(app.server.addr()).await.unwrap();
        let head = format!(
            "POST /v1/runner/ship HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\
             stockade-runner: {}\r\nstockade-time: {}\r\nstockade-signature: AAAA\r\n\r\n",
            runner.id,
            app.world.now().0
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server asks for the body once it has room for it.
        let mut answer = [0; 64];
        let n = stream.read(&mut answer).await.unwrap();
        assert!(answer[..n].starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&answer[..n]));
        slow.push(stream);
    }
    let note = runner.note("a");
    let ship = runner.ship(vec![note]);
    tokio::pin!(ship);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut ship).await.is_err(), "there is no room");
    slow.pop();
    assert_eq!(ship.await.unwrap(), 1);
    drop(slow);
    app.stop().await;
}
