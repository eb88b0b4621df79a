//! Rooms: who comes in, who goes, and which keys hold.

use mildam_e2ee::Accepted;
use mildam_protocol::command::{ReceiptSend, RoomCreate, RoomSetChange, StoredAnswer};
use mildam_protocol::records::{
    Change, Hash, LogItem, LogPosition, ReceiptKind, RoomChange, RoomId, RoomKind,
};
use mildam_protocol::{Code, Event};

use crate::person::{NOW, Person, code, texts, three, two_friends, two_talking};
use crate::relay::TestRelay;

// REQ C1, C4
#[tokio::test]
async fn a_direct_room_is_made_once_for_a_pair() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob) = two_friends(&relay).await;
    let by_alice = alice.new_room(RoomKind::Direct, &[&bob.account.clone()]);
    let by_bob = bob.new_room(RoomKind::Direct, &[&alice.account.clone()]);
    // Both at once: one makes it, the other is told which.
    let (one, other) = tokio::join!(alice.client.ask(&by_alice), bob.client.ask(&by_bob));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.room, other.room);
    assert!(one.created != other.created);
    // The maker's resend gets the first answer.
    let (maker, command) = if one.created { (&mut alice, &by_alice) } else { (&mut bob, &by_bob) };
    assert_eq!(maker.client.ask(command).await.unwrap().room, one.room);
    for person in [&mut alice, &mut bob] {
        let rooms = person.rooms().await;
        assert_eq!(rooms.len(), 1);
        assert_eq!((rooms[0].last_seq, rooms[0].last_epoch, rooms[0].member), (1, 1, true));
        person.catch_up(&one.room).await;
    }
    alice.say(&one.room, "우리 방").await.unwrap();
    assert_eq!(texts(&bob.catch_up(&one.room).await), ["우리 방"]);
    relay.stop().await;
}

// REQ C2
#[tokio::test]
async fn a_room_needs_friends() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, carol) = three(&relay).await;
    // Bob learns Carol's keys from a common room, but they are no friends.
    let room = alice.create(RoomKind::Group, &[&bob.account.clone(), &carol.account.clone()]).await;
    bob.catch_up(&room).await;
    for kind in [RoomKind::Direct, RoomKind::Group] {
        let command = bob.new_room(kind, &[&carol.account]);
        assert_eq!(code(bob.client.ask(&command).await), Code::NotFriends);
    }
    relay.stop().await;
}

// REQ C2, C5, T9
#[tokio::test]
async fn who_is_invited_reads_from_there_and_who_leaves_up_to_there() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, mut carol) = three(&relay).await;
    let room = alice.create(RoomKind::Group, &[&bob.account.clone()]).await;
    bob.catch_up(&room).await;
    alice.say(&room, "before").await.unwrap();
    alice.catch_up(&room).await;

    let addition = alice.addition(&room, &[&carol.account]);
    let stored = alice.client.ask(&addition).await.unwrap();
    assert_eq!(stored.seq, 3);
    // The same again gets the first answer.
    assert_eq!(alice.client.ask(&addition).await.unwrap(), stored);

    let summary = carol.summary(&room).await;
    assert_eq!(summary.start.seq, 2);
    let page = carol.page(&room, 0, 0, 200).await.unwrap();
    let LogItem::Entry { seq: 3, snapshot: Some(_), .. } = &page.items[0] else {
        panic!("a joiner begins with the entry by which it came, and a snapshot: {page:?}");
    };
    let joined = carol.catch_up(&room).await;
    assert!(matches!(joined[..], [Accepted::Added { .. }, Accepted::Epoch { epoch: 2 }]), "{joined:?}");
    bob.catch_up(&room).await;
    alice.catch_up(&room).await;
    alice.say(&room, "welcome").await.unwrap();
    assert_eq!(texts(&carol.catch_up(&room).await), ["welcome"]);
    assert_eq!(texts(&bob.catch_up(&room).await), ["welcome"]);

    // Bob leaves. He reads his own leave and nothing after it.
    let leave = bob.leave(&room);
    let left = bob.client.ask(&leave).await.unwrap();
    assert_eq!(bob.client.ask(&leave).await.unwrap(), left);
    alice.catch_up(&room).await;
    carol.catch_up(&room).await;
    let announcement = carol.announcement(&room);
    carol.client.ask(&announcement).await.unwrap();
    carol.catch_up(&room).await;
    carol.say(&room, "without bob").await.unwrap();
    assert_eq!(texts(&alice.catch_up(&room).await), ["without bob"]);

    assert_eq!(bob.catch_up(&room).await, [Accepted::Left { by: bob.account.clone() }]);
    let summary = bob.summary(&room).await;
    assert_eq!((summary.last_seq, summary.last_epoch, summary.member), (left.seq, 2, false));
    assert!(bob.page(&room, left.seq, 0, 200).await.unwrap().items.iter().all(|item| match item {
        LogItem::Epoch { announcement, .. } => announcement.epoch <= 2,
        LogItem::Entry { .. } => false,
    }));
    relay.stop().await;
}

// REQ C2, C5
#[tokio::test]
async fn who_is_put_out_is_told_and_can_come_back() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, mut carol) = three(&relay).await;
    let room = alice.create(RoomKind::Group, &[&bob.account.clone(), &carol.account.clone()]).await;
    bob.catch_up(&room).await;
    carol.catch_up(&room).await;
    bob.client.events_until_now().await;

    let removal = alice.removal(&room, &bob.account);
    let removed = alice.client.ask(&removal).await.unwrap();
    let Event::Log { item, .. } = bob.client.event().await else { panic!("bob was not told") };
    assert!(matches!(*item, LogItem::Entry { seq, .. } if seq == removed.seq));
    // The next key is not his.
    assert_eq!(bob.client.events_until_now().await, []);
    assert!(matches!(bob.catch_up(&room).await[..], [Accepted::Removed { .. }]));

    alice.catch_up(&room).await;
    let addition = alice.addition(&room, &[&bob.account]);
    alice.client.ask(&addition).await.unwrap();
    let summary = bob.summary(&room).await;
    assert_eq!((summary.start.seq, summary.member), (removed.seq, true));
    relay.stop().await;
}

// REQ C5
#[tokio::test]
async fn after_a_leave_nothing_goes_under_the_old_key() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, mut carol) = three(&relay).await;
    let room = alice.create(RoomKind::Group, &[&bob.account.clone(), &carol.account.clone()]).await;
    bob.catch_up(&room).await;
    carol.catch_up(&room).await;
    let sealed = alice.seal(&room, "too early");
    let leave = carol.leave(&room);
    let left = carol.client.ask(&leave).await.unwrap();
    assert_eq!(code(alice.client.ask(&sealed).await), Code::Stale);
    // Not even with the new version in its header.
    let head = leave.change.hash();
    let forged = alice.altered(&sealed, |message| {
        message.header.version = 2;
        message.header.head = head;
    });
    assert_eq!(code(alice.client.ask(&forged).await), Code::Stale);
    assert_eq!(alice.summary(&room).await.last_seq, left.seq);
    relay.stop().await;
}

// REQ C4
#[tokio::test]
async fn of_two_announcements_one_holds() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let (by_alice, by_bob) = (alice.announcement(&room), bob.announcement(&room));
    let stored: StoredAnswer = alice.client.ask(&by_alice).await.unwrap();
    assert_eq!(stored.seq, 1);
    assert_eq!(code(bob.client.ask(&by_bob).await), Code::Stale);
    // The winner's resend gets the first answer, the loser's stays refused.
    assert_eq!(alice.client.ask(&by_alice).await.unwrap(), stored);
    assert_eq!(code(bob.client.ask(&by_bob).await), Code::Stale);
    assert_eq!(bob.catch_up(&room).await, [Accepted::Epoch { epoch: 2 }]);
    assert_eq!(alice.catch_up(&room).await, [Accepted::Epoch { epoch: 2 }]);
    alice.say(&room, "under the new key").await.unwrap();
    assert_eq!(texts(&bob.catch_up(&room).await), ["under the new key"]);
    relay.stop().await;
}

// REQ C4
#[tokio::test]
async fn an_announcement_that_does_not_fit_is_refused() {
    let relay = TestRelay::start().await;
    let (mut alice, bob, room) = two_talking(&relay).await;
    let good = alice.announcement(&room);
    type Bend<'a> = &'a dyn Fn(&mut mildam_protocol::command::NewEpoch);
    let table: [(&str, Bend<'_>, Code); 6] = [
        ("a wrap left out", &|epoch| drop(epoch.wraps.pop()), Code::Stale),
        ("another's list", &|epoch| epoch.announcement.recipients[1].list = Hash::ZERO, Code::Stale),
        ("a skipped number", &|epoch| epoch.announcement.epoch = 3, Code::Stale),
        ("another log", &|epoch| epoch.announcement.seen_hash = Hash::ZERO, Code::LogMismatch),
        ("another's name", &|epoch| epoch.announcement.announcer = bob.account.clone(), Code::BadRecord),
        ("another room", &|epoch| epoch.announcement.room = RoomId::from_bytes([5; 32]), Code::NotFound),
    ];
    for (name, bend, expected) in table {
        let mut command = good.clone();
        bend(&mut command.epoch);
        let announcement = &mut command.epoch.announcement;
        announcement.signature = alice.sign(&announcement.signed_bytes());
        assert_eq!(code(alice.client.ask(&command).await), expected, "{name}");
    }
    let mut unsigned = good.clone();
    unsigned.epoch.announcement.commitment = Hash::ZERO;
    assert_eq!(code(alice.client.ask(&unsigned).await), Code::BadRecord);
    alice.client.ask(&good).await.unwrap();
    relay.stop().await;
}

/// A change by a person, made by hand and signed.
fn by_hand(person: &Person, on: &RoomChange, change: Change) -> RoomSetChange {
    let mut change = RoomChange {
        room: Some(on.room_id()),
        version: on.version + 1,
        previous: Some(on.hash()),
        actor: person.account.clone(),
        actor_device: person.secrets.device(),
        actor_list: person.keys.lists[0].hash(),
        at: NOW,
        change,
        signature: on.signature,
    };
    change.signature = person.sign(&change.signed_bytes());
    RoomSetChange { change, snapshot: None, epoch: None }
}

// REQ C2, C3
#[tokio::test]
async fn rights_are_checked() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, mut carol) = three(&relay).await;
    let RoomCreate { change: created, epoch } = alice.new_room(RoomKind::Group, &[&bob.account.clone()]);
    let room = created.room_id();
    let command = RoomCreate { change: created.clone(), epoch };
    alice.client.ask(&command).await.unwrap();
    alice.catch_up(&room).await;
    bob.catch_up(&room).await;

    // A stranger learns nothing, not even that the room is there.
    assert_eq!(code(carol.page(&room, 0, 0, 10).await), Code::NotFound);
    let left = by_hand(&carol, &created, Change::Left);
    assert_eq!(code(carol.client.ask(&left).await), Code::NotFound);

    // A member has no rights over others.
    let put_out = Change::Removed { account: alice.account.clone() };
    let removal = by_hand(&bob, &created, put_out);
    assert_eq!(code(bob.client.ask(&removal).await), Code::Forbidden);
    let close = by_hand(&bob, &created, Change::Closed);
    assert_eq!(code(bob.client.ask(&close).await), Code::Forbidden);

    // Nobody acts for somebody else, nor with a signature that does not fit.
    let for_alice = by_hand(&alice, &created, Change::Closed);
    assert_eq!(code(bob.client.ask(&for_alice).await), Code::BadRecord);
    let mut unsigned = by_hand(&bob, &created, Change::Left);
    unsigned.change.at += 1;
    assert_eq!(code(bob.client.ask(&unsigned).await), Code::BadRecord);

    // A version that is not the next one, and company that does not belong.
    let mut old = by_hand(&alice, &created, Change::Closed);
    old.change.version = 1;
    old.change.signature = alice.sign(&old.change.signed_bytes());
    assert_eq!(code(alice.client.ask(&old).await), Code::Stale);
    let mut lonely = alice.addition(&room, &[&carol.account]);
    lonely.epoch = None;
    assert_eq!(code(alice.client.ask(&lonely).await), Code::BadRecord);
    let mut hidden = alice.addition(&room, &[&carol.account]);
    hidden.snapshot = None;
    assert_eq!(code(alice.client.ask(&hidden).await), Code::BadRecord);

    // What the room's owner does holds, and a closed room stays closed.
    let close = by_hand(&alice, &created, Change::Closed);
    alice.client.ask(&close).await.unwrap();
    let late = by_hand(&bob, &close.change, Change::Left);
    assert_eq!(code(bob.client.ask(&late).await), Code::Forbidden);
    relay.stop().await;
}

// REQ C1
#[tokio::test]
async fn nobody_leaves_or_widens_a_direct_room() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob) = two_friends(&relay).await;
    let command = alice.new_room(RoomKind::Direct, &[&bob.account.clone()]);
    alice.client.ask(&command).await.unwrap();
    let left = by_hand(&bob, &command.change, Change::Left);
    assert_eq!(code(bob.client.ask(&left).await), Code::Forbidden);
    relay.stop().await;
}

// REQ C5
#[tokio::test]
async fn a_joiners_beginning_is_vouched_for() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, mut carol) = three(&relay).await;
    let room = alice.create(RoomKind::Group, &[&bob.account.clone()]).await;
    bob.catch_up(&room).await;
    // Somebody writes while Alice is inviting: her view of the log is not the newest any more.
    let addition = alice.addition(&room, &[&carol.account]);
    bob.say(&room, "meanwhile").await.unwrap();
    assert_eq!(code(alice.client.ask(&addition).await), Code::Stale);
    alice.catch_up(&room).await;
    let addition = alice.addition(&room, &[&carol.account]);
    alice.client.ask(&addition).await.unwrap();
    carol.catch_up(&room).await;
    assert_eq!(carol.summary(&room).await.start, alice.hash_at(&room, 2));
    relay.stop().await;
}

// REQ M2, C2
#[tokio::test]
async fn who_has_left_and_where_all_is_over_nothing_more_is_taken() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob) = two_friends(&relay).await;
    let room = alice.create(RoomKind::Group, &[&bob.account.clone()]).await;
    alice.say(&room, "one").await.unwrap();
    bob.catch_up(&room).await;
    let read = bob.receipt(&room, ReceiptKind::Read, bob.hash_at(&room, 2));
    let announcement = bob.announcement(&room);
    let left = bob.leave(&room);
    bob.client.ask(&left).await.unwrap();
    let late = ReceiptSend { receipts: vec![read] };
    assert_eq!(code(bob.client.ask(&late).await), Code::NotMember);
    assert_eq!(code(bob.client.ask(&announcement).await), Code::NotMember);
    // The closed one: what was made before comes too late, and is not merely stale.
    alice.catch_up(&room).await;
    alice.client.ask(&alice.announcement(&room)).await.unwrap();
    alice.catch_up(&room).await;
    let (message, announcement) = (alice.seal(&room, "two"), alice.announcement(&room));
    alice.client.ask(&by_hand(&alice, &left.change, Change::Closed)).await.unwrap();
    assert_eq!(code(alice.client.ask(&message).await), Code::Forbidden);
    assert_eq!(code(alice.client.ask(&announcement).await), Code::Forbidden);
    relay.stop().await;
}

// REQ C1
#[tokio::test]
async fn an_account_is_in_so_many_rooms() {
    let relay = TestRelay::start_with(|config| config.limits.rooms = 2).await;
    let (mut alice, mut bob) = two_friends(&relay).await;
    let group = alice.create(RoomKind::Group, &[]).await;
    alice.create(RoomKind::Group, &[]).await;
    let third = alice.new_room(RoomKind::Group, &[]);
    assert_eq!(code(alice.client.ask(&third).await), Code::LimitReached);
    // Nobody else can put it into one more.
    let with_alice = bob.new_room(RoomKind::Direct, &[&alice.account]);
    assert_eq!(code(bob.client.ask(&with_alice).await), Code::LimitReached);
    bob.create(RoomKind::Group, &[]).await;
    bob.create(RoomKind::Group, &[]).await;
    let addition = alice.addition(&group, &[&bob.account]);
    assert_eq!(code(alice.client.ask(&addition).await), Code::LimitReached);
    assert_eq!((alice.rooms().await.len(), bob.rooms().await.len()), (2, 2));
    relay.stop().await;
}

// REQ T9
#[tokio::test]
async fn a_new_room_is_pushed_with_its_key() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob) = two_friends(&relay).await;
    bob.client.events_until_now().await;
    let room = alice.create(RoomKind::Direct, &[&bob.account.clone()]).await;
    let (first, second) = (bob.client.event().await, bob.client.event().await);
    let Event::Log { room: named, item } = first else { panic!("{first:?}") };
    assert_eq!(named, room);
    assert!(matches!(*item, LogItem::Entry { seq: 1, .. }));
    let Event::Log { item, .. } = second else { panic!("{second:?}") };
    let LogItem::Epoch { after: 1, wrap: Some(wrap), .. } = *item else { panic!("{item:?}") };
    assert_eq!((wrap.account, wrap.device), (bob.account.clone(), bob.secrets.device()));
    assert_eq!(bob.summary(&room).await.start, LogPosition::START);
    relay.stop().await;
}
