//! Devices that come, go, are away, or are put back to an earlier state.

mod copied;

use super::*;
use crate::first_device_list;

const DAY: u64 = 24 * 60 * 60 * 1_000;

/// Alice's device after she used the recovery words, and the keys that the relay shows then.
fn recovered() -> (DeviceSecrets, AccountKeys) {
    let secrets = testing::other_device("alice", "dave");
    let list = first_device_list(&testing::identity("alice"), &secrets, 2, &mut rng()).unwrap();
    let mut keys = testing::public("alice");
    keys.lists.push(list);
    keys.prekeys = vec![secrets.signed_prekey().unwrap().clone()];
    (secrets, keys)
}

/// Gives an epoch to a person with the wrap for its very device.
fn take_epoch(person: &mut Person, log: &Log, new: &NewEpoch) -> Result<Accepted, NotAccepted> {
    let mut item = log.for_reader(person.read, person.secrets.account());
    let LogItem::Epoch { wrap, .. } = &mut item else { panic!("not an epoch") };
    let own = new.wraps.iter().find(|wrap| wrap.device == person.secrets.device());
    *wrap = own.cloned().map(Box::new);
    person.read += 1;
    person.take(&item)
}

// REQ A4, C4
#[test]
fn a_recovered_device_reads_who_is_in_and_goes_on_from_there() {
    let (mut log, mut alice, mut bob) = group();
    log.message(alice.seal("before").unwrap());
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);

    let (secrets, keys) = recovered();
    let mut new = Person::new("alice", Room::empty(alice.room.id()));
    new.secrets = secrets;
    new.directory.insert(account("alice"), KnownAccount::first_contact(keys.clone()).unwrap());
    let outcomes = new.catch_up(&log);
    assert!(matches!(outcomes[0], Ok(Accepted::Created { .. })));
    assert_eq!(outcomes[1], Ok(Accepted::Epoch { epoch: 1 }));
    assert_eq!(refused(outcomes[2].clone()), "before_device");
    assert_eq!((new.room.blocked(), new.name_of_room()), (None, None));
    assert!(new.room.is_member(&account("bob")));
    assert_eq!(new.seal("?"), Err(RoomError::EpochDue));

    // She announces at once; Bob takes it, and nothing more from her lost device.
    let epoch = new.announce();
    log.epoch(epoch.clone());
    take_epoch(&mut new, &log, &epoch).unwrap();
    bob.learn(keys);
    take_epoch(&mut bob, &log, &epoch).unwrap();
    let stolen = alice.seal("from the lost device").unwrap();
    let mut forged = log.clone();
    forged.message(alice.resign(stolen));
    let mut other_bob = Room::from_secret_bytes(&bob.room.to_secret_bytes().unwrap()).unwrap();
    std::mem::swap(&mut bob.room, &mut other_bob);
    assert!(matches!(bob.refuses(&forged), "stale" | "wrong_list"));
    bob.room = other_bob;
    bob.read = log.items.len();
    log.message(new.seal("after").unwrap());
    assert_eq!(text_of(&bob.catch_up_well(&log)[0]), "after");
    assert_eq!(text_of(&new.catch_up_well(&log)[0]), "after");

    // The name of the room was lost with the device; the next who writes brings it back.
    assert_eq!(bob.seal("?"), Err(RoomError::EpochDue));
    let epoch = bob.announce();
    log.epoch(epoch.clone());
    take_epoch(&mut new, &log, &epoch).unwrap();
    take_epoch(&mut bob, &log, &epoch).unwrap();
    assert!(bob.seal("!").is_ok());
}

// REQ A4, C5
#[test]
fn a_lost_device_with_all_its_secrets_is_shut_out_even_with_the_relays_help() {
    let (mut log, mut alice, mut bob) = group();
    let (_, keys) = recovered();
    bob.learn(keys.clone());
    let mut by_bob = log.clone();
    let epoch = bob.announce();
    assert!(epoch.wraps.iter().all(|wrap| wrap.device != alice.secrets.device()));
    by_bob.epoch(epoch.clone());
    take_epoch(&mut bob, &by_bob, &epoch).unwrap();
    // The relay hands the lost device what it has: no wrap is for it.
    alice.learn(keys);
    assert_eq!(take_epoch(&mut alice, &by_bob, &epoch), Ok(Accepted::Epoch { epoch: 2 }));
    by_bob.message(bob.seal("only for the new one").unwrap());
    assert_eq!(alice.refuses(&by_bob), "before_device");
    bob.catch_up_well(&by_bob);
    // It announces, under the list that it once stood in.
    let thief = Person { directory: bob_knows_nothing_new(), ..alice };
    let mut forged = thief.announce();
    forged.announcement.signature = thief.secrets.sign(&forged.announcement.signed_bytes());
    by_bob.epoch(forged);
    assert_eq!(bob.refuses(&by_bob), "wrong_recipients");
    // And it changes the room.
    log = by_bob;
    log.change(thief.change(Change::Role { account: account("bob"), role: mildam_records::Role::Admin }));
    assert_eq!(bob.refuses(&log), "wrong_list");
}

fn bob_knows_nothing_new() -> BTreeMap<AccountId, KnownAccount> {
    NAMES
        .into_iter()
        .map(|name| (account(name), KnownAccount::first_contact(testing::public(name)).unwrap()))
        .collect()
}

// REQ C4
#[test]
fn a_state_that_was_put_back_sends_nothing_more_under_its_chain() {
    let (mut log, mut alice, mut bob) = two();
    let old = alice.room.to_secret_bytes().unwrap();
    log.message(alice.seal("one").unwrap());
    log.message(alice.seal("two").unwrap());
    // The vault of before is put back; the device reads its log before it sends.
    alice.room = Room::from_secret_bytes(&old).unwrap();
    let read = alice.catch_up_well(&log);
    let unknown = |accepted: &Accepted| matches!(accepted, Accepted::Message(message) if message.unknown_own);
    assert!(unknown(&read[0]) && text_of(&read[1]) == "two");
    assert_eq!(alice.seal("three"), Err(RoomError::EpochDue));
    log.epoch(alice.announce());
    alice.catch_up_well(&log);
    log.message(alice.seal("three").unwrap());
    let read = bob.catch_up_well(&log);
    assert_eq!(text_of(read.last().unwrap()), "three");
    assert!(!read.iter().any(unknown));
    // An ordinary message of its own is nothing unknown.
    assert!(!alice.catch_up_well(&log).iter().any(unknown));
}

// REQ C4
#[test]
fn a_device_that_was_away_for_long_gets_no_key_until_it_is_back() {
    let (mut log, mut alice, mut bob) = two();
    let limit = NOW + PREKEY_MILLISECONDS;
    let announce =
        |alice: &Person, now| alice.room.announce(&alice.secrets, &alice.directory, now, &mut rng()).unwrap();
    assert_eq!(announce(&alice, limit).wraps.len(), 2);
    let mut keys = testing::public("alice");
    let fresh = alice.secrets.prekey_due(keys.prekeys.first(), limit, &mut rng()).unwrap().unwrap();
    keys.prekeys = vec![fresh.clone()];
    alice.learn(keys);
    let epoch = announce(&alice, limit + 1);
    assert_eq!(epoch.wraps.len(), 1);
    assert_eq!(epoch.announcement.recipients.len(), 2);
    log.epoch(epoch);
    alice.catch_up_well(&log);
    assert_eq!(bob.refuses(&log), "no_key");
    // Bob is back, with a new prekey; he asks for nothing and announces.
    let mut keys = testing::public("bob");
    keys.prekeys =
        vec![bob.secrets.prekey_due(keys.prekeys.first(), limit + DAY, &mut rng()).unwrap().unwrap().clone()];
    bob.learn(keys.clone());
    alice.learn(keys);
    let known = alice.directory[&account("alice")].clone();
    bob.directory.insert(account("alice"), known);
    log.epoch(announce(&bob, limit + DAY));
    bob.catch_up_well(&log);
    log.message(bob.seal("back").unwrap());
    assert_eq!(text_of(alice.catch_up_well(&log).last().unwrap()), "back");
}

// REQ C5
#[test]
fn a_person_may_go_on_after_a_fork_and_only_then() {
    let (mut log, mut alice, mut bob) = two();
    let mut message = alice.seal("forked").unwrap();
    message.header.seen_hash = Hash::ZERO;
    log.message(alice.resign(message));
    assert_eq!(bob.refuses(&log), "log_mismatch");
    assert_eq!(bob.seal("?"), Err(RoomError::Blocked("log_mismatch")));
    bob.room.end_block().unwrap();
    assert_eq!(bob.seal("?"), Err(RoomError::EpochDue));
    log.epoch(bob.announce());
    bob.catch_up_well(&log);
    assert!(bob.seal("on").is_ok());
    // A broken chain of changes is another matter: who is in is not known.
    log.change(alice.change(Change::Left));
    assert_eq!(bob.refuses(&log), "chain_broken");
    assert_eq!(bob.room.end_block(), Err(RoomError::Blocked("chain_broken")));
}

// REQ A4
#[test]
fn several_devices_of_one_account_all_read_and_write() {
    let (mut log, mut alice, mut bob) = group();
    let second = testing::other_device("bob", "dave");
    let mut keys = testing::public("bob");
    let both = vec![bob.secrets.certificate().clone(), second.certificate().clone()];
    keys.lists.push(bob.secrets.next_device_list(&keys.lists[0], both));
    keys.prekeys.push(second.signed_prekey().unwrap().clone());
    for person in [&mut alice, &mut bob] {
        person.learn(keys.clone());
    }
    assert_eq!(alice.seal("?"), Err(RoomError::EpochDue));
    let mut tablet = Person::new("bob", Room::empty(alice.room.id()));
    tablet.secrets = second;
    tablet.directory.insert(account("bob"), KnownAccount::first_contact(keys.clone()).unwrap());
    tablet.catch_up(&log);
    let epoch = alice.announce();
    assert_eq!(epoch.wraps.len(), 3);
    log.epoch(epoch.clone());
    for person in [&mut alice, &mut bob, &mut tablet] {
        take_epoch(person, &log, &epoch).unwrap();
    }
    log.message(alice.seal("for all three").unwrap());
    for person in [&mut alice, &mut bob, &mut tablet] {
        assert_eq!(text_of(&person.catch_up_well(&log)[0]), "for all three");
    }
    log.message(tablet.seal("from the tablet").unwrap());
    log.message(bob.seal("from the laptop").unwrap());
    for person in [&mut alice, &mut bob, &mut tablet] {
        let read = person.catch_up_well(&log);
        assert_eq!((text_of(&read[0]), text_of(&read[1])), ("from the tablet", "from the laptop"));
    }
    // The tablet is taken off the list: nothing more is for it, nothing more is taken from it.
    let only = vec![bob.secrets.certificate().clone()];
    keys.lists.push(bob.secrets.next_device_list(&keys.lists[1], only));
    keys.prekeys.truncate(1);
    for person in [&mut alice, &mut bob, &mut tablet] {
        person.learn(keys.clone());
    }
    let late = tablet.seal("late");
    assert_eq!(late, Err(RoomError::EpochDue));
    let epoch = bob.announce();
    assert_eq!(epoch.wraps.len(), 2);
    log.epoch(epoch.clone());
    take_epoch(&mut alice, &log, &epoch).unwrap();
    assert_eq!(take_epoch(&mut tablet, &log, &epoch), Ok(Accepted::Epoch { epoch: 3 }));
    log.message(alice.seal("without the tablet").unwrap());
    assert_eq!(tablet.refuses(&log), "before_device");
}
