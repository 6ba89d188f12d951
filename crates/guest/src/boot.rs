//! What the guest is handed when it starts.

use std::{
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::Arc,
};

use rustix::fs::{CWD, Mode, OFlags};

use crate::sys;

/// The longest list of seccomp instructions that is taken over.
const MAX_SECCOMP_BYTES: u64 = 1 << 20;

/// Why the guest cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// An argument is unknown, doubled up or senseless.
    #[error("the argument `{0}` is not understood")]
    Argument(String),
    /// One is missing.
    #[error("the argument `--{0}` is missing")]
    Missing(&'static str),
    /// Something handed over cannot be used.
    #[error("{what} cannot be used")]
    Io {
        /// What.
        what: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The journal cannot be used.
    #[error("the journal cannot be used: {0}")]
    Journal(#[from] crate::JournalError),
}

/// Everything that the guest stands on.
#[derive(Debug)]
pub struct Boot {
    /// Where the runner comes in.
    pub listener: UnixListener,
    /// The guest's own folder.
    pub state: OwnedFd,
    /// The workload's user namespace.
    pub users: Option<OwnedFd>,
    /// Seccomp programs for the workload, each a list of instructions of eight bytes.
    pub seccomp: Arc<[Vec<u64>]>,
    /// The workload's Landlock ruleset.
    pub landlock: Option<OwnedFd>,
    /// The workload's user and group within its namespace; nothing to stay who one is.
    pub workload_id: Option<u32>,
    /// Capabilities that the workload keeps within its namespace, by their bits: none but where it is root of the environment.
    pub may: u64,
    /// What the workload's user is called.
    pub user: String,
    /// As whom the guest touches files; nothing to stay who one is.
    pub file_id: Option<u32>,
    /// Processes of the workload.
    pub processes: Option<u64>,
    /// Open files of one process of the workload.
    pub open_files: Option<u64>,
    /// Where programs are looked for.
    pub path: String,
    /// What every command finds among its variables, unless the call says otherwise.
    pub variables: Vec<(String, String)>,
    /// Note what programs the workload starts, where the kernel tells.
    pub record_executions: bool,
    /// Measure the files and fail above this.
    pub watch_bytes: Option<u64>,
    /// More files to measure, which are mounted nowhere inside.
    pub files: Option<OwnedFd>,
    /// Where the work is.
    pub workspace: PathBuf,
    /// The workload's home.
    pub home: PathBuf,
    /// The transfer folder.
    pub transfer: PathBuf,
    /// For temporary files.
    pub tmp: PathBuf,
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> BootError {
    move |source| BootError::Io { what: what.into(), source }
}

impl Boot {
    /// Reads the launcher's arguments: `--name value` pairs. `--listen PATH` and `--state-dir PATH` stand in for
    /// descriptors when the guest is tried without a launcher.
    pub fn from_args(args: impl Iterator<Item = String>) -> Result<Self, BootError> {
        let mut args = args;
        let mut listener = None;
        let mut state = None;
        let mut boot = Parts::default();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| BootError::Argument(name.clone()))?;
            let number = || value.parse::<u64>().map_err(|_| BootError::Argument(format!("{name} {value}")));
            let small = || value.parse::<u32>().map_err(|_| BootError::Argument(format!("{name} {value}")));
            match name.as_str() {
                "--listener" => listener = Some(UnixListener::from(descriptor(&name, &value)?)),
                "--listen" => listener = Some(UnixListener::bind(&value).map_err(io_error(value))?),
                "--state" => state = Some(descriptor(&name, &value)?),
                "--state-dir" => state = Some(folder(&value)?),
                "--users" => boot.users = Some(descriptor(&name, &value)?),
                "--seccomp" => boot.seccomp = programs(descriptor(&name, &value)?)?,
                "--landlock" => boot.landlock = Some(descriptor(&name, &value)?),
                "--workload-id" => boot.workload_id = Some(small()?),
                "--may" => boot.may = number()?,
                "--user" => boot.user = Some(value),
                "--files" => boot.files = Some(descriptor(&name, &value)?),
                "--file-id" => boot.file_id = Some(small()?).filter(|id| *id != 0),
                "--processes" => boot.processes = Some(number()?),
                "--open-files" => boot.open_files = Some(number()?),
                "--record-executions" => boot.record_executions = value == "yes",
                "--watch-bytes" => boot.watch_bytes = Some(number()?),
                "--path" => boot.path = Some(value),
                "--variable" => boot.variables.push(match value.split_once('=') {
                    Some((name, value)) if !name.is_empty() => (name.to_owned(), value.to_owned()),
                    _ => return Err(BootError::Argument(format!("{name} {value}"))),
                }),
                "--workspace" => boot.workspace = Some(value.into()),
                "--home" => boot.home = Some(value.into()),
                "--transfer" => boot.transfer = Some(value.into()),
                "--tmp" => boot.tmp = Some(value.into()),
                _ => return Err(BootError::Argument(name)),
            }
        }
        Ok(Self {
            listener: listener.ok_or(BootError::Missing("listener"))?,
            state: state.ok_or(BootError::Missing("state"))?,
            users: boot.users,
            seccomp: boot.seccomp.into(),
            landlock: boot.landlock,
            workload_id: boot.workload_id,
            may: boot.may,
            user: boot.user.unwrap_or_else(|| "agent".into()),
            files: boot.files,
            file_id: boot.file_id,
            processes: boot.processes,
            open_files: boot.open_files,
            path: boot.path.unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            variables: boot.variables,
            record_executions: boot.record_executions,
            watch_bytes: boot.watch_bytes,
            workspace: boot.workspace.unwrap_or_else(|| "/workspace".into()),
            home: boot.home.unwrap_or_else(|| "/home/agent".into()),
            transfer: boot.transfer.unwrap_or_else(|| "/run/stockade/transfer".into()),
            tmp: boot.tmp.unwrap_or_else(|| "/tmp".into()),
        })
    }
}

#[derive(Default)]
struct Parts {
    users: Option<OwnedFd>,
    seccomp: Vec<Vec<u64>>,
    landlock: Option<OwnedFd>,
    workload_id: Option<u32>,
    may: u64,
    user: Option<String>,
    files: Option<OwnedFd>,
    file_id: Option<u32>,
    processes: Option<u64>,
    open_files: Option<u64>,
    watch_bytes: Option<u64>,
    path: Option<String>,
    variables: Vec<(String, String)>,
    record_executions: bool,
    workspace: Option<PathBuf>,
    home: Option<PathBuf>,
    transfer: Option<PathBuf>,
    tmp: Option<PathBuf>,
}

fn descriptor(name: &str, value: &str) -> Result<OwnedFd, BootError> {
    let number: RawFd = value.parse().map_err(|_| BootError::Argument(format!("{name} {value}")))?;
    let fd = sys::adopt(number).map_err(io_error(name))?;
    // What the guest holds, no command of the workload inherits.
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).map_err(|error| io_error(name)(error.into()))?;
    debug_assert_eq!(fd.as_raw_fd(), number);
    Ok(fd)
}

fn folder(path: &str) -> Result<OwnedFd, BootError> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| io_error(path)(error.into()))
}

fn programs(fd: OwnedFd) -> Result<Vec<Vec<u64>>, BootError> {
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(MAX_SECCOMP_BYTES).read_to_end(&mut bytes).map_err(io_error("--seccomp"))?;
    let malformed = || BootError::Argument("--seccomp".into());
    let mut programs = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((count, after)) = rest.split_first_chunk::<4>() {
        let length = (u32::from_ne_bytes(*count) as usize).checked_mul(8).ok_or_else(malformed)?;
        let (program, after) = after.split_at_checked(length).ok_or_else(malformed)?;
        programs.push(program.as_chunks::<8>().0.iter().map(|chunk| u64::from_ne_bytes(*chunk)).collect());
        rest = after;
    }
    if rest.is_empty() && !programs.is_empty() { Ok(programs) } else { Err(malformed()) }
}
