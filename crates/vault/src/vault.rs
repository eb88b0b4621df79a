//! The vault itself: opening, committing, reading.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use mildam_records::{AccountId, ClientMessageId, Hash, RoomId};

use crate::changes::Changes;
use crate::directory::Directory;
use crate::draft::Draft;
use crate::error::VaultError;
use crate::fields::Fields;
use crate::fold::{Term, matches};
use crate::folder::Folder;
use crate::head::{HeadFile, HeadRow};
use crate::key_files::{KeyFile, KeyFiles, MemoryFiles};
use crate::key_slot::{Argon2Cost, KeySlot, SlotKey, VaultKeys};
use crate::keyring::OsKeyring;
use crate::open::sound;
use crate::postings::{Entry, Fingerprints};
use crate::reopen::NextSlot;
use crate::row::{HistoryRow, Hit, OutboxRow, ReceiptRow, RoomRow, Secret, Slot};
use crate::rows::{Direction, KeyRange, MemoryRows};
use crate::sealed_rows::SealedRows;
use crate::table::{BucketNumber, RoomNumber, RowKey, Table};
use crate::unlock::{Unlock, UnlockKind};

pub(crate) const ROWS_MISSING: VaultError =
    VaultError::Damaged { what: "store: rows are missing or outdated" };

/// An open vault. It may be shared between threads: reads run side by side and see whole commits
/// only, commits run one after another.
///
/// All methods block, commits for as long as the disk takes to sync. An async caller gives them a
/// thread.
pub struct Vault {
    // Fields are dropped in this order: the store closes before the folder is unlocked.
    pub(crate) rows: SealedRows,
    pub(crate) directory: RwLock<Directory>,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) files: Arc<dyn KeyFiles>,
    pub(crate) folder: Option<Arc<Folder>>,
}

/// How far commits have come, and what only they need.
pub(crate) struct Progress {
    pub(crate) head: HeadRow,
    /// Why nothing is written until the vault is opened again.
    pub(crate) halted: Option<VaultError>,
    pub(crate) file: Option<HeadFile>,
    pub(crate) keys: VaultKeys,
    pub(crate) slot_key: SlotKey,
    /// The slot that a rotation was putting in force when it failed.
    pub(crate) next: Option<NextSlot>,
    /// How many commits the snapshot holds; none if there is none that the keys open.
    pub(crate) snapshot: Option<u64>,
}

impl Vault {
    /// Opens the vault in a folder, or makes one if there is none.
    ///
    /// # Errors
    /// [`VaultError::Locked`] if somebody else has it open; [`VaultError::WrongPassphrase`],
    /// [`VaultError::PassphraseNeeded`], [`VaultError::KeyringNeeded`],
    /// [`VaultError::KeyringUnavailable`] or [`VaultError::KeyringEntryMissing`] if `unlock` does
    /// not open it; [`VaultError::Damaged`] and [`VaultError::Newer`] for what is on disk;
    /// [`VaultError::DiskFull`] and [`VaultError::Io`] for the disk itself.
    pub fn open(dir: &Path, unlock: Unlock) -> Result<Self, VaultError> {
        Self::open_with(dir, &unlock, Argon2Cost::of_new_slots(), &OsKeyring)
    }

    /// A vault that is never written to disk and ends with this value: for tests of what is built
    /// on the vault. It differs from an opened one only in where the sealed rows lie.
    ///
    /// # Errors
    /// [`VaultError::NoRandomness`].
    pub fn in_memory() -> Result<Self, VaultError> {
        let (rows, keys) = (Box::new(MemoryRows::default()), VaultKeys::generate()?);
        // Nobody ever opens it again, so there is nothing to be asked for.
        let (nobody, cost) = (Unlock::Passphrase(String::new().into()), Argon2Cost::LEAST);
        let slot_key = SlotKey::new(&nobody, cost, &OsKeyring)?;
        let rows = SealedRows::new(rows, &keys);
        Self::begin(&rows, &keys)?;
        Self::load(rows, (keys, slot_key), Arc::new(MemoryFiles::default()), None, None)
    }

    /// Whether there is a vault in a folder.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        [KeyFile::Slot, KeyFile::Copy].iter().any(|file| Folder::key_file_in(dir, *file).exists())
    }

    /// What the vault in a folder is opened with; none if there is no vault, or none that can be
    /// understood ([`Vault::open`] says why).
    #[must_use]
    pub fn unlock_kind(dir: &Path) -> Option<UnlockKind> {
        [KeyFile::Slot, KeyFile::Copy].iter().find_map(|file| {
            let bytes = fs::read(Folder::key_file_in(dir, *file)).ok()?;
            KeySlot::parse(&bytes).ok().map(|slot| slot.kind())
        })
    }

    /// Makes changes: all of them or none, durable when this returns. Only then may anything that
    /// follows from them be told to anybody.
    ///
    /// # Errors
    /// [`VaultError::DiskFull`], [`VaultError::Io`], [`VaultError::Damaged`],
    /// [`VaultError::RowTooLong`]. After any of them it is not known whether the changes will be
    /// there later, so further commits answer the same, until [`Vault::reopen`] has worked.
    pub fn commit(&self, changes: Changes) -> Result<(), VaultError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.change(|draft| changes.0.into_iter().try_for_each(|change| draft.apply(change)))
    }

    /// Makes one commit.
    pub(crate) fn change(
        &self,
        make: impl FnOnce(&mut Draft<'_>) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let mut progress = self.progress()?;
        // Until it is known to be durable, it has failed; so also if something in between panics.
        progress.halted = Some(VaultError::Halted);
        let made = self.write(&mut progress, make);
        progress.halted = made.as_ref().err().map(VaultError::again);
        made
    }

    fn write(
        &self,
        progress: &mut Progress,
        make: impl FnOnce(&mut Draft<'_>) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let mut head = progress.head;
        {
            let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
            let mut draft = Draft::new(&self.rows, &mut directory);
            make(&mut draft)?;
            self.rows.apply(draft.finish(&mut head)?)?;
        }
        self.rows.sync()?;
        if let Some(file) = &progress.file {
            file.write(head.commits)?;
        }
        progress.head = head;
        Ok(())
    }

    /// The right to commit.
    pub(crate) fn progress(&self) -> Result<MutexGuard<'_, Progress>, VaultError> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match &progress.halted {
            Some(why) => Err(why.again()),
            None => Ok(progress),
        }
    }

    /// Why nothing can be written until [`Vault::reopen`] has worked, if that is so.
    #[must_use]
    pub fn fault(&self) -> Option<VaultError> {
        self.progress().err()
    }

    /// A message's id from a key of the caller's own: the same for the same room and key in this vault,
    /// and nothing to guess from for others, however simple the key.
    #[must_use]
    pub fn given_id(&self, room: &RoomId, key: &str) -> ClientMessageId {
        ClientMessageId::from_bytes(self.rows.index.given(room, key))
    }

    /// Whether something opens this vault: for those who come by another way than opening it.
    ///
    /// # Errors
    /// What [`Vault::open`] answers to what does not open it.
    pub fn check_unlock(&self, unlock: &Unlock) -> Result<(), VaultError> {
        let slot = sound(&*self.files)?.ok_or(VaultError::Damaged { what: "key slot" })?;
        KeySlot::parse(&slot)?.open(unlock, &OsKeyring).map(drop)
    }

    /// What is in a slot.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] or [`VaultError::Io`], as all reads.
    pub fn get(&self, slot: Slot) -> Result<Option<Secret>, VaultError> {
        self.rows.get(&RowKey::slot(slot as u8), &self.directory())
    }

    /// What is known of an account.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn account(&self, account: &AccountId) -> Result<Option<Secret>, VaultError> {
        let key = RowKey::new(Table::Account).with(&self.rows.index.account(account));
        self.rows
            .get(&key, &self.directory())?
            .map(|row| decoded(Table::Account, decode_account(&row)).map(|(_, bytes)| bytes))
            .transpose()
    }

    /// All known accounts, in no particular order.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn accounts(&self) -> Result<Vec<(AccountId, Secret)>, VaultError> {
        self.rows.collect(&RowKey::new(Table::Account), &self.directory(), |_, row| decode_account(row))
    }

    /// A room.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, VaultError> {
        let directory = self.directory();
        match directory.number(room) {
            Some(number) => self.room_row(number, &directory),
            None => Ok(None),
        }
    }

    /// All rooms, in the order in which they came.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn rooms(&self) -> Result<Vec<(RoomId, RoomRow)>, VaultError> {
        let directory = self.directory();
        let mut rooms = Vec::new();
        for (room, meta) in self.metas(&directory)? {
            let state = match directory.number(&room) {
                Some(number) => self.rows.get(&RowKey::numbered(Table::RoomState, number), &directory)?,
                None => None,
            };
            rooms.push((room, RoomRow { state: decoded(Table::RoomState, state)?, meta }));
        }
        Ok(rooms)
    }

    /// The clients' bytes of all rooms, without touching the states.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn room_metas(&self) -> Result<Vec<(RoomId, Vec<u8>)>, VaultError> {
        self.metas(&self.directory())
    }

    /// The log hash at a place of a room's log.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn log_hash(&self, room: &RoomId, seq: u64) -> Result<Option<Hash>, VaultError> {
        let directory = self.directory();
        let Some(number) = directory.number(room) else {
            return Ok(None);
        };
        self.rows
            .get(&RowKey::placed(Table::LogHash, number, seq), &directory)?
            .map(|row| decoded(Table::LogHash, Hash::from_slice(&row)))
            .transpose()
    }

    /// The newest `limit` lines of a conversation before a place (or of all), oldest first.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn history(
        &self,
        room: &RoomId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, VaultError> {
        let directory = self.directory();
        let Some(number) = directory.number(room) else {
            return Ok(Vec::new());
        };
        let mut range = history_range(number);
        if let Some(before) = before {
            range.to = placed(number, before);
        }
        let mut lines = Vec::new();
        if limit > 0 {
            self.lines(&range, Direction::Down, &directory, &mut |line| {
                lines.push(line);
                if lines.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        lines.reverse();
        Ok(lines)
    }

    /// Whether there is a line at a place of a conversation.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn has_message(&self, room: &RoomId, seq: u64) -> Result<bool, VaultError> {
        match self.directory().number(room) {
            Some(number) => self.rows.has(&RowKey::placed(Table::History, number, seq)),
            None => Ok(false),
        }
    }

    /// A line of a conversation by what its sender called it.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn message_by_id(
        &self,
        room: &RoomId,
        id: &ClientMessageId,
    ) -> Result<Option<HistoryRow>, VaultError> {
        let directory = self.directory();
        let Some(number) = directory.number(room) else {
            return Ok(None);
        };
        let key = RowKey::numbered(Table::MessageId, number).with(&self.rows.index.message(id));
        let Some(place) = self.rows.get(&key, &directory)? else {
            return Ok(None);
        };
        let seq = decoded(Table::MessageId, place.as_slice().try_into().ok())?;
        let line = self.line(number, u64::from_be_bytes(seq), &directory)?;
        // The line may have been replaced by another.
        Ok(line.filter(|line| line.id == *id))
    }

    /// The newest line of a conversation.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn last_message(&self, room: &RoomId) -> Result<Option<HistoryRow>, VaultError> {
        Ok(self.history(room, None, 1)?.pop())
    }

    /// How many texts after a place are not the own account's.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn unread(&self, room: &RoomId, after_seq: u64, own: &AccountId) -> Result<u64, VaultError> {
        let directory = self.directory();
        let (Some(number), Some(first)) = (directory.number(room), after_seq.checked_add(1)) else {
            return Ok(0);
        };
        let mut range = history_range(number);
        range.from = placed(number, first);
        let mut count = 0;
        self.lines(&range, Direction::Up, &directory, &mut |line| {
            count += u64::from(line.from != *own && line.text.is_some());
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// What waits to be sent, in order.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn outbox(&self) -> Result<Vec<OutboxRow>, VaultError> {
        self.rows.collect(&RowKey::new(Table::Outbox), &self.directory(), |_, row| OutboxRow::decode(row))
    }

    /// What waits to be sent to a room, in order.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn outbox_of(&self, room: &RoomId) -> Result<Vec<OutboxRow>, VaultError> {
        let mut rows = self.outbox()?;
        rows.retain(|row| row.room == *room);
        Ok(rows)
    }

    /// Whether a message waits to be sent.
    #[must_use]
    pub fn is_waiting(&self, room: &RoomId, id: &ClientMessageId) -> bool {
        self.directory().is_waiting(room, id)
    }

    /// How far the members of a room have come, in no particular order.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn receipts(&self, room: &RoomId) -> Result<Vec<ReceiptRow>, VaultError> {
        let directory = self.directory();
        match directory.number(room) {
            Some(number) => {
                self.rows.collect(&RowKey::numbered(Table::Receipt, number), &directory, |_, row| {
                    ReceiptRow::decode(row)
                })
            }
            None => Ok(Vec::new()),
        }
    }

    /// Searches all conversations, newest first by the time they were sent.
    ///
    /// A query is cut at white space into terms, all of which must be in a text: anywhere, but for one or
    /// two letters of a script with spaces, which must begin a word. Case, width, composition and accents
    /// do not matter; symbols do, but for the punctuation of sentences around a word.
    ///
    /// # Errors
    /// As [`Vault::get`].
    pub fn search(&self, query: &str, limit: usize) -> Result<Vec<Hit>, VaultError> {
        let terms = Term::all_of(query);
        let mut hits = Vec::new();
        if terms.is_empty() {
            return Ok(hits);
        }
        let wanted = Fingerprints::of_terms(&terms);
        let directory = self.directory();
        for buckets in directory.buckets_by_period().into_values().rev() {
            for candidate in self.candidates(&buckets, &wanted, &directory)? {
                if hits.len() >= limit {
                    return Ok(hits);
                }
                let Some(row) = self.line(candidate.number, candidate.seq, &directory)? else {
                    continue;
                };
                // A line that was replaced has an entry of its own for what it is now.
                if row.sent_at != candidate.sent_at {
                    continue;
                }
                let ranges = row.text.as_deref().and_then(|text| matches(text, &terms));
                if let (Some(ranges), Some(room)) = (ranges, directory.room(candidate.number)) {
                    hits.push(Hit { room: *room, row, ranges });
                }
            }
        }
        Ok(hits)
    }

    /// Reads everything and checks that no row is damaged, missing or outdated. It takes seconds
    /// where there are a million messages, and commits wait for it: to be called now and then, and
    /// before a copy of the vault is trusted.
    ///
    /// # Errors
    /// [`VaultError::Damaged`]; [`VaultError::Io`].
    pub fn verify(&self) -> Result<(), VaultError> {
        let progress = self.progress()?;
        let found = self.rows.sums_of([KeyRange::everything()])?;
        if found == progress.head.sums { Ok(()) } else { Err(ROWS_MISSING) }
    }

    pub(crate) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn metas(&self, directory: &Directory) -> Result<Vec<(RoomId, Vec<u8>)>, VaultError> {
        self.rows.collect(&RowKey::new(Table::RoomMeta), directory, |key, meta| {
            let room = directory.room(RowKey::last_number(key)?)?;
            Some((*room, meta.to_vec()))
        })
    }

    fn room_row(&self, number: RoomNumber, directory: &Directory) -> Result<Option<RoomRow>, VaultError> {
        let meta = self.rows.get(&RowKey::numbered(Table::RoomMeta, number), directory)?;
        let state = self.rows.get(&RowKey::numbered(Table::RoomState, number), directory)?;
        Ok(meta.zip(state).map(|(meta, state)| RoomRow { state, meta: meta.to_vec() }))
    }

    fn line(
        &self,
        number: RoomNumber,
        seq: u64,
        directory: &Directory,
    ) -> Result<Option<HistoryRow>, VaultError> {
        self.rows
            .get(&RowKey::placed(Table::History, number, seq), directory)?
            .map(|row| decoded(Table::History, HistoryRow::decode(&row)))
            .transpose()
    }

    fn lines(
        &self,
        range: &KeyRange,
        direction: Direction,
        directory: &Directory,
        visit: &mut dyn FnMut(HistoryRow) -> ControlFlow<()>,
    ) -> Result<(), VaultError> {
        self.rows.scan(Table::History, range, direction, directory, &mut |_, row| {
            decoded(Table::History, HistoryRow::decode(&row)).map(&mut *visit)
        })
    }

    /// The messages of some buckets that may hold what is wanted, newest first.
    fn candidates(
        &self,
        buckets: &[BucketNumber],
        wanted: &Fingerprints,
        directory: &Directory,
    ) -> Result<Vec<Candidate>, VaultError> {
        let mut found = Vec::new();
        for bucket in buckets {
            let Some(number) = directory.bucket(*bucket).map(|bucket| bucket.room) else {
                continue;
            };
            self.rows.scan(
                Table::Postings,
                &KeyRange::prefix(RowKey::numbered(Table::Postings, *bucket).as_bytes()),
                Direction::Up,
                directory,
                &mut |_, block| {
                    let entries = decoded(Table::Postings, Entry::all_of(&block))?;
                    found.extend(
                        entries.iter().filter(|entry| entry.may_hold(wanted)).map(|entry| Candidate {
                            sent_at: entry.sent_at,
                            seq: entry.seq,
                            number,
                        }),
                    );
                    Ok(ControlFlow::Continue(()))
                },
            )?;
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.dedup();
        Ok(found)
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

/// A message that may match; ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    sent_at: u64,
    seq: u64,
    number: RoomNumber,
}

fn placed(number: RoomNumber, seq: u64) -> Vec<u8> {
    RowKey::placed(Table::History, number, seq).as_bytes().to_vec()
}

pub(crate) fn history_range(number: RoomNumber) -> KeyRange {
    KeyRange::prefix(RowKey::numbered(Table::History, number).as_bytes())
}

pub(crate) fn decode_account(row: &[u8]) -> Option<(AccountId, Secret)> {
    let mut fields = Fields::new(row);
    let account = fields.text()?.parse().ok()?;
    let bytes = Secret::new(fields.bytes()?.to_vec());
    fields.end()?;
    Some((account, bytes))
}

pub(crate) fn decoded<T>(table: Table, value: Option<T>) -> Result<T, VaultError> {
    value.ok_or(VaultError::Damaged { what: table.name() })
}
