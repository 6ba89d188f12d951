//! The site's credentials for the way out, and what stands for them inside.
//!
//! Owns which project's environments have which, the placeholder of each (derived from the run's key, so it is known again after a restart and gone
//! with the key), and what tools inside are told: variables and git's configuration. It refuses to give a secret to anything but the exit.
//! *Invariant:* what is told inside is worth nothing outside of that environment.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use stockade_api::runner::Assignment;
use stockade_egress::{
    credential::{Credential, Credentials, Source},
    git::config::{self, Access, Forge},
    name::{Host, Name},
    path::PathRule,
    placeholder::{Binding, Placeholder},
};
use stockade_ledger::RunKey;
use stockade_policy::tables::{Preset, presets};

use super::config::{secret, wrong};
use crate::RunnerError;

/// The most credentials of a site.
pub const MAX_CREDENTIALS: usize = 256;

/// The table `[egress.credentials.NAME]`: one credential, and where it may go if the policy allows its use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialConfig {
    /// The host that it is for.
    pub host: String,
    /// Its port.
    #[serde(default = "https")]
    pub port: u16,
    /// The header in which it may stand.
    #[serde(default = "authorization")]
    pub header: String,
    /// The paths for which it may be used: this and what is below.
    #[serde(default = "everything")]
    pub path: String,
    /// A file with the secret and nothing else.
    pub secret_file: PathBuf,
    /// In which variable tools inside find what stands for it.
    pub variable: Option<String>,
    /// Git sends it by itself, as the password of this user.
    pub git_user: Option<String>,
    /// The projects whose environments have it, by name; all of them where this is absent.
    pub projects: Option<Vec<String>>,
    /// Whether it may go out without TLS too: for servers on the site's own machines.
    #[serde(default)]
    pub in_the_clear: bool,
}

const fn https() -> u16 {
    443
}

fn authorization() -> String {
    "authorization".to_owned()
}

fn everything() -> String {
    "/".to_owned()
}

/// What an environment has of the site's credentials.
#[derive(Debug)]
pub struct Granted {
    /// For its exit.
    pub credentials: Credentials,
    /// What its tools are told.
    pub inside: Inside,
}

/// What tools inside are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inside {
    /// Variables with placeholders.
    pub variables: BTreeMap<String, String>,
    /// The text of git's configuration for the system.
    pub gitconfig: String,
}

/// One credential, read.
#[derive(Debug, Clone)]
struct Known {
    config: CredentialConfig,
    host: Host,
    header: http::HeaderName,
    path: PathRule,
}

/// The credentials of a site.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    known: BTreeMap<String, Known>,
    forges: Vec<Name>,
}

impl Keyring {
    /// Those of a configuration. No secret is read yet.
    ///
    /// # Errors
    /// [`RunnerError::Config`] says what is wrong.
    pub fn new(configs: &BTreeMap<String, CredentialConfig>, forges: Option<&[String]>) -> Result<Self, RunnerError> {
        if configs.len() > MAX_CREDENTIALS {
            let what = format!("`egress.credentials` has {} of them", configs.len());
            return Err(wrong(what, "a site may have 256 credentials for the way out"));
        }
        let known = configs.iter().map(|(name, config)| Ok((name.clone(), read(name, config)?)));
        let known = known.collect::<Result<_, RunnerError>>()?;
        let forges = match forges {
            Some(named) => named.iter().map(|name| forge(name)).collect::<Result<_, _>>()?,
            None => public_forges(),
        };
        Ok(Self { known, forges })
    }

    /// What the environment of an assignment has. No secret is read.
    pub fn of(&self, a: &Assignment, key: &RunKey) -> Granted {
        let mut inside = Inside::default();
        let mut all = Vec::new();
        let mut forges: BTreeMap<(String, u16), Forge> = BTreeMap::new();
        for name in &self.forges {
            let forge = Forge { host: name.clone(), port: 443, access: Vec::new() };
            forges.insert((name.as_str().to_owned(), 443), forge);
        }
        for (name, Known { config, host, header, path }) in &self.known {
            if config.projects.as_ref().is_some_and(|projects| !projects.contains(&a.project.name)) {
                continue;
            }
            let placeholder = placeholder(name, a, key);
            if let Some(variable) = &config.variable {
                inside.variables.insert(variable.clone(), placeholder.as_str().to_owned());
            }
            if let (Some(user), Host::Name(host)) = (&config.git_user, host) {
                let access = Access { user: user.clone(), placeholder: placeholder.clone(), path: path.clone() };
                let place = (host.as_str().to_owned(), config.port);
                let forge = Forge { host: host.clone(), port: config.port, access: Vec::new() };
                forges.entry(place).or_insert(forge).access.push(access);
            }
            let binding = Binding {
                placeholder,
                host: host.to_string(),
                port: config.port,
                in_the_clear: config.in_the_clear,
                header: header.clone(),
                path: path.clone(),
            };
            let source = Arc::new(SecretFile(config.secret_file.clone()));
            all.push(Credential { name: name.clone(), bindings: vec![binding], source });
        }
        inside.gitconfig = config::inside(&forges.into_values().collect::<Vec<_>>());
        Granted { credentials: Credentials::new(all), inside }
    }

    /// Says which secrets cannot be read now. They may still come.
    pub fn warn(&self) {
        for (name, known) in &self.known {
            if let Err(error) = secret(&known.config.secret_file) {
                tracing::warn!(credential = name, %error, "requests go without the credential `{name}` until it can be read: {error}");
            }
        }
    }
}

/// A secret in a file, read each time.
#[derive(Debug)]
struct SecretFile(PathBuf);

#[async_trait]
impl Source for SecretFile {
    async fn read(&self) -> io::Result<SecretString> {
        let path = self.0.clone();
        let read = tokio::task::spawn_blocking(move || secret(&path)).await.map_err(io::Error::other)?;
        read.map_err(io::Error::other)
    }
}

/// What stands for a credential in an environment.
fn placeholder(name: &str, a: &Assignment, key: &RunKey) -> Placeholder {
    let derived = key.derived(&format!("placeholder of {name} in {}", a.environment));
    let mut random = [0; 20];
    for (slot, byte) in random.iter_mut().zip(derived.expose_secret()) {
        *slot = *byte;
    }
    Placeholder::from_random(&random)
}

/// The forges that the shipped presets know.
fn public_forges() -> Vec<Name> {
    let presets = presets().filter_map(|name| Preset::find(name).ok());
    let hosts = presets.flat_map(|preset| preset.hosts);
    let mut names: Vec<Name> =
        hosts.filter_map(|text| text.split_once('/').and_then(|(host, _)| forge(host).ok())).collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

fn forge(text: &str) -> Result<Name, RunnerError> {
    match Host::parse(text) {
        Ok(Host::Name(name)) => Ok(name),
        _ => Err(wrong(
            format!("`egress.forges` has `{}`", text.escape_debug()),
            "name hosts that serve repositories: `forge.corp.example`",
        )),
    }
}

fn read(name: &str, config: &CredentialConfig) -> Result<Known, RunnerError> {
    let place = |what: &str| format!("`egress.credentials.{}.{what}`", name.escape_debug());
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if name.is_empty() || name.len() > 64 || !plain(name) {
        let what = format!("`egress.credentials` has `{}`", name.escape_debug());
        return Err(wrong(what, "name a credential with letters, digits and -_. in 64 bytes: policies use the name"));
    }
    let host = Host::parse(&config.host).map_err(|_| {
        wrong(format!("{} is no host", place("host")), "write one name or address, without scheme and port")
    })?;
    let header = http::HeaderName::from_bytes(config.header.as_bytes()).map_err(|_| {
        wrong(format!("{} is no header", place("header")), "write a header's name, as `authorization` or `x-api-key`")
    })?;
    let path = PathRule::below(&config.path).map_err(|error| {
        wrong(format!("{} is no path: {error}", place("path")), "write a path that begins with a slash")
    })?;
    if let Some(variable) = &config.variable {
        let letters = variable.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        // What would change how programs start or whom they trust is no place for a credential.
        let taken = ["PATH", "HOME", "SHELL", "USER", "IFS", "ENV"].contains(&variable.as_str())
            || ["LD_", "GIT_CONFIG", "SSL_CERT"].iter().any(|begin| variable.starts_with(begin));
        if variable.is_empty()
            || variable.len() > 64
            || !letters
            || variable.starts_with(|c: char| c.is_ascii_digit())
            || taken
        {
            return Err(wrong(
                format!("{} is no variable for this", place("variable")),
                "write capital letters, digits and _, as `FORGE_TOKEN`",
            ));
        }
    }
    if config.git_user.as_ref().is_some_and(|user| user.is_empty() || user.contains(':')) {
        return Err(wrong(
            format!("{} is no user", place("git_user")),
            "write the user that the forge wants beside a token, as `x-access-token`",
        ));
    }
    if config.git_user.is_some() && (matches!(host, Host::Address(_)) || header != http::header::AUTHORIZATION) {
        let what = format!("{} stands beside an address or another header than authorization", place("git_user"));
        return Err(wrong(what, "git sends a password in `authorization`, to a host with a name"));
    }
    Ok(Known { config: config.clone(), host, header, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(text: &str) -> Result<Keyring, String> {
        #[derive(Deserialize)]
        struct File {
            credentials: BTreeMap<String, CredentialConfig>,
        }
        let file: File = toml::from_str(text).map_err(|error| crate::toml_error(text, &error))?;
        Keyring::new(&file.credentials, None).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_meant_is_said_with_its_place() {
        let with =
            |more: &str| format!("[credentials.forge]\nhost = \"forge.example\"\nsecret_file = \"/nowhere\"\n{more}");
        assert!(keyring(&with("")).is_ok(), "a secret that is not there yet may still come");
        for (text, said) in [
            (with("variable = \"LD_PRELOAD\""), "`egress.credentials.forge.variable`"),
            (with("variable = \"1X\""), "`egress.credentials.forge.variable`"),
            (with("variable = \"\""), "`egress.credentials.forge.variable`"),
            (with("header = \"a b\""), "`egress.credentials.forge.header`"),
            (with("path = \"team\""), "`egress.credentials.forge.path`"),
            (with("git_user = \"a:b\""), "`egress.credentials.forge.git_user`"),
            (with("git_user = \"a\"\nheader = \"x-api-key\""), "`egress.credentials.forge.git_user`"),
            (with("secret = \"hunter2\""), "unknown field"),
            (with("").replace("forge.example", "https://forge.example"), "`egress.credentials.forge.host`"),
            (with("").replace("[credentials.forge]", "[credentials.\"a b\"]"), "`egress.credentials` has `a b`"),
        ] {
            let error = keyring(&text).map(drop).unwrap_err();
            assert!(error.contains(said) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_secret_is_read_each_time_and_only_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = SecretFile(path.clone());
        assert!(source.read().await.is_err());
        for secret in ["one", "two"] {
            std::fs::write(&path, format!("{secret}\n")).unwrap();
            assert_eq!(source.read().await.unwrap().expose_secret(), secret);
        }
        assert!(SecretFile(folder.path().to_owned()).read().await.unwrap_err().to_string().contains("is no file"));
    }

    #[test]
    fn the_forges_of_the_presets_are_spoken_to_over_https() {
        let forges = public_forges();
        assert!(forges.len() >= 4, "{forges:?}");
    }
}
