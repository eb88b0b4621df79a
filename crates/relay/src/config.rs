//! Settings: all have a default, a file can set them, the command line overrides the file.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

use crate::clock::Clock;
use crate::limiter::Stopwatch;
pub use crate::limits::{LimitSettings, Limits};
use crate::tls::PemFiles;

/// The port of a relay unless another is chosen.
pub const DEFAULT_PORT: u16 = 7747;

/// Who may make an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SignUpMode {
    /// Everybody who has the link.
    Open,
    /// Who has an invitation, each of which is for one.
    #[default]
    Invitation,
    /// Nobody more.
    Closed,
}

/// How to run a relay.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where TLS is served; by default all addresses of the machine at [`DEFAULT_PORT`].
    pub listen: Option<SocketAddr>,
    /// Where the protocol is served without TLS; by default nowhere.
    pub plain_listen: Option<SocketAddr>,
    /// Where HTTP and WebSocket are served without TLS, for a proxy that ends TLS; by default nowhere.
    pub http_listen: Option<SocketAddr>,
    /// Where the operator's machines read metrics, over HTTP without TLS; by default nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// The host name or address that stands in the server link.
    pub public_host: Option<String>,
    /// The port that stands in the server link, if people reach the relay at another than the one that
    /// it listens on.
    pub public_port: Option<NonZeroU16>,
    /// More names and addresses for the relay's own certificate.
    pub tls_names: Vec<String>,
    /// A certificate from elsewhere, instead of the one in the data directory.
    pub tls_files: Option<PemFiles>,
    /// Networks of proxies whose word on where a connection comes from is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether those proxies speak the PROXY protocol on every connection.
    pub proxy_protocol: bool,
    /// What the relay calls itself.
    pub name: String,
    /// Who may make an account; by default who was invited, so that nobody is let in by silence.
    pub sign_up: SignUpMode,
    /// Limits.
    pub limits: Limits,
    /// What time it is.
    pub clock: Clock,
    /// By what the limits are measured.
    pub stopwatch: Stopwatch,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {file}: {error}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file has an unknown key, a value of the wrong kind, or is no TOML.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Which line and why.
        reason: String,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("tls-certificate and tls-key are given together or not at all")]
    HalfOfTls,
    /// There is no place for the data.
    #[error("no data directory: name one with --data")]
    NoDataDirectory,
}

/// What a file or the command line sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// [`Config::data`].
    pub data: Option<PathBuf>,
    /// [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// [`Config::plain_listen`].
    pub plain_listen: Option<SocketAddr>,
    /// [`Config::http_listen`].
    pub http_listen: Option<SocketAddr>,
    /// [`Config::metrics_listen`].
    pub metrics_listen: Option<SocketAddr>,
    /// [`Config::public_host`].
    pub public_host: Option<String>,
    /// [`Config::public_port`].
    pub public_port: Option<NonZeroU16>,
    /// [`Config::tls_names`].
    pub tls_names: Option<Vec<String>>,
    /// [`Config::tls_files`], the certificate and its chain.
    pub tls_certificate: Option<PathBuf>,
    /// [`Config::tls_files`], the private key.
    pub tls_key: Option<PathBuf>,
    /// [`Config::trusted_proxies`]: networks, as in `10.0.0.0/8`.
    pub trusted_proxies: Option<Vec<IpNet>>,
    /// [`Config::proxy_protocol`].
    pub proxy_protocol: Option<bool>,
    /// [`Config::name`].
    pub name: Option<String>,
    /// [`Config::sign_up`]: `open`, `invitation` or `closed`.
    pub sign_up: Option<SignUpMode>,
    /// Whether to speak JSON to whoever started the program.
    pub json: Option<bool>,
    /// What to log, as in `RUST_LOG`.
    pub log: Option<String>,
    /// [`Config::limits`].
    #[serde(default)]
    pub limits: LimitSettings,
}

impl Settings {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] or [`ConfigError::Malformed`].
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError::Unreadable { file: file.to_owned(), error })?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Malformed { file: file.to_owned(), reason: error.to_string() })
    }

    /// These settings, and where they are silent, those.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            data: self.data.or(others.data),
            listen: self.listen.or(others.listen),
            plain_listen: self.plain_listen.or(others.plain_listen),
            http_listen: self.http_listen.or(others.http_listen),
            metrics_listen: self.metrics_listen.or(others.metrics_listen),
            public_host: self.public_host.or(others.public_host),
            public_port: self.public_port.or(others.public_port),
            tls_names: self.tls_names.or(others.tls_names),
            tls_certificate: self.tls_certificate.or(others.tls_certificate),
            tls_key: self.tls_key.or(others.tls_key),
            trusted_proxies: self.trusted_proxies.or(others.trusted_proxies),
            proxy_protocol: self.proxy_protocol.or(others.proxy_protocol),
            name: self.name.or(others.name),
            sign_up: self.sign_up.or(others.sign_up),
            json: self.json.or(others.json),
            log: self.log.or(others.log),
            limits: self.limits.or(others.limits),
        }
    }

    /// The data directory, by default where the operating system keeps a program's data.
    ///
    /// # Errors
    /// [`ConfigError::NoDataDirectory`] if there is none.
    pub fn data(&self) -> Result<PathBuf, ConfigError> {
        let default = || dirs::data_local_dir().map(|dir| dir.join("mildam-relay"));
        self.data.clone().or_else(default).ok_or(ConfigError::NoDataDirectory)
    }

    /// The whole configuration, with defaults where the settings are silent.
    ///
    /// # Errors
    /// [`ConfigError::NoDataDirectory`], [`ConfigError::HalfOfTls`].
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let mut config = Config::new(self.data()?);
        config.listen = self.listen;
        config.plain_listen = self.plain_listen;
        config.http_listen = self.http_listen;
        config.metrics_listen = self.metrics_listen;
        config.public_host = self.public_host;
        config.public_port = self.public_port;
        config.tls_names = self.tls_names.unwrap_or_default();
        config.tls_files = match (self.tls_certificate, self.tls_key) {
            (Some(chain), Some(key)) => Some(PemFiles { chain, key }),
            (None, None) => None,
            _ => return Err(ConfigError::HalfOfTls),
        };
        config.trusted_proxies = self.trusted_proxies.unwrap_or_default();
        config.proxy_protocol = self.proxy_protocol.unwrap_or_default();
        config.name = self.name.unwrap_or(config.name);
        config.sign_up = self.sign_up.unwrap_or_default();
        config.limits = self.limits.into_limits();
        Ok(config)
    }
}

impl Config {
    /// The defaults, with data in `data`.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            listen: None,
            plain_listen: None,
            http_listen: None,
            metrics_listen: None,
            public_host: None,
            public_port: None,
            tls_names: Vec::new(),
            tls_files: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            name: "Mildam relay".to_owned(),
            sign_up: SignUpMode::default(),
            limits: Limits::default(),
            clock: Clock::system(),
            stopwatch: Stopwatch::system(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<Settings, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, text).unwrap();
        Settings::read(&file)
    }

    // REQ S1
    #[test]
    fn a_file_sets_what_flags_set() {
        let file = read(
            "data = '/srv/mildam'\nlisten = '[::]:7000'\nplain-listen = '127.0.0.1:7001'\n\
             metrics-listen = '127.0.0.1:7002'\npublic-host = 'relay.example.org'\nname = 'Ours'\n\
             sign-up = 'closed'\n\
             [limits]\nset-up-seconds = 3\nsession-days = 7\nfriends = 5\n",
        )
        .unwrap();
        let flags = Settings { name: Some("Flag".to_owned()), ..Settings::default() };
        let config = flags.or(file).into_config().unwrap();
        assert_eq!(config.data, PathBuf::from("/srv/mildam"));
        assert_eq!(config.listen, Some("[::]:7000".parse().unwrap()));
        assert_eq!(config.plain_listen, Some("127.0.0.1:7001".parse().unwrap()));
        assert_eq!(config.metrics_listen, Some("127.0.0.1:7002".parse().unwrap()));
        assert_eq!(config.public_host.as_deref(), Some("relay.example.org"));
        assert_eq!(config.name, "Flag");
        assert_eq!(config.sign_up, SignUpMode::Closed);
        assert_eq!(config.limits.set_up, Duration::from_secs(3));
        assert_eq!(config.limits.session, Duration::from_secs(7 * 86_400));
        assert_eq!(config.limits.friends, 5);
        assert_eq!(config.limits.rooms, Limits::default().rooms);
    }

    // REQ S1
    #[test]
    fn the_operators_guide_names_every_limit_with_its_default() {
        let guide = include_str!("../../../docs/operations.md");
        let (_, block) = guide.split_once("```toml").unwrap();
        let (block, _) = block.split_once("```").unwrap();
        assert_eq!(read(block).unwrap().limits.silent_on(), [""; 0]);
        assert_eq!(read(block).unwrap().limits.into_limits(), Limits::default());
        // The two that are alike are not mixed up.
        let other = read("[limits]\nprekeys-a-day = 5\nlists-a-day = 6\n").unwrap().limits.into_limits();
        assert_eq!((other.prekeys_a_day, other.lists_a_day), (5, 6));
    }

    #[test]
    fn an_unknown_key_is_named_and_refused() {
        let error = read("listen = '[::]:1'\nplain_listen = '[::]:2'\n").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("plain_listen") && text.contains("plain-listen"), "{text}");
        assert!(read("[limits]\nconnections = 0\n").is_err());
        assert!(read("listen = 'everywhere'\n").is_err());
        assert!(read("sign-up = 'everybody'\n").is_err());
    }
}
