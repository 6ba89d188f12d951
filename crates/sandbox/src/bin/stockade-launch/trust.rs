//! What the tools inside trust: the machine's authorities and the environment's own, where each tool looks for them.
//!
//! It owns the mounts only; the files are the driver's. Where the machine keeps a folder of certificates, one mount lies over it, with
//! ours above the machine's. Where that cannot be, and where it keeps one file, the file is covered.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags},
};
use stockade_sandbox::launch::{BUNDLE_FILE, BUNDLES, CA_FILE, CHROMIUM_POLICIES, FIREFOX_POLICIES, JAVA_STORES};

use crate::{
    Failure, Step,
    outside::{READ_ONLY, Tree, inside, tree_of},
    sys,
};

/// Where most machines have their certificates, one file each, found by the hash of the name.
const CERTIFICATES: &str = "/etc/ssl/certs";

/// The mounts, from the driver's folder.
pub fn collect(folder: &Path, overlaid: bool) -> Result<Vec<Tree>, Failure> {
    let bind = |from: PathBuf, target: &Path| -> Result<Tree, Failure> {
        let step = || format!("opening {}", from.display());
        let is_folder = fs::metadata(&from).step(step())?.is_dir();
        Ok(Tree { target: inside(target), mount: tree_of(CWD, &from, READ_ONLY).step(step())?, folder: is_folder })
    };
    let own = Path::new(CA_FILE).parent().unwrap_or(Path::new(BUNDLE_FILE));
    let mut trees = vec![bind(folder.join("own"), own)?];
    for (from, at) in CHROMIUM_POLICIES.map(|at| ("chromium", at)).into_iter().chain([("firefox", FIREFOX_POLICIES)]) {
        trees.push(bind(folder.join(from), Path::new(at))?);
    }
    if overlaid {
        // The rest lies among the layers of its `/etc`, where installing certificates writes.
        return Ok(trees);
    }
    let certificates = Path::new(CERTIFICATES);
    let mut covered = false;
    match fs::symlink_metadata(certificates) {
        Ok(facts) if facts.is_dir() => {
            // An old kernel lets only root do so.
            if let Ok(mount) = above(&folder.join("certs"), certificates) {
                trees.push(Tree { target: inside(certificates), mount, folder: true });
                covered = true;
            }
        }
        Ok(_) => {}
        Err(_) => {
            trees.push(bind(folder.join("certs"), certificates)?);
            covered = true;
        }
    }
    let mut seen: Vec<PathBuf> = Vec::new();
    for (paths, ours) in [(&BUNDLES[..], "certs/ca-certificates.crt"), (&JAVA_STORES[..], "certs/java/cacerts")] {
        for path in paths {
            let Ok(real) = fs::canonicalize(path) else { continue };
            if (covered && real.starts_with(certificates)) || seen.contains(&real) || !folder.join(ours).exists() {
                continue;
            }
            trees.push(bind(folder.join(ours), &real)?);
            seen.push(real);
        }
    }
    Ok(trees)
}

/// A mount with what is in two folders, the first above the second.
fn above(first: &Path, second: &Path) -> io::Result<OwnedFd> {
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let (first, second) = (open(first)?, open(second)?);
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // By number: a path may be longer than an option, and may hold what has a meaning in it.
    let layers = format!("/proc/self/fd/{}:/proc/self/fd/{}", first.as_raw_fd(), second.as_raw_fd());
    rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir", layers)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    sys::mount_add_attributes(mount.as_fd(), READ_ONLY, false)?;
    Ok(mount)
}
