//! The second implementation, as a process that is told what to do line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context as _, Result, bail};
use mildam_tests::PATIENCE;
use serde_json::Value;

/// A `python -m mildam_conformance talk` that runs. It is killed when this is dropped.
pub(crate) struct Second {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl Second {
    /// Starts it. The interpreter, with everything that the program needs, is `MILDAM_PYTHON`.
    pub(crate) fn start(link: &str) -> Result<Self> {
        let python = std::env::var_os("MILDAM_PYTHON")
            .context("MILDAM_PYTHON is not set; `cargo xtask test` sets it")?;
        let mut child = Command::new(python)
            .args(["-m", "mildam_conformance", "talk", link])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot start the second implementation")?;
        let stdin = child.stdin.take().context("its stdin")?;
        let stdout = child.stdout.take().context("its stdout")?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.all(|line| sender.send(line).is_ok())
        });
        Ok(Self { child, stdin, answers })
    }

    /// Has it do something, and expects that it can.
    pub(crate) fn done(&mut self, command: Value) -> Result<Value> {
        let mut answer = self.tell(&command)?;
        match answer.get_mut("done") {
            Some(done) => Ok(done.take()),
            None => bail!("the second implementation was told {command}, and says {answer}"),
        }
    }

    /// Has it do something that must be refused; tells the code, and whether it was the server's.
    pub(crate) fn refused(&mut self, command: Value) -> Result<(String, bool)> {
        let answer = self.tell(&command)?;
        let code = answer.get("refused").and_then(Value::as_str);
        let server = answer.get("by_server").and_then(Value::as_bool);
        let found = code.map(str::to_owned).zip(server);
        found.with_context(|| format!("{command} is not refused: {answer}"))
    }

    fn tell(&mut self, command: &Value) -> Result<Value> {
        writeln!(self.stdin, "{command}")?;
        self.stdin.flush()?;
        let answer = self.answers.recv_timeout(PATIENCE);
        let answer = answer.with_context(|| format!("no answer to {command}"))?;
        serde_json::from_str(&answer).with_context(|| format!("not JSON: {answer:?}"))
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
