//! SIGKILL, at moments that nobody chose.
//!
//! The pauses here pick the moment of a kill. Whatever moment it is, the same must hold: what was
//! acknowledged is there, and nothing is there twice.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mildam_tests::{Person, Scene};

use crate::Outcome;

/// Moments between the start of a command and its end, and some beyond.
fn moments() -> impl Iterator<Item = Duration> {
    [0, 40, 90, 150, 220, 300, 400, 550, 750, 1000, 1400].into_iter().map(Duration::from_millis)
}

fn texts(person: &Person, room: &str) -> Result<Vec<String>> {
    Ok(person.texts(room)?.into_iter().map(|(_, text)| text).collect())
}

// REQ S1, M3: what the relay acknowledged survives its sudden end; what it did not is sent again.
#[test]
fn a_relay_that_is_killed_in_mid_conversation_loses_and_doubles_nothing() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let mut listener = bob.listen()?;
    let mut said = Vec::new();
    for (number, moment) in moments().enumerate() {
        let text = format!("{number}번째 소식");
        let mut send = alice.command(&["send", &room, &text])?;
        let mut send = send.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(moment);
        scene.relay.kill()?;
        scene.relay.restart()?;
        // Done or offline, as it happened; the message is in the history or the outbox either way.
        let code = send.wait()?.code();
        ensure!(matches!(code, Some(0 | 3)), "send ended with {code:?}");
        said.push(text);
    }
    alice.done(&["send", &room, "끝"])?;
    said.push("끝".to_owned());
    // Bob's program has lived through all of it, and caught up by itself.
    listener.wait_text("끝")?;
    drop(listener);
    assert_eq!(texts(&bob, &room)?, said);
    alice.done(&["sync"])?;
    assert_eq!(texts(&alice, &room)?, said);
    Ok(())
}

// REQ M3, L3: a client that dies while it sends has either kept the message or never had it.
#[test]
fn a_client_that_is_killed_while_it_sends_loses_and_doubles_nothing() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let mut kept = 0;
    for (number, moment) in moments().enumerate() {
        let mut send = alice.command(&["send", &room, &format!("message {number}")])?;
        let mut send = send.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(moment);
        send.kill()?;
        let acknowledged = send.wait()?.success();
        let there = texts(&alice, &room)?.contains(&format!("message {number}"));
        ensure!(there || !acknowledged, "message {number} was acknowledged, and is gone");
        kept += usize::from(there);
    }
    ensure!(kept > 0, "no moment was late enough: this shows nothing");
    alice.done(&["send", &room, "끝"])?;
    bob.done(&["sync"])?;
    let (ours, theirs) = (texts(&alice, &room)?, texts(&bob, &room)?);
    assert_eq!(theirs, ours);
    assert_eq!(theirs.len(), kept + 1);
    Ok(())
}

// REQ M3: a client that dies while it listens goes on where it was.
#[test]
fn a_client_that_is_killed_while_it_listens_gets_everything_once() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let mut said = Vec::new();
    for number in 0..6 {
        let mut listener = bob.listen()?;
        let text = format!("소식 {number}");
        let mut send = alice.command(&["send", &room, &text])?.stdout(Stdio::null()).spawn()?;
        if number % 2 == 0 {
            // Right when the message comes in; otherwise at any moment.
            listener.wait_text(&text)?;
        }
        listener.kill()?;
        ensure!(send.wait()?.success(), "the sender is not concerned");
        said.push(text);
    }
    bob.done(&["sync"])?;
    assert_eq!(texts(&bob, &room)?, said);
    Ok(())
}

// REQ S1: SIGTERM ends the relay cleanly, with people connected.
#[test]
fn a_relay_that_is_asked_to_stop_drains_and_ends_well() -> Outcome {
    let mut scene = Scene::start()?;
    let alice = scene.alice()?;
    let mut listener = alice.listen()?;
    scene.relay.stop()?;
    listener.wait("being offline", |event| {
        (event.get("state")?.get("connection")?.as_str()? == "offline").then_some(())
    })?;
    scene.relay.restart()?;
    listener.wait_online().context("the client comes back by itself")
}
