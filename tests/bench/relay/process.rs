//! A relay process of a release build, and what processes use.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use mildam_protocol::ServerLink;
use mildam_tests::program;
use serde_json::Value;

/// Parts of a second in which Linux tells every program how long processes ran, whatever its kernel counts by.
const TICKS: f64 = 100.0;

/// A configuration under which one generator, which is many people, is not held back.
pub const RAISED: &str = "\
sign-up = 'open'

[limits]
connections = 20000
connections-an-address = 20000
new-connections = { burst = 1000000, more = 1000000, every-seconds = 1 }
set-ups = 20000
set-ups-an-address = 20000
stranger-requests = { burst = 1000000, more = 1000000, every-seconds = 1 }
sign-ups = { burst = 1000000, more = 1000000, every-seconds = 1 }
requests = { burst = 10000000, more = 10000000, every-seconds = 1 }
messages = { burst = 10000000, more = 10000000, every-seconds = 1 }
friend-requests = { burst = 1000000, more = 1000000, every-seconds = 1 }
new-rooms = { burst = 1000000, more = 1000000, every-seconds = 1 }
bytes = { burst = 1000000000, more = 1000000000, every-seconds = 1 }
bytes-told = { burst = 1000000000, more = 1000000000, every-seconds = 1 }
address-bytes = { burst = 1000000000, more = 1000000000, every-seconds = 1 }
";

/// A relay that serves. It is killed when this is dropped.
pub struct Serving {
    child: Child,
    pub tls: SocketAddr,
    pub link: ServerLink,
}

impl Serving {
    /// Starts a relay with the data of this folder, under the limits of a file or the default ones.
    pub fn start(data: &Path, config: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(program("mildam-relay")?);
        command.arg("serve").arg("--data").arg(data);
        command.args(["--listen", "127.0.0.1:0", "--public-host", "127.0.0.1", "--json", "--log", "error"]);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start mildam-relay")?;
        let stdout = child.stdout.take().context("the relay's stdout")?;
        let mut line = String::new();
        let ready = BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(anyhow::Error::from)
            .and_then(|_| Self::read(&line))
            .with_context(|| format!("the relay did not get ready; it said {line:?}"));
        match ready {
            Ok((tls, link)) => Ok(Self { child, tls, link }),
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                Err(error)
            }
        }
    }

    fn read(line: &str) -> Result<(SocketAddr, ServerLink)> {
        let ready: Value = serde_json::from_str(line)?;
        let text = |field: &str| ready.get(field).and_then(Value::as_str);
        let tls = text("tls").context("no TLS address")?.parse()?;
        Ok((tls, text("link").context("no link")?.parse()?))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        // The shell's own `kill`: the program of that name is not on every machine.
        let kill = format!("kill -TERM {}", self.pid());
        if !Command::new("sh").args(["-c", &kill]).status()?.success() {
            bail!("`{kill}` failed");
        }
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("the relay stopped with {status}") }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A count as a number to calculate with.
pub fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Seconds for which a process was on a core until now, all its threads together.
pub fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .context("what processes use is read from /proc, as Linux has it")?;
    let (_, fields) = stat.rsplit_once(')').context("a process without a name")?;
    let mut ticks = 0;
    for field in fields.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<u64>()?;
    }
    Ok(float(ticks) / TICKS)
}

/// KiB of a process that are in memory.
pub fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(float(line.trim().trim_end_matches("kB").trim_end().parse()?))
}

/// Measures what relay and generator use from now on.
pub struct Meter {
    relay: u32,
    begun: Instant,
    relay_before: f64,
    own_before: f64,
}

/// What was used between two moments.
#[derive(Clone, Copy)]
pub struct Used {
    pub seconds: f64,
    /// Processor seconds of the relay.
    pub relay: f64,
    /// Processor seconds of this process.
    pub generator: f64,
}

impl Meter {
    pub fn start(relay: u32) -> Result<Self> {
        Ok(Self {
            relay,
            relay_before: processor_seconds(relay)?,
            own_before: processor_seconds(std::process::id())?,
            begun: Instant::now(),
        })
    }

    pub fn stop(&self) -> Result<Used> {
        Ok(Used {
            seconds: self.begun.elapsed().as_secs_f64(),
            relay: processor_seconds(self.relay)? - self.relay_before,
            generator: processor_seconds(std::process::id())? - self.own_before,
        })
    }
}

/// Lets this process have as many files open as it may: each connection is one.
#[cfg(unix)]
pub fn raise_file_limit() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

#[cfg(not(unix))]
pub fn raise_file_limit() -> Result<()> {
    Ok(())
}
