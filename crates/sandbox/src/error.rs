//! What can go wrong with an environment.

use std::{io, path::PathBuf};

use stockade_domain::ids::EnvironmentId;

/// Why a driver could not do it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No guest runs there (it was killed, or the machine was restarted). `restart` brings it back.
    #[error("environment {id} does not run: restart it to go on with the same files")]
    Gone {
        /// Which.
        id: EnvironmentId,
    },
    /// Nothing is known of it here.
    #[error("there is no environment {id} on this machine")]
    Unknown {
        /// Which.
        id: EnvironmentId,
    },
    /// The machine does not give what an environment must have.
    #[error(
        "this machine cannot give an environment its {capability}: {why}. Run `stockade doctor`; to go without, \
         name `{capability}` in `allow_degraded`"
    )]
    Unavailable {
        /// The capability's word.
        capability: String,
        /// Why not, and what to do.
        why: String,
    },
    /// A helper program is not there or is not ours.
    #[error("the helper program {path} cannot be used: build the helpers, or say where they are in STOCKADE_HELPERS", path = path.display())]
    Helper {
        /// Where it was looked for.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The launcher gave up.
    #[error("environment {id} did not start: {step}: {message}")]
    Launch {
        /// Which.
        id: EnvironmentId,
        /// What it was doing.
        step: String,
        /// What happened.
        message: String,
    },
    /// Something could not be read, written, made or removed.
    #[error("{what} of environment {id} failed at {path}", path = path.display())]
    Io {
        /// Which environment.
        id: EnvironmentId,
        /// What was being done.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// Processes of it could not be killed in time.
    #[error("{count} processes of environment {id} outlived their killing: the kernel holds them; try again")]
    Survivors {
        /// Which.
        id: EnvironmentId,
        /// How many.
        count: usize,
    },
    /// The specification asks for something senseless.
    #[error("environment {id} cannot be made: {why}")]
    BadSpec {
        /// Which.
        id: EnvironmentId,
        /// What is wrong with it.
        why: String,
    },
}
