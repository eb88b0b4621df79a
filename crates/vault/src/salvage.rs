//! Putting a damaged vault together again from what can still be read of its store and of its
//! snapshot.
//!
//! Every row bears a tag of its own, so what opens is right, though perhaps not the newest. What
//! follows from that is the client's to decide: [`Vault::repair`](crate::Vault::repair) tells it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use mildam_records::{AccountId, Canonical, ClientMessageId, Hash, ReceiptKind, RoomId};

use crate::changes::Changes;
use crate::directory::{Bucket, Directory};
use crate::error::VaultError;
use crate::fields::Fields;
use crate::folder::{Folder, remove_if_there};
use crate::head::{FORMAT, HeadFile, HeadRow};
use crate::key_files::{KeyFiles, MemoryFiles};
use crate::key_slot::{SlotKey, VaultKeys};
use crate::keyring::{OsKeyring, SecretStore};
use crate::open::{Slots, empty, read_head};
use crate::row::{HistoryRow, OutboxRow, ReceiptRow, RoomRow, Secret, Slot};
use crate::rows::{Direction, DiskRows, KeyRange, Rows};
use crate::sealed_rows::SealedRows;
use crate::snapshot::SnapshotRows;
use crate::sum::state_ranges;
use crate::table::{RoomNumber, RowKey, Table};
use crate::unlock::Unlock;
use crate::vault::{Vault, decode_account};

/// So many lines, or log hashes, go into one commit.
const ROWS_AT_ONCE: usize = 500;

/// What a repair came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Whether the account is there again, with the keys of its device.
    pub account: bool,
    /// Rooms that are there again.
    pub rooms: u64,
    /// Lines of conversations that are there again.
    pub messages: u64,
    /// Rows that were found and could not be opened. Rows that were not even found are not in it.
    pub unreadable: u64,
}

impl Repair {
    fn encode(self) -> Vec<u8> {
        let element = Canonical::element().integer(u64::from(self.account)).integer(self.rooms);
        element.integer(self.messages).integer(self.unreadable).into_bytes()
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(row);
        let repair = Self {
            account: fields.integer()? != 0,
            rooms: fields.integer()?,
            messages: fields.integer()?,
            unreadable: fields.integer()?,
        };
        fields.end()?;
        Some(repair)
    }
}

impl Vault {
    /// Puts a damaged vault together again and opens it. What can be read of the store is taken,
    /// and what cannot from the snapshot; the damaged store is kept beside it until
    /// [`Vault::discard_damaged`]. Works on a sound vault too: its store is written anew, as small as it can
    /// be.
    ///
    /// Rows may be older than what the device has done since, so [`Vault::repair`] answers until
    /// [`Slot::Repair`] is emptied, and nothing may be sent under keys of the vault before.
    ///
    /// # Errors
    /// As [`Vault::open`]; [`VaultError::Damaged`] if no key slot or nothing at all can be read. A store that
    /// cannot be read for another reason than damage, as on a full disk, is left alone.
    pub fn recover(dir: &Path, unlock: &Unlock) -> Result<Self, VaultError> {
        Self::recover_with(dir, unlock, &OsKeyring)
    }

    /// Removes the stores that repairs have replaced. They are kept until somebody wants this: what a repair
    /// did not find, another program may.
    ///
    /// # Errors
    /// [`VaultError::Io`]
    pub fn discard_damaged(&self) -> Result<(), VaultError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for store in folder.damaged_stores()? {
            remove_if_there(fs::remove_dir_all(store))?;
        }
        Ok(())
    }

    /// How the vault was put together, until the client has seen to it and emptied
    /// [`Slot::Repair`].
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn repair(&self) -> Result<Option<Repair>, VaultError> {
        Ok(self.get(Slot::Repair)?.and_then(|row| Repair::decode(&row)))
    }

    pub(crate) fn recover_with(
        dir: &Path,
        unlock: &Unlock,
        keyring: &dyn SecretStore,
    ) -> Result<Self, VaultError> {
        let folder = Arc::new(Folder::lock(dir)?);
        let store = folder.store();
        // A recovery that was cut short after the first of its two renames.
        if !store.exists()
            && let Some(damaged) = folder.damaged_stores()?.pop()
        {
            folder.rename(&damaged, &store)?;
        }
        let slots = Slots::read(&*folder, unlock, keyring)?;
        let live = match store.exists().then(|| DiskRows::open(&store)) {
            None => None,
            Some(Ok(rows)) => Some(Box::new(rows) as Box<dyn Rows>),
            Some(Err(error @ VaultError::Damaged { .. })) => {
                tracing::warn!(%error, "nothing of the store can be read");
                None
            }
            Some(Err(error)) => return Err(error),
        };
        let snapshot = match SnapshotRows::open(&folder.snapshot()) {
            Ok(rows) => rows.map(|rows| Box::new(rows) as Box<dyn Rows>),
            Err(error) => {
                tracing::warn!(%error, "nothing of the snapshot can be read");
                None
            }
        };
        let (slot, sources) = Source::read_all(slots, [live, snapshot], &*folder)?;
        let new_store = folder.new_store();
        remove_if_there(fs::remove_dir_all(&new_store))?;
        let repair = write_anew(&new_store, &slot.0, &slot.1, &sources)?;
        tracing::warn!(repair.messages, repair.unreadable, "the vault was put together again");
        // The old store is closed before it is moved.
        drop(sources);
        if store.exists() {
            folder.rename(&store, &folder.next_damaged_store()?)?;
        }
        // It promises more commits than the new store has made.
        remove_if_there(fs::remove_file(folder.head()))?;
        folder.rename(&new_store, &store)?;
        let rows = SealedRows::new(Box::new(DiskRows::open(&store)?), &slot.0);
        let file = HeadFile::open(&folder.head())?;
        let vault = Self::load(rows, slot, Arc::<Folder>::clone(&folder), Some(folder), Some(file))?;
        if let Err(error) = vault.snapshot() {
            // The next one is tried within a day.
            tracing::warn!(%error, "no snapshot was written after the repair");
        }
        Ok(vault)
    }
}

/// Writes what the sources hold into a new store under the same keys.
fn write_anew(
    store: &Path,
    keys: &VaultKeys,
    slot_key: &SlotKey,
    sources: &[Source],
) -> Result<Repair, VaultError> {
    let rows = SealedRows::new(Box::new(DiskRows::open(store)?), keys);
    Vault::begin(&rows, keys)?;
    let files = Arc::new(MemoryFiles::default());
    let vault = Vault::load(rows, (keys.clone(), slot_key.clone()), files, None, None)?;
    let mut repair = Repair::default();
    for room in rooms_of(sources) {
        repair.messages = repair.messages.saturating_add(write_room(&vault, sources, &room)?);
        repair.rooms = repair.rooms.saturating_add(u64::from(vault.room(&room)?.is_some()));
    }
    let mut changes = Changes::new();
    write_rest(&vault, sources, &mut changes)?;
    let found = |slot| sources.iter().any(|source| source.slot(slot).is_some());
    repair.account = found(Slot::Account) && found(Slot::Device);
    repair.unreadable = sources.iter().map(|source| source.unreadable.get()).sum();
    changes.put(Slot::Repair, repair.encode());
    vault.commit(changes)?;
    Ok(repair)
}

/// All rooms that any source knows, in the order of their numbers in the first that knows them.
fn rooms_of(sources: &[Source]) -> Vec<RoomId> {
    let mut known = BTreeSet::new();
    let all = sources.iter().flat_map(|source| source.rooms.values());
    all.filter(|room| known.insert(**room)).copied().collect()
}

/// Writes a room's state and everything under it; the number of its lines.
fn write_room(vault: &Vault, sources: &[Source], room: &RoomId) -> Result<u64, VaultError> {
    let mut changes = Changes::new();
    if let Some(row) = sources.iter().find_map(|source| source.room(room)) {
        changes.put_room(room, row);
    }
    let mut receipts: BTreeMap<(AccountId, u8), (ReceiptKind, u64)> = BTreeMap::new();
    for receipt in sources.iter().flat_map(|source| source.receipts(room)) {
        let place = (receipt.account, ReceiptRow::kind_code(receipt.kind));
        let held = receipts.entry(place).or_insert((receipt.kind, receipt.seq));
        held.1 = held.1.max(receipt.seq);
    }
    for ((account, _), (kind, seq)) in receipts {
        changes.put_receipt(room, &account, kind, seq);
    }
    vault.commit(changes)?;
    // A better source goes first. What it has is not taken from the next one as well.
    let mut count: u64 = 0;
    for source in sources {
        let mut hashes = Together::new(vault);
        source.each_log_hash(room, &mut |seq, hash| {
            if vault.log_hash(room, seq)?.is_some() {
                return Ok(());
            }
            hashes.put(seq, |changes| changes.put_log_hash(room, seq, hash))
        })?;
        hashes.commit()?;
        let mut lines = Together::new(vault);
        source.each_line(room, &mut |line| {
            let seq = line.seq;
            if lines.holds(seq) || vault.has_message(room, seq)? {
                return Ok(());
            }
            count = count.saturating_add(1);
            lines.put(seq, |changes| changes.put_message(room, line))
        })?;
        lines.commit()?;
    }
    Ok(count)
}

/// Rows of a room that are written together, so that there are never many in memory.
struct Together<'a> {
    vault: &'a Vault,
    changes: Changes,
    places: BTreeSet<u64>,
}

impl<'a> Together<'a> {
    fn new(vault: &'a Vault) -> Self {
        Self { vault, changes: Changes::new(), places: BTreeSet::new() }
    }

    fn holds(&self, seq: u64) -> bool {
        self.places.contains(&seq)
    }

    fn put(&mut self, seq: u64, put: impl FnOnce(&mut Changes)) -> Result<(), VaultError> {
        put(&mut self.changes);
        self.places.insert(seq);
        if self.places.len() >= ROWS_AT_ONCE { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), VaultError> {
        self.places.clear();
        self.vault.commit(std::mem::take(&mut self.changes))
    }
}

/// Slots, accounts and what waits to be sent.
fn write_rest(vault: &Vault, sources: &[Source], changes: &mut Changes) -> Result<(), VaultError> {
    let mut accounts: BTreeMap<AccountId, Secret> = BTreeMap::new();
    let mut outbox: BTreeMap<(RoomId, ClientMessageId), OutboxRow> = BTreeMap::new();
    for slot in Slot::KEPT {
        if let Some(bytes) = sources.iter().find_map(|source| source.slot(slot)) {
            changes.put(slot, bytes.to_vec());
        }
    }
    for source in sources {
        for (account, bytes) in source.accounts() {
            accounts.entry(account).or_insert(bytes);
        }
        for row in source.outbox() {
            outbox.entry((row.room, row.id)).or_insert(row);
        }
    }
    for (account, bytes) in accounts {
        changes.put_account(&account, bytes.to_vec());
    }
    let mut waiting: Vec<OutboxRow> = outbox.into_values().collect();
    waiting.sort_by_key(|row| row.order);
    for row in waiting {
        // What the snapshot had waiting may have been sent since.
        if vault.message_by_id(&row.room, &row.id)?.is_none() {
            changes.put_outbox(row);
        }
    }
    Ok(())
}

/// Rows that may be damaged, missing or outdated. Reading passes over what does not open.
struct Source {
    rows: SealedRows,
    directory: Directory,
    /// The rooms by their numbers here.
    rooms: BTreeMap<RoomNumber, RoomId>,
    unreadable: Cell<u64>,
    /// Whether it is asked for lines only, and for what belongs to them.
    lines_only: bool,
}

impl Source {
    /// The store and the snapshot, the better one first, and the keys that open them.
    ///
    /// A store whose state is whole and that has not gone back is taken before the snapshot, and the
    /// snapshot is asked for lines only: what was removed since must not come back. Otherwise the
    /// snapshot goes first: its rows are older, but belong together.
    fn read_all(
        slots: Slots,
        [live, snapshot]: [Option<Box<dyn Rows>>; 2],
        files: &dyn KeyFiles,
    ) -> Result<((VaultKeys, SlotKey), Vec<Self>), VaultError> {
        let keys = slots.any()?.clone();
        let sealed = |rows: Option<Box<dyn Rows>>| {
            let rows = SealedRows::new(rows?, &keys);
            let head = read_head(&rows, &keys).ok();
            Some((rows, head))
        };
        let (live, snapshot) = (sealed(live), sealed(snapshot));
        let head =
            |source: &Option<(SealedRows, Option<HeadRow>)>| source.as_ref().and_then(|(_, head)| *head);
        let (live_head, snapshot_head) = (head(&live), head(&snapshot));
        let newest = live_head.into_iter().chain(snapshot_head).max_by_key(|head| head.commits);
        // With no head at all, there is nothing to say which of two slots is in force.
        let generation = newest.map_or(keys.state_generation, |head| head.state_generation);
        let slot = slots.settle(generation, files)?;
        let whole = live.as_ref().is_some_and(|(rows, head)| {
            let found = rows.sums_of(state_ranges());
            matches!((head, found), (Some(head), Ok(found)) if head.sums.state == found.state
                && snapshot_head.is_none_or(|snapshot| snapshot.commits <= head.commits))
        });
        let source = |(rows, head): (SealedRows, Option<HeadRow>), lines_only| {
            Self::new(rows, head.map_or(FORMAT, |head| head.format), &slot.keys, lines_only)
        };
        let (live, snapshot) =
            (live.map(|found| source(found, false)), snapshot.map(|found| source(found, whole)));
        let sources: Vec<Self> =
            if whole { [live, snapshot] } else { [snapshot, live] }.into_iter().flatten().collect();
        if sources.iter().all(Self::is_empty) {
            return Err(VaultError::Damaged { what: "store" });
        }
        Ok(((slot.keys, slot.slot_key), sources))
    }
}

impl Source {
    fn new(rows: SealedRows, format: u64, keys: &VaultKeys, lines_only: bool) -> Self {
        let mut source = Self {
            rows,
            directory: empty(keys),
            rooms: BTreeMap::new(),
            unreadable: Cell::new(0),
            lines_only,
        };
        for (number, room) in source.all(&RowKey::new(Table::RoomName), |key, row| {
            Some((RowKey::last_number(key)?, RoomId::from_slice(row)?))
        }) {
            source.rooms.insert(number, room);
        }
        for (number, bucket) in source.all(&RowKey::new(Table::Bucket), |key, row| {
            Some((RowKey::last_number(key)?, Bucket::decode(row, format)?))
        }) {
            source.directory.put_bucket(number, bucket);
        }
        source
    }

    fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.slot(Slot::Account).is_none() && self.slot(Slot::Server).is_none()
    }

    fn slot(&self, slot: Slot) -> Option<Secret> {
        self.state(&RowKey::slot(slot as u8))
    }

    fn accounts(&self) -> Vec<(AccountId, Secret)> {
        self.all_state(Table::Account, |_, row| decode_account(row))
    }

    fn outbox(&self) -> Vec<OutboxRow> {
        self.all_state(Table::Outbox, |_, row| OutboxRow::decode(row))
    }

    /// A room whose state and meta can both be read.
    fn room(&self, room: &RoomId) -> Option<RoomRow> {
        self.numbers(room).find_map(|number| {
            let meta = self.state(&RowKey::numbered(Table::RoomMeta, number))?;
            let state = self.state(&RowKey::numbered(Table::RoomState, number))?;
            Some(RoomRow { state, meta: meta.to_vec() })
        })
    }

    fn each_log_hash(
        &self,
        room: &RoomId,
        take: &mut dyn FnMut(u64, Hash) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        self.each_of(
            room,
            Table::LogHash,
            |key, row| Some((u64::from_be_bytes(*key.last_chunk()?), Hash::from_slice(row)?)),
            &mut |(seq, hash)| take(seq, hash),
        )
    }

    fn receipts(&self, room: &RoomId) -> Vec<ReceiptRow> {
        self.numbers(room)
            .flat_map(|number| {
                self.all(&RowKey::numbered(Table::Receipt, number), |_, row| ReceiptRow::decode(row))
            })
            .collect()
    }

    fn each_line(
        &self,
        room: &RoomId,
        take: &mut dyn FnMut(HistoryRow) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        self.each_of(room, Table::History, |_, row| HistoryRow::decode(row), take)
    }

    fn numbers(&self, room: &RoomId) -> impl Iterator<Item = RoomNumber> {
        self.rooms.iter().filter(move |(_, known)| *known == room).map(|(number, _)| *number)
    }

    fn state(&self, key: &RowKey) -> Option<Secret> {
        if self.lines_only {
            return None;
        }
        self.rows.get(key, &self.directory).ok().flatten()
    }

    fn all_state<T>(&self, table: Table, decode: impl Fn(&[u8], &[u8]) -> Option<T>) -> Vec<T> {
        if self.lines_only { Vec::new() } else { self.all(&RowKey::new(table), decode) }
    }

    fn each_of<T>(
        &self,
        room: &RoomId,
        table: Table,
        decode: impl Fn(&[u8], &[u8]) -> Option<T>,
        take: &mut dyn FnMut(T) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let numbers: Vec<RoomNumber> = self.numbers(room).collect();
        numbers.into_iter().try_for_each(|number| self.each(&RowKey::numbered(table, number), &decode, take))
    }

    fn all<T>(&self, prefix: &RowKey, decode: impl Fn(&[u8], &[u8]) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        // Putting a row into memory cannot fail.
        drop(self.each(prefix, &decode, &mut |row| {
            found.push(row);
            Ok(())
        }));
        found
    }

    /// All rows that open. Where a scan breaks down half-way, another comes from the other end, so a
    /// row may be given twice.
    ///
    /// # Errors
    /// What `take` answers, never what reading does.
    fn each<T>(
        &self,
        prefix: &RowKey,
        decode: &impl Fn(&[u8], &[u8]) -> Option<T>,
        take: &mut dyn FnMut(T) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let range = KeyRange::prefix(prefix.as_bytes());
        for direction in [Direction::Up, Direction::Down] {
            let mut taken = Ok(());
            let scanned = self.rows.scan_sealed(&range, direction, &mut |key, value| {
                let opened = self.rows.open(&RowKey::found(prefix.table(), key), value, &self.directory);
                match opened.ok().and_then(|row| decode(key, &row)) {
                    Some(row) => taken = take(row),
                    None => self.unreadable.set(self.unreadable.get().saturating_add(1)),
                }
                Ok(if taken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            });
            taken?;
            if scanned.is_ok() {
                break;
            }
        }
        Ok(())
    }
}
