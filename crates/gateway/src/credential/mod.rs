//! Every way of proving to a provider who we are, behind one type.
//!
//! [`Credential`] is made from [`CredentialConfig`] (the table `credential` of a provider) and signs requests: a key in a
//! header, a signature with Amazon's keys, or a bearer token from Google or Entra ID. Files are read again when they
//! change, tokens are renewed before they end, and the old one is used while it is good.
//!
//! It refuses: showing a secret (in an error, in `Debug`, in a log), taking one from the configuration itself, and sending
//! one over plain HTTP to anything but this machine or a link-local metadata address.

mod aws;
mod bearer;
mod build;
mod config;
mod entra;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod google;
mod keeper;
mod key;
mod outside;
mod platform;
mod secret;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header, request::Parts};
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::Timestamp;

use self::{
    aws::{Keys, Scope, sigv4},
    keeper::Keeper,
    secret::Secret,
};
pub use self::{
    config::{CredentialConfig, KeyHeader},
    error::CredentialError,
    keeper::{RENEW_BEFORE, RETRY_AFTER, UNUSABLE_BEFORE},
    key::{KeyError, KeySource, MAX_KEY_FILE},
    outside::{ANSWER_TIME, MAX_ANSWER, Outside},
    secret::SecretRef,
};
pub(crate) use self::{key::Key, secret::is_variable};

type Variables = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What a credential is made in: the process's environment and the way to authorities.
pub struct Surroundings {
    variables: Box<Variables>,
    outside: Outside,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::with(|name| std::env::var(name).ok())
    }

    /// Other variables, for tests.
    pub fn with(variables: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { variables: Box::new(variables), outside: Outside::default() }
    }
}

/// A way of proving who we are to one provider. It is made once and shared.
pub struct Credential {
    way: Way,
    about: String,
}

enum Way {
    None,
    Header { header: KeyHeader, secret: Secret },
    Bearer(Keeper<SecretString>),
    Aws { keys: Keeper<Keys>, scope: Scope },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credential").field(&self.about).finish()
    }
}

/// What was shown with a request: which of the tokens that a credential has one after the other.
pub struct Proof(Shown);

enum Shown {
    /// Nothing that can be had anew.
    Nothing,
    Token(Arc<SecretString>),
    Keys(Arc<Keys>),
}

impl Proof {
    const fn none() -> Self {
        Self(Shown::Nothing)
    }

    const fn token(token: Arc<SecretString>) -> Self {
        Self(Shown::Token(token))
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").finish_non_exhaustive()
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Which way it is, in words.
    pub about: String,
    /// Until when what we hold is good, if it has an end.
    pub until: Option<Timestamp>,
}

impl Credential {
    /// A credential as it is configured. Nothing is read or asked yet, but the variables that platforms set.
    ///
    /// # Errors
    /// [`CredentialError`] says what is missing or cannot be.
    pub fn new(config: &CredentialConfig, around: &Surroundings) -> Result<Self, CredentialError> {
        let (way, about) = build::way(config, around)?;
        Ok(Self { way, about })
    }

    /// A key in a header, from one of the three sources that `key_file`, `key_variable` and `key = "none"` name.
    #[must_use]
    pub fn key(header: KeyHeader, source: KeySource) -> Self {
        let about = match &source {
            KeySource::None => "no key".to_owned(),
            KeySource::File(path) => format!("the key in {}", path.display()),
            KeySource::Variable(name) => format!("the key in the environment variable `{name}`"),
        };
        Self { way: Way::Header { header, secret: Secret::Key(Key::new(source)) }, about }
    }

    /// Which way it is, in words, for lists and errors.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Puts the proof into a request. `parts` hold the whole address, and `body` is what will be sent: some ways sign both,
    /// so nothing may be changed afterwards. It takes a second only when there is no good token.
    ///
    /// # Errors
    /// [`CredentialError`] says why there is no proof.
    pub async fn sign(&self, parts: &mut Parts, body: &Bytes, now: Timestamp) -> Result<Proof, CredentialError> {
        match &self.way {
            Way::None => Ok(Proof::none()),
            Way::Header { header, secret } => {
                let Some((secret, proof)) = secret.show(now).await? else { return Ok(Proof::none()) };
                let (name, value) = header.with(&secret)?;
                parts.headers.insert(name, value);
                Ok(proof)
            }
            Way::Bearer(keeper) => {
                let (token, _) = keeper.get(now).await?;
                parts.headers.insert(header::AUTHORIZATION, bearer::header(&token)?);
                Ok(Proof::token(token))
            }
            Way::Aws { keys, scope } => {
                let (keys, _) = keys.get(now).await?;
                sigv4::sign(parts, body, &keys, scope, now)?;
                Ok(Proof(Shown::Keys(keys)))
            }
        }
    }

    /// The provider has answered a request with this status and this kind of error (`x-amzn-errortype`). If that means that the
    /// token is not taken any more, although it is not over, it is dropped: true if the same request may do better with the next.
    #[must_use]
    pub fn refused(&self, proof: &Proof, status: u16, error: Option<&str>, now: Timestamp) -> bool {
        match (&self.way, &proof.0) {
            (Way::Bearer(keeper), Shown::Token(token)) if status == 401 => keeper.refused(token, now),
            (Way::Header { secret: Secret::Command(keeper), .. }, Shown::Token(token)) if status == 401 => {
                keeper.refused(token, now)
            }
            (Way::Aws { keys, .. }, Shown::Keys(shown)) if aws::is_over(status, error) => keys.refused(shown, now),
            _ => false,
        }
    }

    /// Whether the proof can be had now: reads the key, or gets a token. The provider itself is not asked.
    ///
    /// # Errors
    /// [`CredentialError`] says why not.
    pub async fn check(&self, now: Timestamp) -> Result<Checked, CredentialError> {
        let until = match &self.way {
            Way::None => None,
            Way::Header { header, secret } => {
                secret.get(now).await?.map(|secret| header.with(&secret)).transpose()?;
                None
            }
            Way::Bearer(keeper) => keeper.get(now).await?.1,
            Way::Aws { keys, .. } => keys.get(now).await?.1,
        };
        Ok(Checked { about: self.about.clone(), until })
    }

    /// What is wrong with a key that is to be at hand, in a file or a variable. Nothing is asked of anybody.
    ///
    /// # Errors
    /// [`CredentialError`] says what.
    pub fn at_hand(&self) -> Result<(), CredentialError> {
        match &self.way {
            Way::Header { header, secret: Secret::Key(key) } => {
                key.get()?.map(|secret| header.with(&secret)).transpose()?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Waits until no token is being renewed.
    #[cfg(test)]
    async fn settled(&self) {
        match &self.way {
            Way::Bearer(keeper) => keeper.settled().await,
            Way::Aws { keys, .. } => keys.settled().await,
            Way::None | Way::Header { .. } => {}
        }
    }
}

impl KeyHeader {
    fn with(self, secret: &SecretString) -> Result<(HeaderName, HeaderValue), CredentialError> {
        let name = match self {
            Self::XApiKey => HeaderName::from_static("x-api-key"),
            Self::Bearer => return Ok((header::AUTHORIZATION, bearer::header(secret)?)),
            Self::ApiKey => HeaderName::from_static("api-key"),
            Self::XGoogApiKey => HeaderName::from_static("x-goog-api-key"),
        };
        let wrong = CredentialError::Request("the key is no header value");
        let mut value = HeaderValue::try_from(secret.expose_secret()).map_err(|_| wrong)?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}
