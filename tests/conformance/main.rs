//! Mildam's relay and client, talking with an implementation that shares no code with them: the
//! Python program in this folder, which was written from the documents alone. `cargo xtask test`
//! sets it up.

mod second;

use anyhow::{Context as _, ensure};
use mildam_tests::{Person, Scene};
use second::Second;
use serde_json::{Value, json};

type Outcome = anyhow::Result<()>;

const PASSWORD: &str = "미나의 비밀번호 1234";

/// Mina, who uses the second implementation, as a friend of these people.
fn mina(scene: &Scene, friends: &[&Person]) -> anyhow::Result<Second> {
    let mut mina = Second::start(scene.relay.link())?;
    mina.done(json!({"do": "sign_up", "account": "mina", "password": PASSWORD}))?;
    for friend in friends {
        friend.done(&["friend", "request", "mina"])?;
        mina.done(json!({"do": "accept", "account": friend.account()}))?;
    }
    Ok(mina)
}

#[test]
fn a_second_implementation_talks_with_the_client() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let mut mina = mina(&scene, &[&alice])?;
    let room = alice.room(&["room", "direct", "mina"])?;

    // Alice's epoch opens, her message is read, and she is told so.
    let sent = alice.done(&["send", &room, "안녕, 미나!"])?;
    let id = sent.first().and_then(|line| line.get("id")).and_then(Value::as_str).context("an id")?;
    let mut listener = alice.listen()?;
    let received = mina.done(json!({"do": "receive", "text": "안녕, 미나!"}))?;
    assert_eq!(received.get("room"), Some(&json!(room)));
    assert_eq!(received.get("from"), Some(&json!("alice")));
    assert_eq!(received.get("items"), Some(&json!([["created", null], ["epoch", null], ["message", null]])));
    listener.wait_state(id, "delivered")?;
    listener.wait_state(id, "read")?;

    // Mina's answer in Alice's epoch.
    let answer = mina.done(json!({"do": "send", "room": room, "text": "Hello from elsewhere"}))?;
    assert_eq!((answer.get("epoch"), answer.get("announced")), (Some(&json!(1)), Some(&json!(false))));
    listener.wait_text("Hello from elsewhere")?;
    drop(listener);
    alice.done(&["read", &room])?;
    let seq = answer.get("seq").context("a place")?;
    mina.done(json!({"do": "wait_receipt", "room": room, "account": "alice", "kind": "read", "seq": seq}))?;

    // An epoch of Mina's: Alice opens it, reads in it and writes in it.
    let announced = mina.done(json!({"do": "announce", "room": room}))?;
    assert_eq!(announced, json!({"epoch": 2, "items": [["epoch", null]]}));
    mina.done(json!({"do": "send", "room": room, "text": "새 열쇠로"}))?;
    alice.done(&["sync"])?;
    alice.done(&["send", &room, "잘 열려"])?;
    let received = mina.done(json!({"do": "receive", "text": "잘 열려", "room": room}))?;
    assert_eq!(received.get("epoch"), Some(&json!(2)));
    let expected = [
        ("alice", "안녕, 미나!"),
        ("mina", "Hello from elsewhere"),
        ("mina", "새 열쇠로"),
        ("alice", "잘 열려"),
    ];
    assert_eq!(alice.texts(&room)?, expected.map(|(from, text)| (from.to_owned(), text.to_owned())));
    Ok(())
}

#[test]
fn a_second_implementation_logs_in_over_every_carrier() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let mut mina = mina(&scene, &[&alice])?;
    let room = alice.room(&["room", "direct", "mina"])?;
    let plain = scene.relay.plain()?;
    for carrier in ["tls", "wss", "tcp"] {
        mina.done(json!({"do": "log_in", "password": PASSWORD, "over": carrier, "plain": plain}))?;
        mina.done(json!({"do": "send", "room": room, "text": carrier}))?;
        alice.done(&["sync"])?;
        alice.done(&["send", &room, "ok"])?;
        mina.done(json!({"do": "receive", "text": "ok", "room": room}))?;
        let texts = alice.texts(&room)?;
        ensure!(
            texts.iter().any(|(from, text)| (from.as_str(), text.as_str()) == ("mina", carrier)),
            "{texts:?}"
        );
    }
    // The client notices a wrong password, and the relay a login that somebody made up.
    let wrong = mina.refused(json!({"do": "log_in", "password": "another password"}))?;
    assert_eq!(wrong, ("wrong_credentials".to_owned(), false));
    let spoiled = mina.refused(json!({"do": "log_in", "password": PASSWORD, "spoil": true}))?;
    assert_eq!(spoiled, ("wrong_credentials".to_owned(), true));
    Ok(())
}

#[test]
fn a_second_implementation_joins_a_group_and_renews_its_keys() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let mut mina = mina(&scene, &[&alice])?;
    let room = alice.room(&["room", "create", "--name", "주말 등산", "bob"])?;
    bob.done(&["sync"])?;
    bob.done(&["send", &room, "before mina"])?;
    alice.done(&["room", "invite", &room, "mina"])?;
    alice.done(&["send", &room, "셋이서"])?;

    // She comes in by the snapshot, and reads nothing from before.
    let received = mina.done(json!({"do": "receive", "text": "셋이서", "room": room}))?;
    assert_eq!(received.get("items"), Some(&json!([["added", null], ["epoch", null], ["message", null]])));
    let seen = mina.done(json!({"do": "look", "room": room}))?;
    assert_eq!(
        seen,
        json!({"profile": {"name": "주말 등산"}, "members": {"alice": 3, "bob": 1, "mina": 1}, "blocked": null})
    );

    // When Bob has left, her next message brings a new epoch, with the profile.
    bob.done(&["room", "leave", &room])?;
    let sent = mina.done(json!({"do": "send", "room": room, "text": "bob이 간 뒤"}))?;
    assert_eq!(sent.get("announced"), Some(&json!(true)));
    alice.done(&["sync"])?;
    ensure!(alice.texts(&room)?.contains(&("mina".to_owned(), "bob이 간 뒤".to_owned())));
    bob.done(&["sync"])?;
    ensure!(!bob.texts(&room)?.iter().any(|(_, text)| text == "bob이 간 뒤"), "Bob was out");
    alice.done(&["send", &room, "둘이서"])?;
    mina.done(json!({"do": "receive", "text": "둘이서", "room": room}))?;
    Ok(())
}

#[test]
fn a_second_implementation_recovers_an_account_of_the_client_by_its_words() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.room(&["room", "direct", "bob"])?;
    alice.done(&["send", &room, "from the old device"])?;
    bob.done(&["sync"])?;
    let words = alice.done(&["words", "--korean"])?;
    let words = words.first().and_then(|line| line.get("words")).context("the words")?;
    let words: Vec<&str> = words.as_array().context("a list")?.iter().filter_map(Value::as_str).collect();

    let mut alice_again = Second::start(scene.relay.link())?;
    let recover =
        json!({"do": "recover", "account": "alice", "words": words.join(" "), "password": PASSWORD});
    assert_eq!(alice_again.done(recover)?, json!({"generation": 2}));
    let sent = alice_again.done(json!({"do": "send", "room": room, "text": "새 기기에서"}))?;
    assert_eq!(sent.get("announced"), Some(&json!(true)));
    bob.done(&["sync"])?;
    bob.done(&["send", &room, "다시 반가워"])?;
    alice_again.done(json!({"do": "receive", "text": "다시 반가워", "room": room}))?;
    let expected = [("alice", "from the old device"), ("alice", "새 기기에서"), ("bob", "다시 반가워")];
    assert_eq!(bob.texts(&room)?, expected.map(|(from, text)| (from.to_owned(), text.to_owned())));
    // The old device is out, and the new password is the one that counts.
    let (_, code) = alice.refused(&["send", &room, "still me?"])?;
    assert_ne!(code, "offline");
    alice_again.done(json!({"do": "log_in", "password": PASSWORD}))?;
    Ok(())
}

#[test]
fn the_client_lives_in_a_group_of_a_second_implementation() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    let mut mina = mina(&scene, &[&alice, &bob])?;
    let created =
        mina.done(json!({"do": "create", "kind": "group", "others": ["alice"], "name": "미나의 방"}))?;
    assert_eq!(created.get("items"), Some(&json!([["created", null], ["epoch", null]])));
    let room = created.get("room").and_then(Value::as_str).context("a room")?;
    mina.done(json!({"do": "send", "room": room, "text": "before bob"}))?;
    alice.done(&["sync"])?;
    let added = mina.done(json!({"do": "add", "room": room, "accounts": ["bob"]}))?;
    assert_eq!(added, json!({"items": [["added", null], ["epoch", null]]}));
    mina.done(json!({"do": "send", "room": room, "text": "셋이서"}))?;
    bob.done(&["sync"])?;
    bob.done(&["send", room, "고마워"])?;
    mina.done(json!({"do": "receive", "text": "고마워", "room": room}))?;
    let name = bob.done(&["room", "list"])?;
    assert_eq!(name.first().and_then(|line| line.get("name")), Some(&json!("미나의 방")));

    let removed = mina.done(json!({"do": "remove", "room": room, "account": "bob"}))?;
    assert_eq!(removed, json!({"items": [["removed", null], ["epoch", null]]}));
    mina.done(json!({"do": "send", "room": room, "text": "without bob"}))?;
    for person in [&alice, &bob] {
        person.done(&["sync"])?;
    }
    let texts = |person: &Person| -> anyhow::Result<Vec<String>> {
        Ok(person.texts(room)?.into_iter().map(|(_, text)| text).collect())
    };
    assert_eq!(texts(&alice)?, ["before bob", "셋이서", "고마워", "without bob"]);
    assert_eq!(texts(&bob)?, ["셋이서", "고마워"]);
    Ok(())
}

// Registered by one implementation, proven by the other: both stretch passwords alike. That the
// relay only misses the device says that it took the password.
#[test]
fn a_password_of_the_client_is_right_for_a_second_implementation() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let mut second = Second::start(scene.relay.link())?;
    let right = json!({"do": "try_password", "account": "alice", "password": alice.password()});
    assert_eq!(second.refused(right)?, ("device_unknown".to_owned(), true));
    let wrong = json!({"do": "try_password", "account": "alice", "password": "another password"});
    assert_eq!(second.refused(wrong)?, ("wrong_credentials".to_owned(), false));
    let nobody = json!({"do": "try_password", "account": "nobody", "password": "another password"});
    assert_eq!(second.refused(nobody)?, ("wrong_credentials".to_owned(), false));
    Ok(())
}

#[test]
fn the_client_recovers_an_account_of_a_second_implementation_by_its_words() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let mut mina = Second::start(scene.relay.link())?;
    let signed_up = mina.done(json!({"do": "sign_up", "account": "mina", "password": PASSWORD}))?;
    alice.done(&["friend", "request", "mina"])?;
    mina.done(json!({"do": "accept", "account": "alice"}))?;
    let room = mina.done(json!({"do": "create", "kind": "direct", "others": ["alice"]}))?;
    let room = room.get("room").and_then(Value::as_str).context("a room")?;
    mina.done(json!({"do": "send", "room": room, "text": "from the old device"}))?;
    alice.done(&["sync"])?;

    let words = signed_up.pointer("/words/korean").and_then(Value::as_array).context("the words")?;
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let mina_again = scene.stranger("mina");
    mina_again.done(&["connect", scene.relay.link()])?;
    let recover = ["recover", "--id", "mina", "--words-stdin"];
    let input = format!("{}\n{}\n", words.join(" "), mina_again.password());
    mina_again.run(&recover, Some(&input))?.done()?;
    mina_again.done(&["send", room, "새 기기에서"])?;
    alice.done(&["sync"])?;
    alice.done(&["send", room, "다시 반가워"])?;
    mina_again.done(&["sync"])?;
    let expected = [("mina", "from the old device"), ("mina", "새 기기에서"), ("alice", "다시 반가워")];
    assert_eq!(alice.texts(room)?, expected.map(|(from, text)| (from.to_owned(), text.to_owned())));
    let [_, rest @ ..] = expected;
    assert_eq!(mina_again.texts(room)?, rest.map(|(from, text)| (from.to_owned(), text.to_owned())));
    Ok(())
}

#[test]
fn both_implementations_make_the_same_of_strange_messages() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let mut mina = mina(&scene, &[&alice])?;
    let room = alice.room(&["room", "direct", "mina"])?;
    alice.done(&["send", &room, "hello"])?;
    mina.done(json!({"do": "receive", "text": "hello", "room": room}))?;

    let opened = json!(["message", null]);
    let malformed = json!(["refused", "malformed_content"]);
    let newer = json!({"kind": "needs_newer_version"});
    let refused = |code: &str| json!({"kind": "refused", "code": code});
    let strange = [
        (r#"{"sent_at":1,"body":{"text":7}}"#, &opened, &newer),
        (r#"{"sent_at":1,"body":{"text":"two","edit":"bodies"}}"#, &opened, &newer),
        (r#"{"sent_at":1,"body":"wave"}"#, &opened, &newer),
        (r#"{"body":{"text":"no time"}}"#, &malformed, &refused("malformed_content")),
        (r#"{"sent_at":1}"#, &malformed, &refused("malformed_content")),
        (r#"{"sent_at":1,"body":{"text":"one","text":"two"}}"#, &malformed, &refused("malformed_content")),
        ("no JSON", &malformed, &refused("malformed_content")),
    ];
    for (content, seen, notice) in strange {
        let judged = mina.done(json!({"do": "send_content", "room": room, "content": content}))?;
        assert_eq!(judged.get("seen"), Some(seen), "{content}");
        alice.done(&["sync"])?;
        assert_eq!(newest(&alice, &room)?.get("notice"), Some(notice), "{content}");
    }
    let spoiled = json!({"do": "send_content", "room": room, "content": "any", "spoil": true});
    assert_eq!(mina.done(spoiled)?.get("seen"), Some(&json!(["refused", "does_not_open"])));
    alice.done(&["sync"])?;
    assert_eq!(newest(&alice, &room)?.get("notice"), Some(&refused("does_not_open")));

    // None of it is in the way of what follows, and keys that are not known are passed over.
    let more = r#"{"mood":"fine","sent_at":1,"body":{"text":"이제 다시"}}"#;
    let judged = mina.done(json!({"do": "send_content", "room": room, "content": more}))?;
    assert_eq!(judged.get("seen"), Some(&opened));
    alice.done(&["sync"])?;
    assert_eq!(newest(&alice, &room)?.get("text"), Some(&json!("이제 다시")));
    Ok(())
}

#[test]
fn both_implementations_have_the_same_safety_number() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let mut mina = mina(&scene, &[&alice])?;
    alice.room(&["room", "direct", "mina"])?;
    let number = mina.done(json!({"do": "safety_number", "account": "alice"}))?;
    let digits = number.get("digits").and_then(Value::as_str).context("digits")?;
    alice.done(&["contact", "verify", "mina", "--number", digits])?;
    // Another number of the right form.
    let (head, last) = digits.split_at(digits.len() - 1);
    let other = format!("{head}{}", if last == "0" { "1" } else { "0" });
    alice.refused(&["contact", "verify", "mina", "--number", &other])?;
    Ok(())
}

/// The last line of a room.
fn newest(person: &Person, room: &str) -> anyhow::Result<Value> {
    person.done(&["history", room, "--limit", "1"])?.pop().context("a line")
}
