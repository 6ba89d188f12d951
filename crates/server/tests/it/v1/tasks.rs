//! `/v1/tasks`

use stockade_domain::{Level, Nanos, Role, RunState};

use crate::harness::{App, databases, sealed_task, start};

#[tokio::test]
async fn a_task_becomes_a_run_that_a_runner_is_told_about() {
    for database in databases() {
        let app = App::on(database).await;
        let project = app.project("p").await;
        assert_eq!(start(&app.admin, &project).await.unwrap_err().code, "no_runner");

        let runner = app.runner().await;
        let before = runner.poll(0, 0, 0).await.unwrap();
        let task = sealed_task(&app.admin, &project).await.unwrap();
        let run = app.admin.start_task(&task).await.unwrap();
        assert_eq!(run.state, RunState::Queued);
        assert_eq!((run.runner, run.level), (Some(runner.id), Level::ON_THE_LOOP));
        assert_eq!(app.last_records(2).await, ["close ok", "open task.start"]);

        let told = runner.poll(before.revision, before.bundle.unwrap().number, 5_000).await.unwrap();
        assert!(told.bundle.is_none());
        let [assignment] = told.assignments.as_slice() else { panic!("{told:?}") };
        assert_eq!((assignment.run, assignment.task_sealed.as_str()), (run.id, task.sealed.as_str()));
        assert_eq!(assignment.wrapped_key.as_ref(), Some(&task.wrapped_key));
        assert_eq!(assignment.agent.max_cost, Nanos(5_000_000_000));

        let again = app.admin.start_task(&task).await.unwrap_err();
        assert!(again.code.ends_with("_exists"), "{again:?}");
        app.stop().await;
    }
}

#[tokio::test]
async fn nobody_passes_the_projects_level_and_no_limit_is_without_end() {
    let app = App::new().await;
    app.runner().await;
    let project = app.project("p").await;
    let good = sealed_task(&app.admin, &project).await.unwrap();

    let mut task = good.clone();
    task.level = Some(Level::OUTSIDE_THE_LOOP);
    assert_eq!(app.admin.start_task(&task).await.unwrap_err().code, "level_too_high");

    let mut task = good.clone();
    task.limits.max_turns = Some(1_000_000);
    assert_eq!(app.admin.start_task(&task).await.unwrap_err().code, "bad_limit");

    let mut task = good.clone();
    task.budget = Some(Nanos(0));
    assert_eq!(app.admin.start_task(&task).await.unwrap_err().code, "bad_limit");

    let mut task = good.clone();
    task.sealed = stockade_api::base64::encode("something else");
    assert!(app.admin.start_task(&task).await.unwrap_err().code.contains("invalid"));
    assert!(app.admin.runs(&Default::default()).await.unwrap().items.is_empty());

    app.admin.start_task(&good).await.unwrap();
    app.stop().await;
}

#[tokio::test]
async fn an_auditor_starts_nothing() {
    let app = App::new().await;
    app.runner().await;
    let project = app.project("p").await;
    let (auditor, _) = app.person("eve", &[Role::Auditor]).await;
    let task = sealed_task(&app.admin, &project).await.unwrap();
    let error = auditor.start_task(&task).await.unwrap_err();
    assert_eq!(error.code, "refused");
    assert!(app.admin.runs(&Default::default()).await.unwrap().items.is_empty());
    app.stop().await;
}
