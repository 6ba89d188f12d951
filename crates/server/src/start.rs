//! Start and stop: lock the directory, load the keys, open the database, bind, serve, drain.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use stockade_domain::{World, ids::ServerId};
use stockade_ledger::{SigningKey, SystemWorld};
use stockade_store::{
    Store, StoreError,
    people::{self, Bootstrap},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    ServerConfig, ServerError, answer::Failure, app::App, engine::Engines, operation, operations::OPERATIONS,
    reconcile, resource::runners::DEFAULT_SITE, secret, site::Replays,
};

/// The file with the first admin's token, mode 0600.
pub const ADMIN_TOKEN_FILE: &str = "admin-token";
const KEY_FILE: &str = "server-key";
const ID_FILE: &str = "server-id";
const LOCK_FILE: &str = "server.lock";

/// A server, ready to be started.
#[derive(Debug)]
pub struct Server;

/// A server at work.
pub struct RunningServer {
    addr: SocketAddr,
    admin_token: Option<SecretString>,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
    reconciling: JoinHandle<()>,
    store: Store,
    /// Held for as long as the server runs: a second one on the same directory is refused.
    _lock: File,
}

impl std::fmt::Debug for RunningServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts a server with the system's clock and randomness. Returns once it answers.
    pub async fn start(config: ServerConfig) -> Result<RunningServer, ServerError> {
        Self::start_in(config, Arc::new(SystemWorld)).await
    }

    /// The same in another world: tests steer theirs.
    pub async fn start_in(config: ServerConfig, world: Arc<dyn World>) -> Result<RunningServer, ServerError> {
        let dir = &config.data_dir;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(ServerError::file("create the directory", dir))?;
        let lock = lock(dir).await?;
        let key = signing_key(dir)?;
        let server = server_id(dir, &*world)?;
        // Bound before anything is written: a busy port is the commonest mistake and leaves no trace.
        let listener = bind(config.listen).await?;
        let addr = listener.local_addr().map_err(|source| ServerError::Listen { addr: config.listen, source })?;

        let store = Store::open(&config.database_url()).await?;
        let admin_token = bootstrap(&store, dir, &*world).await?;
        let app = assemble(dir, store.clone(), world, server, key).await?;

        let stopping = app.stopping.clone();
        let router = operation::router(OPERATIONS, Arc::clone(&app));
        let draining = stopping.clone();
        let serving = tokio::spawn(async move {
            crate::serve::run(listener, router, crate::serve::Limits::default(), draining).await;
        });
        let reconciling = tokio::spawn(reconcile::run(app));
        tracing::info!(%addr, server = %server, "the server listens on {addr}");
        Ok(RunningServer { addr, admin_token, stopping, serving, reconciling, store, _lock: lock })
    }
}

impl RunningServer {
    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The first admin's token, on the first start only. It is also in the file `admin-token`.
    pub const fn admin_token(&self) -> Option<&SecretString> {
        self.admin_token.as_ref()
    }

    /// Takes no more requests, lets those under way end within `deadline`, then cuts them off. What was
    /// answered is durable; what was not can be asked again.
    pub async fn stop(self, deadline: Duration) {
        self.stopping.cancel();
        let (mut serving, mut reconciling) = (self.serving, self.reconciling);
        let both = async {
            let _ = (&mut serving).await;
            let _ = (&mut reconciling).await;
        };
        if tokio::time::timeout(deadline, both).await.is_err() {
            tracing::warn!("requests under way were cut off after {} ms", deadline.as_millis());
            serving.abort();
            reconciling.abort();
        }
        self.store.close().await;
    }
}

/// How long a start waits for the server before it to let go: one that was killed takes a moment to be gone.
const LOCK_WAIT: Duration = Duration::from_secs(2);

async fn lock(dir: &Path) -> Result<File, ServerError> {
    let path = dir.join(LOCK_FILE);
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = open.map_err(ServerError::file("open", &path))?;
    let until = tokio::time::Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(fs::TryLockError::WouldBlock) => return Err(ServerError::DirectoryInUse { dir: dir.to_owned() }),
            Err(fs::TryLockError::Error(source)) => return Err(ServerError::File { verb: "lock", path, source }),
        }
    }
}

fn signing_key(dir: &Path) -> Result<SigningKey, ServerError> {
    let path = dir.join(KEY_FILE);
    let wrong = |error: stockade_ledger::KeyFileError| ServerError::Key { path: path.clone(), why: error.to_string() };
    if path.exists() {
        return SigningKey::load(&path).map_err(wrong);
    }
    let key = SigningKey::generate();
    key.save(&path).map_err(wrong)?;
    Ok(key)
}

fn server_id(dir: &Path, world: &dyn World) -> Result<ServerId, ServerError> {
    let path = dir.join(ID_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|error| ServerError::Key { path, why: format!("{error}") }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id: ServerId = world.id();
            write_private(&path, &format!("{id}\n"))?;
            Ok(id)
        }
        Err(error) => Err(ServerError::file("read", path)(error)),
    }
}

/// Writes a file that only we may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), ServerError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(ServerError::file("write", path))
}

async fn bind(addr: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(addr).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServerError::PortBusy { addr },
        _ => ServerError::Listen { addr, source },
    })
}

/// The first start makes organization, admin, token, site and bundle 1. The token's file is written before the
/// database says that there is such a token: a crash in between leaves a file that the next start replaces.
async fn bootstrap(store: &Store, dir: &Path, world: &dyn World) -> Result<Option<SecretString>, ServerError> {
    let mut tx = store.write().await?;
    if people::installation(&mut tx).await?.is_some() {
        return Ok(None);
    }
    let token = secret::generate(world, secret::USER_PREFIX);
    let new = Bootstrap {
        organization: world.id(),
        organization_name: "organization".to_owned(),
        admin: world.id(),
        admin_name: "admin".to_owned(),
        token: world.id(),
        token_hash: secret::digest(&token),
        bundle: stockade_policy::default_bundle().to_owned(),
        site: world.id(),
        site_name: DEFAULT_SITE.to_owned(),
        now: world.now(),
    };
    if !people::bootstrap(&mut tx, &new).await? {
        return Ok(None);
    }
    write_private(&dir.join(ADMIN_TOKEN_FILE), &format!("{}\n", token.expose_secret()))?;
    tx.commit().await?;
    Ok(Some(token))
}

async fn assemble(
    dir: &Path,
    store: Store,
    world: Arc<dyn World>,
    server: ServerId,
    key: SigningKey,
) -> Result<Arc<App>, ServerError> {
    let mut tx = store.write().await?;
    people::register_server(&mut tx, server, &key.public().to_string(), world.now()).await.map_err(
        |error| {
            match error {
        StoreError::Conflict { .. } => ServerError::Key {
            path: dir.join(KEY_FILE),
            why: "it is not the key with which this server has signed so far: it was damaged or exchanged; restore it \
                  from a backup"
                .to_owned(),
        },
        other => other.into(),
    }
        },
    )?;
    let installation = people::installation(&mut tx).await?;
    tx.commit().await?;
    let organization =
        installation.ok_or_else(|| StoreError::NotFound { what: "organization", id: "of this database".to_owned() })?;
    let engines = Engines::default();
    let mut tx = store.read().await?;
    let number = stockade_store::bundles::current(&mut tx).await?.number;
    engines
        .current(&mut tx)
        .await
        .map_err(|Failure { error, .. }| ServerError::Policy { number, why: error.message })?;
    drop(tx);
    Ok(Arc::new(App {
        store,
        world,
        server,
        organization: organization.organization,
        key,
        engines,
        replays: Replays::default(),
        shipments: Arc::new(tokio::sync::Semaphore::new(crate::site::SHIPMENTS)),
        records: crate::ledger::RecordIds::default(),
        news: watch::Sender::new(0),
        work: Notify::new(),
        stopping: CancellationToken::new(),
    }))
}
