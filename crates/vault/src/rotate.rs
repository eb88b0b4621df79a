//! Erasure: new keys for what remains, so that what is gone cannot be read in the store's old bytes.
//!
//! sled keeps what was overwritten until it uses the segment again. So every row that must be
//! erasable is sealed under the state key, lines and their postings under keys that are themselves
//! such rows, and the state key lies outside of sled. Once it has been replaced, nobody can open
//! what was removed before, whoever gets the folder and the passphrase.

use std::ops::ControlFlow;
use std::sync::PoisonError;

use crate::draft::Draft;
use crate::error::VaultError;
use crate::folder::remove_if_there;
use crate::key_files::KeyFile;
use crate::key_slot::{Argon2Cost, KeySlot, SlotKey};
use crate::keyring::{OsKeyring, SecretStore};
use crate::reopen::NextSlot;
use crate::rows::{Direction, KeyRange};
use crate::seal::SealingKey;
use crate::snapshot::{self, SnapshotWriter};
use crate::sum::Sums;
use crate::table::{BucketNumber, RowKey, Table};
use crate::unlock::Unlock;
use crate::vault::{Progress, ROWS_MISSING, Vault};

/// So many lines are moved in one commit: others can commit in between.
const LINES_AT_ONCE: usize = 256;

impl Vault {
    /// Replaces the state key, and the keys of all buckets that lost a line. When this returns,
    /// nothing that was removed or overwritten before can be read by whoever gets the folder and
    /// what unlocks it; a copy of the folder made before stays as readable as it was. The snapshot
    /// is replaced too, for nothing in it opens any more. Takes as long as it takes to read everything
    /// twice, and to write all rooms' states, the lines of the buckets and the snapshot.
    ///
    /// # Errors
    /// As [`Vault::verify`]: with [`VaultError::Damaged`] nothing was done, so that a repair has the
    /// snapshot. As [`Vault::commit`]: with [`VaultError::DiskFull`] the old keys are still in force,
    /// and nothing is lost.
    pub fn rotate(&self, now: u64) -> Result<(), VaultError> {
        self.verify()?;
        self.empty_stale_buckets()?;
        self.replace_state_key(None, now)?;
        self.replace_snapshot()
    }

    /// When [`Vault::rotate`] was last done, in milliseconds since 1970; 0 for never.
    ///
    /// # Errors
    /// [`VaultError::Halted`].
    pub fn rotated_at(&self) -> Result<u64, VaultError> {
        Ok(self.progress()?.head.rotated_at)
    }

    /// Lets the vault be opened by something else from now on, and rotates its keys, so that what is
    /// written from now on cannot be read with the old passphrase and an old copy of the key slot.
    ///
    /// # Errors
    /// What [`Vault::open`] answers to a wrong `current`; the keyring's; as [`Vault::rotate`].
    pub fn change_unlock(&self, current: &Unlock, next: &Unlock, now: u64) -> Result<(), VaultError> {
        self.change_unlock_with(current, next, Argon2Cost::of_new_slots(), &OsKeyring, now)
    }

    pub(crate) fn change_unlock_with(
        &self,
        current: &Unlock,
        next: &Unlock,
        cost: Argon2Cost,
        keyring: &dyn SecretStore,
        now: u64,
    ) -> Result<(), VaultError> {
        let slot = self.files.read(KeyFile::Slot)?.ok_or(VaultError::Damaged { what: "key slot" })?;
        let (_, old) = KeySlot::parse(&slot)?.open(current, keyring)?;
        self.verify()?;
        self.empty_stale_buckets()?;
        let new = SlotKey::new(next, cost, keyring)?;
        self.replace_state_key(Some(new), now)?;
        old.forget(keyring);
        self.replace_snapshot()
    }

    /// Whether a snapshot is worth its cost: there is none that opens, or as many commits were made since
    /// as before it. So the first messages are in one soon, and all of them together cost no more than some
    /// reading of everything.
    ///
    /// # Errors
    /// [`Vault::fault`], if there is one.
    pub fn snapshot_is_due(&self) -> Result<bool, VaultError> {
        let progress = self.progress()?;
        let due = |held: u64| progress.head.commits >= held.saturating_mul(2).max(1);
        Ok(self.folder.is_some() && progress.snapshot.is_none_or(due))
    }

    /// Writes a snapshot: all rows into one file, after checking that none is missing or outdated.
    /// Commits wait for it.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] if rows are missing: the earlier snapshot is kept then, and also
    /// when the disk would be full, for the store needs room more.
    pub fn snapshot(&self) -> Result<(), VaultError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let mut progress = self.progress()?;
        let path = folder.new_snapshot();
        let written = self.write_snapshot(&path, &progress.head.sums);
        if written.is_err() {
            remove_if_there(std::fs::remove_file(&path))?;
        }
        written?;
        folder.rename(&path, &folder.snapshot())?;
        progress.snapshot = Some(progress.head.commits);
        Ok(())
    }

    /// Writes a snapshot in the place of one that opens no more. Where there is no room beside it, the old
    /// one goes first. If there is still none, it stays due: the keys are changed all the same.
    fn replace_snapshot(&self) -> Result<(), VaultError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut written = self.snapshot();
        if written.is_err() {
            remove_if_there(std::fs::remove_file(folder.snapshot()))?;
        }
        if matches!(written, Err(VaultError::DiskFull)) {
            written = self.snapshot();
        }
        if let Err(error) = written {
            tracing::warn!(%error, "no snapshot was written after the change of keys");
        }
        Ok(())
    }

    fn write_snapshot(&self, path: &std::path::Path, expected: &Sums) -> Result<(), VaultError> {
        let mut writer = SnapshotWriter::create(path)?;
        let mut sums = Sums::EMPTY;
        self.rows.scan_sealed(&KeyRange::everything(), Direction::Up, &mut |key, value| {
            sums.toggle(&self.rows.index, key, value);
            writer.row(key, value)?;
            Ok(ControlFlow::Continue(()))
        })?;
        if sums != *expected {
            return Err(ROWS_MISSING);
        }
        writer.finish()?;
        snapshot::check(path)
    }

    /// Moves the lines of buckets whose keys open more than these into buckets of their own.
    fn empty_stale_buckets(&self) -> Result<(), VaultError> {
        let stale = self.directory().stale_buckets();
        for bucket in stale {
            self.change(|draft| draft.retire(bucket))?;
            let lines = self.lines_in(bucket)?;
            for some in lines.chunks(LINES_AT_ONCE) {
                self.change(|draft| some.iter().try_for_each(|seq| draft.move_line(bucket, *seq)))?;
            }
            self.change(|draft| draft.remove_bucket(bucket))?;
        }
        Ok(())
    }

    /// The places of the lines that a bucket's key seals.
    fn lines_in(&self, bucket: BucketNumber) -> Result<Vec<u64>, VaultError> {
        let Some(room) = self.directory().bucket(bucket).map(|bucket| bucket.room) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let lines = KeyRange::prefix(RowKey::numbered(Table::History, room).as_bytes());
        self.rows.scan_sealed(&lines, Direction::Up, &mut |key, value| {
            let row = RowKey::found(Table::History, key);
            if self.rows.sealed_by(&row, value)? == bucket {
                let place = key.last_chunk::<8>().ok_or(VaultError::Damaged { what: "history" })?;
                found.push(u64::from_be_bytes(*place));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// First the new slot is made durable beside the old one, then the rows under its key, and then
    /// it takes the old one's place: whenever this is cut short, one of the two fits the rows.
    fn replace_state_key(&self, slot_key: Option<SlotKey>, now: u64) -> Result<(), VaultError> {
        let mut progress = self.progress()?;
        let keys = progress.keys.next()?;
        let slot_key = slot_key.unwrap_or_else(|| progress.slot_key.clone());
        let slot = slot_key.seal(&keys)?;
        if let Err(error) = self.files.write(KeyFile::New, &slot) {
            // What may be there in part fits nothing, and is removed at the next opening if not now.
            drop(self.files.remove_new());
            return Err(error);
        }
        progress.halted = Some(VaultError::Halted);
        let next = NextSlot { keys, slot_key, bytes: slot };
        progress.next = Some(next.clone());
        let replaced = self.reseal(&mut progress, next, now);
        progress.halted = replaced.as_ref().err().map(VaultError::again);
        if replaced.is_ok() {
            progress.snapshot = None;
        }
        replaced
    }

    fn reseal(&self, progress: &mut Progress, next: NextSlot, now: u64) -> Result<(), VaultError> {
        let NextSlot { keys, slot_key, bytes } = next;
        let mut head = progress.head;
        head.state_generation = keys.state_generation;
        head.rotated_at = now;
        {
            let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
            let state = SealingKey::new(&keys.state, keys.state_generation);
            let mut draft = Draft::new(&self.rows, &mut directory);
            draft.reseal(&state)?;
            self.rows.apply(draft.finish(&mut head)?)?;
            directory.replace_state(state);
        }
        self.rows.sync()?;
        self.files.put_in_place()?;
        if let Some(file) = &progress.file {
            file.write(head.commits)?;
        }
        progress.head = head;
        progress.keys = keys;
        progress.slot_key = slot_key;
        progress.next = None;
        // Until the copy is replaced too, the old key is there. If it is not, the next opening does it.
        self.files.write(KeyFile::Copy, &bytes)
    }
}
