//! Somebody records the log with all its wraps, and some time copies a device: its secrets, and its state of
//! the room. What can be read with that, and what not any more?
//!
//! Each attack is tried with a copy of before as well, with which it succeeds: so it is one.

use data_encoding::BASE64URL_NOPAD;
use mildam_records::Canonical;
use serde_json::{Value, json};

use super::*;
use crate::chain::Chain;
use crate::device::{PREKEY_GRACE, PREKEY_TURN};
use crate::seal;
use crate::wrap::{Purpose, unwrap};

const TEXTS: [&str; 4] = ["하나", "둘", "셋", "넷"];
/// Where the first text stands: behind the beginning and its epoch.
const FIRST: usize = 2;

/// What a device held at some time.
struct Copied {
    secrets: Vec<u8>,
    room: Value,
    directory: BTreeMap<AccountId, KnownAccount>,
    read: usize,
}

impl Copied {
    fn of(person: &Person) -> Self {
        Self {
            secrets: person.secrets.to_secret_bytes().unwrap().to_vec(),
            room: serde_json::from_slice(&person.room.to_secret_bytes().unwrap()).unwrap(),
            directory: person.directory.clone(),
            read: person.read,
        }
    }

    /// Who goes on with it, from a state of the room.
    fn thief(&self, log: &Log, room: &Value, read: usize) -> Person {
        let room = Room::from_secret_bytes(room.to_string().as_bytes()).unwrap();
        Person {
            secrets: DeviceSecrets::from_secret_bytes(&self.secrets).unwrap(),
            directory: self.directory.clone(),
            hashes: hashes(log, &room.id()),
            room,
            read,
            keys_are_fresh: true,
        }
    }

    /// Goes on where the device was.
    fn goes_on(&self, log: &Log) -> Person {
        self.thief(log, &self.room, self.read)
    }

    /// Reads the log from its beginning, with the secrets alone.
    fn begins_anew(&self, log: &Log, room: RoomId) -> Vec<Result<Accepted, NotAccepted>> {
        let empty = serde_json::to_value(Room::empty(room)).unwrap();
        self.thief(log, &empty, 0).catch_up(log)
    }

    /// Reads a recorded message once more: the room is put back to right before it, and so is the number
    /// of its sender's chain.
    fn reads_again(&self, log: &Log, at: usize) -> Result<Accepted, NotAccepted> {
        let message = message(log, at);
        // Messages are the same for everybody.
        let item = log.for_reader(at, &account("bob"));
        let LogItem::Entry { seq, .. } = &item else { panic!("not an entry") };
        let hash = hashes(log, &message.header.room)[&(seq - 1)];
        let mut room = self.room.clone();
        room["position"] = serde_json::to_value(LogPosition { seq: seq - 1, hash }).unwrap();
        let device = serde_json::to_value(message.header.sender_device).unwrap();
        let number = &mut room["epoch"]["chains"][device.as_str().unwrap()]["n"];
        *number = number.as_u64().unwrap().min(message.header.n).into();
        self.thief(log, &room, at).take(&item)
    }

    /// Whether any 32 bytes of it open a message: as the key of its chain at any place up to it, as the
    /// room key, or as its own key.
    fn holds_a_key_for(&self, message: &Message) -> bool {
        let header = &message.header;
        let mut keys = Vec::new();
        keys_in(&self.room, &mut keys);
        keys_in(&serde_json::from_slice(&self.secrets).unwrap(), &mut keys);
        keys.iter().any(|key| {
            let text = BASE64URL_NOPAD.encode(key);
            let chain = |n| serde_json::from_value::<Chain>(json!({"key": text, "n": n})).unwrap();
            let of_room = Chain::derive(key, &header.room, header.epoch, &header.sender_device).unwrap();
            let label = Canonical::new("mildam/message/v1");
            let derived = seal::derive::<76>(header.salt.as_bytes(), key, &label).unwrap();
            derived[44..] == *header.commit.as_bytes()
                || (0..=header.n).map(chain).chain([of_room]).any(|chain| opens(chain, message))
        })
    }
}

fn opens(mut chain: Chain, message: &Message) -> bool {
    let header = &message.header;
    let cipher = chain.step_to(header.n).unwrap().with_salt(&header.salt).unwrap();
    cipher.open(&header.commit, &message.ciphertext, &header.canonical()).is_ok()
}

fn keys_in(value: &Value, found: &mut Vec<[u8; 32]>) {
    match value {
        Value::Object(fields) => fields.values().for_each(|value| keys_in(value, found)),
        Value::Array(values) => values.iter().for_each(|value| keys_in(value, found)),
        Value::String(text) => {
            let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap_or_default();
            found.extend(<[u8; 32]>::try_from(bytes));
        }
        _ => {}
    }
}

/// The log's hash at each place: whoever has the log can compute it.
fn hashes(log: &Log, room: &RoomId) -> BTreeMap<u64, Hash> {
    let mut position = LogPosition::START;
    let mut hashes = BTreeMap::new();
    for (item, _) in &log.items {
        if let LogItem::Entry { entry, .. } = item {
            position = position.then(room, &entry.hash());
            hashes.insert(position.seq, position.hash);
        }
    }
    hashes
}

fn message(log: &Log, at: usize) -> &Message {
    match &log.items[at].0 {
        LogItem::Entry { entry: LogEntry::Message(message), .. } => message,
        other => panic!("not a message: {other:?}"),
    }
}

/// The room key of an epoch, opened from the wrap that the relay has handed out.
fn recorded_key(log: &Log, at: usize, copied: &Copied) -> Result<[u8; 32], KeyError> {
    let (LogItem::Epoch { announcement, .. }, wraps) = &log.items[at] else { panic!("not an epoch") };
    let secrets = DeviceSecrets::from_secret_bytes(&copied.secrets).unwrap();
    let (room, epoch, announcer) = (&announcement.room, announcement.epoch, &announcement.announcer_device);
    let purpose = Purpose { room, epoch, announcer };
    unwrap(&wraps[secrets.account()], purpose, &secrets, &mut rng()).map(|key| *key)
}

/// What of the texts can be read with copies of a device that were made after none of them, one, and so on.
fn assert_only_later_ones_open(copies: &[Copied], log: &Log) {
    assert_eq!(copies.len(), TEXTS.len() + 1);
    for (gone, copied) in copies.iter().enumerate() {
        for (n, text) in TEXTS.into_iter().enumerate() {
            let again = copied.reads_again(log, FIRST + n);
            assert_eq!(copied.holds_a_key_for(message(log, FIRST + n)), n >= gone, "{text} after {gone}");
            if n >= gone {
                assert_eq!(text_of(&again.unwrap()), text);
            } else {
                assert_eq!(refused(again), "does_not_open", "{text} after {gone}");
            }
        }
    }
}

// REQ C4, M1
#[test]
fn a_state_after_reading_opens_nothing_that_was_read() {
    let (mut log, mut alice, mut bob) = two();
    let mut copies = vec![Copied::of(&bob)];
    for text in TEXTS {
        log.message(alice.seal(text).unwrap());
        bob.catch_up_well(&log);
        copies.push(Copied::of(&bob));
    }
    assert_only_later_ones_open(&copies, &log);
}

// REQ C4, M1
#[test]
fn a_state_after_sending_opens_nothing_that_was_sent() {
    let own_opens = |copied: &Copied, message: &Message| {
        let mut own = copied.room["epoch"]["own"].clone();
        own["n"] = message.header.n.into();
        opens(serde_json::from_value(own).unwrap(), message)
    };
    let (mut log, mut alice, _) = two();
    let mut copies = vec![Copied::of(&alice)];
    for text in TEXTS {
        let sealed = alice.seal(text).unwrap();
        // The chain that it sends by moves on at once, the one that it reads by when the text comes back.
        assert!(own_opens(copies.last().unwrap(), &sealed));
        assert!(!own_opens(&Copied::of(&alice), &sealed));
        log.message(sealed);
        alice.catch_up_well(&log);
        copies.push(Copied::of(&alice));
    }
    assert_only_later_ones_open(&copies, &log);
}

// REQ C4, C5
#[test]
fn a_state_holds_no_room_key_and_nothing_of_past_epochs() {
    let (mut log, mut alice, mut bob) = two();
    // As long as its prekey is there, the recorded wrap gives the room key, and that gives every chain.
    let taken = Copied::of(&bob);
    let room_key = recorded_key(&log, FIRST - 1, &taken).unwrap();
    let (room, device) = (alice.room.id(), alice.secrets.device());
    let chain = || Chain::derive(&room_key, &room, 1, &device).unwrap();
    let chain_key = serde_json::to_value(chain()).unwrap()["key"].as_str().unwrap().to_owned();
    let stored = taken.room.to_string();
    assert!(stored.contains(&chain_key) && !stored.contains(&BASE64URL_NOPAD.encode(&room_key)));

    // One message is read, and one has not come when the next epoch does.
    let (read, late) = (alice.seal("읽었어").unwrap(), alice.seal("늦었어").unwrap());
    assert!(opens(chain(), &read), "whoever had kept the room key would read it");
    log.message(read.clone());
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    let before = Copied::of(&bob);
    assert!(!before.holds_a_key_for(&read) && before.holds_a_key_for(&late));
    let at = log.items.len();
    log.epoch(alice.announce());
    bob.catch_up_well(&log);
    let after = Copied::of(&bob);
    assert!(!after.holds_a_key_for(&read) && !after.holds_a_key_for(&late));
    let next_key = BASE64URL_NOPAD.encode(&recorded_key(&log, at, &after).unwrap());
    assert!(!after.room.to_string().contains(&next_key));
}

// REQ C4
#[test]
fn a_recorded_wrap_does_not_open_once_its_prekey_is_erased() {
    let (mut log, mut alice, mut bob) = two();
    for text in TEXTS {
        log.message(alice.seal(text).unwrap());
    }
    let (published, now) = (bob.secrets.signed_prekey().cloned(), NOW + PREKEY_TURN);
    assert!(bob.secrets.prekey_due(published.as_ref(), now, &mut rng()).unwrap().is_some());
    bob.secrets.prekey_confirmed(now);
    bob.secrets.drop_old_prekeys(now + PREKEY_GRACE - 1);
    let before = Copied::of(&bob);
    bob.secrets.drop_old_prekeys(now + PREKEY_GRACE);
    let after = Copied::of(&bob);

    // The secrets alone, and what the relay has recorded, are enough before.
    let room = bob.room.id();
    assert!(recorded_key(&log, FIRST - 1, &before).is_ok());
    let read = before.begins_anew(&log, room);
    let texts: Vec<&str> = read[FIRST..].iter().map(|one| text_of(one.as_ref().unwrap())).collect();
    assert_eq!(texts, TEXTS);

    assert_eq!(recorded_key(&log, FIRST - 1, &after), Err(KeyError::DoesNotOpen));
    let read = after.begins_anew(&log, room);
    assert!(matches!(read[0], Ok(Accepted::Created { .. })));
    for outcome in &read[1..] {
        assert_eq!(refused(outcome.clone()), "no_key");
    }
    let stored: Value = serde_json::from_slice(&before.secrets).unwrap();
    let seed = stored["prekeys"][1]["seed"].as_str().unwrap();
    assert!(!String::from_utf8(after.secrets).unwrap().contains(seed));
}

// REQ C4, C5
#[test]
fn a_passive_copy_reads_nothing_after_the_next_prekey() {
    let (mut log, mut alice, mut bob) = two();
    let copied = Copied::of(&bob);
    // A new epoch alone does not help: it is for the prekey that is in the copy.
    log.epoch(alice.announce());
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    log.message(alice.seal("아직 보여").unwrap());
    log.message(bob.seal("내 것도").unwrap());
    let read = copied.goes_on(&log).catch_up(&log);
    let texts: Vec<&str> = read[1..].iter().map(|one| text_of(one.as_ref().unwrap())).collect();
    assert_eq!(texts, ["아직 보여", "내 것도"]);
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);

    // Bob's prekey turns over, and the next epoch is for the new one.
    let mut keys = testing::public("bob");
    let due = bob.secrets.prekey_due(keys.prekeys.first(), NOW + PREKEY_TURN, &mut rng());
    keys.prekeys = vec![due.unwrap().unwrap().clone()];
    alice.learn(keys.clone());
    bob.learn(keys);
    let at = log.items.len();
    log.epoch(alice.announce());
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    log.message(alice.seal("이제 안 보여").unwrap());
    log.message(bob.seal("다행이야").unwrap());
    assert_eq!(text_of(&bob.catch_up_well(&log)[0]), "이제 안 보여");

    let mut thief = copied.goes_on(&log);
    let read = thief.catch_up(&log);
    let (open, closed) = read.split_at(at - copied.read);
    assert!(open.iter().all(Result::is_ok));
    assert_eq!(closed.len(), 3);
    for outcome in closed {
        assert_eq!(refused(outcome.clone()), "no_key");
    }
    let now = Copied::of(&thief);
    for at in [at + 1, at + 2] {
        assert!(!copied.holds_a_key_for(message(&log, at)) && !now.holds_a_key_for(message(&log, at)));
    }
}
