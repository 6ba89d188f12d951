//! A request that a runner's key has signed.
//!
//! *Invariant:* a signature is accepted once by one server process, and never with a time more than
//! [`MAX_CLOCK_SKEW_MS`] away from ours. Everything that runners ask may be repeated harmlessly, so what
//! several servers, or one across a restart, would take twice changes nothing.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode},
};
use stockade_api::{
    error::{ApiError, Fault},
    runner::signed_bytes,
};
use stockade_domain::{Digest, Timestamp, ids::RunnerId};
use stockade_ledger::{VerifyingKey, sha256};
use stockade_store::{
    StoreError,
    sites::{self, Runner},
};

use tokio::sync::OwnedSemaphorePermit;

use super::SHIPMENT_WAIT_MS;
use crate::{
    answer::{Failure, read_body},
    app::App,
    operation::{BODY_SEALED, Operation},
};

/// How far a runner's clock may be away from ours, in milliseconds. Beyond, its requests are refused.
pub const MAX_CLOCK_SKEW_MS: u64 = 5 * 60 * 1_000;

/// How many requests of one runner are remembered. When there are more, the oldest is forgotten and nothing
/// as old as it is accepted any more.
pub const REMEMBERED_REQUESTS: usize = 512;

/// A request of a runner, proven by its key, with its whole body.
pub struct Proven {
    pub runner: Runner,
    pub body: Bytes,
    /// Given back when the request is over.
    _room: Option<OwnedSemaphorePermit>,
}

/// The requests that were accepted lately.
#[derive(Debug, Default)]
pub struct Replays {
    runners: Mutex<HashMap<RunnerId, Seen>>,
}

#[derive(Debug)]
struct Seen {
    requests: BTreeSet<(i64, Digest)>,
    /// Nothing that is not younger is accepted.
    floor: i64,
}

impl Replays {
    /// Whether this request is new; it is not from now on. Only for requests whose signature holds.
    pub fn accept(&self, runner: RunnerId, time_us: i64, request: Digest) -> bool {
        let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = runners.entry(runner).or_insert_with(|| Seen { requests: BTreeSet::new(), floor: i64::MIN });
        if time_us <= seen.floor || !seen.requests.insert((time_us, request)) {
            return false;
        }
        if seen.requests.len() > REMEMBERED_REQUESTS
            && let Some((oldest, _)) = seen.requests.pop_first()
        {
            seen.floor = oldest;
        }
        true
    }
}

impl FromRequest<Arc<App>> for Proven {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let (id, time_us, signature) = headers(request.headers())?;
        // Before the body is read: whoever is not known is not listened to.
        let mut tx = app.store.read().await?;
        let runner = match sites::runner(&mut tx, id).await {
            Ok(runner) => runner,
            Err(StoreError::NotFound { .. }) => return Err(unproven("this runner is not known here")),
            Err(error) => return Err(error.into()),
        };
        drop(tx);
        let now = app.now();
        let sent = Timestamp(time_us);
        if now.ms_since(sent).max(sent.ms_since(now)) > MAX_CLOCK_SKEW_MS {
            return Err(Failure::unauthenticated(
                "clock_skew",
                "the runner's clock is more than five minutes away from the server's",
            )
            .hint("Set both clocks (NTP)."));
        }
        let method = request.method().as_str().to_owned();
        let path = request.uri().path().to_owned();
        let operation = request.extensions().get::<&'static Operation>().copied();
        let room = room(operation, app).await?;
        let body = read_body(request).await?;
        let digest = sha256(&[&body]).to_string();
        let message = signed_bytes(&method, &path, time_us, digest.trim_start_matches("sha256:"));
        let key: VerifyingKey =
            runner.public_key.parse().map_err(|error| Failure::bug("read a runner's key", &error))?;
        if !key.verify(&message, &signature) {
            return Err(unproven("the signature does not hold"));
        }
        if !app.replays.accept(runner.id, time_us, sha256(&[&message])) {
            return Err(Failure::unauthenticated("replayed", "this request was made before")
                .hint("Sign it anew with the present time."));
        }
        Ok(Self { runner, body, _room: room })
    }
}

/// A place for a long body; short ones need none.
async fn room(operation: Option<&Operation>, app: &App) -> Result<Option<OwnedSemaphorePermit>, Failure> {
    if operation.is_none_or(|operation| operation.body <= BODY_SEALED) {
        return Ok(None);
    }
    let wait = Duration::from_millis(SHIPMENT_WAIT_MS);
    match tokio::time::timeout(wait, Arc::clone(&app.shipments).acquire_owned()).await {
        Ok(Ok(place)) => Ok(Some(place)),
        _ => Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ApiError::new(Fault::Outside, "busy", "too many runners ship at the same time"),
        )
        .hint("Try again: nothing was taken.")),
    }
}

fn unproven(why: &str) -> Failure {
    Failure::unauthenticated("bad_signature", why).hint("Enrol the runner anew if its identity was lost.")
}

fn headers(headers: &HeaderMap) -> Result<(RunnerId, i64, Vec<u8>), Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let missing = || {
        Failure::unauthenticated(
            "unsigned",
            "this is for runners: the headers stockade-runner, stockade-time and stockade-signature are needed",
        )
    };
    let runner = text("stockade-runner").and_then(|text| text.parse().ok()).ok_or_else(missing)?;
    let time = text("stockade-time").and_then(|text| text.parse().ok()).ok_or_else(missing)?;
    let signature = text("stockade-signature").and_then(stockade_api::base64::decode).ok_or_else(missing)?;
    Ok((runner, time, signature))
}

#[cfg(test)]
mod tests {
    use stockade_domain::Id;

    use super::*;

    #[test]
    fn a_request_is_accepted_once_and_memory_is_bounded() {
        let replays = Replays::default();
        let (runner, other) = (Id::from_bytes([1; 16]), Id::from_bytes([2; 16]));
        assert!(replays.accept(runner, 5, Digest([0; 32])));
        assert!(!replays.accept(runner, 5, Digest([0; 32])));
        assert!(replays.accept(runner, 5, Digest([1; 32])));
        assert!(replays.accept(other, 5, Digest([0; 32])));
        for time in 10..10 + i64::try_from(REMEMBERED_REQUESTS).unwrap() {
            assert!(replays.accept(runner, time, Digest([0; 32])));
        }
        // What was forgotten is not new: it is too old.
        assert!(!replays.accept(runner, 5, Digest([0; 32])));
        assert!(!replays.accept(runner, 4, Digest([9; 32])));
        assert_eq!(replays.runners.lock().unwrap()[&runner].requests.len(), REMEMBERED_REQUESTS);
    }
}
