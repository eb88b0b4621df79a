//! What goes wrong for a person, and what they can do about it: a full disk, a message that cannot be sent,
//! two friends with one name.

use anyhow::{Context as _, Result, ensure};
use mildam_tests::{Person, Scene, copy_folder};

use crate::desktop::Desktop;
use crate::greeted::Greeted;
use crate::story::screenshots;
use crate::window::{Window, wait_for};

const GREETING: &str = "디스크 좀 비웠어?";
const MEANWHILE: &str = "그럼 내일 보자!";
const KEPT: &str = "지금 비우고 있어";
const FULL: &str = "[data-testid='storage-banner']";

/// What the app may still write into a file when its disk is full. WebDriver needs some of it; to open the
/// vault again needs more.
const ROOM: &str = "65536";
/// Together these are more than [`ROOM`], wherever in its file the vault writes.
const LONG: usize = 6;

// REQ L1, L3, M3: nothing that was written or is on its way is lost to a full disk, and nobody has to restart.
#[test]
fn a_full_disk_is_told_and_loses_nothing() -> Result<()> {
    let Greeted { scene: _scene, desktop, alice, bob, room, pictures } = Greeted::start(GREETING)?;
    // What fills the disk goes to a room of its own.
    let library = bob.room(&["room", "create", "--name", "자료실", "alice"])?;
    alice.done(&["sync"])?;
    let window = Window::open(&desktop, alice.home(), 0)?;
    look(&window, "ko", "light")?;
    window.unlock(&alice.passphrase())?;
    window.part_with("room-row", GREETING)?.click()?;
    window.message(GREETING, "received")?;

    window.limit_files(ROOM)?;
    // Each is as long as a message may be, nearly.
    for chapter in 1..=LONG {
        bob.done(&["send", &library, &format!("{chapter} {}", "가나다라".repeat(1200))])?;
    }
    window.part_with("storage-banner", "디스크가 가득 찼어요")?;
    bob.done(&["send", &room, MEANWHILE])?;
    // What cannot be stored is not sent: it stays where it was written, and it is said why.
    window.part("composer")?.enter(KEPT)?;
    window.part("send")?.click()?;
    window.part_with("toast", "디스크가 가득 찼어요")?;
    window.value("composer", KEPT)?;
    ensure!(window.count("[data-testid='message']")? == 1, "something is shown that was not stored");
    window.picture(&pictures.join("troubles-disk-full.png"))?;
    window.resize(720, 520)?;
    window.part("composer")?;
    window.picture(&pictures.join("troubles-disk-full-small.png"))?;
    window.resize(920, 880)?;

    // With room again it goes on by itself; what was kept, the person sends.
    window.limit_files("unlimited")?;
    window.gone(FULL)?;
    window.message(MEANWHILE, "received")?;
    window.part_with("room-row", &format!("{LONG} 가나다라"))?;
    window.value("composer", KEPT)?;
    window.part("send")?.click()?;
    window.message(KEPT, "stored")?;
    window.value("composer", "")?;
    ensure!(window.count("[data-testid='message']")? == 3, "every message is there once");
    window.picture(&pictures.join("troubles-disk-free.png"))?;
    drop(window);
    bob.done(&["sync"])?;
    ensure!(texts(&bob, &room)? == [GREETING, MEANWHILE, KEPT], "what was kept did not arrive once");
    ensure!(texts(&alice, &room)? == [GREETING, MEANWHILE, KEPT], "it is not in her history once");
    ensure!(texts(&alice, &library)?.len() == LONG, "what came while the disk was full is lost");
    Ok(())
}

const AGAIN: &str = "Has it begun?";
const LATE: &str = "I will be late";
const SORRY: &str = "Sorry!";
const FAILED: &str = "[data-testid='failed']";

// REQ L3: a message that can never go does not vanish. The person sees why, and decides what becomes of it.
#[test]
fn a_message_that_cannot_go_is_tried_edited_or_discarded() -> Result<()> {
    let Greeted { mut scene, desktop, alice, bob, pictures, .. } = Greeted::start(GREETING)?;
    let group = bob.room(&["room", "create", "--name", "Reading circle", "alice"])?;
    alice.done(&["sync"])?;
    // Alice writes without a relay, and is out of the room before that arrives: a copy of her home leaves it.
    let copy = scene.stranger("copy");
    copy_folder(alice.home(), copy.home())?;
    let elsewhere = Person::new("alice", copy.home().to_owned());
    scene.relay.stop()?;
    for text in [AGAIN, LATE, SORRY] {
        alice.done(&["send", &group, text])?;
    }
    scene.relay.restart()?;
    elsewhere.done(&["room", "leave", &group])?;

    let window = Window::open(&desktop, alice.home(), 0)?;
    look(&window, "en", "dark")?;
    window.unlock(&alice.passphrase())?;
    let row = format!("[data-testid='room-row'][data-room='{group}']");
    let mark = format!("{row} [data-testid='failed-mark']");
    window.find(&mark)?;
    window.find(&row)?.click()?;
    for text in [AGAIN, LATE, SORRY] {
        window.message(text, "failed")?;
        let reason = window.part_of_message(text, "failed")?.property("textContent")?;
        let reason = reason.as_str().context("a reason")?.to_owned();
        ensure!(reason.contains("Not sent: You are not a member"), "{text}: {reason}");
        window.part_of_message(text, "retry")?;
        window.part_of_message(text, "discard")?;
    }
    ensure!(window.count("[data-testid='edit']")? == 0, "there is no box to edit it in");
    window.picture(&pictures.join("troubles-unsent-left.png"))?;
    window.part_of_message(SORRY, "discard")?.click()?;
    failed(&window, 2)?;
    ensure!(!window.text()?.contains(SORRY), "what was discarded is still shown");

    // Back in the room, the one is tried again as it is, and the other one is written anew.
    bob.done(&["room", "invite", &group, "alice"])?;
    window.part_of_message(LATE, "edit")?;
    window.picture(&pictures.join("troubles-unsent.png"))?;
    window.resize(720, 520)?;
    window.part_of_message(LATE, "edit")?;
    window.picture(&pictures.join("troubles-unsent-small.png"))?;
    window.resize(920, 880)?;
    window.part_of_message(AGAIN, "retry")?.click()?;
    window.message(AGAIN, "stored")?;
    window.part_of_message(LATE, "edit")?.click()?;
    window.value("composer", LATE)?;
    failed(&window, 0)?;
    window.gone(&mark)?;
    window.part("composer")?.enter(" today")?;
    window.part("send")?.click()?;
    let edited = format!("{LATE} today");
    window.message(&edited, "stored")?;
    bob.done(&["sync"])?;
    ensure!(texts(&bob, &group)? == [AGAIN, edited.as_str()], "not what was tried and what was edited");
    Ok(())
}

/// Waits until so many messages are shown as failed.
fn failed(window: &Window<'_>, count: usize) -> Result<()> {
    wait_for("another number of failures", || Ok((window.count(FAILED)? == count).then_some(())))
}

// REQ R1: nobody writes to the wrong one of two people because both are called the same.
#[test]
fn friends_with_one_name_have_their_ids_beside_it() -> Result<()> {
    let scene = Scene::start()?;
    let desktop = Desktop::start()?;
    let pictures = screenshots()?;
    let alice = scene.alice()?;
    let called = |account: &str, nickname: &str| -> Result<(Person, String)> {
        let friend = scene.stranger(account);
        sign_up(&friend, nickname, scene.relay.link())?;
        scene.befriend(&alice, &friend)?;
        let room = friend.direct(&alice)?;
        friend.done(&["send", &room, &format!("나 {account}이야")])?;
        Ok((friend, room))
    };
    let (minjun, school) = called("minjun", "민준")?;
    let (other, work) = called("mj_work", "민준")?;
    let (_, unlike) = called("seoyeon", "서연")?;
    let group = alice.room(&["room", "create", "--name", "동창회", "minjun", "mj_work"])?;
    for friend in [&minjun, &other] {
        friend.done(&["send", &group, "나도 갈게"])?;
    }

    let window = Window::open(&desktop, alice.home(), 0)?;
    look(&window, "ko", "light")?;
    window.unlock(&alice.passphrase())?;
    let twins = [("minjun", &school), ("mj_work", &work)];
    for (account, room) in twins {
        window.find(&format!("[data-room='{room}'] {}", beside(account)))?;
    }
    window.find(&format!("[data-testid='room-row'][data-room='{unlike}']"))?;
    let needless = format!("[data-room='{unlike}'] [data-testid='beside']");
    ensure!(window.count(&needless)? == 0, "an id stands beside a name that is nobody else's");
    window.picture(&pictures.join("troubles-names-rooms.png"))?;
    window.find(&format!("[data-room='{group}']"))?.click()?;
    for (account, room) in twins {
        window.find(&format!("[data-testid='message'] {}", beside(account)))?;
        window.find(&format!("[data-room='{room}'] {}", beside(account)))?;
    }
    window.picture(&pictures.join("troubles-names-group.png"))?;

    window.part("settings")?.click()?;
    look(&window, "en", "dark")?;
    window.part("settings-close")?.click()?;
    window.part("tab-friends")?.click()?;
    let friend = |account: &str| format!("[data-testid='friend-row'][data-account='{account}']");
    for (account, _) in twins {
        window.find(&format!("{} {}", friend(account), beside(account)))?;
    }
    window.find(&friend("seoyeon"))?;
    let needless = format!("{} [data-testid='beside']", friend("seoyeon"));
    ensure!(window.count(&needless)? == 0, "an id stands beside a name that is nobody else's");
    window.picture(&pictures.join("troubles-names-friends.png"))?;
    // Whom one writes to is said above what one writes, too.
    window.find(&friend("mj_work"))?.click()?;
    window.find(&format!("h1 {}", beside("mj_work")))?;
    window.resize(720, 520)?;
    window.find(&format!("h1 {}", beside("mj_work")))?;
    window.picture(&pictures.join("troubles-names-small.png"))?;
    Ok(())
}

/// An id beside a name, as a CSS selector.
fn beside(account: &str) -> String {
    format!("[data-testid='beside'][title='{account}']")
}

fn sign_up(person: &Person, nickname: &str, link: &str) -> Result<()> {
    person.done(&["connect", link])?;
    let email = person.email();
    let id = ["signup", "--id", person.account(), "--email", &email];
    let arguments = [&id[..], &["--nickname", nickname, "--password-stdin"]].concat();
    person.run(&arguments, Some(&person.password()))?.done()?;
    Ok(())
}

fn look(window: &Window<'_>, language: &str, theme: &str) -> Result<()> {
    window.choose("language", language)?;
    window.choose("theme", theme)
}

/// The texts of a room, oldest first.
fn texts(person: &Person, room: &str) -> Result<Vec<String>> {
    Ok(person.texts(room)?.into_iter().map(|(_, text)| text).collect())
}
