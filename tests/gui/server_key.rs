//! A server that shows another key.

use anyhow::{Context as _, Result, ensure};

use crate::greeted::Greeted;
use crate::window::Window;

const GREETING: &str = "새 열쇠 이야기 들었어?";
const WAITS: &str = "this waits for a decision";
const BANNER: &str = "[data-testid='server-key-banner']";

// REQ T2, T7: nothing is sent to a server with another key until the person has taken it, in two steps.
#[test]
fn a_changed_server_key_is_shown_and_taken_in_two_steps_only() -> Result<()> {
    let Greeted { mut scene, desktop, alice, pictures, .. } = Greeted::start(GREETING)?;
    let known = fingerprint(scene.relay.link())?;
    let window = Window::open(&desktop, alice.home(), 0)?;
    window.choose("language", "ko")?;
    window.unlock(&alice.passphrase())?;
    window.part_with("room-row", GREETING)?.click()?;
    window.message(GREETING, "received")?;

    // The same relay with another key, as after a disk that was lost, or as somebody in between.
    scene.relay.stop()?;
    std::fs::remove_file(scene.relay.data().join("server-key.der"))?;
    scene.relay.restart()?;
    let found = fingerprint(scene.relay.link())?;
    ensure!(known != found, "the relay has a new key");
    window.part("server-key-banner")?;
    window.picture(&pictures.join("server-key-banner.png"))?;
    window.part("composer")?.enter(WAITS)?;
    window.part("send")?.click()?;
    window.message(WAITS, "pending")?;

    window.part("server-key-open")?.click()?;
    for (part, key) in [("known", &known), ("found", &found)] {
        window.find(&format!("[data-testid='server-key-{part}'] [data-fingerprint='{key}']"))?;
    }
    window.picture(&pictures.join("server-key-ko.png"))?;
    window.resize(720, 520)?;
    window.picture(&pictures.join("server-key-small.png"))?;
    window.part("server-key-keep")?.click()?;
    window.gone(BANNER)?;
    window.message(WAITS, "pending")?;
    drop(window);

    // The next start asks again. One press does not take the key.
    let window = Window::open(&desktop, alice.home(), 0)?;
    window.choose("language", "en")?;
    window.choose("theme", "dark")?;
    window.unlock(&alice.passphrase())?;
    window.part("room-row")?.click()?;
    window.part("server-key-open")?.click()?;
    window.picture(&pictures.join("server-key-en.png"))?;
    window.part("server-key-accept")?.click()?;
    window.part("server-key-sure")?;
    window.picture(&pictures.join("server-key-sure.png"))?;
    ensure!(window.count(BANNER)? == 1, "the key was taken by one press");
    window.message(WAITS, "pending")?;
    window.part("server-key-accept-confirm")?.click()?;
    desktop.asked()?;
    desktop.picture("root", &pictures.join("server-key-asked.png"))?;
    desktop.confirm()?;
    window.gone(BANNER)?;
    window.message(WAITS, "stored")?;
    Ok(())
}

fn fingerprint(link: &str) -> Result<String> {
    let (_, fingerprint) = link.split_once('#').context("a link without a fingerprint")?;
    Ok(fingerprint.to_owned())
}
