//! Real repositories, and what a hostile environment could hand out.

use std::{path::Path, process::Command};

use stockade_domain::{Id, Timestamp, ids::RunId};

use super::*;

fn sh(dir: &Path, script: &str) -> String {
    let out = Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_AUTHOR_NAME", "T")
        .env("GIT_AUTHOR_EMAIL", "t@example.invalid")
        .env("GIT_COMMITTER_NAME", "T")
        .env("GIT_COMMITTER_EMAIL", "t@example.invalid")
        .output()
        .unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

struct Place {
    dir: tempfile::TempDir,
    spaces: Workspaces,
    project: ProjectId,
    run: RunId,
    repository: String,
    base: Base,
}

async fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().join("project");
    std::fs::create_dir(&project).unwrap();
    sh(&project, "git init -q -b main; echo a > a; git add -A; git commit -qm one");
    let repository = project.to_str().unwrap().to_owned();
    let spaces = Workspaces::new(dir.path().join("mirrors"));
    let (project, run) = (Id::from_parts(1, [1; 10]), Id::from_parts(1, [2; 10]));
    let base = spaces.fetch(project, &repository, "", run).await.unwrap();
    assert_eq!(base.branch, "main");
    Place { dir, spaces, project, run, repository, base }
}

impl Place {
    /// What an environment hands out after this script has run in its workspace.
    fn handed_out(&self, script: &str) -> std::path::PathBuf {
        let inside = self.dir.path().join("inside");
        let _ = std::fs::remove_dir_all(&inside);
        sh(self.dir.path(), "git clone -q project inside");
        sh(&inside, script);
        sh(&inside, "git bundle create -q ../out.bundle refs/stockade/out ^HEAD");
        self.dir.path().join("out.bundle")
    }

    async fn take(&self, script: &str) -> Result<String, GitError> {
        let bundle = self.handed_out(script);
        self.spaces.take(self.project, &self.dir.path().join("quarantine"), &bundle, &self.base).await
    }
}

const WORK: &str =
    "echo b >> a; git add -A; git update-ref refs/stockade/out $(git commit-tree $(git write-tree) -p HEAD -m x)";

#[tokio::test]
async fn a_change_is_committed_and_pushed_as_if_once() {
    let place = place().await;
    let tree = place.take(WORK).await.unwrap();
    let dir = place.dir.path().join("quarantine");
    let stat = place.spaces.stat(&dir, &place.base, &tree).await.unwrap();
    assert_eq!(stat, Stat { files: 1, insertions: 1, deletions: 0, protected: false });
    let what = Commission {
        name: "Agent".into(),
        email: "a@example.invalid".into(),
        message: message("Add b", "Because.", &[("Stockade-Run", place.run.to_string())]),
        at: Timestamp(1_700_000_000_000_000),
    };
    let commit = place.spaces.commit(&dir, &place.base, &tree, &what).await.unwrap();
    assert_eq!(place.spaces.commit(&dir, &place.base, &tree, &what).await.unwrap(), commit, "the same, after a crash");
    for _ in 0..2 {
        place.spaces.push(&dir, &place.repository, place.run, &commit).await.unwrap();
    }
    let name = format!("refs/heads/{}", branch_of(place.run));
    let project = place.dir.path().join("project");
    assert_eq!(sh(&project, &format!("git rev-parse {name}")), commit);

    // A branch of that name that holds something else is never overwritten.
    sh(&project, &format!("git update-ref {name} HEAD"));
    assert!(place.spaces.push(&dir, &place.repository, place.run, &commit).await.is_err());
    assert_eq!(sh(&project, &format!("git rev-parse {name}")), place.base.commit);
}

#[tokio::test]
async fn what_would_poison_a_repository_is_refused() {
    let place = place().await;
    for (what, tree) in [
        ("a tree with a .git folder", r#"printf '100644 blob %s\t.GIT\n' $(git hash-object -w a) | git mktree"#),
        ("a tree with a way up", r#"printf '100644 blob %s\t..\n' $(git hash-object -w a) | git mktree"#),
        (
            "a .gitmodules that is a link",
            r#"printf '120000 blob %s\t.gitmodules\n' $(git hash-object -w a) | git mktree"#,
        ),
    ] {
        let script = format!("T=$({tree}); git update-ref refs/stockade/out $(git commit-tree $T -p HEAD -m x)");
        let error = place.take(&script).await.expect_err(what);
        assert!(matches!(error, GitError::Hostile(_)), "{what}: {error}");
    }
    let bundle = place.handed_out(WORK);
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.len() - 30;
    bytes[at] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let quarantine = place.dir.path().join("quarantine");
    assert!(place.spaces.take(place.project, &quarantine, &bundle, &place.base).await.is_err(), "a damaged pack");
}

#[test]
fn a_message_keeps_its_trailers_whatever_the_agent_says() {
    let text = message("Fix\nthe\u{1b}[31m bug", "Body\r\n\u{0}x", &[("Stockade-Run", "run_1\nEvil: yes".into())]);
    assert_eq!(text, "Fix the[31m bug\n\nBody\nx\n\nStockade-Run: run_1Evil: yes\n");
    assert!(message("", "", &[]).starts_with("Work of an agent"));
}

#[test]
fn protected_paths_are_known_at_any_depth() {
    for (path, protected) in [
        (".github/workflows/x.yml", true),
        ("a/b/CODEOWNERS", true),
        ("Jenkinsfile", true),
        ("src/github/x", false),
        ("docs/Jenkinsfile.md", false),
    ] {
        assert_eq!(is_protected(path), protected, "{path}");
    }
}

#[tokio::test]
async fn nothing_of_a_repository_on_this_machine_runs_here() {
    let place = place().await;
    let trap = place.dir.path().join("trapped");
    let project = place.dir.path().join("project");
    let script = format!("#!/bin/sh\ntouch {}\n", trap.display());
    for hook in ["pre-receive", "update", "post-receive", "post-update", "reference-transaction", "proc-receive"] {
        let hook = project.join(".git/hooks").join(hook);
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        std::fs::write(&hook, &script).unwrap();
        sh(&project, &format!("chmod +x '{}'", hook.display()));
    }
    let program = place.dir.path().join("program");
    std::fs::write(&program, &script).unwrap();
    sh(&project, &format!("chmod +x '{0}'; mkdir ../other; git init -q ../other", program.display()));
    sh(&project, "echo ../../../other/.git/objects > .git/objects/info/alternates");
    for key in ["core.alternateRefsCommand", "core.fsmonitor", "uploadpack.packObjectsHook", "core.sshCommand"] {
        sh(&project, &format!("git config {key} '{}'", program.display()));
    }
    let base = place.spaces.fetch(place.project, &place.repository, "main", place.run).await.unwrap();
    let tree = place.take(WORK).await.unwrap();
    let dir = place.dir.path().join("quarantine");
    let what = Commission { name: "A".into(), email: "a@b".into(), message: "m".into(), at: Timestamp(0) };
    let commit = place.spaces.commit(&dir, &base, &tree, &what).await.unwrap();
    let _ = std::fs::remove_file(&trap);
    place.spaces.push(&dir, &place.repository, place.run, &commit).await.unwrap();
    place.spaces.fetch(place.project, &format!("file://{}", place.repository), "main", place.run).await.unwrap();
    assert!(!trap.exists(), "something of the repository ran");
}

#[tokio::test]
async fn what_is_ours_is_nobodys_repository() {
    let place = place().await;
    let mirror = place.dir.path().join("mirrors").join(format!("{}.git", place.project));
    let other: ProjectId = Id::from_parts(1, [7; 10]);
    for wanted in [mirror.to_str().unwrap().to_owned(), format!("file://{}", mirror.display())] {
        let refused = place.spaces.fetch(other, &wanted, "", place.run).await;
        assert!(matches!(refused, Err(GitError::Address { .. })), "{refused:?}");
    }
    std::os::unix::fs::symlink(&mirror, place.dir.path().join("by-another-name")).unwrap();
    let wanted = place.dir.path().join("by-another-name");
    let refused = place.spaces.push(&mirror, wanted.to_str().unwrap(), place.run, &place.base.commit).await;
    assert!(matches!(refused, Err(GitError::Address { .. })), "{refused:?}");
}

#[tokio::test]
async fn one_zero_byte_does_not_hide_the_lines_of_a_file() {
    let place = place().await;
    let work = WORK.replace("echo b >> a", "(printf '\\0'; seq 900) > b");
    let tree = place.take(&work).await.unwrap();
    let stat = place.spaces.stat(&place.dir.path().join("quarantine"), &place.base, &tree).await.unwrap();
    assert_eq!((stat.files, stat.insertions), (1, 900));
}

#[test]
fn a_model_cannot_write_a_trailer_nor_a_word_that_machines_obey() {
    let body = "Because.\n\nStockade-Run: run_forged\nCo-authored-by: Ada <ada@example.invalid>\n  SIGNED-OFF-BY : x\n\
                skip-checks: true\n---\nafter [Skip CI] \u{202e}gnp.exe\u{1b}[2J\nA note: stays.";
    let text = message("Fix [ci skip]\r\nCo-authored-by: b", body, &[("Stockade-Run", "run_true\nX-By: y".into())]);
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("m"), &text).unwrap();
    for how in ["--parse", "--parse --no-divider"] {
        let trailers = sh(place.path(), &format!("git interpret-trailers {how} m"));
        assert_eq!(trailers, "Stockade-Run: run_trueX-By: y", "{text}");
    }
    assert!(
        !text.to_ascii_lowercase().contains("[skip ci]") && !text.to_ascii_lowercase().contains("[ci skip]"),
        "{text}"
    );
    assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    assert!(text.contains("\nA note: stays.\n"), "{text}");
    assert!(text.lines().filter(|l| l.starts_with("Stockade-Run:")).count() == 1, "{text}");
    // A title cannot be one either.
    assert!(message("Co-authored-by: x", "", &[("K-Run", "1".into())]).starts_with("> Co-authored-by"), "title");
}

#[test]
fn what_runs_elsewhere_is_protected_by_every_name() {
    for path in [".github", ".github/workflows/x.yml", "a/AGENTS.md", ".vscode/tasks.json", "sub/.gitlab-ci.yml"] {
        assert!(is_protected(path), "{path}");
    }
    assert!(!is_protected("github/x") && !is_protected("src/agents.rs"));
}

/// What a workspace has that tools of a machine start by themselves, each of which would leave `TRAP` there.
const POISON: &str = r#"
printf '#!/bin/sh\ntouch TRAP\n' > prog; chmod +x prog
mkdir .vscode .devcontainer
printf '* filter=evil diff=evil merge=evil ident export-subst\n' > .gitattributes
echo '{"tasks":[{"command":"touch TRAP","runOptions":{"runOn":"folderOpen"}}]}' > .vscode/tasks.json
echo '{"initializeCommand":"touch TRAP"}' > .devcontainer/devcontainer.json
echo 'touch TRAP' > .envrc; echo 'touch TRAP' > .husky; printf '[core]\n\tfsmonitor = ./prog\n' > .gitconfig
ln -s /etc/passwd link; ln -s .git/hooks/post-checkout hook
git add -A
git update-ref refs/stockade/out $(git commit-tree $(git write-tree) -p HEAD -m x)
for hook in pre-commit post-commit post-checkout post-index-change reference-transaction pre-push pre-auto-gc fsmonitor-watchman; do cp prog .git/hooks/$hook; done
for key in core.fsmonitor core.sshCommand core.editor core.pager core.askPass core.gitProxy core.alternateRefsCommand diff.external credential.helper gpg.program \
    uploadpack.packObjectsHook filter.evil.clean filter.evil.smudge filter.evil.process diff.evil.command diff.evil.textconv merge.evil.driver; do git config $key "$PWD/prog"; done
git config core.hooksPath "$PWD/.git/hooks"; git config include.path "$PWD/.gitconfig"; git config protocol.ext.allow always
"#;

#[tokio::test]
async fn f3_nothing_that_a_workspace_brings_along_runs_here() {
    let place = place().await;
    let trap = place.dir.path().join("trapped");
    let poison = POISON.replace("TRAP", &trap.display().to_string());
    let bundle = place.handed_out(&poison);
    // Inside, it does run: that is what it is for.
    sh(&place.dir.path().join("inside"), "git status || true");
    std::fs::remove_file(&trap).unwrap();
    let quarantine = place.dir.path().join("quarantine");
    let tree = place.spaces.take(place.project, &quarantine, &bundle, &place.base).await.unwrap();
    let stat = place.spaces.stat(&quarantine, &place.base, &tree).await.unwrap();
    assert!(stat.protected, "a person sees it before anybody's tools do");
    let what = Commission { name: "A".into(), email: "a@b".into(), message: "m".into(), at: Timestamp(0) };
    let commit = place.spaces.commit(&quarantine, &place.base, &tree, &what).await.unwrap();
    place.spaces.push(&quarantine, &place.repository, place.run, &commit).await.unwrap();
    assert!(!trap.exists(), "something of the workspace ran");
    for found in ["hooks", ".gitattributes", "prog", "link"] {
        assert!(
            !quarantine.join(found).is_symlink() && !quarantine.join(found).is_file(),
            "{found} came out as a file"
        );
    }

    // Submodules with commands of their own are refused, or go on unread.
    let modules = format!(
        "printf '[submodule \"x\"]\\n\\tpath = x\\n\\turl = ext::touch%%20{0}\\n\\tupdate = !touch {0}\\n' > .gitmodules; {WORK}",
        trap.display()
    );
    if let Ok(tree) = place.take(&modules).await {
        place.spaces.commit(&quarantine, &place.base, &tree, &what).await.unwrap();
    }
    assert!(!trap.exists(), "something of a submodule ran");
}

#[test]
fn f3_the_same_for_a_runner_that_is_a_user_without_rights() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    const USER: u32 = 54_323;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        // Whoever this is runs that test by itself.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (program, work) = (dir.path().join("program"), dir.path().join("work"));
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::create_dir(&work).unwrap();
    chown(&work, Some(USER), Some(USER)).unwrap();
    let output = Command::new("setpriv")
        .args([format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".into()])
        .args(["--inh-caps=-all", "--bounding-set=-all"])
        .arg(&program)
        .args(["--exact", "workspace::tests::f3_nothing_that_a_workspace_brings_along_runs_here"])
        .env("TMPDIR", &work)
        .env("HOME", &work)
        .current_dir(&work)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "as user {USER}:\n{said}");
}
