//! Who acts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::{RunId, RunnerId, ServerId, UserId};

/// Who wants to do something, proven by whoever made this value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Principal {
    /// A person.
    User {
        /// Who.
        id: UserId,
        /// What the person may be in the organization, sorted.
        roles: Vec<Role>,
    },
    /// An agent, working in one run for one person.
    Agent {
        /// The run it works in.
        run: RunId,
        /// The person it works for.
        owner: UserId,
    },
    /// A runner, proven by its key.
    Runner {
        /// Which.
        id: RunnerId,
    },
    /// A server's own reconcilers.
    Server {
        /// Which.
        id: ServerId,
    },
}

impl Principal {
    /// The word for the kind, as in records and policies.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::User { .. } => "user",
            Self::Agent { .. } => "agent",
            Self::Runner { .. } => "runner",
            Self::Server { .. } => "server",
        }
    }

    /// The identifier as text: the user's, the runner's, the server's; for an agent, its run's.
    pub fn id(&self) -> String {
        match self {
            Self::User { id, .. } => id.to_string(),
            Self::Agent { run, .. } => run.to_string(),
            Self::Runner { id } => id.to_string(),
            Self::Server { id } => id.to_string(),
        }
    }

    /// The person behind it, if there is one.
    pub const fn person(&self) -> Option<UserId> {
        match self {
            Self::User { id, .. } => Some(*id),
            Self::Agent { owner, .. } => Some(*owner),
            Self::Runner { .. } | Self::Server { .. } => None,
        }
    }
}

/// What a person may be in the organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the installation.
    Admin,
    /// Starts tasks and works with their results.
    Developer,
    /// Says yes or no.
    Approver,
    /// Reads the record.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Developer, Self::Approver, Self::Auditor];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
        }
    }
}

/// How far an agent may go without a person: 1 in the loop, 2 on the loop, 3 orchestrator, 4 outside the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Level(u8);

/// A number that is no autonomy level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no autonomy level: choose 1 (in the loop), 2 (on the loop), 3 (orchestrator) or 4 (outside the loop)"
)]
pub struct LevelError(pub String);

impl Level {
    /// Every change and command waits for a person.
    pub const IN_THE_LOOP: Self = Self(1);
    /// The agent works; a person says yes to the result.
    pub const ON_THE_LOOP: Self = Self(2);
    /// The agent opens changes by itself.
    pub const ORCHESTRATOR: Self = Self(3);
    /// No person is asked.
    pub const OUTSIDE_THE_LOOP: Self = Self(4);

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Level {
    type Error = LevelError;
    fn try_from(n: u8) -> Result<Self, LevelError> {
        if (1..=4).contains(&n) { Ok(Self(n)) } else { Err(LevelError(n.to_string())) }
    }
}
impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        level.0
    }
}
impl FromStr for Level {
    type Err = LevelError;
    fn from_str(text: &str) -> Result<Self, LevelError> {
        text.parse::<u8>().map_err(|_| LevelError(text.to_owned()))?.try_into()
    }
}
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
