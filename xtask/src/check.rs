//! What a reviewer should not have to say.

use anyhow::Result;

use crate::{sh, tidy};

/// Format, house rules, lints: the quick ones first.
pub fn run() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    sh::run(sh::cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
}
