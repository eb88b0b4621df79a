//! A desktop of its own for the windows under test: a display that nobody sees, a message bus, a
//! window manager, a Korean input method and a keyring. Nothing of it touches the real one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mildam_tests::PATIENCE;
use tempfile::TempDir;

use crate::window::wait_for;

/// What the app's own questions are called. They are asked in English, as the desktop speaks it.
const QUESTION: &str = "^Mildam: confirm$";

/// Width and height of the display.
pub const SIZE: (u32, u32) = (1880, 940);

/// The desktop. Everything on it ends when this is dropped.
pub struct Desktop {
    display: String,
    bus: String,
    home: TempDir,
    // In the order in which they are to end: the display goes last.
    programs: Vec<Program>,
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Desktop {
    /// Starts all of it, and waits until Hangul can be typed.
    pub fn start() -> Result<Self> {
        let home = TempDir::with_prefix("mildam-desktop-")?;
        let screen = format!("{}x{}x24", SIZE.0, SIZE.1);
        let mut xvfb = Command::new("Xvfb");
        xvfb.args(["-displayfd", "1", "-screen", "0", &screen, "-nolisten", "tcp", "-wr"]);
        let (xvfb, number) = start(&mut xvfb)?;
        let mut bus = Command::new("dbus-daemon");
        let (bus, address) = start(bus.args(["--session", "--nofork", "--print-address"]))?;
        let mut desktop =
            Self { display: format!(":{number}"), bus: address, home, programs: vec![bus, xvfb] };
        desktop.start_window_manager()?;
        desktop.start_keyring()?;
        desktop.start_input_method()?;
        Ok(desktop)
    }

    /// Lets a command run on this desktop.
    pub fn dress(&self, command: &mut Command) {
        let home = self.home.path();
        command
            .env("DISPLAY", &self.display)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus)
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_RUNTIME_DIR", home)
            .env("GTK_IM_MODULE", "ibus")
            .env("XMODIFIERS", "@im=ibus")
            .env("LANG", "C.UTF-8")
            // What a sandbox or a GPU would add differs from machine to machine.
            .env("WEBKIT_DISABLE_DMABUF_RENDERER", "1")
            .env("NO_AT_BRIDGE", "1")
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("LANGUAGE")
            .env_remove("LC_MESSAGES")
            .env_remove("LC_ALL");
    }

    /// Presses keys in the window that has the focus, by their X names.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.xdotool(&[&["key", "--delay", "80"], keys].concat()).map(drop)
    }

    /// Types on an American keyboard into the window that has the focus. With the Korean input
    /// method on, `gksrmf` becomes 한글.
    pub fn type_keys(&self, keys: &str) -> Result<()> {
        self.xdotool(&["type", "--delay", "80", keys]).map(drop)
    }

    /// The visible windows of the app, by their X ids.
    pub fn windows(&self) -> Result<Vec<String>> {
        self.search(&["--class", "mildam"])
    }

    /// The questions that the app asks at the moment in windows of its own.
    pub fn questions(&self) -> Result<Vec<String>> {
        self.search(&["--name", QUESTION])
    }

    /// Waits until the app asks something, and gives that window the focus.
    pub fn asked(&self) -> Result<String> {
        let question = wait_for("a question of the app", || Ok(self.questions()?.into_iter().next()))?;
        self.focus(&question)?;
        Ok(question)
    }

    /// Says yes to what the app asks: the button beside the one that has the focus.
    pub fn confirm(&self) -> Result<()> {
        self.asked()?;
        self.press(&["Tab", "space"])?;
        self.answered()
    }

    /// Says no to what the app asks, by a key that does so: Return, or Escape.
    pub fn refuse(&self, key: &str) -> Result<()> {
        self.asked()?;
        self.press(&[key])?;
        self.answered()
    }

    fn answered(&self) -> Result<()> {
        wait_for("the end of the question", || Ok(self.questions()?.is_empty().then_some(())))
    }

    fn search(&self, what: &[&str]) -> Result<Vec<String>> {
        let mut search = Command::new("xdotool");
        search.args(["search", "--onlyvisible"]).args(what);
        self.dress(&mut search);
        // Finding none is an exit code of 1, too.
        let output = search.stderr(Stdio::null()).output()?;
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }

    /// Puts a window into the left or right half, and gives it the focus.
    pub fn place(&self, window: &str, column: u32) -> Result<()> {
        let (width, height) = (SIZE.0 / 2 - 20, SIZE.1 - 60);
        let (x, y) = (column * SIZE.0 / 2 + 8, 8);
        self.resize(window, width, height)?;
        self.xdotool(&["windowmove", window, &x.to_string(), &y.to_string()])?;
        self.focus(window)
    }

    /// Makes a window so wide and high.
    pub fn resize(&self, window: &str, width: u32, height: u32) -> Result<()> {
        self.xdotool(&["windowsize", "--sync", window, &width.to_string(), &height.to_string()]).map(drop)
    }

    /// The process whose window it is.
    pub fn pid(&self, window: &str) -> Result<String> {
        Ok(self.xdotool(&["getwindowpid", window])?.trim().to_owned())
    }

    /// Gives a window the focus.
    pub fn focus(&self, window: &str) -> Result<()> {
        self.xdotool(&["windowactivate", "--sync", window]).map(drop)
    }

    /// Takes a picture of a window, or of everything for `root`.
    pub fn picture(&self, window: &str, file: &Path) -> Result<()> {
        let mut import = Command::new("import");
        self.dress(import.args(["-window", window]).arg(file));
        if !import.status()?.success() {
            bail!("cannot take a picture of window {window}");
        }
        Ok(())
    }

    fn xdotool(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("xdotool");
        self.dress(command.args(arguments));
        let output = command.output().context("cannot start xdotool")?;
        if !output.status.success() {
            bail!("xdotool {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn start_window_manager(&mut self) -> Result<()> {
        let mut openbox = Command::new("openbox");
        // It runs this once it manages the display.
        self.dress(openbox.args(["--startup", "echo ready"]));
        self.keep(start(&mut openbox)?.0);
        Ok(())
    }

    fn start_keyring(&mut self) -> Result<()> {
        let mut keyring = Command::new("gnome-keyring-daemon");
        self.dress(keyring.args(["--foreground", "--unlock", "--components=secrets"]));
        let mut child = keyring.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        child.stdin.take().context("stdin of the keyring")?.write_all(b"keyring")?;
        self.keep(Program(child));
        let name = "org.freedesktop.secrets";
        self.until("the keyring", || {
            let mut call = Command::new("dbus-send");
            call.args(["--session", "--print-reply", "--dest=org.freedesktop.DBus", "/"]);
            call.args(["org.freedesktop.DBus.GetNameOwner", &format!("string:{name}")]);
            call
        })
    }

    fn start_input_method(&mut self) -> Result<()> {
        let mut ibus = Command::new("ibus-daemon");
        self.dress(ibus.args(["--replace", "--xim", "--panel", "disable"]));
        let child = ibus.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start ibus")?;
        self.keep(Program(child));
        self.until("the Korean input method", || {
            let mut engine = Command::new("ibus");
            engine.args(["engine", "hangul"]);
            engine
        })
    }

    /// Asks until the answer is yes.
    fn until(&self, what: &str, question: impl Fn() -> Command) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut command = question();
            self.dress(&mut command);
            if command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("waited in vain for {what}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn keep(&mut self, program: Program) {
        self.programs.insert(0, program);
    }
}

/// Starts a program and waits for its first line.
fn start(command: &mut Command) -> Result<(Program, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = Program(child.with_context(|| format!("cannot start {name}"))?);
    let stdout = child.0.stdout.take().context("stdout")?;
    let mut line = String::new();
    let mut reader = BufReader::new(stdout);
    reader.read_line(&mut line)?;
    if line.trim().is_empty() {
        bail!("{name} did not get ready");
    }
    // What comes later is of no interest, but must not fill the pipe.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    Ok((child, line.trim().to_owned()))
}
