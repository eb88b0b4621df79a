//! Attacks on room keys and on the announcements that bring them.

use mildam_e2ee::NewEpoch;
use mildam_e2ee::records::{AccountId, Hash, Recipient, RoomId};

use super::hand::Hand;
use super::*;
use crate::Outcome;

/// An announcement as it stands in the log of a reader, with this reader's wrap.
fn item(new: &NewEpoch, reader: &str, after: u64) -> Value {
    let wrap = new.wraps.iter().find(|wrap| wrap.account.as_str() == reader);
    json!({"epoch": {
        "after": after,
        "stored_at": 1,
        "announcement": new.announcement,
        "wrap": wrap,
        "profile": new.profile,
    }})
}

/// What the relay takes with `epoch_announce`.
fn request(new: &NewEpoch) -> Value {
    json!({"epoch": {"announcement": new.announcement, "wraps": new.wraps, "profile": new.profile}})
}

/// Whether an account has sent a message or a key since `before` things had passed.
fn has_sent(stage: &Stage, account: &str, before: usize) -> bool {
    stage.middle.seen(|_| true).into_iter().skip(before).any(|traffic| {
        traffic.kind == Kind::Request
            && traffic.account == account
            && matches!(traffic.name.as_str(), "message_send" | "epoch_announce")
    })
}

/// Catches up while the relay adds an item to Bob's log, and sees what became of the room.
fn given(stage: &Stage, bob: &Person, room: &str, item: Value) -> Result<Option<String>> {
    let rule = stage.middle.on_answer("room_log", move |traffic| {
        let fresh = traffic.asked.get("after_epoch").and_then(Value::as_u64) == Some(1);
        let items = traffic.data.get_mut("items").and_then(Value::as_array_mut);
        if let Some(items) = items.filter(|_| traffic.account == "bob" && fresh) {
            items.push(item.clone());
        }
    });
    bob.done(&["sync"])?;
    stage.middle.lift(rule);
    blocked(bob, room)
}

type Bend = fn(&mut NewEpoch);

// REQ C4, C5: an announcement with a good signature by a member, and a fault in it. The relay helps:
// it hands out what an honest one would not take.
#[test]
fn a_members_dishonest_announcement_blocks_and_gets_no_message() -> Outcome {
    let stage = Stage::start()?;
    let ([alice, bob, _carol], room) = stage.group()?;
    let hand = Hand::of(&alice)?;
    let honest = hand.announce(&room)?;
    let asleep = Home::keep(&bob)?;
    let bends: [(Bend, &str); 10] = [
        (|new| drop(new.announcement.recipients.pop()), "wrong_recipients"),
        (|new| new.announcement.recipients.iter_mut().for_each(stale), "unknown_keys"),
        (|new| new.announcement.recipients.extend(stranger()), "wrong_recipients"),
        (|new| new.announcement.epoch = 3, "epoch_broken"),
        (|new| new.announcement.epoch = 1 << 63, "epoch_broken"),
        (|new| new.announcement.previous = None, "epoch_broken"),
        (|new| new.announcement.room = RoomId::from_bytes([7; 32]), "epoch_broken"),
        (|new| new.announcement.announcer = dave(), "epoch_broken"),
        (|new| new.announcement.seen_hash = Hash::ZERO, "log_mismatch"),
        (|new| new.profile = None, "epoch_broken"),
    ];
    for (bend, code) in bends {
        let mut new = honest.clone();
        bend(&mut new);
        new.announcement = hand.sign_epoch(new.announcement);
        send_later(&stage, &bob, &room, "비밀")?;
        let before = stage.middle.seen(|_| true).len();
        let blocked = given(&stage, &bob, &room, item(&new, "bob", 2))?;
        assert_eq!(blocked.as_deref(), Some(code), "{:?}", new.announcement);
        assert!(!has_sent(&stage, "bob", before), "Bob sends although {code}");
        asleep.restore(&bob)?;
    }
    // A key that is not the one that was signed: no relay can see it, so it is answered with another key,
    // which this relay does not take. Nothing is sent under it.
    let mut new = honest.clone();
    new.announcement.commitment = Hash::ZERO;
    new.announcement = hand.sign_epoch(new.announcement);
    assert_eq!(given(&stage, &bob, &room, item(&new, "bob", 2))?, None);
    send_later(&stage, &bob, &room, "비밀")?;
    bob.done(&["sync"])?;
    assert_eq!(stage.middle.asked("bob", "message_send"), Vec::<Value>::new());
    asleep.restore(&bob)?;
    // The same announcement without a fault is taken: it was the fault that was refused.
    assert_eq!(given(&stage, &bob, &room, item(&honest, "bob", 2))?, None);
    Ok(())
}

fn stale(recipient: &mut Recipient) {
    if recipient.account.as_str() == "carol" {
        recipient.list = Hash::ZERO;
    }
}

fn stranger() -> Option<Recipient> {
    Some(Recipient { account: dave(), list: Hash::ZERO })
}

/// Somebody who is not in the room.
fn dave() -> AccountId {
    "dave".parse().unwrap_or_else(|_| unreachable!("a good account id"))
}

// REQ C4: whatever the relay alone alters in an announcement or a profile, it is refused, and the
// room is blocked.
#[test]
fn an_announcement_that_the_relay_alters_anywhere_is_refused() -> Outcome {
    let stage = Stage::start()?;
    let ([alice, bob, carol], room) = stage.group()?;
    let asleep = Home::keep(&bob)?;
    carol.done(&["room", "leave", &room])?;
    say(&alice, &room, "둘")?;
    let mut places = Vec::new();
    for at in 0.. {
        let place = Arc::new(Mutex::new(None));
        let altered = Arc::clone(&place);
        let rule = stage.middle.on_item("bob", move |item| {
            if let Some(epoch) = item.get_mut("epoch").and_then(Value::as_object_mut) {
                // Time and place are the relay's own; the wrap has a test of its own.
                let mut signed = json!({
                    "announcement": epoch.get("announcement"),
                    "profile": epoch.get("profile"),
                });
                *lock(&altered) = alter(&mut signed, at);
                for field in ["announcement", "profile"] {
                    epoch.insert(field.to_owned(), signed.get(field).cloned().unwrap_or_default());
                }
            }
            true
        });
        bob.done(&["sync"])?;
        stage.middle.lift(rule);
        let Some(place) = lock(&place).take() else { break };
        let line = line(&bob, &room)?;
        assert_ne!(line.pointer("/last/content/text"), Some(&json!("둘")), "{place} altered");
        let blocked = line.get("blocked").and_then(Value::as_str);
        let known = ["epoch_broken", "wrong_recipients", "unknown_keys", "unknown_device"];
        assert!(blocked.is_some_and(|code| known.contains(&code)), "{place} altered: {blocked:?}");
        places.push(place);
        asleep.restore(&bob)?;
    }
    assert!(places.len() >= 17, "altered were {places:?}");
    hear(&bob, &room, &["하나", "둘"])?;
    assert_eq!(blocked(&bob, &room)?, None);
    Ok(())
}

/// Bob's copy of the second epoch, as the relay alters it. What `bend` gets is the log item.
fn without_key(bend: fn(&mut Value, &Value)) -> Outcome {
    let stage = Stage::start()?;
    let ([alice, bob, carol], room) = stage.group()?;
    let first = stage.middle.seen(|traffic| {
        traffic.account == "bob"
            && traffic.name == "room_log"
            && traffic.data.pointer("/items/1/epoch/wrap").is_some()
    });
    let first = first.first().context("the first epoch")?.data.pointer("/items/1/epoch/wrap").cloned();
    let first = first.context("Bob's first wrap")?;
    carol.done(&["room", "leave", &room])?;
    say(&alice, &room, "둘")?;
    let rule = stage.middle.on_item("bob", move |item| {
        item.pointer_mut("/epoch/wrap").into_iter().for_each(|wrap| bend(wrap, &first));
        true
    });
    // He cannot read it, and says so; he is not blocked, since nobody has lied about who is in.
    hear(&bob, &room, &["하나"])?;
    assert_refused(&bob, &room, &[("alice", "no_key")])?;
    assert_eq!(blocked(&bob, &room)?, None);
    // He announced a key of his own at once, which the relay has spoiled like the one before. That he does
    // not answer with another.
    hear(&bob, &room, &["하나"])?;
    assert_eq!(stage.middle.asked("bob", "epoch_announce").len(), 1);
    stage.middle.lift(rule);
    // Before he sends, he announces one, and all goes on.
    say(&bob, &room, "셋")?;
    hear(&alice, &room, &["하나", "둘", "셋"])?;
    say(&alice, &room, "넷")?;
    hear(&bob, &room, &["하나", "셋", "넷"])?;
    assert_eq!(stage.middle.asked("bob", "epoch_announce").len(), 2);
    Ok(())
}

// REQ C4, C5
#[test]
fn a_wrap_that_the_relay_spoils_is_answered_with_a_new_key() -> Outcome {
    without_key(|wrap, _| {
        alter(wrap, 4);
    })
}

// REQ C4, C5
#[test]
fn a_wrap_that_the_relay_withholds_is_answered_with_a_new_key() -> Outcome {
    without_key(|wrap, _| drop(wrap.take()))
}

// REQ C4, C5
#[test]
fn a_wrap_of_another_epoch_is_answered_with_a_new_key() -> Outcome {
    without_key(|wrap, first| *wrap = first.clone())
}

// REQ C4: garbage in every wrap is something that no relay can see. The room answers with a new key.
#[test]
fn garbage_wraps_by_a_member_are_answered_with_a_new_key() -> Outcome {
    let stage = Stage::start()?;
    let ([alice, bob, carol], room) = stage.group()?;
    let hand = Hand::of(&alice)?;
    let mut new = hand.announce(&room)?;
    for wrap in &mut new.wraps {
        wrap.key.0.fill(0);
    }
    let asked = hand.ask(&stage.scene.relay, "epoch_announce", &request(&new))?;
    asked.map_err(|code| anyhow::anyhow!("not announced: {code}"))?;
    say(&bob, &room, "둘")?;
    for person in [&alice, &bob, &carol] {
        hear(person, &room, &["하나", "둘"])?;
        assert_eq!(blocked(person, &room)?, None);
    }
    Ok(())
}

// REQ C4: a key that one member spoils for all does not end the room for those who are honest.
#[test]
fn a_wrong_commitment_by_a_member_does_not_end_the_room() -> Outcome {
    let stage = Stage::start()?;
    let ([alice, bob, carol], room) = stage.group()?;
    let hand = Hand::of(&carol)?;
    let mut new = hand.announce(&room)?;
    new.announcement.commitment = Hash::ZERO;
    new.announcement = hand.sign_epoch(new.announcement);
    let asked = hand.ask(&stage.scene.relay, "epoch_announce", &request(&new))?;
    asked.map_err(|code| anyhow::anyhow!("not announced: {code}"))?;
    for person in [&alice, &bob] {
        person.done(&["sync"])?;
        assert_eq!(blocked(person, &room)?, None);
    }
    say(&alice, &room, "둘")?;
    hear(&bob, &room, &["하나", "둘"])
}

// REQ C4: after one altered announcement, honest handing-out heals.
#[test]
fn a_forged_announcement_is_forgotten_when_the_true_one_comes() -> Outcome {
    let stage = Stage::start()?;
    let ([alice, bob, carol], room) = stage.group()?;
    carol.done(&["room", "leave", &room])?;
    say(&alice, &room, "둘")?;
    let rule = stage.middle.on_item("bob", |item| {
        item.pointer_mut("/epoch/announcement/signature").into_iter().for_each(|signature| {
            *signature = B64.encode(&[0; 64]).into();
        });
        true
    });
    bob.done(&["sync"])?;
    assert_eq!(blocked(&bob, &room)?.as_deref(), Some("epoch_broken"));
    stage.middle.lift(rule);
    // The relay is honest from here on, and another epoch comes.
    let hand = Hand::of(&alice)?;
    let asked = hand.ask(&stage.scene.relay, "epoch_announce", &request(&hand.announce(&room)?))?;
    asked.map_err(|code| anyhow::anyhow!("not announced: {code}"))?;
    say(&alice, &room, "셋")?;
    bob.done(&["sync"])?;
    assert_eq!(blocked(&bob, &room)?, None);
    let heard: Vec<String> = bob.texts(&room)?.into_iter().map(|(_, text)| text).collect();
    assert_eq!(heard.last().map(String::as_str), Some("셋"));
    Ok(())
}

// REQ S5: a member who announces without end is stopped by the relay, and the room goes on after.
#[test]
fn a_flood_of_announcements_is_stopped_and_read_by_all() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let hand = Hand::of(&alice)?;
    let mut new = hand.announce(&room)?;
    let mut outcomes = Vec::new();
    for _ in 0..130 {
        let outcome = hand.ask(&stage.scene.relay, "epoch_announce", &request(&new))?;
        let stopped = outcome.is_err();
        outcomes.push(outcome);
        if stopped {
            break;
        }
        // The wraps open to nobody: that costs the honest the most.
        new.announcement.previous = Some(new.announcement.hash());
        new.announcement.epoch += 1;
        new.announcement = hand.sign_epoch(new.announcement);
    }
    assert_eq!(outcomes.pop().and_then(Result::err).as_deref(), Some("limit_reached"));
    assert!(outcomes.len() >= 50, "only {} were let through", outcomes.len());
    // Who gets no key is not blocked, and sends nothing until there is a good one.
    bob.done(&["sync"])?;
    assert_eq!(blocked(&bob, &room)?, None);
    send_later(&stage, &bob, &room, "나중에")?;
    bob.done(&["sync"])?;
    assert_eq!(states(&bob, &room)?, ["pending"]);
    assert_eq!(stage.middle.asked("bob", "message_send"), Vec::<Value>::new());
    // He asked for a key of his own once with each sync, and once for his message.
    assert_eq!(stage.middle.asked("bob", "epoch_announce").len(), 3);
    Ok(())
}
