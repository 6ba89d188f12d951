//! `/v1/policy`

use stockade_api::http::{CheckPolicy, ExplainDeed, PutPolicy};
use stockade_domain::{Action, Answer, Deed, Principal, Resource, ResourceKind, Role};

use crate::harness::{App, databases};

#[tokio::test]
async fn a_bundle_that_loads_is_in_force_for_everybody() {
    for database in databases() {
        let app = App::on(database).await;
        let runner = app.runner().await;
        let shipped = app.admin.policy().await.unwrap();
        assert_eq!(shipped.number, 1);
        let text = format!("# ours\n{}", shipped.text);
        let put = PutPolicy { text: text.clone(), replaces: Some(1) };
        assert_eq!(app.admin.put_policy(&put).await.unwrap().number, 2);
        assert_eq!(app.admin.put_policy(&put).await.unwrap_err().code, "conflict");
        let told = runner.poll(0, 1, 0).await.unwrap().bundle.unwrap();
        assert_eq!((told.number, told.text), (2, text));
        app.stop().await;
    }
}

#[tokio::test]
async fn a_bundle_that_does_not_load_changes_nothing() {
    let app = App::new().await;
    let put = PutPolicy { text: "[[policy]]\nid = \"a\"\n".to_owned(), replaces: None };
    let error = app.admin.put_policy(&put).await.unwrap_err();
    assert_eq!(error.code, "policy_invalid");
    assert_eq!(app.admin.policy().await.unwrap().number, 1);
    assert_eq!(app.last_records(2).await, ["close error", "open policy.write"]);

    let report = app.admin.check_policy(&CheckPolicy { text: Some(put.text) }).await.unwrap();
    assert!(!report.ok && !report.problems.is_empty());
    let report = app.admin.test_policy(&CheckPolicy { text: None }).await.unwrap();
    assert!(report.ok && report.examples.iter().all(|example| example.ok));
    app.stop().await;
}

#[tokio::test]
async fn an_explanation_names_the_policies() {
    let app = App::new().await;
    let me = app.admin.me().await.unwrap();
    let deed = |roles: &[Role]| Deed {
        principal: Principal::User { id: me.user, roles: roles.to_vec() },
        action: Action::ProjectCreate,
        resource: Resource::new(ResourceKind::Organization, me.organization),
        context: Default::default(),
    };
    let admin = app.admin.explain(&ExplainDeed { deed: deed(&[Role::Admin]) }).await.unwrap();
    assert_eq!(admin.answer, Answer::Allow);
    assert!(!admin.may.policies.is_empty());
    let auditor = app.admin.explain(&ExplainDeed { deed: deed(&[Role::Auditor]) }).await.unwrap();
    assert_eq!((auditor.answer, auditor.may.yes), (Answer::Deny, false));
    app.stop().await;
}
