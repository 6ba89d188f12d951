//! The provider: reads a request, answers with prepared bytes. It asks for no key and understands nothing.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::bodies;

struct Prepared {
    messages_whole: Bytes,
    messages_stream: Vec<Bytes>,
    chat_whole: Bytes,
    chat_stream: Vec<Bytes>,
}

fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    let all = |events: Vec<String>| events.into_iter().map(Bytes::from).collect();
    PREPARED.get_or_init(|| Prepared {
        messages_whole: bodies::messages_whole().into(),
        messages_stream: all(bodies::messages_stream()),
        chat_whole: bodies::chat_whole().into(),
        chat_stream: all(bodies::chat_stream()),
    })
}

/// An answer: in one piece, or event after event, each in a write of its own as a model's tokens come.
enum Answer {
    Whole(Option<Bytes>),
    Events { events: &'static [Bytes], next: usize, rest: bool, hold: bool },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            // Between two events the connection is polled anew: what was written before is sent.
            Self::Events { rest: rest @ true, hold, next, .. } => {
                if !(*hold && *next > 2) {
                    *rest = false;
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Self::Events { events, next, rest, .. } => {
                let event = events.get(*next).cloned();
                *next += 1;
                *rest = true;
                Poll::Ready(event.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Events { .. } => hyper::body::SizeHint::default(),
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, hyper::Error> {
    let hold = request.headers().contains_key(bodies::HOLD);
    let chat = request.uri().path().contains("chat/completions");
    let body = request.into_body().collect().await?.to_bytes();
    let stream = [&b"\"stream\":true"[..], b"\"stream\": true"]
        .iter()
        .any(|wanted| memchr::memmem::find(&body, wanted).is_some());
    let prepared = prepared();
    let (whole, events) = if chat {
        (&prepared.chat_whole, &prepared.chat_stream)
    } else {
        (&prepared.messages_whole, &prepared.messages_stream)
    };
    let (kind, answer) = if stream {
        ("text/event-stream", Answer::Events { events, next: 0, rest: false, hold })
    } else {
        ("application/json", Answer::Whole(Some(whole.clone())))
    };
    let mut response = Response::new(answer);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Ok(response)
}

/// Serves until it is killed.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    })
}
