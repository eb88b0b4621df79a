//! A client whose disk takes nothing any more, and then does again.
//!
//! The limit on the size of files (`ulimit -f`) is a full disk that needs no mount: the system refuses each
//! write beyond it, to the real store as well, and it can be lifted while the program runs.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mildam_tests::{Listener, Person, Scene};
use serde_json::Value;

use crate::Outcome;

/// Starts `mildam` so that a write beyond the limit is an error, not the end of the program.
fn limited(person: &Person, arguments: &[&str]) -> Result<Command> {
    let plain = person.command(arguments)?;
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ok(command)
}

/// How many bytes a running program may write into a file from now on.
fn limit(listener: &Listener, bytes: &str) -> Outcome {
    let pid = listener.pid().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
    ensure!(status.context("cannot run prlimit")?.success(), "the limit was not set");
    Ok(())
}

fn fault(event: &Value) -> Option<Option<String>> {
    Some(event.get("state")?.get("storage_fault")?.as_str().map(str::to_owned))
}

// REQ L1, M3: what came while nothing could be stored comes once there is room, without a restart.
#[test]
fn a_client_goes_on_by_itself_when_its_disk_has_room_again() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let mut listener = Listener::start(limited(&bob, &["listen"])?)?;
    listener.wait_online()?;
    alice.done(&["send", &room, "before"])?;
    listener.wait_text("before")?;
    for round in ["one", "two"] {
        limit(&listener, "0")?;
        alice.done(&["send", &room, round])?;
        let code = listener.wait("a fault of the disk", |event| fault(event).flatten())?;
        assert_eq!(code, "disk_full");
        limit(&listener, "unlimited")?;
        listener.wait("the end of the fault", |event| fault(event)?.is_none().then_some(()))?;
        listener.wait_text(round)?;
    }
    drop(listener);
    let texts: Vec<String> = bob.texts(&room)?.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["before", "one", "two"]);
    Ok(())
}

// REQ L1: a command on a full disk says so, changes nothing, and works when it is tried again.
#[test]
fn a_command_on_a_full_disk_says_what_is_wrong() -> Outcome {
    let scene = Scene::start()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = alice.direct(&bob)?;
    let plain = limited(&alice, &["send", &room, "no room"])?;
    let mut command = Command::new("prlimit");
    command.arg("--fsize=0:").arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains(r#""code":"disk_full""#), "{stderr}");
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    alice.done(&["send", &room, "room again"])?;
    bob.done(&["sync"])?;
    let texts: Vec<String> = bob.texts(&room)?.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["room again"]);
    Ok(())
}
