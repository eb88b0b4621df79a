//! The relay as a whole: opening, serving, draining.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mildam_protocol::ServerLink;
use mildam_protocol::link::InvitationToken;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::age;
use crate::broker::Switchboard;
use crate::config::{Config, DEFAULT_PORT, SignUpMode};
use crate::context::Context;
use crate::data_dir::{self, DataDir, DataDirError};
use crate::http::{self, Readiness};
use crate::identity;
use crate::invitation;
use crate::limiter::{self, Limiter};
use crate::listener::{self, Listeners};
use crate::metrics::Metrics;
use crate::proxy::Proxies;
use crate::space::{self, Space};
use crate::store::{SqliteStore, StoreError};
use crate::tls::{Certificates, TlsError};

/// How long connections may take to finish what is in hand.
const DRAIN_LIMIT: Duration = Duration::from_secs(15);

/// Why a relay cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database.
    #[error("the database cannot be used: {0}")]
    Store(#[from] StoreError),
    /// The certificate for TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server key or the relay's secrets.
    #[error("{0}")]
    Identity(String),
    /// An address to listen on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The host of the server link.
    #[error("{0:?} cannot stand in a server link: name a host with --public-host")]
    Host(String),
    /// A task of the relay's own was lost.
    #[error("a task was lost: {0}")]
    Lost(#[from] tokio::task::JoinError),
}

/// Where a relay can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The address that serves TLS.
    pub tls: SocketAddr,
    /// The address that serves plain TCP, if one was asked for.
    pub plain: Option<SocketAddr>,
    /// The address that serves HTTP and WebSocket without TLS, if one was asked for.
    pub http: Option<SocketAddr>,
    /// The address that serves metrics, if one was asked for.
    pub metrics: Option<SocketAddr>,
    /// What people enter to connect.
    pub link: ServerLink,
    /// What lets the first one in, as long as there is no account and people come in by invitation.
    pub invitation: Option<InvitationToken>,
    /// Who may make an account.
    pub sign_up: SignUpMode,
}

/// A relay that is open but does not serve yet.
pub struct Relay {
    ready: Ready,
    listeners: Listeners,
    /// Where metrics are read.
    metrics: Option<TcpListener>,
    certificates: Arc<Certificates>,
    permits: Arc<Semaphore>,
    context: Arc<Context>,
    /// Held until everything is closed.
    data: DataDir,
}

/// Opens a relay and serves until `shutdown`.
///
/// # Errors
/// [`RelayError`] if it cannot be opened, or its store breaks.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RelayError> {
    Relay::bind(config).await?.serve(shutdown).await
}

/// The server link of the last start with this data directory; `None` before the first.
///
/// # Errors
/// [`RelayError::DataDir`] if it cannot be read.
pub fn last_link(data: &Path) -> Result<Option<ServerLink>, RelayError> {
    let damaged = |_| RelayError::Identity("the file link.txt is damaged".to_owned());
    let Some(bytes) = data_dir::read(&data.join(data_dir::LINK))? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    text.parse().map(Some).map_err(damaged)
}

impl Relay {
    /// Opens data and listeners. At the first start this makes the server key, which takes about a
    /// second.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn bind(config: Config) -> Result<Self, RelayError> {
        let listener = match config.listen {
            Some(address) => listen(address).await?,
            None => listen_everywhere().await?,
        };
        let plain = listen_if_asked(config.plain_listen).await?;
        let http = listen_if_asked(config.http_listen).await?;
        let metrics = listen_if_asked(config.metrics_listen).await?;
        let tls_address = address_of(&listener)?;
        let plain_address = plain.as_ref().map(address_of).transpose()?;
        let http_address = http.as_ref().map(address_of).transpose()?;
        let metrics_address = metrics.as_ref().map(address_of).transpose()?;
        let host = config.public_host.unwrap_or_else(|| reachable(tls_address.ip()).to_string());
        let port = config.public_port.map_or(tls_address.port(), NonZeroU16::get);
        let names = identity::names(Some(&host), &config.tls_names);
        let (path, named) = (config.data, config.tls_files);
        let (data, key, secrets, passwords, certificates) = tokio::task::spawn_blocking(move || {
            let data = DataDir::open(&path)?;
            let key = identity::server_key(&data)?;
            let secrets = identity::secrets(&data)?;
            let passwords = identity::password_keys(&data)?;
            let certificates = Certificates::open(&path, named, &key, names)?;
            Ok::<_, RelayError>((data, key, secrets, passwords, Arc::new(certificates)))
        })
        .await??;
        let tls = certificates.server_config().map_err(|error| RelayError::Identity(error.to_string()))?;
        let counts = Arc::new(Metrics::default());
        let store = SqliteStore::open(&data.file(data_dir::DATABASE), Arc::clone(&counts)).await?;
        if let Err(error) = age::begin(&store, &config.clock).await {
            // A disk that is full keeps nobody from reading.
            tracing::warn!(?error, "it was not noted that the relay is at work");
        }
        let invitation = match config.sign_up {
            SignUpMode::Invitation => {
                invitation::first(&store, config.clock.now()).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "nobody was invited");
                    None
                })
            }
            SignUpMode::Open | SignUpMode::Closed => None,
        };
        let link = ServerLink::new(&host, port, key.fingerprint()).map_err(|_| RelayError::Host(host))?;
        data.write(data_dir::LINK, format!("{link}\n").as_bytes())?;
        let switchboard = Arc::new(Switchboard::default());
        let context = Context {
            name: config.name,
            sign_up: config.sign_up,
            key,
            clock: config.clock,
            store: Arc::new(store),
            space: Space::new(data.path(), config.limits.free_space),
            readiness: Readiness::default(),
            metrics: counts,
            broker: Arc::clone(&switchboard) as _,
            switchboard,
            passwords,
            secrets,
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            ending: CancellationToken::new(),
            limiter: Arc::new(Limiter::new(&config.limits, &config.stopwatch)),
            limits: Arc::new(config.limits),
            proxies: Proxies::new(config.trusted_proxies, config.proxy_protocol),
        };
        Ok(Self {
            ready: Ready {
                tls: tls_address,
                plain: plain_address,
                http: http_address,
                metrics: metrics_address,
                link,
                invitation,
                sign_up: config.sign_up,
            },
            listeners: Listeners { tls: listener, config: tls, plain, http },
            metrics,
            certificates,
            permits: Arc::new(Semaphore::new(context.limits.connections.min(Semaphore::MAX_PERMITS))),
            context: Arc::new(context),
            data,
        })
    }

    /// Where it can be reached.
    #[must_use]
    pub const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Serves until `shutdown`; then accepts nothing more, finishes what is in hand, and closes the
    /// data. When this returns, the directory can be used by another relay.
    ///
    /// # Errors
    /// [`RelayError::Store`] if the store broke meanwhile.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), RelayError> {
        let Context { tasks, draining, ending, store, .. } = &*self.context;
        tasks.spawn(listener::accept(self.listeners, self.permits, Arc::clone(&self.context)));
        if let Some(listener) = self.metrics {
            tasks.spawn(http::serve_metrics(listener, Arc::clone(&self.context)));
        }
        tasks.spawn(limiter::sweep(Arc::clone(&self.context)));
        tasks.spawn(age::follow(Arc::clone(&self.context)));
        tasks.spawn(space::follow(Arc::clone(&self.context)));
        tasks.spawn(self.certificates.follow(draining.clone()));
        let outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            // A relay that stores nothing is better stopped, and started again by whoever watches.
            () = store.closed() => Err(StoreError::Closed.into()),
        };
        tracing::info!("stopping: finishing what is in hand");
        draining.cancel();
        tasks.close();
        if tokio::time::timeout(DRAIN_LIMIT, tasks.wait()).await.is_err() {
            tracing::warn!("some connections did not finish in time");
            ending.cancel();
            tasks.wait().await;
        }
        store.close().await;
        drop(self.data);
        tracing::info!("stopped");
        outcome
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("ready", &self.ready).finish_non_exhaustive()
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RelayError> {
    TcpListener::bind(address).await.map_err(|error| RelayError::Listen { address, error })
}

/// All addresses of the machine; those of version 4 only where there is no version 6.
async fn listen_everywhere() -> Result<TcpListener, RelayError> {
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
    let all_of_version_4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
    match listen(all).await {
        Ok(listener) => Ok(listener),
        Err(_) => listen(all_of_version_4).await,
    }
}

async fn listen_if_asked(address: Option<SocketAddr>) -> Result<Option<TcpListener>, RelayError> {
    match address {
        Some(address) => listen(address).await.map(Some),
        None => Ok(None),
    }
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, RelayError> {
    let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    listener.local_addr().map_err(|error| RelayError::Listen { address: unknown, error })
}

/// An address at which others have a chance to reach a listener. One that listens everywhere is
/// reached at the address from which this machine would go out; asking for it sends nothing.
fn reachable(listening: IpAddr) -> IpAddr {
    if !listening.is_unspecified() {
        return listening;
    }
    let outward = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address that is reserved for documentation: any that is not local will do.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    outward().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}
