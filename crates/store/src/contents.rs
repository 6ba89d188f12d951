//! Sealed content: ciphertext by its digest, per run. Nothing here can be opened with anything that is here.

use stockade_domain::{ContentRef, Digest, Timestamp, ids::RunId};
use stockade_ledger::sha256;

use crate::{
    Result, StoreError, Tx,
    sql::{Row, ask, statements},
};

statements! {
    KEEP_CONTENT = "INSERT INTO contents (run, digest, kind, len, sealed, created_at) \
                    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    WHAT_IS_THIS_CONTENT = "SELECT digest, kind, len, sealed FROM contents WHERE run = $1 AND digest = $2";
    WHAT_CONTENT_HAS_THIS_RUN = "SELECT digest, kind, len FROM contents WHERE run = $1 ORDER BY created_at, digest \
                                 LIMIT $2";
}

/// The largest piece, in bytes.
pub const MAX_CONTENT: usize = 64 * 1024 * 1024;

/// Keeps a sealed piece. Repeatable. `Invalid` if the bytes are not those of the reference.
pub async fn put(tx: &mut Tx, run: RunId, content: ContentRef, sealed: &[u8], now: Timestamp) -> Result<()> {
    verify(content, sealed)?;
    tx.run(ask!(KEEP_CONTENT, run, content.digest, content.kind.as_str(), content.len, sealed, now)).await.map(drop)
}

/// The sealed bytes of a run's piece.
pub async fn get(tx: &mut Tx, run: RunId, digest: Digest) -> Result<(ContentRef, Vec<u8>)> {
    let row = tx.maybe(ask!(WHAT_IS_THIS_CONTENT, run, digest)).await?;
    let row = row.ok_or_else(|| StoreError::not_found("content", digest))?;
    Ok((read(&row)?, row.blob("sealed")?))
}

/// What there is of a run, without the bytes, in the order of arrival, at most `limit`.
pub async fn list(tx: &mut Tx, run: RunId, limit: u32) -> Result<Vec<ContentRef>> {
    tx.all(ask!(WHAT_CONTENT_HAS_THIS_RUN, run, limit)).await?.iter().map(read).collect()
}

/// Whether these are the bytes that the reference names.
pub(crate) fn verify(content: ContentRef, sealed: &[u8]) -> Result<()> {
    let invalid = |why: String| Err(StoreError::Invalid { what: "content", why });
    if sealed.len() > MAX_CONTENT {
        return invalid(format!("{} bytes are too many: at most {MAX_CONTENT} are kept in one piece", sealed.len()));
    }
    if sealed.len() as u64 != content.len || sha256(&[sealed]) != content.digest {
        return invalid(format!("the bytes are not those of {}: send them again", content.digest));
    }
    Ok(())
}

fn read(row: &Row) -> Result<ContentRef> {
    Ok(ContentRef { kind: row.word("kind")?, digest: row.word("digest")?, len: row.count("len")? })
}
