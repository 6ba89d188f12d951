//! The gateway as an environment sees it: `http://gateway.stockade.internal`, served by this process on a stream that came out of it.
//!
//! Owns the token of a run's program and who may use it: the token is derived from the run's key and the environment's name, so it is known
//! again after a restart, gone with the key, and rests nowhere. It refuses every path that is not below `/gateway`, and every token but that of
//! the very run whose stream it is. *Invariant:* what is called here is called as the agent of that run: policy, budget, content rules and the
//! record are those of our own loop.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use secrecy::{ExposeSecret as _, SecretString};
use stockade_api::{gateway_token, runner::Assignment};
use stockade_domain::{
    Principal,
    ids::{EnvironmentId, RunId},
};
use stockade_egress::exit::{self, Inside};
use stockade_gateway::{Caller, Gateway, Proof, Unproven};
use stockade_ledger::{RunKey, sha256};
use stockade_llm::{
    Dialect,
    neutral::{ApiFault, FaultKind},
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::slot::Registry;

/// How long a connection may take to say what it wants, or lie idle between two requests.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(300);

const NOT_YOURS: &str = "this is not the token of this environment: use the one that your program was started with";
const ENDED: &str = "no program is at work in this environment that may call models";
const NOTHING: &str = "there is nothing at this address: models are called below /gateway";

/// The base of every address below.
pub fn base() -> String {
    format!("http://{}/gateway", exit::GATEWAY)
}

/// The token of a run's program in its environment.
pub fn token(key: &RunKey, environment: EnvironmentId) -> SecretString {
    let derived = key.derived(&format!("gateway token of {environment}"));
    SecretString::from(gateway_token::encode(derived.expose_secret()))
}

/// Who calls from a run's environment.
pub fn caller(a: &Assignment) -> Caller {
    Caller {
        run: a.run,
        owner: a.owner,
        project: a.project.id,
        level: a.project.level,
        principal: Principal::Agent { run: a.run, owner: a.owner },
    }
}

/// What one run's environment is served.
#[derive(Clone)]
pub struct Pinhole {
    run: RunId,
    router: Router,
}

impl fmt::Debug for Pinhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinhole").field("run", &self.run).finish_non_exhaustive()
    }
}

impl Pinhole {
    /// The gateway for a run.
    pub fn new(gateway: &Gateway, runs: &Arc<Registry>, run: RunId) -> Self {
        let keeper = Keeper { runs: Arc::clone(runs), run };
        let router = gateway.router_for(Arc::new(keeper)).fallback(nothing);
        Self { run, router }
    }

    /// Serves a stream until its end.
    pub async fn stream<S: AsyncRead + AsyncWrite + Unpin + Send>(&self, stream: S) {
        let service = TowerToHyperService::new(self.router.clone());
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            // A program that hangs up, or speaks something else: its calls are recorded, the rest is no news.
            tracing::debug!(run = %self.run, %error, "a connection of {} to the gateway ended: {error}", self.run);
        }
    }
}

#[async_trait]
impl Inside for Pinhole {
    async fn serve(&self, stream: Box<dyn exit::Stream>) {
        self.stream(stream).await;
    }
}

async fn nothing() -> impl IntoResponse {
    let body = Dialect::Messages.error_body(&ApiFault::new(FaultKind::NotFound, NOTHING));
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], body)
}

/// Knows one token.
struct Keeper {
    runs: Arc<Registry>,
    run: RunId,
}

#[async_trait]
impl Proof for Keeper {
    async fn caller(&self, shown: &SecretString) -> Result<Caller, Unproven> {
        let slot = self.runs.get(self.run).ok_or(Unproven::Unknown(ENDED))?;
        let a = slot.assignment();
        if !a.agent.harness.is_inside() || a.state.is_final() {
            return Err(Unproven::Unknown(ENDED));
        }
        // The key is there as soon as somebody works on the run again.
        let key = slot.key().ok_or(Unproven::Later)?;
        let known = token(&key, a.environment);
        let [known, shown] = [&known, shown].map(|token| sha256(&[token.expose_secret().as_bytes()]));
        verify_slices_are_equal(&known.0, &shown.0).map_err(|_| Unproven::Unknown(NOT_YOURS))?;
        match slot.calls.is_open() {
            Some(true) => Ok(caller(&a)),
            Some(false) => Err(Unproven::Unknown(ENDED)),
            None => Err(Unproven::Later),
        }
    }
}

#[cfg(test)]
mod tests {
    use stockade_domain::Id;
    use stockade_ledger::SystemWorld;

    use super::*;

    #[test]
    fn a_token_is_of_one_run_in_one_environment_and_the_same_after_a_restart() {
        let run = Id::from_bytes([9; 16]);
        let (key, other) = (RunKey::generate(&SystemWorld, run), RunKey::generate(&SystemWorld, run));
        let (here, there) = (Id::from_bytes([1; 16]), Id::from_bytes([2; 16]));
        let text = |key: &RunKey, of| token(key, of).expose_secret().to_owned();
        assert!(gateway_token::is_well_formed(&text(&key, here)), "scanners know it for what it is");
        assert_eq!(text(&key, here), text(&key, here));
        assert_ne!(text(&key, here), text(&key, there));
        assert_ne!(text(&key, here), text(&other, here));
        assert!(!format!("{:?}", token(&key, here)).contains("stk_gw_"));
    }
}
