//! What can hurt: for tests only.

use std::ops::ControlFlow;
use std::path::Path;

pub use crate::key_slot::Argon2Cost;

use mildam_records::Canonical;

use crate::cell::Cell;
use crate::directory::Bucket;
use crate::error::VaultError;
use crate::folder::Folder;
use crate::head::{FORMAT, HeadRow};
use crate::key_files::KeyFile;
use crate::key_slot::KeySlot;
use crate::keyring::OsKeyring;
use crate::postings::Entry;
use crate::row::{HistoryRow, OutboxRow, ReceiptRow, Secret};
use crate::rows::{Batch, Direction, DiskRows, KeyRange, MemoryRows, Rows};
use crate::snapshot::{self, SnapshotRows};
use crate::table::RowKey;
use crate::unlock::Unlock;
use crate::vault::{Vault, decode_account};

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
    let rows = SnapshotRows::open(rows)?.ok_or(VaultError::Damaged { what: "rows" })?;
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

/// The keys in the key slot of the vault in `folder` (vault, state, index), and what they are sealed under,
/// without opening the vault.
///
/// # Errors
/// As [`Vault::open`].
pub fn keys(folder: &Path, unlock: &Unlock) -> Result<Vec<Secret>, VaultError> {
    let slot = KeySlot::parse(&std::fs::read(Folder::key_file_in(folder, KeyFile::Slot))?)?;
    let (keys, slot_key) = slot.open(unlock, &OsKeyring)?;
    Ok([&keys.vault, &keys.state, &keys.index, slot_key.key()].map(|key| Secret::new(key.to_vec())).into())
}

/// What the vault reads from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The file with the keys.
    KeySlot,
    /// The copy of all rows.
    Snapshot,
    /// The first part of a row, as it lies in the store.
    Cell,
    /// The head, opened, in the newest format.
    Head,
    /// A line of a conversation, opened.
    History,
    /// A message that waits, opened.
    Outbox,
    /// How far a member has come, opened.
    Receipt,
    /// What is known of an account, opened.
    Account,
    /// A bucket, opened.
    Bucket,
    /// A block of postings, opened.
    Postings,
}

/// Reads bytes as the vault would and writes what was read: for fuzzers. `None` if they are refused.
#[must_use]
pub fn rewrite(form: Form, bytes: &[u8]) -> Option<Vec<u8>> {
    let secret = |row: Secret| row.to_vec();
    match form {
        Form::KeySlot => KeySlot::parse(bytes).ok().map(|slot| slot.to_bytes()),
        Form::Snapshot => snapshot::check_bytes(bytes).ok().map(|()| bytes.to_vec()),
        Form::Cell => {
            let (rows, mut batch, key) = (MemoryRows::default(), Batch::new(), RowKey::slot(1));
            Cell::read(&rows, &key, bytes).ok()?.write(&rows, &mut batch, &key).ok()?;
            // What is read in one part may be longer than what would be written in one.
            batch.remove(key.as_bytes()).flatten().filter(|_| batch.is_empty()).or(Some(bytes.to_vec()))
        }
        Form::Head => {
            HeadRow::decode(bytes).ok().filter(|head| head.format == FORMAT).map(|head| head.encode())
        }
        Form::History => HistoryRow::decode(bytes).map(|row| secret(row.encode())),
        Form::Outbox => OutboxRow::decode(bytes).map(|row| secret(row.encode())),
        Form::Receipt => ReceiptRow::decode(bytes).map(|row| secret(row.encode())),
        Form::Account => decode_account(bytes)
            .map(|(account, row)| Canonical::element().text(account.as_str()).bytes(&row).into_bytes()),
        Form::Bucket => Bucket::decode(bytes, FORMAT).map(|bucket| secret(bucket.encode())),
        Form::Postings => Entry::all_of(bytes).map(|_| bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use mildam_records::{ClientMessageId, ReceiptKind, RoomId};

    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        let line = HistoryRow {
            seq: 1,
            id: ClientMessageId::from_bytes([2; 16]),
            from: "bob".parse().unwrap(),
            sent_at: 3,
            body: vec![4],
            text: Some("다섯".to_owned()),
        };
        let waiting = OutboxRow {
            order: 1,
            room: RoomId::from_bytes([2; 32]),
            id: line.id,
            body: vec![3],
            sealed: None,
            created_at: 4,
        };
        let receipt = ReceiptRow { account: line.from.clone(), kind: ReceiptKind::Read, seq: 5 };
        for (form, row) in [
            (Form::History, line.encode()),
            (Form::Outbox, waiting.encode()),
            (Form::Receipt, receipt.encode()),
            (Form::Head, Secret::new(HeadRow::empty(1).encode())),
            (Form::Account, Secret::new(Canonical::element().text("bob").bytes(b"keys").into_bytes())),
            (Form::Cell, Secret::new([&[1, 0, 0, 0, 0, 0, 7][..], b"sealed"].concat())),
            (Form::Postings, Secret::default()),
        ] {
            assert_eq!(rewrite(form, &row).as_ref(), Some(&*row), "{form:?}");
            let longer = [row.as_slice(), b"x"].concat();
            assert!(form == Form::Cell || rewrite(form, &longer).is_none(), "{form:?}");
        }
        for form in [Form::KeySlot, Form::Snapshot, Form::Bucket] {
            assert_eq!(rewrite(form, b"MILDAM"), None, "{form:?}");
        }
    }
}
