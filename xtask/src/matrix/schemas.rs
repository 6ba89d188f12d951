//! Holding captured requests against what the providers publish.
//!
//! It owns the call of `schemas.py`, which reads the descriptions that the official SDKs carry. What the gateway wrote itself must
//! be right by them; what a client wrote is the client's, and only counted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Cell, clients::SDKS, install};
use crate::sh;

#[derive(Deserialize)]
struct Found {
    looked_at: usize,
    wrong: Vec<String>,
}

/// Looks at what the cells captured. Without the SDKs it is said that nobody looked.
pub fn check(folder: &Path, cells: &mut [(usize, Cell)], quiet: bool) -> Result<()> {
    let programs = match install::ensure(SDKS) {
        Ok(programs) => programs,
        Err(error) => {
            if !quiet {
                sh::say(&format!("SKIPPED: nobody held the requests against the published schemas: {error:#}"));
            }
            return Ok(());
        }
    };
    let script = folder.join("schemas.py");
    fs::write(&script, include_str!("schemas.py"))?;
    let place = |number: usize| -> PathBuf { folder.join(format!("cell-{number:03}/captured")) };
    let mut command = Command::new(programs.join("python"));
    command.arg(&script).args(cells.iter().map(|(number, _)| place(*number)));
    let said = sh::output(&mut command)?;
    let mut found: BTreeMap<PathBuf, Found> =
        serde_json::from_str(&said).with_context(|| format!("the check of the schemas said {said:?}"))?;
    for (number, cell) in cells {
        let Some(found) = found.remove(&place(*number)) else { continue };
        cell.looked_at = found.looked_at;
        if cell.converted && cell.report.refused.is_none() {
            let told = found.wrong.iter().take(3).map(|wrong| format!("by the published schema: {wrong}"));
            cell.report.problems.extend(told);
        }
        cell.schema = found.wrong;
    }
    Ok(())
}
