//! Keys of a profile in the shared files `~/.aws/credentials` and `~/.aws/config`.
//!
//! It reads `aws_access_key_id`, `aws_secret_access_key` and `aws_session_token`. It refuses profiles that would need a
//! command, a browser or another role (`credential_process`, `sso_*`, `source_profile`), and says so.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::Timestamp;

use super::{Keys, keys};
use crate::credential::{
    error::CredentialError,
    keeper::{Fresh, Source},
    platform::small_file,
};

/// A profile.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) credentials: PathBuf,
    pub(crate) config: PathBuf,
}

/// The settings of a section.
pub(in crate::credential) type Section = BTreeMap<String, SecretString>;

#[async_trait]
impl Source<Keys> for Profile {
    fn files(&self) -> Vec<PathBuf> {
        vec![self.credentials.clone(), self.config.clone()]
    }

    async fn fetch(&self, _now: Timestamp) -> Result<Fresh<Keys>, CredentialError> {
        let in_config = if self.name == "default" { "default".to_owned() } else { format!("profile {}", self.name) };
        let first = read(&self.credentials, &self.name)?;
        let second = read(&self.config, &in_config)?;
        let both = [&first, &second];
        let get = |name: &str| both.iter().filter_map(|section| section.as_ref()?.get(name)).next().cloned();
        let wrong = |why: String| CredentialError::Format { what: format!("the profile `{}`", self.name), why };
        if both.iter().all(|section| section.is_none()) {
            let files = format!("{} and {}", self.credentials.display(), self.config.display());
            return Err(wrong(format!("there is none of this name in {files}")));
        }
        if let (Some(id), Some(secret)) = (get("aws_access_key_id"), get("aws_secret_access_key")) {
            let value = keys(id.expose_secret(), secret, get("aws_session_token"));
            return Ok(Fresh { value: value.map_err(|why| wrong(why.to_owned()))?, expires: None });
        }
        let other =
            ["credential_process", "source_profile", "credential_source", "sso_session", "sso_start_url", "role_arn"];
        let found = other.iter().find(|name| get(name).is_some());
        Err(wrong(found.map_or_else(
            || "it has no aws_access_key_id with an aws_secret_access_key".to_owned(),
            |name| {
                format!(
                    "its keys come by `{name}`, which is not supported: use `aws-web-identity`, `aws-instance` or keys"
                )
            },
        )))
    }
}

/// A section of a file; nothing if there is no such file or section.
fn read(path: &Path, wanted: &str) -> Result<Option<Section>, CredentialError> {
    let text = match small_file(path) {
        Ok(text) => text,
        Err(CredentialError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(section(text.expose_secret(), wanted))
}

/// A section in the text of such a file.
pub(in crate::credential) fn section(text: &str, wanted: &str) -> Option<Section> {
    let (mut section, mut within) = (None, false);
    for line in text.lines() {
        // A line that begins with space belongs to a nested setting, which none of ours is.
        if line.starts_with([' ', '\t', '#', ';']) || line.trim().is_empty() {
            continue;
        }
        if let Some(name) = line.trim_end().strip_prefix('[').and_then(|line| line.split(']').next()) {
            let words: Vec<&str> = name.split_whitespace().collect();
            within = words.join(" ") == wanted;
            if within {
                section.get_or_insert_with(Section::new);
            }
        } else if let (true, Some(section), Some((name, value))) = (within, &mut section, line.split_once('=')) {
            section.insert(name.trim().to_ascii_lowercase(), SecretString::from(value.trim()));
        }
    }
    section
}
