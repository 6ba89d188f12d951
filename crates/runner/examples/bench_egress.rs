//! What the way out costs: bytes a second of one flow and of 64, new connections a second, and what is added until the first byte comes back;
//! bytes and requests a second of a connection that is looked into; each beside the same program talking to the same server over loopback, without us.
//!
//! The client is a program in a real environment, the server a thread of this one. Prints one JSON object. The helpers are looked for in
//! `$STOCKADE_HELPERS`.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde_json::{Value, json};
use stockade_api::guest::{Answer, Exec, Op, Reply, Request};
use stockade_domain::{
    Level, Principal, World,
    ids::{EnvironmentId, RunnerId},
};
use stockade_egress::{
    ca::Authority,
    dial::{Declared, Dialer, Resolver},
    exit::{Exit, Limits, Nobody, Parts, Room, Who},
    name::{Host, Name},
    origins::Origins,
};
use stockade_ledger::{Ledger, Log, LogOptions, Producer, RunKey, SigningKey, SystemWorld};
use stockade_policy::Bundle;
use stockade_sandbox::{Arrival, Class, Doors, Driver, EnvironmentSpec, NamespaceConfig, NamespaceDriver};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;

const POLICY: &str = r#"
[[connection]]
id = "bench"
title = "The server"
hosts = ["server.bench.example"]
ports = [PORT]

[[connection]]
id = "read"
title = "The server, if it is read"
hosts = ["server.bench.example"]
ports = [READ]
methods = ["GET"]
"#;
/// Bytes of all flows together.
const BYTES: u64 = 8 << 30;
/// Bytes of a connection that is looked into.
const READ_BYTES: u64 = 2 << 30;
/// Seconds of connecting.
const SECONDS: u32 = 4;
/// Connections one after the other.
const ONE_BY_ONE: u32 = 1_000;
const HOST: &str = "server.bench.example";

/// A client with five tasks: `flow FLOWS BYTES`, `many PROCESSES SECONDS`, `one COUNT`, and over TLS `read 1 BYTES` and `ask COUNT`. A server sends as
/// much as the first eight bytes say, or the path of a request. The last argument is whom TLS trusts, where that is not the system.
const CLIENT: &str = r"
import os, socket, ssl, struct, sys, time
host, port, what, n, m = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
trusted = sys.argv[6] if len(sys.argv) > 6 else None
to = (socket.gethostbyname(host), port)
def connect():
    s = socket.create_connection(to, 30)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s
def flow(bytes):
    s = connect(); s.sendall(b'?' + struct.pack('>Q', bytes))
    room = memoryview(bytearray(1 << 20)); left = bytes
    while left:
        got = s.recv_into(room)
        if not got: sys.exit('cut off')
        left -= got
def echo():
    s = connect(); s.sendall(b'?' + struct.pack('>Q', 1)); b = s.recv(1); s.close()
    if len(b) != 1: sys.exit('refused')
class Secure:
    def __init__(self):
        context = ssl.create_default_context(cafile=trusted)
        self.s = context.wrap_socket(connect(), server_hostname='server.bench.example')
        self.room = memoryview(bytearray(1 << 20))
    def get(self, bytes):
        self.s.sendall(b'GET /%d HTTP/1.1\r\nHost: server.bench.example:%d\r\n\r\n' % (bytes, port))
        head = b''
        while b'\r\n\r\n' not in head:
            got = self.s.recv(4096)
            if not got: sys.exit('cut off in the head')
            head += got
        if not head.startswith(b'HTTP/1.1 200'): sys.exit(head)
        left = bytes - len(head.split(b'\r\n\r\n', 1)[1])
        while left:
            got = self.s.recv_into(self.room)
            if not got: sys.exit('cut off')
            left -= got
def middle(count, act):
    times = []
    for _ in range(count):
        t = time.perf_counter(); act(); times.append(time.perf_counter() - t)
    times.sort(); print(times[len(times) // 2] * 1e6)
def each(count, act):
    children = []
    for _ in range(count):
        r, w = os.pipe(); pid = os.fork()
        if pid == 0:
            os.write(w, str(act()).encode()); os._exit(0)
        os.close(w); children.append((pid, r))
    told = [os.read(r, 99) for _, r in children]
    for pid, _ in children:
        if os.waitpid(pid, 0)[1]: sys.exit('a child failed')
    return [float(t) for t in told]
began = time.perf_counter()
if what == 'flow':
    each(n, lambda: flow(m // n) or 0)
    print(m / (time.perf_counter() - began))
elif what == 'many':
    def act():
        count, end = 0, time.perf_counter() + m
        while time.perf_counter() < end: echo(); count += 1
        return count
    print(sum(each(n, act)) / m)
elif what == 'read':
    line = Secure(); began = time.perf_counter(); line.get(m)
    print(m / (time.perf_counter() - began))
elif what == 'ask':
    line = Secure(); middle(n, lambda: line.get(1))
else:
    middle(n, echo)
";

#[derive(Debug)]
struct Here;

#[async_trait]
impl Resolver for Here {
    async fn addresses(&self, _name: &Name) -> std::io::Result<Vec<std::net::IpAddr>> {
        Ok(vec![[127, 0, 0, 1].into()])
    }
}

impl Room for Here {
    fn has_room(&self) -> bool {
        true
    }
}

fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let piece = Arc::new(vec![7_u8; 1 << 20]);
        for stream in listener.incoming() {
            let (Ok(mut stream), piece) = (stream, Arc::clone(&piece)) else { continue };
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut wanted = [0; 9];
                if stream.read_exact(&mut wanted).is_err() {
                    return;
                }
                let [_, count @ ..] = wanted;
                let mut left = u64::from_be_bytes(count);
                while left > 0 {
                    let now = usize::try_from(left.min(piece.len() as u64)).unwrap_or(0);
                    if stream.write_all(piece.get(..now).unwrap_or_default()).is_err() {
                        return;
                    }
                    left -= now as u64;
                }
            });
        }
    });
    Ok(address)
}

/// A server over TLS, which answers each request with as many bytes as its path says.
async fn serve_read(authority: &Authority) -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let host = Host::parse(HOST).context("a name")?;
    let acceptor = TlsAcceptor::from(authority.server(&host, b"")?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let mut stream = BufReader::new(acceptor.accept(stream).await?);
                let piece = vec![7; 1 << 18];
                loop {
                    let (mut line, mut first) = (String::new(), String::new());
                    while stream.read_line(&mut line).await? > 2 {
                        if first.is_empty() {
                            first.clone_from(&line);
                        }
                        line.clear();
                    }
                    let Some(mut left) = first.split(['/', ' ']).nth(2).and_then(|count| count.parse::<u64>().ok())
                    else {
                        break;
                    };
                    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n").as_bytes()).await?;
                    while left > 0 {
                        let now = usize::try_from(left.min(piece.len() as u64)).unwrap_or(0);
                        stream.write_all(piece.get(..now).unwrap_or_default()).await?;
                        left -= now as u64;
                    }
                    stream.flush().await?;
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    Ok(address)
}

/// Whom the environment trusts, and whom the exit does.
struct Authorities {
    environment: Arc<Authority>,
    server: Authority,
}

fn exit(folder: &std::path::Path, (port, read): (u16, u16), authorities: &Authorities) -> Result<Arc<Exit>> {
    let world: Arc<dyn World> = Arc::new(SystemWorld);
    let log = Arc::new(Log::open(&folder.join("log"), LogOptions::default())?);
    let runner: RunnerId = world.id();
    let ledger = Ledger::start(log, Producer::Runner(runner), SigningKey::generate(), Arc::clone(&world))?;
    let (run, owner) = (world.id(), world.id());
    let key = Arc::new(RunKey::generate(&*world, run));
    let principal = Principal::Agent { run, owner };
    let who = Who { principal, run, project: world.id(), level: Level::ON_THE_LOOP, key };
    let policy = Bundle::parse(1, &POLICY.replace("PORT", &port.to_string()).replace("READ", &read.to_string()))?;
    let declared = Declared::new(["127.0.0.1/32".parse()?]);
    let parts = Parts {
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        ledger: Arc::new(ledger),
        dialer: Dialer::new(Arc::new(Here), declared, Duration::from_secs(20)),
        authority: Some(Arc::clone(&authorities.environment)),
        origins: Some(Arc::new(Origins::of_this_machine([authorities.server.certificate()])?)),
        credentials: Arc::default(),
        people: Arc::new(Nobody),
        inside: None,
        room: Arc::new(Here),
        world,
    };
    Ok(Arc::new(Exit::new(who, parts, Limits::default())))
}

async fn stand(exit: Arc<Exit>, doors: Box<dyn Doors>) {
    loop {
        match doors.arrival().await {
            Ok(Arrival::Stream { stream, wanted }) => {
                let exit = Arc::clone(&exit);
                tokio::spawn(async move { exit.stream(stream, wanted).await });
            }
            Ok(Arrival::Names { message, from }) => {
                if let Some(reply) = exit.question(&message).await {
                    doors.reply(from, &reply).await;
                }
            }
            Ok(Arrival::Stray(_)) => {}
            Err(_) => return,
        }
    }
}

fn argv(host: &str, port: u16, task: &[&str]) -> Vec<String> {
    let head = ["python3", "-c", CLIENT, host].map(str::to_owned);
    head.into_iter().chain([port.to_string()]).chain(task.iter().map(ToString::to_string)).collect()
}

/// One task inside.
async fn inside(driver: &NamespaceDriver, id: EnvironmentId, argv: Vec<String>) -> Result<f64> {
    let mut guest = driver.connect(id).await?;
    let op = Op::Exec(Exec { argv, timeout_ms: 300_000, max_output: 4_096, ..Exec::default() });
    let body = serde_json::to_vec(&Request { id: 1, call: None, op })?;
    guest.write_u32(u32::try_from(body.len())?).await?;
    guest.write_all(&body).await?;
    loop {
        let mut answer = vec![0; guest.read_u32().await? as usize];
        guest.read_exact(&mut answer).await?;
        let answer: Answer = serde_json::from_slice(&answer)?;
        match answer.reply {
            Reply::Exited { status: 0, stdout, .. } => return Ok(stdout.trim().parse()?),
            Reply::Output { .. } => {}
            other => bail!("the client inside failed: {other:?}"),
        }
    }
}

/// The same task on loopback.
fn bare(argv: &[String]) -> Result<f64> {
    let (program, rest) = argv.split_first().context("there is a program")?;
    let output = Command::new(program).args(rest).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.trim().parse().with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn goal(goal: &str, measured: f64, holds: bool) -> Value {
    json!({ "goal": goal, "measured": round(measured), "holds": holds })
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let helpers: PathBuf = std::env::var_os("STOCKADE_HELPERS").context("name the helpers in STOCKADE_HELPERS")?.into();
    let driver = NamespaceDriver::new(NamespaceConfig {
        root: folder.path().join("environments"),
        helpers,
        ..NamespaceConfig::default()
    });
    let world: Arc<dyn World> = Arc::new(SystemWorld);
    let authorities = Authorities {
        environment: Arc::new(Authority::generate(Arc::clone(&world), "bench")?),
        server: Authority::generate(world, "server")?,
    };
    let trusted = folder.path().join("server.pem");
    std::fs::write(&trusted, authorities.server.certificate())?;
    let (port, read) = (serve()?.port(), serve_read(&authorities.server).await?.port());
    let id = EnvironmentId::from_bytes([7; 16]);
    let class = Class { memory_bytes: 4 << 30, disk_bytes: 64 << 20, ..Class::default() };
    driver
        .create(&EnvironmentSpec {
            id,
            class,
            inside: Default::default(),
            certificate: Some(authorities.environment.certificate().to_owned()),
            variables: Default::default(),
            gitconfig: None,
        })
        .await?;
    let measured = async {
        let exit = exit(folder.path(), (port, read), &authorities)?;
        tokio::spawn(stand(Arc::clone(&exit), driver.doors(id).await?));
        let bytes = BYTES.to_string();
        let (seconds, count) = (SECONDS.to_string(), ONE_BY_ONE.to_string());
        let read_bytes = READ_BYTES.to_string();
        let tasks: [(u16, &[&str]); 6] = [
            (port, &["flow", "1", &bytes]),
            (port, &["flow", "64", &bytes]),
            (port, &["many", "8", &seconds]),
            (port, &["one", &count, "0"]),
            (read, &["read", "1", &read_bytes]),
            (read, &["ask", &count, "0"]),
        ];
        let mut found = Vec::new();
        for (port, task) in tasks {
            let ours = inside(&driver, id, argv(HOST, port, task)).await?;
            let without = tokio::task::spawn_blocking({
                let mut argv = argv("127.0.0.1", port, task);
                argv.push(trusted.display().to_string());
                move || bare(&argv)
            });
            found.push((ours, without.await??));
        }
        exit.stop();
        Ok::<_, anyhow::Error>(found)
    }
    .await;
    driver.delete(id).await?;
    let measured = measured?;
    let [one, many, fresh, first, read, ask] = measured.as_slice() else { bail!("six tasks were measured") };
    let giga = |value: f64| round(value / 1e9);
    let report = json!({
        "name": "egress",
        "conditions": {
            "what": "a program in an environment beside the same over loopback without us; connections decided and recorded durably",
            "bytes": BYTES,
            "cores": std::thread::available_parallelism()?.get(),
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        },
        "figures": {
            "one_flow_gb_s": giga(one.0),
            "one_flow_bare_gb_s": giga(one.1),
            "one_flow_ratio": round(one.0 / one.1),
            "flows_64_gb_s": giga(many.0),
            "flows_64_bare_gb_s": giga(many.1),
            "flows_64_ratio": round(many.0 / many.1),
            "connections_per_s": round(fresh.0),
            "connections_bare_per_s": round(fresh.1),
            "first_byte_us": round(first.0),
            "first_byte_bare_us": round(first.1),
            "first_byte_added_us": round(first.0 - first.1),
            "read_gb_s": giga(read.0),
            "read_bare_gb_s": giga(read.1),
            "read_ratio": round(read.0 / read.1),
            "request_us": round(ask.0),
            "request_bare_us": round(ask.1),
            "request_added_us": round(ask.0 - ask.1),
        },
        "targets": {
            "one_flow_gb_s": goal("at least 2", one.0 / 1e9, one.0 >= 2e9),
            "read_gb_s": goal("at least 0.3", read.0 / 1e9, read.0 >= 3e8),
            "connections_per_s": goal("at least 3000", fresh.0, fresh.0 >= 3_000.0),
            "first_byte_added_us": goal("at most 300", first.0 - first.1, first.0 - first.1 <= 300.0),
        },
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
