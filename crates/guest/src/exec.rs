//! Commands: started behind the workload's fences, watched, and ended whole.

use std::{
    collections::HashMap,
    ffi::CString,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{MemfdFlags, Mode, OFlags},
    pipe::PipeFlags,
    process::{Pid, PidfdFlags},
};
use stockade_api::guest::{Exec, Reply, Stream};
use stockade_domain::ids::CallId;

use crate::{
    Boot, Kept,
    files::{self, Trouble},
    forker::Forker,
    proc, sys,
};

/// The longest that a command may run, in milliseconds.
pub const MAX_TIMEOUT_MS: u64 = 86_400_000;
/// The most that is kept of each stream, in bytes: both, however escaped, fit into one frame.
pub const MAX_OUTPUT: u64 = 512 * 1024;
/// Arguments and variables of a command together, in bytes.
pub const MAX_ARGUMENT_BYTES: usize = 1 << 20;
/// After a command ended, its streams are read for so long at most, if processes that it left hold them open.
const DRAIN: Duration = Duration::from_millis(1_000);
/// And for so long at most without anything coming.
const DRAIN_QUIET: Duration = Duration::from_millis(50);
/// How long killing a command's processes one by one may take before all of the environment's are killed.
const KILLING: Duration = Duration::from_secs(5);
/// How many streams of left-behind processes are read on, so that those can go on writing; more are closed.
const MAX_LEFT_STREAMS: usize = 64;
/// A piece of a stream.
const PIECE: usize = 16 * 1024;

/// The commands of one guest.
#[derive(Debug)]
pub struct Commands {
    forker: Forker,
    running: Mutex<HashMap<CallId, i32>>,
    left: Arc<AtomicUsize>,
}

/// Where live output goes.
pub type Live<'a> = &'a mut dyn FnMut(Stream, &str);

struct Output {
    stream: Stream,
    pipe: Option<OwnedFd>,
    kept: Kept,
    /// The end of the last piece that may be the beginning of a character.
    open: Vec<u8>,
}

impl Output {
    fn new(stream: Stream, pipe: OwnedFd, max: usize) -> Self {
        Self { stream, pipe: Some(pipe), kept: Kept::new(max), open: Vec::new() }
    }

    /// Reads what is there. The beginning that is kept is also sent live.
    fn take(&mut self, live: Live<'_>) {
        let Some(pipe) = &self.pipe else { return };
        let mut piece = [0; PIECE];
        match rustix::io::read(pipe, &mut piece) {
            Ok(0) => self.pipe = None,
            Ok(n) => {
                let piece = piece.get(..n).unwrap_or_default();
                let first = self.kept.push(piece);
                if first > 0 {
                    self.open.extend_from_slice(piece.get(..first).unwrap_or_default());
                    let whole = whole_characters(&self.open);
                    let rest = self.open.split_off(whole);
                    let text = std::mem::replace(&mut self.open, rest);
                    if !text.is_empty() {
                        live(self.stream, &String::from_utf8_lossy(&text));
                    }
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.pipe = None,
        }
    }
}

/// How many bytes there are before a character that is not yet whole.
fn whole_characters(bytes: &[u8]) -> usize {
    let back = bytes.len().min(3);
    for at in (bytes.len() - back..bytes.len()).rev() {
        let need = match bytes.get(at).copied().unwrap_or(0) {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xFF => 4,
            0x80..=0xBF => continue,
            _ => return bytes.len(),
        };
        return if bytes.len() - at < need { at } else { bytes.len() };
    }
    bytes.len()
}

/// Runs a command to its end.
pub fn run(
    boot: &Boot,
    commands: &Commands,
    call: Option<CallId>,
    exec: &Exec,
    live: Live<'_>,
) -> Result<Reply, Trouble> {
    let prepared = Prepared::new(boot, call, exec)?;
    let cwd = files::open_folder(boot, &exec.cwd)?;
    let timeout = Duration::from_millis(exec.timeout_ms.clamp(1, MAX_TIMEOUT_MS));
    let max = usize::try_from(exec.max_output.min(MAX_OUTPUT)).unwrap_or(0);
    let started = Instant::now();

    let (status, status_write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (out, out_write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (err, err_write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    for pipe in [&status, &out, &err] {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    let stdin = standard_input(exec.stdin.as_deref())?;
    // Held until it is known whose it is: the command may be about to start its program already, and that is noted.
    let mut running = commands.lock();
    let supervisor = commands.forker.fork(sys::Launch {
        programs: prepared.programs,
        argv: prepared.argv,
        envp: prepared.envp,
        stdio: [stdin.as_raw_fd(), out_write.as_raw_fd(), err_write.as_raw_fd()],
        cwd: cwd.as_raw_fd(),
        status: status_write.as_raw_fd(),
        users: boot.users.as_ref().map(AsRawFd::as_raw_fd),
        id: boot.workload_id,
        may: boot.may,
        seccomp: Arc::clone(&boot.seccomp),
        processes: boot.processes,
        open_files: boot.open_files,
    })?;
    if let Some(call) = call {
        running.insert(call, supervisor);
    }
    drop(running);
    drop((status_write, out_write, err_write, stdin, cwd));
    // Nothing if it is gone already; then its streams and its status tell the rest.
    let handle = Pid::from_raw(supervisor).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    let mut outputs = [Output::new(Stream::Stdout, out, max), Output::new(Stream::Stderr, err, max)];
    let (how, timed_out) = watch(&status, &mut outputs, started + timeout, supervisor, handle.as_ref(), live);
    if let Some(call) = call {
        commands.lock().remove(&call);
    }
    let [stdout, stderr] = outputs.map(|output| {
        commands.read_on(output.pipe);
        output.kept.into_text()
    });
    let (status, signal) = match how {
        How::NotStarted { stage, error } => return Err(not_started(exec, stage, error)),
        How::Ended(wait) if libc::WIFSIGNALED(wait) => (128 + libc::WTERMSIG(wait), Some(libc::WTERMSIG(wait))),
        How::Ended(wait) => (libc::WEXITSTATUS(wait), None),
        // Its supervisor was killed: by the kernel for want of memory, or by the workload itself. What it left can no
        // longer be told from what others left, so all of the environment's commands end with it.
        How::Lost => {
            let _ = sys::kill_all();
            (128 + libc::SIGKILL, Some(libc::SIGKILL))
        }
    };
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Reply::Exited { status, signal, timed_out, stdout, stderr, duration_ms })
}

fn not_started(exec: &Exec, stage: u8, error: i32) -> Trouble {
    let program = exec.argv.first().map_or("", String::as_str);
    let what = io::Error::from_raw_os_error(error);
    let last = sys::STAGES.len() - 1;
    match (usize::from(stage), error) {
        (stage, libc::ENOENT) if stage == last => {
            Trouble::new("not_found", format!("there is no program `{program}` here"))
        }
        (stage, libc::EACCES) if stage == last => {
            Trouble::new("io", format!("`{program}` may not be run: is it a program, and marked executable?"))
        }
        (stage, _) => {
            let stage = sys::STAGES.get(stage).copied().unwrap_or("starting");
            Trouble::new("io", format!("`{program}` could not be started ({stage}): {what}"))
        }
    }
}

enum How {
    NotStarted { stage: u8, error: i32 },
    Ended(i32),
    Lost,
}

/// Reads streams and status until the command has ended, or its time has.
fn watch(
    status: &OwnedFd,
    outputs: &mut [Output; 2],
    mut deadline: Instant,
    supervisor: i32,
    handle: Option<&OwnedFd>,
    live: Live<'_>,
) -> (How, bool) {
    let mut timed_out = false;
    let how = loop {
        wait_for_any(status.as_fd(), outputs, deadline);
        for output in outputs.iter_mut() {
            output.take(live);
        }
        if let Some(how) = read_status(status) {
            break how;
        }
        if Instant::now() >= deadline {
            if timed_out {
                break How::Lost;
            }
            timed_out = true;
            kill_whole(supervisor, handle);
            deadline = Instant::now() + DRAIN;
        }
    };
    // What it wrote before it ended is in the pipes; what it left behind may hold them open.
    let end = Instant::now() + DRAIN;
    while outputs.iter().any(|output| output.pipe.is_some()) && Instant::now() < end {
        let quiet = Instant::now() + DRAIN_QUIET;
        if !wait_for_streams(outputs, quiet.min(end)) {
            break;
        }
        for output in outputs.iter_mut() {
            output.take(live);
        }
    }
    (how, timed_out)
}

fn read_status(status: &OwnedFd) -> Option<How> {
    let mut message = [0; sys::MESSAGE];
    match rustix::io::read(status, &mut message) {
        Ok(sys::MESSAGE) => {
            let [tag, stage, _, _, a, b, c, d] = message;
            let number = i32::from_ne_bytes([a, b, c, d]);
            Some(if tag == sys::FAILED { How::NotStarted { stage, error: number } } else { How::Ended(number) })
        }
        Ok(_) => Some(How::Lost),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
        Err(_) => Some(How::Lost),
    }
}

fn wait_for_any(status: BorrowedFd<'_>, outputs: &[Output; 2], until: Instant) {
    let mut fds = vec![PollFd::from_borrowed_fd(status, PollFlags::IN)];
    fds.extend(outputs.iter().filter_map(|output| output.pipe.as_ref()).map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    poll_until(&mut fds, until);
}

fn wait_for_streams(outputs: &[Output; 2], until: Instant) -> bool {
    let mut fds: Vec<PollFd<'_>> =
        outputs.iter().filter_map(|output| output.pipe.as_ref()).map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
    poll_until(&mut fds, until)
}

/// Whether anything came before the time.
fn poll_until(fds: &mut [PollFd<'_>], until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
    rustix::event::poll(fds, Some(&left)).is_ok_and(|ready| ready > 0)
}

/// Kills everything below a supervisor, however it hides: orphans, other sessions, other groups. What is forked
/// meanwhile is found at the next look.
fn kill_whole(supervisor: i32, handle: Option<&OwnedFd>) {
    let end = Instant::now() + KILLING;
    loop {
        let below = proc::descendants(supervisor);
        for pid in &below {
            let _ = sys::kill(*pid, libc::SIGKILL);
        }
        // The supervisor ends when all below it have.
        let gone = match handle {
            Some(handle) => {
                poll_until(&mut [PollFd::new(handle, PollFlags::IN)], Instant::now() + Duration::from_millis(2))
            }
            None => below.is_empty(),
        };
        if gone {
            return;
        }
        if Instant::now() > end {
            // It forks faster than it is found. Others of this environment die with it: better than leaving it.
            let _ = sys::kill_all();
            return;
        }
    }
}

impl Commands {
    /// None yet.
    pub fn new(forker: Forker) -> Self {
        Self { forker, running: Mutex::default(), left: Arc::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CallId, i32>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Running calls, and who supervises each.
    pub fn supervisors(&self) -> Vec<(CallId, i32)> {
        self.lock().iter().map(|(call, supervisor)| (*call, *supervisor)).collect()
    }

    /// Sends a signal to all processes of a running command.
    pub fn signal(&self, exec: CallId, signal: i32) -> Result<Reply, Trouble> {
        if !(1..=31).contains(&signal) {
            return Err(Trouble::new("bad_request", format!("{signal} is no signal: 1 to 31 are")));
        }
        let Some(supervisor) = self.lock().get(&exec).copied() else {
            return Err(Trouble::new("not_found", format!("no command of {exec} is running")));
        };
        for pid in proc::descendants(supervisor) {
            let _ = sys::kill(pid, signal);
        }
        Ok(Reply::Done {})
    }

    /// Kills every command there is.
    pub fn kill_all(&self) {
        if sys::kill_all().is_err() {
            let running: Vec<i32> = self.lock().values().copied().collect();
            for pid in running.into_iter().flat_map(proc::descendants) {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
        }
    }

    /// Reads a stream that processes left behind still hold, so that writing to it does not end them.
    fn read_on(&self, pipe: Option<OwnedFd>) {
        let Some(pipe) = pipe else { return };
        if self.left.fetch_add(1, Ordering::Relaxed) >= MAX_LEFT_STREAMS
            || rustix::io::ioctl_fionbio(&pipe, false).is_err()
        {
            self.left.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let left = Arc::clone(&self.left);
        let reading = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            let mut file = std::fs::File::from(pipe);
            let mut piece = [0; 4096];
            while matches!(file.read(&mut piece), Ok(1..)) {}
            left.fetch_sub(1, Ordering::Relaxed);
        });
        if reading.is_err() {
            self.left.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn standard_input(text: Option<&str>) -> io::Result<OwnedFd> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    };
    let mut file = std::fs::File::from(rustix::fs::memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    io::Write::write_all(&mut file, text.as_bytes())?;
    io::Seek::rewind(&mut file)?;
    Ok(file.into())
}

struct Prepared {
    programs: Vec<CString>,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Prepared {
    fn new(boot: &Boot, call: Option<CallId>, exec: &Exec) -> Result<Self, Trouble> {
        let bad = |what: &str| Trouble::new("bad_request", what.to_owned());
        let program =
            exec.argv.first().filter(|program| !program.is_empty()).ok_or_else(|| bad("no program is named"))?;
        let bytes = exec.argv.iter().map(|arg| arg.len() + 1).sum::<usize>()
            + exec.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
        if bytes > MAX_ARGUMENT_BYTES {
            return Err(Trouble::new(
                "too_large",
                format!("arguments of {bytes} bytes are more than {MAX_ARGUMENT_BYTES}"),
            ));
        }
        if exec.env.iter().any(|(name, _)| name.is_empty() || name.contains('=')) {
            return Err(bad("a variable's name is empty or holds `=`"));
        }
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let mut env: Vec<(String, String)> = vec![
            ("PATH".into(), boot.path.clone()),
            ("HOME".into(), text(&boot.home)),
            ("USER".into(), boot.user.clone()),
            ("LOGNAME".into(), boot.user.clone()),
            ("SHELL".into(), "/bin/sh".into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("TMPDIR".into(), text(&boot.tmp)),
            ("STOCKADE_TRANSFER".into(), text(&boot.transfer)),
        ];
        if let Some(call) = call {
            env.push(("STOCKADE_CALL".into(), call.to_string()));
        }
        for (name, value) in boot.variables.iter().chain(&exec.env) {
            env.retain(|(known, _)| known != name);
            env.push((name.clone(), value.clone()));
        }
        let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value.as_str());
        let programs = if program.contains('/') {
            vec![program.clone()]
        } else {
            path.split(':')
                .filter(|folder| folder.starts_with('/'))
                .map(|folder| format!("{folder}/{program}"))
                .collect()
        };
        let c = |text: String| CString::new(text).map_err(|_| bad("an argument or a variable holds a zero byte"));
        Ok(Self {
            programs: programs.into_iter().map(c).collect::<Result<_, _>>()?,
            argv: exec.argv.iter().cloned().map(c).collect::<Result<_, _>>()?,
            envp: env.into_iter().map(|(name, value)| c(format!("{name}={value}"))).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_of_a_text_are_texts(text in "\\PC{0,40}", cut in 0usize..160) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let whole = whole_characters(&bytes[..cut]);
            prop_assert!(std::str::from_utf8(&bytes[..whole]).is_ok());
            prop_assert!(cut - whole < 4);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            prop_assert!(whole_characters(&bytes) <= bytes.len());
        }
    }
}
