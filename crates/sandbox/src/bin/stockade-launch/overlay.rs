//! The system as the workload's own: the machine's folders below, and above them what is written, one overlay for each.
//!
//! It owns these mounts. Made by root, the distribution's files are lent by a mapping of ids, so that they belong to the workload inside and
//! to nobody else; for what is not lent, and without root, empty folders of the workload's own lie above the machine's. It refuses the machine's root: `/etc` and
//! `/var` are of copies (`system` in the crate). *Invariant:* the overlays are made within the environment's user namespace, with no
//! right of the machine's, and nothing below them can be written through any mount that the environment has.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};
use stockade_sandbox::launch::{ID_RANGE, LAYER_FOLDER, Plan, SYSTEM, WRITTEN_FOLDER};

use crate::{
    Failure, Step,
    outside::{READ_ONLY, Tree, inside, make_folder, tree_of},
    sys::{self, ATTR_NODEV, ATTR_NOSUID},
};

/// Where layers hang while the overlays are made, in the new root; gone before anything runs.
const HERE: &str = ".layers";
/// The mount with what was written.
const WRITTEN: &str = "written";
/// The folders that an environment's system has, whether or not the machine has them.
const ALWAYS: [&str; 3] = ["etc", "var", "opt"];
/// What has an overlay of its own within another: which package has which files, and what whoever runs the machine put there himself.
const WITHIN: [&str; 2] = ["var/lib/dpkg", "usr/local"];
/// What is not lent: no distribution put it there, so that there may be keys in it, which only the machine's root may read. Its files are
/// nobody's inside, in folders of the template's.
const NOT_LENT: [&str; 2] = ["opt", "usr/local"];

/// What overlays are made of, while it hangs nowhere.
#[derive(Debug)]
pub struct Layers {
    /// Mounts and what they are called.
    mounts: Vec<(String, OwnedFd)>,
    /// Folders of the new root, and what lies below each, the uppermost first.
    folders: Vec<(String, Vec<String>)>,
}

/// Opens the layers.
pub fn collect(plan: &Plan, template: &Path, files: &Path) -> Result<Layers, Failure> {
    let lent = plan.id_base.map(|base| lent_to(base, plan.owner_id())).transpose()?;
    let lower = |path: &Path, lent: Option<&OwnedFd>| -> Result<OwnedFd, Failure> {
        lower(path, lent).step(format!("overlay: taking {} below", path.display()))
    };
    let mut mounts = vec![("template".to_owned(), lower(template, lent.as_ref())?)];
    let layer = plan.folder.join(LAYER_FOLDER);
    if layer.is_dir() {
        mounts.push(("layer".to_owned(), lower(&layer, lent.as_ref())?));
    }
    let mut folders: Vec<(String, Vec<String>)> = Vec::new();
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir());
    let machine = SYSTEM.iter().map(|path| inside(Path::new(path)).display().to_string());
    let of_machine: Vec<String> =
        machine.chain(WITHIN.map(str::to_owned)).filter(|name| is_folder(&Path::new("/").join(name))).collect();
    let mut names: Vec<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
    names.extend(of_machine.iter().filter(|name| !ALWAYS.contains(&name.as_str())).cloned());
    for name in names {
        let mut below = Vec::new();
        for (layer, from) in [("layer", layer.as_path()), ("template", template)] {
            if from.join(&name).is_dir() {
                below.push(format!("{layer}/{name}"));
            }
        }
        if of_machine.contains(&name) {
            let lent = lent.as_ref().filter(|_| !NOT_LENT.contains(&name.as_str()));
            mounts.push((flat(&name), lower(&Path::new("/").join(&name), lent)?));
            below.push(flat(&name));
        }
        folders.push((name, below));
    }
    written(plan, files, &folders)?;
    let all = tree_of(CWD, &files.join(WRITTEN_FOLDER), ATTR_NOSUID | ATTR_NODEV)
        .step("overlay: opening what was written")?;
    mounts.push((WRITTEN.to_owned(), all));
    Ok(Layers { mounts, folders })
}

/// A folder's name as one word.
fn flat(name: &str) -> String {
    name.replace('/', ".")
}

/// Folders for what is written.
fn written(plan: &Plan, files: &Path, folders: &[(String, Vec<String>)]) -> Result<(), Failure> {
    let all = files.join(WRITTEN_FOLDER);
    // The workload's user walks through on its way to what is its own.
    make_folder(&all, 0o755)?;
    for (name, _) in folders {
        let own = all.join(flat(name));
        make_folder(&own, 0o755)?;
        for (part, owner) in [("upper", plan.owner()), ("work", plan.id_base)] {
            let path = own.join(part);
            let fresh = fs::symlink_metadata(&path).is_err();
            make_folder(&path, 0o755)?;
            if fresh && let Some(id) = owner {
                chown(&path, Some(id), Some(id)).step(format!("giving away {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// A mount of the machine's from there on, without what is mounted below it, that can be read only.
fn lower(path: &Path, lent: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, path, flags).map_err(|error| match error {
        rustix::io::Errno::INVAL => io::Error::other("other mounts lie below it, which only root may leave out"),
        error => error.into(),
    })?;
    sys::mount_add_attributes(mount.as_fd(), READ_ONLY, false)?;
    if let Some(users) = lent {
        sys::mount_map_ids(mount.as_fd(), users.as_fd())?;
    }
    Ok(mount)
}

/// A user namespace that says whose the machine's files are inside: those of the machine's root are the workload's, the others keep
/// their number among the environment's ids. Whoever has the workload's number on the machine has one that nobody has inside.
fn lent_to(base: u32, owner: u32) -> Result<OwnedFd, Failure> {
    let last = ID_RANGE - 1;
    let mut map = format!("0 {} 1\n1 {} {}\n", base + owner, base + 1, owner.min(last) - 1);
    if owner < last {
        map.push_str(&format!("{owner} {} 1\n", base + last));
        let rest = last - owner - 1;
        map.push_str(&format!("{} {} {rest}\n", owner + 1, base + owner + 1));
    }
    sys::user_namespace(&map).step("overlay: lending the machine's files")
}

/// What of the machine is mounted below its system's folders: an overlay does not show it.
pub fn mounted_below() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = mounts.lines().filter_map(|line| Some(unescaped(line.split(' ').nth(4)?))).collect();
    let own = |path: &Path| WITHIN.iter().any(|name| inside(path) == Path::new(name));
    found
        .retain(|path| SYSTEM.iter().any(|system| path.starts_with(system) && path != Path::new(system)) && !own(path));
    found.sort_unstable();
    found.dedup();
    // One that lies below another comes along with it.
    let all = found.clone();
    found.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    found
}

/// A path of mountinfo(5): blanks and the like are written as three digits.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut path = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.split_at_checked(3).and_then(|(digits, rest)| Some((u8::from_str_radix(digits, 8).ok()?, rest))) {
            Some((byte, rest)) => {
                path.push(byte);
                path.extend(rest.as_bytes());
            }
            None => path.extend(part.as_bytes()),
        }
    }
    PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&path))
}

impl Layers {
    /// Makes the overlays. Called in the new root, which is the working directory, with the rights of the environment's user namespace.
    pub fn lay(self) -> Result<Vec<Tree>, Failure> {
        let here = Path::new(HERE);
        for (name, mount) in &self.mounts {
            let at = here.join(name);
            let step = || format!("overlay: hanging {name}");
            fs::create_dir_all(&at).step(step())?;
            rustix::mount::move_mount(mount.as_fd(), "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .step(step())?;
        }
        let mut trees = Vec::with_capacity(self.folders.len());
        for (name, below) in &self.folders {
            let below: Vec<String> = below.iter().map(|layer| format!("{HERE}/{layer}")).collect();
            let own = here.join(WRITTEN).join(flat(name));
            let mount =
                overlay(&below, &own.join("upper"), &own.join("work")).step(format!("overlay: making /{name}"))?;
            trees.push(Tree { target: PathBuf::from(name), mount, folder: true });
        }
        // The overlays hold what they need of them.
        for (name, _) in &self.mounts {
            let at = here.join(name);
            rustix::mount::unmount(&at, UnmountFlags::DETACH).step("overlay: taking the layers away")?;
            fs::remove_dir(&at).step("overlay: taking the layers away")?;
        }
        fs::remove_dir(here).step("overlay: taking the layers away")?;
        Ok(trees)
    }
}

/// One overlay. Its paths are short, and relative to the working directory.
pub fn overlay(below: &[String], upper: &Path, work: &Path) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir", below.join(":"))?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "upperdir", upper)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "workdir", work)?;
    // Its notes are attributes that a user may set: it has no other right.
    rustix::mount::fsconfig_set_flag(context.as_fd(), "userxattr")?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    sys::mount_add_attributes(mount.as_fd(), ATTR_NOSUID | ATTR_NODEV, false)?;
    Ok(mount)
}

/// Whether one can be made, written and removed from here on: for `probe`, in namespaces of its own, over a file system in memory.
pub fn attempt() -> io::Result<()> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let root = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let seat = if Path::new("/tmp").is_dir() { "/tmp" } else { "/usr" };
    rustix::mount::move_mount(root.as_fd(), "", CWD, seat, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(root.as_fd())?;
    for folder in ["lower", "upper", "work", "here"] {
        fs::create_dir(folder)?;
    }
    fs::write("lower/there", "x")?;
    let mount = overlay(&["lower".to_owned()], Path::new("upper"), Path::new("work"))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount.as_fd(), "", CWD, "here", flags)?;
    fs::remove_file("here/there")?;
    fs::write("here/new", "x")?;
    if fs::metadata("lower/there").is_err() || fs::metadata("lower/new").is_ok() {
        return Err(io::Error::other("what is written reaches what lies below"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_paths_of_mounts_are_read() {
        assert_eq!(unescaped("/usr/a\\040b\\134c"), PathBuf::from("/usr/a b\\c"));
        assert_eq!(unescaped("/plain"), PathBuf::from("/plain"));
        assert_eq!(unescaped("/odd\\9"), PathBuf::from("/odd9"));
    }
}
