//! Starting and stopping a node.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tertulia_group::{Door, LeaveReason};
use tertulia_journal::{
    Catalog, Embedded, Expect, Journal, Level, MemoryJournal, OpenStoreError, Options,
};
use tertulia_wire::{Fingerprint, Instance};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::accounts::{self, Accounts};
use crate::config::{Config, Engine};
use crate::directory::Directory;
use crate::doors;
use crate::peers::{self, Peers, Relay, Relaying};
use crate::shard::{self, Job, ShardHandle};
use crate::shared::Shared;
use crate::tls::{Tls, TlsError};

/// What the memory engine holds at most, all logs together.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// Where the doors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The native door.
    pub native: Option<SocketAddr>,
    /// The line door.
    pub line: Option<SocketAddr>,
    /// The HTTP door.
    pub http: Option<SocketAddr>,
}

/// What an operator wants to see go by. Names are safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody connected.
    Connected {
        /// Through which door.
        door: Door,
        /// From where.
        address: IpAddr,
    },
    /// A member joined or came back.
    Joined {
        /// The group.
        group: String,
        /// The member.
        name: String,
        /// From where.
        address: IpAddr,
        /// Through which door.
        door: Door,
    },
    /// A member lost its connection.
    Away {
        /// The group.
        group: String,
        /// The member.
        name: String,
    },
    /// A member left.
    Left {
        /// The group.
        group: String,
        /// The member.
        name: String,
        /// Why.
        reason: LeaveReason,
    },
    /// Something that the operator has to know: a store that failed, a damaged group.
    Trouble(String),
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Doors cannot listen: all those that cannot, one at least.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Listen(Vec<CannotListen>),
    /// There is no TLS as it was asked for.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store cannot be opened.
    #[error("{0}")]
    Store(String),
}

/// A door that cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("the {door} door cannot listen on {address}: {error}")]
pub struct CannotListen {
    /// `native`, `line` or `http`.
    pub door: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub error: std::io::Error,
}

/// A running node.
pub struct Node {
    endpoints: Endpoints,
    shards: Vec<(ShardHandle, std::thread::JoinHandle<()>)>,
    tasks: JoinSet<()>,
    store_failed: watch::Receiver<Option<String>>,
    /// The last to let go of the store: its end writes what says that it ended cleanly.
    journal: Arc<dyn Journal>,
    setup_code: Option<String>,
    tls: Option<Arc<Tls>>,
    relaying: Arc<Relaying>,
}

/// What a clean end waits for the store at most.
const STORE_WAIT: Duration = Duration::from_secs(10);

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Node {
    /// Starts a node; it serves when this returns. `notices` is sent what an operator wants to see, and loses some when it is
    /// full. Must be called within a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, notices: mpsc::Sender<Notice>) -> Result<Self, StartError> {
        crate::linux::return_memory();
        let mut failed = Vec::new();
        let mut listen = |door, port: Option<u16>| {
            listen(door, &config, port?).map_err(|why| failed.push(why)).ok()
        };
        let native = listen("native", config.native_port);
        let line = listen("line", config.line_port);
        let http = listen("http", config.http_port);
        if !failed.is_empty() {
            return Err(StartError::Listen(failed));
        }
        let tls = load_tls(&config).await?;
        let (journal, catalog) = open_store(&config).await?;
        let instance = Instance(own_record(Arc::clone(&catalog), INSTANCE_KEYS).await?);
        let secret = own_record(Arc::clone(&catalog), SECRET_KEYS).await?;
        let accounts = load_accounts(&config, Arc::clone(&catalog)).await?;
        let own = Arc::clone(&journal);
        let shared = Arc::new(Shared::new(
            config,
            (journal, catalog),
            (instance, secret),
            tls.clone(),
            notices,
        ));
        let store_failed = shared.store_failed.subscribe();
        accounts.lost().iter().for_each(|(whose, what)| shared.tell_damage(whose, what));
        let peers = load_peers(&shared).await?;
        let relaying = Arc::clone(&peers.relaying);
        let directory = Arc::new(Directory::new(Arc::clone(&shared), accounts, peers));
        let setup_code = directory.accounts.setup_code().map(str::to_owned);
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = (0..count)
            .map(|number| shard::spawn(number, Arc::clone(&shared), Arc::clone(&directory)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StartError::Store(format!("a shard cannot start: {error}")))?;
        let handles = shards.iter().map(|(handle, _)| handle.clone()).collect();
        directory.load(handles).map_err(StartError::Store)?;
        let mut tasks = JoinSet::new();
        let address =
            |listener: &Option<TcpListener>| listener.as_ref().and_then(|l| l.local_addr().ok());
        let endpoints =
            Endpoints { native: address(&native), line: address(&line), http: address(&http) };
        if let Some(address) = endpoints.native {
            directory.set_native(address);
        }
        if let Some(address) = endpoints.http {
            directory.set_http(address);
        }
        for (listener, door) in [(native, Door::Native), (line, Door::Line), (http, Door::Web)] {
            if let Some(listener) = listener {
                tasks.spawn(doors::accept(listener, door, Arc::clone(&directory)));
            }
        }
        let expiring = Arc::clone(&directory);
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(accounts::EXPIRE_EVERY).await;
                expiring.accounts.expire(crate::clock::wall_us()).await;
            }
        });
        let expiring = Arc::clone(&directory);
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(peers::EXPIRE_EVERY).await;
                expiring.peers.expire(crate::clock::now());
            }
        });
        tasks.spawn(async move { directory.open_all().await });
        let journal = own;
        Ok(Self { endpoints, shards, tasks, store_failed, journal, setup_code, tls, relaying })
    }

    /// From now on the node fetches contents from peers by this for who asks over HTTP; without it that is refused.
    pub fn relay(&self, relay: Arc<dyn Relay>) {
        self.relaying.set(relay);
    }

    /// Where the doors are.
    pub const fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    /// Waits until the store has failed, and says why: from then on nothing is stored here. Stop the node; a new start reads
    /// what is there.
    pub async fn store_failed(&mut self) -> String {
        match self.store_failed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // Every shard is gone: there is nothing that could fail.
            Err(_) => std::future::pending().await,
        }
    }

    /// What makes whoever registers with it the administrator, elsewhere than on this machine; none where there was an
    /// administrator when the node started.
    pub fn setup_code(&self) -> Option<&str> {
        self.setup_code.as_deref()
    }

    /// The certificate that new connections are shown; none where the node speaks plain only.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.tls.as_ref().map(|tls| tls.fingerprint())
    }

    /// Reads the certificate and its key again, for the connections to come; those that there are go on.
    ///
    /// # Errors
    /// [`TlsError`] says what is wrong with them; new connections are shown the old certificate then.
    pub async fn reload_tls(&self) -> Result<Option<Fingerprint>, TlsError> {
        let Some(tls) = self.tls.clone() else { return Ok(None) };
        let reloaded = tokio::task::spawn_blocking(move || tls.reload()).await;
        reloaded.map_err(|error| TlsError(error.to_string())).flatten().map(Some)
    }

    /// A clean end: what was taken in is stored, cursors too, and connections are told.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        let ends = self.shards.iter().map(|(shard, _)| shard.ask(|answer| Job::End { answer }));
        futures_util::future::join_all(ends).await;
        let threads: Vec<_> = self.shards.drain(..).map(|(_, thread)| thread).collect();
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().all(|thread| thread.join().is_ok())
        });
        if !joined.await.unwrap_or(false) {
            tracing::error!("a shard ended by a bug of ours, see above");
        }
        let journal = self.journal;
        let closed = async {
            while Arc::strong_count(&journal) > 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // Whoever starts a node on this store next finds it closed.
            let _ = tokio::task::spawn_blocking(move || drop(journal)).await;
        };
        if tokio::time::timeout(STORE_WAIT, closed).await.is_err() {
            tracing::warn!(
                "the store is still in use; it will be read with more care at the next start"
            );
        }
    }
}

fn listen(door: &'static str, config: &Config, port: u16) -> Result<TcpListener, CannotListen> {
    let address = SocketAddr::new(config.listen, port);
    doors::listen(address).map_err(|error| CannotListen { door, address, error })
}

/// Where a store keeps which one it is; twice, so that either may be damaged.
const INSTANCE_KEYS: [&str; 2] = ["node/instance", "node/instance.copy"];
/// And a secret of its own, which never leaves it.
const SECRET_KEYS: [&str; 2] = ["node/secret", "node/secret.copy"];

/// A random record of the store's own; a new store is given one.
async fn own_record<const N: usize>(
    catalog: Arc<dyn Catalog>,
    keys: [&'static str; 2],
) -> Result<[u8; N], StartError> {
    let done = tokio::task::spawn_blocking(move || read_own(catalog.as_ref(), keys)).await;
    done.map_err(|error| error.to_string()).flatten().map_err(StartError::Store)
}

fn read_own<const N: usize>(
    catalog: &dyn Catalog,
    keys: [&'static str; 2],
) -> Result<[u8; N], String> {
    let found = keys.map(|key| catalog.get(key).map_err(|error| error.to_string()));
    let known = found.iter().flatten().flatten().next();
    let own = match known {
        Some(known) => <[u8; N]>::try_from(known.value.as_ref())
            .map_err(|_| format!("the record {} is damaged", keys[0]))?,
        None => {
            // Where one cannot be read, there was one.
            found.iter().try_for_each(|found| found.as_ref().map(|_| ()).map_err(String::clone))?;
            let mut own = [0; N];
            rand::fill(&mut own);
            own
        }
    };
    for (key, found) in keys.into_iter().zip(&found) {
        let value = || Some(Bytes::copy_from_slice(&own));
        let written = match found {
            Ok(Some(_)) => Ok(0),
            Ok(None) => catalog.put(key, Expect::Absent, value()),
            // What it said is known: it gives way to what says so again.
            Err(_) => catalog
                .put(key, Expect::Any, None)
                .and_then(|_| catalog.put(key, Expect::Absent, value())),
        };
        if known.is_none() {
            written.map_err(|error| error.to_string())?;
        }
    }
    Ok(own)
}

async fn load_tls(config: &Config) -> Result<Option<Arc<Tls>>, StartError> {
    let Some(source) = config.tls.clone() else { return Ok(None) };
    let config = config.clone();
    let loaded = tokio::task::spawn_blocking(move || Tls::load(&config, &source)).await;
    let loaded = loaded.map_err(|error| TlsError(error.to_string())).flatten()?;
    Ok(Some(Arc::new(loaded)))
}

async fn load_accounts(config: &Config, catalog: Arc<dyn Catalog>) -> Result<Accounts, StartError> {
    let (limits, rules) = (config.limits.accounts.clone(), config.accounts);
    let load = move || Accounts::load(catalog, limits, rules, crate::clock::now());
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.map_err(|error| error.to_string()).flatten().map_err(StartError::Store)
}

async fn load_peers(shared: &Shared) -> Result<Peers, StartError> {
    let (limits, secret) = (shared.config.limits.peers.clone(), shared.secret);
    let (catalog, instance) = (Arc::clone(&shared.catalog), shared.instance.to_string());
    let load = move || Peers::load(catalog, limits, &secret, instance);
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.map_err(|error| error.to_string()).flatten().map_err(StartError::Store)
}

type Store = (Arc<dyn Journal>, Arc<dyn Catalog>);

/// Why the store cannot be opened, and of a full disk where it is and how much a store takes at its beginning.
fn unopened_text(config: &Config, error: &OpenStoreError, segment_bytes: u64) -> String {
    let data = config.data.display();
    match error {
        OpenStoreError::Io { error: full, .. } if full.kind() == ErrorKind::StorageFull => {
            let need = segment_bytes >> 20;
            format!("{error}: a store takes at least {need} MiB, and {data} has less room")
        }
        OpenStoreError::Io { .. } => format!("{error} (in {data})"),
        _ => error.to_string(),
    }
}

/// Opens the engine; the embedded one reads its files, which may take a while.
async fn open_store(config: &Config) -> Result<Store, StartError> {
    match config.engine {
        Engine::Memory => {
            let journal = Arc::new(MemoryJournal::new(MEMORY_BYTES_MAX));
            Ok((Arc::clone(&journal) as Arc<dyn Journal>, journal))
        }
        Engine::Embedded => {
            let level = if config.fsync { Level::Fsync } else { Level::Os };
            let thread_begins = crate::linux::take_short_turns;
            let options = Options { level, thread_begins, ..Options::default() };
            let (data, segment_bytes) = (config.data.clone(), options.segment_bytes);
            let opened = tokio::task::spawn_blocking(move || Embedded::open(&data, options)).await;
            let journal = opened
                .map_err(|error| StartError::Store(error.to_string()))?
                .map_err(|error| StartError::Store(unopened_text(config, &error, segment_bytes)))?;
            let journal = Arc::new(journal);
            Ok((Arc::clone(&journal) as Arc<dyn Journal>, journal))
        }
    }
}
