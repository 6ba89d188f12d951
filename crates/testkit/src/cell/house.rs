//! A gateway with everything around it.

use anyhow::Result;

use super::Spec;
use crate::fakes::Fake;

/// What the client shows.
pub const TOKEN: &str = "stk_matrix_token_that_is_worth_nothing_elsewhere";
/// What the provider wants.
pub const KEY: &str = "AKIATESTKITPROVIDER1";

/// The gateway.
#[derive(Debug)]
pub struct House {}

impl House {
    /// Starts it before this provider.
    ///
    /// # Errors
    /// If the gateway does not take its configuration.
    pub fn start(_fake: &Fake, _spec: &Spec) -> Result<Self> {
        anyhow::bail!("there is no gateway yet")
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        String::new()
    }
}
