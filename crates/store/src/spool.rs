//! The intake of runners' spools: every entry exactly once, in order, without gaps.

use stockade_domain::{
    ContentRef, Nanos, RunEvent, Timestamp,
    ids::{ModelCallId, RunId, RunnerId, SliceId},
};

use crate::{Result, Tx};

/// The most entries of one shipment.
pub const MAX_ENTRIES: usize = 1_000;

/// One line of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A ledger record.
    Record {
        /// Its canonical bytes.
        canonical: String,
    },
    /// A sealed piece of content.
    Content {
        /// Its run.
        run: RunId,
        /// What it is.
        content: ContentRef,
        /// The sealed bytes.
        sealed: Vec<u8>,
    },
    /// A line of a run.
    Event {
        /// The fence of the lease under which it happened.
        fence: u64,
        /// The line.
        line: RunEvent,
    },
    /// Spending.
    Budget(BudgetEntry),
}

/// What a runner did with leased money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetEntry {
    /// A slice has arrived.
    Leased {
        /// Which.
        slice: SliceId,
        /// For which run.
        run: RunId,
        /// How much.
        amount: Nanos,
    },
    /// Money is set aside for a call.
    Reserved {
        /// Of which slice.
        slice: SliceId,
        /// For which call.
        call: ModelCallId,
        /// How much.
        amount: Nanos,
    },
    /// The call is over.
    Settled {
        /// Of which slice.
        slice: SliceId,
        /// Which call.
        call: ModelCallId,
        /// How much was spent.
        spent: Nanos,
    },
    /// What is left goes back.
    Returned {
        /// Of which slice.
        slice: SliceId,
        /// How much.
        amount: Nanos,
    },
}

/// What came of a shipment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ingested {
    /// The position that is expected next.
    pub next: u64,
    /// How many entries were new.
    pub taken: u64,
    /// How many of those were kept as refused and not applied (stale fence, unknown run, not allowed in this state).
    pub refused: u64,
    /// Runs that have new events: whoever waits for them may be woken.
    pub runs: Vec<RunId>,
}

/// An entry that was kept but not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Whose.
    pub runner: RunnerId,
    /// Where in its spool.
    pub position: u64,
    /// Of which run.
    pub run: Option<RunId>,
    /// Why: a fixed word and, after a colon, which.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// Takes the next entries of a runner's spool. What is there already is passed over; if `first` is beyond what is
/// expected, nothing is taken and `next` says where to begin. An entry that no server can ever take (a record out of
/// order, not canonical, or of another producer) is `BadEntry` and nothing of the shipment is taken.
pub async fn ingest(tx: &mut Tx, runner: RunnerId, first: u64, entries: &[Entry], now: Timestamp) -> Result<Ingested> {
    todo!()
}

/// The position that is expected next from a runner; 0 at first.
pub async fn next(tx: &mut Tx, runner: RunnerId) -> Result<u64> {
    todo!()
}

/// The newest refused entries, at most `limit`.
pub async fn refusals(tx: &mut Tx, limit: u32) -> Result<Vec<Refusal>> {
    todo!()
}
