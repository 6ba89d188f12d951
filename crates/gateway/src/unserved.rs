//! Refusals that no policy spoke: a model that is not known, has no price or is not the token's, a request that cannot be served, a
//! rate, a provider that is not set up, a budget that has not enough left.
//!
//! It owns the words under which they stand in the ledger, and how many of one run are written down in a minute: a client in a
//! loop must not fill the disk. It refuses to write what the client said: of a request that is not served nothing is kept but
//! the model's name. *Invariant:* what is not written down is counted, and the next record of that run says how many there were.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use http::HeaderMap;
use stockade_domain::{
    Action, Answer, BudgetScope, Context, ContextValue, DecidingPolicy, Decision, Deed, Nanos, Resource, ResourceKind,
    Timestamp,
    ids::{ModelCallId, RunId},
};
use stockade_ledger::{Minute, RECORDED_A_MINUTE};
use stockade_llm::RequestError;

use crate::{
    CallError, Caller, ModelError, PurseError,
    door::Asked,
    exchange::{Inner, Plan},
    session::Origin,
    upstream::chain,
};

/// Above so many runs, those of which the minute is over and nothing was left out are forgotten.
const MAX_RUNS: usize = 16_384;

/// What was written down of late.
#[derive(Debug, Default)]
pub(crate) struct Unserved {
    runs: Mutex<HashMap<RunId, Window>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    minute: Minute,
    /// Of how many refused requests the content was kept.
    contents: u32,
}

impl Unserved {
    /// Whether one more of this run is written down, and how many before it were not.
    pub(crate) fn take(&self, run: RunId, now: Timestamp) -> Option<u64> {
        self.with(run, now, |window| window.minute.take(now))
    }

    /// Whether what was asked is kept of one more request of this run that policy refused. Its record is written in any case.
    pub(crate) fn keeps(&self, run: RunId, now: Timestamp) -> bool {
        self.with(run, now, |window| {
            let keeps = window.contents < RECORDED_A_MINUTE;
            window.contents += u32::from(keeps);
            keeps
        })
    }

    fn with<T>(&self, run: RunId, now: Timestamp, look: impl FnOnce(&mut Window) -> T) -> T {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() >= MAX_RUNS && !runs.contains_key(&run) {
            runs.retain(|_, window| !window.minute.is_spent(now));
        }
        let window = runs.entry(run).or_default();
        if window.minute.turn(now) {
            window.contents = 0;
        }
        look(window)
    }
}

/// The word and the sentence under which a refusal stands. Nothing for what has its record already, and for what is no refusal.
const fn words(error: &CallError) -> Option<(&'static str, &'static str)> {
    Some(match error {
        CallError::Request(RequestError::Unpriced(_)) | CallError::Model(ModelError::NoPrice(_)) => {
            ("gateway:no_price", "What is asked for has no price here")
        }
        CallError::Request(_) => ("gateway:request", "The request cannot be served"),
        CallError::Convert(_) => ("gateway:conversion", "The model's provider cannot be told this request"),
        CallError::NoCompact { .. } => ("gateway:no_compact", "This model cannot compact a conversation"),
        CallError::NoCount { .. } => ("gateway:no_count", "Tokens cannot be counted for this model"),
        CallError::Model(ModelError::Unknown(_) | ModelError::NoRehearsal(_)) => {
            ("gateway:unknown_model", "The model is not known here")
        }
        CallError::NotForToken { .. } => ("gateway:not_for_token", "The token was made for other models"),
        CallError::NotSetUp { .. } => ("gateway:not_set_up", "The model's provider is not set up here"),
        CallError::Tripped { .. } => ("gateway:provider", "The model's provider cannot serve this at the moment"),
        CallError::Rate(_) => ("gateway:rate", "Too many requests or tokens a minute"),
        CallError::Busy(_) => ("gateway:busy", "Too many calls at once"),
        CallError::Crowded { .. } => ("gateway:crowded", "Too many calls wait for a person"),
        CallError::TokenEnded => ("gateway:token_ended", "The token ended while the call waited for a person"),
        CallError::Erased => ("gateway:erased", "The run was erased"),
        CallError::Denied { .. }
        | CallError::NeedsPerson { .. }
        | CallError::SaidNo { .. }
        | CallError::Unanswered { .. }
        | CallError::Exhausted { .. }
        | CallError::PurseUnavailable { .. }
        | CallError::RecordUnavailable { .. }
        | CallError::Stopped => return None,
    })
}

impl Inner {
    /// Writes down that a call was refused. It does not fail: the call is refused in any case, and the log says what could not be written.
    pub(crate) async fn note_unserved(
        &self,
        caller: &Caller,
        asked: &Asked,
        headers: &HeaderMap,
        model: Option<&str>,
        error: &CallError,
    ) {
        let Some((word, sentence)) = words(error) else { return };
        self.note_unserved_as(caller, asked, headers, model, (word, sentence)).await;
    }

    /// The same for a request that was not read to its end.
    pub(crate) async fn note_unread(&self, caller: &Caller, asked: &Asked, headers: &HeaderMap) {
        let words = ("gateway:request", "The request cannot be served");
        self.note_unserved_as(caller, asked, headers, asked.path.model.as_deref(), words).await;
    }

    async fn note_unserved_as(
        &self,
        caller: &Caller,
        asked: &Asked,
        headers: &HeaderMap,
        model: Option<&str>,
        (word, sentence): (&str, &str),
    ) {
        let Some(left_out) = self.unserved.take(caller.run, self.parts.world.now()) else { return };
        let call: ModelCallId = self.parts.world.id();
        let model = model.filter(|name| is_a_name(name)).unwrap_or("");
        let origin = Origin::of(caller.run, headers, None);
        let mut context = Context::default()
            .with("level", i64::from(caller.level.get()))
            .with("call", call.to_string())
            .with("model", model)
            .with("dialect", asked.dialect.as_str())
            .with("client", origin.client.as_str());
        if let Some(session) = &origin.session {
            context = context.with("session", session.as_str());
        }
        if let Some(word) = asked.errand.word() {
            context = context.with("errand", word);
        }
        if left_out > 0 {
            context = context.with("left_out", i64::try_from(left_out).unwrap_or(i64::MAX));
        }
        let deed = Deed {
            principal: caller.principal.clone(),
            action: Action::ModelCall,
            resource: Resource::new(ResourceKind::Model, model).in_project(caller.project).in_run(caller.run),
            context,
        };
        let decision = Decision {
            answer: Answer::Deny,
            bundle: self.parts.policy.load().number(),
            policies: vec![DecidingPolicy { id: word.to_owned(), title: sentence.to_owned() }],
            approval: None,
        };
        if let Err(error) = self.parts.ledger.refuse(&deed, &decision, Vec::new()).await {
            let why = chain(&error);
            tracing::error!(%call, run = %caller.run, reason = word, why, "a refused model call could not be recorded");
        }
    }

    /// Writes down that there is no money for a call, and says so.
    pub(crate) async fn unpaid(
        &self,
        caller: &Caller,
        id: ModelCallId,
        plan: &Plan,
        need: Nanos,
        error: PurseError,
    ) -> CallError {
        let (scope, refusal) = match error {
            PurseError::Exhausted { scope } => (Some(scope), CallError::Exhausted { scope, need }),
            PurseError::Unavailable(why) => {
                tracing::warn!(call = %id, run = %caller.run, why, "no model call: the budget cannot be reached");
                (None, CallError::PurseUnavailable { why })
            }
        };
        self.note_unpaid(caller, id, plan, need, scope).await.err().unwrap_or(refusal)
    }

    async fn note_unpaid(
        &self,
        caller: &Caller,
        call: ModelCallId,
        plan: &Plan,
        wanted: Nanos,
        scope: Option<BudgetScope>,
    ) -> Result<(), CallError> {
        let Some(left_out) = self.unserved.take(caller.run, self.parts.world.now()) else { return Ok(()) };
        let mut facts: BTreeMap<String, ContextValue> = [
            ("call".to_owned(), call.to_string().into()),
            ("client".to_owned(), plan.origin.client.as_str().into()),
            ("estimate_nanos".to_owned(), wanted.0.into()),
            ("model".to_owned(), plan.route.name.as_str().into()),
        ]
        .into();
        if let Some(session) = &plan.origin.session {
            facts.insert("session".to_owned(), session.as_str().into());
        }
        if left_out > 0 {
            facts.insert("left_out".to_owned(), i64::try_from(left_out).unwrap_or(i64::MAX).into());
        }
        let word = match scope {
            Some(scope) => {
                facts.insert("scope".to_owned(), scope.as_str().into());
                "budget_exhausted"
            }
            None => "budget_unreachable",
        };
        let noted = self.parts.ledger.note(word, Some(caller.run), facts).await;
        noted.map(|_| ()).map_err(|error| CallError::RecordUnavailable { why: chain(&error) })
    }
}

/// Whether this may stand in a record as a model's name.
pub(crate) fn is_a_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= stockade_llm::MAX_MODEL_NAME && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use stockade_domain::World;
    use stockade_ledger::SystemWorld;

    use super::*;

    fn id() -> RunId {
        let world: &dyn World = &SystemWorld;
        world.id()
    }

    #[test]
    fn so_many_a_minute_are_written_down_and_the_rest_is_counted() {
        let unserved = Unserved::default();
        let (run, other): (RunId, RunId) = (id(), id());
        let at = |ms: i64| Timestamp(1_000_000_000 + ms * 1_000);
        for _ in 0..RECORDED_A_MINUTE {
            assert_eq!(unserved.take(run, at(0)), Some(0));
        }
        assert_eq!((unserved.take(run, at(1)), unserved.take(run, at(59_999))), (None, None));
        assert_eq!(unserved.take(other, at(59_999)), Some(0), "everybody has a minute of their own");
        assert_eq!((unserved.take(run, at(60_000)), unserved.take(run, at(60_001))), (Some(2), Some(0)));
        assert_eq!(unserved.take(run, at(-5_000)), Some(0), "a clock that goes back does not stop it");
        let kept = (0..100).filter(|_| unserved.keeps(run, at(-4_000))).count();
        assert_eq!((kept, unserved.keeps(run, at(60_000))), (60, true));
        assert_eq!(unserved.take(run, at(60_001)), Some(0), "what is not kept is written down all the same");
    }

    #[test]
    fn runs_that_are_quiet_are_forgotten_but_not_what_was_left_out() {
        let unserved = Unserved::default();
        let loud: RunId = id();
        for _ in 0..=RECORDED_A_MINUTE {
            let _ = unserved.take(loud, Timestamp(0));
        }
        for _ in 0..MAX_RUNS {
            let _ = unserved.take(id(), Timestamp(0));
        }
        let _ = unserved.take(id(), Timestamp(60_000_000));
        assert_eq!(unserved.runs.lock().unwrap().len(), 2);
        assert_eq!(unserved.take(loud, Timestamp(60_000_000)), Some(1));
    }
}
