//! The way of requests to their origin.
//!
//! It owns what is sent there and what comes back: bodies stream both ways and are held nowhere. It refuses to send anything again: what an origin has
//! heard of is not repeated. Whoever has a [`Origin`] has been given it for requests that were decided and recorded; it decides nothing itself.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, SizeHint},
    client::conn::{http1, http2},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// So many answers of 1xx may come before the answer itself.
pub const MAX_INFORMATIONAL: u32 = 64;
/// So long a body waits for the origin's word that it is wanted (RFC 9110 §10.1.1: no client waits for ever).
pub const CONTINUE: Duration = Duration::from_secs(1);

/// The body of a request or an answer, as it streams by.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is known.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Why a body breaks off. None of its bytes are in it.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Whoever sends it is gone, or sends what is none.
    #[error("the body broke off")]
    Lost(#[source] Box<dyn Error + Send + Sync>),
    /// Policy changed, or the environment ends.
    #[error("the request was cut: {0}")]
    Cut(&'static str),
    /// It has the credential that was put into its request.
    #[error("the answer repeats a credential, and was cut before it")]
    Echo,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The connection is over, and was before the request.
    #[error("the origin has closed the connection")]
    Closed(#[source] hyper::Error),
    /// It broke off, or is none.
    #[error("the origin gave no answer that can be read")]
    Lost(#[source] Box<dyn Error + Send + Sync>),
    /// It said 1xx too often.
    #[error("the origin said more than {MAX_INFORMATIONAL} times that it will answer")]
    Informational,
}

/// Sends requests to one origin, and gives their answers when their heads have come.
#[async_trait]
pub trait Origin: Send + Sync + fmt::Debug {
    /// Sends a request. Its target and headers go out as they are, and have been made for this origin.
    ///
    /// # Errors
    /// [`OriginError`]; how much of the request the origin has heard is not known then.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, OriginError>;
}

/// An origin that speaks HTTP/1: one request after the other.
pub(crate) struct First(tokio::sync::Mutex<http1::SendRequest<Body>>);

/// An origin that speaks HTTP/2.
pub(crate) struct Second(http2::SendRequest<Body>);

impl fmt::Debug for First {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("First")
    }
}

impl fmt::Debug for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Second")
    }
}

impl First {
    pub(crate) fn new(sender: http1::SendRequest<Body>) -> Self {
        Self(tokio::sync::Mutex::new(sender))
    }
}

impl Second {
    pub(crate) const fn new(sender: http2::SendRequest<Body>) -> Self {
        Self(sender)
    }
}

fn boxed(response: Response<hyper::body::Incoming>) -> Response<Body> {
    response.map(|body| body.map_err(|error| BodyError::Lost(error.into())).boxed_unsync())
}

#[async_trait]
impl Origin for First {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, OriginError> {
        let (go, flood) = (CancellationToken::new(), CancellationToken::new());
        if request.headers().contains_key(header::EXPECT) {
            request = request.map(|body| Patient::new(body, go.clone()).boxed_unsync());
        }
        let (wanted, too_many, heard) = (go.clone(), flood.clone(), AtomicU32::new(0));
        hyper::ext::on_informational(&mut request, move |said| {
            if said.status() == StatusCode::CONTINUE {
                wanted.cancel();
            }
            if heard.fetch_add(1, Ordering::Relaxed) >= MAX_INFORMATIONAL {
                too_many.cancel();
            }
        });
        let answering = {
            let mut sender = self.0.lock().await;
            sender.ready().await.map_err(OriginError::Closed)?;
            sender.send_request(request)
        };
        tokio::select! {
            biased;
            () = flood.cancelled() => Err(OriginError::Informational),
            answer = answering => answer.map(boxed).map_err(|error| OriginError::Lost(error.into())),
        }
    }
}

#[async_trait]
impl Origin for Second {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, OriginError> {
        let mut sender = self.0.clone();
        sender.ready().await.map_err(OriginError::Closed)?;
        sender.send_request(request).await.map(boxed).map_err(|error| OriginError::Lost(error.into()))
    }
}

/// The origin's word, and the time when nobody waits for it any more.
type Waiting = (Pin<Box<WaitForCancellationFutureOwned>>, Pin<Box<tokio::time::Sleep>>);

/// A body that waits until the origin says that it wants it, or for so long.
struct Patient {
    body: Body,
    waiting: Option<Waiting>,
}

impl Patient {
    fn new(body: Body, go: CancellationToken) -> Self {
        let waiting = (Box::pin(go.cancelled_owned()), Box::pin(tokio::time::sleep(CONTINUE)));
        Self { body, waiting: Some(waiting) }
    }
}

impl hyper::body::Body for Patient {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some((go, enough)) = &mut this.waiting {
            if go.as_mut().poll(cx).is_pending() {
                ready!(enough.as_mut().poll(cx));
            }
            this.waiting = None;
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An origin that is shared by the requests of a connection.
pub(crate) type Shared = Arc<dyn Origin>;
