//! Git through a whole exit: names, doors, TLS with the environment's own authority, credentials in their places.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use stockade_domain::{Action, World};
use stockade_ledger::{Body as Told, SystemWorld};
use stockade_policy::Bundle;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{
    super::way::{Body, BodyError, NoAnswer, Way},
    forge::{Backend, POLICY, git},
};
use crate::{
    ca::{Authority, H2, HTTP1},
    credential::{Always, Credential, Credentials},
    exit::{Exit, Limits, Parts, tests::House},
    git::config::{Access, Forge, inside},
    name::{Host, Name},
    origins::Origins,
    path::PathRule,
    placeholder::{Binding, Placeholder},
};

const NAME: &str = "forge.example";
const SECRET: &str = "forge-token-of-the-site";

/// The team's rules, and who may open what.
fn policy() -> String {
    format!(
        "{POLICY}\n{}",
        r#"
[[policy]]
id = "forge"
title = "The forge, looked into"
text = '''
permit(principal is Agent, action == Action::"connection.open", resource)
when { resource.id == "forge.example" && context has inspected && context.inspected };
'''

[[policy]]
id = "credential"
title = "The forge's credential"
text = '''permit(principal is Agent, action == Action::"credential.use", resource) when { resource.id == "forge" };'''
"#
    )
}

/// An environment with real git in it, a door, an exit, and a forge behind TLS that wants a password.
struct Site {
    house: House,
    backend: Arc<Backend>,
    port: u16,
    dir: tempfile::TempDir,
}

impl Site {
    /// The forge speaks HTTP/2, or HTTP/1.
    async fn new(second: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repositories");
        std::fs::create_dir_all(root.join("team")).unwrap();
        git(&root.join("team"), &["init", "-q", "--bare", "-b", "main", "app.git"], &[]);
        git(&root.join("team/app.git"), &["config", "uploadpack.allowFilter", "true"], &[]);
        let basic = format!("Basic {}", STANDARD.encode(format!("agent:{SECRET}")));
        let backend = Arc::new(Backend {
            root,
            reached: Mutex::default(),
            wants: Mutex::new(Some(basic)),
            says: Mutex::default(),
        });
        let system: Arc<dyn World> = Arc::new(SystemWorld);
        let (own, world) = (
            Authority::generate(system.clone(), "env").unwrap(),
            Authority::generate(system.clone(), "world").unwrap(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls =
            TlsAcceptor::from(world.server(&Host::parse(NAME).unwrap(), if second { H2 } else { HTTP1 }).unwrap());
        tokio::spawn(serve(listener, tls, backend.clone(), second));

        let placeholder = Placeholder::from_random(&[9; 20]);
        let path = PathRule::below("/").unwrap();
        let binding = Binding {
            placeholder: placeholder.clone(),
            host: NAME.to_owned(),
            port,
            in_the_clear: false,
            header: http::header::AUTHORIZATION,
            path: path.clone(),
        };
        let credential =
            Credential { name: "forge".to_owned(), bindings: vec![binding], source: Arc::new(Always(SECRET.into())) };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(world.certificate().as_bytes()).unwrap()).unwrap();
        let mut house = House::with(Limits::default(), &["127.0.0.0/8"]);
        std::fs::write(dir.path().join("ca.pem"), own.certificate()).unwrap();
        let access = Access { user: "agent".to_owned(), placeholder, path };
        let forge = Forge { host: Name::parse(NAME).unwrap(), port, access: vec![access] };
        // That names resolve to doors is the sandbox's; here git is told where the door is.
        let text = format!(
            "{}[http]\n\tsslCAInfo = {}\n\tcurloptResolve = {NAME}:{port}:127.0.0.2\n",
            inside(&[forge]),
            dir.path().join("ca.pem").display()
        );
        std::fs::write(dir.path().join("gitconfig"), text).unwrap();
        let parts = Parts {
            authority: Some(Arc::new(own)),
            origins: Some(Arc::new(Origins::new(Arc::new(roots)).unwrap())),
            credentials: Arc::new(Credentials::new([credential])),
            world: system,
            ..house.exit.parts.clone()
        };
        parts.policy.store(Arc::new(Bundle::parse(2, &policy()).unwrap()));
        house.exit = Arc::new(Exit::new(house.exit.who.clone(), parts, Limits::default()));
        let to = (house.address(NAME).await, port).into();
        let door = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let exit = house.exit.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = door.accept().await {
                let exit = exit.clone();
                tokio::spawn(async move { exit.stream(stream, to).await });
            }
        });
        let this = Self { house, backend, port, dir };
        let first = this.dir.path().join("first");
        git(this.dir.path(), &["clone", "-q", this.backend.root.join("team/app.git").to_str().unwrap(), "first"], &[]);
        std::fs::write(first.join("README.md"), "hello\n").unwrap();
        std::fs::create_dir_all(first.join(".github")).unwrap();
        std::fs::write(first.join(".github/x.yml"), "on: push\n").unwrap();
        for args in
            [&["add", "-A"][..], &["commit", "-q", "-m", "first"], &["push", "-q", "origin", "HEAD:refs/heads/main"]]
        {
            assert!(git(&first, args, &[]).status.success());
        }
        this
    }

    /// Git inside: what it says, and whether it succeeded.
    async fn git(&self, dir: &Path, args: &[&str]) -> (String, bool) {
        let mut command = std::process::Command::new("git");
        command
            .args(args)
            .current_dir(dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([("HOME", "/nonexistent"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_TERMINAL_PROMPT", "0")])
            .env("GIT_CONFIG_SYSTEM", self.dir.path().join("gitconfig"))
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.com")])
            .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@example.com")])
            .stdin(std::process::Stdio::null());
        let running = tokio::task::spawn_blocking(move || command.output());
        let out = tokio::time::timeout(Duration::from_secs(60), running).await.expect("never a hang").unwrap().unwrap();
        (String::from_utf8_lossy(&out.stderr).into_owned(), out.status.success())
    }

    /// A clone by the remote that a person would have pasted.
    async fn cloned(&self) -> PathBuf {
        let remote = format!("git@{NAME}:team/app.git");
        let (said, done) = self.git(self.dir.path(), &["clone", "-q", &remote, "work"]).await;
        assert!(done, "{said}");
        self.dir.path().join("work")
    }

    fn at_server(&self, reference: &str) -> String {
        let out = git(&self.backend.root.join("team/app.git"), &["rev-parse", "--verify", "-q", reference], &[]);
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

/// HTTP over TLS before the backend.
async fn serve(listener: TcpListener, tls: TlsAcceptor, backend: Arc<Backend>, second: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, backend) = (tls.clone(), backend.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let backend = backend.clone();
                async move {
                    let body = |body: hyper::body::Incoming| -> Body {
                        body.map_err(|error| BodyError::Lost(error.into())).boxed_unsync()
                    };
                    backend
                        .send(request.map(body))
                        .await
                        .map_err(|why: NoAnswer| std::io::Error::other(format!("{why:?}")))
                }
            });
            // A client that is gone is nothing to a server.
            if second {
                let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            } else {
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_for_ssh_is_cloned_and_pushed_through_the_way_out_with_a_credential_that_is_not_inside() {
    for second in [false, true] {
        told_whole(second).await;
    }
}

async fn told_whole(second: bool) {
    let site = Site::new(second).await;
    let work = site.cloned().await;
    assert!(work.join("README.md").is_file());
    std::fs::write(work.join("more.txt"), "more\n").unwrap();
    for args in [&["add", "-A"][..], &["commit", "-q", "-m", "mine"]] {
        assert!(site.git(&work, args).await.1);
    }
    let (said, done) = site.git(&work, &["push", "origin", "HEAD:refs/heads/stockade/work"]).await;
    assert!(done, "{said}");
    assert!(!site.at_server("refs/heads/stockade/work").is_empty());
    let main = site.at_server("refs/heads/main");
    let (said, done) = site.git(&work, &["push", "origin", "HEAD:refs/heads/main"]).await;
    assert!(!done && said.contains("remote: stockade: this push is refused"), "{said}");
    assert!(said.contains("[remote rejected] HEAD -> main"), "{said}");
    assert_eq!(site.at_server("refs/heads/main"), main);
    // Nothing inside has the secret, and everything that reached the forge had it.
    let config = std::fs::read_to_string(site.dir.path().join("gitconfig")).unwrap();
    assert!(!config.contains(SECRET) && !config.contains(&STANDARD.encode(format!("agent:{SECRET}"))));
    let reached = site.backend.reached.lock().unwrap().clone();
    assert!(!reached.is_empty());
    for one in &reached {
        let sent = one.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(sent, format!("Basic {}", STANDARD.encode(format!("agent:{SECRET}"))), "{}", one.target);
    }
    let records = site.house.records();
    let count = |action: Action| {
        records.iter().filter(|(_, body)| matches!(body, Told::Open { deed, .. } if deed.action == action)).count()
    };
    assert!(count(Action::ConnectionOpen) >= 1 && count(Action::GitFetch) >= 5 && count(Action::RequestSend) == 0);
    assert_eq!(count(Action::GitPush), 1);
    assert!(count(Action::CredentialUse) >= reached.len().min(6));
    let spoken = |body: &Told| match body {
        Told::Close { facts, .. } => facts.get("spoken").cloned(),
        _ => None,
    };
    let wanted = if second { "http2" } else { "http1" };
    assert!(records.iter().filter_map(|(_, body)| spoken(body)).all(|spoken| spoken == wanted.into()));
    let said = format!("{records:?}");
    assert!(!said.contains(SECRET) && !said.contains("more.txt"), "no content and no secret in a record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n28_another_repository_and_another_way_to_push_are_refused_through_a_whole_exit() {
    let site = Site::new(false).await;
    let work = site.cloned().await;
    git(&site.backend.root, &["init", "-q", "--bare", "elsewhere.git"], &[]);
    let url = format!("https://{NAME}:{}/elsewhere.git", site.port);
    let (said, done) = site.git(&work, &["push", &url, "HEAD:refs/heads/stockade/work"]).await;
    assert!(!done && said.contains("remote: "), "{said}");
    let dotted = format!("https://{NAME}:{}/team/x/%2e%2e/app.git", site.port);
    let (said, done) = site.git(&work, &["ls-remote", &dotted]).await;
    assert!(!done, "{said}");
    let reached = site.backend.reached.lock().unwrap().clone();
    assert!(reached.iter().all(|one| !one.target.contains("elsewhere") && !one.target.contains("..")), "{reached:?}");
}
