//! A database for each test, on both engines, and the macro [`both!`] that runs a test on both.
//!
//! The Postgres is the testkit's: one for all tests.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{Connection, Executor};
use stockade_store::Store;
use stockade_testkit::postgres::server;

/// Runs a test on both engines: `both! { name(db) { … } }`.
macro_rules! both {
    ($($(#[$meta:meta])* $name:ident($db:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;
            async fn test($db: &$crate::engines::Db) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                test(&$crate::engines::Db::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                if let Some(db) = $crate::engines::Db::postgres().await {
                    test(&db).await;
                    db.drop().await;
                }
            }
        }
    )*};
}
pub(crate) use both;

/// One test's database.
pub struct Db {
    pub url: String,
    pub store: Store,
    /// For a second connection beside the store's; only on Postgres.
    pub admin: Option<String>,
    dir: Option<tempfile::TempDir>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Db {
    pub async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("a test.db").display());
        let store = Store::open(&url).await.unwrap();
        Self { url, store, admin: None, dir: Some(dir) }
    }

    pub async fn postgres() -> Option<Self> {
        let socket = server().unwrap()?;
        let name = format!("t{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let admin = format!("postgres://postgres@localhost/postgres?host={}", socket.display());
        sqlx::any::install_default_drivers();
        let mut conn = sqlx::AnyConnection::connect(&admin).await.unwrap();
        conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))))
            .await
            .unwrap();
        conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))).await.unwrap();
        conn.close().await.unwrap();
        let url = format!("postgres://postgres@localhost/{name}?host={}", socket.display());
        let store = Store::open(&url).await.unwrap();
        Some(Self { url, store, admin: Some(admin), dir: None })
    }

    /// Where the SQLite file is.
    pub fn file(&self) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.path().join("a test.db"))
    }

    /// What Postgres calls it: `postgres://postgres@localhost/NAME?host=…`.
    pub fn name(&self) -> String {
        let path = self.url.split('?').next().unwrap();
        path.rsplit('/').next().unwrap().to_owned()
    }

    /// Removes it; a test that failed leaves its database until the server goes.
    pub async fn drop(self) {
        self.store.clone().close().await;
        let name = self.name();
        let Some(admin) = self.admin else { return };
        let mut conn = sqlx::AnyConnection::connect(&admin).await.unwrap();
        conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))))
            .await
            .unwrap();
    }
}
