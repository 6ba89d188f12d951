//! What those who give out credentials answer, and signing, for the targets of `fuzz/`. Only in tests and with the feature
//! `fuzzing`.

use http::request::Parts;
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::Timestamp;
use url::Url;

use super::{
    CredentialError,
    aws::{self, Keys, Scope, profile, sigv4, sts},
    bearer,
    error::shown as cleaned,
    google,
    keeper::Fresh,
    outside,
};

/// A moment that stands still.
const NOW: Timestamp = Timestamp(1_790_000_000_000_000);

/// In which form a credential comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// OAuth's: Google, Entra ID, metadata servers of both.
    Bearer,
    /// Amazon's metadata and container endpoints.
    Instance,
    /// Amazon's security token service.
    Role,
    /// A section of the shared files.
    Profile,
    /// Google's, for a service account in somebody's stead.
    Impersonated,
    /// A credentials file of Google; its texts are the addresses that it sends us to.
    GoogleFile,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Given {
    /// Everything in it that goes into headers.
    pub texts: Vec<String>,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// Reads an answer as the credential of this form does.
///
/// # Errors
/// With the reason, as it is shown.
pub fn read(form: Credential, body: &[u8]) -> Result<Given, String> {
    match form {
        Credential::Bearer => {
            let Fresh { value, expires } = bearer::Given::read(body, NOW)?;
            let header = bearer::header(&value).map_err(|error| error.to_string())?;
            Ok(Given { texts: vec![header.to_str().unwrap_or_default().replacen(' ', "-", 1)], expires })
        }
        Credential::Instance => Ok(of(aws::Given::read(body)?)),
        Credential::Role => {
            let endpoint = Url::parse("https://sts.example.com/").map_err(|error| error.to_string())?;
            sts::read(body, &endpoint).map(of).map_err(|error| error.to_string())
        }
        Credential::Profile => {
            let section = profile::section(&String::from_utf8_lossy(body), "default").ok_or("there is none")?;
            let texts = section.keys().map(|name| format!("{name}.")).collect();
            Ok(Given { texts, expires: None })
        }
        Credential::Impersonated => {
            let Fresh { value, expires } = google::impersonated(body)?;
            Ok(Given { texts: vec![value.expose_secret().to_owned()], expires })
        }
        Credential::GoogleFile => {
            let urls = google::addresses(&String::from_utf8_lossy(body))?;
            Ok(Given { texts: urls.iter().map(Url::to_string).collect(), expires: None })
        }
    }
}

fn of(fresh: Fresh<Keys>) -> Given {
    let Keys { id, secret, session } = fresh.value;
    let session = session.map(|session| session.expose_secret().to_owned());
    Given {
        texts: [id, secret.expose_secret().to_owned()].into_iter().chain(session).collect(),
        expires: fresh.expires,
    }
}

/// What is shown of an authority's refusal.
#[must_use]
pub fn shown(body: &str, secret: &str) -> String {
    cleaned(&outside::words(body), &[secret])
}

/// Signs a request with a fixed key at a fixed moment.
///
/// # Errors
/// If it cannot carry a signature.
pub fn signed(mut parts: Parts, body: &[u8]) -> Result<Parts, CredentialError> {
    let secret = SecretString::from("secret");
    let keys = Keys { id: "id".to_owned(), secret, session: Some(SecretString::from("session")) };
    let scope = Scope { region: "r".to_owned(), service: "bedrock".to_owned() };
    sigv4::sign(&mut parts, body, &keys, &scope, NOW)?;
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read() {
        let given = read(Credential::Bearer, br#"{"access_token":"t","expires_in":"1"}"#).unwrap();
        assert_eq!((given.texts, given.expires), (vec!["Bearer-t".to_owned()], Some(NOW.plus_seconds(1))));
        let body = br#"{"AccessKeyId":"i","SecretAccessKey":"s"}"#;
        assert_eq!(read(Credential::Instance, body).unwrap().texts, ["i", "s"]);
        assert!(read(Credential::Role, b"<Credentials></Credentials>").is_err());
        assert_eq!(read(Credential::Profile, b"[default]\nA = b").unwrap().texts, ["a."]);
        let body = br#"{"accessToken":"t","expireTime":"2026-09-21T15:13:20Z"}"#;
        assert_eq!(read(Credential::Impersonated, body).unwrap().texts, ["t"]);
        assert!(read(Credential::Impersonated, br#"{"accessToken":"","expireTime":"2026-09-21T15:13:20Z"}"#).is_err());
        let file =
            r#"{"type":"service_account","client_email":"e","private_key":"k","token_uri":"https://x.example/t"}"#;
        assert_eq!(read(Credential::GoogleFile, file.as_bytes()).unwrap().texts, ["https://x.example/t"]);
        assert!(read(Credential::GoogleFile, file.replace("https", "http").as_bytes()).is_err());
        assert_eq!(shown("{\"error\":\"t is wrong\"}", "t "), "[secret]is wrong");
        let parts = crate::fuzzing::request("https://x.example/a%2fb?c", http::HeaderMap::new()).unwrap();
        assert_eq!(signed(parts, b"").unwrap().uri.path(), "/a%2Fb");
    }
}
