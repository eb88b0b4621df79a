//! Messages that wait, are sent again, or cannot be sent.

use anyhow::{Context as _, Result, ensure};
use mildam_tests::{Person, Scene, copy_folder};
use serde_json::{Value, json};

use crate::Outcome;

fn sent(person: &Person, arguments: &[&str]) -> Result<Value> {
    let lines = person.done(arguments)?;
    lines.into_iter().next().context("a message")
}

fn id_of(message: &Value) -> Result<String> {
    Ok(message.get("id").and_then(Value::as_str).context("an id")?.to_owned())
}

fn texts(person: &Person, room: &str) -> Result<Vec<String>> {
    Ok(person.texts(room)?.into_iter().map(|(_, text)| text).collect())
}

// REQ L3: a script that tries until it succeeds succeeds at once, and its message arrives once.
#[test]
fn a_message_that_waits_is_no_failure() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    bob.done(&["sync"])?;
    scene.relay.stop()?;
    let message = sent(&alice, &["send", &room, "디스크가 고장 나요"])?;
    assert_eq!((message.get("state"), message.get("seq")), (Some(&json!("pending")), Some(&Value::Null)));
    let waiting = alice.done(&["outbox"])?;
    assert_eq!(waiting.first().and_then(|line| line.get("id")), message.get("id"));
    // With the same key it is the same message, whether it waits or has arrived.
    let keyed = sent(&alice, &["send", &room, "alarm 7", "--id", "alarm-7"])?;
    assert_eq!(id_of(&sent(&alice, &["send", &room, "alarm 7", "--id", "alarm-7"])?)?, id_of(&keyed)?);
    // Who wants to know waits, for as long as that person likes.
    let answer = alice.run(&["send", &room, "기다림", "--wait", "stored", "--timeout", "1"], None)?;
    assert_eq!((answer.code, answer.error.map(|(code, _)| code)), (1, Some("pending".to_owned())));

    scene.relay.restart()?;
    alice.done(&["sync"])?;
    let again = sent(&alice, &["send", &room, "alarm 7", "--id", "alarm-7"])?;
    assert_eq!((id_of(&again)?, again.get("state")), (id_of(&keyed)?, Some(&json!("stored"))));
    ensure!(alice.done(&["outbox"])?.is_empty());
    bob.done(&["sync"])?;
    assert_eq!(texts(&bob, &room)?, ["디스크가 고장 나요", "alarm 7", "기다림"]);
    // Another key, or another room, is another message.
    sent(&alice, &["send", &room, "alarm 7", "--id", "alarm-8"])?;
    let listener = bob.listen()?;
    let read = sent(&alice, &["send", &room, "도착", "--wait", "delivered"])?;
    assert_eq!(read.get("state"), Some(&json!("delivered")));
    drop(listener);
    assert_eq!(texts(&bob, &room)?.len(), 5);
    Ok(())
}

// REQ L3: what nobody can have yet is taken back.
#[test]
fn a_message_that_was_not_sealed_is_taken_back() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    scene.relay.stop()?;
    sent(&alice, &["send", &room, "나 늦어"])?;
    let second = id_of(&sent(&alice, &["send", &room, "미안"])?)?;
    let discarded = alice.done(&["outbox", "discard", &room, &second])?;
    assert_eq!(discarded.first().and_then(|line| line.get("text")), Some(&json!("미안")));
    assert_eq!(alice.refused(&["outbox", "discard", &room, &second])?, (1, "not_found".to_owned()));
    assert_eq!(alice.refused(&["outbox", "retry", &room, &second])?, (1, "not_found".to_owned()));
    scene.relay.restart()?;
    alice.done(&["sync"])?;
    bob.done(&["sync"])?;
    assert_eq!(texts(&bob, &room)?, ["나 늦어"]);
    Ok(())
}

// REQ L3: what can never go says why, does not stand for its room, and can be tried again or discarded.
#[test]
fn a_message_that_cannot_go_says_why() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let group = alice.room(&["room", "create", "--name", "모임", "bob"])?;
    bob.done(&["sync"])?;
    // Bob writes in one copy of his home, and leaves the room in another.
    let copy = scene.stranger("copy");
    copy_folder(bob.home(), copy.home())?;
    let elsewhere = Person::new("bob", copy.home().to_owned());
    scene.relay.stop()?;
    let written = id_of(&sent(&elsewhere, &["send", &group, "나 늦어"])?)?;
    scene.relay.restart()?;
    bob.done(&["room", "leave", &group])?;

    elsewhere.done(&["sync"])?;
    let failed = |person: &Person| -> Result<Value> { sent(person, &["outbox"]) };
    assert_eq!(failed(&elsewhere)?.get("state"), Some(&json!("failed")));
    assert_eq!(failed(&elsewhere)?.get("failure"), Some(&json!("not_member")));
    let room = sent(&elsewhere, &["room", "list"])?;
    assert_eq!(room.get("failed"), Some(&json!(1)));
    assert_ne!(room.pointer("/last/id"), Some(&json!(written)), "it does not stand for the room");
    let again = sent(&elsewhere, &["outbox", "retry", &group, &written])?;
    assert_eq!(again.get("state"), Some(&json!("pending")));
    elsewhere.done(&["sync"])?;
    assert_eq!(failed(&elsewhere)?.get("failure"), Some(&json!("not_member")));
    elsewhere.done(&["outbox", "discard", &group, &written])?;
    ensure!(elsewhere.done(&["outbox"])?.is_empty());
    assert_eq!(sent(&elsewhere, &["room", "list"])?.get("failed"), Some(&json!(0)));
    Ok(())
}
