use mildam_records::{Member, Role};

use super::*;

// REQ C5
#[test]
fn who_comes_cannot_read_what_was_and_who_goes_not_what_follows() {
    let (mut log, mut alice, mut bob) = group();
    log.message(alice.seal("before carol").unwrap());
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);

    let mut carol = add_carol(&mut log, &alice);
    let outcome = carol.catch_up_well(&log);
    assert!(matches!(&outcome[..], [Accepted::Added { .. }, Accepted::Epoch { epoch: 2 }]), "{outcome:?}");
    assert_eq!(carol.name_of_room(), Some("우리집"));
    assert_eq!(carol.take(&log.for_reader(2, &account("carol"))), Err(NotAccepted::Old));
    // Even a relay that lets her read from the beginning has no key for her.
    let mut curious = Person::new("carol", Room::empty(alice.room.id()));
    let outcomes = curious.catch_up(&log);
    assert_eq!(refused(outcomes[1].clone()), "no_key");
    assert_eq!(refused(outcomes[2].clone()), "no_key");

    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    log.message(bob.seal("welcome").unwrap());
    assert_eq!(text_of(&carol.catch_up_well(&log)[0]), "welcome");
    bob.catch_up_well(&log);
    alice.catch_up_well(&log);

    log.change(bob.leave().unwrap());
    assert_eq!(carol.catch_up_well(&log), [Accepted::Left { by: account("bob") }]);
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    assert_eq!(alice.seal("too early"), Err(RoomError::EpochDue));
    log.epoch(carol.announce());
    carol.catch_up_well(&log);
    alice.catch_up_well(&log);
    log.message(alice.seal("without bob").unwrap());
    assert_eq!(text_of(&carol.catch_up_well(&log)[0]), "without bob");
    // Bob, with the relay's help, gets the announcement and the message.
    let outcomes = bob.catch_up(&log);
    assert_eq!(refused(outcomes[0].clone()), "no_key");
    assert_eq!(refused(outcomes[1].clone()), "no_key");
    assert_eq!(bob.seal("still here?"), Err(RoomError::NotMember));
}

// REQ C2, C5
#[test]
fn who_was_put_out_neither_writes_nor_reads() {
    let (mut log, mut alice, mut bob) = group();
    let late = bob.seal("after all").unwrap();
    log.change(alice.remove("bob").unwrap());
    let read = alice.catch_up_well(&log);
    assert_eq!(read[0], Accepted::Removed { by: account("alice"), account: account("bob") });
    log.message(late);
    assert_eq!(alice.refuses(&log), "not_member");
    let outcomes = bob.catch_up(&log);
    assert_eq!(outcomes[0], Ok(Accepted::Removed { by: account("alice"), account: account("bob") }));
    assert_eq!(refused(outcomes[1].clone()), "no_key");
    assert_eq!(bob.leave().unwrap_err(), RoomError::Change(ChangeError::NotMember));
    // Nor does anybody take a key from him.
    let mut announcement = group().2.announce();
    announcement.announcement.room = alice.room.id();
    announcement.announcement.epoch = 3;
    announcement.announcement.previous = alice.room.epoch.as_ref().map(epoch::Epoch::hash);
    announcement.announcement.signature = bob.secrets.sign(&announcement.announcement.signed_bytes());
    log.epoch(announcement);
    assert_eq!(alice.refuses(&log), "epoch_broken");
}

// REQ C2
#[test]
fn what_a_role_forbids_is_refused_whoever_signs_it() {
    let attempts: [fn(&Person) -> NewChange; 5] = [
        |bob| bob.change(Change::Removed { account: account("alice") }),
        |bob| bob.change(Change::Role { account: account("bob"), role: Role::Owner }),
        |bob| bob.change(Change::Banned { account: account("alice") }),
        |bob| bob.change(Change::Closed),
        |bob| {
            let dave = Member {
                account: account("dave"),
                identity: testing::public("dave").identity_key.fingerprint(),
                role: Role::Member,
            };
            let snapshot = bob.room.membership.as_ref().unwrap().snapshot_with(std::slice::from_ref(&dave));
            let added = Change::Added { members: vec![dave], snapshot: snapshot.hash() };
            NewChange { snapshot: Some(snapshot), ..bob.change(added) }
        },
    ];
    for attempt in attempts {
        let (mut log, mut alice, bob) = group();
        log.change(attempt(&bob));
        assert_eq!(alice.refuses(&log), "chain_broken");
        assert_eq!(alice.room.blocked(), Some("chain_broken"));
        assert_eq!(alice.seal("?"), Err(RoomError::Blocked("chain_broken")));
    }
    let (_, _, bob) = group();
    assert_eq!(bob.add("carol").unwrap_err(), RoomError::Change(ChangeError::Forbidden));
}

// REQ C2
#[test]
fn a_change_of_another_hand_or_history_is_refused() {
    type Meddle = fn(&Person, &Person, &mut NewChange);
    let meddle: [(&str, Meddle); 5] = [
        ("chain_broken", |_, bob, new| new.change.signature = bob.secrets.sign(&new.change.signed_bytes())),
        ("chain_broken", |_, _, new| new.change.version += 1),
        ("chain_broken", |_, _, new| new.change.previous = Some(Hash::ZERO)),
        ("chain_broken", |_, _, new| new.change.room = Some(RoomId::from_bytes([1; 32]))),
        ("unknown_device", |_, bob, new| new.change.actor_device = bob.secrets.device()),
    ];
    for (code, meddle) in meddle {
        let (mut log, alice, mut bob) = group();
        let mut new = alice.change(Change::Banned { account: account("dave") });
        meddle(&alice, &bob, &mut new);
        if new.change.signature != bob.secrets.sign(&new.change.signed_bytes()) {
            new = alice.resign_change(new);
        }
        log.change(new);
        assert_eq!(bob.refuses(&log), code);
        assert_eq!(bob.room.blocked(), Some(code));
    }
}

// REQ C5
#[test]
fn a_change_under_a_list_that_an_epoch_left_behind_is_refused() {
    let (mut log, mut alice, mut bob) = group();
    let newer = with_second_list(&alice);
    alice.learn(newer.clone());
    bob.learn(newer.clone());
    log.epoch(alice.announce());
    alice.catch_up_well(&log);
    bob.catch_up_well(&log);
    let mut new = alice.change(Change::Banned { account: account("dave") });
    new.change.actor_list = newer.lists[0].hash();
    log.change(alice.resign_change(new));
    assert_eq!(bob.refuses(&log), "wrong_list");
}

// REQ C2
#[test]
fn a_swapped_identity_blocks() {
    let (mut log, mut alice, mut bob) = group();
    // Alice is shown a carol whose identity is dave's.
    let shown = KnownAccount::first_contact(testing::make(account("carol"), "dave").1).unwrap();
    alice.directory.insert(account("carol"), shown);
    log.change(alice.add("carol").unwrap());
    let outcome = bob.catch_up(&log);
    assert_eq!(refused(outcome[0].clone()), "identity_changed");
    assert_eq!(bob.room.blocked(), Some("identity_changed"));
}

// REQ C4
#[test]
fn nothing_is_wrapped_for_an_identity_that_changed() {
    let (_, mut alice, _) = group();
    let shown = KnownAccount::first_contact(testing::make(account("bob"), "dave").1).unwrap();
    alice.directory.insert(account("bob"), shown);
    let outcome = alice.room.announce(&alice.secrets, &alice.directory, NOW, &mut rng());
    assert_eq!(outcome, Err(RoomError::Blocked("identity_changed")));
    alice.directory.remove(&account("bob"));
    let outcome = alice.room.announce(&alice.secrets, &alice.directory, NOW, &mut rng());
    assert_eq!(outcome, Err(RoomError::UnknownKeys(account("bob"))));
}

#[test]
fn what_is_created_cannot_be_created_again_nor_later() {
    let (mut log, mut alice, _) = two();
    let LogItem::Entry { entry: created, .. } = log.items[0].0.clone() else { panic!() };
    log.entry(created.clone(), None);
    assert_eq!(alice.refuses(&log), "chain_broken");
    let mut late = Log::default();
    late.entry(LogEntry::Withheld(Hash::ZERO), None);
    late.entry(created, None);
    let mut bob = Person::new("bob", Room::empty(alice.room.id()));
    assert_eq!(bob.refuses(&late), "chain_broken");
}

#[test]
fn a_room_is_the_one_that_its_id_names() {
    let (log, _) = new_room(RoomKind::Direct, &["bob"]);
    let mut bob = Person::new("bob", Room::empty(RoomId::from_bytes([1; 32])));
    assert_eq!(refused(bob.catch_up(&log).remove(0)), "chain_broken");
}

// REQ C5
#[test]
fn a_joiner_believes_only_what_its_adder_signed() {
    let (log, alice, _) = group();
    let (room, start) = (alice.room.id(), alice.room.position());
    let joined = |start: LogPosition, meddle: fn(&mut Log)| {
        let mut log = log.clone();
        let mut carol = Person::new("carol", Room::joining(room, start));
        carol.read = log.items.len();
        log.change(alice.add("carol").unwrap());
        meddle(&mut log);
        let outcome = carol.catch_up(&log).into_iter().find(Result::is_err).map(refused);
        (outcome, carol.room.blocked())
    };
    let untouched: fn(&mut Log) = |_| ();
    assert_eq!(joined(start, untouched), (None, None));
    // Another past than the adder's.
    let forged = LogPosition { hash: Hash::ZERO, ..start };
    assert_eq!(joined(forged, untouched), (Some("log_mismatch"), Some("log_mismatch")));
    // A snapshot with one more member, or none.
    let one_more: fn(&mut Log) = |log| {
        let Some((LogItem::Entry { snapshot: Some(snapshot), .. }, _)) = log.items.get_mut(2) else {
            panic!()
        };
        snapshot.members[0].role = Role::Admin;
    };
    assert_eq!(joined(start, one_more).1, Some("chain_broken"));
    let none: fn(&mut Log) = |log| {
        let Some((LogItem::Entry { snapshot, .. }, _)) = log.items.get_mut(2) else { panic!() };
        *snapshot = None;
    };
    assert_eq!(joined(start, none).1, Some("chain_broken"));
}

// REQ C5
#[test]
fn a_snapshot_has_one_form_even_if_its_hash_is_signed() {
    let (mut log, alice, _) = group();
    let mut carol = Person::new("carol", Room::joining(alice.room.id(), alice.room.position()));
    carol.read = log.items.len();
    let mut new = alice.add("carol").unwrap();
    let snapshot = new.snapshot.as_mut().unwrap();
    snapshot.members.swap(0, 1);
    let Change::Added { snapshot: hash, .. } = &mut new.change.change else { panic!() };
    *hash = snapshot.hash();
    new = alice.resign_change(NewChange { epoch: None, ..new });
    log.change(new);
    assert_eq!(carol.refuses(&log), "chain_broken");
}

// REQ C5
#[test]
fn nobody_joins_by_the_door_of_another() {
    let (mut log, alice, _) = group();
    let (start, at) = (alice.room.position(), log.items.len());
    add_carol(&mut log, &alice);
    let mut dave = Person::new("dave", Room::joining(alice.room.id(), start));
    dave.read = at;
    assert_eq!(refused(dave.catch_up(&log).remove(0)), "chain_broken");
}

// REQ C5
#[test]
fn a_joiner_may_begin_earlier_than_its_adder_had_seen() {
    let (mut log, mut alice, mut bob) = group();
    let early = alice.room.position();
    log.message(bob.seal("not for carol").unwrap());
    alice.catch_up_well(&log);
    let mut carol = Person::new("carol", Room::joining(alice.room.id(), early));
    carol.read = log.items.len() - 1;
    log.withhold_last();
    log.change(alice.add("carol").unwrap());
    let read = carol.catch_up_well(&log);
    assert!(matches!(&read[..], [Accepted::Withheld, Accepted::Added { .. }, Accepted::Epoch { .. }]));
    // But not later: then nobody would vouch for where she begins.
    let late = LogPosition { seq: 5, hash: Hash::ZERO };
    let mut carol = Person::new("carol", Room::joining(alice.room.id(), late));
    let mut shifted = Log { seq: 5, ..Log::default() };
    shifted.change(alice.add("carol").unwrap());
    assert_eq!(carol.refuses(&shifted), "bad_start");
    // It is no epoch of hers, so that the next one must vouch for it as well; nor does the room heal.
    assert_eq!((carol.room.epoch(), carol.room.blocked()), (0, Some("bad_start")));
    alice.catch_up_well(&log);
    shifted.epoch(alice.announce());
    assert_eq!(carol.refuses(&shifted), "bad_start");
    assert_eq!((carol.room.epoch(), carol.room.blocked()), (0, Some("bad_start")));
}

// REQ C5: who is told to begin anew takes nothing that was before what is known here.
#[test]
fn who_comes_again_takes_no_older_beginning() {
    let (mut log, mut alice, _) = group();
    let (first, at) = (alice.room.position(), log.items.len());
    let mut carol = add_carol(&mut log, &alice);
    carol.catch_up_well(&log);
    alice.catch_up_well(&log);
    log.change(carol.leave().unwrap());
    carol.catch_up_well(&log);
    alice.catch_up_well(&log);
    let (second, again_at) = (alice.room.position(), log.items.len());
    log.change(alice.add("carol").unwrap());
    // The time of before is played to her once more.
    let item = log.for_reader(at, &account("carol"));
    let mut replayed = Person::new("carol", carol.room.joining_again(first));
    assert_eq!(refused(replayed.take(&item)), "bad_start");
    assert!(!replayed.room.has_begun() && replayed.room.blocked() == Some("bad_start"));
    // What was not verified makes nothing older either.
    let mut replayed = Person::new("carol", replayed.room.joining_again(first));
    assert_eq!(refused(replayed.take(&item)), "bad_start");
    // Nor does a good beginning behind it count.
    replayed.read = at + 1;
    replayed.catch_up(&log);
    assert!(!replayed.room.has_begun());
    let mut back = Person::new("carol", carol.room.joining_again(second));
    back.read = again_at;
    back.catch_up_well(&log);
    assert!(back.room.has_begun() && back.room.blocked().is_none());
}

// REQ C3: a group is not left without an owner.
#[test]
fn an_owner_who_leaves_has_an_heir() {
    let (mut log, mut alice, mut bob) = group();
    let mut carol = add_carol(&mut log, &alice);
    for person in [&mut alice, &mut bob, &mut carol] {
        person.catch_up_well(&log);
    }
    let heir = |person: &Person, of: &str| person.room.heir(&account(of)).cloned();
    assert_eq!(heir(&bob, "bob"), None, "who owns nothing leaves nothing behind");
    let promote = |person: &Person, of: &str, role| {
        let (secrets, directory) = (&person.secrets, &person.directory);
        person.room.set_role(&account(of), role, secrets, directory, NOW)
    };
    assert_eq!(promote(&bob, "bob", Role::Owner).unwrap_err(), RoomError::Change(ChangeError::Forbidden));
    // An admin goes before a member.
    log.change(promote(&alice, "bob", Role::Admin).unwrap());
    alice.catch_up_well(&log);
    assert_eq!(heir(&alice, "alice"), Some(account("bob")));
    log.change(promote(&alice, "bob", Role::Owner).unwrap());
    alice.catch_up_well(&log);
    assert_eq!(heir(&alice, "alice"), None);
    log.change(alice.leave().unwrap());
    bob.catch_up_well(&log);
    carol.catch_up_well(&log);
    log.change(bob.remove("carol").unwrap());
    bob.catch_up_well(&log);
    assert_eq!(heir(&bob, "bob"), None, "nobody is left to own it");
}

// REQ C2
#[test]
fn only_admins_name_a_room() {
    let (mut log, mut alice, mut bob) = group();
    log.message(alice.seal_body(Body::Profile(named("새 이름"))).unwrap());
    bob.catch_up_well(&log);
    assert_eq!(bob.name_of_room(), Some("새 이름"));
    alice.catch_up_well(&log);
    log.message(bob.seal_body(Body::Profile(named("bob's"))).unwrap());
    assert_eq!(alice.refuses(&log), "forbidden");
    bob.catch_up(&log);
    assert_eq!((alice.name_of_room(), bob.name_of_room()), (Some("새 이름"), Some("새 이름")));
    // Nor does a member's announcement, which copies the profile for those who come.
    bob.room.profile = Some(named("bob's"));
    log.epoch(bob.announce());
    alice.catch_up_well(&log);
    assert_eq!(alice.name_of_room(), Some("새 이름"));
}

// REQ C3
#[test]
fn a_closed_room_takes_nothing_more() {
    let (mut log, mut alice, mut bob) = group();
    let late = bob.seal("late").unwrap();
    log.change(alice.change(Change::Closed));
    assert_eq!(alice.catch_up_well(&log), [Accepted::Changed { by: account("alice") }]);
    assert_eq!(alice.seal("?"), Err(RoomError::NotMember));
    log.message(late);
    assert_eq!(alice.refuses(&log), "closed");
    let epoch = bob.announce();
    bob.catch_up(&log);
    log.epoch(epoch);
    assert_eq!(alice.refuses(&log), "epoch_broken");
}

// REQ C1
#[test]
fn a_direct_room_keeps_its_two() {
    let (mut log, alice, mut bob) = two();
    assert_eq!(alice.add("carol").unwrap_err(), RoomError::Change(ChangeError::Forbidden));
    assert_eq!(alice.leave().unwrap_err(), RoomError::Change(ChangeError::Forbidden));
    log.change(alice.change(Change::Left));
    assert_eq!(bob.refuses(&log), "chain_broken");
}
