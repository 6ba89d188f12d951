//! What people answered to questions of the agent: sealed, numbered from 1 in each run.

use stockade_domain::{
    ContentRef, Timestamp,
    ids::{RunId, UserId},
};

use crate::{Result, Tx};

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its number.
    pub number: u64,
    /// What it is.
    pub content: ContentRef,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// Whose.
    pub by: UserId,
    /// When.
    pub at: Timestamp,
}

/// Adds a reply and gives its number. `Refused` if the run is over. The runner's revision grows.
pub async fn give(
    tx: &mut Tx,
    run: RunId,
    content: ContentRef,
    sealed: &[u8],
    by: UserId,
    now: Timestamp,
) -> Result<u64> {
    todo!()
}

/// All replies of a run, in order.
pub async fn list(tx: &mut Tx, run: RunId) -> Result<Vec<Reply>> {
    todo!()
}
