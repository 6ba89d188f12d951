//! What the way out costs: bytes a second of one flow and of 64, new connections a second, and what is added until the first byte comes back;
//! each beside the same program talking to the same server over loopback, without us.
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
    dial::{Declared, Dialer, Resolver},
    exit::{Exit, Limits, Nobody, Parts, Room, Who},
    name::Name,
};
use stockade_ledger::{Ledger, Log, LogOptions, Producer, RunKey, SigningKey, SystemWorld};
use stockade_policy::Bundle;
use stockade_sandbox::{Arrival, Class, Doors, Driver, EnvironmentSpec, NamespaceConfig, NamespaceDriver};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const POLICY: &str = r#"
[[connection]]
id = "bench"
title = "The server"
hosts = ["server.bench.example"]
ports = [PORT]
"#;
/// Bytes of all flows together.
const BYTES: u64 = 8 << 30;
/// Seconds of connecting.
const SECONDS: u32 = 4;
/// Connections one after the other.
const ONE_BY_ONE: u32 = 1_000;
const HOST: &str = "server.bench.example";

/// A client with three tasks: `flow FLOWS BYTES`, `many PROCESSES SECONDS`, `one COUNT`. A server sends as much as the first eight bytes say,
/// or the one byte back.
const CLIENT: &str = r"
import os, socket, struct, sys, time
host, port, what, n, m = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
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
else:
    times = []
    for _ in range(n):
        t = time.perf_counter(); echo(); times.append(time.perf_counter() - t)
    times.sort(); print(times[len(times) // 2] * 1e6)
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

fn exit(folder: &std::path::Path, port: u16) -> Result<Arc<Exit>> {
    let world: Arc<dyn World> = Arc::new(SystemWorld);
    let log = Arc::new(Log::open(&folder.join("log"), LogOptions::default())?);
    let runner: RunnerId = world.id();
    let ledger = Ledger::start(log, Producer::Runner(runner), SigningKey::generate(), Arc::clone(&world))?;
    let (run, owner) = (world.id(), world.id());
    let key = Arc::new(RunKey::generate(&*world, run));
    let principal = Principal::Agent { run, owner };
    let who = Who { principal, run, project: world.id(), level: Level::ON_THE_LOOP, key };
    let policy = Bundle::parse(1, &POLICY.replace("PORT", &port.to_string()))?;
    let declared = Declared::new(["127.0.0.1/32".parse()?]);
    let parts = Parts {
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        ledger: Arc::new(ledger),
        dialer: Dialer::new(Arc::new(Here), declared, Duration::from_secs(20)),
        authority: None,
        origins: None,
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
    let port = serve()?.port();
    let id = EnvironmentId::from_bytes([7; 16]);
    let class = Class { memory_bytes: 4 << 30, disk_bytes: 64 << 20, ..Class::default() };
    driver
        .create(&EnvironmentSpec {
            id,
            class,
            inside: Default::default(),
            certificate: None,
            variables: Default::default(),
            gitconfig: None,
        })
        .await?;
    let measured = async {
        let exit = exit(folder.path(), port)?;
        tokio::spawn(stand(Arc::clone(&exit), driver.doors(id).await?));
        let bytes = BYTES.to_string();
        let (seconds, count) = (SECONDS.to_string(), ONE_BY_ONE.to_string());
        let tasks: [&[&str]; 4] =
            [&["flow", "1", &bytes], &["flow", "64", &bytes], &["many", "8", &seconds], &["one", &count, "0"]];
        let mut found = Vec::new();
        for task in tasks {
            let ours = inside(&driver, id, argv(HOST, port, task)).await?;
            let without = tokio::task::spawn_blocking({
                let argv = argv("127.0.0.1", port, task);
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
    let [one, many, fresh, first] = measured.as_slice() else { bail!("four tasks were measured") };
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
        },
        "targets": {
            "one_flow_gb_s": goal("at least 2", one.0 / 1e9, one.0 >= 2e9),
            "connections_per_s": goal("at least 3000", fresh.0, fresh.0 >= 3_000.0),
            "first_byte_added_us": goal("at most 300", first.0 - first.1, first.0 - first.1 <= 300.0),
        },
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
