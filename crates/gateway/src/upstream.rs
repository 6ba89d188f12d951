//! The one place from which a provider is dialled.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
pub(crate) use stockade_domain::chain;
use stockade_ledger::Opened;
use stockade_policy::Permit;

use crate::{limits, models::Target};

/// What is sent, proven and ready.
pub(crate) type Parcel = Request<Full<Bytes>>;

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
        let permit = opened.into_permit();
        let answer = match (target.provider.base_url().scheme(), &self.secure) {
            ("https", Some(client)) => client.request(parcel).await,
            ("https", None) => return Err(SendError::NotSent("the system's certificates cannot be read".to_owned())),
            _ => self.plain.request(parcel).await,
        };
        drop(permit);
        answer.map_err(|error| {
            let text = chain(&error);
            if error.is_connect() { SendError::NotSent(text) } else { SendError::Lost(text) }
        })
    }
}

/// A request to a provider, without its proof.
pub(crate) fn parcel(address: &str, mut headers: HeaderMap, body: Bytes) -> Result<Parcel, String> {
    let uri: Uri = address.parse().map_err(|_| "no address".to_owned())?;
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}
