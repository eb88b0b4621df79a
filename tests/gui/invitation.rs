//! Links that open the app: they fill forms in, and the person decides.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mildam_tests::{Person, Scene, program};
use serde_json::{Value, json};

use crate::desktop::Desktop;
use crate::greeted::Greeted;
use crate::story::{screenshots, sign_up};
use crate::window::Window;

// REQ D2, R1: from a second start with a link to a friend request, each step by a button.
#[test]
fn an_invitation_leads_a_newcomer_to_a_server_and_a_friend() -> Result<()> {
    let scene = Scene::start()?;
    let desktop = Desktop::start()?;
    let pictures = screenshots()?;
    let alice = scene.alice()?;
    let invitation = format!("{}/alice", scene.relay.link());

    let window = Window::open_with(&desktop, None, &[], 0)?;
    window.choose("language", "ko")?;
    window.part("server-link")?;
    ensure!(window.count("[data-testid='invitation']")? == 0, "nobody has invited yet");
    // A second start hands its link over and ends.
    let mut second = Command::new(program("mildam-desktop")?);
    desktop.dress(second.arg(&invitation));
    ensure!(second.status()?.success(), "the second start did not hand over");
    window.part_with("invitation", "alice 님이 이 서버로 초대했어요")?;
    ensure!(desktop.windows()?.len() == 1, "there is one window");
    let link = window.part("server-link")?.property("value")?;
    ensure!(link == json!(scene.relay.link()), "the form names {link}");
    for (language, theme) in [("ko", "light"), ("en", "dark")] {
        window.choose("language", language)?;
        window.choose("theme", theme)?;
        window.picture(&pictures.join(format!("invitation-welcome-{language}.png")))?;
    }
    window.resize(720, 520)?;
    window.picture(&pictures.join("invitation-welcome-small.png"))?;
    window.resize(920, 880)?;
    ensure!(window.count("[data-testid='connect']")? == 1, "nothing was connected without the button");

    window.part("connect")?.click()?;
    sign_up(&window, "newcomer", "새 친구", &pictures)?;
    ensure!(incoming(&alice)?.is_empty(), "nobody is asked without the button");
    window.part("words-later")?.click()?;
    window.part("invited")?;
    let asked = window.part("add-friend-id")?.property("value")?;
    ensure!(asked == json!("alice"), "the form names {asked}");
    window.picture(&pictures.join("invitation-friend.png"))?;
    ensure!(incoming(&alice)?.is_empty(), "nobody is asked without the button");
    window.part("add-friend-submit")?.click()?;
    window.part_with("toast", "on its way")?;
    ensure!(incoming(&alice)?.len() == 1, "alice is asked");
    window.gone("[data-testid='invited']")?;

    // An invitation of one's own, for the next one.
    window.part("copy-invitation")?.click()?;
    window.part_with("toast", "Copied")?;
    window.part("add-friend-id")?.click()?;
    window.focus()?;
    desktop.press(&["ctrl+v"])?;
    window.value("add-friend-id", &format!("{}/newcomer", scene.relay.link()))?;
    Ok(())
}

// REQ D2: somebody who has an account already.
#[test]
fn an_invitation_is_followed_only_where_the_account_lives() -> Result<()> {
    let Greeted { scene, desktop, alice, pictures, .. } = Greeted::start("안녕?")?;
    let carol = scene.carol()?;
    // By the form that opens a browser where the app is missing: the key says that it is the same server.
    let link = scene.relay.link().replace("mildam://", "https://").replace("/#", "/join#");
    let window = Window::open_with(&desktop, Some(alice.home()), &[&format!("{link}/carol")], 0)?;
    window.choose("language", "ko")?;
    window.unlock(&alice.passphrase())?;
    window.part("invited")?;
    window.value("add-friend-id", "carol")?;
    ensure!(incoming(&carol)?.is_empty(), "nobody is asked without the button");
    window.picture(&pictures.join("invitation-filled.png"))?;
    drop(window);

    let elsewhere = Scene::start()?;
    let link = format!("{}/dave", elsewhere.relay.link());
    let window = Window::open_with(&desktop, Some(alice.home()), &[&link], 0)?;
    window.unlock(&alice.passphrase())?;
    let address = elsewhere.relay.tls();
    window.part_with("invitation-elsewhere", address)?;
    window.picture(&pictures.join("invitation-elsewhere.png"))?;
    window.part("elsewhere-close")?.click()?;
    window.part("room-row")?;
    drop(window);
    ensure!(incoming(&alice)?.is_empty(), "the account is still on its server");

    // What is no invitation is said, and nothing else happens.
    let window = Window::open_with(&desktop, Some(alice.home()), &["mildam://nonsense"], 0)?;
    window.part_with("toast", "mildam://")?;
    window.unlock(&alice.passphrase())?;
    window.part("room-row")?;
    Ok(())
}

/// The requests that wait for an answer.
fn incoming(person: &Person) -> Result<Vec<Value>> {
    person.done(&["sync"])?;
    let lines = person.done(&["friend", "list"])?;
    let incoming = lines.first().and_then(|line| line.get("incoming")).and_then(Value::as_array);
    incoming.cloned().with_context(|| format!("no requests in {lines:?}"))
}
