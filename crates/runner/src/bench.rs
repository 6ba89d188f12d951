//! What `cargo xtask bench gateway` and `bench soak` measure: the gateway as [`crate::start`] puts it together, over a real spool, ledger and
//! purse, with one run whose money has been leased already, so that no server is needed. Not for anything else.
//!
//! What is left out: shipping (everything waits in the spool) and the long poll. Both are beside the way of a call.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::routing::get;
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::{
    Level, Nanos, Principal, World,
    ids::{RunId, RunnerId, SliceId},
};
use stockade_gateway::{Caller, Gateway, ModelTable, NobodyToAsk, Parts, Purse, Runs, metrics};
use stockade_ledger::{Ledger, Log, LogOptions, Producer, RunKey, SigningKey, SystemWorld};
use stockade_policy::{Bundle, default_bundle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    RunnerError,
    link::Link,
    listener,
    purse::{Money, SitePurse, SliceState},
    soak::Soak,
    spool::{Spool, archive_dir},
};

/// The token that the gateway of the bench knows.
pub const TOKEN: &str = "the-token-of-the-bench";
/// How much may wait in the spool: more than a bench can write.
const SPOOL_BYTES: u64 = 1 << 40;
/// What the run may spend: more than a bench can spend.
const BUDGET: Nanos = Nanos(i64::MAX / 4);

struct OneRun {
    caller: Caller,
    key: Arc<RunKey>,
}

#[async_trait]
impl Runs for OneRun {
    async fn caller(&self, token: &SecretString) -> Option<Caller> {
        (token.expose_secret() == TOKEN).then(|| self.caller.clone())
    }
    fn key(&self, run: RunId) -> Option<Arc<RunKey>> {
        (run == self.caller.run).then(|| Arc::clone(&self.key))
    }
}

/// Serves the gateway with this configuration of models and providers on a free port of this machine, over this folder,
/// until `stop`. There is money for the models of these `names`.
pub async fn serve(
    dir: &Path,
    models: &str,
    names: &[&str],
    stop: CancellationToken,
) -> Result<SocketAddr, RunnerError> {
    Ok(serve_with(dir, models, names, default_bundle(), stop).await?.0)
}

/// The same under another policy. Also at `/metrics`: what is counted.
pub async fn serve_with(
    dir: &Path,
    models: &str,
    names: &[&str],
    policy: &str,
    stop: CancellationToken,
) -> Result<(SocketAddr, Soak), RunnerError> {
    let world: Arc<dyn World> = Arc::new(SystemWorld);
    let part = |name: &'static str| move |error: std::io::Error| RunnerError::part(name, error);
    let log =
        Log::open(&dir.join("spool"), LogOptions::default()).map_err(|error| RunnerError::part("ledger", error))?;
    let log = Arc::new(log);
    let runner: RunnerId = world.id();
    let ledger = Ledger::start(Arc::clone(&log), Producer::Runner(runner), SigningKey::generate(), Arc::clone(&world))
        .map_err(|error| RunnerError::part("ledger", error))?;
    let (ledger, (spool, _)) = (
        Arc::new(ledger),
        Spool::start(log, archive_dir(dir), SPOOL_BYTES).map_err(|error| RunnerError::part("spool", error))?,
    );
    let (run, owner, spool) = (world.id(), world.id(), Arc::new(spool));
    let link =
        Link::anonymous("http://127.0.0.1:9", Arc::clone(&world)).map_err(|error| RunnerError::part("link", error))?;
    let mut money = Money::default();
    for name in names {
        let slice: SliceId = world.id();
        let leased = SliceState {
            run,
            model: (*name).to_owned(),
            amount: BUDGET,
            spent: Nanos::ZERO,
            reserved: BTreeMap::new(),
            settled: BTreeMap::new(),
        };
        money.slices.insert(slice, leased);
    }
    let leased = money.clone();
    let purse = SitePurse::new(money, Arc::clone(&spool), Arc::new(link), Arc::clone(&world), dir.join("money"));
    let purse = Arc::new(purse);
    purse.begin(run, BUDGET);
    let caller = Caller {
        run,
        owner,
        project: world.id(),
        level: Level::ON_THE_LOOP,
        principal: Principal::Agent { run, owner },
    };
    let key = Arc::new(RunKey::generate(&*world, run));
    let policy = Bundle::parse(1, policy).map_err(|error| RunnerError::part("policy", error))?;
    let parts = Parts {
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        ledger: Arc::clone(&ledger),
        purse: Arc::clone(&purse) as Arc<dyn Purse>,
        runs: Arc::new(OneRun { caller, key: Arc::clone(&key) }),
        approvals: Arc::new(NobodyToAsk),
        models: ModelTable::from_config(models).map_err(|error| RunnerError::part("models", error))?,
        world,
    };
    let gateway = Gateway::new(parts);
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.map_err(part("listener"))?;
    let addr = socket.local_addr().map_err(part("listener"))?;
    let watched = gateway.clone();
    let scraped = move || std::future::ready(metrics::text(watched.metrics(), &watched.gauges()));
    let router = gateway.router().route("/metrics", get(scraped));
    tokio::spawn(listener::serve(socket, router, stop));
    Ok((addr, Soak::new(gateway, ledger, (purse, leased), spool, key)))
}
