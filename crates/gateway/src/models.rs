//! The names that people may ask for: which provider, which exact model, which price.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use serde::Deserialize;
use stockade_llm::{Dialect, Price, PriceError, PriceTable, prices::Entry};
use url::{Host, Url};

use crate::credential::{Key, KeyError, KeySource};

/// The name of the provider that is there without configuration.
pub const ANTHROPIC: &str = "anthropic";
/// The name of the rehearsal provider, and of its price.
pub const REHEARSAL: &str = "rehearsal";
/// Where it is, and in which variable its key is, unless configured.
const ANTHROPIC_URL: &str = "https://api.anthropic.com";
const ANTHROPIC_VARIABLE: &str = "ANTHROPIC_API_KEY";

/// A model provider.
#[derive(Debug)]
pub struct Provider {
    name: String,
    dialect: Dialect,
    base_url: Url,
    auth: Auth,
    key: Key,
}

/// How a provider is shown its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Auth {
    /// `x-api-key: KEY`.
    #[default]
    XApiKey,
    /// `authorization: Bearer KEY`.
    Bearer,
}

impl Provider {
    /// What it is called in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dialect that it speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Where it is.
    #[must_use]
    pub const fn base_url(&self) -> &Url {
        &self.base_url
    }

    /// Where its key is.
    #[must_use]
    pub const fn key_source(&self) -> &KeySource {
        self.key.source()
    }

    /// Whether its key can be read now, for `doctor`.
    ///
    /// # Errors
    /// [`KeyError`] says why not.
    pub fn check_key(&self) -> Result<(), KeyError> {
        self.key.get().map(|_| ())
    }

    pub(crate) const fn auth(&self) -> Auth {
        self.auth
    }

    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }
}

/// Where a call goes.
#[derive(Debug, Clone)]
pub struct Route {
    /// The name that was asked for.
    pub name: String,
    /// To whom.
    pub provider: Arc<Provider>,
    /// The name there.
    pub upstream: String,
    /// What it costs.
    pub price: Price,
}

/// Why a name cannot be called. The texts are meant for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Nobody configured it.
    #[error("the model `{0}` is not known here")]
    Unknown(String),
    /// No price, no call.
    #[error("the model `{0}` has no price here, so it cannot be called")]
    NoPrice(String),
    /// The rehearsal provider does not run.
    #[error("`{0}` is a rehearsal, and no rehearsal provider runs here")]
    NoRehearsal(String),
}

/// Why a configuration of models cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It does not read.
    #[error("the models' configuration does not read: {0}")]
    Syntax(String),
    /// A provider's address is none that may be dialled.
    #[error("providers.{provider}.base_url = \"{url}\": {why}")]
    Url {
        /// Whose.
        provider: String,
        /// What stands there.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A provider's key is in two places, or in none.
    #[error("providers.{0}: give either `key_file` or `key_variable`, or `key = \"none\"` if it wants none")]
    KeySource(String),
    /// A name is taken.
    #[error("`{0}` is reserved for the rehearsal provider: choose another name")]
    Reserved(String),
    /// A model names a provider that is not there.
    #[error("models.{model}.provider = \"{provider}\": there is no [providers.{provider}]")]
    NoProvider {
        /// Which model.
        model: String,
        /// Which provider.
        provider: String,
    },
    /// The price table.
    #[error(transparent)]
    Price(#[from] PriceError),
}

/// All of them.
#[derive(Debug, Clone)]
pub struct ModelTable {
    providers: BTreeMap<String, Arc<Provider>>,
    models: BTreeMap<String, (String, String)>,
    prices: PriceTable,
    only_listed: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    only_listed: bool,
    #[serde(default)]
    providers: BTreeMap<String, ProviderEntry>,
    #[serde(default)]
    models: BTreeMap<String, ModelEntry>,
    #[serde(default)]
    prices: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderEntry {
    base_url: String,
    key_file: Option<PathBuf>,
    key_variable: Option<String>,
    key: Option<String>,
    #[serde(default)]
    auth: Auth,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    #[serde(default = "anthropic")]
    provider: String,
    upstream: String,
}

fn anthropic() -> String {
    ANTHROPIC.to_owned()
}

impl ModelTable {
    /// Reads a configuration:
    ///
    /// ```toml
    /// only_listed = false                    # true: nothing but the names below may be asked for
    ///
    /// [providers.anthropic]                  # this one is there without being configured
    /// base_url = "https://api.anthropic.com" # plain http only to this machine itself
    /// key_variable = "ANTHROPIC_API_KEY"     # or key_file = "/path", read again when it changes, or key = "none"
    /// auth = "x-api-key"                     # or "bearer"
    ///
    /// [models.sonnet]                        # a name that people may ask for
    /// provider = "anthropic"
    /// upstream = "claude-sonnet-4-6"         # what the provider is asked for; it needs a price
    ///
    /// [prices."claude-sonnet-4-6"]           # over the shipped table: dollars for a million tokens
    /// input = "3.00"
    /// output = "15.00"
    /// context_window = 1000000
    /// ```
    ///
    /// # Errors
    /// [`TableError`] names what is wrong.
    pub fn from_config(text: &str) -> Result<Self, TableError> {
        let file: File = toml::from_str(text).map_err(|error| TableError::Syntax(error.to_string()))?;
        let mut providers = BTreeMap::new();
        providers.insert(
            ANTHROPIC.to_owned(),
            Arc::new(Provider {
                name: ANTHROPIC.to_owned(),
                dialect: Dialect::Messages,
                base_url: base_url(ANTHROPIC, ANTHROPIC_URL)?,
                auth: Auth::XApiKey,
                key: Key::new(KeySource::Variable(ANTHROPIC_VARIABLE.to_owned())),
            }),
        );
        for (name, entry) in file.providers {
            if name == REHEARSAL {
                return Err(TableError::Reserved(name));
            }
            let source = match (entry.key_file, entry.key_variable, entry.key.as_deref()) {
                (Some(path), None, None) => KeySource::File(path),
                (None, Some(variable), None) => KeySource::Variable(variable),
                (None, None, Some("none")) => KeySource::None,
                _ => return Err(TableError::KeySource(name)),
            };
            let provider = Provider {
                name: name.clone(),
                dialect: Dialect::Messages,
                base_url: base_url(&name, &entry.base_url)?,
                auth: entry.auth,
                key: Key::new(source),
            };
            providers.insert(name, Arc::new(provider));
        }
        let prices = PriceTable::shipped()?.overridden_by(PriceTable::from_entries(&file.prices)?);
        let mut models = BTreeMap::new();
        for (name, entry) in file.models {
            if name == REHEARSAL || name.starts_with("rehearsal/") {
                return Err(TableError::Reserved(name));
            }
            if !providers.contains_key(&entry.provider) {
                return Err(TableError::NoProvider { model: name, provider: entry.provider });
            }
            prices.get(&entry.upstream)?;
            models.insert(name, (entry.provider, entry.upstream));
        }
        Ok(Self { providers, models, prices, only_listed: file.only_listed })
    }

    /// This table with a rehearsal provider, which listens on this machine.
    #[must_use]
    pub fn with_rehearsal(mut self, addr: SocketAddr) -> Self {
        if let Ok(base_url) = base_url(REHEARSAL, &format!("http://{addr}")) {
            let provider = Provider {
                name: REHEARSAL.to_owned(),
                dialect: Dialect::Messages,
                base_url,
                auth: Auth::XApiKey,
                key: Key::new(KeySource::None),
            };
            self.providers.insert(REHEARSAL.to_owned(), Arc::new(provider));
        }
        self
    }

    /// Where a call for this name goes. `rehearsal/NAME` always goes to the rehearsal provider. Any other name is one
    /// that is configured, or (unless only those are wanted) the exact name of a model that has a price.
    ///
    /// # Errors
    /// [`ModelError`], with a text for the client.
    pub fn resolve(&self, name: &str) -> Result<Route, ModelError> {
        let route = |provider: &str, upstream: &str, price: &str| {
            Ok(Route {
                name: name.to_owned(),
                provider: self.providers.get(provider).ok_or_else(|| ModelError::Unknown(name.to_owned()))?.clone(),
                upstream: upstream.to_owned(),
                price: self.prices.get(price).map_err(|_| ModelError::NoPrice(name.to_owned()))?.clone(),
            })
        };
        if let Some(cassette) = name.strip_prefix("rehearsal/") {
            if !self.providers.contains_key(REHEARSAL) {
                return Err(ModelError::NoRehearsal(name.to_owned()));
            }
            return route(REHEARSAL, cassette, REHEARSAL);
        }
        if let Some((provider, upstream)) = self.models.get(name) {
            return route(provider, upstream, upstream);
        }
        if self.only_listed || name == REHEARSAL {
            return Err(ModelError::Unknown(name.to_owned()));
        }
        route(ANTHROPIC, name, name)
    }

    /// The providers, by name.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.values()
    }

    /// The names that are configured, or (unless only those are wanted) have a price.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.models.keys().cloned().collect();
        if !self.only_listed {
            names.extend(self.prices.names().filter(|name| *name != REHEARSAL).map(str::to_owned));
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn base_url(provider: &str, text: &str) -> Result<Url, TableError> {
    let wrong = |why| TableError::Url { provider: provider.to_owned(), url: text.to_owned(), why };
    let url = Url::parse(text).map_err(|_| wrong("expected a URL like https://api.example.com"))?;
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err(wrong("expected a URL with a host")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a key does not belong into a URL: use key_file or key_variable"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("expected a URL without `?` and `#`"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        "http" => {
            Err(wrong("plain http is only allowed to this machine itself, because prompts and the key go over it"))
        }
        _ => Err(wrong("expected https")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_configuration_there_is_anthropic() {
        let table = ModelTable::from_config("").unwrap();
        let route = table.resolve("claude-sonnet-4-6").unwrap();
        assert_eq!((route.provider.name(), route.upstream.as_str()), ("anthropic", "claude-sonnet-4-6"));
        assert_eq!(route.provider.base_url().as_str(), "https://api.anthropic.com/");
        assert_eq!(route.provider.key_source(), &KeySource::Variable("ANTHROPIC_API_KEY".to_owned()));
        assert_eq!(table.resolve("gpt-6").unwrap_err(), ModelError::NoPrice("gpt-6".to_owned()));
        assert_eq!(table.resolve("rehearsal").unwrap_err(), ModelError::Unknown("rehearsal".to_owned()));
        assert!(matches!(table.resolve("rehearsal/x"), Err(ModelError::NoRehearsal(_))));
        let table = table.with_rehearsal("127.0.0.1:7".parse().unwrap());
        let route = table.resolve("rehearsal/x").unwrap();
        assert_eq!((route.provider.name(), route.upstream.as_str()), ("rehearsal", "x"));
    }

    #[test]
    fn a_name_stands_for_an_exact_model() {
        let table = ModelTable::from_config(
            "only_listed = true\n[models.fast]\nupstream = \"tiny\"\nprovider = \"here\"\n\
             [providers.here]\nbase_url = \"http://127.0.0.1:9/anthropic/\"\nkey = \"none\"\nauth = \"bearer\"\n\
             [prices.tiny]\ninput = \"1\"\noutput = \"2\"\ncontext_window = 1000\n",
        )
        .unwrap();
        let route = table.resolve("fast").unwrap();
        assert_eq!((route.provider.name(), route.upstream.as_str()), ("here", "tiny"));
        assert_eq!(route.provider.auth(), Auth::Bearer);
        assert!(matches!(table.resolve("tiny"), Err(ModelError::Unknown(_))));
        assert_eq!(table.names(), ["fast"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text: &str| ModelTable::from_config(text).unwrap_err().to_string();
        let url = |url: &str| wrong(&format!("[providers.p]\nbase_url = \"{url}\"\nkey = \"none\""));
        assert!(url("http://models.example.com").contains("plain http is only allowed"));
        assert!(url("http://localhost.example.com").contains("plain http is only allowed"));
        assert!(url("http://10.0.0.1").contains("plain http is only allowed"));
        assert!(url("ftp://x").contains("expected https"));
        assert!(url("https://key@x").contains("does not belong"));
        assert!(url("nonsense").contains("expected a URL"));
        for here in ["http://localhost:1", "http://127.1.2.3", "http://[::1]:5", "https://x.example/v"] {
            assert!(ModelTable::from_config(&format!("[providers.p]\nbase_url=\"{here}\"\nkey=\"none\"")).is_ok());
        }
        assert!(wrong("[providers.p]\nbase_url=\"https://x\"").contains("key_file"));
        assert!(wrong("[providers.rehearsal]\nbase_url=\"https://x\"\nkey=\"none\"").contains("reserved"));
        assert!(wrong("[models.\"rehearsal/a\"]\nupstream=\"claude-opus-5\"").contains("reserved"));
        assert!(wrong("[models.a]\nupstream=\"claude-opus-5\"\nprovider=\"q\"").contains("no [providers.q]"));
        assert!(wrong("[models.a]\nupstream=\"nobody\"").contains("has no price"));
        assert!(wrong("surprise = 1").contains("surprise"));
    }
}
