//! The time-limited right to work on a run. Its fence number grows with every lease of the run.

use stockade_domain::{
    Timestamp,
    ids::{RunId, RunnerId},
};

use crate::{Result, Tx};

/// A lease whose time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Of which run.
    pub run: RunId,
    /// Whose.
    pub runner: RunnerId,
    /// Its number.
    pub fence: u64,
    /// Since when.
    pub since: Timestamp,
}

/// Leases a run to the runner it is placed on; gives the fence. `NoLease` if it is placed elsewhere, `Refused` if it is over.
pub async fn take(tx: &mut Tx, runner: RunnerId, run: RunId, ttl_ms: u64, now: Timestamp) -> Result<u64> {
    todo!()
}

/// Renews leases by run and fence; the first list were renewed, the second are lost.
pub async fn renew(
    tx: &mut Tx,
    runner: RunnerId,
    leases: &[(RunId, u64)],
    ttl_ms: u64,
    now: Timestamp,
) -> Result<(Vec<RunId>, Vec<RunId>)> {
    todo!()
}

/// Leases that ran out before `now` on runs that are not over, longest ago first.
pub async fn expired(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<Expired>> {
    todo!()
}

/// Marks an expired lease as ended, if it still has this fence and was not renewed. The run stays where it is: its
/// runner takes a new lease when it is back. True if it did.
pub async fn clear(tx: &mut Tx, run: RunId, fence: u64, now: Timestamp) -> Result<bool> {
    todo!()
}
