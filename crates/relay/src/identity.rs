//! Who the relay is: its key, and the certificate that shows the same key to TLS.

use std::sync::Arc;

use mildam_protocol::password::ServerKeys;
use mildam_protocol::set_up::ServerKey;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256};
use rustls::pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use crate::context::rng;
use crate::data_dir::{self, DataDir};
use crate::relay::RelayError;
use crate::secrets::{SECRET_BYTES, Secrets};

/// The protocol's name in TLS.
const ALPN: &[u8] = b"mildam/1";

/// Reads the server key, or makes it at the first start.
pub(crate) fn server_key(data: &DataDir) -> Result<ServerKey, RelayError> {
    let unusable = |error| RelayError::Identity(format!("the server key: {error}"));
    if let Some(der) = data.read(data_dir::SERVER_KEY)?.map(Zeroizing::new) {
        return ServerKey::from_pkcs8(&der).map_err(unusable);
    }
    tracing::info!("first start: making the server key");
    let key = ServerKey::generate(&mut rng()).map_err(unusable)?;
    let der = key.to_pkcs8().map_err(unusable)?;
    data.write(data_dir::SERVER_KEY, &der)?;
    Ok(key)
}

/// Reads what passwords are served with, or makes it at the first start.
pub(crate) fn password_keys(data: &DataDir) -> Result<ServerKeys, RelayError> {
    if let Some(bytes) = data.read(data_dir::PASSWORD_KEYS)?.map(Zeroizing::new) {
        return ServerKeys::from_bytes(&bytes)
            .map_err(|_| RelayError::Identity("the file password-keys.bin is damaged".to_owned()));
    }
    if data.file(data_dir::DATABASE).exists() {
        tracing::warn!(
            "there is a database and no password-keys.bin: every password that was set before is wrong now"
        );
    }
    let keys = ServerKeys::generate(&mut rng());
    data.write(data_dir::PASSWORD_KEYS, &keys.to_bytes())?;
    Ok(keys)
}

/// Reads the keys that protect personal data, or makes them at the first start.
pub(crate) fn secrets(data: &DataDir) -> Result<Secrets, RelayError> {
    let bytes = if let Some(bytes) = data.read(data_dir::SECRETS)? {
        Zeroizing::new(bytes)
    } else {
        let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES]);
        getrandom::fill(&mut bytes)
            .map_err(|error| RelayError::Identity(format!("no randomness: {error}")))?;
        data.write(data_dir::SECRETS, &bytes)?;
        bytes
    };
    Secrets::from_bytes(&bytes)
        .ok_or_else(|| RelayError::Identity("the file secrets.bin is damaged".to_owned()))
}

/// TLS under a certificate of the server key, so that the fingerprint in the server link pins both.
/// The certificate is made anew at each start: it always names the current hosts and is never kept.
pub(crate) fn tls_config(
    key: &ServerKey,
    public_host: Option<&str>,
) -> Result<Arc<rustls::ServerConfig>, RelayError> {
    let unusable = |error: &dyn std::fmt::Display| RelayError::Identity(format!("the certificate: {error}"));
    let der = key.to_pkcs8().map_err(|error| unusable(&error))?;
    let der = PrivatePkcs8KeyDer::from(der.as_slice());
    let pair =
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256).map_err(|error| unusable(&error))?;
    let mut params = CertificateParams::new(names(public_host)).map_err(|error| unusable(&error))?;
    params.distinguished_name.push(DnType::CommonName, "Mildam relay");
    let certificate = params.self_signed(&pair).map_err(|error| unusable(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| unusable(&error))?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], der.clone_key().into())
        .map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // The channel binding of RFC 9266 is unique only with the extended master secret.
    config.require_ems = true;
    Ok(Arc::new(config))
}

/// The names in the certificate.
fn names(public_host: Option<&str>) -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    names.extend(public_host.map(str::to_owned));
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let usable = |name: &str| {
        !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.'))
    };
    if usable(&host) && !names.contains(&host) {
        names.push(host);
    }
    names
}
