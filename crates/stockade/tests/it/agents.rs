//! Other agents' programs inside: a script that shows what such a program can reach, and the real ones, as people install them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use stockade_testkit::{
    Form, Installation, Options, Repository,
    fakes::{Fake, Kind, Script, Turn, run, text},
};

use super::{
    asked::add_to_policy,
    spine::{records_of, sample_in},
};

const KEY: &str = "AKIATESTKITPROVIDER1";
const TASK: &str = "The tests fail: make them green.";
const MEND: &str = r#"sed -i "s/split \/ \/,/split ' ',/" bin/word-count"#;
/// Longer than any of them takes to give up on what does not answer, and much shorter than it would hang.
const FINISHES: Duration = Duration::from_secs(240);

/// A model that mends the sample in three turns.
fn mends() -> Script {
    Script::new(vec![
        Turn::of(vec![text("I look first."), run("sh run-tests.sh; ls bin")]),
        Turn::of(vec![text("The words are split at single blanks."), run(MEND)]),
        Turn::of(vec![text("Words are split at white space now.")]),
    ])
}

struct Scene {
    installation: Installation,
    repository: Repository,
    fake: Fake,
    _outside: tempfile::TempDir,
}

/// An installation before a fake of this provider, with these programs where environments see them.
fn scene(kind: Kind, word: &str, programs: impl FnOnce(&Path) -> Vec<PathBuf>, more: &str, level: &str) -> Scene {
    let outside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let agents = outside.path().join("agents");
    fs::create_dir_all(agents.join("bin")).unwrap();
    let mut shown = programs(&agents.join("bin"));
    shown.push(agents);
    let fake = Fake::start(kind, KEY, mends()).unwrap();
    let key = outside.path().join("key");
    fs::write(&key, format!("{KEY}\n")).unwrap();
    let path = if kind == Kind::OpenAi { "/v1" } else { "" };
    let url = fake.url();
    let config = format!(
        "[environment]\nextra_read_only = {shown:?}\n[gateway.providers.{word}]\nbase_url = \"{url}{path}\"\nkey_file = {key:?}\n{more}"
    );
    let installation = Installation::start(Form::OneProcess, Options { config, ..Options::default() }).unwrap();
    let repository = sample_in(&installation, level);
    Scene { installation, repository, fake, _outside: outside }
}

/// What people have installed for the agent matrix; nothing if they have not.
fn installed(name: &str, program: &str) -> Option<(PathBuf, PathBuf)> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = named("STOCKADE_MATRIX_CACHE")
        .or_else(|| Some(named("XDG_CACHE_HOME")?.join("stockade-matrix")))
        .or_else(|| Some(named("HOME")?.join(".cache/stockade-matrix")))?;
    let folders = fs::read_dir(cache.join("npm")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut folders: Vec<PathBuf> = folders
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{name}-"))))
        .filter(|path| path.join("installed").is_file())
        .collect();
    folders.sort();
    let folder = folders.pop()?;
    Some((folder.join("node_modules/.bin").join(program), folder))
}

fn real(name: &str, program: &str, bin: &Path) -> Option<Vec<PathBuf>> {
    let mut shown = Vec::new();
    for (name, program) in [(name, program), ("node", "node")] {
        let (file, folder) = installed(name, program)?;
        symlink(file, bin.join(program)).unwrap();
        shown.push(folder);
    }
    Some(shown)
}

fn skipped(what: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "CI must have {what}: `cargo xtask matrix` installs it");
    println!("SKIPPED LOUDLY: {what} is not installed (`cargo xtask matrix` installs it)");
    true
}

impl Scene {
    fn started(&self, agent: &str, model: &str) -> String {
        self.installation.run("word-count", model, TASK, &["--agent", agent]).unwrap()
    }

    /// The run's end, which must be a good one.
    fn succeeded(&self, run: &str) -> Value {
        let shown = self.installation.ended(run).unwrap();
        let transcript = self.installation.stockade(&["runs", "show", run, "--transcript"]).unwrap();
        assert_eq!(
            shown["state"],
            "succeeded",
            "{shown}\n{}{}\n{}",
            transcript.1,
            transcript.2,
            self.installation.logs()
        );
        shown
    }

    fn events(&self, run: &str) -> Vec<Value> {
        let (_, out, _) = self.installation.stockade(&["runs", "watch", run, "--json"]).unwrap();
        out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn mended(&self, run: &str) -> bool {
        let file = self.repository.git(&["show", &format!("stockade/{run}:bin/word-count")]).unwrap();
        file.contains("split ' '")
    }
}

/// It calls the model as any client does, tries what it should not, and mends the sample.
const SCRIPT: &str = r#"#!/bin/sh
prompt=$(cat)
base=${ANTHROPIC_BASE_URL%/anthropic}
call() { curl -s -m 20 -o "$1" -w "$1 %{http_code}\n" "$2" -H "x-api-key: $3" -H 'content-type: application/json' -H 'anthropic-version: 2023-06-01' \
  -d '{"model":"claude-sonnet-4-6","max_tokens":500,"messages":[{"role":"user","content":"Make the tests green."}],"tools":[{"name":"bash","input_schema":{"type":"object","properties":{"command":{"type":"string"}}}}]}' >> told; }
call answer "$base/anthropic/v1/messages" "$ANTHROPIC_AUTH_TOKEN"
call stranger "$base/anthropic/v1/messages" "stk_gw_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
call elsewhere "http://gateway.stockade.internal/v1/projects" "$ANTHROPIC_AUTH_TOKEN"
curl -s -m 20 -o /dev/null https://telemetry.example/ping; echo "telemetry $?" >> told
grep -q 'run-tests.sh' answer && sed -i "s/split \/ \/,/split ' ',/" bin/word-count
rm -f answer stranger
printf '%s\n' '{"type":"result","is_error":false,"result":"Words are split at white space"}'
"#;

#[test]
fn a_program_inside_reaches_the_gateway_with_its_own_token_and_nothing_else() {
    let program = |bin: &Path| {
        fs::write(bin.join("claude"), SCRIPT).unwrap();
        fs::set_permissions(bin.join("claude"), fs::Permissions::from_mode(0o755)).unwrap();
        vec![]
    };
    let scene = scene(Kind::Anthropic, "anthropic", program, "", "4");
    let run = scene.started("claude-code", "claude-sonnet-4-6");
    let shown = scene.succeeded(&run);
    assert_eq!(shown["harness"], "claude-code");
    assert!(scene.mended(&run));
    let show = |file: &str| scene.repository.git(&["show", &format!("stockade/{run}:{file}")]).unwrap();
    let told = show("told");
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told[..3], ["answer 200", "stranger 401", "elsewhere 404"], "{told:?}");
    assert!(told[3].starts_with("telemetry ") && told[3] != "telemetry 0", "{told:?}");
    let nothing: Value = serde_json::from_str(&show("elsewhere")).unwrap();
    assert_eq!(nothing["error"]["type"], "not_found_error");

    // The call is the run's: in its timeline, among its calls, on its bill, and in the record as its agent's.
    let events = scene.events(&run);
    let calls: Vec<&Value> = events.iter().filter(|event| event["event"] == "model_call").collect();
    assert_eq!(calls.len(), 1, "{events:?}");
    assert_eq!(shown["turn"], 1);
    assert!(shown["cost"].as_i64().unwrap() > 0 && shown["cost"] == calls[0]["cost"], "{shown}");
    let records = records_of(&scene.installation, &run);
    let of = |action: &str| records.iter().filter(|r| r["record"]["body"]["deed"]["action"] == action).count();
    assert_eq!((of("model.call"), of("change.open")), (1, 1));
    let starts: Vec<&Value> = records.iter().filter(|r| r["record"]["body"]["deed"]["action"] == "tool.call").collect();
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0]["record"]["body"]["deed"]["context"]["harness"], "claude-code");

    // The token is nowhere on this machine but in the environment, which is gone.
    assert!(!holds(&scene.installation.data(), b"stk_gw_"), "a token rests in plain text");
    assert_eq!(scene.fake.refusals(), Vec::<String>::new());
}

/// Whether a file of the installation holds a word. The disks of environments are gone with them; their empty template is no file to read.
fn holds(folder: &Path, word: &[u8]) -> bool {
    let read = |file: &PathBuf| fs::metadata(file).is_ok_and(|meta| meta.len() < 64 << 20).then(|| fs::read(file).ok());
    let mut files = stockade_testkit::installation::files(folder).into_iter().filter_map(|file| read(&file)?);
    files.any(|bytes| bytes.windows(word.len()).any(|window| window == word))
}

#[test]
fn a_program_that_is_cancelled_is_told_to_end_and_its_calls_end_with_it() {
    let script = "#!/bin/sh\ncat >/dev/null\ntrap 'exit 0' TERM\nwhile :; do sleep 0.1; done\n";
    let program = |bin: &Path| {
        fs::write(bin.join("claude"), script).unwrap();
        fs::set_permissions(bin.join("claude"), fs::Permissions::from_mode(0o755)).unwrap();
        vec![]
    };
    let scene = scene(Kind::Anthropic, "anthropic", program, "", "4");
    let run = scene.started("claude-code", "claude-sonnet-4-6");
    let open = |i: &Installation| {
        let records = records_of(i, &run);
        records.iter().any(|r| r["record"]["body"]["deed"]["action"] == "tool.call").then_some(())
    };
    scene.installation.until("the program to be started", open).unwrap();
    let begun = Instant::now();
    scene.installation.json(&["runs", "cancel", &run]).unwrap();
    assert_eq!(scene.installation.ended(&run).unwrap()["state"], "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let closed = |i: &Installation| {
        let records = records_of(i, &run);
        records.iter().any(|r| r["record"]["body"]["outcome"]["status"] == "cancelled").then_some(())
    };
    scene.installation.until("the record to be closed", closed).unwrap();
}

/// It calls until it was answered, was not, and is answered again: that is, until its runner died and came back.
const PATIENT: &str = r#"#!/bin/sh
cat > /dev/null
echo once >> started
for want in 200 gone 200; do
  while :; do
    code=$(curl -s -m 10 -o /dev/null -w '%{http_code}' "$ANTHROPIC_BASE_URL/v1/messages" -H "x-api-key: $ANTHROPIC_AUTH_TOKEN" \
      -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' -d '{"model":"claude-sonnet-4-6","max_tokens":5,"messages":[{"role":"user","content":"Hello."}]}')
    echo "$code" >> codes
    [ "$code" = 200 ] && seen=200 || seen=gone
    [ $seen = $want ] && break
    sleep 0.2
  done
done
sed -i "s/split \/ \/,/split ' ',/" bin/word-count
printf '%s\n' '{"type":"result","is_error":false,"result":"Words are split at white space"}'
"#;

#[test]
fn a_program_inside_outlives_its_runner_and_is_found_at_work() {
    let program = |bin: &Path| {
        fs::write(bin.join("claude"), PATIENT).unwrap();
        fs::set_permissions(bin.join("claude"), fs::Permissions::from_mode(0o755)).unwrap();
        vec![]
    };
    let mut scene = scene(Kind::Anthropic, "anthropic", program, "", "4");
    let run = scene.started("claude-code", "claude-sonnet-4-6");
    let called = |i: &Installation| (i.json(&["runs", "show", &run]).ok()?["turn"].as_u64()? > 0).then_some(());
    scene.installation.until("its first call", called).unwrap();
    scene.installation.kill_runner().unwrap();
    scene.installation.start_server().unwrap();
    let shown = scene.succeeded(&run);
    assert!(scene.mended(&run), "{shown}");
    let show = |file: &str| scene.repository.git(&["show", &format!("stockade/{run}:{file}")]).unwrap();
    assert_eq!(show("started"), "once", "it was started once");
    // Never taken for a stranger: while the runner looks around, it is told to come again.
    assert!(!show("codes").lines().any(|code| code == "401"), "{}", show("codes"));
}

/// Runs the real program to its end, and says how long that took.
fn really(scene: &Scene, agent: &str, model: &str) -> Duration {
    let begun = Instant::now();
    let run = scene.started(agent, model);
    scene
        .installation
        .until_within(FINISHES, "the end of the run", |i| {
            let shown = i.json(&["runs", "show", &run]).ok()?;
            ["succeeded", "failed"].contains(&shown["state"].as_str()?).then_some(())
        })
        .unwrap();
    let shown = scene.succeeded(&run);
    let took = begun.elapsed();
    assert!(scene.mended(&run), "{shown}");
    let events = scene.events(&run);
    let calls = events.iter().filter(|event| event["event"] == "model_call" && event["ok"] == true).count();
    assert!(calls >= 3, "{calls} calls: {events:?}");
    assert_eq!(shown["turn"].as_u64(), u64::try_from(calls).ok());
    assert_eq!(scene.fake.refusals(), Vec::<String>::new());
    let deeds = records_of(&scene.installation, &run);
    let hosts: Vec<&Value> = deeds
        .iter()
        .map(|record| &record["record"]["body"]["deed"])
        .filter(|deed| deed["action"] == "connection.open")
        .map(|deed| &deed["resource"]["id"])
        .collect();
    println!("{agent}: {calls} calls in {took:?}, and it wanted to go to {hosts:?}");
    took
}

/// A proxy to which every host is there, and says nothing.
fn silent() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in socket.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            held.push(stream);
        }
    });
    addr
}

/// A policy by which every connection is allowed.
const EVERY_HOST: &str = "\n[[policy]]\nid = \"all-hosts\"\ntitle = \"Every host\"\n\
    text = '''permit(principal is Agent, action in [Action::\"connection.open\", Action::\"request.send\"], resource);'''\n";

/// Whether silence is what a program meets there: curl gives up by itself (28), and is neither refused nor answered.
#[test]
fn a_silent_host_is_silent_inside_and_the_gateway_answers_beside_it() {
    let script = "#!/bin/sh\ncat >/dev/null\ncurl -s -m 3 -o /dev/null https://registry.npmjs.org/; echo $? > told\n\
        curl -s -m 20 -o /dev/null -w '%{http_code}\\n' -H \"x-api-key: $ANTHROPIC_AUTH_TOKEN\" $ANTHROPIC_BASE_URL/v1/models >> told\n\
        sed -i \"s/split \\/ \\/,/split ' ',/\" bin/word-count\n\
        printf '%s\\n' '{\"type\":\"result\",\"is_error\":false,\"result\":\"Done\"}'\n";
    let program = |bin: &Path| {
        fs::write(bin.join("claude"), script).unwrap();
        fs::set_permissions(bin.join("claude"), fs::Permissions::from_mode(0o755)).unwrap();
        vec![]
    };
    let silence = format!("[egress.proxy]\nurl = \"http://{}\"\n", silent());
    let scene = scene(Kind::Anthropic, "anthropic", program, &silence, "4");
    add_to_policy(&scene.installation, EVERY_HOST, "server");
    let run = scene.started("claude-code", "claude-sonnet-4-6");
    scene.succeeded(&run);
    let told = scene.repository.git(&["show", &format!("stockade/{run}:told")]).unwrap();
    assert_eq!(told, "28\n200");
}

fn with_every_host_refused_and_with_every_host_silent(
    (name, program): (&str, &str),
    (kind, word): (Kind, &str),
    agent: &str,
    model: &str,
) {
    if (installed(name, program).is_none() || installed("node", "node").is_none()) && skipped(name) {
        return;
    }
    let programs = |bin: &Path| real(name, program, bin).unwrap();
    let refused = scene(kind, word, programs, "", "4");
    really(&refused, agent, model);
    drop(refused);
    let silence = format!("[egress.proxy]\nurl = \"http://{}\"\n", silent());
    let silent = scene(kind, word, programs, &silence, "4");
    add_to_policy(&silent.installation, EVERY_HOST, "server");
    really(&silent, agent, model);
}

#[test]
fn claude_code_does_a_task_inside_whether_hosts_are_refused_or_silent() {
    let provider = (Kind::Anthropic, "anthropic");
    with_every_host_refused_and_with_every_host_silent(
        ("claude-code", "claude"),
        provider,
        "claude-code",
        "claude-sonnet-4-6",
    );
}

#[test]
fn codex_does_a_task_inside_whether_hosts_are_refused_or_silent() {
    let provider = (Kind::OpenAi, "openai");
    with_every_host_refused_and_with_every_host_silent(("codex", "codex"), provider, "codex", "gpt-5.2");
}

#[test]
fn gemini_cli_does_a_task_inside_whether_hosts_are_refused_or_silent() {
    let provider = (Kind::Gemini, "gemini");
    with_every_host_refused_and_with_every_host_silent(
        ("gemini-cli", "gemini"),
        provider,
        "gemini",
        "gemini-3.1-pro-preview",
    );
}

#[test]
fn opencode_does_a_task_inside_whether_hosts_are_refused_or_silent() {
    let provider = (Kind::Anthropic, "anthropic");
    with_every_host_refused_and_with_every_host_silent(
        ("opencode-ai", "opencode"),
        provider,
        "opencode",
        "claude-sonnet-4-6",
    );
}
