//! What a program inside an environment does at the gateway, from there to whoever drives its run.
//!
//! Owns the queue between both, its bound, and whether the program's token is good at the moment. It refuses to lose money: where the queue is
//! full, calls are told as one, with what all of them cost. *Invariant:* a token is good only while a program is at work that was permitted.

use std::sync::{Mutex, MutexGuard, PoisonError};

use stockade_agent::{HarnessEnd, Input};
use stockade_domain::EventKind;
use stockade_gateway::{CallError, Finished};
use tokio::sync::Notify;

/// So many calls of one run may wait to be written down; further ones are told as one, without their events.
pub const MAX_UNTOLD: usize = 1_024;

/// A call that is to be written into the run's book.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What the agent is told.
    pub input: Input,
    /// What is told of it.
    pub event: EventKind,
}

/// The calls of one run's program.
#[derive(Debug, Default)]
pub struct Calls {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the program's token is good. Nothing: this process has not looked yet.
    open: Option<bool>,
    told: Vec<Told>,
    /// Why a call was last turned away for good.
    turned: Option<(HarnessEnd, String)>,
}

impl Calls {
    /// A program is at work from now on.
    pub fn open(&self) {
        let mut state = self.lock();
        state.open = Some(true);
        state.turned = None;
    }

    /// No program is at work.
    pub fn close(&self) {
        self.lock().open = Some(false);
    }

    /// Whether a program is at work, as far as that is known.
    pub fn is_open(&self) -> Option<bool> {
        self.lock().open
    }

    /// A call has ended.
    pub fn ended(&self, finished: &Finished) {
        let ok = finished.ok();
        let failure = finished.failure.as_ref().map(|failure| failure.kind.as_str());
        let event = EventKind::ModelCall {
            call: finished.call,
            model: finished.model.clone(),
            usage: finished.usage,
            cost: finished.cost,
            stop_reason: failure.map_or_else(|| finished.stop_reason.clone().unwrap_or_default(), str::to_owned),
            ok,
            record: finished.record,
            duration_ms: finished.duration_ms,
            content: None,
        };
        let input = Input::Called { ok, usage: finished.usage, cost: finished.cost };
        self.push(Told { input, event });
    }

    /// A call was not made.
    pub fn refused(&self, error: &CallError) {
        let end = match error {
            CallError::Exhausted { .. } => HarnessEnd::Budget,
            CallError::Denied { .. } | CallError::NeedsPerson { .. } | CallError::SaidNo { .. } => HarnessEnd::Refused,
            _ => return,
        };
        self.lock().turned = Some((end, error.to_string()));
    }

    /// Why a call was last turned away for good.
    pub fn turned(&self) -> Option<(HarnessEnd, String)> {
        self.lock().turned.clone()
    }

    /// What is to be written down, in order. Whoever takes it writes it.
    pub fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.lock().told)
    }

    /// Waits until there may be something to be written down.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn push(&self, told: Told) {
        let mut state = self.lock();
        let full = state.told.len() >= MAX_UNTOLD;
        match (full, &told.input, state.told.last_mut().map(|last| &mut last.input)) {
            (true, Input::Called { usage, cost, .. }, Some(Input::Called { usage: sum, cost: all, .. })) => {
                *sum = sum.plus(*usage);
                *all = all.saturating_add(*cost);
            }
            _ => state.told.push(told),
        }
        drop(state);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use stockade_domain::{Id, Nanos, Usage};

    use super::*;

    fn finished(cost: i64) -> Finished {
        Finished {
            call: Id::from_bytes([1; 16]),
            record: Id::from_bytes([2; 16]),
            model: "claude".into(),
            usage: Usage { input_tokens: 3, ..Usage::default() },
            cost: Nanos(cost),
            status: Some(200),
            message: Value::Null,
            stop_reason: Some("end_turn".into()),
            failure: None,
            duration_ms: 5,
            contents: vec![],
        }
    }

    #[test]
    fn what_does_not_fit_is_told_as_one_and_no_money_is_lost() {
        let calls = Calls::default();
        let many = MAX_UNTOLD as i64 + 7;
        for _ in 0..many {
            calls.ended(&finished(2));
        }
        let told = calls.take();
        assert_eq!(told.len(), MAX_UNTOLD);
        let sums = told.iter().map(|told| match &told.input {
            Input::Called { ok: true, usage, cost } => (cost.0, usage.input_tokens),
            other => panic!("{other:?}"),
        });
        let (cost, tokens) = sums.fold((0, 0), |(cost, tokens), (c, t)| (cost + c, tokens + t));
        assert_eq!((cost, tokens), (2 * many, 3 * many as u64));
        assert!(calls.take().is_empty());
    }

    #[test]
    fn a_token_is_good_while_a_program_is_at_work() {
        let calls = Calls::default();
        assert_eq!(calls.is_open(), None);
        calls.refused(&CallError::Denied { title: "no".into(), record: Id::from_bytes([3; 16]) });
        calls.open();
        assert_eq!((calls.is_open(), calls.turned()), (Some(true), None));
        calls.close();
        assert_eq!(calls.is_open(), Some(false));
    }
}
