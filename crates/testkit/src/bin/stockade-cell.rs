//! Runs one cell of the agent matrix and prints what came of it as JSON. `cargo xtask matrix` starts it, in a network of its
//! own. It refuses to do anything else.

use std::process::ExitCode;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command-line program")]
fn main() -> ExitCode {
    let tried = || -> anyhow::Result<String> {
        let path =
            std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("give the file that says what is to be tried"))?;
        let spec = serde_json::from_slice(&std::fs::read(path)?)?;
        Ok(serde_json::to_string(&stockade_testkit::cell::try_out(&spec)?)?)
    };
    match tried() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
