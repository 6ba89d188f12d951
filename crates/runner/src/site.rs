//! What every part of a running runner shares.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use secrecy::SecretString;
use stockade_domain::World;
use stockade_gateway::Gateway;
use stockade_policy::Engine;
use stockade_sandbox::Driver;
use tokio_util::sync::CancellationToken;

use crate::{
    RunnerConfig,
    asking::Asking,
    book::Desk,
    classes::Classes,
    exits::Exits,
    identity::{Identity, Keys},
    link::Link,
    purse::SitePurse,
    slot::Registry,
    workspace::Workspaces,
};

/// One site's process.
pub struct Site {
    /// How it was started.
    pub config: RunnerConfig,
    /// Its classes of environments.
    pub classes: Classes,
    /// Who it is.
    pub identity: Identity,
    /// Its keys.
    pub keys: Keys,
    /// The way to the server.
    pub link: Arc<Link>,
    /// Spool, ledger, time.
    pub desk: Desk,
    /// The questions about model calls.
    pub asking: Asking,
    /// The money.
    pub purse: Arc<SitePurse>,
    /// The bundle in force. Nothing is done before there is one.
    pub policy: Arc<ArcSwap<Engine>>,
    /// The way of model calls.
    pub gateway: Gateway,
    /// What opens `/metrics`.
    pub metrics_token: SecretString,
    /// The way to make environments.
    pub driver: Arc<dyn Driver>,
    /// The ways out of environments.
    pub exits: Exits,
    /// The mirrors.
    pub workspaces: Workspaces,
    /// The runs.
    pub runs: Arc<Registry>,
    /// Everything stops.
    pub stop: CancellationToken,
    /// The reconciler looks again.
    pub wake: Arc<tokio::sync::Notify>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Site {
    /// The time and randomness.
    pub fn world(&self) -> &dyn World {
        &*self.desk.world
    }

    /// Where the last word of the server about what should be is kept.
    pub fn desired_file(&self) -> PathBuf {
        self.config.data_dir.join("desired.json")
    }
}
