//! From the workspace to a branch in the project's repository: taken out, examined, committed, decided, recorded, pushed.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use stockade_agent::Input;
use stockade_api::guest::{Op, Reply};
use stockade_domain::{Action, ContentKind, EventKind, FailureCause, Observed, Resource, ResourceKind};
use stockade_ledger::Sealed;
use stockade_policy::Permit;

use super::{Drive, DriveError, Rest, Verdict, file_error};
use crate::{
    book::{Draft, hold, unhold},
    journal::{About, Change, Close, EndStatus, Step},
    workspace::{self, Base, Commission, MAX_CHANGE_BUNDLE, branch_of, git::GitError},
};

/// So often pushing is tried before the run fails.
pub const PUSH_ATTEMPTS: u32 = 3;

impl Drive {
    /// Opens the change, or asks, or tells the agent why not.
    pub(super) async fn change(&mut self, title: &str, body: &str) -> Result<Option<Rest>, DriveError> {
        let base = self.state.base.clone().ok_or_else(|| DriveError::Defect("no base".to_owned()))?;
        let number = self.state.changes + 1;
        let change = match self.state.change.clone() {
            Some(change) if change.number == number => {
                self.still_there(&base, &change).await?;
                change
            }
            _ => match self.commit(&base, number, title, body).await? {
                Some(change) => change,
                None => {
                    self.write(Draft::input(Input::NoChange {}, vec![])).await?;
                    return Ok(None);
                }
            },
        };
        let diff = unhold(&change.diff).ok_or_else(|| DriveError::Defect("the diff is damaged".to_owned()))?;
        let stat = change.stat;
        let lines = i64::from(stat.insertions) + i64::from(stat.deletions);
        let mut deed = self.deed(Action::ChangeOpen, Resource::new(ResourceKind::Change, self.a.run));
        deed.context = deed
            .context
            .with("diff_lines", lines)
            .with("files", i64::from(stat.files))
            .with("protected_paths", stat.protected)
            .with("gates_passed", change.gated)
            .with("branch", branch_of(self.a.run))
            .with_content("repository", self.a.project.repository.clone());
        self.repository()?;
        let about = About::Change { number };
        match self.decide(deed, about) {
            Verdict::Go(permit) => self.open(&base, &change, diff, permit).await,
            Verdict::No(refusal) => {
                self.site.desk.ledger.refuse(refusal.deed(), refusal.decision(), vec![diff]).await?;
                let title = refusal.title().to_owned();
                self.write(Draft::input(Input::ChangeDenied { title }, vec![])).await?;
                Ok(None)
            }
            Verdict::Ask(question) => Ok(Some(self.park(question, about, diff).await?)),
        }
    }

    /// Takes the work out and makes the commit. Nothing: there is no difference.
    async fn commit(
        &mut self,
        base: &Base,
        number: u32,
        title: &str,
        body: &str,
    ) -> Result<Option<Change>, DriveError> {
        let Some(tree) = self.take_out(base).await? else { return Ok(None) };
        let dir = self.quarantine();
        let stat = self.site.workspaces.stat(&dir, base, &tree).await?;
        let diff = self.site.workspaces.diff(&dir, base, &tree).await?;
        let checkpoint = self.site.desk.ledger.checkpoint();
        let point = checkpoint.checkpoint();
        let git = &self.site.config.git;
        let trailers = [
            ("Co-authored-by", format!("{0} <{0}@{1}>", self.a.owner, git.people_domain)),
            ("Stockade-Run", self.a.run.to_string()),
            ("Stockade-Checkpoint", format!("{} {} {}", point.origin, point.size, point.root)),
        ];
        let commission = Commission {
            name: git.name.clone(),
            email: git.email.clone(),
            message: workspace::message(title, body, &trailers),
            at: self.now(),
        };
        let commit = self.site.workspaces.commit(&dir, base, &tree, &commission).await?;
        let diff = self.seal(ContentKind::Diff, &diff)?;
        // The agent machine comes here only after every gate of the project has passed; a project without gates has none to fail.
        let gated = true;
        let change = Change { number, tree, commit, commission, stat, diff: hold(&diff), gated };
        self.write(Draft::step(Step::Committed { change: Box::new(change.clone()) }, vec![])).await?;
        Ok(Some(change))
    }

    /// The commit that was made is still there; if a crash took it, the same one is made again, and no other.
    async fn still_there(&mut self, base: &Base, change: &Change) -> Result<(), DriveError> {
        let dir = self.quarantine();
        if self.site.workspaces.holds(&dir, &change.commit).await {
            return Ok(());
        }
        let tree = self.take_out(base).await?;
        let same = tree.as_deref() == Some(change.tree.as_str())
            && self.site.workspaces.commit(&dir, base, &change.tree, &change.commission).await? == change.commit;
        if same {
            Ok(())
        } else {
            let why = "the workspace is not what it was when the change was decided".to_owned();
            Err(DriveError::Git(GitError::Hostile(why)))
        }
    }

    async fn open(
        &mut self,
        base: &Base,
        change: &Change,
        diff: Sealed,
        permit: Permit,
    ) -> Result<Option<Rest>, DriveError> {
        let (deed, decision) = (permit.deed().clone(), permit.decision().clone());
        let opened = self.site.desk.ledger.open(&deed, &decision, vec![diff], permit).await?;
        let record = opened.record();
        let pushed = self.push(change, opened.into_permit()).await;
        if matches!(pushed, Err(DriveError::Halted)) {
            // The record stays open; the branch may be there. Whoever goes on finds out.
            return Err(DriveError::Halted);
        }
        let close = |status| Close {
            record,
            status,
            code: (status != EndStatus::Ok).then(|| "push_failed".to_owned()),
            usage: stockade_domain::Usage::default(),
            cost: stockade_domain::Nanos::ZERO,
        };
        let stat = change.stat;
        let draft = match &pushed {
            Ok(()) => Draft {
                input: Some(Input::ChangeOpened {}),
                events: vec![EventKind::Change {
                    branch: branch_of(self.a.run),
                    commit: change.commit.clone(),
                    tree: change.tree.clone(),
                    base: base.commit.clone(),
                    files: stat.files,
                    insertions: stat.insertions,
                    deletions: stat.deletions,
                    diff: change.diff.content,
                    record,
                }],
                close: Some(close(EndStatus::Ok)),
                ..Draft::default()
            },
            Err(error) => Draft {
                input: Some(Input::Stop { cause: FailureCause::Repository, text: error.to_string() }),
                close: Some(close(EndStatus::Error)),
                ..Draft::default()
            },
        };
        self.write(draft).await?;
        Ok(None)
    }

    /// The effect: it takes the permit.
    async fn push(&mut self, change: &Change, permit: Permit) -> Result<(), DriveError> {
        let _used = permit;
        let dir = self.quarantine();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let repository = self.repository()?;
            match self.site.workspaces.push(&dir, &repository, self.a.run, &change.commit).await {
                Ok(()) => return Ok(()),
                Err(error) if attempt < PUSH_ATTEMPTS => {
                    tracing::warn!(run = %self.a.run, %error, attempt, "pushing failed, it is tried again: {error}");
                    self.until(self.now().plus_ms(1_000 * u64::from(attempt))).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn quarantine(&self) -> std::path::PathBuf {
        self.slot.dir.join("quarantine.git")
    }

    /// Has the environment hand the work out and examines it. Nothing: it is the base.
    async fn take_out(&mut self, base: &Base) -> Result<Option<String>, DriveError> {
        let file = self.slot.dir.join("out.bundle");
        self.fetch_bundle(base, &file).await?;
        let dir = self.quarantine();
        let tree = self.site.workspaces.take(self.a.project.id, &dir, &file, base).await?;
        let _ = crate::files::remove_all(&file);
        Ok((!self.site.workspaces.is_unchanged(&dir, base, &tree).await?).then_some(tree))
    }

    async fn fetch_bundle(&mut self, base: &Base, file: &std::path::Path) -> Result<(), DriveError> {
        use std::io::Write as _;
        self.script(workspace::EXPORT, base).await?;
        let mut out = std::fs::File::create(file).map_err(file_error(file))?;
        let mut offset = 0;
        loop {
            let hostile = |why: String| DriveError::Git(GitError::Hostile(why));
            let answer = self.ask(None, Op::Get { name: "out.bundle".to_owned(), offset }).await?.reply;
            let Reply::Data { data, size } = answer else {
                return Err(hostile("the guest does not hand the bundle out".to_owned()));
            };
            if size > MAX_CHANGE_BUNDLE {
                return Err(hostile(format!("its bundle is {size} bytes, more than {MAX_CHANGE_BUNDLE}")));
            }
            let piece = BASE64_STANDARD.decode(data).map_err(|_| hostile("a piece is not base64".to_owned()))?;
            out.write_all(&piece).map_err(file_error(file))?;
            offset += piece.len() as u64;
            if offset >= size || piece.is_empty() {
                return Ok(());
            }
        }
    }

    /// Keeps the work of a run that ends without a change, so that it can be tried again in another environment. The best that
    /// can be done: without it, the next attempt begins at the base.
    pub(super) async fn keep_the_work(&mut self) {
        let Some(base) = self.state.base.clone().filter(|_| self.state.began) else { return };
        let environment = self.a.environment;
        if !self.site.driver.is_running(environment).await {
            // One that only rests has its files: it is started for them, without a way out.
            let rests = matches!(self.state.seen, Some((of, Observed::Stopped, _)) if of == environment);
            let slot = Arc::clone(&self.slot);
            let _door = slot.door.lock().await;
            if !rests || self.site.driver.restart(environment).await.is_err() {
                return;
            }
        }
        let (part, kept) = (self.slot.dir.join("work.part"), self.slot.dir.join("work.bundle"));
        let done = match self.fetch_bundle(&base, &part).await {
            Ok(()) => std::fs::rename(&part, &kept).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = done {
            let _ = crate::files::remove_all(&part);
            tracing::info!(run = %self.a.run, error, "the work of {} could not be kept: {error}", self.a.run);
        }
    }
}
