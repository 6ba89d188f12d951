//! A whole installation made of real processes: in one process or in two, killed at will, started again.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// How long anything may take before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// In one process or in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `stockade up`.
    OneProcess,
    /// `stockade server` and `stockade runner`.
    TwoProcesses,
}

/// How an installation is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A folder with cassettes besides the samples' and the tests' own.
    pub cassettes: Option<PathBuf>,
    /// The text of stockade.toml.
    pub config: String,
    /// Another database than the embedded one.
    pub database: Option<String>,
    /// The runner dials this instead of the server: a proxy's address. Two processes only.
    pub server_seen_from_runner: Option<SocketAddr>,
    /// The server listens here; a free port otherwise.
    pub server_port: Option<u16>,
    /// Set in the environment of the runner's process (in one process: of all of it) and of no other.
    pub runner_env: Vec<(String, String)>,
    /// Folders below the data directory that are file systems of their own, so small: name and MiB. Only root can have them.
    pub small_disks: Vec<(String, u64)>,
}

/// An installation in a folder of its own. Whatever of it still runs when it is dropped is killed and removed.
#[derive(Debug)]
pub struct Installation {
    folder: tempfile::TempDir,
    stockade: PathBuf,
    form: Form,
    options: Options,
    server_port: u16,
    site_port: u16,
    server: Option<Child>,
    runner: Option<Child>,
}

impl Installation {
    /// Starts one and waits until it says that it is ready.
    pub fn start(form: Form, options: Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("stockade-test-").tempdir()?;
        let server_port = options.server_port.map_or_else(free_port, Ok)?;
        let mut installation = Self {
            folder,
            stockade: crate::stockade()?,
            form,
            server_port,
            site_port: free_port()?,
            options,
            server: None,
            runner: None,
        };
        fs::create_dir_all(installation.data())?;
        for (name, mib) in &installation.options.small_disks {
            mount(&installation.data().join(name), *mib)?;
        }
        let ours = [crate::root().join("samples/cassettes"), crate::root().join("crates/stockade/tests/cassettes")];
        for folder in ours.iter().chain(&installation.options.cassettes) {
            crate::repository::copy(folder, &installation.cassettes())?;
        }
        if !installation.options.config.is_empty() {
            fs::write(installation.data().join("stockade.toml"), &installation.options.config)?;
        }
        installation.start_server()?;
        installation.start_runner()?;
        Ok(installation)
    }

    /// A folder of the test's own, beside the data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Takes all the room that a small disk has left, until what this gives is dropped.
    pub fn fill(&self, small_disk: &str) -> Result<Filler> {
        Filler::fill(&self.data().join(small_disk))
    }

    /// What a process logged, all of it: `server` or `runner`. In one process everything is in the server's.
    pub fn log(&self, process: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{process}.log"))).unwrap_or_default()
    }

    /// The process of the server, and that of the runner if it is another one.
    pub fn processes(&self) -> Vec<u32> {
        [&self.server, &self.runner].into_iter().flatten().map(Child::id).collect()
    }

    /// Where the server listens.
    pub fn server_addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.server_port))
    }

    /// Where the site listens.
    pub fn site_addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.site_port))
    }

    /// A command of the command line, pointed at this installation and at nothing else of this machine.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.stockade);
        command.args(args).env("STOCKADE_DATA", self.data()).env("STOCKADE_LOG", "info");
        command.env_remove("STOCKADE_URL").env_remove("STOCKADE_TOKEN_FILE").env_remove("STOCKADE_DATABASE");
        command
    }

    /// Runs a command; gives its exit status, standard output and standard error.
    pub fn stockade(&self, args: &[&str]) -> Result<(i32, String, String)> {
        let output = self.command(args).stdin(Stdio::null()).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }

    /// Runs a command that must succeed, for its JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let mut all = args.to_vec();
        all.push("--json");
        let (status, stdout, stderr) = self.stockade(&all)?;
        ensure!(status == 0, "`stockade {}` ended with {status}: {stderr}{stdout}\n{}", args.join(" "), self.logs());
        serde_json::from_str(&stdout).with_context(|| format!("`stockade {}` printed {stdout}", args.join(" ")))
    }

    /// Starts a run and gives its id.
    pub fn run(&self, project: &str, model: &str, task: &str, more: &[&str]) -> Result<String> {
        let mut args = vec!["run", "--detach", "--project", project, "--model", model];
        args.extend(more);
        args.push(task);
        let run = self.json(&args)?;
        Ok(run["id"].as_str().context("a run without id")?.to_owned())
    }

    /// Asks again and again until `wanted` gives something. Errors of the question itself are passed over: a process
    /// may just be dead.
    pub fn until<T>(&self, what: &str, wanted: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        self.until_within(PATIENCE, what, wanted)
    }

    /// The same with more patience, or less.
    pub fn until_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut wanted: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = wanted(self) {
                return Ok(found);
            }
            if begun.elapsed() > patience {
                bail!("{what}: not within {patience:?}\n{}", self.logs());
            }
            pause(Duration::from_millis(50));
        }
    }

    /// Waits until a run has ended, and gives it.
    pub fn ended(&self, run: &str) -> Result<Value> {
        self.until(&format!("the end of {run}"), |installation| {
            let shown = installation.json(&["runs", "show", run]).ok()?;
            ["succeeded", "failed", "cancelled", "expired"].contains(&shown["state"].as_str()?).then_some(shown)
        })
    }

    /// Waits until a run waits for an approval, and gives that.
    pub fn approval(&self, run: &str) -> Result<Value> {
        self.until(&format!("an approval of {run}"), |installation| {
            let waiting = installation.json(&["approvals", "list"]).ok()?;
            waiting["items"].as_array()?.iter().find(|item| item["run"] == run).cloned()
        })
    }

    /// Grants whatever a run asks until it has ended; gives the run.
    pub fn grant_all(&self, run: &str) -> Result<Value> {
        self.until(&format!("the end of {run}"), |installation| {
            let waiting = installation.json(&["approvals", "list"]).ok()?;
            for item in waiting["items"].as_array()?.iter().filter(|item| item["run"] == run) {
                let _ = installation.json(&["approvals", "grant", item["id"].as_str()?]);
            }
            let shown = installation.json(&["runs", "show", run]).ok()?;
            ["succeeded", "failed", "cancelled", "expired"].contains(&shown["state"].as_str()?).then_some(shown)
        })
    }

    /// Everything that the processes logged.
    pub fn logs(&self) -> String {
        let read = |name: &str| {
            let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.get(lines.len().saturating_sub(60)..).unwrap_or_default();
            format!("--- {name}\n{}\n", last.join("\n"))
        };
        format!("{}{}", read("server.log"), read("runner.log"))
    }

    /// Kills the server (in one process: everything) as a power cut would.
    pub fn kill_server(&mut self) -> Result<()> {
        kill(&mut self.server)
    }

    /// Kills the runner (in one process: everything) as a power cut would. Environments live on.
    pub fn kill_runner(&mut self) -> Result<()> {
        match self.form {
            Form::OneProcess => kill(&mut self.server),
            Form::TwoProcesses => kill(&mut self.runner),
        }
    }

    /// The processes of guests of this installation that run now.
    pub fn guests(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for file in files(&self.data().join("runner/environments")) {
            if file.file_name().is_some_and(|name| name == "run.json")
                && let Some(pid) = fs::read(&file)
                    .ok()
                    .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
                    .and_then(|state| state["pid"].as_u64())
                    .and_then(|pid| u32::try_from(pid).ok())
                && Path::new(&format!("/proc/{pid}")).exists()
            {
                pids.push(pid);
            }
        }
        pids
    }

    /// Kills every guest of this installation from outside.
    pub fn kill_guests(&self) -> Result<usize> {
        let pids = self.guests();
        for pid in &pids {
            Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status()?;
        }
        Ok(pids.len())
    }

    /// Starts the server again, or `up`.
    pub fn start_server(&mut self) -> Result<()> {
        let (server, site) = (format!("127.0.0.1:{}", self.server_port), format!("127.0.0.1:{}", self.site_port));
        let mut command = match self.form {
            Form::OneProcess => {
                let mut command = self.command(&["up", "--json", "--listen", &server, "--site-listen", &site]);
                command.arg("--cassettes").arg(self.cassettes());
                command.envs(self.options.runner_env.iter().cloned());
                command
            }
            Form::TwoProcesses => self.command(&["server", "--json", "--listen", &server]),
        };
        if let Some(database) = &self.options.database {
            command.args(["--database", database]);
        }
        self.server = Some(self.spawn(command, "server.log")?);
        Ok(())
    }

    /// Starts the runner again; in one process there is nothing to do.
    pub fn start_runner(&mut self) -> Result<()> {
        if self.form == Form::OneProcess {
            return Ok(());
        }
        let token = self.folder.path().join("enroll-token");
        if !token.exists() {
            self.json(&["runners", "token", "--output", &token.to_string_lossy()])?;
        }
        let dialled = self.options.server_seen_from_runner.unwrap_or_else(|| self.server_addr());
        let mut command = self.command(&["runner", "--json", "--server", &format!("http://{dialled}")]);
        command.args(["--listen", &format!("127.0.0.1:{}", self.site_port), "--enroll-token-file"]).arg(token);
        command.arg("--cassettes").arg(self.cassettes());
        command.envs(self.options.runner_env.iter().cloned());
        self.runner = Some(self.spawn(command, "runner.log")?);
        Ok(())
    }

    /// Stops everything as Ctrl-C does, and waits until it has drained.
    pub fn stop(&mut self) -> Result<()> {
        for mut process in [self.runner.take(), self.server.take()].into_iter().flatten() {
            Command::new("kill").args(["-TERM", &process.id().to_string()]).status()?;
            let begun = Instant::now();
            while process.try_wait()?.is_none() {
                if begun.elapsed() > Duration::from_secs(30) {
                    process.kill()?;
                    process.wait()?;
                    bail!("a process did not drain within 30 s\n{}", self.logs());
                }
                pause(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn cassettes(&self) -> PathBuf {
        self.folder.path().join("cassettes")
    }

    fn spawn(&self, mut command: Command, log: &str) -> Result<Child> {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join(log))?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if serde_json::from_str::<Value>(&line).is_err() {
            let _ = child.kill();
            let status = child.wait()?;
            bail!("a process did not start ({status})\n{}", self.logs());
        }
        Ok(child)
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        let _ = kill(&mut self.runner);
        let _ = kill(&mut self.server);
        // Environments outlive their runner by design: whoever tests has to sweep up.
        for pid in self.guests() {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        for (name, _) in &self.options.small_disks {
            let _ = Command::new("umount").arg("--lazy").arg(self.data().join(name)).stderr(Stdio::null()).status();
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "whoever reads a failed test needs the logs")]
            {
                eprintln!("{}", self.logs());
            }
        }
    }
}

/// Whether this process may make small disks.
pub fn may_mount() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
        u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> 21 & 1 == 1)
    })
}

fn mount(at: &Path, mib: u64) -> Result<()> {
    fs::create_dir_all(at)?;
    let size = format!("size={mib}m,mode=0700");
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "stockade-test"]).arg(at).status()?;
    ensure!(status.success(), "a small disk cannot be mounted at {}", at.display());
    Ok(())
}

/// A file that takes all the room there is. Dropped, it gives it back.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Filler {
    fn fill(folder: &Path) -> Result<Self> {
        let path = folder.join("filler");
        let mut file = fs::File::create(&path)?;
        let filler = Self(path);
        // Large pieces first, and then the last bytes.
        for piece in [vec![0; 1024 * 1024], vec![0; 4096], vec![0]] {
            while file.write_all(&piece).is_ok() {}
        }
        Ok(filler)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn kill(child: &mut Option<Child>) -> Result<()> {
    if let Some(mut process) = child.take() {
        process.kill()?;
        process.wait()?;
    }
    Ok(())
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// A port that nobody listens on, and that no other installation of this process was given: it is bound later, and the kernel may give one out again
/// as soon as it is free.
fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
}

/// Waits a little before asking a process again.
#[expect(clippy::disallowed_methods, reason = "a test that drives processes from outside has nothing else to wait on")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
