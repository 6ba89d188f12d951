//! Source code in, a change out.
//!
//! Owns the bare mirrors of projects' repositories, the bundle that goes into an environment, the quarantine in which
//! what comes out is examined, the commit, the diff and the push. It refuses to check anything out on the host: no file of
//! a repository is ever made on the runner's disk other than as a git object.

pub mod bundle;
pub mod git;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use stockade_domain::{
    Timestamp,
    ids::{ProjectId, RunId},
};
use stockade_egress::git::protected::is_protected;

use crate::files;
use git::{Address, Call, GitError, git, git_text, git_with};

/// The largest bundle that goes into an environment, in bytes.
pub const MAX_BASE_BUNDLE: u64 = 2 * 1024 * 1024 * 1024;
/// The largest bundle that is taken out of an environment, in bytes.
pub const MAX_CHANGE_BUNDLE: u64 = 256 * 1024 * 1024;
/// The largest diff that is kept, in bytes; a longer one is cut and says so.
pub const MAX_DIFF: usize = 4 * 1024 * 1024;
/// The most files that a change may touch.
pub const MAX_CHANGED_FILES: usize = 20_000;
/// The longest `AGENTS.md` that is given to an agent, in bytes.
pub const MAX_INSTRUCTIONS: usize = 64 * 1024;

/// A lock file in a mirror that is older belongs to a git that was killed.
pub const STALE_LOCK: std::time::Duration = std::time::Duration::from_secs(5);

/// On what a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The commit.
    pub commit: String,
    /// The branch; empty if the repository's `HEAD` is on none.
    pub branch: String,
}

/// The size of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stat {
    /// Files touched.
    pub files: u32,
    /// Lines added.
    pub insertions: u32,
    /// Lines removed.
    pub deletions: u32,
    /// Whether one of [`stockade_egress::git::protected::PROTECTED`] is among them.
    pub protected: bool,
}

/// What a commit says. *Invariant:* the same commission gives the same commit, so that a crash changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commission {
    /// Author and committer.
    pub name: String,
    /// Their address.
    pub email: String,
    /// The message with its trailers.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// All mirrors of this runner.
#[derive(Debug)]
pub struct Workspaces {
    root: PathBuf,
    /// Folders of ours: no project's repository is in them.
    ours: Vec<PathBuf>,
    locks: Mutex<HashMap<ProjectId, Arc<tokio::sync::Mutex<()>>>>,
}

/// The name of a run's branch in the project's repository.
pub fn branch_of(run: RunId) -> String {
    format!("stockade/{run}")
}

/// The name of the base commit inside bundles and environments.
pub fn base_ref(run: RunId) -> String {
    format!("refs/stockade/base/{run}")
}

impl Workspaces {
    /// Keeps its mirrors below `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { ours: vec![root.clone()], root, locks: Mutex::new(HashMap::new()) }
    }

    /// Refuses repositories in this folder too: what is in environments belongs to agents, and what is in the runner's folder to
    /// nobody's project, or to another's.
    #[must_use]
    pub fn apart_from(mut self, folder: PathBuf) -> Self {
        self.ours.push(folder);
        self
    }

    /// An address that is none of ours.
    fn address(&self, repository: &str) -> Result<Address, GitError> {
        let address = Address::parse(repository)?;
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match address.local().map(real) {
            Some(path) if self.ours.iter().any(|ours| path.starts_with(real(ours))) => {
                let why = "it is in a folder of the runner itself";
                Err(GitError::Address { address: repository.chars().flat_map(char::escape_default).collect(), why })
            }
            _ => Ok(address),
        }
    }

    fn mirror(&self, project: ProjectId) -> PathBuf {
        self.root.join(format!("{project}.git"))
    }

    async fn locked(&self, project: ProjectId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(project).or_default())
        };
        lock.lock_owned().await
    }

    /// Brings the mirror up to date and finds the commit to stand on.
    pub async fn fetch(
        &self,
        project: ProjectId,
        repository: &str,
        branch: &str,
        run: RunId,
    ) -> Result<Base, GitError> {
        let address = self.address(repository)?;
        // A path that is wrong does not become right by trying again.
        if address.as_str().starts_with('/') && !std::path::Path::new(address.as_str()).is_dir() {
            return Err(GitError::Address {
                address: address.as_str().to_owned(),
                why: "there is no such folder on the runner's machine",
            });
        }
        let dir = self.mirror(project);
        let _guard = self.locked(project).await;
        init_bare(&dir).await?;
        let options = ["fetch", "--quiet", "--no-tags", "--prune", "--no-write-fetch-head", "--no-recurse-submodules"];
        let wanted = [
            "--",
            address.as_str(),
            "+HEAD:refs/stockade/head",
            "+refs/heads/*:refs/stockade/heads/*",
            "^refs/heads/stockade/*",
        ];
        git(&dir, &options.into_iter().chain(address.reading()).chain(wanted).collect::<Vec<_>>()).await?;
        let (name, branch) = if branch.is_empty() {
            let listed = listed(&dir, &address, &["--symref"], "HEAD").await?;
            let symbolic = listed.lines().find_map(|l| l.strip_prefix("ref: refs/heads/")?.split('\t').next());
            ("refs/stockade/head".to_owned(), symbolic.unwrap_or_default().to_owned())
        } else {
            (format!("refs/stockade/heads/{branch}"), branch.to_owned())
        };
        let commit =
            git_text(&dir, &["rev-parse", "--verify", "--end-of-options", &format!("{name}^{{commit}}")]).await?;
        git(&dir, &["update-ref", "--end-of-options", &base_ref(run), &commit]).await?;
        Ok(Base { commit, branch })
    }

    /// Whether the mirror holds a base.
    pub async fn has(&self, project: ProjectId, base: &Base) -> bool {
        self.holds(&self.mirror(project), &base.commit).await
    }

    /// Whether a repository of ours holds a commit.
    pub async fn holds(&self, dir: &Path, commit: &str) -> bool {
        bundle::is_object_name(commit)
            && dir.join("objects").is_dir()
            && git(dir, &["cat-file", "-e", &format!("{commit}^{{commit}}")]).await.is_ok()
    }

    /// Writes the bundle that goes into the environment.
    pub async fn bundle(&self, project: ProjectId, run: RunId, base: &Base, to: &Path) -> Result<(), GitError> {
        let dir = self.mirror(project);
        let _guard = self.locked(project).await;
        remove_stale_locks(&dir, 0);
        // The reference may be gone with a mirror that somebody removed; the commit decides.
        git(&dir, &["update-ref", &base_ref(run), &base.commit]).await?;
        let to_text = to.to_string_lossy().into_owned();
        // Nobody else writes this file: what a git that was killed left of it is in the way.
        for left in [to_text.clone(), format!("{to_text}.lock")] {
            files::remove_all(Path::new(&left)).map_err(GitError::file(to))?;
        }
        git(&dir, &["bundle", "create", "--quiet", "--", &to_text, &base_ref(run)]).await?;
        let len = std::fs::metadata(to).map_err(GitError::file(to))?.len();
        if len > MAX_BASE_BUNDLE {
            let why = format!("the repository is {len} bytes, more than {MAX_BASE_BUNDLE}");
            return Err(GitError::Limit { verb: "bundle".to_owned(), why });
        }
        Ok(())
    }

    /// The repository's instructions for agents, if it has any.
    pub async fn instructions(&self, project: ProjectId, base: &Base) -> Option<String> {
        let name = format!("{}:AGENTS.md", base.commit);
        let call = Call { max_output: Some(MAX_INSTRUCTIONS), cut: true, ..Call::default() };
        let bytes = git_with(&self.mirror(project), &["cat-file", "blob", &name], call).await.ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Examines a bundle that came out of an environment, in a quarantine of its own at `dir`. Gives the tree.
    pub async fn take(&self, project: ProjectId, dir: &Path, bundle: &Path, base: &Base) -> Result<String, GitError> {
        files::remove_all(dir).map_err(GitError::file(dir))?;
        init_bare(dir).await?;
        let alternates = dir.join("objects/info/alternates");
        let objects = self.mirror(project).join("objects");
        std::fs::write(&alternates, format!("{}\n", objects.display())).map_err(GitError::file(&alternates))?;

        let mut file = std::fs::File::open(bundle).map_err(GitError::file(bundle))?;
        let mut start = Vec::new();
        (&file).take(bundle::MAX_HEAD as u64).read_to_end(&mut start).map_err(GitError::file(bundle))?;
        let head = bundle::head(&start)?;
        file.seek(SeekFrom::Start(head.pack_at as u64)).map_err(GitError::file(bundle))?;
        let limit = format!("--max-input-size={MAX_CHANGE_BUNDLE}");
        let call = Call { input_file: Some(file), ..Call::default() };
        git_with(dir, &["index-pack", "--stdin", "--fix-thin", "--strict", &limit], call)
            .await
            .map_err(|e| GitError::Hostile(e.to_string()))?;
        let spec = format!("{}^{{tree}}", head.commit);
        let tree = git_text(dir, &["rev-parse", "--verify", "--end-of-options", &spec])
            .await
            .map_err(|e| GitError::Hostile(e.to_string()))?;
        // Everything that the tree names must be here: a push of something incomplete would fail half way.
        git(dir, &["rev-list", "--objects", "--quiet", "--end-of-options", &head.commit, &format!("^{}", base.commit)])
            .await
            .map_err(|e| GitError::Hostile(e.to_string()))?;
        Ok(tree)
    }

    /// Whether a tree is that of the base.
    pub async fn is_unchanged(&self, dir: &Path, base: &Base, tree: &str) -> Result<bool, GitError> {
        Ok(git_text(dir, &["rev-parse", "--verify", &format!("{}^{{tree}}", base.commit)]).await? == tree)
    }

    /// Makes the commit. The same commission makes the same one.
    pub async fn commit(&self, dir: &Path, base: &Base, tree: &str, what: &Commission) -> Result<String, GitError> {
        let date = format!("@{} +0000", what.at.unix_ms() / 1_000);
        let env = [
            ("GIT_AUTHOR_NAME", what.name.as_str()),
            ("GIT_AUTHOR_EMAIL", what.email.as_str()),
            ("GIT_AUTHOR_DATE", date.as_str()),
            ("GIT_COMMITTER_NAME", what.name.as_str()),
            ("GIT_COMMITTER_EMAIL", what.email.as_str()),
            ("GIT_COMMITTER_DATE", date.as_str()),
        ];
        let call = Call { input: Some(what.message.as_bytes()), env: &env, ..Call::default() };
        let out = git_with(dir, &["commit-tree", tree, "-p", &base.commit, "-F", "-"], call).await?;
        Ok(String::from_utf8_lossy(&out).trim().to_owned())
    }

    /// The size of a change.
    pub async fn stat(&self, dir: &Path, base: &Base, tree: &str) -> Result<Stat, GitError> {
        // Every file is taken for text: one zero byte must not make a file's lines count for nothing.
        let attributes = dir.join("all-is-text");
        std::fs::write(&attributes, "* diff\n").map_err(GitError::file(&attributes))?;
        let option = format!("core.attributesFile={}", attributes.display());
        let args = ["-c", &option, "diff-tree", "-r", "-z", "--numstat"];
        let how = ["--no-renames", "--no-ext-diff", "--no-textconv", &base.commit, tree];
        let args: Vec<&str> = args.into_iter().chain(how).collect();
        let out = git(dir, &args).await?;
        let mut stat = Stat::default();
        for line in out.split(|b| *b == 0).filter(|l| !l.is_empty()) {
            let line = String::from_utf8_lossy(line);
            let mut parts = line.splitn(3, '\t');
            // Binary files count as `-`: no lines.
            let mut number = || parts.next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
            stat.insertions = stat.insertions.saturating_add(number());
            stat.deletions = stat.deletions.saturating_add(number());
            stat.files = stat.files.saturating_add(1);
            stat.protected |= parts.next().is_some_and(is_protected);
        }
        if stat.files as usize > MAX_CHANGED_FILES {
            return Err(GitError::Hostile(format!("it touches {} files, more than {MAX_CHANGED_FILES}", stat.files)));
        }
        Ok(stat)
    }

    /// The change as a unified diff, cut at [`MAX_DIFF`].
    pub async fn diff(&self, dir: &Path, base: &Base, tree: &str) -> Result<Vec<u8>, GitError> {
        let args = ["diff-tree", "-r", "-p", "--no-color", "--no-ext-diff", "--no-textconv", "-M"];
        let args: Vec<&str> = args.into_iter().chain([base.commit.as_str(), tree]).collect();
        let call = Call { max_output: Some(MAX_DIFF), cut: true, ..Call::default() };
        let mut out = git_with(dir, &args, call).await?;
        if out.len() == MAX_DIFF {
            out.extend_from_slice(b"\n[cut: the diff is longer than what is kept]\n");
        }
        Ok(out)
    }

    /// Puts the commit into the project's repository as the run's branch. Doing it twice is doing it once; a branch that
    /// holds another commit is never overwritten.
    pub async fn push(&self, dir: &Path, repository: &str, run: RunId, commit: &str) -> Result<(), GitError> {
        let address = self.address(repository)?;
        let name = format!("refs/heads/{}", branch_of(run));
        let there = listed(dir, &address, &[], &name).await?;
        if there.split_whitespace().next() == Some(commit) {
            return Ok(());
        }
        let lease = format!("--force-with-lease={name}:");
        let refspec = format!("{commit}:{name}");
        let options = ["push", "--quiet", "--no-verify", &lease];
        let wanted = ["--", address.as_str(), &refspec];
        git(dir, &options.into_iter().chain(address.writing()).chain(wanted).collect::<Vec<_>>()).await?;
        Ok(())
    }

    /// Forgets what the mirror knows about a run.
    pub async fn forget(&self, project: ProjectId, run: RunId) {
        let dir = self.mirror(project);
        if dir.is_dir() {
            let _ = git(&dir, &["update-ref", "-d", &base_ref(run)]).await;
        }
    }
}

/// What a repository says about one of its references.
async fn listed(dir: &Path, address: &Address, options: &[&str], name: &str) -> Result<String, GitError> {
    let args = ["ls-remote"].into_iter().chain(options.iter().copied()).chain(address.reading());
    git_text(dir, &args.chain(["--", address.as_str(), name]).collect::<Vec<_>>()).await
}

async fn init_bare(dir: &Path) -> Result<(), GitError> {
    if dir.join("objects").is_dir() && dir.join("HEAD").is_file() {
        remove_stale_locks(dir, 0);
        return Ok(());
    }
    // Made beside and moved into place: a crash in the middle leaves nothing that looks like a repository.
    let beside = dir.with_extension("making");
    files::remove_all(&beside).map_err(GitError::file(&beside))?;
    files::remove_all(dir).map_err(GitError::file(dir))?;
    files::private_dir(&beside).map_err(GitError::file(&beside))?;
    git(&beside, &["init", "--quiet", "--bare", "--template=", "."]).await?;
    let info = beside.join("objects/info");
    std::fs::create_dir_all(&info).map_err(GitError::file(&info))?;
    std::fs::rename(&beside, dir).map_err(GitError::file(dir))
}

/// Removes lock files of a git that was killed. One that is younger may belong to a git that outlived its runner: it is left,
/// git fails, and the work is taken up again later.
fn remove_stale_locks(dir: &Path, depth: u32) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (path, Ok(about)) = (entry.path(), entry.metadata()) else { continue };
        if about.is_dir() {
            if depth < 8 && !path.ends_with("objects") {
                remove_stale_locks(&path, depth + 1);
            }
        } else if path.extension().is_some_and(|e| e == "lock")
            && about.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age > STALE_LOCK)
        {
            tracing::warn!(path = %path.display(), "removed the lock of a git that was killed");
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// The message of a change, with its trailers. Title and body are a model's words: nothing in them is taken for a trailer of
/// ours or for a person's word, ends the message early, or tells other people's machinery to look away.
pub fn message(title: &str, body: &str, trailers: &[(&str, String)]) -> String {
    let title = quiet(&clean(&title.replace('\n', " "), false));
    let title = match title.as_str() {
        "" => "Work of an agent".to_owned(),
        spoken if is_spoken_for(spoken) => format!("> {spoken}"),
        _ => title,
    };
    let body = quiet(&clean(body, true));
    let mut text = title;
    if !body.is_empty() {
        text.push_str("\n\n");
        let lines = body.lines().map(|line| if is_spoken_for(line) { format!("> {line}") } else { line.to_owned() });
        text.push_str(&lines.collect::<Vec<_>>().join("\n"));
    }
    text.push_str("\n\n");
    for (key, value) in trailers {
        text.push_str(&format!("{key}: {}\n", clean(value, false)));
    }
    text
}

/// Without control characters and those that change the order in which a line is read, or hide in it.
fn clean(text: &str, newlines: bool) -> String {
    let hidden = |c: char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let kept = text.chars().filter(|c| !(c.is_control() || hidden(*c)) || (newlines && *c == '\n'));
    kept.collect::<String>().trim().to_owned()
}

/// A line that git, a forge or a person would take for more than a sentence: the divider that ends a message, and the trailers by
/// which people sign, agree and share the authorship, and by which we say which run it was.
fn is_spoken_for(line: &str) -> bool {
    let line = line.trim_start();
    let key = line.split([':', '#']).next().unwrap_or_default().trim_end().to_ascii_lowercase();
    line.starts_with("---") || key.starts_with("stockade-") || key.ends_with("-by") || key == "skip-checks"
}

/// Words in a commit message by which forges skip their checks, with other brackets.
fn quiet(text: &str) -> String {
    let mut text = text.replace("***NO_CI***", "NO_CI");
    for mark in ["[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]"] {
        // Lower-casing ASCII only keeps every byte in its place.
        while let Some(at) = text.to_ascii_lowercase().find(mark) {
            text.replace_range(at..at + 1, "(");
            text.replace_range(at + mark.len() - 1..at + mark.len(), ")");
        }
    }
    text
}

/// What runs inside the environment to lay out the workspace. Idempotent; nothing of the agent is there yet.
/// Wants `BASE`, `REF` in its environment.
pub const UNPACK: &str = r#"set -eu
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
rm -rf .git
git init -q .
git fetch -q --no-tags "$STOCKADE_TRANSFER/base.bundle" "$REF:$REF"
git symbolic-ref HEAD refs/heads/work
git update-ref refs/heads/work "$BASE"
git reset -q --hard
git clean -ffdxq
git config user.name Agent
git config user.email agent@stockade.invalid
"#;

/// What runs inside the environment to bring back the work of an environment before this one. Wants `BASE`, `REF`.
pub const RESTORE: &str = r#"set -eu
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
git fetch -q --no-tags "$STOCKADE_TRANSFER/work.bundle" refs/stockade/out:refs/stockade/work
git read-tree -u --reset refs/stockade/work
git read-tree "$BASE"
"#;

/// What runs inside the environment to hand the work out, as `out.bundle` in the transfer folder. Changes nothing but
/// that; if the agent has damaged its repository, the base is brought in again. Wants `BASE`, `REF`.
pub const EXPORT: &str = r#"set -eu
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=work GIT_AUTHOR_EMAIL=work GIT_AUTHOR_DATE="@0 +0000"
export GIT_COMMITTER_NAME=work GIT_COMMITTER_EMAIL=work GIT_COMMITTER_DATE="@0 +0000"
unset GIT_DIR GIT_WORK_TREE
if ! git cat-file -e "$BASE^{tree}" 2>/dev/null; then
  rm -rf .git
  git init -q .
  git fetch -q --no-tags "$STOCKADE_TRANSFER/base.bundle" "$REF:$REF"
fi
export GIT_INDEX_FILE="$PWD/.git/stockade-index"
rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.lock" .git/refs/stockade/out.lock
rm -f "$STOCKADE_TRANSFER/out.bundle" "$STOCKADE_TRANSFER/out.bundle.lock"
git read-tree "$BASE"
git -c core.fsmonitor=false -c core.autocrlf=false -c advice.addEmbeddedRepo=false add -A .
tree=$(git write-tree)
commit=$(git commit-tree "$tree" -p "$BASE" -m work)
git update-ref refs/stockade/out "$commit"
git bundle create -q "$STOCKADE_TRANSFER/out.bundle" refs/stockade/out "^$BASE"
"#;
