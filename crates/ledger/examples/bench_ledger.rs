//! How many records a second the ledger makes durable with 64 concurrent appenders, beside what the same disk does
//! with one write and one `fdatasync` for each; and how long one alone waits for a deed to be open, when the end of the deed before it
//! is written in passing. Prints one JSON object.
//!
//! The directory is a fresh one below `$STOCKADE_BENCH_DIR`, or below the working directory: a temporary directory is
//! often memory, where nothing is durable and the figures mean nothing.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench says what it found or stops")]

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{Seek, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use stockade_domain::{
    Action, Answer, ContentKind, Context, DecidingPolicy, Decision, Deed, Principal, Resource, ResourceKind, World,
    ids::{ProjectId, RunId, RunnerId, UserId},
};
use stockade_ledger::{
    Closing, EntryKind, Ledger, Log, LogEntry, LogOptions, Outcome, RunKey, SigningKey, Status, SystemWorld,
};

const APPENDERS: usize = 64;
const SECONDS: u64 = 5;
const GOAL: f64 = 10_000.0;
/// So many deeds of the one that is alone are measured, after as many that are not.
const ALONE: usize = 3_000;

fn main() {
    let place = env::var("STOCKADE_BENCH_DIR").map_or_else(|_| env::current_dir().unwrap(), Into::into);
    let dir = tempfile::tempdir_in(place).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Before and after: a disk that changes its mind in between is seen.
    let before = baseline(&dir.path().join("before"));
    let ledger = runtime.block_on(ledger(&dir.path().join("log")));
    let alone = runtime.block_on(alone(&dir.path().join("alone")));
    let after = baseline(&dir.path().join("after"));
    let baseline = f64::midpoint(before.per_second, after.per_second);
    let measured = ledger.records_per_second.round();
    let figures = json!({
        "records_per_second": measured,
        "open_p50_us": ledger.p50_us,
        "open_p99_us": ledger.p99_us,
        "record_bytes": ledger.record_bytes,
        "baseline_write_fdatasync_per_second": baseline.round(),
        "baseline_before_per_second": before.per_second.round(),
        "baseline_after_per_second": after.per_second.round(),
        "ratio_to_baseline": (ledger.records_per_second / baseline * 100.0).round() / 100.0,
        "restart_ms": ledger.restart_ms,
        "alone_open_p50_us": alone.p50_us,
        "alone_open_p99_us": alone.p99_us,
        "baseline_growing_p50_us": before.p50_us,
        "baseline_zeros_p50_us": median(&dir.path().join("zeros"), true),
    });
    let conditions = format!(
        "Ledger::open from {APPENDERS} tasks for {SECONDS} s, one record each, durable on return; {} processors; \
         baseline: one file, one thread, write and fdatasync of as many bytes for each record; alone: one task opens and \
         closes {ALONE} deeds, 1 KiB of content with each opening",
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    let target = json!({ "goal": GOAL, "measured": measured, "holds": measured >= GOAL });
    println!(
        "{}",
        json!({ "name": "ledger", "conditions": conditions, "figures": figures,
                "targets": BTreeMap::from([("records_per_second", target)]) })
    );
}

struct Measured {
    records_per_second: f64,
    p50_us: u64,
    p99_us: u64,
    record_bytes: usize,
    restart_ms: u64,
}

async fn ledger(dir: &Path) -> Measured {
    let world: Arc<dyn World> = Arc::new(SystemWorld);
    let producer = world.id::<stockade_domain::kinds::Runner>();
    let start = |producer: RunnerId| {
        let log = Arc::new(Log::open(dir, LogOptions::default()).unwrap());
        Ledger::start(log, producer.into(), SigningKey::generate(), Arc::new(SystemWorld)).unwrap()
    };
    let ledger = Arc::new(start(producer));
    let (run, owner, project): (RunId, UserId, ProjectId) = (world.id(), world.id(), world.id());
    let began = Instant::now();
    let tasks: Vec<_> = (0..APPENDERS)
        .map(|_| {
            let ledger = Arc::clone(&ledger);
            let deed = deed(run, owner, project);
            tokio::spawn(async move {
                let mut took = Vec::new();
                while began.elapsed() < Duration::from_secs(SECONDS) {
                    let one = Instant::now();
                    let _record = ledger.open(&deed, &decision(), vec![], ()).await.unwrap().record();
                    took.push(u64::try_from(one.elapsed().as_micros()).unwrap());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    let seconds = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 100];
    let record_bytes = ledger.log().read(0, 1, 1).unwrap()[0].1.payload.len();
    let (p50_us, p99_us, count) = (at(50), at(99), took.len());
    assert_eq!(ledger.size(), count as u64);
    drop(ledger);
    let again = Instant::now();
    assert_eq!(start(producer).size(), count as u64);
    let restart_ms = u64::try_from(again.elapsed().as_millis()).unwrap();
    Measured { records_per_second: count as f64 / seconds, p50_us, p99_us, record_bytes, restart_ms }
}

struct Alone {
    p50_us: f64,
    p99_us: f64,
}

/// One deed after the other, as a client with one connection makes them: the end of each is nobody's business.
async fn alone(dir: &Path) -> Alone {
    let world: Arc<dyn World> = Arc::new(SystemWorld);
    let producer: RunnerId = world.id();
    let log = Arc::new(Log::open(dir, LogOptions::default()).unwrap());
    let ledger = Ledger::start(log, producer.into(), SigningKey::generate(), Arc::new(SystemWorld)).unwrap();
    let ledger = Arc::new(ledger);
    let (run, owner, project): (RunId, UserId, ProjectId) = (world.id(), world.id(), world.id());
    let (deed, decision, key) = (deed(run, owner, project), decision(), RunKey::generate(&*world, run));
    let (mut took, mut ends) = (Vec::new(), Vec::new());
    for number in 0..ALONE * 2 {
        let content = key.seal(&*world, ContentKind::ToolInput, &[b'x'; 1024]).unwrap();
        let budget = vec![LogEntry::new(EntryKind::Budget, vec![b'x'; 150])];
        let one = Instant::now();
        let of = ledger.open_with(&deed, &decision, vec![content], (), budget).await.unwrap().record();
        if number >= ALONE {
            took.push(one.elapsed().as_nanos());
        }
        let theirs = Arc::clone(&ledger);
        let closing = Closing::new(Outcome::new(Status::Ok));
        ends.push(tokio::spawn(async move { theirs.close_in_passing(of, closing, vec![]).await.unwrap() }));
    }
    for end in ends {
        end.await.unwrap();
    }
    Alone { p50_us: percentile(&mut took, 50), p99_us: percentile(&mut took, 99) }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn percentile(nanos: &mut [u128], part: usize) -> f64 {
    nanos.sort_unstable();
    (nanos[(nanos.len() - 1) * part / 100] / 100) as f64 / 10.0
}

/// The median of one write and one `fdatasync`, in a file that grows or that is full of zeros, in microseconds.
fn median(path: &Path, zeros: bool) -> f64 {
    const BYTES: usize = 2_048;
    let mut file = File::create(path).unwrap();
    if zeros {
        file.write_all(&vec![0; BYTES * ALONE]).unwrap();
        file.sync_all().unwrap();
        file.rewind().unwrap();
    }
    let record = [b'x'; BYTES];
    let mut took = Vec::new();
    for _ in 0..ALONE {
        let one = Instant::now();
        file.write_all(&record).unwrap();
        file.sync_data().unwrap();
        took.push(one.elapsed().as_nanos());
    }
    percentile(&mut took, 50)
}

struct Bare {
    per_second: f64,
    p50_us: f64,
}

/// Writes and syncs a second per second, bare.
fn baseline(path: &Path) -> Bare {
    let mut file = File::create(path).unwrap();
    let record = [b'x'; 600];
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_secs(2) {
        file.write_all(&record).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let per_second = f64::from(count) / began.elapsed().as_secs_f64();
    Bare { per_second, p50_us: median(&path.with_extension("2"), false) }
}

fn deed(run: RunId, owner: UserId, project: ProjectId) -> Deed {
    Deed {
        principal: Principal::Agent { run, owner },
        action: Action::ToolCall,
        resource: Resource::new(ResourceKind::Tool, "run").in_project(project).in_run(run),
        context: Context::default().with("level", 2).with("tool", "run").with_content("command", "cargo test"),
    }
}

fn decision() -> Decision {
    Decision {
        answer: Answer::Allow,
        bundle: 3,
        policies: vec![DecidingPolicy { id: "level-2.tools".into(), title: "Agents may use tools".into() }],
        approval: None,
    }
}
