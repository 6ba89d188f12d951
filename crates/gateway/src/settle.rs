//! The end of a call: what it is called, what it costs, and the record that says so.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;
use stockade_domain::{BudgetScope, ContentKind, ContextValue, Nanos, Timestamp, Usage};
use stockade_ledger::{Closing, LedgerError, Outcome, Status};
use stockade_llm::{
    Dialect,
    anthropic::{Seen, billed},
};

use stockade_policy::content::ContentAction;

use crate::{
    call::{Failure, FailureKind, Finished},
    capture,
    content::classes,
    exchange::{Call, Inner},
    limit::Outcome as Health,
    limits::CLOSE_RETRIES,
    metrics::CallFacts,
    models::Errand,
    outlet::Looked,
};

/// How the way to the provider ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Nothing was sent.
    NotSent(String),
    /// Sent; then no answer, or not all of it.
    Lost(String),
    /// Silence.
    Silent,
    /// The client went away first.
    ClientGone,
    /// The client went away before anything was sent.
    ClientGoneEarly,
    /// All of it came.
    Whole,
    /// It failed before its first byte was passed on, and another place is tried.
    Passed,
    /// The stream was cut off because there was no more money, of this scope if that is known.
    OutOfMoney(Option<BudgetScope>),
    /// A content rule of this title stopped the answer.
    Blocked(String),
}

impl Ending {
    /// What it says about the provider.
    pub(crate) fn about_the_provider(&self, answer: &Answer) -> Health {
        match (self, answer.status) {
            (Self::ClientGoneEarly, _) => Health::Nothing,
            // That a token was withdrawn says nothing until a new one is not taken either.
            _ if answer.stale_proof => Health::Nothing,
            (_, Some(429 | 529)) => Health::Limited { retry_after_ms: answer.retry_after_ms },
            (_, Some(503)) if answer.retry_after_ms.is_some() => {
                Health::Limited { retry_after_ms: answer.retry_after_ms }
            }
            // A key that is not taken is this credential's fault, and each credential has a breaker of its own.
            (_, Some(401 | 403 | 408 | 500..)) => Health::Failed,
            (Self::NotSent(_) | Self::Lost(_) | Self::Silent, _) => Health::Failed,
            (Self::Passed, None) => Health::Failed,
            (Self::ClientGone, None) => Health::Nothing,
            _ => Health::Ok,
        }
    }

    /// What a client is told of it.
    pub(crate) fn for_client(&self) -> String {
        match self {
            Self::Silent => "the provider was silent for too long".to_owned(),
            Self::OutOfMoney(Some(scope)) => format!("the answer was cut off: the budget of this {scope} has no more"),
            Self::Blocked(title) => format!("refused by policy: {title}"),
            Self::OutOfMoney(None) => "the answer was cut off: the budget cannot be reached at the moment".to_owned(),
            _ => "the provider's answer was cut off".to_owned(),
        }
    }
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) seen: Seen,
    pub(crate) bytes: Vec<u8>,
    pub(crate) bytes_cut: bool,
    /// What was set aside while it ran, besides what was at first.
    pub(crate) topped_up: Nanos,
    /// Whether the client was told in its own form how it ended.
    pub(crate) told: bool,
    /// Whether a token was not taken that was good when it was fetched: it is tried again with a new one.
    pub(crate) stale_proof: bool,
    /// When the request was sent, and when the first byte of the answer's body came.
    pub(crate) sent: Option<Timestamp>,
    pub(crate) first_byte: Option<Timestamp>,
    /// What the content rules made of it.
    pub(crate) looked: Looked,
}

/// What it used and whether anything went wrong.
fn judged(call: &Call, ending: &Ending, answer: &Answer) -> (Usage, Option<Failure>) {
    let failure = |kind: FailureKind, text: &str| {
        Some(Failure { kind, text: text.to_owned(), retry_after_ms: answer.retry_after_ms })
    };
    let bound = call.target.price.most_input(&call.estimate);
    let charged = || usage(billed(&answer.seen, bound, &call.estimate));
    let provider = call.target.provider.name();
    match (ending, answer.status) {
        // Counting is free, and its answer is no message.
        (Ending::Whole, Some(200..=299)) if call.errand == Errand::Count => (Usage::default(), None),
        (Ending::Passed, _) if answer.status.is_none() => {
            (Usage::default(), failure(FailureKind::Connection, "the provider cannot be reached"))
        }
        (Ending::OutOfMoney(_), _) => (charged(), failure(FailureKind::Budget, &ending.for_client())),
        (Ending::Blocked(_), _) => (charged(), failure(FailureKind::Content, &ending.for_client())),
        (Ending::NotSent(why), _) => {
            tracing::warn!(call = %call.id, provider, why, "the provider cannot be reached");
            (Usage::default(), failure(FailureKind::Connection, "the provider cannot be reached"))
        }
        (Ending::ClientGoneEarly, _) => (Usage::default(), failure(FailureKind::Stopped, "stopped before it was sent")),
        // A refusal costs nothing. Its text is the provider's own.
        (_, Some(status)) if !(200..300).contains(&status) => {
            let error = answer.seen.error.as_ref();
            let text = error.map_or("", |error| error.message.as_str());
            let kind = refusal(status, text);
            let text =
                if text.is_empty() { format!("the provider answered with status {status}") } else { text.to_owned() };
            (Usage::default(), failure(kind, &text))
        }
        // Whatever happened after the last event changes nothing.
        (_, Some(_)) if answer.seen.complete && answer.seen.error.is_none() => (charged(), None),
        (_, Some(_)) if answer.seen.error.is_some() => {
            let error = answer.seen.error.as_ref();
            let kind = match error.map_or("", |error| error.kind.as_str()) {
                "overloaded_error" => FailureKind::Overloaded,
                "rate_limit_error" => FailureKind::RateLimited,
                _ => FailureKind::Provider,
            };
            (charged(), failure(kind, error.map_or("", |error| error.message.as_str())))
        }
        (Ending::ClientGone, _) => (charged(), failure(FailureKind::Stopped, "stopped before the end")),
        (Ending::Silent, _) => (charged(), failure(FailureKind::TimedOut, "the provider was silent for too long")),
        (Ending::Lost(why), _) => {
            tracing::warn!(call = %call.id, provider, why, "the provider's answer was cut off");
            (charged(), failure(FailureKind::Connection, "the provider's answer was cut off"))
        }
        (Ending::Whole, _) if answer.seen.unreadable > 0 => {
            (charged(), failure(FailureKind::Unreadable, "the provider's answer could not be read as a message"))
        }
        (Ending::Whole | Ending::Passed, _) => {
            (charged(), failure(FailureKind::Connection, "the provider's answer was cut off"))
        }
    }
}

fn refusal(status: u16, text: &str) -> FailureKind {
    match status {
        429 => FailureKind::RateLimited,
        529 | 503 => FailureKind::Overloaded,
        500.. => FailureKind::Provider,
        401 | 403 => FailureKind::Credentials,
        413 => FailureKind::TooLong,
        400 if text.contains("prompt is too long") || text.contains("exceed context limit") => FailureKind::TooLong,
        _ => FailureKind::Rejected,
    }
}

/// The dialect's count in the domain's words.
pub(crate) const fn usage(usage: stockade_llm::Usage) -> Usage {
    Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cache_read_tokens: usage.cache_read_tokens,
        cache_write_5m_tokens: usage.cache_write_5m_tokens,
        cache_write_1h_tokens: usage.cache_write_1h_tokens,
    }
}

const fn counts(usage: &Usage) -> stockade_llm::Usage {
    stockade_llm::Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cache_read_tokens: usage.cache_read_tokens,
        cache_write_5m_tokens: usage.cache_write_5m_tokens,
        cache_write_1h_tokens: usage.cache_write_1h_tokens,
        reasoning_tokens: None,
        tier: None,
    }
}

impl Inner {
    /// Settles and closes, whatever came before. It does not fail: what cannot be settled or closed even after some attempts
    /// is left to the runner's reaper, which charges the whole reservation.
    pub(crate) async fn finish(&self, call: Call, ending: Ending, mut answer: Answer) -> Finished {
        let (usage, failure) = judged(&call, &ending, &answer);
        // How it was served decides, not how it was asked for.
        let served = answer.seen.usage.and_then(|usage| usage.tier);
        let cost = Nanos(call.target.price.served(call.target.tier, served).cost(&counts(&usage)));
        // The reservation is an upper bound of what the request can use. If a provider says more nevertheless, the record
        // says the truth, and the budget gives no more than was set aside: a limit is a limit.
        let reserved = call.meter.reserved().saturating_add(answer.topped_up);
        let cost = if call.errand == Errand::Count { Nanos::ZERO } else { cost };
        let over = cost > reserved;
        if over {
            tracing::warn!(call = %call.id, %cost, %reserved, "a model call cost more than its bound");
        }
        let outcome = Outcome {
            status: match failure.as_ref().map(|failure| failure.kind) {
                None => Status::Ok,
                Some(FailureKind::Stopped) => Status::Cancelled,
                Some(_) => Status::Error,
            },
            code: match &failure {
                Some(failure) => Some(failure.kind.as_str().to_owned()),
                None if over => Some("over_reservation".to_owned()),
                None if answer.bytes_cut => Some("capture_cut".to_owned()),
                None => None,
            },
        };
        let mut contents = vec![call.sealed_request];
        let bytes = Bytes::from(std::mem::take(&mut answer.bytes));
        let looked = std::mem::take(&mut answer.looked);
        self.note_findings(&call, &looked).await;
        contents.extend(self.close(&call, outcome, usage, (cost, cost.min(reserved)), bytes).await);

        let ended = self.parts.world.now();
        let duration_ms = ended.ms_since(call.started);
        self.metrics.call(&CallFacts {
            call: call.id,
            operation: match (call.errand, call.dialect) {
                (Errand::Count, _) => "count_tokens",
                (Errand::Compact, _) => "compact",
                (Errand::Answer, Dialect::Embeddings) => "embeddings",
                (Errand::Answer, _) => "chat",
            },
            provider: call.target.provider.name(),
            kind: call.target.provider.kind().as_str(),
            asked: &call.model,
            model: &call.target.upstream,
            dialect: call.dialect.as_str(),
            stream: call.stream,
            outcome: failure.as_ref().map_or("ok", |failure| failure.kind.as_str()),
            status: answer.status,
            usage,
            cost,
            started: call.started,
            sent: answer.sent,
            first_byte: answer.first_byte,
            ended,
            stop_reason: answer.seen.stop_reason.as_deref(),
            parent: call.trace,
        });
        tracing::info!(
            call = %call.id,
            run = %call.caller.run,
            record = %call.record,
            model = call.model,
            provider = call.target.provider.name(),
            status = answer.status,
            outcome = failure.as_ref().map_or("ok", |failure| failure.kind.as_str()),
            input_tokens = usage.input_tokens,
            output_tokens = usage.output_tokens,
            cost_nanos = cost.0,
            duration_ms,
            "model call {} ended",
            call.id,
        );
        let finished = Finished {
            call: call.id,
            record: call.record,
            model: call.model,
            usage,
            cost,
            status: answer.status,
            message: match (failure.is_none(), looked.message.or(answer.seen.message)) {
                (true, Some(message)) => message,
                _ => Value::Null,
            },
            stop_reason: answer.seen.stop_reason,
            failure,
            duration_ms,
            contents,
        };
        if !call.own {
            self.parts.runs.ended(&call.caller, &finished);
        }
        finished
    }

    /// What content rules found in an answer stands in a record of its own: the call's was opened before anybody knew.
    async fn note_findings(&self, call: &Call, looked: &Looked) {
        if looked.findings.is_empty() && looked.blocked.is_none() {
            return;
        }
        let strongest = looked.findings.iter().map(|finding| finding.action).max();
        let action = match (&looked.blocked, strongest) {
            (Some(_), _) => "block",
            (None, Some(ContentAction::Redact)) => "redact",
            (None, _) => "report",
        };
        let mut facts = std::collections::BTreeMap::from([
            ("call".to_owned(), call.id.to_string().into()),
            ("direction".to_owned(), "response".into()),
            ("action".to_owned(), action.into()),
            ("findings".to_owned(), ContextValue::Set(classes(&looked.findings).into_iter().collect())),
        ]);
        if let Some(title) = &looked.blocked {
            facts.insert("title".to_owned(), title.as_str().into());
        }
        if let Err(error) = self.parts.ledger.note("content_findings", Some(call.caller.run), facts).await {
            tracing::error!(call = %call.id, %error, "what was found in an answer could not be recorded");
        }
    }

    async fn close(
        &self,
        call: &Call,
        outcome: Outcome,
        usage: Usage,
        (cost, spent): (Nanos, Nanos),
        answer: Bytes,
    ) -> Option<stockade_domain::ContentRef> {
        let mut pauses = CLOSE_RETRIES.iter();
        let answer = small(answer).await;
        loop {
            let sealed = (!answer.is_empty())
                .then(|| call.key.seal(&*self.parts.world, ContentKind::ModelResponse, &answer))
                .transpose()
                .unwrap_or_else(|error| {
                    tracing::error!(call = %call.id, %error, "a model's answer could not be sealed");
                    None
                });
            let content = sealed.as_ref().map(|sealed| sealed.content);
            let money = self.parts.purse.spend(call.id, spent);
            let closing = Closing {
                usage: Some(usage),
                cost: Some(cost),
                contents: sealed.into_iter().collect(),
                ..Closing::new(outcome.clone())
            };
            match (self.parts.ledger.close_in_passing(call.record, closing, money).await, pauses.next()) {
                (Ok(_), _) => {
                    self.parts.purse.spent(call.id);
                    return content;
                }
                (Err(LedgerError::Log(_)), Some(pause)) => tokio::time::sleep(*pause).await,
                (Err(error), _) => {
                    tracing::error!(call = %call.id, record = %call.record, %error, "a model call's record stays open");
                    return None;
                }
            }
        }
    }
}

/// What is stored of an answer. A long one is not made small where others wait.
async fn small(answer: Bytes) -> Bytes {
    let shrunk = |answer: Bytes| match capture::shrink(&answer) {
        Cow::Borrowed(_) => None,
        Cow::Owned(small) => Some(Bytes::from(small)),
    };
    let small = if answer.len() < capture::LONG_ANSWER {
        shrunk(answer.clone())
    } else {
        let theirs = answer.clone();
        tokio::task::spawn_blocking(move || shrunk(theirs)).await.unwrap_or_default()
    };
    small.unwrap_or(answer)
}
