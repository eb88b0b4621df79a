//! A relay process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::program;

/// A relay that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Relay {
    data: PathBuf,
    process: Process,
    link: String,
    tls: String,
    plain: Option<String>,
    sign_up: &'static str,
}

impl Relay {
    /// Starts a relay that keeps everything in `data` and listens on free ports, for TLS and for
    /// plain TCP. Everybody can sign up.
    ///
    /// # Errors
    /// If it does not say that it is ready.
    pub fn start(data: &Path) -> Result<Self> {
        Self::start_for(data, "open")
    }

    /// The same, where only those can sign up whom `serve --sign-up` lets in.
    ///
    /// # Errors
    /// If it does not say that it is ready.
    pub fn start_for(data: &Path, sign_up: &'static str) -> Result<Self> {
        Self::serve(data, &free_address()?, &free_address()?, sign_up)
    }

    fn serve(data: &Path, tls: &str, plain: &str, sign_up: &'static str) -> Result<Self> {
        let (process, ready) = Process::start(serve(data, tls, plain, sign_up)?)?;
        let text = |field: &str| ready.get(field).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            data: data.to_path_buf(),
            process,
            link: text("link").context("the ready line has no link")?,
            tls: text("tls").context("the ready line has no TLS address")?,
            plain: text("plain"),
            sign_up,
        })
    }

    /// Invites one person, as whoever runs the relay does; gives the link.
    ///
    /// # Errors
    /// If `mildam-relay invite` fails.
    pub fn invite(&self) -> Result<String> {
        let mut command = Command::new(program("mildam-relay")?);
        command.args(["invite", "--data"]).arg(&self.data).stdin(Stdio::null());
        let output = command.output().context("cannot run mildam-relay invite")?;
        if !output.status.success() {
            bail!("nobody was invited: {}", String::from_utf8_lossy(&output.stderr));
        }
        let said = String::from_utf8(output.stdout)?;
        let link = said.lines().map(str::trim).find(|line| line.starts_with("mildam://"));
        Ok(link.with_context(|| format!("no link in {said:?}"))?.to_owned())
    }

    /// The link that people use, with what lets the first one in where people come in by invitation.
    #[must_use]
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Address and port of the TLS listener.
    #[must_use]
    pub fn tls(&self) -> &str {
        &self.tls
    }

    /// Address and port of the plain TCP listener.
    ///
    /// # Errors
    /// If the relay did not open one.
    pub fn plain(&self) -> Result<&str> {
        self.plain.as_deref().context("the relay has no plain listener")
    }

    /// The process that it is.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// The folder in which it keeps everything.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Ends it at once, as a power cut would (SIGKILL).
    ///
    /// # Errors
    /// If it was not running any more.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// If it does not stop cleanly.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    /// Starts it again, with the same folder, at the same ports.
    ///
    /// # Errors
    /// If it does not say that it is ready.
    pub fn restart(&mut self) -> Result<()> {
        let plain = self.plain.clone().context("the relay has no plain listener")?;
        *self = Self::serve(&self.data, &self.tls, &plain, self.sign_up)?;
        Ok(())
    }

    /// Stops it, and starts it again at other ports.
    ///
    /// # Errors
    /// If it does not stop cleanly, or does not say that it is ready.
    pub fn move_away(&mut self) -> Result<()> {
        self.stop()?;
        *self = Self::start_for(&self.data.clone(), self.sign_up)?;
        Ok(())
    }

    /// Starts it again with this address for TLS.
    ///
    /// # Errors
    /// If it does not say that it is ready.
    pub fn restart_at(&mut self, tls: &str) -> Result<()> {
        *self = Self::serve(&self.data.clone(), tls, &free_address()?, self.sign_up)?;
        Ok(())
    }

    /// Stops it, gives it another server key, and starts it again at the same ports.
    ///
    /// # Errors
    /// If any of that fails.
    pub fn replace_server_key(&mut self) -> Result<()> {
        self.stop()?;
        let mut command = Command::new(program("mildam-relay")?);
        command.args(["cert", "replace-server-key", "--data"]).arg(&self.data).stdin(Stdio::null());
        let output = command.output().context("cannot run mildam-relay cert")?;
        if !output.status.success() {
            bail!("the server key was not replaced: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.restart()
    }

    /// Starts it again, at the same ports, with nobody at the other end of what it says and logs.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn restart_unheard(&mut self) -> Result<()> {
        let plain = self.plain.clone().context("the relay has no plain listener")?;
        let closed = || std::io::pipe().map(|(_, writer)| writer);
        let mut command = serve(&self.data, &self.tls, &plain, self.sign_up)?;
        let child = command.stdout(closed()?).stderr(closed()?).spawn().context("cannot start the relay")?;
        self.process = Process { child, log: None };
        Ok(())
    }

    /// Tells it that its terminal is gone, or that it is to read its configuration again (SIGHUP).
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn hang_up(&self) -> Result<()> {
        self.process.signal("HUP")
    }

    /// Stops it and tells what it has logged.
    ///
    /// # Errors
    /// If it does not stop cleanly.
    pub fn log(mut self) -> Result<String> {
        self.stop()?;
        self.process.log()
    }
}

/// An address that nobody uses, at a port that systems give to no outgoing connection: a relay that stops
/// must find its ports free when it comes back.
fn free_address() -> Result<String> {
    const PORTS: std::ops::Range<u32> = 10_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Programs of tests that run at the same time begin far from each other.
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..1_000 {
        let at = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let address = format!("127.0.0.1:{}", PORTS.start + at);
        if TcpListener::bind(&address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port was found")
}

/// The command that serves at these addresses, and lets these people sign up.
fn serve(data: &Path, tls: &str, plain: &str, sign_up: &str) -> Result<Command> {
    let mut command = Command::new(program("mildam-relay")?);
    // All that it would ever say: a test that fails shows it, and one looks that it names nobody.
    command.env("RUST_LOG", "info,mildam_relay=debug");
    command.arg("serve").arg("--data").arg(data).stdin(Stdio::null());
    command.args(["--listen", tls, "--plain-listen", plain, "--sign-up", sign_up, "--json"]);
    Ok(command)
}

/// The process, and the thread that reads what it logs.
#[derive(Debug)]
struct Process {
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Process {
    fn start(mut command: Command) -> Result<(Self, Value)> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the relay")?;
        let stdout = child.stdout.take().context("the relay's stdout")?;
        let stderr = child.stderr.take().context("the relay's stderr")?;
        let mut process = Self { child, log: Some(read_to_end(stderr)) };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        match serde_json::from_str::<Value>(&line) {
            Ok(ready) if ready.get("event").and_then(Value::as_str) == Some("ready") => Ok((process, ready)),
            _ => {
                process.kill().ok();
                bail!("the relay did not get ready; it said {line:?} and\n{}", process.log()?)
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill().context("the relay was not running")?;
        self.child.wait()?;
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.signal("TERM")?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the relay stopped with {status}\n{}", self.log()?);
        }
        Ok(())
    }

    fn signal(&self, name: &str) -> Result<()> {
        // The shell's own `kill`: the program of that name is not on every machine.
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().context("cannot run kill")?;
        if status.success() { Ok(()) } else { bail!("`{kill}` failed") }
    }

    fn log(&mut self) -> Result<String> {
        let log = self.log.take().context("the log was read before")?;
        log.join().map_err(|_| anyhow::anyhow!("the thread that reads the log panicked"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Reads all the time, so that the relay never waits for a reader.
fn read_to_end(mut stderr: ChildStderr) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
