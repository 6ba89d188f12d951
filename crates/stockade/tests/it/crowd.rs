//! Many runs at once against money for a few, on both databases, with the runner killed in the middle.

use serde_json::Value;
use stockade_testkit::{Form, Installation, Options, Provider, postgres::Database};

use super::{
    provider::{KEY, MODEL, configuration, key_file, turns},
    spine::{records_of, sample_in},
};

/// In nano-dollars: less than one run alone would set aside for its calls, several times over.
const LIMIT: i64 = 600_000_000;
const RUNS: usize = 10;

#[test]
fn a_crowd_never_spends_more_than_there_is() {
    crowd(Options::default());
}

#[test]
fn a_crowd_never_spends_more_than_there_is_on_postgres() {
    let Some(database) = Database::create().unwrap() else { return };
    crowd(Options { database: Some(database.url()), ..Options::default() });
}

fn crowd(options: Options) {
    let provider = Provider::start(KEY, turns()).unwrap();
    let (_folder, line) = key_file(KEY);
    let options = Options { config: configuration(&provider, &line), ..options };
    let mut installation = Installation::start(Form::TwoProcesses, options).unwrap();
    let _repository = sample_in(&installation, "4");
    installation.json(&["budget", "set", "organization", "0.60", "--period", "total"]).unwrap();

    let start = |i: &Installation| i.run("word-count", MODEL, "The tests fail: make them green.", &[]).unwrap();
    let mut runs: Vec<String> = (0..RUNS / 2).map(|_| start(&installation)).collect();
    installation.until("some calls", |_| (provider.seen().len() >= 2).then_some(())).unwrap();
    installation.kill_runner().unwrap();
    runs.extend((RUNS / 2..RUNS).map(|_| start(&installation)));
    installation.start_runner().unwrap();

    let mut looked = 0;
    let ended: Vec<Value> = installation
        .until("the end of everybody", |i| {
            let (spent, leased) = money(i)?;
            assert!(spent + leased <= LIMIT, "{spent} spent and {leased} leased of {LIMIT}");
            looked += 1;
            runs.iter()
                .map(|run| {
                    let shown = i.json(&["runs", "show", run]).ok()?;
                    ["succeeded", "failed"].contains(&shown["state"].as_str()?).then_some(shown)
                })
                .collect()
        })
        .unwrap();
    for run in &ended {
        let fine = run["state"] == "succeeded" || run["cause"] == "budget";
        assert!(fine, "{run}\n{}", installation.logs());
    }
    assert!(ended.iter().any(|run| run["cause"] == "budget"), "the money was enough: this proves nothing");
    assert!(looked > 1);

    // In the end all that was not spent is back, and what was is in the records, to the nano-dollar.
    let spent = installation.until("the money to settle", |i| money(i).filter(|(_, leased)| *leased == 0)).unwrap().0;
    let cost = |run: &String| -> i64 {
        records_of(&installation, run).iter().filter_map(|record| record["record"]["body"]["cost"].as_i64()).sum()
    };
    assert_eq!(spent, runs.iter().map(cost).sum::<i64>());
    assert!(spent > 0 && spent <= LIMIT);
}

/// What the organization has spent, and what is leased.
fn money(installation: &Installation) -> Option<(i64, i64)> {
    let shown = installation.json(&["budget", "show"]).ok()?;
    let found = shown["items"].as_array()?.iter().find(|item| item["scope"] == "organization")?.clone();
    Some((found["spent"].as_i64()?, found["leased"].as_i64()?))
}
