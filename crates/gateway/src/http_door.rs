//! The doors over HTTP: reads a request, finds out who asks, hands both to the one way of a call, and passes on what
//! comes. Every answer of our own is in the error shape of the dialect at whose door it is given.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use secrecy::SecretString;
use stockade_llm::{
    Dialect,
    neutral::{ApiFault, FaultKind},
};
use tokio::sync::mpsc;

use crate::{
    Caller, FailureKind, Proof, Unproven,
    door::{self, Door},
    exchange::{Broken, Exchange, Inner, Wish},
    headers, listing,
};

/// What stands before every door.
const PREFIX: &str = "/gateway/";

/// What stands behind the doors, and who is let in.
#[derive(Clone)]
struct House {
    inner: Arc<Inner>,
    /// Another proof than the tokens that the runs know.
    proof: Option<Arc<dyn Proof>>,
}

pub(crate) fn router(inner: Arc<Inner>, proof: Option<Arc<dyn Proof>>) -> Router {
    Router::new().route("/gateway/{*rest}", any(enter)).with_state(House { inner, proof })
}

/// A refusal of our own, not yet in anybody's shape.
struct Refusal {
    status: u16,
    fault: ApiFault,
}

impl Refusal {
    fn new(status: u16, kind: FaultKind, text: impl Into<String>) -> Self {
        Self { status, fault: ApiFault::new(kind, text) }
    }

    fn shaped(&self, dialect: Dialect) -> Response {
        let mut response = Response::new(Body::from(dialect.error_body(&self.fault)));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if dialect == Dialect::Converse {
            response.headers_mut().insert("x-amzn-errortype", amazon_type(self.fault.kind));
        }
        response
    }
}

/// The name of an error as the AWS SDKs look for it.
const fn amazon_type(kind: FaultKind) -> HeaderValue {
    HeaderValue::from_static(match kind {
        FaultKind::Authentication | FaultKind::Permission => "AccessDeniedException",
        FaultKind::NotFound => "ResourceNotFoundException",
        FaultKind::RateLimit => "ThrottlingException",
        FaultKind::Timeout => "ModelTimeoutException",
        FaultKind::Overloaded => "ServiceUnavailableException",
        FaultKind::Api | FaultKind::NotSupported => "InternalServerException",
        FaultKind::InvalidRequest | FaultKind::TooLarge => "ValidationException",
    })
}

async fn enter(State(house): State<House>, request: Request) -> Response {
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let found = door::find(request.method(), &path, request.uri().query(), upgrade);
    let (inner, query) = (&house.inner, request.uri().query());
    match found {
        Door::Call(asked) => {
            // Invoke has no error shape of Messages: its clients look for Amazon's.
            let shape = if asked.envelope == door::Envelope::Invoke { Dialect::Converse } else { asked.dialect };
            call(&house, asked, request).await.unwrap_or_else(|refusal| refusal.shaped(shape))
        }
        Door::Models(list) => match house.known(request.headers(), query).await {
            Ok(caller) => listing::all(inner, &caller, list),
            Err(refusal) => refusal.shaped(list.dialect()),
        },
        Door::Model(list, name) => match house.known(request.headers(), query).await {
            Ok(caller) => listing::one(inner, &caller, list, &name).unwrap_or_else(|| {
                let text = format!("the model `{name}` is not known here");
                Refusal::new(404, FaultKind::NotFound, text).shaped(list.dialect())
            }),
            Err(refusal) => refusal.shaped(list.dialect()),
        },
        Door::WebSocket => {
            let text = "responses come over HTTP here: send POST with `stream`";
            let mut response = Refusal::new(426, FaultKind::InvalidRequest, text).shaped(Dialect::Responses);
            response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
            response
        }
        Door::WrongMethod(dialect) => {
            Refusal::new(405, FaultKind::InvalidRequest, "this address takes POST").shaped(dialect)
        }
        Door::NotServed(dialect, text) => Refusal::new(501, FaultKind::NotSupported, text).shaped(dialect),
        Door::Nothing(dialect) => {
            let text = "there is nothing at this address of the gateway: check the base URL of your tool";
            Refusal::new(404, FaultKind::NotFound, text).shaped(dialect)
        }
    }
}

/// What is said of a token that the runs do not know.
const NOT_KNOWN: &str =
    "this token is not known here: it may have ended or been revoked (`stockade token create` makes another)";

impl House {
    async fn known(&self, headers: &HeaderMap, query: Option<&str>) -> Result<Caller, Refusal> {
        let refused = |text| {
            self.inner.metrics.refused("token");
            Refusal::new(401, FaultKind::Authentication, text)
        };
        let token =
            token(headers, query).ok_or_else(|| refused("a token is needed, where your tool has its API key"))?;
        let proven = match &self.proof {
            Some(proof) => proof.caller(&token).await,
            None => self.inner.parts.runs.caller(&token).await.ok_or(Unproven::Unknown(NOT_KNOWN)),
        };
        proven.map_err(|unproven| match unproven {
            Unproven::Unknown(text) => refused(text),
            Unproven::Later => {
                Refusal::new(503, FaultKind::Overloaded, "who calls cannot be known at the moment: try again")
            }
        })
    }
}

async fn call(house: &House, asked: door::Asked, request: Request) -> Result<Response, Refusal> {
    let inner = &house.inner;
    let (head, body) = request.into_parts();
    if headers::size(&head.headers) > inner.limits.header_bytes {
        return Err(Refusal::new(431, FaultKind::InvalidRequest, "the request's headers are too large"));
    }
    let caller = house.known(&head.headers, head.uri.query()).await?;
    let body = match read(inner, body).await {
        Ok(body) => body,
        Err(refusal) => {
            inner.note_unread(&caller, &asked, &head.headers).await;
            return Err(refusal);
        }
    };
    let query = head.uri.query().and_then(public_query);
    let dialect = asked.dialect;
    let wish = Wish { asked, headers: head.headers, query, body, own: false };
    match inner.begin(caller.clone(), wish).await {
        Ok(exchange) => relayed(exchange).await,
        Err(error) => {
            inner.parts.runs.refused(&caller, &error);
            let (status, kind) = error.status();
            // 529 is Anthropic's own word; other clients know 503.
            let status = if status == 529 && dialect != Dialect::Messages { 503 } else { status };
            let refusal = Refusal::new(status, kind, error.to_string());
            let Some(wait) = error.retry_after_ms() else { return Err(refusal) };
            let mut response = refusal.shaped(dialect);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.div_ceil(1_000).max(1)));
            Ok(response)
        }
    }
}

/// The credential of the run, wherever the client's own dialect has its key. A client that sends it twice means the same by
/// both.
pub(crate) fn token(headers: &HeaderMap, query: Option<&str>) -> Option<SecretString> {
    let text = |name: &str| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let authorization = || {
        // The scheme's case means nothing (RFC 9110, section 11.1).
        let (scheme, rest) = text("authorization")?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(rest.to_owned());
        }
        if scheme.eq_ignore_ascii_case("basic") {
            // `user:TOKEN`, for tools that know nothing else.
            let decoded = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
            return decoded.split_once(':').map(|(_, token)| token.to_owned());
        }
        // An AWS signature cannot be checked without the secret that it was made with: the access key id is the token.
        let id = rest.split_once("Credential=").filter(|_| scheme == "AWS4-HMAC-SHA256")?.1;
        id.split_once('/').map(|(id, _)| id.to_owned())
    };
    let in_header = ["x-api-key", "api-key", "x-goog-api-key"].iter().find_map(|name| text(name)).map(str::to_owned);
    let in_query = || query?.split('&').find_map(|pair| pair.strip_prefix("key=")).map(str::to_owned);
    let token = in_header.or_else(authorization).or_else(in_query)?;
    let token = token.trim();
    (!token.is_empty()).then(|| SecretString::from(token))
}

/// The client's query without what is secret or belongs to one service's address, however its name is spelt.
pub(crate) fn public_query(query: &str) -> Option<String> {
    let ours = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        !["key", "alt", "api-version", "access_token", "oauth_token"].contains(&&*name)
    };
    let kept: Vec<&str> = query.split('&').filter(ours).filter(|pair| !pair.is_empty()).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

async fn read(inner: &Inner, body: Body) -> Result<Bytes, Refusal> {
    let limit = inner.limits.request_bytes;
    let read = tokio::time::timeout(inner.limits.request_read, Limited::new(body, limit).collect()).await;
    match read {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(413, FaultKind::TooLarge, format!("the request is larger than {limit} bytes")))
        }
        Ok(Err(_)) => Err(Refusal::new(400, FaultKind::InvalidRequest, "the request's body was cut off")),
        Err(_) => Err(Refusal::new(408, FaultKind::Timeout, "the request's body did not come in time")),
    }
}

async fn relayed(exchange: Exchange) -> Result<Response, Refusal> {
    let Some(head) = exchange.head else {
        let failure = exchange.end.await.ok().and_then(|finished| finished.failure);
        let text = failure.as_ref().map_or("the provider gave no answer", |failure| failure.text.as_str());
        return Err(match failure.as_ref().map(|failure| failure.kind) {
            Some(FailureKind::TimedOut) => Refusal::new(504, FaultKind::Timeout, text),
            _ => Refusal::new(502, FaultKind::Api, text),
        });
    };
    let mut response = Response::new(Body::from_stream(chunks(exchange.body)));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    Ok(response)
}

fn chunks(
    body: mpsc::Receiver<Result<Bytes, Broken>>,
) -> impl futures_util::Stream<Item = Result<Bytes, Broken>> + Send + 'static {
    futures_util::stream::unfold(body, |mut body| async move {
        let chunk = body.recv().await?;
        if chunk.is_err() {
            // What came before it goes out first, were it only the head: who gets nothing at all does not know what became of the call.
            tokio::task::yield_now().await;
        }
        Some((chunk, body))
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn found(pairs: &[(&'static str, &str)], query: Option<&str>) -> Option<String> {
        let headers: HeaderMap =
            pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        token(&headers, query).map(|token| token.expose_secret().to_owned())
    }

    #[test]
    fn a_token_is_where_each_client_has_its_key() {
        let t = Some("t-1".to_owned());
        assert_eq!(found(&[("x-api-key", "t-1")], None), t);
        assert_eq!(found(&[("authorization", "bearer  t-1")], None), t);
        assert_eq!(found(&[("api-key", "t-1")], None), t);
        assert_eq!(found(&[("x-goog-api-key", "t-1")], None), t);
        assert_eq!(found(&[], Some("alt=sse&key=t-1")), t);
        assert_eq!(found(&[("authorization", "Basic dXNlcjp0LTE=")], None), t);
        let aws =
            "AWS4-HMAC-SHA256 Credential=t-1/20261120/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=0";
        assert_eq!(found(&[("authorization", aws)], None), t);
        assert_eq!(found(&[("authorization", "t-1")], None), None);
        assert_eq!(found(&[("x-api-key", " ")], None), None);
    }

    #[tokio::test]
    async fn what_came_before_the_provider_broke_off_reaches_the_client() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (sender, body) = mpsc::channel(2);
        sender.send(Ok(Bytes::from_static(b"half"))).await.unwrap();
        sender.send(Err(Broken)).await.unwrap();
        let body = Arc::new(std::sync::Mutex::new(Some(body)));
        let answer = move || {
            let body = body.lock().unwrap().take().unwrap();
            std::future::ready(Body::from_stream(chunks(body)))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", any(answer))).await });
        let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut came = Vec::new();
        client.read_to_end(&mut came).await.unwrap();
        let came = String::from_utf8(came).unwrap();
        assert!(came.starts_with("HTTP/1.1 200") && came.contains("half"), "{came:?}");
        assert!(!came.ends_with("0\r\n\r\n"));
    }

    #[test]
    fn a_query_loses_what_is_secret() {
        assert_eq!(public_query("beta=true&key=secret&alt=sse"), Some("beta=true".to_owned()));
        assert_eq!(public_query("key=secret"), None);
        // A provider decodes names: none of ours comes through in another spelling.
        assert_eq!(public_query("%6bey=secret&acces%73_token=secret&alt&a%20b=c"), Some("a%20b=c".to_owned()));
    }
}
