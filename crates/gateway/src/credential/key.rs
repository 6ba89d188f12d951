//! A provider's key: read when it is needed, never shown.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use secrecy::{ExposeSecret, SecretString};

/// The largest key file that is read, in bytes.
pub const MAX_KEY_FILE: u64 = 16 * 1024;

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The provider wants none.
    None,
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The variable is not set.
    #[error("the environment variable `{0}` is not set: set it to the provider's key and start again")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("the key file {path} cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is there is no key.
    #[error("what {0} holds is no key: expected one line of printable characters")]
    NoKey(String),
}

/// A file as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
}

/// A key that follows its source.
#[derive(Debug)]
pub(crate) struct Key {
    source: KeySource,
    // `SecretString` shows itself as `[REDACTED]`.
    read: Mutex<Option<(Stamp, SecretString)>>,
}

impl Key {
    pub(crate) const fn new(source: KeySource) -> Self {
        Self { source, read: Mutex::new(None) }
    }

    pub(crate) const fn source(&self) -> &KeySource {
        &self.source
    }

    /// The key as it is now.
    pub(crate) fn get(&self) -> Result<Option<SecretString>, KeyError> {
        match &self.source {
            KeySource::None => Ok(None),
            KeySource::Variable(name) => {
                let text = std::env::var(name).map_err(|_| KeyError::NoVariable(name.clone()))?;
                checked(SecretString::from(text), || format!("the environment variable `{name}`")).map(Some)
            }
            KeySource::File(path) => {
                let failed = |source| KeyError::File { path: path.clone(), source };
                let about = fs::metadata(path).map_err(failed)?;
                let stamp = Stamp { modified: about.modified().ok(), len: about.len() };
                let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((known, key)) = &*read
                    && *known == stamp
                {
                    return Ok(Some(key.clone()));
                }
                if !about.is_file() || about.len() > MAX_KEY_FILE {
                    return Err(KeyError::NoKey(format!("the file {}", path.display())));
                }
                let text = SecretString::from(fs::read_to_string(path).map_err(failed)?);
                let key = checked(text, || format!("the file {}", path.display()))?;
                *read = Some((stamp, key.clone()));
                Ok(Some(key))
            }
        }
    }
}

/// One line of printable characters, without the space around it.
pub(crate) fn checked(text: SecretString, what: impl FnOnce() -> String) -> Result<SecretString, KeyError> {
    let key = text.expose_secret().trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyError::NoKey(what()));
    }
    Ok(SecretString::from(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = Key::new(KeySource::File(path.clone()));
        assert!(matches!(key.get(), Err(KeyError::File { .. })));
        fs::write(&path, "first-key\n").unwrap();
        assert_eq!(key.get().unwrap().unwrap().expose_secret(), "first-key");
        fs::write(&path, "the-second-key\n").unwrap();
        assert_eq!(key.get().unwrap().unwrap().expose_secret(), "the-second-key");
        for wrong in ["", "two\nlines", "b\u{e4}d", &"x".repeat(20_000)] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(key.get(), Err(KeyError::NoKey(_))));
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "sk-very-secret").unwrap();
        let key = Key::new(KeySource::File(path));
        let got = key.get().unwrap();
        assert!(!format!("{key:?} {got:?}").contains("very-secret"));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = Key::new(KeySource::Variable("STOCKADE_TEST_NO_SUCH_KEY".to_owned())).get().unwrap_err();
        assert!(error.to_string().contains("STOCKADE_TEST_NO_SUCH_KEY"));
    }
}
