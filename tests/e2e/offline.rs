//! Without a relay.

use anyhow::{Context as _, ensure};
use mildam_tests::Scene;
use serde_json::json;

use crate::Outcome;

// REQ L2: with no network the whole history is there, and can be searched, Korean included.
#[test]
fn history_and_search_work_with_the_relay_gone() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let texts = ["텔레그램이 아니라 밀담이야", "The Telegram from yesterday", "한 글자: 꽃", "냉면을 먹자"];
    for text in texts {
        alice.done(&["send", &room, text])?;
    }
    bob.done(&["sync"])?;
    scene.relay.stop()?;
    for person in [&alice, &bob] {
        let read: Vec<String> = person.texts(&room)?.into_iter().map(|(_, text)| text).collect();
        assert_eq!(read, texts);
        for (query, found) in [
            ("텔레그램", vec![0]),
            ("밀담", vec![0]),
            ("telegram", vec![1]),
            ("yesterday TELEGRAM", vec![1]),
            ("꽃", vec![2]),
            ("냉면", vec![3]),
            ("램이", vec![0]),
            ("비빔밥", vec![]),
        ] {
            let hits = person.done(&["search", query])?;
            let hits: Vec<_> = hits.iter().filter_map(|hit| hit.get("text")?.as_str()).collect();
            let expected: Vec<_> = found.iter().map(|index: &usize| texts[*index]).collect();
            assert_eq!(hits, expected, "{} searches {query}", person.account());
        }
        ensure!(!person.done(&["room", "list"])?.is_empty() && !person.done(&["friend", "list"])?.is_empty());
    }
    Ok(())
}

// REQ L2: a page at a time, from the newest back to the first, and nothing twice.
#[test]
fn history_is_read_page_by_page() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    for number in 1..=7 {
        alice.done(&["send", &room, &format!("{number}번")])?;
    }
    scene.relay.stop()?;
    let mut read = Vec::new();
    let mut before = None;
    loop {
        let place = before.map(|place: u64| place.to_string());
        let mut arguments = vec!["history", &room, "--limit", "3"];
        arguments.extend(place.iter().flat_map(|place| ["--before", place.as_str()]));
        let page = alice.done(&arguments)?;
        let Some(first) = page.first() else { break };
        before = Some(first.get("seq").and_then(serde_json::Value::as_u64).context("a place")?);
        ensure!(page.len() <= 3, "a page of {}", page.len());
        let texts = page.iter().filter_map(|line| line.get("text")?.as_str().map(str::to_owned));
        read.splice(0..0, texts);
    }
    let expected: Vec<String> = (1..=7).map(|number| format!("{number}번")).collect();
    assert_eq!(read, expected);
    Ok(())
}

// REQ L3: what is written offline waits, and goes out once when the relay is back.
#[test]
fn messages_written_offline_go_out_once_the_relay_is_back() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    alice.done(&["send", &room, "online"])?;
    scene.relay.stop()?;
    for text in ["지하철에서 쓴 말", "and another"] {
        let sent = alice.done(&["send", &room, text])?;
        assert_eq!(sent.first().and_then(|line| line.get("state")), Some(&json!("pending")));
    }
    let waiting = alice.done(&["history", &room])?;
    let states: Vec<_> = waiting.iter().rev().take(2).map(|line| &line["state"]).collect();
    assert_eq!(states, [&json!("pending"), &json!("pending")]);
    scene.relay.restart()?;
    alice.done(&["send", &room, "back again"])?;
    bob.done(&["sync"])?;
    let texts: Vec<String> = bob.texts(&room)?.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["online", "지하철에서 쓴 말", "and another", "back again"]);
    Ok(())
}

// REQ A5: a session can be ended and begun again; the history stays.
#[test]
fn logging_out_keeps_the_history_and_logging_in_goes_on() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    alice.done(&["send", &room, "로그아웃 전"])?;
    alice.done(&["logout"])?;
    assert_eq!(alice.texts(&room)?.len(), 1);
    let login = ["login", "--id", "alice", "--password-stdin"];
    let wrong = alice.run(&login, Some("not the password"))?;
    assert_eq!((wrong.code, wrong.error.map(|(code, _)| code)), (1, Some("wrong_credentials".to_owned())));
    alice.run(&login, Some(&alice.password()))?.done()?;
    alice.done(&["send", &room, "로그인 후"])?;
    bob.done(&["sync"])?;
    assert_eq!(bob.texts(&room)?.len(), 2);
    Ok(())
}
