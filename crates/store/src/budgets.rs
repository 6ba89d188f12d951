//! Money. *Invariant:* for every budget, what was spent in the period plus what is leased out never passes the limit:
//! not by concurrency, not by a crash, not by a second server.

use stockade_domain::{
    BudgetScope, Nanos, Period, Timestamp,
    ids::{BudgetId, RunId, RunnerId, SliceId},
};

use crate::{Result, Tx};

/// A budget, in its present period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Which.
    pub id: BudgetId,
    /// Whose spending.
    pub scope: BudgetScope,
    /// The identifier of the organization, project, user or run, as text.
    pub subject: String,
    /// When it starts again.
    pub period: Period,
    /// The most.
    pub limit: Nanos,
    /// Settled in this period.
    pub spent: Nanos,
    /// With runners, not yet settled.
    pub leased: Nanos,
    /// When this period began (the epoch for `Total`).
    pub period_start: Timestamp,
}

/// What a runner gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// Which slice.
    pub slice: SliceId,
    /// How much: at least `need`, at most `want`; 0 if some budget has not that much left.
    pub amount: Nanos,
    /// If 0: the scope of the budget that is used up.
    pub exhausted: Option<BudgetScope>,
}

/// What a runner asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSlice {
    /// Chosen by the runner: a repeated request gives the same slice.
    pub slice: SliceId,
    /// For which run.
    pub run: RunId,
    /// At least.
    pub need: Nanos,
    /// Conveniently.
    pub want: Nanos,
}

/// Sets the limit of a scope, subject and period; makes the budget if there is none (then `id` is its identifier, and
/// what was already spent and leased in the present period counts). A limit below what is spent holds from now on.
pub async fn set(
    tx: &mut Tx,
    id: BudgetId,
    scope: BudgetScope,
    subject: &str,
    period: Period,
    limit: Nanos,
    now: Timestamp,
) -> Result<Budget> {
    todo!()
}

/// One budget. A period that is over shows as new.
pub async fn get(tx: &mut Tx, id: BudgetId, now: Timestamp) -> Result<Budget> {
    todo!()
}

/// Budgets; without those of runs unless a run is given.
pub async fn list(tx: &mut Tx, run: Option<RunId>, now: Timestamp) -> Result<Vec<Budget>> {
    todo!()
}

/// Leases money for a run to the runner that it is placed on (`NoLease` otherwise), from every budget that applies at
/// once. Idempotent by `slice`.
pub async fn lease_slice(tx: &mut Tx, runner: RunnerId, ask: &LeaseSlice, now: Timestamp) -> Result<Leased> {
    todo!()
}

/// Takes back what is left of slices whose run is over and whose runner has told all its spending (an event `spent`
/// after the last lease). Gives how much, at most `limit` slices.
pub async fn reclaim(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Nanos> {
    todo!()
}
