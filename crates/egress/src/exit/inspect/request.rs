//! One request on an inspected connection, from its head to the head of its answer.
//!
//! It owns the order: held against its connection, looked through for placeholders, decided, recorded, given its credentials, sent. It refuses what is for
//! another host with 421, what policy does not allow with 403, in one line that names the policy and nothing of ours. *Invariant:* no byte of a request goes
//! out before all that; redirects come back as they are, and whoever follows one is decided again.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_EXTENSIONS, TE, TRAILER, UPGRADE},
    request::Parts,
};
use http_body_util::BodyExt;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::{Action, Deed, ResourceKind};

use super::{
    body::{Coming, Going, Last, Searched},
    line::Line,
    socket::Socket,
    ticket::Ticket,
};
use crate::{
    credential::Credential,
    echo::Echo,
    exit::{
        deciding::{Pledge, Turned},
        git::{
            Passage,
            way::{self, NoAnswer, Way},
        },
        origin::{Body, BodyError, OriginError, empty, full},
    },
    git::gate::{self, GitRequest},
    guard::Busy,
    path::{ENCODED_SLASH, NormalPath},
    placeholder::{self, Places, Verdict},
    relay::Carried,
    request::{self, ENDS_HERE, RequestError, Upgrade, Wanted},
};

/// In which a person who looks at an answer sees who gave it, and why.
pub const REFUSED: HeaderName = HeaderName::from_static("stockade-refused");
/// As much of a reason is told.
const MAX_TOLD: usize = 300;
/// So long may it take to read a secret.
const READING: Duration = Duration::from_secs(5);

/// The connection breaks off: its origin was gone before the request came, as it may be on every connection that is used again.
#[derive(Debug, thiserror::Error)]
#[error("the origin has closed the connection")]
pub(super) struct Gone;

impl Line {
    /// Answers a request.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        busy: Busy,
    ) -> Result<Response<Body>, Gone> {
        let response = self.judge(request).await?;
        Ok(response.map(|body| Last::boxed(body, busy)))
    }

    async fn judge(self: &Arc<Self>, mut request: Request<Incoming>) -> Result<Response<Body>, Gone> {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        if let Err(told) = self.origin {
            return Ok(closing(say(StatusCode::BAD_GATEWAY, told), parts.version));
        }
        let protocol = parts.extensions.get::<hyper::ext::Protocol>().map(hyper::ext::Protocol::as_str);
        let wanted = match request::check(&self.via(), &parts, protocol) {
            Ok(wanted) => wanted,
            Err(why) => return Ok(self.misread(&parts, &why).await),
        };
        let credentials = &self.exit.parts.credentials;
        let places = match placeholder::look(credentials.bindings(), &wanted, &parts.headers) {
            Verdict::Nothing => None,
            Verdict::Replace(places) => Some(places),
            Verdict::Refuse(why) => {
                self.exit.refuse_deed(self.deed(&wanted), "egress:placeholder", &why.to_string()).await;
                return Ok(say(StatusCode::FORBIDDEN, &why.to_string()));
            }
        };
        match gate::recognise(&wanted, &parts.headers) {
            Ok(None) => {}
            Ok(Some(asked)) => return self.git(asked, wanted, parts, body).await,
            Err(why) => {
                self.exit.refuse_deed(self.deed(&wanted), "egress:git", &why.to_string()).await;
                return Ok(say(StatusCode::FORBIDDEN, &why.to_string()));
            }
        }
        let ruling = self.exit.ruling(self.deed(&wanted));
        let opened = match self.exit.go(ruling).await {
            Ok(opened) => opened,
            Err(turned) => return Ok(refused(&turned, &wanted)),
        };
        let ticket = Ticket::new(&self.exit, opened, self.cut.clone(), self.spawner.tasks.clone());
        let sent = tokio::select! {
            biased;
            () = ticket.stop().cancelled() => Err(Failure::told(ticket.why(), "policy has changed")),
            sent = self.send(parts, body, &wanted, places, &ticket) => sent,
        };
        match sent {
            Ok((response, echo)) => Ok(self.answered(response, echo, &wanted, &ticket, upgrade)),
            Err(failure) => {
                ticket.failed(failure.code());
                failure.answer()
            }
        }
    }

    /// A request as a deed.
    fn deed(&self, wanted: &Wanted) -> Deed {
        let mut deed = self.bare_deed(&wanted.method);
        if wanted.upgrade == Some(Upgrade::WebSocket) {
            deed.context = deed.context.with("upgrade", "websocket");
        }
        // Without a path no rule about paths holds.
        if let Ok(path) = &wanted.path {
            deed.context = deed.context.with_content("path", path.as_str());
        }
        deed
    }

    fn bare_deed(&self, method: &Method) -> Deed {
        let mut deed = self.exit.deed(Action::RequestSend, ResourceKind::Host, &self.host, self.port);
        deed.context = deed
            .context
            .with("inspected", true)
            .with("connection", self.record.to_string())
            .with("method", method.as_str());
        deed
    }

    /// What cannot be judged, or is for another place.
    async fn misread(&self, parts: &Parts, why: &RequestError) -> Response<Body> {
        let text = why.to_string();
        self.exit.refuse_deed(self.bare_deed(&parts.method), "egress:request", &text).await;
        let answer = say(why.status(), &text);
        if why.status() == StatusCode::BAD_REQUEST { closing(answer, parts.version) } else { answer }
    }

    /// A connection that is not followed any further.
    pub(super) async fn note_broken(&self, broken: crate::guard::Broken) {
        let mut deed = self.exit.deed(Action::RequestSend, ResourceKind::Host, &self.host, self.port);
        deed.context = deed.context.with("inspected", true).with("connection", self.record.to_string());
        self.exit.refuse_deed(deed, "egress:malformed", &broken.to_string()).await;
    }

    /// Sends what was decided.
    async fn send(
        self: &Arc<Self>,
        parts: Parts,
        body: Incoming,
        wanted: &Wanted,
        places: Option<Places>,
        ticket: &Arc<Ticket>,
    ) -> Result<(Response<Body>, Option<Echo>), Failure> {
        let parts = outgoing(parts, wanted)?;
        let scan = !self.exit.parts.credentials.is_empty();
        let socket = wanted.upgrade == Some(Upgrade::WebSocket);
        if socket {
            self.upgrading();
        }
        let request = Request::from_parts(parts, Going::boxed(body, ticket.clone(), scan));
        let sent = self.pass(request, places.as_ref(), wanted).await;
        if socket && !matches!(&sent, Ok((response, _)) if response.status() == StatusCode::SWITCHING_PROTOCOLS) {
            self.upgraded(None);
        }
        sent
    }

    /// The last step to the origin, and the first one back: credentials are put in, and what comes back does not repeat them. Where it goes over
    /// to a WebSocket, its frames are still to be searched.
    async fn pass(
        &self,
        mut request: Request<Body>,
        places: Option<&Places>,
        wanted: &Wanted,
    ) -> Result<(Response<Body>, Option<Echo>), Failure> {
        let Ok(origin) = &self.origin else { return Err(Failure::Gone) };
        let used_again = self.requests.load(Ordering::Relaxed) > 1;
        let echo = match places {
            Some(places) => self.fill(request.headers_mut(), places, wanted).await?,
            None => None,
        };
        let response = match tokio::time::timeout(self.exit.limits.relay.idle, origin.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(OriginError::Closed(_))) if used_again => return Err(Failure::Gone),
            Ok(Err(error)) => {
                return Err(match self.watch.broken() {
                    Some(broken) => Failure::malformed(broken.to_string()),
                    None => Failure::told("lost", error.to_string()),
                });
            }
            Err(_) => {
                let text = "the origin does not answer".to_owned();
                return Err(Failure::Told { code: "silent", status: StatusCode::GATEWAY_TIMEOUT, text });
            }
        };
        match echo {
            None => Ok((response, None)),
            Some(echo) if echo.is_in_head(&response) => {
                Err(Failure::told("credential_echoed", "the answer repeats a credential, and is not handed on"))
            }
            Some(echo) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Ok((response, Some(echo))),
            Some(echo) => Ok((response.map(|body| Searched::boxed(body, echo)), None)),
        }
    }

    /// A request of git's is decided by what it means to git.
    async fn git(
        self: &Arc<Self>,
        asked: GitRequest,
        wanted: Wanted,
        parts: Parts,
        body: Incoming,
    ) -> Result<Response<Body>, Gone> {
        let head = match outgoing(parts, &wanted) {
            Ok(head) => head,
            Err(failure) => return failure.answer(),
        };
        let body = body.map_err(|error| BodyError::Lost(error.into())).boxed_unsync();
        let way = Arc::new(Filling { line: self.clone(), wanted: wanted.clone() });
        let (connection, tasks, cut) = (self.record, self.spawner.tasks.clone(), self.cut.clone());
        let passage = Passage { asked, wanted, connection, way, tasks, cut };
        self.exit.git(passage, head, body).await.map(handed_on).map_err(|way::Gone| Gone)
    }

    /// Puts credentials where they belong, each of them decided and recorded; gives what of them the answer must not repeat.
    async fn fill(&self, headers: &mut HeaderMap, places: &Places, wanted: &Wanted) -> Result<Option<Echo>, Failure> {
        let credentials = &self.exit.parts.credentials;
        let mut used: Vec<(&Credential, Pledge)> = Vec::new();
        let mut refused = None;
        for (placeholder, header) in places.iter() {
            let Some(credential) = credentials.behind(placeholder) else { continue };
            if used.iter().any(|(known, _)| known.name == credential.name) {
                continue;
            }
            let mut deed = self.exit.deed(Action::CredentialUse, ResourceKind::Credential, &credential.name, self.port);
            deed.context = deed
                .context
                .with("inspected", true)
                .with("connection", self.record.to_string())
                .with("host", self.host.as_str())
                .with("method", wanted.method.as_str());
            if let Ok(path) = &wanted.path {
                deed.context = deed.context.with_content("path", path.as_str());
            }
            match self.exit.pledged(self.exit.ruling(deed)).await {
                Ok(pledge) => used.push((credential, pledge)),
                Err(turned) => {
                    let title = match turned {
                        Turned::Refused(title) => title,
                        Turned::Unrecorded => "it cannot be recorded now".to_owned(),
                    };
                    refused = Some(format!("the credential in header {header} may not be used: {title}"));
                    break;
                }
            }
        }
        let mut secrets = BTreeMap::new();
        let filled = match refused {
            Some(text) => Err(Failure::Told { code: "credential", status: StatusCode::FORBIDDEN, text }),
            None => match self.secrets(used.iter().map(|(credential, _)| *credential)).await {
                Ok(read) => {
                    secrets = read;
                    placeholder::fill(headers, places, |one| secrets.get(credentials.behind(one)?.name.as_str()))
                        .map_err(|why| Failure::told("credential", why.to_string()))
                }
                Err(failure) => Err(failure),
            },
        };
        for (_, pledge) in used {
            let Ok(opened) = pledge.take() else { continue };
            let (exit, record) = (self.exit.clone(), opened.record());
            drop(opened.into_permit());
            let code = if filled.is_ok() { "" } else { "unused" };
            self.spawner.tasks.spawn(async move { exit.close_with(record, code, Carried::default(), [].into()).await });
        }
        filled?;
        // What is compressed cannot be searched for what was just put in.
        headers.remove(ACCEPT_ENCODING);
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        // A credential in Basic goes out encoded with its account, and would come back so.
        let sent = places.iter().flat_map(|(_, header)| headers.get_all(header)).filter(|value| value.is_sensitive());
        let basic = sent.filter_map(|value| value.as_bytes().strip_prefix(b"Basic "));
        let secrets = secrets.values().map(|secret| secret.expose_secret().as_bytes());
        Ok(Echo::new(secrets.chain(basic)))
    }

    /// Reads secrets whose use is recorded.
    async fn secrets<'c>(
        &self,
        used: impl Iterator<Item = &'c Credential>,
    ) -> Result<BTreeMap<&'c str, SecretString>, Failure> {
        let mut read = BTreeMap::new();
        for credential in used {
            let name = credential.name.as_str();
            let secret = match tokio::time::timeout(READING, credential.source.read()).await {
                Ok(secret) => secret,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            let secret = secret.map_err(|error| {
                tracing::warn!(run = %self.exit.who.run, credential = name, %error, "the credential `{name}` cannot be read: {error}");
                Failure::told("credential", format!("the credential `{name}` cannot be read at this site now"))
            })?;
            read.insert(name, secret);
        }
        Ok(read)
    }

    /// Makes the environment's answer of the origin's.
    fn answered(
        self: &Arc<Self>,
        mut response: Response<Body>,
        echo: Option<Echo>,
        wanted: &Wanted,
        ticket: &Arc<Ticket>,
        upgrade: OnUpgrade,
    ) -> Response<Body> {
        let status = response.status();
        ticket.answered(status);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            if wanted.upgrade != Some(Upgrade::WebSocket) || response.version() != Version::HTTP_11 {
                ticket.failed("lost");
                return say(StatusCode::BAD_GATEWAY, "the origin goes over to a protocol that nobody asked for");
            }
            let far = hyper::upgrade::on(&mut response);
            self.watch.set_free();
            self.upgraded(Some(Socket::new(upgrade, far, ticket.clone(), echo)));
            let (mut parts, _) = response.into_parts();
            parts.headers =
                kept(&parts.headers, |name| *name == CONNECTION || *name == UPGRADE || !ENDS_HERE.contains(name));
            return Response::from_parts(parts, empty());
        }
        handed_on(response.map(|body| Coming::boxed(body, ticket.clone())))
    }
}

/// The way of git's requests to the origin. It may take it more than once.
#[derive(Debug)]
struct Filling {
    line: Arc<Line>,
    wanted: Wanted,
}

#[async_trait]
impl Way for Filling {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, NoAnswer> {
        // What goes out is looked at, not what came in: the way out asks for more than it was asked for.
        let raw_target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let path = NormalPath::read(raw_target.split('?').next().unwrap_or_default());
        let wanted = Wanted { method: request.method().clone(), path, raw_target, ..self.wanted.clone() };
        let places = match placeholder::look(self.line.exit.parts.credentials.bindings(), &wanted, request.headers()) {
            Verdict::Nothing => None,
            Verdict::Replace(places) => Some(places),
            Verdict::Refuse(why) => {
                let status = StatusCode::FORBIDDEN;
                return Err(NoAnswer::Told { code: "credential", status, text: why.to_string() });
            }
        };
        Ok(self.line.pass(request, places.as_ref(), &wanted).await?.0)
    }
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Gone => Self::Gone,
            Failure::Told { code, status, text } => Self::Told { code, status, text },
        }
    }
}

/// Why nothing comes back from the origin.
enum Failure {
    /// The environment sees its connection break off, and tries again on another.
    Gone,
    Told {
        code: &'static str,
        status: StatusCode,
        text: String,
    },
}

impl Failure {
    fn told(code: &'static str, text: impl Into<String>) -> Self {
        Self::Told { code, status: StatusCode::BAD_GATEWAY, text: text.into() }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::Gone => "lost",
            Self::Told { code, .. } => code,
        }
    }

    fn malformed(text: impl Into<String>) -> Self {
        Self::Told { code: "malformed", status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    fn answer(self) -> Result<Response<Body>, Gone> {
        match self {
            Self::Gone => Err(Gone),
            Self::Told { status, text, .. } => Ok(say(status, &text)),
        }
    }
}

/// The head that goes to the origin: the same, without what ends here.
fn outgoing(mut parts: Parts, wanted: &Wanted) -> Result<Parts, Failure> {
    let malformed = || Failure::malformed("the request's target is malformed");
    let headers = std::mem::take(&mut parts.headers);
    parts.headers = kept(&headers, |name| !ENDS_HERE.contains(name));
    let target = wanted.target();
    if parts.version == Version::HTTP_2 {
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.path_and_query = Some(target.parse().map_err(|_| malformed())?);
        parts.uri = Uri::from_parts(uri).map_err(|_| malformed())?;
        // `check` has seen that it is nothing else.
        if headers.contains_key(TE) {
            parts.headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        return Ok(parts);
    }
    parts.version = Version::HTTP_11;
    parts.uri = target.parse().map_err(|_| malformed())?;
    if wanted.upgrade == Some(Upgrade::WebSocket) {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok(parts)
}

/// The answer as the environment gets it: the same, without what is about the connection to the origin.
fn handed_on(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let first = parts.version < Version::HTTP_2;
    let closes = first && (parts.version == Version::HTTP_10 || says_close(&parts.headers));
    parts.headers = kept(&parts.headers, |name| *name == TRAILER || !ENDS_HERE.contains(name));
    if first {
        parts.version = Version::HTTP_11;
    }
    let answer = Response::from_parts(parts, body);
    if closes { closing(answer, Version::HTTP_11) } else { answer }
}

/// Headers in their order, but for some.
fn kept(headers: &HeaderMap, stays: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut all = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| stays(name)) {
        all.append(name.clone(), value.clone());
    }
    all
}

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("close"))
}

/// The same as the last answer of its connection.
fn closing(mut answer: Response<Body>, version: Version) -> Response<Body> {
    if version < Version::HTTP_2 {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// What whoever asked is told when a request is refused: the title of what decided, and nothing of ours.
fn refused(turned: &Turned, wanted: &Wanted) -> Response<Body> {
    match turned {
        Turned::Refused(title) => match &wanted.path {
            // Somebody may wonder why a rule that seems to fit does not.
            Err(why) if wanted.raw_target != "*" => {
                say(StatusCode::FORBIDDEN, &format!("{title} (no rule about paths can hold: {why})"))
            }
            Ok(path) if path.as_str().contains(ENCODED_SLASH) => {
                say(StatusCode::FORBIDDEN, &format!("{title} (every reading of an encoded slash has to be permitted)"))
            }
            _ => say(StatusCode::FORBIDDEN, title),
        },
        Turned::Unrecorded => say(StatusCode::SERVICE_UNAVAILABLE, "it cannot be recorded now"),
    }
}

/// An answer of ours.
fn say(status: StatusCode, why: &str) -> Response<Body> {
    let told: String = why.chars().filter(|letter| !letter.is_control()).take(MAX_TOLD).collect();
    let mut answer = Response::new(full(format!("Stockade: {told}\n")));
    *answer.status_mut() = status;
    let plain: String = told.chars().map(|letter| if letter.is_ascii() { letter } else { '?' }).collect();
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(REFUSED, HeaderValue::try_from(plain).unwrap_or_else(|_| HeaderValue::from_static("refused")));
    answer
}
