//! The bound of tokens in a text, quickly: every request is counted whole before it is sent, and a coding agent's has a hundred
//! kilobytes and more.
//!
//! A text falls into runs: letters of one case, white space, one and the same mark. What a byte adds depends only on its class and on
//! where in its run it stands, so a table of sixteen states says it without a branch that could be guessed wrongly. Long texts are
//! cut where a run begins, and the pieces are counted side by side: the processor waits for a table's answer in all of them at once.

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

/// Pieces that are counted side by side, and the length from which that is worth it.
const LANES: usize = 4;
const LONG: usize = 512;

/// At most so many tokens are in these bytes.
pub fn most_tokens(bytes: &[u8]) -> u64 {
    if bytes.len() < LONG {
        return count(bytes);
    }
    let mut lanes: [&[u8]; LANES] = [&[]; LANES];
    let mut rest = bytes;
    for (at, lane) in lanes.iter_mut().enumerate() {
        let cut = if at + 1 == LANES { rest.len() } else { cut(rest, rest.len() / (LANES - at)) };
        (*lane, rest) = rest.split_at(cut);
    }
    let together = lanes.iter().map(|lane| lane.len()).min().unwrap_or(0);
    let heads = lanes.map(|lane| lane.get(..together).unwrap_or_default());
    let (mut states, mut tokens) = ([NONE; LANES], 0_u64);
    let [a, b, c, d] = heads;
    let mut before = [0; LANES];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        let now = [*a, *b, *c, *d];
        let mut begun = 0;
        for lane in 0..LANES {
            (states[lane], begun) = (advance(states[lane], now[lane], before[lane]), begun + (states[lane] & 1));
        }
        // What the step before began is added one step later.
        tokens += u64::from(begun);
        before = now;
    }
    for ((lane, state), before) in lanes.iter().zip(states).zip(before) {
        tokens += u64::from(state & 1);
        tokens += count_from(lane.get(together..).unwrap_or_default(), state, before);
    }
    tokens
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

/// The first place from `from` on where a run begins whatever was before it; the end if there is none.
fn cut(bytes: &[u8], from: usize) -> usize {
    let from = from.max(1);
    let pairs = bytes.get(from - 1..).unwrap_or_default().windows(2);
    let begins = |pair: &[u8]| {
        let &[before, byte] = pair else { return false };
        let (last, class) = (CLASS[usize::from(before)], CLASS[usize::from(byte)]);
        match (last, class) {
            (SINGLE, _) | (_, SINGLE) => true,
            (SPACE, LOWER | UPPER) => false,
            (MARK, MARK) => before != byte,
            (last, class) => last != class,
        }
    };
    pairs.into_iter().position(begins).map_or(bytes.len(), |at| from + at)
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
            for times in (0..40).chain([200, 511, 512, 513, 1_000, 4_099]) {
                let text = unit.repeat(times);
                assert_eq!(most_tokens(text.as_bytes()), said(text.as_bytes()), "{unit:?} {times} times");
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
            prop_assert_eq!(most_tokens(&bytes), said(&bytes));
        }
    }
}
