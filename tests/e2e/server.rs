//! A server that moves, or has another key.

use anyhow::{Context as _, Result};
use mildam_tests::{Person, Scene, copy_folder};
use serde_json::Value;

use crate::Outcome;

fn shown(person: &Person) -> Result<Value> {
    person.done(&["server"])?.into_iter().next().context("nothing is shown of the server")
}

#[test]
fn a_replaced_server_key_is_decided_on_the_command_line() -> Outcome {
    let mut scene = Scene::start()?;
    let alice = scene.alice()?;
    let known = shown(&alice)?["server"]["fingerprint"].clone();
    assert_eq!(alice.refused(&["server", "decide", "--keep"])?, (2, "usage".to_owned()));
    scene.relay.replace_server_key()?;
    assert_eq!(alice.refused(&["sync"])?, (1, "wrong_fingerprint".to_owned()));
    let state = shown(&alice)?;
    assert_eq!(state["offered_key"]["known"], known);
    let found = state["offered_key"]["found"].as_str().context("no key is offered")?.to_owned();
    // Only the key that was named is taken, and only if it is the one that is shown.
    let named = known.as_str().unwrap_or_default();
    assert_eq!(alice.refused(&["server", "decide", "--take", named])?, (2, "usage".to_owned()));
    alice.done(&["server", "decide", "--keep"])?;
    assert_eq!(alice.refused(&["sync"])?, (1, "wrong_fingerprint".to_owned()));
    alice.done(&["server", "decide", "--take", &found])?;
    alice.done(&["sync"])?;
    let state = shown(&alice)?;
    assert_eq!((&state["server"]["fingerprint"], &state["offered_key"]), (&found.into(), &Value::Null));
    Ok(())
}

#[test]
fn a_server_is_found_again_where_it_was_before() -> Outcome {
    let mut scene = Scene::start()?;
    let alice = scene.alice()?;
    let before = shown(&alice)?["server"]["address"].clone();
    let first = scene.relay.tls().to_owned();
    scene.relay.move_away()?;
    assert_eq!(alice.refused(&["sync"])?, (3, "offline".to_owned()));
    alice.done(&["connect", scene.relay.link()])?;
    alice.done(&["sync"])?;
    let moved = shown(&alice)?["server"].clone();
    assert_ne!(moved["address"], before);
    assert_eq!(moved["others"], Value::Array(vec![before.clone()]));
    // Back again, and nobody tells.
    scene.relay.stop()?;
    scene.relay.restart_at(&first)?;
    alice.done(&["sync"])?;
    let back = shown(&alice)?["server"].clone();
    assert_eq!((&back["address"], &back["others"]), (&before, &Value::Array(vec![moved["address"].clone()])));
    let address = moved["address"].as_str().context("no address")?;
    alice.done(&["server", "forget", address])?;
    assert_eq!(shown(&alice)?["server"]["others"], Value::Array(Vec::new()));
    let only = before.as_str().context("no address")?;
    assert_eq!(alice.refused(&["server", "forget", only])?, (1, "forbidden".to_owned()));
    Ok(())
}

/// What a room's line in the list says.
fn line(person: &Person, room: &str) -> Result<Value> {
    let rooms = person.done(&["room", "list"])?;
    rooms.into_iter().find(|line| line["room"] == room).context("no such room")
}

fn texts(person: &Person, room: &str) -> Result<Vec<String>> {
    person.done(&["sync"])?;
    Ok(person.texts(room)?.into_iter().map(|(_, text)| text).collect())
}

/// Puts the server back to a copy of its folder.
fn put_back(scene: &mut Scene, copy: &std::path::Path) -> Outcome {
    scene.relay.stop()?;
    std::fs::remove_dir_all(scene.relay.data())?;
    copy_folder(copy, scene.relay.data())?;
    scene.relay.restart()
}

// REQ M3: a server that was restored from a backup leads, in one step, back to rooms that work.
#[test]
fn a_restored_server_leads_on_in_new_rooms() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob, carol) = (scene.alice()?, scene.bob()?, scene.carol()?);
    for friend in [&bob, &carol] {
        scene.befriend(&alice, friend)?;
    }
    let direct = alice.direct(&bob)?;
    let group = alice.room(&["room", "create", "--name", "독서", "bob", "carol"])?;
    for room in [&direct, &group] {
        alice.done(&["send", room, "before"])?;
    }
    scene.relay.stop()?;
    let backup = tempfile::tempdir()?;
    copy_folder(scene.relay.data(), &backup.path().join("relay"))?;
    scene.relay.restart()?;
    for room in [&direct, &group] {
        alice.done(&["send", room, "lost on the server"])?;
    }
    for person in [&bob, &carol] {
        person.done(&["sync"])?;
    }
    put_back(&mut scene, &backup.path().join("relay"))?;

    for person in [&alice, &bob] {
        person.done(&["sync"])?;
        for room in [&direct, &group] {
            let line = line(person, room)?;
            assert_eq!(
                (&line["blocked"], &line["beyond_repair"]),
                (&"server_went_back".into(), &true.into())
            );
            assert_eq!(person.refused(&["send", room, "?"])?, (1, "blocked_room".to_owned()));
        }
    }
    assert_eq!(bob.refused(&["room", "replace", &group])?, (1, "forbidden".to_owned()), "he leads nobody");
    let next = alice.room(&["room", "replace", &group])?;
    let next_direct = bob.room(&["room", "direct", "alice"])?;
    alice.done(&["send", &next, "on we go"])?;
    alice.done(&["sync"])?;
    assert_eq!(alice.room(&["room", "direct", "bob"])?, next_direct);
    alice.done(&["send", &next_direct, "and here"])?;
    for person in [&bob, &carol] {
        assert_eq!(texts(person, &next)?, ["on we go"]);
        let line = line(person, &group)?;
        assert_eq!((&line["name"], &line["replaced_by"]), (&"독서".into(), &next.as_str().into()));
        assert_eq!(texts(person, &group)?, ["before", "lost on the server"]);
    }
    for person in [&bob, &carol] {
        person.done(&["send", &next, "there"])?;
    }
    assert_eq!(line(&carol, &next)?["name"], "독서");
    assert_eq!(texts(&bob, &next_direct)?, ["and here"]);
    assert_eq!(texts(&alice, &next)?, ["on we go", "there", "there"]);
    Ok(())
}

// REQ M3: nobody is stuck whose log others have filled anew.
#[test]
fn a_room_that_others_filled_again_is_left_too() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    alice.done(&["send", &room, "before"])?;
    bob.done(&["sync"])?;
    scene.relay.stop()?;
    let backup = tempfile::tempdir()?;
    copy_folder(scene.relay.data(), &backup.path().join("relay"))?;
    scene.relay.restart()?;
    alice.done(&["send", &room, "lost on the server"])?;
    put_back(&mut scene, &backup.path().join("relay"))?;
    // Bob saw nothing of it, and goes on; the place of what was lost is taken.
    bob.done(&["send", &room, "from bob"])?;
    alice.done(&["sync"])?;
    alice.run(&["send", &room, "does not fit"], None)?;
    assert_eq!(line(&alice, &room)?["beyond_repair"], true);
    let next = alice.room(&["room", "direct", "bob"])?;
    assert_ne!(next, room);
    alice.done(&["send", &next, "again"])?;
    assert_eq!(texts(&bob, &next)?, ["again"]);
    Ok(())
}
