//! A runner that is killed at any instant: the next one finds what runs, and removes the rest whole.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    event::Timespec,
    process::{Pid, Signal, kill_process, kill_process_group},
};
use stockade_domain::ids::EnvironmentId;
use stockade_sandbox::{Driver, EnvironmentSpec, Inside, NamespaceDriver, System, User};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::{Bed, Guest, fresh_id, helpers, is_root, small, spec};

crate::both!(
    whatever_a_killed_runner_leaves_is_found_again_or_removed,
    what_is_half_made_or_half_gone_is_removed_and_what_is_being_made_is_not,
);

/// Where the runner that is going to be killed works, and where its helpers are.
const VICTIM: &str = "STOCKADE_TEST_VICTIM";
const ROUNDS: u64 = 24;

/// Makes, uses, restarts and deletes environments until it is killed.
async fn be_killed(bed: &Bed, folder: &Path) {
    let driver = bed.driver_of(&folder.join("environments"), &folder.join("helpers"));
    std::io::stdout().write_all(b"begun\n").unwrap();
    loop {
        let (id, other) = (fresh_id(), fresh_id());
        // One whose system is its own: the first rounds are killed while the template for it is made.
        let overlaid = Inside { system: System::Overlay, user: User::Root, nested: false };
        let (one, two) = (spec(id, small()), EnvironmentSpec { inside: overlaid, ..spec(other, small()) });
        let (first, second) = tokio::join!(driver.create(&one), driver.create(&two));
        first.unwrap();
        second.unwrap();
        let doors = driver.doors(id).await.unwrap();
        driver.restart(id).await.unwrap();
        drop(doors);
        driver.delete(other).await.unwrap();
        driver.stop(id).await.unwrap();
        driver.delete(id).await.unwrap();
    }
}

async fn whatever_a_killed_runner_leaves_is_found_again_or_removed(bed: &Bed) {
    if let Some(folder) = std::env::var_os(VICTIM) {
        return be_killed(bed, Path::new(&folder)).await;
    }
    let folder = bed.dir.path().join("victim");
    // Helpers of its own: by their files its processes are known.
    fs::create_dir_all(folder.join("helpers")).unwrap();
    for name in ["stockade-launch", "stockade-guest"] {
        fs::copy(helpers().join(name), folder.join("helpers").join(name)).unwrap();
    }
    let root = folder.join("environments");
    let next = bed.driver_of(&root, &folder.join("helpers"));
    let (mut adopted, mut restarted, mut chance) = (0, 0, 0x5EED_u64);
    for round in 0..ROUNDS {
        // Numbers without order, the same each time (a linear congruence).
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let runner = kill_one(&folder, (chance >> 33) % 120, round % 2 == 0);
        for id in next.list().await {
            // One whose launcher was killed with it at the very end may be seen for a moment, and is gone.
            if answers(&next, id).await {
                adopted += 1;
            } else {
                next.restart(id).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
                restarted += 1;
            }
            assert_eq!(Guest::of(&next, id).await.sh("echo alive").await.stdout, "alive");
            next.delete(id).await.unwrap();
        }
        nothing_is_left(&next, &folder, runner, round).await;
    }
    assert!(
        adopted > 0 && restarted > 0,
        "{adopted} ran on, {restarted} were started again: chance did not try enough"
    );
}

/// Whether a guest runs there and goes on running.
async fn answers(driver: &NamespaceDriver, id: EnvironmentId) -> bool {
    let Ok(mut stream) = driver.connect(id).await else { return false };
    let ping = br#"{"id":1,"op":"ping"}"#;
    let talk = async {
        stream.write_u32(u32::try_from(ping.len()).unwrap()).await?;
        stream.write_all(ping).await?;
        stream.read_u32().await
    };
    talk.await.is_ok()
}

/// Starts a runner and kills it after so many milliseconds, alone or with what it had started just then.
fn kill_one(folder: &Path, after_ms: u64, whole: bool) -> u32 {
    let mode = if is_root() { "as_root" } else { "as_user" };
    let name = format!("janitor::{mode}::whatever_a_killed_runner_leaves_is_found_again_or_removed");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(VICTIM, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut byte = [0];
    let out = victim.stdout.as_mut().unwrap();
    while !said.contains("begun") {
        assert_eq!(out.read(&mut byte).unwrap(), 1, "it begins: {said}");
        said.push(char::from(byte[0]));
    }
    let nanos = i64::try_from(after_ms * 1_000_000).unwrap();
    rustix::event::poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: nanos })).unwrap();
    let pid = Pid::from_child(&victim);
    if whole {
        kill_process_group(pid, Signal::KILL).unwrap();
    } else {
        kill_process(pid, Signal::KILL).unwrap();
    }
    victim.wait().unwrap();
    victim.id()
}

/// Control groups of environments of a runner's process, whose number is in its ids.
fn groups_of(runner: u32) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = next.pop() {
        for path in fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir() && !path.is_symlink())
        {
            let id = path.file_name().and_then(|name| name.to_str()?.parse::<EnvironmentId>().ok());
            match id.map(|id| u128::from_be_bytes(*id.as_bytes()) >> 64) {
                Some(owner) if owner == u128::from(runner) => found.push(path.display().to_string()),
                _ => next.push(path),
            }
        }
    }
    found
}

/// The processes that run a program of this folder.
fn processes_of(helpers: &Path) -> Vec<String> {
    let of = |path: PathBuf| fs::metadata(path).map(|facts| (facts.dev(), facts.ino())).ok();
    let ours: Vec<_> = ["stockade-launch", "stockade-guest"].iter().filter_map(|name| of(helpers.join(name))).collect();
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let running = entries.filter(|path| of(path.join("exe")).is_some_and(|program| ours.contains(&program)));
    running.map(|path| path.display().to_string()).collect()
}

async fn nothing_is_left(driver: &NamespaceDriver, folder: &Path, runner: u32, round: u64) {
    // A launcher whose runner is gone may be on its way to notice; what it made meanwhile is found, and a loop device is let go by the
    // kernel a little after the last process that could see its mount.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        for id in driver.list().await {
            driver.delete(id).await.unwrap();
        }
        let mut left = processes_of(&folder.join("helpers"));
        let names = fs::read_dir(folder.join("environments")).into_iter().flatten().flatten().map(|entry| entry.path());
        left.extend(names.filter(|path| !path.ends_with("templates")).map(|path| path.display().to_string()));
        let templates = fs::read_dir(folder.join("environments/templates")).into_iter().flatten().flatten();
        let templates = templates.map(|entry| entry.path());
        // What is whole is kept for the next: images, copies of the machine's system, and the lock of these.
        let whole = |name: &str| name.ends_with(".img") || name.starts_with("system-") || name == "system.lock";
        left.extend(
            templates.map(|path| path.display().to_string()).filter(|path| !path.rsplit('/').next().is_some_and(whole)),
        );
        let devices = fs::read_dir("/sys/block")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("loop/backing_file"));
        let devices = devices.filter_map(|path| fs::read_to_string(path).ok());
        left.extend(devices.filter(|image| image.contains(folder.to_str().unwrap())));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(folder.to_str().unwrap())).map(str::to_owned));
        left.extend(groups_of(runner));
        if left.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < end, "round {round}: {left:#?}");
        std::thread::yield_now();
    }
}

async fn what_is_half_made_or_half_gone_is_removed_and_what_is_being_made_is_not(bed: &Bed) {
    let root = bed.dir.path().join("environments");
    let (id, gone, busy) = (fresh_id(), fresh_id(), fresh_id());
    bed.driver.create(&spec(id, small())).await.unwrap();
    // Killed before its folder had a note, in the middle of making a template; killed when only the note was left.
    fs::create_dir_all(root.join("templates")).unwrap();
    fs::write(root.join(format!("templates/{gone}")), "half a file system").unwrap();
    fs::create_dir_all(root.join(format!("templates/{gone}.system/etc"))).unwrap();
    fs::create_dir(root.join(format!("{gone}.half"))).unwrap();
    fs::write(root.join(format!("{gone}.half/environment.json")), "{}").unwrap();
    fs::write(root.join(format!("{gone}.lock")), "").unwrap();
    // Somebody is at this one.
    fs::create_dir(root.join(format!("{busy}.half"))).unwrap();
    let lock = fs::File::create(root.join(format!("{busy}.lock"))).unwrap();
    lock.lock().unwrap();
    assert_eq!(bed.driver.list().await, [id]);
    for name in [
        format!("{gone}.half"),
        format!("{gone}.lock"),
        format!("templates/{gone}"),
        format!("templates/{gone}.system"),
    ] {
        assert!(!root.join(&name).exists(), "{name}");
    }
    assert!(root.join(format!("{busy}.half")).exists() && root.join(format!("{busy}.lock")).exists());
    drop(lock);
    assert_eq!(bed.driver.list().await, [id]);
    assert!(!root.join(format!("{busy}.half")).exists() && !root.join(format!("{busy}.lock")).exists());
    assert_eq!(Guest::of(&bed.driver, id).await.sh("echo alive").await.stdout, "alive");
}
