//! The next segment, made ready before it is needed.
//!
//! An append to a file that grows makes the file system write its own journal too; an append to a file that is full of zeros
//! writes the entry and nothing else. This module owns a file of zeros, durable, that becomes the next segment. It is made by a
//! thread of its own, and only where there is plenty of room. It refuses to be necessary: without one, segments grow.
//!
//! *Invariant:* the thread has ended before the log lets go of its directory, so it never touches a file of another opener.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// The file's name until it is a segment.
const NAME: &str = "spare";
/// The disk must have room for so many of them, or none is made.
const PLENTY: u64 = 8;
/// Whole pages are written to a segment that is ready, so that none has to be read first.
pub(super) const PAGE: u64 = 4_096;

/// What is known of the spare segment.
#[derive(Debug)]
pub(super) struct Spare {
    path: PathBuf,
    bytes: u64,
    stop: Arc<AtomicBool>,
    state: State,
}

#[derive(Debug)]
enum State {
    None,
    Making(JoinHandle<io::Result<File>>),
    Ready(File),
    /// Not tried again before the next segment.
    Failed,
}

impl Spare {
    /// None yet. What an earlier process left is removed.
    pub(super) fn new(dir: &Path, bytes: u64) -> io::Result<Self> {
        let path = dir.join(NAME);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let bytes = bytes.checked_next_multiple_of(PAGE).unwrap_or(bytes);
        Ok(Self { path, bytes, stop: Arc::default(), state: State::None })
    }

    /// Begins to make one, unless there is one or it was tried.
    pub(super) fn make(&mut self) {
        if !matches!(self.state, State::None) {
            return;
        }
        let (path, bytes, stop) = (self.path.clone(), self.bytes, Arc::clone(&self.stop));
        let thread = std::thread::Builder::new().name("ledger-log-spare".to_owned());
        self.state = match thread.spawn(move || make(&path, bytes, &stop)) {
            Ok(thread) => State::Making(thread),
            Err(_) => State::Failed,
        };
    }

    /// Whether one is there. Does not wait.
    pub(super) fn is_ready(&mut self) -> bool {
        if let State::Making(thread) = &self.state
            && thread.is_finished()
        {
            self.finish();
        }
        matches!(self.state, State::Ready(_))
    }

    fn finish(&mut self) {
        if let State::Making(thread) = std::mem::replace(&mut self.state, State::Failed) {
            match thread.join() {
                Ok(Ok(file)) => self.state = State::Ready(file),
                Ok(Err(error)) => tracing::debug!(%error, "no segment was made ready: the log's file grows"),
                Err(_) => tracing::error!("making a segment ready has panicked: the log's file grows"),
            }
        }
    }

    /// Takes it: its file, its name and how many zeros it holds. Another can be made from now on.
    pub(super) fn take(&mut self) -> Option<(File, PathBuf, u64)> {
        match std::mem::replace(&mut self.state, State::None) {
            State::Ready(file) => Some((file, self.path.clone(), self.bytes)),
            State::Making(thread) => {
                self.state = State::Making(thread);
                None
            }
            State::None | State::Failed => None,
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.finish();
        if matches!(self.state, State::Ready(_)) {
            // It would be removed at the next start; this is only tidy.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn make(path: &Path, bytes: u64, stop: &AtomicBool) -> io::Result<File> {
    let dir = path.parent().unwrap_or(path);
    let about = rustix::fs::statvfs(dir)?;
    if about.f_bavail.saturating_mul(about.f_frsize) / PLENTY < bytes {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let made = fill(&mut file, bytes, stop).and_then(|()| file.sync_all());
    match made {
        Ok(()) => Ok(file),
        Err(e) => {
            let _ = fs::remove_file(path);
            Err(e)
        }
    }
}

fn fill(file: &mut File, bytes: u64, stop: &AtomicBool) -> io::Result<()> {
    const STEP: u64 = 1024 * 1024;
    let zeros = vec![0; usize::try_from(STEP.min(bytes)).unwrap_or(0)];
    let mut rest = bytes;
    while rest > 0 {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let now = usize::try_from(rest.min(STEP)).unwrap_or(zeros.len());
        file.write_all(zeros.get(..now).unwrap_or(&zeros))?;
        rest -= now as u64;
    }
    Ok(())
}
