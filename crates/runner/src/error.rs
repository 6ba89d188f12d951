//! What can go wrong with a runner as a whole. Errors of one subject live with their subject.

use std::path::PathBuf;

pub(crate) use stockade_domain::chain;

/// Why a runner does not start or stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The configuration makes no sense.
    #[error("{what}; {hint}")]
    Config {
        /// What is wrong.
        what: String,
        /// What to try.
        hint: String,
    },
    /// Something on the disk cannot be read or written.
    #[error("cannot {verb} `{}`", path.display())]
    File {
        /// What was tried, for example `write`.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The server did not take the runner in, or cannot be reached.
    #[error("the server at {url} {what}; {hint}")]
    Server {
        /// Where it should be.
        url: String,
        /// What it did.
        what: String,
        /// What to try.
        hint: String,
    },
    /// A part of the runner refused to start.
    #[error("the runner's {part} does not start: {what}")]
    Part {
        /// Which part: `ledger`, `sandbox`, `gateway`, `listener`.
        part: &'static str,
        /// Why not.
        what: String,
    },
}

impl RunnerError {
    /// Whose fault it is, for exit codes and tone.
    pub const fn fault(&self) -> stockade_api::error::Fault {
        use stockade_api::error::Fault;
        match self {
            Self::Config { .. } | Self::File { .. } | Self::Part { .. } => Fault::Config,
            Self::Server { .. } => Fault::Outside,
        }
    }

    pub(crate) fn file(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { verb, path, source }
    }

    pub(crate) fn part(part: &'static str, what: impl std::error::Error) -> Self {
        Self::Part { part, what: chain(&what) }
    }
}
