//! Bearer tokens as OAuth gives them (RFC 6749, section 5.1), and the header that shows them.

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use stockade_domain::Timestamp;

use super::{error::CredentialError, keeper::Fresh};

/// A successful answer of a token endpoint.
#[derive(Deserialize)]
pub(crate) struct Given {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    /// In seconds from now.
    #[serde(default, deserialize_with = "number")]
    expires_in: Option<u64>,
    /// In seconds since the epoch; some of Azure's endpoints say only this.
    #[serde(default, deserialize_with = "number")]
    expires_on: Option<u64>,
}

impl Given {
    /// Reads one; the text of an error is a reason without secrets.
    pub(crate) fn read(body: &[u8], now: Timestamp) -> Result<Fresh<SecretString>, &'static str> {
        let given: Self = serde_json::from_slice(body).map_err(|_| "expected JSON with access_token and expires_in")?;
        sound(&given.access_token).map_err(|()| "its access_token is empty or has strange characters")?;
        let on = given.expires_on.map(|seconds| Timestamp(0).plus_seconds(seconds));
        let expires = given.expires_in.map(|seconds| now.plus_seconds(seconds)).or(on);
        let expires = expires.ok_or("it does not say when its token ends")?;
        Ok(Fresh { value: given.access_token, expires: Some(expires) })
    }
}

/// Whether this can be a token: some graphic characters of ASCII.
pub(crate) fn sound(token: &SecretString) -> Result<(), ()> {
    let token = token.expose_secret();
    if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err(()) }
}

/// A secret, which is shown nowhere from here on.
pub(crate) fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::from)
}

/// A number, or a text that is one.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(u64),
        Text(String),
    }
    Ok(match Option::<Form>::deserialize(from)? {
        Some(Form::Number(number)) => Some(number),
        Some(Form::Text(text)) => text.parse().ok(),
        None => None,
    })
}

/// `Bearer TOKEN`.
pub(crate) fn header(token: &SecretString) -> Result<HeaderValue, CredentialError> {
    let text = SecretString::from(format!("Bearer {}", token.expose_secret()));
    let wrong = CredentialError::Request("the token is no header value");
    let mut value = HeaderValue::try_from(text.expose_secret()).map_err(|_| wrong)?;
    value.set_sensitive(true);
    Ok(value)
}
