//! `/v1/classes`, and what names one.

use stockade_api::http::{CreateProject, ListClasses, UpdateProject};
use stockade_domain::{EnvironmentClass, EnvironmentUsage, EventKind, Harness, Nanos, Network, Observed};

use crate::harness::{App, databases, project, sealed_task};

fn classes() -> Vec<EnvironmentClass> {
    let named =
        |name: &str, network| EnvironmentClass { name: name.to_owned(), network, ..EnvironmentClass::standard() };
    vec![named("middling", Network::Policy), named("shut", Network::None)]
}

#[tokio::test]
async fn a_class_is_one_of_those_that_runners_make() {
    for database in databases() {
        let app = App::on(database).await;
        // Before a runner has said what it makes, nobody can say what is unknown.
        let early =
            app.admin.create_project(&CreateProject { class: Some("shut".to_owned()), ..project("early") }).await;
        assert_eq!(early.unwrap().class.as_deref(), Some("shut"));
        let mut runner = app.runner().await;
        runner.classes = classes();
        runner.poll(0, 0, 0).await.unwrap();

        let found = app.admin.classes(&ListClasses::default()).await.unwrap().items;
        let told: Vec<_> = found.iter().map(|class| (class.name.as_str(), class.default, class.network)).collect();
        assert_eq!(told, [("middling", true, Network::Policy), ("shut", false, Network::None)]);
        assert_eq!(found[0].runners, [runner.id]);

        let unknown = CreateProject { class: Some("huge".to_owned()), ..project("p") };
        let error = app.admin.create_project(&unknown).await.unwrap_err();
        assert_eq!(error.code, "unknown_class");
        assert!(error.message.contains("`huge`") && error.message.contains("middling, shut"), "{error:?}");
        let p = app.project("p").await;
        let change = |class: &str| UpdateProject { class: Some(class.to_owned()), ..UpdateProject::default() };
        assert_eq!(app.admin.update_project(p.id, &change("huge")).await.unwrap_err().code, "unknown_class");
        assert_eq!(app.admin.update_project(p.id, &change("shut")).await.unwrap().class.as_deref(), Some("shut"));

        // A task's own word comes before the project's.
        let mut task = sealed_task(&app.admin, &p).await.unwrap();
        task.class = Some("../../huge\u{1b}[31m".to_owned());
        let error = app.admin.start_task(&task).await.unwrap_err();
        assert!(error.code == "unknown_class" && !error.message.contains('\u{1b}'), "{error:?}");
        task.class = None;
        task.harness = Harness::ClaudeCode;
        assert_eq!(app.admin.start_task(&task).await.unwrap_err().code, "class_without_gateway");
        task.class = Some("middling".to_owned());
        let run = app.admin.start_task(&task).await.unwrap();
        assert_eq!((run.class.as_deref(), run.runner), (Some("middling"), Some(runner.id)));
        assert_eq!(runner.poll(0, 0, 0).await.unwrap().assignments[0].class.as_deref(), Some("middling"));

        // With none named anywhere, the runner's first is what the policy sees and the runner takes.
        app.admin.update_project(p.id, &change("")).await.unwrap();
        let task = sealed_task(&app.admin, &p).await.unwrap();
        let run = app.admin.start_task(&task).await.unwrap();
        assert_eq!(run.class, None);
        let records = app.admin.records(&Default::default()).await.unwrap().items;
        let deed = records.iter().find(|record| record.record["body"]["deed"]["action"] == "task.start").unwrap();
        assert_eq!(deed.record["body"]["deed"]["context"]["class"], "middling", "{:?}", deed.record);
        app.stop().await;
    }
}

#[tokio::test]
async fn classes_that_cannot_be_meant_are_not_believed() {
    let app = App::new().await;
    let mut runner = app.runner().await;
    for wrong in [
        vec![EnvironmentClass { name: "<script>".to_owned(), ..EnvironmentClass::standard() }],
        vec![EnvironmentClass { memory_bytes: 0, ..EnvironmentClass::standard() }],
        vec![EnvironmentClass { price_per_hour: Nanos(-1), ..EnvironmentClass::standard() }],
        vec![EnvironmentClass::standard(); 101],
    ] {
        runner.classes = wrong;
        assert_eq!(runner.poll(0, 0, 0).await.unwrap_err().code, "bad_poll");
    }
    assert_eq!(app.admin.classes(&ListClasses::default()).await.unwrap().items, []);
    app.stop().await;
}

#[tokio::test]
async fn what_an_environment_has_used_is_shown_and_summed_and_never_shrinks() {
    for database in databases() {
        let app = App::on(database).await;
        let mut runner = app.runner().await;
        let run = crate::harness::start(&app.admin, &app.project("p").await).await.unwrap();
        let environment = run.environment.unwrap();
        let fence = runner.lease(run.id).await.unwrap().fence;
        let usage = |cpu_ms, cost| EventKind::EnvironmentUsage {
            environment,
            usage: EnvironmentUsage { cpu_ms, running_ms: 10, ..EnvironmentUsage::default() },
            cost: Nanos(cost),
        };
        let seen = EventKind::Environment {
            environment,
            observed: Observed::Running,
            generation: 1,
            duration_ms: None,
            class: Some("small".to_owned()),
        };
        runner.tell(run.id, fence, vec![seen, usage(70, 500), usage(20, i64::MIN)]).await;
        let shown = app.admin.environment(environment).await.unwrap();
        assert_eq!((shown.class.as_deref(), shown.cost), (Some("small"), Nanos(500)));
        assert_eq!(shown.usage.unwrap().cpu_ms, 70, "a reading that is older takes nothing away");
        let shown = app.admin.run(run.id).await.unwrap();
        assert_eq!((shown.environment_cost, shown.environment_usage.unwrap().cpu_ms), (Nanos(500), 70));
        // A runner that says nonsense says no more than a million dollars' worth of it.
        runner.tell(run.id, fence, vec![usage(u64::MAX, i64::MAX)]).await;
        let shown = app.admin.run(run.id).await.unwrap();
        assert_eq!(shown.environment_cost, Nanos(1_000_000 * Nanos::DOLLAR.0));
        app.stop().await;
    }
}
