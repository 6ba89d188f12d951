//! One Postgres for all tests of this source tree.
//!
//! The first test process that needs it starts one server for everybody, without root, reachable only through a socket
//! in a private directory. Every process holds a shared lock on a file for as long as it lives; a watching shell stops
//! the server and removes its directory when nobody has held that lock for a while, however the processes ended.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result, bail, ensure};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A database of a test's own. It goes when this is dropped.
#[derive(Debug)]
pub struct Database {
    name: String,
    socket: &'static Path,
}

impl Database {
    /// A new, empty one; nothing if Postgres is not installed, which has been said loudly.
    pub fn create() -> Result<Option<Self>> {
        let Some(socket) = server()? else { return Ok(None) };
        let name = format!("e{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let database = Self { name, socket };
        // Left by a process of the same number that was killed.
        database.tool("dropdb", &["--force", "--if-exists"])?;
        database.tool("createdb", &[])?;
        Ok(Some(database))
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("postgres://postgres@localhost/{}?host={}", self.name, self.socket.display())
    }

    fn tool(&self, tool: &str, args: &[&str]) -> Result<()> {
        let bin = binaries().context("Postgres is gone")?;
        let mut command = Command::new(bin.join(tool));
        command.arg("--host").arg(self.socket).args(["--username", "postgres"]).args(args).arg(&self.name);
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.tool("dropdb", &["--force", "--if-exists"]);
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
pub fn server() -> Result<Option<&'static Path>> {
    static SERVER: OnceLock<Result<Option<(PathBuf, File)>, String>> = OnceLock::new();
    match SERVER.get_or_init(|| start().map_err(|error| format!("{error:#}"))) {
        Ok(server) => Ok(server.as_ref().map(|(dir, _)| dir.as_path())),
        Err(error) => bail!("Postgres does not start: {error}"),
    }
}

fn start() -> Result<Option<(PathBuf, File)>> {
    let Some(bin) = binaries() else {
        ensure!(env::var_os("CI").is_none(), "it is not installed: install it (Debian: postgresql), CI tests both");
        #[expect(clippy::print_stderr, reason = "a skipped engine must be seen by whoever runs the tests")]
        {
            eprintln!(
                "\n!!! SKIPPED: Postgres is not installed, this ran on SQLite only (Debian: apt install postgresql)\n"
            );
        }
        return Ok(None);
    };
    let uid = std::fs::metadata("/proc/self")?.uid();
    let root = crate::root();
    let mark = root.as_os_str().as_bytes().iter().fold(5381_u32, |hash, b| hash.wrapping_mul(33) ^ u32::from(*b));
    let base = env::temp_dir();
    let dir = base.join(format!("stockade-pg-{uid}-{mark:08x}"));
    let open = |end: &str| -> Result<(File, PathBuf)> {
        let path = base.join(format!("stockade-pg-{uid}-{mark:08x}.{end}"));
        Ok((OpenOptions::new().create(true).truncate(false).write(true).open(&path)?, path))
    };
    let (starting, _) = open("start")?;
    starting.lock()?;
    // Waits for a watcher that is just stopping the server.
    let (using, use_path) = open("use")?;
    using.lock_shared()?;
    if UnixStream::connect(dir.join(".s.PGSQL.5432")).is_err() {
        let mut command = if uid == 0 {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh"]);
            std::fs::remove_dir_all(&dir).ok();
            command
        } else {
            Command::new("sh")
        };
        // The watcher is meant to outlive this process: nobody waits for it.
        let child = command
            .args(["-c", WATCH, "watch"])
            .args([&dir, &bin, &use_path])
            .env("HOME", &base)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        ensure!(line == "ready\n", "{log}");
    }
    Ok(Some((dir, using)))
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
