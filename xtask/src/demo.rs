//! demo

use anyhow::Result;

/// The main job.
pub fn run(_keep: bool) -> Result<()> {
    anyhow::bail!("the demo is not built yet")
}
