//! Attacks on messages and on the log.

use super::relay::Traffic;
use super::*;
use crate::Outcome;

// REQ C4, M1: the control for all that follows: a middle that changes nothing is not noticed, and it
// learns no text although it reads everything that passes.
#[test]
fn a_relay_that_reads_everything_reads_no_text() -> Outcome {
    let stage = Stage::start()?;
    let ([alice, bob, carol], room) = stage.group()?;
    say(&bob, &room, "둘")?;
    hear(&alice, &room, &["하나", "둘"])?;
    hear(&carol, &room, &["하나", "둘"])?;
    for person in [&alice, &bob, &carol] {
        assert_refused(person, &room, &[])?;
        assert_eq!(blocked(person, &room)?, None);
    }
    let seen = stage.middle.seen(|_| true);
    assert!(seen.len() > 50, "the middle has seen {} things", seen.len());
    let seen = format!("{seen:?}");
    for word in ["하나", "둘", "모임"] {
        assert!(!seen.contains(word), "{word} has passed in clear");
    }
    assert!(seen.contains("ciphertext"), "no message has passed");
    Ok(())
}

/// The message in a log item, if it is one.
fn message(item: &mut Value) -> Option<&mut Value> {
    item.pointer_mut("/entry/entry/message")
}

/// The number of a log entry.
fn seq(item: &Value) -> Option<u64> {
    item.pointer("/entry/seq")?.as_u64()
}

// REQ M2, T5: whatever the relay alters in a message, the message is refused, the person sees that
// something was, and nothing of it is shown as text.
#[test]
fn a_message_that_the_relay_alters_anywhere_is_refused() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    say(&alice, &room, "둘")?;
    let asleep = Home::keep(&bob)?;
    let mut places = Vec::new();
    for at in 0.. {
        let place = Arc::new(Mutex::new(None));
        let altered = Arc::clone(&place);
        let rule = stage.middle.on_item("bob", move |item| {
            if seq(item) == Some(3)
                && let Some(message) = message(item)
            {
                *lock(&altered) = alter(message, at);
            }
            true
        });
        bob.done(&["sync"])?;
        stage.middle.lift(rule);
        let Some(place) = lock(&place).take() else { break };
        let (heard, told) = (bob.texts(&room)?, refusals(&bob, &room)?);
        assert_eq!(heard.len(), 1, "{place} altered: {heard:?}");
        let [(_, code)] = told.as_slice() else { bail!("{place} altered, and Bob is told {told:?}") };
        let expected = match place.as_str() {
            "/header/room" => "other_room",
            "/header/sender" | "/header/sender_list" => "unknown_keys",
            "/header/sender_device" => "unknown_device",
            _ => "bad_signature",
        };
        assert_eq!(code, expected, "{place} altered");
        places.push(place);
        asleep.restore(&bob)?;
    }
    assert!(places.len() >= 16, "altered were {places:?}");
    // What was not altered is read.
    hear(&bob, &room, &["하나", "둘"])?;
    assert_refused(&bob, &room, &[])
}

// REQ M2: an altered message makes another log, and the next true one shows it, to both sides.
#[test]
fn after_an_altered_message_the_two_logs_never_meet_again() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let rule = stage.middle.on_item("bob", |item| {
        if let Some(message) = message(item) {
            alter(message, 0);
        }
        true
    });
    say(&alice, &room, "둘")?;
    bob.done(&["sync"])?;
    stage.middle.lift(rule);
    assert_eq!(blocked(&bob, &room)?, None);
    say(&alice, &room, "셋")?;
    hear(&bob, &room, &["하나"])?;
    assert_eq!(blocked(&bob, &room)?.as_deref(), Some("log_mismatch"));
    // For good: nothing of his goes out, and what others write is refused.
    assert_eq!(bob.refused(&["send", &room, "답"])?, (1, "blocked_room".to_owned()));
    say(&alice, &room, "넷")?;
    hear(&bob, &room, &["하나"])?;
    assert_eq!(stage.middle.asked("bob", "message_send"), Vec::<Value>::new());
    assert_eq!(stage.middle.asked("bob", "epoch_announce"), Vec::<Value>::new());
    let told = refusals(&bob, &room)?;
    assert_eq!(told.len(), 3, "{told:?}");
    // Alice, who sees the true log, is not concerned.
    hear(&alice, &room, &["하나", "둘", "셋", "넷"])?;
    assert_eq!(blocked(&alice, &room)?, None);
    Ok(())
}

/// Two messages of Alice's, of which Bob is given what `order` makes of them.
fn given(
    order: impl Fn(Vec<Value>) -> Vec<Value> + Send + 'static,
) -> Result<(Stage, Person, Person, String)> {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    say(&alice, &room, "둘")?;
    say(&alice, &room, "셋")?;
    let rule = stage.middle.on_answer("room_log", move |traffic| {
        let Some(Value::Array(items)) = traffic.data.get_mut("items") else { return };
        let (mut log, mut new): (Vec<Value>, Vec<Value>) =
            std::mem::take(items).into_iter().partition(|item| seq(item).is_none_or(|seq| seq < 3));
        if traffic.account == "bob" && !new.is_empty() {
            new = order(new);
            for (at, item) in new.iter_mut().enumerate() {
                if let Some(seq) = item.pointer_mut("/entry/seq") {
                    *seq = (at + 3).into();
                }
            }
        }
        log.append(&mut new);
        *items = log;
    });
    bob.done(&["sync"])?;
    stage.middle.lift(rule);
    Ok((stage, alice, bob, room))
}

// REQ M2, T5
#[test]
fn messages_that_the_relay_reorders_block_the_room() -> Outcome {
    let (_stage, _alice, bob, room) = given(|items| items.into_iter().rev().collect())?;
    // The later message had seen the earlier one in its place, so it does not count before it.
    hear(&bob, &room, &["하나", "둘"])?;
    assert_refused(&bob, &room, &[("alice", "log_mismatch")])?;
    assert_eq!(blocked(&bob, &room)?.as_deref(), Some("log_mismatch"));
    Ok(())
}

// REQ M2, T5: twice in the log is once on the screen, and the next message shows what was done.
#[test]
fn a_message_that_the_relay_replays_is_shown_once() -> Outcome {
    let (_stage, alice, bob, room) = given(|items| {
        let mut items = items;
        items.extend(items.first().cloned());
        items
    })?;
    hear(&bob, &room, &["하나", "둘", "셋"])?;
    assert_refused(&bob, &room, &[("alice", "replayed")])?;
    // He has read more than the relay now says there is.
    assert_eq!(blocked(&bob, &room)?.as_deref(), Some("server_went_back"));
    // The true fifth entry is not taken in the place of the replayed one, and from the sixth on the
    // two logs are known to differ.
    say(&alice, &room, "넷")?;
    say(&alice, &room, "다섯")?;
    hear(&bob, &room, &["하나", "둘", "셋"])?;
    assert_eq!(blocked(&bob, &room)?.as_deref(), Some("log_mismatch"));
    Ok(())
}

// REQ M2: a message that is left out as if it had never been is missed by the next one.
#[test]
fn a_message_that_the_relay_leaves_out_blocks_the_room() -> Outcome {
    let (_stage, _alice, bob, room) = given(|items| items.into_iter().skip(1).collect())?;
    hear(&bob, &room, &["하나"])?;
    assert_refused(&bob, &room, &[("alice", "log_mismatch"), ("alice", "log_mismatch")])?;
    assert_eq!(blocked(&bob, &room)?.as_deref(), Some("log_mismatch"));
    Ok(())
}

/// Leaves only the hash of a message.
fn withhold(item: &mut Value) -> Result<()> {
    let message = message(item).context("no message")?.take();
    let hash = serde_json::from_value::<Message>(message)?.hash();
    *item.pointer_mut("/entry/entry").context("no entry")? = json!({ "withheld": hash });
    Ok(())
}

// REQ M2: what is withheld by its hash does not part the logs, and comes to light as a message that
// is missing.
#[test]
fn a_message_that_the_relay_withholds_by_its_hash_is_missed() -> Outcome {
    let (_stage, alice, bob, room) = given(|mut items| {
        items.first_mut().map(withhold).transpose().ok();
        items
    })?;
    hear(&bob, &room, &["하나", "셋"])?;
    assert_refused(&bob, &room, &[])?;
    assert_eq!(blocked(&bob, &room)?, None);
    assert_eq!(missing_before(&bob, &room, "셋")?, 1);
    say(&bob, &room, "넷")?;
    hear(&alice, &room, &["하나", "둘", "셋", "넷"])
}

// REQ M2: the command line tells how many are missing, too.
#[test]
fn a_message_that_is_missing_is_told_on_the_command_line() -> Outcome {
    let (_stage, _alice, bob, room) = given(|mut items| {
        items.first_mut().map(withhold).transpose().ok();
        items
    })?;
    let lines = bob.done(&["history", &room])?;
    let line = lines.iter().find(|line| line.get("text").and_then(Value::as_str) == Some("셋"));
    assert_eq!(line.and_then(|line| line.get("missing_before")), Some(&json!(1)));
    Ok(())
}

// REQ M2: who withholds the end of a log is not found out, but cannot claim that it arrived.
#[test]
fn a_message_that_never_arrives_is_never_shown_as_delivered() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    stage.middle.on_item("bob", |item| seq(item).is_none_or(|seq| seq < 3));
    say(&alice, &room, "둘")?;
    hear(&bob, &room, &["하나"])?;
    hear(&alice, &room, &["하나", "둘"])?;
    assert_eq!(states(&alice, &room)?, ["delivered", "stored"]);
    Ok(())
}

// REQ M3: what cannot be sent is said, and not waited for: a room that is blocked for good.
#[test]
fn a_message_to_a_blocked_room_is_refused_at_once() -> Outcome {
    let (_stage, _alice, bob, room) = given(|items| items.into_iter().skip(1).collect())?;
    assert_eq!(blocked(&bob, &room)?.as_deref(), Some("log_mismatch"));
    assert_eq!(bob.refused(&["send", &room, "답"])?, (1, "blocked_room".to_owned()));
    Ok(())
}

// REQ L3: a connection that ends before anything was read is not a `sync` that is done.
#[test]
fn a_sync_that_the_relay_cuts_off_is_not_called_done() -> Outcome {
    let stage = Stage::start()?;
    let (_alice, bob, _room) = stage.pair()?;
    stage.middle.rule(|traffic| {
        let attached = traffic.kind == Kind::Answer && traffic.name == "attach";
        if attached { Fate::Cut } else { Fate::Pass }
    });
    assert_eq!(bob.refused(&["sync"])?, (3, "offline".to_owned()));
    Ok(())
}

// REQ M2: a relay that says "there is more" and gives what is known already keeps nobody busy.
#[test]
fn a_log_that_never_ends_is_not_read_for_ever() -> Outcome {
    let stage = Stage::start()?;
    let (_alice, bob, _room) = stage.pair()?;
    let fits = |traffic: &Traffic| traffic.account == "bob" && traffic.data.pointer("/items/0").is_some();
    let known = stage.middle.seen(fits).pop().context("a page that Bob has read")?.data;
    let known = known.get("items").cloned().context("its items")?;
    let before = stage.middle.asked("bob", "room_log").len();
    let mut pages = 0;
    stage.middle.on_answer("room_log", move |traffic| {
        pages += 1;
        // After so many it ends, so that a test that fails ends, too.
        traffic.data = json!({"items": known, "more": pages < 50});
    });
    bob.done(&["sync"])?;
    let pages = stage.middle.asked("bob", "room_log").len() - before;
    assert!(pages < 10, "{pages} pages of the same items were asked for");
    Ok(())
}
