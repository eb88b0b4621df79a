//! Any item that a relay may hand out, read by a member of the vectors' room from any place of it.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use data_encoding::BASE64URL_NOPAD as B64;
use libfuzzer_sys::fuzz_target;
use mildam_e2ee::{DeviceKey, DeviceSecrets, KnownAccount, NotAccepted, PreKey, Reader, Room, WrapKey};
use mildam_fuzz::{json_reads_back, rng};
use mildam_records::{AccountId, Hash, LogItem, RoomId, Wrap};
use serde_json::Value;

/// Bob, who reads, at every place of the log.
struct Scene {
    secrets: DeviceSecrets,
    directory: BTreeMap<AccountId, KnownAccount>,
    states: Vec<Vec<u8>>,
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect("a text")
}

fn bob(vectors: &Value) -> DeviceSecrets {
    let (person, keys) = (&vectors["accounts"]["bob"], &vectors["accounts"]["bob"]["keys"]);
    let bytes = |name: &str| B64.decode(text(&person["private"], name).as_bytes()).expect("b64");
    let seed = |name: &str| bytes(name).try_into().expect("32 bytes");
    let created_at = keys["lists"][0]["certificates"][0]["created_at"].as_u64().expect("a time");
    DeviceSecrets::new(
        text(keys, "account").parse().expect("an account"),
        WrapKey::from_pkcs8(&bytes("wrap_key")).expect("a wrap key"),
        DeviceKey::from_seed(&seed("device_key")),
        PreKey::from_seed(&seed("prekey")).expect("a prekey"),
        created_at,
    )
    .expect("a device")
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let vectors: Value =
        serde_json::from_str(include_str!("../../docs/vectors/e2ee.json")).expect("the vectors");
    let known = |name: &str| {
        let keys = serde_json::from_value(vectors["accounts"][name]["keys"].clone()).expect("keys");
        KnownAccount::first_contact(keys).expect("keys that verify")
    };
    let directory = ["alice", "bob"].map(|name| (name.parse().expect("an account"), known(name)));
    let mut scene = Scene { secrets: bob(&vectors), directory: directory.into(), states: Vec::new() };
    let own: Wrap = serde_json::from_value(vectors["room"]["wraps"]["bob"].clone()).expect("a wrap");
    let id: RoomId = text(&vectors["room"], "id").parse().expect("a room");
    let mut room = Room::empty(id);
    let mut hashes = BTreeMap::new();
    let mut keep = |room: &Room| scene.states.push(room.to_secret_bytes().expect("a state").to_vec());
    keep(&room);
    for item in vectors["room"]["log"].as_array().expect("a log") {
        let mut item: LogItem = serde_json::from_value(item.clone()).expect("an item");
        if let LogItem::Epoch { wrap, .. } = &mut item {
            *wrap = Some(Box::new(own.clone()));
        }
        let reader = Reader {
            secrets: &scene.secrets,
            directory: &scene.directory,
            hashes: &hashes,
            keys_are_fresh: true,
            now: mildam_fuzz::NOW,
        };
        room.accept(&item, &reader, &mut rng()).expect("the vectors are read");
        hashes.insert(room.position().seq, room.position().hash);
        keep(&room);
    }
    scene
});

fuzz_target!(|input: (u8, &[u8])| {
    let Some(item) = json_reads_back::<LogItem>(input.1) else { return };
    let scene = &*SCENE;
    let state = &scene.states[usize::from(input.0) % scene.states.len()];
    let hashes: BTreeMap<u64, Hash> = BTreeMap::new();
    for keys_are_fresh in [false, true] {
        let reader = Reader {
            secrets: &scene.secrets,
            directory: &scene.directory,
            hashes: &hashes,
            keys_are_fresh,
            now: mildam_fuzz::NOW,
        };
        let mut room = Room::from_secret_bytes(state).expect("a state");
        let before = room.position();
        let outcome = room.accept(&item, &reader, &mut rng());
        let after = room.to_secret_bytes().expect("a state");
        match outcome {
            Err(NotAccepted::NeedsKeys(_)) if keys_are_fresh => panic!("keys are asked for once"),
            Err(NotAccepted::PastUnreadable(_)) => panic!("these hashes can be read"),
            Err(NotAccepted::NeedsKeys(_) | NotAccepted::OutOfOrder | NotAccepted::Old) => {
                assert_eq!(after.as_slice(), state.as_slice(), "nothing has changed");
            }
            Err(NotAccepted::Refused(_)) | Ok(_) => {
                let entry = u64::from(matches!(item, LogItem::Entry { .. }));
                assert_eq!(room.position().seq, before.seq + entry);
            }
        }
        Room::from_secret_bytes(&after).expect("every state can be read");
    }
});
