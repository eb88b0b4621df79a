//! `mildam listen`, and waiting for what it tells.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::PATIENCE;

/// A `mildam listen` that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    child: Child,
    events: Receiver<Value>,
    /// All events so far, for the report if one never comes.
    seen: Vec<Value>,
}

impl Listener {
    /// Starts the command, and reads its events as they come.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot start mildam listen")?;
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
        Ok(Self { child, events, seen: Vec::new() })
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
