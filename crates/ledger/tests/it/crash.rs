//! Crashes that are real: a process killed while it appends, a disk that is full.
//!
//! The other process is this same test binary, running one test that does nothing unless a variable tells it to.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use stockade_ledger::{
    EntryKind, Ledger, LedgerError, Log, LogEntry, LogError, LogOptions, Record, SigningKey, SystemWorld,
};

use crate::common::{decision, deed, open_ledger, open_log, producer};

const DIR: &str = "STOCKADE_TEST_LEDGER_DIR";
const PAYLOAD: &str = "STOCKADE_TEST_LEDGER_PAYLOAD";
const SEGMENT: &str = "STOCKADE_TEST_LEDGER_SEGMENT";
const READY: &str = "STOCKADE_TEST_LEDGER_READY";

/// What the other process does: appends from eight tasks and prints each acknowledged record, until it is killed.
#[tokio::test]
async fn child_appends_until_killed() {
    let Ok(dir) = env::var(DIR) else { return };
    let segment_bytes = env::var(SEGMENT).unwrap().parse().unwrap();
    let ready_after = env::var(READY).map_or(u64::MAX, |after| after.parse().unwrap());
    let log = Arc::new(Log::open(Path::new(&dir), LogOptions { segment_bytes, ready_after }).unwrap());
    let ledger = Arc::new(Ledger::start(log, producer(), SigningKey::generate(), Arc::new(SystemWorld)).unwrap());
    let payload: usize = env::var(PAYLOAD).unwrap().parse().unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                loop {
                    let extra = vec![LogEntry::new(EntryKind::Event, vec![b'x'; payload])];
                    let result = ledger.open_with(&deed(), &decision(), vec![], (), extra).await;
                    let line = match &result {
                        Ok(opened) => format!("ok {}\n", opened.record()),
                        Err(LedgerError::Log(LogError::Full { .. })) => "full\n".to_owned(),
                        Err(e) => format!("error {e:?}\n"),
                    };
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                    if result.is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn child(dir: &Path, payload: usize) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "crash::child_appends_until_killed", "--nocapture"]);
    command
        .env(DIR, dir)
        .env(PAYLOAD, payload.to_string())
        .env(SEGMENT, "20000")
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn recorded(log: &Log) -> Vec<String> {
    let entries = log.read(0, usize::MAX, usize::MAX).unwrap().into_iter();
    let records = entries.filter(|(_, entry)| entry.kind == EntryKind::Record);
    records.map(|(_, entry)| Record::parse(&entry.payload).unwrap().id.to_string()).collect()
}

fn acknowledged(text: &str) -> Vec<String> {
    // The test harness's own first line may stand before ours, and a line may be cut by the kill.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| line.split_once("ok rec_")).map(|(_, id)| format!("rec_{id}")).collect()
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there() {
    for trial in 0..16_usize {
        let dir = tempfile::tempdir().unwrap();
        let mut process = child(dir.path(), 300);
        if trial % 4 != 0 {
            // Segments are made ready beside the work, and the kill may come in the middle of that too.
            process.env(READY, "1");
        }
        let mut process = process.spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut text = String::new();
        // It is killed as soon as it has said so many lines, wherever it then is.
        for _ in 0..20 + trial * 13 {
            out.read_line(&mut text).unwrap();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        out.read_to_string(&mut text).unwrap();
        let said = acknowledged(&text);
        assert!(said.len() > 10, "{text}");

        let ledger = open_ledger(dir.path());
        let there = recorded(ledger.log());
        for id in &said {
            assert!(there.contains(id), "trial {trial}: {id} was acknowledged and is not there");
        }
        assert_eq!(ledger.size(), there.len() as u64);
        assert_eq!(ledger.unclosed().len(), there.len());
    }
}

#[test]
fn a_full_disk_is_an_error_and_nothing_acknowledged_is_lost() {
    // A limit on the size of files stands for the disk: writing beyond it fails in the middle of a frame, as on a full disk. The
    // signal that comes with it is ignored by the shell, and so by what it starts. No privilege is needed.
    let dir = tempfile::tempdir().unwrap();
    let exe = env::current_exe().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 60; exec \"$@\"", "sh"]).arg(exe);
    shell.args(["--exact", "crash::child_appends_until_killed", "--nocapture"]);
    // 60 blocks are 30 or 60 kB, and all goes into one file.
    shell
        .env(DIR, dir.path())
        .env(PAYLOAD, "5000")
        .env(SEGMENT, "1000000000")
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let output = shell.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("full\n"), "{text}");
    assert!(!text.contains("error "), "{text}");

    let ledger = open_ledger(dir.path());
    let there = recorded(ledger.log());
    let said = acknowledged(&text);
    assert_eq!(there.len(), said.len(), "what was refused is not there");
    assert!(said.iter().all(|id| there.contains(id)));
    assert!(ledger.log().recovered().is_none(), "a failed write was cut back at once");
}

#[tokio::test]
async fn a_log_goes_on_once_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("small");
    fs::create_dir(&place).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&place).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED a_log_goes_on_once_there_is_room_again: a file system cannot be mounted here");
        return;
    }
    let result = tokio::spawn(fill_and_go_on(place.clone())).await;
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    result.unwrap();
}

async fn fill_and_go_on(place: std::path::PathBuf) {
    let ballast = place.join("ballast");
    fs::write(&ballast, vec![1; 100_000]).unwrap();
    let log = open_log(&place);
    let ledger = Ledger::start(Arc::clone(&log), producer(), SigningKey::generate(), Arc::new(SystemWorld)).unwrap();
    let extra = || vec![LogEntry::new(EntryKind::Event, vec![b'x'; 9000])];
    let mut opened = Vec::new();
    let error = loop {
        match ledger.open_with(&deed(), &decision(), vec![], (), extra()).await {
            Ok(one) => opened.push(one.record()),
            Err(e) => break e,
        }
    };
    assert!(matches!(error, LedgerError::Log(LogError::Full { .. })), "{error:?}");
    assert_eq!((ledger.size(), ledger.unclosed().len()), (opened.len() as u64, opened.len()));
    fs::remove_file(&ballast).unwrap();
    opened.push(ledger.open_with(&deed(), &decision(), vec![], (), extra()).await.unwrap().record());
    let checkpoint = ledger.checkpoint().checkpoint().clone();
    drop((ledger, log));
    let ledger = open_ledger(&place);
    assert_eq!(*ledger.checkpoint().checkpoint(), checkpoint);
    assert_eq!(ledger.unclosed().into_iter().map(|(id, ..)| id).collect::<Vec<_>>(), opened);
}
