//! The listener inside the site: the gateway's routes, and what people may read and do with a content ticket.
//!
//! Owns the check of tickets, the deeds behind each request, and that a reading is recorded before a byte of it is given. It
//! refuses everything that could be asked of the server. `stockade_api::site` says what travels.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt as _,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use stockade_api::{
    error::{ApiError, ErrorBody, Fault},
    guest::{Exec, Op, Reply},
    http::SealedContent,
    site::{ExecFrame, ExecRequest, MAX_SEAL, Seal, TranscriptLine},
    ticket::Ticket,
};
use stockade_domain::{
    Action, ContentKind, Context, Deed, Digest, Principal, Resource, ResourceKind,
    ids::{CallId, EnvironmentId, RecordId, RunId},
};
use stockade_gateway::capture::{self, UnpackError};
use stockade_ledger::{Closing, Opened, Outcome, RunKey, Sealed, Status};
use stockade_policy::{Permit, Ruling};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{erase, guest::Guest, journal, personal, site::Site, slot, telemetry, tend};

/// The longest command of a person, arguments and input together, in bytes.
pub const MAX_EXEC: usize = 1024 * 1024;
/// The longest time a command of a person may take, in milliseconds.
pub const MAX_EXEC_MS: u64 = 3_600_000;
/// How much of each stream of a person's command is kept for the record, in bytes.
pub const MAX_EXEC_OUTPUT: u64 = 1024 * 1024;
/// How many frames may wait for a slow client; then the command's output is held back.
const FRAMES: usize = 16;

struct Refused(StatusCode, ApiError);

impl Refused {
    fn new(status: StatusCode, fault: Fault, code: &str, message: impl Into<String>) -> Self {
        Self(status, ApiError::new(fault, code, message))
    }
    fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, Fault::User, "not_found", format!("{what} is not at this site"))
    }
    fn unavailable(why: impl std::fmt::Display) -> Self {
        tracing::error!(%why, "a request of a person could not be served: {why}");
        let message = "the site cannot serve this at the moment; its log says more";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Fault::Outside, "site_unavailable", message)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: self.1 })).into_response()
    }
}

type Answer<T> = Result<T, Refused>;

/// Everything that listens.
pub fn router(site: Arc<Site>) -> Router {
    let people = Router::new()
        .route("/content/{run}/{digest}", get(content))
        .route("/transcript/{run}", get(transcript))
        .route("/seal/{run}", post(seal).layer(DefaultBodyLimit::max(MAX_SEAL * 2)))
        .route("/exec/{environment}", post(exec).layer(DefaultBodyLimit::max(MAX_EXEC)))
        .with_state(Arc::clone(&site));
    site.gateway.router().merge(people).merge(telemetry::router(site))
}

/// Serves until `stop`. A stream is many small writes: none of them waits for company (`TCP_NODELAY`).
pub async fn serve(socket: TcpListener, router: Router, stop: CancellationToken) {
    // An error here leaves the connection as it is, only slower.
    let socket = socket.tap_io(|stream| drop(stream.set_nodelay(true)));
    let served = axum::serve(socket, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the listener ended: {error}");
    }
}

/// Who asks: proven by a ticket that the server signed for this runner, for this run, for now.
fn ticket(site: &Site, headers: &HeaderMap) -> Answer<Ticket> {
    let refused = |why: &str| {
        Refused(
            StatusCode::UNAUTHORIZED,
            ApiError::new(Fault::Refused, "bad_ticket", format!("the content ticket is refused: {why}"))
                .hint("ask the server for a new one"),
        )
    };
    let text = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| refused("there is none"))?;
    let (ticket, signed, signature) = Ticket::decode(text.trim()).map_err(|e| refused(&e.to_string()))?;
    if !site.identity.server_public_key.verify(&signed, &signature) {
        return Err(refused("its signature is not the server's"));
    }
    if ticket.runner != site.identity.runner {
        return Err(refused("it is for another runner"));
    }
    if ticket.expires_at < site.world().now() {
        return Err(refused("its time is over"));
    }
    Ok(ticket)
}

fn for_run(site: &Site, headers: &HeaderMap, run: &str) -> Answer<(Ticket, Arc<RunKey>)> {
    let run: RunId = run.parse().map_err(|_| Refused::not_found("that run"))?;
    let ticket = ticket(site, headers)?;
    if ticket.run != run {
        let message = format!("the content ticket is for {} and not for {run}", ticket.run);
        return Err(Refused::new(StatusCode::FORBIDDEN, Fault::Refused, "wrong_run", message));
    }
    let key = match &ticket.wrapped_key {
        // Nobody places a personal run: its key comes with the ticket, and opens nothing once the run is erased.
        Some(wrapped) if !slot::is_erased(&site.runs.dir_of(run)) => personal::open(&site.keys.site, wrapped),
        _ => None,
    };
    let key = key.map_or_else(|| key_of(site, run), Ok)?;
    Ok((ticket, key))
}

fn key_of(site: &Site, run: RunId) -> Answer<Arc<RunKey>> {
    let held = site.runs.get(run).and_then(|slot| slot.key());
    held.or_else(|| erase::key_on_disk(site, &site.runs.dir_of(run))).ok_or_else(|| {
        Refused(
            StatusCode::GONE,
            ApiError::new(Fault::User, "no_key", format!("the content of {run} cannot be opened here"))
                .hint("the run was erased, or another runner of the site worked on it"),
        )
    })
}

/// Decides a person's deed and records what was decided.
async fn admit(
    site: &Site,
    ticket: &Ticket,
    action: Action,
    resource: Resource,
    contents: Vec<Sealed>,
    command: Option<String>,
) -> Answer<Opened<Permit>> {
    let engine = site.policy.load_full();
    if engine.number() == 0 {
        return Err(Refused::unavailable("there is no policy yet"));
    }
    let mut context = Context::default().with("owner", ticket.owner.to_string());
    if let Some(command) = command {
        context = context.with_content("command", command);
    }
    let deed = Deed {
        principal: Principal::User { id: ticket.user, roles: ticket.roles.clone() },
        action,
        resource: resource.in_project(ticket.project).in_run(ticket.run),
        context,
    };
    let (refusal, hint) = match engine.decide(deed) {
        Ruling::Allow(permit) => {
            let (deed, decision) = (permit.deed().clone(), permit.decision().clone());
            return site.desk.ledger.open(&deed, &decision, contents, permit).await.map_err(Refused::unavailable);
        }
        Ruling::Ask(question) => {
            (question.refused(), "this needs another person's yes, which cannot be given here yet")
        }
        Ruling::Deny(refusal) => (refusal, "ask an administrator which policy this is"),
    };
    site.desk.ledger.refuse(refusal.deed(), refusal.decision(), contents).await.map_err(Refused::unavailable)?;
    let error = ApiError::new(Fault::Refused, "denied", format!("refused by policy: {}", refusal.title())).hint(hint);
    Err(Refused(StatusCode::FORBIDDEN, error))
}

async fn close(site: &Site, of: RecordId, status: Status, contents: Vec<Sealed>) -> Answer<()> {
    let closing = Closing { contents, ..Closing::new(Outcome::new(status)) };
    site.desk.ledger.close(of, closing).await.map_err(Refused::unavailable)?;
    Ok(())
}

#[derive(Debug, Deserialize)]
struct ContentQuery {
    kind: ContentKind,
}

/// `GET /content/{run}/{digest}?kind=KIND`
async fn content(
    State(site): State<Arc<Site>>,
    Path((run, digest)): Path<(String, String)>,
    Query(query): Query<ContentQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let (ticket, key) = for_run(&site, &headers, &run)?;
    let digest: Digest = digest.parse().map_err(|_| Refused::not_found("that content"))?;
    let resource = Resource::new(ResourceKind::Run, ticket.run);
    let opened = admit(&site, &ticket, Action::ContentRead, resource, vec![], None).await?;
    let (theirs, of) = (Arc::clone(&site), ticket.run);
    let found = tokio::task::spawn_blocking(move || plain(&theirs, of, &key, query.kind, digest))
        .await
        .map_err(Refused::unavailable)?;
    let status = if matches!(found, Ok(Some(_))) { Status::Ok } else { Status::Error };
    close(&site, opened.record(), status, vec![]).await?;
    let plain = found.map_err(Refused::unavailable)?.ok_or_else(|| Refused::not_found("that content of that kind"))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], plain).into_response())
}

/// A content in plain text: a request as it was sent, whatever it was packed against. Nothing if it is not there. Blocking.
fn plain(site: &Site, run: RunId, key: &RunKey, kind: ContentKind, digest: Digest) -> Result<Option<Bytes>, String> {
    let mut contents = site.desk.spool.contents(run);
    let mut open = |digest: Digest| -> Result<Option<Bytes>, String> {
        let sealed = contents.get(digest).map_err(|e| e.to_string())?;
        Ok(sealed.and_then(|sealed| key.open(kind, &sealed).ok()).map(Bytes::from))
    };
    if kind == ContentKind::ModelResponse {
        let answer = open(digest)?;
        return answer.map(capture::restore).transpose().map_err(|e| e.to_string());
    }
    if kind != ContentKind::ModelRequest {
        return open(digest);
    }
    match capture::unpack(digest, |digest| open(digest).map_err(Some)?.ok_or(None)) {
        Ok(body) => Ok(Some(body)),
        Err(UnpackError::Fetch { digest: missing, source: None }) if missing == digest => Ok(None),
        Err(UnpackError::Fetch { source: Some(why), .. }) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}

#[derive(Debug, Deserialize)]
struct TranscriptQuery {
    #[serde(default)]
    after: u64,
}

/// `GET /transcript/{run}?after=N`
async fn transcript(
    State(site): State<Arc<Site>>,
    Path(run): Path<String>,
    Query(query): Query<TranscriptQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let (ticket, key) = for_run(&site, &headers, &run)?;
    let resource = Resource::new(ResourceKind::Run, ticket.run);
    let opened = admit(&site, &ticket, Action::ContentRead, resource, vec![], None).await?;
    let path = slot::journal_of(&site.runs.dir_of(ticket.run));
    let entries =
        tokio::task::spawn_blocking(move || journal::read_entries(&path, &key)).await.map_err(Refused::unavailable)?;
    let status = if entries.is_ok() { Status::Ok } else { Status::Error };
    close(&site, opened.record(), status, vec![]).await?;
    let mut text = String::new();
    for entry in entries.map_err(Refused::unavailable)? {
        let Some(input) = entry.input.filter(|_| entry.number > query.after) else { continue };
        let input = serde_json::to_value(input).map_err(Refused::unavailable)?;
        let line = TranscriptLine { line: entry.number, at: entry.at, input };
        text.push_str(&serde_json::to_string(&line).map_err(Refused::unavailable)?);
        text.push('\n');
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

/// `POST /seal/{run}`
async fn seal(
    State(site): State<Arc<Site>>,
    Path(run): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Json<SealedContent>> {
    let (ticket, key) = for_run(&site, &headers, &run)?;
    let wrong = |code: &str, message: String| Refused::new(StatusCode::BAD_REQUEST, Fault::User, code, message);
    let asked: Seal = serde_json::from_slice(&body).map_err(|e| wrong("bad_body", e.to_string()))?;
    if asked.kind != ContentKind::Reply {
        return Err(wrong("bad_kind", "only replies are sealed here".to_owned()));
    }
    if asked.text.len() > MAX_SEAL {
        let message = format!("the text is longer than {MAX_SEAL} bytes");
        return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, Fault::User, "too_large", message));
    }
    let resource = Resource::new(ResourceKind::Run, ticket.run);
    let opened = admit(&site, &ticket, Action::InputGive, resource, vec![], None).await?;
    let sealed = key.seal(site.world(), asked.kind, asked.text.as_bytes()).map_err(Refused::unavailable)?;
    close(&site, opened.record(), Status::Ok, vec![]).await?;
    Ok(Json(SealedContent { content: sealed.content, sealed: BASE64_STANDARD.encode(&sealed.bytes) }))
}

/// `POST /exec/{environment}`
async fn exec(
    State(site): State<Arc<Site>>,
    Path(environment): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let environment: EnvironmentId = environment.parse().map_err(|_| Refused::not_found("that environment"))?;
    let ticket = ticket(&site, &headers)?;
    let slot = site
        .runs
        .get(ticket.run)
        .filter(|slot| slot.assignment().environment == environment)
        .ok_or_else(|| Refused::not_found("that environment of the ticket's run"))?;
    let key = key_of(&site, ticket.run)?;
    let asked: ExecRequest = serde_json::from_slice(&body)
        .map_err(|e| Refused::new(StatusCode::BAD_REQUEST, Fault::User, "bad_body", e.to_string()))?;
    if asked.argv.is_empty() {
        let message = "`argv` is empty: name a program";
        return Err(Refused::new(StatusCode::BAD_REQUEST, Fault::User, "no_program", message));
    }
    let input = key.seal(site.world(), ContentKind::ToolInput, &body).map_err(Refused::unavailable)?;
    let resource = Resource::new(ResourceKind::Environment, environment);
    let command = Some(asked.argv.join(" "));
    let opened = admit(&site, &ticket, Action::EnvironmentExec, resource, vec![input], command).await?;
    let (frames, stream) = mpsc::channel::<Bytes>(FRAMES);
    // A task of its own: the command, its end and its record do not hang on the client's connection.
    tokio::spawn(async move { carry_out(site, slot, &key, opened, asked, frames).await });
    let body = futures_util::stream::unfold(stream, |mut stream| async move {
        stream.recv().await.map(|frame| (Ok::<_, std::convert::Infallible>(frame), stream))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
}

/// The effect: it takes the permit.
async fn carry_out(
    site: Arc<Site>,
    slot: Arc<slot::Slot>,
    key: &RunKey,
    opened: Opened<Permit>,
    asked: ExecRequest,
    frames: mpsc::Sender<Bytes>,
) {
    let record = opened.record();
    let _used = opened.into_permit();
    let call: CallId = site.world().id();
    let op = Op::Exec(Exec {
        argv: asked.argv,
        cwd: asked.cwd,
        env: Vec::new(),
        stdin: asked.stdin,
        timeout_ms: asked.timeout_ms.clamp(1, MAX_EXEC_MS),
        max_output: MAX_EXEC_OUTPUT,
    });
    let send = |frame: ExecFrame| {
        let frames = frames.clone();
        async move {
            let mut line = serde_json::to_vec(&frame).unwrap_or_default();
            line.push(b'\n');
            // The person may have gone away.
            let _ = frames.send(line.into()).await;
        }
    };
    let (live, mut pieces) = mpsc::channel(FRAMES);
    let asking = async {
        // One that rests is started again, and does not rest while somebody is inside.
        let _inside = tend::visit(&site, &slot).await.map_err(|e| e.to_string())?;
        // A connection of its own: a person who reads slowly holds nobody else's answers up.
        let stream = site.driver.connect(slot.assignment().environment).await.map_err(|e| e.to_string())?;
        let guest = Guest::new(stream);
        guest.ask_live(Some(call), op, Some(live)).await.map_err(|e| e.to_string())
    };
    let relaying = async {
        while let Some((stream, text)) = pieces.recv().await {
            send(ExecFrame::Output { stream, text }).await;
        }
    };
    let (answered, ()) = tokio::join!(asking, relaying);
    let failed = |message: String| ExecFrame::Failed { error: ApiError::new(Fault::Outside, "exec_failed", message) };
    let (last, status, kept) = match answered.map(|a| a.reply) {
        Ok(Reply::Exited { status, timed_out, duration_ms, stdout, stderr, .. }) => {
            (ExecFrame::Exited { status, timed_out, duration_ms }, Status::Ok, format!("{stdout}{stderr}"))
        }
        Ok(Reply::Error { message, .. }) => (failed(message.clone()), Status::Error, message),
        Ok(_) => (failed("the environment was cut off".to_owned()), Status::Unknown, String::new()),
        Err(why) => (failed(format!("the environment does not answer: {why}")), Status::Unknown, String::new()),
    };
    let output = key.seal(site.world(), ContentKind::ToolOutput, kept.as_bytes());
    // A close that fails is made up for by the reaper; the failure is logged where it is made.
    let _ = close(&site, record, status, output.into_iter().collect()).await;
    send(last).await;
}
