//! Where an agent's commands run: the [`Driver`] trait and its drivers.
//!
//! This crate owns making, finding again, restarting and removing environments, the limits that hold
//! there, and saying truthfully what a machine allows. The default driver is [`NamespaceDriver`]: no image,
//! no daemon, no root.
//!
//! It refuses: policy (whoever calls has already been permitted), calling home, and credentials: nothing
//! secret is ever handed to it. *Invariant:* a limit or a fence that the machine cannot give is a refusal
//! ([`SandboxError::Unavailable`]) unless the operator's configuration names it; it is never left out silently.

mod capability;
mod doors;
mod driver;
mod error;
mod inside;
mod namespace;
mod shown;

pub use capability::Capability;
pub use doors::{Arrival, Asker, Doors, Stray, Stream};
pub use driver::{Class, Driver, EnvironmentSpec, Measured};
pub use error::SandboxError;
pub use inside::{Inside, System, User};
pub use namespace::{NamespaceConfig, NamespaceDriver};
pub use shown::wrong as wrong_to_show;

/// What hostile bytes are read by: for fuzzing, no input makes these panic.
#[doc(hidden)]
pub mod hostile {
    pub use crate::namespace::{
        der::{Element, canonical_name, element, subject},
        trust::Authority,
    };
}

/// What the driver tells the launcher. Public for the launcher's binary only.
#[doc(hidden)]
pub mod launch;
