//! Sealed content: ciphertext by its digest, per run. Nothing here can be opened with anything that is here.

use stockade_domain::{ContentRef, Digest, Timestamp, ids::RunId};

use crate::{Result, Tx};

/// The largest piece, in bytes.
pub const MAX_CONTENT: usize = 64 * 1024 * 1024;

/// Keeps a sealed piece. Repeatable. `Invalid` if the bytes are not those of the reference.
pub async fn put(tx: &mut Tx, run: RunId, content: ContentRef, sealed: &[u8], now: Timestamp) -> Result<()> {
    todo!()
}

/// The sealed bytes of a run's piece.
pub async fn get(tx: &mut Tx, run: RunId, digest: Digest) -> Result<(ContentRef, Vec<u8>)> {
    todo!()
}

/// What there is of a run, without the bytes, in the order of arrival, at most `limit`.
pub async fn list(tx: &mut Tx, run: RunId, limit: u32) -> Result<Vec<ContentRef>> {
    todo!()
}
