//! One inspected connection while requests are served on it.
//!
//! It owns the environment's end: hyper behind a [`Guard`] for HTTP/1, hyper alone for HTTP/2; and how it ends when the origin's end does. It refuses to go
//! on with another origin: the environment connects again then, and is decided again.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use stockade_domain::ids::RecordId;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{BUFFER_BYTES, MAX_STREAMS, WINDOWS, socket::Socket};
use crate::{
    exit::{Exit, Stream, open::Held, origin::Shared},
    guard::{Guard, Watch},
    head::MAX_HEAD,
    name::Host,
    request::{Layer, Via},
};

/// What is done beside a connection, until it ends.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, doing: F) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = doing => {}
            }
        });
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) exit: Arc<Exit>,
    /// The record of the connection.
    pub(super) record: RecordId,
    pub(super) host: String,
    /// The same without brackets.
    bare: String,
    pub(super) port: u16,
    /// With TLS: which server name was said.
    tls: Option<Option<String>>,
    /// Or what the environment is told where there is none.
    pub(super) origin: Result<Shared, &'static str>,
    pub(super) watch: Arc<Watch>,
    pub(super) spawner: Spawner,
    /// Cancelled when the connection has to end.
    pub(super) cut: CancellationToken,
    pub(super) requests: AtomicU64,
    socket: Mutex<Upgrade>,
}

/// How far the connection is on its way to be no HTTP any more.
#[derive(Debug, Default)]
enum Upgrade {
    #[default]
    None,
    /// A request for it has gone to the origin.
    Asked,
    /// The origin has said yes.
    Agreed(Box<Socket>),
}

impl Line {
    pub(super) fn new(
        exit: Arc<Exit>,
        held: &Held,
        host: &Host,
        port: u16,
        tls: Option<Option<String>>,
        origin: Result<Shared, &'static str>,
        spawner: Spawner,
    ) -> Arc<Self> {
        Arc::new(Self {
            exit,
            record: held.record(),
            host: host.to_string(),
            bare: bare(host),
            port,
            tls,
            origin,
            watch: Arc::default(),
            spawner,
            cut: held.stop().clone(),
            requests: AtomicU64::new(0),
            socket: Mutex::default(),
        })
    }

    /// What requests are held against.
    pub(super) fn via(&self) -> Via<'_> {
        let layer = match &self.tls {
            None => Layer::Plain,
            Some(server_name) => Layer::Tls { server_name: server_name.as_deref() },
        };
        Via { host: &self.bare, port: self.port, layer }
    }

    /// A request to go over to a WebSocket goes to the origin: its connection will be over as HTTP, and that is no end.
    pub(super) fn upgrading(&self) {
        *self.upgrade() = Upgrade::Asked;
    }

    /// What became of it.
    pub(super) fn upgraded(&self, socket: Option<Socket>) {
        *self.upgrade() = socket.map_or(Upgrade::None, |socket| Upgrade::Agreed(Box::new(socket)));
    }

    fn upgrade(&self) -> MutexGuard<'_, Upgrade> {
        // Every change under this lock is a single step: a panic elsewhere leaves it whole.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves requests until the connection ends, and says how: the word for its record, or none. `over` says that the origin's end is over.
    pub(super) async fn serve(
        self: Arc<Self>,
        near: Box<dyn Stream>,
        second: bool,
        over: CancellationToken,
    ) -> &'static str {
        let line = self.clone();
        let service = service_fn(move |request| {
            let line = line.clone();
            line.requests.fetch_add(1, Ordering::Relaxed);
            // From the moment that hyper has its head: what comes behind it on the connection waits for its answer.
            let busy = line.watch.busy();
            line.answer(request, busy)
        });
        let ended = if second {
            let connection = http2::Builder::new(self.spawner.clone())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
                .initial_stream_window_size(WINDOWS.0)
                .initial_connection_window_size(WINDOWS.1)
                .max_send_buf_size(BUFFER_BYTES)
                .auto_date_header(false)
                .serve_connection(TokioIo::new(near), service);
            self.drive(connection, |connection| connection.graceful_shutdown(), &over).await
        } else {
            let guard = Guard::new(near, self.watch.clone(), self.exit.limits.opening.whole);
            let connection = http1::Builder::new()
                .preserve_header_case(true)
                .max_buf_size(BUFFER_BYTES)
                .header_read_timeout(None)
                .auto_date_header(false)
                .serve_connection(TokioIo::new(guard), service)
                .with_upgrades();
            self.drive(connection, |connection| connection.graceful_shutdown(), &over).await
        };
        if let Some(broken) = self.watch.broken() {
            self.note_broken(broken).await;
            return "malformed";
        }
        let agreed = std::mem::take(&mut *self.upgrade());
        if let Upgrade::Agreed(socket) = agreed {
            return socket.carry(self.exit.limits.relay).await;
        }
        match ended {
            Ok(()) => "",
            // Whoever ended it first: the requests on it say more.
            Err(_) if over.is_cancelled() => "lost",
            Err(_) => "client_lost",
        }
    }

    /// Polls a connection to its end; tells it to end once the origin's end is over.
    async fn drive<C>(&self, connection: C, end: fn(Pin<&mut C>), over: &CancellationToken) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = std::pin::pin!(connection);
        let mut over = std::pin::pin!(over.cancelled());
        let mut told = false;
        std::future::poll_fn(|cx| {
            if !told && matches!(*self.upgrade(), Upgrade::None) && over.as_mut().poll(cx).is_ready() {
                told = true;
                end(connection.as_mut());
            }
            connection.as_mut().poll(cx)
        })
        .await
    }
}

/// A host as requests are held against it: an address without brackets.
pub(super) fn bare(host: &Host) -> String {
    match host {
        Host::Name(name) => name.as_str().to_owned(),
        Host::Address(address) => address.to_string(),
    }
}
