//! What a site says about its way out: its own networks, its proxy, its certificate authorities, its bounds.

use std::{collections::BTreeMap, io, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;
use stockade_egress::{
    dial::{Declared, Proxy, Resolver, SystemResolver},
    exit::Limits,
    name::{Host, Name},
    origins::{Origins, OriginsError},
    proxy::Account,
};

use super::credentials::{CredentialConfig, Keyring};
use crate::{RunnerError, error::chain};

/// The longest file with certificates, in bytes.
const MAX_AUTHORITIES: u64 = 4 * 1024 * 1024;
/// The longest file with a secret, in bytes.
const MAX_PASSWORD: u64 = 4 * 1024;
/// The port of a proxy whose URL has none.
const PROXY_PORT: u16 = 3_128;

/// The table `[egress]` of a site's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressConfig {
    /// Networks of the site that environments may reach although they are not public, if the policy allows the host: `10.20.0.0/16`.
    pub private: Vec<String>,
    /// Files with certificates (PEM) of authorities that vouch for the site's own hosts, beside those of this machine.
    pub certificate_authorities: Vec<PathBuf>,
    /// The credentials that requests are given on their way out, by the names that policies use.
    pub credentials: BTreeMap<String, CredentialConfig>,
    /// Hosts that serve repositories: remotes there that are spelled for SSH are spoken over HTTPS. Those of the shipped presets where this is absent.
    pub forges: Option<Vec<String>>,
    /// The proxy by which this site reaches the internet.
    pub proxy: Option<ProxyConfig>,
    /// Where some hosts are, said here and asked of nobody: `"forge.corp.example" = ["10.20.0.5"]`.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Connections of one environment at once.
    pub connections: usize,
    /// How long connecting may take, in seconds.
    pub connect_seconds: u64,
    /// How long a connection waits for a person before whoever wants it is told to come again, in seconds.
    pub ask_seconds: u64,
}

/// A corporate proxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// Where it is: `http://proxy.corp.example:3128`.
    pub url: String,
    /// The user that it wants.
    pub user: Option<String>,
    /// A file with the user's password and nothing else.
    pub password_file: Option<PathBuf>,
    /// What is reached without it: these names and those below them.
    #[serde(default)]
    pub direct: Vec<String>,
}

impl Default for EgressConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            private: Vec::new(),
            certificate_authorities: Vec::new(),
            credentials: BTreeMap::new(),
            forges: None,
            proxy: None,
            hosts: BTreeMap::new(),
            connections: limits.connections,
            connect_seconds: 20,
            ask_seconds: limits.asking.as_secs(),
        }
    }
}

pub(super) fn wrong(what: String, hint: &str) -> RunnerError {
    RunnerError::Config { what, hint: hint.to_owned() }
}

impl EgressConfig {
    /// Whether it can be meant.
    ///
    /// # Errors
    /// [`RunnerError::Config`] says what is wrong.
    pub fn check(&self) -> Result<(), RunnerError> {
        self.declared()?;
        self.proxy()?;
        self.resolver()?;
        self.keyring()?;
        self.origins()?;
        if self.connections == 0 || self.connections > 65_536 {
            let what = format!("`egress.connections` is {}", self.connections);
            return Err(wrong(what, "write how many connections one environment may have at once: 1 to 65536"));
        }
        for (name, seconds) in [("connect_seconds", self.connect_seconds), ("ask_seconds", self.ask_seconds)] {
            if !(1..=600).contains(&seconds) {
                return Err(wrong(format!("`egress.{name}` is {seconds}"), "write seconds from 1 to 600"));
            }
        }
        Ok(())
    }

    pub(super) fn declared(&self) -> Result<Declared, RunnerError> {
        let mut networks = Vec::new();
        for text in &self.private {
            let shown = text.escape_debug();
            let network: IpNet = text.parse().map_err(|_| {
                wrong(
                    format!("`egress.private` has `{shown}`"),
                    "write a network as `10.20.0.0/16`, one address as `10.20.0.5/32`",
                )
            })?;
            if network.prefix_len() == 0 {
                let what = format!("`egress.private` has {network}, which is everything");
                return Err(wrong(what, "name the networks that environments may reach, each by itself"));
            }
            networks.push(network);
        }
        Ok(Declared::new(networks))
    }

    pub(super) fn proxy(&self) -> Result<Option<Proxy>, RunnerError> {
        let Some(config) = &self.proxy else { return Ok(None) };
        let form = "write it as `http://proxy.corp.example:3128`";
        let bad = || wrong("`egress.proxy.url` is no address of a proxy".to_owned(), form);
        let url = url::Url::parse(&config.url).map_err(|_| bad())?;
        if url.scheme() != "http" {
            let what = "`egress.proxy.url` does not begin with http://".to_owned();
            return Err(wrong(
                what,
                "what goes over it is encrypted from end to end where it matters: give its http:// address",
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let what = "`egress.proxy.url` has a user or a password in it".to_owned();
            return Err(wrong(
                what,
                "write `user` and `password_file` beside it, so that the password stands in no configuration",
            ));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(bad());
        }
        let host = url.host_str().and_then(|host| Host::parse(host.trim_matches(['[', ']'])).ok()).ok_or_else(bad)?;
        let account = match (&config.user, &config.password_file) {
            (None, None) => None,
            (Some(user), Some(path)) => Some(Account { user: user.clone(), password: secret(path)? }),
            (Some(_), None) => {
                return Err(wrong(
                    "`egress.proxy` has a user and no password".to_owned(),
                    "name its file in `password_file`",
                ));
            }
            (None, Some(_)) => {
                return Err(wrong("`egress.proxy` has a password and no user".to_owned(), "name the user in `user`"));
            }
        };
        let port = url.port().unwrap_or(PROXY_PORT);
        Ok(Some(Proxy { host, port, account, direct: config.direct.clone() }))
    }

    pub(super) fn resolver(&self) -> Result<SiteResolver, RunnerError> {
        let mut hosts = BTreeMap::new();
        for (name, addresses) in &self.hosts {
            let form = "write a name in small letters and its addresses: `\"forge.corp.example\" = [\"10.20.0.5\"]`";
            match Host::parse(name) {
                Ok(Host::Name(read)) if read.as_str() == name && !addresses.is_empty() => {
                    hosts.insert(name.clone(), addresses.clone());
                }
                _ => return Err(wrong(format!("`egress.hosts` has `{}`", name.escape_debug()), form)),
            }
        }
        Ok(SiteResolver { hosts })
    }

    /// The credentials.
    ///
    /// # Errors
    /// [`RunnerError::Config`] says what is wrong.
    pub fn keyring(&self) -> Result<Keyring, RunnerError> {
        Keyring::new(&self.credentials, self.forges.as_deref())
    }

    /// Who checks the certificates of servers; nothing if this machine trusts nobody, and the site names nobody.
    ///
    /// # Errors
    /// [`RunnerError::Config`] says what is wrong.
    pub fn origins(&self) -> Result<Option<Arc<Origins>>, RunnerError> {
        let mut own = Vec::new();
        for path in &self.certificate_authorities {
            let len = std::fs::metadata(path).map_err(RunnerError::file("read", path))?.len();
            if len > MAX_AUTHORITIES {
                let what = format!("`{}` is larger than {MAX_AUTHORITIES} bytes", path.display());
                return Err(wrong(what, "it holds the certificates (PEM) of the site's own authorities"));
            }
            own.push(std::fs::read_to_string(path).map_err(RunnerError::file("read", path))?);
        }
        match Origins::of_this_machine(own.iter().map(String::as_str)) {
            Ok(origins) => Ok(Some(Arc::new(origins))),
            Err(OriginsError::Nobody) => {
                tracing::warn!("{}: connections cannot be looked into", OriginsError::Nobody);
                Ok(None)
            }
            Err(error) => {
                let what = format!("`egress.certificate_authorities`: {}", chain(&error));
                Err(wrong(what, "name files with certificates in PEM, one or more in each"))
            }
        }
    }

    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.connect_seconds)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { connections: self.connections, asking: Duration::from_secs(self.ask_seconds), ..Limits::default() }
    }
}

/// This machine's resolver, and what the site says itself.
#[derive(Debug)]
pub struct SiteResolver {
    hosts: BTreeMap<String, Vec<IpAddr>>,
}

#[async_trait]
impl Resolver for SiteResolver {
    async fn addresses(&self, name: &Name) -> io::Result<Vec<IpAddr>> {
        match self.hosts.get(name.as_str()) {
            Some(addresses) => Ok(addresses.clone()),
            None => SystemResolver.addresses(name).await,
        }
    }
}

/// What a file holds and nothing else.
pub(super) fn secret(path: &std::path::Path) -> Result<SecretString, RunnerError> {
    let read = RunnerError::file("read", path);
    let found = std::fs::metadata(path).map_err(RunnerError::file("read", path))?;
    if !found.is_file() {
        return Err(wrong(format!("`{}` is no file", path.display()), "it holds one secret and nothing else"));
    }
    let len = found.len();
    if len > MAX_PASSWORD {
        let what = format!("`{}` is larger than {MAX_PASSWORD} bytes", path.display());
        return Err(wrong(what, "it holds one secret and nothing else"));
    }
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(read)?);
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<EgressConfig, String> {
        let config: EgressConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn what_cannot_be_meant_is_said_and_no_password_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        for (text, said) in [
            ("private = [\"0.0.0.0/0\"]", "which is everything"),
            ("private = [\"10.0.0.0\"]", "`egress.private` has `10.0.0.0`"),
            ("connections = 0", "`egress.connections` is 0"),
            ("ask_seconds = 0", "`egress.ask_seconds` is 0"),
            ("[proxy]\nurl = \"proxy:3128\"", "does not begin with http://"),
            ("[proxy]\nurl = \"https://proxy.example\"", "does not begin with http://"),
            ("[proxy]\nurl = \"http://me:hunter2@proxy.example\"", "has a user or a password"),
            ("[proxy]\nurl = \"http://proxy.example/path\"", "no address of a proxy"),
            ("[proxy]\nurl = \"http://proxy.example\"\nuser = \"me\"", "a user and no password"),
            ("[proxy]\nurl = \"http://proxy.example\"\npassword_file = \"/nowhere\"", "a password and no user"),
            ("proxies = 1", "unknown field"),
            ("[hosts]\n\"Forge.example\" = [\"10.0.0.1\"]", "`egress.hosts` has `Forge.example`"),
            ("[hosts]\n\"forge.example\" = []", "`egress.hosts` has `forge.example`"),
        ] {
            let error = checked(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("hunter2"), "{text}: {error}");
        }
        let text = format!(
            "private = [\"10.20.0.0/16\"]\n[proxy]\nurl = \"http://proxy.example\"\nuser = \"me\"\npassword_file = {:?}\ndirect = [\"corp.example\"]",
            file
        );
        let config = checked(&text).unwrap();
        let proxy = config.proxy().unwrap().unwrap();
        assert_eq!((proxy.host.to_string().as_str(), proxy.port), ("proxy.example", PROXY_PORT));
        assert!(!format!("{proxy:?}").contains("hunter2"));
        assert_eq!(checked("").unwrap(), EgressConfig::default());
    }
}
