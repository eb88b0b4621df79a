//! Two relays with one key: a copy of the relay's folder is all it takes. People are parted, or the
//! past comes back.

use mildam_tests::Relay;

use super::*;
use crate::Outcome;

/// A second relay that goes on from the same moment, and a middle before it.
struct Fork {
    middle: MaliciousRelay,
    _relay: Relay,
}

fn fork(stage: &mut Stage) -> Result<Fork> {
    let relay = &mut stage.scene.relay;
    let folder = relay.data().with_file_name("fork");
    relay.stop()?;
    copy_folder(relay.data(), &folder)?;
    relay.restart()?;
    let fork = Relay::start(&folder)?;
    Ok(Fork { middle: MaliciousRelay::before(&fork, stage.devices.clone())?, _relay: fork })
}

/// Alice and Bob who have talked, Bob on a relay of his own since, with two messages that only he
/// knows of; and one by Alice that he does not know.
fn parted() -> Result<(Stage, Fork, [Person; 2], String)> {
    let mut stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let fork = fork(&mut stage)?;
    lead(&bob, fork.middle.link())?;
    say(&alice, &room, "여기 둘")?;
    say(&bob, &room, "저기 둘")?;
    say(&bob, &room, "저기 셋")?;
    hear(&alice, &room, &["하나", "여기 둘"])?;
    hear(&bob, &room, &["하나", "저기 둘", "저기 셋"])?;
    Ok((stage, fork, [alice, bob], room))
}

// REQ M2: members whom the relay has parted notice it by the first message that crosses over.
#[test]
fn two_halves_of_a_room_that_are_joined_again_block_by_one_message() -> Outcome {
    let (stage, fork, [alice, bob], room) = parted()?;
    // Neither what waits already goes out, nor what is written then.
    fork.middle.shut(true);
    bob.done(&["send", &room, "답"])?;
    lead(&bob, stage.middle.link())?;
    for text in ["여기 셋", "여기 넷"] {
        say(&alice, &room, text)?;
    }
    bob.done(&["sync"])?;
    assert_refused(&bob, &room, &[("alice", "log_mismatch")])?;
    assert_eq!(blocked(&bob, &room)?.as_deref(), Some("log_mismatch"));
    assert_eq!(bob.texts(&room)?.len(), 4);
    assert_eq!(bob.refused(&["send", &room, "또"])?, (1, "blocked_room".to_owned()));
    assert_eq!(stage.middle.asked("bob", "message_send"), Vec::<Value>::new());
    Ok(())
}

// REQ M2: the same from the other side: one message of Bob's is given to Alice.
#[test]
fn one_message_from_the_other_half_blocks_the_room() -> Outcome {
    let (stage, fork, [alice, bob], room) = parted()?;
    let theirs = fork.middle.asked("bob", "message_send");
    let [_, latest] = theirs.as_slice() else { bail!("Bob has sent {theirs:?}") };
    let message = latest.get("message").context("a message")?.clone();
    stage.middle.on_answer("room_log", append("alice", 4, json!({ "message": message })));
    hear(&alice, &room, &["하나", "여기 둘"])?;
    assert_refused(&alice, &room, &[("bob", "log_mismatch")])?;
    assert_eq!(blocked(&alice, &room)?.as_deref(), Some("log_mismatch"));
    // Bob knows nothing of it yet.
    assert_eq!(blocked(&bob, &room)?, None);
    Ok(())
}

// REQ M2, M3: a relay that comes back with an old state gets nothing that was written after it, and
// nobody is harmed when the true one is there again.
#[test]
fn a_relay_with_an_old_state_is_sent_nothing_until_the_new_one_is_back() -> Outcome {
    let mut stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let fork = fork(&mut stage)?;
    say(&alice, &room, "둘")?;
    hear(&bob, &room, &["하나", "둘"])?;
    // The fork is the older state: it has not seen this.
    send_later(&stage, &bob, &room, "셋")?;
    lead(&bob, fork.middle.link())?;
    bob.done(&["sync"])?;
    assert_eq!(fork.middle.asked("bob", "message_send"), Vec::<Value>::new());
    assert_eq!(blocked(&bob, &room)?.as_deref(), Some("server_went_back"));
    assert_eq!(states(&bob, &room)?, ["pending"]);
    lead(&bob, stage.middle.link())?;
    hear(&bob, &room, &["하나", "둘", "셋"])?;
    hear(&alice, &room, &["하나", "둘", "셋"])?;
    for person in [&alice, &bob] {
        assert_eq!(blocked(person, &room)?, None);
        assert_refused(person, &room, &[])?;
    }
    Ok(())
}
