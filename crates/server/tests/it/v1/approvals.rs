//! `/v1/approvals`

use stockade_api::http::{ApprovalState, ListApprovals, PutPolicy};
use stockade_domain::Role;

use crate::harness::{App, databases, start};

#[tokio::test]
async fn a_yes_reaches_the_runner() {
    for database in databases() {
        let app = App::on(database).await;
        let mut runner = app.runner().await;
        let run = start(&app.admin, &app.project("p").await).await.unwrap();
        let approval = runner.work_until_asked(run.id).await;
        let waiting = ListApprovals { state: Some(ApprovalState::Pending), ..ListApprovals::default() };
        assert_eq!(app.admin.approvals(&waiting).await.unwrap().items[0].id, approval);

        let granted = app.admin.grant(approval).await.unwrap();
        assert_eq!(granted.state, ApprovalState::Granted);
        let answers = &runner.poll(0, 0, 0).await.unwrap().assignments[0].approvals;
        assert_eq!((answers[0].approval, answers[0].granted), (approval, true));
        assert!(app.admin.approvals(&waiting).await.unwrap().items.is_empty());
        assert_eq!(app.admin.deny(approval).await.unwrap_err().code, "wrong_state");
        app.stop().await;
    }
}

/// Silence is a no: nobody's, on record, and told to the runner.
#[tokio::test]
async fn silence_becomes_a_no() {
    let app = App::new().await;
    let mut runner = app.runner().await;
    let run = start(&app.admin, &app.project("p").await).await.unwrap();
    let approval = runner.work_until_asked(run.id).await;
    app.world.push_seconds(601);
    let mut told = runner.poll(0, 0, 0).await.unwrap();
    let answer = loop {
        if let Some(answer) = told.assignments[0].approvals.first() {
            break answer.clone();
        }
        told = runner.poll(told.revision, 1, 5_000).await.unwrap();
    };
    assert_eq!((answer.approval, answer.granted, answer.by), (approval, false, None));
    assert!(app.last_records(5).await.contains(&"note approval.expired".to_owned()));
    assert_eq!(app.admin.approval(approval).await.unwrap().state, ApprovalState::Expired);
    app.stop().await;
}

#[tokio::test]
async fn a_developer_answers_for_own_runs_only() {
    let app = App::new().await;
    let mut runner = app.runner().await;
    let project = app.project("p").await;
    let (ada, _) = app.person("ada", &[Role::Developer]).await;
    let (eve, _) = app.person("eve", &[Role::Developer]).await;
    let run = start(&ada, &project).await.unwrap();
    let approval = runner.work_until_asked(run.id).await;
    assert_eq!(eve.grant(approval).await.unwrap_err().code, "refused");
    assert_eq!(ada.grant(approval).await.unwrap().state, ApprovalState::Granted);
    app.stop().await;
}

/// A policy knows about what is asked: here nobody answers for their own tool calls, as others may want for model calls.
#[tokio::test]
async fn a_policy_may_want_another_person_for_some_deeds() {
    let app = App::new().await;
    let mut runner = app.runner().await;
    let project = app.project("p").await;
    let (ada, _) = app.person("ada", &[Role::Developer]).await;
    let forbid = |asked: &str| {
        format!(
            "[[policy]]\nid = \"another\"\ntitle = \"Another person answers\"\ntext = '''\n\
             forbid(principal is User, action == Action::\"approval.answer\", resource)\n\
             when {{ context has asked && context.asked == \"{asked}\" && context has owner && context.owner == principal.id }};\n'''\n"
        )
    };
    let shipped = app.admin.policy().await.unwrap().text;
    let put = |asked| PutPolicy { text: format!("{shipped}\n{}", forbid(asked)), replaces: None };
    let run = start(&ada, &project).await.unwrap();
    let approval = runner.work_until_asked(run.id).await;
    app.admin.put_policy(&put("tool.call")).await.unwrap();
    assert_eq!(ada.grant(approval).await.unwrap_err().code, "refused");
    app.admin.put_policy(&put("model.call")).await.unwrap();
    assert_eq!(ada.grant(approval).await.unwrap().state, ApprovalState::Granted);
    app.stop().await;
}
