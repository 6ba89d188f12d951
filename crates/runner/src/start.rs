//! Starting and stopping: the order in which the parts come up and go down.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use stockade_domain::World;
use stockade_egress::exit;
use stockade_gateway::{Gateway, ModelTable, Parts, rehearsal};
use stockade_ledger::{Ledger, Log, LogError, LogOptions, Producer, SystemWorld};
use stockade_policy::{Bundle, default_bundle};
use stockade_sandbox::{Driver, NamespaceConfig, NamespaceDriver};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    RunnerConfig, RunnerError, RunningRunner,
    asking::Asking,
    book::Desk,
    classes::Classes,
    descriptors,
    error::chain,
    exits::Exits,
    files, identity,
    link::Link,
    listener,
    personal::Tokens,
    purse::SitePurse,
    reaper,
    reconcile::{self, Seen},
    ship,
    site::Site,
    slot::{Halt, Registry},
    spool::{Spool, archive_dir},
    telemetry, tend,
    workspace::Workspaces,
};

/// The largest cassette file that is loaded, in bytes.
pub const MAX_CASSETTE: u64 = 16 * 1024 * 1024;

/// How long a start waits for a runner before it to let go of the data folder.
pub const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Where environments are.
pub fn environments(config: &RunnerConfig) -> PathBuf {
    config.environments.clone().unwrap_or_else(|| config.data_dir.join("environments"))
}

/// The models of a configuration.
pub fn model_table(config: &RunnerConfig) -> Result<ModelTable, RunnerError> {
    models_of(&config.models)
}

fn models_of(text: &str) -> Result<ModelTable, RunnerError> {
    ModelTable::from_file(text).map_err(|error| RunnerError::Config {
        what: format!("models and providers cannot be set up: {}", chain(&error)),
        hint: "correct it there; the manual's pages on configuration and on providers have every word".to_owned(),
    })
}

/// The driver of a configuration.
pub fn driver(config: &RunnerConfig) -> Arc<dyn Driver> {
    Arc::new(NamespaceDriver::new(NamespaceConfig {
        root: environments(config),
        helpers: config.helpers.clone(),
        allow_degraded: config.allow_degraded.clone(),
        extra_read_only: config.extra_read_only.clone(),
        without_redirection: false,
    }))
}

/// Starts a runner over this driver.
pub async fn start(config: RunnerConfig, driver: Arc<dyn Driver>) -> Result<RunningRunner, RunnerError> {
    config.telemetry.check()?;
    config.egress.check()?;
    let classes = Classes::new(config.classes.clone())?;
    let world: Arc<dyn World> = Arc::new(SystemWorld);
    let data = config.data_dir.clone();
    files::private_dir(&data).map_err(RunnerError::file("make", &data))?;

    // Bound before the server hears where it is.
    let socket = TcpListener::bind(config.listen).await.map_err(|e| RunnerError::Config {
        what: format!("cannot listen on {}: {e}", config.listen),
        hint: "choose another address, or port 0".to_owned(),
    })?;
    let addr = socket.local_addr().map_err(|e| RunnerError::part("listener", e))?;
    let advertised = config.advertise.clone().unwrap_or_else(|| format!("http://{addr}"));

    let models = rehearsed(&config, model_table(&config)?).await?;
    let (models, stop) = (models.0, models.1);
    warn_of_keys(&models);
    let log_dir = data.join("spool");
    let log = Arc::new(open_log(&log_dir).await?);
    if let Some(cut) = log.recovered() {
        tracing::warn!(bytes = cut.bytes, "cut {} bytes off the spool that a crash left", cut.bytes);
    }
    let (identity, keys) = identity::load_or_enroll(&config, &advertised, &world).await?;
    let producer = Producer::Runner(identity.runner);
    let ledger = Ledger::start(Arc::clone(&log), producer, identity::signing_key(&data)?, Arc::clone(&world))
        .map_err(|e| RunnerError::part("ledger", e))?;
    let (spool, money) =
        Spool::start(log, archive_dir(&data), config.spool_max_bytes).map_err(|e| RunnerError::part("spool", e))?;
    let (spool, ledger) = (Arc::new(spool), Arc::new(ledger));
    let link = Link::signed(&config.server_url, Arc::clone(&world), identity.runner, Arc::clone(&keys.runner))
        .map_err(|e| RunnerError::part("link", e))?;
    let link = Arc::new(link);
    let purse =
        Arc::new(SitePurse::new(money, Arc::clone(&spool), Arc::clone(&link), Arc::clone(&world), data.join("money")));
    // Bundle 0 is never asked: nothing is done before the server's bundle is there.
    let nothing = Bundle::parse(0, default_bundle()).map_err(|e| RunnerError::part("policy", e))?;
    let policy = Arc::new(ArcSwap::from_pointee(nothing));
    let runs = Arc::new(Registry::new(data.join("runs"), Tokens::new(Arc::clone(&keys.site), Arc::clone(&world))));
    let desk = Desk { spool: Arc::clone(&spool), ledger: Arc::clone(&ledger), world: Arc::clone(&world) };
    let asking = Asking::start(desk.clone(), Arc::clone(&link), Arc::clone(&runs), &data);
    let gateway = Gateway::new(Parts {
        policy: Arc::clone(&policy),
        ledger: Arc::clone(&ledger),
        purse: Arc::<SitePurse>::clone(&purse),
        runs: Arc::<Registry>::clone(&runs),
        approvals: Arc::new(asking.clone()),
        models,
        world: Arc::clone(&world),
    });
    let dialer = Exits::dialer(&config.egress)?;
    let keyring = config.egress.keyring()?;
    keyring.warn();
    let mut limits = config.egress.limits();
    limits.connections = descriptors::connections(limits.connections, descriptors::take());
    let exits = Exits::new(
        Arc::clone(&driver),
        exit::Parts {
            policy: Arc::clone(&policy),
            ledger: Arc::clone(&ledger),
            dialer,
            authority: None,
            origins: config.egress.origins()?,
            credentials: Arc::default(),
            people: Arc::new(asking.clone()),
            inside: None,
            room: Arc::<Spool>::clone(&spool),
            world: Arc::clone(&world),
        },
        limits,
        keyring,
        (gateway.clone(), Arc::clone(&runs)),
    )?;
    let metrics_token = telemetry::token(&data, &*world)?;
    let site = Arc::new(Site {
        workspaces: Workspaces::new(data.join("mirrors")).apart_from(data.clone()).apart_from(environments(&config)),
        identity,
        keys,
        link: Arc::clone(&link),
        desk,
        asking,
        purse,
        policy,
        gateway,
        metrics_token,
        driver: Arc::clone(&driver),
        exits,
        runs,
        classes,
        stop: stop.clone(),
        wake: Arc::new(tokio::sync::Notify::new()),
        config,
    });
    reaper::run(&site).await?;
    reconcile::recall(&site);

    let (loops, tasks, seen) = (TaskTracker::new(), TaskTracker::new(), Arc::new(Seen::default()));
    let shipping = CancellationToken::new();
    loops.spawn(telemetry::run(Arc::clone(&site), shipping.clone()));
    loops.spawn(ship::run(spool, ledger, link, shipping.clone()));
    loops.spawn(reconcile::poll(Arc::clone(&site), Arc::clone(&seen), advertised));
    loops.spawn(reconcile::heartbeat(Arc::clone(&site)));
    loops.spawn(reconcile::run(Arc::clone(&site), seen, tasks.clone()));
    loops.spawn(tend::run(Arc::clone(&site), tasks.clone()));
    loops.spawn(listener::serve(socket, listener::router(Arc::clone(&site)), stop.clone()));
    site.wake.notify_one();
    tracing::info!(runner = %site.identity.runner, %addr, "{} listens on {addr}", site.identity.runner);
    Ok(RunningRunner { addr, site, loops, tasks, shipping })
}

/// Opens the spool's log. A runner that was killed a moment ago may not have let go of it yet.
async fn open_log(dir: &Path) -> Result<Log, RunnerError> {
    let mut waited = Duration::ZERO;
    loop {
        match Log::open(dir, LogOptions::default()) {
            Ok(log) => return Ok(log),
            Err(LogError::InUse { .. }) if waited < LOCK_WAIT => {
                tokio::time::sleep(LOCK_PAUSE).await;
                waited += LOCK_PAUSE;
            }
            Err(error) => return Err(RunnerError::part("ledger", error)),
        }
    }
}

/// Serves the rehearsal provider on loopback, if there are cassettes for it.
async fn rehearsed(config: &RunnerConfig, models: ModelTable) -> Result<(ModelTable, CancellationToken), RunnerError> {
    let stop = CancellationToken::new();
    let Some(dir) = &config.cassettes else { return Ok((models, stop)) };
    let mut cassettes = Vec::new();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .map_err(RunnerError::file("read", dir))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "toml" || e == "json"))
        .collect();
    paths.sort();
    for path in paths {
        let len = std::fs::metadata(&path).map_err(RunnerError::file("read", &path))?.len();
        let wrong = |why: String| RunnerError::Config {
            what: format!("the cassette `{}` cannot be played: {why}", path.display()),
            hint: "check it with `stockade rehearsal check`".to_owned(),
        };
        if len > MAX_CASSETTE {
            return Err(wrong(format!("it is larger than {MAX_CASSETTE} bytes")));
        }
        cassettes.push(rehearsal::Cassette::load(&path).map_err(|e| wrong(e.to_string()))?);
    }
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|e| RunnerError::part("rehearsal", e))?;
    let addr = socket.local_addr().map_err(|e| RunnerError::part("rehearsal", e))?;
    let halt = stop.clone();
    tokio::spawn(async move {
        if let Err(error) = rehearsal::serve(socket, cassettes, halt).await {
            tracing::error!(%error, "the rehearsal provider ended: {error}");
        }
    });
    Ok((models.with_rehearsal(addr), stop))
}

/// A key may still come, and is read when it is needed: that it is not there is no error yet.
fn warn_of_keys(models: &ModelTable) {
    for provider in models.providers() {
        for error in provider.wrong_keys() {
            let (provider, why) = (provider.name(), chain(&error));
            tracing::warn!(
                provider,
                "calls to the provider `{provider}` will be refused: {why} (`stockade provider check {provider}` looks again)"
            );
        }
    }
}

impl RunningRunner {
    /// From now on these models may be asked for: `text` is the gateway's part of the configuration. It is checked as a whole first, and
    /// nothing changes if it is wrong. Calls that have begun end as they began.
    ///
    /// # Errors
    /// [`RunnerError::Config`] says what is wrong.
    pub fn set_models(&self, text: &str) -> Result<(), RunnerError> {
        let gateway = &self.site.gateway;
        let models = models_of(text)?.with_rehearsal_of(&gateway.models());
        warn_of_keys(&models);
        gateway.set_models(models);
        Ok(())
    }

    /// Stops: no new work, the steps under way are brought to a journalled end within `deadline`, the spool is
    /// shipped as far as the server takes it. What is left goes on at the next start, as after a crash.
    pub async fn stop(self, deadline: Duration) {
        let drained = async {
            for slot in self.site.runs.all() {
                slot.stop(Halt::Shutdown);
            }
            self.site.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
            self.site.exits.drain().await;
            self.site.gateway.drain().await;
            while self.site.desk.spool.waiting() > 0 && self.site.link.away().borrow().is_none() {
                if ship::batch(&self.site.desk.spool, &self.site.link).await.is_err() {
                    break;
                }
            }
            self.shipping.cancel();
            self.loops.close();
            self.loops.wait().await;
        };
        if tokio::time::timeout(deadline, drained).await.is_err() {
            tracing::warn!("stopped before everything was brought to an end: it goes on at the next start");
            self.shipping.cancel();
        }
    }
}
