//! The program `mildam-relay`.

#[cfg(unix)]
mod file_limit;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, value_parser};
use ipnet::IpNet;
use mildam_protocol::link::Invitation;
use mildam_relay::config::Settings;
use mildam_relay::{INVITATION_DAYS, Keys, Ready, Relay, SignUpMode};
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
    Serve(Box<Serve>),
    /// Print the server link of the last start again.
    Link(Link),
    /// Make an invitation for one person, who signs up by the link that it prints. The relay may be running.
    Invite(Invite),
    /// Look at the relay's key and its certificate for TLS, and change them.
    Cert(Cert),
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
    /// Where HTTP and WebSocket are served without TLS, for a proxy that ends TLS [default: nowhere].
    #[arg(long, value_name = "ADDR")]
    http_listen: Option<SocketAddr>,
    /// Where metrics for Prometheus are served, over HTTP without TLS [default: nowhere].
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// The port in the server link, if people reach the relay at another than the one it listens on.
    #[arg(long, value_name = "PORT")]
    public_port: Option<NonZeroU16>,
    #[command(flatten)]
    names: Names,
    /// A certificate and its chain from elsewhere, in PEM; reloaded when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// A network of proxies whose word on where a connection comes from is taken, as in 10.0.0.0/8; can
    /// be given several times.
    #[arg(long = "trusted-proxy", value_name = "NETWORK")]
    trusted_proxies: Vec<IpNet>,
    /// Those proxies begin each connection with a header of the PROXY protocol.
    #[arg(long, requires = "trusted_proxies")]
    proxy_protocol: bool,
    /// What the relay calls itself.
    #[arg(long)]
    name: Option<String>,
    /// Who may make an account [default: invitation].
    #[arg(long, value_enum, value_name = "WHO")]
    sign_up: Option<SignUpMode>,
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

/// What the relay is called from outside.
#[derive(Debug, Args)]
struct Names {
    /// The host name or address that stands in the server link and in the certificate.
    #[arg(long, value_name = "HOST")]
    public_host: Option<String>,
    /// One more name or address for the relay's own certificate; can be given several times.
    #[arg(long = "tls-name", value_name = "HOST")]
    tls_names: Vec<String>,
}

#[derive(Debug, Args)]
struct Cert {
    #[command(subcommand)]
    action: CertAction,
    /// The data directory of the relay.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// The configuration file of the relay.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum CertAction {
    /// Show the fingerprint of the relay's key, and what the certificate says.
    Show,
    /// Make the relay's own certificate anew, under a new key. The link stays as it is.
    New(Names),
    /// Make a key and a request that an authority makes a certificate of.
    Request(Names),
    /// Put a certificate from an authority into use.
    Install {
        /// The certificate and its chain, in PEM.
        certificate: PathBuf,
        /// Its private key, in PEM [default: that of the last request].
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Replace the relay's key itself, because it was stolen: the link changes, and all people are asked
    /// whether they trust the new one. The relay must not run.
    ReplaceServerKey,
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

#[derive(Debug, Args)]
struct Invite {
    /// For so many days it is good.
    #[arg(long, value_name = "N", default_value_t = INVITATION_DAYS)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    days: u32,
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
        Command::Serve(arguments) => serve(*arguments),
        Command::Link(arguments) => print_link(arguments),
        Command::Invite(arguments) => invite(arguments),
        Command::Cert(arguments) => cert(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where this fails nobody can be told; the exit code still says it.
            drop(writeln!(std::io::stderr(), "mildam-relay: {error:#}"));
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

/// A list that a flag can be given for several times, or nothing if it was not.
fn given<T>(values: Vec<T>) -> Option<Vec<T>> {
    (!values.is_empty()).then_some(values)
}

fn serve(arguments: Serve) -> anyhow::Result<()> {
    let flags = Settings {
        data: arguments.data,
        listen: arguments.listen,
        plain_listen: arguments.plain_listen,
        http_listen: arguments.http_listen,
        metrics_listen: arguments.metrics_listen,
        public_host: arguments.names.public_host,
        public_port: arguments.public_port,
        tls_names: given(arguments.names.tls_names),
        tls_certificate: arguments.tls_certificate,
        tls_key: arguments.tls_key,
        trusted_proxies: given(arguments.trusted_proxies),
        proxy_protocol: arguments.proxy_protocol.then_some(true),
        name: arguments.name,
        sign_up: arguments.sign_up,
        json: arguments.json.then_some(true),
        log: arguments.log,
        ..Settings::default()
    };
    let file = arguments.config;
    let settings = settings(flags.clone(), file.clone())?;
    // Lines are written by a thread of their own, and dropped when nobody takes them: a log that is not
    // read, or a disk that is full, must not hold up or end anything.
    let (writer, _flushed_at_the_end) = tracing_appender::non_blocking(std::io::stderr());
    let log = tracing_subscriber::fmt()
        .with_env_filter(log_filter(&settings)?)
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .with_filter_reloading();
    let filter = log.reload_handle();
    log.init();
    // What this program makes is its owner's alone, whatever SQLite would do.
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let json = settings.json.unwrap_or(false);
    let config = settings.into_config()?;
    #[cfg(unix)]
    let config = file_limit::fit(config);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let shutdown = CancellationToken::new();
        stop_on_signals(shutdown.clone())?;
        on_hang_up(move || {
            let read = self::settings(flags.clone(), file.clone()).and_then(|settings| log_filter(&settings));
            match read.and_then(|read| Ok(filter.reload(read)?)) {
                Ok(()) => tracing::info!("the log follows the configuration; other settings need a restart"),
                Err(error) => tracing::warn!("the configuration cannot be used: {error:#}"),
            }
        })?;
        let relay = Relay::bind(config).await?;
        if let Err(error) = announce(relay.ready(), json) {
            tracing::warn!("nobody was told that the relay is ready: {error:#}");
        }
        Ok(relay.serve(shutdown).await?)
    })
}

fn log_filter(settings: &Settings) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(settings.log.as_deref().unwrap_or("info")).context("--log")
}

/// Tells whoever started the relay that it is ready.
fn announce(ready: &Ready, json: bool) -> anyhow::Result<()> {
    for (what, address) in [("plain TCP", ready.plain), ("HTTP without TLS", ready.http)] {
        if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
            tracing::warn!(
                %address,
                "{what} is open to other machines: anybody in between sees who talks when"
            );
        }
    }
    if let Some(address) = ready.metrics.filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(
            %address,
            "metrics are open to other machines: anybody there sees how busy the relay is"
        );
    }
    let first = ready.invitation.is_some();
    let invitation = Invitation { link: ready.link.clone(), account: None, token: ready.invitation.clone() };
    let page = invitation.to_https();
    let mut out = std::io::stdout().lock();
    if json {
        let line = serde_json::json!({
            "event": "ready",
            "tls": ready.tls.to_string(),
            "plain": ready.plain.map(|plain| plain.to_string()),
            "http": ready.http.map(|http| http.to_string()),
            "metrics": ready.metrics.map(|metrics| metrics.to_string()),
            "link": invitation.to_string(),
            "invitation": page,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "The relay is ready on {}.", ready.tls)?;
        if let Some(plain) = ready.plain {
            writeln!(out, "Without TLS it is on {plain}.")?;
        }
        if let Some(http) = ready.http {
            writeln!(out, "For a proxy that ends TLS it is on {http}.")?;
        }
        if let Some(metrics) = ready.metrics {
            writeln!(out, "Its metrics are at http://{metrics}/metrics.")?;
        }
        if first {
            writeln!(out, "\nThis link lets the first one in, once; keep it to yourself:\n")?;
        } else {
            writeln!(out, "\nThis link lets people connect; hand it to them as it is:\n")?;
        }
        writeln!(out, "  {invitation}\n")?;
        writeln!(out, "As a page for those who do not have Mildam yet:\n")?;
        writeln!(out, "  {page}\n")?;
        match ready.sign_up {
            SignUpMode::Open => writeln!(out, "Everybody who has it can sign up.")?,
            SignUpMode::Invitation => writeln!(out, "To let others in: mildam-relay invite")?,
            SignUpMode::Closed => writeln!(out, "Nobody can sign up.")?,
        }
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

/// Does something at each SIGHUP, which `systemctl reload`, log rotation and a closed terminal send.
#[cfg(unix)]
fn on_hang_up(mut react: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    let mut hang_up = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            react();
        }
    });
    Ok(())
}

#[cfg(windows)]
fn on_hang_up(_react: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
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

fn invite(arguments: Invite) -> anyhow::Result<()> {
    let flags = Settings { data: arguments.data, ..Settings::default() };
    let data = settings(flags, arguments.config)?.data()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let invitation = runtime.block_on(mildam_relay::invite(&data, arguments.days))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "For one person, good for {} days:\n", arguments.days)?;
    writeln!(out, "  {invitation}\n")?;
    writeln!(out, "As a page for those who do not have Mildam yet:\n")?;
    Ok(writeln!(out, "  {}", invitation.to_https())?)
}

fn cert(arguments: Cert) -> anyhow::Result<()> {
    let flags = Settings { data: arguments.data, ..Settings::default() };
    let flags = match &arguments.action {
        CertAction::New(names) | CertAction::Request(names) => Settings {
            public_host: names.public_host.clone(),
            tls_names: given(names.tls_names.clone()),
            ..flags
        },
        _ => flags,
    };
    let keys = Keys::open(settings(flags, arguments.config)?.into_config()?)?;
    let mut out = std::io::stdout().lock();
    match arguments.action {
        CertAction::Show => {}
        CertAction::New(_) => keys.renew()?,
        CertAction::Request(_) => {
            let request = keys.request()?;
            writeln!(out, "Give this file to the authority: {}", request.file.display())?;
            writeln!(out, "It asks for: {}", request.names.join(", "))?;
            writeln!(out, "Its private key stays here: {}", request.key.display())?;
            writeln!(out, "With what comes back: mildam-relay cert install FILE")?;
            return Ok(());
        }
        CertAction::Install { certificate, key } => {
            let installed = keys.install(&certificate, key.as_deref())?;
            if installed.own {
                writeln!(out, "This one was issued by the relay itself.")?;
            }
        }
        CertAction::ReplaceServerKey => {
            let keys = keys.replace_server_key()?;
            writeln!(out, "The relay has a new key. Start it, and give everybody its new link.\n")?;
            return show(&mut out, &keys);
        }
    }
    show(&mut out, &keys)
}

/// What `openssl x509` would say of it, and the fingerprint that it knows nothing of.
fn show(out: &mut impl Write, keys: &Keys) -> anyhow::Result<()> {
    writeln!(out, "Server key (in the link):  {}", keys.fingerprint())?;
    let Some(shown) = keys.describe()? else {
        return Ok(writeln!(out, "There is no certificate yet: the relay makes one when it starts.")?);
    };
    let issuer = if shown.own { "this relay's server key" } else { shown.issuer.as_str() };
    writeln!(out, "Certificate:               {}", keys.file().display())?;
    writeln!(out, "  subject                  {}", shown.subject)?;
    writeln!(out, "  issued by                {issuer}")?;
    writeln!(out, "  names                    {}", shown.names.join(", "))?;
    writeln!(out, "  valid                    {} to {}", shown.not_before.date(), shown.not_after.date())?;
    writeln!(out, "  SHA-256                  {}", colons(shown.fingerprint.as_bytes()))?;
    Ok(writeln!(out, "  SHA-256 of its key       {}", shown.key_fingerprint)?)
}

/// As browsers and openssl write a fingerprint.
fn colons(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}
