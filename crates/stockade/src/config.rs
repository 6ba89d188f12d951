//! The configuration file of a site: read once, checked as a whole, before anything is bound or started.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use stockade_runner::{EnvironmentClass, RunnerConfig, Telemetry};

use crate::{
    args,
    failure::{Failure, Outcome},
    home::Home,
};

/// The largest configuration file, in bytes.
const MAX_CONFIG: u64 = 1024 * 1024;

/// The whole file. Unknown words are errors: a misspelt limit would otherwise be no limit.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    environment: Environment,
    #[serde(default)]
    git: Git,
    /// Handed on as it is to the gateway, which knows what may stand there.
    #[serde(default)]
    gateway: toml::Table,
    #[serde(default)]
    telemetry: Telemetry,
}

/// What an environment may use.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Environment {
    memory_mib: Option<u64>,
    processes: Option<u64>,
    cpu_millis: Option<u64>,
    disk_mib: Option<u64>,
    open_files: Option<u64>,
    #[serde(default)]
    extra_read_only: Vec<PathBuf>,
    #[serde(default)]
    allow_degraded: Vec<String>,
}

/// Whom commits name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Git {
    name: Option<String>,
    email: Option<String>,
    people_domain: Option<String>,
}

/// A runner's configuration: the file, then what the command line says.
pub fn runner(home: &Home, site: &args::Site, server_url: &str, listen: &str) -> Outcome<RunnerConfig> {
    let file = read(home, site)?;
    let mut config = RunnerConfig::new(home.runner(), server_url, helpers()?);
    config.listen = address(listen)?;
    config.models = file.gateway.to_string();
    config.telemetry = file.telemetry;
    config.cassettes.clone_from(&site.cassettes);
    if let Some(folder) = &site.cassettes
        && !folder.is_dir()
    {
        return Err(Failure::user(
            "cassettes",
            format!("there is no folder {}", folder.display()),
            "name the folder that holds the cassettes with --cassettes DIR",
        ));
    }
    config.class = class(&file.environment);
    config.extra_read_only = file.environment.extra_read_only;
    config.allow_degraded = file.environment.allow_degraded;
    config.allow_degraded.extend(site.allow_degraded.iter().cloned());
    let identity = file.git;
    config.git.name = identity.name.unwrap_or(config.git.name);
    config.git.email = identity.email.unwrap_or(config.git.email);
    config.git.people_domain = identity.people_domain.unwrap_or(config.git.people_domain);
    Ok(config)
}

/// The gateway's part of the file, as it is now.
pub fn gateway(home: &Home, site: &args::Site) -> Outcome<String> {
    Ok(read(home, site)?.gateway.to_string())
}

/// Where the file is, whether or not it is there, and whether somebody named it.
pub fn path(home: &Home, site: &args::Site) -> (PathBuf, bool) {
    match &site.config {
        Some(path) => (path.clone(), true),
        None => (home.config(), false),
    }
}

fn read(home: &Home, site: &args::Site) -> Outcome<File> {
    let (path, asked) = path(home, site);
    let wrong = |why: String| {
        Failure::config(
            "config",
            format!("{}: {why}", path.display()),
            "docs/configuration.md lists every word that may stand there",
        )
    };
    match std::fs::metadata(&path) {
        Ok(meta) if meta.len() > MAX_CONFIG => return Err(wrong(format!("is larger than {MAX_CONFIG} bytes"))),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked => return Ok(File::default()),
        Err(error) => return Err(wrong(error.to_string())),
    }
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    // The parser's message shows the line with a mark under the word.
    toml::from_str(&text).map_err(|error| wrong(error.to_string()))
}

fn class(environment: &Environment) -> EnvironmentClass {
    const MIB: u64 = 1024 * 1024;
    let mut class = EnvironmentClass::default();
    let set = |slot: &mut u64, value: Option<u64>, unit: u64| {
        if let Some(value) = value {
            *slot = value.saturating_mul(unit);
        }
    };
    set(&mut class.memory_bytes, environment.memory_mib, MIB);
    set(&mut class.processes, environment.processes, 1);
    set(&mut class.cpu_millis, environment.cpu_millis, 1);
    set(&mut class.disk_bytes, environment.disk_mib, MIB);
    set(&mut class.open_files, environment.open_files, 1);
    class
}

/// `127.0.0.1:7080`, or `localhost:7080`.
pub fn address(text: &str) -> Outcome<std::net::SocketAddr> {
    let readable = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    readable.parse().map_err(|_| {
        Failure::user(
            "address",
            format!("`{text}` is no address to listen at"),
            "write an address and a port, for example 127.0.0.1:7080",
        )
    })
}

/// Where the two static helpers are: named by STOCKADE_HELPERS, or beside this executable.
fn helpers() -> Outcome<PathBuf> {
    let folder = std::env::var_os("STOCKADE_HELPERS")
        .map(PathBuf::from)
        .or_else(|| std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned)));
    let folder = folder.unwrap_or_default();
    for name in ["stockade-guest", "stockade-launch"] {
        if !folder.join(name).is_file() {
            return Err(Failure::config(
                "helpers",
                format!("`{name}` is not in {}", folder.display()),
                "build with `cargo xtask build`, which puts it beside `stockade`, or name its folder in STOCKADE_HELPERS",
            ));
        }
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_limit_is_an_error_that_shows_the_line() {
        let error = toml::from_str::<File>("[environment]\nmemory_mb = 5\n").unwrap_err().to_string();
        assert!(error.contains("memory_mb") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn limits_have_their_units() {
        let file: File = toml::from_str("[environment]\nmemory_mib = 3\ncpu_millis = 500\n").unwrap();
        let class = class(&file.environment);
        assert_eq!((class.memory_bytes, class.cpu_millis), (3 * 1024 * 1024, 500));
        assert_eq!(class.disk_bytes, EnvironmentClass::default().disk_bytes);
    }

    #[test]
    fn an_address_is_read_or_explained() {
        assert!(address("localhost:7080").is_ok());
        assert!(matches!(address("7080"), Err(Failure::Error(error)) if error.message.contains("7080")));
    }
}
