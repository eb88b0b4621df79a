//! Devices of an account: who is on the list, and the prekeys that they turn over.

use std::time::Duration;

use mildam_e2ee::DeviceSecrets;
use mildam_protocol::command::{
    DevicesSet, EpochAnnounce, FriendList, GetAccountKeys, MAX_DEVICES, PreKeyReplace, RoomList,
};
use mildam_protocol::records::keys::Signature;
use mildam_protocol::records::{DeviceId, DeviceList, LogItem, RoomId, SignedPreKey};
use mildam_protocol::{Code, Event};

use crate::client::Client;
use crate::person::{Person, account, code, new_device, two_friends, two_talking};
use crate::relay::{TestClock, TestRelay, now};

const MINUTE: u64 = 60 * 1_000;
const DAY: u64 = 24 * 60 * MINUTE;

/// A relay whose clock the test sets forward, with sessions that outlast that.
async fn relay_with_clock() -> (TestRelay, TestClock) {
    let clock = TestClock::new();
    let relay = TestRelay::start_with(|config| {
        config.clock = clock.clock();
        config.limits.session = Duration::from_secs(365 * 24 * 60 * 60);
    })
    .await;
    (relay, clock)
}

/// Takes another device onto the list; gives the person there, logged in and attached.
pub async fn add_device(relay: &TestRelay, person: &mut Person) -> Person {
    let secrets = new_device(&person.account);
    let present = person.published().await.lists.pop().unwrap();
    let list = person.list_of(&present, &[&person.secrets, &secrets]);
    person.client.ask(&list).await.unwrap();
    let mut other = Person::stranger(relay, person.account.as_str()).await.at(secrets);
    other.log_in().await.unwrap();
    other
}

fn own_prekey(person: &Person) -> PreKeyReplace {
    PreKeyReplace { prekey: person.secrets.signed_prekey().unwrap().clone() }
}

// REQ A5
#[tokio::test]
async fn a_device_that_is_new_on_the_list_logs_in_and_gives_its_prekey() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob) = two_friends(&relay).await;
    // Before it is listed, the password is of no use to it.
    let secrets = new_device(&alice.account);
    let mut other = Person::stranger(&relay, "alice").await.at(secrets);
    assert_eq!(code(other.log_in().await), Code::DeviceUnknown);

    alice.client.events_until_now().await;
    bob.client.events_until_now().await;
    let list = alice.list_of(&alice.keys.lists[0], &[&alice.secrets, &other.secrets]);
    alice.client.ask(&list).await.unwrap();
    let changed = Event::KeysChanged { account: alice.account.clone() };
    assert_eq!(bob.client.events_until_now().await, std::slice::from_ref(&changed));
    assert_eq!(alice.client.events_until_now().await, [changed]);
    // The same again is no news.
    alice.client.ask(&list).await.unwrap();
    assert_eq!(bob.client.events_until_now().await, []);

    other.log_in().await.unwrap();
    other.client.ask(&own_prekey(&other)).await.unwrap();
    let keys = alice.published().await;
    assert_eq!(keys.verify().unwrap(), &list.device_list);
    assert_eq!(keys.prekeys.len(), 2);
    let known = GetAccountKeys { accounts: vec![alice.account.clone()] };
    assert_eq!(bob.client.ask(&known).await.unwrap().accounts[0].keys, keys);
    // Both are there, each with its own session.
    alice.client.ask(&FriendList {}).await.unwrap();
    other.client.ask(&FriendList {}).await.unwrap();
    // Whichever of them sends it.
    other.client.ask(&list).await.unwrap();
    relay.stop().await;
}

// REQ A5, C4
#[tokio::test]
async fn a_device_that_is_taken_off_the_list_is_told_and_cut_off() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let mut phone = add_device(&relay, &mut alice).await;
    phone.client.ask(&own_prekey(&phone)).await.unwrap();
    phone.update(&alice.account).await;
    phone.learn(std::slice::from_ref(&bob.account)).await;
    phone.catch_up(&room).await;
    phone.client.ask(&phone.announcement(&room)).await.unwrap();
    phone.catch_up(&room).await;
    let message = phone.seal(&room, "from the lost phone");
    phone.client.events_until_now().await;

    let present = alice.published().await.lists.pop().unwrap();
    let without = alice.list_of(&present, &[&alice.secrets]);
    alice.client.ask(&without).await.unwrap();
    assert_eq!(phone.client.event().await, Event::DeviceRemoved {});
    let keys = alice.published().await;
    assert_eq!(keys.prekeys, [alice.secrets.signed_prekey().unwrap().clone()]);

    for reconnected in [false, true] {
        if reconnected {
            let session = phone.client.session.take();
            phone.client = Client::connect(&relay).await;
            phone.client.session = session;
        }
        let revoked = Code::SessionRevoked;
        assert_eq!(code(phone.attach().await), revoked);
        assert_eq!(code(phone.client.ask(&RoomList {}).await), revoked);
        assert_eq!(code(phone.page(&room, 0, 0, 10).await), revoked);
        assert_eq!(code(phone.client.ask(&message).await), revoked);
        assert_eq!(code(phone.client.ask(&phone.prekey_of(now())).await), revoked);
        let back = phone.list_of(&without.device_list, &[&alice.secrets, &phone.secrets]);
        assert_eq!(code(phone.client.ask(&back).await), revoked);
    }
    assert_eq!(code(phone.log_in().await), Code::DeviceUnknown);
    assert_eq!(phone.client.events_until_now().await, []);
    // Nor does it come back by another device's hand.
    let back = alice.list_of(&without.device_list, &[&alice.secrets, &phone.secrets]);
    assert_eq!(code(alice.client.ask(&back).await), Code::BadRecord);
    // Others go on; a wrap for the phone is refused.
    let epoch = bob.announcement(&room);
    assert_eq!(code(bob.client.ask(&epoch).await), Code::Stale);
    bob.update(&alice.account).await;
    bob.catch_up(&room).await;
    let mut with_phone = bob.announcement(&room);
    let good = with_phone.clone();
    let mut wrap = with_phone.epoch.wraps[0].clone();
    wrap.device = phone.secrets.device();
    wrap.prekey = phone.secrets.signed_prekey().unwrap().public.hash();
    with_phone.epoch.wraps.push(wrap);
    assert_eq!(code(bob.client.ask(&with_phone).await), Code::Stale);
    bob.client.ask(&good).await.unwrap();
    relay.stop().await;
}

// REQ A5
#[tokio::test]
async fn a_device_can_take_itself_off_the_list() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut phone = add_device(&relay, &mut alice).await;
    let present = alice.published().await.lists.pop().unwrap();
    phone.client.ask(&phone.list_of(&present, &[&alice.secrets])).await.unwrap();
    assert_eq!(phone.client.events_until_now().await, [Event::DeviceRemoved {}]);
    assert_eq!(code(phone.client.ask(&RoomList {}).await), Code::SessionRevoked);
    assert_eq!(alice.published().await.verify().unwrap().certificates.len(), 1);
    relay.stop().await;
}

// REQ A4, A5
#[tokio::test]
async fn a_list_that_does_not_fit_changes_nothing() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let bob = Person::stranger(&relay, "bob").await;
    let mut phone = add_device(&relay, &mut alice).await;
    let keys = alice.published().await;
    let present = keys.lists.last().unwrap().clone();
    let secrets = new_device(&alice.account);
    let devices = [&alice.secrets, &phone.secrets, &secrets];
    let good = alice.list_of(&present, &devices);
    let altered = |alter: &dyn Fn(&mut DeviceList)| {
        let mut list = good.device_list.clone();
        alter(&mut list);
        list.signature = alice.sign(&list.signed_bytes()).as_bytes().to_vec().into();
        DevicesSet { device_list: list }
    };
    let mut unsigned = good.clone();
    unsigned.device_list.signature.0[0] ^= 1;
    let many: Vec<DeviceSecrets> = (0..=MAX_DEVICES).map(|_| new_device(&alice.account)).collect();
    let with_others = |count| -> DevicesSet {
        let own = std::iter::once(&alice.secrets);
        alice.list_of(&present, &own.chain(many.iter().take(count)).collect::<Vec<_>>())
    };
    let (most, too_many) = (with_others(MAX_DEVICES - 1), with_others(MAX_DEVICES));
    let zero = mildam_protocol::records::Hash::ZERO;
    let table = [
        ("unsigned", unsigned, Code::BadRecord),
        ("a version left out", altered(&|list| list.version += 1), Code::Stale),
        ("the present version", altered(&|list| list.version -= 1), Code::Stale),
        ("another before it", altered(&|list| list.previous = Some(zero)), Code::Stale),
        ("none before it", altered(&|list| list.previous = None), Code::Stale),
        ("another generation", altered(&|list| list.generation += 1), Code::Stale),
        ("of before", alice.list_of(&keys.lists[0], &devices), Code::Stale),
        ("another identity", altered(&|list| list.identity = zero), Code::BadRecord),
        ("nobody on it", altered(&|list| list.certificates.clear()), Code::BadRecord),
        (
            "a device twice",
            altered(&|list| list.certificates.push(list.certificates[0].clone())),
            Code::BadRecord,
        ),
        (
            "another account's device",
            altered(&|list| list.certificates.push(bob.secrets.certificate().clone())),
            Code::BadRecord,
        ),
        (
            "a certificate that its device did not sign",
            altered(&|list| list.certificates[2].signature = Signature::from_bytes([1; 64])),
            Code::BadRecord,
        ),
        (
            "keys under another id",
            altered(&|list| list.certificates[2].device = DeviceId::from_bytes([1; 16])),
            Code::BadRecord,
        ),
        ("signed by another device of the list", phone.list_of(&present, &devices), Code::BadRecord),
        ("17 devices", too_many, Code::LimitReached),
    ];
    for (name, command, expected) in table {
        assert_eq!(code(alice.client.ask(&command).await), expected, "{name}");
    }
    let session = alice.client.session.take();
    assert_eq!(code(alice.client.ask(&good).await), Code::SessionRequired);
    alice.client.session = session;
    assert_eq!(alice.published().await, keys);
    assert_eq!(phone.client.events_until_now().await, []);
    alice.client.ask(&most).await.unwrap();
    assert_eq!(phone.client.events_until_now().await, [Event::DeviceRemoved {}]);
    relay.stop().await;
}

// REQ A5
#[tokio::test]
async fn of_two_lists_at_once_one_wins() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut phone = add_device(&relay, &mut alice).await;
    let present = alice.published().await.lists.pop().unwrap();
    // Each takes the other off.
    let by_alice = alice.list_of(&present, &[&alice.secrets]);
    let by_phone = phone.list_of(&present, &[&phone.secrets]);
    let (one, other) = tokio::join!(alice.client.ask(&by_alice), phone.client.ask(&by_phone));
    let alice_won = one.is_ok();
    let lost = if alice_won { other } else { one };
    assert_eq!(code(lost), Code::SessionRevoked);
    let winner = if alice_won { &mut alice } else { &mut phone };
    let keys = winner.published().await;
    let newest = keys.verify().unwrap();
    assert_eq!((newest.version, newest.certificates.len()), (3, 1));
    assert_eq!(newest.certificates[0], *winner.secrets.certificate());
    relay.stop().await;
}

// REQ A5
#[tokio::test]
async fn a_list_may_change_so_often_in_a_day() {
    let clock = TestClock::new();
    let relay = TestRelay::start_with(|config| {
        config.clock = clock.clock();
        config.limits.lists_a_day = 3;
    })
    .await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut present = alice.keys.lists[0].clone();
    // The first list of the account is one of them.
    for n in 0..4 {
        let next = alice.list_of(&present, &[&alice.secrets]);
        let asked = alice.client.ask(&next).await;
        if n < 2 {
            asked.unwrap();
            present = next.device_list;
        } else {
            assert_eq!(code(asked), Code::LimitReached, "list {n}");
        }
    }
    // What is there already is no new one.
    alice.client.ask(&DevicesSet { device_list: present.clone() }).await.unwrap();
    clock.advance(DAY - 1);
    let next = alice.list_of(&present, &[&alice.secrets]);
    assert_eq!(code(alice.client.ask(&next).await), Code::LimitReached);
    clock.advance(1);
    alice.client.ask(&next).await.unwrap();
    relay.stop().await;
}

// REQ C4
#[tokio::test]
async fn a_prekey_is_replaced_by_a_later_one() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob) = two_friends(&relay).await;
    bob.client.events_until_now().await;
    let first = alice.keys.prekeys[0].clone();
    let next = alice.prekey_of(first.created_at + 1);
    alice.client.ask(&next).await.unwrap();
    // The same again changes nothing, and nobody is told.
    alice.client.ask(&next).await.unwrap();
    assert_eq!(alice.published().await.prekeys, std::slice::from_ref(&next.prekey));
    assert_eq!(bob.client.events_until_now().await, []);
    let known = GetAccountKeys { accounts: vec![alice.account.clone()] };
    assert_eq!(
        bob.client.ask(&known).await.unwrap().accounts[0].keys.prekeys,
        std::slice::from_ref(&next.prekey)
    );

    let signed = |alter: &dyn Fn(&mut SignedPreKey)| {
        let PreKeyReplace { mut prekey } = alice.prekey_of(next.prekey.created_at + 1);
        alter(&mut prekey);
        prekey.signature = alice.sign(&prekey.signed_bytes());
        PreKeyReplace { prekey }
    };
    let mut unsigned = alice.prekey_of(next.prekey.created_at + 1);
    unsigned.prekey.signature = Signature::from_bytes([1; 64]);
    let other = new_device(&alice.account);
    let others = PreKeyReplace { prekey: other.signed_prekey().unwrap().clone() };
    let table = [
        ("of the same time", signed(&|prekey| prekey.created_at -= 1), Code::Stale),
        ("of an earlier time", signed(&|prekey| prekey.created_at = 1), Code::Stale),
        ("the one before", PreKeyReplace { prekey: first.clone() }, Code::Stale),
        ("of the day after tomorrow", alice.prekey_of(now() + DAY + MINUTE), Code::BadRecord),
        ("at the end of time", alice.prekey_of(u64::MAX), Code::BadRecord),
        ("unsigned", unsigned, Code::BadRecord),
        ("another device's", others, Code::BadRecord),
        ("another account's", own_prekey(&bob), Code::BadRecord),
        (
            "the same key, later",
            signed(&|prekey| prekey.public = next.prekey.public.clone()),
            Code::BadRecord,
        ),
        ("a key of before, later", signed(&|prekey| prekey.public = first.public.clone()), Code::BadRecord),
    ];
    for (name, command, expected) in table {
        assert_eq!(code(alice.client.ask(&command).await), expected, "{name}");
    }
    assert_eq!(alice.published().await.prekeys, std::slice::from_ref(&next.prekey));
    // A little ahead of the relay's clock is no fault.
    let ahead = alice.prekey_of(now() + DAY - MINUTE);
    alice.client.ask(&ahead).await.unwrap();
    relay.stop().await;
}

// REQ A4
#[tokio::test]
async fn nobody_begins_with_a_prekey_that_no_later_one_could_replace() {
    let relay = TestRelay::start().await;
    let mut alice = Person::stranger(&relay, "alice").await;
    let mut command = alice.sign_up_command().await;
    command.prekey = alice.prekey_of(now() + DAY + MINUTE).prekey;
    assert_eq!(code(alice.client.ask(&command).await), Code::BadRecord);
    command.prekey = alice.prekey_of(now() + DAY - MINUTE).prekey;
    alice.client.ask(&command).await.unwrap();
    relay.stop().await;
}

// REQ C4
#[tokio::test]
async fn a_device_may_have_so_many_prekeys_in_a_day() {
    let clock = TestClock::new();
    let relay = TestRelay::start_with(|config| {
        config.clock = clock.clock();
        config.limits.prekeys_a_day = 3;
    })
    .await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut phone = add_device(&relay, &mut alice).await;
    let begun = clock.now();
    // The one of the sign-up is the first.
    for n in 1..=2 {
        alice.client.ask(&alice.prekey_of(begun + n)).await.unwrap();
    }
    let fourth = alice.prekey_of(begun + 3);
    assert_eq!(code(alice.client.ask(&fourth).await), Code::LimitReached);
    // Each device has a count of its own.
    phone.client.ask(&own_prekey(&phone)).await.unwrap();
    clock.advance(DAY - 1);
    assert_eq!(code(alice.client.ask(&fourth).await), Code::LimitReached);
    clock.advance(1);
    alice.client.ask(&fourth).await.unwrap();
    relay.stop().await;
}

/// An announcement of Bob's in which only these devices have a wrap.
fn wrapped_for(bob: &Person, room: &RoomId, devices: &[DeviceId]) -> EpochAnnounce {
    let mut command = bob.announcement(room);
    command.epoch.wraps.retain(|wrap| devices.contains(&wrap.device));
    assert_eq!(command.epoch.wraps.len(), devices.len());
    command
}

// REQ C4
#[tokio::test]
async fn a_replaced_prekey_is_good_for_ten_more_minutes() {
    let (relay, clock) = relay_with_clock().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    alice.client.ask(&alice.prekey_of(clock.now() + 1)).await.unwrap();
    clock.advance(10 * MINUTE - 1);
    // Bob does not know of the new one.
    bob.client.ask(&bob.announcement(&room)).await.unwrap();
    bob.catch_up(&room).await;
    clock.advance(1);
    let late = bob.announcement(&room);
    assert_eq!(code(bob.client.ask(&late).await), Code::Stale);
    bob.update(&alice.account).await;
    bob.client.ask(&bob.announcement(&room)).await.unwrap();
    relay.stop().await;
}

// REQ C4
#[tokio::test]
async fn a_device_may_be_left_out_after_59_days_and_no_sooner() {
    let (relay, clock) = relay_with_clock().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let made_at = alice.keys.prekeys[0].created_at;
    let [hers, his] = [alice.secrets.device(), bob.secrets.device()];
    let announced = async |bob: &mut Person, devices: &[DeviceId]| {
        let command = wrapped_for(bob, &room, devices);
        let outcome = bob.client.ask(&command).await.map(drop);
        if outcome.is_ok() {
            bob.catch_up(&room).await;
        }
        outcome
    };
    clock.advance(made_at + 59 * DAY - clock.now());
    // Bob's device has been there all the time.
    bob.update_own_prekey(clock.now()).await;
    assert_eq!(code(announced(&mut bob, &[his]).await), Code::Stale);
    announced(&mut bob, &[hers, his]).await.unwrap();
    clock.advance(1);
    announced(&mut bob, &[his]).await.unwrap();
    announced(&mut bob, &[hers, his]).await.unwrap();
    // Announcers leave it out after 60 days by their own clocks, which may be a day slow.
    clock.advance(2 * DAY);
    announced(&mut bob, &[his]).await.unwrap();
    announced(&mut bob, &[hers, his]).await.unwrap();
    // When it is back with a new prekey, it must get a wrap again.
    alice.update_own_prekey(clock.now()).await;
    assert_eq!(code(announced(&mut bob, &[his]).await), Code::Stale);
    bob.update(&alice.account).await;
    announced(&mut bob, &[hers, his]).await.unwrap();
    let last = alice.summary(&room).await.last_epoch;
    let page = alice.page(&room, 1, last - 2, 10).await.unwrap();
    let wrapped = |item: &LogItem| matches!(item, LogItem::Epoch { wrap: Some(_), .. });
    assert_eq!(page.items.iter().map(wrapped).collect::<Vec<_>>(), [true, true]);
    let page = alice.page(&room, 1, 1, 2).await.unwrap();
    assert_eq!(page.items.iter().map(wrapped).collect::<Vec<_>>(), [true, false]);
    relay.stop().await;
}

// REQ T6
#[tokio::test]
async fn a_session_ends_so_long_after_its_last_use() {
    let clock = TestClock::new();
    let relay = TestRelay::start_with(|config| config.clock = clock.clock()).await;
    let mut alice = Person::new(&relay, "alice").await;
    for _ in 0..3 {
        clock.advance(29 * DAY);
        alice.attach().await.unwrap();
    }
    clock.advance(30 * DAY - 1);
    alice.client.ask(&RoomList {}).await.unwrap();
    clock.advance(1);
    assert_eq!(code(alice.client.ask(&RoomList {}).await), Code::SessionExpired);
    assert_eq!(code(alice.attach().await), Code::SessionExpired);
    alice.log_in().await.unwrap();
    relay.stop().await;
}

// REQ C4
#[tokio::test]
async fn a_room_has_so_many_epochs_in_ten_minutes() {
    let (relay, clock) = relay_with_clock().await;
    let mut alice = Person::new(&relay, "alice").await;
    let room = alice.create(mildam_protocol::records::RoomKind::Group, &[]).await;
    let announce = async |alice: &mut Person| {
        let outcome = alice.client.ask(&alice.announcement(&room)).await.map(drop);
        if outcome.is_ok() {
            alice.catch_up(&room).await;
        }
        outcome
    };
    for n in 2..=100 {
        announce(&mut alice).await.unwrap_or_else(|refusal| panic!("epoch {n}: {refusal:?}"));
    }
    assert_eq!(code(announce(&mut alice).await), Code::LimitReached);
    clock.advance(10 * MINUTE - 1);
    assert_eq!(code(announce(&mut alice).await), Code::LimitReached);
    clock.advance(1);
    announce(&mut alice).await.unwrap();
    relay.stop().await;
}

// REQ C4
#[tokio::test]
async fn a_device_without_a_prekey_gets_no_wrap_and_needs_none() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let secrets = new_device(&account("alice"));
    let list = alice.list_of(&alice.keys.lists[0], &[&alice.secrets, &secrets]);
    alice.client.ask(&list).await.unwrap();
    bob.update(&alice.account).await;
    let epoch = bob.announcement(&room);
    assert_eq!(epoch.epoch.wraps.len(), 2);
    bob.client.ask(&epoch).await.unwrap();
    relay.stop().await;
}
