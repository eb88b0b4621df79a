//! An account that is taken up again with its recovery words.

use mildam_protocol::command::{FriendList, GetAccountKeys, PreKeyReplace, Recover, RecoverStart, RoomList};
use mildam_protocol::password::Registration;
use mildam_protocol::records::bytes::Bytes;
use mildam_protocol::records::keys::Signature;
use mildam_protocol::records::{DeviceList, ListSigner, RoomKind};
use mildam_protocol::{Code, Event};

use crate::client::Client;
use crate::person::{Person, account, code, new_device, password, two_talking};
use crate::relay::{TestRelay, now, rng};

const NEW_PASSWORD: &str = "a password after the loss";

/// Alice at a device of which the relay knows nothing.
async fn alice_anew(relay: &TestRelay) -> Person {
    Person::stranger(relay, "alice").await.at(new_device(&account("alice")))
}

// REQ A4, A5
#[tokio::test]
async fn the_words_put_a_new_device_in_place_of_all_others() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    bob.client.events_until_now().await;
    alice.client.events_until_now().await;
    let mut again = alice_anew(&relay).await;
    again.recover(NEW_PASSWORD).await.unwrap();

    // The account is what it was, with one device.
    assert_eq!(again.client.ask(&FriendList {}).await.unwrap().friends[0].account, bob.account);
    assert_eq!(again.rooms().await[0].room, room);
    let keys = again.published().await;
    let newest = keys.verify().unwrap();
    assert_eq!((newest.generation, newest.version, newest.certificates.len()), (2, 1, 1));
    assert_eq!(newest.certificates[0], *again.secrets.certificate());
    assert_eq!(keys.lists[0], alice.keys.lists[0]);
    assert_eq!(keys.prekeys, [again.secrets.signed_prekey().unwrap().clone()]);
    let attached = again.attach().await.unwrap();
    assert_eq!((attached.nickname.as_str(), attached.device), ("alice 님", again.secrets.device()));

    // Who may know of it is told; the device of before hears its last word.
    let changed = Event::KeysChanged { account: alice.account.clone() };
    assert_eq!(bob.client.events_until_now().await, [changed]);
    assert_eq!(alice.client.events_until_now().await, [Event::DeviceRemoved {}]);
    let known = GetAccountKeys { accounts: vec![alice.account.clone()] };
    assert_eq!(bob.client.ask(&known).await.unwrap().accounts[0].keys, keys);

    // The new password is the only one.
    let mut late = Person::stranger(&relay, "alice").await.at(again.secrets);
    assert_eq!(code(late.log_in_with(&password("alice")).await), Code::WrongCredentials);
    late.log_in_with(NEW_PASSWORD).await.unwrap();
    relay.stop().await;
}

// REQ A4, A5, C4
#[tokio::test]
async fn a_device_that_was_put_out_can_do_nothing_any_more() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let message = alice.seal(&room, "from the lost device");
    let announcement = alice.announcement(&room);
    alice.client.events_until_now().await;
    let mut again = alice_anew(&relay).await;
    again.recover(NEW_PASSWORD).await.unwrap();
    assert_eq!(alice.client.event().await, Event::DeviceRemoved {});

    // On the connection that it had, and on a new one with the session that it had.
    for reconnected in [false, true] {
        if reconnected {
            let session = alice.client.session.take();
            alice.client = Client::connect(&relay).await;
            alice.client.session = session;
        }
        let revoked = Code::SessionRevoked;
        assert_eq!(code(alice.attach().await), revoked);
        assert_eq!(code(alice.client.ask(&RoomList {}).await), revoked);
        assert_eq!(code(alice.page(&room, 0, 0, 10).await), revoked);
        assert_eq!(code(alice.client.ask(&message).await), revoked);
        assert_eq!(code(alice.client.ask(&announcement).await), revoked);
        assert_eq!(code(alice.client.ask(&alice.prekey_of(now())).await), revoked);
        let back = alice.list_of(&alice.keys.lists[0], &[&alice.secrets]);
        assert_eq!(code(alice.client.ask(&back).await), revoked);
    }
    // Nothing is pushed to it.
    let bobs = bob.say(&room, "is it you?").await.unwrap();
    assert_eq!(alice.client.events_until_now().await, []);
    assert_eq!(again.summary(&room).await.last_seq, bobs.seq);

    // Neither password nor keys get it back in.
    assert_eq!(code(alice.log_in().await), Code::WrongCredentials);
    assert_eq!(code(alice.log_in_with(NEW_PASSWORD).await), Code::DeviceUnknown);
    assert_eq!(code(alice.sign_up().await), Code::AccountTaken);
    // Nor the words: a device comes back as a new one, or not at all.
    let returning = alice.recover_command(NEW_PASSWORD).await;
    assert_eq!(code(alice.client.ask(&returning).await), Code::BadRecord);
    again.client.ask(&RoomList {}).await.unwrap();
    relay.stop().await;
}

// REQ A4
#[tokio::test]
async fn a_new_epoch_goes_to_the_recovered_device_and_none_to_the_lost_one() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let before = bob.announcement(&room);
    let mut again = alice_anew(&relay).await;
    again.recover(NEW_PASSWORD).await.unwrap();
    // Made for the list of before, it comes too late.
    assert_eq!(code(bob.client.ask(&before).await), Code::Stale);
    bob.update(&alice.account).await;
    let epoch = bob.announcement(&room);
    assert!(epoch.epoch.wraps.iter().all(|wrap| wrap.device != alice.secrets.device()));
    bob.client.ask(&epoch).await.unwrap();
    bob.catch_up(&room).await;
    bob.say(&room, "again").await.unwrap();
    let page = again.page(&room, 1, 1, 10).await.unwrap();
    assert_eq!(page.items.len(), 2);
    let own = epoch.epoch.wraps.iter().find(|wrap| wrap.device == again.secrets.device());
    let mildam_protocol::records::LogItem::Epoch { wrap, .. } = &page.items[0] else { panic!("{page:?}") };
    assert_eq!(wrap.as_deref(), own);
    assert!(own.is_some());
    assert_eq!(alice.client.events_until_now().await.last(), Some(&Event::DeviceRemoved {}));
    relay.stop().await;
}

// REQ A4
#[tokio::test]
async fn only_the_words_begin_a_recovery() {
    let relay = TestRelay::start().await;
    let alice = Person::new(&relay, "alice").await;
    let bob = Person::stranger(&relay, "bob").await;
    let mut again = alice_anew(&relay).await;
    let (_, request) = Registration::start(NEW_PASSWORD, &mut rng()).unwrap();
    let good = again.recover_start(request);
    let table = [
        RecoverStart {
            proof: bob.words.sign(&alice.account, &again.client.transcript).unwrap(),
            ..good.clone()
        },
        RecoverStart {
            proof: again.words.sign(&alice.account, &alice.client.transcript).unwrap(),
            ..good.clone()
        },
        RecoverStart { proof: Signature::from_bytes([0; 64]), ..good.clone() },
        RecoverStart { account: account("nobody"), ..good.clone() },
    ];
    let mut refusals = Vec::new();
    for start in table {
        refusals.push(again.client.ask(&start).await.unwrap_err());
    }
    assert_eq!(refusals[0].code, Code::WrongWords);
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    // What is no message of the password protocol shows only to who knows the words.
    let empty = RecoverStart { password: Bytes::default(), ..good.clone() };
    assert_eq!(code(again.client.ask(&empty).await), Code::BadPassword);
    again.client.ask(&good).await.unwrap();
    relay.stop().await;
}

// REQ A4
#[tokio::test]
async fn a_recovery_that_does_not_fit_changes_nothing() {
    let relay = TestRelay::start().await;
    let alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    let mut again = alice_anew(&relay).await;
    // Without the first step, and after the first step of another account.
    let unprepared = again.recover_with(Bytes::default(), alice.keys.lists[0].clone());
    assert_eq!(code(again.client.ask(&unprepared).await), Code::WrongWords);
    let good = again.recover_command(NEW_PASSWORD).await;
    let of_bob = Recover { account: bob.account.clone(), ..good.clone() };
    assert_eq!(code(again.client.ask(&of_bob).await), Code::WrongWords);

    let record = || good.password.clone();
    let list = |alter: fn(&mut DeviceList)| {
        let mut list = good.device_list.clone();
        alter(&mut list);
        list
    };
    let with_list = |list| again.recover_with(record(), list);
    let mut two_devices = good.device_list.clone();
    two_devices.certificates.push(alice.secrets.certificate().clone());
    let stranger = new_device(&alice.account);
    let other_prekey = Recover { prekey: stranger.signed_prekey().unwrap().clone(), ..good.clone() };
    let mut unsigned_prekey = good.clone();
    unsigned_prekey.prekey.signature = Signature::from_bytes([1; 64]);
    let day = 24 * 60 * 60 * 1_000;
    let PreKeyReplace { prekey: of_tomorrow } = again.prekey_of(now() + day + 60_000);
    let transcript = again.client.transcript;
    let hash = good.device_list.hash();
    let proof = |password: &[u8], hash| Recover {
        proof: again.secrets.sign_recovered(&transcript, password, hash),
        ..good.clone()
    };
    let table = [
        (
            "no record",
            again.recover_with(Bytes(vec![0xff; 192]), good.device_list.clone()),
            Code::BadPassword,
        ),
        ("no device", with_list(list(|list| list.certificates.clear())), Code::BadRecord),
        ("two devices", with_list(two_devices), Code::BadRecord),
        ("version 2", with_list(list(|list| list.version = 2)), Code::BadRecord),
        ("altered", with_list(list(|list| list.certificates[0].created_at += 1)), Code::BadRecord),
        ("unsigned", with_list(list(|list| list.signature.0[0] ^= 1)), Code::BadRecord),
        (
            "signed by a device",
            with_list(list(|list| {
                list.signer = ListSigner::Device(list.certificates[0].device);
            })),
            Code::BadRecord,
        ),
        ("the present generation", with_list(list(|list| list.generation = 1)), Code::Stale),
        ("a generation left out", with_list(list(|list| list.generation = 3)), Code::Stale),
        ("another device's prekey", other_prekey, Code::BadRecord),
        ("an unsigned prekey", unsigned_prekey, Code::BadRecord),
        (
            "a prekey of the day after tomorrow",
            Recover { prekey: of_tomorrow, ..good.clone() },
            Code::BadRecord,
        ),
        ("a proof for another record", proof(b"another", &hash), Code::BadRecord),
        ("a proof for another list", proof(&good.password, &alice.keys.lists[0].hash()), Code::BadRecord),
        (
            "an overheard proof",
            Recover {
                proof: again.secrets.sign_recovered(&alice.client.transcript, &good.password, &hash),
                ..good.clone()
            },
            Code::BadRecord,
        ),
    ];
    for (name, command, expected) in table {
        assert_eq!(code(again.client.ask(&command).await), expected, "{name}");
    }
    // With the device that is listed already it would be no recovery.
    let mut listed = Person::stranger(&relay, "alice").await;
    let same_device = listed.recover_command(NEW_PASSWORD).await;
    assert_eq!(code(listed.client.ask(&same_device).await), Code::BadRecord);
    // On a connection that is somebody's.
    std::mem::swap(&mut again.client, &mut bob.client);
    let elsewhere = again.recover_command(NEW_PASSWORD).await;
    assert_eq!(code(again.client.ask(&elsewhere).await), Code::WrongConnection);
    std::mem::swap(&mut again.client, &mut bob.client);

    let mut alice = alice;
    assert_eq!(alice.published().await, alice.keys);
    alice.log_in().await.unwrap();
    again.client.ask(&good).await.unwrap();
    relay.stop().await;
}

// REQ A4
#[tokio::test]
async fn a_recovery_whose_answer_was_lost_can_be_sent_again() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, _) = two_talking(&relay).await;
    let mut again = alice_anew(&relay).await;
    let command = again.recover_command(NEW_PASSWORD).await;
    again.client.send(&command).await;
    // The very bytes, while the connection lasts.
    let second = again.client.ask(&command).await.unwrap();
    // Elsewhere it takes the words again; the record that comes along is another one then.
    again.client = Client::connect(&relay).await;
    assert_eq!(code(again.client.ask(&command).await), Code::WrongWords);
    let next = again.recover_command(NEW_PASSWORD).await;
    let same_list = again.recover_with(next.password, command.device_list.clone());
    assert_eq!(code(again.client.ask(&command).await), Code::BadRecord, "its proof is another connection's");
    let third = again.client.ask(&same_list).await.unwrap();
    again.client.session = Some(second.session);
    assert_eq!(code(again.client.ask(&RoomList {}).await), Code::SessionRevoked);
    again.client.session = Some(third.session);
    again.attach().await.unwrap();
    assert_eq!(again.published().await.lists.len(), 2);
    // Told once.
    let events = bob.client.events_until_now().await;
    let changes = events.iter().filter(|event| matches!(event, Event::KeysChanged { .. })).count();
    assert_eq!(changes, 1, "{events:?}");
    assert_eq!(alice.client.events_until_now().await.last(), Some(&Event::DeviceRemoved {}));
    again.log_in_with(NEW_PASSWORD).await.unwrap();
    relay.stop().await;
}

// REQ A4
#[tokio::test]
async fn of_two_recoveries_at_once_one_wins_and_the_other_can_try_again() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let [mut one, mut two] = [alice_anew(&relay).await, alice_anew(&relay).await];
    let first = one.recover_command("the password of one").await;
    let second = two.recover_command("the password of two").await;
    let (left, right) = tokio::join!(one.client.ask(&first), two.client.ask(&second));
    let one_won = left.is_ok();
    let (won, lost) = if one_won { (left, right) } else { (right, left) };
    let session = won.unwrap().session;
    assert_eq!(code(lost), Code::Stale);
    let (mut winner, mut loser) = if one_won { (one, two) } else { (two, one) };
    winner.client.session = Some(session);
    winner.attach().await.unwrap();
    let keys = winner.published().await;
    assert_eq!(keys.lists.len(), 2);
    assert_eq!(keys.verify().unwrap().certificates[0], *winner.secrets.certificate());
    // Sent as it was, it stays too late; begun anew, it is the next generation.
    let late = if one_won { second } else { first };
    assert_eq!(code(loser.client.ask(&late).await), Code::Stale);
    loser.recover(NEW_PASSWORD).await.unwrap();
    assert_eq!(winner.client.events_until_now().await.last(), Some(&Event::DeviceRemoved {}));
    assert_eq!(code(winner.client.ask(&RoomList {}).await), Code::SessionRevoked);
    let keys = loser.published().await;
    assert_eq!(keys.verify().unwrap().generation, 3);
    assert_eq!(keys.prekeys, [loser.secrets.signed_prekey().unwrap().clone()]);
    // And the winner's recovery is over: the same again does not bring it back.
    let over = if one_won { "the password of one" } else { "the password of two" };
    assert_eq!(code(winner.log_in_with(over).await), Code::WrongCredentials);
    assert_eq!(alice.client.events_until_now().await.last(), Some(&Event::DeviceRemoved {}));
    relay.stop().await;
}

// REQ A4, C2
#[tokio::test]
async fn a_recovered_device_writes_where_the_account_is_a_member() {
    let relay = TestRelay::start().await;
    let (alice, mut bob, room) = two_talking(&relay).await;
    let mut again = alice_anew(&relay).await;
    again.recover(NEW_PASSWORD).await.unwrap();
    again.update(&alice.account).await;
    again.learn(std::slice::from_ref(&bob.account)).await;
    again.catch_up(&room).await;
    again.client.ask(&again.announcement(&room)).await.unwrap();
    again.catch_up(&room).await;
    again.say(&room, "it is me").await.unwrap();
    let group = again.create(RoomKind::Group, &[&bob.account.clone()]).await;
    bob.update(&alice.account).await;
    assert_eq!(crate::person::texts(&bob.catch_up(&room).await), ["it is me"]);
    bob.catch_up(&group).await;
    relay.stop().await;
}
