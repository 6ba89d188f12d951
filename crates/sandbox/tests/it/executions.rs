//! What the workload starts is noted, and nobody waits for whoever reads it.

use serde_json::{Value, json};
use stockade_sandbox::Driver;

use crate::bed::{Bed, Guest, guest_pid, small};

crate::both!(
    what_is_started_is_noted_by_call_and_path,
    nobody_who_reads_is_needed,
    a_guest_that_dies_leaves_nobody_waiting
);

async fn told(guest: &mut Guest, after: u64) -> Vec<Value> {
    let answer = guest.ask(json!({"op": "executions", "after": after})).await;
    assert_eq!((&answer["reply"], &answer["watched"]), (&json!("executions"), &json!(true)), "{answer}");
    answer["executions"].as_array().unwrap().clone()
}

async fn what_is_started_is_noted_by_call_and_path(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    let call = "call_00000000000000000000000001";
    // Directly, by a script's interpreter, under another name, from memory, and from a child that is on its own.
    let script = "cp /bin/true /tmp/harmless; /tmp/harmless; ln -s /bin/true /tmp/link; /tmp/link; \
                  perl -e 'my $n = \"x\"; my $fd = syscall(319, $n, 0); open(my $m, \">&=\", $fd); binmode $m; \
                  open(my $t, \"<\", \"/bin/true\"); binmode $t; local $/; syswrite($m, <$t>); \
                  my ($e, $no) = (\"\", pack(\"Q\", 0)); syscall(322, $fd, $e, $no, $no, 0x1000)'; \
                  (setsid sh -c 'exec /usr/bin/env true' >/dev/null 2>&1 &); /bin/echo over";
    let ran = guest
        .ask(json!({"op": "exec", "call": call, "argv": ["sh", "-c", script], "timeout_ms": 30000, "max_output": 1000}))
        .await;
    assert_eq!(ran["stdout"], "over\n", "{ran}");
    let list = told(&mut guest, 0).await;
    let paths: Vec<&str> = list.iter().map(|one| one["path"].as_str().unwrap()).collect();
    for path in ["/bin/sh", "/tmp/harmless", "/tmp/link", "/memfd:x (deleted)", "/bin/echo"] {
        assert!(paths.iter().any(|seen| seen.ends_with(path)), "{path}: {paths:?}");
    }
    let during = paths.iter().position(|path| *path == "/bin/echo").unwrap();
    assert!(list[..=during].iter().all(|one| one["call"] == call), "all of them are of that call: {list:?}");
    let echo = list.iter().find(|one| one["path"] == "/bin/echo").unwrap();
    assert_eq!(echo["arguments"], json!(["over"]), "with what it was given");
    assert!(list.iter().all(|one| one["pid"].as_i64().unwrap() > 1 && one["age_ms"].as_u64().unwrap() < 60_000));
    let last = list.last().unwrap()["number"].as_u64().unwrap();
    assert_eq!(last, list.len() as u64, "they count without a gap");
    // What was told is not told again, and what comes later is.
    guest.run(&["true"], 10_000).await;
    let list = told(&mut guest, last).await;
    assert!(
        list.iter().any(|one| one["path"].as_str().unwrap().ends_with("/true") && one["call"].is_null()),
        "{list:?}"
    );
    assert!(list.iter().all(|one| one["number"].as_u64().unwrap() > last));
}

async fn nobody_who_reads_is_needed(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    // More than are kept, most of them of nothing that is there, which is noted too: it might be there a moment later.
    let many = "my $n; for (1..3000) { exec {'/nowhere'} 'x' or $n++ } print $n";
    let ran = guest.run(&["perl", "-e", &format!("no warnings; {many}")], 120_000).await;
    assert_eq!(ran.stdout, "3000", "{}", ran.stderr);
    assert_eq!(
        guest.sh("/bin/echo without room").await.stdout,
        "without room",
        "and without room programs start all the same"
    );
    let answer = guest.ask(json!({"op": "executions", "after": 0})).await;
    assert_eq!(answer["executions"].as_array().unwrap().len(), 1024);
    let dropped = answer["dropped"].as_u64().unwrap();
    assert!(dropped > 3001 - 2048, "{dropped}");
}

async fn a_guest_that_dies_leaves_nobody_waiting(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    // One that starts programs all the time when whoever listens is killed.
    guest.sh("(sh -c 'while :; do /bin/true; done' >/dev/null 2>&1 &)").await;
    let pid = rustix::process::Pid::from_raw(guest_pid(&bed.folder(id))).unwrap();
    let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL).unwrap();
    // Its end is told when everybody else of its process-id namespace has ended.
    let mut fds = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
    let end = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&end)).unwrap(), 1, "it ends, whoever waited for it");
    bed.driver.restart(id).await.unwrap();
    let mut guest = Guest::of(&bed.driver, id).await;
    assert_eq!(guest.sh("/bin/echo again").await.stdout, "again");
    assert!(told(&mut guest, 0).await.iter().any(|one| one["path"] == "/bin/echo"), "and the next guest listens");
}
