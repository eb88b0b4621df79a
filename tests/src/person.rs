//! Somebody who uses the command line.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{Listener, PATIENCE, program};

/// A person with a home folder of their own, who uses `mildam --home HOME --json`.
#[derive(Clone, Debug)]
pub struct Person {
    account: String,
    home: PathBuf,
}

/// What a run of `mildam` came to.
#[derive(Debug)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// The JSON objects on stdout.
    pub lines: Vec<Value>,
    /// `code` and `message` of the error on stderr, if there is one.
    pub error: Option<(String, String)>,
    /// All of stderr.
    pub stderr: String,
}

impl Person {
    /// Somebody who has nothing yet.
    #[must_use]
    pub fn new(account: &str, home: PathBuf) -> Self {
        Self { account: account.to_owned(), home }
    }

    /// The account id.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The folder with the vault.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The e-mail address.
    #[must_use]
    pub fn email(&self) -> String {
        format!("{}@example.org", self.account)
    }

    /// The password of the account.
    #[must_use]
    pub fn password(&self) -> String {
        format!("{} 의 비밀번호 0000", self.account)
    }

    /// The passphrase of the vault.
    #[must_use]
    pub fn passphrase(&self) -> String {
        format!("{}'s vault passphrase", self.account)
    }

    /// Connects to a relay and makes the account.
    ///
    /// # Errors
    /// If either is refused.
    pub fn sign_up(&self, link: &str) -> Result<()> {
        self.done(&["connect", link])?;
        let (account, email) = (self.account.as_str(), self.email());
        let arguments = ["signup", "--id", account, "--email", &email, "--password-stdin"];
        self.run(&arguments, Some(&self.password()))?.done()?;
        Ok(())
    }

    /// Runs `mildam` with these arguments and `input` on stdin, to its end.
    ///
    /// # Errors
    /// If it cannot be started, does not end for [`PATIENCE`], or says something that is not JSON on
    /// stdout.
    pub fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<Answer> {
        let mut child = self
            .command(arguments)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start mildam")?;
        let mut stdin = child.stdin.take().context("stdin of mildam")?;
        // One that does not read its stdin closes it: that is its right.
        stdin.write_all(input.unwrap_or_default().as_bytes()).ok();
        drop(stdin);
        let stdout = read(child.stdout.take().context("stdout of mildam")?);
        let stderr = read(child.stderr.take().context("stderr of mildam")?);
        let Ok(stdout) = stdout.recv_timeout(PATIENCE) else {
            child.kill()?;
            child.wait()?;
            bail!("{} runs {arguments:?}, which does not end", self.account);
        };
        let stderr = String::from_utf8_lossy(&stderr.recv()?).into_owned();
        let status = child.wait()?;
        let lines = String::from_utf8(stdout)?
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line:?}")))
            .collect::<Result<_>>()?;
        let error = stderr.lines().find_map(|line| {
            let error: Value = serde_json::from_str(line).ok()?;
            let text = |field: &str| Some(error.get("error")?.get(field)?.as_str()?.to_owned());
            Some((text("code")?, text("message")?))
        });
        let code = status.code().context("mildam was ended by a signal")?;
        Ok(Answer { code, lines, error, stderr })
    }

    /// Runs `mildam` and expects that it does what it is told.
    ///
    /// # Errors
    /// If its exit code is not 0.
    pub fn done(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        self.run(arguments, None)?.done().with_context(|| format!("{} runs {arguments:?}", self.account))
    }

    /// Runs `mildam` and expects a refusal; tells exit code and error code.
    ///
    /// # Errors
    /// If it succeeds, or fails without saying why.
    pub fn refused(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let answer = self.run(arguments, None)?;
        match answer.error {
            Some((code, _)) if answer.code != 0 => Ok((answer.code, code)),
            _ => bail!("{} runs {arguments:?}, which is not refused: {answer:?}", self.account),
        }
    }

    /// Starts `mildam listen`, and waits until it is online.
    ///
    /// # Errors
    /// If it does not come online.
    pub fn listen(&self) -> Result<Listener> {
        let mut listener = Listener::start(self.command(&["listen"])?)?;
        listener.wait_online()?;
        Ok(listener)
    }

    /// Starts `mildam bot`, and waits until it is online.
    ///
    /// # Errors
    /// If it does not come online.
    pub fn bot(&self) -> Result<Listener> {
        let mut bot = Listener::start_bot(self.command(&["bot"])?)?;
        bot.wait_online()?;
        Ok(bot)
    }

    /// The room with a friend, made if there is none.
    ///
    /// # Errors
    /// If the relay refuses it.
    pub fn direct(&self, friend: &Self) -> Result<String> {
        self.room(&["room", "direct", friend.account()])
    }

    /// Runs a command that answers with a room.
    ///
    /// # Errors
    /// If it is refused or answers something else.
    pub fn room(&self, arguments: &[&str]) -> Result<String> {
        let lines = self.done(arguments)?;
        let room = lines.first().and_then(|line| line.get("room")).and_then(Value::as_str);
        Ok(room.with_context(|| format!("no room in {lines:?}"))?.to_owned())
    }

    /// The texts of a room, oldest first, each with its sender.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn texts(&self, room: &str) -> Result<Vec<(String, String)>> {
        let lines = self.done(&["history", room, "--limit", "1000"])?;
        let text = |line: &Value, field: &str| line.get(field).and_then(Value::as_str).map(str::to_owned);
        Ok(lines.iter().filter_map(|line| Some((text(line, "from")?, text(line, "text")?))).collect())
    }

    /// A `mildam` command, ready to be started.
    ///
    /// # Errors
    /// If the program was not built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("mildam")?);
        command.arg("--home").arg(&self.home).arg("--json").args(arguments);
        command.env("MILDAM_PASSPHRASE", self.passphrase());
        Ok(command)
    }
}

/// Reads to the end, beside whatever else goes on.
fn read(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).ok();
        sender.send(bytes).ok();
    });
    receiver
}

impl Answer {
    /// The lines of a run that succeeded.
    ///
    /// # Errors
    /// If it did not.
    pub fn done(self) -> Result<Vec<Value>> {
        match self.code {
            0 => Ok(self.lines),
            code => bail!("exit code {code}: {}", self.stderr.trim()),
        }
    }
}
