//! The gateway itself: what it is made of, and its two doors.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use stockade_domain::{World, ids::RunId};
use stockade_ledger::Ledger;
use stockade_policy::Engine;
use tokio_util::sync::CancellationToken;

use crate::{
    Approvals, CallError, Caller, Finished, Limits, ModelTable, Proof, Purse, Runs,
    exchange::{Inner, Wish},
    http_door,
    limit::Health,
    limits::STOP_GRACE,
    metrics::{Gauge, Metrics},
};

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
    /// Who is asked where policy or a content rule wants a person.
    pub approvals: Arc<dyn Approvals>,
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
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("parts", &self.inner.parts).field("limits", &self.inner.limits).finish()
    }
}

impl Gateway {
    /// A gateway with the default limits.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self::with_limits(parts, Limits::default())
    }

    /// A gateway with other limits.
    #[must_use]
    pub fn with_limits(parts: Parts, limits: Limits) -> Self {
        Self { inner: Arc::new(Inner::new(parts, limits)) }
    }

    /// What may be asked for, now.
    #[must_use]
    pub fn models(&self) -> Arc<ModelTable> {
        self.inner.models.load_full()
    }

    /// From now on this may be asked for. Calls that have begun end as they began.
    pub fn set_models(&self, models: ModelTable) {
        self.inner.models.store(Arc::new(models));
    }

    /// The routes below `/gateway`: `anthropic`, `openai/v1`, `gemini`, `bedrock`, `vertex` and `azure`, each in the form of the service
    /// of that name, with errors in its shape. The token stands where the service's own key would: `x-api-key`,
    /// `authorization: Bearer`, `api-key`, `x-goog-api-key`, `?key=`, or as the access key id of an AWS signature.
    ///
    /// Whoever listens sets `TCP_NODELAY` on what it accepts: a stream is many small writes.
    pub fn router(&self) -> axum::Router {
        http_door::router(self.inner.clone(), None)
    }

    /// The same routes for those who prove otherwise who they are.
    pub fn router_for(&self, proof: Arc<dyn Proof>) -> axum::Router {
        http_door::router(self.inner.clone(), Some(proof))
    }

    /// A call in process, on the same way as over HTTP. `request` is the body of a Messages request, streaming or not. Once
    /// `stop` is cancelled, it is as if a client had hung up: a stream is cut off, an answer in one piece is still
    /// waited for in the background, settled and recorded.
    ///
    /// # Errors
    /// [`CallError`] if nothing was sent. What went wrong afterwards is in [`Finished::failure`].
    pub async fn call(&self, caller: Caller, request: Bytes, stop: CancellationToken) -> Result<Finished, CallError> {
        let wish = Wish::own(own_headers(), request);
        let mut exchange = tokio::select! {
            begun = self.inner.begin(caller, wish) => begun?,
            () = stop.cancelled() => return Err(CallError::Stopped),
        };
        loop {
            let chunk = tokio::select! {
                chunk = exchange.body.recv() => chunk,
                () = stop.cancelled() => break,
            };
            if chunk.is_none() {
                return exchange.end.await.map_err(|_| CallError::Stopped);
            }
        }
        drop(exchange.body);
        match tokio::time::timeout(STOP_GRACE, exchange.end).await {
            Ok(Ok(finished)) => Ok(finished),
            _ => Err(CallError::Stopped),
        }
    }

    /// Forgets what was said in a run: it is over, or erased. For an erased run, its key is gone before this is called.
    pub fn forget(&self, run: RunId) {
        self.inner.capture.forget(run);
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// What an operator watches that is no count: places, and the health of providers.
    #[must_use]
    pub fn gauges(&self) -> Vec<Gauge> {
        let gauge = |name, help, labels, value| Gauge { name, help, labels, value };
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let (taken, waiting) = self.inner.fair.load();
        let mut gauges = vec![
            gauge("stockade_gateway_places_taken", "Calls at once.", vec![], whole(taken)),
            gauge("stockade_gateway_calls_waiting", "Calls that wait for a place.", vec![], whole(waiting)),
            gauge(
                "stockade_gateway_calls_asking",
                "Calls that wait for a person's answer.",
                vec![],
                whole(self.inner.waiting.count()),
            ),
        ];
        let help = "Whether a provider is asked: 0 it is, 1 one call finds out, 2 it is left alone for a while.";
        gauges.extend(self.inner.breakers.states(self.inner.parts.world.now()).into_iter().map(
            |(provider, key, health)| {
                let labels = vec![("provider", provider.to_string()), ("key", key.to_string())];
                let value = match health {
                    Health::Well => 0,
                    Health::Probing => 1,
                    Health::Ill(_) => 2,
                };
                gauge("stockade_gateway_breaker_state", help, labels, value)
            },
        ));
        gauges
    }

    /// Takes no new call, lets none wait for a person any longer, and waits until every call is settled and recorded.
    pub async fn drain(&self) {
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// What our own loop sends besides the body.
fn own_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("stockade/", env!("CARGO_PKG_VERSION"))));
    headers
}
