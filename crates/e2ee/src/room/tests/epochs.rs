use mildam_records::{EpochAnnouncement, Recipient, SealedProfile};
use proptest::prelude::*;

use super::*;

fn announced(meddle: impl Fn(&mut NewEpoch)) -> (Log, Person, Person, Result<Accepted, NotAccepted>) {
    let (mut log, alice, mut bob) = group();
    let mut new = alice.announce();
    meddle(&mut new);
    new.announcement.signature = alice.secrets.sign(&new.announcement.signed_bytes());
    log.epoch(new);
    let outcome = bob.catch_up(&log).remove(0);
    (log, alice, bob, outcome)
}

fn announcement(meddle: impl Fn(&mut EpochAnnouncement)) -> &'static str {
    let (_, _, mut bob, outcome) = announced(|new| meddle(&mut new.announcement));
    let code = refused(outcome);
    assert_eq!(bob.room.blocked(), Some(code));
    assert_eq!(bob.seal("?"), Err(RoomError::Blocked(code)));
    code
}

// REQ C4
#[test]
fn a_dishonest_announcement_is_refused_even_if_it_is_signed() {
    let recipient = |name: &str| Recipient { account: account(name), list: testing::list_hash(name) };
    assert_eq!(announcement(|a| drop(a.recipients.remove(0))), "wrong_recipients");
    assert_eq!(announcement(|a| drop(a.recipients.remove(1))), "wrong_recipients");
    assert_eq!(announcement(|a| a.recipients.push(recipient("carol"))), "wrong_recipients");
    assert_eq!(announcement(|a| a.recipients.swap(0, 1)), "wrong_recipients");
    assert_eq!(announcement(|a| a.epoch = 3), "epoch_broken");
    assert_eq!(announcement(|a| a.previous = None), "epoch_broken");
    assert_eq!(announcement(|a| a.version = 2), "epoch_broken");
    assert_eq!(announcement(|a| a.head = Hash::ZERO), "epoch_broken");
    assert_eq!(announcement(|a| a.room = RoomId::from_bytes([1; 32])), "epoch_broken");
    assert_eq!(announcement(|a| a.profile = None), "epoch_broken");
    assert_eq!(announcement(|a| a.seen_hash = Hash::ZERO), "log_mismatch");
    assert_eq!(announcement(|a| a.seen_seq = 9), "log_mismatch");
    assert_eq!(announcement(|a| a.announcer = account("carol")), "epoch_broken");
    assert_eq!(announcement(|a| a.announcer = account("bob")), "unknown_device");
}

// REQ C4
#[test]
fn a_wrong_list_of_a_recipient_is_asked_for_and_then_refused() {
    let meddle = |new: &mut NewEpoch| new.announcement.recipients[1].list = Hash::ZERO;
    let (log, _, mut bob, outcome) = announced(meddle);
    assert_eq!(outcome, Err(NotAccepted::NeedsKeys(vec![account("bob")])));
    bob.keys_are_fresh = true;
    bob.read -= 1;
    assert_eq!(bob.refuses(&log), "unknown_keys");
    assert_eq!(bob.room.blocked(), Some("unknown_keys"));
}

// REQ C5
#[test]
fn an_older_list_than_the_last_epochs_is_refused() {
    let (mut log, mut alice, mut bob) = group();
    let newer = with_second_list(&bob);
    alice.learn(newer.clone());
    let before = testing::public("bob");
    log.epoch(alice.announce());
    alice.catch_up_well(&log);
    bob.learn(newer);
    bob.catch_up_well(&log);
    // Alice goes back to the list without the second device.
    alice.directory.insert(account("bob"), KnownAccount::first_contact(before).unwrap());
    log.epoch(alice.announce());
    assert_eq!(bob.refuses(&log), "wrong_recipients");
}

// REQ C4
#[test]
fn a_garbage_wrap_gives_no_key_and_a_later_epoch_heals() {
    for part in 0..6 {
        let (mut log, mut alice, mut bob, outcome) = announced(|new| {
            let wrap = new.wraps.iter_mut().find(|wrap| wrap.account.as_str() == "bob").unwrap();
            match part {
                0 => wrap.rsa.0[7] ^= 1,
                1 => wrap.kem.0[7] ^= 1,
                2 => wrap.key.0[7] ^= 1,
                3 => wrap.rsa.0.truncate(1),
                4 => wrap.kem.0.clear(),
                _ => wrap.prekey = Hash::ZERO,
            }
        });
        assert_eq!((refused(outcome), bob.room.blocked()), ("no_key", None));
        assert_eq!(bob.seal("?"), Err(RoomError::EpochDue));
        alice.catch_up_well(&log);
        log.epoch(bob.announce());
        assert_eq!(bob.catch_up_well(&log), [Accepted::Epoch { epoch: 3 }]);
        alice.catch_up_well(&log);
        log.message(bob.seal("again").unwrap());
        assert_eq!(text_of(&alice.catch_up_well(&log)[0]), "again");
    }
}

// REQ C4
#[test]
fn a_wrap_of_another_room_or_epoch_gives_no_key() {
    let (_, other, _) = group();
    let of_another_room = other.announce();
    let (mut log, mut alice, mut bob) = group();
    let first = alice.announce();
    let mut second = alice.announce();
    second.wraps.clone_from(&of_another_room.wraps);
    log.epoch(second);
    assert_eq!(bob.refuses(&log), "no_key");
    alice.catch_up(&log);
    let mut third = alice.announce();
    third.wraps = first.wraps;
    log.epoch(third);
    assert_eq!(bob.refuses(&log), "no_key");
}

// REQ C4
#[test]
fn a_forged_announcement_blocks_but_does_not_take_the_epochs_place() {
    let (mut log, mut alice, mut bob) = group();
    let mut forged = alice.announce();
    forged.announcement.epoch = 2;
    forged.announcement.signature = bob.secrets.sign(&forged.announcement.signed_bytes());
    log.epoch(forged.clone());
    assert_eq!(bob.refuses(&log), "epoch_broken");
    assert_eq!((bob.room.epoch(), bob.room.blocked()), (1, Some("epoch_broken")));
    forged.announcement.epoch = u64::MAX;
    log.epoch(forged);
    assert_eq!(bob.refuses(&log), "epoch_broken");
    assert_eq!(bob.room.epoch(), 1);
    // The true next one ends it.
    log.epoch(alice.announce());
    assert_eq!(bob.catch_up_well(&log), [Accepted::Epoch { epoch: 2 }]);
    assert_eq!(bob.room.blocked(), None);
    alice.read = log.items.len() - 1;
    alice.catch_up_well(&log);
    log.message(bob.seal("fine").unwrap());
    assert_eq!(text_of(&alice.catch_up_well(&log)[0]), "fine");
}

// REQ C4
#[test]
fn a_signed_epoch_that_breaks_a_rule_counts_and_the_next_good_one_heals() {
    let (mut log, alice, mut bob, outcome) = announced(|new| new.announcement.commitment = Hash::ZERO);
    assert_eq!((refused(outcome), bob.room.blocked()), ("bad_commitment", None));
    assert_eq!(bob.room.epoch(), 2);
    // Carol's part is played by Alice, who has seen the same refusal: she may end it.
    let mut alice = Person { room: Room::empty(alice.room.id()), read: 0, ..alice };
    assert_eq!(alice.refuses(&log), "bad_commitment");
    assert_eq!(bob.seal("?"), Err(RoomError::EpochDue));
    log.epoch(alice.announce());
    assert_eq!(bob.catch_up_well(&log), [Accepted::Epoch { epoch: 3 }]);
    assert_eq!(bob.room.blocked(), None);
}

// REQ C4
#[test]
fn a_sealed_profile_belongs_to_its_announcement_and_its_key() {
    let foreign = || SealedProfile(Bytes(vec![0; 300]));
    let (.., outcome) = announced(|new| new.profile = Some(foreign()));
    assert_eq!(refused(outcome), "epoch_broken");
    let (.., outcome) = announced(|new| {
        new.profile = Some(foreign());
        new.announcement.profile = Some(foreign().hash());
    });
    // The commitment covers the profile's hash too.
    assert_eq!(refused(outcome), "bad_commitment");
}

// REQ C5
#[test]
fn the_own_keys_of_an_epoch_come_from_the_log_only() {
    let (mut log, mut alice, mut bob) = two();
    let (lost, won) = (alice.announce(), bob.announce());
    assert_ne!(lost.announcement.commitment, won.announcement.commitment);
    log.epoch(won);
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    log.message(alice.seal("under bob's key").unwrap());
    assert_eq!(text_of(&bob.catch_up_well(&log)[0]), "under bob's key");
    // The one that lost is not taken afterwards.
    log.epoch(lost);
    assert_eq!(bob.catch_up(&log), [Err(NotAccepted::Old)]);
}

// REQ C5
#[test]
fn messages_of_an_epoch_that_is_over_are_refused() {
    let (mut log, mut alice, mut bob) = two();
    let late = alice.seal("late").unwrap();
    log.epoch(bob.announce());
    bob.catch_up_well(&log);
    log.message(late);
    assert_eq!(bob.refuses(&log), "stale");
    assert_eq!(bob.room.blocked(), None);
}

// REQ C5
#[test]
fn an_epoch_is_due_after_a_thousand_messages_or_seven_days() {
    let (mut log, mut alice, mut bob) = two();
    assert!(!alice.room.needs_epoch(NOW + EPOCH_MILLISECONDS - 1, &alice.directory));
    assert!(alice.room.needs_epoch(NOW + EPOCH_MILLISECONDS, &alice.directory));
    for _ in 0..EPOCH_MESSAGES {
        log.message(alice.seal("ㅎ").unwrap());
    }
    assert_eq!(alice.seal("one too many"), Err(RoomError::EpochDue));
    assert!(!bob.room.needs_epoch(NOW, &bob.directory));
    bob.catch_up_well(&log);
    assert!(bob.room.needs_epoch(NOW, &bob.directory));
}

// REQ C4
#[test]
fn a_refused_epoch_names_its_lists_in_any_order() {
    let (_, alice, _) = group();
    let mut announcement = alice.announce().announcement;
    announcement.recipients.reverse();
    let refused = Epoch::without_key(&announcement, NOW, Rule::NoKey);
    for recipient in &announcement.recipients {
        assert_eq!(refused.list_of(&recipient.account), Some(&recipient.list));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
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
            LogItem::Entry { entry: LogEntry::Change(change), .. } => {
                let Ok(altered) = serde_json::from_value::<RoomChange>(json) else { return Ok(()) };
                prop_assume!(altered != **change);
                **change = altered;
            }
            LogItem::Epoch { announcement, .. } => {
                let Ok(altered) = serde_json::from_value::<EpochAnnouncement>(json) else { return Ok(()) };
                prop_assume!(altered != **announcement);
                **announcement = altered;
            }
            _ => unreachable!(),
        }
        let mut bob = Person::new("bob", Room::empty(room));
        let outcomes = bob.catch_up(&log);
        prop_assert!(outcomes[place].is_err(), "{:?}", outcomes);
        prop_assert!(bob.seal("no").is_err());
    }

    // REQ C4
    #[test]
    fn no_altered_wrap_opens(at in any::<usize>(), bit in 0_u32..8) {
        let (mut log, room) = new_room(RoomKind::Group, &["bob"]);
        let wrap = log.items[1].1.get_mut(&account("bob")).unwrap();
        let mut json = serde_json::to_value(&*wrap).unwrap();
        flip(&mut json, at, bit);
        let Ok(altered) = serde_json::from_value::<Wrap>(json) else { return Ok(()) };
        // Whose it is says the device; the account beside it only helps the relay.
        prop_assume!(Wrap { account: wrap.account.clone(), ..altered.clone() } != *wrap);
        *wrap = altered;
        let mut bob = Person::new("bob", Room::empty(room));
        let outcomes = bob.catch_up(&log);
        prop_assert!(outcomes[1].is_err(), "{:?}", outcomes);
    }
}
