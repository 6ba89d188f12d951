//! The gateway's configuration, read as a whole: it is either right and used, or wrong and names what is.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::Deserialize;
use stockade_llm::{Dialect, PriceTable, prices::Entry};
use url::{Host, Url};

use super::{
    ATTEMPTS, Goal, Kind, MAX_TARGETS, Model, ModelTable, Provider, REHEARSAL, TableError,
    provider::header_of,
    wording::{address, toml_error},
};
use crate::{
    credential::{Credential, CredentialConfig, KeyHeader, KeySource, Surroundings, is_variable},
    limit::{LimitRules, Rotation},
};

/// The providers that are there without being configured: name, kind, and the variable with the key.
const BUILT_IN: [(&str, Kind, &str); 3] = [
    ("anthropic", Kind::Anthropic, "ANTHROPIC_API_KEY"),
    ("openai", Kind::Openai, "OPENAI_API_KEY"),
    ("gemini", Kind::Gemini, "GEMINI_API_KEY"),
];

/// A site's whole configuration file, as far as it is the gateway's.
#[derive(Deserialize)]
struct Site {
    #[serde(default)]
    gateway: File,
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
    #[serde(default)]
    limits: LimitRules,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderEntry {
    kind: Option<Kind>,
    base_url: Option<String>,
    key_file: Option<PathBuf>,
    key_variable: Option<String>,
    key: Option<String>,
    auth: Option<KeyHeader>,
    credential: Option<CredentialConfig>,
    credentials: Option<Vec<CredentialConfig>>,
    region: Option<String>,
    project: Option<String>,
    location: Option<String>,
    api_version: Option<String>,
    converts_to: Option<Target>,
    responses: Option<bool>,
}

/// The dialects into which a request may be converted.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Target {
    Messages,
    Chat,
    Responses,
    Gemini,
    Converse,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    provider: Option<String>,
    upstream: Option<String>,
    price: Option<String>,
    reasoning: Option<bool>,
    targets: Option<Vec<TargetEntry>>,
    #[serde(default)]
    fallbacks: Vec<String>,
    attempts: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetEntry {
    provider: String,
    upstream: String,
    price: Option<String>,
    reasoning: Option<bool>,
    #[serde(default = "one")]
    weight: u32,
}

const fn one() -> u32 {
    1
}

impl ModelTable {
    /// Reads a configuration:
    ///
    /// ```toml
    /// only_listed = false                    # true: nothing but the names below may be asked for
    ///
    /// [providers.anthropic]                  # `anthropic`, `openai` and `gemini` are there without being configured
    /// kind = "anthropic"                     # or openai, openai-compatible, azure, gemini, vertex, bedrock
    /// base_url = "https://api.anthropic.com" # plain http only to this machine itself
    /// key_variable = "ANTHROPIC_API_KEY"     # or key_file = "/path", read again when it changes, or key = "none"
    /// auth = "x-api-key"                     # or "bearer", "api-key", "x-goog-api-key"
    ///
    /// [models.sonnet]                        # a name that people may ask for
    /// provider = "anthropic"
    /// upstream = "claude-sonnet-4-6"         # what the provider is asked for; it needs a price
    /// fallbacks = ["haiku"]                  # other names of this table, tried in order before the first byte
    ///
    /// [models.haiku]
    /// attempts = 2
    /// targets = [                            # several places for one name, chosen by weight
    ///   { provider = "anthropic", upstream = "claude-haiku-5-5", weight = 3 },
    ///   { provider = "cloud", upstream = "us.anthropic.claude-haiku-5-5-v1:0", price = "claude-haiku-5-5" },
    /// ]
    ///
    /// [providers.cloud]
    /// kind = "bedrock"
    /// region = "eu-central-1"
    /// credential = { kind = "aws-web-identity" }   # or credentials = [ … ], a pool; see `CredentialConfig`
    ///
    /// [prices."claude-sonnet-4-6"]           # over the shipped table: dollars for a million tokens
    /// input = "3.00"
    /// output = "15.00"
    /// context_window = 1000000
    ///
    /// [limits]                               # see `LimitRules`
    /// ```
    ///
    /// # Errors
    /// [`TableError`] names what is wrong.
    pub fn from_config(text: &str) -> Result<Self, TableError> {
        Self::made(toml::from_str(text).map_err(|error| TableError::Syntax(toml_error(text, &error)))?)
    }

    /// Reads the table `[gateway]` of a site's whole file, so that what is wrong is said with the file's own lines. What else stands
    /// in the file is somebody else's to read.
    ///
    /// # Errors
    /// [`TableError`] names what is wrong.
    pub fn from_file(text: &str) -> Result<Self, TableError> {
        let site: Site = toml::from_str(text).map_err(|error| TableError::Syntax(toml_error(text, &error)))?;
        Self::made(site.gateway)
    }

    fn made(file: File) -> Result<Self, TableError> {
        file.limits.check()?;
        let around = Surroundings::of_process();
        let mut providers = BTreeMap::new();
        for (name, kind, variable) in BUILT_IN {
            let url = default_url(kind, None).ok_or(TableError::KeySource(name.to_owned()))?;
            let provider = Provider {
                name: name.into(),
                kind,
                base_url: base_url(name, &url)?,
                credentials: vec![Credential::key(header_of(kind), KeySource::Variable(variable.to_owned()))],
                rotation: Rotation::default(),
                project: None,
                location: None,
                api_version: None,
                converts_to: None,
                responses: false,
                built_in: true,
            };
            providers.insert(name.to_owned(), Arc::new(provider));
        }
        for (name, entry) in file.providers {
            if name == REHEARSAL {
                return Err(TableError::Reserved(name));
            }
            let provider = entry.provider(&name, &around)?;
            providers.insert(name, Arc::new(provider));
        }
        let prices = PriceTable::shipped()?.overridden_by(PriceTable::from_entries(&file.prices)?);
        let mut models = BTreeMap::new();
        for (name, entry) in file.models {
            if name == REHEARSAL || name.starts_with("rehearsal/") {
                return Err(TableError::Reserved(name));
            }
            let model = entry.model(&name)?;
            for goal in &model.targets {
                if !providers.contains_key(&goal.provider) {
                    return Err(TableError::NoProvider { model: name, provider: goal.provider.clone() });
                }
                prices.get(&goal.price)?;
            }
            models.insert(name, model);
        }
        for (name, model) in &models {
            for fallback in &model.fallbacks {
                if fallback == name || !models.contains_key(fallback) {
                    return Err(TableError::Fallback { model: name.clone(), fallback: fallback.clone() });
                }
            }
        }
        Ok(Self { providers, models, prices, only_listed: file.only_listed, limits: file.limits })
    }
}

impl ModelEntry {
    fn model(self, name: &str) -> Result<Model, TableError> {
        let wrong = || TableError::Targets(name.to_owned());
        let goal = |provider: String, upstream: String, price: Option<String>, weight, reasoning: Option<bool>| Goal {
            price: price.unwrap_or_else(|| upstream.clone()),
            provider,
            upstream,
            weight,
            reasoning: reasoning.unwrap_or(true),
        };
        let targets = match (self.upstream, self.targets) {
            (Some(upstream), None) => {
                let provider = self.provider.unwrap_or_else(|| provider_of(&upstream).to_owned());
                vec![goal(provider, upstream, self.price, 1, self.reasoning)]
            }
            (None, Some(entries)) if self.provider.is_none() && self.price.is_none() && self.reasoning.is_none() => {
                entries.into_iter().map(|e| goal(e.provider, e.upstream, e.price, e.weight, e.reasoning)).collect()
            }
            _ => return Err(wrong()),
        };
        if targets.is_empty() || targets.len() > MAX_TARGETS || targets.iter().any(|target| target.weight == 0) {
            return Err(wrong());
        }
        Ok(Model { targets, fallbacks: self.fallbacks, attempts: self.attempts.unwrap_or(ATTEMPTS).max(1) })
    }
}

impl ProviderEntry {
    fn provider(self, name: &str, around: &Surroundings) -> Result<Provider, TableError> {
        // Without a kind it is what its name says: an overridden built-in one, or else one that speaks like Anthropic's.
        let named = BUILT_IN.iter().find(|(known, ..)| *known == name).map(|(_, kind, _)| *kind);
        let kind = self.kind.or(named).unwrap_or_default();
        let needs = |field| TableError::Needs { provider: name.to_owned(), kind: kind.as_str(), field };
        let useless = |field| TableError::Useless { provider: name.to_owned(), kind: kind.as_str(), field };
        if self.region.is_some() && kind != Kind::Bedrock {
            return Err(useless("region"));
        }
        if (self.project.is_some() || self.location.is_some()) && kind != Kind::Vertex {
            return Err(useless("project` and `location"));
        }
        if self.api_version.is_some() && kind != Kind::Azure {
            return Err(useless("api_version"));
        }
        if self.project.is_some() != self.location.is_some() {
            return Err(needs("project` and `location"));
        }
        let header = self.auth.unwrap_or_else(|| header_of(kind));
        let made = |config: CredentialConfig| {
            let place = self.region.as_deref();
            Credential::new(&config.in_region(place), around)
                .map_err(|source| TableError::Credential { provider: name.to_owned(), source })
        };
        let key = |source| Ok(vec![Credential::key(header, source)]);
        let credentials =
            match (self.key_file, self.key_variable, self.key.as_deref(), self.credential, self.credentials) {
                (Some(path), None, None, None, None) if path.is_absolute() => key(KeySource::File(path)),
                (Some(_), None, None, None, None) => Err(TableError::KeyFile(name.to_owned())),
                (None, Some(variable), None, None, None) if is_variable(&variable) => {
                    key(KeySource::Variable(variable))
                }
                (None, Some(_), None, None, None) => Err(TableError::KeyVariable(name.to_owned())),
                (None, None, Some("none"), None, None) => key(KeySource::None),
                (None, None, None, Some(one), None) => Ok(vec![made(one)?]),
                (None, None, None, None, Some(pool)) if !pool.is_empty() => pool.into_iter().map(made).collect(),
                (None, None, None, None, None) => match kind {
                    Kind::OpenaiCompatible => key(KeySource::None),
                    Kind::Bedrock => Ok(vec![made(CredentialConfig::AwsDefault { region: None, service: None })?]),
                    Kind::Vertex => Ok(vec![made(CredentialConfig::GoogleDefault)?]),
                    _ => Err(TableError::KeySource(name.to_owned())),
                },
                _ => Err(TableError::KeySource(name.to_owned())),
            }?;
        let place = self.region.as_deref().or(self.location.as_deref());
        let url = match self.base_url {
            Some(url) => url,
            None => default_url(kind, place)
                .ok_or_else(|| needs(if kind == Kind::Bedrock { "region` or `base_url" } else { "base_url" }))?,
        };
        let converts_to = self.converts_to.map(|target| match target {
            Target::Messages => Dialect::Messages,
            Target::Chat => Dialect::Chat,
            Target::Responses => Dialect::Responses,
            Target::Gemini => Dialect::Gemini,
            Target::Converse => Dialect::Converse,
        });
        Ok(Provider {
            name: name.into(),
            kind,
            base_url: base_url(name, &url)?,
            credentials,
            rotation: Rotation::default(),
            project: self.project,
            location: self.location,
            api_version: self.api_version,
            converts_to,
            responses: self.responses.unwrap_or(false),
            built_in: false,
        })
    }
}

/// To which of the built-in providers a name that nobody configured goes, by its beginning.
pub(super) fn provider_of(model: &str) -> &'static str {
    if model.starts_with("gemini") {
        return "gemini";
    }
    let openai = ["gpt-", "chatgpt-", "o1", "o3", "o4", "codex-", "text-embedding-"];
    if openai.iter().any(|prefix| model.starts_with(prefix)) { "openai" } else { "anthropic" }
}

/// Where a kind of provider is unless the configuration says otherwise.
fn default_url(kind: Kind, place: Option<&str>) -> Option<String> {
    match kind {
        Kind::Anthropic => Some("https://api.anthropic.com".to_owned()),
        Kind::Openai => Some("https://api.openai.com/v1".to_owned()),
        Kind::Gemini => Some("https://generativelanguage.googleapis.com".to_owned()),
        Kind::Vertex => Some(match place {
            None | Some("global") => "https://aiplatform.googleapis.com".to_owned(),
            Some(place @ ("us" | "eu")) => format!("https://aiplatform.{place}.rep.googleapis.com"),
            Some(place) => format!("https://{place}-aiplatform.googleapis.com"),
        }),
        Kind::Bedrock => place.map(|region| format!("https://bedrock-runtime.{region}.amazonaws.com")),
        Kind::Azure | Kind::OpenaiCompatible => None,
    }
}

/// Reads an address that may be dialled.
pub(super) fn base_url(provider: &str, text: &str) -> Result<Url, TableError> {
    let wrong = |why| TableError::Url { provider: provider.to_owned(), url: address(text), why };
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
