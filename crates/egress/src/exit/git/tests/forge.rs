//! A forge: real `git http-backend` behind an exit's git, and real git before it.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use stockade_domain::{ContextValue, Level, Principal, World, ids::RunnerId};
use stockade_ledger::{
    Body as RecordBody, EntryKind, Ledger, Log, LogOptions, Producer, Record, RunKey, SigningKey, Status, SystemWorld,
};
use stockade_policy::Bundle;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::super::{
    Limits, Passage, answer,
    way::{Body, BodyError, NoAnswer, Way, full},
};
use crate::{
    dial::{Declared, Dialer, Resolver},
    exit::{self, Exit, Nobody, Parts, Who},
    git::gate,
    path::NormalPath,
    request::Wanted,
};

pub(super) const POLICY: &str = r#"
[[policy]]
id = "team-fetch"
title = "The team's repositories may be read"
text = '''permit(principal is Agent, action == Action::"git.fetch", resource) when { resource.id like "forge.example/team/*" };'''

[[policy]]
id = "team-push"
title = "Agents push their own branches"
text = '''
permit(principal is Agent, action == Action::"git.push", resource)
when { resource.id == "forge.example/team/app" && context has ref && context.ref like "refs/heads/stockade/*" };
'''

[[policy]]
id = "tags"
title = "Agents push their own tags"
text = '''
permit(principal is Agent, action == Action::"git.push", resource)
when { resource.id == "forge.example/team/app" && context has ref && context.ref like "refs/tags/stockade/*" };
'''

[[policy]]
id = "no-force"
title = "Nobody's work is overwritten"
text = '''forbid(principal is Agent, action == Action::"git.push", resource) when { context has force && context.force };'''

[[policy]]
id = "no-deletion"
title = "Branches are not deleted"
text = '''forbid(principal is Agent, action == Action::"git.push", resource) when { context has deletion && context.deletion };'''

[[policy]]
id = "no-secrets"
title = "Secrets are not pushed"
text = '''
forbid(principal is Agent, action == Action::"git.push", resource)
when { context has findings && !context.findings.isEmpty() };
'''

[[policy]]
id = "no-machinery"
title = "The team's machinery is changed by people"
text = '''
forbid(principal is Agent, action == Action::"git.push", resource)
when { context has protected_paths && context.protected_paths };
'''

[[policy]]
id = "no-vendored"
title = "Vendored code is not changed"
text = '''
forbid(principal is Agent, action == Action::"git.push", resource)
when { context has path && context.path like "*vendor/*" };
'''
"#;

/// Nobody is looked up.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Resolver for Nowhere {
    async fn addresses(&self, _: &crate::name::Name) -> std::io::Result<Vec<std::net::IpAddr>> {
        Ok(Vec::new())
    }
}

/// One request that reached the server.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// `git http-backend`, started for each request.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) root: PathBuf,
    pub(super) reached: Mutex<Vec<Reached>>,
    /// What `Authorization` has to be.
    pub(super) wants: Mutex<Option<String>>,
    /// The next answer to a push, if not git's.
    pub(super) says: Mutex<Option<(StatusCode, Bytes)>>,
}

#[async_trait]
impl Way for Backend {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, NoAnswer> {
        let lost = || NoAnswer::Told { code: "lost", status: StatusCode::BAD_GATEWAY, text: "no answer".to_owned() };
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| lost())?.to_bytes();
        let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        self.reached.lock().unwrap().push(Reached {
            method: head.method.to_string(),
            target: target.clone(),
            headers: head.headers.clone(),
            body: body.clone(),
        });
        let text =
            |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        if let Some(wanted) = &*self.wants.lock().unwrap()
            && *wanted != text("authorization")
        {
            let mut response = answer(StatusCode::UNAUTHORIZED, "who are you?");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, "Basic realm=\"forge\"".parse().unwrap());
            return Ok(response);
        }
        if target.ends_with("/git-receive-pack")
            && let Some((status, said)) = self.says.lock().unwrap().take()
        {
            let mut response = Response::new(full(said));
            *response.status_mut() = status;
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, "application/x-git-receive-pack-result".parse().unwrap());
            return Ok(response);
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut command = Command::new("git");
        command
            .arg("http-backend")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_HTTP_EXPORT_ALL", "1")])
            .env("GIT_PROJECT_ROOT", &self.root)
            .envs([("PATH_INFO", path), ("QUERY_STRING", query), ("REQUEST_METHOD", head.method.as_str())])
            .envs([("CONTENT_TYPE", text("content-type")), ("HTTP_CONTENT_ENCODING", text("content-encoding"))])
            .envs([("GIT_PROTOCOL", text("git-protocol")), ("CONTENT_LENGTH", text("content-length"))])
            .envs([("REMOTE_USER", "agent"), ("REMOTE_ADDR", "127.0.0.1")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let out = tokio::task::spawn_blocking(move || fed(command, &body)).await.unwrap().stdout;
        let at = out.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(lost)?;
        let mut response = Response::builder();
        for line in std::str::from_utf8(&out[..at]).unwrap().lines() {
            let (name, value) = line.split_once(": ").unwrap();
            response = match name {
                "Status" => response.status(&value[..3]),
                _ => response.header(name, value),
            };
        }
        Ok(response.body(full(out[at + 4..].to_vec())).unwrap())
    }
}

/// Runs a program that is given something.
fn fed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().expect("is installed");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    out
}

/// See the module.
pub(super) struct Forge {
    pub(super) exit: Arc<Exit>,
    pub(super) backend: Arc<Backend>,
    pub(super) policy: Arc<ArcSwap<stockade_policy::Engine>>,
    pub(super) tasks: TaskTracker,
    log: Arc<Log>,
    ledger: Arc<Ledger>,
    port: u16,
    pub(super) dir: tempfile::TempDir,
}

impl Forge {
    pub(super) async fn new() -> Self {
        Self::with(Limits::default(), "sha1").await
    }

    pub(super) async fn with(limits: Limits, format: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let log = Arc::new(Log::open(&dir.path().join("log"), LogOptions::default()).unwrap());
        let runner: RunnerId = world.id();
        let producer = Producer::Runner(runner);
        let ledger = Arc::new(Ledger::start(log.clone(), producer, SigningKey::generate(), world.clone()).unwrap());
        let (run, owner) = (world.id(), world.id());
        let who = Who {
            principal: Principal::Agent { run, owner },
            run,
            project: world.id(),
            level: Level::ON_THE_LOOP,
            key: Arc::new(RunKey::generate(&SystemWorld, run)),
        };
        let policy = Arc::new(ArcSwap::from_pointee(Bundle::parse(1, POLICY).unwrap()));
        let parts = Parts {
            policy: policy.clone(),
            ledger: ledger.clone(),
            dialer: Dialer::new(Arc::new(Nowhere), Declared::default(), Duration::from_secs(5)),
            people: Arc::new(Nobody),
            authority: None,
            origins: None,
            credentials: Arc::default(),
            inside: None,
            room: Arc::new(exit::tests::Endless),
            world,
        };
        let exit = Arc::new(Exit::new(who, parts, exit::Limits::default()).with_git(limits));
        let root = dir.path().join("repositories");
        std::fs::create_dir_all(root.join("team")).unwrap();
        let backend = Arc::new(Backend {
            root: root.clone(),
            reached: Mutex::default(),
            wants: Mutex::default(),
            says: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tasks = TaskTracker::new();
        let forge = Self { exit, backend, policy, tasks, log, ledger, port, dir };
        let named = format!("--object-format={format}");
        forge.git_at("team", &["init", "-q", "--bare", "-b", "main", &named, "app.git"]);
        forge.git_at("team", &["init", "-q", "--bare", "-b", "main", "other.git"]);
        forge.allow_filter("team/app.git", true);
        let (exit, backend, tasks) = (forge.exit.clone(), forge.backend.clone(), forge.tasks.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (exit, backend, tasks) = (exit.clone(), backend.clone(), tasks.clone());
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (exit, backend, tasks) = (exit.clone(), backend.clone(), tasks.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.map_err(|error| BodyError::Lost(error.into())).boxed_unsync();
                        Ok::<_, std::convert::Infallible>(served(&exit, &backend, &tasks, head, body).await)
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        forge
    }

    /// Whether the server can leave files out of what it sends.
    pub(super) fn allow_filter(&self, repository: &str, may: bool) {
        self.git_at(repository, &["config", "uploadpack.allowFilter", &may.to_string()]);
    }

    /// Git at the server.
    pub(super) fn git_at(&self, path: &str, args: &[&str]) -> String {
        let out = git(&self.backend.root.join(path), args, &[]);
        String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
    }

    pub(super) fn url(&self, repository: &str) -> String {
        format!("http://127.0.0.1:{}/{repository}", self.port)
    }

    /// What a reference of the server's repository points to; nothing if it is not there.
    pub(super) fn at_server(&self, reference: &str) -> String {
        self.git_at("team/app.git", &["rev-parse", "--verify", "-q", reference])
    }

    /// A clone of the team's repository, which has one commit already.
    pub(super) async fn cloned(&self) -> Work {
        if self.at_server("refs/heads/main").is_empty() {
            let work = Work { dir: self.dir.path().join("first") };
            git(
                self.dir.path(),
                &["clone", "-q", self.backend.root.join("team/app.git").to_str().unwrap(), "first"],
                &[],
            );
            for n in 0..20 {
                work.write(&format!("src/part{}/file{n}.txt", n % 3), format!("line {n}\n").repeat(50).as_bytes());
            }
            work.write(".github/workflows/build.yml", b"on: push\n");
            work.write("vendor/lib.c", b"int x;\n");
            work.commit("first");
            work.git(&["push", "-q", "origin", "HEAD:refs/heads/main"]);
        }
        let n = std::fs::read_dir(self.dir.path()).unwrap().count();
        let name = format!("work{n}");
        let out = self.run(self.dir.path(), &["clone", "-q", &self.url("team/app.git"), &name]).await;
        assert!(out.1, "{}", out.0);
        Work { dir: self.dir.path().join(name) }
    }

    /// Runs git against the exit: what it says, and whether it succeeded.
    pub(super) async fn run(&self, dir: &Path, args: &[&str]) -> (String, bool) {
        let (dir, args): (_, Vec<String>) = (dir.to_owned(), args.iter().map(|arg| (*arg).to_owned()).collect());
        let running =
            tokio::task::spawn_blocking(move || git(&dir, &args.iter().map(String::as_str).collect::<Vec<_>>(), &[]));
        let out = tokio::time::timeout(Duration::from_secs(60), running).await.expect("never a hang").unwrap();
        (String::from_utf8_lossy(&out.stderr).into_owned(), out.status.success())
    }

    pub(super) async fn push(&self, work: &Work, args: &[&str]) -> (String, bool) {
        self.run(&work.dir, &[&["push", "origin"], args].concat()).await
    }

    /// A request as nobody's git would make it.
    pub(super) async fn post(&self, target: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> (StatusCode, Bytes) {
        let mut request = Request::post(target).header(header::HOST, "forge.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let answer = served(&self.exit, &self.backend, &self.tasks, head, full(body)).await;
        let (head, body) = answer.into_parts();
        (head.status, body.collect().await.unwrap().to_bytes())
    }

    /// What is sent to receive-pack.
    pub(super) async fn post_push(&self, body: Vec<u8>) -> (StatusCode, String) {
        let kind = [("content-type", "application/x-git-receive-pack-request")];
        let (status, said) = self.post("/team/app.git/git-receive-pack", body, &kind).await;
        (status, String::from_utf8_lossy(&said).into_owned())
    }

    /// The requests that reached the server since this was asked last.
    pub(super) fn reached(&self) -> Vec<Reached> {
        std::mem::take(&mut self.backend.reached.lock().unwrap())
    }

    /// Whether a push reached the server since this was asked last.
    pub(super) fn was_pushed_to(&self) -> bool {
        self.reached()
            .iter()
            .any(|one| one.method == "POST" && one.target.ends_with("git-receive-pack") && one.body.len() > 4)
    }

    /// The records, once all that is under way has closed its own.
    pub(super) async fn records(&self) -> Vec<RecordBody> {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
        // What was closed in passing is written with what comes next.
        self.ledger.note("over", None, BTreeMap::new()).await.unwrap();
        let entries = self.log.read(self.log.start(), usize::MAX, usize::MAX).unwrap().into_iter();
        let records = entries.filter(|(_, entry)| entry.kind == EntryKind::Record);
        records.map(|(_, entry)| Record::parse(&entry.payload).unwrap().body).collect()
    }

    /// Pushes that were opened, with how they ended: reference, code, what else their circumstances say.
    pub(super) async fn pushes(&self) -> Vec<(String, String, BTreeMap<String, ContextValue>)> {
        let records = self.log_of_opened().await;
        records.into_iter().filter(|(action, ..)| action == "git.push").map(|(_, a, b, c)| (a, b, c)).collect()
    }

    async fn log_of_opened(&self) -> Vec<(String, String, String, BTreeMap<String, ContextValue>)> {
        self.records().await;
        let entries = self.log.read(self.log.start(), usize::MAX, usize::MAX).unwrap().into_iter();
        let records: Vec<_> = entries
            .filter(|(_, entry)| entry.kind == EntryKind::Record)
            .map(|(_, entry)| Record::parse(&entry.payload).unwrap())
            .collect();
        let code = |id| {
            records.iter().find_map(|record| match &record.body {
                RecordBody::Close { of, outcome, .. } if *of == id => {
                    Some(outcome.code.clone().unwrap_or_else(|| match outcome.status {
                        Status::Ok => "ok".to_owned(),
                        other => format!("{other:?}"),
                    }))
                }
                _ => None,
            })
        };
        let opened = records.iter().filter_map(|record| match &record.body {
            RecordBody::Open { deed, .. } => {
                let reference = deed.context.get("ref").map_or(String::new(), |value| match value {
                    ContextValue::Text(text) => text.clone(),
                    other => format!("{other:?}"),
                });
                let code = code(record.id).unwrap_or_else(|| "open".to_owned());
                Some((deed.action.to_string(), reference, code, deed.context.clone()))
            }
            _ => None,
        });
        opened.collect()
    }

    /// What was refused: action, reference, by what.
    pub(super) async fn refused(&self) -> Vec<(String, String, String)> {
        let refused = self.records().await.into_iter().filter_map(|body| match body {
            RecordBody::Refused { deed, decision, .. } => {
                let reference = match deed.context.get("ref") {
                    Some(ContextValue::Text(text)) => text.clone(),
                    _ => String::new(),
                };
                let by = decision.policies.first().map_or("nothing", |policy| policy.id.as_str());
                Some((deed.action.to_string(), reference, by.to_owned()))
            }
            _ => None,
        });
        refused.collect()
    }
}

/// As the inspected path does it.
async fn served(
    exit: &Arc<Exit>,
    backend: &Arc<Backend>,
    tasks: &TaskTracker,
    mut head: http::request::Parts,
    body: Body,
) -> Response<Body> {
    let raw_target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let wanted = Wanted {
        host: "forge.example".to_owned(),
        port: 443,
        tls: true,
        method: head.method.clone(),
        path: NormalPath::read(raw_target.split('?').next().unwrap_or_default()),
        raw_target,
        upgrade: None,
    };
    match gate::recognise(&wanted, &head.headers) {
        Ok(Some(asked)) => {
            for name in crate::request::ENDS_HERE {
                head.headers.remove(name);
            }
            let connection = (&SystemWorld as &dyn World).id();
            let (way, tasks) = (backend.clone(), tasks.clone());
            let passage = Passage { asked, wanted, connection, way, tasks, cut: CancellationToken::new() };
            exit.git(passage, head, body).await.expect("this server is never gone")
        }
        Ok(None) => backend.send(Request::from_parts(head, body)).await.unwrap(),
        Err(error) => answer(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// A working copy.
pub(super) struct Work {
    pub(super) dir: PathBuf,
}

impl Work {
    pub(super) fn write(&self, path: &str, content: &[u8]) {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(super) fn git(&self, args: &[&str]) -> String {
        let out = git(&self.dir, args, &[]);
        assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
    }

    pub(super) fn fed(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        git(&self.dir, args, input).stdout
    }

    pub(super) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A pack of these revisions.
    pub(super) fn pack(&self, revisions: &str, args: &[&str]) -> Vec<u8> {
        self.fed(&[&["pack-objects", "--stdout", "--revs", "-q"], args].concat(), revisions.as_bytes())
    }
}

pub(super) fn git(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new("git");
    command
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs([("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
        .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.com")])
        .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@example.com")])
        .envs([("GIT_AUTHOR_DATE", "1700000000 +0000"), ("GIT_COMMITTER_DATE", "1700000000 +0000")])
        .envs([("GIT_TERMINAL_PROMPT", "0"), ("GIT_ASKPASS", "true")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    fed(command, input)
}
