//! A program inside does the work: here a script that stands in for one.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use stockade_domain::{Action, EventKind, FailureCause, Harness, RunEvent, RunTransition, ToolOutcome, ids::RunId};
use stockade_ledger::{Body, Record};

use crate::{
    trip::{Bench, git, start_apart},
    until,
};

/// It mends the greeting when it is told that the gates failed, and not before.
const SCRIPT: &str = r#"#!/bin/sh
prompt=$(cat)
echo once >> ../effects
echo "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN $*" > ../wired
sleep 0.2
case "$prompt" in
  *"[gates]"*) sed -i s/helo/hello/ greeting.txt ;;
  *) echo more >> greeting.txt ;;
esac
printf '%s\n' '{"type":"result","is_error":false,"result":"Mend the greeting\n\nIt said helo."}'
"#;

fn install(bench: &Bench, script: &str) {
    let bin = bench.dir.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(bin.join("claude"), script).unwrap();
    std::fs::set_permissions(bin.join("claude"), PermissionsExt::from_mode(0o755)).unwrap();
}

fn assign(bench: &Bench, level: u8) -> RunId {
    bench.plane.lock().harness = Harness::ClaudeCode;
    bench.assign(level)
}

fn calls(events: &[RunEvent]) -> Vec<ToolOutcome> {
    let calls = events.iter().filter_map(|e| match &e.event {
        EventKind::ToolCall { tool, outcome, .. } if tool == "harness" => Some(*outcome),
        _ => None,
    });
    calls.collect()
}

fn starts(records: &[Record]) -> usize {
    let starts = |r: &&Record| matches!(&r.body, Body::Open { deed, .. } if deed.action == Action::ToolCall);
    records.iter().filter(starts).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_inside_works_until_the_gates_pass_and_its_change_is_opened() {
    let bench = Bench::new().await;
    install(&bench, SCRIPT);
    let runner = bench.start().await;
    let run = assign(&bench, 4);
    bench.plane.state(run, "succeeded").await;
    let branch = format!("refs/heads/stockade/{run}");
    assert_eq!(git(&bench.repository, &["show", &format!("{branch}:greeting.txt")]), "hello\nmore");
    assert_eq!(git(&bench.repository, &["log", "-1", "--format=%s", &branch]), "Mend the greeting");
    assert_eq!(bench.effects(run), "once\nonce\n", "started once for each attempt");
    let events = bench.plane.events(run);
    assert_eq!(calls(&events), [ToolOutcome::Ok, ToolOutcome::Ok]);
    assert_eq!(starts(&bench.records()), 2);

    // It was told where the gateway is and given a token, which is nowhere else.
    let id = bench.plane.lock().assignments[0].environment;
    let wired = std::fs::read_to_string(bench.fakes.root.join(id.to_string()).join("wired")).unwrap();
    let words: Vec<&str> = wired.split_whitespace().collect();
    assert_eq!(words[0], "http://gateway.stockade.internal/gateway/anthropic");
    assert!(stockade_api::gateway_token::is_well_formed(words[1]), "{wired}");
    assert!(wired.contains("--model claude-x") && !words[2..].contains(&words[1]), "{wired}");
    let token = words[1].as_bytes();
    assert!(!bench.plane.lock().received.windows(token.len()).any(|w| w == token), "it left the site");
    for file in std::fs::read_dir(bench.dir.path().join("runner")).unwrap() {
        let file = file.unwrap().path();
        let bytes = if file.is_file() { std::fs::read(&file).unwrap() } else { vec![] };
        assert!(!bytes.windows(token.len()).any(|w| w == token), "{} holds it", file.display());
    }
    bench.shipped().await;
    bench.plane.assert_contiguous(run);
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_inside_is_never_started_twice_whenever_the_runner_is_cut_off() {
    for cut_ms in [60, 140, 240, 340] {
        let bench = Bench::new().await;
        install(&bench, SCRIPT);
        let first = start_apart(&bench);
        until("the runner to enrol", async || bench.plane.lock().runner.as_ref().map(|_| ())).await;
        let run = assign(&bench, 4);
        tokio::time::sleep(Duration::from_millis(cut_ms * 2)).await;
        first.shutdown_background();
        let second = start_apart(&bench);
        tokio::time::sleep(Duration::from_millis(cut_ms * 2)).await;
        second.shutdown_background();
        let third = start_apart(&bench);
        bench.plane.state(run, "succeeded").await;
        bench.shipped().await;
        assert_eq!(bench.effects(run), "once\nonce\n", "cut off after {cut_ms} ms");
        assert!(bench.fakes.carried_out.lock().unwrap().values().all(|n| *n == 1));
        bench.plane.assert_contiguous(run);
        bench.assert_accounted();
        third.shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_level_1_a_person_is_asked_once_and_a_no_ends_the_run() {
    let bench = Bench::new().await;
    install(&bench, SCRIPT);
    let runner = bench.start().await;
    let run = assign(&bench, 1);
    let approval = bench.plane.asked(run, 1).await;
    assert_eq!(bench.effects(run), "", "nothing is started before a person agrees");
    bench.plane.answer(run, approval, true);
    // The next question is about the change: the second start is under the same yes.
    let change = bench.plane.asked(run, 2).await;
    assert_eq!(bench.effects(run), "once\nonce\n");
    bench.plane.answer(run, change, true);
    bench.plane.state(run, "succeeded").await;
    let events = bench.plane.events(run);
    let asked: Vec<&str> = events
        .iter()
        .filter_map(|e| match &e.event {
            EventKind::ApprovalRequested { resource, action: Action::ToolCall, .. } => Some(resource.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(asked, ["harness"]);

    let run = assign(&bench, 1);
    let approval = bench.plane.asked(run, 1).await;
    bench.plane.answer(run, approval, false);
    bench.plane.state(run, "failed").await;
    assert_eq!((bench.effects(run).as_str(), calls(&bench.plane.events(run))), ("", vec![ToolOutcome::Denied]));
    bench.shipped().await;
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_not_there_ends_the_run_and_is_named() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let run = assign(&bench, 4);
    bench.plane.state(run, "failed").await;
    let events = bench.plane.events(run);
    let cause = events.iter().find_map(|e| match &e.event {
        EventKind::State { transition: RunTransition::Fail { cause } } => Some(*cause),
        _ => None,
    });
    assert_eq!(cause, Some(FailureCause::Environment));
    let missing = |e: &RunEvent| matches!(&e.event, EventKind::Notice { code } if code == "harness_missing");
    assert_eq!(events.iter().filter(|e| missing(e)).count(), 1);
    bench.shipped().await;
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_dies_with_the_guest_is_started_again_and_told_so() {
    let bench = Bench::new().await;
    // The second time it is told that it was interrupted, and mends at once.
    install(&bench, &SCRIPT.replace("[gates]", "[interrupted]").replace("sleep 0.2", "sleep 1"));
    let runner = bench.start().await;
    let run = assign(&bench, 4);
    let environment = bench.plane.lock().assignments[0].environment;
    until("the program to run", async || bench.effects(run).contains("once").then_some(())).await;
    bench.fakes.kill(environment);
    bench.plane.state(run, "succeeded").await;
    let events = bench.plane.events(run);
    assert_eq!(calls(&events), [ToolOutcome::Interrupted, ToolOutcome::Ok]);
    let retry = |e: &RunEvent| matches!(&e.event, EventKind::Notice { code } if code == "harness_retry");
    assert_eq!(events.iter().filter(|e| retry(e)).count(), 1);
    bench.shipped().await;
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}
