//! Making, finding again, restarting, removing.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::json;
use stockade_domain::ids::EnvironmentId;
use stockade_sandbox::{Class, Driver, NamespaceConfig, NamespaceDriver, SandboxError};

use crate::bed::{Bed, Guest, fresh_id, guest_pid, small, spec};

crate::both!(
    deletion_leaves_nothing,
    another_runner_finds_it_again,
    a_killed_guest_comes_back_over_its_files,
    a_stopped_one_starts_again,
    many_at_once_are_apart,
    making_one_twice_makes_one,
    a_long_path_is_no_trouble,
    mistakes_are_named,
    a_toolchain_that_was_named_can_be_used_and_not_changed,
);

/// Processes of the machine whose command line holds a word.
fn processes(word: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != i32::try_from(std::process::id()).unwrap() && String::from_utf8_lossy(&line).contains(word)
    })
    .collect()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL).unwrap();
    let mut fds = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
}

async fn deletion_leaves_nothing(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    let word = format!("outliving-{id}");
    // Twice forked, sessions of their own, deaf to signals, one with a closed folder of files.
    let script = format!(
        "mkdir -p /workspace/a/b && touch /workspace/a/b/c && chmod 0 /workspace/a/b /workspace/a; \
         for i in 1 2 3; do (setsid perl -e '$0 = \"{word}\"; $SIG{{$_}} = \"IGNORE\" for keys %SIG; \
         if (fork) {{ exit }} fork; sleep 1000' >/dev/null 2>&1 &) ; done; sleep 0.5"
    );
    assert_eq!(guest.sh(&script).await.status, 0);
    assert_eq!(processes(&word).len(), 6, "they outlive the command that began them");
    bed.driver.delete(id).await.unwrap();
    assert!(processes(&word).is_empty(), "and nobody outlives deletion");
    assert!(!bed.folder(id).exists());
    assert!(bed.driver.list().await.is_empty());
    assert!(!bed.driver.is_running(id).await);
    assert!(matches!(bed.driver.connect(id).await, Err(SandboxError::Unknown { .. })));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&id.to_string()), "no mount is left");
    for group in ["memory", "pids", "cpu", "unified"] {
        assert!(!Path::new("/sys/fs/cgroup").join(group).join("stockade").join(id.to_string()).exists());
    }
    bed.driver.delete(id).await.expect("deleting what is gone is no error");
}

async fn another_runner_finds_it_again(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    guest.ask(json!({"op": "write", "path": "a/b", "text": "kept"})).await;
    let boot = guest.ask(json!({"op": "ping"})).await["boot"].clone();
    drop(guest);
    let driver = bed.driver_again();
    assert_eq!(driver.list().await, [id]);
    assert!(driver.is_running(id).await);
    driver.create(&spec(id, small())).await.unwrap();
    let mut guest = Guest::of(&driver, id).await;
    assert_eq!(guest.ask(json!({"op": "ping"})).await["boot"], boot, "the same guest still runs");
    assert_eq!(guest.ask(json!({"op": "read", "path": "a/b"})).await["text"], "kept");
    driver.delete(id).await.unwrap();
}

async fn a_killed_guest_comes_back_over_its_files(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    let word = format!("beside-{id}");
    let call = |n: u8, script: &str| {
        json!({"op": "exec", "call": format!("call_0000000000000000000000000{n}"),
               "argv": ["sh", "-c", script], "timeout_ms": 30000, "max_output": 100})
    };
    let ended = guest.ask(call(1, "echo once >> ledger; echo done")).await;
    assert_eq!(ended["stdout"], "done\n");
    for place in ["/workspace/w", "/home/agent/h", "/tmp/t"] {
        guest.sh(&format!("echo kept > {place}; (perl -e '$0 = \"{word}\"; sleep 1000' >/dev/null 2>&1 &)")).await;
    }
    // This one is under way when the guest dies.
    let asked = tokio::spawn({
        let mut other = Guest::of(&bed.driver, id).await;
        let request = call(2, "echo begun >> ledger; sleep 1000");
        async move { other.ask(request).await }
    });
    while guest.sh("grep -c begun ledger").await.stdout != "1" {}
    let pid = guest_pid(&bed.folder(id));
    kill(pid);
    assert!(asked.await.is_err(), "whoever waited is told");
    assert!(!bed.driver.is_running(id).await);
    assert!(matches!(bed.driver.connect(id).await, Err(SandboxError::Gone { .. })));
    assert!(processes(&word).is_empty(), "its end is everybody's end");
    assert_eq!(bed.driver.list().await, [id], "but it is known");

    bed.driver.restart(id).await.unwrap();
    assert_ne!(guest_pid(&bed.folder(id)), pid);
    let mut guest = Guest::of(&bed.driver, id).await;
    assert_eq!(guest.sh("cat /workspace/w /home/agent/h /tmp/t").await.stdout, "kept\nkept\nkept");
    let again = guest.ask(call(1, "echo once >> ledger; echo done")).await;
    assert_eq!((&again["stdout"], &again["replayed"]), (&json!("done\n"), &json!(true)));
    assert_eq!(guest.ask(call(2, "echo begun >> ledger; sleep 1000")).await["reply"], "interrupted");
    assert_eq!(guest.sh("cat ledger").await.stdout, "once\nbegun", "nothing was done twice");
    bed.driver.delete(id).await.unwrap();
}

async fn a_stopped_one_starts_again(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    guest.ask(json!({"op": "write", "path": "f", "text": "kept"})).await;
    bed.driver.stop(id).await.unwrap();
    bed.driver.stop(id).await.expect("stopping twice is no error");
    assert!(!bed.driver.is_running(id).await);
    bed.driver.create(&spec(id, small())).await.unwrap();
    let mut guest = Guest::of(&bed.driver, id).await;
    assert_eq!(guest.ask(json!({"op": "read", "path": "f"})).await["text"], "kept");
    // Again and again without a pause: the old mount must be gone before the new one is made.
    for _ in 0..5 {
        bed.driver.restart(id).await.unwrap();
    }
    let mut guest = Guest::of(&bed.driver, id).await;
    assert_eq!(guest.ask(json!({"op": "read", "path": "f"})).await["text"], "kept");
}

async fn many_at_once_are_apart(bed: &Bed) {
    let ids: Vec<EnvironmentId> = (0..6).map(|_| fresh_id()).collect();
    let made = ids.iter().map(|id| {
        let (driver, id) = (bed.driver_again(), *id);
        tokio::spawn(async move {
            driver.create(&spec(id, small())).await.unwrap();
            let mut guest = Guest::of(&driver, id).await;
            guest.sh(&format!("echo {id} > /workspace/own; echo {id} > /tmp/own; (sleep 500 >/dev/null 2>&1 &)")).await;
        })
    });
    for one in made.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert_eq!(bed.driver.list().await.len(), 6);
    for id in &ids {
        let mut guest = Guest::of(&bed.driver, *id).await;
        assert_eq!(guest.sh("cat /workspace/* /tmp/own").await.stdout, format!("{id}\n{id}"));
        assert_eq!(
            guest.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 50[0]' | wc -l").await.stdout,
            "1"
        );
    }
    for id in ids {
        bed.driver.delete(id).await.unwrap();
    }
    assert!(bed.driver.list().await.is_empty());
}

async fn making_one_twice_makes_one(bed: &Bed) {
    let id = fresh_id();
    let made: Vec<_> = (0..4)
        .map(|_| {
            let driver = bed.driver_again();
            tokio::spawn(async move { driver.create(&spec(id, small())).await })
        })
        .collect();
    for one in made {
        one.await.unwrap().unwrap();
    }
    let pid = guest_pid(&bed.folder(id));
    bed.driver.create(&spec(id, small())).await.unwrap();
    assert_eq!(guest_pid(&bed.folder(id)), pid);
    bed.driver.delete(id).await.unwrap();
    assert!(processes(&id.to_string()).is_empty());
}

async fn a_long_path_is_no_trouble(bed: &Bed) {
    let root = bed.dir.path().join("long".repeat(50)).join("and longer".repeat(15));
    let driver = bed.driver_at(&root);
    let id = fresh_id();
    driver.create(&spec(id, small())).await.unwrap();
    Guest::of(&driver, id).await;
    driver.delete(id).await.unwrap();
}

async fn mistakes_are_named(bed: &Bed) {
    let id = fresh_id();
    let none = bed.dir.path().join("nowhere");
    let driver = NamespaceDriver::new(NamespaceConfig {
        root: bed.dir.path().join("environments"),
        helpers: none.clone(),
        allow_degraded: bed.degraded.clone(),
        extra_read_only: Vec::new(),
        without_redirection: false,
    });
    let error = driver.create(&spec(id, small())).await.unwrap_err();
    assert!(matches!(error, SandboxError::Helper { .. }), "{error}");
    assert!(error.to_string().contains("nowhere") && error.to_string().contains("STOCKADE_HELPERS"), "{error}");
    let class = Class { disk_bytes: 1, ..small() };
    let error = bed.driver.create(&spec(id, class)).await.unwrap_err();
    assert!(matches!(error, SandboxError::BadSpec { .. }), "{error}");
    assert!(matches!(bed.driver.restart(id).await, Err(SandboxError::Unknown { .. })));
    assert!(bed.driver.list().await.is_empty());
    assert!(driver.probe().await.iter().any(|found| found.name == "helpers" && !found.available));
}

async fn a_toolchain_that_was_named_can_be_used_and_not_changed(bed: &Bed) {
    let tools = bed.dir.path().join("tools");
    fs::create_dir_all(tools.join("bin")).unwrap();
    fs::write(tools.join("bin/my-tool"), "#!/bin/sh\necho it works\n").unwrap();
    fs::set_permissions(tools.join("bin/my-tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(bed.dir.path().join("beside"), "not named").unwrap();
    let driver = bed.driver_with(std::slice::from_ref(&tools));
    let id = fresh_id();
    driver.create(&spec(id, small())).await.unwrap();
    let mut guest = Guest::of(&driver, id).await;
    assert_eq!(guest.sh("my-tool").await.stdout, "it works");
    let tools = tools.display();
    assert_ne!(guest.sh(&format!("echo x > {tools}/bin/my-tool || touch {tools}/new")).await.status, 0);
    assert_ne!(guest.sh(&format!("cat {tools}/../beside")).await.status, 0, "what is beside it is not there");
    // Below a folder that is a link inside, and below one that is the environment's own.
    let there = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::write(there.path().join("text"), "from the machine").unwrap();
    fs::set_permissions(there.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let driver = bed.driver_with(&[there.path().to_owned()]);
    let id = fresh_id();
    driver.create(&spec(id, small())).await.unwrap();
    let mut guest = Guest::of(&driver, id).await;
    let at = there.path().display();
    assert_eq!(
        guest.sh(&format!("cat {at}/text; touch {at}/x || echo refused")).await.stdout,
        "from the machinerefused"
    );
    let elsewhere = bed.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    // A link in its place is not followed out when the environment starts again.
    let deep = bed.dir.path().join("deep/tools");
    fs::create_dir_all(&deep).unwrap();
    let driver = bed.driver_with(&[deep]);
    let id = fresh_id();
    driver.create(&spec(id, small())).await.unwrap();
    let own = bed.dir.path().display();
    let swap = format!("mv {own} /tmp/moved && mkdir {own} && ln -s {} {own}/deep", elsewhere.display());
    assert_eq!(Guest::of(&driver, id).await.sh(&swap).await.status, 0);
    assert!(driver.restart(id).await.is_err());
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing was made on the machine");
    let driver = bed.driver_with(&["/etc".into()]);
    let error = driver.create(&spec(fresh_id(), small())).await.unwrap_err();
    assert!(matches!(&error, SandboxError::BadSpec { why, .. } if why.contains("/etc")), "{error}");
    // Named, and missing: said at the making, not found out by the agent.
    let driver = bed.driver_with(&[bed.dir.path().join("missing")]);
    let error = driver.create(&spec(fresh_id(), small())).await.unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}
