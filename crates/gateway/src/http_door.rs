//! The door over HTTP: reads a request, finds out who asks, hands both to the one way of a call, and passes on what
//! comes. Every answer of our own is in the dialect's error shape.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::{any, post},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use secrecy::SecretString;
use stockade_llm::{Dialect, anthropic::ErrorKind};
use tokio::sync::mpsc;

use crate::{
    CallError, FailureKind,
    exchange::{Broken, Exchange, Inner, Wish},
    headers,
};

const ANTHROPIC: Dialect = Dialect::Messages;

pub(crate) fn router(inner: Arc<Inner>) -> Router {
    Router::new()
        .route("/gateway/anthropic/v1/messages", post(messages).fallback(not_here))
        .route("/gateway/anthropic/v1/messages/count_tokens", any(count_tokens))
        .route("/gateway/anthropic", any(not_here))
        .route("/gateway/anthropic/", any(not_here))
        .route("/gateway/anthropic/{*rest}", any(not_here))
        .with_state(inner)
}

async fn not_here() -> Response {
    refusal(404, ErrorKind::NotFound, "there is nothing here: the gateway serves POST /v1/messages")
}

/// Clients of this dialect understand 501 and count by other means; a wrong number would mislead them.
async fn count_tokens() -> Response {
    refusal(501, ErrorKind::NotSupported, "the gateway does not count tokens yet")
}

async fn messages(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    match served(&inner, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn served(inner: &Arc<Inner>, request: Request) -> Result<Response, Response> {
    let (head, body) = request.into_parts();
    if headers::size(&head.headers) > inner.limits.header_bytes {
        return Err(refusal(431, ErrorKind::InvalidRequest, "the request's headers are too large"));
    }
    let token = token(&head.headers)
        .ok_or_else(|| refusal(401, ErrorKind::Authentication, "a token is needed: x-api-key or authorization"))?;
    let caller = inner.parts.runs.caller(&token).await;
    let caller = caller.ok_or_else(|| refusal(401, ErrorKind::Authentication, "this token is not known here"))?;
    let body = read(inner, body).await?;
    let query = head.uri.query().map(str::to_owned);
    let wish = Wish { dialect: ANTHROPIC, headers: head.headers, query, body };
    let exchange = inner.begin(caller, wish).await.map_err(|error| refused(&error))?;
    Ok(relayed(exchange).await)
}

/// The credential of the run. Both headers are in use; a client that sends both means the same by them.
fn token(headers: &HeaderMap) -> Option<SecretString> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // The scheme's case means nothing (RFC 9110, section 11.1).
    let bearer = || {
        let (scheme, token) = text(header::AUTHORIZATION)?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    };
    let token = text(header::HeaderName::from_static("x-api-key")).or_else(bearer)?.trim();
    (!token.is_empty()).then(|| SecretString::from(token))
}

async fn read(inner: &Inner, body: Body) -> Result<Bytes, Response> {
    let limit = inner.limits.request_bytes;
    let read = tokio::time::timeout(inner.limits.request_read, Limited::new(body, limit).collect()).await;
    match read {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("the request is larger than {limit} bytes");
            Err(refusal(413, ErrorKind::RequestTooLarge, &text))
        }
        Ok(Err(_)) => Err(refusal(400, ErrorKind::InvalidRequest, "the request's body was cut off")),
        Err(_) => Err(refusal(408, ErrorKind::Timeout, "the request's body did not come in time")),
    }
}

async fn relayed(exchange: Exchange) -> Response {
    let Some(head) = exchange.head else {
        let failure = exchange.end.await.ok().and_then(|finished| finished.failure);
        let text = failure.as_ref().map_or("the provider gave no answer", |failure| failure.text.as_str());
        return match failure.as_ref().map(|failure| failure.kind) {
            Some(FailureKind::TimedOut) => refusal(504, ErrorKind::Timeout, text),
            _ => refusal(502, ErrorKind::Api, text),
        };
    };
    let mut response = Response::new(Body::from_stream(chunks(exchange.body)));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

fn chunks(
    body: mpsc::Receiver<Result<Bytes, Broken>>,
) -> impl futures_util::Stream<Item = Result<Bytes, Broken>> + Send + 'static {
    futures_util::stream::unfold(body, |mut body| async move { body.recv().await.map(|chunk| (chunk, body)) })
}

fn refused(error: &CallError) -> Response {
    let (status, kind) = error.status();
    let mut response = refusal(status, kind, &error.to_string());
    if matches!(error, CallError::Busy | CallError::BusyRun) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn refusal(status: u16, kind: ErrorKind, text: &str) -> Response {
    let mut response = Response::new(Body::from(stockade_llm::anthropic::error_body(kind, text)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
