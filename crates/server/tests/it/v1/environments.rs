//! `/v1/environments`

use stockade_domain::Desired;

use crate::harness::{App, start};

#[tokio::test]
async fn an_environment_is_wanted_gone_and_the_runner_is_told() {
    let app = App::new().await;
    let runner = app.runner().await;
    let run = start(&app.admin, &app.project("p").await).await.unwrap();
    let list = app.admin.environments(&Default::default()).await.unwrap();
    let [environment] = list.items.as_slice() else { panic!("{list:?}") };
    assert_eq!((environment.run, environment.runner), (run.id, runner.id));
    assert_eq!(app.admin.environment(environment.id).await.unwrap(), *environment);

    let gone = app.admin.delete_environment(environment.id).await.unwrap();
    assert_eq!((gone.desired, gone.generation), (Desired::Deleted, 2));
    let told = runner.poll(0, 0, 0).await.unwrap();
    assert_eq!(told.assignments[0].desired, Desired::Deleted);
    app.stop().await;
}
