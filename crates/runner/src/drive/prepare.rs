//! From an assignment to an agent that may begin: key, lease, book, environment, workspace.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use stockade_agent::{Facts, Input};
use stockade_api::{
    guest::{Exec, MAX_CHUNK, Op, Reply},
    runner::TakeLease,
};
use stockade_domain::{Action, ContentKind, EventKind, Observed, RunTransition, ids::RunId};
use stockade_ledger::{Closing, LedgerError, Outcome, Status, WrappedKey};
use stockade_sandbox::EnvironmentSpec;
use tokio_util::sync::CancellationToken;

use super::{Drive, DriveError, Rest, State, file_error, state::agent_config};
use crate::{
    book::{Book, Draft},
    classes::limits,
    exits::Told,
    files,
    journal::Step,
    ship,
    site::Site,
    slot::{self, Slot, Terms},
    workspace::{self, Base, base_ref, git::GitError},
};

/// How long laying out or handing out the workspace may take inside the environment, in milliseconds.
pub const WORKSPACE_TIMEOUT_MS: u64 = 300_000;
/// How long the spool may take to be shipped before a new lease is asked for all the same.
const SHIP_FIRST: Duration = Duration::from_secs(5);

impl Drive {
    /// Takes up a run: its key, its lease, its book. `Err(rest)`: there is nothing to work on.
    pub(super) async fn take(
        site: Arc<Site>,
        slot: Arc<Slot>,
        halt: CancellationToken,
    ) -> Result<Result<Self, Rest>, DriveError> {
        let a = slot.assignment();
        // What was erased here stays erased, whatever key is sent; and the first key of a run is its key: what is sealed with it
        // cannot be turned into what somebody else can open.
        let kept = slot::wrapped_key(&slot.dir).map_err(file_error(&slot.dir))?;
        let sent = a.wrapped_key.clone();
        let Some(wrapped) = kept.or(sent).filter(|_| !slot::is_erased(&slot.dir)) else {
            return Ok(Err(Rest::Over));
        };
        if slot.key().is_none() {
            let wrapped_key: WrappedKey =
                wrapped.parse().map_err(|_| DriveError::Key("it cannot be read".to_owned()))?;
            let key = site.keys.site.unwrap_key(&wrapped_key).map_err(|e| DriveError::Key(e.to_string()))?;
            if key.run() != a.run {
                return Err(DriveError::Key("it is another run's".to_owned()));
            }
            slot::keep_wrapped_key(&slot.dir, &wrapped).map_err(file_error(&slot.dir))?;
            slot.set_key(Some(Arc::new(key)));
        }
        let key = slot.key().ok_or_else(|| DriveError::Key("it is gone".to_owned()))?;
        let fence = lease(&site, &slot).await?;

        let mut book = slot.book.lock().await;
        let entries = match book.as_mut() {
            Some(open) => {
                open.fence = fence;
                crate::journal::read_entries(&slot.journal(), &key).map_err(crate::book::BookError::from)?
            }
            None => {
                let (open, entries) =
                    Book::open(a.run, &slot.journal(), Arc::clone(&key), fence, site.desk.clone()).await?;
                *book = Some(open);
                entries
            }
        };
        drop(book);
        broken_off(&site, a.run).await?;
        slot::set_done(&slot.dir, false);
        let state = State::fold(agent_config(&a), &entries).map_err(|e| DriveError::Defect(e.to_string()))?;
        site.purse.begin(a.run, a.agent.max_cost);
        let mut drive = Self { site, slot, a, key, state, halt, away_told: false, moneyless: 0 };
        if entries.is_empty() {
            let events = vec![EventKind::State { transition: RunTransition::Prepare }];
            let taken = drive.taken();
            drive.write(Draft::step(taken, events)).await?;
        }
        drive.on_these_terms();
        Ok(Ok(drive))
    }

    /// Environment and workspace, as far as they are not there.
    pub(super) async fn prepare(&mut self) -> Result<(), DriveError> {
        let moved = self.state.environment != Some(self.a.environment);
        let began = self.site.world().now();
        let base = if self.state.began && !moved {
            None
        } else {
            // The repository is looked at while the environment is being made.
            Some(self.base().await?)
        };
        if moved && let Ok(class) = self.class() {
            // From the journal once its workspace is laid out.
            let (environment, taken_at) = (self.a.environment, began);
            self.slot.set_terms(Terms { environment, class, taken_at, runs_since: None, executions: 0 });
        }
        let fresh = self.environment(began).await?;
        if let Some(base) = base {
            self.lay_out(&base).await?;
            if moved {
                let taken = self.taken();
                self.write(Draft::step(taken, vec![])).await?;
                self.on_these_terms();
            }
            if !self.state.began {
                self.begin(base).await?;
            }
        } else if fresh && self.state.began {
            // A new environment under the same name: what was in the old one is brought back as far as it was kept.
            let base = self.base().await?;
            self.lay_out(&base).await?;
        }
        if self.state.began {
            self.write(Draft::input(Input::Resumed {}, vec![])).await?;
        }
        Ok(())
    }

    /// The environment is this run's from now on. A name that is no class's is told when the environment is to be made.
    fn taken(&self) -> Step {
        let class = self.site.classes.resolve(self.a.class.as_deref()).ok();
        Step::Taken { environment: self.a.environment, class: class.cloned().map(Box::new) }
    }

    /// An environment that outlived a runner has its way out back, also while its run waits for a person.
    pub(super) async fn adopt(&mut self) -> Result<(), DriveError> {
        let id = self.a.environment;
        if self.state.environment == Some(id) && self.site.driver.is_running(id).await {
            self.site.exits.ensure(&self.a, &self.key, self.class()?.network, false).await?;
        }
        Ok(())
    }

    /// The environment runs when this returns; true if it was made from nothing.
    async fn environment(&mut self, began: stockade_domain::Timestamp) -> Result<bool, DriveError> {
        let (id, generation) = (self.a.environment, self.a.generation);
        let class = self.class()?;
        let slot = Arc::clone(&self.slot);
        let _door = slot.door.lock().await;
        let there = self.site.driver.list().await.contains(&id);
        let runs = self.site.driver.is_running(id).await;
        if !runs {
            let rested = self.state.seen;
            if there && rested.is_some() {
                self.see(Observed::Creating, generation, None).await?;
                self.site.driver.restart(id).await?;
                let rested = matches!(rested, Some((of, Observed::Stopped, _)) if of == id);
                let code = if rested { "environment_woken" } else { "guest_restarted" };
                self.write(Draft::events(vec![notice(code)])).await?;
            } else {
                self.see(Observed::Creating, generation, None).await?;
                let told = self.site.exits.told(&self.a, &self.key).map_err(file_error(&self.slot.dir))?;
                let (certificate, Told { variables, gitconfig }) = told;
                let (class, inside) = (limits(&class), class.inside);
                let certificate = Some(certificate);
                let gitconfig = Some(gitconfig);
                let spec = EnvironmentSpec { id, class, inside, certificate, variables, gitconfig };
                self.site.driver.create(&spec).await?;
            }
        }
        if !runs {
            self.slot.started_at.store(self.now().0, Ordering::Relaxed);
        }
        // Before anything runs inside.
        self.site.exits.ensure(&self.a, &self.key, class.network, !runs).await?;
        let duration_ms = self.now().ms_since(began);
        self.see(Observed::Running, generation, (!there).then_some(duration_ms)).await?;
        Ok(!there)
    }

    /// Tells how the environment was seen, if that is news.
    pub(super) async fn see(
        &mut self,
        observed: Observed,
        generation: u64,
        duration_ms: Option<u64>,
    ) -> Result<(), DriveError> {
        let environment = self.a.environment;
        if self.state.seen == Some((environment, observed, generation)) {
            return Ok(());
        }
        let class = (observed == Observed::Creating).then(|| self.class().ok().map(|class| class.name)).flatten();
        let event = EventKind::Environment { environment, observed, generation, duration_ms, class };
        self.write(Draft::events(vec![event])).await
    }

    /// The commit to stand on: found once, then remembered.
    async fn base(&mut self) -> Result<Base, DriveError> {
        let project = &self.a.project;
        if let Some(base) = &self.state.base {
            let base = base.clone();
            if self.site.workspaces.has(project.id, &base).await {
                return Ok(base);
            }
            // The mirror was lost: what it needs comes with a fetch.
            let repository = self.repository()?;
            self.site.workspaces.fetch(project.id, &repository, &project.base_branch, self.a.run).await?;
            return Ok(base);
        }
        let base =
            self.site.workspaces.fetch(project.id, &project.repository, &project.base_branch, self.a.run).await?;
        self.write(Draft::step(
            Step::Based { base: base.clone(), repository: Some(project.repository.clone()) },
            vec![],
        ))
        .await?;
        Ok(base)
    }

    /// Brings the repository into the environment, and the work of an environment before this one, if it was kept.
    async fn lay_out(&mut self, base: &Base) -> Result<(), DriveError> {
        let file = self.slot.dir.join("base.bundle");
        self.site.workspaces.bundle(self.a.project.id, self.a.run, base, &file).await?;
        let sent = self.put("base.bundle", &file).await;
        let _ = files::remove_all(&file);
        sent?;
        self.script(workspace::UNPACK, base).await?;
        let kept = self.slot.dir.join("work.bundle");
        if kept.exists() {
            self.put("work.bundle", &kept).await?;
            self.script(workspace::RESTORE, base).await?;
        }
        Ok(())
    }

    async fn begin(&mut self, base: Base) -> Result<(), DriveError> {
        let sealed = BASE64_STANDARD
            .decode(&self.a.task_sealed)
            .map_err(|_| DriveError::Key("the task is not base64".to_owned()))?;
        let task = self.key.open(ContentKind::Task, &sealed).map_err(|e| DriveError::Key(e.to_string()))?;
        let input = Input::Began {
            task: String::from_utf8_lossy(&task).into_owned(),
            instructions: self.site.workspaces.instructions(self.a.project.id, &base).await,
            facts: Facts {
                project: self.a.project.name.clone(),
                branch: base.branch,
                commit: base.commit,
                gates: self.a.project.gates.clone(),
            },
        };
        self.write(Draft::input(input, vec![EventKind::State { transition: RunTransition::Work }])).await
    }

    /// Sends a file into the transfer folder.
    pub(super) async fn put(&mut self, name: &str, path: &std::path::Path) -> Result<(), DriveError> {
        use std::io::Read as _;
        let mut file = std::fs::File::open(path).map_err(file_error(path))?;
        let mut offset = 0;
        let mut piece = vec![0; MAX_CHUNK];
        loop {
            let n = file.read(&mut piece).map_err(file_error(path))?;
            if n == 0 && offset > 0 {
                return Ok(());
            }
            let data = BASE64_STANDARD.encode(piece.get(..n).unwrap_or_default());
            match self.ask(None, Op::Put { name: name.to_owned(), offset, data }).await?.reply {
                Reply::Done {} => {}
                // Not what it said: that is content, and errors are logged.
                _ => return Err(DriveError::Git(GitError::Hostile("the guest did not take a file".to_owned()))),
            }
            offset += n as u64;
            if n == 0 {
                return Ok(());
            }
        }
    }

    /// Runs one of the workspace's scripts inside.
    pub(super) async fn script(&mut self, script: &str, base: &Base) -> Result<(), DriveError> {
        let exec = Exec {
            argv: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            env: vec![("BASE".to_owned(), base.commit.clone()), ("REF".to_owned(), base_ref(self.a.run))],
            timeout_ms: WORKSPACE_TIMEOUT_MS,
            max_output: 16 * 1024,
            ..Exec::default()
        };
        match self.ask(None, Op::Exec(exec)).await?.reply {
            Reply::Exited { status: 0, .. } => Ok(()),
            Reply::Exited { status, stderr, timed_out, .. } => {
                let end: String = stderr.chars().rev().take(400).collect::<Vec<_>>().into_iter().rev().collect();
                let why = if timed_out { "it took too long".to_owned() } else { format!("exit status {status}") };
                Err(DriveError::Git(GitError::Inside { why, said: end }))
            }
            _ => Err(DriveError::Git(GitError::Inside {
                why: "the guest gave an answer that does not fit the question".to_owned(),
                said: String::new(),
            })),
        }
    }
}

/// Closes the records of deeds of this run on which the work before broke off. Only whoever works on the run opens such
/// records, and there is one at a time.
pub async fn broken_off(site: &Site, run: RunId) -> Result<(), LedgerError> {
    for (record, deed, of) in site.desk.ledger.unclosed() {
        if of == Some(run) && matches!(deed.action, Action::ToolCall | Action::ChangeOpen) {
            let outcome = Outcome::with_code(Status::Unknown, "broken_off");
            let closing = Closing::new(outcome);
            site.desk.ledger.close(record, closing).await?;
        }
    }
    Ok(())
}

/// The fence of a lease that holds: the one that is held, the one that a process before this one held, or a new one.
async fn lease(site: &Site, slot: &Slot) -> Result<u64, DriveError> {
    if let Some(fence) = slot.fence() {
        return Ok(fence);
    }
    if let Some(fence) = slot.remembered_lease() {
        // It may be lost by now: the next heartbeat tells, and until then nobody else's writes are in danger, because the
        // server checks the fence of every event.
        slot.set_fence(Some(fence)).map_err(file_error(&slot.dir))?;
        return Ok(fence);
    }
    // What was written under an older lease must arrive before a new one makes it stale.
    let drained = async {
        while site.desk.spool.waiting() > 0 {
            if ship::batch(&site.desk.spool, &site.link).await.is_err() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(SHIP_FIRST, drained).await;
    let lease = site.link.lease(&TakeLease { run: slot.run }).await.map_err(DriveError::Lease)?;
    slot.set_fence(Some(lease.fence)).map_err(file_error(&slot.dir))?;
    Ok(lease.fence)
}

pub(super) fn notice(code: &str) -> EventKind {
    EventKind::Notice { code: code.to_owned() }
}
