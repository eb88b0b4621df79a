use mildam_records::{MessageHeader, Receipt, ReceiptKind};
use proptest::prelude::*;

use super::*;

// REQ C4, M1
#[test]
fn two_people_talk_in_korean_and_english() {
    let (mut log, mut alice, mut bob) = two();
    assert_eq!(bob.name_of_room(), Some("우리집"));
    for (text, by_alice) in [("안녕하세요, 밥!", true), ("Hello, Alice!", false), ("😀", true), ("끝", true)]
    {
        let message = if by_alice { alice.seal(text) } else { bob.seal(text) }.unwrap();
        let hash = message.hash();
        log.message(message);
        let (at_alice, at_bob) = (alice.catch_up_well(&log), bob.catch_up_well(&log));
        assert_eq!((text_of(&at_alice[0]), text_of(&at_bob[0])), (text, text));
        assert!(
            matches!(&at_bob[0], Accepted::Message(message) if message.hash == hash && message.missing == 0)
        );
    }
    assert_eq!(alice.room.position(), bob.room.position());
}

// REQ M1
#[test]
fn lengths_hide_in_padding() {
    let (_, mut alice, _) = two();
    let lengths: Vec<usize> =
        ["", "ㅋ", &"가".repeat(60)].map(|text| alice.seal(text).unwrap().ciphertext.len()).to_vec();
    assert_eq!(lengths, [256 + 16; 3]);
}

// REQ M1
#[test]
fn a_content_that_is_too_long_costs_no_key() {
    let (_, mut alice, _) = two();
    let frame = r#"{"sent_at":1700000000000,"body":{"text":""}}"#.len();
    assert_eq!(alice.seal(&"x".repeat(MAX_CONTENT - frame + 1)), Err(RoomError::TooLong));
    let longest = alice.seal(&"x".repeat(MAX_CONTENT - frame)).unwrap();
    assert_eq!(longest.header.n, 0);
    assert!(longest.ciphertext.len() <= 96 * 1024);
}

// REQ M1
#[test]
fn no_two_messages_share_a_key() {
    let (_, mut alice, _) = two();
    let (one, two) = (alice.seal("same").unwrap(), alice.seal("same").unwrap());
    assert_ne!(one.header.commit, two.header.commit);
    assert_ne!(one.header.salt, two.header.salt);
    assert_ne!(one.ciphertext, two.ciphertext);
    assert_eq!((one.header.n, two.header.n), (0, 1));
}

// REQ M2, T5
#[test]
fn replayed_reordered_and_foreign_messages_are_refused() {
    let (mut log, mut alice, mut bob) = two();
    let (one, two) = (alice.seal("one").unwrap(), alice.seal("two").unwrap());
    log.message(two.clone());
    let outcome = bob.catch_up(&log);
    assert!(matches!(&outcome[0], Ok(Accepted::Message(message)) if message.missing == 1));
    log.message(one.clone());
    assert_eq!(bob.refuses(&log), "replayed");
    log.message(two);
    assert_eq!(bob.refuses(&log), "replayed");
    let (mut other_log, _, mut other_bob) = super::two();
    other_log.message(one);
    assert_eq!(other_bob.refuses(&other_log), "other_room");
    // None of it blocks an honest conversation.
    alice.catch_up(&log);
    log.message(alice.seal("three").unwrap());
    assert_eq!(text_of(&bob.catch_up_well(&log)[0]), "three");
}

// REQ M2
#[test]
fn a_withheld_message_is_noticed_as_missing() {
    let (mut log, mut alice, mut bob) = two();
    log.message(alice.seal("deleted by retention").unwrap());
    log.withhold_last();
    log.message(alice.seal("here").unwrap());
    let read = bob.catch_up_well(&log);
    assert_eq!(read[0], Accepted::Withheld);
    assert!(matches!(&read[1], Accepted::Message(message) if message.missing == 1));
}

// REQ M2
#[test]
fn items_come_once_and_in_order() {
    let (mut log, mut alice, mut bob) = two();
    log.message(alice.seal("one").unwrap());
    log.message(alice.seal("two").unwrap());
    let (one, two) = (log.for_reader(2, &account("bob")), log.for_reader(3, &account("bob")));
    let before = bob.room.position();
    assert_eq!(bob.take(&two), Err(NotAccepted::OutOfOrder));
    assert_eq!(bob.room.position(), before);
    assert!(bob.take(&one).is_ok());
    assert_eq!(bob.take(&one), Err(NotAccepted::Old));
    assert!(bob.take(&two).is_ok());
}

// REQ M2
#[test]
fn a_jump_too_far_is_refused_and_the_next_epoch_heals() {
    let (mut log, mut alice, mut bob) = two();
    // A sender that ignores when an epoch is due.
    for _ in 0..=crate::chain::MAX_JUMP {
        alice.room.epoch.as_mut().unwrap().own.as_mut().unwrap().step().unwrap();
    }
    assert_eq!(alice.seal("far"), Err(RoomError::EpochDue));
    let mut far = super::two().1.seal("far").unwrap();
    far.header = MessageHeader { n: u64::MAX / 2, ..header_for(&alice) };
    log.message(alice.resign(far));
    assert_eq!(bob.refuses(&log), "jump_too_far");
    assert_eq!(bob.room.blocked(), None);
    alice.catch_up(&log);
    log.epoch(alice.announce());
    bob.catch_up_well(&log);
    alice.catch_up_well(&log);
    log.message(alice.seal("near").unwrap());
    assert_eq!(text_of(&bob.catch_up_well(&log)[0]), "near");
}

/// A header that fits the sender's room in everything but the key.
fn header_for(sender: &Person) -> MessageHeader {
    let membership = sender.room.membership.as_ref().unwrap();
    MessageHeader {
        format: 1,
        room: sender.room.id(),
        epoch: sender.room.epoch(),
        sender: sender.secrets.account().clone(),
        sender_device: sender.secrets.device(),
        n: 0,
        id: ClientMessageId::from_bytes([1; 16]),
        salt: mildam_records::message::MessageSalt::from_bytes([2; 16]),
        commit: Hash::ZERO,
        version: membership.version(),
        head: membership.head(),
        seen_seq: sender.room.position().seq,
        seen_hash: sender.room.position().hash,
        sender_list: sender.directory[sender.secrets.account()].newest().unwrap().hash(),
    }
}

// REQ M2
#[test]
fn a_sender_that_lies_in_its_header_is_refused() {
    type Lie = fn(&mut MessageHeader);
    let lies: [(&str, Lie); 11] = [
        ("needs_newer_version", |header| header.format = 2),
        ("other_room", |header| header.room = RoomId::from_bytes([1; 32])),
        ("stale", |header| header.epoch += 1),
        ("stale", |header| header.version += 1),
        ("stale", |header| header.head = Hash::ZERO),
        ("does_not_open", |header| header.n += 1),
        ("does_not_open", |header| header.commit = Hash::ZERO),
        ("does_not_open", |header| header.id = ClientMessageId::from_bytes([9; 16])),
        ("log_mismatch", |header| header.seen_hash = Hash::ZERO),
        ("log_mismatch", |header| header.seen_seq = 2),
        ("unknown_device", |header| header.sender_device = mildam_records::DeviceId::from_bytes([3; 16])),
    ];
    for (code, lie) in lies {
        let (mut log, mut alice, mut bob) = two();
        let mut message = alice.seal("hello").unwrap();
        lie(&mut message.header);
        log.message(alice.resign(message));
        assert_eq!(bob.refuses(&log), code);
        let blocked = (code == "log_mismatch").then_some("log_mismatch");
        assert_eq!(bob.room.blocked(), blocked);
    }
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
    assert_eq!(bob.refuses(&for_bob), "log_mismatch");
    assert_eq!(bob.room.blocked(), Some("log_mismatch"));
    assert_eq!(bob.seal("no"), Err(RoomError::Blocked("log_mismatch")));
    // No later epoch makes the two logs one.
    let mut other = Person::new("alice", Room::empty(bob.room.id()));
    assert_eq!(other.refuses(&for_bob), "log_mismatch");
    other.room.blocked = None;
    for_bob.epoch(other.announce());
    assert_eq!(bob.catch_up_well(&for_bob), [Accepted::Epoch { epoch: 2 }]);
    assert_eq!(bob.room.blocked(), Some("log_mismatch"));
}

// REQ M2
#[test]
fn nobody_writes_under_another_name() {
    let (mut log, mut alice, mut bob) = two();
    let mut message = bob.seal("I owe you money").unwrap();
    message.header.sender = account("alice");
    log.message(bob.resign(message.clone()));
    alice.keys_are_fresh = true;
    assert_eq!(alice.refuses(&log), "unknown_keys");
    message.header.sender_device = alice.secrets.device();
    message.header.sender_list = testing::list_hash("alice");
    log.message(bob.resign(message));
    assert_eq!(alice.refuses(&log), "bad_signature");
}

// REQ C4
#[test]
fn a_message_under_another_list_than_the_epochs_is_refused() {
    let (mut log, mut alice, mut bob) = two();
    let newer = with_second_list(&alice);
    bob.learn(newer.clone());
    alice.learn(newer.clone());
    assert!(alice.room.needs_epoch(NOW, &alice.directory));
    assert_eq!(alice.seal("not before a new epoch"), Err(RoomError::EpochDue));
    log.epoch(alice.announce());
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    let mut message = alice.seal("hello").unwrap();
    assert_eq!(message.header.sender_list, newer.lists[1].hash());
    message.header.sender_list = newer.lists[0].hash();
    log.message(alice.resign(message));
    assert_eq!(bob.refuses(&log), "wrong_list");
}

// REQ M1
#[test]
fn a_content_that_is_no_content_is_refused() {
    let (mut log, mut alice, mut bob) = two();
    let mut message = alice.seal("hello").unwrap();
    let chain = bob.room.epoch.as_mut().unwrap().chains.get_mut(&alice.secrets.device()).unwrap();
    let stored = serde_json::to_value(&*chain).unwrap();
    let mut copy: crate::chain::Chain = serde_json::from_value(stored).unwrap();
    let cipher = copy.step().unwrap().with_salt(&message.header.salt).unwrap();
    message.ciphertext = cipher.seal(br#"{"sent_at":"now"}"#, &message.header.canonical()).unwrap().into();
    log.message(alice.resign(message));
    assert_eq!(bob.refuses(&log), "malformed_content");
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
    let mut impatient = Person { room: Room::empty(bob.room.id()), keys_are_fresh: true, read: 0, ..bob };
    assert_eq!(refused(impatient.catch_up(&log).remove(0)), "unknown_keys");
    assert_eq!(impatient.room.blocked(), Some("unknown_keys"));
    let (_, _, mut bob) = two();
    bob = Person { room: Room::empty(impatient.room.id()), ..bob };
    bob.directory.insert(account("alice"), known);
    bob.read = 0;
    assert_eq!(text_of(&bob.catch_up_well(&log)[2]), "hello");
}

// REQ M2
#[test]
fn receipts_are_bound_to_the_log_and_to_members() {
    let (mut log, mut alice, mut bob) = two();
    log.message(alice.seal("hello").unwrap());
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    let verify = |receipt: &Receipt| alice.room.verify_receipt(receipt, &alice.directory, &alice.hashes);
    let (room, at) = (bob.room.id(), bob.room.position());
    let receipt = bob.secrets.sign_receipt(room, ReceiptKind::Read, at);
    assert_eq!(verify(&receipt), Ok(()));
    let earlier = LogPosition { seq: 1, hash: bob.hashes[&1] };
    assert_eq!(verify(&bob.secrets.sign_receipt(room, ReceiptKind::Delivered, earlier)), Ok(()));
    let carol = testing::secrets("carol");
    for bad in [
        bob.secrets.sign_receipt(room, ReceiptKind::Read, LogPosition { hash: Hash::ZERO, ..at }),
        bob.secrets.sign_receipt(RoomId::from_bytes([1; 32]), ReceiptKind::Read, at),
        carol.sign_receipt(room, ReceiptKind::Read, at),
        Receipt { kind: ReceiptKind::Delivered, ..receipt.clone() },
        Receipt { seq: 1, ..receipt.clone() },
        Receipt { account: account("alice"), device: alice.secrets.device(), ..receipt.clone() },
    ] {
        assert_eq!(verify(&bad), Err(RoomError::BadReceipt), "{bad:?}");
    }
    let unknown = Receipt { device: carol.device(), ..receipt };
    assert_eq!(verify(&unknown), Err(RoomError::UnknownKeys(account("bob"))));
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

    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        let (mut log, mut alice, mut bob) = two();
        log.message(alice.seal(&text).unwrap());
        let read = bob.catch_up_well(&log);
        prop_assert_eq!(text_of(&read[0]), text);
    }
}
