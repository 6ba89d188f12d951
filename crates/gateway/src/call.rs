//! How a call ends, for whoever made it.

use serde_json::Value;
use stockade_domain::{
    BudgetScope, ContentRef, Nanos, Timestamp, Usage,
    ids::{ApprovalId, ModelCallId, RecordId, UserId},
};
use stockade_llm::{
    RequestError,
    neutral::{ConvertError, FaultKind},
};

use crate::{
    ModelError, Unasked,
    limit::{Busy, RateRefusal},
};

/// A call that was made. It is settled and its record is closed, with or without success.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Which call.
    pub call: ModelCallId,
    /// Its opening record.
    pub record: RecordId,
    /// The name that was asked for.
    pub model: String,
    /// What it used: the provider's word, or where it could not give it, at least what was seen.
    pub usage: Usage,
    /// What that costs.
    pub cost: Nanos,
    /// The provider's HTTP status. Nothing if none came.
    pub status: Option<u16>,
    /// The message, put together from its events. `Null` unless it came whole.
    pub message: Value,
    /// Why the model stopped, in the provider's word.
    pub stop_reason: Option<String>,
    /// What went wrong. Nothing if a whole message came.
    pub failure: Option<Failure>,
    /// Wall clock.
    pub duration_ms: u64,
    /// The sealed request and, as far as it came, the sealed answer.
    pub contents: Vec<ContentRef>,
}

impl Finished {
    /// Whether a whole message came.
    #[must_use]
    pub const fn ok(&self) -> bool {
        self.failure.is_none()
    }
}

/// What went wrong with a call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of thing.
    pub kind: FailureKind,
    /// The provider's own text, or ours. Content: it may repeat what was asked.
    pub text: String,
    /// When the provider asks to be tried again.
    pub retry_after_ms: Option<u64>,
}

/// The kinds of failures. The words are fixed and stand in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// 429.
    RateLimited,
    /// 529, 503, or an overload in the middle of a stream.
    Overloaded,
    /// Another 5xx, or an error in the middle of a stream.
    Provider,
    /// 400 and the other 4xx: the same request will fail again.
    Rejected,
    /// The request is larger than the model's context: shortening it helps.
    TooLong,
    /// 401 or 403: the provider does not take our key.
    Credentials,
    /// No connection, or it was lost.
    Connection,
    /// The provider was silent for too long.
    TimedOut,
    /// A whole answer came, but it could not be read as one.
    Unreadable,
    /// The client went away, or the call was stopped, before the end.
    Stopped,
    /// A stream was cut off because there was no more money.
    Budget,
    /// A content rule stopped the answer.
    Content,
}

impl FailureKind {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Provider => "provider_error",
            Self::Rejected => "rejected",
            Self::TooLong => "too_long",
            Self::Credentials => "provider_credentials",
            Self::Connection => "connection_lost",
            Self::TimedOut => "timed_out",
            Self::Unreadable => "unreadable",
            Self::Stopped => "stopped",
            Self::Budget => "budget",
            Self::Content => "content_blocked",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Overloaded
                | Self::Provider
                | Self::Connection
                | Self::TimedOut
                | Self::Unreadable
        )
    }
}

/// Why a call was not made. Nothing was sent to a provider and nothing is charged. The texts are what the governed process
/// is told: they say nothing of our insides.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Not a request that can be served.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It cannot be said in the dialect of the model's provider.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// Tokens cannot be counted for this model.
    #[error("tokens of `{model}` cannot be counted here: its provider has no count in this form")]
    NoCount {
        /// Which model.
        model: String,
    },
    /// A conversation cannot be made shorter by this model's provider.
    #[error(
        "`{model}` cannot compact a conversation: only models that are served in the form of Responses can (Codex: a provider of your \
         own in config.toml, as `stockade connect codex` writes it, lets it compact by itself)"
    )]
    NoCompact {
        /// Which model.
        model: String,
    },
    /// The name.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The token is bound to other models.
    #[error("this token may not ask for `{model}`: it was made for other models")]
    NotForToken {
        /// Which model.
        model: String,
    },
    /// The provider cannot be called: it has no key, no token can be had for it.
    #[error("the model `{model}` is not set up here: its provider has no key. An operator can say more")]
    NotSetUp {
        /// Which model.
        model: String,
        /// Why, for the operator.
        why: String,
    },
    /// The provider, or every provider of the model, is left alone for a while because it failed too often.
    #[error("the model's provider cannot serve this at the moment: try again in {} s", retry_after_ms.div_ceil(1_000))]
    Tripped {
        /// When it is asked again.
        retry_after_ms: u64,
    },
    /// Too many requests, or too many tokens.
    #[error(transparent)]
    Rate(#[from] RateRefusal),
    /// Too many calls at once.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// Policy said no.
    #[error("refused by policy: {title}")]
    Denied {
        /// The policy's title.
        title: String,
        /// The record of the refusal.
        record: RecordId,
    },
    /// Policy said: only if a person agrees. Nobody could be asked, so this is a no.
    #[error("refused by policy: {title} (a person would have to agree to this: {why})")]
    NeedsPerson {
        /// The policy's title.
        title: String,
        /// The record of the refusal.
        record: RecordId,
        /// Why nobody could be asked.
        why: Unasked,
    },
    /// A person said no.
    #[error("refused by a person: {title} (question {approval}, answered by {by}). The same request is refused again")]
    SaidNo {
        /// The policy's title.
        title: String,
        /// Which question.
        approval: ApprovalId,
        /// Who said it.
        by: UserId,
        /// The record of the refusal.
        record: RecordId,
    },
    /// A person was asked, and has not answered yet.
    #[error(
        "nobody answered in time: {title}. The question {approval} stays open: when it is approved, send the same request again"
    )]
    Unanswered {
        /// The policy's title.
        title: String,
        /// Which question.
        approval: ApprovalId,
        /// How long it stays open.
        until: Timestamp,
        /// What people read.
        shown: ContentRef,
    },
    /// Too many of this person's calls wait for a person.
    #[error("{waiting} calls of yours wait for a person's answer, which is the most: try again when one is answered")]
    Crowded {
        /// How many.
        waiting: usize,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// No money.
    #[error(
        "the budget of this {scope} has not enough left for this call, which may cost {need}: ask whoever set it for more, or ask for \
         less at once"
    )]
    Exhausted {
        /// Whose budget.
        scope: BudgetScope,
        /// What the call may cost.
        need: Nanos,
    },
    /// It cannot be said whether there is money.
    #[error("the budget cannot be reached at the moment")]
    PurseUnavailable {
        /// For the operator.
        why: String,
    },
    /// No record, no call.
    #[error("the call cannot be recorded at the moment")]
    RecordUnavailable {
        /// For the operator.
        why: String,
    },
    /// The token ended while its call waited for a person.
    #[error("the token has ended or was revoked while this call waited")]
    TokenEnded,
    /// The run was erased.
    #[error("this run was erased")]
    Erased,
    /// Stopped before anything was sent, or before its end was known; then the call is settled and recorded without the caller.
    #[error("the call was stopped")]
    Stopped,
}

impl CallError {
    /// The HTTP status and the kind in the client's dialect. What is final is 400, because clients stop at it and show
    /// the text; 429 and 5xx they try again for minutes.
    #[must_use]
    pub const fn status(&self) -> (u16, FaultKind) {
        match self {
            Self::Request(_)
            | Self::Convert(_)
            | Self::NoCompact { .. }
            | Self::Model(_)
            | Self::NotForToken { .. }
            | Self::NotSetUp { .. }
            | Self::Denied { .. }
            | Self::NeedsPerson { .. }
            | Self::SaidNo { .. }
            | Self::Unanswered { .. }
            | Self::Exhausted { .. }
            | Self::TokenEnded
            | Self::Erased => (400, FaultKind::InvalidRequest),
            Self::PurseUnavailable { .. } | Self::RecordUnavailable { .. } | Self::Stopped => (503, FaultKind::Api),
            Self::NoCount { .. } => (501, FaultKind::NotSupported),
            // A request that is larger than its bound will never pass.
            Self::Rate(RateRefusal::TooLarge { .. }) => (400, FaultKind::InvalidRequest),
            Self::Rate(RateRefusal::Later { .. }) | Self::Crowded { .. } => (429, FaultKind::RateLimit),
            Self::Busy(busy) if busy.own => (429, FaultKind::RateLimit),
            Self::Busy(_) | Self::Tripped { .. } => (529, FaultKind::Overloaded),
        }
    }

    /// Whether trying again later may help.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        self.status().0 != 400 && self.status().0 != 501 && !matches!(self, Self::Stopped)
    }

    /// Whether another place for the same model may do better.
    pub(crate) const fn concerns_only_the_target(&self) -> bool {
        matches!(
            self,
            Self::NotSetUp { .. }
                | Self::Convert(_)
                | Self::NoCount { .. }
                | Self::NoCompact { .. }
                | Self::Denied { .. }
        )
    }

    /// When to try again, if that is known.
    #[must_use]
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Rate(RateRefusal::Later { retry_after_ms, .. })
            | Self::Busy(Busy { retry_after_ms, .. })
            | Self::Crowded { retry_after_ms, .. }
            | Self::Tripped { retry_after_ms } => Some(*retry_after_ms),
            _ => None,
        }
    }
}
