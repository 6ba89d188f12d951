//! The provider of the soak: answers both dialects, and does what the request's last message says. Slow, cut off, an error after 200,
//! frames that are none, and an answer with something in it that the policy takes out.

use std::{convert::Infallible, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::bodies;

/// What stands before the word for what happens.
pub const MARK: &str = "soak-";
/// What the policy of the soak takes out, in two pieces: between them an event ends.
pub const TICKET: [&str; 2] = ["see ACME-", "4711 there "];
/// Events that go out before a stream goes wrong.
const BEFORE: usize = 6;
/// Between two events of a slow stream.
const PAUSE: Duration = Duration::from_millis(20);

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    None,
    Slow,
    Reset,
    Error,
    Malformed,
    Ticket,
}

impl Mishap {
    pub const ALL: [Self; 6] = [Self::None, Self::Slow, Self::Reset, Self::Error, Self::Malformed, Self::Ticket];

    /// The word in the request.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "fine",
            Self::Slow => "slow",
            Self::Reset => "reset",
            Self::Error => "error",
            Self::Malformed => "malformed",
            Self::Ticket => "ticket",
        }
    }

    fn of(body: &[u8]) -> Self {
        let at = memchr::memmem::rfind(body, MARK.as_bytes()).map_or(body.len(), |at| at + MARK.len());
        let rest = body.get(at..).unwrap_or_default();
        Self::ALL.into_iter().find(|mishap| rest.starts_with(mishap.word().as_bytes())).unwrap_or(Self::None)
    }
}

/// The connection ends where more was promised.
#[derive(Debug, thiserror::Error)]
#[error("the provider of the soak broke off")]
struct BrokenOff;

type Piece = Result<Bytes, BrokenOff>;

fn error_body(chat: bool) -> &'static str {
    if chat {
        "{\"error\":{\"message\":\"no more places\",\"type\":\"server_error\",\"code\":\"overloaded\"}}"
    } else {
        "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no more places\"}}"
    }
}

fn events(chat: bool, mishap: Mishap) -> Vec<Piece> {
    let mut events = if chat { bodies::chat_stream() } else { bodies::messages_stream() };
    match mishap {
        Mishap::None | Mishap::Slow => {}
        Mishap::Reset => events.truncate(BEFORE),
        Mishap::Error => {
            events.truncate(BEFORE);
            let name = if chat { "" } else { "event: error\n" };
            events.push(format!("{name}data: {}\n\n", error_body(chat)));
        }
        Mishap::Malformed => {
            events.insert(
                BEFORE,
                "data: {\"choices\": [{\"delta\": }\n\nevent\ndata {\n\n: \u{fffd}\r\rdata: [\n\n".into(),
            );
        }
        Mishap::Ticket => {
            let text = "one two three four ";
            for (event, part) in events.iter_mut().filter(|event| event.contains(text)).zip(TICKET) {
                *event = event.replace(text, part);
            }
        }
    }
    let mut events: Vec<Piece> = events.into_iter().map(|event| Ok(Bytes::from(event))).collect();
    if mishap == Mishap::Reset {
        events.push(Err(BrokenOff));
    }
    events
}

fn whole(chat: bool, mishap: Mishap) -> (StatusCode, Vec<Piece>) {
    let body = if chat { bodies::chat_whole() } else { bodies::messages_whole() };
    let fine = |text: String| (StatusCode::OK, vec![Ok(Bytes::from(text))]);
    match mishap {
        Mishap::None | Mishap::Slow => fine(body),
        Mishap::Ticket => fine(body.replacen("one two three four ", &TICKET.concat(), 1)),
        Mishap::Malformed => fine("{\"content\": [{\"type\": \"te".to_owned()),
        Mishap::Error => (StatusCode::INTERNAL_SERVER_ERROR, vec![Ok(Bytes::from_static(error_body(chat).as_bytes()))]),
        Mishap::Reset => {
            let half = Bytes::from(body).slice(..100);
            (StatusCode::OK, vec![Ok(half), Err(BrokenOff)])
        }
    }
}

/// Each piece in a write of its own.
fn paced(pieces: Vec<Piece>, pause: Option<Duration>) -> impl Stream<Item = Result<Frame<Bytes>, BrokenOff>> {
    stream::iter(pieces).then(move |piece| async move {
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => tokio::task::yield_now().await,
        }
        piece.map(Frame::data)
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<UnsyncBoxBody<Bytes, BrokenOff>>, Infallible> {
    let chat = request.uri().path().contains("chat/completions");
    // A gateway that hangs up in mid-request gets whatever can be answered.
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mishap = Mishap::of(&body);
    let streamed = memchr::memmem::find(&body, b"\"stream\":true").is_some();
    let (kind, status, pieces) = if streamed {
        ("text/event-stream", StatusCode::OK, events(chat, mishap))
    } else {
        let (status, pieces) = whole(chat, mishap);
        ("application/json", status, pieces)
    };
    let pause = (mishap == Mishap::Slow).then_some(PAUSE);
    let mut response = Response::new(StreamBody::new(paced(pieces, pause)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Ok(response)
}

/// Serves until it is killed.
pub fn run() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    })
}
