use std::collections::BTreeMap;
use std::sync::OnceLock;

use getrandom::SysRng;
use mildam_records::bytes::Bytes;
use mildam_records::{
    AccountId, AccountKeys, Change, ClientMessageId, EpochAnnouncement, Hash, LogEntry, LogItem, LogPosition,
    Message, ReceiptKind, RoomChange, RoomId, RoomKind, SealedProfile, Snapshot, Wrap,
};
use proptest::prelude::*;
use rand_core::UnwrapErr;

use super::*;
use crate::{Body, DeviceKey, IdentityKey, KnownAccount, PreKey, RecoveryWords, WrapKey, first_device_list};

type Rng = UnwrapErr<SysRng>;

fn rng() -> Rng {
    UnwrapErr(SysRng)
}

const NOW: u64 = 1_700_000_000_000;

/// RSA keys take a second each: every test uses the same people.
struct Keys {
    secrets: Vec<u8>,
    public: AccountKeys,
}

fn keys(name: &str) -> &'static Keys {
    static KEYS: OnceLock<BTreeMap<&'static str, Keys>> = OnceLock::new();
    let made = KEYS.get_or_init(|| {
        ["alice", "bob", "carol", "dave"]
            .into_iter()
            .map(|name| (name, make(name.parse().unwrap())))
            .collect()
    });
    &made[name]
}

fn make(account: AccountId) -> Keys {
    let identity = IdentityKey::generate(&mut rng()).unwrap();
    let wrap = WrapKey::generate(&mut rng()).unwrap();
    let (device, prekey) = (DeviceKey::generate(&mut rng()), PreKey::generate(&mut rng()).unwrap());
    let secrets = DeviceSecrets::new(account.clone(), wrap, device, prekey, NOW).unwrap();
    let list = first_device_list(&identity, &secrets, &mut rng()).unwrap();
    let public = AccountKeys {
        account,
        identity_key: identity.public().clone(),
        lists: vec![list],
        prekeys: vec![secrets.signed_prekey().unwrap().clone()],
    };
    Keys { secrets: secrets.to_secret_bytes().unwrap().to_vec(), public }
}

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
}

impl Person {
    fn new(name: &str, room: Room) -> Self {
        let directory = ["alice", "bob", "carol", "dave"]
            .into_iter()
            .map(|name| {
                (name.parse().unwrap(), KnownAccount::first_contact(keys(name).public.clone()).unwrap())
            })
            .collect();
        let secrets = DeviceSecrets::from_secret_bytes(&keys(name).secrets).unwrap();
        Self { secrets, directory, room, hashes: BTreeMap::new(), read: 0 }
    }

    fn take(&mut self, item: &LogItem) -> Result<Accepted, NotAccepted> {
        let reader = Reader {
            secrets: &self.secrets,
            directory: &self.directory,
            hashes: &self.hashes,
            keys_are_fresh: false,
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

    fn seal(&mut self, text: &str) -> Result<Message, RoomError> {
        let content = Content { sent_at: NOW, body: Body::Text(text.to_owned()) };
        let id = ClientMessageId::from_bytes([text.len() as u8; 16]);
        self.room.seal(&content, id, &self.secrets, &self.directory, NOW, &mut rng())
    }

    fn announce(&self) -> NewEpoch {
        self.room.announce(&self.secrets, &self.directory, &mut rng()).unwrap()
    }
}

fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

fn new_room(kind: RoomKind, others: &[&str]) -> (Log, RoomId) {
    let alice = Person::new("alice", Room::empty(RoomId::from_bytes([0; 32])));
    let others: Vec<AccountId> = others.iter().map(|name| account(name)).collect();
    let profile = RoomProfile { name: "우리집".into(), ..RoomProfile::default() };
    let new = Room::create(kind, &others, Some(&profile), &alice.secrets, &alice.directory, NOW, &mut rng())
        .unwrap();
    let mut log = Log::default();
    log.change(NewChange { change: new.change, snapshot: None, epoch: Some(new.epoch) });
    (log, new.room)
}

fn two() -> (Log, Person, Person) {
    let (log, room) = new_room(RoomKind::Direct, &["bob"]);
    let (mut alice, mut bob) =
        (Person::new("alice", Room::empty(room)), Person::new("bob", Room::empty(room)));
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    (log, alice, bob)
}

fn group() -> (Log, Person, Person, RoomId) {
    let (log, room) = new_room(RoomKind::Group, &["bob"]);
    let (mut alice, mut bob) =
        (Person::new("alice", Room::empty(room)), Person::new("bob", Room::empty(room)));
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    (log, alice, bob, room)
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

// REQ C4, M1
#[test]
fn two_people_talk_in_korean_and_english() {
    let (mut log, mut alice, mut bob) = two();
    assert_eq!(bob.room.profile().map(|profile| profile.name.as_str()), Some("우리집"));
    for (text, by_alice) in [("안녕하세요, 밥!", true), ("Hello, Alice!", false), ("😀", true), ("끝", true)]
    {
        let message = if by_alice { alice.seal(text) } else { bob.seal(text) }.unwrap();
        log.message(message);
        let (at_alice, at_bob) = (alice.catch_up_well(&log), bob.catch_up_well(&log));
        assert_eq!((text_of(&at_alice[0]), text_of(&at_bob[0])), (text, text));
    }
    assert_eq!(alice.room.position(), bob.room.position());
}

// REQ C5
#[test]
fn who_comes_cannot_read_what_was_and_who_goes_not_what_follows() {
    let (mut log, mut alice, mut bob, room) = group();
    log.message(alice.seal("before carol").unwrap());
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);

    let start = alice.room.position();
    let added =
        alice.room.add(&[account("carol")], &alice.secrets, &alice.directory, NOW, &mut rng()).unwrap();
    let joined_at = log.items.len();
    log.change(added);
    let mut carol = Person::new("carol", Room::joining(room, start));
    carol.read = joined_at;
    let outcome = carol.catch_up_well(&log);
    assert!(matches!(&outcome[..], [Accepted::Added { .. }, Accepted::Epoch { epoch: 2 }]), "{outcome:?}");
    assert_eq!(carol.room.profile().map(|profile| profile.name.as_str()), Some("우리집"));
    let old = carol.take(&log.for_reader(2, &account("carol")));
    assert_eq!(old, Err(NotAccepted::Old));

    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    log.message(bob.seal("welcome").unwrap());
    assert_eq!(text_of(&carol.catch_up_well(&log)[0]), "welcome");
    bob.catch_up_well(&log);
    alice.catch_up_well(&log);

    log.change(bob.room.leave(&bob.secrets, &bob.directory, NOW).unwrap());
    assert_eq!(carol.catch_up_well(&log), [Accepted::Left { by: account("bob") }]);
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    assert_eq!(alice.seal("too early"), Err(RoomError::EpochDue));
    log.epoch(carol.announce());
    carol.catch_up_well(&log);
    alice.catch_up_well(&log);
    log.message(alice.seal("without bob").unwrap());
    assert_eq!(text_of(&carol.catch_up_well(&log)[0]), "without bob");
    // Bob, with the server's help, gets the announcement and the message.
    let epoch = log.for_reader(log.items.len() - 2, &account("bob"));
    assert_eq!(refused(bob.take(&epoch)), "no_key");
    let message = log.for_reader(log.items.len() - 1, &account("bob"));
    assert_eq!(refused(bob.take(&message)), "no_key");
    assert_eq!(bob.seal("still here?"), Err(RoomError::NotMember));
}

// REQ M2, T5
#[test]
fn replayed_reordered_and_foreign_messages_are_refused() {
    let (mut log, mut alice, mut bob) = two();
    let (one, two) = (alice.seal("one").unwrap(), alice.seal("two").unwrap());
    log.message(two);
    let outcome = bob.catch_up(&log);
    assert!(matches!(&outcome[0], Ok(Accepted::Message(message)) if message.missing == 1));
    log.message(one.clone());
    assert_eq!(refused(bob.catch_up(&log).remove(0)), "replayed");
    // The same bytes once more, and in another room.
    log.message(one.clone());
    assert_eq!(refused(bob.catch_up(&log).remove(0)), "replayed");
    let (mut other_log, _, mut other_bob) = super::tests::two();
    other_log.message(one);
    assert_eq!(refused(other_bob.catch_up(&other_log).remove(0)), "other_room");
}

// REQ M2
#[test]
fn a_jump_too_far_is_refused() {
    let (mut log, mut alice, mut bob) = two();
    for _ in 0..1025 {
        alice.seal("lost").unwrap();
    }
    log.message(alice.seal("far").unwrap());
    assert_eq!(refused(bob.catch_up(&log).remove(0)), "jump_too_far");
    assert_eq!(bob.room.blocked(), None);
}

// REQ M2
#[test]
fn two_partitions_notice_each_other_by_one_message() {
    let (log, mut alice, mut bob) = two();
    let (mut for_alice, mut for_bob) = (log.clone(), log);
    for_alice.message(alice.seal("only alice reads this").unwrap());
    alice.catch_up_well(&for_alice);
    for_bob.message(bob.seal("only bob reads this").unwrap());
    bob.catch_up_well(&for_bob);
    for_bob.message(alice.seal("and now both").unwrap());
    assert_eq!(refused(bob.catch_up(&for_bob).remove(0)), "log_mismatch");
    assert_eq!(bob.room.blocked(), Some("log_mismatch"));
    assert_eq!(bob.seal("no"), Err(RoomError::Blocked("log_mismatch")));
}

// REQ C5
#[test]
fn a_stranger_and_a_leaver_cannot_write() {
    let (mut log, mut alice, mut bob, _) = group();
    let leave = bob.room.leave(&bob.secrets, &bob.directory, NOW).unwrap();
    let late = bob.seal("after leaving").unwrap();
    log.change(leave);
    alice.catch_up_well(&log);
    log.message(late);
    assert_eq!(refused(alice.catch_up(&log).remove(0)), "not_member");
}

fn announced(meddle: impl Fn(&Person, &mut NewEpoch)) -> (Person, Result<Accepted, NotAccepted>) {
    let (mut log, alice, mut bob, _) = group();
    let mut new = alice.announce();
    meddle(&alice, &mut new);
    new.announcement.signature = alice.secrets.sign(&new.announcement.signed_bytes());
    log.epoch(new);
    let outcome = bob.catch_up(&log).remove(0);
    (bob, outcome)
}

fn announcement(meddle: impl Fn(&mut EpochAnnouncement)) -> &'static str {
    let (bob, outcome) = announced(|_, new| meddle(&mut new.announcement));
    assert!(bob.room.needs_epoch(NOW, &bob.directory));
    refused(outcome)
}

// REQ C4
#[test]
fn a_dishonest_announcement_is_refused_even_if_it_is_signed() {
    let recipient =
        |name: &str| Recipient { account: account(name), list: keys(name).public.lists[0].hash() };
    use mildam_records::Recipient;
    assert_eq!(announcement(|a| drop(a.recipients.remove(0))), "wrong_recipients");
    assert_eq!(announcement(|a| drop(a.recipients.remove(1))), "wrong_recipients");
    assert_eq!(announcement(|a| a.recipients.push(recipient("carol"))), "wrong_recipients");
    assert_eq!(announcement(|a| a.epoch = 3), "epoch_broken");
    assert_eq!(announcement(|a| a.previous = None), "epoch_broken");
    assert_eq!(announcement(|a| a.version = 2), "epoch_broken");
    assert_eq!(announcement(|a| a.head = Hash::ZERO), "epoch_broken");
    assert_eq!(announcement(|a| a.room = RoomId::from_bytes([1; 32])), "epoch_broken");
    assert_eq!(announcement(|a| a.profile = None), "epoch_broken");
    assert_eq!(announcement(|a| a.seen_hash = Hash::ZERO), "log_mismatch");
    assert_eq!(announcement(|a| a.seen_seq = 9), "log_mismatch");
    assert_eq!(announcement(|a| a.commitment = Hash::ZERO), "bad_commitment");
    assert_eq!(announcement(|a| a.announcer = account("carol")), "wrong_recipients");
}

// REQ C4
#[test]
fn a_garbage_wrap_gives_no_key_and_a_later_epoch_heals() {
    for part in 0..4 {
        let (mut bob, outcome) = announced(|_, new| {
            let wrap = new.wraps.iter_mut().find(|wrap| wrap.account.as_str() == "bob").unwrap();
            match part {
                0 => wrap.rsa.0[7] ^= 1,
                1 => wrap.kem.0[7] ^= 1,
                2 => wrap.key.0[7] ^= 1,
                _ => wrap.prekey = Hash::ZERO,
            }
        });
        assert_eq!(refused(outcome), "no_key");
        assert_eq!(bob.seal("?"), Err(RoomError::EpochDue));
        let mut log = Log { seq: 1, ..Log::default() };
        log.epoch(bob.announce());
        bob.read = 0;
        assert_eq!(bob.catch_up_well(&log), [Accepted::Epoch { epoch: 3 }]);
        assert!(bob.seal("again").is_ok());
    }
}

// REQ M1
#[test]
fn an_announcement_of_another_members_hand_is_refused() {
    let (mut log, alice, mut bob, _) = group();
    let mut new = alice.announce();
    new.announcement.signature = bob.secrets.sign(&new.announcement.signed_bytes());
    log.epoch(new);
    assert_eq!(refused(bob.catch_up(&log).remove(0)), "epoch_broken");
}

// REQ C2
#[test]
fn members_cannot_add_and_a_swapped_identity_blocks() {
    let (mut log, mut alice, bob, _) = group();
    let error = bob.room.add(&[account("carol")], &bob.secrets, &bob.directory, NOW, &mut rng()).unwrap_err();
    assert_eq!(error, RoomError::Change(ChangeError::Forbidden));
    // Alice is shown a carol whose identity is dave's.
    let mut shown = KnownAccount::first_contact(make(account("carol")).public).unwrap();
    std::mem::swap(alice.directory.get_mut(&account("carol")).unwrap(), &mut shown);
    log.change(
        alice.room.add(&[account("carol")], &alice.secrets, &alice.directory, NOW, &mut rng()).unwrap(),
    );
    let mut bob = bob;
    let outcome = bob.catch_up(&log);
    assert_eq!(refused(outcome[0].clone()), "identity_changed");
    assert_eq!(bob.room.blocked(), Some("identity_changed"));
}

#[test]
fn unknown_keys_are_asked_for_and_then_refused() {
    let (mut log, mut alice, mut bob) = two();
    log.message(alice.seal("hello").unwrap());
    alice.catch_up_well(&log);
    let known = bob.directory.remove(&account("alice")).unwrap();
    let item = log.for_reader(2, &account("bob"));
    let before = bob.room.position();
    assert_eq!(bob.take(&item), Err(NotAccepted::NeedsKeys(vec![account("alice")])));
    assert_eq!(bob.room.position(), before);
    bob.directory.insert(account("alice"), known);
    assert_eq!(text_of(&bob.take(&item).unwrap()), "hello");
}

// REQ M2
#[test]
fn receipts_are_bound_to_the_log() {
    let (mut log, mut alice, mut bob) = two();
    log.message(alice.seal("hello").unwrap());
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    let receipt = bob.secrets.sign_receipt(bob.room.id(), ReceiptKind::Read, bob.room.position());
    assert_eq!(alice.room.verify_receipt(&receipt, &alice.directory, &alice.hashes), Ok(()));
    let elsewhere = LogPosition { hash: Hash::ZERO, ..bob.room.position() };
    for bad in [
        bob.secrets.sign_receipt(bob.room.id(), ReceiptKind::Read, elsewhere),
        mildam_records::Receipt { kind: ReceiptKind::Delivered, ..receipt.clone() },
        mildam_records::Receipt { seq: 1, ..receipt.clone() },
    ] {
        let outcome = alice.room.verify_receipt(&bad, &alice.directory, &alice.hashes);
        assert_eq!(outcome, Err(RoomError::BadReceipt));
    }
}

#[test]
fn an_epoch_is_due_after_a_thousand_messages_or_seven_days() {
    let (_, alice, _) = two();
    assert!(!alice.room.needs_epoch(NOW + EPOCH_MILLISECONDS - 1, &alice.directory));
    assert!(alice.room.needs_epoch(NOW + EPOCH_MILLISECONDS, &alice.directory));
}

// REQ A4
#[test]
fn the_identity_key_comes_back_with_the_words_and_only_with_them() {
    let identity = IdentityKey::generate(&mut rng()).unwrap();
    let words = RecoveryWords::generate(&mut rng());
    let sealed = identity.seal(&words, &account("alice"), &mut rng()).unwrap();
    for language in [crate::recovery::WordLanguage::English, crate::recovery::WordLanguage::Korean] {
        let typed = words.words(language).join("  ");
        assert_eq!(words.words(language).len(), 12);
        let read = RecoveryWords::parse(&typed).unwrap();
        assert!(sealed.open(&read, &account("alice"), identity.public()).is_ok());
    }
    let others = RecoveryWords::generate(&mut rng());
    assert!(sealed.open(&others, &account("alice"), identity.public()).is_err());
    assert!(sealed.open(&words, &account("bob"), identity.public()).is_err());
}

#[test]
fn wrong_words_are_named() {
    use crate::WordsError;
    let parse = |text: &str| RecoveryWords::parse(text).unwrap_err();
    assert_eq!(parse("abandon"), WordsError::Count(1));
    let eleven = "abandon ".repeat(11);
    assert_eq!(parse(&format!("{eleven} mildam")), WordsError::UnknownWord { position: 12 });
    assert_eq!(parse(&format!("{eleven} abandon")), WordsError::Checksum);
    assert!(RecoveryWords::parse(&format!("{eleven} ABOUT")).is_ok());
}

#[test]
fn the_directory_only_moves_forward() {
    let keys = keys("alice").public.clone();
    let mut known = KnownAccount::first_contact(keys.clone()).unwrap();
    assert_eq!(known.update(keys.clone()), Ok(false));
    let other = make(account("alice")).public;
    assert_eq!(known.update(other), Err(crate::DirectoryError::IdentityChanged));
    let mut empty = keys.clone();
    empty.lists.clear();
    empty.prekeys.clear();
    assert!(matches!(known.update(empty), Err(crate::DirectoryError::Record(_))));
    let mut altered = keys;
    altered.lists[0].certificates[0].created_at += 1;
    assert!(matches!(known.update(altered), Err(crate::DirectoryError::Record(_))));
}

// REQ A7
#[test]
fn both_sides_see_one_safety_number() {
    let (alice, bob) = (&keys("alice").public, &keys("bob").public);
    let (alice, bob) = ((&alice.account, &alice.identity_key), (&bob.account, &bob.identity_key));
    let number = crate::SafetyNumber::of(alice, bob).unwrap();
    assert_eq!(number, crate::SafetyNumber::of(bob, alice).unwrap());
    assert_eq!(number.to_string().len(), 12 * 5 + 11);
    assert_ne!(number, crate::SafetyNumber::of(alice, alice).unwrap());
}

#[test]
fn secrets_do_not_show() {
    let (_, alice, _) = two();
    let shown = format!("{:?} {:?} {:?}", alice.secrets, alice.room, alice.room.epoch);
    let secrets: serde_json::Value = serde_json::from_slice(&keys("alice").secrets).unwrap();
    for secret in [&secrets["wrap"], &secrets["signer"], &secrets["prekeys"][0]["seed"]] {
        assert!(!shown.contains(&secret.as_str().unwrap()[..20]));
    }
    assert!(shown.contains("Chain(.., n = 0)") && shown.contains("DeviceSecrets(.."), "{shown}");
}

/// Flips one bit of one byte string of a record's JSON, or changes one number.
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    // REQ M2
    #[test]
    fn no_altered_message_is_read(at in any::<usize>(), bit in 0_u32..8) {
        let (mut log, mut alice, mut bob) = two();
        let message = alice.seal("hello").unwrap();
        let mut json = serde_json::to_value(&message).unwrap();
        flip(&mut json, at, bit);
        if let Ok(altered) = serde_json::from_value::<Message>(json) {
            prop_assert_ne!(&altered, &message);
            log.message(altered);
            let outcome = bob.catch_up(&log).remove(0);
            prop_assert!(outcome.is_err(), "{:?}", outcome);
        }
    }

    // REQ C4
    #[test]
    fn no_altered_change_or_epoch_is_taken(at in any::<usize>(), bit in 0_u32..8, epoch in any::<bool>()) {
        let (mut log, room) = new_room(RoomKind::Group, &["bob"]);
        let place = usize::from(epoch);
        let mut json = match &log.items[place].0 {
            LogItem::Entry { entry: LogEntry::Change(change), .. } => serde_json::to_value(change).unwrap(),
            LogItem::Epoch { announcement, .. } => serde_json::to_value(announcement).unwrap(),
            other => panic!("{other:?}"),
        };
        flip(&mut json, at, bit);
        match &mut log.items[place].0 {
            LogItem::Entry { entry: LogEntry::Change(change), .. } => match serde_json::from_value::<RoomChange>(json) {
                Ok(altered) => { prop_assume!(altered != **change); **change = altered }
                Err(_) => return Ok(()),
            },
            LogItem::Epoch { announcement, .. } => match serde_json::from_value::<EpochAnnouncement>(json) {
                Ok(altered) => { prop_assume!(altered != **announcement); **announcement = altered }
                Err(_) => return Ok(()),
            },
            _ => unreachable!(),
        }
        let mut bob = Person::new("bob", Room::empty(room));
        let outcomes = bob.catch_up(&log);
        prop_assert!(outcomes[place].is_err(), "{:?}", outcomes);
        prop_assert!(bob.seal("no").is_err());
    }
}

#[test]
fn a_sealed_profile_belongs_to_its_announcement() {
    let (_, outcome) = announced(|_, new| new.profile = Some(SealedProfile(Bytes(vec![0; 300]))));
    assert_eq!(refused(outcome), "epoch_broken");
}

#[test]
fn what_is_created_cannot_be_created_again() {
    let (mut log, mut alice, _) = two();
    let LogItem::Entry { entry: LogEntry::Change(created), .. } = log.items[0].0.clone() else { panic!() };
    assert!(matches!(created.change, Change::Created { .. }));
    log.entry(LogEntry::Change(created), None);
    assert_eq!(refused(alice.catch_up(&log).remove(0)), "chain_broken");
}
