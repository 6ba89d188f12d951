//! Bodies as they stream by: counted, looked at, cut.
//!
//! It owns three wrappers: of what goes to an origin ([`Going`]), of what comes from there ([`Coming`]), and of every answer to the environment
//! ([`Last`]). It holds no byte back but those in which a credential may just begin, and changes none.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::ticket::Ticket;
use crate::{
    echo::Echo,
    exit::origin::{Body, BodyError},
    guard::Busy,
    placeholder::Scanner,
};

/// The body of a request on its way to the origin.
pub(super) struct Going {
    inner: Incoming,
    ticket: Arc<Ticket>,
    /// Where the environment has placeholders.
    scanner: Option<Scanner>,
}

impl Going {
    pub(super) fn boxed(inner: Incoming, ticket: Arc<Ticket>, scan: bool) -> Body {
        Self { inner, ticket, scanner: scan.then(Scanner::new) }.boxed_unsync()
    }
}

impl hyper::body::Body for Going {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ticket.stop().is_cancelled() {
            return Poll::Ready(Some(Err(BodyError::Cut(this.ticket.why()))));
        }
        let Some(frame) = ready!(Pin::new(&mut this.inner).poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = frame.map_err(|error| {
            this.ticket.failed("client_lost");
            BodyError::Lost(error.into())
        })?;
        if let Some(data) = frame.data_ref() {
            this.ticket.went_out(data.len());
            if let Some(scanner) = &mut this.scanner {
                let seen = scanner.push(data);
                if seen.encoded || !seen.placeholders.is_empty() {
                    this.ticket.saw_placeholder();
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer that is searched for the credential which was put into its request.
pub(super) struct Searched {
    inner: Body,
    echo: Echo,
    ended: bool,
}

impl Searched {
    pub(super) fn boxed(inner: Body, echo: Echo) -> Body {
        Self { inner, echo, ended: false }.boxed_unsync()
    }

    fn search(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        match frame.into_data() {
            Ok(data) => self.echo.push(data).map(Frame::data).ok_or(BodyError::Echo),
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) if self.echo.is_in(&trailers) => Err(BodyError::Echo),
                Ok(trailers) => Ok(Frame::trailers(trailers)),
                Err(frame) => Ok(frame),
            },
        }
    }
}

impl hyper::body::Body for Searched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            // Nothing is held back behind trailers.
            Some(Ok(frame)) if frame.is_trailers() && !this.echo.is_empty() => {
                let rest = this.echo.rest();
                this.inner = trailing(this.search(frame)?);
                return Poll::Ready(Some(Ok(Frame::data(rest))));
            }
            Some(frame) => frame.and_then(|frame| this.search(frame)),
            None => {
                this.ended = true;
                let rest = this.echo.rest();
                return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
            }
        };
        this.ended = frame.is_err();
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.inner.is_end_stream() && self.echo.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, held) = (self.inner.size_hint(), self.echo.held());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(held));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

/// What is left of a body when its trailers have come.
fn trailing(trailers: Frame<Bytes>) -> Body {
    let frames = futures_util::stream::iter([Ok(trailers)]);
    http_body_util::StreamBody::new(frames).boxed_unsync()
}

/// The body of an answer on its way to the environment.
pub(super) struct Coming {
    inner: Body,
    ticket: Arc<Ticket>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl Coming {
    pub(super) fn boxed(inner: Body, ticket: Arc<Ticket>) -> Body {
        let stop = Box::pin(ticket.stop().clone().cancelled_owned());
        Self { inner, ticket, stop, ended: false }.boxed_unsync()
    }

    fn fails(&mut self, code: &'static str, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        self.ticket.failed(code);
        Poll::Ready(Some(Err(error)))
    }
}

impl hyper::body::Body for Coming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.stop.as_mut().poll(cx).is_ready() {
            let why = this.ticket.why();
            return this.fails(why, BodyError::Cut(why));
        }
        match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.ticket.came_back(data.len());
                }
                // Nobody asks what comes behind trailers.
                if frame.is_trailers() {
                    this.ended = true;
                    this.ticket.whole();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.fails(if matches!(error, BodyError::Echo) { "credential_echoed" } else { "lost" }, error)
            }
            None => {
                this.ended = true;
                this.ticket.whole();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        // Whoever reads a body of known length stops at its end, and does not ask whether there is more.
        if self.is_end_stream() && !self.ended {
            self.ticket.whole();
        }
    }
}

/// The body of every answer: tells the guard when it is over.
pub(super) struct Last {
    inner: Body,
    busy: Busy,
}

impl Last {
    pub(super) fn boxed(inner: Body, busy: Busy) -> Body {
        Self { inner, busy }.boxed_unsync()
    }
}

impl hyper::body::Body for Last {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers)) {
            this.busy.whole();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        if self.inner.is_end_stream() {
            self.busy.whole();
        }
    }
}
