//! Runners: the hands of a site, as people see them. What they say themselves is in `site`.

use secrecy::ExposeSecret;
use stockade_api::http::{CreateEnrollToken, EnrollToken, Page, Runner};
use stockade_store::{
    StoreError, Tx,
    sites::{self, EnrollToken as Row},
};

use super::whole;
use crate::{
    answer::{Answer, Failure, Json},
    context::Cx,
    reconcile::RUNNER_LIVE_MS,
    secret,
};

/// How long an enrolment token is good when nobody said, in seconds.
const DEFAULT_TOKEN_S: u64 = 3_600;
/// How long it may be good at most, in seconds.
const MAX_TOKEN_S: u64 = 7 * 24 * 3_600;
/// The site when nobody said. The first start makes it.
pub const DEFAULT_SITE: &str = "default";

/// All runners, oldest first.
#[utoipa::path(get, path = "/v1/runners", tag = "runners", responses((status = 200, body = Page<Runner>)))]
pub async fn list(cx: Cx) -> Answer<Page<Runner>> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let now = cx.app.now();
    let found = sites::runners(&mut tx).await?.into_iter().map(|runner| Runner {
        id: runner.id,
        name: runner.name,
        site: runner.site,
        listener: runner.listener,
        seen_at: Some(runner.seen_at),
        live: now.ms_since(runner.seen_at) < RUNNER_LIVE_MS,
        bundle: runner.bundle,
        spooled: runner.spooled,
        away_since: runner.away_since,
    });
    Ok(Json(whole(found.collect())))
}

/// Makes a token by which one runner may enrol, once.
#[utoipa::path(post, path = "/v1/runners/enroll-token", tag = "runners", request_body = CreateEnrollToken,
    responses((status = 200, body = EnrollToken)))]
pub async fn enroll_token(cx: Cx, Json(body): Json<CreateEnrollToken>) -> Answer<EnrollToken> {
    let seconds = body.expires_in_s.unwrap_or(DEFAULT_TOKEN_S);
    if !(1..=MAX_TOKEN_S).contains(&seconds) {
        return Err(Failure::invalid("bad_expiry", format!("`expires_in_s` must be 1 to {MAX_TOKEN_S}")));
    }
    let name = body.site.unwrap_or_else(|| DEFAULT_SITE.to_owned());
    if name.trim().is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
        return Err(Failure::invalid("bad_name", "`site` must have 1 to 64 bytes of one line"));
    }
    let mut work = cx.open(cx.write().await?, cx.on_organization()?).await?;
    let result = make(&cx, &mut work.tx, &name, seconds).await;
    work.end(result).await.map(Json)
}

async fn make(cx: &Cx, tx: &mut Tx, site: &str, seconds: u64) -> Result<EnrollToken, Failure> {
    let now = cx.app.now();
    let site = match sites::by_name(tx, site).await {
        Ok(site) => site.id,
        Err(StoreError::NotFound { .. }) => {
            let id = (*cx.app.world).id();
            sites::add(tx, id, site, now).await?;
            id
        }
        Err(error) => return Err(error.into()),
    };
    let token = secret::generate(&*cx.app.world, secret::ENROLL_PREFIX);
    let expires_at = now.plus_seconds(seconds);
    let row = Row { hash: secret::digest(&token), site, by: cx.user.id, created_at: now, expires_at };
    sites::add_enroll_token(tx, &row).await?;
    Ok(EnrollToken { token: token.expose_secret().to_owned(), expires_at })
}
