//! The conversation, told by the crate itself.

use std::collections::BTreeMap;
use std::convert::Infallible;

use data_encoding::BASE64URL_NOPAD;
use mildam_e2ee::records::{
    AccountId, AccountKeys, ClientMessageId, Hash, LogEntry, LogItem, LogPosition, ReceiptKind, RoomId,
    RoomKind, Wrap,
};
use mildam_e2ee::recovery::WordLanguage;
use mildam_e2ee::{
    Body, Content, DeviceKey, DeviceSecrets, IdentityKey, KnownAccount, NewEpoch, PreKey, Reader,
    RecoveryWords, Room, RoomProfile, WrapKey, first_device_list,
};
use rand_core::{TryCryptoRng, TryRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const NOW: u64 = 1_700_000_000_000;

/// `SHA-256(purpose || 0), SHA-256(purpose || 1), ...` with u64 big-endian counters.
pub(crate) struct Seeded {
    purpose: &'static str,
    counter: u64,
}

impl Seeded {
    pub(crate) fn new(purpose: &'static str) -> Self {
        Self { purpose, counter: 0 }
    }
}

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        rand_core::utils::next_word_via_fill(self)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        rand_core::utils::next_word_via_fill(self)
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), Infallible> {
        for chunk in destination.chunks_mut(32) {
            let block =
                Sha256::new().chain_update(self.purpose).chain_update(self.counter.to_be_bytes()).finalize();
            self.counter += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Seeded {}

fn encode(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

fn decode(value: &Value) -> Vec<u8> {
    BASE64URL_NOPAD.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn seed(value: &Value) -> [u8; 32] {
    decode(value).try_into().unwrap()
}

/// A device from the private keys in the file.
pub(crate) fn secrets(name: &str, private: &Value) -> DeviceSecrets {
    DeviceSecrets::new(
        name.parse().unwrap(),
        WrapKey::from_pkcs8(&decode(&private["wrap_key"])).unwrap(),
        DeviceKey::from_seed(&seed(&private["device_key"])),
        PreKey::from_seed(&seed(&private["prekey"])).unwrap(),
        NOW,
    )
    .unwrap()
}

fn private(name: &str) -> Value {
    let rsa: Value = serde_json::from_str(include_str!("../keys.json")).unwrap();
    let seed = |key: &str| encode(&Sha256::digest(format!("{name}'s {key}")));
    json!({
        "identity_key": rsa[name]["identity"],
        "wrap_key": rsa[name]["wrap"],
        "device_key": seed("device key"),
        "prekey": seed("prekey"),
    })
}

fn account(name: &'static str, private: &Value) -> (DeviceSecrets, AccountKeys, Value) {
    let id: AccountId = name.parse().unwrap();
    let identity = IdentityKey::from_pkcs8(&decode(&private["identity_key"])).unwrap();
    let secrets = secrets(name, private);
    let rng = &mut Seeded::new(name);
    let keys = AccountKeys {
        account: id.clone(),
        identity_key: identity.public().clone(),
        lists: vec![first_device_list(&identity, &secrets, 1, rng).unwrap()],
        prekeys: vec![secrets.signed_prekey().unwrap().clone()],
    };
    let words = RecoveryWords::generate(rng);
    let transcript = Hash::from_bytes(Sha256::digest("a transcript").into());
    let record = b"a password record";
    let value = json!({
        "private": private,
        "keys": keys,
        "recovery": {
            "english": words.words(WordLanguage::English),
            "korean": words.words(WordLanguage::Korean),
            "sealed_identity": identity.seal(&words, &id, rng).unwrap(),
            "recovery_key": words.recovery_key(&id).unwrap(),
            "transcript": transcript,
            "proof": words.sign(&id, &transcript).unwrap(),
            "password_record": encode(record),
            "recovered_proof": secrets.sign_recovered(&transcript, record, &keys.lists[0].hash()),
        },
        "login": { "transcript": transcript, "proof": secrets.sign_login_proof(&transcript) },
    });
    (secrets, keys, value)
}

struct Speaker {
    secrets: DeviceSecrets,
    room: Room,
    hashes: BTreeMap<u64, Hash>,
}

impl Speaker {
    fn new(secrets: DeviceSecrets, room: RoomId) -> Self {
        Self { secrets, room: Room::empty(room), hashes: BTreeMap::new() }
    }

    fn read(&mut self, item: &LogItem, wraps: &[Wrap], directory: &BTreeMap<AccountId, KnownAccount>) {
        let mut item = item.clone();
        if let LogItem::Epoch { wrap, .. } = &mut item {
            *wrap = wraps.iter().find(|wrap| wrap.device == self.secrets.device()).cloned().map(Box::new);
        }
        let reader = Reader {
            secrets: &self.secrets,
            directory,
            hashes: &self.hashes,
            keys_are_fresh: true,
            now: NOW,
        };
        self.room.accept(&item, &reader, &mut Seeded::new("reading")).unwrap();
        self.hashes.insert(self.room.position().seq, self.room.position().hash);
    }
}

/// Private keys and records of the whole conversation.
pub(crate) fn tell() -> Value {
    let (private_of_alice, private_of_bob) = (private("alice"), private("bob"));
    let (alice, alice_keys, alice_value) = account("alice", &private_of_alice);
    let (bob, bob_keys, bob_value) = account("bob", &private_of_bob);
    let directory: BTreeMap<_, _> = [alice_keys, bob_keys]
        .map(|keys| (keys.account.clone(), KnownAccount::first_contact(keys).unwrap()))
        .into();

    let profile = RoomProfile { name: "저녁 모임".into(), ..RoomProfile::default() };
    let others = ["bob".parse().unwrap()];
    let rng = &mut Seeded::new("create");
    let new = Room::create(RoomKind::Group, &others, Some(&profile), &alice, &directory, NOW, rng).unwrap();
    let NewEpoch { announcement, wraps, profile } = new.epoch;
    let change = LogEntry::Change(Box::new(new.change));
    let mut log = vec![
        LogItem::Entry { seq: 1, stored_at: NOW + 1, entry: change, snapshot: None },
        LogItem::Epoch {
            after: 1,
            stored_at: NOW + 1,
            announcement: Box::new(announcement),
            wrap: None,
            profile,
        },
    ];
    let mut people = [Speaker::new(alice, new.room), Speaker::new(bob, new.room)];
    for person in &mut people {
        log.iter().for_each(|item| person.read(item, &wraps, &directory));
    }
    let texts = ["안녕하세요, 밥! 오늘 저녁 어때요?", "Hello Alice, seven o'clock?"];
    for (at, text) in texts.into_iter().enumerate() {
        let sent_at = NOW + 1000 * (at as u64 + 1);
        let content = Content { sent_at, body: Body::Text(text.into()) };
        let id = ClientMessageId::from_bytes([at as u8 + 1; 16]);
        let (speaker, rng) = (&mut people[at], &mut Seeded::new(["first", "second"][at]));
        let message = speaker.room.seal(&content, id, &speaker.secrets, &directory, sent_at, rng).unwrap();
        let entry = LogEntry::Message(Box::new(message));
        let item = LogItem::Entry { seq: at as u64 + 2, stored_at: sent_at + 1, entry, snapshot: None };
        people.iter_mut().for_each(|person| person.read(&item, &wraps, &directory));
        log.push(item);
    }
    // A room in the place of this one; only its form matters here.
    let (speaker, rng) = (&people[0], &mut Seeded::new("replacement"));
    let replacement = speaker.room.replace(&others, &speaker.secrets, &directory, NOW, rng).unwrap();
    let end: LogPosition = people[0].room.position();
    let receipt = people[0].secrets.sign_receipt(new.room, ReceiptKind::Read, end);
    let wrap_of =
        |at: usize| wraps.iter().find(|wrap| wrap.device == people[at].secrets.device()).cloned().unwrap();
    json!({
        "accounts": { "alice": alice_value, "bob": bob_value },
        "room": {
            "id": new.room,
            "log": log,
            "wraps": { "alice": wrap_of(0), "bob": wrap_of(1) },
            "end": end,
            "receipt": receipt,
            "replacement": replacement.change,
        },
    })
}
