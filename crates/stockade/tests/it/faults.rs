//! What the world does to an installation: full disks, damaged files, a later version's database, a server out of reach. Each
//! is said once, clearly; nothing that was acknowledged is lost; and work goes on when the world is well again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use stockade_testkit::{
    Form, Installation, Options, Provider, Proxy,
    installation::{files, may_mount},
};

use super::{
    bad_input::{alone, is_one_clear_error},
    provider::{KEY, MODEL, configuration, key_file, turns},
    spine::{add_slow, export_and_verify, records_of, sample_in, with_sample},
};

const TASK: &str = "The tests fail: make them green.";

/// Whether small disks can be made here. If not, that is said so that nobody overlooks it.
fn small_disks() -> bool {
    if !may_mount() {
        println!("\n!!! SKIPPED: only root can fill a disk of its own; run this test as root\n");
    }
    may_mount()
}

/// The events of a run that is over, in order.
fn events(installation: &Installation, run: &str) -> Vec<Value> {
    let (_, stdout, stderr) = installation.stockade(&["runs", "watch", run, "--json"]).unwrap();
    let events: Vec<Value> = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(!events.is_empty(), "{stdout}{stderr}");
    events
}

/// Every event once, in order, without a gap; every opened record closed; the ledger verifies.
fn everything_arrived(installation: &Installation, run: &str) {
    let events = events(installation, run);
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=u64::try_from(events.len()).unwrap()).collect::<Vec<_>>(), "{events:#?}");
    let records = records_of(installation, run);
    let phase = |phase: &str| records.iter().filter(|record| record["record"]["body"]["phase"] == phase).count();
    assert!(phase("open") > 3);
    assert_eq!(phase("open"), phase("close"), "{records:#?}");
    export_and_verify(installation);
}

#[test]
fn a_server_out_of_reach_for_longer_than_every_lease_costs_nothing_but_time() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = runtime.block_on(Proxy::start(([127, 0, 0, 1], port).into())).unwrap();
    let options =
        Options { server_seen_from_runner: Some(proxy.addr()), server_port: Some(port), ..Options::default() };
    let installation = Installation::start(Form::TwoProcesses, options).unwrap();
    let repository = sample_in(&installation, "4");
    installation.json(&["budget", "set", "organization", "9.00", "--period", "total"]).unwrap();
    add_slow(&installation, &repository);
    let run = installation.run("slow", "rehearsal/slow", TASK, &[]).unwrap();
    // Its first model call is over, so the budget's slice is leased: the rest needs no server.
    let paid = |i: &Installation| (i.json(&["runs", "show", &run]).ok()?["cost"].as_i64()? > 0).then_some(());
    installation.until("the first answer", paid).unwrap();

    proxy.cut(true);
    installation.until("the change", |_| repository.tree(&format!("stockade/{run}"))).unwrap();
    let shown = installation.json(&["runs", "show", &run]).unwrap();
    assert_eq!(shown["state"], "working", "the server cannot know yet: {shown}");
    let ran_out = |i: &Installation| i.log("server").contains(&format!("the lease of {run} ran out")).then_some(());
    installation.until("the lease to run out", ran_out).unwrap();
    let runner = |i: &Installation| Some(i.json(&["runners", "list"]).ok()?["items"][0].clone());
    installation.until("the runner to count as away", |i| (runner(i)?["live"] == false).then_some(())).unwrap();
    assert_eq!(installation.json(&["runs", "show", &run]).unwrap()["state"], "working", "nobody gave it up");

    proxy.cut(false);
    let ended = installation.ended(&run).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}");
    installation.until("the runner to be back", |i| (runner(i)?["live"] == true).then_some(())).unwrap();
    everything_arrived(&installation, &run);
    let told = installation.until("the runner to say since when it was away", |i| runner(i)?["away_since"].as_i64());
    assert!(told.unwrap() > 0);
    let log = installation.log("runner");
    assert_eq!(log.matches("the server is away").count(), 1, "said once: {log}");
    assert!(log.contains("the server is back after"), "{log}");
    let noticed = events(&installation, &run).iter().any(|event| event.to_string().contains("server_away"));
    assert!(noticed, "the run does not say that the server was away");
    // The money is where the records say, to the nano-dollar.
    let settled = |i: &Installation| {
        let organization = i.json(&["budget", "show"]).ok()?["items"]
            .as_array()?
            .iter()
            .find(|item| item["scope"] == "organization")?
            .clone();
        (organization["leased"] == 0 && organization["spent"] == ended["cost"]).then_some(())
    };
    installation.until("the money to settle", settled).unwrap();
}

/// This one takes over three minutes of waiting, which is why it begins early; it costs no work.
#[test]
fn a_provider_that_stays_down_fails_the_run_with_cause_model() {
    let provider = Provider::start(KEY, turns()).unwrap();
    let (_folder, line) = key_file(KEY);
    let options = Options { config: configuration(&provider, &line), ..Options::default() };
    let installation = Installation::start(Form::OneProcess, options).unwrap();
    let _repository = sample_in(&installation, "4");
    provider.down(MODEL);
    let run = installation.run("word-count", MODEL, TASK, &[]).unwrap();
    let waits = [1, 2, 4, 8, 16, 32, 60, 60];
    let asked = |_: &Installation| (provider.seen().len() > waits.len()).then_some(());
    installation.until_within(Duration::from_secs(300), "the last attempt", asked).unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!((ended["state"].as_str(), ended["cause"].as_str()), (Some("failed"), Some("model")), "{ended}");
    assert_eq!(ended["cost"].as_i64(), Some(0), "{ended}");
    let seen = provider.seen();
    assert_eq!(seen.len(), waits.len() + 1, "{seen:#?}");
    for ((this, next), least) in seen.iter().zip(seen.iter().skip(1)).zip(waits) {
        let waited = next.at.duration_since(this.at);
        assert!(waited >= Duration::from_secs(least), "asked again after {waited:?}, not after {least} s");
    }
    everything_arrived(&installation, &run);
}

#[test]
fn a_full_disk_of_the_runner_loses_nothing_and_work_goes_on_once_there_is_room() {
    if !small_disks() {
        return;
    }
    let options = Options {
        config: "[environment]\ndisk_mib = 64\n".to_owned(),
        small_disks: vec![("runner".to_owned(), 128)],
        ..Options::default()
    };
    let mut installation = Installation::start(Form::TwoProcesses, options).unwrap();
    let repository = sample_in(&installation, "4");
    add_slow(&installation, &repository);

    // In the middle of a run.
    let run = installation.run("slow", "rehearsal/slow", TASK, &[]).unwrap();
    let paid = |i: &Installation| (i.json(&["runs", "show", &run]).ok()?["cost"].as_i64()? > 0).then_some(());
    installation.until("the first answer", paid).unwrap();
    let filler = installation.fill("runner").unwrap();
    installation.until("the runner to say so", |i| i.log("runner").contains("no room left").then_some(())).unwrap();
    let seen = |i: &Installation| i.json(&["runners", "list"]).ok()?["items"][0]["seen_at"].as_i64();
    for what in ["a sign of life", "another one"] {
        let before = seen(&installation).unwrap();
        installation.until(what, |i| (seen(i)? > before).then_some(())).unwrap();
    }
    let shown = installation.json(&["runs", "show", &run]).unwrap();
    assert_eq!(shown["state"], "working", "{shown}");
    let log = installation.log("runner");
    for what in ["the spool cannot be shipped", "broke off"] {
        assert!(log.matches(what).count() <= 2, "it is said again and again: {log}");
    }
    drop(filler);
    let ended = installation.ended(&run).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}\n{}", installation.logs());
    assert!(repository.tree(&format!("stockade/{run}")).is_some());
    everything_arrived(&installation, &run);

    // At the start.
    installation.kill_runner().unwrap();
    let filler = installation.fill("runner").unwrap();
    let refused = installation.start_runner().unwrap_err().to_string();
    drop(filler);
    assert_eq!(refused.matches("runner_does_not_start").count(), 1, "{refused}");
    assert!(refused.contains("No space left on device"), "{refused}");
    installation.start_runner().unwrap();
    let run = installation.run("slow", "rehearsal/slow", TASK, &[]).unwrap();
    assert_eq!(installation.ended(&run).unwrap()["state"], "succeeded");
}

#[test]
fn a_full_disk_of_the_server_loses_nothing_and_work_goes_on_once_there_is_room() {
    if !small_disks() {
        return;
    }
    let options = Options { small_disks: vec![("server".to_owned(), 32)], ..Options::default() };
    let installation = Installation::start(Form::TwoProcesses, options).unwrap();
    let repository = sample_in(&installation, "4");
    add_slow(&installation, &repository);
    let run = installation.run("slow", "rehearsal/slow", TASK, &[]).unwrap();
    let paid = |i: &Installation| (i.json(&["runs", "show", &run]).ok()?["cost"].as_i64()? > 0).then_some(());
    installation.until("the first answer", paid).unwrap();

    let path = repository.path().to_string_lossy().into_owned();
    let filler = installation.fill("server").unwrap();
    // The database has some room of its own left: it is used up by writing.
    let refused = installation
        .until("the server to refuse", |i| {
            let (status, _, stderr) =
                i.stockade(&["project", "add", "more", "--repository", &path, "--level", "4"]).ok()?;
            (status != 0 && !stderr.contains("already")).then_some((status, stderr))
        })
        .unwrap();
    assert_eq!(refused.0, 5, "{}", refused.1);
    is_one_clear_error(&refused.1, "full");
    // The run does not need the server: its change comes, and the rest waits in the spool.
    installation.until("the change", |_| repository.tree(&format!("stockade/{run}"))).unwrap();
    assert!(installation.json(&["runs", "show", &run]).is_ok(), "what is there can still be read");
    drop(filler);
    let ended = installation.ended(&run).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}\n{}", installation.logs());
    everything_arrived(&installation, &run);
    installation.json(&["project", "list"]).unwrap();
}

/// A database that has one step more than this program knows.
fn from_a_newer_version(data: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite:{}", data.join("server/stockade.db").display());
        let store = stockade_store::Store::open(&url).await.unwrap();
        let mut tx = store.write().await.unwrap();
        tx.hurt("INSERT INTO migrations (number, name) VALUES (4711, 'from the future')").await.unwrap();
        tx.commit().await.unwrap();
        store.close().await;
    });
}

fn up(data: &Path) -> (i32, String) {
    alone(data, &["up", "--listen", "127.0.0.1:0", "--site-listen", "127.0.0.1:0"])
}

#[test]
fn a_database_from_a_newer_version_is_refused_and_left_as_it_was() {
    let (mut installation, _repository) = with_sample(Form::OneProcess, "4");
    installation.stop().unwrap();
    from_a_newer_version(&installation.data());
    let database = installation.data().join("server/stockade.db");
    let before = fs::read(&database).unwrap();
    let (status, stderr) = up(&installation.data());
    assert_eq!(status, 3, "{stderr}");
    is_one_clear_error(&stderr, "4711");
    assert!(stderr.contains("knows up to "), "both versions are named: {stderr}");
    assert!(fs::read(&database).unwrap() == before, "the file was changed");
    assert!(!database.with_extension("db-wal").exists(), "something was left beside it");
}

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// One byte, at this part of a thousand, becomes one that no text of ours has.
    Byte(usize),
    /// One letter in the middle becomes another one: it may still read as what it was.
    Letter,
}

/// Damages a file; gives what it was.
fn damage(path: &Path, how: Damage) -> Vec<u8> {
    let whole = fs::read(path).unwrap();
    let mut damaged = whole.clone();
    match how {
        Damage::Byte(per_mille) => damaged[whole.len() * per_mille / 1000] ^= 0xff,
        Damage::Letter => {
            let at = whole.len() / 2;
            damaged[at] = if whole[at] == b'a' { b'b' } else { b'a' };
        }
    }
    fs::write(path, damaged).unwrap();
    whole
}

#[test]
fn damaged_files_are_named_and_never_worked_around() {
    let (mut installation, _repository) = with_sample(Form::OneProcess, "4");
    let run = installation.run("word-count", "rehearsal/fix-the-bug", TASK, &[]).unwrap();
    assert_eq!(installation.ended(&run).unwrap()["state"], "succeeded");
    installation.stop().unwrap();
    let data = installation.data();
    let segment: PathBuf = files(&data.join("runner/spool"))
        .into_iter()
        .max_by_key(|path| path.metadata().map_or(0, |about| about.len()))
        .unwrap();

    for (path, how) in [
        (data.join("server/stockade.db"), Damage::Byte(0)),
        (data.join("server/server-key"), Damage::Byte(500)),
        (data.join("server/server-key"), Damage::Letter),
        (data.join("server/server-id"), Damage::Byte(500)),
        (data.join("runner/identity.toml"), Damage::Byte(100)),
        (data.join("runner/runner.key"), Damage::Byte(500)),
        (data.join("runner/runner.key"), Damage::Letter),
        (data.join("runner/site.key"), Damage::Byte(500)),
        (data.join("runner/site.key"), Damage::Letter),
        (segment, Damage::Byte(200)),
        (data.join("runner/spool/runner.index"), Damage::Byte(10)),
    ] {
        let whole = damage(&path, how);
        let (status, stderr) = up(&data);
        assert_eq!(status, 3, "{} {how:?}: {stderr}", path.display());
        is_one_clear_error(&stderr, &path.file_name().unwrap().to_string_lossy());
        fs::write(&path, whole).unwrap();
    }
    installation.start_server().unwrap();
    assert_eq!(installation.json(&["runs", "show", &run]).unwrap()["state"], "succeeded", "all is as it was");
    export_and_verify(&installation);
}
