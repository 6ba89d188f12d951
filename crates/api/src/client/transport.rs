//! One request and its answer, with every failure turned into an [`ApiError`].

use std::{pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use reqwest::{Method, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::error::{ApiError, ErrorBody, Fault, chain};

use super::{MAX_ANSWER, TIMEOUT_S};

/// Bytes as they arrive.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, ApiError>> + Send>>;

/// How long a stream may be silent, in seconds, before it is given up.
const SILENCE_S: u64 = 120;

/// How long a connection may take, in seconds.
const CONNECT_S: u64 = 10;

#[derive(Clone)]
pub(super) struct Transport {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
    /// `the server` or `the site's listener`, for messages.
    peer: &'static str,
}

/// Shows where to, never the token.
impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// A request that has not been sent.
pub(super) struct Call<'a> {
    transport: &'a Transport,
    request: reqwest::RequestBuilder,
    waits_ms: u64,
}

impl Transport {
    pub(super) fn new(base: &str, token: Option<SecretString>, peer: &'static str) -> Result<Self, ApiError> {
        let wrong = |why: String| {
            ApiError::new(Fault::Config, "bad_address", format!("`{base}` is no address of {peer}: {why}"))
                .hint("Write it like http://127.0.0.1:7080.")
        };
        let base_url = Url::parse(base).map_err(|error| wrong(error.to_string()))?;
        if !matches!(base_url.scheme(), "http" | "https") || base_url.host().is_none() {
            return Err(wrong("it must begin with http:// or https:// and name a host".to_owned()));
        }
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(CONNECT_S))
            .user_agent(concat!("stockade/", env!("CARGO_PKG_VERSION")));
        // A proxy of the company must never see what is meant for this machine.
        let loopback = match base_url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if loopback {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| {
            ApiError::new(Fault::Config, "no_http_client", format!("cannot prepare HTTP: {}", chain(&error)))
        })?;
        Ok(Self { http, base: base_url, token, peer })
    }

    /// A request for the path of these segments; each is escaped.
    pub(super) fn call(&self, method: Method, segments: &[&str]) -> Call<'_> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        Call { transport: self, request, waits_ms: 0 }
    }

    pub(super) fn get(&self, segments: &[&str]) -> Call<'_> {
        self.call(Method::GET, segments)
    }

    pub(super) fn post(&self, segments: &[&str]) -> Call<'_> {
        self.call(Method::POST, segments)
    }

    fn failed(&self, error: &reqwest::Error) -> ApiError {
        let (peer, base) = (self.peer, self.base.as_str());
        if error.is_connect() {
            ApiError::new(Fault::Outside, "unreachable", format!("{peer} at {base} does not answer: {}", chain(error)))
                .hint("Is it running, and is this its address? `stockade up` starts one here.")
        } else if error.is_timeout() {
            ApiError::new(Fault::Outside, "timeout", format!("{peer} at {base} took too long to answer"))
                .hint("Try again; if it stays so, look at its log.")
        } else {
            ApiError::new(
                Fault::Outside,
                "cut_off",
                format!("the connection to {peer} at {base} broke: {}", chain(error)),
            )
            .hint("Try again.")
        }
    }

    fn nonsense(&self, what: &str) -> ApiError {
        ApiError::new(Fault::Outside, "unexpected_answer", format!("{} at {} {what}", self.peer, self.base))
            .hint("Is that really a Stockade of this version?")
    }

    async fn refused(&self, response: Response) -> ApiError {
        let status = response.status();
        match self.read(response).await {
            Err(error) => error,
            Ok(body) => match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(body) => body.error,
                Err(_) if status == StatusCode::UNAUTHORIZED => {
                    ApiError::new(Fault::Refused, "unauthenticated", format!("{} does not know this token", self.peer))
                }
                Err(_) => self.nonsense(&format!("answered with HTTP {} and no error of ours", status.as_u16())),
            },
        }
    }

    async fn read(&self, response: Response) -> Result<Bytes, ApiError> {
        let mut body = BytesMut::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.failed(&error))?;
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(ApiError::new(
                    Fault::Outside,
                    "answer_too_long",
                    format!("{} answered with more than {MAX_ANSWER} bytes", self.peer),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

impl Call<'_> {
    pub(super) fn query(mut self, query: &impl Serialize) -> Self {
        self.request = self.request.query(query);
        self
    }

    pub(super) fn body(mut self, body: &impl Serialize) -> Self {
        self.request = self.request.json(body);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// The peer may hold the request so long before it answers.
    pub(super) const fn waits(mut self, ms: u64) -> Self {
        self.waits_ms = ms;
        self
    }

    async fn answer(self, limited: bool) -> Result<Response, ApiError> {
        let mut request = self.request;
        if limited {
            let limit = Duration::from_secs(TIMEOUT_S).saturating_add(Duration::from_millis(self.waits_ms));
            request = request.timeout(limit);
        }
        let response = request.send().await.map_err(|error| self.transport.failed(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.transport.refused(response).await) }
    }

    pub(super) async fn bytes(self) -> Result<Bytes, ApiError> {
        let transport = self.transport;
        let response = self.answer(true).await?;
        transport.read(response).await
    }

    /// The status and the body, also of a refusal: for a peer whose errors have another shape than ours.
    pub(super) async fn whatever(self) -> Result<(u16, Bytes), ApiError> {
        let transport = self.transport;
        let request = self.request.timeout(Duration::from_secs(TIMEOUT_S));
        let response = request.send().await.map_err(|error| transport.failed(&error))?;
        let status = response.status().as_u16();
        Ok((status, transport.read(response).await?))
    }

    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        let transport = self.transport;
        let body = self.bytes().await?;
        serde_json::from_slice(&body)
            .map_err(|error| transport.nonsense(&format!("answered with something else than expected: {error}")))
    }

    pub(super) async fn stream(self) -> Result<ByteStream, ApiError> {
        let transport = self.transport.clone();
        let response = self.answer(false).await?;
        let chunks = Box::pin(response.bytes_stream());
        let state = Some((chunks, transport));
        Ok(Box::pin(futures_util::stream::unfold(state, |state| async move {
            let (mut chunks, transport) = state?;
            match tokio::time::timeout(Duration::from_secs(SILENCE_S), chunks.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some((chunks, transport)))),
                Ok(Some(Err(error))) => Some((Err(transport.failed(&error)), None)),
                Err(_) => Some((
                    Err(ApiError::new(
                        Fault::Outside,
                        "silent",
                        format!("{} has said nothing for {SILENCE_S} seconds", transport.peer),
                    )),
                    None,
                )),
            }
        })))
    }
}
