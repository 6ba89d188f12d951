//! `/v1/connections`

use stockade_api::http::ListConnections;
use stockade_domain::{Answer, Role, Timestamp};

use crate::harness::{App, databases, start};

#[tokio::test]
async fn where_a_run_went_and_what_was_refused() {
    for database in databases() {
        let app = App::on(database).await;
        let mut runner = app.runner().await;
        let project = app.project("p").await;
        let run = start(&app.admin, &project).await.unwrap();
        runner.work_until_asked(run.id).await;
        let (opened, refused) = runner.connect(&run).await;

        let of_run = ListConnections { run: Some(run.id), ..ListConnections::default() };
        let found = app.admin.connections(&of_run).await.unwrap().items;
        assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [refused, opened]);
        let placed = app.admin.run(run.id).await.unwrap();
        assert_eq!((Some(found[0].environment), found[0].project), (placed.environment, Some(project.id)));
        let wish = |decision, host: Option<&str>| ListConnections {
            decision,
            host: host.map(str::to_owned),
            ..ListConnections::default()
        };
        for (wish, count) in [
            (wish(Some(Answer::Deny), None), 1),
            (wish(None, Some("CRATES.example")), 1),
            (wish(Some(Answer::Deny), Some("crates.example")), 0),
            (ListConnections { action: Some("git.push".to_owned()), ..ListConnections::default() }, 0),
            (ListConnections { status: Some("open".to_owned()), ..ListConnections::default() }, 0),
            (ListConnections { notable: Some(true), ..ListConnections::default() }, 2),
            (ListConnections { until: Some(Timestamp(0)), ..ListConnections::default() }, 0),
        ] {
            assert_eq!(app.admin.connections(&wish).await.unwrap().items.len(), count, "{wish:?}");
        }
        let wish = ListConnections { changed_since: Some(Timestamp(0)), limit: Some(1), ..of_run.clone() };
        let first = app.admin.connections(&wish).await.unwrap();
        let second = app.admin.connections(&ListConnections { cursor: first.next_cursor, ..wish }).await.unwrap();
        assert_eq!((first.items[0].id, second.items[0].id, second.next_cursor), (opened, refused, None));

        let shown = app.admin.connection(opened).await.unwrap();
        assert_eq!((shown.connection.status.as_str(), shown.connection.bytes_in), ("ok", 70));
        assert_eq!((shown.context.len(), shown.facts.len(), shown.contents.len()), (2, 2, 1));
        let sums = app.admin.sum_connections(run.id).await.unwrap();
        assert_eq!((sums.all.len(), sums.hosts.len(), sums.hosts[0].bytes_in), (2, 2, 70));
        assert_eq!((sums.hosts[0].host.as_str(), sums.hosts[0].port), ("crates.example", Some(443)));
        app.stop().await;
    }
}

#[tokio::test]
async fn developers_and_auditors_see_connections_and_approvers_do_not() {
    let app = App::new().await;
    let mut runner = app.runner().await;
    let project = app.project("p").await;
    let run = start(&app.admin, &project).await.unwrap();
    runner.work_until_asked(run.id).await;
    let (opened, _) = runner.connect(&run).await;
    let all = ListConnections::default();
    for (name, role) in [("ada", Role::Developer), ("eve", Role::Auditor)] {
        let (person, _) = app.person(name, &[role]).await;
        assert_eq!(person.connections(&all).await.unwrap().items.len(), 2, "{name}");
        assert_eq!(person.connection(opened).await.unwrap().connection.id, opened, "{name}");
        assert!(!person.sum_connections(run.id).await.unwrap().all.is_empty(), "{name}");
    }
    let (bob, _) = app.person("bob", &[Role::Approver]).await;
    assert_eq!(bob.connections(&all).await.unwrap_err().code, "refused");
    assert_eq!(bob.connection(opened).await.unwrap_err().code, "refused");
    assert_eq!(bob.sum_connections(run.id).await.unwrap_err().code, "refused");
    app.stop().await;
}

#[tokio::test]
async fn what_is_no_connection_is_not_found() {
    let app = App::new().await;
    app.project("p").await;
    let record = app.admin.records(&Default::default()).await.unwrap().items.remove(0).id;
    assert_eq!(app.admin.connection(record).await.unwrap_err().code, "connection_not_found");
    let wish = ListConnections { cursor: Some("?".to_owned()), ..ListConnections::default() };
    assert_eq!(app.admin.connections(&wish).await.unwrap_err().code, "cursor_invalid");
    let wish = ListConnections { changed_since: Some(Timestamp(0)), ..wish };
    assert_eq!(app.admin.connections(&wish).await.unwrap_err().code, "cursor_invalid");
    app.stop().await;
}
