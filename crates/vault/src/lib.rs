//! The encrypted store of one device: everything a user interface shows comes from here, so it
//! works with no network.
//!
//! A [`Vault`] is a folder. Its rows lie in sled, each sealed under AES-256-GCM and bound to its
//! place; the keys lie beside it in one small file, which a passphrase or the system's keyring
//! opens. [`Changes`] are collected and then committed together, durably. `docs/vault.md` is the
//! normative description of every byte on disk.

#[cfg(all(feature = "testing", not(debug_assertions)))]
compile_error!("the feature `testing` makes keys that are no secret: never in a release");

mod cell;
mod changes;
mod directory;
mod draft;
mod error;
mod fields;
mod fold;
mod folder;
pub mod hazmat;
mod head;
mod key_files;
mod key_slot;
mod keyring;
mod migrate;
mod open;
mod postings;
#[cfg(test)]
mod power;
mod reopen;
mod rotate;
mod row;
mod rows;
mod salvage;
mod seal;
mod sealed_rows;
mod snapshot;
mod sum;
mod table;
mod unlock;
mod vault;

pub use changes::Changes;
pub use error::VaultError;
pub use row::{HistoryRow, Hit, OutboxRow, ReceiptRow, RoomRow, Secret, Slot};
pub use salvage::Repair;
pub use unlock::{Unlock, UnlockKind};
pub use vault::Vault;
