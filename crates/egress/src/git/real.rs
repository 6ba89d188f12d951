//! The readers against what the git that is installed really writes: repositories in temporary directories, the bytes of
//! real pushes and packs, and git's own word for what is in them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use super::advertisement::Rewriter;
use super::fetch::{FetchReader, Request, RequestReader, Round};
use super::object::EntryKind;
use super::pack::{Limits, ObjectKind, Pack, PackError, PackReader};
use super::path::Service;
use super::pkt::{self, Kind, PacketReader};
use super::push::{Change, Push, PushReader};
use super::refs::{self, Pattern, RefRules};
use super::review::{Globs, Known, Nothing, PathRules, Refusal, Review, Sight, review};
use super::{Format, ObjectId, object};

/// A repository to work in and a bare one to push to.
struct Lab {
    dir: tempfile::TempDir,
    format: Format,
}

fn git_in(dir: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs([("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
        .envs([
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@example.com"),
            ("GIT_COMMITTER_NAME", "a"),
            ("GIT_COMMITTER_EMAIL", "a@example.com"),
        ])
        .envs([("GIT_AUTHOR_DATE", "1700000000 +0000"), ("GIT_COMMITTER_DATE", "1700000000 +0000")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("git is installed");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let out = child.wait_with_output().expect("ends");
    writer.join().expect("writes");
    out.stdout
}

impl Lab {
    fn new(format: Format) -> Self {
        let lab = Self { dir: tempfile::tempdir().expect("a directory"), format };
        let format = format!("--object-format={}", format.as_str());
        git_in(lab.dir.path(), &["init", "-q", "-b", "main", &format, "work"], b"");
        git_in(lab.dir.path(), &["init", "-q", "--bare", "-b", "main", &format, "bare.git"], b"");
        lab
    }

    fn git(&self, args: &[&str]) -> String {
        self.fed(args, b"")
    }

    fn fed(&self, args: &[&str], input: &[u8]) -> String {
        String::from_utf8(git_in(&self.dir.path().join("work"), args, input)).expect("text").trim_end().to_owned()
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.dir.path().join("work").join(path);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("a directory");
        std::fs::write(path, content).expect("writes");
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn id(&self, hex: &str) -> ObjectId {
        ObjectId::from_hex(self.format, hex.as_bytes()).expect("an id")
    }

    /// Pushes for real, and gives what the client sent.
    fn push(&self, args: &[&str]) -> Vec<u8> {
        let file = self.dir.path().join("sent");
        let program = format!("--receive-pack=tee {} | git-receive-pack", file.display());
        let mut all = vec!["push", "-q", &program, "../bare.git"];
        all.extend(args);
        self.git(&all);
        std::fs::read(file).expect("was pushed")
    }

    /// A pack as it would be pushed.
    fn pack(&self, revisions: &str, args: &[&str]) -> Vec<u8> {
        let mut all = vec!["pack-objects", "--stdout", "--revs", "-q"];
        all.extend(args);
        git_in(&self.dir.path().join("work"), &all, revisions.as_bytes())
    }

    fn advertisement(&self) -> Vec<u8> {
        git_in(self.dir.path(), &["receive-pack", "--http-backend-info-refs", "bare.git"], b"")
    }

    /// What git's HTTP client would send, having been shown this advertisement.
    fn sent_over_http(&self, shown: &[u8], refspec: &str) -> Vec<u8> {
        let mut input = Vec::new();
        pkt::write(&mut input, format!("{refspec}\n").as_bytes()).expect("fits");
        pkt::write_flush(&mut input);
        input.extend_from_slice(shown);
        let args = ["send-pack", "--stateless-rpc", "--thin", "--stdin", "http://unused/"];
        let out = git_in(&self.dir.path().join("work"), &args, &input);
        let (mut reader, mut body, mut rest) = (PacketReader::new(), Vec::new(), out.as_slice());
        while let Some(packet) = reader.read(&mut rest).expect("packets") {
            if packet.kind == Kind::Data {
                body.extend_from_slice(packet.payload);
            }
        }
        body
    }
}

fn read_pack(format: Format, bytes: &[u8], limits: Limits, step: usize) -> Result<Pack, PackError> {
    let mut reader = PackReader::new(format, limits);
    bytes.chunks(step).try_for_each(|piece| reader.push(piece))?;
    reader.finish()
}

fn read_push(format: Format, sent: &[u8], step: usize) -> (Push, Option<Pack>) {
    let mut reader = PushReader::new();
    let mut rest = Vec::new();
    for mut piece in sent.chunks(step) {
        reader.read(&mut piece).expect("reads");
        rest.extend_from_slice(piece);
    }
    let push = reader.read(&mut b"".as_slice()).expect("reads").expect("whole").clone();
    let pack = push.has_pack().then(|| read_pack(format, &rest, Limits::default(), step).expect("a pack"));
    (push, pack)
}

/// What git says is in a pack: `id type size`.
fn by_git(lab: &Lab, pack: &Pack) -> Vec<String> {
    let names: String = pack.objects().map(|object| format!("{}\n", object.id)).collect();
    lab.fed(&["cat-file", "--batch-check"], names.as_bytes()).lines().map(str::to_owned).collect()
}

fn by_us(pack: &Pack) -> Vec<String> {
    pack.objects().map(|object| format!("{} {} {}", object.id, object.kind.as_str(), object.size)).collect()
}

fn looked(pack: &mut Pack, rules: &PathRules, known: &dyn Known) -> Result<Review, Refusal> {
    review(pack, rules, known, &mut |_| ControlFlow::Continue(()))
}

/// The changed paths of commits in git's words.
fn diff_tree(lab: &Lab, commits: &str) -> BTreeSet<(String, bool)> {
    let out = lab.fed(
        &["diff-tree", "-r", "-c", "--root", "--no-commit-id", "--name-status", "--no-renames", "--stdin"],
        commits.as_bytes(),
    );
    out.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(what, path)| (path.to_owned(), what.starts_with('D')))
        .collect()
}

fn changed(review: &Review) -> BTreeSet<(String, bool)> {
    assert!(review.changes.iter().all(|change| change.sight != Sight::Possible));
    review
        .changes
        .iter()
        .map(|change| (String::from_utf8_lossy(&change.path).into_owned(), change.sight == Sight::Gone))
        .collect()
}

/// What the server has, asked of git.
struct Asked<'a>(&'a Lab);

impl Known for Asked<'_> {
    fn commit(&self, id: &ObjectId) -> Option<object::Commit> {
        let out = git_in(&self.0.dir.path().join("bare.git"), &["cat-file", "commit", &id.to_string()], b"");
        object::read_commit(self.0.format, &out).ok()
    }

    fn tree(&self, id: &ObjectId) -> Option<Vec<object::Entry>> {
        let out = git_in(&self.0.dir.path().join("bare.git"), &["cat-file", "tree", &id.to_string()], b"");
        object::read_tree(self.0.format, &out).ok()
    }
}

/// A history with many files, a merge, a rename, a deletion, a link, a file that becomes a directory, and deltas.
fn history(lab: &Lab) {
    for n in 0..60 {
        lab.write(&format!("src/part{}/file{n}.txt", n % 7), format!("{n}\n").repeat(400).as_bytes());
    }
    lab.write("becomes", b"a file\n");
    lab.commit("first");
    for n in 0..8 {
        let text: String = (0..2_000)
            .map(|line| if line == n * 100 { format!("changed {n}\n") } else { format!("line {line}\n") })
            .collect();
        lab.write("big.txt", text.as_bytes());
        lab.commit("change");
    }
    lab.git(&["checkout", "-q", "-b", "side"]);
    lab.write("src/side.txt", b"side\n");
    lab.commit("side");
    lab.git(&["checkout", "-q", "main"]);
    lab.git(&["mv", "src/part1", "src/renamed"]);
    lab.git(&["rm", "-q", "src/part2/file2.txt", "becomes"]);
    lab.write("becomes/a/directory", b"now\n");
    std::os::unix::fs::symlink("/etc/passwd", lab.dir.path().join("work/link")).expect("links");
    lab.commit("renamed");
    lab.git(&["merge", "-q", "--no-ff", "-m", "merged", "side"]);
    lab.git(&["tag", "-a", "-m", "a tag", "v1"]);
}

#[test]
fn a_real_push_reads_as_git_says_in_both_formats() {
    for format in [Format::Sha1, Format::Sha256] {
        let lab = Lab::new(format);
        history(&lab);
        let sent = lab.push(&["main:refs/heads/stockade/work", "v1", "main"]);
        let (push, pack) = read_push(format, &sent, 1_000);
        let mut pack = pack.expect("a pack");
        assert_eq!(push.format, format);
        let names: BTreeSet<_> =
            push.commands.iter().map(|command| (command.reference.as_str(), command.change)).collect();
        let wanted = ["refs/heads/main", "refs/heads/stockade/work", "refs/tags/v1"].map(|name| (name, Change::Create));
        assert_eq!(names, BTreeSet::from(wanted));
        assert_eq!(by_us(&pack), by_git(&lab, &pack));
        let all: BTreeSet<String> =
            lab.git(&["rev-list", "--all", "--objects", "--no-object-names"]).lines().map(str::to_owned).collect();
        assert_eq!(pack.objects().map(|object| object.id.to_string()).collect::<BTreeSet<_>>(), all);
        let commits = lab.git(&["rev-list", "--all"]);
        let reviewed = looked(&mut pack, &PathRules::default(), &Nothing).expect("may go");
        assert_eq!(
            reviewed.commits.iter().map(ObjectId::to_string).collect::<BTreeSet<_>>(),
            commits.lines().map(str::to_owned).collect()
        );
        assert_eq!(changed(&reviewed), diff_tree(&lab, &format!("{commits}\n")));
        assert_eq!(reviewed.of_kind(EntryKind::Symlink).count(), 1);
        assert_eq!(pack.tags(), 1);
        let (old, new) = (lab.git(&["rev-parse", "main~9"]), lab.git(&["rev-parse", "main"]));
        assert!(refs::follows(&pack, lab.id(&old), lab.id(&new)));
    }
}

#[test]
fn every_content_is_seen_with_its_paths() {
    let lab = Lab::new(Format::Sha1);
    history(&lab);
    let mut pack = read_pack(Format::Sha1, &lab.pack("v1\nside\n", &[]), Limits::default(), 4_096).expect("a pack");
    let mut seen = Vec::new();
    review(&mut pack, &PathRules::default(), &Nothing, &mut |content| {
        assert_eq!(content.content.len() as u64, content.object.size);
        assert_eq!(content.object.kind == ObjectKind::Blob, !content.paths.is_empty(), "{content:?}");
        seen.push(content.object.id);
        ControlFlow::Continue(())
    })
    .expect("may go");
    let wanted = pack.objects().filter(|object| object.kind != ObjectKind::Tree).count();
    assert_eq!(seen.len(), wanted);
    let found = review(&mut pack, &PathRules::default(), &Nothing, &mut |content| match content
        .content
        .windows(9)
        .any(|window| window == b"changed 3")
    {
        true => ControlFlow::Break(Refusal::Found { what: "a key".to_owned(), place: content.place() }),
        false => ControlFlow::Continue(()),
    });
    assert_eq!(found.expect_err("is found").to_string(), "a key stands in big.txt: it may not be pushed");
}

#[test]
fn deltas_by_offset_by_name_and_none_at_all_give_the_same_at_any_split() {
    let lab = Lab::new(Format::Sha1);
    history(&lab);
    let all = |args: &[&str], step| {
        let bytes = lab.pack("v1\nside\n", args);
        let pack = read_pack(Format::Sha1, &bytes, Limits::default(), step).expect("a pack");
        assert_eq!(pack.bytes(), bytes);
        pack.objects().collect::<BTreeSet<_>>()
    };
    let whole = all(&["--delta-base-offset", "--window=50", "--depth=200"], usize::MAX);
    for step in [1, 7, 333, 65_536] {
        assert_eq!(all(&["--delta-base-offset"], step), whole);
    }
    assert_eq!(all(&[], 100), whole);
    assert_eq!(all(&["--depth=0"], 100), whole);
}

#[test]
fn a_second_push_is_a_fast_forward_and_a_rewritten_one_is_force() {
    let lab = Lab::new(Format::Sha1);
    lab.write("a", b"1");
    let first = lab.commit("first");
    lab.push(&["main:refs/heads/stockade/a"]);
    let rules =
        RefRules { push: vec![Pattern::parse("refs/heads/stockade/*").expect("a pattern")], ..RefRules::default() };
    lab.write("a", b"2");
    lab.commit("second");
    lab.write("a", b"3");
    lab.commit("third");
    let (push, pack) = read_push(Format::Sha1, &lab.push(&["main:refs/heads/stockade/a"]), 64);
    assert_eq!(push.commands[0].old.to_string(), first);
    assert_eq!(refs::judge(&push, &rules, &pack.expect("a pack"), Format::Sha1), Ok(()));
    lab.git(&["commit", "-q", "--amend", "-m", "otherwise"]);
    let (push, pack) = read_push(Format::Sha1, &lab.push(&["-f", "main:refs/heads/stockade/a"]), 64);
    assert!(matches!(
        refs::judge(&push, &rules, &pack.expect("a pack"), Format::Sha1),
        Err(refs::Refusal::Force { .. })
    ));
    let (push, pack) = read_push(Format::Sha1, &lab.push(&[":refs/heads/stockade/a"]), 64);
    assert!(pack.is_none());
    assert!(matches!(refs::judge(&push, &rules, &refs::Unknown, Format::Sha1), Err(refs::Refusal::Delete(_))));
}

#[test]
fn with_no_thin_real_git_sends_packs_that_are_whole() {
    let lab = Lab::new(Format::Sha1);
    history(&lab);
    lab.push(&["main"]);
    let text: String =
        (0..2_000).map(|line| if line == 7 { "other\n".to_owned() } else { format!("line {line}\n") }).collect();
    lab.write("big.txt", text.as_bytes());
    lab.commit("one line");
    let said = lab.advertisement();
    let mut shown = Vec::new();
    let mut names = Vec::new();
    let mut rewriter = Rewriter::stream(Service::ReceivePack);
    let mut rest = said.as_slice();
    rewriter
        .read(&mut rest, &mut shown, &mut |_, name| names.push(String::from_utf8_lossy(name).into_owned()))
        .expect("reads")
        .expect("whole");
    assert!(rest.is_empty());
    assert_eq!(names, ["refs/heads/main"]);
    let thin = lab.sent_over_http(&said, "main:refs/heads/main");
    let mut rest = thin.as_slice();
    PushReader::new().read(&mut rest).expect("reads").expect("whole");
    assert!(matches!(read_pack(Format::Sha1, rest, Limits::default(), 99), Err(PackError::Thin { .. })));
    let allowed = read_pack(Format::Sha1, rest, Limits { thin: true, ..Limits::default() }, 99).expect("allowed");
    assert!(allowed.unknown() > 0);
    let (_, pack) = read_push(Format::Sha1, &lab.sent_over_http(&shown, "main:refs/heads/main"), 99);
    let mut pack = pack.expect("a pack");
    assert_eq!(by_us(&pack), by_git(&lab, &pack));
    // With the server's trees what changed is exact, and without them what may have changed is told apart.
    let exact = looked(&mut pack, &PathRules::default(), &Asked(&lab)).expect("may go");
    assert_eq!(changed(&exact), BTreeSet::from([("big.txt".to_owned(), false)]));
    let unsure = looked(&mut pack, &PathRules::default(), &Nothing).expect("may go");
    let certain: Vec<_> = unsure
        .changes
        .iter()
        .filter(|change| change.sight == Sight::Changed)
        .map(|change| change.path.clone())
        .collect();
    assert_eq!(certain, [b"big.txt".to_vec()]);
}

#[test]
fn n28_an_old_file_does_not_come_to_stand_at_a_forbidden_path() {
    let lab = Lab::new(Format::Sha1);
    lab.write("notes/build.yml", b"on: push\n");
    lab.write("other", b"x");
    lab.commit("harmless");
    lab.push(&["main"]);
    let rules = |unproven| PathRules {
        forbidden: Globs::parse([".github/workflows", "*.pem"]).expect("globs"),
        unproven,
        ..PathRules::default()
    };
    lab.git(&["checkout", "-q", "-b", "evil"]);
    lab.write(".github/workflows/build.yml", b"on: push\n");
    lab.commit("the same content, elsewhere");
    let mut pack = read_pack(Format::Sha1, &lab.pack("evil\n^main\n", &[]), Limits::default(), 99).expect("a pack");
    assert!(pack.objects().all(|object| object.kind != ObjectKind::Blob));
    assert!(matches!(looked(&mut pack, &rules(true), &Asked(&lab)), Err(Refusal::Path { .. })));
    assert!(matches!(looked(&mut pack, &rules(false), &Nothing), Err(Refusal::Unproven { .. })));
    lab.git(&["checkout", "-q", "-b", "good", "main"]);
    lab.write("other", b"y");
    lab.commit("allowed");
    let mut pack = read_pack(Format::Sha1, &lab.pack("good\n^main\n", &[]), Limits::default(), 99).expect("a pack");
    assert!(looked(&mut pack, &rules(false), &Asked(&lab)).is_ok());
    assert!(looked(&mut pack, &rules(true), &Nothing).is_ok());
    lab.write("deep/er/KEY.PEM", b"y");
    lab.commit("forbidden");
    let mut pack = read_pack(Format::Sha1, &lab.pack("good\n^main\n", &[]), Limits::default(), 99).expect("a pack");
    let refused = looked(&mut pack, &rules(true), &Nothing).expect_err("is forbidden").to_string();
    assert!(
        refused.starts_with("deep/er/KEY.PEM may not be pushed (commit ")
            && refused.ends_with("the rule *.pem forbids it"),
        "{refused}"
    );
}

#[test]
fn a_bomb_of_zeros_ends_early() {
    let lab = Lab::new(Format::Sha1);
    lab.write("zeros", &vec![0; 90 << 20]);
    lab.commit("bomb");
    let bytes = lab.pack("HEAD\n", &[]);
    assert!(bytes.len() < 1 << 20);
    assert_eq!(read_pack(Format::Sha1, &bytes, Limits::default(), 1_000).map(|_| ()), Err(PackError::Bomb(200)));
    let small = Limits { object_bytes: 1 << 20, ..Limits::default() };
    assert!(matches!(read_pack(Format::Sha1, &bytes, small, 1_000), Err(PackError::Large { .. })));
    let total = Limits { total_bytes: 1 << 20, ..Limits::default() };
    assert!(matches!(read_pack(Format::Sha1, &bytes, total, 1_000), Err(PackError::Total(_))));
}

#[test]
fn sizes_are_held_against_the_rules() {
    let lab = Lab::new(Format::Sha1);
    lab.write("large", &[7; 5_000]);
    lab.commit("large");
    let mut pack = read_pack(Format::Sha1, &lab.pack("HEAD\n", &[]), Limits::default(), 1_000).expect("a pack");
    assert_eq!(
        looked(&mut pack, &PathRules::default(), &Nothing).expect("may go").largest.map(|object| object.size),
        Some(5_000)
    );
    let rules = PathRules { largest_blob: 4_999, ..PathRules::default() };
    assert!(matches!(looked(&mut pack, &rules, &Nothing), Err(Refusal::Blob { size: 5_000, .. })));
    let rules = PathRules { largest_pack: 10, ..PathRules::default() };
    assert!(matches!(looked(&mut pack, &rules, &Nothing), Err(Refusal::Large { .. })));
}

#[test]
fn trees_within_trees_a_thousand_million_times_end_early() {
    let lab = Lab::new(Format::Sha1);
    let mut entry = format!("100644 blob {}", lab.fed(&["hash-object", "-w", "--stdin"], b"x"));
    for _ in 0..12 {
        let list: String = (0..12).map(|n| format!("{entry}\tf{n}\n")).collect();
        entry = format!("040000 tree {}", lab.fed(&["mktree"], list.as_bytes()));
    }
    let tree = entry.rsplit(' ').next().expect("an id");
    let commit = lab.git(&["commit-tree", "-m", "bomb", tree]);
    let mut pack =
        read_pack(Format::Sha1, &lab.pack(&format!("{commit}\n"), &[]), Limits::default(), 1_000).expect("a pack");
    assert_eq!(pack.len(), 14);
    assert!(matches!(looked(&mut pack, &PathRules::default(), &Nothing), Err(Refusal::Trees(_))));
}

#[test]
fn a_torn_or_changed_pack_is_refused() {
    let lab = Lab::new(Format::Sha1);
    history(&lab);
    let bytes = lab.pack("HEAD~9\n", &[]);
    let read = |bytes: &[u8]| read_pack(Format::Sha1, bytes, Limits::default(), 50_000).map(|_| ());
    assert_eq!(read(&bytes), Ok(()));
    for end in (0..bytes.len()).step_by(97) {
        assert!(matches!(read(&bytes[..end]), Err(PackError::Truncated(..))), "{end}");
    }
    for at in (0..bytes.len()).step_by(61) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(read(&changed).is_err(), "{at}");
    }
    assert_eq!(read(&[bytes.as_slice(), b"x"].concat()), Err(PackError::After));
}

#[test]
fn what_real_git_fetches_is_read() {
    let lab = Lab::new(Format::Sha1);
    history(&lab);
    lab.push(&["main", "side", "v1"]);
    let tip = lab.id(&lab.git(&["rev-parse", "main"]));
    for version in ["0", "1", "2"] {
        let file = lab.dir.path().join(format!("asked-{version}"));
        let program = format!("--upload-pack=tee {} | git-upload-pack", file.display());
        let protocol = format!("protocol.version={version}");
        let into = format!("../clone-{version}");
        lab.git(&[
            "-c",
            &protocol,
            "clone",
            "-q",
            "--bare",
            "--no-local",
            "--single-branch",
            "--depth=2",
            &program,
            "../bare.git",
            &into,
        ]);
        let asked = std::fs::read(file).expect("was asked");
        let mut rest = asked.as_slice();
        let fetch = if version == "2" {
            let mut reader = RequestReader::new();
            let mut fetch = None;
            while let Some(request) = reader.read(&mut rest).expect("reads") {
                match request {
                    Request::Fetch(asked) => fetch = Some(asked),
                    Request::References { prefixes } => {
                        assert!(prefixes.iter().all(|prefix| prefix == "HEAD" || prefix.starts_with("refs/")))
                    }
                    other => assert_eq!(other, Request::Nothing),
                }
            }
            fetch.expect("a fetch")
        } else {
            let mut reader = FetchReader::new();
            while reader.read(&mut rest).expect("reads").is_some_and(|round| round != Round::Done) {}
            reader.fetch().clone()
        };
        assert!(rest.is_empty());
        assert!(fetch.done && fetch.wants.contains(&tip), "{version}");
        assert_eq!(fetch.deepen, ["deepen 2"]);
    }
    for (version, service) in [
        ("version=0", "upload-pack"),
        ("version=1", "upload-pack"),
        ("version=2", "upload-pack"),
        ("version=1", "receive-pack"),
    ] {
        let said = Command::new("git")
            .args([service, "--http-backend-info-refs", "bare.git"])
            .current_dir(lab.dir.path())
            .env("GIT_PROTOCOL", version)
            .output()
            .expect("git is installed")
            .stdout;
        let kind = if service == "upload-pack" { Service::UploadPack } else { Service::ReceivePack };
        let (mut rewriter, mut shown) = (Rewriter::stream(kind), Vec::new());
        let mut rest = said.as_slice();
        let read = rewriter.read(&mut rest, &mut shown, &mut |_, _| ()).expect("reads").expect("whole").clone();
        assert_eq!(format!("version={}", read.version), version);
        assert_eq!(shown == said, kind == Service::UploadPack);
    }
}

#[test]
fn submodules_are_told_and_names_that_git_refuses_never_come_through() {
    let lab = Lab::new(Format::Sha1);
    lab.write("a", b"x");
    let first = lab.commit("first");
    lab.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{first},vendor/lib")]);
    lab.git(&["commit", "-q", "-m", "a submodule"]);
    let mut pack = read_pack(Format::Sha1, &lab.pack("HEAD\n", &[]), Limits::default(), 99).expect("a pack");
    let reviewed = looked(&mut pack, &PathRules::default(), &Nothing).expect("may go");
    assert_eq!(
        reviewed.of_kind(EntryKind::Submodule).map(|change| change.path.as_slice()).collect::<Vec<_>>(),
        [b"vendor/lib"]
    );
    let none = PathRules { submodules: false, ..PathRules::default() };
    assert!(matches!(looked(&mut pack, &none, &Nothing), Err(Refusal::Kind { kind: "submodule", .. })));
    let blob = lab.fed(&["hash-object", "-w", "--stdin"], b"[core]\n");
    for name in [".git", ".GIT", "..", ".g\u{200c}it", "git~1", ".git::$INDEX_ALLOCATION", "a\u{1}b"] {
        let tree = lab.fed(&["mktree", "-z"], format!("100644 blob {blob}\t{name}\0").as_bytes());
        let commit = lab.git(&["commit-tree", "-m", "hostile", &tree]);
        let read = read_pack(Format::Sha1, &lab.pack(&format!("{commit}\n"), &[]), Limits::default(), 99);
        let error = read.map(|_| ()).expect_err(name);
        assert!(matches!(error, PackError::Object { error: object::ObjectError::Name { .. }, .. }), "{name}: {error}");
    }
}
