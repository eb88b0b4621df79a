//! The command line as scripts use it: shapes, exit codes, refusals.

use anyhow::{Context as _, ensure};
use mildam_tests::Scene;
use serde_json::{Value, json};

use crate::Outcome;

fn fields(line: &Value) -> Vec<&str> {
    let mut fields: Vec<_> =
        line.as_object().into_iter().flatten().map(|(field, _)| field.as_str()).collect();
    fields.sort_unstable();
    fields
}

// Each answer is one JSON object a line, in the documented shape.
#[test]
fn answers_are_json_objects_of_the_documented_shape() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let direct = alice.done(&["room", "direct", "bob"])?;
    assert_eq!(direct.iter().map(fields).collect::<Vec<_>>(), [["room"]]);
    let group = alice.done(&["room", "create", "--name", "점심", "bob"])?;
    assert_eq!(group.iter().map(fields).collect::<Vec<_>>(), [["room"]]);
    let room = group.first().and_then(|line| line["room"].as_str()).context("a room")?;
    let message = ["from", "id", "missing_before", "room", "sent_at", "seq", "state", "text"];
    let sent = alice.run(&["send", room, "--stdin"], Some("여러 줄\n메시지"))?.done()?;
    assert_eq!(sent.iter().map(fields).collect::<Vec<_>>(), [message]);
    assert_eq!(sent.first().map(|line| &line["text"]), Some(&json!("여러 줄\n메시지")));
    for arguments in [["history", room], ["search", "메시지"]] {
        let lines = alice.done(&arguments)?;
        let texts: Vec<_> = lines.iter().filter(|line| line["text"].is_string()).map(fields).collect();
        assert_eq!(texts, [message], "{arguments:?}");
    }
    let who = alice.done(&["whoami"])?;
    assert_eq!(who.first().map(|line| &line["account"]), Some(&json!("alice")));
    Ok(())
}

// REQ A1, A5: refusals have a code for programs, words for people, and the right exit code.
#[test]
fn refusals_have_a_code_words_and_an_exit_code() -> Outcome {
    let mut scene = Scene::start()?;
    let alice = scene.alice()?;
    let newcomer = scene.stranger("newcomer");

    // 2: used wrongly.
    for arguments in [&["send"] as &[&str], &["dance"], &["history"], &["signup", "--id", "x"]] {
        assert_eq!(newcomer.run(arguments, None)?.code, 2, "{arguments:?}");
    }
    // 1: refused, with a reason.
    let refused = |arguments: &[&str], input: &str| -> anyhow::Result<String> {
        let answer = newcomer.run(arguments, Some(input))?;
        let (code, message) = answer.error.with_context(|| format!("{arguments:?} is not refused"))?;
        ensure!(answer.code == 1, "{arguments:?}: exit code {} for {code}", answer.code);
        ensure!(message.len() > 10 && !message.contains("Error("), "not for people: {message}");
        Ok(code)
    };
    assert_eq!(refused(&["connect", "https://example.org"], "")?, "bad_link");
    assert_eq!(refused(&["whoami"], "")?, "no_account");
    newcomer.done(&["connect", scene.relay.link()])?;
    let sign_up = |id: &'static str, email: &'static str, password: &str| {
        refused(&["signup", "--id", id, "--email", email, "--password-stdin"], password)
    };
    let good = "correct horse battery";
    assert_eq!(sign_up("alice", "new@example.org", good)?, "account_taken");
    assert_eq!(sign_up("Not An Id!", "new@example.org", good)?, "bad_account");
    assert_eq!(sign_up("newcomer", "nonsense", good)?, "bad_email");
    assert_eq!(sign_up("newcomer", "new@example.org", "short")?, "bad_password");
    assert_eq!(alice.refused(&["friend", "request", "nobody"])?, (1, "not_found".to_owned()));
    assert_eq!(alice.refused(&["friend", "accept", "nobody"])?.0, 1);
    assert_eq!(alice.refused(&["send", &"A".repeat(43), "hi"])?.0, 1);
    // 3: offline.
    scene.relay.stop()?;
    assert_eq!(alice.refused(&["friend", "request", "bob"])?, (3, "offline".to_owned()));
    assert_eq!(newcomer.refused(&["connect", scene.relay.link()])?, (3, "offline".to_owned()));
    Ok(())
}

// REQ M1: ids are base64url and texts are free, so either may begin with a hyphen.
#[test]
fn rooms_and_texts_may_begin_with_a_hyphen() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    for text in ["-", "-n", "--limit 3", "- 우유\n- 계란"] {
        alice.done(&["send", &room, text])?;
        let found = alice.done(&["history", &room, "--limit", "1"])?;
        assert_eq!(found.first().map(|line| &line["text"]), Some(&json!(text)));
    }
    let unknown = format!("-_{}", "A".repeat(41));
    assert_eq!(alice.refused(&["history", &unknown, "--limit", "1"])?, (1, "not_found".to_owned()));
    assert_eq!(alice.refused(&["room", "leave", &unknown])?, (1, "not_found".to_owned()));
    let sent = alice.run(&["send", &unknown, "--stdin"], Some("-"))?;
    assert_eq!(sent.error.map(|(code, _)| code), Some("not_found".to_owned()));
    assert!(alice.done(&["search", "-없는말"])?.is_empty());
    Ok(())
}

// REQ L1: the vault opens with its passphrase only, and for one process at a time.
#[test]
fn a_vault_opens_with_its_passphrase_and_for_one_process() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let mut thief = alice.command(&["room", "list"])?;
    let output = thief.env("MILDAM_PASSPHRASE", "a guess").output()?;
    assert_eq!(output.status.code(), Some(1));
    ensure!(String::from_utf8_lossy(&output.stderr).contains("\"wrong_passphrase\""), "{output:?}");
    let listener = alice.listen()?;
    assert_eq!(alice.refused(&["vault", "repair"])?, (1, "vault_locked".to_owned()));
    listener.kill()?;
    alice.done(&["room", "list"]).map(drop)
}
