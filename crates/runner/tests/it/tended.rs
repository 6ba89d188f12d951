//! What is promised of environments and counted of them: classes, lifetimes, rest, usage, what was started.

use std::{sync::atomic::Ordering, time::Duration};

use stockade_api::{
    guest::Execution,
    http::SealedContent,
    runner::{Entry, Order, Reply},
};
use stockade_domain::{
    EnvironmentClass, EnvironmentUsage, EventKind, FailureCause, Nanos, Network, Observed, Role, RunEvent,
    RunTransition, World,
    ids::{EnvironmentId, RunId},
};
use stockade_ledger::SystemWorld;
use stockade_sandbox::Measured;

use crate::{
    trip::{Bench, start_apart},
    until,
};

/// A tool call that nobody waits for the end of.
const SLOW: &str = r#"
name = "slow"
[[turn]]
usage = { input = 1000, output = 50 }
[[turn.content]]
type = "tool_use"
name = "run"
input = { command = "echo once >> ../effects; sleep 50" }
"#;

fn class(change: impl FnOnce(&mut EnvironmentClass)) -> Vec<EnvironmentClass> {
    let mut class = EnvironmentClass { name: "tried".to_owned(), ..EnvironmentClass::standard() };
    change(&mut class);
    vec![class]
}

fn environment(bench: &Bench, run: RunId) -> EnvironmentId {
    bench.plane.lock().assignments.iter().find(|a| a.run == run).unwrap().environment
}

fn failed_of(events: &[RunEvent]) -> Option<FailureCause> {
    events.iter().find_map(|event| match event.event {
        EventKind::State { transition: RunTransition::Fail { cause } } => Some(cause),
        _ => None,
    })
}

fn seen(events: &[RunEvent], what: Observed) -> usize {
    let is = |event: &&RunEvent| matches!(event.event, EventKind::Environment { observed, .. } if observed == what);
    events.iter().filter(is).count()
}

/// A person answers the agent's question, by way of whichever runner is there.
async fn reply(bench: &Bench, run: RunId) {
    let ticket = bench.plane.ticket(run, vec![Role::Admin]);
    let (http, body) = (reqwest::Client::new(), serde_json::json!({"kind": "reply", "text": "hello, please"}));
    let sealed: SealedContent = until("the reply to be sealed", async || {
        let url = format!("{}/seal/{run}", bench.plane.lock().listener);
        let answer = http.post(url).bearer_auth(&ticket).json(&body).send().await.ok()?;
        if answer.status().is_success() { answer.json().await.ok() } else { None }
    })
    .await;
    let by = bench.plane.lock().assignments[0].owner;
    let reply = Reply { number: 1, content: sealed.content, sealed: sealed.sealed, by };
    bench.plane.of(run, |a| a.replies.push(reply));
}

/// What was told last of what was used.
fn used(events: &[RunEvent]) -> Option<(EnvironmentUsage, Nanos)> {
    events.iter().rev().find_map(|event| match event.event {
        EventKind::EnvironmentUsage { usage, cost, .. } => Some((usage, cost)),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_environment_has_outlived_its_class_ends_wherever_it_stands() {
    let mut bench = Bench::new().await;
    bench.classes = class(|class| class.lifetime_seconds = Some(3));
    std::fs::write(bench.dir.path().join("cassettes/slow.toml"), SLOW).unwrap();
    let runner = bench.start().await;
    let busy = bench.plane.assign(bench.repository.to_str().unwrap(), 4, &[], "slow", "Be slow.");
    let waiting = bench.assign_asking();
    bench.plane.state(waiting, "waiting_input").await;
    for run in [busy, waiting] {
        bench.plane.state(run, "failed").await;
        until("the environment to be stopped", async || {
            (seen(&bench.plane.events(run), Observed::Stopped) == 1).then_some(())
        })
        .await;
        let events = bench.plane.events(run);
        assert_eq!(failed_of(&events), Some(FailureCause::Lifetime));
        assert!(!bench.fakes.runs(environment(&bench, run)), "nothing of it runs on");
    }
    assert_eq!(bench.effects(busy), "once\n", "it was in the middle of it");
    bench.shipped().await;
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lifetime_goes_on_while_no_runner_is_there() {
    let mut bench = Bench::new().await;
    bench.classes = class(|class| class.lifetime_seconds = Some(4));
    let first = start_apart(&bench);
    until("the runner to enrol", async || bench.plane.lock().runner.as_ref().map(|_| ())).await;
    let run = bench.assign_asking();
    bench.plane.state(run, "waiting_input").await;
    first.shutdown_background();
    let over = SystemWorld.now().plus_seconds(4);
    until("its lifetime to be over", async || (SystemWorld.now() > over).then_some(())).await;
    // The class is another by now; what was promised when the environment was taken holds.
    bench.classes = class(|class| class.lifetime_seconds = None);
    let second = start_apart(&bench);
    bench.plane.state(run, "failed").await;
    assert_eq!(failed_of(&bench.plane.events(run)), Some(FailureCause::Lifetime));
    bench.plane.assert_contiguous(run);
    second.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_rests_while_a_person_thinks_and_is_there_again_when_they_have() {
    let mut bench = Bench::new().await;
    bench.classes = class(|class| class.idle_seconds = Some(1));
    let first = start_apart(&bench);
    until("the runner to enrol", async || bench.plane.lock().runner.as_ref().map(|_| ())).await;
    let run = bench.assign_asking();
    until("it to rest", async || (seen(&bench.plane.events(run), Observed::Stopped) == 1).then_some(())).await;
    let id = environment(&bench, run);
    assert!(!bench.fakes.runs(id));
    // A runner that starts anew leaves it at rest.
    first.shutdown_background();
    let second = start_apart(&bench);
    let before = bench.plane.lock().polls;
    until("the runner to be back", async || (bench.plane.lock().polls > before + 1).then_some(())).await;
    assert!(!bench.fakes.runs(id));
    assert_eq!(bench.fakes.restarts.load(Ordering::SeqCst), 0);
    reply(&bench, run).await;
    bench.plane.state(run, "succeeded").await;
    assert_eq!(bench.effects(run), "once\n");
    assert_eq!(bench.fakes.restarts.load(Ordering::SeqCst), 1);
    let woken = |event: &RunEvent| matches!(&event.event, EventKind::Notice { code } if code == "environment_woken");
    assert!(bench.plane.events(run).iter().any(woken));
    bench.shipped().await;
    bench.plane.assert_contiguous(run);
    bench.assert_accounted();
    second.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_that_rests_is_asked_for_its_work_before_it_goes() {
    let mut bench = Bench::new().await;
    bench.classes = class(|class| (class.idle_seconds, class.lifetime_seconds) = (Some(1), Some(15)));
    let runner = bench.start().await;
    let run = bench.assign_asking();
    until("it to rest", async || (seen(&bench.plane.events(run), Observed::Stopped) == 1).then_some(())).await;
    bench.plane.state(run, "failed").await;
    assert_eq!(failed_of(&bench.plane.events(run)), Some(FailureCause::Lifetime));
    let kept = bench.dir.path().join("runner/runs").join(run.to_string()).join("work.bundle");
    assert!(kept.exists(), "what was done in it is kept for whoever has it tried again");
    until("it to be stopped", async || (!bench.fakes.runs(environment(&bench, run))).then_some(())).await;
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_and_started_is_told_once_however_often_the_runner_is_cut_off() {
    let mut bench = Bench::new().await;
    bench.classes = class(|class| {
        class.price_per_hour = Nanos(36_000_000);
        class.price_per_core_hour = Nanos(3_600_000_000);
    });
    for cut_ms in [100, 250, 600, 2_300] {
        let mut runner = start_apart(&bench);
        until("the runner to enrol", async || bench.plane.lock().runner.as_ref().map(|_| ())).await;
        let run = bench.assign_asking();
        let id = environment(&bench, run);
        let program = |number: u64| {
            let path = if number == 3 { "/tmp/zanzibar-program" } else { "/bin/sh" };
            Execution { number, age_ms: 5, call: None, pid: 7, path: path.to_owned(), arguments: vec![] }
        };
        bench.fakes.executions.lock().unwrap().insert(id, (1..=7).map(program).collect());
        let counted = |cpu_us| Measured { since: "boot".to_owned(), cpu_us, disk_bytes: 9, ..Measured::default() };
        bench.fakes.measured.lock().unwrap().insert(id, counted(1_000_000));
        bench.plane.state(run, "waiting_input").await;
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(cut_ms)).await;
            runner.shutdown_background();
            runner = start_apart(&bench);
        }
        bench.fakes.measured.lock().unwrap().insert(id, counted(5_000_000));
        bench.fakes.executions.lock().unwrap().get_mut(&id).unwrap().push(program(8));
        reply(&bench, run).await;
        bench.plane.state(run, "succeeded").await;
        let events = bench.plane.events(run);
        let (usage, cost) = used(&events).unwrap();
        assert_eq!((usage.cpu_ms, usage.disk_peak_bytes), (5_000, 9));
        assert!(usage.running_ms >= cut_ms && usage.running_ms < 60_000, "{usage:?}");
        assert_eq!(cost, Nanos(5_000_000 + i64::try_from(usage.running_ms * 10).unwrap()), "{usage:?}");
        let (mut starts, mut batches, mut contents) = (0, Vec::new(), Vec::new());
        for event in &events {
            if let EventKind::Executions { starts: more, batch, content, lost: 0, left_out: 0, .. } = &event.event {
                starts += more;
                batches.push(*batch);
                contents.push(*content);
            }
        }
        assert_eq!(starts, 8, "cut off after {cut_ms} ms: {batches:?}");
        assert_eq!(batches, (1..=batches.len() as u64).collect::<Vec<_>>());
        let there = |wanted| {
            let is = |e: &Entry| matches!(e, Entry::Content { content, .. } if *content == wanted);
            bench.plane.lock().entries.iter().any(is)
        };
        assert!(contents.into_iter().all(there), "what they were is in the spool, sealed");
        let received = bench.plane.lock().received.clone();
        assert!(!received.windows(8).any(|w| w == b"zanzibar"), "and nowhere in plain text");
        bench.plane.assert_contiguous(run);
        bench.shipped().await;
        runner.shutdown_background();
    }
    bench.assert_accounted();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_class_ends_the_run_with_the_names_and_a_shut_one_has_no_doors() {
    let mut bench = Bench::new().await;
    bench.classes = class(|class| class.network = Network::None);
    let runner = bench.start().await;
    bench.plane.lock().class = Some("huge".to_owned());
    let run = bench.assign(4);
    bench.plane.state(run, "failed").await;
    let events = bench.plane.events(run);
    assert_eq!(failed_of(&events), Some(FailureCause::Environment));
    assert_eq!(seen(&events, Observed::Creating), 0, "nothing was made");
    bench.plane.lock().class = None;
    let run = bench.assign(4);
    bench.plane.state(run, "succeeded").await;
    assert_eq!(bench.fakes.doors.load(Ordering::SeqCst), 0, "nobody holds the doors of what goes nowhere");
    let named = bench
        .plane
        .events(run)
        .iter()
        .any(|e| matches!(&e.event, EventKind::Environment { class: Some(class), .. } if class == "tried"));
    assert!(named);
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_gathered_of_an_erased_run_goes_with_its_key() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let run = bench.assign_asking();
    let program = Execution {
        number: 1,
        age_ms: 0,
        call: None,
        pid: 2,
        path: "/tmp/zanzibar-program".to_owned(),
        arguments: vec![],
    };
    bench.fakes.executions.lock().unwrap().insert(environment(&bench, run), vec![program]);
    let folder = bench.dir.path().join("runner/runs").join(run.to_string());
    until("it to be fetched", async || folder.join("executions").exists().then_some(())).await;
    let plain = std::fs::read(folder.join("executions")).unwrap();
    assert!(!plain.windows(8).any(|w| w == b"zanzibar"), "it rests sealed");
    bench.plane.order(run, Order::Erase);
    until("the run to be erased", async || bench.plane.lock().assignments[0].order.is_none().then_some(())).await;
    assert!(!folder.join("executions").exists() && !folder.join("journal").exists());
    assert!(used(&bench.plane.events(run)).is_some(), "what it used is no content");
    bench.plane.assert_contiguous(run);
    runner.stop(Duration::from_secs(10)).await;
}
