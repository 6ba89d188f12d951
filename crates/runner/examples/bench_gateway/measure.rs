//! The plan of the bench, its figures and its targets.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use tokio::task::LocalSet;

use crate::{
    bodies::{self, Body, MODEL},
    load::{self, Aim, Found, Wire, at},
    parts::{Part, resident_kib},
};

const CONNECTIONS: [usize; 5] = [1, 8, 32, 128, 512];
const SIZES: [(&str, usize); 2] = [("1k", 1_024), ("100k", 102_400)];
const OPEN_STREAMS: usize = 1_000;

/// Somebody between load and provider.
struct System {
    name: String,
    aim: Aim,
    model: String,
    /// What else is measured of it: everything, or a few cells.
    full: bool,
    stream: bool,
    pid: Option<u32>,
    _part: Option<Part>,
}

/// One cell of the table.
struct Cell {
    system: usize,
    size: &'static str,
    stream: bool,
    connections: usize,
    found: Found,
}

fn warm() -> Duration {
    Duration::from_millis(500)
}

/// `STOCKADE_BENCH_MS` chooses how long each cell is measured.
fn time() -> Duration {
    let ms = std::env::var("STOCKADE_BENCH_MS").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(ms.unwrap_or(2_000))
}

fn anthropic(addr: &str, prefix: &str) -> Aim {
    Aim {
        addr: addr.to_owned(),
        path: format!("{prefix}/v1/messages"),
        headers: format!("x-api-key: {}\r\nanthropic-version: 2023-06-01\r\n", stockade_runner::bench::TOKEN),
    }
}

fn system(name: &str, part: Part, prefix: &str) -> System {
    let aim = anthropic(&part.addr, prefix);
    System {
        name: name.to_owned(),
        aim,
        model: MODEL.to_owned(),
        full: true,
        stream: true,
        pid: None,
        _part: Some(part),
    }
}

/// A folder in which the gateway keeps its spool.
pub struct Folder(pub PathBuf);

impl Folder {
    fn new(below: PathBuf) -> Result<Self> {
        let path = below.join(format!("stockade-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Beside this program: that is the disk on which it was built.
pub fn disk() -> Result<Folder> {
    let program = std::env::current_exe()?;
    Folder::new(program.parent().context("no folder")?.to_owned())
}

fn memory() -> Result<Folder> {
    Folder::new(PathBuf::from("/dev/shm"))
}

pub fn block<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

fn measured(system: &System, body: &Body, connections: usize) -> Result<Found> {
    block(load::run(&system.aim, body, connections, warm(), time()))
}

/// A single cell, for a profiler.
pub fn look(words: &[String]) -> Result<String> {
    let [name, size, stream, connections] = words else {
        bail!("expected: direct|relay|disk|memory 1k|100k stream|whole CONNECTIONS");
    };
    let fake = Part::start(&["fake"])?;
    let place = if name == "memory" { memory()? } else { disk()? };
    let dir = place.0.display().to_string();
    let system = match name.as_str() {
        "direct" => System { _part: None, ..direct(&fake) },
        "relay" => system("relay", Part::start(&["relay", &fake.addr])?, ""),
        _ => system("ours", Part::start(&["ours", &dir, &fake.addr])?, "/gateway/anthropic"),
    };
    let size = SIZES.iter().find(|(known, _)| known == size).context("1k or 100k")?.1;
    let body = bodies::request(MODEL, size, stream == "stream");
    let found = measured(&system, &body, connections.parse()?)?;
    Ok(format!(
        "{name}: {:.0} a second, whole p50 {:.0} p90 {:.0} p99 {:.0} µs, first byte p50 {:.0} µs, errors {} {}",
        found.per_second(),
        at(&found.whole, 50),
        at(&found.whole, 90),
        at(&found.whole, 99),
        at(&found.first, 50),
        found.errors,
        found.error.unwrap_or_default(),
    ))
}

fn direct(fake: &Part) -> System {
    System {
        name: "direct".to_owned(),
        aim: anthropic(&fake.addr, ""),
        model: MODEL.to_owned(),
        full: true,
        stream: true,
        pid: None,
        _part: None,
    }
}

/// Other gateways, as xtask has installed and described them: a JSON list in the file that `STOCKADE_BENCH_PEERS` names.
struct Peers {
    children: Vec<std::process::Child>,
    systems: Vec<System>,
    missing: Map<String, Value>,
}

impl Drop for Peers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn peers(fake: &Part) -> Result<Peers> {
    let mut peers = Peers { children: Vec::new(), systems: Vec::new(), missing: Map::new() };
    let Some(file) = std::env::var_os("STOCKADE_BENCH_PEERS") else { return Ok(peers) };
    let listed: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    for peer in listed {
        let text = |name: &str| peer.get(name).and_then(Value::as_str).unwrap_or_default();
        let filled =
            |text: &str, port: u16| text.replace("{port}", &port.to_string()).replace("{provider}", &fake.addr);
        let name = text("name").to_owned();
        if let Some(why) = peer.get("missing") {
            peers.missing.insert(name, why.clone());
            continue;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if !text("config_file").is_empty() {
            std::fs::write(text("config_file"), filled(text("config"), port))?;
        }
        let words = peer.get("command").and_then(Value::as_array).into_iter().flatten();
        let mut words = words.filter_map(Value::as_str).map(|word| filled(word, port));
        let program = words.next().context("a peer without a command")?;
        let mut command = std::process::Command::new(program);
        command.args(words).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        for (key, value) in peer.get("env").and_then(Value::as_object).into_iter().flatten() {
            command.env(key, filled(value.as_str().unwrap_or_default(), port));
        }
        let said = text("address_file");
        let _ = std::fs::remove_file(said);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        let system = System {
            aim: Aim {
                addr: format!("127.0.0.1:{port}"),
                path: text("path").to_owned(),
                headers: filled(text("headers"), port),
            },
            model: text("model").to_owned(),
            full: false,
            stream: peer.get("stream").and_then(Value::as_bool).unwrap_or(false),
            pid: Some(child.id()),
            _part: None,
            name: name.clone(),
        };
        peers.children.push(child);
        let mut system = system;
        if !said.is_empty() {
            match address(said) {
                Some(addr) => system.aim.addr = addr,
                None => {
                    peers.missing.insert(name, "it did not say where it listens".into());
                    continue;
                }
            }
        }
        match answers(&system) {
            Ok(()) => peers.systems.push(system),
            Err(error) => {
                peers.missing.insert(name, format!("{error:#}").into());
            }
        }
    }
    Ok(peers)
}

/// What a peer that chooses its port itself says about it, within a minute.
fn address(file: &str) -> Option<String> {
    for _ in 0..120 {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if let Some(url) = text.strip_suffix('\n') {
            return url.strip_prefix("http://")?.split('/').next().map(str::to_owned);
        }
        pause();
    }
    None
}

#[expect(clippy::disallowed_methods, reason = "a peer says nothing when it is ready: it is looked for")]
fn pause() {
    std::thread::sleep(Duration::from_millis(500));
}

/// Waits until it answers a call, at most two minutes.
fn answers(system: &System) -> Result<()> {
    block(async {
        let (request, _) = system.aim.request(&bodies::request(&system.model, 1_024, false));
        let mut last = None;
        for _ in 0..240 {
            let asked = async {
                let mut wire = Wire::open(&system.aim.addr).await?;
                wire.ask(&request, false).await
            };
            match tokio::time::timeout(Duration::from_secs(10), asked).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => last = Some(error),
                Err(_) => bail!("it does not answer"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Err(last.context("it does not answer")?)
    })
}

/// Resident memory before and with many open streams, in KiB.
fn open_streams(ours: &System, size: usize) -> Result<(u64, u64)> {
    let part = ours._part.as_ref().context("ours is a process")?;
    let before = part.resident_kib();
    let aim = Aim { headers: format!("{}{}: 1\r\n", ours.aim.headers, bodies::HOLD), ..ours.aim.clone() };
    let (request, _) = aim.request(&bodies::request(MODEL, size, true));
    let with = block(async {
        let mut wires = Vec::new();
        for _ in 0..OPEN_STREAMS {
            let mut wire = Wire::open(&aim.addr).await?;
            wire.ask(&request, true).await?;
            wires.push(wire);
        }
        Ok(part.resident_kib())
    })?;
    Ok((before, with))
}

/// Everything.
pub fn run() -> Result<Value> {
    let fake = Part::start(&["fake"])?;
    let (disk, memory) = (disk()?, memory().ok());
    let place = disk.0.display().to_string();
    let mut systems = vec![
        direct(&fake),
        system("relay", Part::start(&["relay", &fake.addr])?, ""),
        system("ours", Part::start(&["ours", &place, &fake.addr])?, "/gateway/anthropic"),
    ];
    let ours = 2;
    if let Some(memory) = &memory {
        let place = memory.0.display().to_string();
        let part = Part::start(&["ours", &place, &fake.addr])?;
        systems.push(system("ours_in_memory", part, "/gateway/anthropic"));
    }
    let mut peers = peers(&fake)?;
    systems.append(&mut peers.systems);

    let mut cells = Vec::new();
    for (size, bytes) in SIZES {
        for stream in [false, true] {
            for connections in CONNECTIONS {
                for (at, system) in systems.iter().enumerate() {
                    if (!system.full && !matches!(connections, 1 | 32)) || (stream && !system.stream) {
                        continue;
                    }
                    let body = bodies::request(&system.model, bytes, stream);
                    let found = measured(system, &body, connections)?;
                    eprintln!(
                        "{:<16} {size:>4} {} {connections:>3}: {:>7.0} a second, p50 {:>7.0} µs, errors {} {}",
                        system.name,
                        if stream { "stream" } else { "whole " },
                        found.per_second(),
                        load::at(&found.whole, 50),
                        found.errors,
                        found.error.as_deref().unwrap_or_default().lines().next().unwrap_or_default(),
                    );
                    cells.push(Cell { system: at, size, stream, connections, found });
                }
            }
        }
    }

    let mut figures = Map::new();
    for cell in &cells {
        let name = format!(
            "{}_{}_{}_{}",
            systems.get(cell.system).map_or("", |system| &system.name),
            cell.size,
            if cell.stream { "stream" } else { "whole" },
            cell.connections
        );
        let mut put = |what: &str, figure: f64| {
            figures.insert(format!("{name}_{what}"), rounded(figure));
        };
        put("per_second", cell.found.per_second());
        put("p50_us", at(&cell.found.whole, 50));
        put("p99_us", at(&cell.found.whole, 99));
        if cell.stream {
            put("first_byte_p50_us", at(&cell.found.first, 50));
        }
        if cell.found.errors > 0 {
            put("errors", errors(&cell.found));
        }
    }
    for system in systems.iter().filter(|system| system.pid.is_some()) {
        let kib = system.pid.map_or(0, resident_kib);
        figures.insert(format!("{}_resident_mib", system.name), json!(kib / 1_024));
    }
    let ours_system = systems.get(ours).context("ours")?;
    let (_, with_large) = open_streams(ours_system, 102_400)?;
    // Anew, so that what the load has left behind is not counted.
    let fresh_place = disk.0.join("fresh").display().to_string();
    let fresh = system("ours", Part::start(&["ours", &fresh_place, &fake.addr])?, "/gateway/anthropic");
    let (before, with) = open_streams(&fresh, 1_024)?;
    figures.insert("ours_resident_idle_mib".into(), json!(before / 1_024));
    figures.insert("ours_resident_1000_streams_mib".into(), json!(with / 1_024));
    figures.insert("ours_resident_1000_streams_100k_after_load_mib".into(), json!(with_large / 1_024));

    let table = Table { cells: &cells };
    let mut targets = Map::new();
    let mut target = |name: String, goal: f64, measured: f64, holds: bool| {
        targets.insert(name, json!({"goal": rounded(goal), "measured": rounded(measured), "holds": holds}));
    };
    for (size, goal) in [("1k", 100.0), ("100k", 250.0)] {
        let added = table.p50(ours, size, false) - table.p50(0, size, false);
        target(format!("added_median_{size}_us"), goal, added, added < goal);
    }
    for (size, goal) in [("1k", 0.6), ("100k", 0.4)] {
        for stream in [false, true] {
            let ratio = table.best(ours, size, stream) / table.best(1, size, stream).max(1.0);
            let name = format!("of_the_relay_{size}_{}", if stream { "stream" } else { "whole" });
            target(name, goal, ratio, ratio >= goal);
        }
    }
    let added = table.first(ours, "1k") - table.first(0, "1k");
    target("first_token_added_us".into(), 300.0, added, added < 300.0);
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    {
        let most = 60.0 + OPEN_STREAMS as f64 * 50.0 / 1_024.0;
        let mib = with as f64 / 1_024.0;
        target("resident_1000_streams_mib".into(), most, mib, mib < most);
        let errors: u64 = cells.iter().filter(|cell| cell.system == ours).map(|cell| cell.found.errors).sum();
        target("errors".into(), 0.0, errors as f64, errors == 0);
    }
    if let Some(litellm) = systems.iter().position(|system| system.name == "litellm") {
        let ratio = table.best(ours, "1k", false) / table.best(litellm, "1k", false).max(1e-9);
        target("times_litellm".into(), 40.0, ratio, ratio >= 40.0);
    }

    Ok(json!({
        "name": "gateway",
        "conditions": {
            "machine_processors": std::thread::available_parallelism().map_or(0, usize::from),
            "milliseconds_a_cell": time().as_millis(),
            "shared": "load, provider and gateway run on the same machine, each in a process of its own",
            "ours": "as the runner serves it: policy, purse and ledger durable on the disk, capture; the spool is not shipped",
            "ours_in_memory": "the same with its folder on a memory file system; shown, not judged",
            "relay": "hyper to hyper, nothing parsed",
            "stream": format!("{} events, each written by itself", bodies::EVENTS + 5),
            "bodies": "the end of each is new, the rest repeats as a conversation does",
            "added": "median of ours at one connection without that of the provider asked directly",
            "of_the_relay": "the best throughput over all numbers of connections, ours by the relay's",
            "fdatasync_append_p50_us": rounded(fsync(&disk.0, false)?),
            "fdatasync_overwrite_p50_us": rounded(fsync(&disk.0, true)?),
            "peers_missing": peers.missing,
        },
        "figures": figures,
        "targets": targets,
    }))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn errors(found: &Found) -> f64 {
    found.errors as f64
}

/// What one durable write costs on this disk, in microseconds: what no durable record can be quicker than.
fn fsync(dir: &std::path::Path, overwrite: bool) -> Result<f64> {
    use std::os::unix::fs::FileExt;
    const TIMES: u64 = 100;
    let path = dir.join("fsync");
    let file = std::fs::File::create(&path)?;
    if overwrite {
        file.write_all_at(&vec![0; 4_096 * 128], 0)?;
        file.sync_all()?;
    }
    let mut times = Vec::new();
    for at in 0..TIMES {
        let begun = std::time::Instant::now();
        file.write_all_at(&[7; 2_048], at * 2_048)?;
        file.sync_data()?;
        times.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    std::fs::remove_file(&path)?;
    Ok(at(&times, 50))
}

struct Table<'a> {
    cells: &'a [Cell],
}

impl Table<'_> {
    fn of(&self, system: usize, size: &str, stream: bool) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| cell.system == system && cell.size == size && cell.stream == stream)
    }
    fn one(&self, system: usize, size: &str, stream: bool) -> Option<&Found> {
        self.of(system, size, stream).find(|cell| cell.connections == 1).map(|cell| &cell.found)
    }
    fn p50(&self, system: usize, size: &str, stream: bool) -> f64 {
        self.one(system, size, stream).map_or(f64::NAN, |found| at(&found.whole, 50))
    }
    fn first(&self, system: usize, size: &str) -> f64 {
        self.one(system, size, true).map_or(f64::NAN, |found| at(&found.first, 50))
    }
    fn best(&self, system: usize, size: &str, stream: bool) -> f64 {
        self.of(system, size, stream).map(|cell| cell.found.per_second()).fold(0.0, f64::max)
    }
}

fn rounded(figure: f64) -> Value {
    json!((figure * 100.0).round() / 100.0)
}
