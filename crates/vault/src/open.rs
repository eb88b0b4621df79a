//! Opening a vault and making one.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use mildam_records::RoomId;

use crate::directory::{Bucket, Directory};
use crate::error::VaultError;
use crate::folder::{Folder, remove_if_there};
use crate::head::{HeadFile, HeadRow};
use crate::key_files::{KeyFile, KeyFiles};
use crate::key_slot::{Argon2Cost, KeySlot, SlotKey, VaultKeys};
use crate::keyring::SecretStore;
use crate::migrate::migrate;
use crate::row::OutboxRow;
use crate::rows::{Batch, DiskRows, Rows};
use crate::seal::SealingKey;
use crate::sealed_rows::SealedRows;
use crate::snapshot;
use crate::sum::state_ranges;
use crate::table::{RowKey, Table};
use crate::unlock::Unlock;
use crate::vault::{Progress, ROWS_MISSING, Vault};

const NO_SLOT: VaultError = VaultError::Damaged { what: "key slot" };

impl Vault {
    pub(crate) fn open_with(
        dir: &Path,
        unlock: &Unlock,
        cost: Argon2Cost,
        keyring: &dyn SecretStore,
    ) -> Result<Self, VaultError> {
        let folder = Arc::new(Folder::lock(dir)?);
        if !Self::exists(dir) {
            Self::create(&folder, &SlotKey::new(unlock, cost, keyring)?)?;
        }
        let slots = Slots::read(&*folder, unlock, keyring)?;
        // The store would make itself anew, and what was lost would look like what never was.
        if !folder.store().exists() {
            return Err(VaultError::Damaged { what: "store" });
        }
        let rows = Box::new(DiskRows::open(&folder.store())?);
        let file = HeadFile::open(&folder.head())?;
        Self::open_rows(rows, slots, Arc::<Folder>::clone(&folder), Some(folder), Some(file))
    }

    /// Opens the rows with the slot that is in force.
    pub(crate) fn open_rows(
        rows: Box<dyn Rows>,
        slots: Slots,
        files: Arc<dyn KeyFiles>,
        folder: Option<Arc<Folder>>,
        file: Option<HeadFile>,
    ) -> Result<Self, VaultError> {
        // The vault key is the same in both slots, and all that the head needs.
        let rows = SealedRows::new(rows, slots.any()?);
        let generation = read_head(&rows, slots.any()?)?.state_generation;
        let slot = slots.settle(generation, &*files)?;
        Self::load(rows, (slot.keys, slot.slot_key), files, folder, file)
    }

    /// Makes a new vault. The key slot takes its place last: until then there is no vault, and
    /// what an interrupted creation left behind is thrown away by the next.
    fn create(folder: &Folder, slot_key: &SlotKey) -> Result<(), VaultError> {
        if folder.store().exists() && folder.read(KeyFile::New)?.is_none() {
            // Rows, but no keys and no creation under way: somebody lost the slot and may yet
            // find it again.
            return Err(NO_SLOT);
        }
        let keys = VaultKeys::generate()?;
        folder.write(KeyFile::New, &slot_key.seal(&keys)?)?;
        remove_if_there(fs::remove_dir_all(folder.store()))?;
        remove_if_there(fs::remove_file(folder.head()))?;
        Self::begin(&SealedRows::new(Box::new(DiskRows::open(&folder.store())?), &keys), &keys)?;
        folder.put_in_place()
    }

    /// Writes the one row that every vault has.
    pub(crate) fn begin(rows: &SealedRows, keys: &VaultKeys) -> Result<(), VaultError> {
        let mut batch = Batch::new();
        let head = HeadRow::empty(keys.state_generation).encode();
        rows.put(&mut batch, &RowKey::new(Table::Head), 0, &empty(keys), &head)?;
        rows.apply(batch)?;
        rows.sync()
    }

    pub(crate) fn load(
        rows: SealedRows,
        (keys, slot_key): (VaultKeys, SlotKey),
        files: Arc<dyn KeyFiles>,
        folder: Option<Arc<Folder>>,
        file: Option<HeadFile>,
    ) -> Result<Self, VaultError> {
        let mut head = read_head(&rows, &keys)?;
        let promised = match &file {
            Some(file) => file.read()?,
            None => None,
        };
        if promised.is_some_and(|promised| promised > head.commits) {
            return Err(VaultError::Damaged { what: "store: its last changes are missing" });
        }
        if rows.sums_of(state_ranges())?.state != head.sums.state {
            return Err(ROWS_MISSING);
        }
        let mut directory = empty(&keys);
        let names = rows.collect(&RowKey::new(Table::RoomName), &directory, |key, row| {
            Some((RowKey::last_number(key)?, RoomId::from_slice(row)?))
        })?;
        let buckets = rows.collect(&RowKey::new(Table::Bucket), &directory, |key, row| {
            Some((RowKey::last_number(key)?, Bucket::decode(row, head.format)?))
        })?;
        let outbox =
            rows.collect(&RowKey::new(Table::Outbox), &directory, |_, row| OutboxRow::decode(row))?;
        for (number, room) in names {
            directory.add_room(number, room);
        }
        for (number, bucket) in buckets {
            directory.put_bucket(number, bucket);
        }
        for row in outbox {
            directory.add_order(row.room, row.id, row.order);
        }
        migrate(&rows, &mut directory, &mut head)?;
        let snapshot = folder.as_ref().and_then(|folder| snapshot::commits(&folder.snapshot(), &keys));
        let progress = Progress { head, halted: None, file, keys, slot_key, next: None, snapshot };
        Ok(Self { rows, directory: RwLock::new(directory), progress: Mutex::new(progress), files, folder })
    }
}

/// A directory that knows the state key only.
pub(crate) fn empty(keys: &VaultKeys) -> Directory {
    Directory::new(SealingKey::new(&keys.state, keys.state_generation))
}

pub(crate) fn read_head(rows: &SealedRows, keys: &VaultKeys) -> Result<HeadRow, VaultError> {
    match rows.get(&RowKey::new(Table::Head), &empty(keys))? {
        Some(row) => HeadRow::decode(&row),
        None => Err(VaultError::Damaged { what: "store" }),
    }
}

/// A slot that was opened.
pub(crate) struct OpenSlot {
    pub(crate) keys: VaultKeys,
    pub(crate) slot_key: SlotKey,
    pub(crate) bytes: Vec<u8>,
}

/// The slots that lie beside the store. After a rotation that was interrupted there are two, and
/// the head row says by its generation which of them is in force.
pub(crate) struct Slots {
    slot: Result<OpenSlot, VaultError>,
    new: Option<Result<OpenSlot, VaultError>>,
}

impl Slots {
    /// Slots that this process has opened before.
    pub(crate) fn held(slot: OpenSlot, new: Option<OpenSlot>) -> Self {
        Self { slot: Ok(slot), new: new.map(Ok) }
    }

    /// Opens what can be opened.
    ///
    /// # Errors
    /// Why the only slot does not open.
    pub(crate) fn read(
        files: &dyn KeyFiles,
        unlock: &Unlock,
        keyring: &dyn SecretStore,
    ) -> Result<Self, VaultError> {
        let open = |bytes: Vec<u8>| {
            let (keys, slot_key) = KeySlot::parse(&bytes)?.open(unlock, keyring)?;
            Ok(OpenSlot { keys, slot_key, bytes })
        };
        let slot = sound(files)?.ok_or(NO_SLOT).and_then(open);
        let new = files.read(KeyFile::New)?.map(open);
        match (slot, &new) {
            (Err(error), None | Some(Err(_))) => Err(error),
            (slot, _) => Ok(Self { slot, new }),
        }
    }

    /// The keys of a slot that opened.
    pub(crate) fn any(&self) -> Result<&VaultKeys, VaultError> {
        let opened = self.slot.as_ref().ok().or_else(|| self.new.as_ref()?.as_ref().ok());
        opened.map(|slot| &slot.keys).ok_or(NO_SLOT)
    }

    /// The slot that is in force; then it alone is there.
    ///
    /// # Errors
    /// Why it does not open, though the other one does: the passphrase was changed.
    pub(crate) fn settle(self, generation: u64, files: &dyn KeyFiles) -> Result<OpenSlot, VaultError> {
        let fits = |slot: &OpenSlot| slot.keys.state_generation == generation;
        match (self.slot, self.new) {
            (Ok(slot), new) if fits(&slot) => {
                if new.is_some() {
                    files.remove_new()?;
                }
                slot.keep(files)
            }
            (_, Some(Ok(new))) if fits(&new) => {
                files.put_in_place()?;
                new.keep(files)
            }
            (Ok(_), Some(Err(error))) if !matches!(error, VaultError::Damaged { .. }) => {
                files.put_in_place()?;
                Err(error)
            }
            (Err(error), Some(Ok(_))) => {
                files.remove_new()?;
                Err(error)
            }
            _ => Err(NO_SLOT),
        }
    }
}

impl OpenSlot {
    /// Sees to it that the slot in force and its copy are this one: an older state key must not
    /// live on.
    fn keep(self, files: &dyn KeyFiles) -> Result<Self, VaultError> {
        if files.read(KeyFile::Slot)?.as_ref() != Some(&self.bytes) {
            tracing::warn!("the key slot was damaged, and is written anew from its copy");
            files.write(KeyFile::New, &self.bytes)?;
            files.put_in_place()?;
        }
        if files.read(KeyFile::Copy)?.as_ref() != Some(&self.bytes) {
            files.write(KeyFile::Copy, &self.bytes)?;
        }
        Ok(self)
    }
}

/// The slot in force, or its copy if it was damaged or lost.
pub(crate) fn sound(files: &dyn KeyFiles) -> Result<Option<Vec<u8>>, VaultError> {
    let mut first = None;
    for file in [KeyFile::Slot, KeyFile::Copy] {
        let Some(bytes) = files.read(file)? else {
            continue;
        };
        match KeySlot::parse(&bytes) {
            Ok(_) => return Ok(Some(bytes)),
            Err(error @ VaultError::Newer { .. }) => return Err(error),
            Err(_) => drop(first.get_or_insert(bytes)),
        }
    }
    Ok(first)
}
