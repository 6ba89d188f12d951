//! What is kept of a stream: its first half and its last half, within a limit.

use std::collections::VecDeque;

/// A stream's beginning and end.
#[derive(Debug, Clone)]
pub struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_max: usize,
    tail_max: usize,
    left_out: u64,
}

impl Kept {
    /// Keeps at most `max` bytes.
    pub fn new(max: usize) -> Self {
        let head_max = max / 2;
        Self { head: Vec::new(), tail: VecDeque::new(), head_max, tail_max: max - head_max, left_out: 0 }
    }

    /// Takes in a piece. Returns how many of its first bytes went into the beginning.
    pub fn push(&mut self, piece: &[u8]) -> usize {
        let room = self.head_max.saturating_sub(self.head.len()).min(piece.len());
        let (first, rest) = piece.split_at(room);
        self.head.extend_from_slice(first);
        // Only the end of a piece larger than the whole tail can stay.
        let skip = rest.len().saturating_sub(self.tail_max);
        let stays = rest.get(skip..).unwrap_or_default();
        let over = (self.tail.len() + stays.len()).saturating_sub(self.tail_max);
        self.tail.drain(..over);
        self.tail.extend(stays);
        self.left_out += (skip + over) as u64;
        room
    }

    /// The text, with the number of bytes left out between the halves.
    pub fn into_text(self) -> String {
        let tail: Vec<u8> = self.tail.into();
        if self.left_out == 0 {
            let mut all = self.head;
            all.extend(tail);
            return String::from_utf8_lossy(&all).into_owned();
        }
        format!(
            "{}\n[… {} bytes left out …]\n{}",
            String::from_utf8_lossy(&self.head),
            self.left_out,
            String::from_utf8_lossy(&tail)
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn at_the_limit_nothing_is_left_out_and_one_above_something_is() {
        let mut kept = Kept::new(10);
        kept.push(b"0123456789");
        assert_eq!(kept.clone().into_text(), "0123456789");
        kept.push(b"x");
        assert_eq!(kept.into_text(), "01234\n[… 1 bytes left out …]\n6789x");
    }

    proptest! {
        #[test]
        fn beginning_end_and_number_are_right(
            pieces in proptest::collection::vec("[a-z]{0,30}", 0..12), max in 0usize..60
        ) {
            let mut kept = Kept::new(max);
            for piece in &pieces {
                kept.push(piece.as_bytes());
            }
            let all = pieces.concat();
            let text = kept.into_text();
            if all.len() <= max {
                prop_assert_eq!(text, all);
            } else {
                let head = &all[..max / 2];
                let tail = &all[all.len() - (max - max / 2)..];
                prop_assert_eq!(text, format!("{head}\n[… {} bytes left out …]\n{tail}", all.len() - max));
            }
        }
    }
}
