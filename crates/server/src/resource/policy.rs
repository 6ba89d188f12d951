//! The organization's policy: what is in force, what would be, and why.

use stockade_api::http::{CheckPolicy, ExplainDeed, Explanation, Policy, PolicyReport, PutPolicy};
use stockade_policy as engine;
use stockade_store::{Tx, bundles};

use crate::{
    answer::{Answer, Failure, Json},
    context::Cx,
    offline,
};

/// The bundle in force.
#[utoipa::path(get, path = "/v1/policy", tag = "policy", responses((status = 200, body = Policy)))]
pub async fn show(cx: Cx) -> Answer<Policy> {
    let mut tx = cx.may(cx.read().await?, cx.on_policy()?).await?;
    Ok(Json(shown(bundles::current(&mut tx).await?)))
}

/// Puts a new bundle into force. It gets the next number. One that does not load is refused whole.
#[utoipa::path(put, path = "/v1/policy", tag = "policy", request_body = PutPolicy,
    responses((status = 200, body = Policy)))]
pub async fn put(cx: Cx, Json(body): Json<PutPolicy>) -> Answer<Policy> {
    let mut work = cx.open(cx.write().await?, cx.on_policy()?).await?;
    let result = replace(&cx, &mut work.tx, body).await;
    work.end(result.map(|bundle| Json(shown(bundle)))).await
}

async fn replace(cx: &Cx, tx: &mut Tx, body: PutPolicy) -> Result<bundles::Bundle, Failure> {
    if let Err(problems) = engine::check(&body.text) {
        let first = problems.first().map_or_else(String::new, ToString::to_string);
        let more = match problems.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        return Err(Failure::invalid("policy_invalid", format!("the bundle does not load: {first}{more}"))
            .hint("`stockade policy check` lists everything; the bundle in force stays."));
    }
    bundles::put(tx, body.replaces, &body.text, Some(cx.user.id), cx.app.now()).await?;
    Ok(bundles::current(tx).await?)
}

/// Would this bundle load? Everything that is wrong with it, in one go.
#[utoipa::path(post, path = "/v1/policy/check", tag = "policy", request_body = CheckPolicy,
    responses((status = 200, body = PolicyReport)))]
pub async fn check(cx: Cx, Json(body): Json<CheckPolicy>) -> Answer<PolicyReport> {
    let text = text(&cx, body).await?;
    Ok(Json(offline::check_policy(&text)))
}

/// How do the bundle's examples come out?
#[utoipa::path(post, path = "/v1/policy/test", tag = "policy", request_body = CheckPolicy,
    responses((status = 200, body = PolicyReport)))]
pub async fn test(cx: Cx, Json(body): Json<CheckPolicy>) -> Answer<PolicyReport> {
    let text = text(&cx, body).await?;
    Ok(Json(offline::test_policy(&text)))
}

/// What would be decided about a deed, and by which policies?
#[utoipa::path(post, path = "/v1/policy/explain", tag = "policy", request_body = ExplainDeed,
    responses((status = 200, body = Explanation)))]
pub async fn explain(cx: Cx, Json(body): Json<ExplainDeed>) -> Answer<Explanation> {
    let mut tx = cx.may(cx.read().await?, cx.on_policy()?).await?;
    let explained = cx.app.engines.current(&mut tx).await?.explain(&body.deed);
    Ok(Json(offline::explanation(explained)))
}

async fn text(cx: &Cx, body: CheckPolicy) -> Result<String, Failure> {
    let mut tx = cx.may(cx.read().await?, cx.on_policy()?).await?;
    match body.text {
        Some(text) => Ok(text),
        None => Ok(bundles::current(&mut tx).await?.text),
    }
}

fn shown(bundle: bundles::Bundle) -> Policy {
    Policy { number: bundle.number, text: bundle.text, created_at: bundle.created_at, created_by: bundle.by }
}
