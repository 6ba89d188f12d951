//! What a reviewer should not have to say.

use anyhow::{Context, Result};

use crate::{sh, tidy};

/// Format, house rules, lints: the quick ones first.
pub fn run() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    // The fuzz targets are a workspace of their own, which nothing else builds every day.
    sh::run(sh::cargo().args(["fetch", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml"]))
        .context("fuzz/Cargo.lock may be behind: cargo update --workspace --manifest-path fuzz/Cargo.toml")?;
    sh::run(sh::cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
}
