//! Starting and stopping: what is written, and each way in which it does not start.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use secrecy::ExposeSecret;
use stockade_api::http::PutPolicy;
use stockade_server::{Database, Server, ServerError};

use crate::harness::{App, client, config, databases, start};

#[tokio::test]
async fn the_first_start_makes_an_admin_and_the_second_knows_them() {
    let dir = tempfile::tempdir().unwrap();
    let first = Server::start(config(dir.path())).await.unwrap();
    let token = first.admin_token().unwrap().expose_secret().to_owned();
    assert!(token.starts_with("stk_"));
    let data = dir.path().join("data");
    assert_eq!(std::fs::read_to_string(data.join("admin-token")).unwrap().trim(), token);
    for file in ["admin-token", "server-key", "server-id"] {
        let mode = std::fs::metadata(data.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    let me = client(&first, &token).me().await.unwrap();
    first.stop(Duration::from_secs(5)).await;

    let second = Server::start(config(dir.path())).await.unwrap();
    assert!(second.admin_token().is_none());
    let again = client(&second, &token).me().await.unwrap();
    assert_eq!((again.user, again.organization), (me.user, me.organization));
    second.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_token_is_nowhere_in_the_data_but_in_its_file() {
    let app = App::new().await;
    let token = app.admin_token.clone();
    let dir = app.stop().await;
    for entry in std::fs::read_dir(dir.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
        assert_eq!(found, path.ends_with("admin-token"), "{}", path.display());
    }
}

#[tokio::test]
async fn a_busy_port_names_the_address_and_leaves_no_database() {
    let app = App::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.listen = app.server.addr();
    let error = Server::start(config).await.unwrap_err();
    assert!(matches!(error, ServerError::PortBusy { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&app.server.addr().to_string()) && text.contains("ss -ltnp"), "{text}");
    assert!(!dir.path().join("data/stockade.db").exists());
    app.stop().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let app = App::new().await;
    let error = Server::start(config(app.dir.path())).await.unwrap_err();
    assert!(matches!(error, ServerError::DirectoryInUse { .. }), "{error}");
    assert!(error.to_string().contains("stop it first"), "{error}");
    app.admin.me().await.unwrap();
    app.stop().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_database_file_is_refused() {
    let app = App::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.database = Database::Url(format!("sqlite:{}", app.data().join("stockade.db").display()));
    let error = Server::start(config).await.unwrap_err();
    assert!(error.to_string().contains("already uses the database"), "{error}");
    app.stop().await;
}

#[tokio::test]
async fn what_is_no_database_or_no_key_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = config(dir.path());
    wrong.database = Database::Url("mysql://somewhere".to_owned());
    let error = Server::start(wrong).await.unwrap_err();
    assert!(error.to_string().contains("postgres://"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data/server-id"), "me").unwrap();
    let error = Server::start(config(dir.path())).await.unwrap_err();
    assert!(error.to_string().contains("server-id"), "{error}");
}

/// A request that is held does not hold up the end.
#[tokio::test]
async fn stopping_answers_those_who_wait() {
    let app = App::new().await;
    let runner = app.runner().await;
    let revision = runner.poll(u64::MAX, 0, 0).await.unwrap();
    let bundle = revision.bundle.unwrap().number;
    let (server, admin, _dir) = (app.server, app.admin, app.dir);
    let waits = async {
        runner.poll(revision.revision, bundle, 25_000).await.unwrap();
    };
    let stops = async {
        // The server notes what a poll says before it holds it.
        while admin.runners().await.unwrap().items[0].bundle != bundle {}
        server.stop(Duration::from_secs(10)).await;
    };
    tokio::time::timeout(Duration::from_secs(9), async { tokio::join!(waits, stops) }).await.unwrap();
}

/// Several servers share a Postgres: what one writes, a runner that waits at another is told; each signs its
/// own ledger, and a policy that one puts into force decides at all of them.
#[tokio::test]
async fn two_servers_share_a_database() {
    let Some(database) = databases().into_iter().nth(1) else { return };
    let one = App::on(database.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.database = database;
    let two = Server::start(config).await.unwrap();
    assert!(two.admin_token().is_none(), "the installation is there already");
    let admin = client(&two, &one.admin_token);

    let runner = one.runner().await;
    let before = runner.poll(0, 1, 0).await.unwrap();
    let project = one.project("p").await;
    let (told, run) = tokio::join!(runner.poll(before.revision, 1, 20_000), start(&admin, &project));
    assert_eq!(told.unwrap().assignments[0].run, run.unwrap().id);

    let policy = admin.policy().await.unwrap();
    let text = format!("# new\n{}", policy.text);
    admin.put_policy(&PutPolicy { text, replaces: Some(1) }).await.unwrap();
    assert_eq!(one.admin.policy().await.unwrap().number, 2);
    let ledgers = admin.ledgers().await.unwrap().items;
    assert_eq!(ledgers.iter().filter(|ledger| ledger.producer.starts_with("srv_")).count(), 2);
    two.stop(Duration::from_secs(5)).await;
    one.stop().await;
}
