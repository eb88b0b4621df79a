//! Attacks on who comes in, and on what people are told of friends.

use super::*;
use crate::Outcome;

// REQ C2: who comes in believes only what the adder has signed, wherever the relay alters it.
#[test]
fn a_snapshot_that_the_relay_alters_anywhere_is_refused() -> Outcome {
    let stage = Stage::start()?;
    let [alice, bob, carol] = stage.people(["alice", "bob", "carol"])?;
    let room = alice.room(&["room", "create", "--name", "모임", "bob"])?;
    alice.done(&["room", "invite", &room, "carol"])?;
    say(&alice, &room, "하나")?;
    hear(&bob, &room, &["하나"])?;
    let asleep = Home::keep(&carol)?;
    let mut places = Vec::new();
    for at in 0.. {
        let place = Arc::new(Mutex::new(None));
        let altered = Arc::clone(&place);
        let rule = stage.middle.on_item("carol", move |item| {
            if let Some(snapshot) =
                item.pointer_mut("/entry/snapshot").filter(|snapshot| snapshot.is_object())
            {
                *lock(&altered) = alter(snapshot, at);
            }
            true
        });
        carol.done(&["sync"])?;
        stage.middle.lift(rule);
        let Some(place) = lock(&place).take() else { break };
        // Some alterations are not even records; else the room is there, and blocked.
        if let Ok(line) = line(&carol, &room) {
            let blocked = line.get("blocked").and_then(Value::as_str);
            assert_eq!(blocked, Some("chain_broken"), "{place} altered");
            assert_ne!(line.pointer("/last/content/text"), Some(&json!("하나")), "{place} altered");
        }
        places.push(place);
        asleep.restore(&carol)?;
    }
    assert!(places.len() >= 10, "altered were {places:?}");
    hear(&carol, &room, &["하나"])?;
    assert_eq!(blocked(&carol, &room)?, None);
    Ok(())
}

// REQ C2: where a joiner's log begins is what the adder has seen, not what the relay says.
#[test]
fn another_beginning_than_the_adders_blocks_the_room() -> Outcome {
    let stage = Stage::start()?;
    let [alice, _bob, carol] = stage.people(["alice", "bob", "carol"])?;
    let room = alice.room(&["room", "create", "--name", "모임", "bob"])?;
    alice.done(&["room", "invite", &room, "carol"])?;
    stage.middle.on_answer("room_list", |traffic| {
        let starts = traffic.data.get_mut("rooms").and_then(Value::as_array_mut).into_iter().flatten();
        for start in starts.filter_map(|room| room.pointer_mut("/start/hash")) {
            if traffic.account == "carol" {
                *start = B64.encode(&[1; 32]).into();
            }
        }
    });
    carol.done(&["sync"])?;
    assert_eq!(blocked(&carol, &room)?.as_deref(), Some("log_mismatch"));
    assert_eq!(carol.refused(&["send", &room, "나야"])?, (1, "blocked_room".to_owned()));
    assert_eq!(stage.middle.asked("carol", "message_send"), Vec::<Value>::new());
    assert_eq!(stage.middle.asked("carol", "epoch_announce"), Vec::<Value>::new());
    Ok(())
}

// REQ R1: news of friends are only a reason to ask. What they say is not believed by itself.
#[test]
fn news_of_friends_that_the_relay_makes_up_make_no_friends() -> Outcome {
    let stage = Stage::start()?;
    let (alice, _bob, _room) = stage.pair()?;
    let before = alice.done(&["friend", "list"])?;
    let mut listener = alice.listen()?;
    let mallory =
        json!({"account": "mallory", "nickname": "Bob", "since": 1, "greeting": "", "requested_at": 1});
    let pick = |fields: &[&str]| -> Value {
        let fields =
            fields.iter().filter_map(|field| Some(((*field).to_owned(), mallory.get(*field)?.clone())));
        Value::Object(fields.collect())
    };
    let news = [
        ("friend_accepted", pick(&["account", "nickname", "since"])),
        ("friend_requested", pick(&["account", "nickname", "greeting", "requested_at"])),
        ("friend_declined", json!({"account": "bob"})),
        ("keys_changed", json!({"account": "bob"})),
        ("keys_changed", json!({"account": "mallory"})),
        ("no_such_event", json!({"account": "bob"})),
    ];
    for (event, data) in news {
        stage.middle.push("alice", event, data)?;
    }
    // Three of them make her ask.
    for _ in 0..3 {
        listener.wait("the friends", |event| event.get("friends").map(drop))?;
    }
    drop(listener);
    assert_eq!(alice.done(&["friend", "list"])?, before);
    Ok(())
}

/// Tells Alice so much, and then lets Bob say something.
fn flood(news: usize) -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let mut listener = alice.listen()?;
    for at in 0..news {
        let (event, data) = match at % 3 {
            0 => ("keys_changed", json!({"account": "bob"})),
            1 => ("catch_up", json!({})),
            _ => ("friend_declined", json!({"account": "bob"})),
        };
        stage.middle.push("alice", event, data)?;
    }
    say(&bob, &room, "아직 있어?")?;
    listener.wait_text("아직 있어?")?;
    drop(listener);
    hear(&alice, &room, &["하나", "아직 있어?"])
}

// REQ T9: a flood of news keeps a client busy, and breaks nothing.
#[test]
fn a_flood_of_news_is_outlived() -> Outcome {
    flood(200)
}

// REQ T9: nor does one that is longer than the client's queue.
#[test]
fn a_flood_of_news_that_fills_every_queue_is_outlived() -> Outcome {
    flood(600)
}
