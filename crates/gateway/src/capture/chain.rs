//! What a session's bodies are made of.
//!
//! Each stored body is a [`Link`]: it has a number within its session (0 is whole), and for every byte it is known where it is stored. Body
//! `n` is written in terms of an earlier body, its base, and of the literals of those in between. The base is `n` without
//! its lowest set bit, so that a chain of a thousand bodies is ten links deep and yet refers to few sources each time. It
//! refuses nothing but what is too deep: then the caller stores the body whole and begins again.

use std::sync::Arc;

use stockade_domain::Digest;

use super::{
    delta::Op,
    format::{Mode, Part, Source},
};

/// The deepest chain. Beyond, a body is stored whole.
pub(super) const MAX_DEPTH: usize = 48;
/// A base is at most so many bodies back.
const MAX_STEP: u64 = 256;
/// A copy shorter than this costs more than the bytes themselves.
const SHORT: usize = 8;
/// The same for a copy from a source that is not yet named.
const SHORT_NEW: usize = 44;

/// Where bytes of a stored body are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the plain text of its own content.
    Own(usize),
    /// In the plain text of another content.
    Plain(Digest, usize),
    /// In the body of its base, the link before it.
    Base(usize),
}

/// Some bytes of a stored body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// In the body.
    pub at: usize,
    pub len: usize,
    pub place: Place,
}

/// A body whose content is durable.
#[derive(Debug)]
pub(super) struct Link {
    pub number: u64,
    /// Of its sealed content.
    pub digest: Digest,
    /// In order, without gaps.
    pub pieces: Vec<Piece>,
}

/// A body and all that it stands on: the first is whole, each one's base is the one before it.
pub(super) type Chain = Vec<Arc<Link>>;

/// What a body is made of that is about to be stored.
#[derive(Debug)]
pub(super) struct Plan {
    pub number: u64,
    /// So many links of the chain stay below it.
    pub keep: usize,
    pub parts: Vec<Part>,
}

/// How to write `body`, which differs by `ops` from the newest body of the chain. Nothing if the chain is too deep.
pub(super) fn plan(chain: &Chain, ops: &[Op]) -> Option<Plan> {
    let number = chain.last()?.number + 1;
    let lowest = number & number.wrapping_neg();
    let wanted = number - lowest.min(MAX_STEP);
    let base = chain.iter().rposition(|link| link.number <= wanted)?;
    if base + 1 >= MAX_DEPTH {
        return None;
    }
    let mut parts =
        Parts { base: Source { mode: Mode::Body, digest: chain.get(base)?.digest }, done: Vec::new(), at: 0 };
    for op in ops {
        match *op {
            Op::Copy { from, len } => trace(chain, chain.len() - 1, base, (from, len), &mut parts)?,
            Op::Literal { len, .. } => parts.literal(len),
        }
    }
    Some(Plan { number, keep: base + 1, parts: parts.done })
}

/// Follows bytes of the body at `level` down to the base or to where they stand as literals.
fn trace(chain: &Chain, level: usize, base: usize, (from, len): (usize, usize), parts: &mut Parts) -> Option<()> {
    if level == base {
        parts.copy(parts.base, from, len);
        return Some(());
    }
    let link = chain.get(level)?;
    let first = link.pieces.partition_point(|piece| piece.at + piece.len <= from);
    let (mut at, end) = (from, from + len);
    for piece in link.pieces.get(first..)? {
        if at >= end {
            break;
        }
        let (skip, take) = (at - piece.at, (piece.at + piece.len).min(end) - at);
        match piece.place {
            Place::Own(place) => parts.copy(Source { mode: Mode::Plain, digest: link.digest }, place + skip, take),
            Place::Plain(digest, place) => parts.copy(Source { mode: Mode::Plain, digest }, place + skip, take),
            Place::Base(place) => trace(chain, level.checked_sub(1)?, base, (place + skip, take), parts)?,
        }
        at += take;
    }
    (at == end).then_some(())
}

/// Parts as they are put together: neighbours that belong together become one.
struct Parts {
    base: Source,
    done: Vec<Part>,
    /// How much of the body is done.
    at: usize,
}

impl Parts {
    fn copy(&mut self, source: Source, from: usize, len: usize) {
        if let Some(Part::Copy { source: last, from: begin, len: before }) = self.done.last_mut()
            && *last == source
            && *begin + *before == from
        {
            *before += len;
            self.at += len;
            return;
        }
        let named =
            || self.done.iter().any(|part| matches!(part, Part::Copy { source: known, .. } if *known == source));
        if len < SHORT || (len < SHORT_NEW && source != self.base && !named()) {
            return self.literal(len);
        }
        self.done.push(Part::Copy { source, from, len });
        self.at += len;
    }

    fn literal(&mut self, len: usize) {
        if let Some(Part::Literal { len: before, .. }) = self.done.last_mut() {
            *before += len;
        } else {
            self.done.push(Part::Literal { at: self.at, len });
        }
        self.at += len;
    }
}

/// The pieces of a body that was written in these parts. `places` says where its literals lie, in order.
pub(super) fn pieces(parts: &[Part], places: &[usize]) -> Vec<Piece> {
    let (mut at, mut places) = (0, places.iter());
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        let (len, place) = match part {
            Part::Copy { source: Source { mode: Mode::Body, .. }, from, len } => (*len, Place::Base(*from)),
            Part::Copy { source: Source { mode: Mode::Plain, digest }, from, len } => {
                (*len, Place::Plain(*digest, *from))
            }
            Part::Literal { len, .. } => (*len, Place::Own(places.next().copied().unwrap_or(0))),
        };
        pieces.push(Piece { at, len, place });
        at += len;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain as it grows when each body is the one before it and a literal.
    fn grow(bodies: u64) -> Chain {
        let whole = Piece { at: 0, len: 1_000, place: Place::Own(0) };
        let mut chain: Chain = vec![Arc::new(Link { number: 0, digest: Digest([0; 32]), pieces: vec![whole] })];
        let mut len = 1_000;
        for n in 1..bodies {
            let ops = [Op::Copy { from: 0, len }, Op::Literal { at: len, len: 100 }];
            let plan = plan(&chain, &ops).unwrap();
            len += 100;
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_be_bytes());
            let sources: std::collections::HashSet<_> = plan
                .parts
                .iter()
                .filter_map(|part| if let Part::Copy { source, .. } = part { Some(*source) } else { None })
                .collect();
            assert!(sources.len() <= 257, "body {n} refers to {} sources", sources.len());
            let link = Link { number: plan.number, digest: Digest(digest), pieces: pieces(&plan.parts, &[40]) };
            chain.truncate(plan.keep);
            chain.push(Arc::new(link));
        }
        chain
    }

    #[test]
    fn a_long_chain_is_not_deep() {
        assert!(grow(100).len() <= 7);
        assert!(grow(1_000).len() <= 12);
        assert!(grow(5_000).len() <= 30);
    }
}
