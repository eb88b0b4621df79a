//! What can hurt: for tests only.

use std::path::Path;

pub use crate::key_slot::Argon2Cost;

use crate::error::VaultError;
use crate::keyring::OsKeyring;
use crate::unlock::Unlock;
use crate::vault::Vault;

/// [`Vault::open`] with a chosen cost of the passphrase. It counts only when the vault is made; an
/// existing vault says itself what it costs. A low cost makes a stolen vault easy to guess.
///
/// # Errors
/// As [`Vault::open`]; [`VaultError::Damaged`] also for a cost that is out of bounds.
pub fn open_with_argon2(dir: &Path, unlock: Unlock, cost: Argon2Cost) -> Result<Vault, VaultError> {
    Vault::open_with(dir, &unlock, cost, &OsKeyring)
}
