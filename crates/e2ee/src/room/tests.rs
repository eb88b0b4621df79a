//! Whole conversations in memory. [`Log`] is a relay that numbers and hands out; [`Person`] is one
//! device that reads it.

mod devices;
mod epochs;
mod interleavings;
mod messages;
mod model;
mod rooms;

use std::collections::BTreeMap;

use mildam_records::bytes::Bytes;
use mildam_records::keys::Signature;
use mildam_records::{
    AccountId, AccountKeys, Change, ClientMessageId, DeviceList, Hash, ListSigner, LogEntry, LogItem,
    LogPosition, Message, RoomChange, RoomId, RoomKind, Snapshot, Wrap,
};

use super::*;
use crate::testing::{self, NAMES, NOW, account, rng};
use crate::{Body, KnownAccount};

/// What a relay keeps of one room, and hands out: honest unless a test meddles.
#[derive(Default, Clone)]
struct Log {
    items: Vec<(LogItem, BTreeMap<AccountId, Wrap>)>,
    seq: u64,
}

impl Log {
    fn entry(&mut self, entry: LogEntry, snapshot: Option<Snapshot>) {
        self.seq += 1;
        let item = LogItem::Entry { seq: self.seq, stored_at: NOW, entry, snapshot: snapshot.map(Box::new) };
        self.items.push((item, BTreeMap::new()));
    }

    fn epoch(&mut self, new: NewEpoch) {
        let wraps = new.wraps.into_iter().map(|wrap| (wrap.account.clone(), wrap)).collect();
        let item = LogItem::Epoch {
            after: self.seq,
            stored_at: NOW,
            announcement: Box::new(new.announcement),
            wrap: None,
            profile: new.profile,
        };
        self.items.push((item, wraps));
    }

    fn change(&mut self, new: NewChange) {
        self.entry(LogEntry::Change(Box::new(new.change)), new.snapshot);
        if let Some(epoch) = new.epoch {
            self.epoch(epoch);
        }
    }

    fn message(&mut self, message: Message) {
        self.entry(LogEntry::Message(Box::new(message)), None);
    }

    /// Keeps the last entry's hash only, as retention does.
    fn withhold_last(&mut self) {
        let Some((LogItem::Entry { entry, .. }, _)) = self.items.last_mut() else { panic!() };
        *entry = LogEntry::Withheld(entry.hash());
    }

    /// The items as a member gets them: with its own wrap.
    fn for_reader(&self, at: usize, reader: &AccountId) -> LogItem {
        let (mut item, wraps) = self.items[at].clone();
        if let LogItem::Epoch { wrap, .. } = &mut item {
            *wrap = wraps.get(reader).cloned().map(Box::new);
        }
        item
    }
}

struct Person {
    secrets: DeviceSecrets,
    directory: BTreeMap<AccountId, KnownAccount>,
    room: Room,
    hashes: BTreeMap<u64, Hash>,
    read: usize,
    keys_are_fresh: bool,
}

impl Person {
    fn new(name: &str, room: Room) -> Self {
        let known = |name| KnownAccount::first_contact(testing::public(name)).unwrap();
        Self {
            secrets: testing::secrets(name),
            directory: NAMES.into_iter().map(|name| (account(name), known(name))).collect(),
            room,
            hashes: BTreeMap::new(),
            read: 0,
            keys_are_fresh: false,
        }
    }

    fn reading(name: &str, log: &Log, room: RoomId) -> Self {
        let mut person = Self::new(name, Room::empty(room));
        person.catch_up_well(log);
        person
    }

    fn take(&mut self, item: &LogItem) -> Result<Accepted, NotAccepted> {
        let reader = Reader {
            secrets: &self.secrets,
            directory: &self.directory,
            hashes: &self.hashes,
            keys_are_fresh: self.keys_are_fresh,
            now: NOW,
        };
        let outcome = self.room.accept(item, &reader, &mut rng());
        let position = self.room.position();
        self.hashes.insert(position.seq, position.hash);
        // Every state survives the vault.
        self.room = Room::from_secret_bytes(&self.room.to_secret_bytes().unwrap()).unwrap();
        outcome
    }

    fn catch_up(&mut self, log: &Log) -> Vec<Result<Accepted, NotAccepted>> {
        let from = std::mem::replace(&mut self.read, log.items.len());
        (from..log.items.len())
            .map(|at| {
                let item = log.for_reader(at, self.secrets.account());
                self.take(&item)
            })
            .collect()
    }

    fn catch_up_well(&mut self, log: &Log) -> Vec<Accepted> {
        self.catch_up(log).into_iter().map(|outcome| outcome.unwrap()).collect()
    }

    /// The code of the one refusal among what is new.
    fn refuses(&mut self, log: &Log) -> &'static str {
        let codes: Vec<_> = self.catch_up(log).into_iter().filter(|outcome| outcome.is_err()).collect();
        let [only] = &codes[..] else { panic!("{codes:?}") };
        refused(only.clone())
    }

    fn seal_body(&mut self, body: Body) -> Result<Message, RoomError> {
        let content = Content { sent_at: NOW, body };
        let id = ClientMessageId::from_bytes([7; 16]);
        self.room.seal(&content, id, &self.secrets, &self.directory, NOW, &mut rng())
    }

    fn seal(&mut self, text: &str) -> Result<Message, RoomError> {
        self.seal_body(Body::Text(text.to_owned()))
    }

    fn announce(&self) -> NewEpoch {
        self.room.announce(&self.secrets, &self.directory, NOW, &mut rng()).unwrap()
    }

    fn add(&self, name: &str) -> Result<NewChange, RoomError> {
        self.room.add(&[account(name)], &self.secrets, &self.directory, NOW, &mut rng())
    }

    fn remove(&self, name: &str) -> Result<NewChange, RoomError> {
        self.room.remove(&account(name), &self.secrets, &self.directory, NOW, &mut rng())
    }

    fn leave(&self) -> Result<NewChange, RoomError> {
        self.room.leave(&self.secrets, &self.directory, NOW)
    }

    /// A signed change, whether the room allows it or not.
    fn change(&self, change: Change) -> NewChange {
        let membership = self.room.membership.as_ref().unwrap();
        let own = self.directory[self.secrets.account()].newest().unwrap();
        let change = RoomChange {
            room: Some(self.room.id()),
            version: membership.version() + 1,
            previous: Some(membership.head()),
            actor: self.secrets.account().clone(),
            actor_device: self.secrets.device(),
            actor_list: own.hash(),
            at: NOW,
            change,
            signature: Signature::from_bytes([0; 64]),
        };
        self.resign_change(NewChange { change, snapshot: None, epoch: None })
    }

    fn resign_change(&self, mut new: NewChange) -> NewChange {
        new.change.signature = self.secrets.sign(&new.change.signed_bytes());
        new
    }

    fn resign(&self, mut message: Message) -> Message {
        message.signature = self.secrets.sign(&message.signed_bytes());
        message
    }

    fn learn(&mut self, keys: AccountKeys) {
        self.directory.get_mut(&keys.account.clone()).unwrap().update(keys).unwrap();
    }

    fn name_of_room(&self) -> Option<&str> {
        self.room.profile().map(|profile| profile.name.as_str())
    }
}

fn named(name: &str) -> RoomProfile {
    RoomProfile { name: name.into(), ..RoomProfile::default() }
}

fn new_room(kind: RoomKind, others: &[&str]) -> (Log, RoomId) {
    let alice = Person::new("alice", Room::empty(RoomId::from_bytes([0; 32])));
    let others: Vec<AccountId> = others.iter().map(|name| account(name)).collect();
    let (secrets, directory) = (&alice.secrets, &alice.directory);
    let new =
        Room::create(kind, &others, Some(&named("우리집")), secrets, directory, NOW, &mut rng()).unwrap();
    let mut log = Log::default();
    log.change(NewChange { change: new.change, snapshot: None, epoch: Some(new.epoch) });
    (log, new.room)
}

/// Alice and Bob, one to one.
fn two() -> (Log, Person, Person) {
    let (log, room) = new_room(RoomKind::Direct, &["bob"]);
    let (alice, bob) = (Person::reading("alice", &log, room), Person::reading("bob", &log, room));
    (log, alice, bob)
}

/// Alice, who owns the group, and Bob.
fn group() -> (Log, Person, Person) {
    let (log, room) = new_room(RoomKind::Group, &["bob"]);
    let (alice, bob) = (Person::reading("alice", &log, room), Person::reading("bob", &log, room));
    (log, alice, bob)
}

/// Adds Carol, who begins where she comes in.
fn add_carol(log: &mut Log, alice: &Person) -> Person {
    let mut carol = Person::new("carol", Room::joining(alice.room.id(), alice.room.position()));
    carol.read = log.items.len();
    log.change(alice.add("carol").unwrap());
    carol
}

fn text_of(accepted: &Accepted) -> &str {
    match accepted {
        Accepted::Message(message) => match &message.content.body {
            Body::Text(text) => text,
            other => panic!("not a text: {other:?}"),
        },
        other => panic!("not a message: {other:?}"),
    }
}

fn refused(outcome: Result<Accepted, NotAccepted>) -> &'static str {
    match outcome {
        Err(NotAccepted::Refused(refusal)) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// An account's keys with a second version of its list, in which one more device stands.
fn with_second_list(person: &Person) -> AccountKeys {
    let name = person.secrets.account().as_str();
    let mut keys = testing::public(name);
    let first = &keys.lists[0];
    let mut list = DeviceList {
        version: 2,
        previous: Some(first.hash()),
        signer: ListSigner::Device(person.secrets.device()),
        ..first.clone()
    };
    list.certificates.push(testing::second_device(name, "dave"));
    list.signature = Bytes(person.secrets.sign(&list.signed_bytes()).as_bytes().to_vec());
    keys.lists.push(list);
    keys
}

/// Flips one bit of one byte string of a record's JSON, or changes one number or word.
fn flip(json: &mut serde_json::Value, at: usize, bit: u32) {
    fn leaves<'a>(value: &'a mut serde_json::Value, found: &mut Vec<&'a mut serde_json::Value>) {
        match value {
            serde_json::Value::Object(map) => map.values_mut().for_each(|value| leaves(value, found)),
            serde_json::Value::Array(list) => list.iter_mut().for_each(|value| leaves(value, found)),
            leaf => found.push(leaf),
        }
    }
    let mut found = Vec::new();
    leaves(json, &mut found);
    let count = found.len();
    let leaf = &mut found[at % count];
    **leaf = match &**leaf {
        serde_json::Value::Number(number) => (number.as_u64().unwrap() ^ (1 << (bit % 8))).into(),
        serde_json::Value::String(text) => match data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()) {
            Ok(mut bytes) if !bytes.is_empty() => {
                let place = (at / count) % bytes.len();
                bytes[place] ^= 1 << (bit % 8);
                serde_json::to_value(Bytes(bytes)).unwrap()
            }
            _ => format!("{text}x").into(),
        },
        other => other.clone(),
    };
}

#[test]
fn a_room_shows_no_secret() {
    let (_, alice, _) = two();
    let stored: serde_json::Value = serde_json::from_slice(&alice.room.to_secret_bytes().unwrap()).unwrap();
    let own = stored["epoch"]["own"]["key"].as_str().unwrap();
    let shown = format!("{:?} {:?}", alice.room, alice.room.epoch);
    assert!(own.len() == 43 && !shown.contains(&own[..20]));
    assert!(shown.contains("Chain(.., n = 0)"), "{shown}");
    let room = Room::empty(RoomId::from_bytes([0; 32]));
    insta::assert_snapshot!(format!("{room:?}"), @r#"Room { id: RoomId(AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA), position: 0, epoch: 0, blocked: None, .. }"#);
}

#[test]
fn a_state_of_another_version_is_not_read() {
    let (_, alice, _) = two();
    let mut stored: serde_json::Value =
        serde_json::from_slice(&alice.room.to_secret_bytes().unwrap()).unwrap();
    stored["format"] = 2.into();
    let read = Room::from_secret_bytes(stored.to_string().as_bytes());
    assert!(matches!(read, Err(KeyError::Malformed("room"))));
}
