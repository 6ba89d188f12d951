//! How many records a second the ledger makes durable with 64 concurrent appenders, beside what the same disk does
//! with one write and one `fdatasync` for each. Prints one JSON object.
//!
//! The directory is a fresh one below `$STOCKADE_BENCH_DIR`, or below the working directory: a temporary directory is
//! often memory, where nothing is durable and the figures mean nothing.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench says what it found or stops")]

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use stockade_domain::{
    Action, Answer, Context, DecidingPolicy, Decision, Deed, Principal, Resource, ResourceKind, World,
    ids::{ProjectId, RunId, RunnerId, UserId},
};
use stockade_ledger::{Ledger, Log, LogOptions, SigningKey, SystemWorld};

const APPENDERS: usize = 64;
const SECONDS: u64 = 5;
const GOAL: f64 = 10_000.0;

fn main() {
    let place = env::var("STOCKADE_BENCH_DIR").map_or_else(|_| env::current_dir().unwrap(), Into::into);
    let dir = tempfile::tempdir_in(place).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Before and after: a disk that changes its mind in between is seen.
    let before = baseline(&dir.path().join("before"));
    let ledger = runtime.block_on(ledger(&dir.path().join("log")));
    let after = baseline(&dir.path().join("after"));
    let baseline = f64::midpoint(before, after);
    let measured = ledger.records_per_second.round();
    let figures = json!({
        "records_per_second": measured,
        "open_p50_us": ledger.p50_us,
        "open_p99_us": ledger.p99_us,
        "record_bytes": ledger.record_bytes,
        "baseline_write_fdatasync_per_second": baseline.round(),
        "baseline_before_per_second": before.round(),
        "baseline_after_per_second": after.round(),
        "ratio_to_baseline": (ledger.records_per_second / baseline * 100.0).round() / 100.0,
        "restart_ms": ledger.restart_ms,
    });
    let conditions = format!(
        "Ledger::open from {APPENDERS} tasks for {SECONDS} s, one record each, durable on return; {} processors; \
         baseline: one file, one thread, write and fdatasync of as many bytes for each record",
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

/// Writes and syncs a second per second, bare.
fn baseline(path: &Path) -> f64 {
    let mut file = File::create(path).unwrap();
    let record = [b'x'; 600];
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_secs(2) {
        file.write_all(&record).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / began.elapsed().as_secs_f64()
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
