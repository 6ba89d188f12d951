//! Connections in words, by example: each kind of them once.

use serde_json::{Value, json};

use super::*;

const RUN: &str = "run_01jd8y3k5m0000000000000abc";

/// A connection, but for what the test says.
fn connection(with: &Value) -> Connection {
    let mut all = json!({
        "id": "rec_01jd8y3k5m0000000000000001", "closed": "rec_01jd8y3k5m0000000000000002", "runner": "rnr_01jd8y3k5m0000000000000001",
        "run": RUN, "environment": "env_01jd8y3k5m0000000000000001", "action": "connection.open", "host": "crates.example",
        "port": 443, "protocol": "tls", "inspected": false, "decision": "allow", "policy": "web", "title": "The web",
        "status": "ok", "bytes_out": 1_234, "bytes_in": 56_789_012, "address": "192.0.2.7:443", "left_out": 0,
        "notable": true, "opened_at": 1_795_266_317_000_000_i64, "closed_at": 1_795_266_318_250_000_i64,
        "noted_at": 1_795_266_318_250_000_i64,
    });
    for (name, value) in with.as_object().unwrap() {
        all[name] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

fn several() -> Vec<Connection> {
    let refused = json!({"closed": null, "policy": null, "title": null, "status": "refused", "decision": "deny",
        "bytes_out": 0, "bytes_in": 0, "address": null});
    let refused = |with: Value| {
        let mut all = refused.clone();
        all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        connection(&all)
    };
    vec![
        connection(&json!({})),
        connection(&json!({"status": "open", "closed": null, "closed_at": null, "bytes_out": 0, "bytes_in": 0})),
        connection(
            &json!({"action": "request.send", "method": "GET", "http_status": 304, "bytes_out": 999, "bytes_in": 0,
            "closed_at": 1_795_266_317_070_000_i64}),
        ),
        connection(
            &json!({"action": "request.send", "method": "GET", "upgrade": "websocket", "status": "error", "code": "silent",
            "closed_at": 1_795_266_999_000_000_i64}),
        ),
        connection(
            &json!({"action": "git.push", "repository": "forge.example/a-long-team/a-long-application", "host": "forge.example",
            "ref": "refs/heads/stockade/run_1", "bytes_out": 1_000, "bytes_in": 0}),
        ),
        connection(&json!({"action": "credential.use", "credential": "forge", "host": "forge.example"})),
        connection(
            &json!({"host": "2001:db8::1", "port": 22, "protocol": "ssh", "status": "error", "code": "unreachable",
            "address": null, "bytes_out": 0, "bytes_in": 0}),
        ),
        refused(json!({"host": "registry.far.example"})),
        refused(json!({"host": "near.example", "policy": "no-near", "title": "Nothing near", "left_out": 12})),
        refused(
            json!({"host": "198.18.0.77", "policy": "egress:unnamed", "title": "An address that no name was given"}),
        ),
        refused(json!({"action": "git.push", "repository": "forge.example/team/app", "host": "forge.example",
            "ref": "refs/heads/ma\u{1b}[2Jin\nx"})),
        refused(json!({"action": "packet_nowhere", "host": "192.0.2.1", "protocol": "udp", "port": 443})),
        refused(json!({"action": "names_crowded", "host": "tunnel.example", "protocol": null, "port": null})),
        refused(
            json!({"status": "asked", "decision": "ask", "host": "ask.example", "approval": "apr_01jd8y3k5m0000000000000001"}),
        ),
    ]
}

#[test]
fn a_table_says_where_what_and_how_it_ended_in_a_hundred_columns() {
    let mut lines = vec![Columns::Runs.head()];
    for connection in several() {
        lines.push(Columns::Runs.line(&connection));
        lines.extend(why(&connection).map(|why| format!("    {why}")));
    }
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_connections_of_one_run_have_more_room_and_those_with_ids_their_own() {
    let one = several().remove(4);
    insta::assert_snapshot!([Columns::OneRun, Columns::Ids].map(|columns| columns.line(&one)).join("\n"));
}

#[test]
fn a_run_s_timeline_has_a_line_for_what_a_person_wants_to_know() {
    let lines: Vec<String> = several().iter().filter_map(happened).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn what_a_run_did_is_summed() {
    let sum = |action: &str, decision: &str, host: &str, times: u64| {
        json!({"action": action, "decision": decision, "host": host, "port": 443, "times": times, "left_out": 1,
            "bytes_out": 1_500, "bytes_in": 2_000_000, "first_at": 0, "last_at": 0})
    };
    let refused = (0..7).map(|n| sum("connection.open", "deny", &format!("h{n}.example"), 2));
    let hosts: Vec<Value> = refused.chain([sum("connection.open", "allow", "a.example", 5)]).collect();
    let all = [("connection.open", "allow"), ("connection.open", "deny"), ("git.push", "allow")];
    let all: Vec<Value> = all.iter().map(|(action, decision)| sum(action, decision, "", 14)).collect();
    let sums = serde_json::from_value(json!({"all": all, "hosts": hosts})).unwrap();
    insta::assert_snapshot!(crate::output::facts(&summary(&sums, RUN.parse().unwrap())));
    assert!(summary(&ConnectionSums::default(), RUN.parse().unwrap()).is_empty());
}

#[test]
fn a_connection_that_is_looked_into_says_so() {
    let said = |inspected: bool| Columns::Runs.line(&connection(&json!({"inspected": inspected})));
    assert!(said(true).contains("  tls inspected  ") && !said(false).contains("inspected"), "{}", said(true));
}

#[test]
fn what_a_policy_forbids_or_we_refuse_ourselves_is_not_to_be_learnt() {
    let learnt: Vec<String> = several().iter().filter(|c| can_be_learnt(c)).map(target).collect();
    assert_eq!(learnt, ["registry.far.example:443", "forge.example/team/app"]);
}

#[test]
fn bytes_are_short() {
    let said: Vec<String> =
        [0, 999, 1_000, 9_999, 10_000, 999_999, 1_000_000, 1_234_567_890, u64::MAX].map(short).into();
    assert_eq!(said, ["0", "999", "1.0k", "9.9k", "10k", "999k", "1.0M", "1.2G", "18446P"]);
}
