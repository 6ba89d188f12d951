//! What the launcher does while it still sees the machine: it opens all that the environment will hold.

use std::{
    fs,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags},
    mount::{MountFlags, MountPropagationFlags, OpenTreeFlags},
};
use stockade_sandbox::{
    User,
    launch::{ETC, ID_RANGE, PLAN_FILE, Plan, RUN_FILE, Running, SYSTEM, TRUST_FOLDER, WRITTEN_FOLDER, start_of},
};

use crate::{
    Failure, Step, inside as within,
    overlay::{self, Layers},
    sys::{self, ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY},
    trust,
};

/// Device nodes that harm nobody.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Folders of the environment's files.
const OWN: [&str; 4] = ["workspace", "home", "tmp", "transfer"];

/// Where one of them is inside.
fn place_of<'a>(own: &'a str, plan: &Plan) -> &'a str {
    match own {
        "home" => plan.home(),
        "transfer" => "run/stockade/transfer",
        own => own,
    }
}

/// A mount that hangs nowhere yet, and where it will hang.
#[derive(Debug)]
pub struct Tree {
    /// Relative to the new root.
    pub target: PathBuf,
    /// The mount.
    pub mount: OwnedFd,
    /// Whether its root is a directory.
    pub folder: bool,
}

/// Everything that crosses over.
#[derive(Debug)]
pub struct Cargo {
    /// The plan.
    pub plan: Plan,
    /// What an overlaid system is made of.
    pub layers: Option<Layers>,
    /// What will be mounted.
    pub trees: Vec<Tree>,
    /// Symbolic links to make: where, and what they say.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// The listening socket.
    pub listener: OwnedFd,
    /// The guest's own folder, which is mounted nowhere inside.
    pub state: OwnedFd,
    /// What was written to the system, for the guest to measure where nothing else bounds it.
    pub files: Option<OwnedFd>,
    /// The guest's program.
    pub guest: OwnedFd,
}

/// Makes the environment of a folder and starts its guest.
pub fn start(folder: &Path) -> Result<Running, Failure> {
    let (listener, report, _lock) = (|| -> io::Result<_> {
        Ok((
            sys::lift(rustix::stdio::stdin())?,
            sys::lift(rustix::stdio::stdout())?,
            // Held until this process ends, so that nobody else begins in the meantime.
            sys::lift(rustix::stdio::stderr())?,
        ))
    })()
    .step("taking over descriptors")?;
    drop(report);
    let text = fs::read(folder.join(PLAN_FILE)).step("reading the plan")?;
    let plan: Plan = serde_json::from_slice(&text).step("reading the plan")?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").step("reading the boot's id")?;

    let joining = join_early(&plan)?;
    enter(&plan)?;
    let state = open_state(&plan)?;
    let guest = open_program(&plan.guest).step(format!("opening {}", plan.guest.display()))?;
    let files = open_files(&plan)?;
    let layers = plan.template.as_deref().map(|template| overlay::collect(&plan, template, &files)).transpose()?;
    let (trees, links) = collect(&plan, &files)?;
    let measured = layers.is_some() && plan.watch_bytes.is_some();
    let files = measured.then(|| open_folder(&files.join(WRITTEN_FOLDER))).transpose()?;
    let run_file = plan.folder.join(RUN_FILE);
    let cargo = Cargo { plan, layers, trees, links, listener, state, guest, files };

    let (go_read, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step("making a pipe")?;
    let (word, word_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step("making a pipe")?;
    // A mount namespace of its own even where this process has one already: pivot_root(2) moves the root of
    // every process of the namespace, and this one must still see the machine.
    let mut namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET;
    if cargo.plan.id_base.is_some() {
        namespaces |= libc::CLONE_NEWUSER;
    }
    let child = sys::fork_into(namespaces).step("making namespaces")?;
    if child == 0 {
        drop(go);
        let failure = within::become_guest(cargo, &go_read);
        let _ = sys::write_all(&word_write, format!("{}\0{}", failure.step, failure.message).as_bytes());
        sys::exit_now(1);
    }
    drop((go_read, word_write));
    finish(child, joining, &cargo.plan, &run_file, boot.trim(), &go, word).inspect_err(|_| {
        sys::kill(child);
        let _ = sys::wait(child);
        let _ = fs::remove_file(&run_file);
    })
}

/// The parent's half: ids, groups, and the note who the guest is, each before the child may go on.
fn finish(
    child: libc::pid_t,
    joining: libc::pid_t,
    plan: &Plan,
    run_file: &Path,
    boot: &str,
    go: &OwnedFd,
    word: OwnedFd,
) -> Result<Running, Failure> {
    if let Some(base) = plan.id_base {
        let map = format!("0 {base} {ID_RANGE}");
        fs::write(format!("/proc/{child}/uid_map"), &map).step("mapping users")?;
        fs::write(format!("/proc/{child}/gid_map"), &map).step("mapping groups")?;
    }
    // A child that is already gone says why itself: this write may fail then.
    let _ = sys::write_all(go, b"m");
    let joined = sys::wait(joining).step("joining control groups")?;
    if joined != 0 {
        let error = io::Error::from_raw_os_error(libc::WEXITSTATUS(joined));
        return Err(error).step("joining control groups");
    }
    // The child may have been made before this process had joined.
    for procs in &plan.cgroups {
        fs::write(procs, child.to_string()).step(format!("joining {}", procs.display()))?;
    }
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).step("reading the guest's start")?;
    let start = start_of(&stat);
    let running = Running { pid: child, start: start.unwrap_or_default(), boot: boot.to_owned() };
    if start.is_some() {
        let text = serde_json::to_vec(&running).step("noting the guest")?;
        let fresh = run_file.with_extension("new");
        fs::write(&fresh, text).step("noting the guest")?;
        fs::rename(&fresh, run_file).step("noting the guest")?;
    }
    let _ = sys::write_all(go, b"g");
    let mut said = String::new();
    fs::File::from(word).take(4096).read_to_string(&mut said).step("listening to the child")?;
    if said.is_empty() && start.is_some() {
        return Ok(running);
    }
    let (step, message) = said.split_once('\0').unwrap_or(("starting the guest", "it ended without a word"));
    Err(Failure { step: step.to_owned(), message: message.to_owned() })
}

/// Puts this process into the environment's control groups, from another one: on a quiet machine the kernel takes
/// its time over the first move (it waits for every processor to pass a quiet state), and there is much else to do.
fn join_early(plan: &Plan) -> Result<libc::pid_t, Failure> {
    let own = std::process::id().to_string();
    let helper = sys::fork_into(0).step("joining control groups")?;
    if helper == 0 {
        let joined = plan.cgroups.iter().try_for_each(|procs| fs::write(procs, &own));
        sys::exit_now(joined.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0));
    }
    Ok(helper)
}

/// Leaves the machine's mount namespace; without root, by way of a user namespace of one's own.
fn enter(plan: &Plan) -> Result<(), Failure> {
    if plan.id_base.is_some() {
        sys::unshare(libc::CLONE_NEWNS).step("making a mount namespace")?;
    } else {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).step("making a user namespace")?;
        fs::write("/proc/self/setgroups", "deny").step("mapping groups")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1")).step("mapping users")?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1")).step("mapping groups")?;
    }
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step("detaching from the machine's mounts")
}

/// Opens the guest's program by way of a mount that cannot be written to: whoever gets hold of the program of a running guest, by
/// `/proc/self/exe` or however, and were it a user to whom the file belongs, holds it by that mount.
fn open_program(path: &Path) -> io::Result<OwnedFd> {
    let mount = tree_of(CWD, path, READ_ONLY)?;
    let by_number = format!("/proc/self/fd/{}", mount.as_raw_fd());
    Ok(rustix::fs::open(by_number, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_folder(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .step(format!("opening {}", path.display()))
}

pub fn make_folder(path: &Path, mode: u32) -> Result<(), Failure> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.step(format!("making {}", path.display())),
    }
}

fn open_state(plan: &Plan) -> Result<OwnedFd, Failure> {
    let path = plan.folder.join("state");
    make_folder(&path, 0o700)?;
    if let Some(base) = plan.id_base {
        chown(&path, Some(base), Some(base)).step("giving the guest its folder")?;
    }
    open_folder(&path)
}

/// The folder with the environment's files, from its image if it has one.
fn open_files(plan: &Plan) -> Result<PathBuf, Failure> {
    let path = plan.folder.join("files");
    make_folder(&path, 0o700)?;
    if let Some(image) = &plan.image {
        let step = || format!("mounting {}", image.display());
        let file = rustix::fs::open(image, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).step(step())?;
        // The loop device keeps this open file, and with it the lock, until it is free. So this waits until the
        // mount of a guest that was just killed is gone: two mounts of one image would destroy it.
        rustix::fs::flock(&file, FlockOperation::LockExclusive).step(step())?;
        let (device, name) = sys::loop_device(file.as_fd()).step(step())?;
        rustix::mount::mount(
            &name,
            &path,
            "ext4",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME,
            c"noinit_itable",
        )
        .step(step())?;
        drop(device);
    }
    for name in OWN {
        let folder = path.join(name);
        make_folder(&folder, 0o755)?;
        if let Some(id) = plan.owner() {
            chown(&folder, Some(id), Some(id)).step(format!("giving away {}", folder.display()))?;
        }
        if name == "tmp" && plan.inside.user == User::Root {
            // Root has users of its own, who need it too.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).step("opening /tmp to all inside")?;
        }
    }
    Ok(path)
}

/// A copy of a mount from there on, with attributes, that hangs nowhere yet.
pub fn tree_of(from: BorrowedFd<'_>, path: &Path, attributes: u64) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let mount = rustix::mount::open_tree(from, path, flags)?;
    if attributes != 0 {
        sys::mount_add_attributes(mount.as_fd(), attributes, true)?;
    }
    Ok(mount)
}

/// What is the machine's can be read and run, and no more.
pub const READ_ONLY: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV;

/// The place inside of what is at this path outside, relative to the new root.
pub fn inside(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

/// Where inside something of the machine is shown: at its own path, as far as that is no link there.
fn shown_at(path: &Path) -> PathBuf {
    for (link, to) in [("/var/tmp", "tmp"), ("/var/run", "run")] {
        if let Ok(rest) = path.strip_prefix(link) {
            return Path::new(to).join(rest);
        }
    }
    inside(path)
}

type Collected = (Vec<Tree>, Vec<(PathBuf, PathBuf)>);

/// Clones the mounts of everything that will be seen inside.
fn collect(plan: &Plan, files: &Path) -> Result<Collected, Failure> {
    let mut trees = Vec::with_capacity(64);
    let mut links = Vec::new();
    let mut add = |from: &Path, target: PathBuf, attributes: u64| -> Result<(), Failure> {
        let step = || format!("opening {}", from.display());
        let folder = fs::metadata(from).step(step())?.is_dir();
        trees.push(Tree { target, mount: tree_of(CWD, from, attributes).step(step())?, folder });
        Ok(())
    };
    let overlaid = plan.template.is_some();
    let etc = ETC.iter().map(|name| Path::new("/etc").join(name)).filter(|_| !overlaid);
    for path in SYSTEM.iter().map(PathBuf::from).chain(etc) {
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        if facts.is_symlink() {
            links.push((inside(&path), fs::read_link(&path).step(format!("reading {}", path.display()))?));
        } else if !overlaid {
            add(&path, inside(&path), READ_ONLY)?;
        }
    }
    if overlaid {
        for path in overlay::mounted_below() {
            add(&path, inside(&path), READ_ONLY)?;
        }
    }
    for name in DEVICES {
        add(&Path::new("/dev").join(name), Path::new("dev").join(name), ATTR_NOSUID | sys::ATTR_NOEXEC)?;
    }
    for name in OWN {
        add(&files.join(name), place_of(name, plan).into(), ATTR_NOSUID | ATTR_NODEV)?;
    }
    // Last, so that one below a folder of the environment's own is not covered by it.
    for path in &plan.extra_read_only {
        if !SYSTEM.iter().any(|system| path.starts_with(system)) {
            add(path, shown_at(path), READ_ONLY)?;
        }
    }
    if plan.trust {
        trees.extend(trust::collect(&plan.folder.join(TRUST_FOLDER), overlaid)?);
    }
    Ok((trees, links))
}
