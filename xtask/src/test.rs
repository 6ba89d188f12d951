//! Every test.

use anyhow::Result;

use crate::{build, install, matrix, sh};

/// Installs, builds the helpers, runs the tests.
pub fn run(packages: &[String], rest: &[String]) -> Result<()> {
    install::ensure()?;
    if packages.is_empty() || packages.iter().any(|package| package == "stockade") {
        matrix::agents()?;
    }
    let built = build::all(false)?;
    let mut cargo = sh::cargo();
    cargo.args(["test", "--no-fail-fast"]).env("STOCKADE_HELPERS", &built.helpers).env("STOCKADE_BIN", &built.stockade);
    if packages.is_empty() {
        cargo.arg("--workspace");
    }
    for package in packages {
        cargo.args(["--package", package]);
    }
    // The cells of the agent matrix that need no package; they are the only users of this feature.
    if packages.is_empty() || packages.iter().any(|package| package == "stockade-testkit") {
        cargo.args(["--features", "stockade-testkit/cell"]);
        sh::say("SKIPPED here: the agent matrix with the real clients. It is `cargo xtask matrix`.");
    }
    sh::run(cargo.arg("--").args(rest))
}
