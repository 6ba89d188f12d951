//! The way to the server: signed requests, and whether it is there.
//!
//! Owns the HTTP client, the signature of every request, the limits on answers, and the one notion of "the
//! server is away". It refuses to retry: whoever asks knows how long it can wait.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde::{Serialize, de::DeserializeOwned};
use stockade_api::{
    error::{ApiError, ErrorBody},
    runner::{
        Countersign, Countersigned, Enroll, Enrolled, Heartbeat, Heartbeaten, Lease, LeaseSlice, Poll, Polled, Ship,
        Shipped, Slice, TakeLease, signed_bytes,
    },
};
use stockade_domain::{Timestamp, World, ids::RunnerId};
use stockade_ledger::SigningKey;
use tokio::sync::watch;

use crate::error::chain;

/// The largest answer of the server, in bytes. A larger one is refused and counts as a defect.
pub const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// How long an ordinary request may take before the server counts as away.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How much longer than asked for a held poll may take.
pub const POLL_GRACE: Duration = Duration::from_secs(10);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server cannot be reached, or answers with its own failure. It may be back later.
    #[error("the server at {url} is away: {why}")]
    Away {
        /// Where it should be.
        url: String,
        /// What happened, without bodies.
        why: String,
    },
    /// The server understood and refused.
    #[error("the server refused: {0}")]
    Refused(ApiError),
    /// The answer cannot be read.
    #[error("the server answered {path} with something that is no answer: {why}")]
    Nonsense {
        /// What was asked.
        path: &'static str,
        /// Why it cannot be read.
        why: String,
    },
}

impl LinkError {
    /// Whether waiting may help.
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// A runner's connection to its server.
pub struct Link {
    http: reqwest::Client,
    base: String,
    world: Arc<dyn World>,
    signer: Option<(RunnerId, Arc<SigningKey>)>,
    away: watch::Sender<Option<Timestamp>>,
    back: Mutex<Option<Timestamp>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("base", &self.base)
            .field("away_since", &*self.away.borrow())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A link for a runner that has no identity yet: it can only enrol.
    pub fn anonymous(url: &str, world: Arc<dyn World>) -> Result<Self, LinkError> {
        let away = |why: String| LinkError::Away { url: url.to_owned(), why };
        let parsed = url::Url::parse(url).map_err(|e| away(e.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.username().is_empty() || parsed.password().is_some()
        {
            return Err(away("its URL must begin with http:// or https:// and hold no name or password".to_owned()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .build()
            .map_err(|e| away(e.to_string()))?;
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self { http, base, world, signer: None, away: watch::Sender::new(None), back: Mutex::new(None) })
    }

    /// The link of an enrolled runner.
    pub fn signed(url: &str, world: Arc<dyn World>, runner: RunnerId, key: Arc<SigningKey>) -> Result<Self, LinkError> {
        Ok(Self { signer: Some((runner, key)), ..Self::anonymous(url, world)? })
    }

    /// Since when the server is away; nothing while it is there. Changes can be waited for.
    pub fn away(&self) -> watch::Receiver<Option<Timestamp>> {
        self.away.subscribe()
    }

    /// Since when the server was away, if it came back and nobody has told it yet.
    pub fn untold_absence(&self) -> Option<Timestamp> {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has been told about its absence.
    pub fn absence_told(&self, since: Timestamp) {
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        if *back == Some(since) {
            *back = None;
        }
    }

    /// Enrols.
    pub async fn enroll(&self, request: &Enroll) -> Result<Enrolled, LinkError> {
        self.post("/v1/runner/enroll", request, REQUEST_TIMEOUT).await
    }

    /// Asks what is new.
    pub async fn poll(&self, request: &Poll) -> Result<Polled, LinkError> {
        self.post("/v1/runner/poll", request, Duration::from_millis(request.wait_ms) + POLL_GRACE).await
    }

    /// Asks for the right to work on a run.
    pub async fn lease(&self, request: &TakeLease) -> Result<Lease, LinkError> {
        self.post("/v1/runner/lease", request, REQUEST_TIMEOUT).await
    }

    /// Says that it is alive.
    pub async fn heartbeat(&self, request: &Heartbeat) -> Result<Heartbeaten, LinkError> {
        self.post("/v1/runner/heartbeat", request, REQUEST_TIMEOUT).await
    }

    /// Ships entries.
    pub async fn ship(&self, request: &Ship) -> Result<Shipped, LinkError> {
        self.post("/v1/runner/ship", request, REQUEST_TIMEOUT * 4).await
    }

    /// Asks for money.
    pub async fn slice(&self, request: &LeaseSlice) -> Result<Slice, LinkError> {
        self.post("/v1/runner/slice", request, REQUEST_TIMEOUT).await
    }

    /// Asks for a counter-signature.
    pub async fn countersign(&self, request: &Countersign) -> Result<Countersigned, LinkError> {
        self.post("/v1/runner/checkpoint", request, REQUEST_TIMEOUT).await
    }

    async fn post<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &'static str,
        question: &Q,
        timeout: Duration,
    ) -> Result<A, LinkError> {
        let body = serde_json::to_vec(question).map_err(|e| LinkError::Nonsense { path, why: e.to_string() })?;
        let mut request =
            self.http.post(format!("{}{path}", self.base)).timeout(timeout).header("content-type", "application/json");
        if let Some((runner, key)) = &self.signer {
            let time = self.world.now().0;
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
            let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
            let signature = key.sign(&signed_bytes("POST", path, time, &hex));
            request = request
                .header("stockade-runner", runner.to_string())
                .header("stockade-time", time.to_string())
                .header("stockade-signature", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, signature));
        }
        let answer = self.answer(path, request.body(body)).await;
        self.noticed(!matches!(answer, Err(LinkError::Away { .. })));
        answer
    }

    async fn answer<A: DeserializeOwned>(
        &self,
        path: &'static str,
        request: reqwest::RequestBuilder,
    ) -> Result<A, LinkError> {
        let away = |why: String| LinkError::Away { url: self.base.clone(), why };
        // The chain of a transport error says "connection refused" and the like; it holds no body.
        let response = request.send().await.map_err(|e| away(chain(&e)))?;
        let status = response.status();
        let mut body = BytesMut::new();
        let mut stream = response.bytes_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|e| away(chain(&e)))?;
            if body.len() + piece.len() > MAX_ANSWER {
                return Err(LinkError::Nonsense { path, why: format!("it is longer than {MAX_ANSWER} bytes") });
            }
            body.extend_from_slice(&piece);
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| LinkError::Nonsense { path, why: e.to_string() });
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { error }) if !status.is_server_error() => Err(LinkError::Refused(error)),
            Ok(ErrorBody { error }) => Err(away(error.message)),
            Err(_) if status.is_client_error() => {
                Err(LinkError::Nonsense { path, why: format!("HTTP {status} without an error body") })
            }
            Err(_) => Err(away(format!("HTTP {status}"))),
        }
    }

    fn noticed(&self, there: bool) {
        let now = self.world.now();
        self.away.send_if_modified(|away| match (*away, there) {
            (None, false) => {
                tracing::warn!(server = self.base, "the server is away: runs go on, records wait in the spool");
                *away = Some(now);
                true
            }
            (Some(since), true) => {
                let away_ms = now.ms_since(since);
                tracing::info!(server = self.base, away_ms, "the server is back after {away_ms} ms");
                *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(since);
                *away = None;
                true
            }
            _ => false,
        });
    }
}
