//! The main job, from the first window to the history that is still there when the relay is gone.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mildam_tests::{Scene, program};

use crate::desktop::Desktop;
use crate::window::Window;

/// What is typed, key by key, and what the Korean input method makes of it. The first one ends
/// with a syllable that is still being composed when Enter is pressed.
const KOREAN: [(&str, &str); 2] =
    [("dhsmf wjsurdp aksskwk", "오늘 저녁에 만나자"), ("whgdk. rmfja 7tldp qhk!", "좋아. 그럼 7시에 봐!")];
const ENGLISH: [&str; 2] = ["Yes, gladly! Where shall we meet?", "At the cafe by the station."];

/// Where the pictures go that the pages of the project show.
pub(crate) fn screenshots() -> Result<PathBuf> {
    let relay = program("mildam-relay")?;
    let folder = relay.ancestors().nth(2).context("the target folder")?.join("screenshots");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

// REQ A1, A4, R1, C1, M1, M2, L1, L2, L3, T7, T9, D1, D3
#[test]
fn two_people_talk_in_two_windows_and_keep_their_history() -> Result<()> {
    let mut scene = Scene::start()?;
    let desktop = Desktop::start()?;
    let screenshots = screenshots()?;
    let home = |name: &str| scene.stranger(name).home().to_path_buf();
    let (alice_home, bob_home) = (home("alice"), home("bob"));

    let alice = Window::open(&desktop, &alice_home, 0)?;
    let bob = Window::open(&desktop, &bob_home, 1)?;
    alice.choose("language", "ko")?;
    connect(&alice, scene.relay.link())?;
    sign_up(&alice, "alice", "앨리스", &screenshots)?;
    alice.part("words-confirm")?.click()?;
    connect(&bob, scene.relay.link())?;
    sign_up(&bob, "bob", "Bob", &screenshots)?;
    bob.part("words-later")?.click()?;
    bob.part("words-reminder")?;

    befriend(&alice, &bob)?;
    talk(&desktop, &alice, &bob)?;
    desktop.picture("root", &screenshots.join("conversation.png"))?;

    scene.relay.stop()?;
    for window in [&alice, &bob] {
        window.part("offline-banner")?;
    }
    // Written without a relay: it waits, also when the app is closed meanwhile.
    write(&desktop, &alice, "I will be late")?;
    alice.message("I will be late", "pending")?;
    drop(alice);
    drop(bob);

    let alice = Window::open(&desktop, &alice_home, 0)?;
    let bob = Window::open(&desktop, &bob_home, 1)?;
    // What each chose is theirs, and lasts.
    alice.find("html[lang='ko']")?;
    bob.find("html[lang='en']")?;
    bob.part("settings")?.click()?;
    bob.choose("theme", "dark")?;
    bob.part("settings-close")?.click()?;
    bob.find("html[data-theme='dark']")?;
    alice.find("html[data-theme='light']")?;
    for window in [&alice, &bob] {
        window.part("offline-banner")?;
        window.part("room-row")?.click()?;
        for text in KOREAN.map(|(_, text)| text).iter().chain(&ENGLISH) {
            window.part_with("message", text)?;
        }
        window.part("search-input")?.enter("저녁")?;
        window.part_with("search-hit", KOREAN[0].1)?;
        ensure!(window.count("[data-testid='search-hit']")? == 1, "one message has this word");
    }
    desktop.picture("root", &screenshots.join("offline.png"))?;

    scene.relay.restart()?;
    bob.part_with("message", "I will be late")?;
    bob.focus()?;
    alice.message("I will be late", "read")?;
    ensure!(bob.count("[data-testid='message']")? == 5, "every message is there once");
    Ok(())
}

fn connect(window: &Window<'_>, link: &str) -> Result<()> {
    window.part("server-link")?.enter(link)?;
    window.part("connect")?.click()
}

pub(crate) fn sign_up(window: &Window<'_>, account: &str, nickname: &str, screenshots: &Path) -> Result<()> {
    window.part("signup-id")?.enter(account)?;
    window.part("signup-nickname")?.enter(nickname)?;
    window.part("signup-email")?.enter(&format!("{account}@example.org"))?;
    window.part("signup-password")?.enter("correct horse battery staple")?;
    window.part("signup-submit")?.click()?;
    // The keys are made before one's eyes, step by step.
    window.part("keys")?;
    window.picture(&screenshots.join(format!("keys-{account}.png")))?;
    window.part("words")?;
    ensure!(window.count("[data-testid='words'] li")? == 12, "twelve recovery words");
    Ok(())
}

fn befriend(alice: &Window<'_>, bob: &Window<'_>) -> Result<()> {
    alice.part("tab-friends")?.click()?;
    alice.part("add-friend-id")?.enter("bob")?;
    alice.part("add-friend-greeting")?.enter("나야, 앨리스!")?;
    alice.part("add-friend-submit")?.click()?;
    bob.part("tab-friends")?.click()?;
    bob.part_with("friend-request", "나야, 앨리스!")?;
    bob.part("friend-accept")?.click()?;
    bob.find("[data-testid='friend-row'][data-account='alice']")?;
    alice.find("[data-testid='friend-row'][data-account='bob']")?.click()
}

fn talk(desktop: &Desktop, alice: &Window<'_>, bob: &Window<'_>) -> Result<()> {
    // The first message makes the room appear at the other side, unread.
    write_korean(desktop, alice, KOREAN[0])?;
    alice.message(KOREAN[0].1, "delivered")?;
    bob.part("tab-rooms")?.click()?;
    bob.part_with("room-row", KOREAN[0].1)?.click()?;
    bob.focus()?;
    bob.message(KOREAN[0].1, "received")?;
    alice.message(KOREAN[0].1, "read")?;

    write(desktop, bob, ENGLISH[0])?;
    alice.message(ENGLISH[0], "received")?;
    write(desktop, alice, ENGLISH[1])?;
    bob.message(ENGLISH[1], "received")?;
    bob.message(ENGLISH[0], "read")?;
    write_korean(desktop, bob, KOREAN[1])?;
    alice.message(KOREAN[1].1, "received")?;
    alice.focus()?;
    bob.message(KOREAN[1].1, "read")?;
    bob.focus()?;
    alice.message(ENGLISH[1], "read")?;
    for window in [alice, bob] {
        ensure!(window.count("[data-testid='message']")? == 4, "every message is there once");
    }
    Ok(())
}

/// Types a line and sends it with Enter.
fn write(desktop: &Desktop, window: &Window<'_>, text: &str) -> Result<()> {
    window.focus()?;
    window.part("composer")?.click()?;
    desktop.type_keys(text)?;
    desktop.press(&["Return"])
}

/// The same, with the Korean input method on meanwhile.
fn write_korean(desktop: &Desktop, window: &Window<'_>, (keys, text): (&str, &str)) -> Result<()> {
    window.focus()?;
    window.part("composer")?.click()?;
    desktop.press(&["Hangul"])?;
    desktop.type_keys(keys)?;
    desktop.press(&["Return", "Hangul"])?;
    window.part_with("message", text)?;
    let left = window.part("composer")?.property("value")?;
    ensure!(left == "", "the composer is empty after sending, not {left}");
    Ok(())
}
