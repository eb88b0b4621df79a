//! `mildam listen` or `mildam bot`, and waiting for what it tells.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::PATIENCE;

/// A `mildam listen` or `mildam bot` that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    child: Child,
    /// Where it can be told something.
    stdin: Option<ChildStdin>,
    events: Receiver<Value>,
    /// All events so far, for the report if one never comes.
    seen: Vec<Value>,
}

impl Listener {
    /// Starts the command, and reads its events as they come.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: Command) -> Result<Self> {
        Self::start_with(command, Stdio::null())
    }

    /// The same for one that can be told something.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_bot(command: Command) -> Result<Self> {
        Self::start_with(command, Stdio::piped())
    }

    fn start_with(mut command: Command, stdin: Stdio) -> Result<Self> {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot start mildam listen")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("stdout of mildam listen")?;
        let (sender, events) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for event in lines.map_while(|line| serde_json::from_str(&line).ok()) {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, stdin, events, seen: Vec::new() })
    }

    /// Waits until the connection is there and the account logged in.
    ///
    /// # Errors
    /// If that does not happen.
    pub fn wait_online(&mut self) -> Result<()> {
        self.wait("being online", |event| {
            let connection = event.get("state")?.get("connection")?.as_str()?;
            (connection == "online").then_some(())
        })
    }

    /// Waits for the first event for which `pick` finds something. Events before it are gone.
    ///
    /// # Errors
    /// If none comes.
    pub fn wait<T>(&mut self, what: &str, pick: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else {
                bail!("waited for {what}, but there came only {:#?}", self.seen);
            };
            let found = pick(&event);
            self.seen.push(event);
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// Waits for a message with this text, in any state.
    ///
    /// # Errors
    /// If none comes.
    pub fn wait_text(&mut self, text: &str) -> Result<Value> {
        self.wait(&format!("the message {text:?}"), |event| is(event, "text", text).then(|| event.clone()))
    }

    /// Waits until a message of one's own has come this far: `stored`, `delivered`, `read`.
    ///
    /// # Errors
    /// If it never does.
    pub fn wait_state(&mut self, id: &str, state: &str) -> Result<()> {
        self.wait(&format!("{id} being {state}"), |event| {
            (is(event, "id", id) && is(event, "state", state)).then_some(())
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// If it does not read it.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("it has no standard input")?;
        writeln!(stdin, "{line}").context("it does not read its standard input")
    }

    /// Waits for the answer to the command with this id.
    ///
    /// # Errors
    /// If none comes.
    pub fn wait_answer(&mut self, id: &Value) -> Result<Value> {
        self.wait(&format!("the answer to {id}"), |event| {
            (is(event, "event", "answer") && event.get("id") == Some(id)).then(|| event.clone())
        })
    }

    /// Ends its standard input, waits until it has ended, and tells its exit code.
    ///
    /// # Errors
    /// If a signal ended it.
    pub fn finish(mut self) -> Result<i32> {
        drop(self.stdin.take());
        // It may say more; it has said all when its standard output ends.
        let deadline = Instant::now() + PATIENCE;
        while let Ok(event) = self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(event);
        }
        if Instant::now() >= deadline {
            bail!("it does not end, and said {:#?}", self.seen);
        }
        self.child.wait()?.code().context("it was ended by a signal")
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    /// If it was not running any more.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("mildam listen was not running")?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn is(event: &Value, field: &str, value: &str) -> bool {
    event.get(field).and_then(Value::as_str) == Some(value)
}
