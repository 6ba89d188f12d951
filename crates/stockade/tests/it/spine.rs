//! A task becomes a change, governed and recorded: in one process and in two, by the same tests.

use serde_json::Value;
use stockade_testkit::{Form, Installation, Options, Repository};

const FORMS: [Form; 2] = [Form::OneProcess, Form::TwoProcesses];

/// An installation with the sample as project `word-count`.
pub fn with_sample(form: Form, level: &str) -> (Installation, Repository) {
    let installation = Installation::start(form, Options::default()).unwrap();
    let repository = sample_in(&installation, level);
    (installation, repository)
}

/// The sample as project `word-count` of an installation.
pub fn sample_in(installation: &Installation, level: &str) -> Repository {
    let repository = Repository::of_sample("word-count", &installation.folder().join("word-count")).unwrap();
    add_sample(installation, &repository, level);
    repository
}

/// The same with project `slow`, which has no gates: the cassette `slow` repairs nothing.
fn with_slow_project() -> (Installation, Repository) {
    let (installation, repository) = with_sample(Form::TwoProcesses, "4");
    add_slow(&installation, &repository);
    (installation, repository)
}

/// The sample once more as project `slow`, without gates.
pub fn add_slow(installation: &Installation, repository: &Repository) {
    let path = repository.path().to_string_lossy().into_owned();
    installation.json(&["project", "add", "slow", "--repository", &path, "--level", "4"]).unwrap();
}

pub fn add_sample(installation: &Installation, repository: &Repository, level: &str) {
    let path = repository.path().to_string_lossy().into_owned();
    let gate = ["--gate", "sh run-tests.sh"];
    let mut args = vec!["project", "add", "word-count", "--repository", &path, "--level", level];
    args.extend(gate);
    installation.json(&args).unwrap();
}

pub fn export_and_verify(installation: &Installation) -> String {
    let export = installation.folder().join("export.jsonl");
    let path = export.to_string_lossy().into_owned();
    installation.json(&["audit", "export", "--output", &path]).unwrap();
    let (status, stdout, stderr) = installation.stockade(&["audit", "verify", &path]).unwrap();
    assert_eq!(status, 0, "{stdout}{stderr}");
    path
}

pub fn records_of(installation: &Installation, run: &str) -> Vec<Value> {
    let page = installation.json(&["audit", "search", "--run", run, "--limit", "500"]).unwrap();
    page["items"].as_array().unwrap().clone()
}

#[test]
fn a_task_becomes_a_change() {
    for form in FORMS {
        task_becomes_change(&mut Installation::start(form, Options::default()).unwrap(), form);
    }
}

/// The spine, from the task to the change, in a fresh installation, which is stopped in the end.
pub fn task_becomes_change(installation: &mut Installation, form: Form) {
    let repository = sample_in(installation, "2");
    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();

    let approval = installation.approval(&run).unwrap();
    assert_eq!(approval["action"], "change.open", "{form:?}");
    assert_eq!(repository.tree(&format!("stockade/{run}")), None, "nothing is pushed before the yes");
    installation.json(&["approvals", "grant", approval["id"].as_str().unwrap()]).unwrap();

    let ended = installation.ended(&run).unwrap();
    assert_eq!(ended["state"], "succeeded", "{form:?}: {ended}\n{}", installation.logs());
    assert!(ended["cost"].as_i64().unwrap() > 0);
    let branch = format!("stockade/{run}");
    assert_eq!(ended["change"]["branch"], branch.as_str());
    let message = repository.git(&["log", "-1", "--format=%B", &branch]).unwrap();
    assert!(message.contains(&format!("Stockade-Run: {run}")), "{message}");
    assert!(message.contains("Stockade-Checkpoint: ") && message.contains("Co-authored-by: "), "{message}");
    assert_ne!(repository.tree(&branch), repository.tree("main"));
    let parent = repository.git(&["rev-parse", &format!("{branch}^")]).unwrap();
    assert_eq!(parent, repository.git(&["rev-parse", "main"]).unwrap(), "one commit on the base");

    // Every deed has its record, and what was opened was closed.
    let records = records_of(installation, &run);
    let phase = |phase: &str| records.iter().filter(|record| record["record"]["body"]["phase"] == phase).count();
    let action = |action: &str| {
        records
            .iter()
            .filter(|record| {
                record["record"]["body"]["phase"] == "open" && record["record"]["body"]["deed"]["action"] == action
            })
            .count()
    };
    assert!(action("model.call") >= 3 && action("tool.call") >= 3 && action("change.open") == 1, "{records:#?}");
    assert_eq!(phase("asked"), 1);
    assert_eq!(phase("open"), phase("close"), "{records:#?}");
    installation.stop().unwrap();
    nothing_is_left(installation);
}

fn nothing_is_left(installation: &Installation) {
    assert!(installation.guests().is_empty(), "an environment outlived its run");
}

#[test]
fn the_record_verifies_offline_and_no_change_to_it_goes_unnoticed() {
    let (installation, _repository) = with_sample(Form::OneProcess, "4");
    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    assert_eq!(installation.ended(&run).unwrap()["state"], "succeeded");
    let path = export_and_verify(&installation);

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let is_record = |line: &&str| line.contains("\"type\":\"record\"");
    let records: Vec<usize> = (0..lines.len()).filter(|n| lines.get(*n).is_some_and(is_record)).collect();
    let (first, second, last) = (records[3], records[4], *records.last().unwrap());
    let without = |gone: usize| {
        let left: Vec<&str> = lines.iter().enumerate().filter(|(n, _)| *n != gone).map(|(_, line)| *line).collect();
        left.join("\n")
    };
    let mut swapped = lines.clone();
    swapped.swap(first, second);
    let mut twice = lines.clone();
    twice.insert(first, lines[first]);
    let changed = text.replacen("tool.call", "tool.cull", 1);
    for (what, forged) in [
        ("removed", without(first)),
        ("truncated", without(last)),
        ("reordered", swapped.join("\n")),
        ("inserted", twice.join("\n")),
        ("changed", changed),
    ] {
        let forgery = installation.folder().join("forged.jsonl");
        std::fs::write(&forgery, forged + "\n").unwrap();
        let (status, stdout, stderr) = installation.stockade(&["audit", "verify", &forgery.to_string_lossy()]).unwrap();
        assert_eq!(status, 1, "a {what} record went unnoticed: {stdout}{stderr}");
        assert!(stdout.contains("NOT verified"), "{stdout}{stderr}");
    }

    // One record, proven by itself.
    let record = records_of(&installation, &run)[0]["id"].as_str().unwrap().to_owned();
    let proof = installation.json(&["audit", "show", &record, "--proof"]).unwrap();
    assert!(proof["verified"].is_string() || proof["verified"] == true, "{proof}");
}

#[test]
fn a_no_ends_without_a_change() {
    let (installation, repository) = with_sample(Form::OneProcess, "2");
    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    let approval = installation.approval(&run).unwrap();
    installation.json(&["approvals", "deny", approval["id"].as_str().unwrap()]).unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!(ended["state"], "failed", "{ended}");
    assert_eq!(ended["cause"], "policy", "{ended}");
    assert_eq!(repository.tree(&format!("stockade/{run}")), None);
    // Saying yes afterwards changes nothing.
    let (status, _, stderr) = installation.stockade(&["approvals", "grant", approval["id"].as_str().unwrap()]).unwrap();
    assert_eq!(status, 2, "{stderr}");
}

#[test]
fn silence_is_a_no() {
    let (installation, repository) = with_sample(Form::OneProcess, "2");
    let more = ["--approval-timeout", "2s"];
    let run =
        installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &more).unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!((ended["state"].as_str(), ended["cause"].as_str()), (Some("failed"), Some("policy")), "{ended}");
    assert_eq!(repository.tree(&format!("stockade/{run}")), None);
}

#[test]
fn at_level_1_a_person_is_asked_for_every_command_and_change() {
    let (installation, repository) = with_sample(Form::TwoProcesses, "1");
    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    assert_eq!(installation.approval(&run).unwrap()["action"], "tool.call");
    let ended = installation.grant_all(&run).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert!(repository.tree(&format!("stockade/{run}")).is_some());
    let answered = installation.json(&["approvals", "list", "--all"]).unwrap();
    assert!(answered["items"].as_array().unwrap().len() > 2, "{answered}");
}

#[test]
fn a_run_may_lower_its_project_s_level_and_not_raise_it() {
    let (installation, _repository) = with_sample(Form::OneProcess, "2");
    let args = ["run", "--detach", "--project", "word-count", "--model", "rehearsal/fix-the-bug", "--level", "4", "x"];
    let (status, _, stderr) = installation.stockade(&args).unwrap();
    assert!(status == 2 || status == 4, "{status}: {stderr}");
    assert!(stderr.contains("level"), "{stderr}");
}

#[test]
fn a_run_goes_on_while_the_server_is_away() {
    let (mut installation, repository) = with_slow_project();
    let run = installation.run("slow", "rehearsal/slow", "The tests fail: make them green.", &[]).unwrap();
    // Its first model call is over, so the budget's slice is leased: the rest needs no server.
    let paid = |i: &Installation| (i.json(&["runs", "show", &run]).ok()?["cost"].as_i64()? > 0).then_some(());
    installation.until("the first answer", paid).unwrap();
    installation.kill_server().unwrap();
    installation.until("the change", |_| repository.tree(&format!("stockade/{run}"))).unwrap();
    installation.start_server().unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert!(installation.logs().contains("away"), "the runner says that the server was away");
    export_and_verify(&installation);
}

#[test]
fn a_cancelled_run_stops_and_its_environment_goes() {
    let (installation, repository) = with_slow_project();
    let run = installation.run("slow", "rehearsal/slow", "The tests fail: make them green.", &[]).unwrap();
    installation.until("a guest", |i| (!i.guests().is_empty()).then_some(())).unwrap();
    installation.json(&["runs", "cancel", &run]).unwrap();
    assert_eq!(installation.ended(&run).unwrap()["state"], "cancelled");
    installation.until("the environment to go", |i| i.guests().is_empty().then_some(())).unwrap();
    assert_eq!(repository.tree(&format!("stockade/{run}")), None);
}

#[test]
fn a_failed_run_is_tried_again_from_where_it_stopped() {
    let (installation, repository) = with_sample(Form::OneProcess, "4");
    // A repository that cannot be written stops the run at the very end.
    let refs = repository.path().join(".git/refs/heads");
    std::fs::create_dir_all(&refs).unwrap();
    std::fs::write(refs.join("stockade"), repository.git(&["rev-parse", "main"]).unwrap() + "\n").unwrap();
    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!((ended["state"].as_str(), ended["cause"].as_str()), (Some("failed"), Some("repository")), "{ended}");
    let spent = ended["cost"].as_i64().unwrap();

    std::fs::remove_file(refs.join("stockade")).unwrap();
    installation.json(&["runs", "resume", &run]).unwrap();
    let ended = installation.until("success", |i| {
        let shown = i.json(&["runs", "show", &run]).ok()?;
        (shown["state"] == "succeeded").then_some(shown)
    });
    assert_eq!(ended.unwrap()["cost"].as_i64().unwrap(), spent, "nothing was asked of the model again");
}
