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
/// So many arguments are kept.
pub const MAX_ARGUMENTS: usize = 16;
/// So much of them together, in bytes.
pub const MAX_ARGUMENT_BYTES: usize = 256;
/// So many are told in one answer.
pub const MAX_TOLD: usize = 1_024;

#[derive(Debug)]
struct Kept {
    number: u64,
    at: Instant,
    call: Option<CallId>,
    pid: i32,
    path: String,
    arguments: Vec<String>,
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
    fn note(&self, pid: i32, look: impl FnOnce() -> Option<(Option<CallId>, String, Vec<String>)>) {
        if self.lock().kept.len() >= MAX_KEPT {
            self.lock().dropped += 1;
            return;
        }
        let Some((call, path, arguments)) = look() else { return };
        let mut notes = self.lock();
        notes.last += 1;
        let number = notes.last;
        notes.kept.push_back(Kept { number, at: Instant::now(), call, pid, path, arguments });
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
            arguments: kept.arguments.clone(),
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
                let memory = fs::File::open(format!("/proc/{}/mem", start.pid)).ok()?;
                let (path, arguments) = (path_of(&memory, &start)?, arguments_of(&memory, start.arguments));
                // A number may be another's by now, if this one was killed: then what was read is not its own.
                sys::still_waits(listener, &start).then(|| (commands.call_above(start.pid), path, arguments))
            });
            sys::let_start(listener, &start);
        }
    }
}

/// What it is about to start: a path as it says it, or what the descriptor is called that it names.
fn path_of(memory: &fs::File, start: &sys::Start) -> Option<String> {
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

/// What it is to be given after its name, as far as that is there and fits.
fn arguments_of(memory: &fs::File, list: u64) -> Vec<String> {
    const WORD: usize = size_of::<u64>();
    let (mut found, mut room) = (Vec::new(), MAX_ARGUMENT_BYTES);
    let mut addresses = [0; WORD * MAX_ARGUMENTS];
    // The first is its name.
    let read = memory.read_at(&mut addresses, list.wrapping_add(WORD as u64)).unwrap_or(0);
    for address in addresses.get(..read).unwrap_or_default().chunks_exact(WORD) {
        let address = address.try_into().map_or(0, u64::from_ne_bytes);
        let mut bytes = [0; MAX_ARGUMENT_BYTES];
        let Some(place) = bytes.get_mut(..room).filter(|place| address != 0 && !place.is_empty()) else { break };
        let Ok(read) = memory.read_at(place, address) else { break };
        let text = place.get(..read).and_then(|bytes| bytes.split(|byte| *byte == 0).next()).unwrap_or_default();
        // An empty one takes room as well: there is no end of them otherwise.
        room = room.saturating_sub(text.len() + 1);
        found.push(String::from_utf8_lossy(text).into_owned());
    }
    found
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
    fn arguments_are_read_up_to_their_bounds_and_nonsense_is_none() {
        let memory = fs::File::open("/proc/self/mem").unwrap();
        let read = |words: &[&str]| {
            let texts: Vec<Vec<u8>> = words.iter().map(|word| [word.as_bytes(), b"\0"].concat()).collect();
            let mut list: Vec<u64> = texts.iter().map(|text| text.as_ptr() as u64).collect();
            list.push(0);
            let found = arguments_of(&memory, list.as_ptr() as u64);
            drop(texts);
            found
        };
        assert_eq!(read(&["sh", "-c", "", "echo \u{e9}"]), ["-c", "", "echo \u{e9}"]);
        assert_eq!(read(&["true"]), Vec::<String>::new());
        let long = "x".repeat(1_000);
        assert_eq!(read(&["a", "b", &long, "c"])[1].len(), MAX_ARGUMENT_BYTES - 2);
        assert_eq!(read(&["a"; 100]).len(), MAX_ARGUMENTS);
        assert_eq!(arguments_of(&memory, 8), Vec::<String>::new());
        let loose = [0, u64::MAX];
        assert_eq!(arguments_of(&memory, loose.as_ptr() as u64), Vec::<String>::new());
    }

    #[test]
    fn so_many_are_kept_and_the_rest_is_counted() {
        let executions = Executions::default();
        for pid in 0..5_000 {
            executions.note(pid, || Some((None, "/bin/true".to_owned(), Vec::new())));
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
        executions.note(7, || Some((None, "/bin/false".to_owned(), Vec::new())));
        assert_eq!(again(0), Some(MAX_KEPT as u64 + 1), "there is room again");
    }
}
