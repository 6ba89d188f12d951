//! What the inside of an environment is: a word of the domain, because classes of environments say it.

pub use stockade_domain::inside::{Inside, System, User};
