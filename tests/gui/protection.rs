//! What protects the messages on a computer: another passphrase, and a vault that is repaired.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::greeted::Greeted;
use crate::window::Window;

const GREETING: &str = "이 글은 남아 있어야 해요.";

// REQ L1
#[test]
fn a_passphrase_is_changed_and_a_damaged_vault_is_repaired() -> Result<()> {
    let Greeted { scene: _scene, desktop, alice, pictures, .. } = Greeted::start(GREETING)?;
    alice.done(&["sync"])?;
    alice.done(&["vault", "erase"])?;

    let next = "새로운 암호, 아주 길게";
    let window = Window::open(&desktop, alice.home(), 0)?;
    look(&window)?;
    window.unlock(&alice.passphrase())?;
    window.part_with("room-row", GREETING)?;
    window.part("settings")?.click()?;
    window.part("protection-open")?.click()?;
    let fill = |current: &str, typed: &str, repeat: &str| -> Result<()> {
        for (field, text) in [("current", current), ("next", typed), ("repeat", repeat)] {
            let field = window.part(&format!("protection-{field}"))?;
            field.clear()?;
            field.enter(text)?;
        }
        window.part("protection-submit")?.click()
    };
    fill(&alice.passphrase(), "짧아", "짧아")?;
    window.part_with("problem", "8 characters")?;
    fill(&alice.passphrase(), next, "다른 암호를 적었네")?;
    window.part_with("problem", "differ")?;
    fill("not the passphrase", next, next)?;
    window.part_with("problem", "This is not the passphrase")?;
    window.picture(&pictures.join("protection.png"))?;
    fill(&alice.passphrase(), next, next)?;
    window.part("protection-open")?;
    ensure!(window.count("[data-testid='problem']")? == 0, "it was changed");
    drop(window);

    // A page of the store turns to dust while the app is not running.
    let store = alice.home().join("store/db");
    let mut bytes = std::fs::read(&store).context("the store")?;
    let page = bytes.len().min(4096);
    bytes.iter_mut().take(page).for_each(|byte| *byte = 0xab);
    std::fs::write(&store, bytes)?;
    let window = Window::open(&desktop, alice.home(), 0)?;
    look(&window)?;
    window.unlock(&alice.passphrase())?;
    window.part_with("problem", "This is not the passphrase")?;
    window.part("unlock-passphrase")?.clear()?;
    window.unlock(next)?;
    window.part("repair-passphrase")?.enter(next)?;
    window.picture(&pictures.join("repair.png"))?;
    window.part("repair")?.click()?;
    window.part("notice-vault_repaired")?;
    window.part_with("room-row", GREETING)?.click()?;
    window.part_with("message", GREETING)?;
    window.picture(&pictures.join("repaired.png"))?;

    // The keyring in place of a passphrase: the next window asks for nothing, and cannot be locked.
    window.part("settings")?.click()?;
    window.part("protection-open")?.click()?;
    window.part("protection-current")?.enter(next)?;
    window.part("protection-keyring")?.click()?;
    window.part_with("protection-open", "Choose")?;
    ensure!(window.count("[data-testid='lock']")? == 0, "without a passphrase nothing would unlock it");
    drop(window);
    let window = Window::open(&desktop, alice.home(), 0)?;
    window.part_with("room-row", GREETING)?;

    // With the keyring there is no passphrase to know: the person is asked where no script can answer.
    window.part("settings")?.click()?;
    window.part("protection-open")?.click()?;
    window.part("protection-next")?.enter(next)?;
    window.part("protection-repeat")?.enter(next)?;
    window.part("protection-submit")?.click()?;
    desktop.refuse("Return")?;
    window.find("[data-testid='protection-submit']:enabled")?;
    ensure!(window.count("[data-testid='problem']")? == 0, "who refuses is told of no problem");
    let protection = window.call("protection", &json!({}))?;
    ensure!(protection == json!({"value": "keyring"}), "it was changed all the same: {protection}");
    window.part("protection-submit")?.click()?;
    desktop.confirm()?;
    window.part("lock")?;
    let protection = window.call("protection", &json!({}))?;
    ensure!(protection == json!({"value": "passphrase"}), "it was not changed: {protection}");
    Ok(())
}

/// In English and dark; the other stories are told in Korean and light.
fn look(window: &Window<'_>) -> Result<()> {
    window.choose("language", "en")?;
    window.choose("theme", "dark")
}
