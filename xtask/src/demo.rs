//! The demo: Alice and Bob talk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use anyhow::{Context as _, Result, bail};
use mildam_tests::{Person, Relay, program};
use serde_json::Value;

use crate::packages::{self, Need};
use crate::shell::{cargo, sh, target};
use crate::{doctor, ui};

/// What they say before anybody looks.
const GREETINGS: &[(Speaker, &str)] = &[
    (Speaker::Alice, "안녕, Bob! 이 대화는 우리 둘만 읽을 수 있어."),
    (Speaker::Bob, "Hi Alice! So the relay in the middle sees only noise?"),
    (Speaker::Alice, "Exactly. 서버에는 암호문만 남아."),
    (Speaker::Bob, "좋다! 내일 점심 같이 먹을래? I know a place with great 냉면."),
    (Speaker::Alice, "냉면 좋지. See you at noon!"),
];

/// Two words of the conversation that the history must find again when the relay is gone.
const SEARCHES: &[&str] = &["냉면", "noise"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Alice,
    Bob,
}

/// `cargo xtask demo`
pub fn run(headless: bool) -> Result<()> {
    if headless {
        sh(&mut cargo(&["build", "--package", "mildam-relay", "--package", "mildam-cli"]))?;
        return play_headless();
    }
    let display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if cfg!(target_os = "linux") && !display {
        bail!("there is no display to open windows on; try `cargo xtask demo --headless`");
    }
    packages::install(&[Need::Build])?;
    doctor::check_node()?;
    ui::build()?;
    let programs = ["--package", "mildam-relay", "--package", "mildam-cli", "--package", "mildam"];
    sh(cargo(&["build"]).args(programs))?;
    open_windows()
}

/// A relay with Alice and Bob, who are friends and have a room.
struct Stage {
    relay: Relay,
    alice: Person,
    bob: Person,
    room: String,
}

impl Stage {
    fn set() -> Result<Self> {
        let folder = fresh_folder()?;
        println!("\nStarting a relay …");
        let relay = Relay::start(&folder.join("relay"))?;
        println!("  {}", relay.link());
        let person = |account: &str| Person::new(account, folder.join(account));
        let (alice, bob) = (person("alice"), person("bob"));
        for person in [&alice, &bob] {
            println!("Making keys and an account for {} …", person.account());
            person.sign_up(relay.link())?;
        }
        println!("Making them friends …");
        alice.done(&["friend", "request", bob.account()])?;
        bob.done(&["friend", "accept", alice.account()])?;
        let room = alice.direct(&bob)?;
        Ok(Self { relay, alice, bob, room })
    }

    fn person(&self, speaker: Speaker) -> &Person {
        match speaker {
            Speaker::Alice => &self.alice,
            Speaker::Bob => &self.bob,
        }
    }

    /// Says everything, and checks that each message arrives at the other side as it was written.
    fn talk(&self) -> Result<()> {
        let mut speaker_before = None;
        let mut listener = None;
        for &(speaker, text) in GREETINGS {
            let (from, to) = match speaker {
                Speaker::Alice => (&self.alice, &self.bob),
                Speaker::Bob => (&self.bob, &self.alice),
            };
            if speaker_before != Some(speaker) {
                // Only one process at a time may use a vault: the one who speaks stops listening.
                drop(listener.take());
                listener = Some(to.listen()?);
                speaker_before = Some(speaker);
            }
            from.done(&["send", &self.room, text])?;
            let listener = listener.as_mut().context("somebody listens")?;
            let message = listener.wait_text(text)?;
            if message.get("from").and_then(Value::as_str) != Some(from.account()) {
                bail!("{text:?} arrived under another name: {message}");
            }
            println!("  {:>5} │ {text}", from.account());
        }
        Ok(())
    }
}

/// An empty folder for the demo. What an earlier one left there goes.
fn fresh_folder() -> Result<PathBuf> {
    let folder = target().join("demo");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot empty {}: does a demo still run?", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn play_headless() -> Result<()> {
    let mut stage = Stage::set()?;
    println!("\nThey talk. Each line is printed when it has arrived at the other side:\n");
    stage.talk()?;
    println!("\nStopping the relay. What is left is on their own machines:\n");
    stage.relay.stop()?;
    for speaker in [Speaker::Alice, Speaker::Bob] {
        check_offline(stage.person(speaker), &stage.room)?;
    }
    println!("\nEvery message arrived, and both can read and search their history without the relay.");
    Ok(())
}

/// Reads and searches the history with nobody to ask.
fn check_offline(person: &Person, room: &str) -> Result<()> {
    let texts: Vec<String> = person.texts(room)?.into_iter().map(|(_, text)| text).collect();
    let said: Vec<&str> = GREETINGS.iter().map(|(_, text)| *text).collect();
    if texts != said {
        bail!("{}'s history differs from what was said: {texts:#?}", person.account());
    }
    println!("  {}'s history holds {} messages.", person.account(), texts.len());
    for word in SEARCHES {
        let hits = person.done(&["search", word])?;
        let expected = said.iter().filter(|text| text.contains(word)).count();
        if hits.len() != expected {
            bail!("{} finds {word:?} {} times, not {expected}", person.account(), hits.len());
        }
        println!("  {} searches for {word:?} and finds {expected}.", person.account());
    }
    Ok(())
}

fn open_windows() -> Result<()> {
    let stage = Stage::set()?;
    println!("They say hello …\n");
    stage.talk()?;
    println!("\nOpening two windows. Close both, or press Ctrl+C, to end the demo.");
    let (ended, endings) = channel();
    let interrupted = ended.clone();
    ctrlc::set_handler(move || {
        interrupted.send(Ending::Interrupted).ok();
    })?;
    let mut windows = Vec::new();
    for (index, speaker) in [Speaker::Alice, Speaker::Bob].into_iter().enumerate() {
        let ended = ended.clone();
        windows.push(Window::open(stage.person(speaker), move || {
            ended.send(Ending::Closed(index)).ok();
        })?);
    }
    let mut open = windows.len();
    while open > 0 {
        match endings.recv()? {
            Ending::Closed(index) => {
                println!("{} has closed the window.", if index == 0 { "Alice" } else { "Bob" });
                open -= 1;
            }
            Ending::Interrupted => break,
        }
    }
    println!("The demo ends; its files are in {}.", relative(&target().join("demo")).display());
    Ok(())
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(crate::shell::root()).unwrap_or(path)
}

/// Why the demo ends.
enum Ending {
    Closed(usize),
    Interrupted,
}

/// A desktop window. It is closed when this is dropped.
struct Window(Child);

impl Window {
    /// Opens a person's window, and calls `closed` when it is gone.
    fn open(person: &Person, closed: impl FnOnce() + Send + 'static) -> Result<Self> {
        let mut child = Command::new(program("mildam-desktop")?)
            .env("MILDAM_HOME", person.home())
            .env("MILDAM_PASSPHRASE", person.passphrase())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot open a window")?;
        let mut stdout = child.stdout.take().context("stdout of the window")?;
        std::thread::spawn(move || {
            // Its end is the end of the process, and unlike waiting for that it needs no ownership.
            std::io::copy(&mut stdout, &mut std::io::sink()).ok();
            closed();
        });
        Ok(Self(child))
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
