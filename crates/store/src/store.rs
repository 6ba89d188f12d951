//! Opening the database, and the two doors to it.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Executor as _, any::AnyPoolOptions};

use crate::{Result, StoreError, migrations, sql::Ask};

/// How many connections to Postgres one server holds at most. One more waits for its turn.
pub const MAX_CONNECTIONS: u32 = 16;

/// How many readers of a SQLite file there are at most, beside the one writer.
pub const MAX_READERS: u32 = 4;

/// How long somebody waits for a connection, or for the writer's turn, before `Unavailable`.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// A SQLite file up to this size, in bytes, is checked whole when it is opened. A larger one says that it is damaged
/// when the damage is met.
pub const CHECKED_WHEN_OPENED: u64 = 64 * 1024 * 1024;

/// Nobody holds a lock, or a transaction without doing anything, for ever: another server may wait for it.
const POSTGRES_SETTINGS: &str = "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'";

/// `secure_delete` writes zeros over what is deleted: a destroyed key must not be found in a free page.
const SQLITE_WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000; \
                             PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON";

const SQLITE_READER: &str = "PRAGMA busy_timeout = 10000; PRAGMA query_only = ON";

/// The database.
#[derive(Clone)]
pub struct Store {
    engine: Engine,
    readers: AnyPool,
    writers: AnyPool,
    /// Held for as long as anybody holds the store.
    lock: Option<Arc<File>>,
}

/// Which engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file of this machine.
    Sqlite,
    /// A server.
    Postgres,
}

/// One transaction. Dropped without [`Tx::commit`], it did nothing.
pub struct Tx {
    inner: sqlx::Transaction<'static, Any>,
}

impl Store {
    /// Opens `sqlite:/dir/stockade.db` or `postgres://…`, and brings its schema up to date. A SQLite file is made if
    /// there is none; its directory must exist.
    pub async fn open(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let store = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Self::open_postgres(url).await?
        } else {
            let path = sqlite_path(url).ok_or_else(|| StoreError::Url { url: without_password(url) })?;
            Self::open_sqlite(path).await?
        };
        if let Err(error) = migrations::run(&store).await {
            // What is refused is left as it was: nothing stays beside the file.
            store.close().await;
            return Err(error);
        }
        Ok(store)
    }

    async fn open_postgres(url: &str) -> Result<Self> {
        // Once without the pool, which would try again and again what cannot succeed.
        let first = AnyConnection::connect(url).await.map_err(|error| match error {
            sqlx::Error::Configuration(_) => StoreError::Url { url: without_password(url) },
            other => StoreError::from(other),
        })?;
        first.close().await?;
        let pool = AnyPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(MAX_WAIT)
            .after_connect(|conn, _| {
                Box::pin(async move { conn.execute(sqlx::raw_sql(POSTGRES_SETTINGS)).await.map(drop) })
            })
            .connect(url)
            .await?;
        Ok(Self { engine: Engine::Postgres, readers: pool.clone(), writers: pool, lock: None })
    }

    async fn open_sqlite(path: &Path) -> Result<Self> {
        let lock = lock_file(path)?;
        let url = sqlite_url(path);
        check_file(path, &url).await.map_err(|error| match error {
            StoreError::Corrupt { detail, .. } => StoreError::Corrupt { place: path.display().to_string(), detail },
            other => other,
        })?;
        // One writer: whoever wants to write waits for the connection in order, and nobody is told BUSY.
        let writers = AnyPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(MAX_WAIT)
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(|conn, _| {
                Box::pin(async move { conn.execute(sqlx::raw_sql(SQLITE_WRITER)).await.map(drop) })
            })
            // A full disk makes SQLite undo a transaction by itself. The library does not notice, takes the connection
            // for busy and refuses every transaction from then on: such a connection goes.
            .after_release(|conn, _| {
                Box::pin(async move {
                    conn.ping().await?;
                    Ok(!conn.is_in_transaction())
                })
            })
            .connect(&url)
            .await?;
        let readers = AnyPoolOptions::new()
            .max_connections(MAX_READERS)
            .acquire_timeout(MAX_WAIT)
            .after_connect(|conn, _| {
                Box::pin(async move { conn.execute(sqlx::raw_sql(SQLITE_READER)).await.map(drop) })
            })
            .connect_lazy(&url)?;
        Ok(Self { engine: Engine::Sqlite, readers, writers, lock: Some(Arc::new(lock)) })
    }

    /// Which engine it is.
    pub const fn engine(&self) -> Engine {
        self.engine
    }

    /// A consistent snapshot for reading; a write in it fails.
    pub async fn read(&self) -> Result<Tx> {
        let begin = match self.engine {
            Engine::Sqlite => "BEGIN",
            Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        Ok(Tx { inner: self.readers.begin_with(begin).await? })
    }

    /// A transaction that may write. On SQLite it waits until it is the only one.
    pub async fn write(&self) -> Result<Tx> {
        let begin = match self.engine {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        Ok(Tx { inner: self.writers.begin_with(begin).await? })
    }

    /// Whether the database answers and understands every statement of this program.
    pub async fn check(&self) -> Result<()> {
        let mut tx = self.read().await?;
        for (name, sql) in crate::statements() {
            tx.inner
                .prepare(sqlx::SqlSafeStr::into_sql_str(sql))
                .await
                .map_err(|error| StoreError::BadRow { what: "schema", why: format!("{name}: {error}") })?;
        }
        Ok(())
    }

    /// Ends all connections, waits until they are ended, and gives up the lock on the file.
    pub async fn close(self) {
        self.readers.close().await;
        self.writers.close().await;
        drop(self.lock);
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the address: it may hold a password.
        f.debug_struct("Store").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

impl Tx {
    /// Makes all of it durable at once.
    pub async fn commit(self) -> Result<()> {
        Ok(self.inner.commit().await?)
    }

    /// Undoes all of it.
    pub async fn rollback(self) -> Result<()> {
        match self.inner.rollback().await {
            // "No transaction is active": a full disk made SQLite undo it already.
            Err(sqlx::Error::Database(told)) if told.code().as_deref() == Some("1") => Ok(()),
            other => Ok(other?),
        }
    }

    pub(crate) fn conn(&mut self) -> &mut AnyConnection {
        &mut self.inner
    }

    pub(crate) async fn run(&mut self, ask: Ask) -> Result<u64> {
        ask.run(self.conn()).await
    }

    pub(crate) async fn all(&mut self, ask: Ask) -> Result<Vec<crate::sql::Row>> {
        ask.all(self.conn()).await
    }

    pub(crate) async fn all_planned_anew(&mut self, ask: Ask) -> Result<Vec<crate::sql::Row>> {
        ask.all_planned_anew(self.conn()).await
    }

    pub(crate) async fn maybe(&mut self, ask: Ask) -> Result<Option<crate::sql::Row>> {
        ask.maybe(self.conn()).await
    }

    /// Carries out statements as they stand, without values and without answers.
    pub(crate) async fn plain(&mut self, sql: impl sqlx::SqlSafeStr) -> Result<()> {
        self.inner.execute(sqlx::raw_sql(sql)).await?;
        Ok(())
    }

    /// Carries out a statement as it stands. Only tests hurt the database on purpose; nobody else has business here.
    #[doc(hidden)]
    pub async fn hurt(&mut self, sql: &'static str) -> Result<()> {
        self.plain(sql).await
    }
}

/// The path in `sqlite:/dir/file`, `sqlite:///dir/file` or `sqlite:file`; nothing if there is none, or a question mark.
fn sqlite_path(url: &str) -> Option<&Path> {
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    (!rest.is_empty() && !rest.contains(['?', ':', '\0'])).then(|| Path::new(rest))
}

fn sqlite_url(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            url.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url + "?mode=rwc"
}

/// An address as it may be shown.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

/// Opens the file once without the pool, which would try again and again what cannot succeed.
async fn check_file(path: &Path, url: &str) -> Result<()> {
    let mut conn = AnyConnection::connect(url).await?;
    conn.execute(sqlx::raw_sql(SQLITE_WRITER)).await?;
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() <= CHECKED_WHEN_OPENED) {
        let found = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut conn).await?;
        let found: String = sqlx::Row::try_get(&found, 0)?;
        if found != "ok" {
            return Err(StoreError::Corrupt { place: String::new(), detail: found });
        }
    }
    Ok(conn.close().await?)
}

fn lock_file(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let open = |source| StoreError::Open { path: path.to_owned(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name).map_err(open)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(StoreError::Open { path: name, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(sqlite_path("sqlite:/a/b c.db"), Some(Path::new("/a/b c.db")));
        assert_eq!(sqlite_path("sqlite:///a/b.db"), Some(Path::new("/a/b.db")));
        for wrong in ["sqlite:", "sqlite::memory:", "mysql://x", "", "sqlite:/a?mode=ro"] {
            assert_eq!(sqlite_path(wrong), None, "{wrong}");
        }
        assert_eq!(sqlite_url(Path::new("/a b/ü%.db")), "sqlite:///a%20b/%C3%BC%25.db?mode=rwc");
        assert_eq!(without_password("mysql://u:secret@host/x"), "mysql://…@host/x");
    }
}
