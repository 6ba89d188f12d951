//! Model calls of the agent loop: through the gateway, in process, the same way as a client over HTTP.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use stockade_agent::{Input, ModelFailure, tool_calls};
use stockade_domain::{Action, ContentKind, EventKind, Nanos, Timestamp, Usage, ids::CallId};
use stockade_gateway::{CallError, FailureKind, Finished};

use stockade_ledger::sha256;

use super::{Drive, DriveError, Rest, prepare::notice};
use crate::{
    book::{Draft, hold},
    journal::{About, Step},
    pinhole,
};

/// A run for which no money can be set aside looks again after one second, and after twice as long each time, so often: then
/// every 32 seconds.
const MONEY_PAUSE_STEPS: u32 = 5;

impl Drive {
    /// Asks the model and tells the agent what came.
    pub(super) async fn model(
        &mut self,
        attempt: u32,
        body: Value,
        not_before: Option<Timestamp>,
    ) -> Result<Option<Rest>, DriveError> {
        let deadline = self.state.agent.deadline();
        if let Some(moment) = not_before {
            self.until(deadline.map_or(moment, |d| d.min(moment))).await?;
        }
        if deadline.is_some_and(|d| self.now() >= d) {
            self.write(Draft::input(Input::Tick {}, vec![])).await?;
            return Ok(None);
        }
        let caller = pinhole::caller(&self.a);
        let request = Bytes::from(serde_json::to_vec(&body).map_err(|e| DriveError::Defect(e.to_string()))?);
        let about = About::Model { request: sha256(&[&request]) };
        if let Some((approval, false)) = self.state.answers.get(&about) {
            // A no, or silence for too long. The gateway is not asked: it would ask anew.
            let text = format!("refused: nobody agreed to this model call (question {approval})");
            return self.not_made(attempt, ModelFailure::Policy, text).await;
        }
        let stop = self.halt.child_token();
        let called = {
            let call = self.site.gateway.call(caller, request, stop.clone());
            tokio::pin!(call);
            tokio::select! {
                called = &mut call => called,
                () = self.passed(deadline) => {
                    // The time is used up: the call is stopped, settled and recorded before anything else happens.
                    stop.cancel();
                    call.await
                }
            }
        };
        let called = match called {
            Err(CallError::Stopped) if self.halt.is_cancelled() => return Err(DriveError::Halted),
            Err(CallError::PurseUnavailable { why }) => return self.wait_for_money(&why).await,
            Err(CallError::Unanswered { title, approval, until, shown }) => {
                let model = body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
                let asked = EventKind::ApprovalRequested {
                    approval,
                    action: Action::ModelCall,
                    resource: model,
                    policy: title,
                    expires_at: until,
                    content: Some(shown),
                };
                // What the yes is bound to is the gateway's to know.
                let step = Step::Asked { approval, about, deed: None, expires_at: until };
                return self.park_for(self.now(), step, asked).await.map(Some);
            }
            other => other,
        };
        self.moneyless = 0;
        match called {
            Err(error) => self.refused(attempt, &error).await,
            Ok(finished) if finished.ok() => self.answered(attempt, finished).await,
            Ok(finished) => self.failed(attempt, finished).await,
        }
    }

    /// Waits until the agent's time is used up.
    pub(super) async fn passed(&self, deadline: Option<Timestamp>) {
        match deadline {
            Some(moment) => {
                let wait = moment.ms_since(self.now()).saturating_add(1);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            None => std::future::pending().await,
        }
    }

    async fn answered(&mut self, attempt: u32, finished: Finished) -> Result<Option<Rest>, DriveError> {
        let calls: Vec<CallId> = (0..tool_calls(&finished.message)).map(|_| self.site.world().id()).collect();
        let said = serde_json::to_vec(&finished.message).map_err(|e| DriveError::Defect(e.to_string()))?;
        let sealed = self.seal(ContentKind::Transcript, &said)?;
        let stop_reason = finished.stop_reason.clone().unwrap_or_default();
        let event = EventKind::ModelCall {
            call: finished.call,
            model: finished.model,
            usage: finished.usage,
            cost: finished.cost,
            stop_reason: stop_reason.clone(),
            ok: true,
            record: finished.record,
            duration_ms: finished.duration_ms,
            content: Some(sealed.content),
        };
        let input = Input::Model {
            attempt,
            message: finished.message,
            stop_reason,
            usage: finished.usage,
            cost: finished.cost,
            calls,
        };
        let contents = vec![hold(&sealed)];
        self.write(Draft { input: Some(input), events: vec![event], contents, ..Draft::default() }).await?;
        Ok(None)
    }

    async fn failed(&mut self, attempt: u32, finished: Finished) -> Result<Option<Rest>, DriveError> {
        let Some(failure) = finished.failure else {
            return Err(DriveError::Defect("a failure without one".to_owned()));
        };
        if failure.kind == FailureKind::Stopped && self.halt.is_cancelled() {
            // What it cost is in the ledger and in the purse; the same attempt is made again by whoever goes on.
            return Err(DriveError::Halted);
        }
        let event = EventKind::ModelCall {
            call: finished.call,
            model: finished.model,
            usage: finished.usage,
            cost: finished.cost,
            stop_reason: failure.kind.as_str().to_owned(),
            ok: false,
            record: finished.record,
            duration_ms: finished.duration_ms,
            content: None,
        };
        let kind = match failure.kind {
            FailureKind::RateLimited => ModelFailure::RateLimited,
            FailureKind::Overloaded | FailureKind::Provider => ModelFailure::Overloaded,
            FailureKind::Rejected if failure.text.contains("rehearsal:") => ModelFailure::Rehearsal,
            FailureKind::Rejected | FailureKind::Credentials => ModelFailure::Rejected,
            FailureKind::TooLong => ModelFailure::TooLong,
            FailureKind::Connection | FailureKind::TimedOut => ModelFailure::Network,
            FailureKind::Unreadable => ModelFailure::Nonsense,
            FailureKind::Budget => ModelFailure::Budget,
            FailureKind::Content => ModelFailure::Policy,
            FailureKind::Stopped => ModelFailure::Unavailable,
        };
        let input = Input::ModelFailed {
            attempt,
            failure: kind,
            retry_after_ms: failure.retry_after_ms,
            text: failure.text,
            usage: finished.usage,
            cost: finished.cost,
        };
        self.write(Draft::input(input, vec![event])).await?;
        Ok(None)
    }

    async fn refused(&mut self, attempt: u32, error: &CallError) -> Result<Option<Rest>, DriveError> {
        let failure = match error {
            CallError::Denied { .. } | CallError::NeedsPerson { .. } | CallError::SaidNo { .. } => ModelFailure::Policy,
            CallError::Exhausted { .. } => ModelFailure::Budget,
            CallError::Erased => return Err(DriveError::Halted),
            error if error.retryable() => ModelFailure::Unavailable,
            CallError::Stopped => ModelFailure::Unavailable,
            _ => ModelFailure::Rejected,
        };
        self.not_made(attempt, failure, error.to_string()).await
    }

    /// Tells the agent that its call was not made.
    async fn not_made(
        &mut self,
        attempt: u32,
        failure: ModelFailure,
        text: String,
    ) -> Result<Option<Rest>, DriveError> {
        let input = Input::ModelFailed {
            attempt,
            failure,
            retry_after_ms: None,
            text,
            usage: Usage::default(),
            cost: Nanos::ZERO,
        };
        self.write(Draft::input(input, vec![])).await?;
        Ok(None)
    }

    /// There is no money that could be reached: the server is away, or the disk is full. The run does not fail of it; it
    /// waits, and its time stands still.
    async fn wait_for_money(&mut self, why: &str) -> Result<Option<Rest>, DriveError> {
        let run = self.a.run;
        tracing::warn!(%run, why, "{run} waits: no money can be set aside for its next model call: {why}");
        let events = if self.moneyless > 0 {
            vec![]
        } else {
            let facts = std::collections::BTreeMap::new();
            self.site.desk.ledger.note("budget_unavailable", Some(run), facts).await?;
            vec![notice("budget_unavailable")]
        };
        let pause = Duration::from_secs(1 << self.moneyless.min(MONEY_PAUSE_STEPS));
        self.moneyless = self.moneyless.saturating_add(1);
        self.write(Draft::input(Input::Paused {}, events)).await?;
        let mut away = self.site.link.away();
        let back = async {
            // A little while in any case: what is not there for another reason is not asked for in a rush.
            tokio::time::sleep(pause).await;
            while away.borrow_and_update().is_some() {
                if away.changed().await.is_err() {
                    break;
                }
            }
        };
        if self.halt.run_until_cancelled(back).await.is_none() {
            return Err(DriveError::Halted);
        }
        self.write(Draft::input(Input::Resumed {}, vec![])).await?;
        Ok(None)
    }
}
