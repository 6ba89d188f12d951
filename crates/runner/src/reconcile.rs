//! Making the world what the server wants, from the state alone.
//!
//! Owns the loop that looks at every run (woken by whatever changes, told nothing by it), the poll, the heartbeat, and the
//! deletion of environments. It refuses to act on a poll of another life: environments that nobody wants are deleted only
//! after the server has been heard in this one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stockade_api::runner::{Assignment, BundleText, Heartbeat, Order, Poll, Polled, SiteToken};
use stockade_domain::{Desired, EventKind, FailureCause, Observed, RunState, RunTransition, ids::RunId};
use stockade_policy::Bundle;

use crate::{
    book::{Book, Draft},
    drive::{self, DriveError, MAX_FAILURES, RETRY_MAX, RETRY_MIN, Rest},
    erase,
    error::chain,
    exits, files,
    journal::Step,
    link::LinkError,
    personal,
    ship::Backoff,
    site::Site,
    slot::{self, Halt, Phase, Slot, Waits},
    tend,
};

/// How long a poll is held at most, in milliseconds.
pub const POLL_MS: u64 = 20_000;
/// How often the runner says that it is alive.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// How often every run is looked at although nothing has woken the loop.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after a failure that passes by itself work on a run is taken up again.
pub const STEADY: Duration = Duration::from_secs(2);
/// A clock that is further from the server's is warned about, in milliseconds.
pub const CLOCK_WARN_MS: u64 = 30_000;

/// What the server wanted when it was last heard.
#[derive(Debug, Serialize, Deserialize)]
struct DesiredFile {
    bundle: Option<BundleText>,
    assignments: Vec<Assignment>,
    #[serde(default)]
    tokens: Vec<SiteToken>,
}

/// What the reconciler knows besides the slots.
#[derive(Debug, Default)]
pub struct Seen {
    /// Whether the server was heard in this life.
    heard: AtomicBool,
    /// Up to where the spool had been shipped when the last poll that was answered began.
    cursor: AtomicU64,
}

/// Takes up what the server wanted when it was last heard, so that runs go on although it is away.
pub fn recall(site: &Site) {
    let path = site.desired_file();
    let Ok(Some(bytes)) = files::read_if_there(&path) else { return };
    match serde_json::from_slice::<DesiredFile>(&bytes) {
        Ok(desired) => {
            if let Some(bundle) = &desired.bundle {
                enforce(site, bundle);
            }
            site.runs.tokens.replace(desired.tokens);
            site.asking.heard(desired.assignments.iter().flat_map(|assignment| &assignment.approvals));
            if let Err(error) = site.runs.replace(desired.assignments) {
                tracing::error!(%error, "the folders of the runs cannot be made");
            }
        }
        Err(error) => tracing::warn!(%error, "what the server wanted before cannot be read: it will say it again"),
    }
}

fn enforce(site: &Site, bundle: &BundleText) {
    match Bundle::parse(bundle.number, &bundle.text) {
        Ok(engine) => {
            tracing::info!(bundle = bundle.number, "policy bundle {} is in force", bundle.number);
            site.policy.store(Arc::new(engine));
            site.exits.reconsider();
        }
        // The bundle before stays in force: a text that this version does not understand must not open a door.
        Err(error) => {
            tracing::error!(bundle = bundle.number, %error, "bundle {} cannot be used: {error}", bundle.number)
        }
    }
}

/// Asks the server what it wants, all the time.
pub async fn poll(site: Arc<Site>, seen: Arc<Seen>, listener: String) {
    let mut revision = 0;
    let mut backoff = Backoff::new();
    let mut bundle: Option<BundleText> = None;
    let classes = site.classes.all().to_vec();
    while !site.stop.is_cancelled() {
        let cursor = site.desk.spool.cursor();
        let number = site.policy.load().number();
        let request =
            Poll { revision, wait_ms: POLL_MS, listener: listener.clone(), bundle: number, classes: classes.clone() };
        let Some(answer) = site.stop.run_until_cancelled(site.link.poll(&request)).await else { return };
        match answer {
            Ok(polled) => {
                backoff.reset();
                revision = polled.revision;
                take(&site, polled, &mut bundle);
                seen.cursor.store(cursor, Ordering::Relaxed);
                seen.heard.store(true, Ordering::Relaxed);
                site.wake.notify_one();
            }
            Err(error) => {
                if !error.is_away() {
                    tracing::error!(%error, "the server does not say what it wants: {error}");
                }
                // A server that was away may count from another number.
                revision = 0;
                backoff.wait(&site.stop).await;
            }
        }
    }
}

fn take(site: &Site, polled: Polled, known: &mut Option<BundleText>) {
    if let Some(bundle) = polled.bundle {
        enforce(site, &bundle);
        *known = Some(bundle);
    }
    let in_force = site.policy.load();
    let bundle = (in_force.number() > 0)
        .then(|| BundleText { number: in_force.number(), text: in_force.text().to_owned() })
        .or_else(|| known.clone());
    let desired = DesiredFile { bundle, assignments: polled.assignments, tokens: polled.tokens };
    // Written before anything is done about it: erased keys leave this file first.
    let written = serde_json::to_vec(&desired)
        .map_err(std::io::Error::other)
        .and_then(|bytes| files::replace(&site.desired_file(), &bytes));
    if let Err(error) = written {
        tracing::warn!(%error, "what the server wants cannot be kept for a restart");
    }
    site.runs.tokens.replace(desired.tokens);
    site.runs.tokens.erase(polled.erased);
    // Before the runs: one that goes on because of an answer finds it there.
    site.asking.heard(polled.answers.iter().chain(desired.assignments.iter().flat_map(|a| &a.approvals)));
    match site.runs.replace(desired.assignments) {
        Ok(given_back) => given_back.iter().for_each(|slot| {
            slot.stop(Halt::LeaseLost);
            let _ = slot.set_fence(None);
        }),
        Err(error) => tracing::error!(%error, "the folders of the runs cannot be made"),
    }
}

/// Says that the runner is alive, and hears which leases are lost.
pub async fn heartbeat(site: Arc<Site>) {
    let mut every = tokio::time::interval(HEARTBEAT_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut warned = false;
    loop {
        tokio::select! {
            () = site.stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let away_since = site.link.untold_absence();
        let leases: Vec<(RunId, u64)> = site
            .runs
            .all()
            .iter()
            .filter(|slot| !matches!(slot.phase(), Phase::Over { .. } | Phase::Gone))
            .filter_map(|slot| slot.fence().map(|fence| (slot.run, fence)))
            .collect();
        let beat = Heartbeat { leases: leases.clone(), spooled: site.desk.spool.waiting(), away_since };
        match site.link.heartbeat(&beat).await {
            Ok(heard) => {
                if let Some(since) = away_since {
                    site.link.absence_told(since);
                }
                for run in heard.lost {
                    let Some(slot) = site.runs.get(run) else { continue };
                    let held = leases.iter().find(|(of, _)| *of == run).map(|(_, fence)| *fence);
                    if slot.fence() == held && !matches!(slot.phase(), Phase::Over { .. } | Phase::Gone) {
                        tracing::warn!(%run, "the lease of {run} is lost: work on it stops");
                        let _ = slot.set_fence(None);
                        slot.stop(Halt::LeaseLost);
                    }
                }
                let now = site.world().now();
                let off_ms = now.ms_since(heard.now).max(heard.now.ms_since(now));
                if off_ms > CLOCK_WARN_MS && !warned {
                    tracing::warn!(
                        off_ms,
                        "this machine's clock and the server's are {off_ms} ms apart: set them right"
                    );
                }
                warned = off_ms > CLOCK_WARN_MS;
            }
            Err(error) if error.is_away() => {}
            Err(error) => tracing::error!(%error, "the server refuses the heartbeat: {error}"),
        }
    }
}

/// Looks at every run until stopped.
pub async fn run(site: Arc<Site>, seen: Arc<Seen>, tasks: tokio_util::task::TaskTracker) {
    let mut orphans = tokio::time::interval(LOOK_EVERY * 10);
    loop {
        tokio::select! {
            () = site.stop.cancelled() => return,
            () = site.wake.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = orphans.tick() => {
                if seen.heard.load(Ordering::Relaxed) {
                    tasks.spawn(sweep(Arc::clone(&site)));
                }
            }
        }
        if seen.heard.load(Ordering::Relaxed) {
            personal::tend(&site).await;
        }
        // Without a bundle there is no answer to any question.
        if site.policy.load().number() == 0 {
            continue;
        }
        for slot in site.runs.all() {
            if let Some(job) = look(&site, &seen, &slot)
                && let Some(halt) = slot.claim()
            {
                let site = Arc::clone(&site);
                tasks.spawn(async move {
                    match job {
                        Job::Work => work(site, slot, halt).await,
                        Job::Delete => delete(site, slot).await,
                        Job::Stop => stop(site, slot).await,
                        Job::Erase => erase::run(site, slot).await,
                    }
                });
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Work,
    Delete,
    Stop,
    Erase,
}

/// What is to be done about a run. A pure look at the state.
fn look(site: &Site, seen: &Seen, slot: &Slot) -> Option<Job> {
    let a = slot.assignment();
    let phase = slot.phase();
    let job = wanted(site, seen, slot, &a, phase);
    if phase == Phase::Busy {
        let ends = a.order == Some(Order::Cancel) || matches!(a.state, RunState::Cancelled | RunState::Expired);
        // Once: what is done at the end of a lifetime takes time itself.
        let outlived = slot.terms().is_some_and(|terms| terms.are_over(site.world().now()))
            && !slot.outlived.swap(true, Ordering::Relaxed);
        if job.is_some_and(|job| job != Job::Work) || ends || outlived {
            slot.stop(Halt::Changed);
        }
        return None;
    }
    job
}

fn wanted(site: &Site, seen: &Seen, slot: &Slot, a: &Assignment, phase: Phase) -> Option<Job> {
    if a.order == Some(Order::Erase) && !slot.erased.load(Ordering::Relaxed) {
        return Some(Job::Erase);
    }
    match a.desired {
        Desired::Deleted => (phase != Phase::Gone).then_some(Job::Delete),
        Desired::Stopped => match phase {
            Phase::Parked(_) | Phase::Over { .. } | Phase::Gone if slot.stopped.load(Ordering::Relaxed) => None,
            _ => Some(Job::Stop),
        },
        Desired::Running => {
            slot.stopped.store(false, Ordering::Relaxed);
            let now = site.world().now();
            let ends = a.order == Some(Order::Cancel) || matches!(a.state, RunState::Cancelled | RunState::Expired);
            let outlived = slot.terms().is_some_and(|terms| terms.are_over(now));
            let resumes = a.order == Some(Order::Resume) && a.state == RunState::Queued;
            let goes = match phase {
                Phase::New | Phase::Busy => true,
                Phase::Parked(Waits { approval, reply, .. }) => {
                    let answered =
                        approval.is_some_and(|(id, until)| now > until || a.approvals.iter().any(|a| a.approval == id));
                    let replied = reply.is_some_and(|number| a.replies.iter().any(|r| r.number == number));
                    answered || replied || ends || outlived || (approval.is_none() && reply.is_none())
                }
                Phase::Later { at } => now >= at,
                // An order that was given before the end was known here is not taken for a new one.
                Phase::Over { position } => resumes && seen.cursor.load(Ordering::Relaxed) >= position,
                Phase::Gone => resumes,
            };
            goes.then_some(Job::Work)
        }
    }
}

async fn work(site: Arc<Site>, slot: Arc<Slot>, halt: tokio_util::sync::CancellationToken) {
    let failures = slot.failures.load(Ordering::Relaxed);
    let rest = drive::work(Arc::clone(&site), Arc::clone(&slot), halt, failures < MAX_FAILURES).await;
    let phase = match rest {
        Ok(Rest::Parked(waits)) => Phase::Parked(waits),
        Ok(Rest::Over) => Phase::Over { position: site.desk.spool.log().end() },
        Ok(Rest::Halted) => match slot.halted() {
            Some(Halt::LeaseLost) | None => {
                // The book is closed: whoever takes the run up again reads what is there then.
                *slot.book.lock().await = None;
                Phase::Later { at: site.world().now().plus_ms(500) }
            }
            Some(Halt::Changed | Halt::Shutdown) => Phase::New,
        },
        // The server has ended the run and told the heartbeat first: what is left to do is to remember it.
        Err(DriveError::Lease(LinkError::Refused(_))) if slot.assignment().state.is_final() => {
            let ended = aside(&site, &slot, Draft::step(Step::Over {}, vec![])).await;
            if let Err(error) = ended.map_err(|e| e.to_string()) {
                tracing::warn!(run = %slot.run, error, "the end of {} cannot be journalled: {error}", slot.run);
            }
            site.gateway.forget(slot.run);
            if let Err(error) = site.purse.end(slot.run).await {
                tracing::warn!(run = %slot.run, %error, "the money of {} is not back: {error}", slot.run);
            }
            Phase::Over { position: site.desk.spool.log().end() }
        }
        Err(error) => {
            let run = slot.run;
            // What passes by itself (the server is away, the disk is full) is tried steadily and never held against the run.
            let wait = if error.counts() {
                slot.failures.store(failures + 1, Ordering::Relaxed);
                RETRY_MIN.saturating_mul(1 << failures.min(10)).min(RETRY_MAX)
            } else {
                STEADY
            };
            let text = chain(&error);
            // What lasts is said once, not with every attempt.
            if slot.says(&text) {
                tracing::warn!(%run, error = text, retry_ms = wait.as_millis(), "work on {run} broke off: {text}");
            }
            // What could not be written is settled when the book is opened anew.
            *slot.book.lock().await = None;
            Phase::Later { at: site.world().now().plus_ms(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)) }
        }
    };
    if matches!(phase, Phase::Parked(_) | Phase::Over { .. }) {
        slot.failures.store(0, Ordering::Relaxed);
        slot.says("");
        *slot.book.lock().await = None;
        *slot.guest.lock().await = None;
    }
    slot.set_phase(phase);
    site.wake.notify_one();
}

/// Writes into the book of a run on which nobody works.
pub(crate) async fn aside(site: &Site, slot: &Slot, draft: Draft) -> Result<(), crate::book::BookError> {
    let at = site.world().now();
    let mut held = slot.book.lock().await;
    if held.is_none() {
        let key = slot.key().or_else(|| erase::key_on_disk(site, &slot.dir));
        *held = Some(match key {
            Some(key) => Book::open(slot.run, &slot.journal(), key, slot.last_fence(), site.desk.clone()).await?.0,
            None => Book::keyless(slot.run, slot.last_fence(), site.desk.clone()),
        });
    }
    if let Some(book) = held.as_mut() {
        book.fence = slot.last_fence();
        book.write(at, draft).await?;
    }
    *held = None;
    Ok(())
}

async fn delete(site: Arc<Site>, slot: Arc<Slot>) {
    let a = slot.assignment();
    let (run, environment) = (a.run, a.environment);
    *slot.guest.lock().await = None;
    let deleted = async {
        tend::settle(&site, &slot).await;
        let _door = slot.door.lock().await;
        site.exits.close(environment).await;
        site.driver.delete(environment).await.map_err(|e| e.to_string())?;
        exits::authority::forget(&slot.dir, environment);
        drive::broken_off(&site, run).await.map_err(|e| e.to_string())?;
        site.purse.end(run).await.map_err(|e| e.to_string())?;
        let event = EventKind::Environment {
            environment,
            observed: Observed::Deleted,
            generation: a.generation,
            duration_ms: None,
            class: None,
        };
        aside(&site, &slot, Draft::events(vec![event])).await.map_err(|e| e.to_string())?;
        tend::forget(&site, &slot).await;
        Ok::<_, String>(())
    };
    match deleted.await {
        Ok(()) => {
            site.workspaces.forget(a.project.id, run).await;
            if a.state == RunState::Succeeded {
                // The change is in the project's repository: what it was examined in is of no more use.
                let _ = files::remove_all(&slot.dir.join("quarantine.git"));
            }
            if a.state.is_final() {
                slot::set_done(&slot.dir, true);
            }
            tracing::info!(%run, %environment, "{environment} is deleted");
            slot.set_phase(Phase::Gone);
        }
        Err(error) => {
            tracing::warn!(%run, %environment, error, "{environment} cannot be deleted, it is tried again: {error}");
            slot.set_phase(Phase::Later { at: site.world().now().plus_ms(2_000) });
            // `Later` is only looked at where the environment should run: deleting is tried with every look, so wait here.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    site.wake.notify_one();
}

async fn stop(site: Arc<Site>, slot: Arc<Slot>) {
    let a = slot.assignment();
    let environment = a.environment;
    *slot.guest.lock().await = None;
    let event = EventKind::Environment {
        environment,
        observed: Observed::Stopped,
        generation: a.generation,
        duration_ms: None,
        class: None,
    };
    let stopped = async {
        tend::settle(&site, &slot).await;
        let _door = slot.door.lock().await;
        site.exits.close(environment).await;
        site.driver.stop(environment).await.map_err(|e| e.to_string())?;
        aside(&site, &slot, Draft::events(vec![event])).await.map_err(|e| e.to_string())
    };
    match stopped.await {
        Ok(()) => slot.stopped.store(true, Ordering::Relaxed),
        Err(error) => {
            tracing::warn!(%environment, error, "{environment} cannot be stopped, it is tried again: {error}");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    slot.set_phase(Phase::Parked(Waits::default()));
    site.wake.notify_one();
}

/// Deletes environments that nobody wants: of runs that were given back, or left by a crash in the middle of a deletion.
async fn sweep(site: Arc<Site>) {
    let wanted: Vec<_> = site.runs.all().iter().map(|slot| slot.assignment().environment).collect();
    for environment in site.driver.list().await {
        if wanted.contains(&environment) {
            continue;
        }
        site.exits.close(environment).await;
        match site.driver.delete(environment).await {
            Ok(()) => {
                site.exits.forget(environment);
                tracing::info!(%environment, "{environment} belonged to nobody and is deleted");
            }
            Err(error) => {
                tracing::warn!(%environment, %error, "{environment} belongs to nobody and cannot be deleted: {error}")
            }
        }
    }
}

/// What is told once a run's key is destroyed: the notice that the server waits for, and the end of a run that was not over.
pub(crate) fn erased_events(state: RunState) -> Vec<EventKind> {
    let mut events = vec![EventKind::Notice { code: "erased".to_owned() }];
    if !state.is_final() {
        events.push(EventKind::State { transition: RunTransition::Fail { cause: FailureCause::Erased } });
    }
    events
}
