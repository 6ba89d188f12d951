//! Tries each thing that an environment needs, for real, in a process of its own.

use std::{fs, io};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags};
use stockade_sandbox::launch::Tried;

use crate::{doors, fences, sys};

type Attempt = fn() -> io::Result<String>;

const ATTEMPTS: [(&str, Attempt); 11] = [
    ("user_namespace", user),
    ("mount_namespace", mount),
    ("pid_namespace", pid),
    ("network_namespace", network),
    ("openat2", beneath),
    ("seccomp", seccomp),
    ("landlock", landlock),
    ("landlock_scopes", scopes),
    ("executions", executions),
    ("redirection", redirection),
    ("overlay", overlay),
];

/// All of them, each in a child, so that what one does to its process is nobody else's.
pub fn all() -> Vec<Tried> {
    ATTEMPTS
        .iter()
        .map(|(name, attempt)| match in_child(*attempt) {
            Ok(found) => Tried { name: (*name).to_owned(), error: None, found },
            Err(error) => Tried { name: (*name).to_owned(), error: Some(error.to_string()), found: String::new() },
        })
        .collect()
}

fn in_child(attempt: Attempt) -> io::Result<String> {
    use std::io::Read;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let child = sys::fork_into(0)?;
    if child == 0 {
        drop(read);
        let (mark, text) = match attempt() {
            Ok(found) => ('+', found),
            Err(error) => ('-', error.to_string()),
        };
        let _ = sys::write_all(&write, format!("{mark}{text}").as_bytes());
        sys::exit_now(0);
    }
    drop(write);
    let mut said = String::new();
    fs::File::from(read).take(4096).read_to_string(&mut said)?;
    sys::wait(child)?;
    match said.split_at_checked(1) {
        Some(("+", found)) => Ok(found.to_owned()),
        Some((_, error)) => Err(io::Error::other(error.to_owned())),
        None => Err(io::Error::other("the kernel killed the process that tried it")),
    }
}

fn enter() -> io::Result<()> {
    let id = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {id} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(())
}

fn user() -> io::Result<String> {
    enter()?;
    let id = rustix::process::geteuid().as_raw();
    if id == 0 { Ok("made and mapped".into()) } else { Err(io::Error::other("made, but its users are not mapped")) }
}

fn mount() -> io::Result<String> {
    use std::os::fd::AsFd;
    enter()?;
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    sys::mount_add_attributes(mount.as_fd(), sys::ATTR_RDONLY, true)?;
    Ok("made; detached mounts and their attributes work".into())
}

fn pid() -> io::Result<String> {
    use std::os::fd::AsFd;
    enter()?;
    let child = sys::fork_into(libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS)?;
    if child == 0 {
        let proc = (|| -> io::Result<()> {
            let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
            rustix::mount::fsconfig_create(context.as_fd())?;
            rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
            Ok(())
        })();
        sys::exit_now(proc.map_or_else(|error| error.raw_os_error().unwrap_or(1), |()| 0));
    }
    match libc::WEXITSTATUS(sys::wait(child)?) {
        0 => Ok("made, with a /proc of its own".into()),
        code => Err(io::Error::other(format!(
            "a /proc of its own cannot be mounted: {} (in a container, its /proc must not be masked)",
            io::Error::from_raw_os_error(code)
        ))),
    }
}

fn network() -> io::Result<String> {
    enter()?;
    sys::unshare(libc::CLONE_NEWNET)?;
    sys::loopback_up()?;
    Ok("made, with its loopback interface up and nothing else".into())
}

fn beneath() -> io::Result<String> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    rustix::fs::openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH)?;
    Ok("paths can be held below a folder".into())
}

fn seccomp() -> io::Result<String> {
    fences::try_seccomp()?;
    Ok("the filter loads, and no new privileges can be had".into())
}

fn landlock() -> io::Result<String> {
    fences::landlock(fences::Without { landlock: false, scopes: true }, fences::Files::Writable(vec!["/tmp".into()]))
        .map_err(|failure| io::Error::other(failure.message))?;
    Ok(format!("a ruleset can be made (ABI {}; 6 holds signals too)", sys::landlock_abi()?))
}

fn redirection() -> io::Result<String> {
    enter()?;
    sys::unshare(libc::CLONE_NEWNET)?;
    doors::try_leading()?;
    Ok("streams to any port are led to the way out".into())
}

fn overlay() -> io::Result<String> {
    enter()?;
    crate::overlay::attempt()?;
    Ok("a system that can be written can be laid above the machine's".into())
}

fn executions() -> io::Result<String> {
    sys::may_tell_of_calls()?;
    Ok("the kernel tells of each program that is started".into())
}

fn scopes() -> io::Result<String> {
    fences::landlock(fences::Without { landlock: false, scopes: false }, fences::Files::Writable(vec!["/tmp".into()]))
        .map_err(|failure| io::Error::other(failure.message))?;
    Ok("signals and abstract sockets end at the fence".into())
}
