//! Sealed content, still sealed. Plain text is the site's to give.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use stockade_domain::{Digest, ids::RunId};
use stockade_store::{contents, runs};

use crate::{
    answer::{Failure, Path},
    context::Cx,
};

/// A piece of a run's content as ciphertext.
#[utoipa::path(get, path = "/v1/runs/{run}/contents/{digest}", tag = "runs",
    params(("run" = String, Path), ("digest" = String, Path)),
    responses((status = 200, body = [u8], content_type = "application/octet-stream")))]
pub async fn show(cx: Cx, Path((run, digest)): Path<(RunId, Digest)>) -> Result<Response, Failure> {
    let mut tx = cx.read().await?;
    let run = runs::get(&mut tx, run).await?;
    let mut tx = cx.may(tx, cx.on_run(&run)?).await?;
    let (_, sealed) = contents::get(&mut tx, run.id, digest).await?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))], sealed).into_response())
}
