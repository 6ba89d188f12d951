//! A stand-in for environments: folders of this machine, and guests that run real commands in them with a journal of call ids.
//! It isolates nothing; what it tests is the runner.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use stockade_api::guest::{Answer, Exec, Execution, Op, Reply, Request, Stream};
use stockade_domain::ids::{CallId, EnvironmentId};
use stockade_sandbox::{Arrival, Asker, Capability, Doors, Driver, EnvironmentSpec, Measured, SandboxError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// Environments that outlive runners.
#[derive(Debug, Default)]
pub struct Fakes {
    pub root: PathBuf,
    home: Option<tokio::runtime::Handle>,
    running: Mutex<BTreeSet<EnvironmentId>>,
    /// What each call did, for ever; `None` while it is under way.
    journal: Mutex<BTreeMap<CallId, Option<Reply>>>,
    /// How often something was really carried out under a call id.
    pub carried_out: Mutex<BTreeMap<CallId, u32>>,
    pub restarts: AtomicU32,
    /// How often somebody has taken hold of doors.
    pub doors: AtomicU32,
    /// What environments are said to use.
    pub measured: Mutex<BTreeMap<EnvironmentId, Measured>>,
    /// What guests say was started, by environment: all of it, as often as they are asked.
    pub executions: Mutex<BTreeMap<EnvironmentId, Vec<Execution>>>,
    killers: Mutex<BTreeMap<EnvironmentId, tokio::sync::watch::Sender<bool>>>,
}

impl Fakes {
    pub fn new(root: &Path) -> Arc<Self> {
        let home = Some(tokio::runtime::Handle::current());
        Arc::new(Self { root: root.to_owned(), home, ..Self::default() })
    }

    fn dir(&self, id: EnvironmentId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// Kills the guest: connections end, what was under way is interrupted.
    pub fn kill(&self, id: EnvironmentId) {
        self.running.lock().unwrap().remove(&id);
        if let Some(killer) = self.killers.lock().unwrap().remove(&id) {
            let _ = killer.send(true);
        }
    }

    pub fn runs(&self, id: EnvironmentId) -> bool {
        self.running.lock().unwrap().contains(&id)
    }

    fn boot(&self, id: EnvironmentId) {
        for folder in ["workspace", "transfer"] {
            std::fs::create_dir_all(self.dir(id).join(folder)).unwrap();
        }
        self.running.lock().unwrap().insert(id);
        self.killers.lock().unwrap().entry(id).or_insert_with(|| tokio::sync::watch::Sender::new(false));
    }
}

/// Doors to which nothing comes.
#[derive(Debug)]
struct Shut;

#[async_trait]
impl Doors for Shut {
    async fn arrival(&self) -> std::io::Result<Arrival> {
        std::future::pending().await
    }
    async fn reply(&self, _to: Asker, _message: &[u8]) {}
    fn every_port(&self) -> bool {
        true
    }
}

/// The driver over them.
#[derive(Debug)]
pub struct FakeDriver(pub Arc<Fakes>);

#[async_trait]
impl Driver for FakeDriver {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn assurance(&self) -> u8 {
        1
    }
    async fn probe(&self) -> Vec<Capability> {
        vec![]
    }
    async fn missing(&self) -> Vec<Capability> {
        vec![]
    }
    async fn create(&self, spec: &EnvironmentSpec) -> Result<(), SandboxError> {
        self.0.boot(spec.id);
        Ok(())
    }
    async fn connect(&self, id: EnvironmentId) -> Result<UnixStream, SandboxError> {
        if !self.is_running(id).await {
            return Err(SandboxError::Gone { id });
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let killed = self.0.killers.lock().unwrap().get(&id).unwrap().subscribe();
        let fakes = Arc::clone(&self.0);
        // Guests outlive runners: they live in the test's own runtime.
        self.0.home.as_ref().unwrap().spawn(async move {
            serve(fakes, id, UnixStream::from_std(theirs).unwrap(), killed).await;
        });
        Ok(UnixStream::from_std(ours).unwrap())
    }
    async fn doors(&self, id: EnvironmentId) -> Result<Box<dyn Doors>, SandboxError> {
        if !self.is_running(id).await {
            return Err(SandboxError::Gone { id });
        }
        self.0.doors.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Shut))
    }
    async fn is_running(&self, id: EnvironmentId) -> bool {
        self.0.running.lock().unwrap().contains(&id)
    }
    async fn restart(&self, id: EnvironmentId) -> Result<(), SandboxError> {
        self.0.restarts.fetch_add(1, Ordering::SeqCst);
        self.0.kill(id);
        self.0.boot(id);
        Ok(())
    }
    async fn stop(&self, id: EnvironmentId) -> Result<(), SandboxError> {
        self.0.kill(id);
        Ok(())
    }
    async fn delete(&self, id: EnvironmentId) -> Result<(), SandboxError> {
        self.0.kill(id);
        let _ = std::fs::remove_dir_all(self.0.dir(id));
        Ok(())
    }
    async fn measure(&self, id: EnvironmentId) -> Option<Measured> {
        self.0.measured.lock().unwrap().get(&id).cloned()
    }
    async fn list(&self) -> Vec<EnvironmentId> {
        let Ok(entries) = std::fs::read_dir(&self.0.root) else { return vec![] };
        entries.filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok()).collect()
    }
}

async fn serve(
    fakes: Arc<Fakes>,
    id: EnvironmentId,
    mut stream: UnixStream,
    mut killed: tokio::sync::watch::Receiver<bool>,
) {
    loop {
        let asked = async {
            let len = stream.read_u32().await.ok()?;
            let mut body = vec![0; len as usize];
            stream.read_exact(&mut body).await.ok()?;
            serde_json::from_slice::<Request>(&body).ok()
        };
        let asked = tokio::select! { asked = asked => asked, _ = killed.changed() => None };
        let Some(Request { id: number, call, op }) = asked else { return };
        let answered = async {
            let known = || call.and_then(|call| fakes.journal.lock().unwrap().get(&call).cloned());
            match known() {
                // A call that another connection asked for and that is still under way is waited for.
                Some(_) => loop {
                    if let Some(reply) = known().flatten() {
                        break Answer { id: number, replayed: true, reply };
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                },
                None => {
                    if let Some(call) = call {
                        fakes.journal.lock().unwrap().insert(call, None);
                        *fakes.carried_out.lock().unwrap().entry(call).or_default() += 1;
                    }
                    let reply = match op {
                        Op::Executions { after } => {
                            let noted = fakes.executions.lock().unwrap();
                            let noted = noted.get(&id).into_iter().flatten();
                            let executions = noted.filter(|one| one.number > after).take(3).cloned().collect();
                            Reply::Executions { executions, dropped: 0, watched: true }
                        }
                        op => carry_out(&fakes.dir(id), op).await,
                    };
                    if let Some(call) = call {
                        fakes.journal.lock().unwrap().insert(call, Some(reply.clone()));
                    }
                    Answer { id: number, replayed: false, reply }
                }
            }
        };
        let answer = tokio::select! {
            answer = answered => answer,
            _ = killed.changed() => {
                if let Some(call) = call {
                    fakes.journal.lock().unwrap().entry(call).and_modify(|known| {
                        known.get_or_insert(Reply::Interrupted {});
                    });
                }
                return;
            }
        };
        if let Reply::Exited { stdout, .. } = &answer.reply {
            let live = Reply::Output { stream: Stream::Stdout, text: stdout.clone() };
            send(&mut stream, &Answer { id: number, replayed: false, reply: live }).await;
        }
        send(&mut stream, &answer).await;
    }
}

async fn send(stream: &mut UnixStream, answer: &Answer) {
    let body = serde_json::to_vec(answer).unwrap();
    let _ = stream.write_u32(u32::try_from(body.len()).unwrap()).await;
    let _ = stream.write_all(&body).await;
}

async fn carry_out(dir: &Path, op: Op) -> Reply {
    let error = |e: std::io::Error| Reply::Error { code: "io".into(), message: e.to_string() };
    let (workspace, transfer) = (dir.join("workspace"), dir.join("transfer"));
    match op {
        Op::Exec(Exec { argv, env, stdin, .. }) => {
            let mut command = tokio::process::Command::new(&argv[0]);
            command.args(&argv[1..]).envs(env).env("STOCKADE_TRANSFER", &transfer).current_dir(&workspace);
            // Programs of the test's own, and a home that is nobody's.
            let programs = dir.parent().unwrap().with_file_name("bin");
            let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display());
            command.env("PATH", path).env("HOME", dir.join("home")).kill_on_drop(true);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let output = async {
                let mut child = command.spawn()?;
                let mut input = child.stdin.take().unwrap();
                // Whoever does not read it is not waited for.
                let _ = input.write_all(stdin.unwrap_or_default().as_bytes()).await;
                drop(input);
                child.wait_with_output().await
            };
            match output.await {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Reply::Error {
                    code: "not_found".into(),
                    message: format!("there is no program `{}` here", argv[0]),
                },
                Ok(out) => Reply::Exited {
                    status: out.status.code().unwrap_or(137),
                    signal: None,
                    timed_out: false,
                    stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
                    duration_ms: 1,
                },
                Err(e) => error(e),
            }
        }
        Op::Read { path, .. } => match std::fs::read_to_string(workspace.join(path)) {
            Ok(text) => Reply::Text { text, truncated: false },
            Err(e) => error(e),
        },
        Op::Write { path, text } => std::fs::write(workspace.join(path), text).map_or_else(error, |()| Reply::Done {}),
        Op::Put { name, offset, data } => {
            let path = transfer.join(name);
            let mut bytes = if offset == 0 { vec![] } else { std::fs::read(&path).unwrap() };
            bytes.extend(BASE64_STANDARD.decode(data).unwrap());
            std::fs::write(path, bytes).map_or_else(error, |()| Reply::Done {})
        }
        Op::Get { name, offset } => match std::fs::read(transfer.join(name)) {
            Ok(bytes) => {
                let from = usize::try_from(offset).unwrap().min(bytes.len());
                let piece = &bytes[from..(from + 100_000).min(bytes.len())];
                Reply::Data { data: BASE64_STANDARD.encode(piece), size: bytes.len() as u64 }
            }
            Err(e) => error(e),
        },
        Op::Ping {} => Reply::Pong { version: "fake".into(), boot: "1".into() },
        other => Reply::Error { code: "bad_request".into(), message: format!("the stand-in does not know {other:?}") },
    }
}
