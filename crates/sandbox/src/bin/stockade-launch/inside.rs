//! What the launcher does in the new namespaces: a root of its own, and then it is the guest.

use std::{
    ffi::CString,
    fs,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags},
};
use stockade_sandbox::{
    User,
    launch::{BUNDLE_FILE, CA_FILE, NAME_SERVER, Plan},
};

use crate::{
    Failure, Step, fences,
    outside::{Cargo, Tree},
    overlay::Layers,
    sys::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY},
};

/// What the new root's own file system may hold: a few small files.
const ROOT_BYTES: u64 = 4 << 20;

/// What `/run` of an overlaid system may hold: sockets, and small files of services.
const RUN_BYTES: u64 = 16 << 20;

/// Pseudo-terminals of one environment: the kernel has 4,096 for all together.
const MAX_TERMINALS: &str = "256";

/// Instances of inotify of one environment: where the workload's user is a user of the machine, that one has so many in all.
const MAX_INOTIFY: &str = "64";

/// Parts of `/proc` that tell of the machine or act upon it; replaced by nothing.
const HIDDEN: [&str; 18] = [
    "proc/interrupts",
    "proc/iomem",
    "proc/ioports",
    "proc/kallsyms",
    "proc/kcore",
    "proc/key-users",
    "proc/keys",
    "proc/kmsg",
    "proc/kpagecgroup",
    "proc/kpagecount",
    "proc/kpageflags",
    "proc/mtrr",
    "proc/sched_debug",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/latency_stats",
    "proc/sysrq-trigger",
    "proc/vmallocinfo",
];

/// Parts of `/proc` that can only be read.
const READ_ONLY: [&str; 4] = ["proc/sys", "proc/bus", "proc/fs", "proc/irq"];

/// Parts of `/proc` that are empty. The first process is the guest: without root its files there belong to the
/// workload's own user, who could at least turn the kernel's search for memory on it.
const EMPTY: [&str; 5] = ["proc/1", "proc/acpi", "proc/asound", "proc/driver", "proc/scsi"];

const PASSWD: &str = "root:x:0:0:root:/root:/usr/sbin/nologin\nagent:x:1000:1000:agent:/home/agent:/bin/bash\n\
                      nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nagent:x:1000:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost stockade\n::1 localhost\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
                        protocols: files\nservices: files\n";
const HOST_NAME: &str = "stockade";
/// How long a question for a name is waited for, in seconds, and how often it is asked: whoever answers is on the same machine, so
/// what is not answered by then never will be.
const RESOLVER: &str = "options timeout:2 attempts:2\n";

/// The variables by which tools that do not look where the system's trust store is are told of it, and whether they take it instead of
/// their own or beside.
const TRUST_VARIABLES: [(&str, &str); 8] = [
    ("SSL_CERT_FILE", BUNDLE_FILE),
    ("REQUESTS_CA_BUNDLE", BUNDLE_FILE),
    ("PIP_CERT", BUNDLE_FILE),
    ("CURL_CA_BUNDLE", BUNDLE_FILE),
    ("GIT_SSL_CAINFO", BUNDLE_FILE),
    ("CARGO_HTTP_CAINFO", BUNDLE_FILE),
    ("AWS_CA_BUNDLE", BUNDLE_FILE),
    ("NODE_EXTRA_CA_CERTS", CA_FILE),
];

/// Does all of it. Comes back only if something failed.
pub fn become_guest(cargo: Cargo, go: &OwnedFd) -> Failure {
    match prepare(cargo, go) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

enum Never {}

fn prepare(cargo: Cargo, go: &OwnedFd) -> Result<Never, Failure> {
    let Cargo { plan, layers, trees, links, listener, state, guest, files } = cargo;
    wait_for(go, b'm')?;
    let by_root = plan.id_base.is_some();
    if by_root {
        sys::become_id(0, true).step("becoming the guest's user")?;
        // Changing ids hides a process from its like; our own child's maps are still to be written.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
            .step("becoming the guest's user")?;
    }
    // What keys the runner's session has are not the environment's, be it without the calls to use them.
    sys::fresh_session_keyring().step("making a keyring")?;
    sys::loopback_up().step("bringing up the loopback interface")?;
    rustix::system::sethostname(HOST_NAME.as_bytes()).step("naming the host")?;

    let overlaid = layers.is_some();
    enter_new_root(layers, trees, links, &plan)?;
    let without = fences::Without { landlock: plan.without_landlock, scopes: plan.without_scopes };
    let landlock = fences::landlock(without, fences::Files::of(&plan, overlaid))?;
    let seccomp = fences::seccomp(plan.inside)?;
    set_limits(&plan)?;
    let users = workload_users(&plan)?;

    wait_for(go, b'g')?;
    // Only now, so that the control groups joined meanwhile are the root of what the environment sees.
    sys::unshare(libc::CLONE_NEWCGROUP).step("making a cgroup namespace")?;
    rustix::thread::set_no_new_privs(true).step("giving up new privileges")?;

    let null =
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).step("opening /dev/null")?;
    let mut args = vec!["stockade-guest".to_owned()];
    let step = "handing over descriptors";
    let lifted = |fd: &OwnedFd| sys::lift(fd.as_fd()).step(step);
    let guest = lifted(&guest)?;
    let mut handed = vec![("listener", lifted(&listener)?), ("state", lifted(&state)?)];
    handed.push(("users", lifted(&users)?));
    handed.push(("seccomp", lifted(&seccomp)?));
    if let Some(files) = &files {
        handed.push(("files", lifted(files)?));
    }
    if let Some(ruleset) = &landlock {
        handed.push(("landlock", lifted(ruleset)?));
    }
    for number in 0..3 {
        sys::place(null.as_fd(), number).step(step)?;
    }
    for (number, (name, fd)) in (3..).zip(&handed) {
        sys::place(fd.as_fd(), number).step(step)?;
        args.extend([format!("--{name}"), number.to_string()]);
    }
    let mut say = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    say("workload-id", plan.workload_id().to_string());
    say("file-id", plan.owner_id().to_string());
    say("home", format!("/{}", plan.home()));
    if plan.inside.user == User::Root {
        say("user", "root".to_owned());
        say("may", plan.may().to_string());
        // Nobody is there to answer a question about a package.
        say("variable", "DEBIAN_FRONTEND=noninteractive".to_owned());
    }
    say("processes", plan.processes.to_string());
    say("open-files", plan.open_files.to_string());
    say("path", search_path(&plan.extra_read_only));
    say("record-executions", "yes".to_owned());
    for (name, value) in TRUST_VARIABLES.into_iter().filter(|_| plan.trust) {
        say("variable", format!("{name}={value}"));
    }
    for (name, value) in &plan.variables {
        say("variable", format!("{name}={value}"));
    }
    if let Some(bytes) = plan.watch_bytes {
        say("watch-bytes", bytes.to_string());
    }
    let args: Result<Vec<_>, _> = args.into_iter().map(CString::new).collect();
    let error = sys::exec(guest.as_fd(), &args.step("starting the guest")?);
    Err(error).step(format!("starting {}", plan.guest.display()))
}

fn wait_for(go: &OwnedFd, word: u8) -> Result<(), Failure> {
    match sys::read_byte(go).step("waiting for the parent")? {
        Some(said) if said == word => Ok(()),
        // The parent died or gave up: an environment that nobody noted must not live.
        _ => Err(Failure { step: "waiting for the parent".into(), message: "it is gone".into() }),
    }
}

/// Where programs are looked for: the system's folders, and `bin` of each toolchain that was named.
fn search_path(extra: &[PathBuf]) -> String {
    let mut path = String::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for folder in extra {
        let bin = if folder.ends_with("bin") { folder.clone() } else { folder.join("bin") };
        if let Some(text) = bin.to_str().filter(|text| !text.contains(':') && bin.is_dir()) {
            path.push(':');
            path.push_str(text);
        }
    }
    path
}

fn new_mount(kind: &str, options: &[(&str, &str)], attributes: u64) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    if attributes != 0 {
        sys::mount_add_attributes(mount.as_fd(), attributes, false)?;
    }
    Ok(mount)
}

fn hang(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::move_mount(mount.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Hangs a mount at its place, making the place. What lies there is the environment's: no link is followed.
fn hang_tree(tree: &Tree, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let step = || format!("mounting /{}", tree.target.display());
    let place = place(tree, root).step(step())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree.mount.as_fd(), "", place.as_fd(), "", flags).step(step())
}

fn place(tree: &Tree, root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let to = |folder: BorrowedFd<'_>, name: &std::ffi::OsStr, flags: OFlags| {
        rustix::fs::openat(folder, name, flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    };
    let mut at = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    let mut parts = tree.target.iter().peekable();
    while let Some(part) = parts.next() {
        if tree.folder || parts.peek().is_some() {
            match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => at = to(at.as_fd(), part, OFlags::DIRECTORY)?,
                // Where it may not be made, it may be there.
                Err(error) => at = to(at.as_fd(), part, OFlags::DIRECTORY).map_err(|_| error)?,
            }
            continue;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&at, part, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(error) => return to(at.as_fd(), part, OFlags::empty()).map_err(|_| error.into()),
        }
        at = to(at.as_fd(), part, OFlags::empty())?;
    }
    Ok(at)
}

/// A `/run` that can be written, for a system that can.
fn run_folder(plan: &Plan) -> io::Result<OwnedFd> {
    let (owner, size) = (plan.owner_id().to_string(), RUN_BYTES.to_string());
    let options = [
        ("mode", "0755"),
        ("size", size.as_str()),
        ("nr_inodes", "4096"),
        ("uid", owner.as_str()),
        ("gid", owner.as_str()),
    ];
    new_mount("tmpfs", &options, ATTR_NOSUID | ATTR_NODEV)
}

/// Makes a folder and those above it, below the working directory.
fn folders(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() { Ok(()) } else { fs::create_dir_all(path) }
}

fn enter_new_root(
    layers: Option<Layers>,
    trees: Vec<Tree>,
    links: Vec<(PathBuf, PathBuf)>,
    plan: &Plan,
) -> Result<(), Failure> {
    let size = ROOT_BYTES.to_string();
    let root = new_mount(
        "tmpfs",
        &[("mode", "0755"), ("size", &size), ("nr_inodes", "4096")],
        ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC,
    )
    .step("making a root")?;
    let seat = if Path::new("/tmp").is_dir() { "/tmp" } else { "/usr" };
    hang(&root, Path::new(seat)).step("hanging the root")?;
    rustix::process::fchdir(root.as_fd()).step("entering the root")?;

    for folder in ["etc", "dev/pts", "dev/shm", "proc", "sys", "run", "var", "root", "home", "mnt"] {
        folders(Path::new(folder)).step(format!("making /{folder}"))?;
    }
    let overlaid = layers.is_some();
    if let Some(layers) = layers {
        let own = run_folder(plan).step("making /run")?;
        hang(&own, Path::new("run")).step("mounting /run")?;
        for tree in layers.lay()? {
            hang_tree(&tree, root.as_fd())?;
        }
    }
    for tree in &trees {
        hang_tree(tree, root.as_fd())?;
    }
    drop(trees);
    let own = [
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "/proc/self/fd/0"),
        ("dev/stdout", "/proc/self/fd/1"),
        ("dev/stderr", "/proc/self/fd/2"),
        ("dev/ptmx", "pts/ptmx"),
    ];
    let system = [("etc/mtab", "/proc/self/mounts"), ("var/tmp", "/tmp"), ("var/run", "/run")];
    let own = own.into_iter().chain(system.into_iter().filter(|_| !overlaid));
    for (at, to) in own.map(|(at, to)| (PathBuf::from(at), PathBuf::from(to))).chain(links) {
        let step = || format!("linking /{}", at.display());
        folders(at.parent().unwrap_or(Path::new(""))).step(step())?;
        std::os::unix::fs::symlink(&to, &at).step(step())?;
    }
    // An overlaid system has its own, which whoever is inside may have changed.
    for (name, text) in [
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("etc/hosts", HOSTS),
        ("etc/nsswitch.conf", NSSWITCH),
        ("etc/hostname", HOST_NAME),
        ("etc/resolv.conf", &format!("nameserver {NAME_SERVER}\n{RESOLVER}")),
        ("etc/shells", "/bin/sh\n/bin/bash\n"),
        ("etc/gitconfig", plan.gitconfig.as_deref().unwrap_or_default()),
    ]
    .into_iter()
    .filter(|_| !overlaid)
    {
        fs::File::create(name).and_then(|mut file| file.write_all(text.as_bytes())).step(format!("writing /{name}"))?;
    }
    let shm = plan.shm_bytes.to_string();
    let shm = [("mode", "1777"), ("size", shm.as_str()), ("nr_inodes", "65536")];
    let shm = new_mount("tmpfs", &shm, ATTR_NOSUID | ATTR_NODEV).step("making /dev/shm")?;
    hang(&shm, Path::new("dev/shm")).step("mounting /dev/shm")?;
    let pts = [("ptmxmode", "0666"), ("mode", "0620"), ("max", MAX_TERMINALS)];
    let pts = new_mount("devpts", &pts, ATTR_NOSUID | ATTR_NOEXEC).step("making /dev/pts")?;
    hang(&pts, Path::new("dev/pts")).step("mounting /dev/pts")?;
    mount_proc()?;

    rustix::process::pivot_root(".", ".").step("leaving the machine's root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).step("leaving the machine's root")?;
    rustix::process::chdir("/").step("entering the root")?;
    sys::mount_add_attributes(root.as_fd(), ATTR_RDONLY, false).step("sealing the root")
}

fn mount_proc() -> Result<(), Failure> {
    // Without `hidepid`: an agent looks at the server that its last command left running. What the guest holds is closed to it all the
    // same.
    let proc = new_mount("proc", &[], ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC).step("making /proc")?;
    hang(&proc, Path::new("proc")).step("mounting /proc")?;
    let inotify = "proc/sys/user/max_inotify_instances";
    if Path::new(inotify).exists() {
        fs::write(inotify, MAX_INOTIFY).step("bounding inotify")?;
    }
    let bind = |from: &str, to: &str| rustix::mount::mount_bind(from, to);
    for path in HIDDEN.iter().filter(|path| Path::new(path).exists()) {
        bind("dev/null", path).step(format!("hiding /{path}"))?;
    }
    for path in READ_ONLY.iter().filter(|path| Path::new(path).exists()) {
        bind(path, path)
            .and_then(|()| {
                let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                rustix::mount::mount_remount(*path, MountFlags::BIND | flags, "")
            })
            .step(format!("sealing /{path}"))?;
    }
    for path in EMPTY.iter().filter(|path| Path::new(path).exists()) {
        let empty = new_mount("tmpfs", &[("size", "0"), ("nr_inodes", "2"), ("mode", "0555")], ATTR_RDONLY)
            .step(format!("hiding /{path}"))?;
        hang(&empty, Path::new(path)).step(format!("hiding /{path}"))?;
    }
    Ok(())
}

fn set_limits(plan: &Plan) -> Result<(), Failure> {
    // One byte holds no image of memory, and is the one size for which the kernel does not start the machine's program for crashes
    // either (core(5)): with none, it would, outside and as root.
    let mut limits = vec![(libc::RLIMIT_CORE, 1), (libc::RLIMIT_FSIZE, plan.file_bytes)];
    if let Some(bytes) = plan.data_bytes {
        limits.push((libc::RLIMIT_DATA, bytes));
    }
    for (resource, value) in limits {
        sys::limit(resource, value).step("setting limits")?;
    }
    Ok(())
}

/// The workload's own user namespace, one level further in: it holds its users and nothing of this level is theirs.
fn workload_users(plan: &Plan) -> Result<OwnedFd, Failure> {
    let (own, outer) = (plan.workload_id(), plan.owner_id());
    let mut map = format!("{own} {outer} 1\n");
    if plan.id_base.is_some() && plan.inside.user == User::Root {
        // Users of its own, as packages make them: all but the guest, and itself by its other number.
        map.push_str(&format!("1 1 {}\n", outer - 1));
    }
    sys::user_namespace(&map).step("making the workload's user namespace")
}
