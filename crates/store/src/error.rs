//! What can go wrong with the database, for three readers: a variant for the caller's code, a sentence that
//! names the thing and what to try for the person, and the source for the operator.
//!
//! *Invariant:* nobody branches on the name of a constraint: two engines name them differently.

use std::path::PathBuf;

use stockade_domain::{
    Refused,
    ids::{RunId, RunnerId},
};

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The address of the database makes no sense.
    #[error("`{url}` is no database address: write sqlite:/path/to/stockade.db or postgres://user@host/database")]
    Url {
        /// As given, without its password.
        url: String,
    },
    /// Another process has the same SQLite file open.
    #[error(
        "another server already uses the database {path}: stop it, or give this one another data directory, or use Postgres"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be reached.
    #[error("cannot open {path}: check that the directory exists and is writable")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A later version of Stockade has written to it.
    #[error(
        "the database has schema version {found}, this program knows up to {known}: start the newer Stockade that \
         wrote it, or restore a backup from before the upgrade"
    )]
    NewerSchema {
        /// In the database.
        found: i64,
        /// In this program.
        known: i64,
    },
    /// The file is no database of ours or is damaged.
    #[error("the database {place} is damaged or no database ({detail}): restore the last backup; nothing was changed")]
    Corrupt {
        /// The file or address.
        place: String,
        /// The engine's words.
        detail: String,
    },
    /// No room.
    #[error("the disk of the database is full: nothing of this was written; make room and try again")]
    Full {
        /// The engine's words.
        #[source]
        source: sqlx::Error,
    },
    /// The database does not answer, or the connection broke. The transaction did not take place, or, if it broke
    /// during the commit, may have taken place.
    #[error("the database does not answer: check that it runs; what was asked can be tried again")]
    Unavailable {
        /// The engine's words.
        #[source]
        source: sqlx::Error,
    },
    /// Two transactions met; this one was undone.
    #[error("somebody else changed {what} {id} at the same time: read it again and repeat")]
    Conflict {
        /// The kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
    },
    /// There is no such thing.
    #[error("there is no {what} {id}")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
    },
    /// There is one already.
    #[error("there is already a {what} {id}")]
    Exists {
        /// The kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
    },
    /// What was given makes no sense.
    #[error("{what}: {why}")]
    Invalid {
        /// The thing.
        what: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The lifecycle does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Somebody else has the lease, or a newer one was given out.
    #[error("runner {runner} has no lease of {run}: stop working on it, and ask again if it is still assigned")]
    NoLease {
        /// The run.
        run: RunId,
        /// Who wanted it.
        runner: RunnerId,
    },
    /// An entry of a runner's spool that can never be taken. The runner has to be looked at.
    #[error("entry {position} of {runner}'s spool is refused: {why}")]
    BadEntry {
        /// Whose.
        runner: RunnerId,
        /// Where.
        position: u64,
        /// What is wrong.
        why: String,
    },
    /// A record or a checkpoint is not what it should be.
    #[error("the ledger of {producer}: {why}")]
    Ledger {
        /// Whose.
        producer: String,
        /// What is wrong.
        why: String,
    },
    /// A row holds what nobody of ours wrote.
    #[error("the database holds a {what} that makes no sense ({why}): it was changed by hand, or this is a defect")]
    BadRow {
        /// What.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Anything else the engine said.
    #[error("the database refused a statement")]
    Database {
        /// The engine's words.
        #[source]
        source: sqlx::Error,
    },
}

/// What the store's functions give back.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    /// Whether the same call, begun anew in a fresh transaction, may succeed without anybody doing anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Conflict { .. })
    }

    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    pub(crate) fn conflict(what: &'static str, id: impl ToString) -> Self {
        Self::Conflict { what, id: id.to_string() }
    }

    pub(crate) fn exists(what: &'static str, id: impl ToString) -> Self {
        Self::Exists { what, id: id.to_string() }
    }

    pub(crate) fn bad_row(what: &'static str, why: impl ToString) -> Self {
        Self::BadRow { what, why: why.to_string() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        use sqlx::Error as E;
        if let E::Database(told) = &source {
            let code = told.code();
            let words = told.message().to_owned();
            // SQLite tells its primary code in the low byte of the extended one; Postgres has five characters.
            let sqlite = code
                .as_deref()
                .and_then(|code| code.parse::<u32>().ok())
                .filter(|_| code.as_deref().is_some_and(|code| code.len() < 5 && !code.starts_with('0')));
            if told.is_unique_violation() {
                return Self::conflict("the database", "row");
            }
            return match (sqlite.map(|code| code & 0xff), code.as_deref()) {
                (Some(13), _) | (_, Some("53100")) => Self::Full { source },
                (Some(11 | 26), _) | (_, Some("XX001" | "XX002")) => {
                    Self::Corrupt { place: "of this server".to_owned(), detail: words }
                }
                // SQLITE_BUSY, SQLITE_LOCKED; serialization failure, deadlock, a lock not had in time.
                (Some(5 | 6), _) | (_, Some("40001" | "40P01" | "55P03")) => Self::conflict("the database", "row"),
                // The operator ended the connection, or the server is starting or stopping, or is full.
                (_, Some("57P01" | "57P02" | "57P03" | "53300" | "08000" | "08003" | "08006")) => {
                    Self::Unavailable { source }
                }
                // SQLITE_IOERR, SQLITE_CANTOPEN.
                (Some(10 | 14), _) => Self::Unavailable { source },
                _ => Self::Database { source },
            };
        }
        match source {
            E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                Self::Unavailable { source }
            }
            _ => Self::Database { source },
        }
    }
}
