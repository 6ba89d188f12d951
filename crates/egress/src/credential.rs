//! The credentials that an environment's requests may be given on their way out.
//!
//! It owns which hosts have one, and which secret stands behind which placeholder. It refuses to hold a secret: each is read when a request is given it,
//! so that one which changes is taken up by the next request. *Invariant:* no secret is in a debug form or an error.

use std::{fmt, io, sync::Arc};

use async_trait::async_trait;
use secrecy::SecretString;

use crate::placeholder::{Binding, Placeholder};

/// Where a secret is kept.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// It, as it is now.
    ///
    /// # Errors
    /// If it cannot be had. The error has nothing of it.
    async fn read(&self) -> io::Result<SecretString>;
}

/// One credential as one environment has it.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its name in the site's configuration: the id of the resource in `credential.use`.
    pub name: String,
    /// What stands for it inside, and where it may go. One name may have several, each with a placeholder of its own or the same.
    pub bindings: Vec<Binding>,
    /// Where its secret is.
    pub source: Arc<dyn Source>,
}

/// Those of one environment.
#[derive(Default)]
pub struct Credentials {
    all: Vec<Credential>,
    bindings: Vec<Binding>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|credential| &credential.name)).finish()
    }
}

impl Credentials {
    /// These.
    pub fn new(all: impl IntoIterator<Item = Credential>) -> Self {
        let all: Vec<_> = all.into_iter().collect();
        let bindings = all.iter().flat_map(|credential| credential.bindings.iter().cloned()).collect();
        Self { all, bindings }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one of them is for this host, at whatever port.
    pub fn are_for(&self, host: &str) -> bool {
        self.bindings.iter().any(|binding| binding.host.eq_ignore_ascii_case(host))
    }

    /// Where they may go.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// What a placeholder stands for.
    pub(crate) fn behind(&self, placeholder: &Placeholder) -> Option<&Credential> {
        self.all.iter().find(|one| one.bindings.iter().any(|binding| binding.placeholder == *placeholder))
    }
}

/// A secret that does not change.
#[cfg(test)]
pub(crate) struct Always(pub SecretString);

#[cfg(test)]
impl fmt::Debug for Always {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Always")
    }
}

#[cfg(test)]
#[async_trait]
impl Source for Always {
    async fn read(&self) -> io::Result<SecretString> {
        Ok(self.0.clone())
    }
}
