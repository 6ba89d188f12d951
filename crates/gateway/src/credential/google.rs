//! Google's credentials: a service account's key, workload identity federation, the metadata server.

use std::path::PathBuf;

use async_trait::async_trait;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use stockade_domain::Timestamp;
use url::{Url, form_urlencoded};

use super::{
    aws,
    bearer::{self, Given},
    error::CredentialError,
    keeper::{Fresh, Source},
    outside::{Asked, Outside, Question, address},
    platform::{form, small_file, token},
};

/// What tokens are asked for.
pub const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How long a token is asked for, in seconds.
const LIFE: u64 = 3_600;

const TOKENS: Asked = Asked {
    who: "Google's token endpoint",
    hint: "check that the service account and its key are there and enabled, and that this clock is right",
};
const EXCHANGE: Asked =
    Asked { who: "Google's security token service", hint: "check the pool, the provider and its attribute conditions" };
const IMPERSONATION: Asked = Asked {
    who: "Google's service account credentials API",
    hint: "check that the federated identity has the role Workload Identity User on the service account",
};
const METADATA: Asked = Asked {
    who: "the metadata server",
    hint: "check that the machine or pod has a service account with the scope cloud-platform",
};

/// A credentials file, by its field `type`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum File {
    ServiceAccount(ServiceAccount),
    ExternalAccount(Box<ExternalAccount>),
    #[serde(other)]
    Other,
}

impl File {
    /// The text of an error is a reason without secrets: serde's words may quote what stands there.
    fn read(text: &str) -> Result<Self, &'static str> {
        serde_json::from_str(text).map_err(|_| "expected a credentials file of Google with all its fields")
    }
}

/// What a credentials file sends us to: every address in it, as it is asked.
///
/// # Errors
/// With the reason, as it is shown.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn addresses(text: &str) -> Result<Vec<Url>, String> {
    let named = match File::read(text)? {
        File::ServiceAccount(account) => vec![account.token_uri],
        File::ExternalAccount(account) => {
            std::iter::once(account.token_url).chain(account.service_account_impersonation_url).collect()
        }
        File::Other => Vec::new(),
    };
    named.iter().map(|url| address(TOKENS.who, url).map_err(|error| error.to_string())).collect()
}

/// What the service account credentials API answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    #[serde(deserialize_with = "bearer::secret")]
    access_token: SecretString,
    expire_time: String,
}

/// Reads it; the text of an error is a reason without secrets.
pub(crate) fn impersonated(body: &[u8]) -> Result<Fresh<SecretString>, &'static str> {
    let given: Impersonated =
        serde_json::from_slice(body).map_err(|_| "expected JSON with accessToken and expireTime")?;
    bearer::sound(&given.access_token).map_err(|()| "its accessToken is empty or has strange characters")?;
    Ok(Fresh { value: given.access_token, expires: Some(aws::time(&given.expire_time)?) })
}

#[derive(Debug, Deserialize)]
struct ServiceAccount {
    client_email: String,
    #[serde(deserialize_with = "bearer::secret")]
    private_key: SecretString,
    private_key_id: Option<String>,
    token_uri: String,
}

#[derive(Debug, Deserialize)]
struct ExternalAccount {
    audience: String,
    subject_token_type: String,
    token_url: String,
    service_account_impersonation_url: Option<String>,
    credential_source: SubjectSource,
}

#[derive(Debug, Deserialize)]
struct SubjectSource {
    file: Option<PathBuf>,
    format: Option<SubjectFormat>,
}

#[derive(Debug, Deserialize)]
struct SubjectFormat {
    #[serde(rename = "type")]
    kind: Option<String>,
    subject_token_field_name: Option<String>,
}

/// A credentials file as Google makes it: a service account's key, or the description of a federation.
#[derive(Debug)]
pub(crate) struct KeyFile {
    pub(crate) outside: Outside,
    pub(crate) path: PathBuf,
    /// Instead of the one in the file.
    pub(crate) endpoint: Option<Url>,
}

#[async_trait]
impl Source<SecretString> for KeyFile {
    fn files(&self) -> Vec<PathBuf> {
        let subject = self.read().ok().and_then(|file| match file {
            File::ExternalAccount(account) => account.credential_source.file,
            _ => None,
        });
        std::iter::once(self.path.clone()).chain(subject).collect()
    }

    async fn fetch(&self, now: Timestamp) -> Result<Fresh<SecretString>, CredentialError> {
        match self.read()? {
            File::ServiceAccount(account) => self.by_key(&account, now).await,
            File::ExternalAccount(account) => self.by_federation(&account, now).await,
            File::Other => Err(self.wrong("its type is neither service_account nor external_account")),
        }
    }
}

impl KeyFile {
    fn read(&self) -> Result<File, CredentialError> {
        File::read(small_file(&self.path)?.expose_secret()).map_err(|why| self.wrong(why))
    }

    fn wrong(&self, why: &str) -> CredentialError {
        CredentialError::Format { what: format!("the credentials file {}", self.path.display()), why: why.to_owned() }
    }

    fn endpoint(&self, asked: Asked, in_file: &str) -> Result<Url, CredentialError> {
        self.endpoint.clone().map_or_else(|| address(asked.who, in_file), Ok)
    }

    async fn by_key(&self, account: &ServiceAccount, now: Timestamp) -> Result<Fresh<SecretString>, CredentialError> {
        let url = &self.endpoint(TOKENS, &account.token_uri)?;
        let now_s = now.unix_ms() / 1_000;
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": account.private_key_id });
        let claims = json!({
            "iss": account.client_email,
            "scope": SCOPE,
            "aud": account.token_uri,
            "iat": now_s,
            "exp": now_s + LIFE,
        });
        let assertion = self.signed(&header, &claims, &account.private_key)?;
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .append_pair("assertion", assertion.expose_secret())
            .finish();
        let secrets = vec![assertion.expose_secret()];
        let question = Question { method: Method::POST, url, headers: form(), body, secrets };
        let answer = self.outside.ask(TOKENS, question).await?;
        Given::read(&answer.body, now).map_err(|why| answer_wrong(TOKENS, url, why))
    }

    /// A JWT (RFC 7519), signed with RS256.
    fn signed(
        &self,
        header: &serde_json::Value,
        claims: &serde_json::Value,
        key: &SecretString,
    ) -> Result<SecretString, CredentialError> {
        let wrong = || self.wrong("its private_key is no RSA key in PEM (PKCS #8)");
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.expose_secret().as_bytes()).map_err(|_| wrong())?;
        let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| wrong())?;
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).map_err(|_| wrong())?;
        Ok(SecretString::from(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    async fn by_federation(
        &self,
        account: &ExternalAccount,
        now: Timestamp,
    ) -> Result<Fresh<SecretString>, CredentialError> {
        let subject = self.subject(account)?;
        let url = &self.endpoint(EXCHANGE, &account.token_url)?;
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .append_pair("audience", &account.audience)
            .append_pair("scope", SCOPE)
            .append_pair("requested_token_type", "urn:ietf:params:oauth:token-type:access_token")
            .append_pair("subject_token_type", &account.subject_token_type)
            .append_pair("subject_token", subject.expose_secret())
            .finish();
        let secrets = vec![subject.expose_secret()];
        let question = Question { method: Method::POST, url, headers: form(), body, secrets };
        let answer = self.outside.ask(EXCHANGE, question).await?;
        let federated = Given::read(&answer.body, now).map_err(|why| answer_wrong(EXCHANGE, url, why))?;
        match &account.service_account_impersonation_url {
            Some(url) => self.impersonate(&address(IMPERSONATION.who, url)?, &federated.value).await,
            None => Ok(federated),
        }
    }

    fn subject(&self, account: &ExternalAccount) -> Result<SecretString, CredentialError> {
        let source = &account.credential_source;
        let path =
            source.file.as_ref().ok_or_else(|| self.wrong("only a credential_source with a file is supported"))?;
        let format = source.format.as_ref();
        match format.and_then(|format| format.kind.as_deref()) {
            None | Some("text") => token(path),
            Some("json") => {
                let name = format.and_then(|format| format.subject_token_field_name.as_deref()).unwrap_or_default();
                let value: serde_json::Value =
                    serde_json::from_str(small_file(path)?.expose_secret()).unwrap_or_default();
                let text = value.get(name).and_then(serde_json::Value::as_str);
                text.map(SecretString::from).ok_or_else(|| CredentialError::Format {
                    what: format!("the token file {}", path.display()),
                    why: format!("expected JSON with the field `{name}`"),
                })
            }
            Some(_) => Err(self.wrong("its credential_source has a format other than text and json")),
        }
    }

    async fn impersonate(&self, url: &Url, token: &SecretString) -> Result<Fresh<SecretString>, CredentialError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::AUTHORIZATION, bearer::header(token)?);
        let body = json!({ "scope": [SCOPE], "lifetime": format!("{LIFE}s") }).to_string();
        let secrets = vec![token.expose_secret()];
        let question = Question { method: Method::POST, url, headers, body, secrets };
        let answer = self.outside.ask(IMPERSONATION, question).await?;
        impersonated(&answer.body).map_err(|why| answer_wrong(IMPERSONATION, url, why))
    }
}

/// The service account of the machine or pod.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) outside: Outside,
    pub(crate) endpoint: Url,
}

#[async_trait]
impl Source<SecretString> for Metadata {
    async fn fetch(&self, now: Timestamp) -> Result<Fresh<SecretString>, CredentialError> {
        let flavor = HeaderName::from_static("metadata-flavor");
        let wrong = |why| answer_wrong(METADATA, &self.endpoint, why);
        let url = self.endpoint.join("computeMetadata/v1/instance/service-accounts/default/token");
        let url = url.map_err(|_| wrong("its address is none"))?;
        let headers = HeaderMap::from_iter([(flavor.clone(), HeaderValue::from_static("Google"))]);
        let question = Question { method: Method::GET, url: &url, headers, body: String::new(), secrets: Vec::new() };
        let answer = self.outside.ask(METADATA, question).await?;
        if answer.headers.get(flavor).is_none_or(|value| value != "Google") {
            return Err(wrong("it does not say that it is Google's"));
        }
        Given::read(&answer.body, now).map_err(wrong)
    }
}

fn answer_wrong(asked: Asked, url: &Url, why: &'static str) -> CredentialError {
    CredentialError::Answer { who: asked.who, at: url.to_string(), why }
}
