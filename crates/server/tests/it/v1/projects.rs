//! `/v1/projects`

use stockade_api::http::{CreateProject, ListProjects, UpdateProject};

use crate::harness::{App, databases, project};

#[tokio::test]
async fn a_project_is_added_found_and_changed() {
    for database in databases() {
        let app = App::on(database).await;
        let made = app.project("web-shop").await;
        assert_eq!(app.admin.project(made.id).await.unwrap(), made);
        assert_eq!(app.admin.project_by_name("web-shop").await.unwrap().as_ref(), Some(&made));
        assert_eq!(app.admin.project_by_name("nothing").await.unwrap(), None);
        let error = app.admin.create_project(&project("web-shop")).await.unwrap_err();
        assert_eq!(error.code, "project_exists");

        let change = UpdateProject { gates: Some(vec!["cargo test".to_owned()]), ..UpdateProject::default() };
        let changed = app.admin.update_project(made.id, &change).await.unwrap();
        assert_eq!((changed.gates.len(), &changed.repository), (1, &made.repository));
        assert_eq!(app.admin.project(made.id).await.unwrap(), changed);
        assert_eq!(app.last_records(2).await, ["close ok", "open project.update"]);
        app.stop().await;
    }
}

#[tokio::test]
async fn hostile_names_are_refused_before_anything_is_done() {
    let app = App::new().await;
    let long = "x".repeat(65);
    for name in ["", "-rf", "A", "a b", "a/b", "ä", long.as_str()] {
        assert_eq!(app.admin.create_project(&project(name)).await.unwrap_err().code, "bad_project", "{name}");
    }
    for repository in ["", "--upload-pack=x", "a\nb"] {
        let body = CreateProject { repository: repository.to_owned(), ..project("a") };
        assert_eq!(app.admin.create_project(&body).await.unwrap_err().code, "bad_project", "{repository}");
    }
    assert!(app.admin.records(&Default::default()).await.unwrap().items.is_empty());
    app.stop().await;
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let app = App::new().await;
    for name in ["a", "b", "c"] {
        app.project(name).await;
    }
    let mut query = ListProjects { limit: Some(2), ..ListProjects::default() };
    let first = app.admin.projects(&query).await.unwrap();
    query.cursor = first.next_cursor;
    let second = app.admin.projects(&query).await.unwrap();
    let names: Vec<_> = first.items.iter().chain(&second.items).map(|project| project.name.as_str()).collect();
    assert_eq!(names, ["c", "b", "a"]);
    assert_eq!(second.next_cursor, None);
    app.stop().await;
}
