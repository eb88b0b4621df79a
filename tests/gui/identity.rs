//! Who is who: the safety number compared, the app locked, and an account that comes back.

use anyhow::{Context as _, Result, ensure};
use mildam_tests::{Person, Scene};
use mildam_vault::{Changes, Unlock, Vault};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::greeted::Greeted;
use crate::window::Window;

const GREETING: &str = "안녕, 앨리스! 잘 지내지?";
const AFTER: &str = "다시 돌아왔구나, 반가워!";

// REQ A4, A5, C2, C4, L1
#[test]
fn an_identity_is_compared_locked_away_and_brought_back_with_its_words() -> Result<()> {
    let Greeted { scene, desktop, alice, bob, room, pictures } = Greeted::start(GREETING)?;
    let words = first(&alice.done(&["words", "--korean"])?, "words")?;
    let words: Vec<String> = serde_json::from_value(words)?;

    // The vault opens with its passphrase only.
    let window = Window::open(&desktop, alice.home(), 0)?;
    window.choose("language", "ko")?;
    window.unlock("not the passphrase")?;
    window.part("problem")?;
    window.part("unlock-passphrase")?.clear()?;
    window.unlock(&alice.passphrase())?;

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
    desktop.confirm()?;
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
    window.unlock(&alice.passphrase())?;
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

// REQ C4: whom Alice has compared shows another identity. Nothing is sent until she decides.
#[test]
fn a_changed_identity_stops_sending_until_it_is_decided() -> Result<()> {
    // The scene holds the relay.
    let Greeted { scene: _scene, desktop, alice, bob, room, pictures } = Greeted::start(GREETING)?;
    alice.done(&["sync"])?;
    // The Bob whom she has known is another one, of another relay.
    let elsewhere = Scene::start()?;
    know(&alice, &elsewhere.bob()?)?;
    alice.done(&["contact", "verify", "bob"])?;
    let refused = alice.refused(&["send", &room, AFTER])?;
    ensure!(refused == (1, "identity_changed".to_owned()), "{refused:?}");

    let window = Window::open(&desktop, alice.home(), 0)?;
    window.choose("language", "ko")?;
    window.unlock(&alice.passphrase())?;
    window.part("room-row")?.click()?;
    window.part("blocked")?;
    window.message(AFTER, "pending")?;
    ensure!(window.count("[data-testid='composer']")? == 0, "nothing can be written meanwhile");
    ensure!(window.count("h1 [data-testid='verified']")? == 0, "the mark is gone");
    window.picture(&pictures.join("identity-blocked.png"))?;
    bob.done(&["sync"])?;
    ensure!(bob.texts(&room)?.iter().all(|(_, text)| text != AFTER), "it was sent all the same");

    window.part("decide")?.click()?;
    window.part("identity-changed")?;
    window.picture(&pictures.join("identity-changed.png"))?;
    window.part("identity-accept")?.click()?;
    desktop.confirm()?;
    window.message(AFTER, "stored")?;
    window.part("composer")?;
    bob.done(&["sync"])?;
    ensure!(bob.texts(&room)?.iter().any(|(_, text)| text == AFTER), "what waited goes out");
    ensure!(window.count("h1 [data-testid='verified']")? == 0, "the new identity was not compared");
    Ok(())
}

/// Puts what `other` has of its own account into `person`'s vault, as what it knows of that account.
fn know(person: &Person, other: &Person) -> Result<()> {
    let open = |person: &Person| {
        let passphrase = Unlock::Passphrase(Zeroizing::new(person.passphrase()));
        Vault::open(person.home(), passphrase).context("the vault does not open")
    };
    let account = other.account().parse()?;
    let row = open(other)?.account(&account)?.context("the own account")?;
    let mut changes = Changes::new();
    changes.put_account(&account, row.to_vec());
    open(person)?.commit(changes)?;
    Ok(())
}

fn first(lines: &[Value], field: &str) -> Result<Value> {
    let value = lines.first().and_then(|line| line.get(field));
    value.cloned().with_context(|| format!("no {field} in {lines:?}"))
}
