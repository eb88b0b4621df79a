//! Commands of the same account, while the window is open.

use anyhow::{Result, ensure};

use crate::greeted::Greeted;
use crate::window::Window;

const GREETING: &str = "창을 열어 둘게";
const BY_COMMAND: &str = "명령으로 보낸 글";

// REQ D1: the app has the vault, and carries out what the command line asks for; not for everybody.
#[test]
fn commands_work_beside_the_window() -> Result<()> {
    let Greeted { scene: _scene, desktop, alice, bob, room, .. } = Greeted::start(GREETING)?;
    alice.done(&["sync"])?;
    let window = Window::open(&desktop, alice.home(), 0)?;
    // Before it is unlocked the vault is nobody's.
    alice.done(&["room", "list"])?;
    window.unlock(&alice.passphrase())?;
    window.part_with("room-row", GREETING)?.click()?;
    window.message(GREETING, "received")?;
    alice.done(&["send", &room, BY_COMMAND])?;
    window.message(BY_COMMAND, "stored")?;
    let mut thief = alice.command(&["history", &room])?;
    let output = thief.env("MILDAM_PASSPHRASE", "a guess").output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && stderr.contains("wrong_passphrase"), "{stderr}");
    ensure!(output.stdout.is_empty(), "a guess is told nothing");
    bob.done(&["sync"])?;
    ensure!(bob.texts(&room)?.iter().any(|(_, text)| text == BY_COMMAND), "it was sent");
    drop(window);
    alice.done(&["send", &room, "after it"]).map(drop)
}
