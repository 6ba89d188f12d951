//! From a task to a branch, and everything that may go wrong on the way.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use secrecy::SecretString;
use stockade_api::runner::{Entry, Order};
use stockade_domain::{Desired, EnvironmentClass, EventKind, Observed, Role, RunState, ToolOutcome, ids::RunId};
use stockade_ledger::Record;
use stockade_runner::{Runner, RunnerConfig, RunningRunner};

use crate::{
    fakes::{FakeDriver, Fakes},
    plane::Plane,
    until,
};

const CASSETTE: &str = r#"
name = "mend"
[[turn]]
usage = { input = 1000, output = 50 }
[[turn.content]]
type = "text"
text = "I look at zanzibarword."
[[turn.content]]
type = "tool_use"
name = "read"
input = { path = "greeting.txt" }
[[turn]]
usage = { input = 1100, output = 60 }
[[turn.expect]]
contains = "helo"
[[turn.content]]
type = "tool_use"
name = "run"
input = { command = "(echo once >> ../effects) 2>/dev/null; sleep 0.2; sed -i s/helo/hello/ greeting.txt; echo mended" }
[[turn]]
usage = { input = 1200, output = 70 }
[[turn.expect]]
contains = "mended"
[[turn.content]]
type = "tool_use"
name = "finish"
input = { title = "Mend the greeting", summary = "It said helo.", done = true }
[[turn]]
usage = { input = 1300, output = 20 }
[[turn.content]]
type = "text"
text = "There is nothing more."
"#;

const ASKING: &str = r#"
name = "asking"
[[turn]]
usage = { input = 1000, output = 50 }
[[turn.content]]
type = "tool_use"
name = "ask"
input = { question = "Which word?" }
[[turn]]
usage = { input = 1000, output = 50 }
[[turn.expect]]
from = "last_message"
contains = "hello, please"
[[turn.content]]
type = "tool_use"
name = "run"
input = { command = "echo once >> ../effects; sed -i s/helo/hello/ greeting.txt; echo mended" }
[[turn]]
usage = { input = 1000, output = 50 }
[[turn.content]]
type = "tool_use"
name = "finish"
input = { title = "Mend", summary = "As agreed.", done = true }
"#;

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub plane: Arc<Plane>,
    pub fakes: Arc<Fakes>,
    pub repository: PathBuf,
    pub classes: Vec<EnvironmentClass>,
}

pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

impl Bench {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("project");
        std::fs::create_dir_all(&repository).unwrap();
        git(&repository, &["init", "-q"]);
        std::fs::write(repository.join("greeting.txt"), "helo\n").unwrap();
        std::fs::write(repository.join("AGENTS.md"), "Be kind.\n").unwrap();
        // What lies in wait in a repository never runs on the host.
        let trap = dir.path().join("trapped");
        let hook = repository.join(".git/hooks/pre-receive");
        std::fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", trap.display())).unwrap();
        std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        git(&repository, &["add", "-A"]);
        git(&repository, &["commit", "-qm", "begin"]);
        std::fs::create_dir_all(dir.path().join("cassettes")).unwrap();
        std::fs::write(dir.path().join("cassettes/mend.toml"), CASSETTE).unwrap();
        std::fs::write(dir.path().join("cassettes/asking.toml"), ASKING).unwrap();
        let fakes = Fakes::new(&dir.path().join("environments"));
        Self { plane: Plane::start().await, fakes, repository, dir, classes: EnvironmentClass::shipped() }
    }

    pub fn config(&self) -> RunnerConfig {
        let mut config = RunnerConfig::new(self.dir.path().join("runner"), self.plane.url(), "/nowhere");
        config.enroll_token = Some(SecretString::from("one-time"));
        config.cassettes = Some(self.dir.path().join("cassettes"));
        config.classes.clone_from(&self.classes);
        config
    }

    pub async fn start(&self) -> RunningRunner {
        Runner::start_with(self.config(), Arc::new(FakeDriver(Arc::clone(&self.fakes)))).await.unwrap()
    }

    pub fn assign_asking(&self) -> RunId {
        let repository = self.repository.to_str().unwrap();
        self.plane.assign(repository, 4, &[], "asking", "Mend the greeting.")
    }

    pub fn assign(&self, level: u8) -> RunId {
        let repository = self.repository.to_str().unwrap();
        self.plane.assign(repository, level, &["grep -q hello greeting.txt"], "mend", "Fix the greeting, zanzibarword.")
    }

    pub fn records(&self) -> Vec<Record> {
        let inner = self.plane.lock();
        let canonical = inner.entries.iter().filter_map(|e| match e {
            Entry::Record { canonical } => Some(Record::parse(canonical.as_bytes()).unwrap()),
            _ => None,
        });
        canonical.collect()
    }

    /// Every record is there once, in order; every opened deed is closed; the money adds up.
    pub fn assert_accounted(&self) {
        use stockade_ledger::Body;
        let records = self.records();
        assert_eq!(records.iter().map(|r| r.seq).collect::<Vec<_>>(), (0..records.len() as u64).collect::<Vec<_>>());
        let mut open: Vec<_> = records.iter().filter(|r| matches!(r.body, Body::Open { .. })).map(|r| r.id).collect();
        for record in &records {
            if let Body::Close { of, .. } = &record.body {
                let at = open.iter().position(|id| id == of).expect("closed once");
                open.remove(at);
            }
        }
        assert_eq!(open, vec![], "left open");
        let inner = self.plane.lock();
        assert!(
            inner.leased.values().all(|left| left.0 == 0),
            "leased and neither spent nor returned: {:?}",
            inner.leased
        );
        assert_eq!(inner.stale, 0, "events under a stale fence");
    }

    pub fn effects(&self, run: RunId) -> String {
        let id = self.plane.lock().assignments.iter().find(|a| a.run == run).unwrap().environment;
        std::fs::read_to_string(self.fakes.root.join(id.to_string()).join("effects")).unwrap_or_default()
    }

    pub async fn shipped(&self) {
        // The last things a run does: its slices come back after its end is told.
        until("the money to be back", async || self.plane.lock().leased.values().all(|l| l.0 == 0).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_becomes_a_branch_that_a_person_agreed_to() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let run = bench.assign(2);
    let approval = bench.plane.asked(run, 1).await;
    let branch = format!("refs/heads/stockade/{run}");
    assert_eq!(git(&bench.repository, &["for-each-ref", &branch]), "", "nothing is pushed before a person agrees");
    bench.plane.state(run, "waiting_approval").await;
    bench.plane.answer(run, approval, true);
    bench.plane.state(run, "succeeded").await;
    bench.shipped().await;

    assert_eq!(git(&bench.repository, &["show", &format!("{branch}:greeting.txt")]), "hello");
    let message = git(&bench.repository, &["log", "-1", "--format=%an%n%B", &branch]);
    assert!(
        message.starts_with("Stockade Agent\nMend the greeting\n\nIt said helo.\n\nCo-authored-by: usr_"),
        "{message}"
    );
    assert!(
        message.contains(&format!("Stockade-Run: {run}")) && message.contains("Stockade-Checkpoint: "),
        "{message}"
    );
    assert!(!bench.dir.path().join("trapped").exists());
    assert_eq!(bench.effects(run), "once\n");

    bench.plane.assert_contiguous(run);
    let events = bench.plane.events(run);
    let changes: Vec<_> = events
        .iter()
        .filter_map(|e| match &e.event {
            EventKind::Change { commit, files, insertions, deletions, .. } => {
                Some((commit, *files, *insertions, *deletions))
            }
            _ => None,
        })
        .collect();
    assert_eq!(changes, vec![(&git(&bench.repository, &["rev-parse", &branch]), 1, 1, 1)]);
    bench.assert_accounted();
    assert!(bench.plane.lock().spent.0 > 0);

    // Nothing that anybody said has reached the control plane in plain text.
    let received = bench.plane.lock().received.clone();
    for word in ["zanzibarword", "helo", "mended", "Mend the greeting", "Be kind"] {
        assert!(!received.windows(word.len()).any(|w| w == word.as_bytes()), "`{word}` was received");
    }

    // The environment dies when it is no longer wanted.
    bench.plane.of(run, |a| {
        a.desired = Desired::Deleted;
        a.generation = 2;
    });
    until("the environment to be deleted", async || {
        let deleted = |e: &stockade_domain::RunEvent| {
            matches!(e.event, EventKind::Environment { observed: Observed::Deleted, generation: 2, .. })
        };
        bench.plane.events(run).iter().any(deleted).then_some(())
    })
    .await;
    assert_eq!(std::fs::read_dir(&bench.fakes.root).unwrap().count(), 0);
    bench.plane.assert_contiguous(run);
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_is_told_to_the_agent_and_nothing_is_pushed() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let run = bench.assign(2);
    let approval = bench.plane.asked(run, 1).await;
    bench.plane.answer(run, approval, false);
    bench.plane.state(run, "failed").await;
    assert_eq!(git(&bench.repository, &["for-each-ref", "refs/heads/stockade"]), "");
    bench.shipped().await;
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

/// Starts a runner in a runtime of its own, so that it can be cut off in the middle of anything.
pub fn start_apart(bench: &Bench) -> tokio::runtime::Runtime {
    let apart = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (config, fakes) = (bench.config(), Arc::clone(&bench.fakes));
    apart.spawn(async move {
        // The spool of the one before may be held for a moment.
        loop {
            match Runner::start_with(config.clone(), Arc::new(FakeDriver(Arc::clone(&fakes)))).await {
                Ok(runner) => {
                    // It is dropped where it stands when its runtime is.
                    std::future::pending::<()>().await;
                    drop(runner);
                }
                Err(error) => {
                    eprintln!("not started: {error}");
                    assert!(!error.to_string().contains("identity"), "{error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    });
    apart
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_at_any_instant_it_goes_on_and_does_nothing_twice() {
    for cut_ms in [40, 90, 150, 220, 300, 380, 470] {
        let bench = Bench::new().await;
        let first = start_apart(&bench);
        until("the runner to enrol", async || bench.plane.lock().runner.as_ref().map(|_| ())).await;
        let run = bench.assign(4);
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(cut_ms)).await;
        }
        first.shutdown_background();
        let second = start_apart(&bench);
        tokio::time::sleep(Duration::from_millis(cut_ms * 2)).await;
        second.shutdown_background();
        let third = start_apart(&bench);
        eprintln!("cut off twice after {cut_ms} ms: {run}");
        bench.plane.state(run, "succeeded").await;
        bench.shipped().await;
        bench.plane.assert_contiguous(run);
        bench.assert_accounted();
        assert_eq!(bench.effects(run), "once\n", "cut off after {cut_ms} ms");
        assert!(bench.fakes.carried_out.lock().unwrap().values().all(|n| *n == 1));
        let branch = format!("refs/heads/stockade/{run}:greeting.txt");
        assert_eq!(git(&bench.repository, &["show", &branch]), "hello");
        third.shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_may_be_away_while_a_run_goes_on() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let run = bench.assign(4);
    until("the run to have money", async || (!bench.plane.lock().leased.is_empty()).then_some(())).await;
    bench.plane.set(|inner| inner.away = true);
    let branch = format!("refs/heads/stockade/{run}");
    until("the branch, without a server", async || {
        (!git(&bench.repository, &["for-each-ref", &branch]).is_empty()).then_some(())
    })
    .await;
    assert!(bench.plane.lock().assignments.iter().all(|a| a.state != RunState::Succeeded));
    bench.plane.set(|inner| inner.away = false);
    bench.plane.state(run, "succeeded").await;
    bench.shipped().await;
    bench.plane.assert_contiguous(run);
    bench.assert_accounted();
    let told = |e: &stockade_domain::RunEvent| matches!(&e.event, EventKind::Notice { code } if code == "server_away");
    assert!(bench.plane.events(run).iter().any(told));
    until("the heartbeat to say since when", async || (bench.plane.lock().absences > 0).then_some(())).await;
    assert_eq!(bench.plane.lock().absences, 1);
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_guest_is_brought_back_and_the_interrupted_call_says_so() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let run = bench.assign(4);
    let environment = bench.plane.lock().assignments[0].environment;
    until("the command to run", async || bench.effects(run).contains("once").then_some(())).await;
    bench.fakes.kill(environment);
    bench.plane.state(run, "succeeded").await;
    let events = bench.plane.events(run);
    let notice =
        |e: &stockade_domain::RunEvent| matches!(&e.event, EventKind::Notice { code } if code == "guest_restarted");
    assert!(events.iter().any(notice));
    let cut = |e: &stockade_domain::RunEvent| matches!(&e.event, EventKind::ToolCall { outcome: ToolOutcome::Interrupted, tool, .. } if tool == "run");
    assert!(events.iter().any(cut), "{events:#?}");
    assert!(bench.fakes.restarts.load(Ordering::SeqCst) >= 1);
    assert!(bench.fakes.carried_out.lock().unwrap().values().all(|n| *n == 1));
    bench.shipped().await;
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_ends_a_run_that_waits_and_one_that_works() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let waiting = bench.assign(2);
    bench.plane.asked(waiting, 1).await;
    bench.plane.order(waiting, Order::Cancel);
    bench.plane.state(waiting, "cancelled").await;
    let working = bench.assign(4);
    until("the command to run", async || bench.effects(working).contains("once").then_some(())).await;
    bench.plane.order(working, Order::Cancel);
    bench.plane.state(working, "cancelled").await;
    bench.shipped().await;
    bench.plane.assert_contiguous(working);
    // The call that was under way is closed too, without a restart.
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_yes_is_to_the_deed_as_it_was_shown_and_the_repository_is_the_one_of_the_beginning() {
    let bench = Bench::new().await;
    let runner = bench.start().await;

    // The circumstances change while a person thinks: the yes is to something else, and the person is asked again.
    let run = bench.assign(2);
    let first = bench.plane.asked(run, 1).await;
    bench.plane.of(run, |a| a.project.level = 1.try_into().unwrap());
    bench.plane.answer(run, first, true);
    let second = bench.plane.asked(run, 2).await;
    assert_eq!(git(&bench.repository, &["for-each-ref", "refs/heads/stockade"]), "");
    bench.plane.answer(run, second, true);
    bench.plane.state(run, "succeeded").await;

    // Another repository than the one that the base is from is never pushed to, whoever agreed to what.
    let elsewhere = bench.dir.path().join("elsewhere");
    git(bench.dir.path(), &["init", "-q", "--bare", elsewhere.to_str().unwrap()]);
    let run = bench.assign(2);
    let approval = bench.plane.asked(run, 1).await;
    bench.plane.of(run, |a| a.project.repository = elsewhere.to_str().unwrap().to_owned());
    bench.plane.answer(run, approval, true);
    bench.plane.state(run, "failed").await;
    assert_eq!(git(&elsewhere, &["for-each-ref"]), "");
    bench.shipped().await;
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lease_stops_the_work_until_there_is_a_new_one() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let run = bench.assign(2);
    let approval = bench.plane.asked(run, 1).await;
    bench.plane.set(|inner| inner.lose.push(run));
    until("the heartbeat to tell", async || bench.plane.lock().lose.is_empty().then_some(())).await;
    bench.plane.answer(run, approval, true);
    bench.plane.state(run, "succeeded").await;
    assert_eq!(bench.plane.lock().fences[&run], 2);
    bench.plane.assert_contiguous(run);
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_given_to_whom_the_policy_allows_and_recorded_before() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let run = bench.assign(4);
    bench.plane.state(run, "succeeded").await;
    bench.shipped().await;
    let http = reqwest::Client::new();
    let base = format!("http://{}", runner.addr());
    let (digest, kind) = bench
        .plane
        .events(run)
        .iter()
        .find_map(|e| match &e.event {
            EventKind::Change { diff, .. } => Some((diff.digest, diff.kind)),
            _ => None,
        })
        .unwrap();
    let url = format!("{base}/content/{run}/{digest}?kind={kind}");
    let readings =
        || bench.records().iter().filter(|r| r.deed().is_some_and(|d| d.action.as_str() == "content.read")).count();

    assert_eq!(http.get(&url).send().await.unwrap().status(), 401);
    let forged = bench.plane.ticket(run, vec![Role::Admin]).replace("stockade-ticket-1.e", "stockade-ticket-1.f");
    assert_eq!(http.get(&url).bearer_auth(forged).send().await.unwrap().status(), 401);
    let nobody = bench.plane.ticket(run, vec![]);
    assert_eq!(http.get(&url).bearer_auth(&nobody).send().await.unwrap().status(), 403);
    let admin = bench.plane.ticket(run, vec![Role::Admin]);
    let diff = http.get(&url).bearer_auth(&admin).send().await.unwrap().text().await.unwrap();
    assert!(diff.contains("-helo") && diff.contains("+hello"), "{diff}");
    let transcript = http.get(format!("{base}/transcript/{run}")).bearer_auth(&admin).send().await.unwrap();
    let transcript = transcript.text().await.unwrap();
    assert!(transcript.contains("zanzibarword"), "{transcript}");
    until("the readings and the refusal to be recorded", async || (readings() == 3).then_some(())).await;

    // A person's command in the environment.
    let environment = bench.plane.lock().assignments[0].environment;
    let exec = serde_json::json!({"argv": ["cat", "greeting.txt"], "timeout_ms": 5000});
    let said = http.post(format!("{base}/exec/{environment}")).bearer_auth(&admin).json(&exec).send().await.unwrap();
    let said = said.text().await.unwrap();
    assert!(said.contains(r#""text":"hello\n""#) && said.trim_end().ends_with('}'), "{said}");
    assert!(said.lines().last().unwrap().contains(r#""frame":"exited""#), "{said}");

    // Erased: the key is gone, and with it the content; the record stays.
    bench.plane.order(run, Order::Erase);
    until("the run to be erased", async || bench.plane.lock().assignments[0].order.is_none().then_some(())).await;
    assert_eq!(http.get(&url).bearer_auth(&admin).send().await.unwrap().status(), 410);
    assert!(!bench.dir.path().join("runner/runs").join(run.to_string()).join("journal").exists());
    assert!(!bench.dir.path().join("runner/contents").join(run.to_string()).exists());
    bench.plane.assert_contiguous(run);
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_waits_for_its_answer_which_is_sealed_at_the_site() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let run = bench.assign_asking();
    bench.plane.state(run, "waiting_input").await;
    let ticket = bench.plane.ticket(run, vec![Role::Admin]);
    let http = reqwest::Client::new();
    let url = format!("http://{}/seal/{run}", runner.addr());
    let body = serde_json::json!({"kind": "reply", "text": "hello, please"});
    let sealed: stockade_api::http::SealedContent =
        http.post(url).bearer_auth(ticket).json(&body).send().await.unwrap().json().await.unwrap();
    let by = bench.plane.lock().assignments[0].owner;
    let reply = stockade_api::runner::Reply { number: 1, content: sealed.content, sealed: sealed.sealed, by };
    bench.plane.of(run, |a| a.replies.push(reply));
    bench.plane.state(run, "succeeded").await;
    bench.shipped().await;
    bench.plane.assert_contiguous(run);
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_money_it_fails_with_that_word_and_can_be_tried_again() {
    let bench = Bench::new().await;
    bench.plane.set(|inner| inner.limit = stockade_domain::Nanos(1));
    let runner = bench.start().await;
    let run = bench.assign(4);
    bench.plane.state(run, "failed").await;
    let broke = |e: &stockade_domain::RunEvent| {
        use stockade_domain::{FailureCause, RunTransition};
        matches!(e.event, EventKind::State { transition: RunTransition::Fail { cause: FailureCause::Budget } })
    };
    assert!(bench.plane.events(run).iter().any(broke), "{:#?}", bench.plane.events(run));
    assert_eq!(bench.plane.lock().spent.0, 0);
    bench.plane.set(|inner| inner.limit = stockade_domain::Nanos(10_000_000_000));
    bench.plane.order(run, Order::Resume);
    bench.plane.state(run, "succeeded").await;
    bench.shipped().await;
    bench.plane.assert_contiguous(run);
    bench.assert_accounted();
    let limit = bench.plane.lock().limit;
    assert!(bench.plane.lock().spent <= limit);
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_spool_refuses_new_deeds_and_loses_nothing() {
    let bench = Bench::new().await;
    let mut config = bench.config();
    config.spool_max_bytes = 12_000;
    let driver = Arc::new(FakeDriver(Arc::clone(&bench.fakes)));
    let runner = Runner::start_with(config, driver).await.unwrap();
    let run = bench.assign(4);
    // Less than a whole run needs: while the server is away the work stands still, and no branch appears.
    until("the run to have money", async || (!bench.plane.lock().leased.is_empty()).then_some(())).await;
    bench.plane.set(|inner| inner.away = true);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(git(&bench.repository, &["for-each-ref", "refs/heads/stockade"]), "");
    bench.plane.set(|inner| inner.away = false);
    bench.plane.state(run, "succeeded").await;
    bench.shipped().await;
    bench.plane.assert_contiguous(run);
    bench.assert_accounted();
    assert_eq!(bench.effects(run), "once\n");
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_in_one_clear_sentence() {
    let bench = Bench::new().await;
    let mut without = bench.config();
    without.enroll_token = None;
    let error = Runner::start(without).await.unwrap_err().to_string();
    assert!(error.contains("no identity") && error.contains("stockade runner"), "{error}");
    let mut wrong = bench.config();
    wrong.models = "nonsense = [".to_owned();
    assert!(Runner::start(wrong).await.unwrap_err().to_string().contains("models"));
    let mut broken = bench.config();
    broken.cassettes = Some(bench.dir.path().join("broken"));
    std::fs::create_dir(bench.dir.path().join("broken")).unwrap();
    std::fs::write(bench.dir.path().join("broken/x.toml"), "name = 7").unwrap();
    assert!(Runner::start(broken).await.unwrap_err().to_string().contains("x.toml"));

    let runner = bench.start().await;
    let second = Runner::start_with(bench.config(), Arc::new(FakeDriver(Arc::clone(&bench.fakes)))).await;
    let error = second.unwrap_err().to_string();
    assert!(error.contains("ledger"), "{error}");
    let mut busy = bench.config();
    busy.data_dir = bench.dir.path().join("other");
    busy.listen = runner.addr();
    assert!(Runner::start(busy).await.unwrap_err().to_string().contains("cannot listen on"));

    // A repository that is none, and an address that would run something.
    for repository in ["/nowhere/at/all", "ext::sh -c touch% /tmp/trapped"] {
        let run = bench.plane.assign(repository, 4, &[], "mend", "x");
        bench.plane.state(run, "failed").await;
        bench.plane.assert_contiguous(run);
    }
    runner.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_ran_out_of_time_is_taken_up_again_in_another_environment() {
    let bench = Bench::new().await;
    let runner = bench.start().await;
    let run = bench.assign(2);
    bench.plane.asked(run, 1).await;
    bench.plane.state(run, "waiting_approval").await;
    let first = bench.plane.lock().assignments[0].environment;
    bench.plane.of(run, |a| a.state = RunState::Expired);
    let folder = bench.dir.path().join("runner/runs").join(run.to_string());
    until("the work to be kept", async || folder.join("work.bundle").exists().then_some(())).await;
    bench.plane.of(run, |a| a.desired = Desired::Deleted);
    until("the environment to be gone", async || (!bench.fakes.root.join(first.to_string()).exists()).then_some(()))
        .await;

    let second = stockade_domain::ids::EnvironmentId::from_bytes([7; 16]);
    bench.plane.of(run, |a| {
        a.environment = second;
        a.desired = Desired::Running;
    });
    until("the end to be told", async || (bench.plane.lock().leased.values().all(|l| l.0 == 0)).then_some(())).await;
    bench.plane.order(run, Order::Resume);
    let approval = bench.plane.asked(run, 2).await;
    let there = bench.fakes.root.join(second.to_string()).join("workspace/greeting.txt");
    assert_eq!(std::fs::read_to_string(there).unwrap(), "hello\n", "the work is there, not only its commit");
    bench.plane.answer(run, approval, true);
    bench.plane.state(run, "succeeded").await;
    bench.shipped().await;
    bench.plane.assert_contiguous(run);
    bench.assert_accounted();
    runner.stop(Duration::from_secs(10)).await;
}

/// With the helper programs, the same trip in real environments. Without them it says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_in_a_real_environment() {
    let Some(helpers) = std::env::var_os("STOCKADE_HELPERS") else {
        eprintln!("SKIPPED: STOCKADE_HELPERS does not name the folder of the helper programs");
        return;
    };
    let bench = Bench::new().await;
    let mut config = bench.config();
    config.helpers = helpers.into();
    config.allow_degraded =
        std::env::var("STOCKADE_ALLOW_DEGRADED").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let runner = Runner::start(config).await.unwrap();
    let run = bench.assign(4);
    bench.plane.state(run, "succeeded").await;
    bench.shipped().await;
    bench.plane.assert_contiguous(run);
    bench.assert_accounted();
    assert_eq!(git(&bench.repository, &["show", &format!("refs/heads/stockade/{run}:greeting.txt")]), "hello");
    bench.plane.of(run, |a| {
        a.desired = Desired::Deleted;
        a.generation = 2;
    });
    until("the environment to be deleted", async || {
        let deleted = |e: &stockade_domain::RunEvent| {
            matches!(e.event, EventKind::Environment { observed: Observed::Deleted, .. })
        };
        bench.plane.events(run).iter().any(deleted).then_some(())
    })
    .await;
    runner.stop(Duration::from_secs(10)).await;
}
