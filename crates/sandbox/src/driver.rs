//! What every driver does, in terms of one environment.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use stockade_domain::ids::EnvironmentId;
use tokio::net::UnixStream;

use crate::{Capability, Doors, Inside, SandboxError};

/// What one environment may use. Every figure is a ceiling that holds, not a hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Class {
    /// Memory of all its processes together, page cache and `/dev/shm` included.
    pub memory_bytes: u64,
    /// Processes and threads at any one time.
    pub processes: u64,
    /// Processor time: thousandths of one core.
    pub cpu_millis: u64,
    /// Workspace, home, `/tmp` and transfer folder together.
    pub disk_bytes: u64,
    /// Open files of one process.
    pub open_files: u64,
}

impl Default for Class {
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, processes: 512, cpu_millis: 2_000, disk_bytes: 8 << 30, open_files: 4_096 }
    }
}

/// An environment as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    /// Its name everywhere.
    pub id: EnvironmentId,
    /// What it may use.
    #[serde(default)]
    pub class: Class,
    /// What its inside is to those who work there.
    #[serde(default)]
    pub inside: Inside,
    /// The certificate (PEM, exactly one) of an authority that is its own, which the tools inside shall trust beside those that the
    /// machine trusts. Its key never comes here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Variables of every program of the workload, beside those that each environment has. No secret belongs here.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The text of git's configuration for the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gitconfig: Option<String>,
}

/// What an environment uses, as far as its machine counts it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measured {
    /// Names what the counters count from. When it is another, they have begun anew.
    pub since: String,
    /// Processor time since then, in microseconds.
    pub cpu_us: u64,
    /// Memory now.
    pub memory_bytes: u64,
    /// The most memory at a time since then, as far as that is kept.
    pub memory_peak_bytes: u64,
    /// Disk that its files take from the machine.
    pub disk_bytes: u64,
}

/// The most variables of an environment.
pub const MAX_VARIABLES: usize = 512;
/// The longest value of one, and of git's configuration, in bytes.
pub const MAX_TOLD: usize = 64 * 1024;

impl EnvironmentSpec {
    /// What of it cannot be meant.
    pub(crate) fn wrong(&self) -> Option<&'static str> {
        let named = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !name.as_bytes().first().is_some_and(u8::is_ascii_digit)
        };
        let plain = |text: &str| text.len() <= MAX_TOLD && !text.contains('\0');
        if self.variables.len() > MAX_VARIABLES
            || self.variables.iter().any(|(name, value)| !named(name) || !plain(value))
        {
            return Some("one of its variables has no name of letters, digits and _, or a value that is too long");
        }
        if self.gitconfig.as_deref().is_some_and(|text| !plain(text)) {
            return Some("its configuration of git is longer than 64 KiB, or has a zero byte");
        }
        self.inside.wrong()
    }
}

/// A way to make environments.
#[async_trait]
pub trait Driver: Send + Sync + std::fmt::Debug {
    /// A stable word for configuration and records, for example `namespace`.
    fn name(&self) -> &'static str;

    /// How strong the wall is: 1 shared kernel, 2 a kernel in user space, 3 a virtual machine.
    fn assurance(&self) -> u8;

    /// Tries everything that an environment needs on this machine, for real, and says what came of it.
    async fn probe(&self) -> Vec<Capability>;

    /// What this machine lacks of what an environment must have, and the configuration does not go without: nothing where environments
    /// can be made with the whole of the driver's assurance, or with all but what the configuration names.
    async fn missing(&self) -> Vec<Capability>;

    /// Makes the environment and starts its guest. Returns when the guest's socket takes connections. An
    /// environment that runs already is left as it is; one that is there and stopped is started again over
    /// its files.
    async fn create(&self, spec: &EnvironmentSpec) -> Result<(), SandboxError>;

    /// Connects to the environment's guest. [`SandboxError::Gone`] if no guest runs there.
    async fn connect(&self, id: EnvironmentId) -> Result<UnixStream, SandboxError>;

    /// Opens the environment's doors and takes hold of them. Held by one at a time: while an earlier holder has them, this fails; when
    /// it is gone, they are made anew. [`SandboxError::Gone`] if no guest runs there.
    async fn doors(&self, id: EnvironmentId) -> Result<Box<dyn Doors>, SandboxError>;

    /// Whether its guest runs.
    async fn is_running(&self, id: EnvironmentId) -> bool;

    /// Starts a new guest over the same files in new namespaces; what still runs of the old one is killed first.
    async fn restart(&self, id: EnvironmentId) -> Result<(), SandboxError>;

    /// Kills everything in it and keeps its files. Stopping what does not run is no error.
    async fn stop(&self, id: EnvironmentId) -> Result<(), SandboxError>;

    /// Kills everything in it and removes every trace. Deleting what is not there is no error.
    async fn delete(&self, id: EnvironmentId) -> Result<(), SandboxError>;

    /// What it uses. Nothing if nothing is known of it here.
    async fn measure(&self, id: EnvironmentId) -> Option<Measured>;

    /// Every environment of which anything is left on this machine, running or not, also of a runner that died.
    async fn list(&self) -> Vec<EnvironmentId>;
}
