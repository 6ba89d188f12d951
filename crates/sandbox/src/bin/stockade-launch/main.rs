//! The launcher: makes an environment's namespaces and becomes its guest.
//!
//! It owns everything between the driver's plan and the guest's first instruction: namespaces, mounts, ids,
//! fences. It is one thread, reads nothing that the workload could have written, and ends when the guest runs.
//! It refuses to go on when any step fails: a half-made environment is killed, never used.
//!
//! Called as `stockade-launch start FOLDER` with the listening socket as standard input, a pipe for its report
//! as standard output and the environment's lock as standard error; as `stockade-launch doors FOLDER` for an environment that
//! runs; or as `stockade-launch probe`.

mod doors;
mod fences;
mod inside;
mod netlink;
mod outside;
mod overlay;
mod probe;
mod sys;
mod trust;

use std::{path::Path, process::ExitCode};

use stockade_sandbox::launch::Report;

/// Longer than any driver waits for it.
const PATIENCE_SECONDS: u32 = 60;

/// What went wrong, and while doing what.
#[derive(Debug)]
pub struct Failure {
    /// What was being done.
    pub step: String,
    /// What happened.
    pub message: String,
}

/// Names the step that an error belongs to.
pub trait Step<T> {
    /// Turns the error into a [`Failure`] of this step.
    fn step(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure { step: step.into(), message: error.to_string() })
    }
}

fn main() -> ExitCode {
    // Whoever started it may be gone, and it holds the environment's lock: it does not hang for ever.
    sys::end_after(PATIENCE_SECONDS);
    let mut args = std::env::args_os().skip(1);
    let (report, code) = match (args.next().as_deref().and_then(|verb| verb.to_str()), args.next()) {
        (Some("probe"), None) => (serde_json::to_string(&probe::all()), ExitCode::SUCCESS),
        (Some("start"), Some(folder)) => match outside::start(Path::new(&folder)) {
            Ok(running) => (serde_json::to_string(&Report::Started(running)), ExitCode::SUCCESS),
            Err(Failure { step, message }) => {
                (serde_json::to_string(&Report::Failed { step, message }), ExitCode::FAILURE)
            }
        },
        (Some(verb @ ("doors" | "doors-unled")), Some(folder)) => {
            match doors::open(Path::new(&folder), verb == "doors") {
                // It has said so itself, with what it hands over.
                Ok(()) => return ExitCode::SUCCESS,
                Err(Failure { step, message }) => {
                    (serde_json::to_string(&Report::Failed { step, message }), ExitCode::FAILURE)
                }
            }
        }
        _ => return ExitCode::from(2),
    };
    match report.map(|mut line| {
        line.push('\n');
        sys::write_all(&rustix::stdio::stdout(), line.as_bytes())
    }) {
        Ok(Ok(())) => code,
        _ => ExitCode::FAILURE,
    }
}
