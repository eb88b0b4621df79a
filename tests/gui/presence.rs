//! Who is online and who is writing, as two people see it of each other, and where one is logged in.

use anyhow::{Result, ensure};

use crate::greeted::Greeted;
use crate::window::Window;

const GREETING: &str = "거기 있어?";
const DOT: &str = "[data-testid='online-dot']";
const WRITERS: &str = "[data-testid='writers']";

// REQ T9, M5, A5
#[test]
fn a_friend_is_seen_coming_writing_hiding_and_going() -> Result<()> {
    let Greeted { scene: _scene, desktop, alice, bob, pictures, .. } = Greeted::start(GREETING)?;
    let hers = Window::open(&desktop, alice.home(), 0)?;
    hers.choose("language", "ko")?;
    hers.unlock(&alice.passphrase())?;
    hers.part_with("room-row", GREETING)?.click()?;
    ensure!(hers.count(DOT)? == 0, "nobody else is there yet");

    let his = Window::open(&desktop, bob.home(), 1)?;
    his.choose("language", "en")?;
    his.choose("theme", "dark")?;
    his.unlock(&bob.passphrase())?;
    his.part("room-row")?.click()?;
    his.part_with("online", "online")?;
    hers.find(&format!("[data-testid='room-row'] {DOT}"))?;
    hers.part_with("online", "온라인")?;

    // He writes, key by key. She sees it in the conversation and in the list, and then what he wrote.
    his.focus()?;
    his.part("composer")?.click()?;
    desktop.type_keys("here I am")?;
    hers.part_with("writers", "bob 님이 입력하고 있어요")?;
    hers.part_with("room-row", "입력하고 있어요")?;
    desktop.picture("root", &pictures.join("presence-writing.png"))?;
    desktop.press(&["Return"])?;
    hers.message("here I am", "received")?;
    hers.gone(WRITERS)?;
    hers.part_with("room-row", "here I am")?;

    // What he writes and leaves is told for some seconds only. It takes long enough to be told again.
    his.part("composer")?.click()?;
    desktop.type_keys(&"never mind, I had better say it later, at home. ".repeat(3))?;
    hers.part("writers")?;
    hers.gone(WRITERS)?;

    // Where one is logged in: here, and nowhere else.
    hers.part("settings")?.click()?;
    hers.find("[data-testid='device']")?;
    hers.part_with("device", "이 기기")?;
    ensure!(hers.count("[data-testid='device']")? == 1, "one device");
    ensure!(hers.count("[data-testid='device-end']")? == 0, "this device is not logged out from the list");
    hers.picture(&pictures.join("presence-settings.png"))?;
    hers.part("settings-close")?.click()?;

    // Hidden, he is not seen, and sees nobody.
    his.part("settings")?.click()?;
    his.part("presence-visible")?.click()?;
    his.gone(DOT)?;
    hers.gone(DOT)?;
    hers.gone("[data-testid='online']")?;
    his.resize(720, 520)?;
    his.picture(&pictures.join("presence-hidden.png"))?;
    his.part("presence-visible")?.click()?;
    his.find(DOT)?;
    hers.find(DOT)?;
    his.part("settings-close")?.click()?;

    // In the list of friends, too, until he goes.
    hers.part("tab-friends")?.click()?;
    hers.find(&format!("[data-testid='friend-row'][data-account='bob'] {DOT}"))?;
    hers.picture(&pictures.join("presence-friends.png"))?;
    drop(his);
    hers.gone(DOT)?;
    Ok(())
}
