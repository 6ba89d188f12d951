//! Opening, refusing, and what a transaction promises.

use stockade_store::{Engine, Store, StoreError, people, projects};

use crate::{
    engines::{Db, both},
    fixture::{Fixture, seen},
};

both! {
    every_statement_is_understood(db) {
        db.store.check().await.unwrap();
        assert_eq!(db.store.engine() == Engine::Postgres, db.admin.is_some());
    }

    a_second_opening_finds_what_the_first_left(db) {
        let f = Fixture::new(&db.store).await;
        f.store.clone().close().await;
        drop(f.store);
        let found = reopen(db).await.unwrap();
        let mut tx = found.read().await.unwrap();
        assert_eq!(people::installation(&mut tx).await.unwrap().unwrap().organization, f.organization);
    }

    a_database_from_a_newer_version_is_refused(db) {
        let mut tx = db.store.write().await.unwrap();
        tx.hurt("INSERT INTO migrations (number, name) VALUES (7, 'of the future')").await.unwrap();
        tx.commit().await.unwrap();
        db.store.clone().close().await;
        let error = reopen(db).await.unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 7, known: 4 }), "{error}");
        assert_eq!(
            error.to_string(),
            "the database has schema version 7, this program knows up to 4: start the newer Stockade that wrote it, or \
             restore a backup from before the upgrade"
        );
    }

    what_is_dropped_did_not_happen(db) {
        let f = Fixture::new(&db.store).await;
        let project = seen!(f, |tx| projects::get(&mut tx, f.project));
        let mut tx = f.store.write().await.unwrap();
        let new = projects::Project { id: f.id(), name: "gone".to_owned(), ..project.clone() };
        projects::add(&mut tx, &new).await.unwrap();
        drop(tx);
        let mut tx = f.store.write().await.unwrap();
        let new = projects::Project { id: f.id(), name: "undone".to_owned(), ..project };
        projects::add(&mut tx, &new).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(seen!(f, |tx| projects::list(&mut tx, &Default::default())).items.len(), 1);
    }

    the_reading_door_does_not_write(db) {
        let f = Fixture::new(&db.store).await;
        let mut tx = f.store.read().await.unwrap();
        assert!(people::revoke_token(&mut tx, f.id(), f.now()).await.is_err());
        let mut tx = f.store.read().await.unwrap();
        let error = stockade_store::sites::touch(&mut tx, f.runner).await.unwrap_err();
        assert!(matches!(error, StoreError::Database { .. }), "{error:?}");
        drop(tx);
        assert_eq!(f.revision(f.runner).await, 1);
    }

    a_full_disk_is_said_and_loses_nothing(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _) = f.placed(stockade_domain::Nanos::DOLLAR).await;
        let sealed = vec![7; 4 << 20];
        let content = crate::fixture::content(stockade_domain::ContentKind::Diff, &sealed);
        // SQLite is held to the pages it has; Postgres raises what it raises when a file cannot grow.
        let mut tx = f.store.write().await.unwrap();
        match f.store.engine() {
            Engine::Sqlite => tx.hurt("PRAGMA max_page_count = 1").await.unwrap(),
            Engine::Postgres => tx.hurt(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$; \
                 CREATE TRIGGER full_disk BEFORE INSERT ON contents FOR EACH ROW EXECUTE FUNCTION full_disk();",
            ).await.unwrap(),
        }
        tx.commit().await.unwrap();
        let mut tx = f.store.write().await.unwrap();
        let error = stockade_store::contents::put(&mut tx, run, content, &sealed, f.now()).await;
        let error = match error {
            Err(error) => {
                tx.rollback().await.unwrap();
                error
            }
            Ok(()) => tx.commit().await.unwrap_err(),
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the disk of the database is full: nothing of this was written; make room and try again"
        );
        // Room again: everything goes on, and nothing was lost.
        let mut tx = f.store.write().await.unwrap();
        match f.store.engine() {
            Engine::Sqlite => tx.hurt("PRAGMA max_page_count = 1073741823").await.unwrap(),
            Engine::Postgres => tx.hurt("DROP TRIGGER full_disk ON contents").await.unwrap(),
        }
        stockade_store::contents::put(&mut tx, run, content, &sealed, f.now()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(seen!(f, |tx| stockade_store::contents::get(&mut tx, run, content.digest)).1, sealed);
    }
}

async fn reopen(db: &Db) -> Result<Store, StoreError> {
    // The lock on the file is held by every handle: give up the fixture's before opening anew.
    if let Some(file) = db.file() {
        let copy = file.with_extension("copy");
        std::fs::copy(&file, &copy).unwrap();
        return Store::open(&format!("sqlite:{}", copy.display())).await;
    }
    Store::open(&db.url).await
}

#[tokio::test]
async fn a_second_server_on_the_same_file_is_refused() {
    let db = Db::sqlite().await;
    let error = Store::open(&db.url).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains("a test.db: stop it, or give this one another data directory"), "{error}");
    // Once the first is gone, another may come.
    let Db { url, store, .. } = &db;
    store.check().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url_of_one = format!("{}.second", url.replace("a test", dir.path().file_name().unwrap().to_str().unwrap()));
    let first = Store::open(&url_of_one).await.unwrap();
    assert!(Store::open(&url_of_one).await.is_err());
    first.close().await;
    Store::open(&url_of_one).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_gives_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, [0x5a; 9000]).unwrap();
    let error = Store::open(&format!("sqlite:{}", garbage.display())).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("garbage.db is damaged or no database"), "{error}");
    assert_eq!(std::fs::read(&garbage).unwrap(), [0x5a; 9000]);

    // A real one, with a hole in the middle.
    let path = dir.path().join("hole.db");
    let url = format!("sqlite:{}", path.display());
    let store = Store::open(&url).await.unwrap();
    Fixture::new(&store).await;
    store.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle - 6000..middle + 6000].fill(0x77);
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("restore the last backup"), "{error}");
}

#[tokio::test]
async fn a_bad_address_says_what_a_good_one_is() {
    for wrong in ["", "stockade.db", "mysql://root:secret@x/y", "sqlite::memory:", "sqlite:/a?mode=ro"] {
        let error = Store::open(wrong).await.unwrap_err();
        assert!(matches!(error, StoreError::Url { .. }), "{wrong}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = Store::open("sqlite:/no/such/directory/stockade.db").await.unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_make_one_schema() {
    let Some(db) = Db::postgres().await else { return };
    let mut tx = db.store.write().await.unwrap();
    tx.hurt("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.unwrap();
    tx.commit().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let url = db.url.clone();
        tasks.spawn(async move { Store::open(&url).await });
    }
    while let Some(opened) = tasks.join_next().await {
        let store = opened.unwrap().unwrap();
        store.check().await.unwrap();
        store.close().await;
    }
    db.drop().await;
}

/// If you are here because this failed: SQL stands in `statements!`, whose list is prepared on both engines by
/// `every_statement_is_understood`. A statement elsewhere would be tested on neither.
#[test]
fn statements_stand_where_they_are_tested() {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let (mut files, mut names) = (Vec::new(), Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = path.file_name().unwrap().to_str().unwrap();
        if !["sql.rs", "store.rs"].contains(&file) {
            assert!(!text.contains("sqlx::query"), "{file} asks the database by itself");
        }
        let Some((_, rest)) = text.split_once("\nstatements! {") else { continue };
        let (list, _) = rest.split_once("\n}\n").unwrap();
        let is_name = |word: &&str| word.len() > 3 && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        names.extend(
            list.lines()
                .filter_map(|line| line.split_once(" = "))
                .map(|(name, _)| name.trim().to_owned())
                .filter(|name| is_name(&name.as_str())),
        );
        let (before, after) = (text.split_once("\nstatements! {").unwrap().0, rest.split_once("\n}\n").unwrap().1);
        for verb in ["\"INSERT ", "\"UPDATE ", "\"DELETE "] {
            assert!(!before.contains(verb) && !after.contains(verb), "{file} has a statement outside of its list");
        }
    }
    assert!(names.len() > 100, "{}", names.len());
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "two statements have one name");
}
