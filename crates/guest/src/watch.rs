//! Where no image holds the disk limit: measuring, and ending the workload when it is passed.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::exec::Commands;

/// How often the files are measured, at most.
const INTERVAL: Duration = Duration::from_millis(500);
/// Measuring may take this part of the time: one in five.
const SHARE: u32 = 4;
/// What an entry counts for at least, in bytes: one without content takes room for its name and its inode.
const LEAST_ENTRY: u64 = 4 * 1024;
/// The work of one measurement, in entries; a tree with more counts as over the limit.
const MAX_ENTRIES: u64 = 5_000_000;

/// How deep a tree is measured: each level takes a descriptor. One that is deeper counts as over the limit.
const MAX_DEPTH: usize = 500;

/// Measures for ever. While the files hold more than `limit`, `over` is set; when it becomes set, all commands
/// are killed.
pub fn watch(folders: &[OwnedFd], limit: u64, over: &Arc<AtomicBool>, commands: &Commands) -> ! {
    // Nobody ever sends: waiting for it is waiting for the time.
    let (_never, timer) = mpsc::sync_channel::<()>(1);
    loop {
        let began = Instant::now();
        let mut left = MAX_ENTRIES;
        let used: u64 = folders.iter().map(|folder| measure(folder.as_fd(), &mut left)).sum();
        let is_over = used > limit || left == 0;
        over.store(is_over, Ordering::SeqCst);
        if is_over {
            commands.kill_all();
        }
        let _ = timer.recv_timeout(INTERVAL.max(began.elapsed() * SHARE));
    }
}

/// Bytes on disk below a folder, however long the paths are. What vanishes meanwhile counts as nothing.
fn measure(folder: BorrowedFd<'_>, left: &mut u64) -> u64 {
    let mut bytes = 0;
    let open = |within: BorrowedFd<'_>, name: &CStr| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(within, name, flags, Mode::empty()).and_then(Dir::new).ok()
    };
    let mut within: Vec<Dir> = open(folder, c".").into_iter().collect();
    while let Some(dir) = within.last_mut() {
        let Some(Ok(entry)) = dir.read() else {
            within.pop();
            continue;
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        *left = left.saturating_sub(1);
        if *left == 0 {
            return bytes;
        }
        let Ok(at) = dir.fd() else { continue };
        let Ok(facts) = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        bytes += (facts.st_blocks.cast_unsigned() * 512).max(LEAST_ENTRY);
        if FileType::from_raw_mode(facts.st_mode) == FileType::Directory
            && let Some(below) = open(at, name)
        {
            if within.len() >= MAX_DEPTH {
                *left = 0;
                return bytes;
            }
            within.push(below);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn measured(path: &Path, left: &mut u64) -> u64 {
        measure(fs::File::open(path).unwrap().as_fd(), left)
    }

    #[test]
    fn it_measures_what_is_below_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/c"), vec![1; 100_000]).unwrap();
        fs::write(other.path().join("big"), vec![1; 1_000_000]).unwrap();
        std::os::unix::fs::symlink(other.path(), dir.path().join("link")).unwrap();
        let bytes = measured(dir.path(), &mut 1_000);
        assert!((100_000..400_000).contains(&bytes), "{bytes}");
        let mut left = 2;
        measured(dir.path(), &mut left);
        assert_eq!(left, 0, "a tree too large to measure is known as such");
    }

    #[test]
    fn what_lies_deeper_than_a_path_is_long_counts_and_there_is_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let name = "d".repeat(200);
        let mut at: OwnedFd = fs::File::open(dir.path()).unwrap().into();
        for depth in 0..MAX_DEPTH + 10 {
            if depth == 40 {
                let file =
                    rustix::fs::openat(&at, "f", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600)).unwrap();
                rustix::io::write(&file, &vec![1; 1 << 20]).unwrap();
            }
            if depth == 100 {
                assert!(measured(dir.path(), &mut 1_000) > 1 << 20);
            }
            rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o700)).unwrap();
            at = rustix::fs::openat(&at, &name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let mut left = 10_000;
        measured(dir.path(), &mut left);
        assert_eq!(left, 0, "a tree too deep to measure is known as such");
    }
}
