//! Every way against a fake authority on loopback that looks at what it is asked.

mod amazon;
mod authority;
mod google_and_entra;
mod keeping;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Request, request::Parts};
use stockade_domain::Timestamp;

use super::{Credential, CredentialConfig, CredentialError, KeyHeader, KeySource, Surroundings};

/// Some moment of 2026, in whole seconds.
const NOW: Timestamp = Timestamp(1_790_000_000_000_000);

fn later(seconds: u64) -> Timestamp {
    NOW.plus_seconds(seconds)
}

fn around(variables: &[(&str, &str)]) -> Surroundings {
    let map: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Surroundings::with(move |name| map.get(name).cloned())
}

fn try_made(config: &str, variables: &[(&str, &str)]) -> Result<Credential, CredentialError> {
    Credential::new(&toml::from_str::<CredentialConfig>(config).unwrap(), &around(variables))
}

fn made(config: &str) -> Credential {
    try_made(config, &[]).unwrap()
}

fn request() -> Parts {
    let url = "https://bedrock-runtime.eu-central-1.amazonaws.com/model/eu.x-v1:0/converse";
    Request::post(url).header("content-type", "application/json").body(()).unwrap().into_parts().0
}

async fn signed(credential: &Credential, now: Timestamp) -> Result<HeaderMap, CredentialError> {
    let mut parts = request();
    credential.sign(&mut parts, &Bytes::from_static(b"{}"), now).await?;
    let shown = format!("{parts:?} {credential:?}");
    assert!(!shown.contains("SECRET"), "a secret is shown: {shown}");
    Ok(parts.headers)
}

async fn authorization(credential: &Credential, now: Timestamp) -> String {
    signed(credential, now).await.unwrap()["authorization"].to_str().unwrap().to_owned()
}

/// Everything that an error says, in every form.
fn told(error: &CredentialError) -> String {
    format!("{} {error:?}", crate::upstream::chain(error))
}

#[tokio::test]
async fn a_key_is_shown_in_the_header_that_the_provider_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, "SECRET-key\n").unwrap();
    for (header, name, value) in [
        ("x-api-key", "x-api-key", "SECRET-key"),
        ("bearer", "authorization", "Bearer SECRET-key"),
        ("api-key", "api-key", "SECRET-key"),
        ("x-goog-api-key", "x-goog-api-key", "SECRET-key"),
    ] {
        let text = format!("kind = \"key\"\nheader = \"{header}\"\nsecret = \"file:{}\"", path.display());
        let credential = made(&text);
        assert_eq!(signed(&credential, NOW).await.unwrap()[name], value);
        assert!(credential.check(NOW).await.unwrap().about.contains("the key in /"));
    }
    std::fs::write(&path, "SECRET-another-key").unwrap();
    let credential = Credential::key(KeyHeader::Bearer, KeySource::File(path));
    assert_eq!(authorization(&credential, NOW).await, "Bearer SECRET-another-key");
    for none in [made("kind = \"none\""), Credential::key(KeyHeader::Bearer, KeySource::None)] {
        assert_eq!(signed(&none, NOW).await.unwrap(), request().headers);
        assert_eq!(none.check(NOW).await.unwrap().until, None);
    }
    let missing = made("kind = \"aws-bearer\"\nsecret = \"env:STOCKADE_TEST_NO_SUCH_KEY\"");
    assert!(told(&missing.check(NOW).await.unwrap_err()).contains("STOCKADE_TEST_NO_SUCH_KEY"));
}

#[test]
fn a_key_in_the_configuration_itself_is_refused_and_not_repeated() {
    let text = "[providers.p]\nbase_url = \"https://x\"\ncredential = { kind = \"aws-bearer\", secret = \"SECRET\" }";
    let error = crate::ModelTable::from_config(text).unwrap_err();
    let told = format!("{} {error:?}", crate::upstream::chain(&error));
    assert!(told.contains("line 3") && told.contains("never the secret itself") && !told.contains("SECRET"), "{told}");
}
