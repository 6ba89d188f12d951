//! The system calls that no crate of ours wraps, each behind a safe function.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::io::Errno;

/// `MOUNT_ATTR_*` and `AT_*` of mount_setattr(2).
pub const ATTR_RDONLY: u64 = 1;
/// Set-user-id bits count for nothing.
pub const ATTR_NOSUID: u64 = 2;
/// Device nodes are no devices.
pub const ATTR_NODEV: u64 = 4;
/// Programs cannot be started from it.
pub const ATTR_NOEXEC: u64 = 8;
const AT_RECURSIVE: libc::c_uint = 0x8000;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Adds attributes to a mount, and to those below it.
pub fn mount_add_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    set_attributes(mount, MountAttr { set, clear: 0, propagation: 0, userns: 0 }, recursive)
}

/// Has the files of a mount that hangs nowhere belong to whom a user namespace maps their owners to.
pub fn mount_map_ids(mount: BorrowedFd<'_>, users: BorrowedFd<'_>) -> io::Result<()> {
    const IDMAP: u64 = 0x0010_0000;
    let userns = u64::try_from(users.as_raw_fd()).unwrap_or_default();
    set_attributes(mount, MountAttr { set: IDMAP, clear: 0, propagation: 0, userns }, false)
}

fn set_attributes(mount: BorrowedFd<'_>, attr: MountAttr, recursive: bool) -> io::Result<()> {
    let flags = if recursive { AT_RECURSIVE } else { 0 } | libc::AT_EMPTY_PATH.unsigned_abs();
    // SAFETY: the descriptor is open, the path is an empty C string, and `attr` is a `struct mount_attr` of
    // the size given; the kernel only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    checked(result).map(drop)
}

/// Like fork(2), in new namespaces. The child gets 0.
pub fn fork_into(namespaces: libc::c_int) -> io::Result<libc::pid_t> {
    let flags = libc::c_ulong::from(namespaces.cast_unsigned()) | libc::SIGCHLD.cast_unsigned() as libc::c_ulong;
    // SAFETY: without CLONE_VM this is fork(2): the child has its own copy of this program's one thread.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) };
    checked(result).map(|pid| libc::pid_t::try_from(pid).unwrap_or(-1))
}

/// A user namespace with a map of users and groups, as somebody makes it who may map them.
pub fn user_namespace(map: &str) -> io::Result<OwnedFd> {
    let (ready, ready_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (end, end_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let child = fork_into(libc::CLONE_NEWUSER)?;
    if child == 0 {
        drop((ready, end_write));
        let _ = write_all(&ready_write, b"r");
        drop(ready_write);
        let _ = read_byte(&end);
        exit_now(0);
    }
    let made = (|| {
        let _ = read_byte(&ready)?;
        std::fs::write(format!("/proc/{child}/uid_map"), map)?;
        std::fs::write(format!("/proc/{child}/gid_map"), map)?;
        let path = format!("/proc/{child}/ns/user");
        Ok::<_, io::Error>(rustix::fs::open(
            path,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?)
    })();
    drop((end, end_write));
    let _ = wait(child);
    made
}

/// Ends this process after a time, whatever it waits for. Its children do not inherit that.
pub fn end_after(seconds: u32) {
    // SAFETY: a plain number.
    unsafe { libc::alarm(seconds) };
}

/// Ends this process without running anything further.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Moves this process into new namespaces.
pub fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: no flag given here lets two threads share memory wrongly: this program has one thread.
    checked(unsafe { libc::unshare(namespaces) }.into()).map(drop)
}

/// Becomes a user and group of this user namespace, without supplementary groups where that may be said.
pub fn become_id(id: u32, groups_may_be_set: bool) -> io::Result<()> {
    if groups_may_be_set {
        // SAFETY: zero groups are read from no memory.
        checked(unsafe { libc::setgroups(0, std::ptr::null()) }.into())?;
    }
    // SAFETY: plain numbers; this program has one thread, so libc's broadcast to threads is moot.
    checked(unsafe { libc::setresgid(id, id, id) }.into())?;
    // SAFETY: as above.
    checked(unsafe { libc::setresuid(id, id, id) }.into()).map(drop)
}

/// The newest Landlock that the kernel knows.
pub fn landlock_abi() -> io::Result<libc::c_long> {
    const VERSION: libc::c_uint = 1;
    let nothing: *const libc::c_void = std::ptr::null();
    // SAFETY: asked for its version, the kernel reads no attributes.
    checked(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0usize, VERSION) })
}

/// Whether the kernel knows to tell another process of a call before it lets it go on.
pub fn may_tell_of_calls() -> io::Result<()> {
    const IS_AVAILABLE: libc::c_long = 2;
    let action = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the kernel reads a number that lives until the call ends.
    checked(unsafe { libc::syscall(libc::SYS_seccomp, IS_AVAILABLE, 0, &raw const action) }).map(drop)
}

/// Leaves the session keyring that was inherited for an empty one of this process's own. Nothing to do where the kernel has none, or
/// where a container around us lets nobody use keys.
pub fn fresh_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let name: *const libc::c_char = std::ptr::null();
    // SAFETY: without a name, nothing is read from memory.
    match checked(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name) }) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Err(error),
        _ => Ok(()),
    }
}

/// Brings up the loopback interface of this network namespace.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: plain numbers.
    let socket = checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?;
    // SAFETY: the kernel just gave us this descriptor and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(socket).unwrap_or(-1)) };
    // SAFETY: all zeroes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(1);
    // SAFETY: the request is a valid `ifreq` with a terminated name, and outlives the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}

/// Sets a resource limit, soft and hard alike. One above the present hard limit becomes that limit.
pub fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid place for the answer.
    checked(unsafe { libc::getrlimit(resource, &raw mut now) }.into())?;
    let value = value.min(now.rlim_max);
    let new = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `new` is a valid `rlimit`.
    checked(unsafe { libc::setrlimit(resource, &raw const new) }.into()).map(drop)
}

/// Waits for a child.
pub fn wait(pid: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the answer.
        match checked(unsafe { libc::waitpid(pid, &raw mut status, 0) }.into()) {
            Ok(_) => return Ok(status),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Kills a child, for certain.
pub fn kill(pid: libc::pid_t) {
    // SAFETY: plain numbers; the child is not yet reaped, so the number is still its own.
    let _ = unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Lets a descriptor through the next exec, at a number of one's choice.
pub fn place(fd: BorrowedFd<'_>, at: RawFd) -> io::Result<()> {
    // SAFETY: plain numbers; `at` is above every descriptor that an owner of ours holds.
    checked(unsafe { libc::dup3(fd.as_raw_fd(), at, 0) }.into()).map(drop)
}

/// A copy of a descriptor above 99, where it is in nobody's way; it ends at exec.
pub fn lift(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 100)?)
}

/// Becomes the program behind a descriptor, with an empty environment.
pub fn exec(program: BorrowedFd<'_>, args: &[CString]) -> io::Error {
    let mut argv: Vec<*const libc::c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(std::ptr::null());
    let envp = [std::ptr::null::<libc::c_char>()];
    // SAFETY: both lists end with a null and point to C strings that live until the call ends.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Writes all of it.
pub fn write_all(fd: &impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads one byte; nothing at the end.
pub fn read_byte(fd: &impl AsFd) -> io::Result<Option<u8>> {
    let mut byte = [0u8; 1];
    loop {
        match rustix::io::read(fd, &mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(byte.first().copied()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ties a file to a free loop device that frees itself when nothing uses it any more.
pub fn loop_device(image: BorrowedFd<'_>) -> io::Result<(OwnedFd, String)> {
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
    const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    // `struct loop_config`: fd, block size, then `struct loop_info64` whose flags stand at 52, then 64 bytes.
    #[repr(C)]
    struct Config {
        fd: u32,
        block_size: u32,
        head: [u8; 52],
        flags: u32,
        tail: [u8; 176],
        reserved: [u64; 8],
    }
    const { assert!(size_of::<Config>() == 8 + 232 + 64) };
    let open = |path: &str| -> io::Result<OwnedFd> {
        Ok(rustix::fs::open(path, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())?)
    };
    let control = open("/dev/loop-control")?;
    for _ in 0..LOOP_ATTEMPTS {
        // SAFETY: this request takes no argument.
        let number = checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }.into())?;
        let path = format!("/dev/loop{number}");
        let device = open(&path)?;
        let config = Config {
            fd: image.as_raw_fd().cast_unsigned(),
            block_size: 4096,
            head: [0; 52],
            flags: LO_FLAGS_AUTOCLEAR,
            tail: [0; 176],
            reserved: [0; 8],
        };
        // SAFETY: `config` has the layout of `struct loop_config` (its size is asserted) and outlives the call.
        match checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }.into()) {
            Ok(_) => return Ok((device, path)),
            // Somebody else was quicker with this device.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("no free loop device"))
}

/// How often another process may be quicker in taking a free loop device.
const LOOP_ATTEMPTS: u32 = 64;

/// A socket that sees what is no stream: a copy of the beginning of each packet that arrives on this interface, but for TCP and for what
/// the loopback addresses say to themselves. What it cannot hold is let go.
pub fn strays(interface: u32) -> io::Result<OwnedFd> {
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0: nothing is seen before it is bound.
    // SAFETY: plain numbers.
    let socket = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) }.into())?;
    // SAFETY: the kernel just gave us this descriptor and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(socket).unwrap_or(-1)) };
    let mut program = NO_STREAMS.map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k });
    let filter =
        libc::sock_fprog { len: u16::try_from(program.len()).unwrap_or_default(), filter: program.as_mut_ptr() };
    let set = |level, option, value: *const libc::c_void, len: usize| {
        let len = libc::socklen_t::try_from(len).unwrap_or_default();
        // SAFETY: `value` points to `len` bytes that live until the call ends; the kernel only reads them.
        checked(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, len) }.into())
    };
    set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size_of_val(&filter))?;
    // Nobody takes the filter off again, the runner neither.
    let one: libc::c_int = 1;
    set(libc::SOL_SOCKET, libc::SO_LOCK_FILTER, (&raw const one).cast(), size_of_val(&one))?;
    set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, (&raw const one).cast(), size_of_val(&one))?;
    // SAFETY: all zeroes are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
    address.sll_ifindex = i32::try_from(interface).unwrap_or_default();
    let len = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or_default();
    // SAFETY: `address` is a `sockaddr_ll` of that size and lives until the call ends.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }.into())?;
    Ok(socket)
}

/// The filter of [`strays`], in the instructions of classic BPF (operation, jumps if true and if false, operand), from the network header on.
const NO_STREAMS: [(u16, u8, u8, u32); 21] = [
    (LOAD_BYTE, 0, 0, 0),
    (AND, 0, 0, 0xF0),
    (IS, 0, 5, 0x40),
    // IPv4: its protocol, and the first byte of where it goes.
    (LOAD_BYTE, 0, 0, 9),
    (IS, 15, 0, TCP),
    (LOAD_BYTE, 0, 0, 16),
    (IS, 13, 0, 127),
    (RETURN, 0, 0, STRAY_BYTES),
    (IS, 0, 11, 0x60),
    // IPv6: its next header, and whether it goes to ::1.
    (LOAD_BYTE, 0, 0, 6),
    (IS, 9, 0, TCP),
    (LOAD_WORD, 0, 0, 24),
    (IS, 0, 6, 0),
    (LOAD_WORD, 0, 0, 28),
    (IS, 0, 4, 0),
    (LOAD_WORD, 0, 0, 32),
    (IS, 0, 2, 0),
    (LOAD_WORD, 0, 0, 36),
    (IS, 1, 0, 1),
    (RETURN, 0, 0, STRAY_BYTES),
    (RETURN, 0, 0, 0),
];
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const IS: u16 = 0x15;
const RETURN: u16 = 0x06;
const TCP: u32 = 6;
/// So much of each stray is copied: the headers.
const STRAY_BYTES: u32 = 128;
