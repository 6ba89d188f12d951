//! A database for each test, on both engines, and the macro [`both!`] that runs a test on both.
//!
//! Postgres: the first test process that needs it starts one server for everybody, without root, reachable only
//! through a socket in a private directory. Every process holds a shared lock on a file for as long as it lives; a
//! watching shell stops the server and removes its directory when nobody has held that lock for a while, however the
//! processes ended.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader},
    os::unix::{fs::MetadataExt, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{Connection, Executor};
use stockade_store::Store;

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
        let socket = server()?;
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

const WATCH: &str = r#"
set -e
dir=$1 bin=$2 use=$3
rm -rf "$dir"
mkdir -m 700 "$dir"
"$bin/initdb" -D "$dir/data" -U postgres -A trust --no-sync -E UTF8 --locale=C.UTF-8 >"$dir/log" 2>&1
"$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w \
    -o "-k '$dir' -c listen_addresses='' -c fsync=off -c max_connections=300" start >>"$dir/log" 2>&1
echo ready
exec >/dev/null
exec 9<"$use"
while :; do
    flock -x 9
    flock -u 9
    sleep 3
    if flock -n -x 9; then
        "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >>"$dir/log" 2>&1 || true
        rm -rf "$dir"
        exit 0
    fi
done
"#;

/// The directory of the server's socket; nothing if Postgres is not installed.
fn server() -> Option<&'static Path> {
    static SERVER: OnceLock<Option<(PathBuf, File)>> = OnceLock::new();
    SERVER.get_or_init(start).as_ref().map(|(dir, _)| dir.as_path())
}

fn start() -> Option<(PathBuf, File)> {
    let Some(bin) = binaries() else {
        assert!(
            env::var_os("CI").is_none(),
            "Postgres is not installed: install it (Debian: postgresql), CI tests both"
        );
        #[expect(clippy::print_stderr, reason = "a skipped engine must be seen by whoever runs the tests")]
        {
            eprintln!(
                "\n!!! SKIPPED: Postgres is not installed, this ran on SQLite only (Debian: apt install postgresql)\n"
            );
        }
        return None;
    };
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    let mark = env!("CARGO_TARGET_TMPDIR").bytes().fold(5381_u32, |hash, b| hash.wrapping_mul(33) ^ u32::from(b));
    let base = env::temp_dir();
    let dir = base.join(format!("stockade-pg-{uid}-{mark:08x}"));
    let open = |end: &str| {
        let path = base.join(format!("stockade-pg-{uid}-{mark:08x}.{end}"));
        (OpenOptions::new().create(true).truncate(false).write(true).open(&path).unwrap(), path)
    };
    let (starting, _) = open("start");
    starting.lock().unwrap();
    // Waits for a watcher that is just stopping the server.
    let (using, use_path) = open("use");
    using.lock_shared().unwrap();
    if UnixStream::connect(dir.join(".s.PGSQL.5432")).is_err() {
        let mut command = if uid == 0 {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh"]);
            std::fs::remove_dir_all(&dir).ok();
            command
        } else {
            Command::new("sh")
        };
        #[expect(clippy::zombie_processes, reason = "the watcher is meant to outlive this process")]
        let mut child = command
            .args(["-c", WATCH, "watch"])
            .args([&dir, &bin, &use_path])
            .env("HOME", &base)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        assert_eq!(line, "ready\n", "Postgres did not start:\n{log}");
    }
    Some((dir, using))
}

fn binaries() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}
