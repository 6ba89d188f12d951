//! Entra ID's credentials, for Azure OpenAI: an application's secret, a federated token, a managed identity.

use std::path::PathBuf;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::Timestamp;
use url::{Url, form_urlencoded};

use super::{
    bearer::Given,
    error::CredentialError,
    keeper::{Fresh, Source},
    outside::{Asked, Outside, Question},
    platform::{form, token},
    secret::Secret,
};

/// What tokens are asked for, unless configured.
pub const SCOPE: &str = "https://cognitiveservices.azure.com/.default";

const ENTRA: Asked = Asked {
    who: "Entra ID",
    hint: "check the tenant, the application's id, and that its secret or federated credential is there and not over",
};
const MANAGED: Asked =
    Asked { who: "the managed identity endpoint", hint: "check that the machine, app or pod has this identity" };

/// With what the application proves itself.
#[derive(Debug)]
pub(crate) enum Proof {
    /// A secret of its own.
    Secret(Secret),
    /// A token of another identity provider, in a file.
    Federated(PathBuf),
}

/// An application that proves itself at the token endpoint.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) outside: Outside,
    /// The whole address of the token endpoint.
    pub(crate) endpoint: Url,
    pub(crate) client: String,
    pub(crate) scope: String,
    pub(crate) proof: Proof,
}

#[async_trait]
impl Source<SecretString> for Application {
    fn files(&self) -> Vec<PathBuf> {
        match &self.proof {
            Proof::Secret(secret) => secret.files(),
            Proof::Federated(path) => vec![path.clone()],
        }
    }

    async fn fetch(&self, now: Timestamp) -> Result<Fresh<SecretString>, CredentialError> {
        let (field, secret) = match &self.proof {
            Proof::Secret(secret) => ("client_secret", secret.need(now).await?),
            Proof::Federated(path) => ("client_assertion", token(path)?),
        };
        let body = self.body(field, &secret);
        let question = Question {
            method: Method::POST,
            url: &self.endpoint,
            headers: form(),
            body,
            secrets: vec![secret.expose_secret()],
        };
        let answer = self.outside.ask(ENTRA, question).await?;
        let wrong = |why| CredentialError::Answer { who: ENTRA.who, at: self.endpoint.to_string(), why };
        Given::read(&answer.body, now).map_err(wrong)
    }
}

impl Application {
    fn body(&self, field: &str, secret: &SecretString) -> String {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("grant_type", "client_credentials");
        body.append_pair("client_id", &self.client);
        body.append_pair("scope", &self.scope);
        if field == "client_assertion" {
            body.append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        }
        body.append_pair(field, secret.expose_secret());
        body.finish()
    }
}

/// The identity of the machine (by the metadata service), or of an app or container (by the endpoint that it is told).
#[derive(Debug)]
pub(crate) struct Managed {
    pub(crate) outside: Outside,
    /// The whole address, with its query.
    pub(crate) url: Url,
    /// What an app or container shows; the metadata service wants none.
    pub(crate) secret: Option<SecretString>,
}

impl Managed {
    /// The address with everything that is asked.
    pub(crate) fn address(mut base: Url, version: &str, scope: &str, client: Option<&str>) -> Url {
        let resource = scope.strip_suffix("/.default").unwrap_or(scope);
        base.query_pairs_mut().append_pair("api-version", version).append_pair("resource", resource);
        if let Some(client) = client {
            base.query_pairs_mut().append_pair("client_id", client);
        }
        base
    }
}

#[async_trait]
impl Source<SecretString> for Managed {
    async fn fetch(&self, now: Timestamp) -> Result<Fresh<SecretString>, CredentialError> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("metadata"), HeaderValue::from_static("true"));
        let secret = self.secret.as_ref().map(ExposeSecret::expose_secret);
        if let Some(secret) = secret {
            let wrong = CredentialError::Request("the identity header is no header value");
            let mut value = HeaderValue::try_from(secret).map_err(|_| wrong)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-identity-header"), value);
        }
        let secrets = secret.into_iter().collect();
        let question = Question { method: Method::GET, url: &self.url, headers, body: String::new(), secrets };
        let answer = self.outside.ask(MANAGED, question).await?;
        let wrong = |why| CredentialError::Answer { who: MANAGED.who, at: self.url.to_string(), why };
        Given::read(&answer.body, now).map_err(wrong)
    }
}
