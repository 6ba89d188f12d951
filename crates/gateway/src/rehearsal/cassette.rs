//! A cassette.

use std::path::Path;

/// A played conversation.
#[derive(Debug, Clone)]
pub struct Cassette {
    name: String,
}

/// Why a file is no cassette. Names the file and the turn.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {what}")]
pub struct CassetteError {
    origin: String,
    what: String,
}

impl Cassette {
    /// Reads one. `origin` is what errors call it: the file's name.
    ///
    /// # Errors
    /// [`CassetteError`].
    pub fn parse(origin: &str, _text: &str) -> Result<Self, CassetteError> {
        Err(CassetteError { origin: origin.to_owned(), what: String::new() })
    }

    /// Reads a file, at most so large.
    ///
    /// # Errors
    /// [`CassetteError`].
    pub fn load(path: &Path) -> Result<Self, CassetteError> {
        Self::parse(&path.display().to_string(), "")
    }

    /// Makes one from captured exchanges: the bodies of requests and of their answers (JSON or event stream), in order.
    ///
    /// # Errors
    /// [`CassetteError`] if no whole answer is among them.
    pub fn from_exchanges(name: &str, _exchanges: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, CassetteError> {
        Err(CassetteError { origin: name.to_owned(), what: String::new() })
    }

    /// What it is called: `rehearsal/NAME`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As a file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        String::new()
    }
}
