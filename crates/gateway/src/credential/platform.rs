//! What the platforms' ways have in common: small files that somebody keeps fresh, and forms.

use std::{fs, path::Path, sync::Arc};

use http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};

use super::{error::CredentialError, key::MAX_KEY_FILE};

/// The headers of a form.
pub(crate) fn form() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers
}

/// A token in a file that the platform keeps fresh.
pub(crate) fn token(path: &Path) -> Result<SecretString, CredentialError> {
    let text = small_file(path)?;
    let token = SecretString::from(text.expose_secret().trim());
    if token.expose_secret().is_empty() || !token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
        let why = "expected one line of printable characters".to_owned();
        return Err(CredentialError::Format { what: format!("the token file {}", path.display()), why });
    }
    Ok(token)
}

/// A file of at most [`MAX_KEY_FILE`] bytes.
pub(crate) fn small_file(path: &Path) -> Result<SecretString, CredentialError> {
    let failed = |source| CredentialError::File { path: path.to_owned(), source: Arc::new(source) };
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() || about.len() > MAX_KEY_FILE {
        let why = format!("expected a file of at most {MAX_KEY_FILE} bytes");
        return Err(CredentialError::Format { what: format!("the file {}", path.display()), why });
    }
    fs::read_to_string(path).map(SecretString::from).map_err(failed)
}
