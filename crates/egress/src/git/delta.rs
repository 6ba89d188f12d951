//! Deltas: what becomes of one object to give another (gitformat-pack, "Deltified representation"). It refuses what does not add up.

/// The lengths of base and result that a delta says, and what follows.
pub(super) fn lengths(delta: &[u8]) -> Option<((u64, u64), &[u8])> {
    let mut rest = delta;
    let mut length = || {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let (byte, after) = rest.split_first()?;
            rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    let lengths = (length()?, length()?);
    Some((lengths, rest))
}

/// Puts a delta together (gitformat-pack, "Deltified representation"). `None` when it does not add up.
pub(super) fn apply(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let ((from, to), mut rest) = lengths(delta)?;
    if from != base.len() as u64 {
        return None;
    }
    let to = usize::try_from(to).ok()?;
    let mut out = Vec::with_capacity(to);
    while let Some((instruction, after)) = rest.split_first() {
        rest = after;
        if *instruction & 0x80 == 0 {
            let (piece, after) = rest.split_at_checked(usize::from(*instruction))?;
            if piece.is_empty() || out.len() + piece.len() > to {
                return None;
            }
            out.extend_from_slice(piece);
            rest = after;
            continue;
        }
        let mut number = |bits: std::ops::Range<u32>, first: u32| {
            let mut value = 0usize;
            for bit in bits {
                if instruction & (1 << bit) != 0 {
                    let (byte, after) = rest.split_first()?;
                    rest = after;
                    value |= usize::from(*byte) << (8 * (bit - first));
                }
            }
            Some(value)
        };
        let start = number(0..4, 0)?;
        let size = match number(4..7, 4)? {
            0 => 0x1_0000,
            size => size,
        };
        let piece = base.get(start..start.checked_add(size)?)?;
        if out.len() + piece.len() > to {
            return None;
        }
        out.extend_from_slice(piece);
    }
    (out.len() == to).then_some(out)
}
