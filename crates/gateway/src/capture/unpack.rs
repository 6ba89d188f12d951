//! Reading a packed body back.
//!
//! It owns the way from a content to the body that it stands for. What it reads was written by this gateway and opened with the
//! run's key; it is treated as hostile all the same: depth, size and the number of contents that are fetched are bounded, and the
//! body must have the checksum that it was packed with. It refuses to give a part of a body.

use std::collections::HashMap;

use bytes::Bytes;
use stockade_domain::Digest;

use super::format::{self, Mode, Piece};

/// The deepest chain that is followed.
pub const MAX_DEPTH: usize = 64;
/// The most contents that are fetched for one body.
pub const MAX_FETCHES: usize = 16_384;
/// All that is fetched and put together for one body, in bytes.
pub const MAX_BYTES: usize = 256 * 1024 * 1024;

/// Why a body cannot be had. It says nothing about the content.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError<E> {
    /// A content on which the body stands cannot be had.
    #[error("the content {digest} is part of this request and cannot be had")]
    Fetch {
        /// Which.
        digest: Digest,
        /// Why not.
        source: E,
    },
    /// A content is not in the form in which requests are packed, or not the one that it was packed against.
    #[error("the content {digest} is damaged: it does not stand for a request")]
    Damaged {
        /// Which.
        digest: Digest,
    },
    /// A bound of this module.
    #[error("the content {digest} stands on too many others, or on too large ones, to be put together")]
    TooMuch {
        /// Which.
        digest: Digest,
    },
}

/// The request that the content `digest` stands for. `fetch` gives the plain text of a content by the digest of its sealed bytes.
///
/// # Errors
/// [`UnpackError`] if a content is missing or damaged, or a bound is passed.
pub fn unpack<E>(digest: Digest, fetch: impl FnMut(Digest) -> Result<Bytes, E>) -> Result<Bytes, UnpackError<E>> {
    let mut work = Work { fetch, plains: HashMap::new(), bodies: HashMap::new(), bytes: MAX_BYTES };
    work.body(digest, 0)
}

struct Work<F> {
    fetch: F,
    plains: HashMap<Digest, Bytes>,
    bodies: HashMap<Digest, Bytes>,
    /// So many bytes may still be held.
    bytes: usize,
}

impl<E, F: FnMut(Digest) -> Result<Bytes, E>> Work<F> {
    fn plain(&mut self, digest: Digest) -> Result<Bytes, UnpackError<E>> {
        if let Some(plain) = self.plains.get(&digest) {
            return Ok(plain.clone());
        }
        if self.plains.len() >= MAX_FETCHES {
            return Err(UnpackError::TooMuch { digest });
        }
        let plain = (self.fetch)(digest).map_err(|source| UnpackError::Fetch { digest, source })?;
        self.take(digest, plain.len())?;
        self.plains.insert(digest, plain.clone());
        Ok(plain)
    }

    fn take(&mut self, digest: Digest, len: usize) -> Result<(), UnpackError<E>> {
        self.bytes = self.bytes.checked_sub(len).ok_or(UnpackError::TooMuch { digest })?;
        Ok(())
    }

    fn body(&mut self, digest: Digest, depth: usize) -> Result<Bytes, UnpackError<E>> {
        if let Some(body) = self.bodies.get(&digest) {
            return Ok(body.clone());
        }
        if depth > MAX_DEPTH {
            return Err(UnpackError::TooMuch { digest });
        }
        let damaged = || UnpackError::Damaged { digest };
        let plain = self.plain(digest)?;
        if !format::is_packed(&plain) {
            return Ok(plain);
        }
        let packed = format::read(&plain, MAX_BYTES).ok_or_else(damaged)?;
        self.take(digest, packed.len)?;
        let mut body = Vec::new();
        for piece in &packed.pieces {
            match *piece {
                Piece::Literal(bytes) => body.extend_from_slice(bytes),
                Piece::Copy { source, from, len } => {
                    let source = packed.sources.get(source).ok_or_else(damaged)?;
                    let held = match source.mode {
                        Mode::Plain => self.plain(source.digest)?,
                        Mode::Body => self.body(source.digest, depth + 1)?,
                    };
                    let end = from.checked_add(len).ok_or_else(damaged)?;
                    body.extend_from_slice(held.get(from..end).ok_or_else(damaged)?);
                }
            }
        }
        if body.len() != packed.len || crc32fast::hash(&body) != packed.crc {
            return Err(damaged());
        }
        let body = Bytes::from(body);
        self.bodies.insert(digest, body.clone());
        Ok(body)
    }
}
