//! A provider: what kind of service it is, where it is, what it speaks, and the address of each request there.

use std::{fmt, sync::Arc};

use serde::Deserialize;
use stockade_domain::Timestamp;
use stockade_llm::Dialect;
use url::Url;

use crate::{
    credential::{Checked, Credential, CredentialError, KeyHeader},
    limit::Rotation,
};

/// What kind of service a provider is. The kind says which dialects it speaks and how its addresses are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Anthropic's API, or what speaks like it.
    #[default]
    Anthropic,
    /// OpenAI's API: Chat, Responses, Embeddings.
    Openai,
    /// A server that speaks OpenAI's Chat (vLLM, Ollama, llama.cpp): Chat and Embeddings.
    OpenaiCompatible,
    /// Azure OpenAI, by deployments or in its v1 form.
    Azure,
    /// Google's Gemini API.
    Gemini,
    /// Google Vertex: Gemini, and Claude by `rawPredict`.
    Vertex,
    /// AWS Bedrock: Converse, and Claude by `invoke`.
    Bedrock,
}

impl Kind {
    /// The word, as in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
            Self::OpenaiCompatible => "openai-compatible",
            Self::Azure => "azure",
            Self::Gemini => "gemini",
            Self::Vertex => "vertex",
            Self::Bedrock => "bedrock",
        }
    }
}

/// In which header a kind of provider wants its key unless it is configured otherwise.
pub(super) const fn header_of(kind: Kind) -> KeyHeader {
    match kind {
        Kind::Anthropic => KeyHeader::XApiKey,
        Kind::Openai | Kind::OpenaiCompatible | Kind::Bedrock | Kind::Vertex => KeyHeader::Bearer,
        Kind::Azure => KeyHeader::ApiKey,
        Kind::Gemini => KeyHeader::XGoogApiKey,
    }
}

/// A model provider.
pub struct Provider {
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
    pub(super) base_url: Url,
    /// A pool: each call is proven by one of them. Never empty.
    pub(super) credentials: Vec<Credential>,
    pub(super) rotation: Rotation,
    /// Vertex: the project.
    pub(super) project: Option<String>,
    /// Vertex: the location.
    pub(super) location: Option<String>,
    /// Azure: the version of the deployments' API. Without it the v1 form is used.
    pub(super) api_version: Option<String>,
    /// What a request is written in if the provider does not speak the client's dialect.
    pub(super) converts_to: Option<Dialect>,
    /// Whether it speaks Responses although its kind does not say so.
    pub(super) responses: bool,
    /// Whether it is there although nobody configured it.
    pub(super) built_in: bool,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("base_url", &self.base_url.as_str())
            .finish_non_exhaustive()
    }
}

/// What is asked of a provider besides a model's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Errand {
    /// An answer (or embeddings).
    Answer,
    /// The number of tokens of a request.
    Count,
    /// A conversation made shorter (Responses).
    Compact,
}

impl Errand {
    /// The word in records and numbers. Nothing for an answer.
    pub(crate) const fn word(self) -> Option<&'static str> {
        match self {
            Self::Answer => None,
            Self::Count => Some("count"),
            Self::Compact => Some("compact"),
        }
    }
}

impl Provider {
    /// What it is called in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of service it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is there although nobody configured it.
    #[must_use]
    pub const fn is_built_in(&self) -> bool {
        self.built_in
    }

    /// Where it is.
    #[must_use]
    pub const fn base_url(&self) -> &Url {
        &self.base_url
    }

    /// How it is shown who we are: its credentials, in words.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        self.credentials.iter().map(Credential::about)
    }

    /// Whether its credentials can be had now, for `doctor`: keys are read, tokens got. The provider itself is not asked.
    ///
    /// # Errors
    /// [`CredentialError`] says why not, for the first that cannot be had.
    pub async fn check_credentials(&self, now: Timestamp) -> Result<Vec<Checked>, CredentialError> {
        let mut checked = Vec::with_capacity(self.credentials.len());
        for credential in &self.credentials {
            checked.push(credential.check(now).await?);
        }
        Ok(checked)
    }

    /// What is wrong with the keys that are to be at hand, in files and variables. Nothing is asked of anybody, and one that is there
    /// without being configured may be without its key.
    pub fn wrong_keys(&self) -> impl Iterator<Item = CredentialError> {
        let credentials = if self.built_in { &[][..] } else { &self.credentials };
        credentials.iter().filter_map(|credential| credential.at_hand().err())
    }

    /// The name, shared.
    pub(crate) const fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// One of its credentials.
    pub(crate) fn credential(&self, number: usize) -> Option<&Credential> {
        self.credentials.get(number)
    }

    /// Which credential comes next, and which after it.
    pub(crate) fn rotated(&self, health: impl Fn(usize) -> crate::limit::Health) -> Vec<usize> {
        self.rotation.order(self.credentials.len(), health)
    }

    /// Whether it speaks this dialect to this model.
    #[must_use]
    pub fn speaks(&self, dialect: Dialect, upstream: &str) -> bool {
        match (self.kind, dialect) {
            (Kind::Anthropic, Dialect::Messages)
            | (Kind::Openai | Kind::Azure, Dialect::Chat | Dialect::Responses | Dialect::Embeddings)
            | (Kind::OpenaiCompatible, Dialect::Chat | Dialect::Embeddings)
            | (Kind::Gemini, Dialect::Gemini)
            | (Kind::Bedrock, Dialect::Converse) => true,
            (Kind::OpenaiCompatible, Dialect::Responses) => self.responses,
            (Kind::Bedrock, Dialect::Messages) => upstream.contains("anthropic."),
            (Kind::Vertex, Dialect::Messages) => upstream.starts_with("claude"),
            (Kind::Vertex, Dialect::Gemini) => !upstream.starts_with("claude"),
            _ => false,
        }
    }

    /// The dialect in which a request goes to it: the client's own if it speaks that, so that nothing has to be converted.
    #[must_use]
    pub fn dialect_for(&self, client: Dialect, upstream: &str) -> Dialect {
        if self.speaks(client, upstream) {
            return client;
        }
        if let Some(dialect) = self.converts_to.filter(|dialect| self.speaks(*dialect, upstream)) {
            return dialect;
        }
        match self.kind {
            Kind::Anthropic => Dialect::Messages,
            Kind::Openai | Kind::Azure => Dialect::Responses,
            Kind::OpenaiCompatible => Dialect::Chat,
            Kind::Gemini => Dialect::Gemini,
            Kind::Vertex if upstream.starts_with("claude") => Dialect::Messages,
            Kind::Vertex => Dialect::Gemini,
            Kind::Bedrock if upstream.contains("anthropic.") => Dialect::Messages,
            Kind::Bedrock => Dialect::Converse,
        }
    }

    /// Where a request goes. `query` is the client's own, without anything secret; it is passed on only where the client's
    /// dialect is the provider's. `array` asks Gemini for a stream as an array and not as events. Nothing if this provider has no such errand.
    pub(crate) fn address(
        &self,
        dialect: Dialect,
        upstream: &str,
        stream: bool,
        array: bool,
        errand: Errand,
        query: Option<&str>,
    ) -> Option<String> {
        let base = self.base_url.as_str().trim_end_matches('/');
        let (path, mut own_query) = match errand {
            Errand::Answer => self.path(dialect, upstream, stream)?,
            Errand::Count => self.count_path(dialect, upstream)?,
            Errand::Compact => {
                let (path, query) = self.path(dialect, upstream, false).filter(|_| dialect == Dialect::Responses)?;
                (format!("{path}/compact"), query)
            }
        };
        if array {
            own_query = None;
        }
        let both: Vec<&str> = query.into_iter().chain(own_query.as_deref()).filter(|part| !part.is_empty()).collect();
        let query = if both.is_empty() { String::new() } else { format!("?{}", both.join("&")) };
        Some(format!("{base}{path}{query}"))
    }

    fn path(&self, dialect: Dialect, upstream: &str, stream: bool) -> Option<(String, Option<String>)> {
        let plain = |path: &str| Some((path.to_owned(), None));
        let model = segment(upstream);
        match (self.kind, dialect) {
            (Kind::Anthropic, Dialect::Messages) => plain("/v1/messages"),
            (Kind::Openai | Kind::OpenaiCompatible, Dialect::Chat) => plain("/chat/completions"),
            (Kind::Openai | Kind::OpenaiCompatible, Dialect::Responses) => plain("/responses"),
            (Kind::Openai | Kind::OpenaiCompatible, Dialect::Embeddings) => plain("/embeddings"),
            (Kind::Azure, Dialect::Chat | Dialect::Responses | Dialect::Embeddings) => {
                let word = match dialect {
                    Dialect::Chat => "chat/completions",
                    Dialect::Responses => "responses",
                    _ => "embeddings",
                };
                Some(match &self.api_version {
                    // Responses has the deployment in the body in both forms.
                    Some(version) if dialect == Dialect::Responses => {
                        ("/openai/responses".to_owned(), Some(format!("api-version={version}")))
                    }
                    Some(version) => {
                        (format!("/openai/deployments/{model}/{word}"), Some(format!("api-version={version}")))
                    }
                    None => (format!("/openai/v1/{word}"), None),
                })
            }
            (Kind::Gemini, Dialect::Gemini) => {
                let (method, query) = gemini_method(stream);
                Some((format!("/v1beta/models/{model}:{method}"), query))
            }
            (Kind::Vertex, Dialect::Gemini) => {
                let (method, query) = gemini_method(stream);
                Some((format!("{}/publishers/google/models/{model}:{method}", self.vertex_root()), query))
            }
            (Kind::Vertex, Dialect::Messages) => {
                let method = if stream { "streamRawPredict" } else { "rawPredict" };
                Some((format!("{}/publishers/anthropic/models/{model}:{method}", self.vertex_root()), None))
            }
            (Kind::Bedrock, Dialect::Converse) => {
                let method = if stream { "converse-stream" } else { "converse" };
                Some((format!("/model/{model}/{method}"), None))
            }
            (Kind::Bedrock, Dialect::Messages) => {
                let method = if stream { "invoke-with-response-stream" } else { "invoke" };
                Some((format!("/model/{model}/{method}"), None))
            }
            _ => None,
        }
    }

    fn count_path(&self, dialect: Dialect, upstream: &str) -> Option<(String, Option<String>)> {
        let model = segment(upstream);
        match (self.kind, dialect) {
            (Kind::Anthropic, Dialect::Messages) => Some(("/v1/messages/count_tokens".to_owned(), None)),
            (Kind::Gemini, Dialect::Gemini) => Some((format!("/v1beta/models/{model}:countTokens"), None)),
            (Kind::Vertex, Dialect::Gemini) => {
                Some((format!("{}/publishers/google/models/{model}:countTokens", self.vertex_root()), None))
            }
            // Bedrock's counts most current models not at all, and Vertex's count of Claude takes neither versions nor the global
            // location: a wrong number would mislead, so there is none.
            _ => None,
        }
    }

    pub(super) fn vertex_root(&self) -> String {
        match (&self.project, &self.location) {
            (Some(project), Some(location)) => format!("/v1/projects/{project}/locations/{location}"),
            // Vertex in express mode: a key instead of a project.
            _ => "/v1".to_owned(),
        }
    }
}

fn gemini_method(stream: bool) -> (&'static str, Option<String>) {
    if stream { ("streamGenerateContent", Some("alt=sse".to_owned())) } else { ("generateContent", None) }
}

/// A name as one segment of a path (RFC 3986, section 3.3), with `:` and `@` as they are.
pub(super) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(kind: Kind) -> Provider {
        Provider {
            name: "p".into(),
            kind,
            base_url: Url::parse("https://x.example/base/").unwrap(),
            credentials: vec![Credential::key(header_of(kind), crate::KeySource::None)],
            rotation: Rotation::default(),
            project: Some("proj".to_owned()),
            location: Some("us-east5".to_owned()),
            api_version: None,
            converts_to: None,
            responses: false,
            built_in: false,
        }
    }

    #[test]
    fn every_kind_has_its_addresses() {
        let at = |kind, dialect, model: &str, stream| {
            provider(kind).address(dialect, model, stream, false, Errand::Answer, Some("beta=true")).unwrap()
        };
        let base = "https://x.example/base";
        assert_eq!(at(Kind::Anthropic, Dialect::Messages, "m", true), format!("{base}/v1/messages?beta=true"));
        assert_eq!(
            at(Kind::Bedrock, Dialect::Converse, "us.anthropic.claude-v1:0", true),
            format!("{base}/model/us.anthropic.claude-v1:0/converse-stream?beta=true")
        );
        assert_eq!(
            at(Kind::Bedrock, Dialect::Messages, "arn:aws:bedrock:x/y", false),
            format!("{base}/model/arn:aws:bedrock:x%2Fy/invoke?beta=true")
        );
        assert_eq!(
            at(Kind::Vertex, Dialect::Messages, "claude-x@1", true),
            format!(
                "{base}/v1/projects/proj/locations/us-east5/publishers/anthropic/models/claude-x@1:streamRawPredict?beta=true"
            )
        );
        assert_eq!(
            at(Kind::Gemini, Dialect::Gemini, "gemini-x", true),
            format!("{base}/v1beta/models/gemini-x:streamGenerateContent?beta=true&alt=sse")
        );
        let mut azure = provider(Kind::Azure);
        let chat = |azure: &Provider| azure.address(Dialect::Chat, "dep", false, false, Errand::Answer, None).unwrap();
        assert_eq!(chat(&azure), format!("{base}/openai/v1/chat/completions"));
        azure.api_version = Some("2024-10-21".to_owned());
        assert_eq!(chat(&azure), format!("{base}/openai/deployments/dep/chat/completions?api-version=2024-10-21"));
    }

    #[test]
    fn a_dialect_that_the_provider_speaks_is_never_converted() {
        for kind in [
            Kind::Anthropic,
            Kind::Openai,
            Kind::OpenaiCompatible,
            Kind::Azure,
            Kind::Gemini,
            Kind::Vertex,
            Kind::Bedrock,
        ] {
            for model in ["claude-x", "us.anthropic.claude-x", "gemini-x", "other"] {
                for client in Dialect::ALL {
                    let out = provider(kind).dialect_for(*client, model);
                    assert!(provider(kind).speaks(out, model), "{kind:?} {model} {client:?} -> {out:?}");
                    assert!(!provider(kind).speaks(*client, model) || out == *client);
                    assert!(provider(kind).address(out, model, true, false, Errand::Answer, None).is_some());
                }
            }
        }
    }
}
