//! The configuration file of a site: read once, checked as a whole, before anything is bound or started.

mod classes;

use std::path::{Path, PathBuf};

use serde::{Deserialize, de::IgnoredAny};
use stockade_api::domain::inside::{Inside, System, User};
use stockade_runner::{EgressConfig, RunnerConfig, RunnerError, Telemetry, toml_error};

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
    class: Vec<classes::Class>,
    #[serde(default)]
    git: Git,
    /// The gateway reads it for itself, from the same text: it knows what may stand there.
    #[serde(default, rename = "gateway")]
    _gateway: IgnoredAny,
    #[serde(default)]
    telemetry: Telemetry,
    #[serde(default)]
    egress: EgressConfig,
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
    system: System,
    #[serde(default)]
    user: User,
    #[serde(default)]
    nested: bool,
    #[serde(default)]
    extra_read_only: Vec<PathBuf>,
    #[serde(default)]
    allow_degraded: Vec<String>,
}

impl Environment {
    const fn sizes(&self) -> classes::Sizes {
        classes::Sizes {
            memory_mib: self.memory_mib,
            processes: self.processes,
            cpu_millis: self.cpu_millis,
            disk_mib: self.disk_mib,
            open_files: self.open_files,
        }
    }

    const fn inside(&self) -> Inside {
        Inside { system: self.system, user: self.user, nested: self.nested }
    }
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
    let (file, mut config) = checked(home, site)?;
    server_url.clone_into(&mut config.server_url);
    config.helpers = helpers()?;
    config.listen = address(listen)?;
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
    config.allow_degraded = file.environment.allow_degraded;
    config.allow_degraded.extend(site.allow_degraded.iter().cloned());
    let identity = file.git;
    config.git.name = identity.name.unwrap_or(config.git.name);
    config.git.email = identity.email.unwrap_or(config.git.email);
    config.git.people_domain = identity.people_domain.unwrap_or(config.git.people_domain);
    Ok(config)
}

/// The file, and a configuration of what the runner itself reads of it: found right, before anything is bound or started.
fn checked(home: &Home, site: &args::Site) -> Outcome<(File, RunnerConfig)> {
    let (mut file, text) = read(home, site)?;
    let mut config = RunnerConfig::new(home.runner(), String::new(), PathBuf::new());
    config.models = text;
    config.extra_read_only.clone_from(&file.environment.extra_read_only);
    config.telemetry = std::mem::take(&mut file.telemetry);
    config.egress = std::mem::take(&mut file.egress);
    let classes = classes::read(&file.environment.sizes(), file.environment.inside(), std::mem::take(&mut file.class));
    let hint = "docs/classes.md has every word of a class".to_owned();
    let classes = classes.map_err(|what| RunnerError::Config { what, hint });
    let checked = classes.and_then(|classes| {
        config.classes = classes;
        config.check()
    });
    checked.map_err(|error| in_file(&path(home, site).0, error))?;
    Ok((file, config))
}

/// What looking at models and providers needs, without what only environments do.
pub fn providers(home: &Home, site: &args::Site) -> Outcome<RunnerConfig> {
    Ok(checked(home, site)?.1)
}

/// The file as it is now, for the gateway.
pub fn gateway(home: &Home, site: &args::Site) -> Outcome<String> {
    Ok(read(home, site)?.1)
}

/// What a runner found wrong with the file, with the file's name.
pub fn in_file(path: &Path, error: RunnerError) -> Failure {
    match error {
        RunnerError::Config { what, hint } => Failure::config("config", format!("{}: {what}", path.display()), hint),
        other => Failure::from(other),
    }
}

/// Where the file is, whether or not it is there, and whether somebody named it.
pub fn path(home: &Home, site: &args::Site) -> (PathBuf, bool) {
    match &site.config {
        Some(path) => (path.clone(), true),
        None => (home.config(), false),
    }
}

fn read(home: &Home, site: &args::Site) -> Outcome<(File, String)> {
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
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked => {
            return Ok((File::default(), String::new()));
        }
        Err(error) => return Err(wrong(error.to_string())),
    }
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    let file = toml::from_str(&text).map_err(|error| wrong(toml_error(&text, &error)))?;
    Ok((file, text))
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

    fn wrong(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let global =
            args::Global { json: false, data_dir: Some(folder.path().to_owned()), url: None, token_file: None };
        std::fs::write(folder.path().join("stockade.toml"), text).unwrap();
        let site = args::Site { config: None, cassettes: None, allow_degraded: Vec::new() };
        let Err(Failure::Error(error)) = checked(&Home::find(&global).unwrap(), &site) else { panic!("{text}") };
        assert!(error.message.contains("stockade.toml: ") && error.hint.is_some(), "{error:?}");
        format!("{error:?}")
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_in_the_file_and_without_what_stands_there() {
        let error = wrong("[[class]]\nname = \"a\"\nprocesses = 1\n");
        assert!(error.contains("class `a`") && error.contains("processes"), "{error}");
        let error = wrong("[environment]\nmemory_mb = 5\n");
        assert!(error.contains("memory_mb") && error.contains("line 2"), "{error}");
        let error = wrong("[environment]\nuser = \"root\"\n");
        assert!(error.contains("overlay"), "{error}");
        for path in ["tools", "/etc", "/workspace/x"] {
            let error = wrong(&format!("[environment]\nextra_read_only = [\"{path}\"]\n"));
            assert!(error.contains(path), "{error}");
        }
        for text in [
            "[git]\n\n[gateway.providers.a]\nkey = sk-SECRET\n",
            "[git]\n\n[gateway.providers.a]\nkind = \"sk-SECRET\"\n",
            "[git]\n\n[gateway]\nonly_listed = \"sk-SECRET\"\n",
            "\n\n[telemetry]\notlp_headers = \"authorization: SECRET\"\n",
        ] {
            let error = wrong(text);
            assert!(error.contains("line 4") && !error.contains("SECRET"), "{error}");
        }
        for text in [
            "[gateway.providers.a]\nkey = \"sk-SECRET\"\n",
            "[gateway.providers.a]\nkey_file = \"sk-SECRET\"\n",
            "[gateway.providers.a]\nkey_variable = \"sk-SECRET\"\n",
            "[gateway.providers.a]\nkey = \"none\"\nbase_url = \"https://x:SECRET@y.example/?key=SECRET\"\n",
        ] {
            let error = wrong(text);
            assert!(error.contains("providers.a") && !error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn an_address_is_read_or_explained() {
        assert!(address("localhost:7080").is_ok());
        assert!(matches!(address("7080"), Err(Failure::Error(error)) if error.message.contains("7080")));
    }
}
