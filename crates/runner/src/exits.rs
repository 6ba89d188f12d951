//! The way out of each environment: an exit behind its doors.
//!
//! Owns which environments have one, and that it is up before anything runs inside. It refuses to decide: that is the exit's. *Invariant:* an
//! environment has at most one exit, and none once its run is over or its environment is stopped; then its doors are closed, and what it still
//! tries is refused by its own kernel.

pub mod authority;
mod config;
mod credentials;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use stockade_api::runner::Assignment;
use stockade_domain::{Network, Principal, ids::EnvironmentId};
use stockade_egress::{
    dial::Dialer,
    exit::{Exit, Inside, Limits, Parts, Room, Tally, Who, git},
};
use stockade_gateway::Gateway;
use stockade_ledger::RunKey;
use stockade_policy::{Bundle, Engine};
use stockade_sandbox::{Arrival, Doors, Driver, SandboxError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    config::{EgressConfig, ProxyConfig},
    credentials::{CredentialConfig, Inside as Told, Keyring},
};
use crate::{RunnerError, error::chain, pinhole::Pinhole, slot::Registry, spool::Spool};

/// How long to wait when a door cannot be looked at although its environment runs (no descriptor is left).
const PAUSE: Duration = Duration::from_millis(50);

/// The exits of a site.
pub struct Exits {
    driver: Arc<dyn Driver>,
    parts: Parts,
    limits: Limits,
    keyring: Keyring,
    gateway: Gateway,
    runs: Arc<Registry>,
    open: Mutex<BTreeMap<EnvironmentId, Way>>,
    /// What went over, of every environment that had an exit in this process.
    tallies: Mutex<BTreeMap<EnvironmentId, Arc<Tally>>>,
    /// The policy of environments whose class lets nothing out but calls to the gateway.
    shut: Arc<ArcSwap<Engine>>,
    tasks: TaskTracker,
}

/// It permits nothing, and says why.
const SHUT: &str = r#"
about = "What environments may open whose class has the network `gateway`: nothing."
[[policy]]
id = "class-network"
title = "Environments of this class go nowhere but to the gateway"
text = "forbid(principal, action, resource);"
[[example]]
name = "a host"
principal = "agent"
action = "connection.open"
resource = "host:example.org"
expect = "deny"
by = "class-network"
"#;

/// One environment's.
#[derive(Debug)]
struct Way {
    exit: Arc<Exit>,
    /// Cancelled when nobody stands at the doors any more.
    over: CancellationToken,
}

impl fmt::Debug for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exits").field("open", &self.open().len()).finish_non_exhaustive()
    }
}

impl Room for Spool {
    fn has_room(&self) -> bool {
        self.room().is_ok()
    }
}

impl Exits {
    /// None yet. Each environment has the gateway inside, for the programs that work there.
    ///
    /// # Errors
    /// None that a user could mend.
    pub fn new(
        driver: Arc<dyn Driver>,
        parts: Parts,
        limits: Limits,
        keyring: Keyring,
        (gateway, runs): (Gateway, Arc<Registry>),
    ) -> Result<Self, RunnerError> {
        let shut = Bundle::parse(0, SHUT).map_err(|e| RunnerError::part("policy", e))?;
        let (shut, tasks) = (Arc::new(ArcSwap::from_pointee(shut)), TaskTracker::new());
        let (open, tallies) = (Mutex::default(), Mutex::default());
        Ok(Self { driver, parts, limits, keyring, gateway, runs, open, tallies, shut, tasks })
    }

    /// What the tools of an environment that is about to be made are told: the certificate that they are to trust, variables, git's configuration.
    ///
    /// # Errors
    /// If its authority cannot be made or kept.
    pub fn told(&self, a: &Assignment, key: &RunKey) -> Result<(String, Told), std::io::Error> {
        let dir = self.runs.dir_of(a.run);
        let certificate = authority::ensure(&dir, a.environment, &self.parts.world)?;
        Ok((certificate, self.keyring.of(a, key).inside))
    }

    /// The way to hosts by a configuration.
    ///
    /// # Errors
    /// [`RunnerError::Config`] says what is wrong.
    pub fn dialer(config: &EgressConfig) -> Result<Dialer, RunnerError> {
        let dialer = Dialer::new(Arc::new(config.resolver()?), config.declared()?, config.patience());
        Ok(match config.proxy()? {
            Some(proxy) => dialer.through(proxy),
            None => dialer,
        })
    }

    /// Sees that a running environment has the exit that its class's network posture gives it: none at all, one that is shut but for the
    /// gateway, or one that asks policy. `fresh`: its namespaces are new, so what stood at the doors of the old ones is over.
    ///
    /// # Errors
    /// If its doors cannot be had. Then nothing may run inside that expects a way out.
    pub async fn ensure(
        &self,
        a: &Assignment,
        key: &Arc<RunKey>,
        network: Network,
        fresh: bool,
    ) -> Result<(), SandboxError> {
        let id = a.environment;
        if network == Network::None {
            // Nobody holds its doors, so nothing is open.
            self.close(id).await;
            return Ok(());
        }
        let standing = self.open().get(&id).is_some_and(|way| !way.over.is_cancelled());
        if standing && !fresh {
            return Ok(());
        }
        self.close(id).await;
        // Made when the environment was; what is not there any more was an older version's, and nothing over TLS is looked into then.
        let authority = authority::kept(&self.runs.dir_of(a.run), id, &self.parts.world);
        let granted = self.keyring.of(a, key);
        let doors = self.driver.doors(id).await?;
        let who = Who {
            principal: Principal::Agent { run: a.run, owner: a.owner },
            run: a.run,
            project: a.project.id,
            level: a.project.level,
            key: Arc::clone(key),
        };
        let pinhole: Arc<dyn Inside> = Arc::new(Pinhole::new(&self.gateway, &self.runs, a.run));
        let credentials = Arc::new(granted.credentials);
        let mut parts = Parts { inside: Some(pinhole), authority, credentials, ..self.parts.clone() };
        if network == Network::Gateway {
            parts.policy = Arc::clone(&self.shut);
        }
        // Pushes lie beside the run while they are judged, not in memory that is made to look like a disk.
        let git = git::Limits { folder: self.runs.dir_of(a.run), ..git::Limits::default() };
        let tally = Arc::clone(lock(&self.tallies).entry(id).or_default());
        let exit = Arc::new(Exit::new(who, parts, self.limits).with_git(git).counting(tally));
        let over = CancellationToken::new();
        let standing = stand(Arc::clone(&exit), doors, Arc::clone(&self.driver), id, over.clone());
        self.tasks.spawn(standing);
        self.open().insert(id, Way { exit, over });
        Ok(())
    }

    /// Closes an environment's exit, if it has one: what is open ends, and its doors are shut when this returns.
    pub async fn close(&self, id: EnvironmentId) {
        let way = self.open().remove(&id);
        if let Some(way) = way {
            way.exit.stop();
            way.over.cancelled().await;
        }
    }

    /// The policy has changed: what is open and would not be allowed now is cut.
    pub fn reconsider(&self) {
        let exits: Vec<_> = self.open().iter().map(|(id, way)| (*id, Arc::clone(&way.exit))).collect();
        for (environment, exit) in exits {
            let cut = exit.reconsider();
            if cut > 0 {
                tracing::info!(%environment, cut, "{cut} connections of {environment} are cut by the policy that is in force now");
            }
        }
    }

    /// Closes all of them, and waits until their records are closed.
    pub async fn drain(&self) {
        for way in std::mem::take(&mut *self.open()).into_values() {
            way.exit.stop();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// What went over an environment's connections that have ended, in this process: bytes out and in.
    pub fn carried(&self, id: EnvironmentId) -> (u64, u64) {
        lock(&self.tallies).get(&id).map_or((0, 0), |tally| tally.sums())
    }

    /// Whether an environment has a connection open, or one that waits for a person.
    pub fn is_busy(&self, id: EnvironmentId) -> bool {
        self.open().get(&id).is_some_and(|way| way.exit.is_busy())
    }

    /// An environment is gone.
    pub fn forget(&self, id: EnvironmentId) {
        lock(&self.tallies).remove(&id);
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<EnvironmentId, Way>> {
        lock(&self.open)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is a single step: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stands at the doors until the exit is stopped or the environment is gone, and then until everything that came is over.
async fn stand(
    exit: Arc<Exit>,
    doors: Box<dyn Doors>,
    driver: Arc<dyn Driver>,
    id: EnvironmentId,
    over: CancellationToken,
) {
    let carried = TaskTracker::new();
    let guard = over.drop_guard();
    loop {
        let arrival = tokio::select! {
            biased;
            () = exit.stopped() => break,
            arrival = doors.arrival() => arrival,
        };
        match arrival {
            Ok(Arrival::Stream { stream, wanted }) => {
                let exit = Arc::clone(&exit);
                carried.spawn(async move { exit.stream(stream, wanted).await });
            }
            Ok(Arrival::Names { message, from }) => {
                if let Some(reply) = exit.question(&message).await {
                    doors.reply(from, &reply).await;
                }
            }
            Ok(Arrival::Stray(stray)) => exit.stray(stray.protocol, stray.to).await,
            Err(error) if driver.is_running(id).await => {
                tracing::warn!(environment = %id, error = chain(&error), "the doors of {id} cannot be looked at now: {error}");
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => break,
        }
    }
    drop(doors);
    // From here on nothing comes any more, and another exit may be opened.
    drop(guard);
    exit.stop();
    carried.close();
    carried.wait().await;
    exit.settle().await;
}
