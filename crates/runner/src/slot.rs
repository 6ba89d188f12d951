//! What this runner holds of each run: the assignment as last seen, the key, the book, the environment, and whoever works on it.
//!
//! Owns the registry of runs and the way in which work on a run is stopped. *Invariant:* at most one task works on a run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use secrecy::SecretString;
use stockade_api::runner::Assignment;
use stockade_domain::{
    EnvironmentClass, Timestamp,
    ids::{ApprovalId, EnvironmentId, RunId},
};
use stockade_gateway::{CallError, Caller, Finished, Runs};
use stockade_ledger::RunKey;
use tokio_util::sync::CancellationToken;

use crate::{
    book::{Book, BookError, Desk, Draft},
    calls::Calls,
    files,
    guest::Guest,
    personal::Tokens,
    tend::Tended,
};

/// The file with the fence of the lease that is held.
const LEASE_FILE: &str = "lease";
/// The file with the run's key, wrapped to the site's.
const KEY_FILE: &str = "key.wrapped";

/// The mark of a run that was erased.
const ERASED_FILE: &str = "erased";

/// The mark of a run with which nothing is left to do.
const DONE_FILE: &str = "done";

/// Why work on a run stops before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// The runner shuts down.
    Shutdown,
    /// The lease is lost: nothing more may be written.
    LeaseLost,
    /// The server wants something else of it: the reconciler looks again.
    Changed,
}

/// Where the work on a run stands, for the reconciler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nobody has looked at it in this process.
    New,
    /// A task works on it.
    Busy,
    /// It waits for a person.
    Parked(Waits),
    /// It is over; the spool ended there.
    Over {
        /// The position after its last event.
        position: u64,
    },
    /// It could not be worked on; again at that time.
    Later {
        /// When.
        at: Timestamp,
    },
    /// Nothing of its environment is left.
    Gone,
}

/// For what a parked run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// For this approval, until then.
    pub approval: Option<(ApprovalId, Timestamp)>,
    /// For this reply.
    pub reply: Option<u64>,
    /// Since when.
    pub since: Timestamp,
}

/// What was promised of a run's environment when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Which environment.
    pub environment: EnvironmentId,
    /// Its class.
    pub class: EnvironmentClass,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Since when it ran when work on the run was taken up, if it did.
    pub runs_since: Option<Timestamp>,
    /// How often programs that were started there had been told of when work on the run was taken up.
    pub executions: u64,
}

impl Terms {
    /// Whether its lifetime is over.
    pub fn are_over(&self, now: Timestamp) -> bool {
        self.class.lifetime_seconds.is_some_and(|seconds| now.ms_since(self.taken_at) >= seconds.saturating_mul(1_000))
    }
}

/// One run at this runner.
#[derive(Debug)]
pub struct Slot {
    /// Which.
    pub run: RunId,
    /// Its folder.
    pub dir: PathBuf,
    assignment: ArcSwap<Assignment>,
    phase: Mutex<Phase>,
    halt: Mutex<(CancellationToken, Option<Halt>)>,
    key: Mutex<Option<Arc<RunKey>>>,
    fence: Mutex<Option<u64>>,
    /// Its book, once it is open.
    pub book: tokio::sync::Mutex<Option<Book>>,
    /// The connection to its guest.
    pub guest: tokio::sync::Mutex<Option<Arc<Guest>>>,
    /// What a program inside does at the gateway.
    pub calls: Calls,
    /// How often in a row work on it failed for reasons of ours.
    pub failures: AtomicU32,
    said: Mutex<String>,
    /// Whether its key was destroyed in this life.
    pub erased: AtomicBool,
    /// Whether its environment was stopped in this life.
    pub stopped: AtomicBool,
    terms: Mutex<Option<Arc<Terms>>>,
    /// Whether whoever works on it was told that its environment's lifetime is over.
    pub outlived: AtomicBool,
    /// Held while its environment is started or stopped.
    pub door: tokio::sync::Mutex<()>,
    /// When its environment was last started, in microseconds, until that was taken note of.
    pub started_at: AtomicI64,
    /// People who are inside.
    pub visits: AtomicU32,
    /// When the last of them left, in microseconds.
    pub left_at: AtomicI64,
    /// What is measured and noted of its environment.
    pub tended: tokio::sync::Mutex<Tended>,
}

impl Slot {
    fn new(dir: PathBuf, assignment: Assignment) -> Self {
        Self {
            run: assignment.run,
            dir,
            assignment: ArcSwap::from_pointee(assignment),
            phase: Mutex::new(Phase::New),
            halt: Mutex::new((CancellationToken::new(), None)),
            key: Mutex::new(None),
            fence: Mutex::new(None),
            book: tokio::sync::Mutex::new(None),
            guest: tokio::sync::Mutex::new(None),
            calls: Calls::default(),
            failures: AtomicU32::new(0),
            said: Mutex::default(),
            erased: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            terms: Mutex::default(),
            outlived: AtomicBool::new(false),
            door: tokio::sync::Mutex::default(),
            started_at: AtomicI64::new(0),
            visits: AtomicU32::new(0),
            left_at: AtomicI64::new(0),
            tended: tokio::sync::Mutex::default(),
        }
    }

    /// What was promised of its environment; nothing before work on the run was taken up in this process.
    pub fn terms(&self) -> Option<Arc<Terms>> {
        lock(&self.terms).clone()
    }

    /// That is promised of its environment.
    pub fn set_terms(&self, terms: Terms) {
        let mut held = lock(&self.terms);
        if held.as_ref().is_none_or(|known| known.environment != terms.environment) {
            self.outlived.store(false, Ordering::Relaxed);
        }
        *held = Some(Arc::new(terms));
    }

    /// Claims a run that waits for a person, and gives for what it waits. Nothing if it does not, by now.
    pub fn claim_parked(&self) -> Option<Waits> {
        let mut phase = lock(&self.phase);
        let Phase::Parked(waits) = *phase else { return None };
        *phase = Phase::Busy;
        *lock(&self.halt) = (CancellationToken::new(), None);
        Some(waits)
    }

    /// The assignment as last seen.
    pub fn assignment(&self) -> Arc<Assignment> {
        self.assignment.load_full()
    }

    /// Where the work stands.
    pub fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    /// The work stands there now.
    pub fn set_phase(&self, phase: Phase) {
        *lock(&self.phase) = phase;
    }

    /// Claims the run for one task; gives the token that tells it to stop.
    pub fn claim(&self) -> Option<CancellationToken> {
        let mut phase = lock(&self.phase);
        if *phase == Phase::Busy {
            return None;
        }
        *phase = Phase::Busy;
        let mut halt = lock(&self.halt);
        *halt = (CancellationToken::new(), None);
        Some(halt.0.clone())
    }

    /// Takes note of what is to be said about the work on it. False: it is what was said last.
    pub fn says(&self, text: &str) -> bool {
        let mut said = lock(&self.said);
        let is_new = *said != text;
        text.clone_into(&mut said);
        is_new
    }

    /// Tells whoever works on it to stop.
    pub fn stop(&self, why: Halt) {
        let mut halt = lock(&self.halt);
        if halt.1.is_none_or(|known| known == Halt::Changed) {
            halt.1 = Some(why);
        }
        halt.0.cancel();
    }

    /// Why it was told to stop.
    pub fn halted(&self) -> Option<Halt> {
        lock(&self.halt).1
    }

    /// The run's key.
    pub fn key(&self) -> Option<Arc<RunKey>> {
        lock(&self.key).clone()
    }

    /// Sets or takes away the run's key.
    pub fn set_key(&self, key: Option<Arc<RunKey>>) {
        *lock(&self.key) = key;
    }

    /// The fence of the lease that is held.
    pub fn fence(&self) -> Option<u64> {
        *lock(&self.fence)
    }

    /// The lease that a process before this one held.
    pub fn remembered_lease(&self) -> Option<u64> {
        remembered(&self.dir).filter(|(_, lost)| !lost).map(|(fence, _)| fence)
    }

    /// Writes into its book although somebody may be at work on it. False if its key is not there: then nothing is written.
    ///
    /// # Errors
    /// [`BookError`].
    pub async fn write_beside(&self, desk: &Desk, at: Timestamp, draft: Draft) -> Result<bool, BookError> {
        let mut held = self.book.lock().await;
        if let Some(book) = held.as_mut() {
            return book.write(at, draft).await.map(|_| true);
        }
        // Nobody is at work, and nobody begins while the place is held.
        let Some(key) = self.key() else { return Ok(false) };
        let (mut book, _) = Book::open(self.run, &self.journal(), key, self.last_fence(), desk.clone()).await?;
        book.write(at, draft).await.map(|_| true)
    }

    /// The fence of the last lease, lost or not: what has happened to an environment may be told under it.
    pub fn last_fence(&self) -> u64 {
        self.fence().or_else(|| remembered(&self.dir).map(|(fence, _)| fence)).unwrap_or(0)
    }

    /// A lease is held, or none any more.
    pub fn set_fence(&self, fence: Option<u64>) -> std::io::Result<()> {
        let path = self.dir.join(LEASE_FILE);
        match fence {
            Some(fence) => files::replace(&path, fence.to_string().as_bytes())?,
            None => files::replace(&path, format!("{} lost", self.last_fence()).as_bytes())?,
        }
        *lock(&self.fence) = fence;
        Ok(())
    }

    /// Its journal's file.
    pub fn journal(&self) -> PathBuf {
        journal_of(&self.dir)
    }
}

/// The last lease in a run's folder, and whether it was lost.
pub fn remembered(dir: &Path) -> Option<(u64, bool)> {
    let bytes = files::read_if_there(&dir.join(LEASE_FILE)).ok().flatten()?;
    let text = String::from_utf8(bytes).ok()?;
    let (number, lost) = text.trim().split_once(' ').map_or((text.trim(), false), |(number, _)| (number, true));
    Some((number.parse().ok()?, lost))
}

/// The journal's file in a run's folder.
pub fn journal_of(dir: &Path) -> PathBuf {
    dir.join("journal")
}

/// The wrapped key in a run's folder.
pub fn wrapped_key(dir: &Path) -> std::io::Result<Option<String>> {
    let bytes = files::read_if_there(&dir.join(KEY_FILE))?;
    Ok(bytes.and_then(|b| String::from_utf8(b).ok()).map(|t| t.trim().to_owned()))
}

/// Marks a run with which nothing is left to do, so that starts do not read its journal. Only a hint: losing it costs time.
pub fn set_done(dir: &Path, done: bool) {
    let path = dir.join(DONE_FILE);
    let set = if done { files::replace(&path, b"") } else { files::remove_all(&path) };
    if let Err(error) = set {
        tracing::debug!(%error, "the mark of a finished run cannot be set");
    }
}

/// Whether nothing is left to do with a run.
pub fn is_done(dir: &Path) -> bool {
    dir.join(DONE_FILE).exists()
}

/// Keeps the wrapped key in a run's folder.
pub fn keep_wrapped_key(dir: &Path, wrapped: &str) -> std::io::Result<()> {
    files::private_dir(dir)?;
    files::replace(&dir.join(KEY_FILE), wrapped.as_bytes())
}

/// Removes the wrapped key from a run's folder.
pub fn destroy_wrapped_key(dir: &Path) -> std::io::Result<()> {
    files::remove_all(&dir.join(KEY_FILE))
}

/// Marks a run as erased, for ever: a key that is sent again opens nothing.
pub fn set_erased(dir: &Path) -> std::io::Result<()> {
    files::private_dir(dir)?;
    files::replace(&dir.join(ERASED_FILE), b"")
}

/// Whether a run was erased.
pub fn is_erased(dir: &Path) -> bool {
    dir.join(ERASED_FILE).exists()
}

/// All runs of this runner.
#[derive(Debug)]
pub struct Registry {
    /// People's own tokens.
    pub tokens: Tokens,
    dir: PathBuf,
    slots: Mutex<BTreeMap<RunId, Arc<Slot>>>,
}

impl Registry {
    /// Keeps the folders of its runs below `dir`.
    pub fn new(dir: PathBuf, tokens: Tokens) -> Self {
        Self { tokens, dir, slots: Mutex::new(BTreeMap::new()) }
    }

    /// The folder of a run.
    pub fn dir_of(&self, run: RunId) -> PathBuf {
        self.dir.join(run.to_string())
    }

    /// Every run of which there is a folder.
    pub fn on_disk(&self) -> std::io::Result<Vec<RunId>> {
        let mut runs = Vec::new();
        match std::fs::read_dir(&self.dir) {
            Ok(entries) => {
                for entry in entries {
                    runs.extend(entry?.file_name().to_str().and_then(|name| name.parse::<RunId>().ok()));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        runs.sort();
        Ok(runs)
    }

    /// Every run that is assigned.
    pub fn all(&self) -> Vec<Arc<Slot>> {
        lock(&self.slots).values().cloned().collect()
    }

    /// One of them.
    pub fn get(&self, run: RunId) -> Option<Arc<Slot>> {
        lock(&self.slots).get(&run).cloned()
    }

    /// This is what is assigned now. Runs that are no longer assigned are given back.
    pub fn replace(&self, assignments: Vec<Assignment>) -> std::io::Result<Vec<Arc<Slot>>> {
        let mut slots = lock(&self.slots);
        let mut kept = BTreeMap::new();
        for assignment in assignments {
            let run = assignment.run;
            match slots.remove(&run) {
                Some(slot) => {
                    slot.assignment.store(Arc::new(assignment));
                    kept.insert(run, slot);
                }
                None => {
                    let dir = self.dir_of(run);
                    files::private_dir(&dir)?;
                    kept.insert(run, Arc::new(Slot::new(dir, assignment)));
                }
            }
        }
        Ok(std::mem::replace(&mut *slots, kept).into_values().collect())
    }
}

#[async_trait]
impl Runs for Registry {
    /// In the site's network only people's own tokens open the gateway. A program's opens its environment's pinhole, which knows it.
    async fn caller(&self, token: &SecretString) -> Option<Caller> {
        self.tokens.caller(token)
    }

    fn renewed(&self, caller: &Caller) -> Option<Caller> {
        if self.get(caller.run).is_some() { Some(caller.clone()) } else { self.tokens.renewed(caller.run) }
    }

    fn permits(&self, run: RunId, model: &str) -> bool {
        self.tokens.permits(run, model)
    }

    fn ended(&self, caller: &Caller, finished: &Finished) {
        if let Some(slot) = self.get(caller.run) {
            slot.calls.ended(finished);
        }
    }

    fn refused(&self, caller: &Caller, error: &CallError) {
        if let Some(slot) = self.get(caller.run) {
            slot.calls.refused(error);
        }
    }

    fn key(&self, run: RunId) -> Option<Arc<RunKey>> {
        self.get(run).map_or_else(|| self.tokens.key(run), |slot| slot.key())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
