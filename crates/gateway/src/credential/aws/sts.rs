//! Web identity: a token that the platform writes into a file is exchanged for keys at the security token service.

use std::path::PathBuf;

use async_trait::async_trait;
use http::Method;
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::Timestamp;
use url::{Url, form_urlencoded};

use super::{Keys, keys, time};
use crate::credential::{
    error::CredentialError,
    keeper::{Fresh, Source},
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
        let wrong = |why| CredentialError::Answer { who: ASKED.who, at: self.endpoint.to_string(), why };
        let xml = std::str::from_utf8(&answer.body).map_err(|_| wrong("it is no text"))?;
        let inner = element(xml, "Credentials").ok_or(wrong("it has no credentials"))?;
        let text = |name| element(inner, name).ok_or(wrong("its credentials are not whole"));
        let secret = SecretString::from(text("SecretAccessKey")?);
        let session = SecretString::from(text("SessionToken")?);
        let value = keys(text("AccessKeyId")?, secret, Some(session)).map_err(wrong)?;
        Ok(Fresh { value, expires: Some(time(text("Expiration")?).map_err(wrong)?) })
    }
}
