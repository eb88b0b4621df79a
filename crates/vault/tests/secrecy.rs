//! REQ L1: nothing of what the vault keeps can be read in its files.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

use mildam_records::{AccountId, ClientMessageId, Hash, ReceiptKind, RoomId};
use mildam_vault::hazmat::{Argon2Cost, open_with_argon2};
use mildam_vault::{Changes, HistoryRow, OutboxRow, RoomRow, Secret, Slot, Unlock};

const PASSPHRASE: &str = "열려라 참깨 open sesame";
const KOREAN: &str = "비밀 이야기는 밀담에서";
const ENGLISH: &str = "meet me behind the lighthouse";

fn room() -> RoomId {
    RoomId::from_bytes(*b"a room id that nobody may read!!")
}

fn id() -> ClientMessageId {
    ClientMessageId::from_bytes(*b"message-id-0123!")
}

fn fill(folder: &Path) {
    let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    let unlock = Unlock::Passphrase(PASSPHRASE.to_owned().into());
    let vault = open_with_argon2(folder, unlock, cheap).unwrap();
    let bob: AccountId = "bob.of.busan".parse().unwrap();
    for seq in 1..=200 {
        let mut changes = Changes::new();
        changes.put(Slot::Device, b"device secret bytes".repeat(500));
        changes.put(Slot::Server, b"mildam://relay.example".to_vec());
        changes.put_account(&bob, ENGLISH.as_bytes().to_vec());
        changes.put_room(
            &room(),
            RoomRow {
                state: Secret::new(b"chain key material".repeat(300)),
                meta: KOREAN.as_bytes().to_vec(),
            },
        );
        changes.put_log_hash(&room(), seq, Hash::from_bytes(*room().as_bytes()));
        changes.put_message(
            &room(),
            HistoryRow {
                seq,
                id: id(),
                from: bob.clone(),
                sent_at: 1_790_000_000_000,
                body: ENGLISH.as_bytes().to_vec(),
                text: Some(format!("{KOREAN} {ENGLISH}")),
            },
        );
        changes.put_receipt(&room(), &bob, ReceiptKind::Read, seq);
        changes.put_outbox(OutboxRow {
            order: 0,
            room: room(),
            id: id(),
            body: KOREAN.as_bytes().to_vec(),
            sealed: None,
            created_at: 0,
        });
        vault.commit(changes).unwrap();
    }
    assert_eq!(vault.search("밀담", 500).unwrap().len(), 200);
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
    found
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn nothing_is_readable_in_any_file() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let texts = [
        "열려라",
        "sesame",
        "비밀",
        "이야기",
        "밀담에서",
        "lighthouse",
        "behind",
        "bob.of.busan",
        "busan",
        "relay.example",
        "device secret",
        "chain key",
        "a room id that",
        "message-id",
    ];
    let mut needles: Vec<(String, Vec<u8>)> = Vec::new();
    for text in texts {
        needles.push((text.to_owned(), text.as_bytes().to_vec()));
        needles.push((format!("{text} (UTF-16LE)"), utf16(text, false)));
        needles.push((format!("{text} (UTF-16BE)"), utf16(text, true)));
    }
    needles.push(("room id, base64url".to_owned(), room().to_string().into_bytes()));
    needles.push(("message id, base64url".to_owned(), id().to_string().into_bytes()));

    let mut total = 0;
    for file in files(folder.path()) {
        let bytes = fs::read(&file).unwrap();
        total += bytes.len();
        for (name, needle) in &needles {
            assert!(!holds(&bytes, needle), "{name} in {}", file.display());
        }
    }
    // There was something to look through.
    assert!(total > 1_000_000, "{total} bytes");
}

#[test]
fn the_scan_would_find_what_it_looks_for() {
    assert!(holds("가나다".as_bytes(), "나".as_bytes()));
    assert!(holds(&utf16("x나y", false), &utf16("나", false)));
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_folder_and_the_keys() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("profile").join("vault");
    fill(&folder);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("keys.mildam")), 0o600);
}
