//! Who calls.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use stockade_domain::{
    Level, Principal,
    ids::{ProjectId, RunId, UserId},
};
use stockade_ledger::RunKey;

use crate::{CallError, Finished};

/// Who calls a model, proven by whoever made this value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The run for which the call is made.
    pub run: RunId,
    /// The person behind it.
    pub owner: UserId,
    /// The run's project.
    pub project: ProjectId,
    /// The run's autonomy level.
    pub level: Level,
    /// Who exactly: the agent of that run, or the person.
    pub principal: Principal,
}

/// How whoever knocks proves who they are, where the doors stand somewhere else than in the site's own network.
#[async_trait]
pub trait Proof: Send + Sync {
    /// Whose token this is.
    ///
    /// # Errors
    /// What they are told instead.
    async fn caller(&self, token: &SecretString) -> Result<Caller, Unproven>;
}

/// Why nobody is let in by a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// It is nobody's. With what is said of it.
    Unknown(&'static str),
    /// It cannot be known yet: come again.
    Later,
}

/// The runs that the gateway serves. The runner implements it.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Whose token this is. A token opens the gateway and nothing else, and dies with its run.
    async fn caller(&self, token: &SecretString) -> Option<Caller>;

    /// The same caller as it is now: a call that has waited for a person begins anew. Nothing if its token has ended.
    fn renewed(&self, caller: &Caller) -> Option<Caller> {
        Some(caller.clone())
    }

    /// Whether this run may ask for a model of that name at all. Policy decides afterwards.
    fn permits(&self, run: RunId, model: &str) -> bool {
        let _ = (run, model);
        true
    }

    /// A call that came over HTTP has ended, with its record. Those of our own loop are told to whoever made them.
    fn ended(&self, caller: &Caller, finished: &Finished) {
        let _ = (caller, finished);
    }

    /// A call that came over HTTP was not made.
    fn refused(&self, caller: &Caller, error: &CallError) {
        let _ = (caller, error);
    }

    /// The key that seals what this run says. Nothing, once the run is erased: then no call is made for it.
    fn key(&self, run: RunId) -> Option<Arc<RunKey>>;
}
