//! What the scenarios stand on: helpers, a folder, a driver, and a client of the guest's frames.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use stockade_domain::ids::EnvironmentId;
use stockade_sandbox::{Class, Driver, EnvironmentSpec, Inside, NamespaceConfig, NamespaceDriver, System, User};
use stockade_testkit::attacks::world;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// The user that scenarios run as when they run without rights.
const USER: u32 = 54_321;
/// Nothing here takes this long, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The folder with the helpers, built once if nobody says where they are.
pub fn helpers() -> PathBuf {
    if let Some(path) = std::env::var_os("STOCKADE_HELPERS") {
        return path.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new(env!("CARGO"))
        .current_dir(&workspace)
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .args(["build", "--quiet", "--profile", "helper", "--target", &triple, "--bins"])
        .args(["-p", "stockade-guest", "-p", "stockade-sandbox"])
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the helpers build");
    target.join(triple).join("helper")
}

/// Runs one test of this program as a user without rights.
pub fn again_as_user(test: &str) {
    again(test, true, false);
}

/// Runs one test of this program in a network namespace with the addresses of the attacks' world, as this user or as one without rights.
pub fn again_in_the_world(test: &str, as_user: bool) {
    again(test, as_user, true);
}

#[expect(clippy::print_stdout, reason = "what it measured is read from the test's output")]
fn again(test: &str, as_user: bool, in_the_world: bool) {
    let dir = tempfile::tempdir().unwrap();
    // Where the helpers are may be closed to that user.
    let copies = dir.path().join("helpers");
    fs::create_dir(&copies).unwrap();
    for name in ["stockade-launch", "stockade-guest"] {
        fs::copy(helpers().join(name), copies.join(name)).unwrap();
    }
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let test = test.split_once("::").map_or(test, |(_, rest)| rest);
    let mut words: Vec<String> = Vec::new();
    if in_the_world {
        let own: &[&str] = if is_root() { &[] } else { &["--user", "--map-current-user", "--keep-caps"] };
        words.push("unshare".into());
        words.extend(own.iter().map(ToString::to_string));
        words.extend(["--net", "/usr/bin/python3", "-c", world::ENTER].map(Into::into));
    }
    if !is_root() {
        // What it took to make the world is given back.
        words.extend(["setpriv", "--ambient-caps=-all", "--inh-caps=-all", "--bounding-set=-all"].map(Into::into));
    } else if as_user {
        chown(&work, Some(USER), Some(USER)).unwrap();
        words.extend(["setpriv".into(), format!("--reuid={USER}"), format!("--regid={USER}")]);
        words.extend(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"].map(Into::into));
    }
    words.extend([program.to_str().unwrap(), "--exact", test, "--nocapture"].map(Into::into));
    let output = Command::new(&words[0])
        .args(&words[1..])
        .env("STOCKADE_HELPERS", &copies)
        .env("TMPDIR", &work)
        .env(world::THERE, if in_the_world { "1" } else { "" })
        .current_dir(&work)
        .output()
        .expect("setpriv and unshare are there");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "as user {USER}: {as_user}\n{said}");
    assert!(said.contains("1 passed"), "it ran:\n{said}");
    print!(
        "{}",
        said.lines().filter(|line| line.starts_with("measured")).map(|line| format!("{line}\n")).collect::<String>()
    );
}

/// Whether this is the world of the attacks.
pub fn in_the_world() -> bool {
    std::env::var_os(world::THERE).is_some_and(|there| !there.is_empty())
}

/// A driver with a folder of its own.
pub struct Bed {
    pub dir: tempfile::TempDir,
    pub driver: NamespaceDriver,
    /// What this machine and user cannot limit.
    pub degraded: Vec<String>,
    helpers: PathBuf,
}

static IDS: AtomicU32 = AtomicU32::new(1);

pub fn fresh_id() -> EnvironmentId {
    let n = u128::from(IDS.fetch_add(1, Ordering::SeqCst)) | u128::from(std::process::id()) << 64;
    EnvironmentId::from_bytes(n.to_be_bytes())
}

impl Bed {
    pub fn new() -> Self {
        // Root has everything here; without, the kernel gives no hold on memory, processor and disk.
        let degraded: Vec<String> =
            if is_root() { Vec::new() } else { ["memory", "cpu", "disk"].map(Into::into).into() };
        let dir = tempfile::tempdir().unwrap();
        let helpers = helpers();
        let driver = driver(dir.path(), &helpers, &degraded);
        Self { dir, driver, degraded, helpers }
    }

    /// Another driver over the same folder, as after a restart of the runner.
    pub fn driver_again(&self) -> NamespaceDriver {
        driver(self.dir.path(), &self.helpers, &self.degraded)
    }

    pub fn strict_driver(&self) -> NamespaceDriver {
        driver(self.dir.path(), &self.helpers, &[])
    }

    pub fn driver_at(&self, root: &Path) -> NamespaceDriver {
        fs::create_dir_all(root).unwrap();
        NamespaceDriver::new(NamespaceConfig {
            root: root.to_owned(),
            helpers: self.helpers.clone(),
            allow_degraded: self.degraded.clone(),
            extra_read_only: Vec::new(),
            without_redirection: false,
        })
    }

    /// A driver somewhere else, with other helpers.
    pub fn driver_of(&self, root: &Path, helpers: &Path) -> NamespaceDriver {
        NamespaceDriver::new(NamespaceConfig {
            root: root.to_owned(),
            helpers: helpers.to_owned(),
            allow_degraded: self.degraded.clone(),
            extra_read_only: Vec::new(),
            without_redirection: false,
        })
    }

    /// A driver that shows environments more of the machine.
    pub fn driver_with(&self, extra_read_only: &[PathBuf]) -> NamespaceDriver {
        NamespaceDriver::new(NamespaceConfig {
            root: self.dir.path().join("environments"),
            helpers: self.helpers.clone(),
            allow_degraded: self.degraded.clone(),
            extra_read_only: extra_read_only.to_vec(),
            without_redirection: false,
        })
    }

    /// A driver over the same environments that leads no streams, as on a machine without nf_tables.
    pub fn driver_unled(&self) -> NamespaceDriver {
        NamespaceDriver::new(NamespaceConfig {
            root: self.dir.path().join("environments"),
            helpers: self.helpers.clone(),
            allow_degraded: self.degraded.clone(),
            extra_read_only: Vec::new(),
            without_redirection: true,
        })
    }

    pub fn folder(&self, id: EnvironmentId) -> PathBuf {
        self.dir.path().join("environments").join(id.to_string())
    }

    /// Makes one, small enough to hit its limits quickly.
    pub async fn make(&self, class: Class) -> (EnvironmentId, Guest) {
        self.make_as(spec(fresh_id(), class)).await
    }

    /// Makes one just so.
    pub async fn make_as(&self, spec: EnvironmentSpec) -> (EnvironmentId, Guest) {
        self.driver.create(&spec).await.unwrap_or_else(|error| {
            panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string))
        });
        (spec.id, Guest::of(&self.driver, spec.id).await)
    }
}

/// The guest's process on the machine.
pub fn guest_pid(folder: &Path) -> i32 {
    let text = fs::read_to_string(folder.join("run.json")).unwrap();
    let run: Value = serde_json::from_str(&text).unwrap();
    i32::try_from(run["pid"].as_i64().unwrap()).unwrap()
}

pub const fn spec(id: EnvironmentId, class: Class) -> EnvironmentSpec {
    let inside = Inside { system: System::ReadOnly, user: User::Agent, nested: false };
    let variables = std::collections::BTreeMap::new();
    EnvironmentSpec { id, class, inside, certificate: None, variables, gitconfig: None }
}

fn driver(dir: &Path, helpers: &Path, degraded: &[String]) -> NamespaceDriver {
    NamespaceDriver::new(NamespaceConfig {
        root: dir.join("environments"),
        helpers: helpers.to_owned(),
        allow_degraded: degraded.to_vec(),
        extra_read_only: Vec::new(),
        without_redirection: false,
    })
}

impl Drop for Bed {
    fn drop(&mut self) {
        // What a failed scenario left must not stay on the machine.
        let driver = self.driver_again();
        let clean = async move {
            for id in driver.list().await {
                let _ = driver.delete(id).await;
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(clean));
    }
}

pub fn small() -> Class {
    Class { memory_bytes: 128 << 20, processes: 64, cpu_millis: 2_000, disk_bytes: 64 << 20, open_files: 256 }
}

/// The runner's side of a connection.
pub struct Guest {
    stream: UnixStream,
    next: u64,
}

pub struct Ran {
    pub status: i64,
    pub stdout: String,
    pub stderr: String,
    pub answer: Value,
}

impl Guest {
    pub async fn of(driver: &dyn Driver, id: EnvironmentId) -> Self {
        let stream = driver.connect(id).await.unwrap();
        let mut guest = Self { stream, next: 1 };
        assert_eq!(guest.ask(json!({"op": "ping"})).await["reply"], "pong");
        guest
    }

    /// Asks and waits for the final frame.
    pub async fn ask(&mut self, mut request: Value) -> Value {
        request["id"] = self.next.into();
        self.next += 1;
        let body = request.to_string();
        let talk = async {
            self.stream.write_u32(u32::try_from(body.len()).unwrap()).await?;
            self.stream.write_all(body.as_bytes()).await?;
            loop {
                let mut frame = vec![0; self.stream.read_u32().await? as usize];
                self.stream.read_exact(&mut frame).await?;
                let answer: Value = serde_json::from_slice(&frame)?;
                if answer["reply"] != "output" {
                    return Ok::<Value, std::io::Error>(answer);
                }
            }
        };
        tokio::time::timeout(PATIENCE, talk).await.expect("the guest answers in time").expect("the guest is there")
    }

    pub async fn run(&mut self, argv: &[&str], timeout_ms: u64) -> Ran {
        let answer = self.ask(json!({"op": "exec", "argv": argv, "timeout_ms": timeout_ms, "max_output": 65536})).await;
        assert_eq!(answer["reply"], "exited", "{answer}");
        Ran {
            status: answer["status"].as_i64().unwrap(),
            stdout: answer["stdout"].as_str().unwrap().trim_end().to_owned(),
            stderr: answer["stderr"].as_str().unwrap().to_owned(),
            answer,
        }
    }

    pub async fn sh(&mut self, script: &str) -> Ran {
        self.run(&["sh", "-c", script], 30_000).await
    }

    /// Runs Perl, which every Debian has and which makes any system call: prints 0, or the error's number.
    pub async fn call(&mut self, call: &str) -> String {
        let script = format!("my $r = {call}; my $e = $! + 0; print((!defined $r || $r eq '' || $r == -1) ? $e : 0);");
        let ran = self.run(&["perl", "-MSocket", "-e", &script], 30_000).await;
        assert_eq!(ran.status, 0, "{call}: {}", ran.stderr);
        ran.stdout
    }
}
