//! Installing the clients, once, into a folder outside the repository.
//!
//! It owns where they are and that what is there is used again without a network. It refuses to install anything into the
//! system or the repository.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::clients::Package;
use crate::sh;

/// The folder that holds all of them.
pub fn cache() -> Result<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = named("STOCKADE_MATRIX_CACHE")
        .or_else(|| Some(named("XDG_CACHE_HOME")?.join("stockade-matrix")))
        .or_else(|| Some(named("HOME")?.join(".cache/stockade-matrix")))
        .context("there is no HOME: say in STOCKADE_MATRIX_CACHE where the clients should be kept")?;
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Makes sure that a package is there. Gives the folder with its programs.
pub fn ensure(package: Package) -> Result<PathBuf> {
    let cache = cache()?;
    match package {
        Package::Npm(name, version) => npm(&cache, name, version),
        Package::Python(set, packages) => python(&cache, set, packages),
    }
}

fn npm(cache: &Path, name: &str, version: &str) -> Result<PathBuf> {
    let short = name.rsplit('/').next().unwrap_or(name);
    let folder = cache.join("npm").join(format!("{short}-{version}"));
    let programs = folder.join("node_modules/.bin");
    if done(&folder) {
        return Ok(programs);
    }
    if !sh::has("npm") {
        bail!("{name} {version} is not installed, and there is no npm to install it with");
    }
    sh::say(&format!("installing {name} {version}"));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
    let mut command = Command::new("npm");
    command.current_dir(&folder).args(["install", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error"]);
    sh::output(command.arg(format!("{name}@{version}")))?;
    finish(&folder)?;
    Ok(programs)
}

fn python(cache: &Path, set: &str, packages: &[&str]) -> Result<PathBuf> {
    let versions: Vec<&str> = packages.iter().filter_map(|package| package.split("==").nth(1)).collect();
    let folder = cache.join("python").join(format!("{set}-{}", versions.join("-")));
    let programs = folder.join("bin");
    if done(&folder) {
        return Ok(programs);
    }
    if !sh::has("python3") {
        bail!("{} are not installed, and there is no python3 to install them with", packages.join(", "));
    }
    sh::say(&format!("installing {}", packages.join(", ")));
    sh::output(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut command = Command::new(programs.join("python"));
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    sh::output(&mut command)?;
    finish(&folder)?;
    Ok(programs)
}

/// A mark says that the last installation came to its end.
fn done(folder: &Path) -> bool {
    folder.join("installed").is_file()
}

fn finish(folder: &Path) -> Result<()> {
    fs::write(folder.join("installed"), "").with_context(|| format!("{} cannot be written", folder.display()))
}
