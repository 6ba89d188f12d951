//! The main job on the embedded defaults, driven from outside as a user would: exit status 0 only if all of it is true.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{build, sh};

/// After the build, the demo takes at most this long.
const LONGEST: Duration = Duration::from_secs(90);

/// The task that the sample's cassette rehearses.
const TASK: &str = "The tests fail. Find out why, fix the bug, and leave the tests green.";

/// Builds, starts, runs, approves, proves.
pub fn run(keep: bool) -> Result<()> {
    sh::say("== Building stockade and its two helpers");
    let built = build::all(false)?;
    let begun = Instant::now();

    let folder = tempfile::Builder::new().prefix("stockade-demo-").tempdir()?;
    let folder = if keep { Kept::Forever(folder.keep()) } else { Kept::ForNow(folder) };
    let demo = Demo { stockade: built.stockade, folder: folder.path().to_owned() };

    sh::say("\n== A git repository from samples/word-count, with a real bug and a failing test");
    let repository = demo.repository()?;
    sh::say(&format!("   {}", repository.display()));

    sh::say("\n== stockade up, on embedded defaults");
    let mut up = demo.up()?;

    let outcome = demo.story(&repository, begun);
    // Whatever happened: the installation is stopped before its folder goes.
    let stopped = up.stop();
    let export = outcome?;
    stopped?;

    sh::say("\n== Nothing runs any more: the record is verified offline");
    demo.stockade(&["audit", "verify", &export.to_string_lossy()])?;

    let took = begun.elapsed();
    sh::say(&format!(
        "\n== Done in {:.1} s after the build: a task became a change, governed and recorded.",
        took.as_secs_f64()
    ));
    if let Kept::Forever(path) = &folder {
        sh::say(&format!("   Everything is kept in {}", path.display()));
    }
    ensure!(took <= LONGEST, "the demo took {took:?}, longer than its promise of {LONGEST:?}");
    Ok(())
}

enum Kept {
    ForNow(tempfile::TempDir),
    Forever(PathBuf),
}

impl Kept {
    fn path(&self) -> &Path {
        match self {
            Self::ForNow(folder) => folder.path(),
            Self::Forever(path) => path,
        }
    }
}

struct Demo {
    stockade: PathBuf,
    folder: PathBuf,
}

impl Demo {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.stockade);
        command.args(args).env("STOCKADE_DATA", self.folder.join("data"));
        command.env_remove("STOCKADE_URL").env_remove("STOCKADE_TOKEN_FILE");
        command
    }

    /// Runs a command of the command line for the person to see.
    fn stockade(&self, args: &[&str]) -> Result<()> {
        sh::say(&format!("   $ stockade {}", args.join(" ")));
        sh::run(&mut self.command(args))
    }

    /// Runs one for its JSON.
    fn json(&self, args: &[&str]) -> Result<Value> {
        let text = sh::output(self.command(args).arg("--json"))?;
        serde_json::from_str(&text).with_context(|| format!("`stockade {}` printed no JSON: {text}", args.join(" ")))
    }

    fn git(repository: &Path, args: &[&str]) -> Result<String> {
        let mut git = Command::new("git");
        git.arg("-C").arg(repository).args(["-c", "user.name=Demo", "-c", "user.email=demo@example.org"]);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        sh::output(git.args(args))
    }

    fn repository(&self) -> Result<PathBuf> {
        let repository = self.folder.join("word-count");
        copy(&sh::root().join("samples/word-count"), &repository)?;
        Self::git(&repository, &["init", "--quiet", "--initial-branch=main"])?;
        Self::git(&repository, &["add", "--all"])?;
        Self::git(&repository, &["commit", "--quiet", "--message=A word counter"])?;
        Ok(repository)
    }

    fn up(&self) -> Result<Up> {
        let cassettes = sh::root().join("samples/cassettes");
        let mut child = self
            .command(&["up", "--json", "--listen=127.0.0.1:0", "--site-listen=127.0.0.1:0"])
            .arg("--cassettes")
            .arg(cassettes)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.folder.join("up.log"))?)
            .spawn()
            .context("could not start `stockade up`")?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let up = Up { child, log: self.folder.join("up.log") };
        let ready: Value = serde_json::from_str(&line).with_context(|| {
            format!("`stockade up` did not start:\n{}", fs::read_to_string(&up.log).unwrap_or_default())
        })?;
        for (what, key) in [("API", "url"), ("gateway and content", "site_url"), ("token", "token_file")] {
            sh::say(&format!("   {what}: {}", ready.get(key).and_then(Value::as_str).unwrap_or("?")));
        }
        Ok(up)
    }

    /// From the project to the export; gives the export's path.
    fn story(&self, repository: &Path, begun: Instant) -> Result<PathBuf> {
        let path = repository.to_string_lossy();
        self.stockade(&[
            "project",
            "add",
            "word-count",
            "--repository",
            &path,
            "--gate",
            "sh run-tests.sh",
            "--level",
            "2",
        ])?;

        sh::say("\n== A task, with the rehearsal model; level 2: a person says yes to the change");
        let run =
            ["run", "--project", "word-count", "--model", "rehearsal/fix-the-bug", "--budget", "1.00", TASK, "--watch"];
        sh::say(&format!("   $ stockade {}", run.join(" ")));
        let mut watched = self.command(&run).spawn()?;
        let approved = self.approve(&mut watched, begun);
        if approved.is_err() {
            let _ = watched.kill();
        }
        let status = watched.wait()?;
        approved?;
        ensure!(status.success(), "the run did not succeed: `stockade run` ended with {status}");

        let runs = self.json(&["runs", "list"])?;
        let run = &runs["items"][0];
        let id = run["id"].as_str().context("the run has no id")?.to_owned();
        ensure!(run["state"] == "succeeded", "the run is {}", run["state"]);

        sh::say("\n== What came out");
        self.stockade(&["runs", "show", &id, "--diff"])?;

        let branch = format!("stockade/{id}");
        let tip = Self::git(repository, &["rev-parse", "--verify", &format!("refs/heads/{branch}")])?;
        sh::say(&format!("   $ git log --stat {branch}"));
        sh::say(&Self::git(repository, &["log", "--stat", "-1", &branch])?);
        ensure!(!tip.trim().is_empty(), "there is no branch {branch}");
        self.prove_green(repository, &branch)?;

        let shown = self.json(&["runs", "show", &id])?;
        ensure!(shown["cost"].as_i64().is_some_and(|cost| cost > 0), "the run has no cost: {shown}");

        sh::say("\n== What was decided and recorded");
        self.stockade(&["audit", "search", "--run", &id, "--limit", "200"])?;
        let export = self.folder.join("export.jsonl");
        self.stockade(&["audit", "export", "--output", &export.to_string_lossy()])?;
        Ok(export)
    }

    /// Waits for the approval and grants it from "another terminal".
    fn approve(&self, watched: &mut Child, begun: Instant) -> Result<()> {
        loop {
            let waiting = self.json(&["approvals", "list"])?;
            if let Some(id) = waiting["items"][0]["id"].as_str() {
                sh::say(&format!(
                    "\n== It waits for a person. From another terminal:\n   $ stockade approvals grant {id}"
                ));
                self.json(&["approvals", "grant", id])?;
                return Ok(());
            }
            if let Some(status) = watched.try_wait()? {
                bail!("the run ended with {status} before it asked for an approval");
            }
            ensure!(begun.elapsed() < LONGEST, "the run did not ask for an approval within {LONGEST:?}");
            pause();
        }
    }

    /// The gate was green inside; here its branch is checked out and tested once more by hand.
    fn prove_green(&self, repository: &Path, branch: &str) -> Result<()> {
        let fresh = self.folder.join("checkout");
        let clone = Command::new("git")
            .args(["clone", "--quiet", "--branch", branch])
            .arg(repository)
            .arg(&fresh)
            .stderr(Stdio::null())
            .status()?;
        ensure!(clone.success(), "could not clone {branch}");
        sh::say("   $ sh run-tests.sh    (on a fresh clone of the branch, outside)");
        sh::run(Command::new("sh").arg("run-tests.sh").current_dir(&fresh))
    }
}

struct Up {
    child: Child,
    log: PathBuf,
}

impl Up {
    /// Asks it to stop as a person does with Ctrl-C, and waits until it has drained.
    fn stop(&mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        sh::run(Command::new("kill").args(["-TERM", &pid]))?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "`stockade up` ended with {status}; see {}", self.log.display());
                return Ok(());
            }
            pause();
        }
        self.child.kill()?;
        bail!("`stockade up` did not stop within 20 s; see {}", self.log.display())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a person polls too; this is no test and holds no thread that others need"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(150));
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
