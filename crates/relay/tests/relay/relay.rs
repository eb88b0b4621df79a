//! A relay for a test: in this process, on port 0, in a directory of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mildam_protocol::ServerLink;
use mildam_protocol::link::InvitationToken;
use mildam_protocol::set_up::ServerKey;
use mildam_relay::{Clock, Config, Relay, RelayError, SignUpMode, Stopwatch};
use rand_core::UnwrapErr;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub fn rng() -> impl rand_core::CryptoRng {
    UnwrapErr(getrandom::SysRng)
}

/// Milliseconds since 1970 (UTC).
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A server key in PKCS#8 DER.
pub fn server_key() -> &'static [u8] {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    KEY.get_or_init(|| ServerKey::generate(&mut rng()).unwrap().to_pkcs8().unwrap().to_vec())
}

/// A relay's clock that a test sets forward. It begins at the present time and stands still.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(now())))
    }

    pub fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Sets it forward, by so many milliseconds.
    pub fn advance(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let own = self.clone();
        Clock::new(move || own.now())
    }
}

/// What a relay measures its limits by, set forward by a test. It stands still otherwise.
#[derive(Clone, Default)]
pub struct TestStopwatch(Arc<AtomicU64>);

impl TestStopwatch {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn stopwatch(&self) -> Stopwatch {
        let own = self.clone();
        Stopwatch::new(move || Duration::from_millis(own.0.load(Ordering::SeqCst)))
    }
}

pub struct TestRelay {
    pub link: ServerLink,
    pub tls: SocketAddr,
    pub plain: SocketAddr,
    pub http: SocketAddr,
    /// What lets the first one in.
    pub invitation: Option<InvitationToken>,
    data: TempDir,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), RelayError>>,
}

impl TestRelay {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub async fn start_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("server-key.der"), server_key()).unwrap();
        Self::start_in(data, adjust).await
    }

    pub async fn start_in(data: TempDir, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(data.path().to_owned());
        config.listen = Some(loopback());
        config.plain_listen = Some(loopback());
        config.http_listen = Some(loopback());
        config.sign_up = SignUpMode::Open;
        adjust(&mut config);
        let relay = Relay::bind(config).await.unwrap();
        let ready = relay.ready().clone();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(relay.serve(shutdown.clone()));
        let (plain, http) = (ready.plain.unwrap(), ready.http.unwrap());
        let (link, invitation) = (ready.link, ready.invitation);
        Self { link, tls: ready.tls, plain, http, invitation, data, shutdown, served }
    }

    /// Where its data are.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Tells it to stop, without waiting.
    pub fn begin_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// Stops it; gives the data to look at or to start again with.
    pub async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.served.await.unwrap().unwrap();
        self.data
    }

    pub async fn restart(self) -> Self {
        Self::start_in(self.stop().await, |_| ()).await
    }
}

/// The bytes of all files in a directory.
pub fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}
