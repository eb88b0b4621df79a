//! TLS: which certificate is shown, kept up to date while connections come and go.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use mildam_protocol::carrier;
use mildam_protocol::records::Hash;
use mildam_protocol::set_up::ServerKey;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::certificate::{self, CertificateError, Description, Issued, KeyedChain};
use crate::data_dir::{self, DataDirError};

/// HTTP/2's.
pub(crate) const HTTP_2: &[u8] = b"h2";
/// HTTP/1.1's.
pub(crate) const HTTP_1: &[u8] = b"http/1.1";
/// How often the files are looked at for changes.
const LOOK: Duration = Duration::from_secs(2);

/// Why the certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// A file that was named is not there.
    #[error("{0} is not there")]
    Missing(PathBuf),
    /// What is in it is of no use.
    #[error("{file}: {error}")]
    Certificate {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: CertificateError,
    },
}

/// Where chain and key are. One file may hold both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemFiles {
    /// The certificate and its chain.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl PemFiles {
    /// The file in a data directory that holds both.
    #[must_use]
    pub fn in_data(data: &Path) -> Self {
        let file = data.join(data_dir::TLS);
        Self { chain: file.clone(), key: file }
    }

    fn failed(&self, error: CertificateError) -> TlsError {
        let file = if matches!(error, CertificateError::NoKey) { &self.key } else { &self.chain };
        TlsError::Certificate { file: file.clone(), error }
    }

    /// Reads both; `None` if neither file is there.
    fn read(&self) -> Result<Option<KeyedChain>, TlsError> {
        let read = |path| Ok::<_, TlsError>(data_dir::read(path)?.map(Zeroizing::new));
        match (read(&self.chain)?, read(&self.key)?) {
            (Some(chain), Some(key)) => {
                KeyedChain::from_pem(&chain, &key).map(Some).map_err(|error| self.failed(error))
            }
            (None, None) => Ok(None),
            (None, Some(_)) => Err(TlsError::Missing(self.chain.clone())),
            (Some(_), None) => Err(TlsError::Missing(self.key.clone())),
        }
    }

    /// When the files were written, and how long they are: another certificate shows here.
    fn stamps(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.chain, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }
}

/// Makes the relay's own certificate anew, under a new key, into the file of a data directory.
pub(crate) fn renew(data: &Path, server_key: &ServerKey, names: &[String]) -> Result<(), TlsError> {
    let failed = |error| TlsError::Certificate { file: data.join(data_dir::TLS), error };
    let Issued { chain, key } = certificate::issue_own(server_key, names, now()).map_err(failed)?;
    put(data, &chain, &key)
}

/// Writes chain and key, as PEM, in one step: a reader finds those of before or these.
pub(crate) fn put(data: &Path, chain: &str, key: &str) -> Result<(), TlsError> {
    let both = Zeroizing::new(format!("{key}{chain}"));
    Ok(data_dir::write(data, data_dir::TLS, both.as_bytes())?)
}

/// Describes the certificate in the files, after it was tried whether TLS can be served with it; `None`
/// if there is none.
pub(crate) fn describe(files: &PemFiles, server_key: &Hash) -> Result<Option<Description>, TlsError> {
    if !files.chain.exists() && !files.key.exists() {
        return Ok(None);
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    read(files, server_key, &provider).map(|(_, known)| Some(known.description))
}

/// What the relay's own certificate is made with.
struct Own {
    data: PathBuf,
    server_key: ServerKey,
    names: Vec<String>,
}

/// The certificate in use. It follows its files while the relay runs: with what cannot be used, the one
/// before stays.
pub(crate) struct Certificates {
    files: PemFiles,
    fingerprint: Hash,
    /// Not there if the operator named other files.
    own: Option<Own>,
    provider: Arc<CryptoProvider>,
    shown: RwLock<Arc<CertifiedKey>>,
    known: Mutex<Known>,
}

struct Known {
    stamps: [Option<(SystemTime, u64)>; 2],
    description: Description,
}

impl Certificates {
    /// Reads the certificate of the files that the operator named, or else that of the data directory,
    /// which is made if it is not there.
    pub(crate) fn open(
        data: &Path,
        named: Option<PemFiles>,
        server_key: &ServerKey,
        names: Vec<String>,
    ) -> Result<Self, TlsError> {
        let own = Own { data: data.to_owned(), server_key: server_key.clone(), names };
        let (files, own) = match named {
            Some(files) => (files, None),
            None => (PemFiles::in_data(data), Some(own)),
        };
        if let Some(own) = &own
            && !files.chain.exists()
        {
            renew(&own.data, &own.server_key, &own.names)?;
        }
        let fingerprint = server_key.fingerprint();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (shown, known) = read(&files, &fingerprint, &provider)?;
        let (shown, known) = (RwLock::new(Arc::new(shown)), Mutex::new(known));
        let certificates = Self { files, fingerprint, own, provider, shown, known };
        certificates.renew_if_due()?;
        certificates.reload_if_changed()?;
        Ok(certificates)
    }

    /// What is said of the one in use.
    pub(crate) fn description(&self) -> Description {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).description.clone()
    }

    /// Renews and reloads until told to stop.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let own = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                own.renew_if_due()?;
                own.reload_if_changed()
            });
            match looked.await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => tracing::info!("the certificate was reloaded"),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the certificate was not reloaded: the one before stays in use");
                }
                Err(_) => return,
            }
        }
    }

    fn renew_if_due(&self) -> Result<(), TlsError> {
        match &self.own {
            Some(own) if self.description().is_due(&own.names, now()) => {
                renew(&own.data, &own.server_key, &own.names)
            }
            _ => Ok(()),
        }
    }

    /// Reads the files if they changed. An error is told once, not at each look.
    fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.files.stamps();
        if stamps == known.stamps {
            return Ok(false);
        }
        known.stamps = stamps;
        let (shown, new) = read(&self.files, &self.fingerprint, &self.provider)?;
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
        *known = new;
        Ok(true)
    }

    /// What a listener serves with.
    pub(crate) fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = [carrier::ALPN, HTTP_2, HTTP_1].map(<[u8]>::to_vec).to_vec();
        // The channel binding of RFC 9266 is unique only with the extended master secret.
        config.require_ems = true;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

fn read(
    files: &PemFiles,
    fingerprint: &Hash,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Known), TlsError> {
    let stamps = files.stamps();
    let KeyedChain { chain, key } = files.read()?.ok_or_else(|| TlsError::Missing(files.chain.clone()))?;
    let failed = |error| files.failed(error);
    let description = Description::of(&chain, fingerprint).map_err(failed)?;
    let shown = certificate::certify(chain, key, provider).map_err(failed)?;
    Ok((shown, Known { stamps, description }))
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
