//! What matters is asked for outside the web view, where no script can answer.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::greeted::Greeted;
use crate::window::Window;

const GREETING: &str = "우리 번호를 비교해 볼까?";

// REQ C4, L1
#[test]
fn what_is_not_confirmed_is_not_done() -> Result<()> {
    let Greeted { scene: _scene, desktop, alice, pictures, .. } = Greeted::start(GREETING)?;
    let window = Window::open(&desktop, alice.home(), 0)?;
    window.choose("language", "en")?;
    window.unlock(&alice.passphrase())?;
    window.part_with("room-row", GREETING)?.click()?;
    window.part("open-details")?.click()?;
    window.find("[data-testid='open-safety'][data-account='bob']")?.click()?;

    for key in ["Return", "Escape"] {
        window.part("verify")?.click()?;
        desktop.asked()?;
        desktop.picture("root", &pictures.join("asked.png"))?;
        // One question at a time, and the second call is answered at once.
        for (command, arguments) in [
            ("set_verified", json!({"account": "bob", "verified": true})),
            ("erase_now", json!({})),
            ("log_out", json!({})),
            ("change_unlock", json!({"current": null, "next": "a ransom"})),
        ] {
            let answer = window.call(command, &arguments)?;
            ensure!(code(&answer) == Some("not_confirmed"), "{command}: {answer}");
        }
        ensure!(desktop.questions()?.len() == 1, "a second question was asked");
        desktop.refuse(key)?;
        ensure!(trust(&window)? == "unverified", "{key} confirms");
        ensure!(window.count("[data-testid='is-verified']")? == 0, "it shows what was not done");
        ensure!(
            window.count("[data-testid='problem'], [data-testid='toast']")? == 0,
            "it tells of a problem"
        );
    }

    // What no capability names, cannot be called at all.
    let answer = window.call("plugin:window|close", &json!({"label": "main"}))?;
    ensure!(answer.get("error").is_some(), "the window may do more than it needs: {answer}");

    window.part("verify")?.click()?;
    desktop.confirm()?;
    window.part("is-verified")?;
    ensure!(trust(&window)? == "verified", "what was confirmed is not done");
    // To trust somebody less needs nobody's leave.
    window.part("unverify")?.click()?;
    window.part("verify")?;
    ensure!(desktop.questions()?.is_empty(), "taking it back was asked about");
    ensure!(trust(&window)? == "unverified", "the mark is still there");
    Ok(())
}

fn code(answer: &Value) -> Option<&str> {
    answer.get("error")?.get("code")?.as_str()
}

/// How far Alice knows Bob, by what her vault says.
fn trust(window: &Window<'_>) -> Result<String> {
    let contact = window.call("contact", &json!({"account": "bob"}))?;
    let trust = contact.pointer("/value/trust").and_then(Value::as_str);
    Ok(trust.with_context(|| format!("no contact: {contact}"))?.to_owned())
}
