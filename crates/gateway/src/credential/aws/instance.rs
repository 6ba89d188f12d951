//! Keys that the platform holds ready: the instance's role by the metadata service (its second version only), and the
//! role of a container by the endpoint that the platform names.

use std::path::PathBuf;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::Timestamp;
use url::Url;

use super::{Given, Keys};
use crate::credential::{
    error::CredentialError,
    keeper::{Fresh, Source},
    outside::{Answer, Asked, Outside, Question},
    platform::token,
};

const METADATA: Asked = Asked {
    who: "the instance metadata service",
    hint: "check that the instance has a role, and that the hop limit lets this process reach the service",
};
const CONTAINER: Asked =
    Asked { who: "the container credentials endpoint", hint: "check that the task or pod has a role" };
/// How long a session with the metadata service lasts, in seconds. It is used once.
const SESSION: &str = "60";

/// The role of the instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) outside: Outside,
    pub(crate) endpoint: Url,
}

impl Instance {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        header: (&'static str, HeaderValue),
    ) -> Result<Answer, CredentialError> {
        let url = self.endpoint.join(path).map_err(|_| CredentialError::Answer {
            who: METADATA.who,
            at: self.endpoint.to_string(),
            why: "the role's name is none",
        })?;
        let mut headers = HeaderMap::new();
        let mut value = header.1;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(header.0), value);
        let question = Question { method, url: &url, headers, body: String::new(), secrets: Vec::new() };
        self.outside.ask(METADATA, question).await
    }
}

#[async_trait]
impl Source<Keys> for Instance {
    async fn fetch(&self, _now: Timestamp) -> Result<Fresh<Keys>, CredentialError> {
        let wrong = |why| CredentialError::Answer { who: METADATA.who, at: self.endpoint.to_string(), why };
        let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", HeaderValue::from_static(SESSION));
        let session = self.ask(Method::PUT, "latest/api/token", ttl).await?.body;
        let session = HeaderValue::try_from(session.as_ref()).map_err(|_| wrong("the session token is none"))?;
        let get = |path: String| {
            let session = ("x-aws-ec2-metadata-token", session.clone());
            async move { self.ask(Method::GET, &path, session).await }
        };
        let base = "latest/meta-data/iam/security-credentials/";
        let role = get(base.to_owned()).await?.body;
        let role = std::str::from_utf8(&role).ok().and_then(|text| text.lines().next()).unwrap_or_default().trim();
        // The characters of a role's name, so that it stays one segment of the path.
        if role.is_empty()
            || role.starts_with('.')
            || !role.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b))
        {
            return Err(wrong("the role's name is none"));
        }
        Given::read(&get(format!("{base}{role}")).await?.body).map_err(wrong)
    }
}

/// The token that a container shows to its endpoint.
#[derive(Debug)]
pub(crate) enum ContainerToken {
    /// In the environment.
    Text(SecretString),
    /// In a file.
    File(PathBuf),
}

/// The role of a container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) outside: Outside,
    pub(crate) url: Url,
    pub(crate) token: Option<ContainerToken>,
}

#[async_trait]
impl Source<Keys> for Container {
    fn files(&self) -> Vec<PathBuf> {
        match &self.token {
            Some(ContainerToken::File(path)) => vec![path.clone()],
            _ => Vec::new(),
        }
    }

    async fn fetch(&self, _now: Timestamp) -> Result<Fresh<Keys>, CredentialError> {
        let secret = match &self.token {
            Some(ContainerToken::Text(text)) => Some(text.clone()),
            Some(ContainerToken::File(path)) => Some(token(path)?),
            None => None,
        };
        let secret = secret.as_ref().map(ExposeSecret::expose_secret);
        let mut headers = HeaderMap::new();
        if let Some(text) = secret {
            let wrong = CredentialError::Request("the container's token is no header value");
            let mut value = HeaderValue::try_from(text).map_err(|_| wrong)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let secrets = secret.into_iter().collect();
        let question = Question { method: Method::GET, url: &self.url, headers, body: String::new(), secrets };
        let answer = self.outside.ask(CONTAINER, question).await?;
        let wrong = |why| CredentialError::Answer { who: CONTAINER.who, at: self.url.to_string(), why };
        Given::read(&answer.body).map_err(wrong)
    }
}
