//! How long it takes from asking for an environment until its guest answers and its doors are held: one at a time, 50 at once, 200 in all; what
//! each takes of memory; then as many as the machine holds; beside a bare `unshare … true`, and `bwrap … true` and `podman run … true` where those
//! are installed.
//!
//! Prints one JSON object. The helpers are looked for in `$STOCKADE_HELPERS`, then beside this program and above it.

use std::{
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use stockade_domain::ids::EnvironmentId;
use stockade_sandbox::{Class, Doors, Driver, EnvironmentSpec, Inside, NamespaceConfig, NamespaceDriver, System, User};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ROUNDS: u32 = 100;
/// So many are asked for at once.
const AT_ONCE: u32 = 50;
/// So many are there in the end.
const ALL: u32 = 200;
/// Rounds of what takes long.
const FEW: u32 = 10;
/// As many are tried if `STOCKADE_BENCH_MOST` does not say another number.
const MOST: u32 = 1_000;
/// A system of its own, and root there.
const OVERLAID: Inside = Inside { system: System::Overlay, user: User::Root, nested: false };
const MEDIAN_MS: f64 = 15.0;
const P99_MS: f64 = 40.0;
const ALL_S: f64 = 3.0;
const MEMORY_MIB: f64 = 2.0;

type Failure = Box<dyn std::error::Error>;

fn helpers() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("STOCKADE_HELPERS") {
        return Ok(path.into());
    }
    let program = std::env::current_exe()?;
    let places =
        program.ancestors().skip(1).take(4).flat_map(|folder| {
            [folder.to_owned(), folder.join("helper"), folder.join("x86_64-unknown-linux-gnu/helper")]
        });
    for place in places {
        if place.join("stockade-launch").is_file() && place.join("stockade-guest").is_file() {
            return Ok(place);
        }
    }
    Err("the helpers are not built: name their folder in STOCKADE_HELPERS".into())
}

async fn ready(driver: &NamespaceDriver, spec: &EnvironmentSpec) -> Result<Duration, Failure> {
    let began = Instant::now();
    driver.create(spec).await?;
    let mut stream = driver.connect(spec.id).await?;
    let body = br#"{"id":1,"op":"ping"}"#;
    stream.write_u32(u32::try_from(body.len())?).await?;
    stream.write_all(body).await?;
    let mut answer = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut answer).await?;
    let took = began.elapsed();
    if !answer.windows(6).any(|part| part == b"\"pong\"") {
        return Err(String::from_utf8_lossy(&answer).into());
    }
    Ok(took)
}

/// Its guest answers, and its doors are held.
async fn with_doors(driver: &NamespaceDriver, spec: &EnvironmentSpec) -> Result<(Duration, Box<dyn Doors>), Failure> {
    let began = Instant::now();
    ready(driver, spec).await?;
    let doors = driver.doors(spec.id).await?;
    Ok((began.elapsed(), doors))
}

fn spec(number: u32) -> EnvironmentSpec {
    EnvironmentSpec {
        id: EnvironmentId::from_bytes(u128::from(number).to_be_bytes()),
        class: Class::default(),
        inside: Default::default(),
        certificate: None,
        variables: Default::default(),
        gitconfig: None,
    }
}

/// Asks for some at once. What holds their doors is given back.
async fn at_once(
    driver: &Arc<NamespaceDriver>,
    numbers: std::ops::Range<u32>,
) -> Result<(Vec<Duration>, Vec<Box<dyn Doors>>), Failure> {
    let mut asked = tokio::task::JoinSet::new();
    for number in numbers {
        let driver = Arc::clone(driver);
        asked.spawn(async move { with_doors(&driver, &spec(number)).await.map_err(|error| error.to_string()) });
    }
    let (mut times, mut held) = (Vec::new(), Vec::new());
    while let Some(one) = asked.join_next().await {
        let (took, doors) = one??;
        times.push(took);
        held.push(doors);
    }
    Ok((times, held))
}

/// The memory of all guests and what they have started, each page divided by those who share it (`Pss` of proc(5), smaps_rollup), in MiB.
fn memory_of_guests() -> Result<f64, Failure> {
    let mut kib = 0_u64;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if read("comm").trim().starts_with("stockade-guest") {
            let rollup = read("smaps_rollup");
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
            kib += line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure of memory")]
    Ok(kib as f64 / 1024.0)
}

/// How long a program takes that makes a box of its own, and does nothing in it.
fn bare(program: &str, args: &[&str], into: &mut Vec<Duration>) {
    let began = Instant::now();
    if Command::new(program).args(args).status().is_ok_and(|status| status.success()) {
        into.push(began.elapsed());
    }
}

/// A container on the machine's own files, with nothing pulled. Rlimits that everybody may have.
const PODMAN: &[&str] = &[
    "run",
    "--rm",
    "--network",
    "none",
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=4096:4096",
    "--rootfs",
    "/:O",
    "true",
];

/// What this machine has left of memory, in KiB.
fn available_kib() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// As many as there can be, from this number on, and what ended it.
async fn fill(
    driver: &Arc<NamespaceDriver>,
    (from, most): (u32, u32),
    held: &mut Vec<Box<dyn Doors>>,
) -> (u32, String) {
    let enough = available_kib() / 10;
    let mut count = from;
    while count < most {
        if available_kib() < enough {
            return (count, "a tenth of the free memory is left".to_owned());
        }
        match at_once(driver, count..count + AT_ONCE).await {
            Ok((_, more)) => held.extend(more),
            Err(error) => return (count, error.to_string()),
        }
        count += AT_ONCE;
    }
    (count, format!("no more than {most} were asked for"))
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn target(goal: f64, measured: f64) -> serde_json::Value {
    json!({ "goal": goal, "measured": round(measured), "holds": measured <= goal })
}

fn ms(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within a short list")]
    let at = ((times.len() - 1) as f64 * part).round() as usize;
    times.get(at).map_or(f64::NAN, |time| (time.as_secs_f64() * 1e6).round() / 1e3)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let root = std::env::temp_dir().join(format!("stockade-bench-{}", std::process::id()));
    let degraded = std::env::var("STOCKADE_BENCH_DEGRADED").unwrap_or_default();
    let allow_degraded: Vec<String> = degraded.split(',').filter(|word| !word.is_empty()).map(Into::into).collect();
    let driver = Arc::new(NamespaceDriver::new(NamespaceConfig {
        root: root.clone(),
        helpers: helpers()?,
        allow_degraded: allow_degraded.clone(),
        extra_read_only: Vec::new(),
        without_redirection: false,
    }));
    let (mut times, mut doors, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut overlaid, mut template) = (Vec::new(), Duration::ZERO);
    let (mut unshare, mut bwrap, mut podman) = (Vec::new(), Vec::new(), Vec::new());
    let most = std::env::var("STOCKADE_BENCH_MOST").ok().and_then(|most| most.parse().ok()).unwrap_or(MOST);
    let outcome = async {
        for round in 0..ROUNDS {
            let spec = spec(round);
            let began = Instant::now();
            let guest = ready(&driver, &spec).await?;
            let held = driver.doors(spec.id).await?;
            times.push(began.elapsed());
            doors.push(began.elapsed().saturating_sub(guest));
            drop(held);
            let began = Instant::now();
            driver.delete(spec.id).await?;
            deletes.push(began.elapsed());
            bare("unshare", &["-Urmpn", "--fork", "true"], &mut unshare);
            bare(
                "bwrap",
                &["--ro-bind", "/", "/", "--unshare-all", "--proc", "/proc", "--dev", "/dev", "true"],
                &mut bwrap,
            );
        }
        // The first makes the template.
        for round in 0..=ROUNDS {
            let spec = EnvironmentSpec { inside: OVERLAID, ..spec(round) };
            let began = Instant::now();
            ready(&driver, &spec).await?;
            let held = driver.doors(spec.id).await?;
            if round > 0 {
                overlaid.push(began.elapsed());
            } else {
                template = began.elapsed();
            }
            drop(held);
            driver.delete(spec.id).await?;
        }
        for _ in 0..FEW {
            bare("podman", PODMAN, &mut podman);
        }
        let before = memory_of_guests()?;
        let began = Instant::now();
        let (crowd, mut held) = at_once(&driver, 0..AT_ONCE).await?;
        for next in (AT_ONCE..ALL).step_by(AT_ONCE as usize) {
            held.extend(at_once(&driver, next..next + AT_ONCE).await?.1);
        }
        let all_s = began.elapsed().as_secs_f64();
        let each_mib = (memory_of_guests()? - before) / f64::from(ALL);
        let (began, free) = (Instant::now(), available_kib());
        let (count, ended) = fill(&driver, (ALL, most), &mut held).await;
        let more = count.saturating_sub(ALL).max(1);
        #[expect(clippy::cast_precision_loss, reason = "a figure of memory")]
        let whole_mib = free.saturating_sub(available_kib()) as f64 / 1024.0 / f64::from(more);
        let (last_ms, began) = (began.elapsed().as_secs_f64() * 1e3 / f64::from(more), Instant::now());
        // The last of so many answers like the first.
        let among_all = ready(&driver, &spec(u32::MAX)).await.map_or(f64::NAN, |took| took.as_secs_f64() * 1e3);
        drop(held);
        let deleted: Vec<_> = driver.list().await;
        let deleting = deleted.len();
        let mut deletes = tokio::task::JoinSet::new();
        for id in deleted {
            let driver = Arc::clone(&driver);
            deletes.spawn(async move { driver.delete(id).await });
            if deletes.len() >= AT_ONCE as usize
                && let Some(done) = deletes.join_next().await
            {
                done??;
            }
        }
        while let Some(done) = deletes.join_next().await {
            done??;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of thousands")]
        let delete_ms = began.elapsed().as_secs_f64() * 1e3 / deleting as f64;
        let density = json!({
            "environments": count,
            "ended_by": ended,
            "each_ms": round(last_ms),
            "each_mib_of_the_machine": round(whole_mib),
            "one_more_ms": round(among_all),
            "delete_each_ms": round(delete_ms),
        });
        Ok::<_, Failure>((crowd, all_s, each_mib, density))
    }
    .await;
    for id in driver.list().await {
        let _ = driver.delete(id).await;
    }
    let _ = std::fs::remove_dir_all(&root);
    let (mut crowd, all_s, each_mib, density) = outcome?;
    let peer =
        |times: &mut Vec<Duration>| if times.is_empty() { serde_json::Value::Null } else { ms(times, 0.5).into() };
    let (median, p99) = (ms(&mut times, 0.5), ms(&mut times, 0.99));
    let bare_median = ms(&mut unshare, 0.5);
    let report = json!({
        "name": "environment",
        "conditions": {
            "rounds": ROUNDS,
            "what": "from asking to the guest's first answer with its doors held, one at a time; 50 at once; 200 in four crowds; default class",
            "degraded": allow_degraded,
            "cores": std::thread::available_parallelism()?.get(),
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        },
        "figures": {
            "ready_median_ms": median,
            "ready_p99_ms": p99,
            "ready_min_ms": ms(&mut times, 0.0),
            "overlaid_ready_median_ms": ms(&mut overlaid, 0.5),
            "overlaid_ready_p99_ms": ms(&mut overlaid, 0.99),
            "first_overlaid_ready_ms": round(template.as_secs_f64() * 1e3),
            "doors_median_ms": ms(&mut doors, 0.5),
            "delete_median_ms": ms(&mut deletes, 0.5),
            "at_once_50_median_ms": ms(&mut crowd, 0.5),
            "at_once_50_last_ms": ms(&mut crowd, 1.0),
            "all_200_s": round(all_s),
            "each_guest_mib": round(each_mib),
            "bare_unshare_median_ms": bare_median,
            "bwrap_median_ms": peer(&mut bwrap),
            "podman_median_ms": peer(&mut podman),
            "ratio_to_bare_unshare": round(median / bare_median),
        },
        "density": density,
        "targets": {
            "ready_median_ms": target(MEDIAN_MS, median),
            "ready_p99_ms": target(P99_MS, p99),
            "all_200_s": target(ALL_S, all_s),
            "each_guest_mib": target(MEMORY_MIB, each_mib),
        },
    });
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
