//! Policy bundles: numbered from 1, never changed.

use stockade_domain::{Timestamp, ids::UserId};

use crate::{Result, Tx};

/// A bundle as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its number.
    pub number: u64,
    /// Its source.
    pub text: String,
    /// Who put it into force; nobody for the first.
    pub by: Option<UserId>,
    /// Since when.
    pub created_at: Timestamp,
}

/// Puts a new bundle into force and gives its number. If `after` is given and the current number is another:
/// `Conflict`. Every runner's revision grows.
pub async fn put(tx: &mut Tx, after: Option<u64>, text: &str, by: Option<UserId>, now: Timestamp) -> Result<u64> {
    todo!()
}

/// The one in force.
pub async fn current(tx: &mut Tx) -> Result<Bundle> {
    todo!()
}

/// One by its number.
pub async fn get(tx: &mut Tx, number: u64) -> Result<Bundle> {
    todo!()
}

/// All of them, newest first, at most `limit`.
pub async fn list(tx: &mut Tx, limit: u32) -> Result<Vec<Bundle>> {
    todo!()
}
