//! A real provider, but for the internet: keys, errors and money, as with the models that people pay for.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};
use stockade_testkit::{
    Form, Installation, Options, Provider,
    installation::{files, pause},
    provider::{INPUT_TOKENS, Mishap, OUTPUT_TOKENS, calls, header, says},
};

use super::spine::{records_of, sample_in};

pub const KEY: &str = "sk-ant-canary-6f1d20b79c";
pub const MODEL: &str = "claude-sonnet-4-6";
const TASK: &str = "The tests fail: make them green.";
/// What a turn costs at 3 and 15 dollars for a million tokens, in nano-dollars.
const TURN: i64 = INPUT_TOKENS * 3_000 + OUTPUT_TOKENS * 15_000;
const TURNS: usize = 4;

/// Mends the sample. Its first command looks for keys wherever a command inside may look.
pub fn turns() -> Vec<Vec<Value>> {
    let look = "env; for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do tr '\\0' '\\n' < $f; done 2>/dev/null; \
                find / -xdev -type f -size -64k -newer /proc/1 -exec cat {} + 2>/dev/null | head -c 20000; \
                sh run-tests.sh; echo looked";
    vec![
        vec![says("I look around."), calls("run", json!({"command": look}))],
        vec![calls("edit", json!({"path": "bin/word-count", "old": "split / /, $line", "new": "split ' ', $line"}))],
        vec![says("Once more."), calls("run", json!({"command": "sh run-tests.sh"}))],
        vec![calls("finish", json!({"summary": "Words are split at white space."}))],
    ]
}

pub fn configuration(provider: &Provider, key: &str) -> String {
    format!("[gateway.providers.anthropic]\nbase_url = \"{}\"\n{key}\n", provider.url())
}

/// A file with the key, outside of everything that belongs to the installation.
pub fn key_file(key: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, format!("{key}\n")).unwrap();
    let line = format!("key_file = \"{}\"", path.display());
    (folder, line)
}

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes())
}

/// Looks at every process that descends from some, again and again, for those that hold the key in their
/// environment or arguments.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    found: Arc<Mutex<(BTreeSet<String>, usize)>>,
}

impl Watch {
    /// Below these processes; `ours_may`: our own executable may have it in its environment.
    fn start(roots: Vec<u32>, ours_may: bool) -> Self {
        let (stop, found) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let (halt, into) = (Arc::clone(&stop), Arc::clone(&found));
        let thread = std::thread::spawn(move || {
            while !halt.load(Ordering::Relaxed) {
                look(&roots, ours_may, &into);
                pause(Duration::from_millis(10));
            }
        });
        Self { stop, thread: Some(thread), found }
    }

    /// Whose environment or arguments held the key, and how many processes were looked at.
    fn end(mut self) -> (BTreeSet<String>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        let found = self.found.lock().unwrap();
        found.clone()
    }
}

fn look(roots: &[u32], ours_may: bool, into: &Mutex<(BTreeSet<String>, usize)>) {
    let pids = || fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    for pid in pids() {
        let mut above = Some(pid);
        while let Some(at) = above.filter(|at| !roots.contains(at)) {
            above = parent(at).filter(|at| *at > 1);
        }
        if above.is_none() {
            continue;
        }
        // A child of the runner that is about to become another program still shows the runner's own environment.
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        if ours_may && exe.file_name().is_some_and(|name| name == "stockade") {
            continue;
        }
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let mut found = into.lock().unwrap();
        found.1 += 1;
        if holds(&read("environ")) || holds(&read("cmdline")) {
            found.0.insert(String::from_utf8_lossy(&read("cmdline")).replace('\0', " "));
        }
    }
}

/// The key is in no file of the installation, in no log, and in nothing that people are shown.
fn key_is_nowhere(installation: &Installation, run: &str) {
    let shown = installation.json(&["runs", "show", run, "--transcript", "--diff"]).unwrap().to_string();
    assert!(shown.contains("looked"), "the command inside did not look: {shown}");
    assert!(!holds(shown.as_bytes()), "the key was seen inside: {shown}");
    let export = installation.folder().join("export.jsonl");
    installation.json(&["audit", "export", "--with-content", "--output", &export.to_string_lossy()]).unwrap();
    let searched: Vec<PathBuf> = files(installation.folder())
        .into_iter()
        // What an environment's disk would hold, a command inside would have seen.
        .filter(|path| path.metadata().is_ok_and(|about| about.len() < 256 * 1024 * 1024))
        .collect();
    let has = |name: &str| searched.iter().any(|path| path.ends_with(name));
    assert!(has("export.jsonl") && has("server.log") && has("server/stockade.db"), "{searched:?}");
    for path in &searched {
        assert!(!holds(&fs::read(path).unwrap_or_default()), "the key stands in {}", path.display());
    }
}

#[test]
fn a_provider_that_stumbles_is_asked_again_and_its_key_stays_in_the_site() {
    let provider = Provider::start(KEY, turns()).unwrap();
    let (_folder, line) = key_file(KEY);
    let options = Options { config: configuration(&provider, &line), ..Options::default() };
    let installation = Installation::start(Form::TwoProcesses, options).unwrap();
    let repository = sample_in(&installation, "4");
    let watch = Watch::start(installation.processes(), false);

    let slow = Mishap::Slow(Duration::from_millis(20));
    provider.mishaps(&[
        Mishap::Overloaded,
        Mishap::None,
        Mishap::Reset,
        slow,
        Mishap::ErrorEvent,
        Mishap::None,
        Mishap::RateLimited(2),
    ]);
    let run = installation.run("word-count", MODEL, TASK, &[]).unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}\n{}", installation.logs());
    assert!(repository.tree(&format!("stockade/{run}")).is_some());
    let (found, looked) = watch.end();
    // How many there are to see depends on how quick the machine is; the runner's own helpers are always among them.
    assert!(found.is_empty() && looked > 2, "{looked} processes were looked at, the key is in {found:?}");

    // Every request shows the key; what failed is asked again, not at once, and not before the provider wants it.
    let seen = provider.seen();
    assert_eq!(seen.len(), TURNS + 4, "{seen:#?}");
    for (this, next) in seen.iter().zip(seen.iter().skip(1)) {
        let waited = next.at.duration_since(this.at);
        let least = match this.mishap {
            Mishap::None | Mishap::Slow(_) => Duration::ZERO,
            Mishap::RateLimited(seconds) => Duration::from_secs(seconds),
            _ => Duration::from_millis(950),
        };
        assert!(waited >= least, "after {:?} it was asked again after {waited:?}", this.mishap);
    }
    for request in &seen {
        assert_eq!(header(&request.head, "x-api-key").as_deref(), Some(KEY));
        assert!(header(&request.head, "anthropic-version").is_some(), "{}", request.head);
        assert_eq!(request.model, MODEL);
    }

    // Every call has its record, failed or not, and what the run cost is the sum of them. What broke off is paid too.
    let records = records_of(&installation, &run);
    let opened = |record: &&Value| record["record"]["body"]["deed"]["action"] == "model.call";
    assert_eq!(records.iter().filter(opened).count(), seen.len(), "{records:#?}");
    let recorded: i64 = records.iter().filter_map(|record| record["record"]["body"]["cost"].as_i64()).sum();
    assert_eq!(ended["cost"].as_i64(), Some(recorded));
    assert!(recorded >= TURN * i64::try_from(TURNS).unwrap(), "{recorded}");
    key_is_nowhere(&installation, &run);
}

#[test]
fn a_key_in_the_runner_s_environment_is_in_no_other() {
    for form in [Form::OneProcess, Form::TwoProcesses] {
        let provider = Provider::start(KEY, turns()).unwrap();
        let options = Options {
            config: configuration(&provider, "key_variable = \"ANTHROPIC_API_KEY\""),
            runner_env: vec![("ANTHROPIC_API_KEY".to_owned(), KEY.to_owned())],
            ..Options::default()
        };
        let installation = Installation::start(form, options).unwrap();
        let _repository = sample_in(&installation, "4");
        let runner = installation.processes().last().copied();
        let own = fs::read(Path::new("/proc").join(runner.unwrap().to_string()).join("environ")).unwrap();
        assert!(holds(&own), "the key was not given");
        let watch = Watch::start(installation.processes(), true);
        let run = installation.run("word-count", MODEL, TASK, &[]).unwrap();
        let ended = installation.ended(&run).unwrap();
        let (found, looked) = watch.end();
        assert_eq!(ended["state"], "succeeded", "{form:?}: {ended}\n{}", installation.logs());
        assert_eq!(ended["cost"].as_i64(), Some(TURN * i64::try_from(TURNS).unwrap()));
        // How many there are to see depends on how quick the machine is; the runner's own helpers are always among them.
        assert!(found.is_empty() && looked > 2, "{looked} processes were looked at, the key is in {found:?}");
        key_is_nowhere(&installation, &run);
    }
}

#[test]
fn a_provider_that_refuses_the_key_fails_the_run_at_once() {
    let provider = Provider::start("another key", turns()).unwrap();
    let (_folder, line) = key_file(KEY);
    let options = Options { config: configuration(&provider, &line), ..Options::default() };
    let installation = Installation::start(Form::OneProcess, options).unwrap();
    let _repository = sample_in(&installation, "4");
    let run = installation.run("word-count", MODEL, TASK, &[]).unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!((ended["state"].as_str(), ended["cause"].as_str()), (Some("failed"), Some("model")), "{ended}");
    assert_eq!(ended["cost"].as_i64(), Some(0), "{ended}");
    assert_eq!(provider.seen().len(), 1, "it was asked again with a key that it does not take");
}
