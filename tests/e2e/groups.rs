//! Groups, and who can read what.

use anyhow::ensure;
use mildam_tests::{Person, Scene};
use serde_json::json;

use crate::Outcome;

fn texts(person: &Person, room: &str) -> anyhow::Result<Vec<String>> {
    Ok(person.texts(room)?.into_iter().map(|(_, text)| text).collect())
}

// REQ C2, C5: who comes cannot read what was before, who has gone cannot read what follows.
#[test]
fn a_joiner_reads_nothing_from_before_and_a_leaver_nothing_from_after() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob, carol) = (scene.alice()?, scene.bob()?, scene.carol()?);
    for friend in [&bob, &carol] {
        scene.befriend(&alice, friend)?;
    }
    let room = alice.room(&["room", "create", "--name", "주말 등산 모임", "bob"])?;
    alice.done(&["send", &room, "carol이 오기 전"])?;
    bob.done(&["send", &room, "before carol"])?;

    alice.done(&["room", "invite", &room, "carol"])?;
    alice.done(&["send", &room, "셋이서"])?;
    carol.done(&["sync"])?;
    carol.done(&["send", &room, "hello from carol"])?;
    bob.done(&["sync"])?;
    assert_eq!(texts(&carol, &room)?, ["셋이서", "hello from carol"]);
    let name = carol.done(&["room", "list"])?;
    assert_eq!(name.first().and_then(|line| line.get("name")), Some(&json!("주말 등산 모임")));

    carol.done(&["room", "leave", &room])?;
    alice.done(&["send", &room, "carol이 간 뒤"])?;
    bob.done(&["send", &room, "after carol"])?;
    let (code, reason) = carol.refused(&["send", &room, "still here?"])?;
    assert_eq!((code, reason.as_str()), (1, "not_member"));
    carol.done(&["sync"])?;
    assert_eq!(texts(&carol, &room)?, ["셋이서", "hello from carol"]);

    alice.done(&["sync"])?;
    let all =
        ["carol이 오기 전", "before carol", "셋이서", "hello from carol", "carol이 간 뒤", "after carol"];
    assert_eq!(texts(&alice, &room)?, all);
    assert_eq!(texts(&bob, &room)?, all);
    Ok(())
}

// REQ C2: coming and going leave a notice in the room, and the name reaches every member.
#[test]
fn members_see_who_comes_and_goes() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob, carol) = (scene.alice()?, scene.bob()?, scene.carol()?);
    for friend in [&bob, &carol] {
        scene.befriend(&alice, friend)?;
    }
    let room = alice.room(&["room", "create", "--name", "독서", "bob"])?;
    alice.done(&["room", "invite", &room, "carol"])?;
    bob.done(&["sync"])?;
    bob.done(&["room", "leave", &room])?;
    alice.done(&["sync"])?;
    let history = alice.done(&["history", &room])?;
    let notices: Vec<_> =
        history.iter().filter_map(|line| Some((&line["from"], line.get("notice")?))).collect();
    let expected = [
        (&json!("alice"), &json!({"kind": "room_created"})),
        (&json!("alice"), &json!({"kind": "members_added", "accounts": ["carol"]})),
        (&json!("bob"), &json!({"kind": "member_left"})),
    ];
    assert_eq!(notices, expected);
    let rooms = alice.done(&["room", "list"])?;
    let members = rooms.first().and_then(|room| room.get("members")?.as_array().cloned()).unwrap_or_default();
    let mut accounts: Vec<_> = members.iter().filter_map(|member| member["account"].as_str()).collect();
    accounts.sort_unstable();
    assert_eq!(accounts, ["alice", "carol"]);
    let left = bob.done(&["room", "list"])?;
    assert_eq!(left.first().and_then(|room| room.get("left")), Some(&json!(true)));
    Ok(())
}

// REQ C2: a room is no way around friendship, membership or roles.
#[test]
fn strangers_to_a_room_can_do_nothing_in_it() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob, carol) = (scene.alice()?, scene.bob()?, scene.carol()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.room(&["room", "create", "--name", "둘만", "bob"])?;
    let (_, code) = alice.refused(&["room", "invite", &room, "carol"])?;
    assert_eq!(code, "not_friends");
    for attempt in [
        &["send", &room, "몰래"] as &[&str],
        &["room", "invite", &room, "carol"],
        &["room", "leave", &room],
        &["history", &room],
    ] {
        let (exit, code) = carol.refused(attempt)?;
        ensure!(exit == 1 && ["not_found", "not_member"].contains(&code.as_str()), "{attempt:?}: {code}");
    }
    Ok(())
}

// REQ C3: an owner who leaves hands the group over, so that it can grow on.
#[test]
fn a_group_is_not_left_without_an_owner() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob, carol) = (scene.alice()?, scene.bob()?, scene.carol()?);
    scene.befriend(&alice, &bob)?;
    scene.befriend(&bob, &carol)?;
    let room = alice.room(&["room", "create", "--name", "독서", "bob"])?;
    bob.done(&["sync"])?;
    assert_eq!(bob.refused(&["room", "invite", &room, "carol"])?, (1, "forbidden".to_owned()));
    // Nothing is done, and nothing is said to be.
    for answer in ["unblock", "replace"] {
        assert_eq!(bob.refused(&["room", answer, &room])?, (1, "forbidden".to_owned()));
    }
    alice.done(&["room", "leave", &room])?;
    bob.done(&["room", "invite", &room, "carol"])?;
    bob.done(&["send", &room, "이제 둘이서"])?;
    carol.done(&["sync"])?;
    assert_eq!(texts(&carol, &room)?, ["이제 둘이서"]);
    // The last one leaves nobody behind.
    carol.done(&["room", "leave", &room])?;
    bob.done(&["room", "leave", &room])?;
    Ok(())
}
