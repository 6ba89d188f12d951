//! `/v1/tokens`

use stockade_api::http::CreateToken;
use stockade_domain::Role;

use crate::harness::{App, client};

fn body(user: &str, roles: &[Role], expires_in_s: Option<u64>) -> CreateToken {
    CreateToken { user: user.to_owned(), roles: roles.to_vec(), label: "laptop".to_owned(), expires_in_s }
}

#[tokio::test]
async fn a_token_signs_its_person_in_until_it_ends() {
    let app = App::new().await;
    let made = app.admin.create_token(&body("ada", &[Role::Developer], Some(60))).await.unwrap();
    let ada = client(&app.server, &made.token);
    let me = ada.me().await.unwrap();
    assert_eq!((me.name.as_str(), me.roles.as_slice()), ("ada", &[Role::Developer][..]));
    assert_eq!(app.last_records(2).await, ["close ok", "open token.create"]);

    app.world.push_seconds(61);
    assert_eq!(ada.me().await.unwrap_err().code, "bad_token");
    app.stop().await;
}

#[tokio::test]
async fn a_person_keeps_their_roles() {
    let app = App::new().await;
    let first = app.admin.create_token(&body("ada", &[Role::Developer], None)).await.unwrap();
    let second = app.admin.create_token(&body("ada", &[], None)).await.unwrap();
    assert_eq!(first.user, second.user);
    let error = app.admin.create_token(&body("ada", &[Role::Admin], None)).await.unwrap_err();
    assert_eq!(error.code, "other_roles");
    // That it was tried is on record, and how it ended.
    assert_eq!(app.last_records(2).await, ["close error", "open token.create"]);
    app.stop().await;
}
