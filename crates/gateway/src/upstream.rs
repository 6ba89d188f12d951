//! The one place from which a provider is dialled.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use secrecy::{ExposeSecret, SecretString};
use stockade_ledger::Opened;
use stockade_policy::Permit;

use crate::{
    limits,
    models::{Auth, Target},
};

/// What is sent.
pub(crate) struct Parcel {
    /// Where to.
    pub(crate) address: String,
    /// Without credentials.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) key: Option<SecretString>,
}

/// Why no answer began.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The request never left: the address could not be reached or the request could not be made.
    NotSent(String),
    /// The connection was lost after the request had begun to leave.
    Lost(String),
}

pub(crate) struct Upstream {
    plain: Client<HttpConnector, Full<Bytes>>,
    /// Nothing if no provider is over https, or the system's certificates cannot be read.
    secure: Option<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>,
}

impl Upstream {
    /// `secure` says whether any provider is over https: reading the system's certificates takes its time.
    pub(crate) fn new(connect: Duration, secure: bool) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(connect));
        http.set_keepalive(Some(Duration::from_secs(60)));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits::POOL_IDLE)
            .pool_max_idle_per_host(limits::POOL_CONNECTIONS)
            .http1_max_buf_size(limits::PROVIDER_BUFFER_BYTES);
        let tls = |http| {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
            connector.map(|connector| connector.https_only().enable_http1().wrap_connector(http))
        };
        let secure = secure.then(|| tls(http.clone())).and_then(|connector| match connector {
            Ok(connector) => Some(builder.build(connector)),
            Err(error) => {
                tracing::error!(%error, "the system's certificates cannot be read: providers over https are out of reach");
                None
            }
        });
        Self { plain: builder.build(http), secure }
    }

    /// Sends a request for which a record is open. The permit is used up.
    pub(crate) async fn send(
        &self,
        opened: Opened<Permit>,
        target: &Target,
        parcel: Parcel,
    ) -> Result<Response<Incoming>, SendError> {
        let request = request(target, parcel).map_err(SendError::NotSent)?;
        let permit = opened.into_permit();
        let answer = match (target.provider.base_url().scheme(), &self.secure) {
            ("https", Some(client)) => client.request(request).await,
            ("https", None) => return Err(SendError::NotSent("the system's certificates cannot be read".to_owned())),
            _ => self.plain.request(request).await,
        };
        drop(permit);
        answer.map_err(|error| {
            let text = chain(&error);
            if error.is_connect() { SendError::NotSent(text) } else { SendError::Lost(text) }
        })
    }
}

fn request(target: &Target, parcel: Parcel) -> Result<Request<Full<Bytes>>, String> {
    let provider = &target.provider;
    let uri: Uri = parcel.address.parse().map_err(|_| "no address".to_owned())?;
    let mut headers = parcel.headers;
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(key) = parcel.key {
        let (name, text) = match provider.auth() {
            Auth::XApiKey => (header::HeaderName::from_static("x-api-key"), key.expose_secret().to_owned()),
            Auth::ApiKey => (header::HeaderName::from_static("api-key"), key.expose_secret().to_owned()),
            Auth::XGoogApiKey => (header::HeaderName::from_static("x-goog-api-key"), key.expose_secret().to_owned()),
            Auth::Bearer => (header::AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| "the key is no header value".to_owned())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let mut request = Request::new(Full::new(parcel.body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// An error with everything below it, for the operator.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
