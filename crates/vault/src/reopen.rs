//! Opening the store again in place, after a write that failed.
//!
//! A full disk or a failing one leaves the store's memory ahead of its files, and sled answers nothing but
//! the error from then on. What is on disk is sound: it is read anew, with the keys that are in memory.

use std::sync::{Arc, PoisonError};

use crate::error::VaultError;
use crate::folder::Folder;
use crate::head::HeadFile;
use crate::key_files::{KeyFile, KeyFiles};
use crate::key_slot::{SlotKey, VaultKeys};
use crate::open::{OpenSlot, Slots, sound};
use crate::rows::DiskRows;
use crate::vault::{Progress, Vault};

/// A key slot that is about to take the place of the one in force.
#[derive(Clone)]
pub(crate) struct NextSlot {
    pub(crate) keys: VaultKeys,
    pub(crate) slot_key: SlotKey,
    pub(crate) bytes: Vec<u8>,
}

impl From<NextSlot> for OpenSlot {
    fn from(NextSlot { keys, slot_key, bytes }: NextSlot) -> Self {
        Self { keys, slot_key, bytes }
    }
}

impl Vault {
    /// Opens the vault again after a failed write, without asking for what unlocks it. Until there is room
    /// again nothing changes: what was read before can still be read.
    ///
    /// # Errors
    /// As [`Vault::open`]. If the store was closed already, nothing can be read either until this has
    /// worked.
    pub fn reopen(&mut self) -> Result<(), VaultError> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        // While the store is open, what it has in memory can be read: it is not closed in vain.
        folder.try_room()?;
        let progress = self.progress.get_mut().unwrap_or_else(PoisonError::into_inner);
        let slots = held_slots(progress, &folder)?;
        self.rows.close();
        let opened = DiskRows::open(&folder.store()).and_then(|rows| {
            let file = HeadFile::open(&folder.head())?;
            let files = Arc::<Folder>::clone(&folder);
            Self::open_rows(Box::new(rows), slots, files, Some(folder), Some(file))
        });
        match opened {
            Ok(vault) => {
                *self = vault;
                Ok(())
            }
            Err(error) => {
                progress.halted = Some(error.again());
                Err(error)
            }
        }
    }
}

/// The slots that lie in the folder, opened with what is in memory.
fn held_slots(progress: &Progress, folder: &Folder) -> Result<Slots, VaultError> {
    let bytes = sound(folder)?.ok_or(VaultError::Damaged { what: "key slot" })?;
    match progress.next.clone() {
        Some(next) if next.bytes == bytes => Ok(Slots::held(next.into(), None)),
        next => {
            let there = folder.read(KeyFile::New)?;
            let next = next.filter(|next| there.as_ref() == Some(&next.bytes));
            let slot = OpenSlot { keys: progress.keys.clone(), slot_key: progress.slot_key.clone(), bytes };
            Ok(Slots::held(slot, next.map(OpenSlot::from)))
        }
    }
}
