//! Commands and their ends, and what the journal makes of repeats.

use std::{fs, time::Instant};

use stockade_api::guest::{Exec, Op, Reply, Stream};

use crate::bed::{Bed, call, code, exited, shell};

#[test]
fn streams_status_variables_and_input_are_as_asked() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    let exec = Exec {
        cwd: "sub".into(),
        env: vec![("GREETING".into(), "hello".into()), ("PATH".into(), "/usr/bin:/bin".into())],
        stdin: Some("from outside".into()),
        ..shell("pwd; echo $GREETING; cat; echo wrong >&2; echo $STOCKADE_CALL; exit 3")
    };
    fs::create_dir(bed.workspace().join("sub")).unwrap();
    let (answer, live) = peer.call(call(1), Op::Exec(exec));
    let Reply::Exited { status, signal, timed_out, stdout, stderr, .. } = &answer.reply else { panic!("{answer:?}") };
    let sub = bed.workspace().join("sub").display().to_string();
    let name = call(1).unwrap();
    assert_eq!(*stdout, format!("{sub}\nhello\nfrom outside{name}\n"));
    assert_eq!((*status, *signal, *timed_out, stderr.as_str()), (3, None, false, "wrong\n"));
    assert_eq!(live.len(), stdout.len() + stderr.len(), "all of it was also sent live");
}

#[test]
fn a_command_that_cannot_start_says_why() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    let exec = |argv: &[&str]| Op::Exec(Exec { argv: argv.iter().map(ToString::to_string).collect(), ..shell("") });
    assert_eq!(code(&peer.ask(exec(&["no-such-program"]))), "not_found");
    assert_eq!(code(&peer.ask(exec(&["./missing"]))), "not_found");
    fs::write(bed.workspace().join("plain"), "text").unwrap();
    assert_eq!(code(&peer.ask(exec(&["./plain"]))), "io");
    assert_eq!(code(&peer.ask(exec(&[]))), "bad_request");
    assert_eq!(code(&peer.ask(exec(&["echo", "a\0b"]))), "bad_request");
    assert_eq!(code(&peer.ask(exec(&["echo", &"x".repeat(1 << 20)]))), "too_large");
    assert_eq!(code(&peer.ask(Op::Exec(Exec { cwd: "../..".into(), ..shell("pwd") }))), "outside");
    assert_eq!(code(&peer.ask(Op::Exec(Exec { cwd: "nowhere".into(), ..shell("pwd") }))), "not_found");
}

#[test]
fn a_time_out_ends_all_of_it_however_it_hides() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    let hide = "for i in 1 2 3; do setsid sh -c 'trap \"\" TERM HUP INT; while :; do echo x >> ticks; sleep 0.05; done' & done; \
                trap '' TERM; sleep 100";
    let began = Instant::now();
    let reply = peer.ask(Op::Exec(Exec { timeout_ms: 400, ..shell(hide) }));
    let Reply::Exited { timed_out: true, signal: Some(9), status: 137, .. } = reply else { panic!("{reply:?}") };
    assert!(began.elapsed().as_secs() < 10);
    // What would still tick, would tick while another command runs.
    let ticks = fs::read(bed.workspace().join("ticks")).unwrap().len();
    peer.sh("sleep 0.3");
    assert_eq!(fs::read(bed.workspace().join("ticks")).unwrap().len(), ticks);
}

#[test]
fn a_signal_reaches_a_running_command_and_what_it_started() {
    let bed = Bed::new();
    let (mut peer, mut other) = (bed.connect(), bed.connect());
    peer.send(call(1), Op::Exec(shell("sleep 100 & sleep 100 & echo up; wait; wait")));
    let first = peer.receive().unwrap();
    assert!(matches!(first.reply, Reply::Output { stream: Stream::Stdout, .. }), "{first:?}");
    assert_eq!(other.ask(Op::Signal { exec: call(1).unwrap(), signal: 9 }), Reply::Done {});
    let end = peer.receive().unwrap().reply;
    assert!(matches!(end, Reply::Exited { signal: Some(9), timed_out: false, .. }), "{end:?}");
    assert_eq!(code(&other.ask(Op::Signal { exec: call(1).unwrap(), signal: 9 })), "not_found");
    assert_eq!(code(&other.ask(Op::Signal { exec: call(2).unwrap(), signal: 99 })), "bad_request");
}

#[test]
fn beginning_and_end_of_much_output_are_kept() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    let exec = Exec { max_output: 100, ..shell("echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last") };
    let (answer, live) = peer.call(None, Op::Exec(exec));
    let Reply::Exited { stdout, .. } = answer.reply else { panic!("{answer:?}") };
    assert!(stdout.starts_with("first\nxxx") && stdout.ends_with("xxx\nlast\n"), "{stdout}");
    assert!(stdout.contains("bytes left out") && stdout.len() < 200, "{stdout}");
    assert!(live.len() <= 50, "no more than the beginning is sent live");
    // The most that can be asked for, of bytes that grow most when escaped, still fits into a frame.
    let exec = Exec { max_output: u64::MAX, ..shell("head -c 600000 /dev/zero; head -c 600000 /dev/zero >&2") };
    assert!(matches!(peer.ask(Op::Exec(exec)), Reply::Exited { status: 0, .. }));
}

#[test]
fn what_a_command_leaves_running_neither_holds_it_up_nor_dies_of_it() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    let began = Instant::now();
    let left = "touch begun; (while ! test -e stop && test -e begun; do echo still here; echo x >> ticks; sleep 0.02; done; rm begun) & \
                echo begun";
    let reply = peer.sh(left);
    assert!(exited(&reply).1.starts_with("begun"));
    assert!(began.elapsed().as_secs() < 3);
    let ticks = || fs::read(bed.workspace().join("ticks")).unwrap_or_default().len();
    let before = ticks();
    while ticks() < before + 10 {}
    fs::write(bed.workspace().join("stop"), "").unwrap();
    while bed.workspace().join("begun").exists() {}
}

#[test]
fn a_repeated_call_is_answered_and_not_done_again() {
    let mut bed = Bed::new();
    let mut peer = bed.connect();
    let once = || Op::Exec(shell("echo x >> ledger; wc -l < ledger"));
    let (first, _) = peer.call(call(1), once());
    let (again, live) = peer.call(call(1), once());
    assert_eq!((first.replayed, again.replayed, live.as_str()), (false, true, ""));
    assert_eq!(first.reply, again.reply);
    bed.kill();
    bed.start(&[]);
    let (again, _) = bed.connect().call(call(1), once());
    assert_eq!((again.replayed, &again.reply), (true, &first.reply));
    assert_eq!(fs::read_to_string(bed.workspace().join("ledger")).unwrap(), "x\n");
}

#[test]
fn a_second_peer_that_asks_the_same_waits_for_the_first() {
    let bed = Bed::new();
    let (mut peer, mut other) = (bed.connect(), bed.connect());
    let op = || Op::Exec(shell("echo x >> ledger; while ! test -e go; do sleep 0.01; done; echo done"));
    peer.send(call(1), op());
    while !bed.workspace().join("ledger").exists() {}
    // The first is gone; the command goes on.
    drop(peer);
    other.send(call(1), op());
    let mut third = bed.connect();
    third.sh("touch go");
    let answer = other.receive().unwrap();
    assert!(answer.replayed);
    assert_eq!(exited(&answer.reply), (0, "done\n"));
    assert_eq!(fs::read_to_string(bed.workspace().join("ledger")).unwrap(), "x\n");
}

#[test]
fn what_a_killed_guest_was_at_is_interrupted_or_done_again_as_is_right() {
    let mut bed = Bed::new();
    let mut peer = bed.connect();
    peer.send(call(1), Op::Exec(shell("echo x >> ledger; sleep 1000")));
    while !bed.workspace().join("ledger").exists() {}
    let write = || Op::Write { path: "a".into(), text: "one two".into() };
    let edit = || Op::Edit { path: "a".into(), old: "one".into(), new: "three".into() };
    let mut other = bed.connect();
    assert_eq!(other.call(call(2), write()).0.reply, Reply::Done {});
    assert_eq!(other.call(call(3), edit()).0.reply, Reply::Done {});
    bed.kill();
    bed.start(&[]);
    let mut peer = bed.connect();
    let (answer, _) = peer.call(call(1), Op::Exec(shell("echo x >> ledger; sleep 1000")));
    assert_eq!(answer.reply, Reply::Interrupted {});
    assert_eq!(fs::read_to_string(bed.workspace().join("ledger")).unwrap(), "x\n");
    let (answer, _) = peer.call(call(3), edit());
    assert_eq!((answer.replayed, answer.reply), (true, Reply::Done {}));
    assert_eq!(fs::read_to_string(bed.workspace().join("a")).unwrap(), "three two");
}

#[test]
fn an_edit_whose_end_was_lost_is_not_done_twice() {
    let mut bed = Bed::new();
    fs::write(bed.workspace().join("a"), "x").unwrap();
    // Done twice, this would make `xyy`.
    let edit = || Op::Edit { path: "a".into(), old: "x".into(), new: "xy".into() };
    assert_eq!(bed.connect().call(call(1), edit()).0.reply, Reply::Done {});
    bed.kill();
    // The last line of the journal is lost, as if the guest had died before it wrote it.
    let path = bed.dir.path().join("state/journal");
    let journal = fs::read(&path).unwrap();
    fs::write(&path, &journal[..journal.len() - 1]).unwrap();
    bed.start(&[]);
    let (answer, _) = bed.connect().call(call(1), edit());
    assert_eq!((answer.replayed, answer.reply), (false, Reply::Done {}));
    assert_eq!(fs::read_to_string(bed.workspace().join("a")).unwrap(), "xy");
}
