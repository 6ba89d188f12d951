//! Places for calls at once, given fairly.
//!
//! When all places are taken, calls wait in a queue of their own for each person, and a place that becomes free goes to the
//! next person in turn: whoever sends a thousand calls waits behind itself, not everybody behind it.
//!
//! *Invariants:* no bound is ever passed; no place is lost, whenever a waiting call is dropped; nobody waits while a place
//! stands free that it might have; while somebody waits and might be served, each other person is served at most once.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use stockade_domain::ids::UserId;
use tokio::sync::oneshot;

/// The longest time after which a busy gateway asks to be tried again, in seconds.
const RETRY_MOST: u64 = 30;

/// The bounds of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallBounds {
    /// Calls at once, of everybody.
    pub all: usize,
    /// Calls at once, of this person.
    pub principal: usize,
    /// Calls at once, of everybody for this model.
    pub model: usize,
    /// Calls of this person that may wait.
    pub queue: usize,
    /// Calls of everybody that may wait.
    pub queue_all: usize,
}

/// There was no place, and there is none in sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many model calls at once{}: try again in {retry_after_ms} ms", if *.own { " for you" } else { "" })]
pub struct Busy {
    /// Whether the bound is the person's own, so that it can do something about it.
    pub own: bool,
    /// When to try again.
    pub retry_after_ms: u64,
}

/// The places.
#[derive(Debug, Clone, Default)]
pub struct Fair {
    state: Arc<Mutex<State>>,
}

/// A place. Given back when dropped.
#[must_use = "a place that is dropped is given back"]
pub struct Place {
    state: Arc<Mutex<State>>,
    who: UserId,
    model: Arc<str>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("who", &self.who).field("model", &self.model).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.leave(self.who, &self.model);
        state.hand_out();
    }
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    waiting: usize,
    ticket: u64,
    models: HashMap<Arc<str>, usize>,
    people: HashMap<UserId, Person>,
    /// Those who wait, the next one first.
    turn: VecDeque<UserId>,
}

#[derive(Debug, Default)]
struct Person {
    taken: usize,
    queue: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    model: Arc<str>,
    bounds: CallBounds,
    told: oneshot::Sender<()>,
}

/// A call that waits. Dropped, it leaves the queue, or gives back the place that it was given and did not see.
struct Waiting {
    state: Arc<Mutex<State>>,
    who: UserId,
    model: Arc<str>,
    ticket: u64,
    over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = lock(&self.state);
        if !state.forget(self.who, self.ticket) {
            state.leave(self.who, &self.model);
            state.hand_out();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fair {
    /// A place for a call. If there is none, waits for one until `patience` is over: usually a sleep.
    ///
    /// # Errors
    /// [`Busy`] if too many wait already, or patience was over.
    pub async fn acquire(
        &self,
        who: UserId,
        model: &str,
        bounds: CallBounds,
        patience: impl Future<Output = ()>,
    ) -> Result<Place, Busy> {
        let (mut waiting, told) = {
            let mut state = lock(&self.state);
            let model = state.name(model);
            let place = || Place { state: Arc::clone(&self.state), who, model: Arc::clone(&model) };
            // Whoever waits could not be served the last time that something became free: this call passes nobody by.
            if state.fits(who, &model, bounds) {
                state.enter(who, &model);
                return Ok(place());
            }
            let (tell, told) = oneshot::channel();
            let ticket = state.wait(who, Arc::clone(&model), bounds, tell)?;
            (Waiting { state: Arc::clone(&self.state), who, model, ticket, over: false }, told)
        };
        tokio::select! {
            biased;
            told = told => {
                // The sender is not dropped before it has told.
                debug_assert!(told.is_ok());
                waiting.over = true;
                Ok(Place { state: Arc::clone(&waiting.state), who, model: Arc::clone(&waiting.model) })
            }
            () = patience => Err(lock(&self.state).busy(who, bounds)),
        }
    }

    /// How many places are taken, and how many calls wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.taken, state.waiting)
    }
}

impl State {
    /// The model's name as it is shared.
    fn name(&self, model: &str) -> Arc<str> {
        self.models.get_key_value(model).map_or_else(|| model.into(), |(name, _)| Arc::clone(name))
    }

    fn fits(&self, who: UserId, model: &str, bounds: CallBounds) -> bool {
        self.taken < bounds.all
            && self.models.get(model).copied().unwrap_or(0) < bounds.model
            && self.people.get(&who).map_or(0, |person| person.taken) < bounds.principal
    }

    fn enter(&mut self, who: UserId, model: &Arc<str>) {
        self.taken += 1;
        *self.models.entry(Arc::clone(model)).or_default() += 1;
        self.people.entry(who).or_default().taken += 1;
    }

    fn leave(&mut self, who: UserId, model: &str) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(taken) = self.models.get_mut(model) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                self.models.remove(model);
            }
        }
        if let Some(person) = self.people.get_mut(&who) {
            person.taken = person.taken.saturating_sub(1);
            self.tidy(who);
        }
    }

    /// Forgets whoever has no place and does not wait.
    fn tidy(&mut self, who: UserId) {
        if self.people.get(&who).is_some_and(|person| person.taken == 0 && person.queue.is_empty()) {
            self.people.remove(&who);
        }
    }

    fn wait(
        &mut self,
        who: UserId,
        model: Arc<str>,
        bounds: CallBounds,
        told: oneshot::Sender<()>,
    ) -> Result<u64, Busy> {
        let mine = self.people.get(&who).map_or(0, |person| person.queue.len());
        if mine >= bounds.queue || self.waiting >= bounds.queue_all {
            return Err(self.busy(who, bounds));
        }
        self.ticket += 1;
        self.waiting += 1;
        if mine == 0 {
            self.turn.push_back(who);
        }
        self.people.entry(who).or_default().queue.push_back(Waiter { ticket: self.ticket, model, bounds, told });
        Ok(self.ticket)
    }

    /// Takes a call out of its queue. False if it is not there: then it has a place.
    fn forget(&mut self, who: UserId, ticket: u64) -> bool {
        let Some(person) = self.people.get_mut(&who) else { return false };
        let Some(at) = person.queue.iter().position(|waiter| waiter.ticket == ticket) else { return false };
        person.queue.remove(at);
        self.waiting -= 1;
        if person.queue.is_empty() {
            self.turn.retain(|other| *other != who);
            self.tidy(who);
        }
        true
    }

    /// Gives what is free to those who wait, in turn. Of one person's calls, the first goes that a place is free for.
    fn hand_out(&mut self) {
        let mut at = 0;
        while let Some(who) = self.turn.get(at).copied() {
            let queue = self.people.get(&who).map(|person| &person.queue);
            let next = queue.and_then(|queue| queue.iter().position(|w| self.fits(who, &w.model, w.bounds)));
            let waiter = next.and_then(|next| self.people.get_mut(&who)?.queue.remove(next));
            let Some(waiter) = waiter else {
                at += 1;
                continue;
            };
            self.waiting -= 1;
            self.turn.remove(at);
            if self.people.get(&who).is_some_and(|person| !person.queue.is_empty()) {
                self.turn.push_back(who);
            }
            self.enter(who, &waiter.model);
            // If the call is being dropped at this moment, its `Waiting` finds that it has a place, and gives it back.
            let _ = waiter.told.send(());
        }
    }

    /// A second for every round of all places that waits ahead.
    fn busy(&self, who: UserId, bounds: CallBounds) -> Busy {
        let person = self.people.get(&who);
        let taken = person.map_or(0, |person| person.taken);
        let own = taken >= bounds.principal || person.is_some_and(|person| person.queue.len() >= bounds.queue.max(1));
        let rounds = self.waiting / bounds.all.max(1) + 1;
        Busy { own, retry_after_ms: u64::try_from(rounds).unwrap_or(RETRY_MOST).min(RETRY_MOST) * 1_000 }
    }
}

#[cfg(test)]
mod tests;
