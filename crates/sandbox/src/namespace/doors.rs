//! The doors of an environment made of namespaces: its own kernel's sockets, made inside and held here.

use std::{
    io::{self, IoSliceMut, Read},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::{
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt},
};
use stockade_domain::ids::EnvironmentId;
use tokio::{
    io::unix::AsyncFd,
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::{
    Arrival, Asker, Doors, SandboxError, Stray,
    launch::{DOOR_V4, DOOR_V6, Door, Made, Report},
};

/// How long the launcher may take before it is given up.
const MAKING: Duration = Duration::from_secs(10);
/// The longest word of the launcher, in bytes.
const MAX_WORD: usize = 16 * 1024;
/// The most doors.
const MAX_DOORS: usize = 64;
/// The longest question for a name that is taken, in bytes: longer ones come by stream (RFC 1035 §4.2.2, RFC 6891).
const MAX_QUESTION: usize = 4_096;

/// See [`Doors`].
#[derive(Debug)]
pub struct NamespaceDoors {
    streams: Vec<TcpListener>,
    names: Vec<UdpSocket>,
    strays: Option<AsyncFd<OwnedFd>>,
    every_port: bool,
    /// Whose turn it is to be looked at first, so that no door can starve another.
    turn: AtomicUsize,
}

/// Has the launcher make the doors of a running environment. Blocks; the sockets are made those of this runtime by
/// [`NamespaceDoors::of`].
pub fn make(
    launcher: &Path,
    folder: &Path,
    id: EnvironmentId,
    redirect: bool,
) -> Result<(Made, Vec<OwnedFd>), SandboxError> {
    let failed = |step: &str, message: String| SandboxError::Launch { id, step: step.to_owned(), message };
    let helper = |source| SandboxError::of_helper(launcher, source);
    let (ours, theirs) = UnixStream::pair().map_err(helper)?;
    ours.set_read_timeout(Some(MAKING)).map_err(helper)?;
    let mut child = Command::new(launcher)
        .arg(if redirect { "doors" } else { "doors-unled" })
        .arg(folder)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .spawn()
        .map_err(helper)?;
    let heard = hear(&ours);
    if heard.is_err() {
        let _ = child.kill();
    }
    let _ = child.wait();
    let (said, held) = heard.map_err(|error| failed("making the doors", error.to_string()))?;
    if let Ok(Report::Failed { step, message }) = serde_json::from_slice(&said) {
        return Err(failed(&step, message));
    }
    match serde_json::from_slice::<Made>(&said) {
        Ok(made) if made.doors.len() == held.len() => Ok((made, held)),
        _ => Err(failed("making the doors", "the launcher ended without a word".to_owned())),
    }
}

/// What the launcher says until its end, and what it hands over.
fn hear(mut socket: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut said = vec![0; MAX_WORD];
    let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DOORS))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let (flags, began) = (RecvFlags::CMSG_CLOEXEC, Instant::now());
    // A socket with a time limit is not waited for again by the kernel after a signal, as one is sent for every child that ends (signal(7)).
    let first = loop {
        match recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut said)], &mut control, flags) {
            Err(Errno::INTR) if began.elapsed() < MAKING => {}
            other => break other?,
        }
    };
    let mut held = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            held.extend(descriptors);
        }
    }
    said.truncate(first.bytes);
    Read::by_ref(&mut socket).take(MAX_WORD as u64).read_to_end(&mut said)?;
    Ok((said, held))
}

impl Drop for NamespaceDoors {
    /// The kernel waits, when a socket that sees packets is closed, until no processor looks at it: for milliseconds, and not on a thread
    /// that others wait for.
    fn drop(&mut self) {
        if let Some(strays) = self.strays.take() {
            let socket = strays.into_inner();
            // Without a thread it is closed right here.
            let _ = std::thread::Builder::new().name("stockade-closing".to_owned()).spawn(move || drop(socket));
        }
    }
}

fn is_door(address: IpAddr) -> bool {
    address == DOOR_V4 || address == DOOR_V6
}

impl NamespaceDoors {
    /// Takes the descriptors over into this runtime.
    pub fn of(made: &Made, held: Vec<OwnedFd>) -> io::Result<Self> {
        let mut doors = Self {
            streams: Vec::new(),
            names: Vec::new(),
            strays: None,
            every_port: made.redirected,
            turn: AtomicUsize::new(0),
        };
        for (kind, descriptor) in made.doors.iter().zip(held) {
            match kind {
                Door::Streams => doors.streams.push(TcpListener::from_std(descriptor.into())?),
                Door::Names => doors.names.push(UdpSocket::from_std(descriptor.into())?),
                Door::Strays => {
                    // SAFETY: an `OwnedFd` gives the same descriptor always, and closes it only when it is dropped, which the
                    // registration outlives not: it owns it.
                    doors.strays = Some(unsafe { AsyncFd::register(descriptor) }?);
                }
            }
        }
        Ok(doors)
    }

    async fn stream(&self) -> io::Result<Arrival> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let (stream, _) = std::future::poll_fn(|context| {
            for offset in 0..self.streams.len() {
                let at = first.wrapping_add(offset) % self.streams.len();
                if let Some(door) = self.streams.get(at)
                    && let std::task::Poll::Ready(come) = door.poll_accept(context)
                {
                    return std::task::Poll::Ready(come);
                }
            }
            std::task::Poll::Pending
        })
        .await?;
        let wanted = wanted(&stream)?;
        // What is relayed is not held back.
        stream.set_nodelay(true)?;
        Ok(Arrival::Stream { stream: Box::new(stream), wanted })
    }

    async fn question(&self) -> io::Result<Arrival> {
        let first = self.turn.load(Ordering::Relaxed);
        let mut message = vec![0; MAX_QUESTION];
        let (len, from) = std::future::poll_fn(|context| {
            for offset in 0..self.names.len() {
                let at = first.wrapping_add(offset) % self.names.len();
                let Some(door) = self.names.get(at) else { continue };
                let mut buffer = tokio::io::ReadBuf::new(&mut message);
                if let std::task::Poll::Ready(come) = door.poll_recv_from(context, &mut buffer) {
                    let len = buffer.filled().len();
                    return std::task::Poll::Ready(come.map(|address| (len, Asker { door: at, address })));
                }
            }
            std::task::Poll::Pending
        })
        .await?;
        message.truncate(len);
        Ok(Arrival::Names { message, from })
    }

    async fn stray(&self) -> io::Result<Arrival> {
        let Some(strays) = &self.strays else { return std::future::pending().await };
        loop {
            let mut ready = strays.readable().await?;
            let mut packet = [0; 128];
            let taken = ready.try_io(|socket| Ok(rustix::net::recv(socket, &mut packet[..], RecvFlags::DONTWAIT)?.0));
            let Ok(len) = taken else { continue };
            if let Some(stray) = Stray::read(packet.get(..len?).unwrap_or_default(), is_door) {
                return Ok(Arrival::Stray(stray));
            }
        }
    }
}

/// Where a stream that was led to a door was to go.
fn wanted(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    // Without rules, the stream ends where it was to go. With them, the kernel knows.
    let led = match local {
        SocketAddr::V4(_) => sockopt::ip_original_dst(stream).map(SocketAddr::V4),
        SocketAddr::V6(_) => sockopt::ipv6_original_dst(stream).map(SocketAddr::V6),
    };
    Ok(led.unwrap_or(local))
}

#[async_trait]
impl Doors for NamespaceDoors {
    async fn arrival(&self) -> io::Result<Arrival> {
        tokio::select! {
            come = self.stream() => come,
            come = self.question() => come,
            come = self.stray() => come,
        }
    }

    async fn reply(&self, to: Asker, message: &[u8]) {
        if let Some(door) = self.names.get(to.door) {
            // A datagram may be lost; whoever asked asks again.
            let _ = door.send_to(message, to.address).await;
        }
    }

    fn every_port(&self) -> bool {
        self.every_port
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::thread::JoinHandleExt as _};

    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    #[tokio::test]
    async fn a_signal_does_not_end_the_wait_for_the_doors() {
        let _caught = signal(SignalKind::user_defined2()).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(MAKING)).unwrap();
        let heard = std::thread::spawn(move || hear(&ours).map(|(said, _)| said));
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            // SAFETY: the thread is there until it has heard, and it hears only what is written below.
            let sent = unsafe { libc::pthread_kill(heard.as_pthread_t(), libc::SIGUSR2) };
            assert_eq!(sent, 0);
        }
        theirs.write_all(b"word").unwrap();
        drop(theirs);
        assert_eq!(heard.join().unwrap().unwrap(), b"word");
    }
}
