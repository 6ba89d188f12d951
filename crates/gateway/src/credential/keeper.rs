//! Tokens that are kept while they are good and renewed in time.
//!
//! *Invariants:* at most one renewal at a time; a token is never handed out after its end; nobody waits while the old one is
//! good and taken; a renewal does not stop because whoever asked for it has gone; when a file that it came from changes, the next
//! caller gets what the new file gives.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use stockade_domain::Timestamp;

use super::error::CredentialError;

/// A token is renewed when a quarter of its life is left, at most this much, in seconds.
pub const RENEW_BEFORE: u64 = 600;
/// A token is not used in its last seconds: a request takes its time.
pub const UNUSABLE_BEFORE: u64 = 15;
/// The pause after a renewal that failed or brought nothing new, while the old token is good, in seconds.
pub const RETRY_AFTER: u64 = 30;
/// With no good token, how long a failure is answered without asking again, in milliseconds.
pub const FAILURE_KEPT_MS: u64 = 2_000;

/// Where tokens come from.
#[async_trait]
pub(crate) trait Source<T>: fmt::Debug + Send + Sync {
    /// The files that the token depends on.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// A new token.
    async fn fetch(&self, now: Timestamp) -> Result<Fresh<T>, CredentialError>;
}

/// A new token, and its end if it has one.
pub(crate) struct Fresh<T> {
    pub(crate) value: T,
    pub(crate) expires: Option<Timestamp>,
}

/// A file as it was: nothing if it was not there.
type Stamp = Option<(Option<SystemTime>, u64)>;

struct Held<T> {
    value: Arc<T>,
    stamps: Vec<Stamp>,
    renew_at: Option<Timestamp>,
    unusable_at: Option<Timestamp>,
    expires: Option<Timestamp>,
    /// Whether it was shown and not taken.
    refused: bool,
}

struct Failure {
    at: Timestamp,
    stamps: Vec<Stamp>,
    error: CredentialError,
}

struct State<T> {
    held: Option<Held<T>>,
    failure: Option<Failure>,
    attempts: u64,
    /// When a token was not taken by whoever it was shown to.
    refused: Option<Timestamp>,
}

struct Inner<T> {
    source: Box<dyn Source<T>>,
    files: Vec<PathBuf>,
    state: Mutex<State<T>>,
    gate: Arc<tokio::sync::Mutex<()>>,
}

/// Keeps one token. Cheap to clone.
pub(crate) struct Keeper<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Keeper<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T> fmt::Debug for Keeper<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("source", &self.inner.source).finish_non_exhaustive()
    }
}

/// A token, and its end if it has one.
pub(crate) type Kept<T> = (Arc<T>, Option<Timestamp>);

enum Look<T> {
    Good(Kept<T>),
    /// Good, but a new one is due.
    Due(Kept<T>),
    /// A new one is needed now.
    Needed,
    /// It was tried a moment ago.
    Failed(CredentialError),
}

impl<T: Send + Sync + 'static> Keeper<T> {
    pub(crate) fn new(source: impl Source<T> + 'static) -> Self {
        let files = source.files();
        let state = Mutex::new(State { held: None, failure: None, attempts: 0, refused: None });
        Self { inner: Arc::new(Inner { source: Box::new(source), files, state, gate: Arc::default() }) }
    }

    /// The files that the token depends on.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.inner.files.clone()
    }

    /// A token that is good at `now`.
    pub(crate) async fn get(&self, now: Timestamp) -> Result<Kept<T>, CredentialError> {
        match self.inner.look(now) {
            Look::Good(kept) => return Ok(kept),
            Look::Failed(error) => return Err(error),
            Look::Due(kept) => {
                if let Ok(turn) = self.inner.gate.clone().try_lock_owned() {
                    tokio::spawn(renew(self.inner.clone(), now, turn));
                }
                return Ok(kept);
            }
            Look::Needed => {}
        }
        let seen = self.inner.state().attempts;
        let turn = self.inner.gate.clone().lock_owned().await;
        if self.inner.state().attempts != seen {
            // Somebody else's renewal ended while we waited; whatever came of it is for us too.
            match self.inner.look(now) {
                Look::Good(kept) | Look::Due(kept) => return Ok(kept),
                Look::Failed(error) => return Err(error),
                Look::Needed => {}
            }
            if let Some(failure) = &self.inner.state().failure {
                return Err(failure.error.clone());
            }
        }
        let renewal = tokio::spawn(renew(self.inner.clone(), now, turn));
        if renewal.await.is_err() {
            return Err(CredentialError::Request("the renewal of its credential broke off"));
        }
        match self.inner.look(now) {
            Look::Good(kept) | Look::Due(kept) => Ok(kept),
            Look::Failed(error) => Err(error),
            Look::Needed => Err(CredentialError::Request("the token that came is over already; is this clock right?")),
        }
    }

    /// This token was shown and not taken, although it is not over: the next caller waits for a new one, and only if there is none
    /// gets this one again. Whether there may be a better one: where a new token is not taken either, another is not asked for
    /// before [`RETRY_AFTER`] seconds.
    pub(crate) fn refused(&self, shown: &Arc<T>, now: Timestamp) -> bool {
        let state = &mut *self.inner.state();
        // Somebody who was refused before us may have brought a new one.
        let Some(held) = state.held.as_mut().filter(|held| Arc::ptr_eq(&held.value, shown)) else { return true };
        if held.refused {
            return state.failure.is_none();
        }
        if state.refused.is_some_and(|at| now < at.plus_seconds(RETRY_AFTER)) {
            return false;
        }
        held.refused = true;
        (state.refused, state.failure) = (Some(now), None);
        true
    }

    /// Waits until no renewal is on its way.
    #[cfg(test)]
    pub(crate) async fn settled(&self) {
        drop(self.inner.gate.lock().await);
    }
}

/// `_turn` is held as long as this runs: it is what makes it the only one.
async fn renew<T: Send + Sync + 'static>(
    inner: Arc<Inner<T>>,
    now: Timestamp,
    _turn: tokio::sync::OwnedMutexGuard<()>,
) {
    // Before the files are read: a change during the reading is seen by the next caller.
    let stamps = inner.stamps();
    let fetched = inner.source.fetch(now).await;
    let mut state = inner.state();
    state.attempts = state.attempts.wrapping_add(1);
    match fetched {
        Ok(fresh) => {
            let life_s = fresh.expires.map(|end| end.ms_since(now) / 1_000);
            let before = life_s.map(|life| RENEW_BEFORE.min(life / 4)).unwrap_or_default();
            let renew_at = fresh.expires.map(|end| earlier(end, before).max(now.plus_seconds(RETRY_AFTER)));
            let spare = life_s.map(|life| UNUSABLE_BEFORE.min(life / 4)).unwrap_or_default();
            let unusable_at = fresh.expires.map(|end| earlier(end, spare));
            let value = Arc::new(fresh.value);
            state.held = Some(Held { value, stamps, renew_at, unusable_at, expires: fresh.expires, refused: false });
            state.failure = None;
        }
        Err(error) => {
            tracing::warn!(error = %crate::upstream::chain(&error), "a provider's credential cannot be renewed");
            state.failure = Some(Failure { at: now, stamps, error });
        }
    }
}

fn earlier(moment: Timestamp, seconds: u64) -> Timestamp {
    let us = i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    Timestamp(moment.0.saturating_sub(us))
}

impl<T> Inner<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: &PathBuf| fs::metadata(path).ok().map(|about| (about.modified().ok(), about.len()));
        self.files.iter().map(stamp).collect()
    }

    fn look(&self, now: Timestamp) -> Look<T> {
        let stamps = self.stamps();
        let state = self.state();
        let failure = state.failure.as_ref().filter(|failure| failure.stamps == stamps);
        let good = state.held.as_ref().filter(|held| held.unusable_at.is_none_or(|end| now < end));
        let Some(held) = good else {
            return match failure {
                Some(failure) if now.ms_since(failure.at) < FAILURE_KEPT_MS => Look::Failed(failure.error.clone()),
                _ => Look::Needed,
            };
        };
        let kept = (held.value.clone(), held.expires);
        if failure.is_some_and(|failure| now < failure.at.plus_seconds(RETRY_AFTER)) {
            return Look::Good(kept);
        }
        if held.refused || held.stamps != stamps {
            return Look::Needed;
        }
        if held.renew_at.is_some_and(|at| now >= at) { Look::Due(kept) } else { Look::Good(kept) }
    }
}
