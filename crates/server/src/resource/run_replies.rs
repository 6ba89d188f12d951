//! Answers to questions of the agent, sealed by the site before they come here.

use stockade_api::http::{Done, SealedContent};
use stockade_domain::{ContentKind, ids::RunId};
use stockade_store::{replies, runs};

use crate::{
    answer::{Answer, Failure, Json, Path},
    context::Cx,
};

/// The largest sealed reply, in bytes.
pub const MAX_REPLY: usize = 256 * 1024;

/// Gives an answer to the agent.
#[utoipa::path(post, path = "/v1/runs/{run}/replies", tag = "runs", params(("run" = String, Path)),
    request_body = SealedContent, responses((status = 200, body = Done)))]
pub async fn give(cx: Cx, Path(run): Path<RunId>, Json(body): Json<SealedContent>) -> Answer<Done> {
    let sealed = stockade_api::base64::decode(&body.sealed)
        .ok_or_else(|| Failure::invalid("bad_content", "`sealed` is not base64"))?;
    if body.content.kind != ContentKind::Reply || sealed.is_empty() || sealed.len() > MAX_REPLY {
        return Err(Failure::invalid(
            "bad_content",
            format!("`content` must be of the kind `reply` and have 1 to {MAX_REPLY} bytes"),
        ));
    }
    let mut tx = cx.write().await?;
    let run = runs::get(&mut tx, run).await?;
    let mut work = cx.open_with(tx, cx.on_run(&run)?, vec![body.content]).await?;
    let result = replies::give(&mut work.tx, run.id, body.content, &sealed, cx.user.id, cx.app.now()).await;
    work.end(result.map(|_| Json(Done {})).map_err(Failure::from)).await
}
