//! Money, as the gateway sees it.

use async_trait::async_trait;
use stockade_domain::{
    BudgetScope, Nanos,
    ids::{ModelCallId, RunId},
};
use stockade_ledger::LogEntry;

/// Where the money for calls comes from. The runner implements it over leased slices.
///
/// What is to be durable is given back as entries of the log: the gateway writes them in the same batch as the record that they
/// belong to, so that a call costs one append at its beginning and one at its end, and no crash comes between money and record.
///
/// *Invariant:* from a successful `hold` until `spent` (or `release`) of the same call, `amount` and what `top_up` added is set aside
/// and nobody else can spend it. The gateway ends every call that it held money for, exactly once with success, unless the process
/// dies first; then the runner charges all that was set aside durably.
#[async_trait]
pub trait Purse: Send + Sync {
    /// Sets `amount` aside for a call to the model of that name. Before anything is sent, the entries must be durable; if they cannot be, [`release`](Self::release).
    async fn hold(
        &self,
        run: RunId,
        model: &str,
        call: ModelCallId,
        amount: Nanos,
    ) -> Result<Vec<LogEntry>, PurseError>;

    /// The entries of [`hold`](Self::hold) did not become durable: nothing was sent, and the money is free again.
    fn release(&self, call: ModelCallId);

    /// Whether there is room for the records of another call, be it refused or free. Asked before anything is decided.
    ///
    /// # Errors
    /// [`PurseError::Unavailable`].
    fn room(&self) -> Result<(), PurseError> {
        Ok(())
    }

    /// Whether [`Purse::top_up`] can be asked. Where it cannot, every call holds all that it may cost from the beginning.
    fn tops_up(&self) -> bool {
        false
    }

    /// Sets `more` aside for a call that is under way, durably when this returns, as part of what is held for it.
    ///
    /// # Errors
    /// As `hold`. What was set aside before stays so.
    async fn top_up(&self, call: ModelCallId, more: Nanos) -> Result<(), PurseError> {
        let _ = (call, more);
        Err(PurseError::Unavailable("this purse takes nothing in addition".to_owned()))
    }

    /// So much of what was set aside is spent: the entries that say so, to be written with the end of the call. `spent` is never
    /// more than was set aside. Asked again, it gives the same again; the money stays set aside until
    /// [`spent`](Self::spent).
    fn spend(&self, call: ModelCallId, spent: Nanos) -> Vec<LogEntry>;

    /// The entries of [`spend`](Self::spend) are durable: what was not spent is free again.
    fn spent(&self, call: ModelCallId);
}

/// Why there is no money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurseError {
    /// A budget has not that much left. Final.
    #[error("the budget of this {scope} has not that much left")]
    Exhausted {
        /// Whose.
        scope: BudgetScope,
    },
    /// It cannot be said at the moment (the server is away, the disk is full). What cannot be reserved is not called.
    #[error("the budget cannot be reached at the moment: {0}")]
    Unavailable(String),
}
