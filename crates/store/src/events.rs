//! The numbered lines of runs. The number that is kept and given back is the store's own, from 1 without gaps in the
//! order of arrival, so that a second runner of the same run, or the server itself, cannot collide with the first.

use stockade_domain::{EventKind, RunEvent, Timestamp, ids::RunId};

use crate::{Result, Tx};

/// The most lines of one answer.
pub const MAX_EVENTS: u32 = 1_000;

/// The lines after number `seq`, in order, at most `limit` and at most [`MAX_EVENTS`].
pub async fn after(tx: &mut Tx, run: RunId, seq: u64, limit: u32) -> Result<Vec<RunEvent>> {
    todo!()
}

/// The number of the last line, 0 if there is none.
pub async fn last(tx: &mut Tx, run: RunId) -> Result<u64> {
    todo!()
}

/// Adds a line that the server itself makes; gives its number. It changes nothing else.
pub async fn append(tx: &mut Tx, run: RunId, at: Timestamp, event: EventKind) -> Result<u64> {
    todo!()
}
