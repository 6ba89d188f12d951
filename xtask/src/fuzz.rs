//! Fuzzing: builds the targets of `fuzz/` with instrumentation and runs each for a while (`docs/fuzzing.md`).
//!
//! It needs a nightly toolchain and nothing else. What is found goes to `target/fuzz/found`; the seeds in `fuzz/corpus`
//! are read and never written: inputs that reach something new are kept in `target/fuzz/corpus`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::sh;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What libFuzzer needs to see where an input went, and AddressSanitizer. The helpers are `unsafe`, and so are some
/// of the crates that others wrote.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
     --cfg fuzzing -Zsanitizer=address -Cforce-frame-pointers=yes";

/// An input that takes longer, in seconds, is a finding.
const INPUT_SECONDS: u32 = 20;
/// A target that takes more memory, in MiB, is a finding.
const MEMORY_MIB: u32 = 2_048;
/// The longest input, in bytes. The parsers' own bounds are tested where they are; short inputs find more.
const INPUT_BYTES: u32 = 16 * 1024;

/// How often it is said that targets are still at work.
const PROGRESS: Duration = Duration::from_secs(60);

/// The targets of these names and those that begin so; without either, all.
pub fn chosen(names: &[String], prefixes: &[String]) -> Result<Vec<String>> {
    let all = targets()?;
    if let Some(name) = names.iter().find(|name| !all.contains(name)) {
        bail!("no fuzz target is called `{name}`: there are {}", all.join(", "));
    }
    if let Some(prefix) = prefixes.iter().find(|prefix| !all.iter().any(|known| known.starts_with(*prefix))) {
        bail!("no fuzz target begins with `{prefix}`: there are {}", all.join(", "));
    }
    let every = names.is_empty() && prefixes.is_empty();
    let wanted =
        |name: &String| every || names.contains(name) || prefixes.iter().any(|prefix| name.starts_with(prefix));
    Ok(all.into_iter().filter(wanted).collect())
}

/// Runs these targets, so many side by side.
pub fn run(chosen: &[String], seconds: u32, jobs: usize) -> Result<()> {
    let programs = build(chosen)?;
    let (waiting, over) = (Mutex::new(chosen.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, chosen.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(name) = next else { return };
                    let ended = fuzz(&programs, name, seconds);
                    over.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
                }
            });
        }
    });
    let over: Vec<Vec<String>> =
        over.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect::<Result<_>>()?;
    let found = over.concat();
    if !found.is_empty() {
        bail!(
            "these inputs break a promise; a path given to the target's program shows how:\n  {}",
            found.join("\n  ")
        );
    }
    Ok(())
}

/// The names of all targets, sorted.
fn targets() -> Result<Vec<String>> {
    let folder = sh::root().join("fuzz/src/bin");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort_unstable();
    Ok(names)
}

/// Builds them all in one go, in a target directory of their own: nothing is shared with a build without sanitizer.
fn build(names: &[String]) -> Result<PathBuf> {
    if !sh::has("rustup") {
        bail!("fuzzing needs a nightly toolchain, found by rustup: install it from https://rustup.rs");
    }
    let folder = folder();
    // Not `sh::cargo`: the cargo that runs us is the stable one.
    let mut cargo = Command::new("rustup");
    cargo.current_dir(sh::root()).args(["run", "nightly", "cargo", "build", "--release", "--locked"]);
    cargo.args(["--manifest-path", "fuzz/Cargo.toml", "--target", TRIPLE]);
    for name in names {
        cargo.args(["--bin", name]);
    }
    for inherited in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "CARGO_ENCODED_RUSTFLAGS"] {
        cargo.env_remove(inherited);
    }
    sh::run(cargo.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &folder))
        .context("if the toolchain is missing: rustup toolchain install nightly --profile minimal")?;
    Ok(folder.join(TRIPLE).join("release"))
}

fn folder() -> PathBuf {
    sh::target().join("fuzz")
}

/// Runs one target and says how it went. Gives the inputs that were found.
fn fuzz(programs: &Path, name: &str, seconds: u32) -> Result<Vec<String>> {
    let (seeds, kept) = (sh::root().join("fuzz/corpus").join(name), folder().join("corpus").join(name));
    let (found, log) = (folder().join("found").join(name), folder().join(format!("{name}.log")));
    for folder in [&seeds, &kept, &found] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let before = files(&found)?;
    let output = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let mut child = Command::new(programs.join(name))
        .args([&kept, &seeds])
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-max_len={INPUT_BYTES}"))
        .arg("-print_final_stats=1")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("running {name}"))?;
    let (begun, mut told, mut processor) = (Instant::now(), Duration::ZERO, 0);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        processor = processor_seconds(child.id()).unwrap_or(processor);
        if begun.elapsed() > told + PROGRESS {
            told = begun.elapsed();
            let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
            sh::say(&format!(
                "{name:<20} {:>4} of {seconds} s ({processor} s of processor): {}",
                told.as_secs(),
                last_pulse(&said)
            ));
        }
        pause();
    };
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if status.success() {
        let (inputs, speed) = (stat(&said, "number_of_executed_units"), stat(&said, "average_exec_per_sec"));
        sh::say(&format!(
            "{name:<20} {inputs:>10} inputs, {speed:>7} a second, {processor:>4} s of processor: nothing found"
        ));
        return Ok(Vec::new());
    }
    let new: Vec<String> = files(&found)?.into_iter().filter(|file| !before.contains(file)).collect();
    sh::say(&format!("{name:<20} {}", why(&said)));
    if new.is_empty() {
        bail!("{name} ended with {status} and kept no input: see {}", log.display());
    }
    Ok(new)
}

fn files(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path().display().to_string())).collect()
}

/// A figure of libFuzzer's final statistics: `stat::NAME: FIGURE`.
fn stat<'a>(said: &'a str, name: &str) -> &'a str {
    said.lines()
        .filter_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':'))
        .next_back()
        .map_or("?", str::trim)
}

/// The fuzzer's last line about how far it is: how many inputs, and what they reached.
fn last_pulse(said: &str) -> &str {
    said.lines().rfind(|line| line.starts_with('#') && line.contains("cov: ")).unwrap_or("it has just begun")
}

/// What a process has had of the processor, in seconds: on a busy machine less than has passed. The kernel counts hundredths.
fn processor_seconds(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: the 12th and 13th are what it took itself and in the kernel.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (own, kernel) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some((own + kernel) / 100)
}

#[expect(clippy::disallowed_methods, reason = "a child is looked after, and asked now and then whether it is over")]
fn pause() {
    std::thread::sleep(Duration::from_millis(200));
}

/// The panic with its message, or the sanitizer's first line.
fn why(said: &str) -> String {
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR: "));
    let (first, second) = (lines.next().unwrap_or("ended badly"), lines.next().unwrap_or_default());
    if first.contains("panicked at") { format!("{first} {second}") } else { first.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{chosen, last_pulse, processor_seconds, stat, targets, why};

    #[test]
    fn every_target_has_seeds() {
        let targets = targets().unwrap();
        assert!(!targets.is_empty());
        for name in targets {
            let seeds = crate::sh::root().join("fuzz/corpus").join(&name);
            assert!(seeds.read_dir().is_ok_and(|mut files| files.next().is_some()), "{name} has no seeds");
        }
    }

    #[test]
    fn targets_are_chosen_by_name_and_by_how_they_begin() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(chosen(&[], &[]).unwrap(), targets().unwrap());
        assert_eq!(chosen(&words(&["llm_sse", "llm_tee"]), &[]).unwrap(), words(&["llm_sse", "llm_tee"]));
        let some = chosen(&words(&["llm_sse"]), &words(&["policy_"])).unwrap();
        assert_eq!(some, words(&["llm_sse", "policy_check"]));
        assert!(chosen(&words(&["x"]), &[]).is_err() && chosen(&[], &words(&["x"])).is_err());
    }

    #[test]
    fn the_fuzzer_is_understood() {
        let said = "INFO: x\nstat::number_of_executed_units: 12\nstat::average_exec_per_sec:     6\n";
        assert_eq!((stat(said, "number_of_executed_units"), stat(said, "average_exec_per_sec")), ("12", "6"));
        assert_eq!(stat(said, "peak_rss_mb"), "?");
        assert_eq!(why("a\nthread 'x' panicked at b.rs:1:\nno\nmore"), "thread 'x' panicked at b.rs:1: no");
        assert_eq!(why("==1== ERROR: libFuzzer: timeout\n  x"), "==1== ERROR: libFuzzer: timeout");
        assert_eq!(why(""), "ended badly");
        assert!(processor_seconds(std::process::id()).is_some() && processor_seconds(0).is_none());
        assert_eq!(last_pulse("#1 INITED\n#8 NEW cov: 3\nx"), "#8 NEW cov: 3");
    }
}
