//! The system calls that no crate of ours wraps, each behind a safe function.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
};

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes over a descriptor that was inherited. Asked for once per number, at the start.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: asking for the flags of a number that is no descriptor is an error and nothing else.
    checked(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, was inherited for us, and each number is named once in the arguments.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sixteen characters that no earlier start had.
pub fn fresh_word() -> io::Result<String> {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is ours and as long as we say.
    checked(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } as libc::c_long)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// Makes this process the one that orphans below it fall to, and one that others of its user cannot trace.
pub fn settle() -> io::Result<()> {
    // SAFETY: plain numbers.
    checked(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.into())?;
    // SAFETY: plain numbers.
    checked(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }.into())?;
    // SAFETY: plain number.
    unsafe { libc::umask(0o022) };
    Ok(())
}

/// Waits for any child to end. An error when there is none.
pub fn reap_one() -> io::Result<()> {
    // SAFETY: nothing is written when no place is given.
    checked(unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) }.into()).map(drop)
}

/// Sends a signal to one process.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: plain numbers.
    checked(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Kills every process of this process-id namespace but this one; refused unless this is its first process.
pub fn kill_all() -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // SAFETY: plain numbers; as process 1 of a namespace, "all" ends at its border and leaves us out.
    checked(unsafe { libc::kill(-1, libc::SIGKILL) }.into()).map(drop)
}

/// While it lives, this thread touches files as another user.
#[derive(Debug)]
pub struct FilesAs(Option<()>);

impl FilesAs {
    /// Nothing changes if no id is given.
    pub fn new(id: Option<u32>) -> Self {
        let Some(id) = id else { return Self(None) };
        set_file_ids(id);
        Self(Some(()))
    }
}

impl Drop for FilesAs {
    fn drop(&mut self) {
        if self.0.is_some() {
            set_file_ids(0);
        }
    }
}

fn set_file_ids(id: u32) {
    // SAFETY: plain numbers. The raw calls change this thread only; the user comes last when rights are given up
    // and the group needs no right when they come back, because the thread keeps its other capabilities.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, id);
        libc::syscall(libc::SYS_setfsuid, id);
    }
}

/// What a child does between fork and exec.
#[derive(Debug)]
pub struct Launch {
    /// Programs to try, in order.
    pub programs: Vec<CString>,
    /// Arguments.
    pub argv: Vec<CString>,
    /// Variables.
    pub envp: Vec<CString>,
    /// Standard input, output and error.
    pub stdio: [RawFd; 3],
    /// Where to.
    pub cwd: RawFd,
    /// Where the supervisor and, until its exec, the command tell how it goes.
    pub status: RawFd,
    /// The workload's user namespace.
    pub users: Option<RawFd>,
    /// The workload's id within.
    pub id: Option<u32>,
    /// The capabilities that it keeps there, by their bits.
    pub may: u64,
    /// Seccomp programs.
    pub seccomp: Arc<[Vec<u64>]>,
    /// At most so many processes.
    pub processes: Option<u64>,
    /// At most so many open files.
    pub open_files: Option<u64>,
}

/// The size of a message on the status pipe: a tag, a stage, two bytes of nothing, a number.
pub const MESSAGE: usize = 8;
/// The command could not be started: the number is the error's.
pub const FAILED: u8 = b'F';
/// The command ended: the number is its wait status.
pub const ENDED: u8 = b'E';

/// The stages that a failing child names.
pub const STAGES: [&str; 8] = [
    "forking",
    "its session",
    "its streams",
    "its folder",
    "its limits",
    "its user",
    "its fences",
    "starting the program",
];

/// Forks a supervisor, which forks the command and to which the command's orphans fall. Returns the supervisor.
///
/// The supervisor lives until the command and everything that it left behind has ended.
pub fn launch(launch: &Launch) -> io::Result<i32> {
    let prepared = Prepared { launch, argv: pointers(&launch.argv), envp: pointers(&launch.envp) };
    // SAFETY: the child calls only `supervise`, which makes plain system calls on memory prepared before the
    // fork: no allocation, no lock that another thread could hold, no return.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: we are in the child of a fork, and everything that `prepared` points to was made before.
        unsafe { supervise(&prepared) }
    }
    checked(pid.into()).map(|_| pid)
}

/// What [`launch`] makes before it forks: lists for execve(2), each ending with a null and pointing into `launch`.
struct Prepared<'a> {
    launch: &'a Launch,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Puts this thread behind a Landlock ruleset, and whatever it forks.
pub fn fence(ruleset: RawFd) -> io::Result<()> {
    // SAFETY: plain numbers.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0u32) }).map(drop)
}

/// Has the kernel tell of each program that this thread, or what it forks, is about to start, through the descriptor. Every start waits
/// until it is let go.
pub fn tell_of_starts() -> io::Result<OwnedFd> {
    const LOAD: u16 = 0x20;
    const IS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const NEW_LISTENER: libc::c_ulong = 8;
    const WAIT_KILLABLE: libc::c_ulong = 32;
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    // Calls of another machine are refused by the filters after this one, whose word outweighs it.
    let mut program = [
        instruction(LOAD, 0, 0, 0),
        instruction(IS, 1, 0, number(libc::SYS_execve)),
        instruction(IS, 0, 1, number(libc::SYS_execveat)),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: 5, filter: program.as_mut_ptr() };
    let install = |flags: libc::c_ulong| {
        // SAFETY: the filter is a valid program that lives until the call ends.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
        checked(result)
    };
    // An older kernel lets a signal interrupt the wait, and the start is told again.
    let listener = install(NEW_LISTENER | WAIT_KILLABLE).or_else(|_| install(NEW_LISTENER))?;
    // SAFETY: the kernel just gave us this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(listener).unwrap_or(-1)) })
}

/// A program that is about to be started.
#[derive(Debug)]
pub struct Start {
    id: u64,
    /// By whom.
    pub pid: i32,
    /// Where the path stands in its memory.
    pub path: u64,
    /// The descriptor that the path begins at, if one is named.
    pub folder: Option<u64>,
    /// Where the addresses of its arguments stand, its name first.
    pub arguments: u64,
}

const NEXT_START: libc::c_ulong = 0xC050_2100;
const LET_START: libc::c_ulong = 0xC018_2101;
const STILL_WAITS: libc::c_ulong = 0x4008_2102;

/// Waits for the next.
pub fn next_start(listener: &OwnedFd) -> io::Result<Start> {
    // SAFETY: all zeroes are a valid `seccomp_notif`, and what the kernel asks for.
    let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: `notice` is a valid place of the size that the request's number says.
    checked(unsafe { libc::ioctl(listener.as_raw_fd(), NEXT_START, &raw mut notice) }.into())?;
    let [first, second, third, ..] = notice.data.args;
    let (path, folder, arguments) = if i64::from(notice.data.nr) == libc::SYS_execveat {
        (second, Some(first), third)
    } else {
        (first, None, second)
    };
    Ok(Start { id: notice.id, pid: notice.pid.cast_signed(), path, folder, arguments })
}

/// Whether whoever is to start it still waits.
pub fn still_waits(listener: &OwnedFd, start: &Start) -> bool {
    // SAFETY: the kernel reads a number that lives until the call ends.
    unsafe { libc::ioctl(listener.as_raw_fd(), STILL_WAITS, &raw const start.id) == 0 }
}

/// Lets it go on. Whoever is gone meanwhile needs nothing.
pub fn let_start(listener: &OwnedFd, start: &Start) {
    const CONTINUE: u32 = 1;
    let answer = libc::seccomp_notif_resp { id: start.id, val: 0, error: 0, flags: CONTINUE };
    // SAFETY: `answer` has the size that the request's number says and lives until the call ends.
    unsafe { libc::ioctl(listener.as_raw_fd(), LET_START, &raw const answer) };
}

fn tell(status: RawFd, tag: u8, stage: u8, number: i32) {
    let [a, b, c, d] = number.to_ne_bytes();
    let message = [tag, stage, 0, 0, a, b, c, d];
    // SAFETY: the message is ours and as long as we say. A reader that is gone is nobody's harm.
    unsafe { libc::write(status, message.as_ptr().cast(), MESSAGE) };
}

/// # Safety
/// Only in the child of a fork.
unsafe fn supervise(prepared: &Prepared<'_>) -> ! {
    let launch = prepared.launch;
    // SAFETY: plain system calls on numbers and on memory of this stack.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        let command = libc::fork();
        if command == 0 {
            let stage = become_command(prepared);
            tell(launch.status, FAILED, stage, *libc::__errno_location());
            libc::_exit(127);
        }
        if command < 0 {
            tell(launch.status, FAILED, 0, *libc::__errno_location());
            libc::_exit(1);
        }
        // Everything but the status pipe: while a writing end of a stream is open here, it never ends.
        let status = libc::dup2(launch.status, 3);
        libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, 0u32);
        loop {
            let mut how = 0;
            let ended = libc::waitpid(-1, &raw mut how, 0);
            if ended == command {
                tell(status, ENDED, 0, how);
            } else if ended < 0 && *libc::__errno_location() != libc::EINTR {
                libc::_exit(0);
            }
        }
    }
}

fn limit(resource: libc::__rlimit_resource_t, value: Option<u64>) -> bool {
    let Some(value) = value else { return true };
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid place for the answer.
    if unsafe { libc::getrlimit(resource, &raw mut now) } != 0 {
        return false;
    }
    let value = value.min(now.rlim_max);
    let new = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `new` is a valid `rlimit`.
    unsafe { libc::setrlimit(resource, &raw const new) == 0 }
}

/// Becomes the command; comes back with the stage that failed, the error in `errno`.
///
/// # Safety
/// Only in the child of a fork; everything that `prepared` points to must be alive.
unsafe fn become_command(prepared: &Prepared<'_>) -> u8 {
    let launch = prepared.launch;
    // SAFETY: plain system calls on numbers, on memory of this stack, and on lists and C strings of `launch`.
    unsafe {
        if libc::setsid() < 0 {
            return 1;
        }
        for (to, from) in (0..).zip(launch.stdio) {
            if libc::dup2(from, to) < 0 {
                return 2;
            }
        }
        if libc::fchdir(launch.cwd) != 0 {
            return 3;
        }
        if !limit(libc::RLIMIT_NPROC, launch.processes) || !limit(libc::RLIMIT_NOFILE, launch.open_files) {
            return 4;
        }
        if let Some(users) = launch.users
            && libc::setns(users, libc::CLONE_NEWUSER) != 0
        {
            return 5;
        }
        if let Some(id) = launch.id {
            // Refused where an unprivileged user made the namespaces; there are no further groups there then.
            libc::setgroups(0, std::ptr::null());
            // Raw calls: libc's own would talk to threads that the fork did not copy.
            if libc::syscall(libc::SYS_setresgid, id, id, id) != 0
                || libc::syscall(libc::SYS_setresuid, id, id, id) != 0
            {
                return 5;
            }
        }
        if !give_up_rights(launch.may) {
            return 5;
        }
        default_signals();
        // The status pipe and all else closes at the exec.
        const CLOSE_RANGE_CLOEXEC: u32 = 4;
        if libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOSE_RANGE_CLOEXEC) != 0 {
            return 6;
        }
        for program in launch.seccomp.iter() {
            // One that is too long for the kernel is refused by it, as one of no instructions.
            let program = libc::sock_fprog {
                len: libc::c_ushort::try_from(program.len()).unwrap_or(0),
                filter: program.as_ptr().cast_mut().cast::<libc::sock_filter>(),
            };
            if libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) != 0 {
                return 6;
            }
        }
        let mut found = libc::ENOENT;
        for program in &launch.programs {
            libc::execve(program.as_ptr(), prepared.argv.as_ptr(), prepared.envp.as_ptr());
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR => {}
                // As a shell does: one that may not be run is remembered, a later one may do.
                libc::EACCES => found = libc::EACCES,
                other => {
                    found = other;
                    break;
                }
            }
        }
        *libc::__errno_location() = found;
        7
    }
}

/// Drops every capability but these, from the bounding set too, and the way to gain any.
///
/// # Safety
/// Only in the child of a fork.
unsafe fn give_up_rights(may: u64) -> bool {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    // SAFETY: plain numbers, and structures of the layout that version 3 of capset(2) asks for.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return false;
        }
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        // Without the right to drop there is nothing to drop from either: a plain user's exec gives none.
        for capability in (0..64).filter(|capability| may & (1 << capability) == 0) {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                break;
            }
        }
        let header = Header { version: VERSION_3, pid: 0 };
        // Effective, permitted, inheritable: the low halves, then the high ones.
        let (low, high) = ((may & 0xFFFF_FFFF) as u32, (may >> 32) as u32);
        let sets = [low, low, 0, high, high, 0];
        libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) == 0
    }
}

/// # Safety
/// Only in the child of a fork.
unsafe fn default_signals() {
    // SAFETY: an all-zero set is valid for sigemptyset, which fills it; plain numbers otherwise.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}
