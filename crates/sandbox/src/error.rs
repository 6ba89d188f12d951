//! What can go wrong with an environment.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
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
    /// There is no room for another process or descriptor.
    #[error(
        "this machine is full ({source}): delete environments, or let the runner have more open files and processes"
    )]
    Full {
        /// What the kernel said.
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

impl SandboxError {
    /// Why a helper program could not be started.
    pub(crate) fn of_helper(path: &Path, source: io::Error) -> Self {
        let full = [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM].map(Errno::raw_os_error);
        if source.raw_os_error().is_some_and(|error| full.contains(&error)) {
            return Self::Full { source };
        }
        Self::Helper { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_full_is_not_mistaken_for_a_helper_that_is_not_there() {
        let said =
            |error: Errno| SandboxError::of_helper(Path::new("/helpers/stockade-launch"), error.into()).to_string();
        assert!(said(Errno::MFILE).starts_with("this machine is full"), "{}", said(Errno::MFILE));
        assert!(said(Errno::NOENT).starts_with("the helper program /helpers/stockade-launch cannot be used"));
    }
}
