//! Where no image holds the disk limit: measuring, and ending the workload when it is passed.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::exec::Commands;

/// How often the files are measured, at most.
const INTERVAL: Duration = Duration::from_millis(500);
/// Measuring may take this part of the time: one in five.
const SHARE: u32 = 4;
/// What an entry counts for at least, in bytes: one without content takes room for its name and its inode.
const LEAST_ENTRY: u64 = 4 * 1024;
/// The work of one measurement, in entries; a tree with more counts as over the limit.
const MAX_ENTRIES: u64 = 5_000_000;

/// Measures for ever. While the files hold more than `limit`, `over` is set; when it becomes set, all commands
/// are killed.
pub fn watch(folders: &[PathBuf], limit: u64, over: &Arc<AtomicBool>, commands: &Commands) -> ! {
    // Nobody ever sends: waiting for it is waiting for the time.
    let (_never, timer) = mpsc::sync_channel::<()>(1);
    loop {
        let began = Instant::now();
        let mut left = MAX_ENTRIES;
        let used: u64 = folders.iter().map(|folder| measure(folder, &mut left)).sum();
        let is_over = used > limit || left == 0;
        over.store(is_over, Ordering::SeqCst);
        if is_over {
            commands.kill_all();
        }
        let _ = timer.recv_timeout(INTERVAL.max(began.elapsed() * SHARE));
    }
}

/// Bytes on disk below a folder. What vanishes meanwhile counts as nothing.
fn measure(folder: &Path, left: &mut u64) -> u64 {
    let mut bytes = 0;
    let mut next = vec![folder.to_owned()];
    while let Some(folder) = next.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return bytes;
            }
            let Ok(facts) = entry.metadata() else { continue };
            bytes += (facts.blocks() * 512).max(LEAST_ENTRY);
            if facts.is_dir() {
                next.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_measures_what_is_below_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/c"), vec![1; 100_000]).unwrap();
        fs::write(other.path().join("big"), vec![1; 1_000_000]).unwrap();
        std::os::unix::fs::symlink(other.path(), dir.path().join("link")).unwrap();
        let bytes = measure(dir.path(), &mut 1_000);
        assert!((100_000..400_000).contains(&bytes), "{bytes}");
        let mut left = 2;
        measure(dir.path(), &mut left);
        assert_eq!(left, 0, "a tree too large to measure is known as such");
    }
}
