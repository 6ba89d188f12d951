//! Roles at the security token service: for a token that the platform writes into a file, or assumed with other keys.

use std::path::PathBuf;

use async_trait::async_trait;
use http::{Method, Request, request::Parts};
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::Timestamp;
use url::{Url, form_urlencoded};

use super::{Keys, Scope, keys, sigv4, time};
use crate::credential::{
    error::CredentialError,
    keeper::{Fresh, Keeper, Source},
    outside::{Asked, Outside, Question, element},
    platform::{form, token},
};

const ASKED: Asked = Asked {
    who: "the security token service",
    hint: "check that the role's trust policy allows this identity provider, audience and subject",
};

/// `AssumeRoleWithWebIdentity`.
#[derive(Debug)]
pub(crate) struct WebIdentity {
    pub(crate) outside: Outside,
    pub(crate) endpoint: Url,
    pub(crate) role: String,
    pub(crate) session_name: String,
    pub(crate) token_file: PathBuf,
}

#[async_trait]
impl Source<Keys> for WebIdentity {
    fn files(&self) -> Vec<PathBuf> {
        vec![self.token_file.clone()]
    }

    async fn fetch(&self, _now: Timestamp) -> Result<Fresh<Keys>, CredentialError> {
        let token = token(&self.token_file)?;
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "AssumeRoleWithWebIdentity")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &self.role)
            .append_pair("RoleSessionName", &self.session_name)
            .append_pair("WebIdentityToken", token.expose_secret())
            .finish();
        let question = Question {
            method: Method::POST,
            url: &self.endpoint,
            headers: form(),
            body,
            secrets: vec![token.expose_secret()],
        };
        let answer = self.outside.ask(ASKED, question).await?;
        read(&answer.body, &self.endpoint)
    }
}

/// `AssumeRole`, asked with keys of another way.
#[derive(Debug)]
pub(crate) struct AssumedRole {
    pub(crate) outside: Outside,
    pub(crate) endpoint: Url,
    pub(crate) region: String,
    pub(crate) role: String,
    pub(crate) session_name: String,
    pub(crate) external_id: Option<String>,
    pub(crate) from: Keeper<Keys>,
}

#[async_trait]
impl Source<Keys> for AssumedRole {
    fn files(&self) -> Vec<PathBuf> {
        self.from.files()
    }

    async fn fetch(&self, now: Timestamp) -> Result<Fresh<Keys>, CredentialError> {
        let (keys, _) = self.from.get(now).await?;
        let (body, mut parts) = self.request()?;
        let scope = Scope { region: self.region.clone(), service: "sts".to_owned() };
        sigv4::sign(&mut parts, body.as_bytes(), &keys, &scope, now)?;
        let session = keys.session.as_ref().map(ExposeSecret::expose_secret);
        let secrets = session.into_iter().chain([keys.secret.expose_secret()]).collect();
        let question = Question { method: Method::POST, url: &self.endpoint, headers: parts.headers, body, secrets };
        let answer = self.outside.ask(ASKED, question).await?;
        read(&answer.body, &self.endpoint)
    }
}

impl AssumedRole {
    fn request(&self) -> Result<(String, Parts), CredentialError> {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("Action", "AssumeRole").append_pair("Version", "2011-06-15");
        body.append_pair("RoleArn", &self.role).append_pair("RoleSessionName", &self.session_name);
        if let Some(id) = &self.external_id {
            body.append_pair("ExternalId", id);
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            self.endpoint.as_str().parse().map_err(|_| CredentialError::Request("its address is none"))?;
        *request.headers_mut() = form();
        Ok((body.finish(), request.into_parts().0))
    }
}

/// Keys as the service gives them.
pub(in crate::credential) fn read(body: &[u8], endpoint: &Url) -> Result<Fresh<Keys>, CredentialError> {
    let wrong = |why| CredentialError::Answer { who: ASKED.who, at: endpoint.to_string(), why };
    let xml = std::str::from_utf8(body).map_err(|_| wrong("it is no text"))?;
    let inner = element(xml, "Credentials").ok_or(wrong("it has no credentials"))?;
    let text = |name| element(inner, name).ok_or(wrong("its credentials are not whole"));
    let secret = SecretString::from(text("SecretAccessKey")?);
    let session = SecretString::from(text("SessionToken")?);
    let value = keys(text("AccessKeyId")?, secret, Some(session)).map_err(wrong)?;
    Ok(Fresh { value, expires: Some(time(text("Expiration")?).map_err(wrong)?) })
}
