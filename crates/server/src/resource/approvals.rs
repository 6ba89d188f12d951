//! Approvals: a person's durable yes or no to one waiting deed.

use stockade_api::http::{Approval, ApprovalState, ListApprovals, Page};
use stockade_domain::ids::ApprovalId;
use stockade_store::approvals::{self, ApprovalFilter};

use super::{page, paged};
use crate::{
    answer::{Answer, Failure, Json, Path, Query},
    context::Cx,
};

/// Approvals, newest first.
#[utoipa::path(get, path = "/v1/approvals", tag = "approvals", params(ListApprovals),
    responses((status = 200, body = Page<Approval>)))]
pub async fn list(cx: Cx, Query(query): Query<ListApprovals>) -> Answer<Page<Approval>> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let state = query.state.map(|state| match state {
        ApprovalState::Pending => approvals::ApprovalState::Pending,
        ApprovalState::Granted => approvals::ApprovalState::Granted,
        ApprovalState::Denied => approvals::ApprovalState::Denied,
        ApprovalState::Expired => approvals::ApprovalState::Expired,
    });
    let filter = ApprovalFilter { run: query.run, owner: None, state };
    let found = approvals::list(&mut tx, &filter, &page(query.limit, query.cursor)).await?;
    Ok(Json(paged(found, shown)))
}

/// One approval.
#[utoipa::path(get, path = "/v1/approvals/{approval}", tag = "approvals", params(("approval" = String, Path)),
    responses((status = 200, body = Approval)))]
pub async fn show(cx: Cx, Path(approval): Path<ApprovalId>) -> Answer<Approval> {
    let mut tx = cx.read().await?;
    let approval = approvals::get(&mut tx, approval).await?;
    cx.may(tx, cx.on_approval(&approval)?).await?;
    Ok(Json(shown(approval)))
}

/// Yes.
#[utoipa::path(post, path = "/v1/approvals/{approval}/grant", tag = "approvals",
    params(("approval" = String, Path)), responses((status = 200, body = Approval)))]
pub async fn grant(cx: Cx, Path(approval): Path<ApprovalId>) -> Answer<Approval> {
    answer(&cx, approval, true).await
}

/// No.
#[utoipa::path(post, path = "/v1/approvals/{approval}/deny", tag = "approvals",
    params(("approval" = String, Path)), responses((status = 200, body = Approval)))]
pub async fn deny(cx: Cx, Path(approval): Path<ApprovalId>) -> Answer<Approval> {
    answer(&cx, approval, false).await
}

async fn answer(cx: &Cx, approval: ApprovalId, granted: bool) -> Answer<Approval> {
    let mut tx = cx.write().await?;
    let approval = approvals::get(&mut tx, approval).await?;
    let mut work = cx.open(tx, cx.on_approval(&approval)?).await?;
    let result = approvals::answer(&mut work.tx, approval.id, granted, cx.user.id, cx.app.now()).await;
    work.end(result.map(|approval| Json(shown(approval))).map_err(Failure::from)).await
}

fn shown(approval: approvals::Approval) -> Approval {
    Approval {
        id: approval.id,
        run: approval.run,
        project: approval.project,
        state: match approval.state {
            approvals::ApprovalState::Pending => ApprovalState::Pending,
            approvals::ApprovalState::Granted => ApprovalState::Granted,
            approvals::ApprovalState::Denied => ApprovalState::Denied,
            approvals::ApprovalState::Expired => ApprovalState::Expired,
        },
        action: approval.action,
        resource: approval.resource,
        policy: approval.policy,
        content: approval.content,
        created_at: approval.requested_at,
        expires_at: approval.expires_at,
        answered_by: approval.by,
        answered_at: approval.answered_at,
    }
}
