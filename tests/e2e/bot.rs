//! A program that hears and speaks with one vault.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use mildam_tests::{Listener, Person, Scene};
use serde_json::{Value, json};

use crate::Outcome;

/// Two friends and their room; bob knows it.
fn friends(scene: &Scene) -> Result<(Person, Person, String)> {
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    bob.done(&["sync"])?;
    Ok((alice, bob, room))
}

fn texts(person: &Person, room: &str) -> Result<Vec<String>> {
    Ok(person.texts(room)?.into_iter().map(|(_, text)| text).collect())
}

/// Tells a bot a command, and waits for its answer.
fn ask(bot: &mut Listener, order: &Value) -> Result<Value> {
    bot.tell(&order.to_string())?;
    bot.wait_answer(order.get("id").context("an id")?)
}

fn code(answer: &Value) -> Option<&str> {
    answer.pointer("/error/code")?.as_str()
}

// REQ L3: who listens can also speak, by further commands that find the one that listens.
#[test]
fn other_commands_work_beside_a_listener() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob, room) = friends(&scene)?;
    let mut listener = bob.listen()?;
    alice.done(&["send", &room, "ping"])?;
    listener.wait_text("ping")?;
    let sent = bob.done(&["send", &room, "pong"])?;
    assert_eq!(sent.first().and_then(|line| line.get("text")), Some(&json!("pong")));
    listener.wait_text("pong")?;
    bob.run(&["send", &room, "--stdin"], Some("여러 줄\n메시지\n"))?.done()?;
    assert_eq!(texts(&bob, &room)?, ["ping", "pong", "여러 줄\n메시지"]);
    assert_eq!(bob.done(&["search", "pong"])?.len(), 1);
    assert_eq!(bob.done(&["room", "list"])?.len(), 1);
    // Refusals are the same as when the command is alone, and people read the same text.
    assert_eq!(bob.refused(&["friend", "request", "nobody"])?, (1, "not_found".to_owned()));
    assert_eq!(bob.run(&["history"], None)?.code, 2);
    let empty = bob.run(&["vault", "protect"], Some(""))?;
    assert_eq!((empty.code, empty.error.map(|(code, _)| code)), (2, Some("usage".to_owned())));
    let mut shown = std::process::Command::new(mildam_tests::program("mildam")?);
    shown.arg("--home").arg(bob.home()).args(["history", &room, "--limit", "1"]);
    let shown = shown.env("MILDAM_PASSPHRASE", bob.passphrase()).stdin(Stdio::null()).output()?;
    ensure!(shown.status.success() && shown.stdout.starts_with(b"bob: "), "{shown:?}");
    // What needs the vault for itself does not get it.
    for arguments in [&["listen"] as &[&str], &["bot"], &["vault", "repair"]] {
        assert_eq!(bob.refused(arguments)?, (1, "vault_locked".to_owned()), "{arguments:?}");
    }
    alice.done(&["sync"])?;
    assert_eq!(texts(&alice, &room)?, ["ping", "pong", "여러 줄\n메시지"]);
    Ok(())
}

// REQ L1: a vault that is open for one command does not open for whoever asks.
#[test]
fn a_guest_needs_what_opens_the_vault() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let listener = alice.listen()?;
    let mut thief = alice.command(&["room", "list"])?;
    let output = thief.env("MILDAM_PASSPHRASE", "a guess").stdin(Stdio::null()).output()?;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()));
    ensure!(String::from_utf8_lossy(&output.stderr).contains("\"wrong_passphrase\""), "{output:?}");
    // Without a passphrase it is the keyring, which does not open this vault.
    let mut thief = alice.command(&["room", "list"])?;
    let output = thief.env_remove("MILDAM_PASSPHRASE").stdin(Stdio::null()).output()?;
    assert_eq!(output.status.code(), Some(1));
    ensure!(String::from_utf8_lossy(&output.stderr).contains("\"wrong_passphrase\""), "{output:?}");
    alice.done(&["room", "list"])?;
    // A passphrase that was changed meanwhile counts at once.
    let next = "another passphrase";
    alice.run(&["vault", "protect"], Some(next))?.done()?;
    assert_eq!(alice.refused(&["room", "list"])?, (1, "wrong_passphrase".to_owned()));
    let output = alice.command(&["room", "list"])?.env("MILDAM_PASSPHRASE", next).output()?;
    ensure!(output.status.success(), "{output:?}");
    listener.kill()
}

#[test]
fn a_listener_that_was_killed_is_in_nobodys_way() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    alice.listen()?.kill()?;
    if cfg!(unix) {
        ensure!(alice.home().join("host.mildam").exists(), "the socket of the killed one is left");
    }
    alice.done(&["room", "list"])?;
    let listener = alice.listen()?;
    alice.done(&["room", "list"])?;
    listener.kill()
}

// A socket's path has about a hundred bytes; a folder's may have more.
#[test]
fn a_listener_in_a_deep_folder_is_found() -> Outcome {
    let scene = Scene::start()?;
    let home = scene.stranger("deep").home().join("long".repeat(40));
    let alice = Person::new("alice", home);
    alice.sign_up(scene.relay.link())?;
    let listener = alice.listen()?;
    assert!(alice.done(&["room", "list"])?.is_empty());
    listener.kill()?;
    alice.done(&["room", "list"])?;
    // One that ends by itself clears away what the killed one left.
    let bot = alice.bot()?;
    alice.done(&["room", "list"])?;
    assert_eq!(bot.finish()?, 0);
    ensure!(!alice.home().join("host-at.mildam").exists());
    Ok(())
}

#[test]
fn a_guest_that_goes_away_leaves_the_listener_in_peace() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob, room) = friends(&scene)?;
    let mut listener = bob.listen()?;
    let mut waits = bob.command(&["send", &room, "read me", "--wait", "read", "--timeout", "3600"])?;
    let mut waits = waits.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let sent = listener.wait_text("read me")?;
    waits.kill()?;
    waits.wait()?;
    listener.wait_state(sent.get("id").and_then(Value::as_str).context("an id")?, "stored")?;
    assert_eq!(texts(&bob, &room)?, ["read me"]);
    alice.done(&["send", &room, "still there?"])?;
    listener.wait_text("still there?").map(drop)
}

#[test]
fn a_bot_answers_what_it_hears_once() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob, room) = friends(&scene)?;
    let mut bot = bob.bot()?;
    alice.done(&["send", &room, "ping"])?;
    let heard = bot.wait_text("ping")?;
    let answer = ask(
        &mut bot,
        &json!({"id": "1", "args": ["send", heard["room"], "--stdin", "--id", "ping-1", "--wait", "stored"],
            "stdin": "pong"}),
    )?;
    assert_eq!((&answer["exit"], &answer["error"]), (&json!(0), &Value::Null));
    assert_eq!(
        (&answer["output"][0]["text"], &answer["output"][0]["state"]),
        (&json!("pong"), &json!("stored"))
    );
    // Told again, it is the same message.
    let again = ask(&mut bot, &json!({"id": 2, "args": ["send", room, "pong", "--id", "ping-1"]}))?;
    assert_eq!(again["output"][0]["id"], answer["output"][0]["id"]);
    let refused = ask(&mut bot, &json!({"id": "3", "args": ["friend", "request", "nobody"]}))?;
    assert_eq!((&refused["exit"], code(&refused)), (&json!(1), Some("not_found")));
    // Its own other commands work beside it, too.
    assert_eq!(texts(&bob, &room)?, ["ping", "pong"]);
    assert_eq!(bot.finish()?, 0);
    alice.done(&["sync"])?;
    assert_eq!(texts(&alice, &room)?, ["ping", "pong"]);
    Ok(())
}

#[test]
fn a_bot_answers_every_line_and_ends_with_its_input() -> Outcome {
    let scene = Scene::start()?;
    let (_alice, bob, room) = friends(&scene)?;
    let mut bot = bob.bot()?;
    let long = format!(r#"{{"id":"long","args":["send","{room}","{}"]}}"#, "x".repeat(1024 * 1024));
    for line in ["nonsense", "{}", r#"{"args":"sync"}"#, long.as_str(), r#"{"args":["sync"],"stdim":"x"}"#] {
        bot.tell(line)?;
        let answer = bot.wait_answer(&Value::Null)?;
        assert_eq!((&answer["exit"], code(&answer)), (&json!(2), Some("usage")), "{answer}");
    }
    let orders = [
        json!(["dance"]),
        json!(["send", "--help"]),
        json!(["--version"]),
        json!(["listen"]),
        json!(["bot"]),
        json!(["vault", "repair"]),
        json!(["whoami", "--home", "elsewhere"]),
        json!(["login", "--id", "bob", "--password-stdin"]),
    ];
    for args in &orders {
        let answer = ask(&mut bot, &json!({"id": "wrong", "args": args}))?;
        assert_eq!((&answer["exit"], code(&answer)), (&json!(2), Some("usage")), "{answer}");
    }
    // More than are done at a time: each gets its answer.
    for number in 0..40 {
        bot.tell(&json!({"id": number, "args": ["room", "list"]}).to_string())?;
    }
    let mut missing: Vec<u64> = (0..40).collect();
    while !missing.is_empty() {
        let answer = bot.wait("an answer", |event| (event["event"] == "answer").then(|| event.clone()))?;
        assert_eq!(answer["output"][0]["room"], json!(room));
        missing.retain(|number| json!(number) != answer["id"]);
    }
    // What was told before the end is done.
    bot.tell(&json!({"id": "last", "args": ["send", room, "last words"]}).to_string())?;
    assert_eq!(bot.finish()?, 0);
    assert_eq!(texts(&bob, &room)?, ["last words"]);
    Ok(())
}
