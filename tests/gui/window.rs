//! A window of the app, driven as a person would: through WebDriver, and through the keyboard of
//! the desktop it stands on.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mildam_tests::{PATIENCE, program};
use serde_json::{Value, json};

use crate::desktop::Desktop;

/// The key under which WebDriver answers with an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A window that is open. The app ends when this is dropped.
pub struct Window<'a> {
    desktop: &'a Desktop,
    driver: Driver,
    session: String,
    id: String,
}

/// Something in a window.
pub struct Element<'a> {
    window: &'a Window<'a>,
    id: String,
    /// How it was found, for errors.
    found_by: String,
}

impl<'a> Window<'a> {
    /// Opens the window of the person whose home is `home`, in `column` 0 or 1 of the desktop.
    pub fn open(desktop: &'a Desktop, home: &Path, column: u32) -> Result<Self> {
        Self::open_with(desktop, Some(home), &[], column)
    }

    /// The same, with arguments of the app; without a home, in the system's own place for it.
    pub fn open_with(
        desktop: &'a Desktop,
        home: Option<&Path>,
        arguments: &[&str],
        column: u32,
    ) -> Result<Self> {
        let before = desktop.windows()?;
        let driver = Driver::start(desktop, home)?;
        let capabilities = json!({
            "tauri:options": {"application": program("mildam-desktop")?, "args": arguments},
            "browserName": "wry",
        });
        let answer = driver.post("session", &json!({"capabilities": {"alwaysMatch": capabilities}}))?;
        let session = answer.get("sessionId").and_then(Value::as_str).context("no session id")?.to_owned();
        // From here on, looking for an element waits until it is there.
        let patience = u64::try_from(PATIENCE.as_millis())?;
        driver.post(&format!("session/{session}/timeouts"), &json!({"implicit": patience}))?;
        let mut window = Self { desktop, driver, session, id: String::new() };
        window.find("body")?;
        // The page may be there before the desktop shows its window.
        window.id = wait_for("the app's window", || {
            Ok(desktop.windows()?.into_iter().find(|id| !before.contains(id)))
        })?;
        desktop.place(&window.id, column)?;
        Ok(window)
    }

    /// Waits for the element that a CSS selector names.
    pub fn find(&self, css: &str) -> Result<Element<'_>> {
        self.locate("css selector", css)
    }

    /// Waits for the element with this `data-testid`.
    pub fn part(&self, name: &str) -> Result<Element<'_>> {
        self.find(&format!("[data-testid='{name}']"))
    }

    /// Waits for an element with this `data-testid` in which this text stands.
    pub fn part_with(&self, name: &str, text: &str) -> Result<Element<'_>> {
        self.locate("xpath", &format!("//*[@data-testid='{name}'][contains(., \"{text}\")]"))
    }

    /// Waits for the message with exactly this text in this state.
    pub fn message(&self, text: &str, state: &str) -> Result<Element<'_>> {
        let row = format!("//*[@data-testid='message' and @data-state='{state}']");
        self.locate("xpath", &format!("{row}[.//*[normalize-space(text())=\"{text}\"]]"))
    }

    /// Waits for what has this `data-testid` in the message with exactly this text.
    pub fn part_of_message(&self, text: &str, name: &str) -> Result<Element<'_>> {
        let row = format!("//*[@data-testid='message'][.//*[normalize-space(text())=\"{text}\"]]");
        self.locate("xpath", &format!("{row}//*[@data-testid='{name}']"))
    }

    /// Chooses a value in a list to choose from.
    pub fn choose(&self, name: &str, value: &str) -> Result<()> {
        self.find(&format!("[data-testid='{name}'] option[value='{value}']"))?.click()
    }

    /// Opens the vault on the first screen.
    pub fn unlock(&self, passphrase: &str) -> Result<()> {
        self.part("unlock-passphrase")?.enter(passphrase)?;
        self.part("unlock")?.click()
    }

    /// How many elements a CSS selector names right now.
    pub fn count(&self, css: &str) -> Result<usize> {
        let script = "return document.querySelectorAll(arguments[0]).length";
        let answer = self.post("execute/sync", &json!({"script": script, "args": [css]}))?;
        Ok(usize::try_from(answer.as_u64().context("a count")?)?)
    }

    /// Waits until there is no element that a CSS selector names.
    pub fn gone(&self, css: &str) -> Result<()> {
        wait_for(&format!("the end of {css}"), || Ok((self.count(css)? == 0).then_some(())))
    }

    /// Waits until the field with this `data-testid` has this value.
    pub fn value(&self, name: &str, value: &str) -> Result<()> {
        let field = self.part(name)?;
        wait_for(&format!("{value} in {name}"), || Ok((field.property("value")? == *value).then_some(())))
    }

    /// All text that it shows.
    pub fn text(&self) -> Result<String> {
        let script = "return document.body.innerText";
        let answer = self.post("execute/sync", &json!({"script": script, "args": []}))?;
        Ok(answer.as_str().context("a text")?.to_owned())
    }

    /// Calls a command of the app, as a script could that got into the window.
    pub fn call(&self, command: &str, arguments: &Value) -> Result<Value> {
        let script = "const [command, given, done] = arguments; \
                      window.__TAURI_INTERNALS__.invoke(command, given) \
                        .then((value) => done({ value }), (error) => done({ error }))";
        self.post("execute/async", &json!({"script": script, "args": [command, arguments]}))
    }

    /// Gives the window the focus of the desktop.
    pub fn focus(&self) -> Result<()> {
        self.desktop.focus(&self.id)
    }

    /// Makes it so wide and high, in pixels.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        self.desktop.resize(&self.id, width, height)
    }

    /// Lets the app write so many bytes into a file from now on; what is beyond is refused, as on a full disk.
    /// WebDriver asks for memory that counts as a file: with nothing at all it would not answer.
    pub fn limit_files(&self, bytes: &str) -> Result<()> {
        let pid = self.desktop.pid(&self.id)?;
        let limit = format!("--fsize={bytes}:");
        let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        if !status.context("cannot run prlimit")?.success() {
            bail!("the limit was not set");
        }
        Ok(())
    }

    /// Takes a picture of it.
    pub fn picture(&self, file: &Path) -> Result<()> {
        self.desktop.picture(&self.id, file)
    }

    fn locate(&self, using: &str, value: &str) -> Result<Element<'_>> {
        let found = self
            .post("element", &json!({"using": using, "value": value}))
            .with_context(|| format!("looked for {value}"))?;
        let id = found.get(ELEMENT).and_then(Value::as_str).context("no element")?.to_owned();
        Ok(Element { window: self, id, found_by: value.to_owned() })
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.driver.post(&format!("session/{}/{path}", self.session), body)
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        // The driver ends the app with the session; killing the driver alone would leave it.
        self.driver.delete(&format!("session/{}", self.session)).ok();
        // The next window may get the same id.
        let gone = || Ok((!self.desktop.windows()?.contains(&self.id)).then_some(()));
        wait_for("the end of the app's window", gone).ok();
    }
}

impl Element<'_> {
    /// Clicks on it.
    pub fn click(&self) -> Result<()> {
        self.post("click", &json!({})).map(drop)
    }

    /// Puts the cursor into it and types a text, without an input method.
    pub fn enter(&self, text: &str) -> Result<()> {
        self.post("value", &json!({"text": text}))?;
        // The driver answers before the last keys have arrived; what comes next would overtake them.
        wait_for("what was typed", || {
            let value = self.property("value")?;
            Ok(value.as_str().is_some_and(|value| value.ends_with(text)).then_some(()))
        })
    }

    /// Empties a field.
    pub fn clear(&self) -> Result<()> {
        self.post("clear", &json!({})).map(drop)
    }

    /// The value of a property, as JavaScript sees it.
    pub fn property(&self, name: &str) -> Result<Value> {
        self.window.driver.get(&self.path(&format!("property/{name}")))
    }

    fn path(&self, rest: &str) -> String {
        format!("session/{}/element/{}/{rest}", self.window.session, self.id)
    }

    fn post(&self, what: &str, body: &Value) -> Result<Value> {
        let done = self.window.driver.post(&self.path(what), body);
        done.with_context(|| format!("{what}: {}", self.found_by))
    }
}

/// A `tauri-driver`, which starts an app and speaks WebDriver for it.
struct Driver {
    child: Child,
    agent: ureq::Agent,
    url: String,
}

impl Driver {
    fn start(desktop: &Desktop, home: Option<&Path>) -> Result<Self> {
        let (port, native_port) = (free_port()?, free_port()?);
        // A write beyond the limit on files is to be an error, not the end of the app: what ignores the
        // signal, starts programs that do.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(tauri_driver());
        desktop.dress(&mut command);
        command
            .args(["--port", &port.to_string(), "--native-port", &native_port.to_string()])
            .stdin(Stdio::null());
        if let Some(home) = home {
            command.env("MILDAM_HOME", home);
        }
        let child = command.spawn().context("cannot start tauri-driver")?;
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE + Duration::from_secs(30)))
            .http_status_as_error(false);
        let agent = config.build().into();
        let driver = Self { child, agent, url: format!("http://127.0.0.1:{port}") };
        driver.wait()?;
        Ok(driver)
    }

    /// Waits until it accepts connections.
    fn wait(&self) -> Result<()> {
        wait_for("tauri-driver", || Ok(self.get("status").ok())).map(drop)
    }

    fn get(&self, path: &str) -> Result<Value> {
        answer(self.agent.get(format!("{}/{path}", self.url)).call()?)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        answer(self.agent.post(format!("{}/{path}", self.url)).send_json(body)?)
    }

    fn delete(&self, path: &str) -> Result<Value> {
        answer(self.agent.delete(format!("{}/{path}", self.url)).call()?)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Value> {
    let mut answer: Value = response.body_mut().read_json()?;
    let value = answer.get_mut("value").map(Value::take).unwrap_or_default();
    if !response.status().is_success() {
        bail!("WebDriver: {value}");
    }
    Ok(value)
}

/// Asks until there is an answer.
pub(crate) fn wait_for<T>(what: &str, question: impl Fn() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("waited in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where `cargo xtask test` says that it is, or else wherever the PATH leads.
fn tauri_driver() -> PathBuf {
    std::env::var_os("MILDAM_TAURI_DRIVER").unwrap_or_else(|| "tauri-driver".into()).into()
}
