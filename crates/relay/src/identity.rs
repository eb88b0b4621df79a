//! Who the relay is: its keys, and its names.

use std::net::IpAddr;
use std::path::Path;

use mildam_protocol::link::host_name;
use mildam_protocol::password::ServerKeys;
use mildam_protocol::set_up::ServerKey;
use zeroize::Zeroizing;

use crate::context::rng;
use crate::data_dir::{self, DataDir};
use crate::relay::RelayError;
use crate::secrets::{SECRET_BYTES, Secrets};

fn unusable(error: impl std::fmt::Display) -> RelayError {
    RelayError::Identity(format!("the server key (the file {}): {error}", data_dir::SERVER_KEY))
}

/// Reads the server key, or makes it at the first start.
pub(crate) fn server_key(data: &DataDir) -> Result<ServerKey, RelayError> {
    if let Some(key) = read_server_key(data.path())? {
        return Ok(key);
    }
    tracing::info!("first start: making the server key");
    let key = ServerKey::generate(&mut rng()).map_err(unusable)?;
    let der = key.to_pkcs8().map_err(unusable)?;
    data.write(data_dir::SERVER_KEY, &der)?;
    Ok(key)
}

/// Reads the server key of a data directory that somebody else may be using; `None` before the first start.
pub(crate) fn read_server_key(data: &Path) -> Result<Option<ServerKey>, RelayError> {
    let der = data_dir::read(&data.join(data_dir::SERVER_KEY))?.map(Zeroizing::new);
    der.map(|der| ServerKey::from_pkcs8(&der).map_err(unusable)).transpose()
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

/// What every machine calls itself.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Whether a name means something on one machine, or in one network, only.
pub(crate) fn is_local(name: &str) -> bool {
    LOCAL.contains(&name) || (!name.contains('.') && !name.contains(':'))
}

/// The names and addresses in the relay's own certificate: the one in the server link, those that the
/// operator gave, and those that this machine has.
pub(crate) fn names(host: Option<&str>, given: &[String]) -> Vec<String> {
    let machine = gethostname::gethostname().to_string_lossy().into_owned();
    let usable = |name: &str| {
        !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.'))
    };
    let given = host.into_iter().chain(given.iter().map(String::as_str));
    let machine = Some(machine.as_str()).filter(|machine| usable(machine));
    let mut names = Vec::new();
    for name in given.chain(machine).chain(LOCAL) {
        // Each in the one form in which it can be read back from a certificate.
        let written = || host_name(name).unwrap_or_else(|| name.to_ascii_lowercase());
        let name = name.parse::<IpAddr>().map_or_else(|_| written(), |ip| ip.to_string());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
