//! `cargo xtask bench recovery`: how long a run takes to go on after a process was killed and is back.

use stockade_testkit::kill::{Trials, Victim};

/// How many runs are disturbed; `STOCKADE_KILL_TRIALS` chooses another number.
const TRIALS: u64 = 200;
/// Recovery begins within this many milliseconds of the process being back.
const GOAL_MS: u64 = 5_000;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]
fn main() -> anyhow::Result<()> {
    let count = std::env::var("STOCKADE_KILL_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(TRIALS);
    let first: u64 = std::env::var("STOCKADE_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut trials = Trials::start()?;
    let calm = trials.trial(0, 0, 1)?;
    let (mut recovery, mut runs) = (Vec::new(), vec![calm.run.clone()]);
    let (mut kills, mut same, mut repeated) = ([0_u64; 3], 0, 0);
    for seed in first..first + count {
        let trial = trials.trial(seed, 1, 900)?;
        eprintln!("{trial:?}");
        for (victim, _) in &trial.kills {
            let [server, runner, guest] = &mut kills;
            *match victim {
                Victim::Server => server,
                Victim::Runner => runner,
                Victim::Guest => guest,
            } += 1;
        }
        same += u64::from(trial.state == "succeeded" && trial.tree == calm.tree);
        repeated += u64::from(trial.repeated());
        recovery.extend(trial.recovery_ms);
        runs.push(trial.run);
    }
    let books = trials.books(&runs);
    if let Err(why) = &books {
        eprintln!("the books: {why}");
    }
    recovery.sort_unstable();
    let at = |share: usize| {
        recovery.get((recovery.len() * share / 100).min(recovery.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    let worst = recovery.last().copied().unwrap_or(0);
    let target =
        |goal: u64, measured: u64, holds: bool| serde_json::json!({"goal": goal, "measured": measured, "holds": holds});
    let result = serde_json::json!({
        "name": "recovery",
        "conditions": format!("{count} runs, one kill -9 each at a random instant within 900 ms, seeds from {first}, server and runner in two processes on one machine"),
        "figures": {
            "kills_of_server": kills[0], "kills_of_runner": kills[1], "kills_of_guest": kills[2],
            "recovery_p50_ms": at(50), "recovery_p90_ms": at(90), "recovery_p99_ms": at(99), "recovery_max_ms": worst,
            "runs_with_the_same_change": same, "runs_with_a_repeated_call": repeated,
        },
        "targets": {
            "recovery_max_ms": target(GOAL_MS, worst, worst <= GOAL_MS),
            "runs_with_the_same_change": target(count, same, same == count),
            "runs_with_a_repeated_call": target(0, repeated, repeated == 0),
            "books_in_order": target(1, u64::from(books.is_ok()), books.is_ok()),
        },
    });
    println!("{result}");
    Ok(())
}
