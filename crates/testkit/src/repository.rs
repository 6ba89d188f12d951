//! Git repositories for tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// A repository with one commit on `main`.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// Of a folder's files, copied.
    pub fn of_folder(folder: &Path, at: &Path) -> Result<Self> {
        copy(folder, at)?;
        Self::init(at)
    }

    /// Of a sample of this repository.
    pub fn of_sample(name: &str, at: &Path) -> Result<Self> {
        Self::of_folder(&crate::root().join("samples").join(name), at)
    }

    /// Of the files that are already at `at`.
    pub fn init(at: &Path) -> Result<Self> {
        let repository = Self { path: at.to_owned() };
        repository.git(&["init", "--quiet", "--initial-branch=main"])?;
        repository.git(&["add", "--all", "--force"])?;
        repository.git(&["commit", "--quiet", "--message=The beginning"])?;
        Ok(repository)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs git in it, cut off from the machine's own configuration; gives what it printed, trimmed.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        let output = Command::new("git")
            .arg("-C")
            .arg(&self.path)
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .context("could not start git")?;
        ensure!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The tree of a branch, if there is such a branch.
    pub fn tree(&self, branch: &str) -> Option<String> {
        self.git(&["rev-parse", "--verify", "--quiet", &format!("{branch}^{{tree}}")]).ok()
    }

    /// A file's text on a branch.
    pub fn file(&self, branch: &str, path: &str) -> Result<String> {
        self.git(&["show", &format!("{branch}:{path}")])
    }
}

/// Copies a folder with everything in it.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).with_context(|| format!("copying {}", source.display()))?;
        }
    }
    Ok(())
}
