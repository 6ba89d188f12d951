//! A runner introduces itself, once, with a one-time token.

use std::sync::Arc;

use axum::extract::State;
use secrecy::SecretString;
use stockade_api::runner::{Enroll, Enrolled};
use stockade_ledger::{SitePublicKey, VerifyingKey};
use stockade_store::sites::{self, Enrolment};

use super::MAX_TEXT;
use crate::{
    answer::{Answer, Failure, Json},
    app::App,
    ledger, secret,
};

pub async fn enroll(State(app): State<Arc<App>>, Json(body): Json<Enroll>) -> Answer<Enrolled> {
    check(&body)?;
    let unknown = || {
        Failure::unauthenticated("bad_enroll_token", "this enrolment token is not known, was used or has ended")
            .hint("Make a new one: POST /v1/runners/enroll-token.")
    };
    if body.token.len() > secret::MAX_TOKEN {
        return Err(unknown());
    }
    let mut tx = app.store.write().await?;
    let enrolment = Enrolment {
        token_hash: secret::digest(&SecretString::from(body.token)),
        runner: (*app.world).id(),
        name: body.name,
        public_key: body.public_key,
        site_public_key: body.site_public_key,
        listener: body.listener,
        now: app.now(),
    };
    let runner = sites::enroll(&mut tx, &enrolment).await?.ok_or_else(unknown)?;
    let facts = [("runner", runner.id.to_string()), ("site", runner.site.to_string())];
    ledger::note(&app, &mut tx, "runner.enrolled", None, facts).await?;
    tx.commit().await?;
    app.changed();
    tracing::info!(runner = %runner.id, "{} has joined", runner.id);
    Ok(Json(Enrolled { runner: runner.id, site: runner.site, server_public_key: app.key.public().to_string() }))
}

fn check(body: &Enroll) -> Result<(), Failure> {
    let wrong = |what: &str, why: &str| Err(Failure::invalid("bad_enrolment", format!("`{what}` {why}")));
    for (what, text, most) in [
        ("name", &body.name, MAX_TEXT),
        ("listener", &body.listener, MAX_TEXT),
        ("site_public_key", &body.site_public_key, 8 * MAX_TEXT),
    ] {
        if text.is_empty() || text.len() > most || text.chars().any(char::is_control) {
            return wrong(what, "must be one line that is not too long");
        }
    }
    if body.public_key.parse::<VerifyingKey>().is_err() {
        return wrong("public_key", "must be an Ed25519 public key in base64");
    }
    if body.site_public_key.parse::<SitePublicKey>().is_err() {
        return wrong("site_public_key", "must be a site's public key");
    }
    Ok(())
}
