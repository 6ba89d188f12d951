//! What a machine can give an environment, found out by trying.

use serde::Serialize;

/// One thing that a driver wants from the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// A stable word, for example `user_namespace`; also the word for `allow_degraded`.
    pub name: String,
    /// Whether it was tried just now and worked.
    pub available: bool,
    /// How it works here, or why it does not and what to do, in a sentence.
    pub why: String,
    /// Whether an environment is refused without it (unless the configuration's `allow_degraded` names it).
    pub required: bool,
}
