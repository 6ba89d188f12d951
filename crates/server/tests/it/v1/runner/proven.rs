//! Who a runner is: enrolment, signatures, clocks and repetitions.

use serde_json::json;
use stockade_api::{http::CreateEnrollToken, runner::Heartbeaten};
use stockade_domain::World;

use crate::{
    harness::{App, databases},
    runner::FakeRunner,
};

#[tokio::test]
async fn a_token_lets_one_runner_in_once() {
    for database in databases() {
        let app = App::on(database).await;
        let token = app.admin.create_enroll_token(&CreateEnrollToken::default()).await.unwrap().token;
        let url = app.server.url();
        FakeRunner::enroll(&url, &token, app.world.clone()).await.unwrap();
        assert_eq!(app.last_records(1).await, ["note runner.enrolled"]);
        for wrong in [token.as_str(), "ste_wrong", ""] {
            let error = FakeRunner::enroll(&url, wrong, app.world.clone()).await.err().unwrap();
            assert_eq!(error.code, "bad_enroll_token", "{wrong}");
        }
        let old = app.admin.create_enroll_token(&CreateEnrollToken::default()).await.unwrap().token;
        app.world.push_seconds(3_601);
        let error = FakeRunner::enroll(&url, &old, app.world.clone()).await.err().unwrap();
        assert_eq!(error.code, "bad_enroll_token");
        app.stop().await;
    }
}

#[tokio::test]
async fn only_its_own_fresh_signature_is_believed() {
    let app = App::new().await;
    let runner = app.runner().await;
    let path = "/v1/runner/heartbeat";
    let body = json!({"leases": [], "spooled": 0}).to_string().into_bytes();
    let now = app.world.now().0;
    let minutes = 60_000_000;
    for (time, signed, sent, code) in [
        (now, body.as_slice(), b"{\"leases\":[],\"spooled\":9}".as_slice(), "bad_signature"),
        (now - 6 * minutes, body.as_slice(), body.as_slice(), "clock_skew"),
        (now + 6 * minutes, body.as_slice(), body.as_slice(), "clock_skew"),
    ] {
        let response = runner.send(path, time, signed, sent).await;
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        assert!(status == 401 && text.contains(code), "{status} {text}");
    }
    let response = runner.send(path, now, &body, &body).await;
    assert!(response.status().is_success());
    let _: Heartbeaten = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    // The very same bytes again.
    let response = runner.send(path, now, &body, &body).await;
    assert!(response.text().await.unwrap().contains("replayed"));

    let mut stranger = app.runner_of(Some("elsewhere")).await;
    stranger.id = runner.id;
    let response = stranger.send(path, now + 1, &body, &body).await;
    assert!(response.text().await.unwrap().contains("bad_signature"));
    app.stop().await;
}

#[tokio::test]
async fn people_see_which_runners_are_there() {
    let app = App::new().await;
    let runner = app.runner().await;
    runner.poll(0, 1, 0).await.unwrap();
    runner.heartbeat(vec![]).await.unwrap();
    let list = app.admin.runners().await.unwrap().items;
    assert_eq!((list[0].id, list[0].live, list[0].bundle, list[0].spooled), (runner.id, true, 1, 3));
    assert!(app.admin.doctor().await.unwrap().checks.iter().all(|check| check.ok));
    app.world.push_seconds(61);
    assert!(!app.admin.runners().await.unwrap().items[0].live);
    let checks = app.admin.doctor().await.unwrap().checks;
    assert!(checks.iter().any(|check| check.name == "runners" && !check.ok && check.hint.is_some()));
    app.stop().await;
}
