//! The relay does what it was asked, and does not say so; or says something else.

use super::*;
use crate::Outcome;

/// Cuts the connection of an account where the first answer to a command should come.
fn lose(stage: &Stage, account: &'static str, command: &'static str) -> u64 {
    let mut lost = false;
    stage.middle.rule(move |traffic| {
        let its = traffic.account == account && traffic.name.starts_with(command);
        if its && traffic.kind == Kind::Answer && !std::mem::replace(&mut lost, true) {
            return Fate::Cut;
        }
        Fate::Pass
    })
}

/// How often a command was done.
fn done(stage: &Stage, account: &str, command: &str) -> usize {
    let fits = |traffic: &Traffic| {
        traffic.kind == Kind::Answer
            && traffic.account == account
            && traffic.name == command
            && traffic.status == "success"
    };
    stage.middle.seen(fits).len()
}

/// Runs a command whose answer is lost: it is done by itself the second time, or it says that there
/// is no connection.
fn lost(stage: &Stage, person: &Person, command: &'static str, arguments: &[&str]) -> Result<()> {
    let account = match person.account() {
        "alice" => "alice",
        _ => "bob",
    };
    let before = done(stage, account, command);
    let rule = lose(stage, account, command);
    let answer = person.run(arguments, None)?;
    stage.middle.lift(rule);
    assert!(matches!(answer.code, 0 | 3), "{arguments:?}: {answer:?}");
    assert!(done(stage, account, command) > before, "{command} was not asked");
    Ok(())
}

// REQ M3, L3: whatever the answer was that got lost, what was done is there once, and the same again
// does no harm.
#[test]
fn what_was_done_is_done_once_though_every_answer_is_lost() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, carol) = (stage.person("alice")?, stage.person("bob")?, stage.person("carol")?);
    lost(&stage, &alice, "friend_request", &["friend", "request", "bob"])?;
    alice.done(&["friend", "request", "bob"])?;
    lost(&stage, &bob, "friend_accept", &["friend", "accept", "alice"])?;
    let friends = |person: &Person| -> Result<usize> {
        person.done(&["sync"])?;
        let list = person.done(&["friend", "list"])?;
        Ok(list.first().and_then(|line| line.get("friends")?.as_array()).context("friends")?.len())
    };
    assert_eq!((friends(&alice)?, friends(&bob)?), (1, 1));
    stage.scene.befriend(&alice, &carol)?;

    lost(&stage, &alice, "room_create", &["room", "direct", "bob"])?;
    let direct = alice.direct(&bob)?;
    assert_eq!(bob.direct(&alice)?, direct);
    lost(&stage, &alice, "room_create", &["room", "create", "--name", "모임", "bob"])?;
    alice.done(&["sync"])?;
    let rooms = alice.done(&["room", "list"])?;
    assert_eq!(rooms.len(), 2, "{rooms:?}");
    let group = rooms.iter().filter_map(|line| line.get("room")?.as_str()).find(|room| *room != direct);
    let group = group.context("the group")?.to_owned();

    lost(&stage, &alice, "message_send", &["send", &group, "하나"])?;
    alice.done(&["sync"])?;
    lost(&stage, &bob, "receipt_send", &["sync"])?;
    lost(&stage, &alice, "room_change", &["room", "invite", &group, "carol"])?;
    alice.done(&["room", "invite", &group, "carol"])?;
    lost(&stage, &bob, "room_change", &["room", "leave", &group])?;
    bob.done(&["sync"])?;
    assert_eq!(line(&bob, &group)?.get("left"), Some(&json!(true)));
    // Bob has left: the next one who sends makes a new key.
    lost(&stage, &alice, "epoch_announce", &["send", &group, "둘"])?;
    alice.done(&["sync"])?;
    hear(&carol, &group, &["둘"])?;
    hear(&alice, &group, &["하나", "둘"])?;
    hear(&bob, &group, &["하나"])?;
    for person in [&alice, &bob, &carol] {
        assert_eq!(blocked(person, &group)?, None);
        assert_refused(person, &group, &[])?;
    }
    let members = line(&carol, &group)?.get("members").and_then(Value::as_array).map(Vec::len);
    assert_eq!(members, Some(2));
    Ok(())
}

// REQ A4: a sign-up whose answer is lost is not a name that is lost.
#[test]
fn a_sign_up_whose_answer_is_lost_is_done_again() -> Outcome {
    let stage = Stage::start()?;
    let alice = stage.scene.stranger("alice");
    let rule = lose(&stage, "", "sign_up");
    lead(&alice, stage.middle.link())?;
    let email = alice.email();
    let arguments = ["signup", "--id", "alice", "--email", &email, "--password-stdin"];
    let answer = alice.run(&arguments, Some(&alice.password()))?;
    assert_eq!(answer.code, 3, "{answer:?}");
    stage.middle.lift(rule);
    lead(&alice, stage.scene.relay.link())?;
    alice.run(&arguments, Some(&alice.password()))?.done()?;
    stage.devices.lend(&alice)?;
    lead(&alice, stage.middle.link())?;
    let bob = stage.person("bob")?;
    stage.scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    say(&alice, &room, "하나")?;
    hear(&bob, &room, &["하나"])
}

// REQ M3: refusals that make no sense cost a message nothing but time.
#[test]
fn a_message_outlives_refusals_of_every_kind() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let codes = [
        "stale",
        "bad_record",
        "storage_unavailable",
        "internal",
        "limit_reached",
        "log_mismatch",
        "malformed",
        "a_code_from_the_future",
    ];
    let mut said = vec!["하나".to_owned()];
    for code in codes {
        let rule = stage.middle.rule(move |traffic| {
            let sends = traffic.kind == Kind::Request && traffic.name == "message_send";
            if sends { Fate::Refuse(code) } else { Fate::Pass }
        });
        send_later(&stage, &alice, &room, code)?;
        alice.done(&["sync"])?;
        assert_eq!(states(&alice, &room)?.last().map(String::as_str), Some("pending"), "{code}");
        stage.middle.lift(rule);
        alice.done(&["sync"])?;
        said.push(code.to_owned());
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        hear(&bob, &room, &said)?;
    }
    assert_refused(&bob, &room, &[])
}
