//! The default driver: Linux namespaces, without image, daemon or root.
//!
//! It owns the folder `root`: below it each environment has its files, its guest's journal, its socket and the
//! note of all that must be removed one day. It refuses to remember anything elsewhere: a runner that died and
//! came back finds every environment as it was.

pub(crate) mod der;
mod doors;
mod groups;
mod image;
mod life;
mod probe;
mod system;
pub(crate) mod trust;
mod usage;

use std::{io::ErrorKind, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use stockade_domain::ids::EnvironmentId;
use tokio::net::UnixStream;

use self::life::Held;
use crate::{Capability, Doors, Driver, EnvironmentSpec, Measured, SandboxError};

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
    /// Streams are not led to the doors by rules, as on a machine without nf_tables: then doors for some ports stand at every address, and
    /// to other ports there is none.
    pub without_redirection: bool,
}

/// Makes environments out of namespaces.
#[derive(Debug)]
pub struct NamespaceDriver {
    config: Arc<NamespaceConfig>,
}

impl NamespaceDriver {
    /// A driver for environments below `config.root`. Touches nothing yet.
    pub fn new(config: NamespaceConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    /// Does what blocks where blocking is no harm.
    async fn held<T: Send + 'static>(
        &self,
        id: EnvironmentId,
        act: impl FnOnce(&Held<'_>) -> Result<T, SandboxError> + Send + 'static,
    ) -> Result<T, SandboxError> {
        let config = Arc::clone(&self.config);
        let done = tokio::task::spawn_blocking(move || act(&Held::new(&config, id)?)).await;
        done.unwrap_or_else(|error| {
            let (step, message) = ("waiting for it".to_owned(), error.to_string());
            Err(SandboxError::Launch { id, step, message })
        })
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
        let config = Arc::clone(&self.config);
        tokio::task::spawn_blocking(move || probe::probe(&config)).await.unwrap_or_default()
    }

    async fn missing(&self) -> Vec<Capability> {
        let lacks = |found: &Capability| !found.available && found.required;
        let goes_without = |found: &Capability| self.config.allow_degraded.contains(&found.name);
        self.probe().await.into_iter().filter(|found| lacks(found) && !goes_without(found)).collect()
    }

    async fn create(&self, spec: &EnvironmentSpec) -> Result<(), SandboxError> {
        let spec = spec.clone();
        match self.held(spec.id, move |held| held.create(&spec)).await {
            Err(SandboxError::Unavailable { capability, why }) => {
                // Whoever mends one thing wants to know of the others too. That no environment can be made is known.
                let named = |name: &str| name == capability || name == "environment";
                let missing = self.missing().await.into_iter().map(|found| found.name).filter(|name| !named(name));
                let others: Vec<String> = missing.collect();
                let why = if others.is_empty() { why } else { format!("{why} (it also lacks: {})", others.join(", ")) };
                Err(SandboxError::Unavailable { capability, why })
            }
            made => made,
        }
    }

    async fn connect(&self, id: EnvironmentId) -> Result<UnixStream, SandboxError> {
        let folder = life::folder(&self.config, id);
        if !self.is_running(id).await {
            return Err(if folder.exists() { SandboxError::Gone { id } } else { SandboxError::Unknown { id } });
        }
        let failed = |source| SandboxError::Io { id, what: "connecting to the guest", path: folder.clone(), source };
        let (_open, path) = life::socket(&folder).map_err(failed)?;
        match UnixStream::connect(&path).await {
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                Err(SandboxError::Gone { id })
            }
            other => other.map_err(failed),
        }
    }

    async fn doors(&self, id: EnvironmentId) -> Result<Box<dyn Doors>, SandboxError> {
        let (made, held) = self.held(id, |held| held.doors()).await?;
        if let Some(why) = &made.why_not {
            tracing::warn!(environment = %id, why, "environment {id} has doors for some ports only: nf_tables cannot be used ({why})");
        }
        let path = life::folder(&self.config, id);
        let failed = |source| SandboxError::Io { id, what: "taking hold of its doors", path, source };
        Ok(Box::new(doors::NamespaceDoors::of(&made, held).map_err(failed)?))
    }

    async fn is_running(&self, id: EnvironmentId) -> bool {
        // A few reads of files that are always in memory: not worth another thread.
        life::running(&life::folder(&self.config, id)).is_some()
    }

    async fn restart(&self, id: EnvironmentId) -> Result<(), SandboxError> {
        self.held(id, |held| held.restart()).await
    }

    async fn stop(&self, id: EnvironmentId) -> Result<(), SandboxError> {
        self.held(id, |held| held.stop()).await
    }

    async fn delete(&self, id: EnvironmentId) -> Result<(), SandboxError> {
        self.held(id, |held| held.delete()).await
    }

    async fn measure(&self, id: EnvironmentId) -> Option<Measured> {
        let config = Arc::clone(&self.config);
        // Without the lock: whoever makes or kills it is not waited for, and nothing is changed.
        tokio::task::spawn_blocking(move || life::measure(&life::folder(&config, id))).await.ok().flatten()
    }

    async fn list(&self) -> Vec<EnvironmentId> {
        let config = Arc::clone(&self.config);
        tokio::task::spawn_blocking(move || life::list(&config)).await.unwrap_or_default()
    }
}
