//! A direct room that the relay has broken for good, and the one that takes its place.

use super::*;
use crate::Outcome;

/// Shows Bob a change in his room with Alice that nobody made there.
fn break_for(stage: &Stage, bob: &Person, room: &str, seq: u64) -> Outcome {
    let created = stage.middle.asked("alice", "room_create").pop().context("Alice made the room")?;
    let entry = json!({"change": created.get("change").context("a change")?});
    let rule = stage.middle.on_answer("room_log", append("bob", seq, entry));
    bob.done(&["sync"])?;
    stage.middle.lift(rule);
    assert_eq!(blocked(bob, room)?.as_deref(), Some("chain_broken"));
    assert_eq!(line(bob, room)?.get("beyond_repair"), Some(&json!(true)));
    Ok(())
}

// REQ C1: whatever the relay did, two people can talk again, and keep what they have read.
#[test]
fn a_direct_room_that_is_broken_gets_one_in_its_place() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    break_for(&stage, &bob, &room, 3)?;
    assert_eq!(bob.refused(&["send", &room, "또"])?, (1, "blocked_room".to_owned()));
    let next = bob.room(&["room", "direct", "alice"])?;
    assert_ne!(next, room);
    assert_eq!(bob.room(&["room", "direct", "alice"])?, next, "one is enough");
    say(&bob, &next, "다시")?;
    hear(&alice, &next, &["다시"])?;
    for person in [&alice, &bob] {
        assert_eq!(line(person, &room)?.get("replaced_by"), Some(&json!(next)));
        assert_eq!(person.refused(&["send", &room, "옛 방"])?, (1, "room_replaced".to_owned()));
        hear(person, &room, &["하나"])?;
    }
    assert_eq!(alice.room(&["room", "direct", "bob"])?, next);
    say(&alice, &next, "그래")?;
    hear(&bob, &next, &["다시", "그래"])
}

// REQ C1: what waited in the room of before is not lost, and not stuck for ever.
#[test]
fn what_waits_in_a_replaced_room_fails_with_the_reason() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    send_later(&stage, &bob, &room, "기다려")?;
    break_for(&stage, &bob, &room, 3)?;
    let next = bob.room(&["room", "direct", "alice"])?;
    bob.done(&["sync"])?;
    let waiting = bob.done(&["outbox"])?;
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let failed = waiting.iter().find(|message| text(message, "text").as_deref() == Some("기다려"));
    let failed = failed.context("it is there")?;
    assert_eq!(text(failed, "state").as_deref(), Some("failed"));
    assert_eq!(text(failed, "failure").as_deref(), Some("room_replaced"));
    let id = text(failed, "id").context("an id")?;
    let discarded = bob.done(&["outbox", "discard", &room, &id])?;
    assert_eq!(discarded.first().and_then(|it| text(it, "text")).as_deref(), Some("기다려"));
    say(&bob, &next, "기다려")?;
    hear(&alice, &next, &["기다려"])
}
