//! How long it takes from asking for an environment until its guest answers, and until its doors are held; beside a bare
//! `unshare … true`.
//!
//! Prints one JSON object. The helpers are looked for in `$STOCKADE_HELPERS`, then beside this program and above it.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use stockade_domain::ids::EnvironmentId;
use stockade_sandbox::{Class, Driver, EnvironmentSpec, NamespaceConfig, NamespaceDriver};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ROUNDS: u32 = 100;
const GOAL_MS: f64 = 25.0;

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
    let driver = NamespaceDriver::new(NamespaceConfig {
        root: root.clone(),
        helpers: helpers()?,
        allow_degraded: allow_degraded.clone(),
        extra_read_only: Vec::new(),
        without_redirection: false,
    });
    let (mut times, mut doors, mut bare, mut deletes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let outcome = async {
        for round in 0..ROUNDS {
            let id = EnvironmentId::from_bytes(u128::from(round).to_be_bytes());
            let spec = EnvironmentSpec {
                id,
                class: Class::default(),
                certificate: None,
                variables: Default::default(),
                gitconfig: None,
            };
            times.push(ready(&driver, &spec).await?);
            let began = Instant::now();
            drop(driver.doors(id).await?);
            doors.push(began.elapsed());
            let began = Instant::now();
            driver.delete(id).await?;
            deletes.push(began.elapsed());
            let began = Instant::now();
            let status = Command::new("unshare").args(["-Urmpn", "--fork", "true"]).status()?;
            if status.success() {
                bare.push(began.elapsed());
            }
        }
        Ok::<(), Failure>(())
    }
    .await;
    for id in driver.list().await {
        let _ = driver.delete(id).await;
    }
    let _ = std::fs::remove_dir_all(&root);
    outcome?;
    let median = ms(&mut times, 0.5);
    let bare_median = ms(&mut bare, 0.5);
    let report = json!({
        "name": "environment",
        "conditions": {
            "rounds": ROUNDS,
            "what": "create to the guest's first answer, one at a time, default class",
            "degraded": allow_degraded,
            "cores": std::thread::available_parallelism()?.get(),
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        },
        "figures": {
            "ready_median_ms": median,
            "ready_p99_ms": ms(&mut times, 0.99),
            "ready_min_ms": ms(&mut times, 0.0),
            "doors_median_ms": ms(&mut doors, 0.5),
            "doors_p99_ms": ms(&mut doors, 0.99),
            "delete_median_ms": ms(&mut deletes, 0.5),
            "bare_unshare_median_ms": bare_median,
            "ratio_to_bare_unshare": (median / bare_median * 100.0).round() / 100.0,
        },
        "targets": { "ready_median_ms": { "goal": GOAL_MS, "measured": median, "holds": median < GOAL_MS } },
    });
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
