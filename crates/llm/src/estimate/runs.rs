//! The bound of tokens in a text, quickly: every request is counted whole before it is sent, and a coding agent's has a hundred
//! kilobytes and more.
//!
//! A text falls into runs: letters of one case, white space, one and the same mark. What a byte adds depends only on its class and on
//! where in its run it stands, so a table of sixteen states says it for short texts without a branch that could be guessed wrongly.
//! Long texts are counted in blocks of 64 bytes with a bit for each: that says a little more than the table, never less.

use wide::u8x16;

/// What a byte is. Everything that is not named here is a mark.
const SINGLE: u8 = 0;
const LOWER: u8 = 1;
const UPPER: u8 = 2;
const SPACE: u8 = 3;
const MARK: u8 = 4;
/// Added to the class of a byte that is the same as the one before it: for marks that makes the difference.
const SAME: u8 = 8;

const CLASS: [u8; 256] = {
    let mut table = [MARK; 256];
    let mut byte = 0;
    while byte < 256 {
        if matches!(byte, 0x61..=0x7a) {
            table[byte] = LOWER;
        } else if matches!(byte, 0x41..=0x5a) {
            table[byte] = UPPER;
        } else if matches!(byte, 0x20 | 0x0a | 0x09 | 0x0d) {
            table[byte] = SPACE;
        } else if matches!(byte, 0x30..=0x39 | 0x80..) {
            table[byte] = SINGLE;
        }
        byte += 1;
    }
    table
};

/// Where in a run the last byte stood. Odd and even count the run's bytes; `BLANKS` and the seven after it count eights.
const NONE: u8 = 0;
const LOWER_ODD: u8 = 1;
const LOWER_EVEN: u8 = 2;
const UPPER_ODD: u8 = 3;
const UPPER_EVEN: u8 = 4;
const MARK_ODD: u8 = 5;
const MARK_EVEN: u8 = 6;
const BLANK: u8 = 7;
const BLANKS: u8 = 8;

/// By state (times sixteen) and class: the next state (times sixteen), and in the lowest bit whether a token begins.
const STEP: [u8; 256] = {
    let mut table = [0; 256];
    let mut state = 0;
    while state < 16 {
        let mut class = 0;
        while class < 16 {
            table[(state * 16 + class) as usize] = step(state, class);
            class += 1;
        }
        state += 1;
    }
    table
};

const fn step(state: u8, class: u8) -> u8 {
    let same = class >= SAME;
    let (next, begins) = match (class % SAME, state) {
        (SINGLE, _) => (NONE, 1),
        (LOWER, LOWER_ODD) => (LOWER_EVEN, 0),
        // A single space belongs to the word that follows it.
        (LOWER, BLANK) => (LOWER_EVEN, 0),
        (LOWER, _) => (LOWER_ODD, 1),
        (UPPER, UPPER_ODD | BLANK) => (UPPER_EVEN, 0),
        (UPPER, _) => (UPPER_ODD, 1),
        (SPACE, BLANK) => (BLANKS + 2, 0),
        (SPACE, BLANKS..) => {
            let eighth = (state - BLANKS + 1) % 8;
            (BLANKS + eighth, if eighth == 1 { 1 } else { 0 })
        }
        (SPACE, _) => (BLANK, 1),
        (MARK, MARK_ODD) if same => (MARK_EVEN, 0),
        _ => (MARK_ODD, 1),
    };
    next * 16 + begins
}

/// The length from which a text is counted in blocks.
const LONG: usize = 128;
/// So many bytes are looked at together.
const BLOCK: usize = 64;
/// Every second place of a block, from the first.
const EVEN: u64 = 0x5555_5555_5555_5555;
/// Every eighth.
const EIGHTH: u64 = 0x0101_0101_0101_0101;

/// At most so many tokens are in these bytes.
pub fn most_tokens(bytes: &[u8]) -> u64 {
    if bytes.len() < LONG {
        return count(bytes);
    }
    let (mut tokens, mut blank) = (0, 0);
    let mut ahead = [0; BLOCK];
    for (at, block) in bytes.chunks(BLOCK).enumerate() {
        // What stood before each byte; in front of the text there is nothing, which the block's own first place says.
        let from = (at * BLOCK).saturating_sub(1);
        let (of, before) = match (block.try_into(), bytes.get(from..from + BLOCK).map(TryInto::try_into)) {
            (Ok(block), Some(Ok(before))) if at > 0 => (Classes::of(block, before), u64::MAX),
            _ => {
                let mut padded = [0; BLOCK];
                for (place, byte) in padded.iter_mut().zip(block) {
                    *place = *byte;
                }
                for (place, byte) in ahead.iter_mut().skip(1).zip(block) {
                    *place = *byte;
                }
                (Classes::of(&padded, &ahead), u64::MAX >> (BLOCK - block.len()))
            }
        };
        tokens += of.tokens(before, blank);
        blank = of.space >> (BLOCK - 1);
    }
    tokens
}

/// What stands where in a block, a bit for each byte.
#[derive(Debug, Default, PartialEq, Eq)]
struct Classes {
    lower: u64,
    upper: u64,
    space: u64,
    single: u64,
    /// The byte is the one before it.
    same: u64,
}

impl Classes {
    /// Of these bytes, each with the one before it.
    fn of(block: &[u8; BLOCK], before: &[u8; BLOCK]) -> Self {
        let is = |bytes: u8x16, byte: u8| bytes.simd_eq(u8x16::splat(byte));
        let within = |bytes: u8x16, first: u8, last: u8| {
            let off = bytes - u8x16::splat(first);
            off.min(u8x16::splat(last - first)).simd_eq(off)
        };
        let mut classes = Self::default();
        for (at, (block, before)) in block.as_chunks().0.iter().zip(before.as_chunks().0).enumerate() {
            let bytes = u8x16::new(*block);
            let put = |found: u8x16| u64::from(found.to_bitmask()) << (at * 16);
            classes.lower |= put(within(bytes, b'a', b'z'));
            classes.upper |= put(within(bytes, b'A', b'Z'));
            let blank = is(bytes, b' ') | is(bytes, b'\t');
            classes.space |= put(blank | is(bytes, b'\n') | is(bytes, b'\r'));
            // The highest bit of a byte is what a mask is made of.
            classes.single |= put(within(bytes, b'0', b'9') | bytes);
            classes.same |= put(bytes.simd_eq(u8x16::new(*before)));
        }
        classes
    }

    /// The tokens of the block's valid bytes. Letters and marks begin anew with a block, which costs a token more at most;
    /// `blank` says that white space goes on.
    fn tokens(&self, valid: u64, blank: u64) -> u64 {
        let space = self.space & valid;
        let follows = (space << 1) | blank;
        // A single space belongs to the word that follows it, whose second letter then begins a token.
        let lone = space & !follows & !(space >> 1);
        let spaces = (space & !follows) | (space & follows & EIGHTH);
        let words = [self.lower, self.upper].map(|letters| {
            let letters = letters & valid;
            let begin = letters & !(letters << 1);
            every_second(letters, begin, begin & !(lone << 1))
        });
        let mark = valid & !(self.lower | self.upper | self.space | self.single);
        let repeated = mark & self.same & !1;
        let repeats = every_second(repeated, repeated & !(repeated << 1), 0);
        let [lower, upper] = words;
        [spaces, self.single & valid, lower, upper, mark & !repeated, repeats]
            .iter()
            .map(|bits| u64::from(bits.count_ones()))
            .sum()
    }
}

/// Of each run every second bit: from its first on where `from_first` has its first one, otherwise from its second on.
const fn every_second(runs: u64, begin: u64, from_first: u64) -> u64 {
    let even = (begin & EVEN & from_first) | (begin & !EVEN & !from_first);
    // Adding a run's first bit carries through it and clears it.
    let those = runs & !runs.wrapping_add(even);
    (those & EVEN) | (runs & !those & !EVEN)
}

fn advance(state: u8, byte: u8, before: u8) -> u8 {
    let class = CLASS[usize::from(byte)] | (u8::from(byte == before) * SAME);
    STEP[usize::from((state & 0xf0) | class)]
}

fn count(bytes: &[u8]) -> u64 {
    count_from(bytes, NONE, 0)
}

fn count_from(bytes: &[u8], mut state: u8, mut before: u8) -> u64 {
    let mut tokens = 0;
    for byte in bytes {
        state = advance(state, *byte, before);
        tokens += u64::from(state & 1);
        before = *byte;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, as it is said: run by run.
    fn said(text: &[u8]) -> u64 {
        #[derive(Clone, Copy, PartialEq)]
        enum Run {
            None,
            Letters(bool),
            Space,
            Mark(u8),
        }
        let (mut tokens, mut run, mut len) = (0u64, Run::None, 0u64);
        // A run of n that one token covers two of (or, for white space, eight).
        let closed = |run: Run, len: u64| match run {
            Run::None => 0,
            Run::Letters(_) | Run::Mark(_) => len.div_ceil(2),
            Run::Space => len.div_ceil(8),
        };
        for byte in text {
            let next = match *byte {
                b'a'..=b'z' => Run::Letters(true),
                b'A'..=b'Z' => Run::Letters(false),
                b' ' | b'\n' | b'\t' | b'\r' => Run::Space,
                b'0'..=b'9' | 0x80.. => Run::None,
                mark => Run::Mark(mark),
            };
            if next == Run::None {
                tokens += closed(run, len) + 1;
                (run, len) = (Run::None, 0);
            } else if next == run {
                len += 1;
            } else if run == Run::Space && len == 1 && matches!(next, Run::Letters(_)) {
                (run, len) = (next, 2);
            } else {
                tokens += closed(run, len);
                (run, len) = (next, 1);
            }
        }
        tokens + closed(run, len)
    }

    #[test]
    fn runs_of_every_length_are_counted() {
        for unit in ["a", "A", " ", "-", "7", "é", "\0", "a ", " a", "  a", "Aa", "--", "a\nb "] {
            for times in (0..140).chain([200, 511, 512, 513, 1_000, 4_099]) {
                let text = unit.repeat(times);
                assert_bound(text.as_bytes());
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_count_the_same_as_they_are_said(
            bytes in proptest::collection::vec(
                prop_oneof![6 => b'a'..b'd', 2 => b'A'..b'C', 4 => Just(b' '), 1 => Just(b'\n'), 2 => b'-'..b'0', 1 => any::<u8>()],
                0..3_000,
            ),
        ) {
            assert_bound(&bytes);
            let more = most_tokens(&bytes);
            prop_assert!(bytes.len() < 2 || most_tokens(&bytes[..bytes.len() - 1]) <= more);
        }

        #[test]
        fn blocks_are_seen_as_bytes_are(block in any_block(), before in any_block()) {
            let mut classes = Classes::default();
            for (at, (byte, before)) in block.iter().zip(&before).enumerate() {
                match CLASS[usize::from(*byte)] {
                    LOWER => classes.lower |= 1 << at,
                    UPPER => classes.upper |= 1 << at,
                    SPACE => classes.space |= 1 << at,
                    SINGLE => classes.single |= 1 << at,
                    _ => {}
                }
                classes.same |= u64::from(byte == before) << at;
            }
            prop_assert_eq!(Classes::of(&block, &before), classes);
        }
    }

    fn any_block() -> impl Strategy<Value = [u8; BLOCK]> {
        let byte = prop_oneof![any::<u8>(), Just(b' '), b'a'..=b'z', Just(b'-')];
        proptest::collection::vec(byte, BLOCK).prop_map(|bytes| bytes.try_into().unwrap())
    }

    /// Never less than said; more by two tokens a block at most, and by one for each run of much white space.
    fn assert_bound(bytes: &[u8]) {
        let (most, said) = (most_tokens(bytes), said(bytes));
        if bytes.len() < LONG {
            assert_eq!(most, said, "{bytes:?}");
            return;
        }
        let wide = bytes.split(|byte| CLASS[usize::from(*byte)] != SPACE).filter(|run| run.len() > 1).count() as u64;
        let blocks = bytes.len().div_ceil(BLOCK) as u64;
        assert!(most >= said && most <= said + 2 * blocks + wide, "{most} for {said}: {bytes:?}");
    }
}
