//! Who this runner is: its identifier, its Ed25519 key and the site's key, in files that only it can read.
//!
//! Owns enrolment and those files. It refuses to start with half an identity. *Invariant:* the keys are durable before the
//! server hears of their public halves, so that an answer that got lost can be asked for again with the same keys.

use std::{path::Path, sync::Arc};

use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use stockade_api::runner::Enroll;
use stockade_domain::{
    World,
    ids::{RunnerId, SiteId},
};
use stockade_ledger::{SigningKey, SiteKey, VerifyingKey};

use crate::{RunnerConfig, RunnerError, files, link::Link};

/// The file with the identity.
pub const IDENTITY_FILE: &str = "identity.toml";
/// The file with the runner's own key.
pub const RUNNER_KEY_FILE: &str = "runner.key";
/// The file with the site's key.
pub const SITE_KEY_FILE: &str = "site.key";

/// What enrolment gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The runner.
    pub runner: RunnerId,
    /// Its site.
    pub site: SiteId,
    /// Verifies content tickets and counter-signatures.
    pub server_public_key: VerifyingKey,
    /// The server that it belongs to.
    pub server_url: String,
    /// The public half of the runner's key when it enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_public_key: Option<String>,
    /// The public half of the site's key when it enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_public_key: Option<String>,
}

/// An identity with its keys.
pub struct Keys {
    /// Signs requests.
    pub runner: Arc<SigningKey>,
    /// Opens what is sealed for the site.
    pub site: Arc<SiteKey>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("site", &self.site.public()).finish_non_exhaustive()
    }
}

/// Loads the identity, or enrols.
pub async fn load_or_enroll(
    config: &RunnerConfig,
    listener: &str,
    world: &Arc<dyn World>,
) -> Result<(Identity, Keys), RunnerError> {
    let keys = keys(&config.data_dir)?;
    let path = config.data_dir.join(IDENTITY_FILE);
    if let Some(bytes) = files::read_if_there(&path).map_err(RunnerError::file("read", &path))? {
        let text = String::from_utf8_lossy(&bytes);
        let mut identity: Identity = toml::from_str(&text).map_err(|e| RunnerError::Config {
            what: format!("`{}` is no identity: {}", path.display(), e.message()),
            hint: "restore the file, or enrol anew with an empty data folder".to_owned(),
        })?;
        identity.server_url.clone_from(&config.server_url);
        same_keys(&config.data_dir, &identity, &keys)?;
        return Ok((identity, keys));
    }
    let Some(token) = &config.enroll_token else {
        return Err(RunnerError::Config {
            what: format!("`{}` holds no identity and no enrolment token was given", config.data_dir.display()),
            hint: "make a token with `stockade runner token` and start with it".to_owned(),
        });
    };
    let server =
        |what: String, hint: &str| RunnerError::Server { url: config.server_url.clone(), what, hint: hint.to_owned() };
    let link = Link::anonymous(&config.server_url, Arc::clone(world))
        .map_err(|e| server(format!("cannot be used: {e}"), "check the server's URL"))?;
    let enrolled = link
        .enroll(&Enroll {
            token: token.expose_secret().to_owned(),
            name: config.name.clone(),
            public_key: keys.runner.public().to_string(),
            site_public_key: keys.site.public().to_string(),
            listener: listener.to_owned(),
        })
        .await
        .map_err(|e| match e.is_away() {
            true => server(format!("does not answer: {e}"), "start it, or check the URL, and try again"),
            false => server(format!("did not take the runner in: {e}"), "make a new enrolment token and try again"),
        })?;
    let server_public_key = enrolled
        .server_public_key
        .parse()
        .map_err(|e| server(format!("gave a public key that is none: {e}"), "check that both have the same version"))?;
    let identity = Identity {
        runner: enrolled.runner,
        site: enrolled.site,
        server_public_key,
        server_url: config.server_url.clone(),
        runner_public_key: Some(keys.runner.public().to_string()),
        site_public_key: Some(keys.site.public().to_string()),
    };
    let text = toml::to_string(&identity).map_err(|e| RunnerError::part("identity", e))?;
    files::replace(&path, text.as_bytes()).map_err(RunnerError::file("write", &path))?;
    tracing::info!(runner = %identity.runner, site = %identity.site, "enrolled as {}", identity.runner);
    Ok((identity, keys))
}

/// Refuses keys that are not those of the enrolment: a damaged key file may still read as a key, and with it nothing that was
/// sealed for this site could be opened.
fn same_keys(dir: &Path, identity: &Identity, keys: &Keys) -> Result<(), RunnerError> {
    for (file, enrolled, here) in [
        (RUNNER_KEY_FILE, &identity.runner_public_key, keys.runner.public().to_string()),
        (SITE_KEY_FILE, &identity.site_public_key, keys.site.public().to_string()),
    ] {
        if enrolled.as_ref().is_some_and(|enrolled| *enrolled != here) {
            let path = dir.join(file);
            return Err(RunnerError::Config {
                what: format!("`{}` is not the key that this runner enrolled with", path.display()),
                hint: "it was damaged or exchanged: restore it from a backup".to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether both keys can be loaded.
pub fn keys_are_usable(data_dir: &Path) -> Result<(), RunnerError> {
    signing_key(data_dir)?;
    SiteKey::load(&data_dir.join(SITE_KEY_FILE)).map_err(|e| RunnerError::part("identity", e))?;
    Ok(())
}

/// The runner's key once more: the ledger keeps its own copy.
pub fn signing_key(data_dir: &Path) -> Result<SigningKey, RunnerError> {
    SigningKey::load(&data_dir.join(RUNNER_KEY_FILE)).map_err(|e| RunnerError::part("identity", e))
}

fn keys(dir: &Path) -> Result<Keys, RunnerError> {
    let (runner, site) = (dir.join(RUNNER_KEY_FILE), dir.join(SITE_KEY_FILE));
    if !runner.exists() {
        SigningKey::generate().save(&runner).map_err(|e| RunnerError::part("identity", e))?;
    }
    if !site.exists() {
        SiteKey::generate()
            .map_err(|e| RunnerError::part("identity", e))?
            .save(&site)
            .map_err(|e| RunnerError::part("identity", e))?;
    }
    Ok(Keys {
        runner: Arc::new(signing_key(dir)?),
        site: Arc::new(SiteKey::load(&site).map_err(|e| RunnerError::part("identity", e))?),
    })
}
