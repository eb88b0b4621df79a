//! Who is who: the safety number compared, the app locked, and an account that comes back.

use anyhow::{Context as _, Result, ensure};
use mildam_tests::Scene;
use serde_json::Value;

use crate::desktop::Desktop;
use crate::story::screenshots;
use crate::window::Window;

const GREETING: &str = "안녕, 앨리스! 잘 지내지?";
const AFTER: &str = "다시 돌아왔구나, 반가워!";

// REQ A4, A5, A7, C2, D1
#[test]
fn an_identity_is_compared_locked_away_and_brought_back_with_its_words() -> Result<()> {
    let scene = Scene::start()?;
    let desktop = Desktop::start()?;
    let pictures = screenshots()?;
    let (alice, bob) = (scene.alice()?, scene.bob()?);
    scene.befriend(&alice, &bob)?;
    let room = bob.direct(&alice)?;
    bob.done(&["send", &room, GREETING])?;
    let words = first(&alice.done(&["words", "--korean"])?, "words")?;
    let words: Vec<String> = serde_json::from_value(words)?;

    // The vault opens with its passphrase only.
    let window = Window::open(&desktop, alice.home(), 0)?;
    window.choose("language", "ko")?;
    window.part("unlock-passphrase")?.enter("not the passphrase")?;
    window.part("unlock")?.click()?;
    window.part("problem")?;
    window.part("unlock-passphrase")?.clear()?;
    unlock(&window, &alice.passphrase())?;

    // Bob reads his number out, a wrong digit is noticed, the right one is not.
    window.part_with("room-row", GREETING)?.click()?;
    window.part("open-details")?.click()?;
    window.find("[data-testid='open-safety'][data-account='bob']")?.click()?;
    window.part("safety-number")?;
    window.picture(&pictures.join("safety-number.png"))?;
    let number = first(&bob.done(&["contact", "show", "alice"])?, "safety_number")?;
    let groups: Vec<String> = serde_json::from_value(number["groups"].clone())?;
    window.part("safety-enter")?.click()?;
    window.part("safety-text")?.enter(&"0".repeat(60))?;
    window.part("safety-compare")?.click()?;
    window.part("problem")?;
    ensure!(window.count("[data-testid='verified']")? == 0, "a wrong number compares nothing");
    window.part("safety-text")?.clear()?;
    window.part("safety-text")?.enter(&groups.join(" "))?;
    window.part("safety-compare")?.click()?;
    window.part("is-verified")?;
    window.picture(&pictures.join("safety-compared.png"))?;
    window.part("safety-close")?.click()?;
    window.find("h1 [data-testid='verified']")?;

    // Locked, the window shows nothing of what it knows, and lets nobody in.
    window.part("details-close")?.click()?;
    window.part("settings")?.click()?;
    window.picture(&pictures.join("settings.png"))?;
    window.part("lock")?.click()?;
    window.part("unlock-passphrase")?;
    ensure!(!window.text()?.contains("안녕"), "a locked window shows no message");
    window.picture(&pictures.join("locked.png"))?;
    unlock(&window, &alice.passphrase())?;
    window.part_with("room-row", GREETING)?.click()?;
    window.find("h1 [data-testid='verified']")?;

    // A new computer, with nothing but the words.
    let home = scene.stranger("alice's new computer");
    let new = Window::open(&desktop, home.home(), 1)?;
    new.choose("language", "ko")?;
    new.part("server-link")?.enter(scene.relay.link())?;
    new.part("connect")?.click()?;
    new.part("recover-open")?.click()?;
    new.part("recover-id")?.enter("alice")?;
    new.part("recover-password")?.enter("새로운 비밀번호 1234")?;
    new.part("recover-words")?.enter(&words[..11].join(" "))?;
    new.part("recover-submit")?.click()?;
    new.part_with("problem", "11")?;
    new.picture(&pictures.join("recover.png"))?;
    new.part("recover-words")?.enter(&format!("  {}", words[11]))?;
    new.part("recover-submit")?.click()?;
    new.part("room-row")?.click()?;
    new.part("notice")?;
    window.part("notice-device_removed")?;
    window.part("logged-out-banner")?;
    bob.done(&["send", &room, AFTER])?;
    new.part_with("message", AFTER)?;
    ensure!(new.count("[data-testid='message']")? == 1, "what was sent before cannot be read");
    desktop.picture("root", &pictures.join("recovered.png"))?;
    // The lost device keeps what it has, and gets nothing more.
    window.part_with("message", GREETING)?;
    ensure!(window.count("[data-testid='message']")? == 1, "a device that was removed gets nothing");
    Ok(())
}

fn unlock(window: &Window<'_>, passphrase: &str) -> Result<()> {
    window.part("unlock-passphrase")?.enter(passphrase)?;
    window.part("unlock")?.click()
}

fn first(lines: &[Value], field: &str) -> Result<Value> {
    let value = lines.first().and_then(|line| line.get(field));
    value.cloned().with_context(|| format!("no {field} in {lines:?}"))
}
