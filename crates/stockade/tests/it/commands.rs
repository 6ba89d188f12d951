//! Every list and every show, by hand and as JSON.

use stockade_testkit::Form;

use super::spine::with_sample;

#[test]
fn lists_and_shows_speak_to_people_and_to_programs() {
    let (installation, _repository) = with_sample(Form::OneProcess, "4");
    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    assert_eq!(installation.ended(&run).unwrap()["state"], "succeeded");
    let environment =
        installation.json(&["environments", "list", "--all"]).unwrap()["items"][0]["id"].as_str().unwrap().to_owned();
    let record = installation.json(&["audit", "tail", "-n", "5"]).unwrap()[0]["id"].as_str().unwrap().to_owned();
    let cassette = stockade_testkit::root().join("samples/cassettes/fix-the-bug.toml").to_string_lossy().into_owned();
    for args in [
        vec!["project", "list"],
        vec!["project", "show", "word-count"],
        vec!["runs", "list"],
        vec!["runs", "list", "--state", "succeeded", "--project", "word-count"],
        vec!["runs", "show", &run, "--transcript", "--diff"],
        vec!["approvals", "list", "--all"],
        vec!["environments", "list", "--all"],
        vec!["environments", "show", &environment],
        vec!["environments", "executions", &environment],
        vec!["classes", "list", "--project", "word-count"],
        vec!["policy", "show"],
        vec!["policy", "test"],
        vec!["policy", "explain", "tool.call", "tool:run", "--with", "level=1", "--with", "command=make"],
        vec!["budget", "show"],
        vec!["audit", "tail"],
        vec!["audit", "search", "--run", &run],
        vec!["audit", "show", &record],
        vec!["runners", "list"],
        vec!["runs", "list", "--personal"],
        vec!["token", "list", "--all"],
        vec!["group", "list"],
        vec!["calls", "list"],
        vec!["calls", "list", "--by", "model", "--since", "1d"],
        vec!["calls", "list", "--by", "day"],
        vec!["calls", "list", "--by", "session", "--user", "me", "--since", "1d"],
        vec!["connections", "list"],
        vec!["connections", "list", "--run", &run, "--refused", "--since", "1d", "--ids"],
        vec!["rehearsal", "check", &cassette],
    ] {
        let (status, people, stderr) = installation.stockade(&args).unwrap();
        assert_eq!(status, 0, "{args:?}: {stderr}");
        assert!(!people.trim().is_empty() && !people.trim_start().starts_with('{'), "{args:?}: {people}");
        installation.json(&args).unwrap();
    }
    // It follows until the run has ended.
    let (status, followed, stderr) = installation.stockade(&["connections", "watch", "--run", &run]).unwrap();
    assert!(status == 0 && followed.starts_with("WHEN") && stderr.contains("succeeded"), "{followed}{stderr}");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (status, completions, _) = installation.stockade(&["completions", shell]).unwrap();
        let words = ["approvals", "connect", "login", "logout", "token", "calls", "connections", "provider", "group"];
        for word in words {
            assert!(status == 0 && completions.contains(word), "{shell}: {word}");
        }
    }
    let mut piped = installation.command(&["completions", "bash"]);
    let mut piped = piped.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(piped.stdout.take());
    let said = piped.wait_with_output().unwrap().stderr;
    assert!(said.is_empty(), "a reader that goes away: {}", String::from_utf8_lossy(&said));
    // What cannot be meant is refused, and not passed over.
    for args in [
        vec!["calls", "list", "--by", "session", "--model", "x"],
        vec!["calls", "list", "--by", "model", "--status", "ok"],
        vec!["calls", "list", "--status", "nonsense"],
        vec!["connections", "list", "--refused", "--open"],
        vec!["connections", "list", "--action", "nonsense"],
        vec!["connections", "show", "nonsense"],
        vec!["token", "create", "x", "--project", "word-count", "--budget", "-1"],
        vec!["token", "create", "x", "--project", "word-count", "--period", "fortnight"],
        vec!["token", "create", "x", "--project", "word-count", "--expires", "900d"],
        vec!["connect", "claude", "--gateway", "127.0.0.1:7081"],
        vec!["budget", "set", "key:laptop", "5"],
        vec!["budget", "set", "everybody", "5"],
        vec!["budget", "set", "organization", "-5"],
    ] {
        let (status, _, stderr) = installation.stockade(&args).unwrap();
        assert_eq!(status, 2, "{args:?}: {stderr}");
    }
    let explained = installation
        .json(&["policy", "explain", "tool.call", "tool:run", "--with", "level=1", "--with", "command=make"])
        .unwrap();
    assert_eq!(explained["answer"], "ask", "{explained}");
}

#[test]
fn a_person_looks_into_an_environment_and_it_is_recorded() {
    let (installation, _repository) = with_sample(Form::TwoProcesses, "2");
    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    installation.approval(&run).unwrap();
    let environment =
        installation.json(&["environments", "list"]).unwrap()["items"][0]["id"].as_str().unwrap().to_owned();
    let (status, stdout, stderr) =
        installation.stockade(&["environments", "exec", &environment, "--", "sh", "-c", "pwd; id -u; exit 0"]).unwrap();
    assert_eq!(status, 0, "{stdout}{stderr}");
    assert!(stdout.starts_with("/workspace\n"), "{stdout}");
    let (status, _, _) = installation.stockade(&["environments", "exec", &environment, "--", "false"]).unwrap();
    assert_eq!(status, 1);
    // They are the runner's, and come to the server when they have been shipped.
    let both = |i: &stockade_testkit::Installation| {
        let records = i.json(&["audit", "search", "--action", "environment.exec"]).ok()?;
        (records["items"].as_array()?.len() >= 2).then_some(())
    };
    installation.until("the records of both", both).unwrap();

    installation.json(&["environments", "delete", &environment, "--yes"]).unwrap();
    installation.until("the environment to go", |i| i.guests().is_empty().then_some(())).unwrap();
}

#[test]
fn a_new_bundle_is_decided_by_at_once() {
    let (installation, _repository) = with_sample(Form::TwoProcesses, "4");
    let bundle = installation.json(&["policy", "show"]).unwrap()["text"].as_str().unwrap().to_owned();
    let forbid = "\n[[policy]]\nid = \"no-commands\"\ntitle = \"No commands this week\"\ntext = '''\nforbid (principal, action == Action::\"tool.call\", resource) when { context has tool && context.tool == \"run\" };\n'''\n";
    let file = installation.folder().join("bundle.toml");
    // The examples of the shipped bundle say that commands are allowed: only a bundle without them can forbid them.
    let mut table: toml::Table = bundle.parse().unwrap();
    table.remove("example");
    let without = toml::to_string(&table).unwrap();
    std::fs::write(&file, format!("{without}{forbid}")).unwrap();
    installation.json(&["policy", "apply", &file.to_string_lossy()]).unwrap();
    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    installation.ended(&run).unwrap();
    let refused = installation.json(&["audit", "search", "--run", &run, "--limit", "500"]).unwrap();
    let found = refused["items"].as_array().unwrap().iter().any(|record| {
        record["record"]["body"]["phase"] == "refused"
            && record["record"]["body"]["decision"]["policies"][0]["id"] == "no-commands"
    });
    assert!(found, "{refused}");
}
