//! What a runner is told when it starts. This file owns the shape and the defaults; it reads no file and no
//! environment variable: whoever starts a runner has done so.

use std::{net::SocketAddr, path::PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use stockade_domain::EnvironmentClass;
use stockade_sandbox::wrong_to_show;

use crate::{EgressConfig, RunnerError, Telemetry, classes::Classes, start};

/// Everything that a runner needs to know before it starts.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// Where it keeps its identity, keys, spool and journals. Made with mode 0700 if it is not there.
    pub data_dir: PathBuf,
    /// Where the server is, for example `https://stockade.example:7080`.
    pub server_url: String,
    /// What people call this runner. Used when it enrols.
    pub name: String,
    /// The one-time token. Needed at the first start only; ignored once an identity exists.
    pub enroll_token: Option<SecretString>,
    /// Where the gateway and the content listener listen. Loopback with port 0 by default.
    pub listen: SocketAddr,
    /// The URL by which people inside the site reach the listener; made from `listen` where it is absent.
    pub advertise: Option<String>,
    /// The folder with `stockade-guest` and `stockade-launch`.
    pub helpers: PathBuf,
    /// Where environments are kept; `data_dir/environments` where it is absent.
    pub environments: Option<PathBuf>,
    /// The site's configuration file, of which the table `[gateway]` is read: models and providers, as in the manual. Empty: the
    /// shipped table.
    pub models: String,
    /// A folder with cassettes: where it is given, the runner serves the rehearsal provider on loopback for itself.
    pub cassettes: Option<PathBuf>,
    /// The classes of environments, the one that is used where nobody names one first.
    pub classes: Vec<EnvironmentClass>,
    /// Who commits.
    pub git: GitIdentity,
    /// Protections that may be missing on this machine; each is warned about at start.
    pub allow_degraded: Vec<String>,
    /// More folders or files of this machine that every environment may read, at the same path.
    pub extra_read_only: Vec<PathBuf>,
    /// At most so many bytes may wait in the spool for the server; then new deeds are refused.
    pub spool_max_bytes: u64,
    /// What collectors are told.
    pub telemetry: Telemetry,
    /// The site's part of the way out of environments.
    pub egress: EgressConfig,
}

impl RunnerConfig {
    /// A runner with everything at its default.
    pub fn new(data_dir: impl Into<PathBuf>, server_url: impl Into<String>, helpers: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            server_url: server_url.into(),
            name: "runner".to_owned(),
            enroll_token: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            helpers: helpers.into(),
            environments: None,
            models: String::new(),
            cassettes: None,
            classes: EnvironmentClass::shipped(),
            git: GitIdentity::default(),
            allow_degraded: Vec::new(),
            extra_read_only: Vec::new(),
            spool_max_bytes: SPOOL_MAX_BYTES,
            telemetry: Telemetry::default(),
            egress: EgressConfig::default(),
        }
    }

    /// Whether what was told can be meant, before anything is bound or started.
    ///
    /// # Errors
    /// [`RunnerError::Config`] says what is wrong.
    pub fn check(&self) -> Result<(), RunnerError> {
        for path in &self.extra_read_only {
            if let Some(why) = wrong_to_show(path) {
                let what = format!("[environment] extra_read_only: `{}` {why}", path.display());
                return Err(RunnerError::Config {
                    what,
                    hint: "docs/isolation.md says what environments have of their own".into(),
                });
            }
        }
        self.telemetry.check()?;
        self.egress.check()?;
        Classes::new(self.classes.clone())?;
        start::model_table(self).map(drop)
    }
}

/// How much may wait in the spool by default: 4 GiB.
pub const SPOOL_MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Who commits the agents' work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GitIdentity {
    /// The agent's name, author and committer of its commits.
    pub name: String,
    /// Its address.
    pub email: String,
    /// The domain of the people's addresses in `Co-authored-by`.
    pub people_domain: String,
}

impl Default for GitIdentity {
    fn default() -> Self {
        Self {
            name: "Stockade Agent".to_owned(),
            email: "agent@stockade.invalid".to_owned(),
            people_domain: "users.stockade.invalid".to_owned(),
        }
    }
}
