//! The listener: connections, requests, and each request's way through the journal.

use std::{
    convert::Infallible,
    io,
    os::fd::OwnedFd,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use stockade_api::guest::{Answer, Op, Reply, Request};
use stockade_domain::ids::CallId;

use crate::{
    Begun, Boot, BootError, Intent, Journal,
    exec::{self, Commands},
    executions::Executions,
    files::{self, Trouble},
    forker::Forker,
    frames, put, search, sys, watch,
};

/// Connections at any one time; one more is closed at once.
pub const MAX_CONNECTIONS: usize = 16;
/// Requests at any one time; one more is answered `busy`.
pub const MAX_REQUESTS: usize = 32;
/// How long a peer may leave an answer lying before its connection counts as broken.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Memory for a request's thread, in bytes.
const STACK: usize = 512 * 1024;

#[derive(Debug)]
struct Guest {
    boot: Boot,
    journal: Journal,
    commands: Arc<Commands>,
    executions: Arc<Executions>,
    word: String,
    over: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// A place that is given back when this is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let place = Self(Arc::clone(count));
        (count.fetch_add(1, Ordering::SeqCst) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The answering half of a connection.
#[derive(Debug)]
struct Peer {
    stream: Mutex<UnixStream>,
    gone: AtomicBool,
}

impl Peer {
    /// A peer that is gone or does not read loses its answers, and nothing else waits for it.
    fn send(&self, answer: &Answer) {
        if self.gone.load(Ordering::SeqCst) {
            return;
        }
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if frames::write_frame(&mut *stream, answer).is_err() {
            self.gone.store(true, Ordering::SeqCst);
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Serves until the process is killed.
pub fn serve(boot: Boot) -> Result<Infallible, BootError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| BootError::Io { what, source }
    };
    sys::settle().map_err(failed("the process"))?;
    let word = sys::fresh_word().map_err(failed("randomness"))?;
    let journal = Journal::open(boot.state.try_clone().map_err(failed("the state folder"))?)?;
    files::sweep(&boot);
    let (forker, starts) =
        Forker::start(boot.landlock.as_ref(), boot.record_executions).map_err(failed("the fence around commands"))?;
    let guest = Arc::new(Guest {
        boot,
        journal,
        commands: Arc::new(Commands::new(forker)),
        executions: Arc::default(),
        word,
        over: Arc::default(),
        connections: Arc::default(),
        requests: Arc::default(),
    });
    if let Some(starts) = starts {
        let (executions, commands) = (Arc::clone(&guest.executions), Arc::clone(&guest.commands));
        spawn(move || executions.watch(&starts, &commands)).map_err(failed("a thread"))?;
    }
    if let Some(limit) = guest.boot.watch_bytes {
        let guest = Arc::clone(&guest);
        let boot = &guest.boot;
        let folders = [&boot.workspace, &boot.home, &boot.transfer, &boot.tmp].into_iter().map(|path| {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
            Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
        });
        let written = boot.files.iter().map(OwnedFd::try_clone);
        let folders: Vec<OwnedFd> = folders.chain(written).collect::<io::Result<_>>().map_err(failed("the files"))?;
        spawn(move || watch::watch(&folders, limit, &guest.over, &guest.commands)).map_err(failed("a thread"))?;
    }
    // Whatever the workload leaves behind falls to us in the end.
    spawn(|| {
        let (_never, timer) = std::sync::mpsc::sync_channel::<()>(1);
        loop {
            if sys::reap_one().is_err() {
                let _ = timer.recv_timeout(Duration::from_millis(100));
            }
        }
    })
    .map_err(failed("a thread"))?;
    loop {
        match guest.boot.listener.accept() {
            Ok((stream, _)) => {
                let Some(place) = Place::take(&guest.connections, MAX_CONNECTIONS) else { continue };
                let guest = Arc::clone(&guest);
                // Without a thread the connection closes; the peer comes again.
                let _ = spawn(move || {
                    let _place = place;
                    let _ = guest.talk(stream);
                });
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK)) => {
                return Err(failed("the listener")(error));
            }
            Err(_) => {}
        }
    }
}

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> io::Result<()> {
    thread::Builder::new().stack_size(STACK).spawn(body).map(drop)
}

impl Guest {
    /// Reads requests until the peer is gone or says nonsense. What was begun goes on without it.
    fn talk(self: &Arc<Self>, mut stream: UnixStream) -> Result<(), frames::FrameError> {
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let peer = Arc::new(Peer { stream: Mutex::new(stream.try_clone()?), gone: AtomicBool::new(false) });
        loop {
            let request = match frames::read_frame(&mut stream) {
                Ok(Some(bytes)) => frames::parse_request(&bytes),
                Ok(None) => return Ok(()),
                Err(error) => Err(error),
            };
            let request = match request {
                Ok(request) => request,
                Err(error) => {
                    let reply = Trouble::new("bad_request", error.to_string()).into();
                    peer.send(&Answer { id: 0, replayed: false, reply });
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    return Err(error);
                }
            };
            let id = request.id;
            let busy = || {
                let message = format!("{MAX_REQUESTS} requests are under way already: ask again later");
                Answer { id, replayed: false, reply: Trouble::new("busy", message).into() }
            };
            let Some(place) = Place::take(&self.requests, MAX_REQUESTS) else {
                peer.send(&busy());
                continue;
            };
            let (guest, to) = (Arc::clone(self), Arc::clone(&peer));
            let spawned = spawn(move || {
                let (replayed, reply) = guest.answer(&request, &to);
                // Given back first: a peer that has its answer may ask again at once.
                drop(place);
                to.send(&Answer { id, replayed, reply });
            });
            if spawned.is_err() {
                peer.send(&busy());
            }
        }
    }

    fn answer(&self, request: &Request, peer: &Peer) -> (bool, Reply) {
        let settle = |result: Result<(bool, Reply), Trouble>| result.unwrap_or_else(|trouble| (false, trouble.into()));
        let Some(call) = request.call else {
            return (false, self.act(request, None, peer));
        };
        settle(self.journalled(call, request, peer))
    }

    /// A call's way: into the journal, done, into the journal.
    fn journalled(&self, call: CallId, request: &Request, peer: &Peer) -> Result<(bool, Reply), Trouble> {
        let once = match request.op {
            Op::Exec(_) | Op::Signal { .. } => Some(Intent::Once),
            _ => None,
        };
        let unusable = |error: crate::JournalError| Trouble::new("io", format!("the journal: {error}"));
        let reply = match self.journal.begin(call, once.as_ref()).map_err(unusable)? {
            Begun::Answered(reply) => return Ok((true, reply)),
            Begun::Fresh => self.act(request, Some(call), peer),
            Begun::Again(intent) => match &request.op {
                Op::Edit { path, .. } if files::already(&self.boot, path, &intent) => Reply::Done {},
                Op::Edit { .. } => self.act(request, Some(call), peer),
                _ => Reply::Interrupted {},
            },
        };
        // If this fails, the answer is right all the same; only a crash would make it `Interrupted`.
        let _ = self.journal.end(call, &reply);
        Ok((false, reply))
    }

    fn act(&self, request: &Request, call: Option<CallId>, peer: &Peer) -> Reply {
        self.try_act(request, call, peer).unwrap_or_else(Reply::from)
    }

    fn try_act(&self, request: &Request, call: Option<CallId>, peer: &Peer) -> Result<Reply, Trouble> {
        let boot = &self.boot;
        if self.over.load(Ordering::SeqCst) && matches!(request.op, Op::Exec(_) | Op::Write { .. } | Op::Put { .. }) {
            return Err(Trouble::new(
                "too_large",
                "the environment's disk is used up, so nothing more can be done in it",
            ));
        }
        let as_workload = || sys::FilesAs::new(boot.file_id);
        match &request.op {
            Op::Ping {} => Ok(Reply::Pong { version: crate::VERSION.to_owned(), boot: self.word.clone() }),
            Op::Exec(what) => exec::run(boot, &self.commands, call, what, &mut |stream, text| {
                let reply = Reply::Output { stream, text: text.to_owned() };
                peer.send(&Answer { id: request.id, replayed: false, reply });
            }),
            Op::Signal { exec, signal } => self.commands.signal(*exec, *signal),
            Op::Read { path, from_line, max_lines } => {
                let _files = as_workload();
                files::read(boot, path, *from_line, *max_lines)
            }
            Op::Write { path, text } => {
                let _files = as_workload();
                files::write(boot, path, text)
            }
            Op::Edit { path, old, new } => {
                let edited = {
                    let _files = as_workload();
                    files::plan_edit(boot, path, old, new)?
                };
                if let Some(call) = call {
                    self.journal
                        .intend(call, &edited.intent)
                        .map_err(|error| Trouble::new("io", format!("the journal: {error}")))?;
                }
                let _files = as_workload();
                files::finish_edit(boot, path, &edited)
            }
            Op::List { path, depth } => {
                let _files = as_workload();
                files::list(boot, path, *depth)
            }
            Op::Search { pattern, path, glob, max_matches } => {
                let _files = as_workload();
                search::search(boot, pattern, path, glob.as_deref(), *max_matches)
            }
            Op::Put { name, offset, data } => {
                let _files = as_workload();
                put::put(boot, name, *offset, data)
            }
            Op::Executions { after } => Ok(self.executions.tell(*after)),
            Op::Get { name, offset } => {
                let _files = as_workload();
                put::get(boot, name, *offset)
            }
        }
    }
}
