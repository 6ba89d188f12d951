//! `cargo xtask bench soak`: the gateway at full speed for long, with everything switched on and a share of all that goes wrong. What
//! is judged is not how fast it is but that nothing grows, nobody is left without an answer, and the books close.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use stockade_runner::soak::Verdict;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    bodies,
    load::Aim,
    measure::{block, disk},
    mishaps::{MARK, Mishap, TICKET},
    parts::Part,
};

const CONNECTIONS: usize = 32;
const SIZES: [usize; 2] = [1_024, 102_400];
/// Whoever has no answer after this has none.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the process is looked at; more often in a short soak.
const SAMPLE: Duration = Duration::from_secs(10);
/// Memory that is flat grows by less than this share, in percent, or than this.
const FLAT_PERCENT: u64 = 5;
const FLAT_KIB: u64 = 4 * 1_024;
/// Descriptors and threads come and go with connections and blocking work.
const FLAT_COUNT: u64 = 8;
/// The most disk that the spool may take while it is given back.
const DISK_MIB: u64 = 1_024;

/// Models by the provider's dialect.
pub const MODELS: [&str; 2] = ["by-messages", "by-chat"];

/// The policy: the one that ships, and something that is taken out and something that is blocked.
pub fn policy(shipped: &str) -> String {
    format!(
        "{shipped}\n[[content_pattern]]\nname = \"ticket\"\nregex = \"ACME-[0-9]{{4,8}}\"\nkeyword = \"ACME\"\n\
         [[content_words]]\nname = \"bird\"\nwords = [\"blue falcon\"]\n\
         [[content]]\nid = \"tickets\"\ntitle = \"Tickets are taken out\"\nclasses = [\"pattern.ticket\"]\naction = \"redact\"\n\
         [[content]]\nid = \"birds\"\ntitle = \"Birds are blocked\"\nclasses = [\"words.bird\"]\ndirection = [\"request\"]\naction = \"block\"\n"
    )
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The provider does this.
    Provider(Mishap),
    /// The request has something in it that is taken out.
    Redacted,
    /// The request is blocked.
    Blocked,
    /// The client hangs up once the answer has begun, or is being waited for.
    HangUp,
}

impl Kind {
    /// One of a thousand.
    const fn of(number: u64) -> Self {
        match number % 1_000 {
            0..10 => Self::Provider(Mishap::Slow),
            10..20 => Self::Provider(Mishap::Reset),
            20..30 => Self::Provider(Mishap::Error),
            30..40 => Self::Provider(Mishap::Malformed),
            40..60 => Self::Provider(Mishap::Ticket),
            60..80 => Self::Redacted,
            80..90 => Self::Blocked,
            90..130 => Self::HangUp,
            _ => Self::Provider(Mishap::None),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Provider(mishap) => mishap.word(),
            Self::Redacted => "redacted",
            Self::Blocked => "blocked",
            Self::HangUp => "hang_up",
        }
    }

    /// The end of the last message.
    fn text(self) -> String {
        match self {
            Self::Provider(mishap) => format!("{MARK}{}", mishap.word()),
            Self::Redacted => TICKET.concat(),
            Self::Blocked => "the blue falcon".to_owned(),
            Self::HangUp => format!("{MARK}fine"),
        }
    }
}

/// One request, ready but for its number.
struct Prepared {
    bytes: Vec<u8>,
    nonce: usize,
    chat: bool,
    stream: bool,
}

/// All that can be asked of one kind: size, stream, the client's dialect, the provider's.
fn prepared(addr: &str, kind: Kind) -> Vec<Prepared> {
    let mut all = Vec::new();
    let headers = format!("x-api-key: {}\r\nuser-agent: stockade-soak/1\r\n", stockade_runner::bench::TOKEN);
    for size in SIZES {
        for stream in [false, true] {
            for (chat, path) in
                [(false, "/gateway/anthropic/v1/messages"), (true, "/gateway/openai/v1/chat/completions")]
            {
                for model in MODELS {
                    let mut body = bodies::request(model, size, stream);
                    let text = format!(" {}", kind.text());
                    body.bytes.splice(body.nonce + bodies::NONCE..body.nonce + bodies::NONCE, text.into_bytes());
                    let aim = Aim { addr: addr.to_owned(), path: path.to_owned(), headers: headers.clone() };
                    let (bytes, nonce) = aim.request(&body);
                    all.push(Prepared { bytes, nonce, chat, stream });
                }
            }
        }
    }
    all
}

/// An answer, as far as it came.
#[derive(Debug, Default)]
struct Came {
    status: u16,
    /// Whether it came to the end that HTTP has for it.
    whole: bool,
    bytes: Vec<u8>,
}

struct Client {
    stream: TcpStream,
}

impl Client {
    async fn open(addr: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Asks, and reads until the answer's end or its first byte.
    async fn ask(&mut self, request: &[u8], first: bool) -> Result<Came> {
        self.stream.write_all(request).await?;
        let mut came = Came { bytes: Vec::with_capacity(8 * 1024), ..Came::default() };
        let mut head = None;
        loop {
            if self.stream.read_buf(&mut came.bytes).await? == 0 {
                return Ok(came);
            }
            if head.is_none()
                && let Some(end) = memchr::memmem::find(&came.bytes, b"\r\n\r\n")
            {
                let text = String::from_utf8_lossy(came.bytes.get(..end).unwrap_or_default()).to_ascii_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
                head = Some((end + 4, length.and_then(|length| length.trim().parse::<usize>().ok())));
                came.status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
            }
            let Some((start, length)) = head else { continue };
            came.whole = match length {
                Some(length) => came.bytes.len() >= start + length,
                None => came.bytes.ends_with(b"0\r\n\r\n"),
            };
            if came.whole || (first && came.bytes.len() > start) {
                return Ok(came);
            }
        }
    }
}

/// What is wrong with an answer, if anything is.
fn wrong(kind: Kind, asked: &Prepared, came: &Came) -> Option<String> {
    let has = |text: &str| memchr::memmem::find(&came.bytes, text.as_bytes()).is_some();
    let good = match kind {
        Kind::HangUp => true,
        Kind::Blocked => came.whole && came.status == 400,
        // However it ends, it has begun: somebody said something.
        Kind::Provider(Mishap::Reset | Mishap::Error | Mishap::Malformed) => came.status > 0,
        Kind::Provider(_) | Kind::Redacted => {
            let end = match (asked.stream, asked.chat) {
                (true, false) => "message_stop",
                (true, true) => "[DONE]",
                (false, _) => "three four",
            };
            came.whole && came.status == 200 && has(end) && !has("ACME-4711") && !has("4711 there")
        }
    };
    let shown = || String::from_utf8_lossy(came.bytes.get(..1_500).unwrap_or(&came.bytes)).into_owned();
    (!good).then(|| format!("{} ({}): {}", kind.word(), came.status, shown()))
}

/// What came of all calls so far.
#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    kinds: BTreeMap<&'static str, u64>,
    /// Of kinds that go wrong: how often the client got the end that HTTP has for it.
    cut: u64,
    unanswered: u64,
    wrong: u64,
    first_wrong: Option<String>,
}

/// Asks, one call after the other, until `end`.
async fn client(addr: String, seed: u64, all: Rc<Vec<(Kind, Vec<Prepared>)>>, tally: Rc<RefCell<Tally>>, end: Instant) {
    let mut random = seed | 1;
    let mut number = seed % 1_000_000 * 1_000_000_000;
    let mut open: Option<Client> = None;
    while Instant::now() < end {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let kind = Kind::of(random);
        let Some((_, ways)) = all.iter().find(|(known, _)| *known == kind) else { return };
        // Three small bodies for each large one.
        let half = ways.len() / 2;
        let pick = (random >> 32) as usize;
        let way = if (random >> 24).is_multiple_of(4) { half + pick % half } else { pick % half };
        let Some(asked) = ways.get(way) else { return };
        number += 1;
        let mut request = asked.bytes.clone();
        if let Some(place) = request.get_mut(asked.nonce..asked.nonce + bodies::NONCE) {
            place.copy_from_slice(format!("{number:0width$}", width = bodies::NONCE).as_bytes());
        }
        let client = match open.take() {
            Some(client) => Ok(client),
            None => Client::open(&addr).await,
        };
        let asking = async {
            let mut client = client?;
            if kind == Kind::HangUp && !asked.stream {
                client.stream.write_all(&request).await?;
                return Ok((client, Came::default()));
            }
            let came = client.ask(&request, kind == Kind::HangUp).await?;
            anyhow::Ok((client, came))
        };
        let came = tokio::time::timeout(PATIENCE, asking).await;
        let mut tally = tally.borrow_mut();
        tally.calls += 1;
        *tally.kinds.entry(kind.word()).or_default() += 1;
        match came {
            Ok(Ok((client, came))) => {
                if let Some(why) = wrong(kind, asked, &came) {
                    tally.wrong += 1;
                    tally.first_wrong.get_or_insert(why);
                }
                if came.status == 0 && kind != Kind::HangUp {
                    tally.unanswered += 1;
                }
                if came.whole {
                    open = Some(client);
                } else if kind != Kind::HangUp {
                    tally.cut += 1;
                }
            }
            Ok(Err(error)) => {
                tally.unanswered += 1;
                tally.first_wrong.get_or_insert_with(|| format!("{}: {error:#}", kind.word()));
            }
            Err(_) => {
                tally.unanswered += 1;
                tally.first_wrong.get_or_insert_with(|| format!("{}: no answer within {PATIENCE:?}", kind.word()));
            }
        }
    }
}

/// What the process had at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    resident_kib: u64,
    descriptors: u64,
    threads: u64,
    disk_kib: u64,
}

fn sample(pid: u32, dir: &Path) -> Sample {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |list| list.count() as u64);
    Sample { resident_kib: field("VmRSS:"), descriptors, threads: field("Threads:"), disk_kib: taken(dir) / 1_024 }
}

/// All files below a folder, in bytes. A file that goes away in the meantime counts as none.
fn taken(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => taken(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The median over one fifth of the samples, counted from 0.
fn median(samples: &[Sample], fifth: usize, of: impl Fn(&Sample) -> u64) -> u64 {
    let (from, to) = (samples.len() * fifth / 5, samples.len() * (fifth + 1) / 5);
    let mut values: Vec<u64> = samples.get(from..to).unwrap_or_default().iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// `STOCKADE_BENCH_MINUTES` chooses for how long.
fn time() -> Duration {
    let minutes = std::env::var("STOCKADE_BENCH_MINUTES").ok().and_then(|text| text.parse::<f64>().ok());
    Duration::from_secs_f64(minutes.unwrap_or(30.0).clamp(0.1, 10_000.0) * 60.0)
}

async fn scraped(addr: &str) -> Result<String> {
    let mut client = Client::open(addr).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    let came = tokio::time::timeout(PATIENCE, client.ask(request.as_bytes(), false)).await??;
    Ok(String::from_utf8_lossy(&came.bytes).into_owned())
}

/// Loads and looks until the time is over.
async fn load(addr: &str, pid: u32, dir: &Path) -> Result<(Vec<Sample>, Tally, Duration)> {
    let kinds = (0..1_000).map(Kind::of).collect::<Vec<_>>();
    let mut all: Vec<(Kind, Vec<Prepared>)> = Vec::new();
    for kind in kinds {
        if all.iter().all(|(known, _)| *known != kind) {
            all.push((kind, prepared(addr, kind)));
        }
    }
    let (all, tally) = (Rc::new(all), Rc::new(RefCell::new(Tally::default())));
    let (begun, time) = (Instant::now(), time());
    let end = begun + time;
    let mut clients = tokio::task::JoinSet::new();
    for at in 0..CONNECTIONS as u64 {
        let seed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        clients.spawn_local(client(addr.to_owned(), seed, Rc::clone(&all), Rc::clone(&tally), end));
    }
    let mut samples = Vec::new();
    let mut ticks = tokio::time::interval(SAMPLE.min(time / 60));
    let (mut said, mut before) = (Instant::now(), 0);
    while Instant::now() < end {
        ticks.tick().await;
        scraped(addr).await?;
        let now = sample(pid, dir);
        samples.push(now);
        if said.elapsed() >= SAMPLE {
            let tally = tally.borrow();
            let rate = (tally.calls - before) as f64 / said.elapsed().as_secs_f64();
            eprintln!(
                "{:>5} s: {:>9} calls, {rate:>6.0} a second, {:>6} KiB resident, {} descriptors, {} threads, {} MiB of disk, \
                 {} unanswered, {} wrong",
                begun.elapsed().as_secs(),
                tally.calls,
                now.resident_kib,
                now.descriptors,
                now.threads,
                now.disk_kib / 1_024,
                tally.unanswered,
                tally.wrong,
            );
            (said, before) = (Instant::now(), tally.calls);
        }
    }
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    Ok((samples, tally.take(), begun.elapsed()))
}

/// Everything.
pub fn run() -> Result<Value> {
    let (fake, disk) = (Part::start(&["mishaps"])?, disk()?);
    let mut ours = Part::start(&["soak-ours", &disk.0.display().to_string(), &fake.addr])?;
    let (addr, pid) = (ours.addr.clone(), ours.pid());
    let (samples, tally, seconds) = block(load(&addr, pid, &disk.0))?;
    let metrics = block(scraped(&addr))?;
    let verdict: Verdict = serde_json::from_str(&ours.end()?).context("the gateway did not say how it stands")?;
    let last = sample(pid, &disk.0);
    Ok(report(&samples, &tally, seconds, &verdict, last, &metrics))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn report(samples: &[Sample], tally: &Tally, time: Duration, verdict: &Verdict, last: Sample, metrics: &str) -> Value {
    let mut figures = Map::new();
    let mut put = |name: &str, value: Value| {
        figures.insert(name.to_owned(), value);
    };
    put("calls", json!(tally.calls));
    put("calls_per_second", json!((tally.calls as f64 / time.as_secs_f64()).round()));
    for (kind, count) in &tally.kinds {
        put(&format!("calls_{kind}"), json!(count));
    }
    put("cut_off", json!(tally.cut));
    put("samples", json!(samples.len()));
    let (resident, descriptors, threads) =
        (|s: &Sample| s.resident_kib, |s: &Sample| s.descriptors, |s: &Sample| s.threads);
    for fifth in 0..5 {
        put(&format!("resident_kib_fifth_{}", fifth + 1), json!(median(samples, fifth, resident)));
    }
    let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or(0);
    put("resident_kib_most", json!(most(|s| s.resident_kib)));
    put("resident_kib_at_the_end", json!(last.resident_kib));
    put("descriptors_most", json!(most(|s| s.descriptors)));
    put("threads_most", json!(most(|s| s.threads)));
    put("disk_mib_most", json!(most(|s| s.disk_kib) / 1_024));
    put("spool", json!(verdict));
    put("first_wrong", json!(tally.first_wrong));

    let mut targets = Map::new();
    let mut target = |name: &str, goal: f64, measured: f64, holds: bool| {
        targets.insert(name.to_owned(), json!({"goal": goal, "measured": measured, "holds": holds}));
    };
    let (early, late) = (median(samples, 1, resident), median(samples, 4, resident));
    let room = (early * FLAT_PERCENT / 100).max(FLAT_KIB);
    target("resident_kib", (early + room) as f64, late as f64, late <= early + room);
    for (name, of) in [("descriptors", descriptors as fn(&Sample) -> u64), ("threads", threads)] {
        let (early, late) = (median(samples, 1, of), median(samples, 4, of));
        target(name, (early + FLAT_COUNT) as f64, late as f64, late <= early + FLAT_COUNT);
    }
    let most_disk = most(|s| s.disk_kib) / 1_024;
    target("disk_mib", DISK_MIB as f64, most_disk as f64, most_disk <= DISK_MIB);
    let mut none = |name: &str, count: u64| target(name, 0.0, count as f64, count == 0);
    none("unanswered", tally.unanswered);
    none("wrong_answers", tally.wrong);
    none("records_left_open", verdict.open);
    none("nanodollars_set_aside", (verdict.aside.unsigned_abs()).max(verdict.aside_in_spool.unsigned_abs()));
    none("entries_that_do_not_verify", verdict.wrong + u64::from(!verdict.tree_holds));
    let gauge = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("1");
        line.trim().parse().unwrap_or(1)
    };
    none("calls_waiting", gauge("stockade_gateway_calls_waiting "));

    json!({
        "name": "soak",
        "conditions": {
            "machine_processors": std::thread::available_parallelism().map_or(0, usize::from),
            "minutes": time.as_secs_f64() / 60.0,
            "connections": CONNECTIONS,
            "load": "three bodies of 1 KB for each of 100 KB, whole and streamed, Messages and Chat clients to providers of both",
            "in_a_thousand": "4 x 10 mishaps of the provider (slow, reset, error after 200, malformed), 40 clients that hang up, 20 answers \
                              and 20 requests with something to take out, 10 that policy blocks",
            "ours": "as the runner serves it: policy, content rules, purse and ledger durable on the disk, capture, metrics, spans",
            "spool": "read, checked and given back as shipping does, without a server",
            "flat": "the median of the last fifth by that of the second",
        },
        "figures": figures,
        "targets": targets,
    })
}
