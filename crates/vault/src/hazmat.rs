//! What can hurt: for tests only.

use std::ops::ControlFlow;
use std::path::Path;

pub use crate::key_slot::Argon2Cost;

use crate::error::VaultError;
use crate::keyring::OsKeyring;
use crate::rows::{Batch, Direction, DiskRows, KeyRange, Rows};
use crate::snapshot;
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

/// Makes the store of the vault in `folder` of rows that lie in a file of a snapshot's format: for
/// vaults that older versions have written.
///
/// # Errors
/// [`VaultError::Damaged`] if the file is none; as [`Vault::open`].
pub fn write_store(folder: &Path, rows: &Path) -> Result<(), VaultError> {
    snapshot::check(rows)?;
    let rows = snapshot::read(rows)?.ok_or(VaultError::Damaged { what: "rows" })?;
    let store = DiskRows::open(&folder.join("store"))?;
    let mut batch = Batch::new();
    rows.scan(&KeyRange::everything(), Direction::Up, &mut |key, value| {
        batch.insert(key.to_vec(), Some(value.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    store.apply(batch)?;
    store.sync()
}

/// [`Vault::change_unlock`] with a chosen cost of the passphrase.
///
/// # Errors
/// As [`Vault::change_unlock`].
pub fn change_unlock_with_argon2(
    vault: &Vault,
    current: &Unlock,
    next: &Unlock,
    cost: Argon2Cost,
) -> Result<(), VaultError> {
    vault.change_unlock_with(current, next, cost, &OsKeyring, 1)
}
