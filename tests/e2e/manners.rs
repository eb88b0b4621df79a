//! What scripts, terminals and operators count on.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use mildam_tests::{Person, Scene};
use serde_json::{Value, json};

use crate::Outcome;

/// The command as people type it, who read text.
fn as_text(person: &Person, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(mildam_tests::program("mildam")?);
    command.arg("--home").arg(person.home()).args(arguments).env("MILDAM_PASSPHRASE", person.passphrase());
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn what_others_write_neither_drives_a_terminal_nor_forges_lines() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    let greeting = "hi\u{1b}]0;owned\u{7}\nmallory  Mallory  asks: hello";
    alice.done(&["friend", "request", "bob", "--greeting", greeting])?;
    bob.done(&["sync"])?;
    let mut shown = as_text(&bob, &["friend", "list"])?;
    ensure!(!shown.lines().any(|line| line.starts_with("mallory")), "{shown}");
    bob.done(&["friend", "accept", "alice"])?;
    alice.done(&["sync"])?;
    let room = alice.direct(&bob)?;
    let texts = [
        "title \u{1b}]0;owned\u{7}",
        "c1 \u{9b}31m",
        "cr\rbob: forged",
        "bidi \u{202e}gnp",
        "ok\nalice: mine",
    ];
    for text in texts {
        alice.done(&["send", &room, text])?;
    }
    bob.done(&["sync"])?;
    for arguments in [&["history", &room] as &[&str], &["search", "ok"], &["room", "list"]] {
        shown += &as_text(&bob, arguments)?;
    }
    let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    ensure!(!shown.contains(acts), "{shown:?}");
    ensure!(!shown.lines().any(|line| line == "alice: mine"), "{shown}");
    // JSON is exact, and a line for every reader.
    let exact: Vec<String> = bob.texts(&room)?.into_iter().map(|(_, text)| text).collect();
    assert_eq!(exact, texts);
    alice.done(&["send", &room, "one\u{2028}two\u{85}three"])?;
    let mut last = alice.command(&["history", &room, "--limit", "1"])?;
    let line = String::from_utf8(last.output()?.stdout)?;
    ensure!(!line.contains(['\u{2028}', '\u{85}']), "{line:?}");
    assert_eq!(serde_json::from_str::<Value>(&line)?.get("text"), Some(&json!("one\u{2028}two\u{85}three")));
    Ok(())
}

#[test]
fn names_that_show_nothing_are_refused() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    for name in ["\u{3164}", "\u{200b}", "\u{202e}bob", "a\u{2028}b", "\u{ad}"] {
        assert_eq!(alice.refused(&["room", "create", "--name", name])?, (1, "bad_name".to_owned()));
        let stranger = scene.stranger("mallory");
        stranger.done(&["connect", scene.relay.link()])?;
        let arguments =
            ["signup", "--id", "mallory", "--email", "m@example.org", "--nickname", name, "--password-stdin"];
        let refused = stranger.run(&arguments, Some("a good password"))?;
        assert_eq!(refused.error.map(|(code, _)| code), Some("bad_name".to_owned()), "{name:?}");
    }
    Ok(())
}

#[test]
fn an_output_that_nobody_reads_changes_nothing() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    // The reader is gone before anything is written.
    let mut send = alice.command(&["send", &room, "anybody there?"])?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let output = send.stdout(writer).stderr(Stdio::piped()).stdin(Stdio::null()).output()?;
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    bob.done(&["sync"])?;
    assert_eq!(bob.texts(&room)?.len(), 1);
    // A disk that is full is another thing, and standard error may be gone as well.
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let status = alice.command(&["history", &room])?.stdout(full).stderr(writer).status()?;
    assert_eq!(status.code(), Some(1));
    Ok(())
}

// REQ L1: a secret that was not filled in is an accident, and makes nothing.
#[test]
fn an_empty_passphrase_is_refused_before_anything_is_made() -> Outcome {
    let scene = Scene::start()?;
    let person = scene.stranger("nobody");
    for empty in ["", "  \n", "\t"] {
        let mut command = person.command(&["friend", "list"])?;
        let output = command.env("MILDAM_PASSPHRASE", empty).stdin(Stdio::null()).output()?;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        ensure!(String::from_utf8_lossy(&output.stderr).contains("MILDAM_PASSPHRASE"), "{output:?}");
        ensure!(!person.home().exists());
    }
    Ok(())
}

// REQ A3: what relay and client keep is their owner's, whatever the umask, in a folder that others made.
#[cfg(unix)]
#[test]
fn files_are_made_for_their_owner_only() -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;

    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let mut folders = vec![scene.relay.data().to_owned(), alice.home().to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let mode = entry.metadata()?.permissions().mode() & 0o777;
            ensure!(mode & 0o077 == 0, "{}: {mode:o}", entry.path().display());
            seen += 1;
        }
    }
    ensure!(seen > 10, "only {seen} files");
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_hang_up_does_not_end_the_relay() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let mut listener = bob.listen()?;
    scene.relay.hang_up()?;
    alice.done(&["send", &room, "still there"])?;
    listener.wait_text("still there")?;
    drop(listener);
    let log = scene.relay.log()?;
    ensure!(log.contains("the log follows the configuration"), "{log}");
    Ok(())
}

// REQ S1: who starts the relay with a log that nobody reads, or a terminal that is gone, has a relay.
#[test]
fn a_relay_starts_and_serves_without_an_output() -> Outcome {
    let mut scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    scene.relay.stop()?;
    scene.relay.restart_unheard()?;
    alice.done(&["send", &room, "heard"])?;
    bob.done(&["sync"])?;
    let heard = bob.texts(&room)?;
    assert_eq!(heard.last().map(|(_, text)| text.as_str()).context("a text")?, "heard");
    Ok(())
}

#[test]
fn a_program_reads_nothing_but_json() -> Outcome {
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let lines = |stderr: &[u8]| -> anyhow::Result<Vec<serde_json::Value>> {
        let text = String::from_utf8(stderr.to_vec())?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
            .collect()
    };
    // What is logged, and what cannot even be understood.
    let output = alice.command(&["sync"])?.env("MILDAM_LOG", "debug").output()?;
    assert!(lines(&output.stderr)?.len() > 3);
    for arguments in [&["dance"][..], &["send"], &["history", "ROOM", "--limit", "many"]] {
        let output = alice.command(arguments)?.output()?;
        assert_eq!(output.status.code(), Some(2));
        let told = lines(&output.stderr)?;
        assert_eq!(told.first().and_then(|line| line.pointer("/error/code")), Some(&"usage".into()));
        assert_eq!((told.len(), output.stdout.len()), (1, 0));
    }
    // Help is what was asked for.
    let output = alice.command(&["--help"])?.output()?;
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    Ok(())
}
