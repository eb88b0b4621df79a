//! A disk that forgets what was not synced when the power is cut, and never forgets for whoever
//! looks at its old bytes. Every step at which a disk can stop is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};

use mildam_records::{ClientMessageId, RoomId};

use crate::changes::Changes;
use crate::directory::Bucket;
use crate::error::VaultError;
use crate::head::FORMAT;
use crate::key_files::{KeyFile, KeyFiles};
use crate::key_slot::{Argon2Cost, KeySlot, SlotKey, VaultKeys};
use crate::keyring::OsKeyring;
use crate::open::Slots;
use crate::postings::Entry;
use crate::row::{HistoryRow, OutboxRow, RoomRow, Secret, Slot};
use crate::rows::{Batch, Direction, KeyRange, Rows, Visit};
use crate::seal::SealingKey;
use crate::sealed_rows::SealedRows;
use crate::table::{RowKey, Table};
use crate::unlock::Unlock;
use crate::vault::Vault;

/// What becomes of the step at which the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// It never happened.
    Before,
    /// A file was written by half; for other steps, as [`Cut::Before`].
    Within,
    /// It happened, but nobody was told.
    After,
}

#[derive(Default)]
struct State {
    synced: BTreeMap<Vec<u8>, Vec<u8>>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    files: BTreeMap<KeyFile, Vec<u8>>,
    /// All values that were ever written.
    log: Vec<(Vec<u8>, Vec<u8>)>,
    steps: usize,
    cut: Option<(usize, Cut)>,
    off: bool,
}

#[derive(Clone, Default)]
struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Counts a step, and says whether it happens and whether anybody is told.
    fn step(state: &mut State) -> (Option<Cut>, Result<(), VaultError>) {
        if state.off {
            return (Some(Cut::Before), Err(power_cut()));
        }
        let here = state.steps;
        state.steps += 1;
        match state.cut {
            Some((at, cut)) if at == here => {
                state.off = true;
                (Some(cut), Err(power_cut()))
            }
            _ => (None, Ok(())),
        }
    }

    /// The power is back. What was written but not synced may be there or not.
    fn restart(&self, unsynced_survive: bool) {
        let mut state = self.state();
        if unsynced_survive {
            state.synced = state.rows.clone();
        } else {
            state.rows = state.synced.clone();
        }
        (state.cut, state.off) = (None, false);
    }

    fn create(&self) -> Result<Vault, VaultError> {
        let keys = VaultKeys::generate()?;
        self.write(KeyFile::New, &SlotKey::new(&old(), Argon2Cost::LEAST, &OsKeyring)?.seal(&keys)?)?;
        Vault::begin(&SealedRows::new(Box::new(self.clone()), &keys), &keys)?;
        self.put_in_place()?;
        self.open(&old())
    }

    fn open(&self, unlock: &Unlock) -> Result<Vault, VaultError> {
        let slots = Slots::read(self, unlock, &OsKeyring)?;
        Vault::open_rows(Box::new(self.clone()), slots, Arc::new(self.clone()), None, None)
    }
}

fn power_cut() -> VaultError {
    VaultError::Io(io::Error::other("the power was cut"))
}

impl Rows for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        Ok(self.state().rows.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<(), VaultError> {
        let mut found: Vec<_> = {
            let state = self.state();
            let rows = state.rows.range(range.from.clone()..range.to.clone());
            rows.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        if direction == Direction::Down {
            found.reverse();
        }
        for (key, value) in found {
            if visit(&key, &value)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: Batch) -> Result<(), VaultError> {
        let mut state = self.state();
        let (cut, told) = Self::step(&mut state);
        if matches!(cut, None | Some(Cut::After)) {
            for (key, value) in batch {
                match value {
                    Some(value) => {
                        state.log.push((key.clone(), value.clone()));
                        state.rows.insert(key, value);
                    }
                    None => drop(state.rows.remove(&key)),
                }
            }
        }
        told
    }

    fn sync(&self) -> Result<(), VaultError> {
        let mut state = self.state();
        let (cut, told) = Self::step(&mut state);
        if matches!(cut, None | Some(Cut::After)) {
            state.synced = state.rows.clone();
        }
        told
    }
}

impl KeyFiles for Disk {
    fn read(&self, file: KeyFile) -> Result<Option<Vec<u8>>, VaultError> {
        Ok(self.state().files.get(&file).cloned())
    }

    fn write(&self, file: KeyFile, bytes: &[u8]) -> Result<(), VaultError> {
        let mut state = self.state();
        let (cut, told) = Self::step(&mut state);
        match cut {
            Some(Cut::Before) => None,
            Some(Cut::Within) => state.files.insert(file, bytes[..bytes.len() / 2].to_vec()),
            None | Some(Cut::After) => state.files.insert(file, bytes.to_vec()),
        };
        told
    }

    fn put_in_place(&self) -> Result<(), VaultError> {
        let mut state = self.state();
        let (cut, told) = Self::step(&mut state);
        if matches!(cut, None | Some(Cut::After)) {
            let new = state.files.remove(&KeyFile::New).unwrap();
            state.files.insert(KeyFile::Slot, new);
        }
        told
    }

    fn remove_new(&self) -> Result<(), VaultError> {
        let mut state = self.state();
        let (cut, told) = Self::step(&mut state);
        if matches!(cut, None | Some(Cut::After)) {
            state.files.remove(&KeyFile::New);
        }
        told
    }
}

fn old() -> Unlock {
    Unlock::Passphrase("old".to_owned().into())
}

fn new() -> Unlock {
    Unlock::Passphrase("new".to_owned().into())
}

fn room() -> RoomId {
    RoomId::from_bytes([7; 32])
}

fn id(seq: u64) -> ClientMessageId {
    ClientMessageId::from_bytes([u8::try_from(seq).unwrap(); 16])
}

/// A message is received: the line and the room's chain together.
fn receive(vault: &Vault, seq: u64, text: &str) -> Result<(), VaultError> {
    let mut changes = Changes::new();
    changes.put_room(&room(), RoomRow { state: chain(seq), meta: vec![u8::try_from(seq).unwrap()] });
    changes.put_message(
        &room(),
        HistoryRow {
            seq,
            id: id(seq),
            from: "alice".parse().unwrap(),
            sent_at: 1_790_000_000_000 + seq,
            body: text.as_bytes().to_vec(),
            text: Some(text.to_owned()),
        },
    );
    vault.commit(changes)
}

fn chain(seq: u64) -> Secret {
    Secret::new(format!("chain key {seq} ").into_bytes().repeat(500))
}

/// A message waits, and then is sent: the outbox, and the line in its place.
fn wait(vault: &Vault, seq: u64) -> Result<(), VaultError> {
    let mut changes = Changes::new();
    changes.put_outbox(OutboxRow {
        order: 0,
        room: room(),
        id: id(seq),
        body: b"waiting secret".to_vec(),
        sealed: None,
        created_at: 0,
    });
    vault.commit(changes)
}

fn send(vault: &Vault, seq: u64) -> Result<(), VaultError> {
    let mut changes = Changes::new();
    changes.remove_outbox(&room(), &id(seq));
    vault.commit(changes)
}

fn remove(vault: &Vault, seq: u64) -> Result<(), VaultError> {
    let mut changes = Changes::new();
    changes.remove_message(&room(), &id(seq));
    vault.commit(changes)
}

type Step = fn(&Vault) -> Result<(), VaultError>;

/// What a client does in its life, in short.
const LIFE: &[Step] = &[
    |vault| {
        let mut changes = Changes::new();
        changes.put(Slot::Device, b"prekey one".to_vec());
        vault.commit(changes)
    },
    |vault| receive(vault, 1, "apple one"),
    |vault| receive(vault, 2, "apple two"),
    |vault| wait(vault, 3),
    |vault| send(vault, 3),
    |vault| receive(vault, 3, "apple three"),
    |vault| vault.rotate(100),
    |vault| remove(vault, 2),
    |vault| {
        let mut changes = Changes::new();
        changes.put(Slot::Device, b"prekey two".to_vec());
        vault.commit(changes)
    },
    |vault| vault.rotate(200),
    |vault| receive(vault, 4, "apple four"),
    |vault| vault.change_unlock_with(&old(), &new(), Argon2Cost::LEAST, &OsKeyring, 300),
    |vault| receive(vault, 5, "apple five"),
];

/// Where the passphrase is changed.
const CHANGE: usize = 11;

/// Everything that a vault shows.
fn view(vault: &Vault) -> String {
    vault.verify().unwrap();
    let device = vault.get(Slot::Device).unwrap();
    let device = device.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    let room_row = vault.room(&room()).unwrap();
    let state = room_row.map(|row| (row.meta.clone(), row.state == chain(row.meta[0].into())));
    let text = |line: HistoryRow| (line.seq, line.text.unwrap());
    let lines: Vec<_> = vault.history(&room(), None, 100).unwrap().into_iter().map(text).collect();
    let hits: Vec<_> = vault.search("apple", 100).unwrap().into_iter().map(|hit| hit.row.seq).collect();
    let by_id: Vec<_> =
        (1..6).filter(|seq| vault.message_by_id(&room(), &id(*seq)).unwrap().is_some()).collect();
    let waiting = vault.outbox().unwrap().len();
    format!("{device:?} {state:?} {lines:?} {hits:?} {by_id:?} {waiting}")
}

/// Lives until the power is cut: how many steps were acknowledged.
fn live(disk: &Disk) -> usize {
    let Ok(vault) = disk.create() else {
        return 0;
    };
    LIFE.iter().take_while(|step| step(&vault).is_ok()).count()
}

/// REQ L1: whenever the power is cut, the vault opens, everything that was acknowledged is there,
/// and nothing is there by half.
#[test]
fn a_power_cut_at_any_step_loses_nothing_that_was_acknowledged() {
    let whole = Disk::default();
    let vault = whole.create().unwrap();
    let created = whole.state().steps;
    let mut views = vec![view(&vault)];
    for step in LIFE {
        step(&vault).unwrap();
        views.push(view(&vault));
    }
    let steps = whole.state().steps;
    assert!(steps > 40, "{steps}");
    for at in created..steps {
        for cut in [Cut::Before, Cut::Within, Cut::After] {
            for unsynced_survive in [false, true] {
                let place = format!("step {at}, {cut:?}, unsynced survive: {unsynced_survive}");
                let disk = Disk::default();
                disk.state().cut = Some((at, cut));
                let acknowledged = live(&disk);
                disk.restart(unsynced_survive);
                let vault = reopen(&disk, acknowledged, &place);
                let found = view(&vault);
                let possible = &views[acknowledged..(acknowledged + 2).min(views.len())];
                assert!(possible.contains(&found), "{place}: {found} is none of {possible:#?}");
                // Life goes on.
                receive(&vault, 9, "apple nine").unwrap();
                vault.rotate(400).unwrap();
                let after = view(&vault);
                assert!(after.contains("apple nine"), "{place}");
                drop(vault);
                assert_eq!(disk.state().files.len(), 2, "{place}");
                assert_eq!(view(&reopen(&disk, acknowledged, &place)), after, "{place}");
            }
        }
    }
}

/// Opens with the passphrase that must be in force; with either, while it was being changed.
fn reopen(disk: &Disk, acknowledged: usize, place: &str) -> Vault {
    let right = if acknowledged > CHANGE { new() } else { old() };
    match disk.open(&right) {
        Ok(vault) => vault,
        Err(VaultError::WrongPassphrase) if acknowledged == CHANGE => disk.open(&new()).unwrap(),
        Err(error) => panic!("{place}: {error}"),
    }
}

/// Everything that somebody can open who has all bytes that were ever in the store, the key slot
/// and the passphrase: first the bucket keys, then the lines.
fn readable(disk: &Disk, unlock: &Unlock) -> BTreeSet<String> {
    let files: Vec<Vec<u8>> = disk.state().files.values().cloned().collect();
    let opened = |bytes: &Vec<u8>| KeySlot::parse(bytes).unwrap().open(unlock, &OsKeyring).ok();
    let states: Vec<SealingKey> = files
        .iter()
        .filter_map(opened)
        .map(|(keys, _)| SealingKey::new(&keys.state, keys.state_generation))
        .collect();
    let open = |table, key: &[u8], sealed: &[u8]| {
        states.iter().find_map(|state| state.open(&RowKey::found(table, key), sealed))
    };
    let log = disk.state().log.clone();
    let mut found = BTreeSet::new();
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut cells = Vec::new();
    for (key, value) in &log {
        // Without its pieces a long row cannot be opened; short ones say enough.
        let sealed = &value[7..];
        let opened = match key[0] {
            code if code == Table::Bucket as u8 => {
                let row = open(Table::Bucket, key, sealed);
                buckets.extend(row.as_ref().and_then(|row| Bucket::decode(row, FORMAT)));
                None
            }
            code if code == Table::Slot as u8 => open(Table::Slot, key, sealed),
            code if code == Table::Outbox as u8 => open(Table::Outbox, key, sealed),
            code if code == Table::History as u8 => {
                cells.push((RowKey::found(Table::History, key), sealed));
                None
            }
            code if code == Table::Postings as u8 => {
                cells.push((RowKey::found(Table::Postings, key), sealed));
                None
            }
            _ => None,
        };
        found.extend(opened.map(|row| String::from_utf8_lossy(&row).into_owned()));
    }
    for (key, sealed) in cells {
        for bucket in &buckets {
            let Some(row) = bucket.key.open(&key, sealed) else {
                continue;
            };
            if key.table() == Table::Postings {
                let entries = Entry::all_of(&row).unwrap();
                found.extend(entries.iter().map(|entry| format!("posting of {}", entry.seq)));
            } else {
                found.insert(String::from_utf8_lossy(&row).into_owned());
            }
        }
    }
    found
}

/// REQ L1: what was removed, replaced or sent cannot be read any more after a rotation, not even
/// in bytes that the store no longer uses, by somebody who has the passphrase.
#[test]
fn after_a_rotation_nothing_that_was_removed_can_be_read() {
    let holds = |found: &BTreeSet<String>, text: &str| found.iter().any(|row| row.contains(text));
    let disk = Disk::default();
    let vault = disk.create().unwrap();
    for step in &LIFE[..6] {
        step(&vault).unwrap();
    }
    remove(&vault, 2).unwrap();
    // A line that is replaced is gone as well.
    receive(&vault, 3, "pear three").unwrap();
    let mut changes = Changes::new();
    changes.put(Slot::Device, b"prekey two".to_vec());
    vault.commit(changes).unwrap();
    let gone = ["prekey one", "apple two", "apple three", "waiting secret", "posting of 2"];
    let kept = ["prekey two", "apple one", "pear three", "posting of 1"];
    let before = readable(&disk, &old());
    for text in gone.iter().chain(&kept) {
        assert!(holds(&before, text), "{text} is not found before: the test looks at nothing");
    }
    vault.rotate(100).unwrap();
    let after = readable(&disk, &old());
    for text in gone {
        assert!(!holds(&after, text), "{text} can still be read");
    }
    for text in kept {
        assert!(holds(&after, text), "{text} is lost");
    }
    assert!(vault.search("pear", 9).unwrap().len() == 1 && vault.search("apple", 9).unwrap().len() == 1);

    // The old passphrase opens nothing that is left.
    vault.change_unlock_with(&old(), &new(), Argon2Cost::LEAST, &OsKeyring, 200).unwrap();
    assert!(matches!(Slots::read(&disk, &old(), &OsKeyring), Err(VaultError::WrongPassphrase)));
    assert!(holds(&readable(&disk, &new()), "apple one"));
    assert!(matches!(
        vault.change_unlock_with(&old(), &new(), Argon2Cost::LEAST, &OsKeyring, 300),
        Err(VaultError::WrongPassphrase)
    ));
}

/// A step that fails because the disk is full: nothing is lost, and with room again it goes on.
#[test]
fn a_rotation_that_finds_no_room_changes_nothing() {
    let disk = Disk::default();
    let vault = disk.create().unwrap();
    receive(&vault, 1, "apple one").unwrap();
    let before = view(&vault);
    let next = disk.state().steps;
    disk.state().cut = Some((next, Cut::Within));
    assert!(vault.rotate(1).is_err());
    disk.restart(false);
    assert_eq!(view(&vault), before);
    assert_eq!(vault.rotated_at().unwrap(), 0);
    receive(&vault, 2, "apple two").unwrap();
    vault.rotate(2).unwrap();
    assert_eq!(vault.rotated_at().unwrap(), 2);
}
