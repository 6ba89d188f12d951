//! Amazon's credentials: where access keys come from, and signing with them.

mod instance;
pub(super) mod profile;
pub(crate) mod sigv4;
pub(super) mod sts;

use std::path::PathBuf;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use stockade_domain::Timestamp;

pub(crate) use self::{
    instance::{Container, ContainerToken, Instance},
    profile::Profile,
    sigv4::{Keys, Scope},
    sts::{AssumedRole, WebIdentity},
};
use super::{
    bearer,
    error::CredentialError,
    keeper::{Fresh, Source},
    secret::Secret,
};

/// Whether an answer means that keys which are not over are not taken any more.
pub(crate) fn is_over(status: u16, error: Option<&str>) -> bool {
    let kind = error.and_then(|text| text.split(':').next()).unwrap_or_default();
    matches!(status, 400 | 401 | 403)
        && matches!(kind, "ExpiredToken" | "ExpiredTokenException" | "UnrecognizedClientException")
}

/// Keys that are where the configuration says, each by itself. They have no end; files are read again when they change.
#[derive(Debug)]
pub(crate) struct Static {
    pub(crate) id: Secret,
    pub(crate) secret: Secret,
    pub(crate) session: Option<Secret>,
}

#[async_trait]
impl Source<Keys> for Static {
    fn files(&self) -> Vec<PathBuf> {
        let session = self.session.iter().flat_map(Secret::files);
        self.id.files().into_iter().chain(self.secret.files()).chain(session).collect()
    }

    async fn fetch(&self, now: Timestamp) -> Result<Fresh<Keys>, CredentialError> {
        let session = match &self.session {
            Some(session) => session.get(now).await?,
            None => None,
        };
        let id = self.id.need(now).await?.expose_secret().to_owned();
        let value = Keys { id, secret: self.secret.need(now).await?, session };
        // Commands have secrets with an end, so that they are asked again.
        let commands = [Some(&self.id), Some(&self.secret), self.session.as_ref()];
        let asked = commands.into_iter().flatten().any(|secret| matches!(secret, Secret::Command(_)));
        Ok(Fresh { value, expires: asked.then(|| now.plus_seconds(super::secret::COMMAND_LIFE)) })
    }
}

/// What metadata and container endpoints answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Given {
    code: Option<String>,
    access_key_id: String,
    #[serde(deserialize_with = "bearer::secret")]
    secret_access_key: SecretString,
    #[serde(default, deserialize_with = "session")]
    token: Option<SecretString>,
    expiration: Option<String>,
}

/// Some endpoints say that there is none by an empty text.
fn session<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.filter(|text| !text.is_empty()).map(SecretString::from))
}

impl Given {
    /// Reads such an answer; the text of an error is a reason without secrets.
    pub(super) fn read(body: &[u8]) -> Result<Fresh<Keys>, &'static str> {
        let given: Self =
            serde_json::from_slice(body).map_err(|_| "expected JSON with AccessKeyId and SecretAccessKey")?;
        if given.code.as_deref().is_some_and(|code| code != "Success") {
            return Err("its code is not `Success`");
        }
        let expires = given.expiration.as_deref().map(time).transpose()?;
        Ok(Fresh { value: keys(&given.access_key_id, given.secret_access_key, given.token)?, expires })
    }
}

/// Keys as a service gave them, if they can go into headers.
fn keys(id: &str, secret: SecretString, session: Option<SecretString>) -> Result<Keys, &'static str> {
    let good = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let session_good = session.as_ref().is_none_or(|session| good(session.expose_secret()));
    if good(id) && good(secret.expose_secret()) && session_good {
        Ok(Keys { id: id.to_owned(), secret, session })
    } else {
        Err("a key in it is empty or has strange characters")
    }
}

/// A moment in the form of RFC 3339.
pub(super) fn time(text: &str) -> Result<Timestamp, &'static str> {
    let moment: jiff::Timestamp = text.parse().map_err(|_| "its expiration is no time")?;
    Ok(Timestamp(moment.as_microsecond()))
}
