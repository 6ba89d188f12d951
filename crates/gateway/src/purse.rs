//! Money, as the gateway sees it.

use async_trait::async_trait;
use stockade_domain::{
    BudgetScope, Nanos,
    ids::{ModelCallId, RunId},
};

/// Where the money for calls comes from. The runner implements it over leased slices.
///
/// *Invariant:* between a successful `reserve` and the `settle` of the same call, `amount` is set aside and nobody else can
/// spend it. The gateway settles every call that it reserved, exactly once with success, unless the process dies first;
/// then the runner charges the whole reservation.
#[async_trait]
pub trait Purse: Send + Sync {
    /// Sets `amount` aside, durably.
    async fn reserve(&self, run: RunId, call: ModelCallId, amount: Nanos) -> Result<(), PurseError>;

    /// Whether [`Purse::top_up`] can be asked. Where it cannot, every call holds all that it may cost from the beginning.
    fn tops_up(&self) -> bool {
        false
    }

    /// Sets `more` aside for a call that is under way, durably, as part of the same reservation.
    ///
    /// # Errors
    /// As `reserve`. What was set aside before stays so.
    async fn top_up(&self, call: ModelCallId, more: Nanos) -> Result<(), PurseError> {
        let _ = (call, more);
        Err(PurseError::Unavailable("this purse takes nothing in addition".to_owned()))
    }

    /// So much of what was set aside is spent, the rest is free again. `spent` is never more than was reserved. After an
    /// error the gateway tries again, so a repetition must be harmless.
    async fn settle(&self, call: ModelCallId, spent: Nanos) -> Result<(), PurseError>;
}

/// Why there is no money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurseError {
    /// A budget has not that much left. Final.
    #[error("the budget of this {scope} is used up")]
    Exhausted {
        /// Whose.
        scope: BudgetScope,
    },
    /// It cannot be said at the moment (the server is away, the disk is full). What cannot be reserved is not called.
    #[error("the budget cannot be reached at the moment: {0}")]
    Unavailable(String),
}
