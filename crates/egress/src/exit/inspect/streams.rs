//! Streams of an inspected connection: what is counted, and when they were last used.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// What went over a connection, and when something last did.
#[derive(Debug)]
pub(super) struct Activity {
    begun: Instant,
    /// In milliseconds since it began.
    last: AtomicU64,
    out: AtomicU64,
    back: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), last: AtomicU64::new(0), out: AtomicU64::new(0), back: AtomicU64::new(0) }
    }

    /// Bytes to the origin and from it.
    pub(super) fn counted(&self) -> (u64, u64) {
        (self.out.load(Ordering::Relaxed), self.back.load(Ordering::Relaxed))
    }

    /// Ends when nothing has gone over either way for so long.
    pub(super) async fn silence(&self, idle: Duration) {
        loop {
            let until = self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed)) + idle;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    fn moved(&self) {
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }
}

/// The stream to an origin, of which every byte is counted.
#[derive(Debug)]
pub(super) struct Counted<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S> Counted<S> {
    pub(super) const fn new(inner: S, activity: Arc<Activity>) -> Self {
        Self { inner, activity }
    }

    fn wrote(&self, written: usize) {
        self.activity.out.fetch_add(written as u64, Ordering::Relaxed);
        self.activity.moved();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.activity.back.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        self.activity.moved();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, parts))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }
}

/// The environment's stream, with what was read of it already.
#[derive(Debug)]
pub(super) struct Replayed<S> {
    first: Vec<u8>,
    given: usize,
    inner: S,
    activity: Arc<Activity>,
}

impl<S> Replayed<S> {
    pub(super) const fn new(first: Vec<u8>, inner: S, activity: Arc<Activity>) -> Self {
        Self { first, given: 0, inner, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(rest) = self.first.get(self.given..).filter(|rest| !rest.is_empty()) {
            let length = rest.len().min(buf.remaining());
            buf.put_slice(rest.get(..length).unwrap_or_default());
            self.given += length;
            if self.given == self.first.len() {
                (self.first, self.given) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.activity.moved();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.activity.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, parts))?;
        self.activity.moved();
        Poll::Ready(Ok(written))
    }
}
