//! The provider as a server.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    response::Response,
    routing::post,
    serve::ListenerExt,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use stockade_llm::anthropic::{ErrorKind, error_body};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Cassette, play::Play};

/// The largest request, in bytes: that of the real provider.
pub const MAX_REQUEST_BYTES: usize = 32 * 1024 * 1024;

type Shelf = Arc<BTreeMap<String, Cassette>>;

/// Serves these cassettes over Anthropic's Messages API until `stop` is cancelled. The model's name in a request is the
/// cassette's name.
///
/// # Errors
/// If two cassettes have one name, or the listener fails.
pub async fn serve(listener: TcpListener, cassettes: Vec<Cassette>, stop: CancellationToken) -> io::Result<()> {
    let mut shelf = BTreeMap::new();
    for cassette in cassettes {
        let name = cassette.name().to_owned();
        if shelf.insert(name.clone(), cassette).is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("two cassettes are called `{name}`")));
        }
    }
    let router = Router::new()
        .route("/v1/messages", post(messages))
        .fallback(not_here)
        .layer(DefaultBodyLimit::disable())
        .with_state(Shelf::new(shelf));
    // A stream is many small writes; an error here leaves the connection as it is, only slower.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

#[derive(Deserialize)]
struct Asked {
    model: String,
}

async fn messages(State(shelf): State<Shelf>, request: Request) -> Response {
    let Ok(body) = Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect().await else {
        return refusal(413, ErrorKind::RequestTooLarge, "rehearsal: the request is too large, or was cut off");
    };
    let body = body.to_bytes();
    let name = match serde_json::from_slice::<Asked>(&body) {
        Ok(asked) => asked.model,
        Err(error) => return refusal(400, ErrorKind::InvalidRequest, &format!("rehearsal: no request: {error}")),
    };
    let Some(cassette) = shelf.get(name.strip_prefix("rehearsal/").unwrap_or(&name)) else {
        let names: Vec<&str> = shelf.keys().map(String::as_str).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let text = format!("rehearsal: there is no cassette `{name}`; there are: {there}");
        return refusal(404, ErrorKind::NotFound, &text);
    };
    match cassette.play(&body) {
        Ok(play) => played(&play),
        Err(departure) => {
            tracing::warn!(cassette = cassette.name(), "a rehearsal departed from its cassette");
            refusal(400, ErrorKind::InvalidRequest, &departure.to_string())
        }
    }
}

fn played(play: &Play) -> Response {
    let (content_type, body) = if play.stream {
        ("text/event-stream; charset=utf-8", Body::from_stream(paced(play.events(), play.delay_ms)))
    } else {
        ("application/json", Body::from(play.body()))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::from_str(&play.id) {
        response.headers_mut().insert(HeaderName::from_static("request-id"), id);
    }
    response
}

fn paced(
    events: Vec<Bytes>,
    delay_ms: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    futures_util::stream::unfold(events.into_iter(), move |mut events| async move {
        let event = events.next()?;
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        Some((Ok(event), events))
    })
}

async fn not_here() -> Response {
    refusal(404, ErrorKind::NotFound, "rehearsal: only POST /v1/messages is served")
}

fn refusal(status: u16, kind: ErrorKind, text: &str) -> Response {
    let mut response = Response::new(Body::from(error_body(kind, text)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
