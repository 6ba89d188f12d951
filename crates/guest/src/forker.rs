//! The thread that every command is forked from.
//!
//! It goes behind the Landlock fence once, when the guest starts, and whatever it forks is behind the same: what one command left running
//! is of the same domain as the next one, which may signal it, trace it and reach its abstract sockets, and none of them the guest.
//! It refuses to do anything else. *Invariant:* no command is forked by another thread.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use crate::sys::{self, Launch};

/// Memory for the thread, in bytes: the commands' own begins after their exec.
const STACK: usize = 256 * 1024;
/// How many commands wait to be forked before whoever asks waits to ask.
const WAITING: usize = 32;

struct Order {
    launch: Launch,
    forked: SyncSender<io::Result<i32>>,
}

/// Forks commands.
#[derive(Debug)]
pub struct Forker {
    orders: SyncSender<Order>,
}

impl Forker {
    /// Starts the thread, behind the fence if there is one. With `told`, the kernel tells of each program that is started, through the
    /// descriptor that comes back; none does where it cannot.
    pub fn start(landlock: Option<&impl AsRawFd>, told: bool) -> io::Result<(Self, Option<OwnedFd>)> {
        let (orders, coming) = sync_channel(WAITING);
        let (ready, fenced) = sync_channel(1);
        let ruleset = landlock.map(AsRawFd::as_raw_fd);
        std::thread::Builder::new().stack_size(STACK).spawn(move || fork_all(ruleset, told, &ready, &coming))?;
        let listener = fenced.recv().map_err(io::Error::other)??;
        Ok((Self { orders }, listener))
    }

    /// Forks a supervisor and its command ([`sys::launch`]). What `launch` names by number must be open until this returns.
    pub fn fork(&self, launch: Launch) -> io::Result<i32> {
        let (forked, answer) = sync_channel(1);
        self.orders.send(Order { launch, forked }).map_err(io::Error::other)?;
        answer.recv().map_err(io::Error::other)?
    }
}

type Fenced = io::Result<Option<OwnedFd>>;

fn fork_all(ruleset: Option<RawFd>, told: bool, ready: &SyncSender<Fenced>, coming: &Receiver<Order>) {
    let fenced = ruleset.map_or(Ok(()), sys::fence).map(|()| if told { sys::tell_of_starts().ok() } else { None });
    let failed = fenced.is_err();
    if ready.send(fenced).is_err() || failed {
        return;
    }
    while let Ok(Order { launch, forked }) = coming.recv() {
        // Whoever asked is waiting.
        let _ = forked.send(sys::launch(&launch));
    }
}
