//! Building `stockade` and the two static helpers that go into environments.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::sh;

/// Where things are after a build.
pub struct Built {
    /// The executable.
    pub stockade: PathBuf,
    /// The folder with `stockade-guest` and `stockade-launch`.
    pub helpers: PathBuf,
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The two helpers. They are static because an environment has its own files, and small because they are
/// started thousands of times; hence their own profile and flags, which a normal `cargo build` cannot have.
pub fn helpers() -> Result<PathBuf> {
    sh::run(
        sh::cargo()
            .args(["build", "--quiet", "--profile", "helper", "--target", TARGET, "--bins"])
            .args(["--package", "stockade-guest", "--package", "stockade-sandbox"])
            .env("RUSTFLAGS", "-Ctarget-feature=+crt-static"),
    )?;
    Ok(sh::target().join(TARGET).join("helper"))
}

/// Everything that a user runs, helpers beside the executable.
pub fn all(release: bool) -> Result<Built> {
    let helpers = helpers()?;
    let mut cargo = sh::cargo();
    cargo.args(["build", "--quiet", "--package", "stockade"]);
    if release {
        cargo.arg("--release");
    }
    sh::run(&mut cargo)?;
    let folder = sh::target().join(if release { "release" } else { "debug" });
    for name in ["stockade-guest", "stockade-launch"] {
        // A new file in place of the old one: the old one may be running.
        let (from, to) = (helpers.join(name), folder.join(name));
        let fresh = folder.join(format!("{name}.new"));
        std::fs::copy(&from, &fresh).with_context(|| format!("copying {}", from.display()))?;
        std::fs::rename(&fresh, &to).with_context(|| format!("replacing {}", to.display()))?;
    }
    Ok(Built { stockade: folder.join("stockade"), helpers: folder })
}
