//! Why a server does not start. What a request can answer is in `answer`.

use std::{net::SocketAddr, path::PathBuf};

use stockade_api::error::Fault;
use stockade_store::StoreError;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The configuration makes no sense.
    #[error("{}: {why}", from.display())]
    Config {
        /// The file.
        from: PathBuf,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The port is taken.
    #[error(
        "something else already listens on {addr}: it may be another `stockade up` or `stockade server` \
         (`ss -ltnp 'sport = :{}'` names the process); stop it or choose another address with --listen",
        addr.port()
    )]
    PortBusy {
        /// Where.
        addr: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: check that it is an address of this machine")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Another server uses the same directory.
    #[error("another server already uses {}: stop it first, or give this one another data directory", dir.display())]
    DirectoryInUse {
        /// Which.
        dir: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A key or identity file is not what it should be.
    #[error("{}: {why}", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bundle in force does not load any more.
    #[error("policy bundle {number} in the database does not load: {why}")]
    Policy {
        /// Which.
        number: u64,
        /// Why not.
        why: String,
    },
}

impl ServerError {
    /// Whose fault it is, for exit codes and tone.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Store(StoreError::Unavailable { .. }) => Fault::Outside,
            _ => Fault::Config,
        }
    }

    pub(crate) fn file(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { verb, path, source }
    }
}
