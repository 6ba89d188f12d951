//! What programs the workload starts, for the record.
//!
//! The kernel tells of each start before it happens (seccomp user notification); this notes by whom and what, and lets it go on, always. It
//! refuses to judge: what was read may be another thing by the time that the kernel reads it. *Invariant:* whoever listens is the first
//! process of the environment, whose end is everybody's, so nobody ever waits for a listener that is gone; and what is noted is bounded,
//! nobody waits for room.

use std::{
    collections::VecDeque,
    fs,
    os::{fd::OwnedFd, unix::fs::FileExt},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use stockade_api::guest::{Execution, Reply};
use stockade_domain::ids::CallId;

use crate::{exec::Commands, proc, sys};

/// So many are kept until they are fetched; further ones are counted.
pub const MAX_KEPT: usize = 2_048;
/// So much of a path is kept, in bytes.
pub const MAX_PATH: usize = 512;
/// So many are told in one answer.
pub const MAX_TOLD: usize = 1_024;

#[derive(Debug)]
struct Kept {
    number: u64,
    at: Instant,
    call: Option<CallId>,
    pid: i32,
    path: String,
}

#[derive(Debug, Default)]
struct Notes {
    watched: bool,
    last: u64,
    dropped: u64,
    kept: VecDeque<Kept>,
}

/// The notes of one guest.
#[derive(Debug, Default)]
pub struct Executions {
    notes: Mutex<Notes>,
}

impl Executions {
    fn lock(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one; without room only that there was one.
    fn note(&self, pid: i32, look: impl FnOnce() -> Option<(Option<CallId>, String)>) {
        if self.lock().kept.len() >= MAX_KEPT {
            self.lock().dropped += 1;
            return;
        }
        let Some((call, path)) = look() else { return };
        let mut notes = self.lock();
        notes.last += 1;
        let number = notes.last;
        notes.kept.push_back(Kept { number, at: Instant::now(), call, pid, path });
    }

    /// Tells those after a number, and forgets those up to it.
    pub fn tell(&self, after: u64) -> Reply {
        let mut notes = self.lock();
        while notes.kept.front().is_some_and(|kept| kept.number <= after) {
            notes.kept.pop_front();
        }
        let told = notes.kept.iter().take(MAX_TOLD).map(|kept| Execution {
            number: kept.number,
            age_ms: u64::try_from(kept.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            call: kept.call,
            pid: kept.pid,
            path: kept.path.clone(),
        });
        Reply::Executions { executions: told.collect(), dropped: notes.dropped, watched: notes.watched }
    }

    /// Listens for ever. A workload that starts programs waits for this thread, so nothing in it waits for longer than a fork takes, and
    /// no error ends it.
    pub fn watch(&self, listener: &OwnedFd, commands: &Arc<Commands>) -> ! {
        self.lock().watched = true;
        loop {
            let Ok(start) = sys::next_start(listener) else { continue };
            self.note(start.pid, || {
                let path = path_of(&start)?;
                // A number may be another's by now, if this one was killed: then what was read is not its own.
                sys::still_waits(listener, &start).then(|| (commands.call_above(start.pid), path))
            });
            sys::let_start(listener, &start);
        }
    }
}

/// What it is about to start: a path as it says it, or what the descriptor is called that it names.
fn path_of(start: &sys::Start) -> Option<String> {
    let memory = fs::File::open(format!("/proc/{}/mem", start.pid)).ok()?;
    let mut bytes = [0; MAX_PATH];
    let read = memory.read_at(&mut bytes, start.path).ok()?;
    let text = bytes.get(..read)?.split(|byte| *byte == 0).next()?;
    if text.is_empty() {
        let descriptor = start.folder?;
        let target = fs::read_link(format!("/proc/{}/fd/{descriptor}", start.pid)).ok()?;
        return Some(target.to_string_lossy().chars().take(MAX_PATH).collect());
    }
    Some(String::from_utf8_lossy(text).into_owned())
}

impl Commands {
    /// The call below whose command a process is.
    fn call_above(&self, pid: i32) -> Option<CallId> {
        /// Nobody's family is deeper; whoever makes one gets no call for it.
        const DEPTH: usize = 64;
        let running = self.supervisors();
        let mut at = pid;
        for _ in 0..DEPTH {
            if let Some((call, _)) = running.iter().find(|(_, supervisor)| *supervisor == at) {
                return Some(*call);
            }
            at = proc::parent(at).filter(|parent| *parent > 1)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_kept_and_the_rest_is_counted() {
        let executions = Executions::default();
        for pid in 0..5_000 {
            executions.note(pid, || Some((None, "/bin/true".to_owned())));
        }
        let Reply::Executions { executions: told, dropped, watched } = executions.tell(0) else { unreachable!() };
        assert_eq!((told.len(), dropped, watched), (MAX_TOLD, 5_000 - MAX_KEPT as u64, false));
        // What was told is forgotten when the next is asked for; a repeated question has a repeated answer.
        let again = |after| match executions.tell(after) {
            Reply::Executions { executions, .. } => executions.first().map(|first| first.number),
            _ => None,
        };
        assert_eq!(again(0), Some(1));
        assert_eq!(again(1_024), Some(1_025));
        assert_eq!(again(0), Some(1_025));
        assert_eq!(again(u64::MAX), None);
        executions.note(7, || Some((None, "/bin/false".to_owned())));
        assert_eq!(again(0), Some(MAX_KEPT as u64 + 1), "there is room again");
    }
}
