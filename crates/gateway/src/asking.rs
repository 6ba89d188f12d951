//! Calls about which a person is asked.
//!
//! Owns what a question about a call is bound to, what the person reads, and how the call waits: nothing is sent and it holds neither
//! place nor rate nor money meanwhile. It refuses to remember questions and answers: that is [`Approvals`]', which the runner
//! implements.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use stockade_domain::{
    ContentRef, ContextValue, Decision, Deed, Digest, Timestamp,
    ids::{ApprovalId, RecordId, RunId, UserId},
};
use stockade_ledger::{Sealed, sha256};
use stockade_policy::{Question, content::ContentAction};
use tokio::time::Instant;

use crate::{
    CallError, Caller,
    content::Finding,
    exchange::{Client, Inner, Wish},
    limit::AskRules,
    upstream::chain,
};

/// How much of the end of a request a person is shown, in bytes.
pub const SHOWN_BYTES: usize = 16 * 1024;
/// How many findings a person is shown.
pub const SHOWN_FINDINGS: usize = 20;
/// How much beside a finding a person is shown, in bytes.
const BESIDE: usize = 80;
/// When a call that found too many others waiting is told to come back, in milliseconds.
const CROWDED_MS: u64 = 30_000;

/// A question about a call.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// For which run the call would be made.
    pub run: RunId,
    /// The person behind it.
    pub owner: UserId,
    /// What exactly is asked: the same request, to the same place, about which the same rules ask, has the same.
    pub subject: Digest,
    /// The deed that waits.
    pub deed: Deed,
    /// Who wants a person.
    pub decision: Decision,
    /// What the person reads.
    pub shown: Sealed,
    /// The request.
    pub request: Sealed,
    /// How long the call waits for the answer.
    pub patience: Duration,
    /// How long the question stays open, and a yes can be used.
    pub valid_ms: u64,
}

/// What people said to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Yes, and nobody has used it yet.
    Yes {
        /// Which approval.
        approval: ApprovalId,
    },
    /// No.
    No {
        /// Which approval.
        approval: ApprovalId,
        /// Whose word it is; nobody's if its time ran out.
        by: Option<UserId>,
    },
    /// Nothing yet.
    Silence {
        /// Which approval: it stays open.
        approval: ApprovalId,
        /// Until then.
        until: Timestamp,
        /// What people read.
        shown: ContentRef,
    },
}

/// Why nobody could be asked. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unasked {
    /// There is nobody to be asked.
    #[error("nobody can be asked here")]
    Nobody,
    /// The server is away.
    #[error("the server is away, so nobody can be asked now: try again later")]
    Away,
    /// Nobody answered while the question was open.
    #[error("nobody answered while the question was open; the same request asks anew")]
    Silent,
    /// Too many questions are open.
    #[error("{0} questions about calls are open, which is the most: answer some first (`stockade approvals list`)")]
    TooMany(usize),
    /// The question cannot be written down.
    #[error("the question cannot be recorded at the moment: try again later")]
    Unrecorded(String),
}

/// People who are asked about calls. The runner implements it.
///
/// *Invariant:* a yes is given to any number of calls that wait for it, and used by one: [`spend`](Self::spend) says true once,
/// also over a crash.
#[async_trait]
pub trait Approvals: Send + Sync {
    /// Puts a question to people and waits for the answer. A question about the same subject of the same run that is open is joined, and one
    /// that was answered gives its answer at once. When this is dropped, the question stays open.
    ///
    /// # Errors
    /// [`Unasked`] if nobody could be asked; then there is no question.
    async fn ask(&self, inquiry: Inquiry) -> Result<Word, Unasked>;

    /// Uses a yes up; durable when this returns. False: somebody else has, or its time is over.
    ///
    /// # Errors
    /// [`Unasked`] if that cannot be written down; then it is not used.
    async fn spend(&self, approval: ApprovalId) -> Result<bool, Unasked>;
}

/// Where nobody can be asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct NobodyToAsk;

#[async_trait]
impl Approvals for NobodyToAsk {
    async fn ask(&self, _inquiry: Inquiry) -> Result<Word, Unasked> {
        Err(Unasked::Nobody)
    }

    async fn spend(&self, _approval: ApprovalId) -> Result<bool, Unasked> {
        Ok(false)
    }
}

/// A call that waits for a person.
pub(crate) struct Pending {
    pub(crate) question: Question,
    pub(crate) subject: Digest,
    pub(crate) shown: Sealed,
    pub(crate) request: Sealed,
    pub(crate) rules: AskRules,
}

/// A yes to one subject.
pub(crate) struct Yes {
    pub(crate) subject: Digest,
    pub(crate) approval: ApprovalId,
    /// To which place it was: that one is tried first.
    pub(crate) provider: String,
    pub(crate) upstream: String,
    /// Whether this call has used it.
    pub(crate) spent: bool,
}

/// How many calls of each person wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<HashMap<UserId, usize>>);

/// One of them.
struct Turn<'a> {
    of: &'a Waiting,
    who: UserId,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, who: UserId, most: usize) -> Option<Turn<'_>> {
        let mut waiting = self.lock();
        let mine = waiting.entry(who).or_default();
        if *mine >= most {
            return None;
        }
        *mine += 1;
        Some(Turn { of: self, who })
    }

    /// How many wait, of everybody.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().sum()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = self.of.lock();
        if let Some(mine) = waiting.get_mut(&self.who) {
            *mine -= 1;
            if *mine == 0 {
                waiting.remove(&self.who);
            }
        }
    }
}

impl Inner {
    /// Puts the question about a call to people and waits. `until` is the moment at which the call has waited long enough, from its first
    /// question on.
    pub(crate) async fn put(
        &self,
        caller: &Caller,
        pending: Pending,
        until: &mut Option<Instant>,
        client: &Client,
        own: bool,
    ) -> Result<Yes, CallError> {
        let Pending { question, subject, shown, request, rules } = pending;
        let Some(_turn) = self.waiting.enter(caller.owner, rules.waiting) else {
            return Err(CallError::Crowded { waiting: rules.waiting, retry_after_ms: CROWDED_MS });
        };
        let now = Instant::now();
        // Our own loop holds no connection open: it parks its run and comes again.
        let wait = if own { Duration::ZERO } else { Duration::from_millis(rules.wait_ms) };
        let patience = until.get_or_insert(now + wait).saturating_duration_since(now);
        let inquiry = Inquiry {
            run: caller.run,
            owner: caller.owner,
            subject,
            deed: question.deed().clone(),
            decision: question.decision().clone(),
            shown,
            request,
            patience,
            valid_ms: rules.valid_ms,
        };
        let said = tokio::select! {
            said = self.parts.approvals.ask(inquiry) => said,
            // The question stays open, for the client's next attempt.
            () = client.body.closed() => return Err(CallError::Stopped),
            () = self.stopping.cancelled() => return Err(CallError::Stopped),
        };
        let title = question.title().to_owned();
        let text = |name: &str| match question.deed().context.public.get(name) {
            Some(ContextValue::Text(text)) => text.clone(),
            _ => String::new(),
        };
        let (provider, upstream) = (text("provider"), text("upstream"));
        match said {
            Ok(Word::Yes { approval }) => Ok(Yes { subject, approval, provider, upstream, spent: false }),
            Ok(Word::Silence { approval, until, shown }) if own => {
                Err(CallError::Unanswered { title, approval, until, shown })
            }
            // What was asked stands in the record of the question.
            Ok(Word::Silence { approval, until, shown }) => {
                self.refused(question).await?;
                Err(CallError::Unanswered { title, approval, until, shown })
            }
            Ok(Word::No { approval, by: Some(by) }) => {
                let record = self.refused(question).await?;
                Err(CallError::SaidNo { title, approval, by, record })
            }
            Ok(Word::No { by: None, .. }) => {
                let record = self.refused(question).await?;
                Err(CallError::NeedsPerson { title, record, why: Unasked::Silent })
            }
            Err(why) => {
                if let Unasked::Unrecorded(why) = &why {
                    tracing::error!(run = %caller.run, why, "no question about a model call: it cannot be recorded");
                }
                let record = self.refused(question).await?;
                Err(CallError::NeedsPerson { title, record, why })
            }
        }
    }

    async fn refused(&self, question: Question) -> Result<RecordId, CallError> {
        let refusal = question.refused();
        let refused = self.parts.ledger.refuse(refusal.deed(), refusal.decision(), Vec::new()).await;
        refused.map_err(|error| CallError::RecordUnavailable { why: chain(&error) })
    }
}

/// What a yes is bound to: the deed without what differs from one attempt to the next, who asks, and every byte of the request.
pub(crate) fn subject(question: &Question, wish: &Wish) -> Digest {
    let mut deed = question.deed().clone();
    for attempt in ["call", "attempt"] {
        deed.context.public.remove(attempt);
    }
    let rules: Vec<&str> = question.decision().policies.iter().map(|policy| policy.id.as_str()).collect();
    let facts = serde_json::json!({ "deed": deed, "rules": rules, "query": wish.query }).to_string();
    sha256(&[&sha256(&[facts.as_bytes()]).0, &sha256(&[&wish.body]).0])
}

/// What the person reads: who asks, what was found, and the end of the request, which is what is new in a conversation.
pub(crate) fn shown(question: &Question, wish: &Wish, findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut line = |what: &str| {
        text.push_str(what);
        text.push('\n');
    };
    for policy in &question.decision().policies {
        line(&format!("asks:     {} ({})", policy.title, policy.id));
    }
    let context = &question.deed().context.public;
    for (name, key) in [("model", "model"), ("provider", "provider"), ("version", "upstream"), ("client", "client")] {
        if let Some(ContextValue::Text(value)) = context.get(key) {
            line(&format!("{:9} {value}", format!("{name}:")));
        }
    }
    line(&format!("request:  {} bytes, {}", wish.body.len(), sha256(&[&wish.body])));
    let asking: Vec<&Finding> = findings.iter().filter(|finding| finding.action == ContentAction::Ask).collect();
    for finding in asking.iter().take(SHOWN_FINDINGS) {
        let (from, to) = (finding.range.start.saturating_sub(BESIDE), finding.range.end.saturating_add(BESIDE));
        let part = wish.body.get(from..to.min(wish.body.len())).unwrap_or_default();
        line(&format!(
            "found:    {} in {}: …{}…",
            finding.class,
            finding.place.as_str(),
            String::from_utf8_lossy(part)
        ));
    }
    if asking.len() > SHOWN_FINDINGS {
        line(&format!("found:    and {} more", asking.len() - SHOWN_FINDINGS));
    }
    let from = wish.body.len().saturating_sub(SHOWN_BYTES);
    let _ = write!(
        text,
        "\n{}{}\n",
        if from > 0 { format!("[the last {SHOWN_BYTES} bytes of the request]\n…") } else { String::new() },
        String::from_utf8_lossy(wish.body.get(from..).unwrap_or_default())
    );
    text
}

#[cfg(test)]
mod tests {
    use stockade_domain::Id;

    use super::*;

    #[test]
    fn so_many_wait_and_leave_nothing_behind() {
        let waiting = Waiting::default();
        let (one, other): (UserId, UserId) = (Id::from_bytes([1; 16]), Id::from_bytes([2; 16]));
        let turns: Vec<_> = (0..2).filter_map(|_| waiting.enter(one, 2)).collect();
        assert!(turns.len() == 2 && waiting.enter(one, 2).is_none() && waiting.enter(other, 2).is_some());
        drop(turns);
        assert!(waiting.enter(one, 2).is_some() && waiting.count() == 0 && waiting.lock().is_empty());
    }
}
