//! The way to those who give out tokens: cloud security token services, OAuth token endpoints, metadata servers.
//!
//! It refuses: plain HTTP to anybody but this machine and link-local metadata addresses, redirects, answers without an
//! end or above a limit.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use url::{Host, Url};

use super::error::{CredentialError, shown};

/// The largest answer of an authority, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;
/// How long an authority may take for its whole answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(10);

type Plain = Client<HttpConnector, Full<Bytes>>;
type Secure = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The client for authorities. Cheap to clone; one is enough for a process.
#[derive(Clone)]
pub struct Outside {
    inner: Arc<Inner>,
}

struct Inner {
    plain: Plain,
    http: HttpConnector,
    // Made with the first https address: reading the system's certificates takes its time.
    secure: OnceLock<Result<Secure, String>>,
    time: Duration,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}

impl Default for Outside {
    fn default() -> Self {
        Self::with_time(ANSWER_TIME)
    }
}

/// Who is asked, and what for: the words for errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Who, for example `the security token service`.
    pub(crate) who: &'static str,
    /// What to look at when it refuses.
    pub(crate) hint: &'static str,
}

/// What is asked. Everything in `secrets` is taken out of whatever is shown of the answer.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) secrets: Vec<&'a str>,
}

/// A successful answer. It has no `Debug`: there are secrets in it.
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Outside {
    pub(crate) fn with_time(time: Duration) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(time));
        let plain = builder().build(http.clone());
        Self { inner: Arc::new(Inner { plain, http, secure: OnceLock::new(), time }) }
    }

    /// Asks, and returns the body of a 2xx answer.
    pub(crate) async fn ask(&self, asked: Asked, question: Question<'_>) -> Result<Answer, CredentialError> {
        let at = place(question.url);
        let unreachable = |why: String| CredentialError::Unreachable { who: asked.who, at: at.clone(), why };
        allowed(asked.who, question.url)?;
        let uri: Uri = question.url.as_str().parse().map_err(|_| unreachable("its address is none".to_owned()))?;
        let mut request = Request::new(Full::new(Bytes::from(question.body)));
        *request.method_mut() = question.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = question.headers;
        let whole = async {
            let answer = self.send(request).await?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((parts, body.to_bytes()))
        };
        let (parts, body) = match tokio::time::timeout(self.inner.time, whole).await {
            Ok(answer) => answer.map_err(unreachable)?,
            Err(_) => return Err(unreachable(format!("it took longer than {} s", self.inner.time.as_secs_f32()))),
        };
        if !parts.status.is_success() {
            return Err(refusal(asked, at, parts.status, &body, &question.secrets));
        }
        Ok(Answer { headers: parts.headers, body })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<http::Response<hyper::body::Incoming>, String> {
        let secure = request.uri().scheme_str() == Some("https");
        let answer = if secure {
            let client = self.inner.secure.get_or_init(|| secure_client(self.inner.http.clone()));
            client.as_ref().map_err(Clone::clone)?.request(request).await
        } else {
            self.inner.plain.request(request).await
        };
        answer.map_err(|error| crate::upstream::chain(&error))
    }
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(10)).pool_max_idle_per_host(2);
    builder
}

fn secure_client(http: HttpConnector) -> Result<Secure, String> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
    connector
        .map(|connector| builder().build(connector.https_only().enable_http1().wrap_connector(http)))
        .map_err(|error| format!("the system's certificates cannot be read: {error}"))
}

/// An address without its query, for errors.
fn place(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}

/// An address that secrets may be sent to.
pub(crate) fn address(what: &'static str, text: &str) -> Result<Url, CredentialError> {
    // What does not read is not shown: it might be a key in the wrong place.
    let wrong = |_| CredentialError::Address { what, address: "…".to_owned(), why: "expected an address" };
    let url = Url::parse(text).map_err(wrong)?;
    allowed(what, &url)?;
    Ok(url)
}

/// Whether secrets may be sent to an address: over https, or to this machine or a link-local metadata server.
fn allowed(what: &'static str, url: &Url) -> Result<(), CredentialError> {
    let wrong = |why| Err(CredentialError::Address { what, address: place(url), why });
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("a name or password does not belong into an address");
    }
    let near = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Some(Host::Ipv6(ip)) => near_v6(ip),
        Some(Host::Domain(name)) => name == "localhost",
        None => return wrong("it has no host"),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if near => Ok(()),
        "http" => wrong("plain http is only allowed to this machine and to link-local metadata addresses"),
        _ => wrong("expected https"),
    }
}

fn near_v6(ip: std::net::Ipv6Addr) -> bool {
    // fd00:ec2::254 and fd00:ec2::23 are Amazon's metadata addresses.
    let metadata = matches!(ip.segments(), [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254 | 0x23]);
    metadata || ip.is_unicast_link_local() || IpAddr::V6(ip).to_canonical().is_loopback()
}

fn refusal(asked: Asked, at: String, status: StatusCode, body: &[u8], secrets: &[&str]) -> CredentialError {
    let text = std::str::from_utf8(body).unwrap_or_default();
    CredentialError::Refused {
        who: asked.who,
        at,
        status: status.as_u16(),
        text: shown(&words(text), secrets),
        hint: asked.hint,
    }
}

/// Code and message of an error: OAuth's `error` and `error_description`, Google's `error.status` and `error.message`,
/// Amazon's XML. Of anything else nothing is shown.
pub(super) fn words(body: &str) -> String {
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(body) {
        let text = |pointer: &str| json.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
        let first =
            |pointers: &[&str]| pointers.iter().map(|p| text(p)).find(|t| !t.is_empty()).unwrap_or_default().to_owned();
        let code = first(&["/error", "/error/status", "/code", "/Code"]);
        return format!("{code} {}", first(&["/error_description", "/error/message", "/message", "/Message"]));
    }
    match (element(body, "Code"), element(body, "Message")) {
        (Some(code), message) => format!("{code} {}", message.unwrap_or_default()),
        _ => String::new(),
    }
}

/// The text of the first element of this name: enough for Amazon's answers, whose values are plain words.
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let start = xml.find(&format!("<{name}>"))?.checked_add(name.len() + 2)?;
    let rest = xml.get(start..)?;
    rest.get(..rest.find(&format!("</{name}>"))?).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_nowhere_in_the_clear() {
        let check = |url: &str| allowed("it", &Url::parse(url).unwrap()).is_ok();
        for good in [
            "https://sts.example.com/",
            "http://127.0.0.1:8/x",
            "http://localhost:1/",
            "http://[::1]/",
            "http://169.254.169.254/latest",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
        ] {
            assert!(check(good), "{good}");
        }
        for bad in [
            "http://sts.example.com/",
            "http://10.0.0.1/",
            "http://169.253.1.1/",
            "http://[fd00:ec2::1]/",
            "http://localhost.example.com/",
            "https://a:b@example.com/",
            "ftp://127.0.0.1/",
        ] {
            assert!(!check(bad), "{bad}");
        }
    }

    #[test]
    fn the_words_of_authorities_are_found() {
        assert_eq!(words(r#"{"error":"invalid_grant","error_description":"no"}"#), "invalid_grant no");
        assert_eq!(words(r#"{"error":{"status":"DENIED","message":"m"}}"#), "DENIED m");
        assert_eq!(words("<E><Error><Code>AccessDenied</Code><Message>no</Message></Error></E>"), "AccessDenied no");
        assert_eq!(words("<html>secret</html>"), "");
        assert_eq!(element("<a><b> x </b></a>", "b"), Some("x"));
        assert_eq!(element("<b>x", "b"), None);
    }
}
