//! What an operator watches: counters and durations of calls, as Prometheus' text and as OTLP.
//!
//! This part owns what is counted, under which names, and both forms of it. It refuses clocks, sockets and content: nothing that
//! a prompt, an answer, a token or a person's name could get into is a label or an attribute. Numbers here are plumbing: the ledger
//! is the evidence. A number may be lost in a crash, and no call waits for one.
//!
//! *Invariant:* memory is bounded, whatever clients ask for: at most [`MAX_SERIES`] pairs of provider and model are told
//! apart, and at most [`MAX_SPANS`] spans wait.

mod histogram;
mod otlp;
mod text;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use stockade_domain::{Nanos, Timestamp, Usage, ids::ModelCallId};

pub use otlp::{Resource, Span, TraceParent, metrics_body, traces_body};
pub use text::{CONTENT_TYPE, Gauge, text};

use crate::CallError;
use histogram::{FIRST, Histogram, SHORT, TOKENS, WHOLE};

/// So many pairs of provider and model are told apart. What comes after is counted as model `other`.
pub const MAX_SERIES: usize = 512;
/// So many spans wait for their collector. Then new ones are dropped, and counted.
pub const MAX_SPANS: usize = 2_048;

/// What is known of a call that was made, when it is over.
#[derive(Debug, Clone)]
pub struct CallFacts<'a> {
    /// Which.
    pub call: ModelCallId,
    /// `chat`, `embeddings` or `count_tokens`.
    pub operation: &'static str,
    /// What the provider is called at this site.
    pub provider: &'a str,
    /// What kind of provider it is, in the words of the configuration.
    pub kind: &'static str,
    /// The name that was asked for.
    pub asked: &'a str,
    /// The exact name there.
    pub model: &'a str,
    /// The client's dialect.
    pub dialect: &'static str,
    /// Whether the answer came in pieces.
    pub stream: bool,
    /// `ok`, or the word of the failure.
    pub outcome: &'static str,
    /// The provider's HTTP status.
    pub status: Option<u16>,
    /// What it used.
    pub usage: Usage,
    /// What it cost.
    pub cost: Nanos,
    /// When the gateway began with it.
    pub started: Timestamp,
    /// When it was sent.
    pub sent: Option<Timestamp>,
    /// When the first byte of the answer's body came.
    pub first_byte: Option<Timestamp>,
    /// When it was over.
    pub ended: Timestamp,
    /// Why the model stopped.
    pub stop_reason: Option<&'a str>,
    /// The client's own span, if it said one.
    pub parent: Option<TraceParent>,
}

/// The numbers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    books: Mutex<Books>,
    open_streams: AtomicI64,
    top_ups: AtomicU64,
    spans: Mutex<Spans>,
}

#[derive(Debug, Default)]
struct Books {
    series: BTreeMap<Key, Series>,
    refused: BTreeMap<&'static str, u64>,
    added: Histogram<SHORT>,
}

/// What the numbers of calls are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    provider: Box<str>,
    kind: &'static str,
    model: Box<str>,
    operation: &'static str,
}

#[derive(Debug, Default)]
struct Series {
    outcomes: BTreeMap<&'static str, u64>,
    /// Read, written, read from a cache, written to one.
    tokens: [u64; 4],
    cost: Nanos,
    whole: BTreeMap<&'static str, Histogram<WHOLE>>,
    first: Histogram<FIRST>,
    read: Histogram<TOKENS>,
    written: Histogram<TOKENS>,
}

#[derive(Debug, Default)]
struct Spans {
    wanted: bool,
    waiting: VecDeque<Span>,
    dropped: u64,
}

/// A stream that is open. Dropped, it is not any more.
#[derive(Debug)]
#[must_use = "a stream is open as long as this is kept"]
pub struct OpenStream {
    metrics: Metrics,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.metrics.inner.open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From one moment to a later one, in microseconds.
fn between(earlier: Timestamp, later: Timestamp) -> u64 {
    u64::try_from(later.0.saturating_sub(earlier.0)).unwrap_or(0)
}

impl Metrics {
    /// A call is over.
    pub fn call(&self, facts: &CallFacts<'_>) {
        let usage = facts.usage;
        let cache_write = usage.cache_write_5m_tokens.saturating_add(usage.cache_write_1h_tokens);
        let tokens = [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, cache_write];
        {
            let mut books = lock(&self.inner.books);
            if let Some(sent) = facts.sent {
                books.added.add(between(facts.started, sent));
            }
            let series = books.series_of(facts);
            *series.outcomes.entry(facts.outcome).or_default() += 1;
            series.cost = series.cost.saturating_add(facts.cost);
            for (sum, more) in series.tokens.iter_mut().zip(tokens) {
                *sum = sum.saturating_add(more);
            }
            let whole = between(facts.sent.unwrap_or(facts.started), facts.ended);
            series.whole.entry(facts.outcome).or_default().add(whole);
            if let (Some(sent), Some(first)) = (facts.sent, facts.first_byte) {
                series.first.add(between(sent, first));
            }
            let read = usage.input_tokens.saturating_add(usage.cache_read_tokens).saturating_add(cache_write);
            if read > 0 {
                series.read.add(read);
            }
            if usage.output_tokens > 0 {
                series.written.add(usage.output_tokens);
            }
        }
        let mut spans = lock(&self.inner.spans);
        if spans.wanted {
            if spans.waiting.len() < MAX_SPANS {
                spans.waiting.push_back(Span::of(facts));
            } else {
                spans.dropped += 1;
            }
        }
    }

    /// A call was not made.
    pub fn refused(&self, reason: &'static str) {
        *lock(&self.inner.books).refused.entry(reason).or_default() += 1;
    }

    /// More money was set aside while a stream ran.
    pub fn topped_up(&self) {
        self.inner.top_ups.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream begins.
    pub fn stream(&self) -> OpenStream {
        self.inner.open_streams.fetch_add(1, Ordering::Relaxed);
        OpenStream { metrics: self.clone() }
    }

    /// From now on spans are kept for [`Self::take_spans`].
    pub fn want_spans(&self) {
        lock(&self.inner.spans).wanted = true;
    }

    /// So many spans were taken and came to nobody.
    pub fn lost_spans(&self, count: usize) {
        let mut spans = lock(&self.inner.spans);
        spans.dropped = spans.dropped.saturating_add(count as u64);
    }

    /// Takes the oldest spans, at most so many.
    #[must_use]
    pub fn take_spans(&self, most: usize) -> Vec<Span> {
        let mut spans = lock(&self.inner.spans);
        let count = most.min(spans.waiting.len());
        spans.waiting.drain(..count).collect()
    }
}

impl Books {
    fn series_of(&mut self, facts: &CallFacts<'_>) -> &mut Series {
        let mut key = Key {
            provider: facts.provider.into(),
            kind: facts.kind,
            model: facts.model.into(),
            operation: facts.operation,
        };
        if !self.series.contains_key(&key) && self.series.len() >= MAX_SERIES {
            key.model = "other".into();
        }
        self.series.entry(key).or_default()
    }
}

/// The word for why a call was not made.
#[must_use]
pub const fn reason(error: &CallError) -> &'static str {
    match error {
        CallError::Request(_) => "request",
        CallError::Convert(_) | CallError::NoCount { .. } | CallError::NoCompact { .. } => "conversion",
        CallError::Model(_) | CallError::NotForToken { .. } => "model",
        CallError::NotSetUp { .. } => "not_set_up",
        CallError::Tripped { .. } => "breaker",
        CallError::Rate(_) => "rate",
        CallError::Busy(_) => "busy",
        CallError::Denied { .. } => "policy",
        CallError::NeedsPerson { .. } | CallError::SaidNo { .. } => "person",
        CallError::Unanswered { .. } | CallError::Crowded { .. } => "unanswered",
        CallError::Exhausted { .. } => "budget",
        CallError::PurseUnavailable { .. } => "budget_unavailable",
        CallError::RecordUnavailable { .. } => "record_unavailable",
        CallError::TokenEnded => "token",
        CallError::Erased => "erased",
        CallError::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests;
