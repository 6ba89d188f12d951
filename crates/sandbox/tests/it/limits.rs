//! The limits that hold, and what is said where they cannot.

use serde_json::json;
use stockade_sandbox::{Class, Driver, SandboxError};

use crate::bed::{Bed, fresh_id, is_root, small, spec};

crate::both!(
    memory_is_limited,
    processes_are_limited,
    disk_is_limited,
    processor_time_is_limited,
    what_cannot_be_limited_is_refused,
    open_files_are_limited,
    what_the_kernel_has_for_everybody_is_limited,
    files_without_content_are_limited,
    what_is_used_is_measured_and_only_grows,
);

async fn memory_is_limited(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    let hog = "my @a; push @a, 'x' x (1 << 20) for 1..400; print 'got it all'";
    let ran = guest.run(&["perl", "-e", hog], 30_000).await;
    assert_ne!(ran.status, 0, "{}", ran.stdout);
    assert_eq!(guest.sh("echo alive").await.stdout, "alive");
    if is_root() {
        assert_eq!(ran.answer["signal"], 9, "the kernel ended it");
        // Many together count together, and so does memory that looks like files.
        let many = "for i in 1 2 3 4 5 6; do perl -e '$x = \"x\" x (50 << 20); sleep 2; print 1' & done; wait";
        assert!(guest.sh(many).await.stdout.len() < 4, "six of 50 MiB do not fit into 128");
        let shm = "head -c 120000000 /dev/zero > /dev/shm/big; stat -c %s /dev/shm/big";
        let size: u64 = guest.sh(shm).await.stdout.parse().unwrap_or(0);
        assert!(size <= 64 << 20, "{size}");
    }
}

async fn processes_are_limited(bed: &Bed) {
    let (id, mut guest) = bed.make(Class { processes: 24, ..small() }).await;
    let bomb = "$SIG{CHLD} = 'IGNORE'; my $n = 0; while (defined(my $p = fork)) { if (!$p) { sleep 20; exit } $n++ } print $n; kill 9, -getpgrp";
    let ran = guest.run(&["perl", "-e", &format!("$| = 1; {bomb}")], 30_000).await;
    let made: u32 = ran.stdout.parse().unwrap_or_else(|_| panic!("{} {}", ran.stdout, ran.stderr));
    assert!((10..24).contains(&made), "{made} processes were made");
    // One that nobody stops is stopped by its time, all of it, and the environment is as before.
    let ran = guest.run(&["perl", "-e", "fork while 1"], 1_500).await;
    assert_eq!(ran.answer["timed_out"], true);
    assert_eq!(guest.sh("echo alive").await.stdout, "alive");
    let again = crate::bed::Guest::of(&bed.driver, id).await;
    drop(again);
}

async fn disk_is_limited(bed: &Bed) {
    let (_, mut guest) = bed.make(Class { disk_bytes: 32 << 20, ..small() }).await;
    let fill = "i=0; while [ $i -lt 80 ]; do head -c 1048576 /dev/zero > /workspace/f$i || exit 7; i=$((i+1)); done";
    let ran = guest.sh(fill).await;
    if is_root() {
        assert_eq!(ran.status, 7, "{}", ran.stderr);
        assert!(ran.stderr.contains("No space left"), "{}", ran.stderr);
        assert_ne!(guest.sh("head -c 40000000 /dev/zero > /home/agent/f").await.status, 0, "home counts too");
        assert_ne!(guest.sh("head -c 40000000 /dev/zero > /tmp/f").await.status, 0, "and temporary files");
        let write = guest.ask(json!({"op": "write", "path": "big", "text": "x".repeat(3_000_000)})).await;
        assert_eq!(write["code"], "io", "{write}");
        guest.sh("rm -rf /workspace/* /home/agent/* /tmp/*").await;
        assert_eq!(guest.sh("echo room > /workspace/a && cat /workspace/a").await.stdout, "room");
    } else {
        // The watcher lets a little through and then ends everything; a single file never gets larger.
        let large = "head -c 40000000 /dev/zero > /workspace/large";
        let answer =
            guest.ask(json!({"op": "exec", "argv": ["sh", "-c", large], "timeout_ms": 5000, "max_output": 100})).await;
        assert!(answer["status"] != 0 || answer["reply"] == "error", "{answer}");
        let forever = "while :; do head -c 1048576 /dev/zero > /tmp/$(date +%N); sleep 0.01; done";
        let answer = guest
            .ask(json!({"op": "exec", "argv": ["sh", "-c", forever], "timeout_ms": 20000, "max_output": 100}))
            .await;
        assert!(answer["code"] == "too_large" || answer["signal"] == 9, "{answer}");
        let answer = guest.ask(json!({"op": "exec", "argv": ["true"], "timeout_ms": 1000, "max_output": 100})).await;
        assert_eq!(answer["code"], "too_large", "{answer}");
    }
}

async fn processor_time_is_limited(bed: &Bed) {
    if !is_root() {
        return what_cannot_be_limited_is_refused(bed).await;
    }
    let (_, mut guest) = bed.make(Class { cpu_millis: 200, ..small() }).await;
    // Half a second of work at a fifth of a processor is two and a half seconds at least.
    let ran = guest.run(&["perl", "-e", "1 while (times)[0] < 0.5"], 60_000).await;
    assert_eq!(ran.status, 0);
    let took = ran.answer["duration_ms"].as_u64().unwrap();
    assert!(took > 1_500, "{took} ms");
}

async fn what_cannot_be_limited_is_refused(bed: &Bed) {
    let driver = bed.strict_driver();
    let id = fresh_id();
    let made = driver.create(&spec(id, small())).await;
    if is_root() {
        made.unwrap();
        driver.delete(id).await.unwrap();
    } else {
        let Err(SandboxError::Unavailable { capability, why }) = made else { panic!("{made:?}") };
        assert!(["memory", "disk"].contains(&capability.as_str()), "{capability}: {why}");
        assert!(why.contains("also lacks: ") && why.contains("cpu"), "the others are told too: {why}");
    }
    let missing: Vec<String> = driver.missing().await.into_iter().map(|found| found.name).collect();
    let wanted: &[&str] = if is_root() { &[] } else { &["memory", "cpu", "disk", "environment"] };
    assert_eq!(missing, wanted);
    assert!(bed.driver.missing().await.is_empty(), "what the configuration names is not missing");
    assert!(driver.list().await.is_empty(), "a refusal leaves nothing");
    let found = driver.probe().await;
    for word in ["helpers", "user_namespace", "network_namespace", "seccomp", "landlock", "processes", "environment"] {
        let capability = found.iter().find(|capability| capability.name == word);
        let capability = capability.unwrap_or_else(|| panic!("{word} is not tried"));
        assert!(capability.available || (word == "environment" && !is_root()), "{capability:?}");
        assert!(!capability.why.is_empty());
    }
    for word in ["memory", "cpu", "disk"] {
        assert!(found.iter().any(|capability| capability.name == word && capability.available == is_root()), "{word}");
    }
    assert!(driver.list().await.is_empty(), "a probe leaves nothing");
}

async fn open_files_are_limited(bed: &Bed) {
    let (_, mut guest) = bed.make(Class { open_files: 100, ..small() }).await;
    let open = "my @f; while (open(my $f, '<', '/dev/null')) { push @f, $f } print scalar @f";
    let opened: u32 = guest.run(&["perl", "-e", open], 10_000).await.stdout.parse().unwrap();
    assert!((90..=97).contains(&opened), "{opened}");
    assert_ne!(guest.sh("ulimit -n 200").await.status, 0, "and it cannot be raised");
}

async fn what_the_kernel_has_for_everybody_is_limited(bed: &Bed) {
    let (_, mut guest) = bed.make(Class { open_files: 2_000, ..small() }).await;
    let count = |open: &str| {
        format!(
            "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nmade = []\ntry:\n while len(made) < 900: made.append({open})\nexcept OSError: pass\nprint(len(made))"
        )
    };
    let terminals = guest.run(&["python3", "-c", &count("os.openpty()")], 30_000).await;
    assert_eq!(terminals.stdout, "256", "{}", terminals.stderr);
    let inotify = count("os.open('/dev/null', 0) if libc.inotify_init1(0) >= 0 else os.open('/nowhere', 0)");
    let instances: u32 = guest.run(&["python3", "-c", &inotify], 30_000).await.stdout.parse().unwrap();
    assert!((1..=64).contains(&instances), "{instances}");
}

async fn files_without_content_are_limited(bed: &Bed) {
    let (_, mut guest) = bed.make(Class { disk_bytes: 16 << 20, ..small() }).await;
    // Sixteen MiB hold four thousand at most, whoever counts them: a file system of that size, or the watcher.
    let make = "my $n = 0; while ($n < 200000 && open(my $f, '>', \"/tmp/f$n\")) { $n++; select(undef, undef, undef, 0.2) if $n % 4000 == 0 } print $n";
    let ran =
        guest.ask(json!({"op": "exec", "argv": ["perl", "-e", make], "timeout_ms": 60000, "max_output": 100})).await;
    let made: u32 = ran["stdout"].as_str().unwrap_or("0").parse().unwrap_or(0);
    assert!(made < 40_000, "{ran}");
    assert!(ran["signal"] == 9 || ran["code"] == "too_large" || made > 0, "{ran}");
}

async fn what_is_used_is_measured_and_only_grows(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    let before = bed.driver.measure(id).await.unwrap();
    // Half a second of work in a child, memory that is touched, and files.
    let work = "perl -e '1 while (times)[0] < 0.5; $x = \"x\" x (30 << 20); print length $x' && \
                head -c 8000000 /dev/urandom > /workspace/f && sync";
    assert_eq!(guest.run(&["sh", "-c", work], 60_000).await.status, 0);
    let after = bed.driver.measure(id).await.unwrap();
    assert_eq!(before.since, after.since);
    let cpu_ms = (after.cpu_us - before.cpu_us) / 1_000;
    assert!((450..20_000).contains(&cpu_ms), "{cpu_ms} ms");
    assert!(after.disk_bytes >= before.disk_bytes + 7_000_000, "{before:?} {after:?}");
    if is_root() {
        assert!(after.memory_peak_bytes >= 30 << 20, "{after:?}");
    }
    assert!(after.memory_bytes > 0 && after.memory_bytes < 128 << 20, "{after:?}");
    // What was counted outlives the guest where the kernel counts; elsewhere the counters say that they begin anew.
    bed.driver.restart(id).await.unwrap();
    let again = bed.driver.measure(id).await.unwrap();
    assert!(again.since != after.since || again.cpu_us >= after.cpu_us, "{after:?} {again:?}");
    bed.driver.stop(id).await.unwrap();
    assert!(bed.driver.measure(id).await.unwrap().disk_bytes >= 7_000_000, "its files are still there");
    bed.driver.delete(id).await.unwrap();
    assert_eq!(bed.driver.measure(id).await, None);
}
