//! What the targets share: how an input is cut into pieces, and a world in which nothing happens by chance.
//!
//! Each target is a program in `src/bin` that hands bytes to one parser of hostile bytes and holds what comes out
//! against what the parser promises (`docs/fuzzing.md`). It refuses to know more about a parser than its public API.

use stockade_domain::{Timestamp, World};

/// A world whose time stands still and whose random bytes are all the same.
#[derive(Debug, Clone, Copy)]
pub struct Still;

impl World for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_790_000_000_000_000)
    }

    fn random(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

/// The same bytes in several ways to arrive: at once, one by one, and in pieces whose sizes the bytes decide.
pub fn arrivals(bytes: &[u8]) -> [Vec<&[u8]>; 3] {
    let mut uneven = Vec::new();
    let (mut rest, mut mark) = (bytes, bytes.len());
    while let Some(first) = rest.first() {
        mark = mark.wrapping_mul(31).wrapping_add(usize::from(*first));
        let (piece, after) = rest.split_at((1 + mark % 17).min(rest.len()));
        uneven.push(piece);
        rest = after;
    }
    [vec![bytes], bytes.chunks(1).collect(), uneven]
}
