//! One behaviour, whatever keeps the rows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use mildam_records::{AccountId, ClientMessageId, Hash, ReceiptKind, RoomId};
use mildam_vault::hazmat::{Argon2Cost, open_with_argon2};
use mildam_vault::{Changes, HistoryRow, OutboxRow, ReceiptRow, RoomRow, Secret, Slot, Unlock, Vault};
use tempfile::TempDir;

/// 2026, in the middle of a period.
const NOW: u64 = 1_790_000_000_000;
const DAY: u64 = 24 * 60 * 60 * 1000;

fn room(n: u8) -> RoomId {
    RoomId::from_bytes([n; 32])
}

fn id(n: u64) -> ClientMessageId {
    let mut bytes = [0xc1; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    ClientMessageId::from_bytes(bytes)
}

fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

fn line(seq: u64, from: &str, text: &str) -> HistoryRow {
    HistoryRow {
        seq,
        id: id(seq),
        from: account(from),
        sent_at: NOW + seq,
        body: format!("{{\"text\":{text:?}}}").into_bytes(),
        text: Some(text.to_owned()),
    }
}

fn waiting(n: u64, to: u8) -> OutboxRow {
    OutboxRow { order: 0, room: room(to), id: id(n), body: b"body".to_vec(), sealed: None, created_at: NOW }
}

fn put_lines(vault: &Vault, to: u8, lines: &[HistoryRow]) {
    let mut changes = Changes::new();
    for line in lines {
        changes.put_message(&room(to), line.clone());
    }
    vault.commit(changes).unwrap();
}

fn found(vault: &Vault, query: &str) -> Vec<(u8, u64)> {
    vault.search(query, 100).unwrap().into_iter().map(|hit| (hit.room.as_bytes()[0], hit.row.seq)).collect()
}

trait Backend {
    fn begin() -> Self;
    fn vault(&self) -> &Vault;
    /// Closes and opens again, where that means something.
    fn reopen(self) -> Self;
}

struct Memory(Vault);

impl Backend for Memory {
    fn begin() -> Self {
        Self(Vault::in_memory().unwrap())
    }
    fn vault(&self) -> &Vault {
        &self.0
    }
    fn reopen(self) -> Self {
        self.0.verify().unwrap();
        self
    }
}

struct Disk {
    vault: Vault,
    folder: TempDir,
}

impl Disk {
    fn open(folder: TempDir) -> Self {
        let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let unlock = Unlock::Passphrase("correct horse".to_owned().into());
        let vault = open_with_argon2(folder.path(), unlock, cheap).unwrap();
        Self { vault, folder }
    }
}

impl Backend for Disk {
    fn begin() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }
    fn vault(&self) -> &Vault {
        &self.vault
    }
    fn reopen(self) -> Self {
        let Self { vault, folder } = self;
        vault.verify().unwrap();
        drop(vault);
        Self::open(folder)
    }
}

fn slots_hold_one_value_each<B: Backend>() {
    let store = B::begin();
    let large = vec![7; 300_000];
    let mut changes = Changes::new();
    changes.put(Slot::Server, b"mildam://relay".to_vec());
    changes.put(Slot::Device, large.clone());
    changes.put(Slot::RecoveryWords, b"words".to_vec());
    store.vault().commit(changes).unwrap();
    let mut changes = Changes::new();
    changes.put(Slot::Server, b"mildam://other".to_vec());
    changes.remove(Slot::RecoveryWords);
    changes.remove(Slot::Session);
    store.vault().commit(changes).unwrap();
    let store = store.reopen();
    let get = |slot| store.vault().get(slot).unwrap().map(|bytes| bytes.to_vec());
    assert_eq!(get(Slot::Server).unwrap(), b"mildam://other");
    assert_eq!(get(Slot::Device).unwrap(), large);
    assert_eq!(get(Slot::RecoveryWords), None);
    assert_eq!(get(Slot::Friends), None);
}

fn accounts_are_found_by_id<B: Backend>() {
    let store = B::begin();
    let mut changes = Changes::new();
    changes.put_account(&account("alice"), b"1".to_vec());
    changes.put_account(&account("bob"), b"2".to_vec());
    changes.put_account(&account("alice"), b"3".to_vec());
    store.vault().commit(changes).unwrap();
    let store = store.reopen();
    let alice = store.vault().account(&account("alice")).unwrap().unwrap();
    assert_eq!(alice.as_slice(), b"3");
    assert!(store.vault().account(&account("carol")).unwrap().is_none());
    let mut all: Vec<_> = store
        .vault()
        .accounts()
        .unwrap()
        .into_iter()
        .map(|(account, bytes)| (account.to_string(), bytes.to_vec()))
        .collect();
    all.sort();
    assert_eq!(all, [("alice".to_owned(), b"3".to_vec()), ("bob".to_owned(), b"2".to_vec())]);
}

fn rooms_keep_state_and_meta<B: Backend>() {
    let store = B::begin();
    let row = |n: u8| RoomRow { state: Secret::new(vec![n; 20_000]), meta: vec![n] };
    let mut changes = Changes::new();
    changes.put_room(&room(9), row(1));
    changes.put_room(&room(2), row(2));
    changes.put_room(&room(9), row(3));
    changes.put_log_hash(&room(9), 1, Hash::from_bytes([1; 32]));
    changes.put_log_hash(&room(2), 1, Hash::from_bytes([2; 32]));
    store.vault().commit(changes).unwrap();
    let store = store.reopen();
    let vault = store.vault();
    assert_eq!(vault.room(&room(9)).unwrap().unwrap(), row(3));
    assert_eq!(vault.room(&room(1)).unwrap(), None);
    assert_eq!(vault.rooms().unwrap(), [(room(9), row(3)), (room(2), row(2))]);
    assert_eq!(vault.room_metas().unwrap(), [(room(9), vec![3]), (room(2), vec![2])]);
    assert_eq!(vault.log_hash(&room(2), 1).unwrap(), Some(Hash::from_bytes([2; 32])));
    assert_eq!(vault.log_hash(&room(2), 2).unwrap(), None);
    assert_eq!(vault.log_hash(&room(1), 1).unwrap(), None);
}

/// REQ L2: the history is read in pages, oldest first.
fn history_is_paged<B: Backend>() {
    let store = B::begin();
    let lines: Vec<_> =
        (1..=300).map(|seq| line(seq, if seq % 3 == 0 { "alice" } else { "bob" }, "안녕")).collect();
    put_lines(store.vault(), 1, &lines);
    put_lines(store.vault(), 2, &[line(1, "carol", "other room")]);
    let store = store.reopen();
    let vault = store.vault();
    let seqs = |before, limit| -> Vec<u64> {
        let page = vault.history(&room(1), before, limit).unwrap();
        page.into_iter().map(|row| row.seq).collect()
    };
    assert_eq!(seqs(None, 3), [298, 299, 300]);
    assert_eq!(seqs(Some(298), 2), [296, 297]);
    assert_eq!(seqs(Some(2), 50), [1]);
    assert!(seqs(Some(1), 50).is_empty());
    assert!(seqs(Some(0), 50).is_empty());
    assert!(seqs(None, 0).is_empty());
    assert_eq!(vault.history(&room(1), None, 1000).unwrap(), lines);
    assert!(vault.history(&room(3), None, 10).unwrap().is_empty());
    assert_eq!(vault.last_message(&room(1)).unwrap().unwrap().seq, 300);
    assert_eq!(vault.last_message(&room(3)).unwrap(), None);
    assert_eq!(vault.message_by_id(&room(1), &id(77)).unwrap(), Some(line(77, "bob", "안녕")));
    assert_eq!(vault.message_by_id(&room(2), &id(77)).unwrap(), None);
    assert_eq!(vault.unread(&room(1), 0, &account("alice")).unwrap(), 200);
    assert_eq!(vault.unread(&room(1), 298, &account("alice")).unwrap(), 1);
    assert_eq!(vault.unread(&room(1), 300, &account("alice")).unwrap(), 0);
    assert_eq!(vault.unread(&room(1), u64::MAX, &account("alice")).unwrap(), 0);
}

fn a_line_can_be_replaced<B: Backend>() {
    let store = B::begin();
    put_lines(store.vault(), 1, &[line(1, "bob", "처음 사과")]);
    let replaced = HistoryRow { id: id(99), sent_at: NOW + 90 * DAY, ..line(1, "bob", "나중 사과") };
    put_lines(store.vault(), 1, &[replaced.clone(), replaced.clone()]);
    let store = store.reopen();
    let vault = store.vault();
    assert_eq!(vault.history(&room(1), None, 9).unwrap(), [replaced]);
    assert_eq!(vault.message_by_id(&room(1), &id(1)).unwrap(), None);
    assert_eq!(found(vault, "사과"), [(1, 1)]);
    assert!(found(vault, "처음").is_empty());
}

/// Removed lines are gone, before and after the keys are changed, and nothing else is.
fn a_line_can_be_removed<B: Backend>() {
    let store = B::begin();
    put_lines(
        store.vault(),
        1,
        &[line(1, "bob", "첫 사과"), line(2, "bob", "둘 사과"), line(3, "bob", "셋")],
    );
    put_lines(store.vault(), 2, &[line(1, "bob", "다른 사과")]);
    let mut changes = Changes::new();
    changes.remove_message(&room(1), &id(1));
    changes.remove_message(&room(1), &id(77));
    changes.remove_message(&room(9), &id(1));
    // What one commit puts and removes never was.
    changes.put_message(&room(1), line(4, "bob", "넷 사과"));
    changes.remove_message(&room(1), &id(4));
    store.vault().commit(changes).unwrap();
    for rotate in [false, true, true] {
        if rotate {
            store.vault().rotate(NOW).unwrap();
        }
        let lines = store.vault().history(&room(1), None, 9).unwrap();
        assert_eq!(lines, [line(2, "bob", "둘 사과"), line(3, "bob", "셋")]);
        assert_eq!(store.vault().message_by_id(&room(1), &id(1)).unwrap(), None);
        assert_eq!(found(store.vault(), "사과"), [(1, 2), (2, 1)]);
        store.vault().verify().unwrap();
    }
    let store = store.reopen();
    assert_eq!(found(store.vault(), "사과"), [(1, 2), (2, 1)]);
    assert_eq!(store.vault().rotated_at().unwrap(), NOW);
    // The room's lines of the same time go on in the bucket that took the old one's place.
    put_lines(store.vault(), 1, &[line(5, "bob", "다섯 사과")]);
    assert_eq!(found(store.vault(), "사과"), [(1, 5), (1, 2), (2, 1)]);
}

/// The keys are changed: everything reads as before, at once and after opening again.
fn a_rotation_changes_nothing_that_is_seen<B: Backend>() {
    let store = B::begin();
    let mut changes = Changes::new();
    changes.put(Slot::Device, vec![7; 50_000]);
    changes.put_room(&room(1), RoomRow { state: Secret::new(vec![1; 9000]), meta: b"meta".to_vec() });
    changes.put_outbox(waiting(1, 1));
    store.vault().commit(changes).unwrap();
    put_lines(store.vault(), 1, &(1..=30).map(|seq| line(seq, "bob", "사과")).collect::<Vec<_>>());
    assert_eq!(store.vault().rotated_at().unwrap(), 0);
    for now in 1..4 {
        store.vault().rotate(now).unwrap();
        store
            .vault()
            .commit({
                let mut changes = Changes::new();
                changes.put(Slot::Server, now.to_be_bytes().to_vec());
                changes
            })
            .unwrap();
    }
    let store = store.reopen();
    let vault = store.vault();
    assert_eq!(vault.rotated_at().unwrap(), 3);
    assert_eq!(**vault.get(Slot::Device).unwrap().unwrap(), [7; 50_000]);
    assert_eq!(**vault.get(Slot::Server).unwrap().unwrap(), 3_u64.to_be_bytes());
    assert_eq!(*vault.room(&room(1)).unwrap().unwrap().state, [1; 9000]);
    assert_eq!(vault.outbox().unwrap().len(), 1);
    assert_eq!(found(vault, "사과").len(), 30);
}

/// REQ L3: what waits to be sent is there after a restart, in order, once.
fn the_outbox_keeps_its_order<B: Backend>() {
    let store = B::begin();
    for (n, to) in [(5, 1), (3, 2), (4, 1)] {
        let mut changes = Changes::new();
        changes.put_outbox(waiting(n, to));
        store.vault().commit(changes).unwrap();
    }
    let store = store.reopen();
    let mut changes = Changes::new();
    let sealed = OutboxRow { sealed: Some(vec![9; 5000]), ..waiting(5, 1) };
    changes.put_outbox(sealed);
    changes.remove_outbox(&room(2), &id(3));
    changes.remove_outbox(&room(2), &id(4));
    changes.put_outbox(waiting(1, 1));
    store.vault().commit(changes).unwrap();
    let store = store.reopen();
    let rows = store.vault().outbox().unwrap();
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids, [id(5), id(4), id(1)]);
    assert!(rows.is_sorted_by_key(|row| row.order));
    assert_eq!(rows[0].sealed.as_deref(), Some(&[9; 5000][..]));
    assert_eq!(store.vault().outbox_of(&room(1)).unwrap(), rows);
    assert!(store.vault().outbox_of(&room(2)).unwrap().is_empty());
}

fn receipts_are_kept_by_member_and_kind<B: Backend>() {
    let store = B::begin();
    let mut changes = Changes::new();
    changes.put_receipt(&room(1), &account("bob"), ReceiptKind::Delivered, 4);
    changes.put_receipt(&room(1), &account("bob"), ReceiptKind::Read, 2);
    changes.put_receipt(&room(1), &account("carol"), ReceiptKind::Read, 1);
    changes.put_receipt(&room(1), &account("bob"), ReceiptKind::Delivered, 5);
    changes.put_receipt(&room(2), &account("bob"), ReceiptKind::Read, 9);
    store.vault().commit(changes).unwrap();
    let store = store.reopen();
    let mut receipts = store.vault().receipts(&room(1)).unwrap();
    receipts.sort_by_key(|row| (row.account.clone(), row.kind));
    let row = |name, kind, seq| ReceiptRow { account: account(name), kind, seq };
    assert_eq!(
        receipts,
        [
            row("bob", ReceiptKind::Delivered, 5),
            row("bob", ReceiptKind::Read, 2),
            row("carol", ReceiptKind::Read, 1),
        ]
    );
    assert!(store.vault().receipts(&room(3)).unwrap().is_empty());
}

/// REQ L2: Korean is found inside words, newest first, in all rooms and periods.
fn search_goes_through_all_rooms<B: Backend>() {
    let store = B::begin();
    let at = |days: u64, row: HistoryRow| HistoryRow { sent_at: NOW - days * DAY, ..row };
    put_lines(
        store.vault(),
        1,
        &[
            at(400, line(1, "bob", "학교에서 만나")),
            at(3, line(2, "bob", "Meet me at School")),
            at(2, line(3, "alice", "대학교 앞")),
        ],
    );
    put_lines(
        store.vault(),
        2,
        &[
            at(35, line(1, "carol", "우리 학교는 멀다")),
            HistoryRow { text: None, ..line(2, "carol", "학교") },
        ],
    );
    let store = store.reopen();
    let vault = store.vault();
    assert_eq!(found(vault, "학교"), [(1, 3), (2, 1), (1, 1)]);
    assert_eq!(found(vault, "교"), [(1, 3), (2, 1), (1, 1)]);
    assert_eq!(found(vault, "학교 만나"), [(1, 1)]);
    assert_eq!(found(vault, "sc ME"), [(1, 2)]);
    assert!(found(vault, "학교 없다").is_empty());
    assert!(found(vault, "  ").is_empty());
    let newest = vault.search("학교", 1).unwrap();
    assert_eq!(newest.len(), 1);
    assert_eq!(newest[0].ranges, [(3, 9)]);
    assert!(vault.search("학교", 0).unwrap().is_empty());
}

fn an_empty_commit_is_nothing<B: Backend>() {
    let store = B::begin();
    assert!(Changes::new().is_empty());
    store.vault().commit(Changes::new()).unwrap();
    let store = store.reopen();
    assert!(store.vault().rooms().unwrap().is_empty());
    assert!(store.vault().outbox().unwrap().is_empty());
}

macro_rules! conformance {
    ($backend:ident in $module:ident: $($test:ident),* $(,)?) => {
        mod $module {
            $(#[test]
            fn $test() {
                super::$test::<super::$backend>();
            })*
        }
    };
    ($backend:ident in $module:ident) => {
        conformance!($backend in $module:
            slots_hold_one_value_each,
            accounts_are_found_by_id,
            rooms_keep_state_and_meta,
            history_is_paged,
            a_line_can_be_replaced,
            a_line_can_be_removed,
            a_rotation_changes_nothing_that_is_seen,
            the_outbox_keeps_its_order,
            receipts_are_kept_by_member_and_kind,
            search_goes_through_all_rooms,
            an_empty_commit_is_nothing,
        );
    };
}

conformance!(Disk in disk);
conformance!(Memory in memory);
