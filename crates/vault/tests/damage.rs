//! Damaged files lead to errors that a person can be told, never to a panic or to wrong data.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use mildam_records::{AccountId, ClientMessageId, RoomId};
use mildam_vault::hazmat::{Argon2Cost, open_with_argon2};
use mildam_vault::{Changes, HistoryRow, Slot, Unlock, Vault, VaultError};
use tempfile::TempDir;

use common::copy;

fn open(folder: &Path, passphrase: &str) -> Result<Vault, VaultError> {
    let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    open_with_argon2(folder, Unlock::Passphrase(passphrase.to_owned().into()), cheap)
}

fn room() -> RoomId {
    RoomId::from_bytes([7; 32])
}

fn line(seq: u64, padding: usize) -> HistoryRow {
    let from: AccountId = "alice".parse().unwrap();
    HistoryRow {
        seq,
        id: ClientMessageId::from_bytes([u8::try_from(seq).unwrap(); 16]),
        from,
        sent_at: 1_790_000_000_000 + seq,
        body: vec![b'x'; padding],
        text: Some(format!("사과 {seq}")),
    }
}

/// A closed vault with this many commits of one line each.
fn filled(lines: u64, padding: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path(), "right").unwrap();
    for seq in 1..=lines {
        let mut changes = Changes::new();
        changes.put(Slot::Device, seq.to_be_bytes().to_vec());
        changes.put_message(&room(), line(seq, padding));
        vault.commit(changes).unwrap();
    }
    drop(vault);
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Opens a copy of a vault in which one file was changed.
fn open_with(
    original: &Path,
    name: &Path,
    bytes: &[u8],
    passphrase: &str,
) -> (TempDir, Result<Vault, VaultError>) {
    let damaged = tempfile::tempdir().unwrap();
    copy(original, damaged.path());
    fs::write(damaged.path().join(name), bytes).unwrap();
    let opened = open(damaged.path(), passphrase);
    (damaged, opened)
}

/// So few bytes must not take everything with them: there is a copy, and the damaged one is written
/// anew.
#[test]
fn every_flipped_byte_of_the_key_slot_is_noticed_and_mended() {
    let folder = filled(1, 0);
    let slot = fs::read(folder.path().join("keys.mildam")).unwrap();
    assert_eq!(slot.len(), 219);
    assert_eq!(fs::read(folder.path().join("keys-copy.mildam")).unwrap(), slot);
    let flipped = (0..slot.len()).map(|at| {
        let mut flipped = slot.clone();
        flipped[at] ^= 0x10;
        (at, flipped)
    });
    for (at, bytes) in flipped.chain((0..slot.len()).map(|length| (length, slot[..length].to_vec()))) {
        for name in ["keys.mildam", "keys-copy.mildam"] {
            let (damaged, opened) = open_with(folder.path(), Path::new(name), &bytes, "right");
            // The format's two bytes may say a newer one, and that is not touched.
            if matches!(at, 8 | 9) && bytes.len() == slot.len() && name == "keys.mildam" {
                assert_eq!(opened.unwrap_err().code(), "vault_newer", "byte {at}");
                continue;
            }
            drop(opened.unwrap());
            for name in ["keys.mildam", "keys-copy.mildam"] {
                assert_eq!(fs::read(damaged.path().join(name)).unwrap(), slot, "{name}, byte {at}");
            }
        }
        // Both at once.
        let both = tempfile::tempdir().unwrap();
        copy(folder.path(), both.path());
        fs::write(both.path().join("keys-copy.mildam"), &bytes).unwrap();
        let (_damaged, opened) = open_with(both.path(), Path::new("keys.mildam"), &bytes, "right");
        let expected =
            if matches!(at, 8 | 9) && bytes.len() == slot.len() { "vault_newer" } else { "vault_damaged" };
        assert_eq!(opened.unwrap_err().code(), expected, "byte {at}");
    }
}

#[test]
fn a_wrong_passphrase_is_told_from_damage() {
    // REQ L1
    let folder = filled(1, 0);
    for wrong in ["", "Right", "right "] {
        assert!(matches!(open(folder.path(), wrong), Err(VaultError::WrongPassphrase)));
    }
    assert!(open(folder.path(), "right").is_ok());
}

#[test]
fn a_passphrase_may_be_typed_composed_or_decomposed() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), "비밀").unwrap());
    assert!(open(folder.path(), "\u{1107}\u{1175}\u{1106}\u{1175}\u{11af}").is_ok());
}

#[test]
fn a_vault_of_a_newer_version_is_left_alone() {
    let folder = filled(1, 0);
    let path = folder.path().join("keys.mildam");
    let mut slot = fs::read(&path).unwrap();
    slot[9] = 2;
    // A newer slot may have another length.
    slot.extend_from_slice(b"more");
    fs::write(&path, &slot).unwrap();
    let error = open(folder.path(), "right").unwrap_err();
    assert!(matches!(error, VaultError::Newer { found: 2 }));
    assert_eq!(fs::read(&path).unwrap(), slot);
}

#[test]
fn lost_files_are_noticed() {
    let lost = |name: &str| {
        let folder = filled(2, 0);
        let path = folder.path().join(name);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        open(folder.path(), "right").map(drop)
    };
    for name in ["store", "store/db"] {
        let error = lost(name).unwrap_err();
        assert_eq!(error.code(), "vault_damaged", "{name}");
    }
    for name in ["lock.mildam", "head.mildam", "keys.mildam", "keys-copy.mildam"] {
        assert!(lost(name).is_ok(), "{name}");
    }
}

#[test]
fn a_store_that_went_back_is_noticed() {
    let folder = filled(3, 0);
    let older = tempfile::tempdir().unwrap();
    copy(&folder.path().join("store"), older.path());
    let vault = open(folder.path(), "right").unwrap();
    let mut changes = Changes::new();
    changes.put(Slot::Server, b"later".to_vec());
    vault.commit(changes).unwrap();
    drop(vault);
    fs::remove_dir_all(folder.path().join("store")).unwrap();
    copy(older.path(), &folder.path().join("store"));
    let error = open(folder.path(), "right").unwrap_err();
    assert_eq!(error.code(), "vault_damaged");
}

#[test]
fn an_interrupted_creation_is_begun_again() {
    let folder = filled(1, 0);
    let slot = folder.path().join("keys.mildam");
    fs::rename(&slot, folder.path().join("keys.mildam-new")).unwrap();
    fs::remove_file(folder.path().join("keys-copy.mildam")).unwrap();
    assert!(!Vault::exists(folder.path()));
    let vault = open(folder.path(), "another").unwrap();
    assert!(Vault::exists(folder.path()));
    assert_eq!(vault.get(Slot::Device).unwrap(), None);
}

/// Each file of the store, at many places, one flipped byte: the vault refuses to open, or says
/// which row is damaged; what it does give is right, secrets are never old ones, and if a line is
/// missing, `verify` says so.
#[test]
fn a_flipped_byte_in_the_store_never_gives_wrong_data() {
    const PLACES: usize = 80;
    for (lines, padding) in [(40, 40), (60, 10_000)] {
        let folder = filled(lines, padding);
        for file in files(&folder.path().join("store")) {
            let name = file.strip_prefix(folder.path()).unwrap();
            let bytes = fs::read(&file).unwrap();
            for at in (0..bytes.len()).step_by(bytes.len().div_ceil(PLACES)) {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x55;
                let place = format!("{} at {at}", name.display());
                match open_with(folder.path(), name, &flipped, "right") {
                    (_damaged, Ok(vault)) => check_rows(&vault, lines, padding, &place),
                    (_damaged, Err(error)) => assert_eq!(error.code(), "vault_damaged", "{place}"),
                }
            }
        }
    }
}

fn check_rows(vault: &Vault, lines: u64, padding: usize, place: &str) {
    let sound = vault.verify().is_ok();
    let damaged = |error: VaultError| {
        assert_eq!(error.code(), "vault_damaged", "{place}");
        assert!(!sound, "{place}");
    };
    match vault.get(Slot::Device) {
        Ok(device) => assert_eq!(**device.unwrap(), lines.to_be_bytes(), "{place}"),
        Err(error) => damaged(error),
    }
    for seq in 1..=lines {
        let expected = line(seq, padding);
        match vault.message_by_id(&room(), &expected.id) {
            Ok(Some(row)) => assert_eq!(row, expected, "{place}"),
            Ok(None) => assert!(!sound, "{place}"),
            Err(error) => damaged(error),
        }
    }
    match vault.search("사과", usize::MAX) {
        Ok(hits) => assert!(!sound || hits.len() as u64 == lines, "{place}"),
        Err(error) => damaged(error),
    }
}
