//! Fetch and push by real git, to real `git http-backend`, through an exit's git.

mod attacks;
mod endings;
mod forge;
mod whole;

use stockade_domain::ContextValue;

use super::*;
use forge::{Forge, git};

/// A secret as one of GitHub's, made here.
fn secret() -> String {
    // With the sum that those have at their end.
    let body = "abcdefghijklmnopqrstuvwxyz0123";
    let sum = crc32fast::hash(body.as_bytes());
    let mut digits = Vec::new();
    let mut rest = sum;
    for _ in 0..6 {
        digits.push(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[(rest % 62) as usize]);
        rest /= 62;
    }
    digits.reverse();
    format!("ghp_{body}{}", String::from_utf8(digits).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_is_decided_by_repository_and_its_records_say_how_it_went() {
    let forge = Forge::new().await;
    let work = forge.cloned().await;
    assert!(work.dir.join("src/part0/file0.txt").is_file());
    for version in ["0", "1", "2"] {
        let out = forge
            .run(
                forge.dir.path(),
                &[
                    "-c",
                    &format!("protocol.version={version}"),
                    "clone",
                    "-q",
                    "--depth=1",
                    &forge.url("team/app"),
                    &format!("v{version}"),
                ],
            )
            .await;
        assert!(out.1, "{version}: {}", out.0);
    }
    let (said, done) = forge.run(forge.dir.path(), &["clone", "-q", &forge.url("elsewhere/app.git"), "no"]).await;
    assert!(!done && said.contains("remote: stockade: "), "{said}");
    let refused = forge.refused().await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].0, "git.fetch");
    let opened = forge.pushes().await;
    assert!(opened.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_to_its_own_branch_goes_through_and_is_recorded_with_what_it_changes() {
    for format in ["sha1", "sha256"] {
        let forge = Forge::with(Limits::default(), format).await;
        let work = forge.cloned().await;
        work.write("src/part1/new.txt", b"new\n");
        work.git(&["rm", "-q", "src/part0/file0.txt"]);
        let commit = work.commit("mine");
        let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/work"]).await;
        assert!(done, "{said}");
        assert_eq!(forge.at_server("refs/heads/stockade/work"), commit);
        // And forward.
        work.write("src/part1/new.txt", b"newer\n");
        let commit = work.commit("mine too");
        let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/work"]).await;
        assert!(done, "{said}");
        assert_eq!(forge.at_server("refs/heads/stockade/work"), commit);
        let pushes = forge.pushes().await;
        let told: Vec<_> = pushes.iter().map(|(name, code, _)| (name.as_str(), code.as_str())).collect();
        assert_eq!(told, [("refs/heads/stockade/work", "ok"); 2]);
        let of = |n: usize, name: &str| pushes[n].2.get(name).cloned();
        for (n, new, files) in [(0, true, 2_i64), (1, false, 1)] {
            assert_eq!(of(n, "new_ref"), Some(new.into()));
            assert_eq!(of(n, "force"), Some(false.into()));
            assert_eq!(of(n, "deletion"), Some(false.into()));
            assert_eq!(of(n, "protected_paths"), Some(false.into()), "the server was asked what was there before");
            assert_eq!(of(n, "files"), Some(files.into()));
            assert_eq!(of(n, "findings"), Some(ContextValue::Set(vec![])));
            assert!(of(n, "path").is_none(), "paths are content");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_policy_refuses_is_told_by_git_itself_and_nothing_is_sent() {
    let forge = Forge::new().await;
    let work = forge.cloned().await;
    let main = forge.at_server("refs/heads/main");
    work.write("src/part1/new.txt", b"new\n");
    work.commit("mine");
    forge.reached();
    for reference in ["refs/heads/main", "refs/tags/v1", "refs/pull/1/head", "refs/notes/commits", "refs/for/main"] {
        let (said, done) = forge.push(&work, &[&format!("HEAD:{reference}")]).await;
        assert!(!done, "{reference}");
        assert!(
            said.contains("[remote rejected]") && said.contains("remote: stockade: this push is refused"),
            "{said}"
        );
        assert!(!forge.was_pushed_to(), "{reference}");
    }
    assert_eq!(forge.at_server("refs/heads/main"), main);
    // One that is allowed beside one that is not: neither.
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a", "HEAD:refs/heads/main"]).await;
    assert!(!done && said.contains("another reference of this push is refused"), "{said}");
    assert!(!forge.was_pushed_to());
    assert_eq!(forge.at_server("refs/heads/stockade/a"), "");
    let refused = forge.refused().await;
    assert_eq!(refused.len(), 6, "{refused:?}");
    assert!(refused.iter().all(|(action, reference, _)| action == "git.push" && reference != "refs/heads/stockade/a"));
    assert!(forge.pushes().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn force_deletion_and_tags_that_move_are_refused() {
    let forge = Forge::new().await;
    let work = forge.cloned().await;
    work.write("a", b"1\n");
    let first = work.commit("mine");
    work.git(&["tag", "stockade/v1"]);
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a", "refs/tags/stockade/v1"]).await;
    assert!(done, "{said}");
    work.write("a", b"2\n");
    work.git(&["add", "-A"]);
    work.git(&["commit", "-q", "--amend", "-m", "otherwise"]);
    work.git(&["tag", "-f", "stockade/v1"]);
    forge.reached();
    for (args, title) in [
        (&["-f", "HEAD:refs/heads/stockade/a"][..], "Nobody's work is overwritten"),
        (&["--force-with-lease", "HEAD:refs/heads/stockade/a"], "Nobody's work is overwritten"),
        (&["-f", "refs/tags/stockade/v1"], "Nobody's work is overwritten"),
        (&[":refs/heads/stockade/a"], "Branches are not deleted"),
        (&["--delete", "stockade/a"], "Branches are not deleted"),
        (&["--mirror"], "no policy"),
    ] {
        let (said, done) = forge.push(&work, args).await;
        assert!(!done, "{args:?}");
        assert!(title == "no policy" || said.contains(title), "{args:?}: {said}");
        assert!(!forge.was_pushed_to(), "{args:?}");
    }
    assert_eq!(forge.at_server("refs/heads/stockade/a"), first);
    // To where another branch of the server is: nothing that was pushed shows that it follows.
    let (said, done) = forge.push(&work, &["-f", "origin/main:refs/heads/stockade/a"]).await;
    assert!(!done && said.contains("Nobody's work is overwritten"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_of_the_servers_branch_is_a_fast_forward() {
    let forge = Forge::new().await;
    let work = forge.cloned().await;
    work.git(&["checkout", "-q", "-b", "mine"]);
    work.write("a", b"1\n");
    work.commit("mine");
    assert!(forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await.1);
    let theirs = forge::Work { dir: forge.dir.path().join("first") };
    theirs.write("src/part2/theirs.txt", b"theirs\n");
    theirs.write(".github/workflows/build.yml", b"on: [push, pull_request]\n");
    theirs.commit("theirs");
    theirs.git(&["push", "-q", "origin", "HEAD:refs/heads/main"]);
    assert!(forge.run(&work.dir, &["fetch", "-q", "origin"]).await.1);
    work.git(&["merge", "-q", "--no-ff", "-m", "merged", "origin/main"]);
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await;
    assert!(done, "what came from the server is nobody's change: {said}");
    let pushes = forge.pushes().await;
    assert_eq!(pushes[1].2.get("force"), Some(&false.into()));
    assert_eq!(pushes[1].2.get("files"), Some(&0_i64.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protected_paths_are_known_by_what_was_there_before() {
    let forge = Forge::new().await;
    let work = forge.cloned().await;
    let title = "The team's machinery is changed by people";
    // Changed, deleted, renamed, new, and an old file of the server under a protected name.
    let changes: [(&str, &dyn Fn()); 5] = [
        ("changed", &|| work.write(".github/workflows/build.yml", b"on: never\n")),
        ("deleted", &|| drop(work.git(&["rm", "-q", ".github/workflows/build.yml"]))),
        ("renamed", &|| drop(work.git(&["mv", ".github", "github"]))),
        ("new", &|| work.write(".gitmodules", b"[submodule \"x\"]\n\tpath = x\n\turl = https://forge.example/x\n")),
        ("under another name", &|| {
            let blob = work.git(&["rev-parse", "HEAD:src/part0/file0.txt"]);
            work.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},.github/workflows/evil.yml")]);
            work.git(&["checkout", "-q", "--", ".github/workflows/evil.yml"]);
        }),
    ];
    for (what, change) in changes {
        work.git(&["reset", "-q", "--hard", "origin/main"]);
        change();
        work.commit(what);
        let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await;
        assert!(!done && said.contains(title), "{what}: {said}");
    }
    work.git(&["reset", "-q", "--hard", "origin/main"]);
    work.write("vendor/lib.c", b"int y;\n");
    work.commit("vendored");
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await;
    assert!(!done && said.contains("Vendored code is not changed"), "{said}");
    assert!(forge.pushes().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_leave_files_out_is_asked_for_all_and_one_that_says_nothing_costs_certainty() {
    let forge = Forge::new().await;
    let work = forge.cloned().await;
    forge.allow_filter("team/app.git", false);
    work.write("src/part1/new.txt", b"new\n");
    work.commit("mine");
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await;
    assert!(done, "{said}");
    // No second version, no base: what may have changed counts as changed.
    forge.git_at("team/app.git", &["config", "protocol.version", "0"]);
    forge.git_at("team/app.git", &["config", "http.uploadpack", "false"]);
    work.write("src/part1/new.txt", b"newer\n");
    work.commit("mine too");
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await;
    assert!(!done && said.contains("The team's machinery is changed by people"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_found_wherever_they_stand_in_what_is_pushed() {
    let forge = Forge::new().await;
    let work = forge.cloned().await;
    let key = secret();
    let places: [(&str, &dyn Fn()); 6] = [
        ("in a file", &|| {
            work.write("config.env", format!("TOKEN={key}\n").as_bytes());
            work.commit("config");
        }),
        ("in the history and not at the tip", &|| {
            work.write("config.env", format!("TOKEN={key}\n").as_bytes());
            work.commit("config");
            work.git(&["rm", "-q", "config.env"]);
            work.commit("gone");
        }),
        ("in a commit's message", &|| drop(work.commit(&format!("use {key}")))),
        ("in the name of a file", &|| {
            work.write(&format!("keys/{key}"), b"x\n");
            work.commit("a name");
        }),
        ("in a delta", &|| {
            let text: String = (0..3_000).map(|n| format!("line {n}\n")).collect();
            work.write("long.txt", text.as_bytes());
            work.commit("long");
            work.write("long.txt", format!("{text}{key}\n").as_bytes());
            work.commit("longer");
        }),
        ("in a tag", &|| {
            work.write("a", b"x\n");
            work.commit("a");
            work.git(&["tag", "-f", "-a", "-m", &format!("use {key}"), "stockade/v1"]);
        }),
    ];
    for (what, make) in places {
        work.git(&["reset", "-q", "--hard", "origin/main"]);
        make();
        let mut args = vec!["HEAD:refs/heads/stockade/a"];
        if what == "in a tag" {
            args.push("refs/tags/stockade/v1");
        }
        forge.reached();
        let (said, done) = forge.push(&work, &args).await;
        assert!(!done && said.contains("Secrets are not pushed"), "{what}: {said}");
        assert!(said.contains("found secret.github_token in "), "{what}: {said}");
        assert!(!said.replace(&format!("keys/{key}"), "").contains(&key), "{what}: it is not repeated");
        assert!(!forge.was_pushed_to(), "{what}");
    }
    let name = format!("HEAD:refs/heads/stockade/{key}");
    work.git(&["reset", "-q", "--hard", "origin/main"]);
    let (said, done) = forge.push(&work, &[&name]).await;
    assert!(!done && said.contains("Secrets are not pushed"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_push_and_one_that_the_server_refuses_are_told_as_they_went() {
    let forge = Forge::new().await;
    let work = forge.cloned().await;
    let mut noise = vec![0; 3 << 20];
    (&stockade_ledger::SystemWorld as &dyn stockade_domain::World).random(&mut noise);
    work.write("noise.bin", &noise);
    work.commit("large");
    // Above `http.postBuffer` git asks first whether it may, and sends in chunks.
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/large"]).await;
    assert!(done, "{said}");
    let sent = forge.reached();
    let pushed: Vec<_> =
        sent.iter().filter(|one| one.method == "POST" && one.target.ends_with("receive-pack")).collect();
    assert_eq!(pushed.iter().map(|one| one.body.len() > 4).collect::<Vec<_>>(), [false, true]);
    assert_eq!(pushed[1].headers.get("content-length").unwrap(), &pushed[1].body.len().to_string());
    assert!(pushed.iter().all(|one| !one.headers.contains_key("git-protocol")));
    forge.git_at("team/app.git", &["config", "receive.denyCreates", "true"]);
    let hook = forge.dir.path().join("repositories/team/app.git/hooks/update");
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    work.write("a", b"1\n");
    work.commit("more");
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/large"]).await;
    assert!(!done && said.contains("hook declined"), "{said}");
    let codes: Vec<_> = forge.pushes().await.into_iter().map(|(_, code, _)| code).collect();
    assert_eq!(codes, ["ok", "rejected"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_the_server_does_not_take_is_closed_so() {
    let forge = Forge::new().await;
    let work = forge.cloned().await;
    work.write("a", b"1\n");
    work.commit("mine");
    let says = |status, said: &'static [u8]| *forge.backend.says.lock().unwrap() = Some((status, said.into()));
    says(StatusCode::INTERNAL_SERVER_ERROR, b"no");
    assert!(!forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await.1);
    says(StatusCode::OK, b"0000");
    assert!(!forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await.1);
    let codes: Vec<_> = forge.pushes().await.into_iter().map(|(_, code, _)| code).collect();
    assert_eq!(codes, ["not_taken", "unreported"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_to_push_shallow_clones_and_options_behave_as_git_knows_them() {
    let forge = Forge::new().await;
    let work = forge.cloned().await;
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/main"]).await;
    assert!(done && said.contains("up-to-date"), "{said}");
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/same"]).await;
    assert!(done, "a branch where the server has the commit already: {said}");
    let (said, done) = forge.push(&work, &["-o", "ci.skip", "HEAD:refs/heads/stockade/b"]).await;
    assert!(!done && said.contains("does not support push options"), "{said}");
    let (said, done) = forge.push(&work, &["--signed=true", "HEAD:refs/heads/stockade/b"]).await;
    assert!(!done && said.contains("does not support --signed"), "{said}");
    let (said, done) =
        forge.push(&work, &["--atomic", "HEAD:refs/heads/stockade/c", "HEAD:refs/heads/stockade/d"]).await;
    assert!(done, "{said}");
    assert!(forge.run(forge.dir.path(), &["clone", "-q", "--depth=1", &forge.url("team/app.git"), "shallow"]).await.1);
    let shallow = forge::Work { dir: forge.dir.path().join("shallow") };
    shallow.write("a", b"x\n");
    shallow.commit("upon a short history");
    let (said, done) = forge.push(&shallow, &["HEAD:refs/heads/stockade/shallow"]).await;
    assert!(done, "{said}");
    assert!(git(&shallow.dir, &["rev-parse", "--is-shallow-repository"], b"").stdout.starts_with(b"true"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_question_for_a_password_is_the_clients_to_answer() {
    let forge = Forge::new().await;
    forge.cloned().await;
    *forge.backend.wants.lock().unwrap() = Some("Basic YTpi".to_owned());
    let url = forge.url("team/app.git").replace("//", "//a:b@");
    let (said, done) = forge.run(forge.dir.path(), &["clone", "-q", &url, "with"]).await;
    assert!(done, "{said}");
    let work = forge::Work { dir: forge.dir.path().join("with") };
    work.write("a", b"1\n");
    work.commit("mine");
    let (said, done) = forge.push(&work, &["HEAD:refs/heads/stockade/a"]).await;
    assert!(done, "{said}");
    let (_, done) = forge.run(forge.dir.path(), &["clone", "-q", &forge.url("team/app.git"), "without"]).await;
    assert!(!done);
}
