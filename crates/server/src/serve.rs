//! Connections: how many, how slow they may be, and how they end.
//!
//! It owns the loop that accepts. It refuses to know what is asked: that is the router's.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// What bounds connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// So many at a time. Those beyond wait in the system's queue until one ends.
    pub connections: usize,
    /// A request's head must arrive within this time; otherwise the connection is closed. It is also how long
    /// a connection may be idle between requests: longer than clients keep one for the next request.
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4_096, head: Duration::from_secs(120) }
    }
}

/// How long accepting pauses after it failed, for example for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until told to stop; then takes no more and returns when the requests under way have ended.
pub async fn run(listener: TcpListener, router: Router, limits: Limits, stopping: CancellationToken) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let router = router.clone();
                    let stopping = stopping.clone();
                    connections.spawn(async move {
                        connection(stream, router, limits, stopping).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = stopping.cancelled() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, stopping: CancellationToken) {
    // Small answers should not wait for more to send; if it cannot be set, they do.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn serve(limits: Limits) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "here" }));
        (addr, stopping.clone(), tokio::spawn(run(listener, router, limits, stopping)))
    }

    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut bytes = vec![0; 1024];
        let n = stream.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    }

    #[tokio::test]
    async fn a_head_that_does_not_arrive_ends_the_connection() {
        let (addr, stopping, server) = serve(Limits { head: Duration::from_millis(50), ..Limits::default() }).await;
        let mut slow = TcpStream::connect(addr).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "the server keeps it open");
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
        stopping.cancel();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn one_too_many_waits_until_another_ends() {
        let (addr, stopping, server) = serve(Limits { connections: 1, ..Limits::default() }).await;
        let mut first = TcpStream::connect(addr).await.unwrap();
        assert!(ask(&mut first).await.contains("here"));
        let mut second = TcpStream::connect(addr).await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(100), ask(&mut second)).await;
        assert!(waiting.is_err(), "there is room for one only");
        drop(first);
        let mut bytes = vec![0; 1024];
        let n = second.read(&mut bytes).await.unwrap();
        assert!(String::from_utf8_lossy(&bytes[..n]).contains("here"));
        stopping.cancel();
        drop(second);
        server.await.unwrap();
    }
}
