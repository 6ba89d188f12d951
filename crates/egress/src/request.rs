//! A request held against the connection that it came on.
//!
//! The environment dialled a name and a port, and perhaps said a server name in TLS; [`check`] sees that the request
//! means the same place ([`Via`]) and has one reading, and says what it wants ([`Wanted`]) for the policy to decide.
//! It refuses another host (domain fronting), userinfo, an address in place of the name, tunnels, upgrades to what is
//! not known, and a body whose length is said twice. It takes `http::request::Parts`, decides no policy and sends
//! nothing.
//!
//! What hyper 1.12 lets through, and where it is caught. HTTP/1 (read by httparse): bare line feeds, empty lines
//! before the request, tabs and bytes above 127 in values, bytes above 127 in the target; the fragment of a target is
//! cut off in silence; of equal lengths one is kept; a length beside `Transfer-Encoding` is dropped in silence, so no
//! check of `Parts` can see it. All that is refused by [`crate::head`], which every HTTP/1 head passes first. Several
//! `Host` headers, a `Host` that differs from an absolute target, userinfo, any coding before `chunked`, HTTP/1.0, any
//! `Expect`, an `Upgrade` that `Connection` does not name: refused or judged here. HTTP/2 (h2 0.4): connection headers
//! and a `te` other than `trailers` are refused by h2; a `host` beside `:authority`, none of both, several `host`,
//! several lengths, any scheme and userinfo are let through and judged here; the fragment of `:path` is cut off and
//! goes nowhere.

use http::{HeaderMap, HeaderName, Method, StatusCode, Version, header, request::Parts, uri::Scheme};

use crate::{
    head::{self, MAX_HEAD, MAX_HEADERS},
    host::{self, HostError},
    path::{NormalPath, PathError},
};

/// Headers that end at the way out: whoever forwards a request leaves them out, and says its own.
pub const ENDS_HERE: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// The connection that a request came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// What the environment dialled: a name without a dot at the end, or an address without brackets.
    pub host: &'a str,
    /// The port it dialled.
    pub port: u16,
    /// What lies between the stream and the request.
    pub layer: Layer<'a>,
}

/// Whether a connection speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer<'a> {
    /// Not.
    Plain,
    /// It does.
    Tls {
        /// The server name that the client said, if it said one: [`crate::hello::ClientHello::server_name`].
        server_name: Option<&'a str>,
    },
}

impl Via<'_> {
    fn scheme(&self) -> (Scheme, u16) {
        match self.layer {
            Layer::Plain => (Scheme::HTTP, 80),
            Layer::Tls { .. } => (Scheme::HTTPS, 443),
        }
    }
}

/// What a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The host: what was dialled, in small letters.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it came over TLS, and goes on so.
    pub tls: bool,
    /// The method.
    pub method: Method,
    /// The path for rules. Where servers read it in two ways no rule about paths can hold, and a request that needs
    /// one is refused with this reason.
    pub path: Result<NormalPath, PathError>,
    /// Path and query as the client sent them; `*` for the server as a whole.
    pub raw_target: String,
    /// Another protocol that is to follow on the connection.
    pub upgrade: Option<Upgrade>,
}

impl Wanted {
    /// The path and query that go on to the origin after a rule about paths was held against [`Wanted::path`]: what
    /// the client sent if it is equivalent, and the path that was judged if dot segments were taken out.
    pub fn target(&self) -> String {
        match &self.path {
            Ok(path) if path.moved() => match self.raw_target.split_once('?') {
                Some((_, query)) => format!("{path}?{query}"),
                None => path.to_string(),
            },
            _ => self.raw_target.clone(),
        }
    }
}

/// A protocol that a request wants to go over to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// WebSocket (RFC 6455, and RFC 8441 in HTTP/2). What follows is bytes that nobody reads: policy decides.
    WebSocket,
    /// HTTP/2 in the clear, which some clients offer with every first request (RFC 7540 §3.2). It is never followed:
    /// with [`ENDS_HERE`] left out the request is an ordinary one.
    H2c,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Another host than the connection's.
    #[error("the request is for {0}, the connection is not; connect to the host that is meant")]
    OtherHost(String),
    /// Another port than the connection's.
    #[error("the request is for port {0}, the connection is not")]
    OtherPort(u16),
    /// `http` over TLS, or `https` without.
    #[error("the request's scheme is not the connection's")]
    OtherScheme,
    /// TLS was opened for another name than the one that was dialled.
    #[error("the TLS server name {0} is not the name that was dialled")]
    OtherServerName(String),
    /// An address where a name was dialled.
    #[error("the request has an address where the dialled name should be")]
    Address,
    /// No `Host`, no `:authority`.
    #[error("the request names no host")]
    NoHost,
    /// More than one `Host`.
    #[error("the request has more than one Host header")]
    TwoHosts,
    /// `name@host`
    #[error("the request's host has userinfo; send credentials in a header")]
    UserInfo,
    /// It is no host.
    #[error("the request's host is malformed: {0}")]
    Host(HostError),
    /// It is no port.
    #[error("the port in the request's host is malformed")]
    Port,
    /// The target has none of the forms that the method may have.
    #[error("the request's target is malformed")]
    Target,
    /// A control character or tab in a value.
    #[error("the value of header {0} has a tab or control character")]
    Value(HeaderName),
    /// Both say how long the body is.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// Several lengths that differ, or one that is no number.
    #[error("the request's Content-Length is no number, or there are several")]
    Length,
    /// Anything but `chunked`.
    #[error("the request's Transfer-Encoding is not chunked alone")]
    Coding,
    /// A header about the connection where there is none, or one that names what it may not.
    #[error("header {0} is not allowed to say this here")]
    Connection(HeaderName),
    /// More or longer headers than [`MAX_HEADERS`] and [`MAX_HEAD`].
    #[error("the request has more than 100 headers or 64 KiB of them")]
    TooLarge,
    /// Something else than `100-continue`.
    #[error("the request expects something else than 100-continue")]
    Expect,
    /// A tunnel.
    #[error("CONNECT is not allowed here: connections go out by themselves, without a proxy")]
    Tunnel,
    /// An upgrade to what is not known.
    #[error("the request wants to go over to a protocol other than websocket")]
    Upgrade,
    /// A WebSocket that is none.
    #[error("the request to open a websocket is malformed")]
    WebSocket,
    /// A version that is not spoken here.
    #[error("the request's version of HTTP is not spoken here")]
    Version,
}

impl RequestError {
    /// What is answered. After an answer of 400 an HTTP/1 connection is closed.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::OtherHost(_) | Self::OtherPort(_) | Self::OtherScheme | Self::OtherServerName(_) | Self::Address => {
                StatusCode::MISDIRECTED_REQUEST
            }
            Self::Tunnel => StatusCode::METHOD_NOT_ALLOWED,
            Self::Upgrade => StatusCode::NOT_IMPLEMENTED,
            Self::Expect => StatusCode::EXPECTATION_FAILED,
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Holds a request against its connection. `protocol` is the `:protocol` of an extended CONNECT in HTTP/2
/// (`hyper::ext::Protocol`), where there is one.
///
/// - *Host*: HTTP/1 has exactly one `Host`, HTTP/2 has `:authority`; each of them, an absolute target and a `host`
///   beside `:authority` name the connection's host and port. The port may be left out where it is the scheme's own.
/// - *Length*: one `Content-Length` (equal ones count once), or `Transfer-Encoding: chunked` in HTTP/1.1, never both.
/// - *`Connection`* names nothing but `close`, `keep-alive`, `te`, `upgrade` and `http2-settings`: it shall not make
///   the origin's side lose other headers. *`TE`*: anything but `chunked` (in HTTP/2 `trailers` alone); it ends here.
/// - *`Expect`*: `100-continue` or 417. *`Upgrade`*: WebSocket is told to the policy, h2c is told and never followed,
///   anything else is 501. *CONNECT* is 405, an extended one 501 unless it is for a WebSocket.
///
/// # Errors
/// What stands in no one reading, or is for another place: [`RequestError::status`] says what to answer.
pub fn check(via: &Via<'_>, parts: &Parts, protocol: Option<&str>) -> Result<Wanted, RequestError> {
    if let Layer::Tls { server_name: Some(name) } = via.layer
        && !name.eq_ignore_ascii_case(via.host)
    {
        return Err(RequestError::OtherServerName(name.to_owned()));
    }
    values(&parts.headers)?;
    let upgrade = match parts.version {
        Version::HTTP_10 | Version::HTTP_11 => first_version(via, parts)?,
        Version::HTTP_2 => second_version(via, parts, protocol)?,
        _ => return Err(RequestError::Version),
    };
    let raw_target = match parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str) {
        Some("*") if parts.method == Method::OPTIONS => "*".to_owned(),
        // An absolute target without a path: `http://host?query`.
        Some(target) if target.starts_with('?') => format!("/{target}"),
        Some(target) if target.starts_with('/') => target.to_owned(),
        Some(_) => return Err(RequestError::Target),
        None => "/".to_owned(),
    };
    if !raw_target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RequestError::Target);
    }
    let path = NormalPath::read(raw_target.split('?').next().unwrap_or_default());
    let host = via.host.to_ascii_lowercase();
    let tls = matches!(via.layer, Layer::Tls { .. });
    Ok(Wanted { host, port: via.port, tls, method: parts.method.clone(), path, raw_target, upgrade })
}

/// HTTP/1.0 and 1.1.
fn first_version(via: &Via<'_>, parts: &Parts) -> Result<Option<Upgrade>, RequestError> {
    if parts.method == Method::CONNECT {
        return Err(RequestError::Tunnel);
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next().ok_or(RequestError::NoHost)?;
    if hosts.next().is_some() {
        return Err(RequestError::TwoHosts);
    }
    same_place(via, host.as_bytes())?;
    match (parts.uri.scheme(), parts.uri.authority()) {
        (None, None) => {}
        (Some(scheme), Some(authority)) => absolute(via, scheme, authority.as_str())?,
        _ => return Err(RequestError::Target),
    }
    length(parts)?;
    let named = connection(&parts.headers)?;
    expect(&mut parts.headers.get_all(header::EXPECT).iter())?;
    te(&parts.headers, |word| !word.eq_ignore_ascii_case("chunked"))?;
    upgrade(parts, &named)
}

/// HTTP/2.
fn second_version(via: &Via<'_>, parts: &Parts, protocol: Option<&str>) -> Result<Option<Upgrade>, RequestError> {
    let socket = match (parts.method == Method::CONNECT, protocol) {
        (false, None) => None,
        (true, Some("websocket")) => Some(Upgrade::WebSocket),
        (true, None) => return Err(RequestError::Tunnel),
        (_, Some(_)) => return Err(RequestError::Upgrade),
    };
    let authority = parts.uri.authority().ok_or(RequestError::NoHost)?;
    let scheme = parts.uri.scheme().ok_or(RequestError::Target)?;
    absolute(via, scheme, authority.as_str())?;
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    if let Some(host) = hosts.next() {
        same_place(via, host.as_bytes())?;
    }
    if hosts.next().is_some() {
        return Err(RequestError::TwoHosts);
    }
    for name in &ENDS_HERE {
        let may = [header::TE, header::TRAILER, header::PROXY_AUTHORIZATION].contains(name);
        if !may && parts.headers.contains_key(name) {
            return Err(RequestError::Connection(name.clone()));
        }
    }
    length(parts)?;
    expect(&mut parts.headers.get_all(header::EXPECT).iter())?;
    te(&parts.headers, |word| word.eq_ignore_ascii_case("trailers"))?;
    Ok(socket)
}

/// A target that says scheme and host itself.
fn absolute(via: &Via<'_>, scheme: &Scheme, authority: &str) -> Result<(), RequestError> {
    if *scheme != via.scheme().0 {
        return Err(RequestError::OtherScheme);
    }
    same_place(via, authority.as_bytes())
}

/// Whether a host with or without a port is the connection's.
fn same_place(via: &Via<'_>, text: &[u8]) -> Result<(), RequestError> {
    if text.contains(&b'@') {
        return Err(RequestError::UserInfo);
    }
    let border = match text.first() {
        None => return Err(RequestError::NoHost),
        Some(b'[') => text.iter().position(|byte| *byte == b']').map(|at| at + 1),
        Some(_) => Some(text.iter().position(|byte| *byte == b':').unwrap_or(text.len())),
    };
    let (named, port) = border.and_then(|at| text.split_at_checked(at)).ok_or(RequestError::Port)?;
    same_host(via, named)?;
    let port = match port {
        [] => via.scheme().1,
        [b':', digits @ ..] if !digits.starts_with(b"0") => {
            head::number(digits).and_then(|port| u16::try_from(port).ok()).ok_or(RequestError::Port)?
        }
        _ => return Err(RequestError::Port),
    };
    if port == via.port { Ok(()) } else { Err(RequestError::OtherPort(port)) }
}

fn same_host(via: &Via<'_>, named: &[u8]) -> Result<(), RequestError> {
    let inner = named.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    if let Some(inner) = inner {
        let text = std::str::from_utf8(inner).unwrap_or_default();
        let address = text.parse::<std::net::Ipv6Addr>().map_err(|_| RequestError::Host(HostError::Character))?;
        return if via.host.parse() == Ok(address) { Ok(()) } else { Err(RequestError::Address) };
    }
    // An IPv4 address has one spelling, and only where it was dialled.
    if via.host.parse::<std::net::Ipv4Addr>().is_ok() && named == via.host.as_bytes() {
        return Ok(());
    }
    match host::name(named) {
        Ok(name) if name.eq_ignore_ascii_case(via.host) => Ok(()),
        Ok(name) => Err(RequestError::OtherHost(name)),
        Err(HostError::Address) => Err(RequestError::Address),
        Err(why) => Err(RequestError::Host(why)),
    }
}

/// The bounds, and what no value may have.
fn values(headers: &HeaderMap) -> Result<(), RequestError> {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > MAX_HEADERS || size > MAX_HEAD {
        return Err(RequestError::TooLarge);
    }
    match headers.iter().find(|(_, value)| value.as_bytes().iter().any(u8::is_ascii_control)) {
        Some((name, _)) => Err(RequestError::Value(name.clone())),
        None => Ok(()),
    }
}

fn length(parts: &Parts) -> Result<(), RequestError> {
    let lengths = parts.headers.get_all(header::CONTENT_LENGTH);
    let mut known = None;
    for value in lengths {
        let number = head::number(value.as_bytes()).ok_or(RequestError::Length)?;
        if known.replace(number).is_some_and(|before| before != number) {
            return Err(RequestError::Length);
        }
    }
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(_), _) if known.is_some() => Err(RequestError::LengthAndCoding),
        (Some(only), None) if parts.version == Version::HTTP_11 && only.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok(())
        }
        _ => Err(RequestError::Coding),
    }
}

/// The words of a header that is a list, in small letters.
fn words(headers: &HeaderMap, name: &HeaderName) -> Result<Vec<String>, RequestError> {
    let mut all = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| RequestError::Connection(name.clone()))?;
        all.extend(text.split(',').map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty()));
    }
    Ok(all)
}

fn connection(headers: &HeaderMap) -> Result<Vec<String>, RequestError> {
    let named = words(headers, &header::CONNECTION)?;
    let known = |word: &String| ["close", "keep-alive", "te", "upgrade", "http2-settings"].contains(&word.as_str());
    if named.iter().all(known) { Ok(named) } else { Err(RequestError::Connection(header::CONNECTION)) }
}

fn te(headers: &HeaderMap, may: impl Fn(&str) -> bool) -> Result<(), RequestError> {
    let all = words(headers, &header::TE)?;
    let fine = all.iter().all(|word| may(word.split(';').next().unwrap_or_default().trim()));
    if fine { Ok(()) } else { Err(RequestError::Connection(header::TE)) }
}

fn expect<'a>(values: &mut impl Iterator<Item = &'a http::HeaderValue>) -> Result<(), RequestError> {
    match (values.next(), values.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(()),
        _ => Err(RequestError::Expect),
    }
}

/// Where an HTTP/1 request wants to go over to.
fn upgrade(parts: &Parts, named: &[String]) -> Result<Option<Upgrade>, RequestError> {
    let wanted = words(&parts.headers, &header::UPGRADE)?;
    let listed = named.iter().any(|word| word == "upgrade");
    match wanted.as_slice() {
        [] if parts.headers.contains_key(header::UPGRADE) => Err(RequestError::Connection(header::UPGRADE)),
        [] => Ok(None),
        _ if !listed || parts.version == Version::HTTP_10 => Err(RequestError::Connection(header::UPGRADE)),
        [only] if only == "h2c" => Ok(Some(Upgrade::H2c)),
        [only] if only == "websocket" => {
            let one = |name| parts.headers.get_all(name).iter().count() == 1;
            let version = parts.headers.get(header::SEC_WEBSOCKET_VERSION);
            let whole = one(header::SEC_WEBSOCKET_KEY) && one(header::SEC_WEBSOCKET_VERSION);
            let body = parts.headers.contains_key(header::TRANSFER_ENCODING)
                || parts.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
            let thirteen = version.is_some_and(|version| version == "13");
            let good = parts.method == Method::GET && whole && thirteen && !body;
            if good { Ok(Some(Upgrade::WebSocket)) } else { Err(RequestError::WebSocket) }
        }
        _ => Err(RequestError::Upgrade),
    }
}

#[cfg(test)]
mod tests;
