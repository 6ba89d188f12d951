//! Files and the transfer folder, with a workload that sets traps.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::atomic::{AtomicBool, Ordering},
};

use stockade_api::guest::{Op, Reply};

use crate::bed::{Bed, Peer, code};

fn read(peer: &mut Peer, path: &str) -> Reply {
    peer.ask(Op::Read { path: path.into(), from_line: None, max_lines: None })
}

fn write(peer: &mut Peer, path: &str, text: &str) -> Reply {
    peer.ask(Op::Write { path: path.into(), text: text.into() })
}

fn text(reply: &Reply) -> (&str, bool) {
    match reply {
        Reply::Text { text, truncated } => (text, *truncated),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_are_written_read_and_edited() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    assert_eq!(write(&mut peer, "a/b/c.txt", "one\ntwo\nthree\n"), Reply::Done {});
    assert_eq!(text(&read(&mut peer, "a/b/c.txt")), ("one\ntwo\nthree\n", false));
    let lines = |from, max| Op::Read { path: "a/b/c.txt".into(), from_line: Some(from), max_lines: Some(max) };
    assert_eq!(text(&peer.ask(lines(2, 1))), ("two\n", true));
    assert_eq!(text(&peer.ask(lines(3, 5))), ("three\n", false));
    assert_eq!(text(&peer.ask(lines(9, 5))), ("", false));
    let edit = |old: &str, new: &str| Op::Edit { path: "a/b/c.txt".into(), old: old.into(), new: new.into() };
    assert_eq!(peer.ask(edit("two", "2")), Reply::Done {});
    assert_eq!(code(&peer.ask(edit("two", "2"))), "no_match");
    assert_eq!(code(&peer.ask(edit("e", "E"))), "many_matches");
    assert_eq!(code(&peer.ask(edit("", "x"))), "bad_request");
    assert_eq!(fs::read_to_string(bed.workspace().join("a/b/c.txt")).unwrap(), "one\n2\nthree\n");
    let tool = bed.workspace().join("tool");
    fs::write(&tool, "old").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    write(&mut peer, "tool", "new");
    assert_eq!(fs::metadata(&tool).unwrap().permissions().mode() & 0o777, 0o755, "a program stays one");
    assert_eq!(code(&read(&mut peer, "missing")), "not_found");
    assert_eq!(code(&read(&mut peer, "a")), "not_text");
    fs::write(bed.workspace().join("binary"), [0, 1, 2]).unwrap();
    assert_eq!(code(&read(&mut peer, "binary")), "not_text");
    assert_eq!(code(&write(&mut peer, "a/b", "x")), "bad_request");
    let names: Vec<_> = fs::read_dir(bed.workspace()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing is left lying about: {names:?}");
}

#[test]
fn no_path_leads_out() {
    let bed = Bed::new();
    fs::write(bed.dir.path().join("secret"), "secret").unwrap();
    let space = bed.workspace();
    fs::create_dir(space.join("inner")).unwrap();
    fs::write(space.join("inner/file"), "fine").unwrap();
    symlink("../secret", space.join("relative")).unwrap();
    symlink(bed.dir.path().join("secret"), space.join("absolute")).unwrap();
    symlink("..", space.join("up")).unwrap();
    symlink("/proc/self/root", space.join("magic")).unwrap();
    symlink("inner", space.join("within")).unwrap();
    symlink("loop", space.join("loop")).unwrap();
    let mut peer = bed.connect();
    for path in [
        "../secret",
        "/etc/passwd",
        "inner/../../secret",
        "relative",
        "absolute",
        "up/secret",
        "magic/etc/passwd",
        "a\0b",
    ] {
        assert_eq!(code(&read(&mut peer, path)), "outside", "{path}");
        let refused = write(&mut peer, path, "overwritten");
        assert!(["outside", "bad_request"].contains(&code(&refused)), "{path}: {refused:?}");
    }
    assert_eq!(code(&write(&mut peer, "up/new/file", "x")), "outside");
    assert_eq!(code(&peer.ask(Op::List { path: "up".into(), depth: 1 })), "outside");
    assert_eq!(code(&read(&mut peer, "loop")), "outside");
    assert_eq!(text(&read(&mut peer, "within/file")), ("fine", false), "links that stay below are followed");
    assert_eq!(fs::read_to_string(bed.dir.path().join("secret")).unwrap(), "secret");
    assert_eq!(code(&read(&mut peer, &"x/".repeat(3_000))), "bad_request");
}

#[test]
fn a_race_of_links_and_folders_leads_nowhere() {
    let bed = Bed::new();
    fs::create_dir(bed.dir.path().join("outside")).unwrap();
    let (space, outside) = (bed.workspace(), bed.dir.path().join("outside"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::create_dir(space.join("d"));
                let _ = fs::remove_dir_all(space.join("d"));
                let _ = symlink(&outside, space.join("d"));
                let _ = fs::remove_file(space.join("d"));
            }
        });
        let mut peer = bed.connect();
        for n in 0..400 {
            write(&mut peer, &format!("d/e{n}/f"), "inside");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was ever written outside");
}

#[test]
fn pipes_and_devices_hold_nobody_up() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    assert!(matches!(
        peer.sh("mkfifo pipe; ln -s /dev/zero zero; mkfifo $STOCKADE_TRANSFER/pipe"),
        Reply::Exited { .. }
    ));
    assert_eq!(code(&read(&mut peer, "pipe")), "not_text");
    assert_eq!(code(&read(&mut peer, "zero")), "outside");
    assert_eq!(code(&write(&mut peer, "pipe", "x")), "bad_request");
    let reply = peer.ask(Op::Search { pattern: "x".into(), path: String::new(), glob: None, max_matches: 5 });
    assert_eq!(text(&reply), ("", false));
    assert_eq!(code(&peer.ask(Op::Put { name: "pipe".into(), offset: 0, data: "eA==".into() })), "io");
    assert_eq!(code(&peer.ask(Op::Get { name: "pipe".into(), offset: 0 })), "bad_request");
}

#[test]
fn listing_and_searching_have_limits() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    for (path, content) in [
        ("src/a.rs", "fn one() {}\nfn two() {}\n"),
        ("src/deep/b.rs", "fn three() {}\n"),
        ("c.txt", "fn\n"),
        (".git/x", "fn\n"),
    ] {
        write(&mut peer, path, content);
    }
    symlink("..", bed.workspace().join("up")).unwrap();
    fs::write(bed.workspace().join("long"), format!("fn {}\n", "y".repeat(100_000))).unwrap();
    let list = |path: &str, depth| Op::List { path: path.into(), depth };
    assert_eq!(text(&peer.ask(list("", 1))), (".git/\nc.txt\nlong\nsrc/\nup\n", false));
    assert_eq!(text(&peer.ask(list("src", 9))), ("src/a.rs\nsrc/deep/\nsrc/deep/b.rs\n", false));
    let search = |pattern: &str, glob: Option<&str>, max| Op::Search {
        pattern: pattern.into(),
        path: String::new(),
        glob: glob.map(Into::into),
        max_matches: max,
    };
    let found = "src/a.rs:1:fn one() {}\nsrc/a.rs:2:fn two() {}\nsrc/deep/b.rs:1:fn three() {}\n";
    assert_eq!(text(&peer.ask(search("^fn \\w+\\(", Some("*.rs"), 10))), (found, false));
    assert_eq!(text(&peer.ask(search("^fn", Some("src/*.rs"), 1))), ("src/a.rs:1:fn one() {}\n", true));
    let long = peer.ask(search("yyy", None, 10));
    assert!(text(&long).0.len() < 600 && text(&long).0.ends_with("[…]\n"), "a long line is cut");
    assert_eq!(code(&peer.ask(search("(", None, 10))), "bad_pattern");
    assert_eq!(code(&peer.ask(search("a", Some("["), 10))), "bad_pattern");
    assert_eq!(code(&peer.ask(search(&"(a{1000}){1000}".repeat(3), None, 10))), "bad_pattern");
    for n in 0..10_050 {
        fs::write(bed.workspace().join(format!("src/deep/f{n}")), "").unwrap();
    }
    let many = peer.ask(list("", 9));
    assert!(text(&many).1 && text(&many).0.lines().count() == 10_000);
    fs::write(bed.workspace().join("big"), "é".repeat(1 << 20)).unwrap();
    let big = read(&mut peer, "big");
    assert!(text(&big).1 && text(&big).0.len() <= 1 << 20);
}

#[test]
fn a_file_goes_in_and_out_piece_by_piece() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    let put = |offset, data: &str| Op::Put { name: "repo.bundle".into(), offset, data: data.into() };
    assert_eq!(peer.ask(put(0, "aGVs")), Reply::Done {});
    assert_eq!(peer.ask(put(3, "bG8=")), Reply::Done {});
    assert_eq!(peer.ask(put(3, "bG8=")), Reply::Done {}, "the same piece twice is the same file");
    assert_eq!(code(&peer.ask(put(9, "bG8="))), "bad_request");
    assert_eq!(code(&peer.ask(put(0, "no base64"))), "bad_request");
    assert_eq!(code(&peer.ask(put(0, &"A".repeat(1_500_000)))), "too_large");
    let reply = peer.ask(Op::Get { name: "repo.bundle".into(), offset: 1 });
    assert_eq!(reply, Reply::Data { data: "ZWxsbw==".into(), size: 5 });
    assert!(matches!(
        peer.sh("test \"$(cat $STOCKADE_TRANSFER/repo.bundle)\" = hello"),
        Reply::Exited { status: 0, .. }
    ));
    assert_eq!(peer.ask(put(0, "eA==")), Reply::Done {});
    assert_eq!(
        peer.ask(Op::Get { name: "repo.bundle".into(), offset: 0 }),
        Reply::Data { data: "eA==".into(), size: 1 }
    );
    for name in ["../secret", "a/b", "", ".", "..", ".hidden", "a\0"] {
        assert_eq!(code(&peer.ask(Op::Put { name: name.into(), offset: 0, data: String::new() })), "bad_request");
    }
    symlink("/etc/passwd", bed.dir.path().join("transfer/link")).unwrap();
    assert_eq!(code(&peer.ask(Op::Get { name: "link".into(), offset: 0 })), "outside");
    assert_eq!(code(&peer.ask(Op::Get { name: "missing".into(), offset: 0 })), "not_found");
}

#[test]
fn what_waited_for_its_place_when_a_guest_died_is_swept_away() {
    let mut bed = Bed::new();
    bed.kill();
    fs::write(bed.workspace().join(".stockade-new-0011"), "half").unwrap();
    bed.start(&[]);
    assert_eq!(fs::read_dir(bed.workspace()).unwrap().count(), 0);
}

#[test]
fn the_watcher_ends_what_uses_up_the_disk() {
    let mut bed = Bed::new();
    bed.kill();
    bed.start(&["--watch-bytes", "3000000"]);
    let mut peer = bed.connect();
    let reply = peer.sh("while :; do head -c 500000 /dev/zero >> tmpfile; sleep 0.01; done");
    assert!(matches!(&reply, Reply::Exited { signal: Some(9), .. }), "{reply:?}");
    assert_eq!(code(&peer.sh("true")), "too_large");
    assert_eq!(code(&write(&mut peer, "more", "x")), "too_large");
    assert!(
        matches!(read(&mut peer, "missing"), Reply::Error { code, .. } if code == "not_found"),
        "looking is allowed"
    );
}
