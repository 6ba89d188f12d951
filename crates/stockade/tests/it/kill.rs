//! Any process may die at any instant. Each trial has a seed; `STOCKADE_KILL_TRIALS` and `STOCKADE_KILL_SEED` choose more
//! of them, or the one that failed. `cargo xtask bench recovery` does 200.

use std::time::{SystemTime, UNIX_EPOCH};

use stockade_testkit::kill::{Trial, Trials};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn killed_at_random_instants_every_run_ends_with_the_same_change() {
    let count = number("STOCKADE_KILL_TRIALS").unwrap_or(10);
    #[expect(clippy::disallowed_methods, reason = "a fresh seed each time; it is printed and can be given")]
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first = number("STOCKADE_KILL_SEED").unwrap_or(fresh);
    println!("{count} trials from seed {first}: STOCKADE_KILL_SEED={first} repeats them");

    let mut trials = Trials::start().unwrap();
    let calm = trials.trial(0, 0, 1).unwrap();
    check(&calm, &calm);
    assert_eq!(calm.calls.len(), 3, "{calm:?}");
    let mut runs = vec![calm.run.clone()];
    for seed in first..first + count {
        let trial = trials.trial(seed, 2, 700).unwrap();
        println!("{trial:?}");
        check(&trial, &calm);
        runs.push(trial.run);
    }
    trials.books(&runs).unwrap();
}

pub fn check(trial: &Trial, calm: &Trial) {
    assert_eq!(trial.state, "succeeded", "{trial:?}");
    assert!(trial.tree.is_some() && trial.tree == calm.tree, "another change came out: {trial:?}, not {calm:?}");
    assert!(!trial.repeated(), "a tool call was carried out twice: {trial:?}");
    assert!(trial.calls.len() >= 3, "a tool call was lost: {trial:?}");
    assert!(trial.recovery_ms.iter().all(|ms| *ms < 30_000), "it took long to go on: {trial:?}");
}
