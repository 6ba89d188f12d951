//! The site's process: `stockade runner`.
//!
//! This crate owns the runner's identity and keys, the way to the server (poll, heartbeat, leases, spool), the
//! reconciling of assignments with environments, the run driver that carries out what the agent machine wants,
//! the purse, the workspace (git in, change out), the reaper, erasure and the content listener. It refuses: the
//! control plane's database, a public port, and every effect whose record is not open.
//!
//! *Invariant:* the only network peer that a runner begins to talk to are the server, the providers of its models
//! and the repositories of its projects.

mod asking;
#[doc(hidden)]
pub mod bench;
mod book;
mod calls;
mod classes;
mod config;
mod descriptors;
mod doctor;
mod drive;
mod erase;
mod error;
mod exits;
mod files;
mod guest;
mod identity;
mod journal;
mod link;
mod listener;
pub mod offline;
mod personal;
mod pinhole;
mod providers;
mod purse;
mod reaper;
mod reconcile;
mod ship;
mod site;
mod slot;
#[doc(hidden)]
pub mod soak;
mod spool;
mod start;
mod telemetry;
mod tend;
mod workspace;

pub use config::{GitIdentity, RunnerConfig, SPOOL_MAX_BYTES};
pub use doctor::doctor;
pub use error::RunnerError;
pub use exits::{CredentialConfig, EgressConfig, ProxyConfig};
pub use providers::{ProviderReport, Step, check_providers};
pub use stockade_gateway::toml_error;
pub use stockade_llm::told;
pub use telemetry::Telemetry;

use std::{net::SocketAddr, path::Path, sync::Arc};

use stockade_sandbox::Driver;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What hostile bytes are read by: for fuzzing, no input makes these panic.
pub mod hostile {
    pub use crate::{
        drive::harness::program::{Said as ProgramSaid, said as program_said},
        guest::parse_answer,
        workspace::{bundle::head as bundle_head, git::Address as RepositoryAddress},
    };
}

/// A runner, ready to be started.
#[derive(Debug)]
pub struct Runner;

impl Runner {
    /// Starts a runner: enrols it if it has no identity, repairs what a crash left, listens, and begins to work.
    /// Returns once the listener is bound; the server need not be there unless the runner has to enrol.
    pub async fn start(config: RunnerConfig) -> Result<RunningRunner, RunnerError> {
        let driver = start::driver(&config);
        start::start(config, driver).await
    }

    /// The same over another way to make environments.
    pub async fn start_with(config: RunnerConfig, driver: Arc<dyn Driver>) -> Result<RunningRunner, RunnerError> {
        start::start(config, driver).await
    }
}

/// A runner at work.
#[derive(Debug)]
pub struct RunningRunner {
    addr: SocketAddr,
    site: Arc<site::Site>,
    loops: TaskTracker,
    tasks: TaskTracker,
    shipping: CancellationToken,
}

impl RunningRunner {
    /// Where the gateway and the content listener listen.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Which runner this is.
    pub fn id(&self) -> stockade_domain::ids::RunnerId {
        self.site.identity.runner
    }
}

/// Whether a runner with this data folder has enrolled.
pub fn has_identity(data_dir: &Path) -> bool {
    data_dir.join(identity::IDENTITY_FILE).is_file()
}
