//! Cells of the agent matrix that need no package: a client without any SDK, in each dialect, through the gateway to each
//! provider. `cargo xtask matrix` has the real clients.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are not inside test functions")]

mod faults;

use std::{collections::BTreeMap, path::Path};

use stockade_testkit::cell::{Report, Spec, try_out};

const PROVIDERS: &[(&str, &str)] = &[
    ("anthropic", "claude-sonnet-4-6-20260217"),
    ("bedrock", "eu.anthropic.claude-sonnet-4-6-v1:0"),
    ("vertex-claude", "claude-sonnet-4-6@20260217"),
    ("openai", "gpt-5.2-2025-12-11"),
    ("openai-compatible", "gpt-4.1-mini"),
    ("azure", "our-deployment"),
    ("gemini", "gemini-3-pro-preview"),
    ("vertex-gemini", "gemini-3-pro-preview"),
    ("bedrock-converse", "us.amazon.nova-premier-v1:0"),
];

fn spec(way: &str, door: &str, provider: &str, upstream: &str, through: bool, folder: &Path) -> Spec {
    let (home, work) = (folder.join("home"), folder.join("work"));
    std::fs::create_dir_all(&home).unwrap();
    std::fs::create_dir_all(&work).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cells/plain.py");
    let command = ["python3", script.to_str().unwrap(), way, door, "{key}", "{model}"];
    Spec {
        provider: provider.to_owned(),
        through,
        model: if through { "asked-for".to_owned() } else { upstream.to_owned() },
        upstream: upstream.to_owned(),
        command: command.map(str::to_owned).to_vec(),
        env: BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]),
        files: BTreeMap::new(),
        home,
        work,
        captured: None,
        aside: None,
        turns: 3,
        same_request: false,
        same_answer: false,
        seconds: 60,
    }
}

fn attempt(way: &str, door: &str, provider: &str, upstream: &str, through: bool) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(way, door, provider, upstream, through, folder.path());
    try_out(&spec).unwrap_or_else(|error| panic!("{way} to {provider}: {error:#}"))
}

/// Through the gateway to every provider.
fn to_all(way: &str, door: &str) {
    for (provider, upstream) in PROVIDERS {
        let report = attempt(way, door, provider, upstream, true);
        assert_eq!(report.problems, Vec::<String>::new(), "{way} to {provider}: {report:?}");
        assert_eq!(report.refused, None, "{way} to {provider}");
        assert!(report.cost > 0, "{way} to {provider}");
    }
}

#[test]
fn without_a_gateway_the_client_and_the_fakes_agree() {
    for (way, door, provider, upstream) in [
        ("messages", "{anthropic}", "anthropic", "claude-sonnet-4-6"),
        ("chat", "{openai}", "openai", "gpt-5.2"),
        ("responses", "{openai}", "openai", "gpt-5.2"),
        ("gemini", "{gemini}", "gemini", "gemini-3-pro-preview"),
        ("converse", "{bedrock}", "bedrock", "us.anthropic.claude-sonnet-4-6-v1:0"),
    ] {
        let report = attempt(way, door, provider, upstream, false);
        assert_eq!(report.problems, Vec::<String>::new(), "{way}: {report:?}");
    }
}

#[test]
fn messages_reach_every_provider() {
    to_all("messages", "{anthropic}");
}

#[test]
fn chat_reaches_every_provider() {
    to_all("chat", "{openai}");
}

#[test]
fn responses_reach_every_provider() {
    to_all("responses", "{openai}");
}

#[test]
fn gemini_reaches_every_provider() {
    to_all("gemini", "{gemini}");
}

#[test]
fn converse_reaches_every_provider() {
    to_all("converse", "{bedrock}");
}
