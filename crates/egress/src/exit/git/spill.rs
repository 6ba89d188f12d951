//! Where a push lies while it is judged: a file without a name, so that it is gone with whoever holds it, however that ends.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::way::{Body, BodyError};
use crate::git::pack::Shelf;

/// What is read at once of it.
const PIECE: u64 = 128 << 10;

/// See the module. The pack stands behind what the client said before it.
#[derive(Debug)]
pub(super) struct Spill {
    file: Arc<File>,
    /// Where the pack begins.
    pack: u64,
    length: u64,
}

impl Spill {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: Arc::new(tempfile::tempfile_in(folder)?), pack: 0, length: 0 })
    }

    /// Lays down what stands before the pack.
    pub(super) fn before(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lay(bytes)?;
        self.pack = self.length;
        Ok(())
    }

    /// All of it, in bytes.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// All of it, as the body of a request.
    pub(super) fn body(&self) -> Body {
        let (file, length) = (self.file.clone(), self.length);
        let pieces = stream::unfold(0_u64, move |at| {
            let file = file.clone();
            async move {
                if at >= length {
                    return None;
                }
                let wanted = PIECE.min(length - at);
                let read = tokio::task::spawn_blocking(move || piece(&file, at, wanted)).await;
                let read = read.map_err(io::Error::other).and_then(|read| read);
                Some((read.map(Frame::data).map_err(|error| BodyError::Lost(error.into())), at + wanted))
            }
        });
        StreamBody::new(pieces).boxed_unsync()
    }
}

fn piece(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = BytesMut::zeroed(usize::try_from(length).unwrap_or_default());
    file.read_exact_at(&mut piece, at)?;
    Ok(piece.freeze())
}

impl Shelf for Spill {
    fn lay(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn take(&mut self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, self.pack.saturating_add(offset as u64))
    }
}
