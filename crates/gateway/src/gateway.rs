//! The gateway itself: what it is made of, and its two doors.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use stockade_domain::World;
use stockade_ledger::Ledger;
use stockade_policy::Engine;
use tokio_util::sync::CancellationToken;

use crate::{CallError, Caller, Finished, Limits, ModelTable, Purse, Runs};

/// What a gateway stands on.
pub struct Parts {
    /// The policy in force.
    pub policy: Arc<ArcSwap<Engine>>,
    /// Where every call is recorded.
    pub ledger: Arc<Ledger>,
    /// Where the money comes from.
    pub purse: Arc<dyn Purse>,
    /// Whose tokens are known.
    pub runs: Arc<dyn Runs>,
    /// What may be asked for.
    pub models: ModelTable,
    /// Time and randomness.
    pub world: Arc<dyn World>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("models", &self.models).finish_non_exhaustive()
    }
}

/// The gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    parts: Arc<Parts>,
}

impl Gateway {
    /// A gateway with the default limits.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self::with_limits(parts, Limits::default())
    }

    /// A gateway with other limits.
    #[must_use]
    pub fn with_limits(parts: Parts, _limits: Limits) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The routes: `POST /gateway/anthropic/v1/messages`, and below `/gateway/anthropic` everything else refused in that
    /// dialect's error shape.
    pub fn router(&self) -> axum::Router {
        axum::Router::new()
    }

    /// A call in process, on the same way as over HTTP. `request` is the body of a Messages request, streaming or not. Once
    /// `stop` is cancelled, it is as if a client had hung up: a stream is cut off, an answer in one piece is still
    /// waited for in the background, settled and recorded.
    ///
    /// # Errors
    /// [`CallError`] if nothing was sent. What went wrong afterwards is in [`Finished::failure`].
    pub async fn call(
        &self,
        _caller: Caller,
        _request: Bytes,
        _stop: CancellationToken,
    ) -> Result<Finished, CallError> {
        let _ = &self.parts;
        Err(CallError::Stopped)
    }

    /// Takes no new call and waits until every call is settled and recorded.
    pub async fn drain(&self) {}
}
