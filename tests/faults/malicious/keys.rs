//! Attacks on who people are: the relay hands out other keys.

use mildam_e2ee::records::bytes::Bytes;
use mildam_e2ee::records::{
    AccountId, AccountKeys, ClientMessageId, DeviceId, DeviceList, ListSigner, RoomChange,
};
use mildam_e2ee::{DeviceKey, DeviceSecrets, IdentityKey, KnownAccount, PreKey, WrapKey, first_device_list};

use super::hand::Hand;
use super::*;
use crate::Outcome;
use crate::peer::rng;

/// Keys that the relay has made for an account: all of them its own, and all in order.
struct Impostor {
    secrets: DeviceSecrets,
    keys: AccountKeys,
}

impl Impostor {
    fn of(account: &str) -> Result<Self> {
        let (account, identity): (AccountId, _) = (account.parse()?, IdentityKey::generate(&mut rng())?);
        let device = DeviceKey::generate(&mut rng());
        let (wrap, prekey) = (WrapKey::generate(&mut rng())?, PreKey::generate(&mut rng())?);
        let secrets = DeviceSecrets::new(account.clone(), wrap, device, prekey, u64::MAX)?;
        let keys = AccountKeys {
            account,
            identity_key: identity.public().clone(),
            lists: vec![first_device_list(&identity, &secrets, 1, &mut rng())?],
            prekeys: secrets.signed_prekey().cloned().into_iter().collect(),
        };
        KnownAccount::first_contact(keys.clone())?;
        Ok(Self { secrets, keys })
    }
}

/// Hands out other keys of one account to another from now on.
fn swap(stage: &Stage, reader: &'static str, keys: &AccountKeys) -> Result<u64> {
    let (account, keys) = (keys.account.to_string(), serde_json::to_value(keys)?);
    Ok(stage.middle.on_answer("account_keys", move |traffic| {
        let accounts = traffic.data.get_mut("accounts").and_then(Value::as_array_mut);
        for known in accounts.into_iter().flatten().filter(|_| traffic.account == reader) {
            let keys_of = known
                .get_mut("keys")
                .filter(|old| old.get("account").and_then(Value::as_str) == Some(&account));
            keys_of.into_iter().for_each(|old| *old = keys.clone());
        }
    }))
}

fn safety_number(person: &Person, friend: &Person) -> Result<Value> {
    let shown = person.done(&["contact", "show", friend.account()])?;
    let number = shown.first().and_then(|contact| contact.pointer("/safety_number/groups"));
    Ok(number.filter(|groups| groups.is_array()).context("a safety number")?.clone())
}

/// The devices for which a request of an account's brought a key.
fn wrapped_for(stage: &Stage, account: &str, command: &str) -> Vec<String> {
    let asked = stage.middle.asked(account, command);
    let wraps = asked.iter().filter_map(|data| data.pointer("/epoch/wraps")?.as_array()).flatten();
    wraps.filter_map(|wrap| Some(wrap.get("device")?.as_str()?.to_owned())).collect()
}

// REQ C4: once somebody is known, the relay cannot put another in their place.
#[test]
fn keys_that_the_relay_swaps_after_first_contact_are_not_taken() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let before = safety_number(&alice, &bob)?;
    let impostor = Impostor::of("bob")?;
    swap(&stage, "alice", &impostor.keys)?;
    // A new group asks for Bob's keys anew, and gets the wrong ones: nothing is sent until she decides.
    let create = ["room", "create", "--name", "모임", "bob"];
    assert_eq!(alice.refused(&create)?, (1, "identity_changed".to_owned()));
    let refused = alice.refused(&["send", &room, "둘"])?;
    assert_eq!(refused, (1, "identity_changed".to_owned()));
    alice.done(&["contact", "keep-identity", "bob"])?;
    let group = alice.room(&create)?;
    say(&alice, &group, "우리끼리")?;
    hear(&bob, &group, &["우리끼리"])?;
    assert_eq!(safety_number(&alice, &bob)?, before);
    assert_eq!(safety_number(&bob, &alice)?, before);
    let devices = wrapped_for(&stage, "alice", "room_create");
    assert_eq!(devices.len(), 2 * 2, "two devices in two rooms: {devices:?}");
    assert!(!devices.contains(&impostor.secrets.device().to_string()));
    Ok(())
}

// REQ C4: what somebody writes whom the relay has put in the place of a member is refused.
#[test]
fn an_impostor_of_a_known_member_writes_nothing() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let impostor = Impostor::of("bob")?;
    swap(&stage, "alice", &impostor.keys)?;
    // Bob's own state, so that nothing is wrong but who signs: even the key is right.
    let mut hand = Hand::of(&bob)?;
    hand.secrets = impostor.secrets;
    hand.directory.insert("bob".parse()?, KnownAccount::first_contact(impostor.keys)?);
    let forged = hand.seal(&room, ClientMessageId::from_bytes([3; 16]), "나 밥이야");
    // With another list than the epoch's, not even the state of Bob's own device seals.
    assert!(forged.is_err(), "sealed under an impostor's list");
    let mut message = Hand::of(&bob)?.seal(&room, ClientMessageId::from_bytes([3; 16]), "나 밥이야")?;
    let list = hand.directory.get(&"bob".parse()?).and_then(KnownAccount::newest).context("a list")?;
    message.header.sender_device = hand.secrets.device();
    message.header.sender_list = list.hash();
    let item = json!({ "message": hand.sign_message(message) });
    let rule = stage.middle.on_answer("room_log", append("alice", 3, item));
    hear(&alice, &room, &["하나"])?;
    stage.middle.lift(rule);
    assert_refused(&alice, &room, &[("bob", "unknown_keys")])
}

// REQ C4: at first contact the relay's word is all there is: the safety numbers differ, and no
// room comes about in which both are.
#[test]
fn keys_that_the_relay_swaps_at_first_contact_show_in_the_safety_number() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob) = (stage.person("alice")?, stage.person("bob")?);
    swap(&stage, "alice", &Impostor::of("bob")?.keys)?;
    stage.scene.befriend(&alice, &bob)?;
    alice.done(&["sync"])?;
    assert_ne!(safety_number(&alice, &bob)?, safety_number(&bob, &alice)?);
    // The true relay would refuse this room; the one that lies takes it, and shows it to Bob.
    stage.middle.rule(|traffic| {
        let create = traffic.kind == Kind::Request && traffic.name == "room_create";
        let made = || {
            let change: RoomChange = serde_json::from_value(traffic.data.get("change")?.clone()).ok()?;
            Some(Fate::Answer(json!({"room": change.room_id(), "created": true})))
        };
        create.then(made).flatten().unwrap_or(Fate::Pass)
    });
    alice.run(&["room", "direct", "bob"], None)?;
    let made = stage.middle.asked("alice", "room_create").pop().context("Alice makes a room")?;
    let room = show_room(&stage, "bob", &made)?;
    bob.done(&["sync"])?;
    assert_eq!(blocked(&bob, &room)?.as_deref(), Some("identity_changed"));
    assert_eq!(bob.texts(&room)?, []);
    Ok(())
}

/// Shows an account a room that the true relay does not have.
fn show_room(stage: &Stage, account: &'static str, made: &Value) -> Result<String> {
    let change = made.get("change").context("a change")?.clone();
    let room = serde_json::from_value::<RoomChange>(change.clone())?.room_id().to_string();
    let epoch = made.get("epoch").context("an epoch")?;
    let wraps = epoch.get("wraps").and_then(Value::as_array).into_iter().flatten();
    let wrap = wraps.into_iter().find(|wrap| wrap.get("account").and_then(Value::as_str) == Some(account));
    let items = json!([
        {"entry": {"seq": 1, "stored_at": 1, "entry": {"change": change}}},
        {"epoch": {
            "after": 1, "stored_at": 1, "announcement": epoch.get("announcement"), "wrap": wrap,
            "profile": epoch.get("profile"),
        }},
    ]);
    let zero = B64.encode(&[0; 32]);
    let summary = json!({
        "room": room, "kind": "direct", "start": {"seq": 0, "hash": zero}, "last_seq": 1,
        "last_epoch": 1, "member": true, "receipts": [],
    });
    let shown = room.clone();
    stage.middle.rule(move |traffic| {
        if traffic.account == account && traffic.kind == Kind::Answer && traffic.name == "room_list" {
            let rooms = traffic.data.get_mut("rooms").and_then(Value::as_array_mut);
            rooms.into_iter().for_each(|rooms| rooms.push(summary.clone()));
        }
        let asks = traffic.account == account && traffic.kind == Kind::Request && traffic.name == "room_log";
        if asks && traffic.data.get("room").and_then(Value::as_str) == Some(&shown) {
            return Fate::Answer(json!({"items": items, "more": false}));
        }
        Fate::Pass
    });
    Ok(room)
}

// REQ C4: a device that the relay adds to somebody's list, or a prekey that it puts in the place of
// theirs, gets no room key.
#[test]
fn a_device_that_the_relay_slips_in_gets_no_key() -> Outcome {
    let stage = Stage::start()?;
    let ([alice, bob, carol], room) = stage.group()?;
    let impostor = Impostor::of("bob")?;
    let hand = Hand::of(&alice)?;
    let known = serde_json::to_value(hand.directory.get(&"bob".parse()?).context("Bob")?)?;
    let keys: AccountKeys = serde_json::from_value(known.get("keys").context("his keys")?.clone())?;
    let first = keys.lists.first().context("a list")?;
    let mut second = DeviceList {
        version: 2,
        previous: Some(first.hash()),
        signer: ListSigner::Device(first.certificates.first().context("a device")?.device),
        signature: Bytes(vec![0; 64]),
        ..first.clone()
    };
    second.certificates.push(impostor.secrets.certificate().clone());
    // Signed by the device that is slipped in, which is all that the relay has.
    second.signer = ListSigner::Device(impostor.secrets.device());
    let slipped = AccountKeys {
        lists: vec![first.clone(), second],
        prekeys: keys.prekeys.iter().chain(&impostor.keys.prekeys).cloned().collect(),
        ..keys.clone()
    };
    let mut prekey = impostor.keys.prekeys.first().context("a prekey")?.clone();
    prekey.device = first.certificates.first().context("a device")?.device;
    let replaced = AccountKeys { prekeys: vec![prekey], ..keys.clone() };
    let devices: Vec<DeviceId> =
        keys.lists.iter().flat_map(|list| &list.certificates).map(|one| one.device).collect();
    carol.done(&["room", "leave", &room])?;
    let mut said = vec!["하나".to_owned()];
    for (at, keys) in [slipped, replaced].iter().enumerate() {
        let rule = swap(&stage, "alice", keys)?;
        // She makes a new key: the first time because Carol has left, then to bring her back.
        if at == 1 {
            alice.done(&["room", "invite", &room, "carol"])?;
        }
        said.push(format!("비밀 {at}"));
        say(&alice, &room, &format!("비밀 {at}"))?;
        stage.middle.lift(rule);
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        hear(&bob, &room, &said)?;
    }
    let mut given = wrapped_for(&stage, "alice", "epoch_announce");
    given.extend(wrapped_for(&stage, "alice", "room_change"));
    assert_eq!(given.len(), 2 + 3, "{given:?}");
    assert!(given.contains(&devices.first().context("a device")?.to_string()));
    assert!(!given.contains(&impostor.secrets.device().to_string()));
    Ok(())
}
