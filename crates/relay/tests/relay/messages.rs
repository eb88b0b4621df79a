//! Messages and receipts.

use mildam_protocol::command::{MAX_CIPHERTEXT, MessageSend, ReceiptSend, StoredAnswer};
use mildam_protocol::records::{Hash, LogItem, LogPosition, Message, ReceiptKind, RoomId, RoomKind};
use mildam_protocol::{Code, Event};

use crate::client::Client;
use crate::person::{Person, code, texts, three, two_talking};
use crate::relay::TestRelay;

// REQ M1, T9
#[tokio::test]
async fn a_message_is_stored_answered_and_pushed() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    alice.client.events_until_now().await;
    bob.client.events_until_now().await;
    let stored = alice.say(&room, "안녕하세요, 밥!").await.unwrap();
    assert_eq!(stored.seq, 2);
    // The sender's own connection learns it from the log like everybody else.
    for person in [&mut bob, &mut alice] {
        let event = person.client.event().await;
        let Event::Log { item, .. } = event else { panic!("{event:?}") };
        assert!(matches!(*item, LogItem::Entry { seq: 2, .. }));
    }
    assert_eq!(texts(&bob.catch_up(&room).await), ["안녕하세요, 밥!"]);
    relay.stop().await;
}

// REQ M3
#[tokio::test]
async fn who_was_away_gets_everything_once_and_in_order() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    bob.client = Client::connect(&relay).await;
    let said: Vec<String> = (0..10).map(|n| format!("message {n}")).collect();
    for text in &said {
        alice.say(&room, text).await.unwrap();
        alice.catch_up(&room).await;
    }
    let relay = relay.restart().await;
    bob.client = Client::connect(&relay).await;
    bob.log_in().await.unwrap();
    assert_eq!(texts(&bob.catch_up(&room).await), said);
    assert_eq!(bob.catch_up(&room).await, []);
    relay.stop().await;
}

// REQ M1, M3
#[tokio::test]
async fn concurrent_messages_are_numbered_without_gaps() {
    const EACH: usize = 40;
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let by_alice: Vec<_> = (0..EACH).map(|n| alice.seal(&room, &format!("alice {n}"))).collect();
    let by_bob: Vec<_> = (0..EACH).map(|n| bob.seal(&room, &format!("bob {n}"))).collect();
    let (first, second) =
        tokio::join!(send_all(&mut alice.client, &by_alice), send_all(&mut bob.client, &by_bob));
    assert!(first.is_sorted() && second.is_sorted(), "a sender's messages keep their order");
    let mut all = [first, second].concat();
    all.sort_unstable();
    assert_eq!(all, (2..2 + 2 * EACH as u64).collect::<Vec<_>>());
    // Real readers follow the log hash over every one of them, and pushes come in its order.
    assert_eq!(texts(&alice.catch_up(&room).await).len(), 2 * EACH);
    assert_eq!(texts(&bob.catch_up(&room).await).len(), 2 * EACH);
    assert_eq!(alice.position(&room), bob.position(&room));
    for person in [&mut alice, &mut bob] {
        let events = person.client.events_until_now().await;
        let seqs: Vec<u64> = events.iter().filter_map(entry_seq).collect();
        assert!(seqs.is_sorted(), "{seqs:?}");
        assert_eq!(seqs.iter().filter(|seq| **seq > 1).count(), 2 * EACH);
    }
    relay.stop().await;
}

/// Sends without waiting, then collects the places.
async fn send_all(client: &mut Client, messages: &[MessageSend]) -> Vec<u64> {
    let mut ids = Vec::new();
    for message in messages {
        ids.push(client.send(message).await);
    }
    let mut places = Vec::new();
    for id in ids {
        places.push(client.answer::<MessageSend>(id).await.unwrap().seq);
    }
    places
}

fn entry_seq(event: &Event) -> Option<u64> {
    match event {
        Event::Log { item, .. } => match **item {
            LogItem::Entry { seq, .. } => Some(seq),
            LogItem::Epoch { .. } => None,
        },
        _ => None,
    }
}

// REQ L3, M3
#[tokio::test]
async fn a_resend_gets_the_first_answer_even_when_it_is_stale_by_now() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let first = alice.seal(&room, "once");
    let stored: StoredAnswer = alice.client.ask(&first).await.unwrap();
    assert_eq!(alice.client.ask(&first).await.unwrap(), stored);
    // Both in flight at once.
    let second = alice.seal(&room, "twice");
    let (one, other) = (alice.client.send(&second).await, alice.client.send(&second).await);
    let one = alice.client.answer::<MessageSend>(one).await.unwrap();
    assert_eq!(alice.client.answer::<MessageSend>(other).await.unwrap(), one);
    bob.catch_up(&room).await;
    let announcement = bob.announcement(&room);
    bob.client.ask(&announcement).await.unwrap();
    let relay = relay.restart().await;
    alice.reconnect(&relay).await;
    assert_eq!(alice.client.ask(&first).await.unwrap(), stored);
    assert_eq!(alice.summary(&room).await.last_seq, one.seq);
    relay.stop().await;
}

// REQ M2
#[tokio::test]
async fn a_message_that_does_not_fit_is_refused_and_leaves_no_trace() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let used = alice.seal(&room, "the first");
    alice.client.ask(&used).await.unwrap();
    let good = alice.seal(&room, "good");
    let bobs = bob.account.clone();
    type Bend<'a> = &'a dyn Fn(&mut Message);
    let table: [(&str, Bend<'_>, Code); 12] = [
        ("old epoch", &|m| m.header.epoch = 0, Code::Stale),
        ("coming epoch", &|m| m.header.epoch = 2, Code::Stale),
        ("other version", &|m| m.header.version = 2, Code::Stale),
        ("other head", &|m| m.header.head = Hash::ZERO, Code::Stale),
        ("used number", &|m| m.header.n = 0, Code::Stale),
        ("number without end", &|m| m.header.n = 1 << 63, Code::BadRecord),
        ("other device list", &|m| m.header.sender_list = Hash::ZERO, Code::Stale),
        ("other log", &|m| m.header.seen_hash = Hash::ZERO, Code::LogMismatch),
        ("log of tomorrow", &|m| m.header.seen_seq = 99, Code::LogMismatch),
        ("other format", &|m| m.header.format = 2, Code::BadRecord),
        ("other sender", &|m| m.header.sender = bobs.clone(), Code::BadRecord),
        ("too long", &|m| m.ciphertext.0 = vec![0; MAX_CIPHERTEXT + 1], Code::TooLarge),
    ];
    for (name, bend, expected) in table {
        let command = alice.altered(&good, bend);
        assert_eq!(code(alice.client.ask(&command).await), expected, "{name}");
    }
    let mut flipped = good.clone();
    flipped.message.ciphertext.0[0] ^= 1;
    assert_eq!(code(alice.client.ask(&flipped).await), Code::BadRecord);
    // Another's message under one's own session.
    assert_eq!(code(bob.client.ask(&good).await), Code::BadRecord);
    // Nothing of all this was stored, and the good one still fits.
    assert_eq!(alice.client.ask(&good).await.unwrap().seq, 3);
    assert_eq!(texts(&bob.catch_up(&room).await), ["the first", "good"]);
    relay.stop().await;
}

// REQ C5, M1
#[tokio::test]
async fn strangers_and_leavers_do_not_write() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, mut carol) = three(&relay).await;
    let room = alice.create(RoomKind::Group, &[&bob.account.clone()]).await;
    bob.catch_up(&room).await;
    let sealed = bob.seal(&room, "still here");
    let foreign = carol.altered(&sealed, |message| {
        message.header.sender = carol.account.clone();
        message.header.sender_device = carol.secrets.device();
    });
    assert_eq!(code(carol.client.ask(&foreign).await), Code::NotFound);
    let leave = bob.leave(&room);
    bob.client.ask(&leave).await.unwrap();
    assert_eq!(code(bob.client.ask(&sealed).await), Code::NotMember);
    let nowhere = bob.altered(&sealed, |message| message.header.room = RoomId::from_bytes([3; 32]));
    assert_eq!(code(bob.client.ask(&nowhere).await), Code::NotFound);
    relay.stop().await;
}

// REQ M2, T9
#[tokio::test]
async fn receipts_reach_the_others_and_only_go_forward() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    for text in ["one", "two"] {
        alice.say(&room, text).await.unwrap();
        alice.catch_up(&room).await;
    }
    bob.catch_up(&room).await;
    alice.client.events_until_now().await;
    bob.client.events_until_now().await;

    let delivered = bob.receipt(&room, ReceiptKind::Delivered, bob.hash_at(&room, 3));
    let read = bob.receipt(&room, ReceiptKind::Read, bob.hash_at(&room, 2));
    let both = ReceiptSend { receipts: vec![delivered.clone(), read.clone()] };
    bob.client.ask(&both).await.unwrap();
    assert_eq!(alice.client.event().await, Event::Receipt { receipt: delivered.clone() });
    assert_eq!(alice.client.event().await, Event::Receipt { receipt: read.clone() });

    // The same again, or an older one, is no news and no error.
    let older = bob.receipt(&room, ReceiptKind::Delivered, bob.hash_at(&room, 2));
    bob.client.ask(&ReceiptSend { receipts: vec![older, read.clone()] }).await.unwrap();
    assert_eq!(alice.client.events_until_now().await, []);
    assert_eq!(bob.client.events_until_now().await, [], "one's own receipt is no news");

    let relay = relay.restart().await;
    alice.reconnect(&relay).await;
    assert_eq!(alice.summary(&room).await.receipts, [delivered, read]);
    relay.stop().await;
}

// REQ M2
#[tokio::test]
async fn a_receipt_that_does_not_fit_is_refused() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let carol = Person::new(&relay, "carol").await;
    alice.say(&room, "one").await.unwrap();
    bob.catch_up(&room).await;
    let kind = ReceiptKind::Delivered;
    let good = bob.receipt(&room, kind, bob.hash_at(&room, 2));
    let ask = |receipt| ReceiptSend { receipts: vec![receipt] };
    let other_hash = bob.receipt(&room, kind, LogPosition { seq: 2, hash: Hash::ZERO });
    assert_eq!(code(bob.client.ask(&ask(other_hash)).await), Code::LogMismatch);
    let future = bob.receipt(&room, kind, LogPosition { seq: 3, hash: good.hash });
    assert_eq!(code(bob.client.ask(&ask(future)).await), Code::LogMismatch);
    let nothing = bob.receipt(&room, kind, LogPosition::START);
    assert_eq!(code(bob.client.ask(&ask(nothing)).await), Code::BadRecord);
    let mut unsigned = good.clone();
    unsigned.kind = ReceiptKind::Read;
    assert_eq!(code(bob.client.ask(&ask(unsigned)).await), Code::BadRecord);
    assert_eq!(code(alice.client.ask(&ask(good.clone())).await), Code::BadRecord);
    let mut carol = carol;
    let stranger = carol.receipt(&room, kind, bob.hash_at(&room, 2));
    assert_eq!(code(carol.client.ask(&ask(stranger)).await), Code::NotFound);
    // All or none: a bad one behind a good one undoes it.
    let bad = bob.receipt(&room, kind, LogPosition { seq: 3, hash: Hash::ZERO });
    let mixed = ReceiptSend { receipts: vec![good.clone(), bad] };
    assert_eq!(code(bob.client.ask(&mixed).await), Code::LogMismatch);
    assert_eq!(alice.summary(&room).await.receipts, []);
    let many = ReceiptSend { receipts: vec![good; 201] };
    assert_eq!(code(bob.client.ask(&many).await), Code::TooLarge);
    relay.stop().await;
}

// REQ T9
#[tokio::test]
async fn who_is_too_slow_for_the_news_is_told_to_catch_up() {
    let relay = TestRelay::start_with(|config| config.limits.pushes = 0).await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    alice.say(&room, "hello").await.unwrap();
    assert_eq!(bob.client.event().await, Event::CatchUp {});
    assert_eq!(texts(&bob.catch_up(&room).await), ["hello"]);
    relay.stop().await;
}

#[tokio::test]
async fn pages_have_a_size() {
    let relay = TestRelay::start().await;
    let (mut alice, _bob, room) = two_talking(&relay).await;
    for limit in [0, 201] {
        assert_eq!(code(alice.page(&room, 0, 0, limit).await), Code::Malformed);
    }
    let page = alice.page(&room, 0, 0, 1).await.unwrap();
    assert!(page.more && matches!(page.items[..], [LogItem::Entry { seq: 1, .. }]));
    let page = alice.page(&room, 1, 0, 1).await.unwrap();
    assert!(!page.more && matches!(page.items[..], [LogItem::Epoch { after: 1, .. }]));
    let page = alice.page(&room, u64::MAX, u64::MAX, 200).await.unwrap();
    assert!(!page.more && page.items.is_empty());
    relay.stop().await;
}

// REQ T1
#[tokio::test]
async fn a_page_fits_a_frame_however_long_the_messages_are() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let long = "가".repeat(28 * 1024);
    for n in 0..10 {
        alice.say(&room, &format!("{n} {long}")).await.unwrap();
        alice.catch_up(&room).await;
    }
    let page = bob.page(&room, 1, 1, 200).await.unwrap();
    assert!(page.more && page.items.len() > 2, "{} items", page.items.len());
    assert_eq!(texts(&bob.catch_up(&room).await).len(), 10);
    relay.stop().await;
}
