//! What two bodies have in common.
//!
//! It owns the comparison: the same beginning, the same end, and in between blocks that stand somewhere else (a cache mark has
//! moved, a list was put in another order). It is pure and takes a time that is linear in both bodies, whatever they hold: a
//! block has one candidate and no more. It refuses to be clever about JSON; bytes are bytes.

/// The shortest block that is looked for, and so the shortest piece that is found in the middle.
pub(super) const BLOCK: usize = 32;
/// The multiplier of the rolling hash: odd, and without a pattern.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
/// Compared at once while both bodies are the same.
const STRIDE: usize = 256;

/// Where a piece of the new body comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// `len` bytes of the old body from `from` on.
    Copy {
        /// In the old body.
        from: usize,
        /// At least one.
        len: usize,
    },
    /// `len` bytes that only the new body has, from `at` on.
    Literal {
        /// In the new body.
        at: usize,
        /// At least one.
        len: usize,
    },
}

/// How many bytes two texts have in common at their beginning.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let strides = a.chunks_exact(STRIDE).zip(b.chunks_exact(STRIDE)).take_while(|(a, b)| a == b).count() * STRIDE;
    let (a, b) = (a.get(strides..).unwrap_or_default(), b.get(strides..).unwrap_or_default());
    strides + a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// How many bytes two texts have in common at their end.
pub(super) fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let strides = a.rchunks_exact(STRIDE).zip(b.rchunks_exact(STRIDE)).take_while(|(a, b)| a == b).count() * STRIDE;
    let rest = |all: &[u8]| all.len().saturating_sub(strides);
    let (a, b) = (a.get(..rest(a)).unwrap_or_default(), b.get(..rest(b)).unwrap_or_default());
    strides + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// The new body as pieces of the old one and literals, in order and without gaps.
pub(super) fn diff(old: &[u8], new: &[u8]) -> Vec<Op> {
    let before = common_prefix(old, new);
    let (old_rest, new_rest) = (old.get(before..).unwrap_or_default(), new.get(before..).unwrap_or_default());
    let after = common_suffix(old_rest, new_rest);
    let mut ops = Vec::new();
    if before > 0 {
        ops.push(Op::Copy { from: 0, len: before });
    }
    middle(old, new, (before, old.len() - after), (before, new.len() - after), &mut ops);
    if after > 0 {
        ops.push(Op::Copy { from: old.len() - after, len: after });
    }
    ops
}

/// The part in which they differ: blocks of the old one are looked for in the new one.
fn middle(old: &[u8], new: &[u8], old_range: (usize, usize), new_range: (usize, usize), ops: &mut Vec<Op>) {
    let (start, end) = new_range;
    let mut literal = start;
    if let Some(blocks) = Blocks::of(old, old_range)
        && end - start >= BLOCK
    {
        let mut at = start;
        let mut hash = new.get(at..at + BLOCK).map(Rolling::of);
        while let Some(rolling) = hash {
            if let Some((from, back, len)) = blocks.find(new, at, literal, end, rolling.0) {
                if at - back > literal {
                    ops.push(Op::Literal { at: literal, len: at - back - literal });
                }
                ops.push(Op::Copy { from, len });
                at = at - back + len;
                literal = at;
                hash = new.get(at..at + BLOCK).filter(|_| at + BLOCK <= end).map(Rolling::of);
            } else {
                hash = match (new.get(at), new.get(at + BLOCK)) {
                    (Some(out), Some(come)) if at + BLOCK < end => Some(rolling.roll(*out, *come)),
                    _ => None,
                };
                at += 1;
            }
        }
    }
    if literal < end {
        ops.push(Op::Literal { at: literal, len: end - literal });
    }
}

/// A polynomial over the bytes of a block, modulo 2^64.
#[derive(Clone, Copy)]
struct Rolling(u64);

/// `BASE` to the power of `BLOCK - 1`: what the byte that leaves has been multiplied with.
const LEAVING: u64 = {
    let (mut power, mut i) = (1_u64, 1);
    while i < BLOCK {
        power = power.wrapping_mul(BASE);
        i += 1;
    }
    power
};

impl Rolling {
    fn of(block: &[u8]) -> Self {
        Self(block.iter().fold(0_u64, |hash, byte| hash.wrapping_mul(BASE).wrapping_add(u64::from(*byte) + 1)))
    }

    const fn roll(self, out: u8, come: u8) -> Self {
        let without = self.0.wrapping_sub((out as u64 + 1).wrapping_mul(LEAVING));
        Self(without.wrapping_mul(BASE).wrapping_add(come as u64 + 1))
    }
}

/// Every block of the old body's middle, by its hash. One place for each slot: the first that came.
struct Blocks<'a> {
    old: &'a [u8],
    slots: Vec<u32>,
    shift: u32,
}

impl<'a> Blocks<'a> {
    /// Nothing if there is no block, or the body is too long for the numbers here (then it is one literal).
    fn of(old: &'a [u8], (start, end): (usize, usize)) -> Option<Self> {
        u32::try_from(old.len()).ok().filter(|len| *len < u32::MAX)?;
        let count = old.get(start..end)?.len() / BLOCK;
        if count == 0 {
            return None;
        }
        let bits = (count * 2).next_power_of_two().trailing_zeros().max(1);
        let mut blocks = Self { old, slots: vec![u32::MAX; 1 << bits], shift: 64 - bits };
        for (i, block) in old.get(start..end)?.chunks_exact(BLOCK).enumerate() {
            let slot = blocks.slot(Rolling::of(block).0);
            if let Some(place) = blocks.slots.get_mut(slot).filter(|place| **place == u32::MAX) {
                *place = u32::try_from(start + i * BLOCK).unwrap_or(u32::MAX);
            }
        }
        Some(blocks)
    }

    fn slot(&self, hash: u64) -> usize {
        // The lower bits of such a polynomial depend on the last bytes alone.
        usize::try_from(hash.wrapping_mul(BASE | 1) >> self.shift).unwrap_or(0)
    }

    /// The piece of the old body around the block that stands at `at` of the new one: where it begins in the old one, how many bytes
    /// before `at` belong to it, and its length. Nothing before `floor` and nothing from `end` on is taken.
    fn find(&self, new: &[u8], at: usize, floor: usize, end: usize, hash: u64) -> Option<(usize, usize, usize)> {
        let from = self.slots.get(self.slot(hash)).copied().filter(|place| *place != u32::MAX)? as usize;
        let ahead = common_prefix(self.old.get(from..)?, new.get(at..end)?);
        if ahead < BLOCK {
            return None;
        }
        let back = common_suffix(self.old.get(..from)?, new.get(floor..at)?);
        Some((from - back, back, back + ahead))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(old: &[u8], new: &[u8], ops: &[Op]) -> Vec<u8> {
        let mut out = Vec::new();
        for op in ops {
            match *op {
                Op::Copy { from, len } => out.extend_from_slice(&old[from..from + len]),
                Op::Literal { at, len } => {
                    assert_eq!(at, out.len());
                    out.extend_from_slice(&new[at..at + len]);
                }
            }
        }
        out
    }

    fn literals(ops: &[Op]) -> usize {
        ops.iter().map(|op| if let Op::Literal { len, .. } = op { *len } else { 0 }).sum()
    }

    /// A text without repetitions.
    fn text(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b' ' + u8::try_from((state >> 33) % 90).unwrap()
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn a_rolled_hash_is_the_hash_of_the_block() {
        let text = text(7, 200);
        let mut rolling = Rolling::of(&text[..BLOCK]);
        for at in 1..=text.len() - BLOCK {
            rolling = rolling.roll(text[at - 1], text[at + BLOCK - 1]);
            assert_eq!(rolling.0, Rolling::of(&text[at..at + BLOCK]).0);
        }
    }

    #[test]
    fn an_appended_turn_is_one_literal() {
        let old = text(1, 5_000);
        let new = [&old[..4_990], b"and a new turn".as_slice(), &old[4_990..]].concat();
        let ops = diff(&old, &new);
        assert_eq!(apply(&old, &new, &ops), new);
        assert!(literals(&ops) <= 14, "{ops:?}");
    }

    #[test]
    fn a_mark_that_moves_costs_no_more_than_itself() {
        let (a, b, c, mark) =
            (text(1, 4_000), text(2, 3_000), text(3, 500), b",\"cache_control\":{\"type\":\"ephemeral\"}");
        let old = [a.as_slice(), mark, &b].concat();
        let new = [a.as_slice(), &b, mark, &c].concat();
        let ops = diff(&old, &new);
        assert_eq!(apply(&old, &new, &ops), new);
        assert!(literals(&ops) <= 500 + mark.len() + 2 * BLOCK, "{ops:?}");
    }

    #[test]
    fn parts_in_another_order_are_found() {
        let parts: Vec<_> = (0..6).map(|i| text(i + 1, 1_000)).collect();
        let (old, new) = (parts.concat(), [5, 2, 0, 4, 1, 3].map(|i| parts[i].clone()).concat());
        let ops = diff(&old, &new);
        assert_eq!(apply(&old, &new, &ops), new);
        assert!(literals(&ops) < 6 * 2 * BLOCK, "{}", literals(&ops));
    }

    proptest! {
        #[test]
        fn what_is_put_together_is_the_new_body(
            parts in prop::collection::vec(prop::collection::vec(0u8..4, 0..90), 1..8),
            old in prop::collection::vec(0usize..8, 0..12),
            new in prop::collection::vec(0usize..8, 0..12),
        ) {
            let body = |order: &[usize]| order.iter().flat_map(|i| parts[i % parts.len()].clone()).collect::<Vec<_>>();
            let (old, new) = (body(&old), body(&new));
            prop_assert_eq!(apply(&old, &new, &diff(&old, &new)), new);
        }

        #[test]
        fn ends_in_common_are_what_they_say(
            a in prop::collection::vec(0u8..2, 0..700), b in prop::collection::vec(0u8..2, 0..700)
        ) {
            let plain = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(common_prefix(&a, &b), plain);
            let plain = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(common_suffix(&a, &b), plain);
        }
    }
}
