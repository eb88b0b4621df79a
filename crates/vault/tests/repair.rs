//! What is left of a damaged vault, vaults of older versions, and a disk that is full.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use mildam_records::{AccountId, ClientMessageId, Hash, ReceiptKind, RoomId};
use mildam_vault::hazmat::{Argon2Cost, change_unlock_with_argon2, open_with_argon2, write_store};
use mildam_vault::{Changes, HistoryRow, OutboxRow, RoomRow, Secret, Slot, Unlock, Vault, VaultError};
use tempfile::TempDir;

use common::copy;

const LINES: u64 = 60;
const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };

fn unlock() -> Unlock {
    Unlock::Passphrase("비밀".to_owned().into())
}

fn open(folder: &Path) -> Result<Vault, VaultError> {
    open_with_argon2(folder, unlock(), CHEAP)
}

fn room(n: u8) -> RoomId {
    RoomId::from_bytes([n; 32])
}

fn id(n: u8, seq: u64) -> ClientMessageId {
    let mut id = [n; 16];
    id[8..].copy_from_slice(&seq.to_be_bytes());
    ClientMessageId::from_bytes(id)
}

fn line(n: u8, seq: u64) -> HistoryRow {
    HistoryRow {
        seq,
        id: id(n, seq),
        from: "bob".parse().unwrap(),
        sent_at: 1_790_000_000_000 + seq * 86_400_000,
        body: vec![b'x'; 3000],
        text: Some(format!("사과 apple{seq}")),
    }
}

fn fill(vault: &Vault) {
    let bob: AccountId = "bob".parse().unwrap();
    for n in [1, 2] {
        for seq in 1..=LINES {
            let mut changes = Changes::new();
            changes.put(Slot::Account, b"account".to_vec());
            changes.put(Slot::Device, seq.to_be_bytes().to_vec());
            changes.put_account(&bob, b"keys of bob".to_vec());
            changes.put_room(&room(n), RoomRow { state: Secret::new(vec![n; 9000]), meta: b"meta".to_vec() });
            changes.put_log_hash(&room(n), seq, Hash::from_bytes([n; 32]));
            changes.put_message(&room(n), line(n, seq));
            changes.put_receipt(&room(n), &bob, ReceiptKind::Read, seq);
            vault.commit(changes).unwrap();
        }
        let mut changes = Changes::new();
        changes.put_outbox(OutboxRow {
            order: 0,
            room: room(n),
            id: id(n, 1000),
            body: b"waiting".to_vec(),
            sealed: None,
            created_at: 1,
        });
        vault.commit(changes).unwrap();
    }
}

/// All that [`fill`] wrote.
fn is_whole(vault: &Vault) -> bool {
    vault.verify().unwrap();
    let bob: AccountId = "bob".parse().unwrap();
    [1, 2].into_iter().all(|n| {
        let lines = vault.history(&room(n), None, 1000).unwrap();
        let receipts = vault.receipts(&room(n)).unwrap();
        lines == (1..=LINES).map(|seq| line(n, seq)).collect::<Vec<_>>()
            && (1..=LINES).all(|seq| vault.log_hash(&room(n), seq).unwrap().is_some())
            && receipts.iter().any(|receipt| receipt.seq == LINES)
            && vault.room(&room(n)).unwrap().is_some_and(|row| *row.state == [n; 9000])
            && vault.outbox_of(&room(n)).unwrap().len() == 1
    }) && vault.search("apple", 1000).unwrap().len() == 120
        && vault.search("사과", 1000).unwrap().len() == 120
        && vault.account(&bob).unwrap().is_some()
        && **vault.get(Slot::Device).unwrap().unwrap() == LINES.to_be_bytes()
}

/// A closed vault with a snapshot of everything in it, or without one.
fn filled(snapshot: bool) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path()).unwrap();
    fill(&vault);
    vault.rotate(5).unwrap();
    assert!(is_whole(&vault));
    drop(vault);
    // The rotation has written one.
    if !snapshot {
        fs::remove_file(folder.path().join("snapshot.mildam")).unwrap();
    }
    folder
}

fn copied(original: &TempDir) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(original.path(), folder.path());
    folder
}

/// REQ L1: with a snapshot, nothing is lost wherever the store is damaged; and the vault can be used
/// on, opened again and rotated.
#[test]
fn a_damaged_store_is_put_together_from_its_snapshot() {
    const PLACES: usize = 40;
    let original = filled(true);
    let data = fs::read(original.path().join("store/db")).unwrap();
    for at in (0..data.len()).step_by(data.len().div_ceil(PLACES)) {
        let folder = copied(&original);
        let mut flipped = data.clone();
        // A whole sector that cannot be read.
        flipped.iter_mut().skip(at).take(512).for_each(|byte| *byte ^= 0x55);
        fs::write(folder.path().join("store/db"), flipped).unwrap();
        let vault = Vault::recover(folder.path(), &unlock()).unwrap();
        assert!(is_whole(&vault), "at {at}");
        let repair = vault.repair().unwrap().unwrap();
        assert_eq!((repair.account, repair.rooms, repair.messages), (true, 2, 120));
        let mut changes = Changes::new();
        changes.remove(Slot::Repair);
        vault.commit(changes).unwrap();
        assert!(folder.path().join("store-damaged").exists());
        vault.rotate(9).unwrap();
        // What the clock says is no reason to throw it away.
        assert!(folder.path().join("store-damaged").exists());
        vault.discard_damaged().unwrap();
        assert!(!folder.path().join("store-damaged").exists());
        drop(vault);
        let vault = open(folder.path()).unwrap();
        assert!(is_whole(&vault) && vault.repair().unwrap().is_none(), "at {at}");
    }
}

#[test]
fn a_store_that_is_gone_is_put_together_from_its_snapshot() {
    let original = filled(true);
    let ruin: [fn(&Path); 4] = [
        |folder| fs::remove_dir_all(folder.join("store")).unwrap(),
        |folder| fs::write(folder.join("store/db"), b"").unwrap(),
        |folder| fs::write(folder.join("store/db"), [0xab; 100_000]).unwrap(),
        |folder| fs::remove_file(folder.join("keys.mildam")).unwrap(),
    ];
    for ruin in ruin {
        let folder = copied(&original);
        ruin(folder.path());
        let vault = Vault::recover(folder.path(), &unlock()).unwrap();
        assert!(is_whole(&vault));
    }
}

/// Without a snapshot, what can be read of the store is kept, and it is said how much.
#[test]
fn what_can_be_read_is_saved_without_a_snapshot() {
    let original = filled(false);
    let data = fs::read(original.path().join("store/db")).unwrap();
    let mut kept = 0;
    for at in (0..data.len()).step_by(data.len().div_ceil(12)) {
        let folder = copied(&original);
        let mut flipped = data.clone();
        flipped.iter_mut().skip(at).take(512).for_each(|byte| *byte ^= 0x55);
        fs::write(folder.path().join("store/db"), flipped).unwrap();
        match Vault::recover(folder.path(), &unlock()) {
            Ok(vault) => {
                vault.verify().unwrap();
                let repair = vault.repair().unwrap().unwrap();
                let lines: Vec<_> =
                    [1, 2].iter().flat_map(|n| vault.history(&room(*n), None, 1000).unwrap()).collect();
                assert_eq!(repair.messages, lines.len() as u64);
                assert_eq!(vault.search("apple", 1000).unwrap().len(), lines.len());
                for found in lines {
                    assert_eq!(found, line(found.id.as_bytes()[0], found.seq));
                }
                kept += repair.messages;
            }
            Err(error) => assert_eq!(error.code(), "vault_damaged"),
        }
    }
    assert!(kept > 120, "{kept} lines in all were saved");
}

/// Each repair keeps what it replaced, and says what it has not found.
#[test]
fn every_damaged_store_is_kept_and_the_loss_is_told() {
    let folder = filled(false);
    for kept in ["store-damaged", "store-damaged-2", "store-damaged-3"] {
        let vault = Vault::recover(folder.path(), &unlock()).unwrap();
        assert!(vault.repair().unwrap().unwrap().account && folder.path().join(kept).is_dir(), "{kept}");
    }
    let vault = open(folder.path()).unwrap();
    let mut changes = Changes::new();
    changes.remove(Slot::Account);
    vault.commit(changes).unwrap();
    vault.discard_damaged().unwrap();
    drop(vault);
    let vault = Vault::recover(folder.path(), &unlock()).unwrap();
    let repair = vault.repair().unwrap().unwrap();
    assert_eq!((repair.account, repair.rooms, repair.messages), (false, 2, 120));
    assert!(!folder.path().join("store-damaged-2").exists());
}

/// A store that cannot be read because the disk is full is not damaged: a repair leaves it alone.
#[cfg(unix)]
#[test]
fn a_repair_on_a_full_disk_throws_nothing_away() {
    use std::process::Command;

    let original = filled(false);
    let folder = copied(&original);
    for _ in 0..2 {
        let limited =
            "trap '' XFSZ; ulimit -f 0; exec \"$0\" --exact repairs_on_a_full_disk --ignored --nocapture";
        let mut command = Command::new("sh");
        command.args(["-c", limited]).arg(std::env::current_exe().unwrap());
        let output = command.env("MILDAM_TEST_VAULT", folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("said: disk_full"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(!folder.path().join("store-damaged").exists());
    assert!(is_whole(&open(folder.path()).unwrap()));
}

/// The other process of [`a_repair_on_a_full_disk_throws_nothing_away`].
#[cfg(unix)]
#[test]
#[ignore = "run by another test, in a process of its own"]
fn repairs_on_a_full_disk() {
    let Some(folder) = std::env::var_os("MILDAM_TEST_VAULT") else {
        return;
    };
    match Vault::recover(Path::new(&folder), &unlock()) {
        Ok(_) => println!("said: repaired"),
        Err(error) => println!("said: {}", error.code()),
    }
}

/// A repair of a sound vault loses nothing, and does not bring back what was removed.
#[test]
fn a_sound_vault_stays_as_it_is() {
    let folder = filled(true);
    let vault = open(folder.path()).unwrap();
    let mut changes = Changes::new();
    changes.remove_outbox(&room(1), &id(1, 1000));
    changes.put(Slot::Server, b"later than the snapshot".to_vec());
    vault.commit(changes).unwrap();
    drop(vault);
    let vault = Vault::recover(folder.path(), &unlock()).unwrap();
    assert!(vault.outbox_of(&room(1)).unwrap().is_empty());
    assert_eq!(vault.outbox().unwrap().len(), 1);
    assert_eq!(**vault.get(Slot::Server).unwrap().unwrap(), *b"later than the snapshot");
    assert_eq!(vault.history(&room(2), None, 1000).unwrap().len() as u64, LINES);
    assert!(matches!(Vault::recover(folder.path(), &unlock()), Err(VaultError::Locked)));
}

#[test]
fn a_repair_asks_for_the_passphrase_and_touches_nothing_without_it() {
    let folder = filled(true);
    fs::write(folder.path().join("store/db"), b"").unwrap();
    let wrong = Unlock::Passphrase("other".to_owned().into());
    assert!(matches!(Vault::recover(folder.path(), &wrong), Err(VaultError::WrongPassphrase)));
    assert!(is_whole(&Vault::recover(folder.path(), &unlock()).unwrap()));
    // Neither store nor snapshot: nothing to be had, and it is said.
    let folder = filled(false);
    fs::write(folder.path().join("store/db"), b"").unwrap();
    for _ in 0..2 {
        assert_eq!(Vault::recover(folder.path(), &unlock()).unwrap_err().code(), "vault_damaged");
    }
}

/// A snapshot is made only of a store that is whole, and takes the earlier one's place as a whole.
#[test]
fn a_snapshot_is_verified() {
    let folder = filled(true);
    let path = folder.path().join("snapshot.mildam");
    let first = fs::read(&path).unwrap();
    let vault = open(folder.path()).unwrap();
    let mut changes = Changes::new();
    changes.put(Slot::Server, b"more".to_vec());
    vault.commit(changes).unwrap();
    vault.snapshot().unwrap();
    let second = fs::read(&path).unwrap();
    assert_ne!(first, second);
    assert!(!folder.path().join("snapshot.mildam-new").exists());
    drop(vault);
    // Its rows are older than those of the store; a repair takes the newer ones.
    fs::write(&path, first).unwrap();
    let vault = Vault::recover(folder.path(), &unlock()).unwrap();
    assert_eq!(**vault.get(Slot::Server).unwrap().unwrap(), *b"more");
}

/// What opens the vault can be changed, and then only the new passphrase opens it.
#[test]
fn the_passphrase_is_changed() {
    let folder = filled(true);
    let vault = open(folder.path()).unwrap();
    let next = || Unlock::Passphrase("새 비밀".to_owned().into());
    let wrong = Unlock::Passphrase("other".to_owned().into());
    let refused = change_unlock_with_argon2(&vault, &wrong, &next(), CHEAP);
    assert!(matches!(refused, Err(VaultError::WrongPassphrase)));
    assert!(matches!(
        change_unlock_with_argon2(&vault, &Unlock::Keyring, &next(), CHEAP),
        Err(VaultError::PassphraseNeeded)
    ));
    change_unlock_with_argon2(&vault, &unlock(), &next(), CHEAP).unwrap();
    assert!(is_whole(&vault));
    drop(vault);
    assert!(matches!(open(folder.path()), Err(VaultError::WrongPassphrase)));
    let vault = open_with_argon2(folder.path(), next(), CHEAP).unwrap();
    assert!(is_whole(&vault));
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A vault that version 0.1.0 wrote, in format 1: it is brought up once, and nothing is lost.
#[test]
fn a_vault_of_format_1_is_brought_up() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("format-1/keys.mildam"), folder.path().join("keys.mildam")).unwrap();
    write_store(folder.path(), &fixture("format-1/rows.mildam")).unwrap();
    for opening in 0..3 {
        let vault = open(folder.path()).unwrap();
        vault.verify().unwrap();
        for n in [1, 2] {
            let lines = vault.history(&room(n), None, 1000).unwrap();
            assert_eq!(lines.len(), 40);
            assert_eq!(lines[39].body, b"body 40");
            assert_eq!(*vault.room(&room(n)).unwrap().unwrap().state, b"state".repeat(2000));
            assert!(vault.log_hash(&room(n), 40).unwrap().is_some());
            assert_eq!(vault.receipts(&room(n)).unwrap()[0].seq, 40);
            assert_eq!(vault.outbox_of(&room(n)).unwrap()[0].sealed.as_deref(), Some(&b"sealed"[..]));
        }
        assert_eq!(vault.search("apple7", 9).unwrap().len(), 2);
        assert_eq!(**vault.get(Slot::Device).unwrap().unwrap(), *b"device".repeat(1000));
        assert_eq!(vault.accounts().unwrap().len(), 1);
        assert_eq!(vault.rotated_at().unwrap(), opening);
        vault.rotate(opening + 1).unwrap();
    }
}

/// What a full disk or a power cut leaves of an opening, or does to sled's index, takes nothing.
#[test]
fn an_interrupted_or_damaged_index_takes_nothing() {
    let original = filled(false);
    let snapshots = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder.join("store")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap.")).collect()
    };
    let index = snapshots(original.path());
    assert_eq!(index.len(), 1, "sled writes one at each opening");
    let whole = fs::read(&index[0]).unwrap();
    let name = index[0].file_name().unwrap().to_str().unwrap();
    let left = [
        (format!("{name}.generating"), Vec::new()),
        (format!("{name}.generating"), whole[..whole.len() / 2].to_vec()),
        ("snap.FFFFFFFFFFFFFFFF.generating".to_owned(), b"half".to_vec()),
        (name.to_owned(), Vec::new()),
        (name.to_owned(), whole[..whole.len() - 1].to_vec()),
        (name.to_owned(), whole.iter().map(|byte| byte ^ 0x55).collect()),
        (format!("aside-{name}"), whole.clone()),
    ];
    for (name, bytes) in left {
        let folder = copied(&original);
        if name.starts_with("aside-") {
            fs::remove_file(folder.path().join("store").join(name.trim_start_matches("aside-"))).unwrap();
        }
        fs::write(folder.path().join("store").join(&name), bytes).unwrap();
        for _ in 0..2 {
            assert!(is_whole(&open(folder.path()).unwrap()), "{name}");
        }
        let after = snapshots(folder.path());
        assert!(after.iter().all(|path| path.extension().unwrap() != "generating"), "{after:?}");
    }
    // Where the log itself is damaged, nothing is changed by having tried.
    let folder = copied(&original);
    fs::write(folder.path().join("store/db"), b"").unwrap();
    fs::write(folder.path().join("store").join(name), &whole).unwrap();
    assert_eq!(open(folder.path()).unwrap_err().code(), "vault_damaged");
}

/// The other process of [`an_opening_on_a_full_disk_says_so`].
#[cfg(unix)]
#[test]
#[ignore = "run by another test, in a process of its own"]
fn opens_on_a_full_disk() {
    let Some(folder) = std::env::var_os("MILDAM_TEST_VAULT") else {
        return;
    };
    match open(Path::new(&folder)) {
        Ok(_) => println!("said: opened"),
        Err(error) => println!("said: {}", error.code()),
    }
}

/// REQ L1: a vault that cannot be opened since no file may grow is not damaged, and it is as it was.
#[cfg(unix)]
#[test]
fn an_opening_on_a_full_disk_says_so() {
    use std::process::Command;

    let original = filled(true);
    for blocks in [0, 1, 2, 4, 64, 512] {
        let folder = copied(&original);
        let limited = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact opens_on_a_full_disk --ignored --nocapture"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &limited]).arg(std::env::current_exe().unwrap());
        for _ in 0..2 {
            let output = command.env("MILDAM_TEST_VAULT", folder.path()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let said = said.lines().find_map(|line| line.split_once("said: "));
            let said = said.map_or("nothing", |(_, said)| said);
            assert!(matches!(said, "disk_full" | "opened"), "{blocks} blocks: {said}");
            assert!(said == "disk_full" || blocks > 0, "{blocks}");
        }
        assert!(is_whole(&open(folder.path()).unwrap()), "{blocks} blocks");
    }
}

/// The other process of [`a_full_disk_loses_nothing`].
#[cfg(unix)]
#[test]
#[ignore = "run by another test, in a process of its own"]
fn fills_the_disk() {
    let Some(folder) = std::env::var_os("MILDAM_TEST_VAULT") else {
        return;
    };
    let vault = open(Path::new(&folder)).unwrap();
    let mut seq = vault.last_message(&room(1)).unwrap().map_or(0, |line| line.seq);
    loop {
        seq += 1;
        let mut changes = Changes::new();
        changes.put_message(&room(1), line(1, seq));
        if let Err(error) = vault.commit(changes) {
            println!("said: {} {}", seq - 1, error.code());
            // After that nothing is promised any more, until it is opened again.
            let mut changes = Changes::new();
            changes.put(Slot::Server, b"more".to_vec());
            assert_eq!(vault.commit(changes).unwrap_err().code(), error.code());
            return;
        }
    }
}

/// REQ L1: no file may grow any more, as on a full disk: the commit says so, and after that, with
/// room again, everything is there that was acknowledged. A limit for one process stands for the
/// disk: it needs no rights, and gives the same refusal at the same calls.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing() {
    use std::process::Command;

    for blocks in [1200, 1300, 1777, 2600] {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()).unwrap());
        let limited = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact fills_the_disk --ignored --nocapture"
        );
        let output = Command::new("sh")
            .args(["-c", &limited])
            .arg(std::env::current_exe().unwrap())
            .env("MILDAM_TEST_VAULT", folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = said
            .lines()
            .find_map(|line| line.split_once("said: "))
            .unwrap_or_else(|| panic!("{blocks}: {said}{}", String::from_utf8_lossy(&output.stderr)));
        let (acknowledged, code) = said.1.split_once(' ').unwrap();
        assert_eq!(code, "disk_full", "{blocks}");
        let acknowledged: u64 = acknowledged.parse().unwrap();
        assert!(acknowledged > 0, "{blocks}");
        let vault = open(folder.path()).unwrap();
        vault.verify().unwrap();
        let found = vault.last_message(&room(1)).unwrap().unwrap().seq;
        assert!(found == acknowledged || found == acknowledged + 1, "{acknowledged}, {found}");
        for seq in 1..=acknowledged {
            assert_eq!(vault.message_by_id(&room(1), &id(1, seq)).unwrap().unwrap(), line(1, seq));
        }
        vault.rotate(1).unwrap();
        vault.snapshot().unwrap();
    }
}
