//! The policy in force, parsed once per bundle.
//!
//! *Invariant:* a deed is decided by the bundle that the database has in force in that very transaction,
//! also when another server put it there a moment ago. Only the parsing is remembered.

use std::sync::{Arc, Mutex, PoisonError};

use stockade_policy::{Bundle, Engine};
use stockade_store::{Tx, bundles};

use crate::answer::Failure;

/// The last bundle that was parsed.
#[derive(Default)]
pub struct Engines {
    last: Mutex<Option<Arc<Engine>>>,
}

impl Engines {
    /// The engine of the bundle in force.
    pub async fn current(&self, tx: &mut Tx) -> Result<Arc<Engine>, Failure> {
        let bundle = bundles::current(tx).await?;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(engine) = last.filter(|engine| engine.number() == bundle.number) {
            return Ok(engine);
        }
        let engine = Bundle::parse(bundle.number, &bundle.text)
            .map_err(|error| Failure::bug("load the policy in force", &error))?;
        let engine = Arc::new(engine);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&engine));
        Ok(engine)
    }
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engines").finish_non_exhaustive()
    }
}
