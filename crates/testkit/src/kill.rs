//! Trials in which processes are killed at random instants while a run is under way.
//!
//! It owns how a trial is made and what is looked at afterwards; what must hold is asserted by whoever asks for trials.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{Form, Installation, Options, Repository, installation::pause};

/// A small generator (xorshift64*), so that a seed names a trial for ever.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed; zero is a seed like others.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The control plane.
    Server,
    /// The site's process, and with it the gateway, the rehearsal provider and the loop.
    Runner,
    /// Process 1 of the environment, seen from the host.
    Guest,
}

/// What came of a trial.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Names the trial.
    pub seed: u64,
    /// Who was killed, and how many milliseconds after the run began.
    pub kills: Vec<(Victim, u64)>,
    /// For each kill: from the process being back to the next event of the run, in milliseconds. Absent where the run
    /// had ended before.
    pub recovery_ms: Vec<u64>,
    /// How the run ended.
    pub state: String,
    /// Its run.
    pub run: String,
    /// The tree that came out.
    pub tree: Option<String>,
    /// The call ids which the tool wrote into its append-only file, in order.
    pub calls: Vec<String>,
    /// What the run cost, in nano-dollars.
    pub cost: i64,
}

impl Trial {
    /// Whether some call was carried out twice.
    pub fn repeated(&self) -> bool {
        let distinct: BTreeSet<&String> = self.calls.iter().collect();
        distinct.len() != self.calls.len()
    }
}

/// Trials in one installation, one run after the other.
#[derive(Debug)]
pub struct Trials {
    installation: Installation,
    repository: Repository,
}

impl Trials {
    /// An installation in two processes with a small project. The cassette `kill` writes files, runs commands that append
    /// their call's id to a file that git ignores, and prints that file at the end.
    pub fn start() -> Result<Self> {
        Self::with(Options::default())
    }

    /// The same in an installation that is made otherwise.
    pub fn with(options: Options) -> Result<Self> {
        let installation = Installation::start(Form::TwoProcesses, options)?;
        let folder = installation.folder().join("project");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("counter.txt"), "zero\n")?;
        fs::write(folder.join(".gitignore"), ".calls\n")?;
        let repository = Repository::init(&folder)?;
        let path = folder.to_string_lossy().into_owned();
        let gate = "test \"$(cat counter.txt)\" = three";
        installation.json(&["project", "add", "kill", "--repository", &path, "--level", "4", "--gate", gate])?;
        installation.json(&["budget", "set", "organization", "1000.00", "--period", "total"])?;
        Ok(Self { installation, repository })
    }

    /// The installation, to look at what is left after all trials.
    pub const fn installation(&self) -> &Installation {
        &self.installation
    }

    /// One trial: a run, and `kills` kills at instants within `window_ms`.
    pub fn trial(&mut self, seed: u64, kills: usize, window_ms: u64) -> Result<Trial> {
        let mut random = Random::new(seed);
        let run = self.installation.run("kill", "rehearsal/kill", "Count to three.", &[])?;
        let begun = Instant::now();
        let (mut done, mut recovery_ms) = (Vec::new(), Vec::new());
        for _ in 0..kills {
            pause(Duration::from_millis(random.below(window_ms)));
            let victim = match random.below(3) {
                0 => Victim::Server,
                1 => Victim::Runner,
                _ => Victim::Guest,
            };
            done.push((victim, u64::try_from(begun.elapsed().as_millis())?));
            let before = self.last_sign(&run);
            match victim {
                Victim::Server => {
                    self.installation.kill_server()?;
                    self.installation.start_server()?;
                }
                Victim::Runner => {
                    self.installation.kill_runner()?;
                    self.installation.start_runner()?;
                }
                Victim::Guest => {
                    self.installation.kill_guests()?;
                }
            }
            if let Some(before) = before
                && let Some(ms) = self.next_event(&run, before)?
            {
                recovery_ms.push(ms);
            }
        }
        let ended = self.installation.ended(&run).with_context(|| format!("seed {seed}, kills {done:?}"))?;
        let transcript = self.installation.json(&["runs", "show", &run, "--transcript"])?;
        Ok(Trial {
            seed,
            kills: done,
            recovery_ms,
            state: ended["state"].as_str().unwrap_or_default().to_owned(),
            tree: self.repository.tree(&format!("stockade/{run}")),
            calls: calls(&transcript),
            cost: ended["cost"].as_i64().context("a run without cost")?,
            run,
        })
    }

    fn last_sign(&self, run: &str) -> Option<u64> {
        self.installation.json(&["runs", "show", run]).ok()?["updated_at"].as_u64()
    }

    /// Milliseconds until the run goes on; nothing if it has ended.
    fn next_event(&self, run: &str, before: u64) -> Result<Option<u64>> {
        let begun = Instant::now();
        self.installation.until("the run to go on", |installation| {
            let shown = installation.json(&["runs", "show", run]).ok()?;
            if shown["updated_at"].as_u64()? > before {
                return Some(u64::try_from(begun.elapsed().as_millis()).ok());
            }
            ["succeeded", "failed"].contains(&shown["state"].as_str()?).then_some(None)
        })
    }

    /// What must be true of the record and the money once all runs have ended: every opened record is closed, the
    /// ledger verifies, and what the budget says was spent is what the records say was spent.
    pub fn books(&self, runs: &[String]) -> Result<()> {
        let mut recorded = 0;
        for run in runs {
            let records = self.installation.json(&["audit", "search", "--run", run, "--limit", "500"])?;
            let records: Vec<Value> = records["items"].as_array().cloned().unwrap_or_default();
            let of_runner =
                |record: &&Value| record["producer"].as_str().is_some_and(|producer| producer.starts_with("rnr_"));
            let closed: BTreeSet<&str> =
                records.iter().filter_map(|record| record["record"]["body"]["of"].as_str()).collect();
            for record in records.iter().filter(of_runner).filter(|record| record["record"]["body"]["phase"] == "open")
            {
                let id = record["id"].as_str().unwrap_or_default();
                ensure!(closed.contains(id), "record {id} of {run} was never closed");
            }
            recorded += records.iter().filter_map(|record| record["record"]["body"]["cost"].as_i64()).sum::<i64>();
        }
        let spent = self.installation.until("the money to settle", |installation| {
            let budgets = installation.json(&["budget", "show"]).ok()?;
            let organization =
                budgets["items"].as_array()?.iter().find(|item| item["scope"] == "organization")?.clone();
            (organization["leased"] == 0).then(|| organization["spent"].as_i64())?
        })?;
        ensure!(spent == recorded, "the budget says {spent} was spent, the records say {recorded}");
        let export = self.installation.folder().join("export.jsonl").to_string_lossy().into_owned();
        self.installation.json(&["audit", "export", "--output", &export])?;
        let (status, stdout, stderr) = self.installation.stockade(&["audit", "verify", &export])?;
        ensure!(status == 0, "the ledger does not verify: {stdout}{stderr}");
        Ok(())
    }
}

/// The lines of the append-only file, as the last command of the cassette printed them.
fn calls(shown: &Value) -> Vec<String> {
    let lines = shown["transcript"].as_array().into_iter().flatten();
    let mut texts = lines.filter_map(|line| line["input"]["text"].as_str());
    let last = texts.rfind(|text| text.contains("== calls ==")).unwrap_or_default();
    last.lines().filter(|line| line.starts_with("call_")).map(str::to_owned).collect()
}
