//! Bad input gets one clear error, and nothing is lost.

use std::{
    fs,
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use stockade_testkit::{Form, Installation, Options, Repository, installation::pause};

/// Runs `stockade` in an empty data directory; gives its exit status and what it said.
pub fn alone(data: &std::path::Path, args: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(stockade_testkit::stockade().unwrap());
    command.args(args).env("STOCKADE_DATA", data).env_remove("STOCKADE_URL").env_remove("STOCKADE_TOKEN_FILE");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(30) {
        pause(Duration::from_millis(20));
    }
    // What still runs has not refused: its status is that of a signal.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// One error with a hint: not a panic, not a backtrace, not a wall of text.
pub fn is_one_clear_error(stderr: &str, names: &str) {
    let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{stderr}");
    assert!(stderr.contains(names), "the error does not name `{names}`: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn without_an_installation_the_command_line_says_how_to_begin() {
    let data = tempfile::tempdir().unwrap();
    let (status, stderr) = alone(data.path(), &["runs", "list"]);
    assert_eq!(status, 3, "{stderr}");
    is_one_clear_error(&stderr, "stockade up");
}

#[test]
fn a_malformed_configuration_names_the_word() {
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("stockade.toml"), "[environment]\nmemory_mb = 7\n").unwrap();
    let (status, stderr) = alone(data.path(), &["up"]);
    assert_eq!(status, 3, "{stderr}");
    is_one_clear_error(&stderr, "memory_mb");
    assert!(!data.path().join("server").exists(), "nothing is started before the configuration is sound");
}

#[test]
fn a_busy_port_names_the_address() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let (status, stderr) = alone(data.path(), &["server", "--listen", &address]);
    assert_eq!(status, 3, "{stderr}");
    is_one_clear_error(&stderr, &address);
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let installation = Installation::start(Form::TwoProcesses, Options::default()).unwrap();
    let (status, stderr) = alone(&installation.data(), &["server", "--listen", "127.0.0.1:0"]);
    assert_eq!(status, 3, "{stderr}");
    is_one_clear_error(&stderr, "");
    installation.json(&["project", "list"]).unwrap();
}

#[test]
fn a_malformed_cassette_and_a_malformed_policy_are_explained() {
    let data = tempfile::tempdir().unwrap();
    let bad = data.path().join("bad.toml");
    fs::write(&bad, "name = \"x\"\n[[turn\n").unwrap();
    let (status, stderr) = alone(data.path(), &["rehearsal", "check", &bad.to_string_lossy()]);
    assert_eq!(status, 2, "{stderr}");
    is_one_clear_error(&stderr, "bad.toml");

    fs::write(
        &bad,
        "[[policy]]\nid = \"a\"\ntitle = \"A\"\ntext = \"permit(principal, action, resource) when { nonsense };\"\n",
    )
    .unwrap();
    let mut command = std::process::Command::new(stockade_testkit::stockade().unwrap());
    let output = command.args(["policy", "check"]).arg(&bad).env("STOCKADE_DATA", data.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("does NOT load"));
}

#[test]
fn wrong_names_and_numbers_are_named() {
    let installation = Installation::start(Form::OneProcess, Options::default()).unwrap();
    let repository = Repository::of_sample("word-count", &installation.folder().join("r")).unwrap();
    let path = repository.path().to_string_lossy().into_owned();
    installation.json(&["project", "add", "p", "--repository", &path]).unwrap();
    for (args, status, names) in [
        (vec!["runs", "show", "run_nonsense"], 2, "run_nonsense"),
        (vec!["runs", "show", "run_01arz3ndektsv4rrffq69g5fav"], 2, "run"),
        (vec!["project", "show", "nothere"], 2, "nothere"),
        (vec!["project", "add", "p", "--repository", &path], 2, "p"),
        (vec!["run", "--project", "nothere", "x"], 2, "nothere"),
        (vec!["run", "--project", "p", "--budget", "lots", "x"], 2, "lots"),
        (vec!["run", "--project", "p", ""], 2, "empty"),
        (vec!["budget", "set", "galaxy", "5"], 2, "galaxy"),
        (vec!["audit", "verify", "/nonexistent/export"], 2, "/nonexistent/export"),
    ] {
        let (found, _, stderr) = installation.stockade(&args).unwrap();
        assert_eq!(found, status, "{args:?}: {stderr}");
        is_one_clear_error(&stderr, names);
    }
}

#[test]
fn a_repository_that_is_none_fails_the_run_and_says_so() {
    let installation = Installation::start(Form::OneProcess, Options::default()).unwrap();
    installation.json(&["project", "add", "gone", "--repository", "/nonexistent/repository"]).unwrap();
    let run = installation.run("gone", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!((ended["state"].as_str(), ended["cause"].as_str()), (Some("failed"), Some("repository")), "{ended}");
}

#[test]
fn a_cassette_that_does_not_fit_reality_fails_loudly() {
    let installation = Installation::start(Form::OneProcess, Options::default()).unwrap();
    let folder = installation.folder().join("empty");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("README"), "Nothing that the cassette expects.\n").unwrap();
    Repository::init(&folder).unwrap();
    let path = folder.to_string_lossy().into_owned();
    installation.json(&["project", "add", "empty", "--repository", &path, "--level", "4"]).unwrap();
    let run = installation.run("empty", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!((ended["state"].as_str(), ended["cause"].as_str()), (Some("failed"), Some("rehearsal")), "{ended}");
}

#[test]
fn a_token_that_others_can_read_is_not_made() {
    use std::os::unix::fs::PermissionsExt as _;
    let installation = Installation::start(Form::OneProcess, Options::default()).unwrap();
    for name in ["server/admin-token", "runner/site.key"] {
        let path = installation.data().join(name);
        let mode =
            fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is open to others");
    }
}
