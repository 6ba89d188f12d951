//! Groups: several people under one name, so that a budget can be theirs.

use stockade_api::http::{ChangeGroup, CreateGroup, Group, Member, Page};
use stockade_domain::ids::{GroupId, UserId};
use stockade_store::{Tx, groups, people};

use super::whole;
use crate::{
    answer::{Answer, Failure, Json, Path},
    context::Cx,
};

/// The longest name of a group, in bytes.
const MAX_NAME: usize = 64;

/// All groups, by name.
#[utoipa::path(get, path = "/v1/groups", tag = "people", responses((status = 200, body = Page<Group>)))]
pub async fn list(cx: Cx) -> Answer<Page<Group>> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let found = groups::list(&mut tx).await?;
    Ok(Json(whole(found.into_iter().map(shown).collect())))
}

/// Makes a group with nobody in it.
#[utoipa::path(post, path = "/v1/groups", tag = "people", request_body = CreateGroup,
    responses((status = 200, body = Group)))]
pub async fn create(cx: Cx, Json(body): Json<CreateGroup>) -> Answer<Group> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if body.name.is_empty() || body.name.len() > MAX_NAME || !body.name.bytes().all(plain) {
        let why = format!("`name` must have 1 to {MAX_NAME} of a-z, 0-9, `-`, `_` and `.`");
        return Err(Failure::invalid("bad_name", why));
    }
    let mut work = cx.open(cx.write().await?, cx.on_organization()?).await?;
    let result = groups::add(&mut work.tx, (*cx.app.world).id(), &body.name, cx.app.now()).await;
    work.end(result.map(|group| Json(shown(group))).map_err(Failure::from)).await
}

/// Puts a person into a group, or takes them out.
#[utoipa::path(post, path = "/v1/groups/{group}/members", tag = "people", params(("group" = String, Path)),
    request_body = ChangeGroup, responses((status = 200, body = Group)))]
pub async fn change(cx: Cx, Path(group): Path<GroupId>, Json(body): Json<ChangeGroup>) -> Answer<Group> {
    let mut work = cx.open(cx.write().await?, cx.on_organization()?).await?;
    let result = moved(&cx, &mut work.tx, group, &body).await;
    work.end(result).await.map(|group| Json(shown(group)))
}

async fn moved(cx: &Cx, tx: &mut Tx, group: GroupId, body: &ChangeGroup) -> Result<groups::Group, Failure> {
    groups::get(tx, group).await?;
    let user = user(tx, &body.user).await?;
    Ok(if body.member {
        groups::join(tx, group, user, cx.app.now()).await?
    } else {
        groups::leave(tx, group, user).await?
    })
}

/// A person by identifier or name.
pub async fn user(tx: &mut Tx, given: &str) -> Result<UserId, Failure> {
    if let Ok(id) = given.parse::<UserId>() {
        return Ok(people::user(tx, id).await?.id);
    }
    let found = people::users(tx).await?.into_iter().find(|user| user.name == given);
    found
        .map(|user| user.id)
        .ok_or_else(|| Failure::not_found("user_not_found", format!("there is nobody named `{given}`")))
}

fn shown(group: groups::Group) -> Group {
    Group {
        id: group.id,
        name: group.name,
        members: group.members.into_iter().map(|(user, name)| Member { user, name }).collect(),
        created_at: group.created_at,
    }
}
