//! Budgets hold when runner and server die while a slice is open: row 8 of what other gateways get wrong, for the scopes of people's
//! own tools.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use stockade_api::client::GatewayClient;
use stockade_testkit::{Form, Installation, Options, Provider, provider::Mishap, provider::says};

use super::{
    provider::{KEY, MODEL, configuration, key_file},
    spine::sample_in,
};

/// Each scope's limit in nano-dollars: enough for a few calls.
const LIMIT: i64 = 60_000_000;
const DOLLARS: &str = "0.06";
const ENOUGH: &str = "10";

fn ask(addr: std::net::SocketAddr, token: &str, stream: bool) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gateway = GatewayClient::new(&format!("http://{addr}"), token.to_owned().into()).unwrap();
    // Longer than what the provider says that it read: no call costs more than was reserved for it.
    let text = "a word of mine, and one more. ".repeat(150);
    let body = json!({"model": MODEL, "max_tokens": 100, "stream": stream,
                      "messages": [{"role": "user", "content": text}]});
    runtime
        .block_on(gateway.post("anthropic/v1/messages", &body))
        .map_or((0, String::new()), |(status, bytes)| (status, String::from_utf8_lossy(&bytes).into_owned()))
}

/// Limit, spent and leased of a scope, as the server says it.
fn books(installation: &Installation, scope: &str) -> (i64, i64, i64) {
    let of = |item: &Value| {
        let number = |name: &str| item[name].as_i64().unwrap();
        (number("limit"), number("spent"), number("leased"))
    };
    if scope.starts_with("key:") {
        // Those of keys are in no list: who sets one sees it.
        return of(&installation.json(&["budget", "set", scope, DOLLARS, "--period", "day"]).unwrap());
    }
    let shown = installation.json(&["budget", "show"]).unwrap();
    of(shown["items"].as_array().unwrap().iter().find(|item| item["scope"] == scope).unwrap())
}

fn costs(installation: &Installation) -> Vec<i64> {
    let listed = installation.json(&["calls", "list", "--limit", "200"]).unwrap();
    let items = listed["items"].as_array().unwrap();
    let made = items.iter().filter(|call| call["status"] != "refused");
    made.filter(|call| call["status"] != "open").map(|call| call["cost"].as_i64().unwrap()).collect()
}

#[test]
fn row_08_no_scope_gives_more_than_its_limit_when_runner_and_server_die_with_a_slice_open() {
    let provider = Provider::start(KEY, vec![vec![says("a word of the model")]]).unwrap();
    let (_folder, line) = key_file(KEY);
    let options = Options { config: configuration(&provider, &line), ..Options::default() };
    let mut installation = Installation::start(Form::TwoProcesses, options).unwrap();
    let _repository = sample_in(&installation, "2");
    let file = installation.folder().join("gateway-token").to_string_lossy().into_owned();
    let create = ["token", "create", "laptop", "--project", "word-count", "--budget", DOLLARS, "--period", "day"];
    let made = installation.json(&[&create[..], &["--out", &file]].concat()).unwrap();
    let (token, id) = (fs::read_to_string(&file).unwrap(), made["id"].as_str().unwrap().to_owned());
    installation.json(&["group", "create", "team"]).unwrap();
    installation.json(&["group", "add", "team", "admin"]).unwrap();
    let model = format!("model:{MODEL}");
    installation.json(&["budget", "set", "group:team", DOLLARS, "--period", "week"]).unwrap();
    installation.json(&["budget", "set", &model, DOLLARS, "--period", "month"]).unwrap();
    let key = format!("key:{id}");
    let scopes = [key.as_str(), "group", "model"];

    // One call is done, and one is under way when both die.
    let addr = installation.site_addr();
    installation.until("an answer", |_| (ask(addr, &token, false).0 == 200).then_some(())).unwrap();
    for round in 0..2 {
        let before = provider.seen().len();
        provider.mishaps(&[Mishap::Slow(Duration::from_secs(600))]);
        let theirs = token.clone();
        let waiting = std::thread::spawn(move || ask(addr, &theirs, true));
        installation.until("the call to be sent", |_| (provider.seen().len() > before).then_some(())).unwrap();
        for scope in scopes {
            let (limit, spent, leased) = books(&installation, scope);
            assert!(limit == LIMIT && leased > 0 && spent + leased <= limit, "{scope}: {spent} + {leased} of {limit}");
        }
        if round == 0 {
            installation.kill_server().unwrap();
        }
        installation.kill_runner().unwrap();
        waiting.join().unwrap();
        if round == 0 {
            installation.start_server().unwrap();
        }
        installation.start_runner().unwrap();
        // The call's end was not seen: all that was set aside for it is charged.
        let ended = 2 + round;
        installation.until("the call to be charged", |i| (costs(i).len() == ended).then_some(())).unwrap();
    }

    // On until somebody says no; then nothing more than the limit was given, and every nano of it is in a record.
    let mut answered = 0;
    let refusal = loop {
        match ask(addr, &token, false) {
            (200, _) => answered += 1,
            (400, text) => break text,
            other => panic!("{other:?}"),
        }
        assert!(answered < 100, "nobody says no");
    };
    assert!(refusal.contains("the budget of this"), "{refusal}");
    let told = installation.until("all calls in the list", |i| Some(costs(i)).filter(|c| c.len() == 3 + answered));
    let total: i64 = told.unwrap().iter().sum();
    for scope in scopes {
        installation
            .until("the books to agree", |i| {
                let (limit, spent, leased) = books(i, scope);
                assert!(spent + leased <= limit, "{scope}: {spent} and {leased} of {limit}");
                (spent == total).then_some(())
            })
            .unwrap_or_else(|_| panic!("{scope}: {:?}, calls cost {total}", books(&installation, scope)));
    }

    // Each of them alone is a wall, and the word says whose.
    let all = [("key", key.as_str(), "day"), ("group", "group:team", "week"), ("model", model.as_str(), "month")];
    for (wall, ..) in all {
        for (scope, subject, period) in all {
            let limit = if scope == wall { DOLLARS } else { ENOUGH };
            installation.json(&["budget", "set", subject, limit, "--period", period]).unwrap();
        }
        let (status, text) = ask(addr, &token, false);
        assert!(status == 400 && text.contains(&format!("the budget of this {wall} ")), "{wall}: {text}");
    }
}
