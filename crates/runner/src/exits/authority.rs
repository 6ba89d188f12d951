//! The certificate authority of each environment, on the runner's disk.
//!
//! Owns the one file in a run's folder that holds it. It refuses to let it outlive the environment. *Invariant:* the key is in no other file, and in
//! none that anybody but the runner may read.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};
use stockade_domain::{World, ids::EnvironmentId};
use stockade_egress::ca::Authority;

use crate::{error::chain, files};

/// Sees that there is one for an environment that is about to be made, and gives its certificate as PEM.
///
/// # Errors
/// If it cannot be made or kept.
pub fn ensure(dir: &Path, environment: EnvironmentId, world: &Arc<dyn World>) -> io::Result<String> {
    if let Some(authority) = kept(dir, environment, world) {
        return Ok(authority.certificate().to_owned());
    }
    let authority = Authority::generate(Arc::clone(world), &environment.to_string()).map_err(io::Error::other)?;
    files::replace(&file(dir, environment), authority.to_keep().expose_secret().as_bytes())?;
    Ok(authority.certificate().to_owned())
}

/// The one that an environment trusts, if it is there and not over.
pub fn kept(dir: &Path, environment: EnvironmentId, world: &Arc<dyn World>) -> Option<Arc<Authority>> {
    let bytes = files::read_if_there(&file(dir, environment)).ok().flatten()?;
    let text = SecretString::from(String::from_utf8(bytes).ok()?);
    match Authority::from_kept(Arc::clone(world), &text) {
        Ok(authority) => Some(Arc::new(authority)),
        Err(error) => {
            tracing::warn!(%environment, error = chain(&error), "connections of {environment} cannot be looked into: {error}");
            None
        }
    }
}

/// The environment is gone: so is its authority.
pub fn forget(dir: &Path, environment: EnvironmentId) {
    if let Err(error) = files::remove_all(&file(dir, environment)) {
        tracing::warn!(%environment, %error, "the authority of {environment} cannot be removed: {error}");
    }
}

fn file(dir: &Path, environment: EnvironmentId) -> PathBuf {
    dir.join(format!("authority-{environment}"))
}
