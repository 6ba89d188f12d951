//! Asking a provider something that costs nothing: whether it takes our credential, and which models it knows.
//!
//! This makes requests and reads answers; whoever asks sends them. It refuses anything that a provider would bill: a real call goes
//! through the gateway, where it is decided, paid for and recorded.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use serde_json::Value;
use stockade_domain::Timestamp;

use super::{Kind, ModelTable, Provider, provider::segment};
use crate::credential::CredentialError;

/// What a provider is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// Which models there are. Where the kind has no such list, something small that needs a credential.
    Models,
    /// Whether it knows this model.
    Model(&'a str),
}

/// What it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It takes the credential. With the names of its models, if it listed them.
    Welcome(Option<Vec<String>>),
    /// It takes the credential, and does not know the model.
    UnknownModel,
    /// It does not take the credential.
    Unwelcome(String),
    /// It takes the credential and has no room now.
    Busy(String),
    /// It has a failure of its own.
    Failing(String),
    /// Something else: what it was asked is not there, which points to a wrong address or kind.
    Strange(String),
}

/// The longest part of a provider's own words that is shown.
const MAX_WORDS: usize = 300;

impl Provider {
    /// How many credentials it has.
    #[must_use]
    pub fn credential_count(&self) -> usize {
        self.credentials.len()
    }

    /// A request that asks this, proven by the credential of this number. Nothing if this kind of provider cannot be asked this without
    /// a call.
    ///
    /// # Errors
    /// [`CredentialError`] if there is no proof.
    pub async fn question(
        &self,
        question: Question<'_>,
        credential: usize,
        now: Timestamp,
    ) -> Result<Option<Request<Bytes>>, CredentialError> {
        let Some((method, path, body)) = self.asked(question) else { return Ok(None) };
        let base = self.base_url.as_str().trim_end_matches('/');
        let mut request = Request::builder().method(method).uri(format!("{base}{path}"));
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if self.kind == Kind::Anthropic {
            request = request.header("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        let body = Bytes::from_static(body.as_bytes());
        let Ok(request) = request.body(body.clone()) else { return Ok(None) };
        let (mut parts, _) = request.into_parts();
        if let Some(credential) = self.credential(credential) {
            credential.sign(&mut parts, &body, now).await?;
        }
        Ok(Some(Request::from_parts(parts, body)))
    }

    fn asked(&self, question: Question<'_>) -> Option<(Method, String, &'static str)> {
        let get = |path: String| Some((Method::GET, path, ""));
        match (self.kind, question) {
            (Kind::Anthropic, Question::Models) => get("/v1/models?limit=1000".to_owned()),
            (Kind::Anthropic, Question::Model(name)) => get(format!("/v1/models/{}", segment(name))),
            (Kind::Openai | Kind::OpenaiCompatible, Question::Models) => get("/models".to_owned()),
            (Kind::Openai, Question::Model(name)) => get(format!("/models/{}", segment(name))),
            (Kind::Gemini, Question::Models) => get("/v1beta/models?pageSize=1000".to_owned()),
            (Kind::Gemini, Question::Model(name)) => get(format!("/v1beta/models/{}", segment(name))),
            // The list is of models and not of deployments, which are what is called: it proves the key and nothing more.
            (Kind::Azure, Question::Models) => get(match &self.api_version {
                Some(version) => format!("/openai/models?api-version={version}"),
                None => "/openai/v1/models".to_owned(),
            }),
            // Counting is free, and needs the same rights as a call.
            (Kind::Vertex, Question::Model(name)) if !name.starts_with("claude") => Some((
                Method::POST,
                format!("{}/publishers/google/models/{}:countTokens", self.vertex_root(), segment(name)),
                "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"x\"}]}]}",
            )),
            // The list is at another address and needs other rights. A call without messages is refused before it begins, by whoever
            // takes the credential and knows the model, with other words than by whoever does not.
            (Kind::Bedrock, Question::Model(name)) => {
                Some((Method::POST, format!("/model/{}/converse", segment(name)), "{\"messages\":[]}"))
            }
            (Kind::Vertex | Kind::Bedrock, _) | (Kind::Azure | Kind::OpenaiCompatible, Question::Model(_)) => None,
        }
    }

    /// What its answer means.
    #[must_use]
    pub fn understood(&self, question: Question<'_>, status: u16, body: &[u8]) -> Said {
        let words = words(body);
        let about_model = || {
            let lower = words.to_ascii_lowercase();
            lower.contains("model") && (lower.contains("invalid") || lower.contains("not found"))
        };
        match (status, question) {
            (200..=299, Question::Models) => Said::Welcome(names(self.kind, body)),
            (200..=299, Question::Model(_)) => Said::Welcome(None),
            // What was asked of Bedrock is refused in any case; here is whether it came so far.
            (400, Question::Model(_)) if self.kind == Kind::Bedrock && !about_model() => Said::Welcome(None),
            (400 | 404, Question::Model(_)) => Said::UnknownModel,
            // The Gemini API says this of a key that it does not know.
            (400, _) if words.to_ascii_lowercase().contains("api key") => Said::Unwelcome(words),
            (401 | 403, _) => Said::Unwelcome(words),
            (429 | 529, _) => Said::Busy(words),
            (500.., _) => Said::Failing(format!("status {status}: {words}")),
            _ => Said::Strange(format!("status {status}: {words}")),
        }
    }
}

impl ModelTable {
    /// The names that are configured for this provider, and what each is called there.
    #[must_use]
    pub fn names_at(&self, provider: &str) -> Vec<(String, String)> {
        let at = |goal: &&super::Goal| goal.provider == provider;
        let names = self.models.iter().flat_map(|(name, model)| {
            model.targets.iter().filter(at).map(|goal| (name.clone(), goal.upstream.clone())).collect::<Vec<_>>()
        });
        names.collect()
    }
}

/// The names of models in a list.
fn names(kind: Kind, body: &[u8]) -> Option<Vec<String>> {
    let list: Value = serde_json::from_slice(body).ok()?;
    let (field, name) = match kind {
        Kind::Gemini => ("models", "name"),
        Kind::Azure => return None,
        _ => ("data", "id"),
    };
    let entries = list.get(field)?.as_array()?;
    let names = entries.iter().filter_map(|entry| entry.get(name)?.as_str());
    Some(names.map(|name| name.strip_prefix("models/").unwrap_or(name).to_owned()).collect())
}

/// The provider's own words: the message of its error, or what came, cut short.
fn words(body: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let message = value.as_ref().and_then(|value| {
        let value = value.get(0).unwrap_or(value);
        let error = value.get("error").unwrap_or(value);
        error.get("message").or_else(|| value.get("message")).or_else(|| value.get("Message"))?.as_str()
    });
    let text = message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ModelTable {
        ModelTable::from_config(
            "[providers.a]\nbase_url = \"https://a.example\"\nkey = \"none\"\n\
             [providers.g]\nkind = \"gemini\"\nbase_url = \"https://g.example\"\nkey = \"none\"\n\
             [providers.o]\nkind = \"openai-compatible\"\nbase_url = \"http://127.0.0.1:1/v1\"\nkey = \"none\"\n\
             [models.fast]\nprovider = \"a\"\nupstream = \"claude-sonnet-4-6\"\n",
        )
        .unwrap()
    }

    fn provider(name: &str) -> std::sync::Arc<Provider> {
        table().providers().find(|provider| provider.name() == name).unwrap().clone()
    }

    #[tokio::test]
    async fn what_is_asked_costs_nothing() {
        let uri = async |name: &str, question: Question<'static>| {
            let request = provider(name).question(question, 0, Timestamp(0)).await.unwrap();
            request.map(|request| format!("{} {}", request.method(), request.uri()))
        };
        let asked = uri("a", Question::Models).await.unwrap();
        assert_eq!(asked, "GET https://a.example/v1/models?limit=1000");
        let asked = uri("a", Question::Model("x/y")).await.unwrap();
        assert_eq!(asked, "GET https://a.example/v1/models/x%2Fy");
        assert_eq!(uri("o", Question::Models).await.unwrap(), "GET http://127.0.0.1:1/v1/models");
        assert_eq!(uri("o", Question::Model("x")).await, None);
        assert_eq!(table().names_at("a"), [("fast".to_owned(), "claude-sonnet-4-6".to_owned())]);
    }

    #[test]
    fn answers_are_understood() {
        let (a, g) = (provider("a"), provider("g"));
        let list = br#"{"data":[{"id":"claude-x"},{"id":"claude-y"}]}"#;
        let names = Said::Welcome(Some(vec!["claude-x".to_owned(), "claude-y".to_owned()]));
        assert_eq!(a.understood(Question::Models, 200, list), names);
        let list = br#"{"models":[{"name":"models/gemini-x"}]}"#;
        assert_eq!(g.understood(Question::Models, 200, list), Said::Welcome(Some(vec!["gemini-x".to_owned()])));
        let said = br#"{"error":{"code":400,"message":"API key not valid.\n Please pass a valid API key."}}"#;
        let expected = Said::Unwelcome("API key not valid. Please pass a valid API key.".to_owned());
        assert_eq!(g.understood(Question::Models, 400, said), expected);
        assert!(matches!(a.understood(Question::Models, 401, b"{}"), Said::Unwelcome(_)));
        assert!(matches!(a.understood(Question::Models, 404, b"<html>"), Said::Strange(_)));
        assert!(matches!(a.understood(Question::Models, 529, b""), Said::Busy(_)));
        assert!(
            matches!(a.understood(Question::Models, 502, &[0xff; 9_000]), Said::Failing(text) if text.len() < 1_000)
        );
        assert_eq!(a.understood(Question::Model("m"), 404, b"{}"), Said::UnknownModel);
        assert_eq!(a.understood(Question::Models, 200, b"no list"), Said::Welcome(None));
    }
}
