//! Pushes and fetches as no git makes them.

use std::time::Duration;

use http::StatusCode;
use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

use super::{
    super::Limits,
    forge::{Forge, Work},
};
use crate::git::{Format, checksum, pack, pkt};

const ZERO: &str = "0000000000000000000000000000000000000000";
const CAPABILITIES: &str = "report-status-v2 side-band-64k object-format=sha1 agent=git/2.47.3";

/// Commands in packets, the first with capabilities, and what follows.
fn push(commands: &[&str], rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, command) in commands.iter().enumerate() {
        let line = if n == 0 { format!("{command}\0{CAPABILITIES}") } else { (*command).to_owned() };
        pkt::write(&mut out, line.as_bytes()).unwrap();
    }
    pkt::write_flush(&mut out);
    out.extend_from_slice(rest);
    out
}

/// A pack of entries: type, length that is said, what stands before the packed bytes, and these.
fn made(entries: &[(u8, usize, &[u8], Vec<u8>)]) -> Vec<u8> {
    let mut out = b"PACK\0\0\0\x02".to_vec();
    out.extend_from_slice(&u32::try_from(entries.len()).unwrap().to_be_bytes());
    for (kind, length, base, packed) in entries {
        let mut rest = length >> 4;
        let mut byte = kind << 4 | u8::try_from(length & 0x0f).unwrap();
        while rest > 0 {
            out.push(byte | 0x80);
            byte = u8::try_from(rest & 0x7f).unwrap();
            rest >>= 7;
        }
        out.push(byte);
        out.extend_from_slice(base);
        out.extend_from_slice(packed);
    }
    summed(out)
}

fn summed(mut pack: Vec<u8>) -> Vec<u8> {
    let sum = checksum(Format::Sha1, &pack);
    pack.extend_from_slice(sum.as_bytes());
    pack
}

/// A commit upon the server's, with its pack.
async fn ready(forge: &Forge) -> (Work, String, Vec<u8>) {
    let work = forge.cloned().await;
    work.write("src/part1/new.txt", b"new\n");
    let commit = work.commit("mine");
    let pack = work.pack("HEAD\n^origin/main\n", &[]);
    forge.reached();
    (work, commit, pack)
}

/// It is refused, told, recorded, and nothing reaches the server.
async fn refused(forge: &Forge, what: &str, body: Vec<u8>, told: &str) {
    let before = forge.refused().await.len();
    let pushing = forge.post_push(body);
    let (status, said) = tokio::time::timeout(Duration::from_secs(60), pushing).await.expect("never a hang");
    assert!(said.contains(told), "{what}: {status} {said}");
    assert!(status == StatusCode::BAD_REQUEST || said.contains("ng refs/"), "{what}: {status} {said}");
    assert!(!forge.was_pushed_to(), "{what}: something was sent");
    assert!(forge.refused().await.len() > before, "{what}: no record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n28_pushes_to_other_references_and_repositories_are_refused_however_they_are_spelled() {
    let forge = Forge::new().await;
    let (_work, commit, pack) = ready(&forge).await;
    let main = forge.at_server("refs/heads/main");
    for reference in [
        "refs/heads/main",
        "refs/heads/Stockade/a",
        "refs/heads/stockade",
        "refs/tags/v1",
        "refs/pull/1/head",
        "refs/notes/commits",
        "refs/for/main",
        "refs/replace/0123456789012345678901234567890123456789",
        "refs/remotes/origin/main",
        "refs/stash",
    ] {
        refused(&forge, reference, push(&[&format!("{ZERO} {commit} {reference}")], &pack), "ng refs/").await;
    }
    for name in [
        "refs/heads/stockade/../main",
        "refs/heads/stockade/./a",
        "refs/heads/stockade//a",
        "refs/heads/stockade/a.lock",
        "refs/heads/stockade/.a",
        "refs/heads/stockade/a ",
        "refs/heads/stockade/a@{1}",
        "refs/heads/stockade/\u{200b}a",
        "refs/heads/stockade/a\\..\\b",
        "HEAD",
        "main",
        "../refs/heads/main",
        "/refs/heads/stockade/a",
        "refs",
    ] {
        refused(&forge, name, push(&[&format!("{ZERO} {commit} {name}")], &pack), "is no name of a reference").await;
    }
    // Another repository of the same forge, and the same one spelled otherwise.
    let kind = [("content-type", "application/x-git-receive-pack-request")];
    let body = || push(&[&format!("{ZERO} {commit} refs/heads/stockade/a")], &pack);
    for target in
        ["/team/other.git/git-receive-pack", "/elsewhere/app.git/git-receive-pack", "/team/APP.git/git-receive-pack"]
    {
        let (_, said) = forge.post(target, body(), &kind).await;
        assert!(String::from_utf8_lossy(&said).contains("ng refs/heads/stockade/a"), "{target}");
    }
    for target in
        ["/team//app.git/git-receive-pack", "/x/../team/app.git/git-receive-pack", "/team/app%2egit/git-receive-pack"]
    {
        assert_eq!(forge.post(target, body(), &kind).await.0, StatusCode::BAD_REQUEST, "{target}");
    }
    assert!(!forge.was_pushed_to());
    assert_eq!(forge.at_server("refs/heads/main"), main);
    // And what it stands beside: the same push, spelled as it should be, goes through.
    let (status, said) = forge.post_push(body()).await;
    assert!(status == StatusCode::OK && said.contains("ok refs/heads/stockade/a"), "{said}");
    assert_eq!(forge.at_server("refs/heads/stockade/a"), commit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_in_packets_are_refused() {
    let forge = Forge::new().await;
    let (_work, commit, pack) = ready(&forge).await;
    let mine = format!("{ZERO} {commit} refs/heads/stockade/a");
    let main = format!("{ZERO} {commit} refs/heads/main");
    let good = push(&[&mine], &pack);
    let cut = |n: usize| good[..n].to_vec();
    let of = |lines: &[Vec<u8>]| lines.concat();
    let line = |text: &str| {
        let mut out = Vec::new();
        pkt::write(&mut out, text.as_bytes()).unwrap();
        out
    };
    let first = line(&format!("{mine}\0{CAPABILITIES}"));
    let flush = b"0000".to_vec();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no digits", of(&[b"00zz".to_vec(), pack.clone()]), "hexadecimal"),
        ("a length of three", of(&[b"0003".to_vec(), pack.clone()]), "neither a packet"),
        ("a length beyond the limit", b"ffff".to_vec(), "above the protocol"),
        ("a length beyond the end", of(&[b"ff00".to_vec(), first.clone()]), "not whole"),
        ("cut in a packet", cut(30), "not whole"),
        ("cut before the flush", cut(first.len()), "not whole"),
        ("no pack", cut(first.len() + 4), "ended too early"),
        ("a torn pack", cut(good.len() - 30), "ended too early"),
        ("a delimiter", of(&[first.clone(), b"0001".to_vec(), pack.clone()]), "mark"),
        ("the end of an answer", of(&[first.clone(), b"0002".to_vec(), pack.clone()]), "mark"),
        (
            "a command behind the flush",
            of(&[first.clone(), flush.clone(), line(&main), flush.clone(), pack.clone()]),
            "no pack",
        ),
        ("two commands for one reference", push(&[&mine, &mine], &pack), "two commands"),
        (
            "capabilities twice",
            of(&[first.clone(), line(&format!("{main}\0{CAPABILITIES}")), flush.clone(), pack.clone()]),
            "only the first",
        ),
        (
            "a NUL in the capabilities",
            of(&[line(&format!("{mine}\0{CAPABILITIES}\0x")), flush.clone(), pack.clone()]),
            "printable",
        ),
        (
            "a NUL in the name",
            of(&[line(&format!("{mine}\0{CAPABILITIES} \u{1}")), flush.clone(), pack.clone()]),
            "printable",
        ),
        (
            "an unknown capability",
            of(&[line(&format!("{mine}\0{CAPABILITIES} push-options-v2")), flush.clone(), pack.clone()]),
            "not known here",
        ),
        ("a carriage return", push(&[&format!("{mine}\r")], &pack), "no name of a reference"),
        ("a signed push", of(&[line(&format!("push-cert\0{CAPABILITIES}")), line(&mine), flush.clone()]), "signed"),
        (
            "push options",
            of(&[
                line(&format!("{mine}\0{CAPABILITIES} push-options")),
                flush.clone(),
                line("ci.skip"),
                flush.clone(),
                pack.clone(),
            ]),
            "options",
        ),
        (
            "another object format",
            of(&[line(&format!("{mine}\0report-status object-format=sha256")), flush.clone(), pack.clone()]),
            "no command",
        ),
        ("both names zero", push(&[&format!("{ZERO} {ZERO} refs/heads/stockade/a")], b""), "neither creates"),
        ("short names", push(&[&format!("00 {commit} refs/heads/stockade/a")], &pack), "no command"),
        ("an error of the client", of(&[line("ERR enough")]), "ended the push"),
        (
            "something behind a deletion",
            push(&[&format!("{commit} {ZERO} refs/heads/stockade/a")], b"PACK"),
            "something follows",
        ),
        ("something behind the pack", push(&[&mine], &[pack.as_slice(), b"x"].concat()), "something follows"),
        ("a second pack", push(&[&mine], &[pack.as_slice(), &pack].concat()), "something follows"),
        ("something behind a question", b"00000000".to_vec(), "something follows"),
        (
            "a shallow line behind a command",
            of(&[first.clone(), line(&format!("shallow {commit}")), flush.clone(), pack.clone()]),
            "shallow",
        ),
        ("nothing", Vec::new(), "not whole"),
        (
            "more references than may be",
            {
                let all: Vec<String> = (0..65).map(|n| format!("{ZERO} {commit} refs/heads/stockade/a{n}")).collect();
                push(&all.iter().map(String::as_str).collect::<Vec<_>>(), &pack)
            },
            "more than 64 references",
        ),
    ];
    for (what, body, told) in cases {
        refused(&forge, what, body, told).await;
    }
    // Each of these as real git's would be: for the record, the push itself is fine.
    assert!(forge.post_push(good).await.1.contains("ok refs/heads/stockade/a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_that_explode_or_do_not_add_up_are_refused() {
    let small = pack::Limits {
        pack_bytes: 4 << 20,
        objects: 2_000,
        object_bytes: 32 << 20,
        total_bytes: 64 << 20,
        chain: 8,
        working_bytes: 8 << 20,
        ..Limits::default().pack
    };
    let limits = Limits { pack: small, rest: 8 << 20, ..Limits::default() };
    let forge = Forge::with(limits, "sha1").await;
    let (work, commit, pack) = ready(&forge).await;
    let mine = format!("{ZERO} {commit} refs/heads/stockade/a");
    let zipped = |bytes: &[u8]| compress_to_vec_zlib(bytes, 9);
    let zeros = vec![0; 31 << 20];
    let blob = |bytes: &[u8]| (3u8, bytes.len(), &b""[..], zipped(bytes));
    // Upon the object that begins at byte 12: sixteen times its five bytes, again and again.
    let twice: &[u8] = &[5, 10, 0b1001_0000, 5, 0b1001_0000, 5];
    let far = |back: u8| (6u8, twice.len(), vec![back], zipped(twice));
    let (at, other) = (far(1), [7u8; 20]);
    let mut noise = vec![0; 5 << 20];
    (&stockade_ledger::SystemWorld as &dyn stockade_domain::World).random(&mut noise);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a bomb of zeros", made(&[blob(&zeros)]), "only a bomb"),
        ("bombs together", made(&vec![blob(&vec![0; 15 << 20]); 6]), "inflates to more"),
        ("an object too large", made(&[(3, 33 << 20, b"", zipped(b"x"))]), "above the limit"),
        ("a lie about a length", made(&[(3, 100, b"", zipped(b"x"))]), "length that it says"),
        ("too many objects", made(&vec![blob(b"x"); 2_001]), "2001 objects"),
        (
            "a count that lies",
            {
                let mut p = pack[..pack.len() - 20].to_vec();
                p[11] += 1;
                summed(p)
            },
            "",
        ),
        ("more bytes than may be", made(&[blob(&noise)]), "longer than"),
        ("a base that is nowhere", made(&[(at.0, at.1, &at.2, at.3.clone())]), "does not begin where it says"),
        ("a thin pack", made(&[(7, twice.len(), &other, zipped(twice))]), "not in the pack: push with --no-thin"),
        (
            "a wrong sum",
            {
                let mut p = pack.clone();
                let end = p.len() - 1;
                p[end] ^= 1;
                p
            },
            "checksum",
        ),
        (
            "another version",
            {
                let mut p = pack.clone();
                p[7] = 4;
                p
            },
            "no pack",
        ),
        ("an unknown type", made(&[(5, 1, b"", zipped(b"x"))]), "type 5"),
        ("a tree that is none", made(&[(2, 1, b"", zipped(b"x"))]), "tree"),
        ("a commit that is none", made(&[(1, 1, b"", zipped(b"x"))]), "commit"),
        ("no objects but bytes", [b"PACK\0\0\0\x02\0\0\0\0".as_slice(), &[0; 19]].concat(), ""),
    ];
    for (what, pack, told) in cases {
        refused(&forge, what, push(&[&mine], &pack), told).await;
    }
    // Trees that hold themselves many times over, as real git packs them.
    let mut entry =
        format!("100644 blob {}", String::from_utf8(work.fed(&["hash-object", "-w", "--stdin"], b"x")).unwrap().trim());
    for _ in 0..12 {
        let list: String = (0..12).map(|n| format!("{entry}\tf{n}\n")).collect();
        entry = format!("040000 tree {}", String::from_utf8(work.fed(&["mktree"], list.as_bytes())).unwrap().trim());
    }
    let bomb = work.git(&["commit-tree", "-m", "bomb", entry.rsplit(' ').next().unwrap()]);
    let pack = work.pack(&format!("{bomb}\n"), &[]);
    let body = push(&[&format!("{ZERO} {bomb} refs/heads/stockade/a")], &pack);
    refused(&forge, "a bomb of trees", body, "than are looked at").await;
    // Each is the one before it, all of it, and nothing more.
    let same: &[u8] = &[5, 5, 0b1001_0000, 5];
    let mut chain = vec![(3u8, 5usize, Vec::new(), zipped(b"hello"))];
    for _ in 0..9 {
        let before = chain.last().map(|(_, _, base, packed)| 1 + base.len() + packed.len()).unwrap();
        chain.push((6, same.len(), vec![u8::try_from(before).unwrap()], zipped(same)));
    }
    let chain: Vec<_> =
        chain.iter().map(|(kind, length, base, packed)| (*kind, *length, base.as_slice(), packed.clone())).collect();
    let body = push(&[&mine], &made(&chain));
    refused(&forge, "a chain", body, "deltas upon each other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_not_taken_for_unchanged() {
    let forge = Forge::new().await;
    let (work, commit, _) = ready(&forge).await;
    // A commit without its trees: nobody can say what it changes.
    let raw = work.fed(&["cat-file", "commit", &commit], b"");
    let alone = made(&[(1, raw.len(), b"", compress_to_vec_zlib(&raw, 6))]);
    let mine = format!("{ZERO} {commit} refs/heads/stockade/a");
    refused(&forge, "no trees", push(&[&mine], &alone), "The team's machinery is changed by people").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn force_is_what_is_not_shown_to_go_forward() {
    let forge = Forge::new().await;
    let (work, commit, pack) = ready(&forge).await;
    assert!(forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await.1);
    forge.reached();
    let main = forge.at_server("refs/heads/main");
    let other = work.git(&["commit-tree", "-m", "other", "HEAD^{tree}"]);
    let loose = work.pack(&format!("{other}\n^HEAD\n"), &[]);
    // A branch that moves to a commit that is in the pack and does not follow, to one that is not in it, and back.
    refused(&forge, "another root", push(&[&format!("{commit} {other} refs/heads/stockade/a")], &loose), "overwritten")
        .await;
    refused(&forge, "back", push(&[&format!("{commit} {main} refs/heads/stockade/a")], &made(&[])), "overwritten")
        .await;
    refused(
        &forge,
        "elsewhere",
        push(&[&format!("{other} {commit} refs/heads/stockade/a")], &made(&[])),
        "overwritten",
    )
    .await;
    refused(&forge, "deletion", push(&[&format!("{commit} {ZERO} refs/heads/stockade/a")], b""), "not deleted").await;
    // A lie about where the branch is: it looks like a step forward, and the server does not take it.
    let (_, said) = forge.post_push(push(&[&format!("{main} {commit} refs/heads/stockade/a")], &pack)).await;
    assert!(said.contains("ng refs/heads/stockade/a"), "{said}");
    assert_eq!(forge.at_server("refs/heads/stockade/a"), commit);
    let codes: Vec<_> = forge.pushes().await.into_iter().map(|(_, code, _)| code).collect();
    assert_eq!(codes, ["ok", "rejected"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn symbolic_references_of_the_server_are_not_moved_by_another_name() {
    let forge = Forge::new().await;
    let (_work, commit, pack) = ready(&forge).await;
    let main = forge.at_server("refs/heads/main");
    // Somebody has made one that leads to main: the server follows it, and says so; what may be pushed is the name that was judged.
    forge.git_at("team/app.git", &["symbolic-ref", "refs/heads/stockade/alias", "refs/heads/main"]);
    let body = push(&[&format!("{main} {commit} refs/heads/stockade/alias")], &pack);
    let (_, said) = forge.post_push(body).await;
    assert!(said.contains("ok refs/heads/stockade/alias"), "{said}");
    forge.reached();
    // That is the server's to forbid (`receive.denyUpdates`…): docs/egress/git-protocol.md says so. A client cannot make one.
    let made: Vec<u8> = push(&[&format!("{ZERO} {commit} refs/heads/stockade/x\0symref")], &pack);
    refused(&forge, "a symbolic reference by capability", made, "printable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_packed_or_say_odd_things_about_themselves() {
    let forge = Forge::new().await;
    let (_work, commit, pack) = ready(&forge).await;
    let body = push(&[&format!("{ZERO} {commit} refs/heads/stockade/a")], &pack);
    let gzip = |bytes: &[u8]| {
        let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        out.extend(compress_to_vec(bytes, 6));
        out.extend(crc32fast::hash(bytes).to_le_bytes());
        out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        out
    };
    let kind = ("content-type", "application/x-git-receive-pack-request");
    let packed = gzip(&body);
    let target = "/team/app.git/git-receive-pack";
    for (what, sent, coding) in [
        ("two members", [packed.as_slice(), &packed].concat(), "gzip"),
        ("torn", packed[..packed.len() - 3].to_vec(), "gzip"),
        ("not packed", body.clone(), "gzip"),
        ("a bomb", gzip(&vec![b'0'; 300 << 20]), "gzip"),
        ("another coding", body.clone(), "br"),
        ("two codings", packed.clone(), "gzip, gzip"),
    ] {
        let (status, said) = forge.post(target, sent, &[kind, ("content-encoding", coding)]).await;
        assert!(
            status == StatusCode::BAD_REQUEST || String::from_utf8_lossy(&said).contains("ng refs/"),
            "{what}: {status}"
        );
        assert!(forge.reached().is_empty(), "{what}");
    }
    // As JGit sends it. What goes on is what was read, with its own length.
    let headers = [kind, ("content-encoding", "gzip"), ("content-length", "7"), ("expect", "100-continue")];
    let (status, said) = forge.post(target, packed, &headers).await;
    assert!(status == StatusCode::OK && String::from_utf8_lossy(&said).contains("ok refs/heads/stockade/a"));
    let sent = forge.reached();
    let sent = sent.iter().find(|one| one.target == target).unwrap();
    assert_eq!(sent.body, body);
    assert_eq!(sent.headers.get("content-length").unwrap(), &body.len().to_string());
    assert!(!sent.headers.contains_key("content-encoding") && !sent.headers.contains_key("expect"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_that_are_not_known_are_refused() {
    let forge = Forge::new().await;
    let (_work, commit, _) = ready(&forge).await;
    let target = "/team/app.git/git-upload-pack";
    let kind = ("content-type", "application/x-git-upload-pack-request");
    let packets = |lines: &[&str]| {
        let mut out = Vec::new();
        for line in lines {
            match *line {
                "" => pkt::write_flush(&mut out),
                "|" => pkt::write_delim(&mut out),
                line => pkt::write(&mut out, line.as_bytes()).unwrap(),
            }
        }
        out
    };
    let want = format!("want {commit}\n");
    let second: &[(&str, Vec<u8>)] = &[
        ("another command", packets(&["command=object-info-v2\n", ""])),
        ("two commands in one", packets(&["command=ls-refs\n", "command=fetch\n", ""])),
        ("an unknown argument", packets(&["command=fetch\n", "|", &want, "exec x\n", ""])),
        ("an unknown capability", packets(&["command=fetch\n", "x=y\n", ""])),
        ("not whole", packets(&["command=fetch\n", "|", &want])),
        ("the first version's words", packets(&[&want, "", "done\n"])),
        ("something behind it", [packets(&["command=ls-refs\n", ""]), b"00".to_vec()].concat()),
    ];
    for (what, body) in second {
        let (status, _) = forge.post(target, body.clone(), &[kind, ("git-protocol", "version=2")]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{what}");
    }
    for (what, body) in [
        ("the second version's words", packets(&["command=ls-refs\n", ""])),
        ("something behind it", packets(&[&want, "", "done\n", "done\n"])),
        ("nothing", Vec::new()),
    ] {
        assert_eq!(forge.post(target, body, &[kind]).await.0, StatusCode::BAD_REQUEST, "{what}");
    }
    for odd in ["version=3", "version=2:x", "2"] {
        let (status, _) = forge.post(target, packets(&["command=ls-refs\n", ""]), &[kind, ("git-protocol", odd)]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{odd}");
    }
    let long = vec![b'x'; super::super::MAX_BODY + 1];
    assert_eq!(forge.post(target, long, &[kind]).await.0, StatusCode::BAD_REQUEST);
    assert!(forge.reached().is_empty());
    let refused = forge.refused().await;
    assert!(refused.len() >= 14 && refused.iter().all(|(action, ..)| action == "git.fetch"), "{refused:?}");
    let (status, said) = forge
        .post(
            target,
            packets(&["command=ls-refs\n", "|", "ref-prefix refs/heads/\n", ""]),
            &[kind, ("git-protocol", "version=2")],
        )
        .await;
    assert!(status == StatusCode::OK && String::from_utf8_lossy(&said).contains("refs/heads/main"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_want_to_be_told_is_not_left_to_believe() {
    let forge = Forge::new().await;
    let (_work, commit, pack) = ready(&forge).await;
    let mut body = Vec::new();
    pkt::write(&mut body, format!("{ZERO} {commit} refs/heads/main\0agent=x").as_bytes()).unwrap();
    pkt::write_flush(&mut body);
    body.extend_from_slice(&pack);
    let (status, said) = forge.post_push(body).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{said}");
    assert!(!forge.was_pushed_to());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submodule_is_a_protected_path_and_its_names_are_read() {
    let forge = Forge::new().await;
    let (work, ..) = ready(&forge).await;
    let head = work.git(&["rev-parse", "HEAD"]);
    work.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},deps/lib")]);
    work.git(&["commit", "-q", "-m", "a submodule without a place"]);
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await;
    assert!(done, "a submodule is an entry of a tree, no more: {said}");
    work.write(".gitmodules", b"[submodule \"lib\"]\n\tpath = deps/lib\n\turl = ext::sh -c evil\n");
    work.git(&["add", ".gitmodules"]);
    work.git(&["commit", "-q", "-m", "and where it is"]);
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await;
    assert!(!done && said.contains("The team's machinery is changed by people"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_paths_than_policy_can_be_told_of_are_refused() {
    let forge = Forge::with(Limits { paths: 300, ..Limits::default() }, "sha1").await;
    let work = forge.cloned().await;
    for n in 0..40 {
        work.write(&format!("many/file{n}"), format!("{n}").as_bytes());
    }
    work.commit("many");
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await;
    assert!(!done && said.contains("more than policy can be told of"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_changes_cuts_a_push_before_it_is_sent() {
    let forge = Forge::new().await;
    let (work, ..) = ready(&forge).await;
    forge.policy.store(std::sync::Arc::new(stockade_policy::Bundle::parse(2, "about = \"nothing\"").unwrap()));
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await;
    assert!(!done && said.contains("403"), "{said}");
    assert!(forge.reached().is_empty());
}
