//! What stands between an HTTP/1 connection of an environment and hyper.
//!
//! It owns that hyper sees no head that [`crate::head`] has not found to have one reading, and no chunked body that [`crate::chunks`] has not: [`Guard`]
//! follows the connection from head to body to the next head, hands on whole heads alone, and bodies as they come. It refuses a head that drips. What is
//! refused is answered here, once everything before it has been answered ([`Watch`]). After an upgrade it lets everything pass.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::{
    chunks::{self, ChunkError, Chunks},
    head::{self, Body, HeadError, Verdict},
};

/// How much is read at a time while a head is looked for, in bytes.
const PIECE: usize = 8 * 1024;

/// Why a connection is not followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A head that is read in two ways.
    #[error("{0}")]
    Head(#[from] HeadError),
    /// A body that is.
    #[error("{0}")]
    Chunk(#[from] ChunkError),
    /// A head that takes too long.
    #[error("the request's head did not come in {0} s")]
    Slow(u64),
}

impl Broken {
    /// The status line's end.
    const fn status(self) -> &'static str {
        match self {
            Self::Head(HeadError::TooLong | HeadError::TooManyHeaders) => "431 Request Header Fields Too Large",
            Self::Head(HeadError::Version) => "505 HTTP Version Not Supported",
            Self::Head(_) | Self::Chunk(_) => "400 Bad Request",
            Self::Slow(_) => "408 Request Timeout",
        }
    }

    fn answer(self) -> Vec<u8> {
        let (status, text) = (self.status(), format!("{self}\n"));
        let length = text.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
        )
        .into_bytes()
    }
}

/// What a guard and those who answer requests tell each other.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    broken: Option<Broken>,
    /// Requests that are being answered.
    busy: usize,
    /// An answer broke off, so that nothing can be said after it.
    spoilt: bool,
    free: bool,
    waker: Option<Waker>,
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub struct Busy {
    watch: Arc<Watch>,
    whole: bool,
}

impl Busy {
    /// The answer has been given whole.
    pub const fn whole(&mut self) {
        self.whole = true;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut told = self.watch.told();
        told.busy = told.busy.saturating_sub(1);
        told.spoilt |= !self.whole;
        if let Some(waker) = told.waker.take() {
            waker.wake();
        }
    }
}

impl Watch {
    /// One more request is being answered.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.told().busy += 1;
        Busy { watch: self.clone(), whole: false }
    }

    /// From now on, what comes is no HTTP/1 any more.
    pub fn set_free(&self) {
        self.told().free = true;
    }

    /// Why the connection was not followed any further.
    pub fn broken(&self) -> Option<Broken> {
        self.told().broken
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Every change under this lock is a single step: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
enum At {
    Head(Box<head::Reader>),
    Body(u64),
    Chunks(chunks::Reader),
    Broken,
    Free,
}

/// A connection that is followed. See the module.
#[derive(Debug)]
pub struct Guard<S> {
    inner: S,
    at: At,
    /// A head that was found good, and how much of it was handed on.
    ready: (Vec<u8>, usize),
    /// What came behind it and was not looked at yet.
    behind: Vec<u8>,
    watch: Arc<Watch>,
    patience: Duration,
    /// Until when the head that has begun is to be whole.
    until: Option<Pin<Box<Sleep>>>,
    /// What is still to be said about what was refused.
    last_words: Option<(Vec<u8>, usize)>,
}

impl<S> Guard<S> {
    /// Follows a connection from its first byte. A head may take `patience`.
    pub fn new(inner: S, watch: Arc<Watch>, patience: Duration) -> Self {
        Self {
            inner,
            at: At::Head(Box::default()),
            ready: (Vec::new(), 0),
            behind: Vec::new(),
            watch,
            patience,
            until: None,
            last_words: None,
        }
    }

    fn breaks(&mut self, why: Broken) {
        self.until = None;
        self.behind = Vec::new();
        self.at = At::Broken;
        self.watch.told().broken = Some(why);
    }

    /// Bytes where a head is to be.
    fn head(&mut self, bytes: &[u8]) {
        let At::Head(reader) = &mut self.at else { return };
        match reader.push(bytes) {
            Verdict::NeedMore => {
                let patience = self.patience;
                self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            }
            Verdict::Refused(why) => self.breaks(why.into()),
            Verdict::Ok(length) => {
                let after = match reader.body() {
                    Some(Body::Chunked) => At::Chunks(chunks::Reader::new()),
                    Some(Body::Length(0)) | None => At::Head(Box::default()),
                    Some(Body::Length(length)) => At::Body(length),
                };
                let At::Head(reader) = std::mem::replace(&mut self.at, after) else { return };
                let mut bytes = reader.into_bytes();
                self.behind = bytes.split_off(length);
                self.ready = (bytes, 0);
                self.until = None;
            }
        }
    }

    /// How many of these bytes are the body's.
    fn body(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        let (taken, over) = match &mut self.at {
            At::Body(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                (taken, *left == 0)
            }
            At::Chunks(reader) => match reader.push(bytes) {
                Chunks::NeedMore => (bytes.len(), false),
                Chunks::End(taken) => (taken, true),
                Chunks::Refused(why) => return Err(why),
            },
            At::Head(_) | At::Broken | At::Free => (0, false),
        };
        if over {
            self.at = At::Head(Box::default());
        }
        Ok(taken)
    }

    /// Hands bytes of a body on that were read together with its head.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> Result<(), ChunkError> {
        let mut behind = std::mem::take(&mut self.behind);
        let room = behind.len().min(buf.remaining());
        let free = matches!(self.at, At::Free);
        let taken = if free { room } else { self.body(behind.get(..room).unwrap_or_default())? };
        buf.put_slice(behind.get(..taken).unwrap_or_default());
        behind.drain(..taken);
        self.behind = behind;
        Ok(())
    }
}

/// A body that is read in two ways, as hyper and the one who answers hear of it.
fn refused(why: ChunkError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(rest) = this.ready.0.get(this.ready.1..).filter(|rest| !rest.is_empty()) {
                let length = rest.len().min(buf.remaining());
                buf.put_slice(rest.get(..length).unwrap_or_default());
                this.ready.1 += length;
                return Poll::Ready(Ok(()));
            }
            match &mut this.at {
                At::Free if this.behind.is_empty() => return Pin::new(&mut this.inner).poll_read(cx, buf),
                At::Broken => {
                    let mut told = this.watch.told();
                    if told.busy == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    told.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                At::Head(reader) => {
                    if this.watch.told().free {
                        this.behind = [reader.bytes(), &this.behind].concat();
                        (this.at, this.until) = (At::Free, None);
                        continue;
                    }
                    if !this.behind.is_empty() {
                        let behind = std::mem::take(&mut this.behind);
                        this.head(&behind);
                        continue;
                    }
                    let mut piece = [0; PIECE];
                    let mut read = ReadBuf::new(&mut piece);
                    match Pin::new(&mut this.inner).poll_read(cx, &mut read) {
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        // Half a head is none: it ends as if nothing had come.
                        Poll::Ready(Ok(())) if read.filled().is_empty() => return Poll::Ready(Ok(())),
                        Poll::Ready(Ok(())) => this.head(read.filled()),
                        Poll::Pending => {
                            let Some(until) = this.until.as_mut() else { return Poll::Pending };
                            ready!(until.as_mut().poll(cx));
                            this.breaks(Broken::Slow(this.patience.as_secs()));
                        }
                    }
                }
                At::Body(_) | At::Chunks(_) | At::Free if !this.behind.is_empty() => {
                    if let Err(why) = this.hand_on(buf) {
                        this.breaks(why.into());
                        return Poll::Ready(Err(refused(why)));
                    }
                    return Poll::Ready(Ok(()));
                }
                At::Body(_) | At::Chunks(_) | At::Free => {
                    let before = buf.filled().len();
                    ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                    let came = buf.filled().get(before..).unwrap_or_default();
                    match this.body(came) {
                        Ok(taken) => {
                            this.behind = came.get(taken..).unwrap_or_default().to_vec();
                            buf.set_filled(before + taken);
                        }
                        Err(why) => {
                            buf.set_filled(before);
                            this.breaks(why.into());
                            return Poll::Ready(Err(refused(why)));
                        }
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    /// Says first why the connection is not followed any further, if something was refused and everything before it was answered.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.last_words.is_none() {
            let told = this.watch.told();
            let answer = told.broken.filter(|why| !told.spoilt && told.busy == 0 && !matches!(why, Broken::Chunk(_)));
            drop(told);
            this.last_words = Some((answer.map(Broken::answer).unwrap_or_default(), 0));
        }
        while let Some((words, said)) = &mut this.last_words {
            let rest = words.get(*said..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let written = ready!(Pin::new(&mut this.inner).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *said += written;
        }
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, parts)
    }
}

#[cfg(test)]
mod tests;
