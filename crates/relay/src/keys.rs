//! What an operator does with the relay's key and its certificate, whether the relay runs or not: a
//! running one takes up a new certificate within seconds.

use std::path::{Path, PathBuf};

use mildam_protocol::records::Hash;
use mildam_protocol::set_up::ServerKey;
use zeroize::Zeroizing;

use crate::certificate::{self, Description};
use crate::config::Config;
use crate::data_dir::{self, DataDir};
use crate::identity;
use crate::relay::{self, RelayError};
use crate::tls::{self, PemFiles, TlsError};

/// The name of a server key that was replaced.
const OLD_SERVER_KEY: &str = "server-key.old.der";

/// The key and the certificate of one data directory.
pub struct Keys {
    data: PathBuf,
    server_key: ServerKey,
    files: PemFiles,
    named: bool,
    names: Vec<String>,
}

/// A request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Where it lies: PKCS #10 in PEM.
    pub file: PathBuf,
    /// Where its private key lies.
    pub key: PathBuf,
    /// For which names and addresses it asks.
    pub names: Vec<String>,
}

impl Keys {
    /// Reads the server key, or makes it if the relay was never started.
    ///
    /// # Errors
    /// [`RelayError`]
    pub fn open(config: Config) -> Result<Self, RelayError> {
        let data = config.data;
        let server_key = match identity::read_server_key(&data)? {
            Some(key) => key,
            None => identity::server_key(&DataDir::open(&data)?)?,
        };
        let link = || Ok::<_, RelayError>(relay::last_link(&data)?.map(|link| link.host().to_owned()));
        let host = match config.public_host {
            Some(host) => Some(host),
            None => link()?,
        };
        let names = identity::names(host.as_deref(), &config.tls_names);
        let named = config.tls_files.is_some();
        let files = config.tls_files.unwrap_or_else(|| PemFiles::in_data(&data));
        Ok(Self { data, server_key, files, named, names })
    }

    /// The fingerprint in the server link.
    #[must_use]
    pub fn fingerprint(&self) -> Hash {
        self.server_key.fingerprint()
    }

    /// Where the certificate lies.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.files.chain
    }

    /// What the certificate says; `None` before there is one.
    ///
    /// # Errors
    /// [`TlsError`] if it cannot be used.
    pub fn describe(&self) -> Result<Option<Description>, TlsError> {
        tls::describe(&self.files, &self.fingerprint())
    }

    /// Makes the relay's own certificate anew, under a new key. The link stays.
    ///
    /// # Errors
    /// [`RelayError::Tls`]; [`RelayError::Identity`] if the settings name a certificate from elsewhere.
    pub fn renew(&self) -> Result<(), RelayError> {
        self.must_be_own()?;
        Ok(tls::renew(&self.data, &self.server_key, &self.names)?)
    }

    /// Makes a key and a request that an authority makes a certificate of. What is in use stays so.
    ///
    /// # Errors
    /// [`RelayError`]
    pub fn request(&self) -> Result<CertificateRequest, RelayError> {
        let local = |name: &&String| !identity::is_local(name);
        let names: Vec<String> = self.names.iter().filter(local).cloned().collect();
        if names.is_empty() {
            let missing = "no authority certifies a machine without a public name: give --public-host";
            return Err(RelayError::Identity(missing.to_owned()));
        }
        let (file, key) = (self.data.join(data_dir::TLS_REQUEST), self.data.join(data_dir::TLS_REQUEST_KEY));
        let issued = certificate::request(&names)
            .map_err(|error| TlsError::Certificate { file: file.clone(), error })?;
        data_dir::write(&self.data, data_dir::TLS_REQUEST_KEY, issued.key.as_bytes())?;
        data_dir::write(&self.data, data_dir::TLS_REQUEST, issued.chain.as_bytes())?;
        Ok(CertificateRequest { file, key, names })
    }

    /// Puts a certificate from elsewhere into use. Without a key of its own it must be for the key of
    /// the last request.
    ///
    /// # Errors
    /// [`RelayError::Tls`] if certificate and key do not belong together or cannot be used: what is in
    /// use stays so.
    pub fn install(&self, chain: &Path, key: Option<&Path>) -> Result<Description, RelayError> {
        self.must_be_own()?;
        let key = key.map_or_else(|| self.data.join(data_dir::TLS_REQUEST_KEY), Path::to_path_buf);
        let files = PemFiles { chain: chain.to_owned(), key };
        let description =
            tls::describe(&files, &self.fingerprint())?.ok_or(TlsError::Missing(files.chain.clone()))?;
        // As they came: an authority may have more to say in its file than certificates.
        let read = |path: &Path| {
            let bytes = data_dir::read(path)?.ok_or_else(|| TlsError::Missing(path.to_owned()))?;
            Ok::<_, TlsError>(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned() + "\n"))
        };
        let key = if files.key == files.chain { Zeroizing::default() } else { read(&files.key)? };
        tls::put(&self.data, &read(&files.chain)?, &key)?;
        Ok(description)
    }

    /// Replaces the server key. The old one is kept beside it, and the old link leads nowhere: clients
    /// show both fingerprints and wait until their people decide.
    ///
    /// # Errors
    /// [`RelayError::DataDir`] while a relay runs.
    pub fn replace_server_key(self) -> Result<Self, RelayError> {
        let data = DataDir::open(&self.data)?;
        let own = self.describe().ok().flatten().is_none_or(|description| description.own);
        data.rename(data_dir::SERVER_KEY, OLD_SERVER_KEY)?;
        let server_key = identity::server_key(&data)?;
        // A link that leads nowhere is not shown any more.
        data.remove(data_dir::LINK)?;
        if own && !self.named {
            tls::renew(&self.data, &server_key, &self.names)?;
        }
        Ok(Self { server_key, ..self })
    }

    fn must_be_own(&self) -> Result<(), RelayError> {
        if self.named {
            let elsewhere = "the settings name a certificate from elsewhere: put the new one there, or take \
                             tls-certificate and tls-key out";
            return Err(RelayError::Identity(elsewhere.to_owned()));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("data", &self.data).field("files", &self.files).finish_non_exhaustive()
    }
}
