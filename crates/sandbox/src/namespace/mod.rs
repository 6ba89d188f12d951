//! The default driver: Linux namespaces, without image, daemon or root.

use std::path::PathBuf;

use async_trait::async_trait;
use stockade_domain::ids::EnvironmentId;
use tokio::net::UnixStream;

use crate::{Capability, Driver, EnvironmentSpec, SandboxError};

/// How the namespace driver works on this machine.
#[derive(Debug, Clone, Default)]
pub struct NamespaceConfig {
    /// Where environments live: `root/ENV/…`. Made if it is not there, and then 0700.
    pub root: PathBuf,
    /// The folder with `stockade-launch` and `stockade-guest`.
    pub helpers: PathBuf,
    /// Names of capabilities that an environment may do without. Said loudly at each creation.
    pub allow_degraded: Vec<String>,
    /// More folders or files of this machine that every environment may read, at the same path (toolchains
    /// outside the system's folders).
    pub extra_read_only: Vec<PathBuf>,
}

/// Makes environments out of namespaces.
#[derive(Debug)]
pub struct NamespaceDriver {
    config: NamespaceConfig,
}

impl NamespaceDriver {
    /// A driver for environments below `config.root`. Touches nothing yet.
    pub fn new(config: NamespaceConfig) -> Self {
        Self { config }
    }
}

#[async_trait]
impl Driver for NamespaceDriver {
    fn name(&self) -> &'static str {
        "namespace"
    }
    fn assurance(&self) -> u8 {
        1
    }
    async fn probe(&self) -> Vec<Capability> {
        Vec::new()
    }
    async fn create(&self, spec: &EnvironmentSpec) -> Result<(), SandboxError> {
        Err(SandboxError::Helper {
            path: self.config.helpers.clone(),
            source: std::io::Error::other(spec.id.to_string()),
        })
    }
    async fn connect(&self, id: EnvironmentId) -> Result<UnixStream, SandboxError> {
        Err(SandboxError::Gone { id })
    }
    async fn is_running(&self, _id: EnvironmentId) -> bool {
        false
    }
    async fn restart(&self, id: EnvironmentId) -> Result<(), SandboxError> {
        Err(SandboxError::Unknown { id })
    }
    async fn stop(&self, _id: EnvironmentId) -> Result<(), SandboxError> {
        Ok(())
    }
    async fn delete(&self, _id: EnvironmentId) -> Result<(), SandboxError> {
        Ok(())
    }
    async fn list(&self) -> Vec<EnvironmentId> {
        Vec::new()
    }
}
