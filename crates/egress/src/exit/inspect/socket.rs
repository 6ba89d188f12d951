//! A WebSocket: what is left of an inspected connection once both sides have gone over to it.
//!
//! It owns the joining of both ends (RFC 6455) and its count. It reads nothing of what goes over: that the policy allows `upgrade` was decided with the
//! request; only a credential that its handshake was given is looked for in what comes back ([`Listening`]). It refuses to go over where only one side has.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::ticket::Ticket;
use crate::{
    echo::Echo,
    relay::{self, End},
};

/// So long the beginning of what may be a credential waits for the rest. Frames are conversation: who waits for one must not wait for the next.
pub const MOMENT: Duration = Duration::from_millis(100);
/// What is searched at once, in bytes.
const PIECE: usize = 16 * 1024;

/// Both ends, that have agreed.
#[derive(Debug)]
pub(super) struct Socket {
    near: OnUpgrade,
    far: OnUpgrade,
    ticket: Arc<Ticket>,
    echo: Option<Echo>,
}

impl Socket {
    /// `echo` has the credentials that the handshake was given.
    pub(super) const fn new(near: OnUpgrade, far: OnUpgrade, ticket: Arc<Ticket>, echo: Option<Echo>) -> Self {
        Self { near, far, ticket, echo }
    }

    /// Joins them until their end, and gives the word for the connection's record.
    pub(super) async fn carry(self, patience: relay::Patience) -> &'static str {
        let Self { near, far, ticket, echo } = self;
        let (near, far) = match tokio::try_join!(near, far) {
            Ok(both) => both,
            Err(_) => {
                ticket.failed("lost");
                return "lost";
            }
        };
        let (mut near, mut far) = (TokioIo::new(near), Listening::new(TokioIo::new(far), echo));
        let (carried, end) = relay::join(&mut near, &mut far, patience, ticket.stop()).await;
        ticket.carried(carried);
        let code = match end {
            End::Whole => {
                ticket.whole();
                return "";
            }
            End::Silent => "silent",
            End::Stopped => ticket.why(),
            End::First(_) => "client_lost",
            End::Second(_) if far.found => "credential_echoed",
            End::Second(_) => "lost",
        };
        ticket.failed(code);
        code
    }
}

/// The origin's end. What it says is searched for credentials, and breaks off before one. *Invariant:* nothing is held back for longer than a
/// [`MOMENT`].
struct Listening<S> {
    inner: S,
    echo: Option<Echo>,
    room: Vec<u8>,
    /// Searched, and not handed on yet.
    ready: Bytes,
    /// Until when the beginning of a credential is held back.
    waiting: Option<Pin<Box<Sleep>>>,
    over: bool,
    found: bool,
}

impl<S> Listening<S> {
    fn new(inner: S, echo: Option<Echo>) -> Self {
        let room = vec![0; if echo.is_some() { PIECE } else { 0 }];
        Self { inner, echo, room, ready: Bytes::new(), waiting: None, over: false, found: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(echo) = &mut this.echo else { return Pin::new(&mut this.inner).poll_read(cx, buf) };
        loop {
            if !this.ready.is_empty() {
                let length = this.ready.len().min(buf.remaining());
                buf.put_slice(this.ready.get(..length).unwrap_or_default());
                this.ready.advance(length);
                return Poll::Ready(Ok(()));
            }
            if this.over {
                return Poll::Ready(Ok(()));
            }
            let mut read = ReadBuf::new(&mut this.room);
            match Pin::new(&mut this.inner).poll_read(cx, &mut read) {
                Poll::Ready(done) => done?,
                Poll::Pending => {
                    let Some(waiting) = &mut this.waiting else { return Poll::Pending };
                    ready!(waiting.as_mut().poll(cx));
                    this.waiting = None;
                    this.ready = echo.rest();
                    continue;
                }
            }
            if read.filled().is_empty() {
                this.over = true;
                this.ready = echo.rest();
                continue;
            }
            let Some(searched) = echo.push(Bytes::copy_from_slice(read.filled())) else {
                this.found = true;
                return Poll::Ready(Err(io::Error::other("the origin repeats a credential")));
            };
            this.ready = searched;
            this.waiting = (!echo.is_empty()).then(|| Box::pin(tokio::time::sleep(MOMENT)));
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SECRET: &[u8] = b"ghp_theSecretItself";

    fn listening() -> (tokio::io::DuplexStream, Listening<tokio::io::DuplexStream>) {
        let (far, near) = duplex(1 << 16);
        (far, Listening::new(near, Echo::new([SECRET])))
    }

    #[tokio::test(start_paused = true)]
    async fn s1_what_comes_back_breaks_off_before_a_credential_however_it_is_cut() {
        for cut in 0..SECRET.len() {
            let (mut far, mut near) = listening();
            let (one, other) = SECRET.split_at(cut);
            far.write_all(&[b"\x81\x20you said ", one].concat()).await.unwrap();
            let mut heard = vec![0; 11];
            near.read_exact(&mut heard).await.unwrap();
            far.write_all(other).await.unwrap();
            let broken = near.read_to_end(&mut heard).await.unwrap_err();
            assert!(near.found && !broken.to_string().contains("ghp_"), "{broken}");
            assert_eq!(heard, b"\x81\x20you said ");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_none_is_handed_on_whole_and_at_once_or_after_a_moment() {
        let (mut far, mut near) = listening();
        far.write_all(b"a word, and gh").await.unwrap();
        let begun = tokio::time::Instant::now();
        let mut heard = [0; 14];
        near.read_exact(&mut heard[..12]).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        near.read_exact(&mut heard[12..]).await.unwrap();
        assert_eq!((&heard, begun.elapsed()), (b"a word, and gh", MOMENT));
        far.write_all(b"p_the").await.unwrap();
        drop(far);
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"p_the");
    }
}
