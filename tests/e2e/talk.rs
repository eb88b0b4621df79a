//! Two people talk.

use anyhow::{Context as _, Result, ensure};
use mildam_tests::{Person, Scene};
use serde_json::{Value, json};

use crate::Outcome;

// REQ A1, A4, R1, C1, M1, M3, T7, T9: the main job, from nothing to an answer that was read.
#[test]
fn two_people_meet_and_talk_in_korean_and_english() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let said = [
        (&alice, "안녕! 오늘 저녁에 시간 있어?"),
        (&bob, "Sure, where shall we meet?"),
        (&alice, "역 앞 카페 ☕ at seven 👍🏽"),
        (&bob, "좋아,\n그럼 7시에 봐."),
    ];
    for (from, text) in said {
        let to = if from.account() == alice.account() { &bob } else { &alice };
        let mut listener = to.listen()?;
        let sent = from.done(&["send", &room, text])?;
        let received = listener.wait_text(text)?;
        ensure!(received.get("from") == Some(&json!(from.account())), "{received}");
        // Sender and receiver mean the same message by the same place and id.
        let sent = sent.first().context("the message")?;
        for field in ["room", "seq", "id", "text", "sent_at"] {
            assert_eq!(sent.get(field), received.get(field), "{field}");
        }
    }
    let expected: Vec<_> =
        said.iter().map(|(from, text)| (from.account().to_owned(), (*text).to_owned())).collect();
    assert_eq!(alice.texts(&room)?, expected);
    assert_eq!(bob.texts(&room)?, expected);
    Ok(())
}

// REQ C1: the same pair never gets two rooms, whoever opens it and however often.
#[test]
fn a_pair_has_one_room() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    assert_eq!(bob.direct(&alice)?, room);
    assert_eq!(alice.direct(&bob)?, room);
    assert_eq!(bob.done(&["room", "list"])?.len(), 1);
    Ok(())
}

// REQ M2: the sender sees how far a message has come.
#[test]
fn the_sender_sees_stored_then_delivered_then_read() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let sent = alice.done(&["send", &room, "읽었어?"])?;
    let sent = sent.first().context("the message")?;
    assert_eq!(sent.get("state"), Some(&json!("stored")), "nobody has fetched it yet");
    let id = sent.get("id").and_then(Value::as_str).context("an id")?;
    let mut listener = alice.listen()?;
    bob.done(&["sync"])?;
    listener.wait_state(id, "delivered")?;
    bob.done(&["read", &room])?;
    listener.wait_state(id, "read")?;
    drop(listener);
    let history = alice.done(&["history", &room])?;
    let last = history.last().context("a message")?;
    assert_eq!((last.get("id"), last.get("state")), (Some(&json!(id)), Some(&json!("read"))));
    Ok(())
}

// REQ M3: who was away gets everything on return, once, in order.
#[test]
fn who_was_away_catches_up_once_and_in_order() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let texts: Vec<String> = (1..=8).map(|number| format!("소식 {number}")).collect();
    for text in &texts {
        alice.done(&["send", &room, text])?;
    }
    for _ in 0..2 {
        bob.done(&["sync"])?;
        let read: Vec<String> = bob.texts(&room)?.into_iter().map(|(_, text)| text).collect();
        assert_eq!(read, texts);
    }
    let history = bob.done(&["history", &room])?;
    let places: Vec<u64> = history.iter().filter_map(|line| line.get("seq")?.as_u64()).collect();
    ensure!(places.windows(2).all(|pair| pair[0] < pair[1]), "out of order: {places:?}");
    Ok(())
}

// REQ R1: friendship is asked for, answered, and needed.
#[test]
fn friendship_is_asked_for_and_answered() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob, carol) = (scene.alice()?, scene.bob()?, scene.carol()?);
    let not_yet = ["room", "direct", bob.account()];
    assert_eq!(alice.refused(&not_yet)?, (1, "not_friends".to_owned()));
    let mut listener = bob.listen()?;
    alice.done(&["friend", "request", "bob", "--greeting", "저 앨리스예요"])?;
    let request = listener.wait("the request", |event| event.pointer("/friends/incoming/0").cloned())?;
    assert_eq!(request.get("account"), Some(&json!("alice")));
    assert_eq!(request.get("greeting"), Some(&json!("저 앨리스예요")));
    drop(listener);
    bob.done(&["friend", "decline", "alice"])?;
    assert_eq!(alice.refused(&not_yet)?, (1, "not_friends".to_owned()));
    scene.befriend(&carol, &bob)?;
    let friends = bob.done(&["friend", "list"])?;
    let friends = friends.first().and_then(|list| list.get("friends")).context("friends")?;
    let accounts: Vec<_> =
        friends.as_array().context("a list")?.iter().map(|friend| &friend["account"]).collect();
    assert_eq!(accounts, [&json!("carol")]);
    // Both compute the same safety number, from the keys that each has of the other.
    carol.done(&["sync"])?;
    let number = |person: &Person, friend: &Person| -> Result<Value> {
        let shown = person.done(&["contact", "show", friend.account()])?;
        let number = shown.first().and_then(|contact| contact.pointer("/safety_number/groups"));
        Ok(number.filter(|groups| groups.is_array()).context("a safety number")?.clone())
    };
    assert_eq!(number(&bob, &carol)?, number(&carol, &bob)?);
    Ok(())
}
