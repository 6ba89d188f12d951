//! Budgets are walls.

use stockade_testkit::{Form, Installation};

use super::spine::with_sample;

fn budget(installation: &Installation, scope: &str) -> (i64, i64, i64) {
    let shown = installation.json(&["budget", "show"]).unwrap();
    let of = |item: &serde_json::Value, name: &str| item[name].as_i64().unwrap();
    let found = shown["items"].as_array().unwrap().iter().find(|item| item["scope"] == scope).unwrap().clone();
    (of(&found, "limit"), of(&found, "spent"), of(&found, "leased"))
}

#[test]
fn a_run_without_money_ends_and_says_so() {
    let (installation, _repository) = with_sample(Form::TwoProcesses, "4");
    let run = installation
        .run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &["--budget", "0.000001"])
        .unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!((ended["state"].as_str(), ended["cause"].as_str()), (Some("failed"), Some("budget")), "{ended}");
    assert_eq!(ended["cost"].as_i64(), Some(0), "nothing was spent: {ended}");
}

#[test]
fn what_is_spent_is_counted_to_the_nano_dollar_and_the_rest_goes_back() {
    let (installation, _repository) = with_sample(Form::TwoProcesses, "4");
    installation.json(&["budget", "set", "organization", "5.00", "--period", "total"]).unwrap();
    installation.json(&["budget", "set", "project:word-count", "3.00", "--period", "month"]).unwrap();
    let mut cost = 0;
    for _ in 0..2 {
        let run =
            installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
        let ended = installation.ended(&run).unwrap();
        assert_eq!(ended["state"], "succeeded", "{ended}");
        cost += ended["cost"].as_i64().unwrap();
    }
    for scope in ["organization", "project"] {
        installation
            .until("the rest to come back", |i| {
                let (_, spent, leased) = budget(i, scope);
                (leased == 0 && spent == cost).then_some(())
            })
            .unwrap_or_else(|_| panic!("{scope}: {:?}, runs cost {cost}", budget(&installation, scope)));
    }
    // The record says the same, to the nano-dollar.
    let records = installation.json(&["audit", "search", "--limit", "500"]).unwrap();
    let recorded: i64 = records["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|record| record["record"]["body"]["cost"].as_i64())
        .sum();
    assert_eq!(recorded, cost);
}

#[test]
fn an_exhausted_organization_stops_everybody() {
    let (installation, _repository) = with_sample(Form::OneProcess, "4");
    installation.json(&["budget", "set", "organization", "0.000001", "--period", "day"]).unwrap();
    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!((ended["state"].as_str(), ended["cause"].as_str()), (Some("failed"), Some("budget")), "{ended}");
    let (limit, spent, _) = budget(&installation, "organization");
    assert!(spent <= limit);
}
