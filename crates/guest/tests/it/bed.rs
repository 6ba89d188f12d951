//! A guest in folders of its own, and a client of its frames.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use stockade_api::guest::{Answer, Exec, Op, Reply, Request};
use stockade_domain::ids::CallId;

pub struct Bed {
    pub dir: tempfile::TempDir,
    child: Option<Child>,
    starts: u32,
}

impl Bed {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["workspace", "home", "transfer", "state", "tmp"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut bed = Self { dir, child: None, starts: 0 };
        bed.start(&[]);
        bed
    }

    pub fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join(format!("socket-{}", self.starts))
    }

    pub fn start(&mut self, more: &[&str]) {
        self.starts += 1;
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade-guest"));
        command.arg("--listen").arg(self.socket());
        for (name, folder) in [
            ("state-dir", "state"),
            ("workspace", "workspace"),
            ("home", "home"),
            ("transfer", "transfer"),
            ("tmp", "tmp"),
        ] {
            command.arg(format!("--{name}")).arg(self.dir.path().join(folder));
        }
        command.args(more).stdin(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        while UnixStream::connect(self.socket()).is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the guest does not start: {ended:?}");
        }
        // It listens before it is ready; it answers when it is.
        assert!(matches!(self.connect().ask(Op::Ping {}), Reply::Pong { .. }));
    }

    /// `kill -9`, and the end of what it ran: in an environment the kernel sees to that, here nobody would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let guest = Pid::from_child(&child);
            // Stopped, it starts nothing more while its own are looked for; what these start falls to it.
            kill_process(guest, Signal::STOP).unwrap();
            loop {
                let below: Vec<Pid> =
                    below(guest).into_iter().filter(|pid| kill_process(*pid, Signal::KILL).is_ok()).collect();
                if below.is_empty() {
                    break;
                }
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn connect(&self) -> Peer {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Peer { stream, next: 1 }
    }
}

/// Whoever descends from a process and is not only a name that waits to be taken off the list.
fn below(ancestor: Pid) -> Vec<Pid> {
    let of = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(parent)
    };
    let all: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, of(pid)?)))
        .collect();
    let mut found = vec![ancestor.as_raw_nonzero().get()];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.kill();
    }
}

pub struct Peer {
    pub stream: UnixStream,
    next: u64,
}

impl Peer {
    pub fn send(&mut self, call: Option<CallId>, op: Op) -> u64 {
        let id = self.next;
        self.next += 1;
        let body = serde_json::to_vec(&Request { id, call, op }).unwrap();
        self.send_raw(&body);
        id
    }

    pub fn send_raw(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        self.stream.write_all(&[&length, body].concat()).unwrap();
    }

    pub fn receive(&mut self) -> Option<Answer> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).ok()?;
        Some(serde_json::from_slice(&body).unwrap())
    }

    /// Asks, and gives the final answer with the live output before it.
    pub fn call(&mut self, call: Option<CallId>, op: Op) -> (Answer, String) {
        let id = self.send(call, op);
        let mut live = String::new();
        loop {
            let answer = self.receive().expect("an answer");
            assert_eq!(answer.id, id);
            match answer.reply {
                Reply::Output { text, .. } => live.push_str(&text),
                _ => return (answer, live),
            }
        }
    }

    pub fn ask(&mut self, op: Op) -> Reply {
        self.call(None, op).0.reply
    }

    pub fn sh(&mut self, script: &str) -> Reply {
        self.ask(Op::Exec(shell(script)))
    }
}

pub fn shell(script: &str) -> Exec {
    Exec {
        argv: ["sh", "-c", script].map(Into::into).into(),
        timeout_ms: 30_000,
        max_output: 10_000,
        ..Exec::default()
    }
}

pub fn call(n: u8) -> Option<CallId> {
    Some(CallId::from_bytes([n; 16]))
}

/// Status and standard output of a command that ended.
pub fn exited(reply: &Reply) -> (i32, &str) {
    match reply {
        Reply::Exited { status, stdout, .. } => (*status, stdout),
        other => panic!("{other:?}"),
    }
}

/// The code of a refusal.
pub fn code(reply: &Reply) -> &str {
    match reply {
        Reply::Error { code, message } => {
            assert!(!message.is_empty());
            code
        }
        other => panic!("{other:?}"),
    }
}
