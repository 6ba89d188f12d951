//! The names that people may ask for: which provider, which exact model, which price.

mod config;
mod probe;
mod provider;
mod route;
mod wording;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use stockade_llm::{PriceError, PriceTable, Tier};

pub(crate) use self::provider::Errand;
pub use self::{
    probe::{Question, Said},
    provider::{Kind, Provider},
    route::{Route, Target},
    wording::toml_error,
};
use crate::{
    credential::{Credential, CredentialError, KeyHeader, KeySource},
    limit::{LimitRules, Rotation, RulesError},
};

/// The name of the rehearsal provider, and of its price.
pub const REHEARSAL: &str = "rehearsal";

/// How many targets of a name are tried unless it says otherwise.
pub const ATTEMPTS: usize = 3;
/// The most targets that a name may have, its fallbacks' included.
pub const MAX_TARGETS: usize = 16;

/// Why a name cannot be called. The texts are meant for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Nobody configured it.
    #[error("the model `{0}` is not known here: the gateway's list of models says which are")]
    Unknown(String),
    /// No price, no call.
    #[error("the model `{0}` has no price here, so it cannot be called: the gateway's list of models says which can")]
    NoPrice(String),
    /// The rehearsal provider does not run.
    #[error("`{0}` is a rehearsal, and no rehearsal provider runs here")]
    NoRehearsal(String),
}

/// Why a configuration of models cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It does not read.
    #[error("{0}")]
    Syntax(String),
    /// A provider's address is none that may be dialled.
    #[error("providers.{provider}.base_url = \"{url}\": {why}")]
    Url {
        /// Whose.
        provider: String,
        /// What stands there, without what may be a secret in it.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A provider's key is in two places, or in none.
    #[error(
        "providers.{0}: give one of `key_file`, `key_variable`, `credential` and `credentials`, or `key = \"none\"` if it wants none"
    )]
    KeySource(String),
    /// A provider's key file is none that can be found from everywhere. What stands there may be the key itself and is not shown.
    #[error("providers.{0}.key_file: expected the whole path of a file, beginning with `/`, and never the key itself")]
    KeyFile(String),
    /// A provider's key variable has no name of a variable. What stands there may be the key itself and is not shown.
    #[error(
        "providers.{0}.key_variable: expected the name of an environment variable (letters, digits and `_`), and never the key itself"
    )]
    KeyVariable(String),
    /// A name is taken.
    #[error("`{0}` is reserved for the rehearsal provider: choose another name")]
    Reserved(String),
    /// A provider lacks something that its kind needs.
    #[error("providers.{provider}: a provider of the kind `{kind}` needs `{field}`")]
    Needs {
        /// Which provider.
        provider: String,
        /// Its kind.
        kind: &'static str,
        /// What it lacks.
        field: &'static str,
    },
    /// A provider is given something that its kind has no use for.
    #[error("providers.{provider}: `{field}` means nothing to a provider of the kind `{kind}`: remove it")]
    Useless {
        /// Which provider.
        provider: String,
        /// Its kind.
        kind: &'static str,
        /// What it does not use.
        field: &'static str,
    },
    /// A model has no target, or says it in two ways, or too many.
    #[error(
        "models.{0}: give either `upstream` (and `provider`) or `targets`, of 1 to {MAX_TARGETS}, each with a weight above 0"
    )]
    Targets(String),
    /// A model falls back to one that is not there, or to itself.
    #[error("models.{model}.fallbacks: there is no other [models.{fallback}]")]
    Fallback {
        /// Which model.
        model: String,
        /// To which.
        fallback: String,
    },
    /// A model names a provider that is not there.
    #[error("models.{model}.provider = \"{provider}\": there is no [providers.{provider}]")]
    NoProvider {
        /// Which model.
        model: String,
        /// Which provider.
        provider: String,
    },
    /// A provider's credential cannot be made.
    #[error("providers.{provider}.credential")]
    Credential {
        /// Whose.
        provider: String,
        /// Why.
        #[source]
        source: CredentialError,
    },
    /// The limits.
    #[error(transparent)]
    Limits(#[from] RulesError),
    /// The price table.
    #[error(transparent)]
    Price(#[from] PriceError),
}

/// All of them.
#[derive(Debug, Clone)]
pub struct ModelTable {
    providers: BTreeMap<String, Arc<Provider>>,
    models: BTreeMap<String, Model>,
    prices: PriceTable,
    only_listed: bool,
    limits: LimitRules,
}

/// A name as it is configured.
#[derive(Debug, Clone)]
struct Model {
    targets: Vec<Goal>,
    fallbacks: Vec<String>,
    attempts: usize,
}

/// A target as it is configured.
#[derive(Debug, Clone)]
struct Goal {
    provider: String,
    upstream: String,
    price: String,
    weight: u32,
    reasoning: bool,
}

impl ModelTable {
    /// This table with a rehearsal provider, which listens on this machine.
    #[must_use]
    pub fn with_rehearsal(mut self, addr: SocketAddr) -> Self {
        if let Ok(base_url) = config::base_url(REHEARSAL, &format!("http://{addr}")) {
            let provider = Provider {
                name: REHEARSAL.into(),
                kind: Kind::Anthropic,
                base_url,
                credentials: vec![Credential::key(KeyHeader::XApiKey, KeySource::None)],
                rotation: Rotation::default(),
                project: None,
                location: None,
                api_version: None,
                converts_to: None,
                responses: false,
                built_in: false,
            };
            self.providers.insert(REHEARSAL.to_owned(), Arc::new(provider));
        }
        self
    }

    /// This table with the rehearsal provider of an older one, if that had one.
    #[must_use]
    pub fn with_rehearsal_of(mut self, older: &Self) -> Self {
        if let Some(provider) = older.providers.get(REHEARSAL) {
            self.providers.insert(REHEARSAL.to_owned(), Arc::clone(provider));
        }
        self
    }

    /// Where a call for this name can go. `rehearsal/NAME` always goes to the rehearsal provider. Any other name is one
    /// that is configured, or (unless only those are wanted) the exact name of a model that has a price.
    ///
    /// # Errors
    /// [`ModelError`], with a text for the client.
    pub fn resolve(&self, name: &str) -> Result<Route, ModelError> {
        if let Some(cassette) = name.strip_prefix("rehearsal/") {
            if !self.providers.contains_key(REHEARSAL) {
                return Err(ModelError::NoRehearsal(name.to_owned()));
            }
            let goal = Goal::plain(REHEARSAL, cassette, REHEARSAL);
            return Ok(Route { name: name.to_owned(), targets: vec![self.target(name, &goal, 0)?], attempts: 1 });
        }
        if let Some(model) = self.models.get(name) {
            let mut targets = Vec::new();
            let fallbacks = model.fallbacks.iter().filter_map(|fallback| self.models.get(fallback));
            for (rank, model) in (0..).zip(std::iter::once(model).chain(fallbacks)) {
                for goal in &model.targets {
                    targets.push(self.target(name, goal, rank)?);
                }
            }
            targets.truncate(MAX_TARGETS);
            return Ok(Route { name: name.to_owned(), targets, attempts: model.attempts });
        }
        if self.only_listed || name == REHEARSAL {
            return Err(ModelError::Unknown(name.to_owned()));
        }
        let goal = Goal::plain(config::provider_of(name), name, name);
        Ok(Route { name: name.to_owned(), targets: vec![self.target(name, &goal, 0)?], attempts: ATTEMPTS })
    }

    fn target(&self, name: &str, goal: &Goal, rank: u32) -> Result<Target, ModelError> {
        let price = self.prices.get(&goal.price).map_err(|_| ModelError::NoPrice(name.to_owned()))?.clone();
        let provider = self.providers.get(&goal.provider).ok_or_else(|| ModelError::Unknown(name.to_owned()))?.clone();
        Ok(Target {
            provider,
            upstream: goal.upstream.clone(),
            price,
            tier: Tier::Standard,
            weight: goal.weight,
            reasoning: goal.reasoning,
            rank,
        })
    }

    /// How much may be asked, by whom.
    #[must_use]
    pub const fn limits(&self) -> &LimitRules {
        &self.limits
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

impl Goal {
    fn plain(provider: &str, upstream: &str, price: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            upstream: upstream.to_owned(),
            price: price.to_owned(),
            weight: 1,
            reasoning: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_configuration_there_is_anthropic() {
        let table = ModelTable::from_config("").unwrap();
        let route = table.resolve("claude-sonnet-4-6").unwrap();
        assert_eq!(
            (route.targets[0].provider.name(), route.targets[0].upstream.as_str()),
            ("anthropic", "claude-sonnet-4-6")
        );
        assert_eq!(route.targets[0].provider.base_url().as_str(), "https://api.anthropic.com/");
        let shown: Vec<_> = route.targets[0].provider.credentials().collect();
        assert_eq!(shown, ["the key in the environment variable `ANTHROPIC_API_KEY`"]);
        assert_eq!(table.resolve("gpt-6").unwrap_err(), ModelError::NoPrice("gpt-6".to_owned()));
        assert_eq!(table.resolve("rehearsal").unwrap_err(), ModelError::Unknown("rehearsal".to_owned()));
        assert!(matches!(table.resolve("rehearsal/x"), Err(ModelError::NoRehearsal(_))));
        let table = table.with_rehearsal("127.0.0.1:7".parse().unwrap());
        let route = table.resolve("rehearsal/x").unwrap();
        assert_eq!((route.targets[0].provider.name(), route.targets[0].upstream.as_str()), ("rehearsal", "x"));
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
        assert_eq!((route.targets[0].provider.name(), route.targets[0].upstream.as_str()), ("here", "tiny"));
        assert!(matches!(table.resolve("tiny"), Err(ModelError::Unknown(_))));
        assert_eq!(table.names(), ["fast"]);
    }

    #[test]
    fn a_name_has_several_places_by_weight_and_then_its_fallbacks() {
        let table = ModelTable::from_config(
            "[models.a]\nfallbacks = [\"b\"]\nattempts = 2\ntargets = [\n\
             { provider = \"anthropic\", upstream = \"one\", price = \"claude-opus-5\", weight = 1 },\n\
             { provider = \"cloud\", upstream = \"two\", price = \"claude-opus-5\", weight = 3 }]\n\
             [models.b]\nupstream = \"claude-sonnet-4-6\"\n\
             [providers.cloud]\nkind = \"bedrock\"\nregion = \"eu-central-1\"\nkey_variable = \"X\"\n",
        )
        .unwrap();
        let route = table.resolve("a").unwrap();
        assert_eq!(route.attempts, 2);
        let places: Vec<_> = route.targets.iter().map(|t| (t.upstream.as_str(), t.weight, t.rank)).collect();
        assert_eq!(places, [("one", 1, 0), ("two", 3, 0), ("claude-sonnet-4-6", 1, 1)]);
        let cloud = &route.targets[1].provider;
        assert_eq!(cloud.base_url().as_str(), "https://bedrock-runtime.eu-central-1.amazonaws.com/");
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
        assert!(wrong("[models.a]\nprovider=\"anthropic\"").contains("either `upstream`"));
        assert!(wrong("[models.a]\ntargets=[]").contains("either `upstream`"));
        assert!(wrong("[models.a]\nupstream=\"claude-opus-5\"\nfallbacks=[\"a\"]").contains("no other"));
        assert!(wrong("[providers.p]\nkind=\"bedrock\"\nkey=\"none\"").contains("`region` or `base_url`"));
        assert!(wrong("[providers.p]\nkind=\"azure\"\nkey=\"none\"").contains("needs `base_url`"));
        assert!(wrong("[providers.openai]\nregion=\"x\"\nkey=\"none\"").contains("means nothing"));
        assert!(wrong("surprise = 1").contains("surprise"));
    }
}
