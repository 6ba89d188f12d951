//! A TCP proxy between two parts of an installation: it keeps every byte that goes to the target, and can be cut.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A proxy on a port of its own.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Before `target`.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let cut = watch::Sender::new(false);
        let task = tokio::spawn(accept(listener, target, seen.clone(), cut.subscribe()));
        Ok(Self { addr, seen, cut, task })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every byte that was sent to the target so far, connection after connection as they came.
    pub fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// While cut, nothing passes: connections end in the middle of whatever they carried, and new ones at once.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, seen: Arc<Mutex<Vec<u8>>>, cut: watch::Receiver<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        if !*cut.borrow() {
            let (seen, mut cut) = (seen.clone(), cut.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = relay(client, target, seen) => {}
                    _ = cut.wait_for(|cut| *cut) => {}
                }
            });
        }
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, seen: Arc<Mutex<Vec<u8>>>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let result = tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    let bytes = up.get(..n).unwrap_or_default();
                    seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                    server.write_all(bytes).await
                }
            },
            read = server.read(&mut down) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => client.write_all(down.get(..n).unwrap_or_default()).await,
            },
        };
        if result.is_err() {
            return;
        }
    }
}
