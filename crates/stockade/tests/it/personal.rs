//! A person's own tool: a token, a call through the gateway, what is seen of it afterwards, and the token's end.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use stockade_api::client::GatewayClient;
use stockade_testkit::{
    Form, Installation, Options, Provider,
    provider::{INPUT_TOKENS, OUTPUT_TOKENS, says},
};

use super::{
    provider::{KEY, MODEL, configuration, key_file},
    spine::sample_in,
};

/// What one answer costs at 3 and 15 dollars for a million tokens, in nano-dollars.
const CALL: i64 = INPUT_TOKENS * 3_000 + OUTPUT_TOKENS * 15_000;

fn ask(installation: &Installation, token: &str) -> (u16, Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gateway = GatewayClient::new(&format!("http://{}", installation.site_addr()), token.to_owned().into()).unwrap();
    let body = json!({"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "a word of mine"}]});
    let (status, bytes) = runtime.block_on(gateway.post("anthropic/v1/messages", &body)).unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[test]
fn a_persons_own_tool_is_served_seen_paid_and_shut_out() {
    let provider = Provider::start(KEY, vec![vec![says("a word of the model")]]).unwrap();
    let (_folder, line) = key_file(KEY);
    let options = Options { config: configuration(&provider, &line), ..Options::default() };
    let mut installation = Installation::start(Form::TwoProcesses, options).unwrap();
    let _repository = sample_in(&installation, "2");
    let file = installation.folder().join("gateway-token");
    let path = file.to_string_lossy().into_owned();
    let create =
        ["token", "create", "laptop", "--project", "word-count", "--budget", "1", "--models", MODEL, "--out", &path];
    let about = installation.json(&create).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&file).unwrap();
    assert!(token.starts_with("stk_gw_") && !about.to_string().contains(&token));

    // The site knows it within moments, and still does when it starts again without a server.
    let answer =
        installation.until("an answer", |i| Some(ask(i, &token)).filter(|(status, _)| *status == 200)).unwrap();
    assert_eq!(answer.1["content"][0]["text"], "a word of the model");
    installation.kill_server().unwrap();
    installation.kill_runner().unwrap();
    installation.start_runner().unwrap();
    assert_ne!(ask(&installation, &token).0, 401, "a restart forgot the token");
    installation.start_server().unwrap();

    // Who used which model, and what was said.
    let calls = installation
        .until("the call in the list", |i| {
            let listed = i.json(&["calls", "list", "--status", "ok"]).ok()?;
            listed["items"].as_array()?.last().filter(|call| call["cost"] == CALL).cloned()
        })
        .unwrap();
    assert_eq!((calls["model"].as_str(), calls["run"].as_str()), (Some(MODEL), about["run"].as_str()));
    let id = calls["id"].as_str().unwrap();
    let shown = installation.json(&["calls", "show", id, "--content"]).unwrap().to_string();
    assert!(shown.contains("a word of mine") && shown.contains("a word of the model"), "{shown}");
    let sums = installation.json(&["calls", "list", "--by", "model"]).unwrap();
    assert_eq!(sums["items"][0]["what"], MODEL);
    let run = about["run"].as_str().unwrap();
    assert!(!installation.json(&["runs", "list"]).unwrap().to_string().contains(run));
    assert!(installation.json(&["runs", "list", "--personal"]).unwrap().to_string().contains(run));

    // Revoked: known no more. Erased: what was said is gone, that it was said is not.
    installation.json(&["token", "revoke", "laptop"]).unwrap();
    installation.until("the token's end", |i| (ask(i, &token).0 == 401).then_some(())).unwrap();
    assert!(installation.json(&["calls", "show", id, "--content"]).unwrap().to_string().contains("a word of mine"));
    installation.json(&["runs", "erase", run, "--yes"]).unwrap();
    installation
        .until("the words to be gone", |i| {
            let (status, stdout, _) = i.stockade(&["calls", "show", id, "--content", "--json"]).ok()?;
            (status != 0 && !stdout.contains("a word of mine")).then_some(())
        })
        .unwrap();
    assert_eq!(installation.json(&["calls", "show", id]).unwrap()["cost"], CALL);
    let export = installation.folder().join("export.jsonl").to_string_lossy().into_owned();
    installation.json(&["audit", "export", "--output", &export]).unwrap();
    assert_eq!(installation.stockade(&["audit", "verify", &export]).unwrap().0, 0);
}

#[test]
fn a_tool_is_connected_proven_and_put_back_as_it_was() {
    let provider = Provider::start(KEY, vec![vec![says("hello")]]).unwrap();
    let (_folder, line) = key_file(KEY);
    let options = Options { config: configuration(&provider, &line), ..Options::default() };
    let installation = Installation::start(Form::OneProcess, options).unwrap();
    let _repository = sample_in(&installation, "2");
    let home = installation.folder().join("home");
    let settings = home.join(".claude/settings.json");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::write(&settings, "{\"theme\":\"dark\"}").unwrap();
    let stockade = |args: &[&str]| {
        let mut command = installation.command(args);
        command.env("HOME", &home).env_remove("XDG_CONFIG_HOME").stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (ok, _, said) = stockade(&["connect", "claude", "--write", "--project", "word-count", "--model", MODEL]);
    assert!(ok && said.contains("hello"), "{said}");
    let written: Value = serde_json::from_str(&fs::read_to_string(&settings).unwrap()).unwrap();
    assert_eq!((written["theme"].as_str(), written["model"].as_str()), (Some("dark"), Some(MODEL)));
    let base = format!("http://{}/gateway/anthropic", installation.site_addr());
    assert_eq!(written["env"]["ANTHROPIC_BASE_URL"], base);
    assert_eq!(
        written["env"]["ANTHROPIC_AUTH_TOKEN"], "",
        "Claude Code would show a key of the shell instead of the helper's"
    );

    // Again, with the same token; and a refusal is told in words.
    let (ok, _, said) = stockade(&["connect", "claude", "--model", "no-such-model"]);
    assert!(!ok && said.contains("HTTP 4") && said.contains("no-such-model"), "{said}");
    assert!(stockade(&["connect", "claude", "--undo"]).0);
    assert_eq!(fs::read_to_string(&settings).unwrap(), "{\"theme\":\"dark\"}");

    // A shell file is one that a shell reads; the token comes of a command, and the one of another place is emptied.
    let (ok, _, said) = stockade(&["connect", "copilot", "--write", "--project", "word-count", "--model", MODEL]);
    assert!(ok && said.contains("hello"), "{said}");
    let file = home.join(".config/stockade/connect/copilot.sh");
    let show = format!(
        ". '{}'; echo \"$COPILOT_PROVIDER_BASE_URL|$COPILOT_PROVIDER_BEARER_TOKEN|$COPILOT_PROVIDER_HEADERS\"; eval \"$COPILOT_PROVIDER_API_KEY_COMMAND\"",
        file.display()
    );
    let output =
        Command::new("sh").args(["-c", &show]).env("COPILOT_PROVIDER_BEARER_TOKEN", "another").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.starts_with(&format!("{base}||X-Stockade-Session: ")) && shown.contains("\nstk_gw_"), "{shown}");
    assert!(stockade(&["connect", "copilot", "--undo"]).0 && !file.exists());

    // Signed in as somebody whom an administrator let in, no data directory is needed.
    let person = installation.folder().join("in").to_string_lossy().into_owned();
    installation.json(&["person", "add", "ada", "--role", "developer", "--expires", "30d", "--out", &person]).unwrap();
    let (status, again, said) = installation.stockade(&["person", "add", "ada"]).unwrap();
    assert!(status == 0 && again.starts_with("stk_") && said.contains("--role"), "{said}");
    let plain = |args: &[&str], stdin: Stdio| {
        let mut command = installation.command(args);
        command
            .env("HOME", &home)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env_remove("STOCKADE_DATA");
        command.stdin(stdin).output().unwrap().status.success()
    };
    let server = format!("http://{}", installation.server_addr());
    let file = fs::File::open(installation.folder().join("in")).unwrap();
    assert!(plain(&["login", "--server", &server], file.into()));
    let kept = home.join(".config/stockade/token");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(plain(&["token", "list"], Stdio::null()));
    assert!(!plain(&["budget", "set", "organization", "5"], Stdio::null()), "ada is no administrator");
    assert!(plain(&["logout"], Stdio::null()) && !kept.exists());
    assert!(!plain(&["token", "list"], Stdio::null()));
}

#[test]
fn a_configuration_that_is_gone_or_wrong_changes_nothing() {
    let provider = Provider::start(KEY, vec![vec![says("hello")]]).unwrap();
    let (_folder, line) = key_file(KEY);
    let options = Options { config: configuration(&provider, &line), ..Options::default() };
    let installation = Installation::start(Form::OneProcess, options).unwrap();
    let _repository = sample_in(&installation, "2");
    let file = installation.folder().join("gateway-token").to_string_lossy().into_owned();
    installation.json(&["token", "create", "t", "--project", "word-count", "--out", &file]).unwrap();
    let token = fs::read_to_string(&file).unwrap();
    installation.until("an answer", |i| (ask(i, &token).0 == 200).then_some(())).unwrap();
    let configuration = installation.data().join("stockade.toml");
    let said = |what: &str| {
        installation.until(what, |i| i.log("server").contains(what).then_some(())).unwrap();
        assert_eq!(ask(&installation, &token).0, 200, "{what}");
    };
    fs::remove_file(&configuration).unwrap();
    said("is gone, so models and providers stay as they were");
    fs::write(&configuration, "[gateway.providers.anthropic]\nkind = \"sk-ant-SECRET\"\n").unwrap();
    said("stockade.toml: models and providers cannot be set up: line 2");
    assert!(!installation.log("server").contains("SECRET"), "{}", installation.logs());

    // A token that could not be kept is not made.
    let (status, _, stderr) =
        installation.stockade(&["token", "create", "u", "-p", "word-count", "-o", &file]).unwrap();
    assert!(status == 2 && stderr.contains("gateway-token"), "{stderr}");
    assert_eq!(installation.json(&["token", "list"]).unwrap()["items"].as_array().unwrap().len(), 1);
}
