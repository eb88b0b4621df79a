//! The test vectors of docs/e2ee.md.
//!
//! `docs/vectors/e2ee.json` holds a short conversation: private keys, the records that Mildam makes
//! of them with a seeded source of randomness, and every value derived on the way. The derived
//! values are computed by [`second`], which shares no code with the crate but the primitives. The
//! tests fail when code and file differ; `MILDAM_WRITE_VECTORS=1` writes the file anew.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod second;
mod story;

use std::path::PathBuf;

use mildam_e2ee::records::{AccountKeys, LogItem, LogPosition, Receipt};
use mildam_e2ee::{Accepted, Body, Directory, KnownAccount, Reader, Room, SafetyNumber};
use serde_json::Value;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/e2ee.json")
}

fn file() -> Value {
    serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap()
}

fn part<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

// REQ C4, M1
#[test]
fn the_file_is_what_the_code_makes() {
    let told = story::tell();
    let made = second::explain(told);
    if std::env::var_os("MILDAM_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(path().parent().unwrap()).unwrap();
        std::fs::write(path(), format!("{made:#}\n")).unwrap();
    }
    let file = file();
    for section in ["canonical", "padding", "accounts", "safety_number", "room"] {
        assert_eq!(made[section], file[section], "{section}");
    }
    assert_eq!(made, file);
}

// REQ C4, M1, M2
#[test]
fn the_file_reads_as_a_conversation() {
    let file = file();
    let accounts = &file["accounts"];
    let keys = |name: &str| part::<AccountKeys>(&accounts[name]["keys"]);
    let directory: std::collections::BTreeMap<_, _> = ["alice", "bob"]
        .map(keys)
        .map(|keys| (keys.account.clone(), KnownAccount::first_contact(keys).unwrap()))
        .into();
    for name in ["alice", "bob"] {
        let secrets = story::secrets(name, &accounts[name]["private"]);
        let mut room = Room::empty(part(&file["room"]["id"]));
        let mut hashes = std::collections::BTreeMap::new();
        let mut texts = Vec::new();
        for item in file["room"]["log"].as_array().unwrap() {
            let mut item: LogItem = part(item);
            if let LogItem::Epoch { wrap, .. } = &mut item {
                *wrap = Some(part(&file["room"]["wraps"][name]));
            }
            let reader = Reader {
                secrets: &secrets,
                directory: &directory,
                hashes: &hashes,
                keys_are_fresh: true,
                now: 0,
            };
            let accepted = room.accept(&item, &reader, &mut story::Seeded::new("reading")).unwrap();
            if let Accepted::Message(message) = accepted {
                let Body::Text(text) = message.content.body else { panic!() };
                texts.push((message.sender.to_string(), text));
            }
            hashes.insert(room.position().seq, room.position().hash);
        }
        let said = [("alice", "안녕하세요, 밥! 오늘 저녁 어때요?"), ("bob", "Hello Alice, seven o'clock?")];
        assert_eq!(texts, said.map(|(who, text)| (who.to_owned(), text.to_owned())));
        assert_eq!(room.profile().unwrap().name, "저녁 모임");
        assert_eq!(room.position(), part::<LogPosition>(&file["room"]["end"]));
        let receipt: Receipt = part(&file["room"]["receipt"]);
        assert_eq!(room.verify_receipt(&receipt, &directory, &hashes), Ok(()));
    }
    let known = |name: &str| directory.account(&name.parse().unwrap()).unwrap();
    let (alice, bob) = (known("alice"), known("bob"));
    let number =
        SafetyNumber::of((alice.account(), alice.identity()), (bob.account(), bob.identity())).unwrap();
    assert_eq!(number.to_string(), file["safety_number"]["digits"]);
}
