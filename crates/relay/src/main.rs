//! The program `mildam-relay`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use mildam_relay::config::Settings;
use mildam_relay::{Ready, Relay};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A relay for Mildam: stores and forwards what it cannot read.
#[derive(Debug, Parser)]
#[command(name = "mildam-relay", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay until it is told to stop.
    Serve(Serve),
    /// Print the server link of the last start again.
    Link(Link),
}

#[derive(Debug, Args)]
struct Serve {
    /// Where everything is kept; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where TLS is served [default: [::]:7747]; port 0 takes any free port.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where the protocol is served without TLS [default: nowhere].
    #[arg(long, value_name = "ADDR")]
    plain_listen: Option<SocketAddr>,
    /// The host name or address that stands in the server link.
    #[arg(long, value_name = "HOST")]
    public_host: Option<String>,
    /// What the relay calls itself.
    #[arg(long)]
    name: Option<String>,
    /// A TOML file with the same settings; the command line has precedence.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say on standard output in one line of JSON when the relay is ready.
    #[arg(long)]
    json: bool,
    /// What to log on standard error, such as "warn" or "mildam_relay=debug".
    #[arg(long, env = "RUST_LOG", value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Debug, Args)]
struct Link {
    /// The data directory of the relay.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file of the relay.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    // Usage errors end the program here, with status 2.
    let outcome = match Arguments::parse().command {
        Command::Serve(arguments) => serve(arguments),
        Command::Link(arguments) => print_link(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mildam-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn settings(flags: Settings, file: Option<PathBuf>) -> anyhow::Result<Settings> {
    Ok(match file {
        Some(file) => flags.or(Settings::read(&file)?),
        None => flags,
    })
}

fn serve(arguments: Serve) -> anyhow::Result<()> {
    let flags = Settings {
        data: arguments.data,
        listen: arguments.listen,
        plain_listen: arguments.plain_listen,
        public_host: arguments.public_host,
        name: arguments.name,
        json: arguments.json.then_some(true),
        log: arguments.log,
        ..Settings::default()
    };
    let settings = settings(flags, arguments.config)?;
    let filter = settings.log.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(filter).context("--log")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let json = settings.json.unwrap_or(false);
    let config = settings.into_config()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let shutdown = CancellationToken::new();
        stop_on_signals(shutdown.clone())?;
        let relay = Relay::bind(config).await?;
        announce(relay.ready(), json)?;
        Ok(relay.serve(shutdown).await?)
    })
}

/// Tells whoever started the relay that it is ready.
fn announce(ready: &Ready, json: bool) -> anyhow::Result<()> {
    if let Some(plain) = ready.plain.filter(|plain| !plain.ip().is_loopback()) {
        tracing::warn!(
            address = %plain,
            "plain TCP is open to other machines: anybody in between sees who talks when"
        );
    }
    let mut out = std::io::stdout().lock();
    if json {
        let line = serde_json::json!({
            "event": "ready",
            "tls": ready.tls.to_string(),
            "plain": ready.plain.map(|plain| plain.to_string()),
            "link": ready.link.to_string(),
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "The relay is ready on {}.", ready.tls)?;
        if let Some(plain) = ready.plain {
            writeln!(out, "Without TLS it is on {plain}.")?;
        }
        writeln!(out, "\nThis link lets people connect; hand it to them as it is:\n")?;
        writeln!(out, "  {}\n", ready.link)?;
        writeln!(out, "Ctrl+C stops the relay.")?;
    }
    Ok(out.flush()?)
}

/// The first signal drains, the second ends the program at once.
fn stop_on_signals(shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.next().await;
        shutdown.cancel();
        signals.next().await;
        std::process::exit(1);
    });
    Ok(())
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self(tokio::signal::windows::ctrl_c()?))
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

fn print_link(arguments: Link) -> anyhow::Result<()> {
    let flags = Settings { data: arguments.data, ..Settings::default() };
    let data = settings(flags, arguments.config)?.data()?;
    match mildam_relay::last_link(&data)? {
        Some(link) => Ok(writeln!(std::io::stdout(), "{link}")?),
        None => bail!("there is no link in {} yet: start the relay once", data.display()),
    }
}
