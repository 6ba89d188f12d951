//! Content stored once.
//!
//! Agents repeat the whole conversation with every turn. This module owns the memory of the last bodies of each session, and what is
//! sealed instead of a body: a *packed* body, which copies from contents of the same run that are durable already and
//! adds what is new ([`delta`] finds it, [`chain`] knows where every byte is stored, [`format`](mod@format) writes it, [`unpack`] reads
//! it back). What a provider answers is deflated ([`answer`]). A content stays a content: sealed with the run's key, referred to by its digest, erased with its run.
//!
//! It refuses to pack against anything that is not known to be durable, against another run, and to remember more than its
//! limits. What it forgot, or what a restart forgets, costs one whole body and nothing else.
//!
//! *Invariant:* whatever order of calls, [`unpack()`] of the content gives the body back, byte for byte.

mod answer;
mod chain;
mod delta;
mod format;
mod unpack;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use stockade_domain::{Digest, ids::RunId};

pub(crate) use self::answer::LONG as LONG_ANSWER;
pub use self::answer::{AnswerError, LEAST as LEAST_ANSWER, restore, shrink};
use self::chain::{Chain, Link, Piece, Place};
pub use self::unpack::{MAX_BYTES, MAX_DEPTH, MAX_FETCHES, UnpackError, unpack};

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureLimits {
    /// All remembered bodies together, in bytes. Above: those that were not used for longest are forgotten.
    pub bytes: usize,
    /// The largest body that is packed, in bytes. A larger one is stored whole and not remembered.
    pub body: usize,
    /// The smallest body that is packed, in bytes. A smaller one is stored whole and not remembered.
    pub least: usize,
    /// Bodies of all runs. Above: those that were not used for longest are forgotten.
    pub bodies: usize,
    /// Bodies of one session: its main conversation, and what runs beside it. Above: the one that was not used for longest is forgotten.
    pub per_session: usize,
}

impl Default for CaptureLimits {
    fn default() -> Self {
        Self { bytes: 32 * 1024 * 1024, body: 4 * 1024 * 1024, least: 512, bodies: 4_096, per_session: 4 }
    }
}

/// What is to be sealed for a body.
#[must_use = "what is packed is to be sealed, and told of once it is durable"]
pub struct Packed {
    /// The plain text: packed, or the body as it came.
    pub plain: Bytes,
    memo: Option<Memo>,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("len", &self.plain.len()).finish_non_exhaustive()
    }
}

/// What is remembered of a body once its content is durable.
struct Memo {
    key: Key,
    body: Bytes,
    number: u64,
    /// What it stands on.
    below: Chain,
    pieces: Vec<Piece>,
    /// The remembered body that this one goes on from, if it has nearly all of it.
    replaces: Option<u64>,
}

type Key = (RunId, String);

/// A remembered body.
struct Line {
    key: Key,
    body: Bytes,
    chain: Chain,
}

impl Line {
    fn weight(&self) -> usize {
        let pieces: usize = self.chain.iter().map(|link| link.pieces.len()).sum();
        self.body.len() + pieces * size_of::<Piece>() + self.chain.len() * size_of::<Link>() + size_of::<Self>()
    }
}

/// Lines by the number under which they were last used: the first is the oldest.
#[derive(Default)]
struct Memory {
    lines: BTreeMap<u64, Line>,
    sessions: BTreeMap<Key, Vec<u64>>,
    bytes: usize,
    next: u64,
}

impl Memory {
    fn remove(&mut self, number: u64) -> Option<Line> {
        let line = self.lines.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(line.weight());
        if let Some(numbers) = self.sessions.get_mut(&line.key) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.sessions.remove(&line.key);
            }
        }
        Some(line)
    }

    fn insert(&mut self, line: Line, limits: &CaptureLimits) {
        let number = self.next;
        self.next += 1;
        self.bytes += line.weight();
        let of_session = self.sessions.entry(line.key.clone()).or_default();
        of_session.push(number);
        let too_old = (of_session.len() > limits.per_session).then(|| of_session.first().copied()).flatten();
        self.lines.insert(number, line);
        if let Some(oldest) = too_old {
            self.remove(oldest);
        }
        while (self.bytes > limits.bytes || self.lines.len() > limits.bodies)
            && let Some(oldest) = self.lines.keys().next().copied()
        {
            self.remove(oldest);
        }
    }
}

/// The memory of a gateway for what was said before.
pub struct Capture {
    limits: CaptureLimits,
    memory: Mutex<Memory>,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bodies, bytes) = self.held();
        f.debug_struct("Capture").field("bodies", &bodies).field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl Capture {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(limits: CaptureLimits) -> Self {
        Self { limits, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bodies are remembered, and how many bytes that takes.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        let memory = self.memory();
        (memory.lines.len(), memory.bytes)
    }

    /// What is to be sealed for this body. `session` is whatever a client's calls of one conversation have in common; without it,
    /// the run is the session. Tell [`stored`](Self::stored) once the sealed content is durable, and nothing if that fails.
    pub fn pack(&self, run: RunId, session: Option<&str>, body: &Bytes) -> Packed {
        if body.len() < self.limits.least || body.len() > self.limits.body {
            return Packed { plain: whole(body).0, memo: None };
        }
        let key = (run, session.unwrap_or_default().to_owned());
        let best = self.nearest(&key, body);
        if let Some((line, before, chain)) = best
            && let Some(packed) = against(line, &before, &chain, &key, body)
        {
            return packed;
        }
        let (plain, at) = whole(body);
        let pieces = vec![Piece { at: 0, len: body.len(), place: Place::Own(at) }];
        let memo = Memo { key, body: body.clone(), number: 0, below: Vec::new(), pieces, replaces: None };
        Packed { plain, memo: Some(memo) }
    }

    /// The remembered body of the session that has most in common with this one at its beginning and end.
    fn nearest(&self, key: &Key, body: &Bytes) -> Option<(u64, Bytes, Chain)> {
        let known: Vec<_> = {
            let memory = self.memory();
            let numbers = memory.sessions.get(key)?;
            let lines = numbers.iter().filter_map(|number| Some((*number, memory.lines.get(number)?)));
            lines.map(|(number, line)| (number, line.body.clone(), line.chain.clone())).collect()
        };
        if known.len() < 2 {
            return known.into_iter().next();
        }
        known.into_iter().max_by_key(|(number, before, _)| {
            let front = delta::common_prefix(before, body);
            let rest = |all: &Bytes| all.slice(front..);
            (front + delta::common_suffix(&rest(before), &rest(body)), *number)
        })
    }

    /// The content of this body is durable under this digest: the next one may stand on it.
    pub fn stored(&self, packed: Packed, digest: Digest) {
        let Some(memo) = packed.memo else { return };
        let Memo { key, body, number, below, pieces, replaces } = memo;
        let mut chain = below;
        chain.push(Arc::new(Link { number, digest, pieces }));
        // A copy: the body may be a part of a larger buffer, which is not to be kept alive.
        let line = Line { key, body: Bytes::copy_from_slice(&body), chain };
        let mut memory = self.memory();
        if let Some(before) = replaces {
            memory.remove(before);
        }
        memory.insert(line, &self.limits);
    }

    /// Forgets all of a run: it is over, or erased.
    pub fn forget(&self, run: RunId) {
        let mut memory = self.memory();
        let of_run = memory.sessions.range((run, String::new())..).take_while(|((of, _), _)| *of == run);
        let numbers: Vec<u64> = of_run.flat_map(|(_, numbers)| numbers.clone()).collect();
        for number in numbers {
            memory.remove(number);
        }
    }
}

/// A body packed against a remembered one. Nothing if that saves too little.
fn against(line: u64, before: &Bytes, chain: &Chain, key: &Key, body: &Bytes) -> Option<Packed> {
    let ops = delta::diff(before, body);
    let plan = chain::plan(chain, &ops)?;
    let (plain, places) = format::write(body, &plan.parts)?;
    // Of something that is nearly all new, nothing is gained, and whoever reads it back has to look in two places.
    if plain.len() > body.len() / 8 * 7 {
        return None;
    }
    let copied: usize = ops.iter().map(|op| if let delta::Op::Copy { len, .. } = op { *len } else { 0 }).sum();
    let pieces = chain::pieces(&plan.parts, &places);
    let memo = Memo {
        key: key.clone(),
        body: body.clone(),
        number: plan.number,
        below: chain.get(..plan.keep)?.to_vec(),
        pieces,
        replaces: (copied >= before.len() / 8 * 7).then_some(line),
    };
    Some(Packed { plain: plain.into(), memo: Some(memo) })
}

/// A body as it is, and where it begins in what is stored. One that looks packed is packed, so that nobody can make us read what
/// we did not write.
fn whole(body: &Bytes) -> (Bytes, usize) {
    if !format::is_packed(body) {
        return (body.clone(), 0);
    }
    let parts = [format::Part::Literal { at: 0, len: body.len() }];
    format::write(body, &parts)
        .map_or_else(|| (body.clone(), 0), |(plain, places)| (plain.into(), places.first().copied().unwrap_or(0)))
}
