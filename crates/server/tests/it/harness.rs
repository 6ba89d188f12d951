//! A server for one test, and people who talk to it.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use stockade_api::{
    client::Client,
    http::{
        CreateEnrollToken, CreateGatewayToken, CreateProject, CreateToken, ListRecords, PrepareToken, Project, Run,
        StartTask, TaskLimits,
    },
};
use stockade_domain::{ContentKind, Role, Timestamp, World};
use stockade_ledger::{RunKey, SitePublicKey, SystemWorld};
use stockade_server::{Database, RunningServer, Server, ServerConfig};

use crate::runner::FakeRunner;

/// A clock that tests push forward.
#[derive(Debug, Default)]
pub struct TestWorld {
    ahead_us: AtomicI64,
}

impl TestWorld {
    pub fn push_seconds(&self, seconds: i64) {
        self.ahead_us.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl World for TestWorld {
    fn now(&self) -> Timestamp {
        Timestamp(SystemWorld.now().0 + self.ahead_us.load(Ordering::Relaxed))
    }
    fn random(&self, out: &mut [u8]) {
        SystemWorld.random(out);
    }
}

/// A server for one test.
pub struct App {
    pub server: RunningServer,
    pub dir: tempfile::TempDir,
    pub world: Arc<TestWorld>,
    pub admin: Client,
    pub admin_token: String,
}

impl App {
    /// On SQLite.
    pub async fn new() -> Self {
        Self::on(Database::Embedded).await
    }

    pub async fn on(database: Database) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Arc::new(TestWorld::default());
        let mut config = config(dir.path());
        config.database = database;
        let server = Server::start_in(config, world.clone()).await.unwrap();
        let token = server.admin_token().unwrap().expose_secret().to_owned();
        let admin = client(&server, &token);
        Self { server, dir, world, admin, admin_token: token }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A person with these roles, signed in.
    pub async fn person(&self, name: &str, roles: &[Role]) -> (Client, String) {
        let body =
            CreateToken { user: name.to_owned(), roles: roles.to_vec(), label: "test".to_owned(), expires_in_s: None };
        let token = self.admin.create_token(&body).await.unwrap().token;
        (client(&self.server, &token), token)
    }

    /// A runner that has joined.
    pub async fn runner(&self) -> FakeRunner {
        self.runner_of(None).await
    }

    /// A runner of another site. The runners of one share the site's key.
    pub async fn runner_of(&self, site: Option<&str>) -> FakeRunner {
        let body = CreateEnrollToken { site: site.map(str::to_owned), expires_in_s: None };
        let token = self.admin.create_enroll_token(&body).await.unwrap().token;
        FakeRunner::enroll(&self.server.url(), &token, self.world.clone()).await.unwrap()
    }

    pub async fn project(&self, name: &str) -> Project {
        self.admin.create_project(&project(name)).await.unwrap()
    }

    /// A request as it is, without a client's help.
    pub async fn raw(&self, method: Method, path: &str, token: Option<&str>, body: &str) -> (u16, Value) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method, format!("{}{path}", self.server.url())).body(body.to_owned());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    /// What the server's ledger says last, newest first, in one line each.
    pub async fn last_records(&self, n: u32) -> Vec<String> {
        let query = ListRecords { limit: Some(n), ..ListRecords::default() };
        let page = self.admin.records(&query).await.unwrap();
        let line = |record: &stockade_api::http::Record| {
            let body = &record.record["body"];
            let deed = body["deed"]["action"].as_str().or(body["code"].as_str()).unwrap_or("");
            let outcome = body["outcome"]["status"].as_str().unwrap_or("");
            format!("{} {deed}{outcome}", body["phase"].as_str().unwrap_or("?"))
        };
        page.items.iter().map(line).collect()
    }

    pub async fn stop(self) -> tempfile::TempDir {
        self.server.stop(Duration::from_secs(5)).await;
        self.dir
    }
}

pub fn config(dir: &std::path::Path) -> ServerConfig {
    ServerConfig { listen: "127.0.0.1:0".parse().unwrap(), ..ServerConfig::new(dir.join("data")) }
}

pub fn client(server: &RunningServer, token: &str) -> Client {
    Client::new(&server.url(), Some(SecretString::from(token))).unwrap()
}

pub fn project(name: &str) -> CreateProject {
    CreateProject {
        name: name.to_owned(),
        repository: "/srv/repository".to_owned(),
        base_branch: String::new(),
        gates: vec!["true".to_owned()],
        gate_attempts: None,
        level: None,
        class: None,
    }
}

/// Prepares, seals and starts a task, as the command line does.
pub async fn start(client: &Client, project: &Project) -> Result<Run, stockade_api::error::ApiError> {
    client.start_task(&sealed_task(client, project).await?).await
}

pub async fn sealed_task(client: &Client, project: &Project) -> Result<StartTask, stockade_api::error::ApiError> {
    let prepared = client.prepare_task(project.id).await?;
    let key = RunKey::generate(&SystemWorld, prepared.run);
    let site: SitePublicKey = prepared.site_public_key.parse().unwrap();
    let sealed = key.seal(&SystemWorld, ContentKind::Task, b"fix the failing test").unwrap();
    Ok(StartTask {
        harness: stockade_domain::Harness::default(),
        project: project.id,
        task: prepared.task,
        run: prepared.run,
        site: prepared.site,
        wrapped_key: key.wrap(&site).unwrap().to_string(),
        content: sealed.content,
        sealed: stockade_api::base64::encode(&sealed.bytes),
        model: "rehearsal/demo".to_owned(),
        class: None,
        level: None,
        budget: None,
        limits: TaskLimits::default(),
    })
}

/// Prepares a token for the gateway and makes the key of its run, as the command line does.
pub async fn sealed_token(
    client: &Client,
    project: &Project,
) -> Result<CreateGatewayToken, stockade_api::error::ApiError> {
    let prepared = client.prepare_token(&PrepareToken { project: project.id }).await?;
    let key = RunKey::generate(&SystemWorld, prepared.run);
    let site: SitePublicKey = prepared.site_public_key.parse().unwrap();
    let sealed = key.seal(&SystemWorld, ContentKind::Task, b"laptop").unwrap();
    Ok(CreateGatewayToken {
        project: project.id,
        name: "laptop".to_owned(),
        task: prepared.task,
        run: prepared.run,
        site: prepared.site,
        wrapped_key: key.wrap(&site).unwrap().to_string(),
        content: sealed.content,
        sealed: stockade_api::base64::encode(&sealed.bytes),
        budget: None,
        period: None,
        expires_in_s: None,
        models: Vec::new(),
    })
}

/// The databases to test on: SQLite, and Postgres where `STOCKADE_TEST_POSTGRES` names one. Each call makes
/// a fresh database there.
pub fn databases() -> Vec<Database> {
    let mut databases = vec![Database::Embedded];
    if let Ok(url) = std::env::var("STOCKADE_TEST_POSTGRES") {
        let mut random = [0; 8];
        SystemWorld.random(&mut random);
        let name = format!("stockade_server_{:016x}", u64::from_be_bytes(random));
        let made = Command::new("psql").args([&url, "-qc", &format!("CREATE DATABASE {name}")]).status().unwrap();
        assert!(made.success(), "cannot make a database at STOCKADE_TEST_POSTGRES");
        let (server, rest) = url.rsplit_once('/').unwrap();
        let query = rest.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
        databases.push(Database::Url(format!("{server}/{name}{query}")));
    }
    databases
}
