//! The slot key of a vault that is opened without a passphrase.

use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::seal::{KEY_LENGTH, Key, key_from};

/// The service that all entries stand under.
const SERVICE: &str = "mildam";

/// Something that keeps 32 bytes for a vault, outside the vault.
pub(crate) trait SecretStore {
    fn get(&self, vault: &[u8; 16]) -> Result<Key, VaultError>;
    fn set(&self, vault: &[u8; 16], secret: &[u8; KEY_LENGTH]) -> Result<(), VaultError>;
    fn remove(&self, vault: &[u8; 16]) -> Result<(), VaultError>;
}

/// Secret Service on Linux, Keychain on macOS, Credential Manager on Windows. The entry's name is
/// the vault's id in hexadecimal.
pub(crate) struct OsKeyring;

impl SecretStore for OsKeyring {
    fn get(&self, vault: &[u8; 16]) -> Result<Key, VaultError> {
        let name = name(vault);
        let secret = apart(|| entry(&name)?.get_secret().map_err(from_keyring))?;
        let secret = Zeroizing::new(secret);
        key_from(&secret).ok_or(VaultError::KeyringEntryMissing)
    }

    fn set(&self, vault: &[u8; 16], secret: &[u8; KEY_LENGTH]) -> Result<(), VaultError> {
        let name = name(vault);
        apart(|| entry(&name)?.set_secret(secret).map_err(from_keyring))
    }

    fn remove(&self, vault: &[u8; 16]) -> Result<(), VaultError> {
        let name = name(vault);
        apart(|| entry(&name)?.delete_credential().map_err(from_keyring))
    }
}

fn name(vault: &[u8; 16]) -> String {
    data_encoding::HEXLOWER.encode(vault)
}

fn entry(name: &str) -> Result<keyring::Entry, VaultError> {
    if let Err(error) = keyring::Entry::store_status() {
        return Err(VaultError::KeyringUnavailable(error.to_string()));
    }
    keyring::Entry::new(SERVICE, name).map_err(from_keyring)
}

/// Runs keyring code on a thread of its own: its D-Bus client blocks and must not meet the
/// caller's async runtime, and a panic of it is an unavailable keyring.
fn apart<T: Send>(work: impl FnOnce() -> Result<T, VaultError> + Send) -> Result<T, VaultError> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(VaultError::KeyringUnavailable("its client broke down".to_owned())))
}

fn from_keyring(error: keyring::Error) -> VaultError {
    match error {
        keyring::Error::NoEntry => VaultError::KeyringEntryMissing,
        // These variants carry the secret; their text is enough, and does not.
        error => VaultError::KeyringUnavailable(error.to_string()),
    }
}
