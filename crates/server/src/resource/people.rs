//! People and their tokens.

use secrecy::ExposeSecret;
use stockade_api::http::{CreateToken, CreatedToken, Me};
use stockade_store::{
    StoreError, Tx,
    people::{self, Token, User},
};

use crate::{
    answer::{Answer, Failure, Json},
    app::App,
    context::Cx,
    secret,
};

/// The longest name of a person or label of a token, in bytes.
const MAX_NAME: usize = 100;

/// Who the token belongs to.
#[utoipa::path(get, path = "/v1/me", tag = "people", responses((status = 200, body = Me)))]
pub async fn me(cx: Cx) -> Answer<Me> {
    Ok(Json(Me {
        user: cx.user.id,
        name: cx.user.name.clone(),
        roles: cx.user.roles.clone(),
        organization: cx.app.organization,
    }))
}

/// Makes an access token, and the person it is for if there is none of that name.
#[utoipa::path(post, path = "/v1/tokens", tag = "people", request_body = CreateToken,
    responses((status = 200, body = CreatedToken)))]
pub async fn create_token(cx: Cx, Json(body): Json<CreateToken>) -> Answer<CreatedToken> {
    for (what, text) in [("user", &body.user), ("label", &body.label)] {
        if text.trim().is_empty() || text.len() > MAX_NAME || text.chars().any(char::is_control) {
            return Err(Failure::invalid("bad_name", format!("`{what}` must have 1 to {MAX_NAME} bytes of one line")));
        }
    }
    let mut work = cx.open(cx.write().await?, cx.on_organization()?).await?;
    let result = create(&cx.app, &mut work.tx, &body).await;
    work.end(result).await.map(Json)
}

async fn create(app: &App, tx: &mut Tx, body: &CreateToken) -> Result<CreatedToken, Failure> {
    let now = app.now();
    let user = match people::users(tx).await?.into_iter().find(|user| user.name == body.user) {
        Some(user) => {
            if !body.roles.is_empty() && sorted(&body.roles) != user.roles {
                return Err(Failure::conflict("other_roles", format!("`{}` is there with other roles", user.name))
                    .hint("Leave `roles` out to make a token for that person."));
            }
            user
        }
        None => {
            let user =
                User { id: (*app.world).id(), name: body.user.clone(), roles: sorted(&body.roles), created_at: now };
            people::add_user(tx, &user).await?;
            user
        }
    };
    let secret = secret::generate(&*app.world, secret::USER_PREFIX);
    let token = Token {
        id: (*app.world).id(),
        user: user.id,
        name: body.label.clone(),
        created_at: now,
        expires_at: body.expires_in_s.map(|seconds| now.plus_seconds(seconds)),
        revoked_at: None,
    };
    people::add_token(tx, &token, secret::digest(&secret)).await.map_err(|error: StoreError| Failure::from(error))?;
    Ok(CreatedToken {
        id: token.id,
        user: user.id,
        token: secret.expose_secret().to_owned(),
        expires_at: token.expires_at,
    })
}

fn sorted(roles: &[stockade_domain::Role]) -> Vec<stockade_domain::Role> {
    let mut roles = roles.to_vec();
    roles.sort_unstable();
    roles.dedup();
    roles
}
