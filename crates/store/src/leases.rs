//! The time-limited right to work on a run. Its fence number grows with every lease of the run.

use stockade_domain::{
    Refused, Timestamp,
    ids::{RunId, RunnerId},
};

use crate::{
    Result, StoreError, Tx, runs,
    sql::{ask, statements},
};

statements! {
    LEASE_RUN = "UPDATE runs SET fence = fence + 1, \
                 fence_since = CASE WHEN lease_runner = $2 THEN fence_since ELSE fence + 1 END, lease_runner = $2, \
                 lease_until = $3, updated_at = $4, version = version + 1 WHERE id = $1 AND runner = $2 \
                 AND environment IS NOT NULL \
                 AND state IN ('queued', 'preparing', 'working', 'waiting_approval', 'waiting_input')";
    RENEW_LEASE = "UPDATE runs SET lease_until = $4, updated_at = $5 WHERE id = $1 AND lease_runner = $2 \
                   AND fence = $3 AND runner = $2 \
                   AND state IN ('queued', 'preparing', 'working', 'waiting_approval', 'waiting_input')";
    WHICH_LEASES_RAN_OUT = "SELECT id, lease_runner, fence, lease_until FROM runs WHERE lease_until < $1 \
                            AND lease_runner IS NOT NULL \
                            AND state IN ('queued', 'preparing', 'working', 'waiting_approval', 'waiting_input') \
                            ORDER BY lease_until LIMIT $2";
    END_LEASE = "UPDATE runs SET lease_until = NULL, version = version + 1 \
                 WHERE id = $1 AND fence = $2 AND lease_until < $3";
    MAY_THIS_BE_WRITTEN = "UPDATE runs SET fence_seen = $3, updated_at = $4 WHERE id = $1 AND lease_runner = $2 \
                           AND fence_since <= $3 AND fence >= $3 AND fence_seen <= $3";
    MAY_THIS_BE_ASKED = "UPDATE runs SET updated_at = $3 WHERE id = $1 AND kind = 'personal' \
                         AND site = (SELECT n.site FROM runners n WHERE n.id = $2)";
}

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
    if tx.run(ask!(LEASE_RUN, run, runner, now.plus_ms(ttl_ms), now)).await? == 1 {
        return Ok(runs::get(tx, run).await?.fence);
    }
    let found = runs::get(tx, run).await?;
    if found.runner == Some(runner) && found.state.is_final() {
        return Err(Refused { what: "a run", event: "be leased".to_owned(), state: found.state.to_string() }.into());
    }
    Err(StoreError::NoLease { run, runner })
}

/// Renews leases by run and fence; the first list were renewed, the second are lost.
pub async fn renew(
    tx: &mut Tx,
    runner: RunnerId,
    leases: &[(RunId, u64)],
    ttl_ms: u64,
    now: Timestamp,
) -> Result<(Vec<RunId>, Vec<RunId>)> {
    // In one order, so that two heartbeats never wait for each other.
    let mut leases = leases.to_vec();
    leases.sort_unstable();
    let (mut renewed, mut lost) = (Vec::new(), Vec::new());
    for (run, fence) in leases {
        match tx.run(ask!(RENEW_LEASE, run, runner, fence, now.plus_ms(ttl_ms), now)).await? {
            0 => lost.push(run),
            _ => renewed.push(run),
        }
    }
    Ok((renewed, lost))
}

/// Leases that ran out before `now` on runs that are not over, longest ago first.
pub async fn expired(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<Expired>> {
    let rows = tx.all(ask!(WHICH_LEASES_RAN_OUT, now, limit)).await?;
    rows.iter()
        .map(|row| {
            Ok(Expired {
                run: row.word("id")?,
                runner: row.word("lease_runner")?,
                fence: row.count("fence")?,
                since: row.at("lease_until")?,
            })
        })
        .collect()
}

/// Marks an expired lease as ended, if it still has this fence and was not renewed. The run stays where it is: its
/// runner takes a new lease when it is back. True if it did.
pub async fn clear(tx: &mut Tx, run: RunId, fence: u64, now: Timestamp) -> Result<bool> {
    Ok(tx.run(ask!(END_LEASE, run, fence, now)).await? == 1)
}

/// Whether what happened under this fence may still be written, and locks the run if so. Of the leases that one runner
/// had one after the other all are good (its spool may lag behind), but never an older one after a newer one, and none
/// from before another runner had the run.
pub(crate) async fn admits(tx: &mut Tx, runner: RunnerId, run: RunId, fence: u64, now: Timestamp) -> Result<bool> {
    Ok(tx.run(ask!(MAY_THIS_BE_WRITTEN, run, runner, fence, now)).await? == 1)
}

/// Whether this runner may ask people about a call of this run, which nobody leases because it is a person's own; locks the run
/// if so.
pub(crate) async fn admits_question(tx: &mut Tx, runner: RunnerId, run: RunId, now: Timestamp) -> Result<bool> {
    Ok(tx.run(ask!(MAY_THIS_BE_ASKED, run, runner, now)).await? == 1)
}
