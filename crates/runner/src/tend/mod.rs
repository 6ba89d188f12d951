//! Looking after environments beside the work in them: what they use, what is started there, and whether anybody needs them now.
//!
//! Owns the rounds in which every environment is measured and its guest asked what was started, how that is told in the run, and that an
//! environment in which nothing happens is stopped while its run waits for a person, and is there again when it is needed. It refuses to end a
//! run: that is the driver's. *Invariant:* what is counted rests on the disk before it is told, so whatever dies loses the last seconds at most;
//! and an environment is started or stopped by one at a time, who holds its door.

mod meter;
mod programs;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use stockade_api::guest::{Op, Reply};
use stockade_domain::{ContentKind, Desired, EventKind, Observed, Timestamp, ids::EnvironmentId};
use stockade_sandbox::SandboxError;
use tokio_util::task::TaskTracker;

use self::{meter::Meter, programs::Programs};
use crate::{
    book::{Draft, hold, seal},
    error::chain,
    files,
    guest::{Answered, Guest},
    reconcile::aside,
    site::Site,
    slot::{Phase, Slot, Terms},
};

/// How often environments are looked after.
pub const EVERY: Duration = Duration::from_secs(2);
/// In one round of so many they are measured; and those are asked what was started there in whose run nothing is being done.
const FULL_ROUND: u64 = 5;
/// How long a guest may take to say what was started.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many answers of a guest are taken in one round.
const ANSWERS: usize = 8;
/// What was started is told when the first of it is so old, in milliseconds; each time so much later, so that a workload that starts ever new
/// programs does not fill the ledger: some fifty tellings in a day.
const TOLD_AFTER_MS: u64 = 60_000;

const METER_FILE: &str = "usage";
const PROGRAMS_FILE: &str = "executions";

/// What is measured and noted of one environment.
#[derive(Debug, Default)]
pub struct Tended {
    meter: Option<Meter>,
    programs: Option<Programs>,
}

/// Looks after every environment until stopped.
pub async fn run(site: Arc<Site>, tasks: TaskTracker) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for round in 0_u64.. {
        tokio::select! {
            () = site.stop.cancelled() => return,
            _ = every.tick() => {}
        }
        for slot in site.runs.all() {
            let (Some(terms), phase) = (slot.terms(), slot.phase()) else { continue };
            let full = round.is_multiple_of(FULL_ROUND);
            let wanted = match phase {
                Phase::Busy => true,
                Phase::Parked(_) | Phase::Later { .. } | Phase::New => full,
                Phase::Over { .. } | Phase::Gone => false,
            };
            if wanted {
                let site = Arc::clone(&site);
                tasks.spawn(async move { look_after(&site, &slot, &terms, full).await });
            }
        }
    }
}

async fn look_after(site: &Site, slot: &Slot, terms: &Terms, full: bool) {
    // Whoever is at it already does what is to be done.
    let Ok(mut tended) = slot.tended.try_lock() else { return };
    let runs = site.driver.is_running(terms.environment).await;
    if runs {
        ask(site, slot, terms, &mut tended).await;
    }
    if full {
        measure(site, slot, terms, &mut tended, runs).await;
        let now = site.world().now();
        let due = tended.programs.as_ref().is_some_and(|programs| {
            let old_ms = programs.batch.saturating_mul(TOLD_AFTER_MS);
            programs.is_news() && programs.began.is_some_and(|began| now.ms_since(began) >= old_ms)
        });
        if due || tended.meter.as_ref().is_some_and(Meter::is_due) {
            tell(site, slot, terms, &mut tended, true).await;
        }
        if runs {
            rest_if_idle(site, slot, terms, tended).await;
        }
    }
}

/// Measures and asks a last time, and tells it all: the environment is about to be stopped or deleted, or its run to be over.
pub async fn settle(site: &Site, slot: &Slot) {
    let Some(terms) = slot.terms().filter(|terms| terms.environment == slot.assignment().environment) else { return };
    let mut tended = slot.tended.lock().await;
    let runs = site.driver.is_running(terms.environment).await;
    if runs {
        ask(site, slot, &terms, &mut tended).await;
    }
    measure(site, slot, &terms, &mut tended, runs).await;
    tell(site, slot, &terms, &mut tended, false).await;
}

/// It will run no more: the time until it is started again costs nothing, and its guest was heard out.
async fn stopped(site: &Site, slot: &Slot, terms: &Terms, tended: &mut Tended) {
    if let Some(programs) = &mut tended.programs {
        programs.heard_out();
        keep_programs(site, slot, programs).await;
    }
    measure(site, slot, terms, tended, false).await;
}

/// What is on the disk about an environment that is gone is of no more use.
pub async fn forget(site: &Site, slot: &Slot) {
    let mut tended = slot.tended.lock().await;
    *tended = Tended::default();
    for name in [METER_FILE, PROGRAMS_FILE] {
        if let Err(error) = files::remove_all(&slot.dir.join(name)) {
            tracing::debug!(%error, "what was counted of an environment that is gone cannot be removed");
        }
    }
    site.exits.forget(slot.assignment().environment);
}

/// Takes a reading, and puts it on the disk.
async fn measure(site: &Site, slot: &Slot, terms: &Terms, tended: &mut Tended, runs: bool) {
    let (environment, now) = (terms.environment, site.world().now());
    let path = slot.dir.join(METER_FILE);
    let meter = match &mut tended.meter {
        Some(meter) if meter.environment == environment => meter,
        place => place.insert(found(&path, environment).unwrap_or_else(|| {
            let mut meter = Meter::new(environment, now);
            if let Some(since) = terms.runs_since {
                meter.started(since);
            }
            meter
        })),
    };
    let before = meter.clone();
    match slot.started_at.swap(0, Ordering::Relaxed) {
        0 => {}
        at => meter.started(Timestamp(at)),
    }
    let measured = site.driver.measure(environment).await;
    meter.read(now, runs, measured.as_ref(), site.exits.carried(environment));
    if *meter != before {
        let written = serde_json::to_vec(meter).map_err(std::io::Error::other);
        keep(path, written).await;
    }
}

/// The meter of an environment on the disk. One that does not read is begun anew: what was told before stays.
fn found(path: &Path, environment: EnvironmentId) -> Option<Meter> {
    let bytes = files::read_if_there(path).ok().flatten()?;
    match serde_json::from_slice::<Meter>(&bytes) {
        Ok(meter) => Some(meter).filter(|meter| meter.environment == environment),
        Err(error) => {
            tracing::warn!(%environment, %error, "what {environment} has used cannot be read: counting begins anew");
            None
        }
    }
}

async fn keep(path: PathBuf, bytes: std::io::Result<Vec<u8>>) {
    let wrote = match bytes {
        Ok(bytes) => tokio::task::spawn_blocking(move || files::replace(&path, &bytes)).await,
        Err(error) => Ok(Err(error)),
    };
    if let Ok(Err(error)) = wrote {
        tracing::warn!(%error, "what is counted of an environment cannot be written down: {error}");
    }
}

/// Asks the guest what was started since the last time, and puts that on the disk before the guest forgets it.
async fn ask(site: &Site, slot: &Slot, terms: &Terms, tended: &mut Tended) {
    let Some(key) = slot.key() else { return };
    let path = slot.dir.join(PROGRAMS_FILE);
    let programs = match &mut tended.programs {
        Some(programs) if programs.environment == terms.environment => programs,
        place => {
            let bytes = files::read_if_there(&path).ok().flatten();
            let kept = bytes.and_then(|sealed| key.open(ContentKind::Executions, &sealed).ok());
            let kept = kept.and_then(|plain| serde_json::from_slice::<Programs>(&plain).ok());
            let kept = kept.filter(|programs| programs.environment == terms.environment);
            let fresh = || Programs::new(terms.environment, terms.executions);
            place.insert(kept.map_or_else(fresh, |programs| programs.found(terms.executions)))
        }
    };
    let asking = async {
        // A connection of its own: one start of a guest is at its other end, and nobody else's answers wait.
        let Ok(stream) = site.driver.connect(terms.environment).await else { return };
        let guest = Guest::new(stream);
        let Ok(Answered { reply: Reply::Pong { boot, .. }, .. }) = guest.ask(None, Op::Ping {}).await else { return };
        for _ in 0..ANSWERS {
            let op = Op::Executions { after: programs.after(&boot) };
            let Ok(Answered { reply: Reply::Executions { executions, dropped, watched }, .. }) =
                guest.ask(None, op).await
            else {
                return;
            };
            // With the next question the guest forgets them.
            if !watched || !programs.take(site.world().now(), &boot, &executions, dropped) {
                return;
            }
            keep_programs(site, slot, programs).await;
            if executions.is_empty() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, asking).await;
}

async fn keep_programs(site: &Site, slot: &Slot, programs: &Programs) {
    let Some(key) = slot.key() else { return };
    let sealed = serde_json::to_vec(programs).map_err(std::io::Error::other).and_then(|plain| {
        let sealed = key.seal(site.world(), ContentKind::Executions, &plain).map_err(std::io::Error::other)?;
        Ok(sealed.bytes.to_vec())
    });
    keep(slot.dir.join(PROGRAMS_FILE), sealed).await;
}

/// Tells in the run what there is to tell. `leased`: only under a lease that is held.
async fn tell(site: &Site, slot: &Slot, terms: &Terms, tended: &mut Tended, leased: bool) {
    if leased && slot.fence().is_none() {
        return;
    }
    let (mut events, mut contents) = (Vec::new(), Vec::new());
    if let Some(meter) = tended.meter.as_ref().filter(|meter| meter.is_news()) {
        let (usage, cost) = (meter.usage, meter.usage.cost(&terms.class));
        events.push(EventKind::EnvironmentUsage { environment: terms.environment, usage, cost });
    }
    let programs = tended.programs.as_ref().filter(|programs| programs.is_news());
    if let (Some(programs), Some(key)) = (programs, slot.key()) {
        let plain = serde_json::to_vec(&programs.content()).unwrap_or_default();
        match seal(&key, site.world(), ContentKind::Executions, &plain) {
            Ok(sealed) => {
                events.push(programs.event(sealed.content));
                contents.push(hold(&sealed));
            }
            Err(error) => tracing::warn!(run = %slot.run, error = chain(&error), "what was started cannot be sealed"),
        }
    }
    if events.is_empty() {
        return;
    }
    let told = !contents.is_empty();
    let draft = Draft { events, contents, ..Draft::default() };
    // Without its key nothing more can be told of it: it is erased.
    if let Err(error) = slot.write_beside(&site.desk, site.world().now(), draft).await {
        tracing::warn!(run = %slot.run, error = chain(&error), "what an environment has used cannot be told now: {error}");
        return;
    }
    if let Some(meter) = &mut tended.meter {
        meter.was_told();
    }
    if let Some(programs) = tended.programs.as_mut().filter(|_| told) {
        programs.told();
        keep_programs(site, slot, programs).await;
    }
}

/// Stops an environment in which nothing has happened for so long, while its run waits for a person.
async fn rest_if_idle(site: &Site, slot: &Slot, terms: &Terms, mut tended: tokio::sync::MutexGuard<'_, Tended>) {
    let (Phase::Parked(waits), Some(seconds)) = (slot.phase(), terms.class.idle_seconds) else { return };
    let (now, environment) = (site.world().now(), terms.environment);
    if slot.visits.load(Ordering::SeqCst) > 0 || site.exits.is_busy(environment) {
        slot.left_at.store(now.0, Ordering::SeqCst);
        return;
    }
    let active = tended.meter.as_ref().map_or(now, |meter| meter.active_at);
    let quiet_since = waits.since.max(active).max(Timestamp(slot.left_at.load(Ordering::SeqCst)));
    if now.ms_since(quiet_since) < seconds.saturating_mul(1_000) || slot.assignment().desired != Desired::Running {
        return;
    }
    let Some(waits) = slot.claim_parked() else { return };
    let door = slot.door.lock().await;
    // Whoever came in before the door was held is inside; whoever comes now waits for it.
    if slot.visits.load(Ordering::SeqCst) == 0 {
        ask(site, slot, terms, &mut tended).await;
        measure(site, slot, terms, &mut tended, true).await;
        tell(site, slot, terms, &mut tended, false).await;
        site.exits.close(environment).await;
        match site.driver.stop(environment).await {
            Ok(()) => {
                stopped(site, slot, terms, &mut tended).await;
                let generation = slot.assignment().generation;
                let observed = Observed::Stopped;
                let event =
                    EventKind::Environment { environment, observed, generation, duration_ms: None, class: None };
                if let Err(error) = aside(site, slot, Draft::events(vec![event])).await {
                    tracing::warn!(%environment, error = chain(&error), "that {environment} is stopped cannot be told");
                }
                tracing::info!(%environment, seconds, "{environment} is stopped: nothing happened there for {seconds} s");
            }
            Err(error) => tracing::warn!(%environment, %error, "{environment} cannot be stopped: {error}"),
        }
    }
    drop(door);
    slot.set_phase(Phase::Parked(waits));
    site.wake.notify_one();
}

/// A person inside: as long as this is held, the environment is not stopped for idleness.
#[derive(Debug)]
pub struct Visit {
    site: Arc<Site>,
    slot: Arc<Slot>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.slot.left_at.store(self.site.world().now().0, Ordering::SeqCst);
        self.slot.visits.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Lets a person into a run's environment. One that was stopped because nothing happened there is started again first.
///
/// # Errors
/// If it cannot be started.
pub async fn visit(site: &Arc<Site>, slot: &Arc<Slot>) -> Result<Visit, SandboxError> {
    slot.visits.fetch_add(1, Ordering::SeqCst);
    let visit = Visit { site: Arc::clone(site), slot: Arc::clone(slot) };
    let a = slot.assignment();
    let _door = slot.door.lock().await;
    let (Some(terms), Some(key)) = (slot.terms(), slot.key()) else { return Ok(visit) };
    // While the run is worked on, whoever works on it starts it; and what should not run is not started.
    let rests = matches!(slot.phase(), Phase::Parked(_)) && a.desired == Desired::Running;
    if !rests || terms.environment != a.environment || site.driver.is_running(a.environment).await {
        return Ok(visit);
    }
    site.driver.restart(a.environment).await?;
    slot.started_at.store(site.world().now().0, Ordering::Relaxed);
    site.exits.ensure(&a, &key, terms.class.network, true).await?;
    let (environment, generation) = (a.environment, a.generation);
    let event =
        EventKind::Environment { environment, observed: Observed::Running, generation, duration_ms: None, class: None };
    if let Err(error) = slot.write_beside(&site.desk, site.world().now(), Draft::events(vec![event])).await {
        tracing::warn!(%environment, error = chain(&error), "that {environment} runs again cannot be told");
    }
    Ok(visit)
}
