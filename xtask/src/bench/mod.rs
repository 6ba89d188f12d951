//! Measuring. Every bench prints one JSON object: `name`, `conditions`, `figures` (name → number, the unit in the
//! name), `targets` (name → goal, measured, holds). It exits 0 when it could measure, whatever it found.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{build, sh};

mod peers;

/// What has to be built before.
enum Needs {
    Nothing,
    Helpers,
    Everything,
}

/// Name, crate, what it needs.
const BENCHES: &[(&str, &str, Needs)] = &[
    ("policy", "stockade-policy", Needs::Nothing),
    ("ledger", "stockade-ledger", Needs::Nothing),
    ("environment", "stockade-sandbox", Needs::Helpers),
    ("egress", "stockade-runner", Needs::Helpers),
    ("recovery", "stockade-testkit", Needs::Everything),
    ("gateway", "stockade-runner", Needs::Nothing),
    ("soak", "stockade-runner", Needs::Nothing),
];

/// Runs one and shows it. With `others`, the same is measured of other people's programs, where that is known how.
pub fn run(name: &str, json: bool, others: bool) -> Result<()> {
    let Some((_, package, needs)) = BENCHES.iter().find(|(known, ..)| *known == name) else {
        let names: Vec<_> = BENCHES.iter().map(|(name, ..)| *name).collect();
        bail!("no bench is called `{name}`: there are {}", names.join(", "));
    };
    let mut cargo = sh::cargo();
    if others {
        if name != "gateway" {
            bail!("`--peers` goes with the bench `gateway` only");
        }
        cargo.env("STOCKADE_BENCH_PEERS", peers::installed()?);
    }
    match needs {
        Needs::Nothing => {}
        Needs::Helpers => {
            cargo.env("STOCKADE_HELPERS", build::helpers()?);
        }
        Needs::Everything => {
            let built = build::all(true)?;
            cargo.env("STOCKADE_HELPERS", &built.helpers).env("STOCKADE_BIN", &built.stockade);
        }
    }
    // The soak is a part of the gateway's bench: the same bodies, processes of the same program.
    let (example, part) = if name == "soak" { ("gateway", Some("soak")) } else { (name, None) };
    let output = cargo
        .args(["run", "--quiet", "--release", "--package", package, "--example", &format!("bench_{example}"), "--"])
        .args(part)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running bench `{name}`"))?;
    if !output.status.success() {
        bail!("bench `{name}` could not measure: it ended with {}", output.status);
    }
    let value: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("bench `{name}` printed something else than one JSON object"))?;
    for key in ["name", "conditions", "figures", "targets"] {
        if value.get(key).is_none() {
            bail!("bench `{name}` left out `{key}`");
        }
    }
    sh::say(&if json { value.to_string() } else { table(&value) });
    Ok(())
}

fn table(value: &Value) -> String {
    let mut lines = vec![format!("{} ({})", text(value.get("name")), text(value.get("conditions")))];
    for (name, figure) in value.get("figures").and_then(Value::as_object).into_iter().flatten() {
        lines.push(format!("  {name:<40} {}", text(Some(figure))));
    }
    for (name, target) in value.get("targets").and_then(Value::as_object).into_iter().flatten() {
        let verdict = if target.get("holds") == Some(&Value::Bool(true)) { "holds" } else { "MISSED" };
        lines.push(format!(
            "  target {name:<33} goal {} measured {}: {verdict}",
            text(target.get("goal")),
            text(target.get("measured"))
        ));
    }
    lines.join("\n")
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}
