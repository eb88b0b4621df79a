//! Who is there, who is writing, and where one is logged in.

use anyhow::{Context as _, ensure};
use mildam_tests::{Listener, Scene};
use serde_json::{Value, json};

use crate::Outcome;

fn wait_online_friends(listener: &mut Listener, online: &Value) -> anyhow::Result<()> {
    listener.wait(&format!("{online} being online"), |event| {
        (event.get("presence")?.get("online")? == online).then_some(())
    })
}

// REQ T9, M5: a friend comes, writes and goes, and each is told while it is true.
#[test]
fn a_friend_comes_writes_and_goes() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    assert_eq!(alice.done(&["presence"])?, [json!({"visible": true, "online": []})]);
    bob.done(&["sync"])?;
    let mut listener = alice.listen()?;
    assert_eq!(bob.done(&["presence"])?, [json!({"visible": true, "online": ["alice"]})]);
    wait_online_friends(&mut listener, &json!(["bob"]))?;
    wait_online_friends(&mut listener, &json!([]))?;
    assert_eq!(bob.done(&["typing", &room])?, [json!({"room": room, "told": true})]);
    let typing = json!({"event": "typing", "room": room, "account": "bob"});
    listener.wait("bob writing", |event| (*event == typing).then_some(()))?;
    assert_eq!(bob.refused(&["typing", &"A".repeat(43)])?, (1, "not_found".to_owned()));
    Ok(())
}

// REQ T9: who hides is not seen, and sees nobody else either.
#[test]
fn who_hides_is_not_seen_and_sees_nobody() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    bob.done(&["sync"])?;
    assert_eq!(bob.done(&["presence", "hide"])?, [json!({"visible": false, "online": []})]);
    assert_eq!(bob.done(&["presence"])?, [json!({"visible": false, "online": []})]);
    assert_eq!(bob.done(&["typing", &room])?, [json!({"room": room, "told": false})]);
    let listener = bob.listen()?;
    assert_eq!(alice.done(&["presence"])?, [json!({"visible": true, "online": []})]);
    listener.kill()?;
    assert_eq!(bob.done(&["presence", "show"])?, [json!({"visible": true, "online": []})]);
    scene.relay.stop()?;
    for arguments in [&["presence"] as &[&str], &["presence", "hide"], &["typing", &room], &["sessions"]] {
        assert_eq!(bob.refused(arguments)?, (3, "offline".to_owned()), "{arguments:?}");
    }
    Ok(())
}

// REQ A5: the account's sessions are listed, and one that is ended says so.
#[test]
fn sessions_are_listed_and_ended() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let sessions = alice.done(&["sessions"])?;
    ensure!(sessions.len() == 1, "{sessions:?}");
    let session = sessions.first().context("a session")?;
    let fields: Vec<_> = session.as_object().into_iter().flatten().map(|(field, _)| field).collect();
    assert_eq!(fields, ["created_at", "current", "device", "expires_at", "online"]);
    assert_eq!((&session["current"], &session["online"]), (&json!(true), &json!(true)));
    ensure!(session["created_at"].as_u64() < session["expires_at"].as_u64(), "{session}");
    let unknown = "A".repeat(22);
    assert_eq!(alice.refused(&["sessions", "end", &unknown])?.0, 1);
    let device = session["device"].as_str().context("a device")?;
    assert_eq!(alice.done(&["sessions", "end", device])?, [json!({"device": device, "ended": true})]);
    let (exit, code) = alice.refused(&["sessions"])?;
    ensure!(exit == 1 && code.starts_with("session_"), "{code}");
    Ok(())
}
