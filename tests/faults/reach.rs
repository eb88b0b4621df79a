//! What comes before a relay in earnest use: other TLS clients, proxies, a scanner, a certificate that
//! changes. All of them are the real programs.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;
use std::{env, fs, thread};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use mildam_protocol::set_up::{self, ChannelBinding, ClientKey};
use mildam_protocol::{ServerLink, carrier, frame};
use mildam_tests::{PATIENCE, Person, Scene, program};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::Outcome;
use crate::memory::{Tls, WebSocket, receive};
use crate::peer::rng;

/// A program that is not Mildam's. Those of servers lie where the PATH of most people does not lead.
fn foreign(name: &str, package: &str) -> Result<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut files = env::split_paths(&path).chain(servers).map(|folder| folder.join(name));
    let file = files.find(|file| file.is_file());
    let file = file.with_context(|| format!("{name} is not here: please install the package {package}"))?;
    Ok(Command::new(file))
}

/// A program that runs. It is killed when this is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn();
        Ok(Self(child.with_context(|| format!("cannot start {}", command.get_program().display()))?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Does something that may block beside whatever waits for its outcome.
fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(work()).ok());
    receiver
}

/// Runs a program to its end, and tells all that it said.
fn run(mut command: Command) -> Result<(ExitStatus, String)> {
    let (mut reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut running = Running::start(&mut command)?;
    let name = command.get_program().display().to_string();
    // The pipe ends when nobody holds its other end, and the command does.
    drop(command);
    let said = beside(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).ok();
        bytes
    });
    let said = said.recv_timeout(PATIENCE).with_context(|| format!("{name} does not end"))?;
    Ok((running.0.wait()?, String::from_utf8_lossy(&said).into_owned()))
}

/// A relay with flags that the harness does not know, on free ports.
struct Served {
    _running: Running,
    folder: TempDir,
    ready: Value,
}

impl Served {
    fn start(flags: &[&str]) -> Result<Self> {
        Self::start_with(flags, "")
    }

    fn start_with(flags: &[&str], config: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("mildam-")?;
        let file = folder.path().join("relay.toml");
        fs::write(&file, config)?;
        let mut command = Command::new(program("mildam-relay")?);
        command.arg("serve").arg("--data").arg(folder.path().join("relay")).arg("--config").arg(file);
        command.args(["--listen", "127.0.0.1:0", "--sign-up", "open", "--log", "warn", "--json"]).args(flags);
        let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let mut line = String::new();
        BufReader::new(running.0.stdout.take().context("the relay's stdout")?).read_line(&mut line)?;
        let ready = serde_json::from_str(&line).with_context(|| format!("the relay said {line:?}"))?;
        Ok(Self { _running: running, folder, ready })
    }

    fn ready(&self, field: &str) -> Result<&str> {
        let value = self.ready.get(field).and_then(Value::as_str);
        value.with_context(|| format!("no {field} in {}", self.ready))
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("relay")
    }

    fn link(&self) -> Result<ServerLink> {
        Ok(self.ready("link")?.parse()?)
    }

    fn person(&self, account: &str) -> Person {
        Person::new(account, self.folder.path().join(account))
    }

    /// Plays the set-up to its end.
    fn set_up(&self, stream: &mut (impl Read + Write), binding: ChannelBinding) -> Outcome {
        // Any key will do as this client's own, and to make one takes time.
        let key = ClientKey::danger_from_pkcs8(&fs::read(self.data().join("server-key.der"))?)?;
        let state = set_up::client::start(*self.link()?.fingerprint(), key, binding);
        let greeting = receive(stream)?;
        check_greeting(&greeting)?;
        let (answer, state) = state.handle(&greeting, &mut rng())?;
        stream.write_all(&frame::encode(&answer)?)?;
        let (confirmation, state) = state.handle(&receive(stream)?, &mut rng())?;
        stream.write_all(&frame::encode(&confirmation)?)?;
        state.handle(&receive(stream)?)?;
        Ok(())
    }
}

fn check_greeting(payload: &[u8]) -> Outcome {
    let greeting: Value = serde_json::from_slice(payload)?;
    ensure!(greeting.pointer("/header/status") == Some(&json!("connecting")), "{greeting}");
    Ok(())
}

/// HAProxy in front of a relay.
struct Proxy {
    _running: Running,
    port: u16,
}

impl Proxy {
    /// Starts it with what it needs to know beyond the port. That it is handed open: nobody else can take it,
    /// and who connects before HAProxy is ready waits.
    fn start(folder: &Path, bind: &str, lines: &[&str]) -> Result<Self> {
        let config = format!(
            "global\n  maxconn 64\n\
             defaults\n  timeout connect 10s\n  timeout client 90s\n  timeout server 90s\n\
             listen relay\n  bind fd@0 {bind}\n  {}\n",
            lines.join("\n  "),
        );
        let file = folder.join("haproxy.cfg");
        fs::write(&file, config)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let mut command = foreign("haproxy", "haproxy")?;
        command.arg("-db").arg("-f").arg(file).stdin(OwnedFd::from(listener)).stdout(Stdio::null());
        Ok(Self { _running: Running::start(&mut command)?, port })
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

// REQ T1, T7: TLS is nothing of our own, and what is inside says who it is at once.
#[test]
fn openssl_gets_the_greeting_over_tls() -> Outcome {
    let scene = Scene::start()?;
    let mut command = foreign("openssl", "openssl")?;
    command.args(["s_client", "-connect", scene.relay.tls(), "-alpn", "mildam/1", "-quiet"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut openssl = Running::start(&mut command)?;
    let mut stdout = openssl.0.stdout.take().context("stdout of openssl")?;
    let greeting = beside(move || receive(&mut stdout)).recv_timeout(PATIENCE)??;
    check_greeting(&greeting)
}

// REQ T7: no version of TLS that is known to be weak.
#[test]
fn openssl_connects_with_tls_of_no_version_before_1_2() -> Outcome {
    let scene = Scene::start()?;
    let connect = |version: &str| {
        let mut command = foreign("openssl", "openssl")?;
        // What the system forbids its own programs is not what is asked here.
        command.env("OPENSSL_CONF", "/dev/null");
        command.args(["s_client", "-connect", scene.relay.tls(), "-cipher", "DEFAULT@SECLEVEL=0", "-brief"]);
        command.arg(version);
        run(command)
    };
    for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (status, said) = connect(version)?;
        let shown = said.contains(&format!("Protocol version: {shown}"));
        ensure!(status.success() && shown, "{version}: {said}");
    }
    for version in ["-tls1", "-tls1_1"] {
        let (status, said) = connect(version)?;
        // It is the relay who says no.
        ensure!(!status.success() && said.contains("SSL alert number"), "{version}: {said}");
    }
    Ok(())
}

// REQ T7, T8: behind a load balancer that passes TCP on and tells who connects.
#[test]
fn people_talk_through_a_proxy_that_passes_tcp_on() -> Outcome {
    let relay = Served::start(&["--trusted-proxy", "127.0.0.1/32", "--proxy-protocol"])?;
    let server = format!("server relay {} send-proxy-v2", relay.ready("tls")?);
    let proxy = Proxy::start(relay.folder.path(), "", &["mode tcp", &server])?;
    let direct = Tls::connect(relay.ready("tls")?, carrier::ALPN);
    ensure!(direct.is_err(), "a proxy need not say for whom it connects");

    let link = ServerLink::new("127.0.0.1", proxy.port, *relay.link()?.fingerprint())?.to_string();
    let (alice, bob) = (relay.person("alice"), relay.person("bob"));
    alice.sign_up(&link)?;
    bob.sign_up(&link)?;
    alice.done(&["friend", "request", bob.account()])?;
    bob.done(&["friend", "accept", alice.account()])?;
    let room = alice.direct(&bob)?;
    alice.done(&["send", &room, "안녕, through a proxy"])?;
    bob.done(&["sync"])?;
    assert_eq!(bob.texts(&room)?, [("alice".to_owned(), "안녕, through a proxy".to_owned())]);
    Ok(())
}

// REQ T8, T10: behind a proxy that ends TLS and passes HTTP on.
#[test]
fn a_proxy_that_ends_tls_passes_pages_and_the_web_socket_on() -> Outcome {
    let relay = Served::start(&["--http-listen", "127.0.0.1:0", "--trusted-proxy", "127.0.0.1/32"])?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let file = relay.folder.path().join("proxy.pem");
    fs::write(&file, certificate.pem() + &key.serialize_pem())?;
    let bind = format!("ssl crt \"{}\" alpn http/1.1", file.display());
    let server = format!("server relay {}", relay.ready("http")?);
    let proxy = Proxy::start(relay.folder.path(), &bind, &["mode http", "option forwardfor", &server])?;

    for page in ["/healthz", "/readyz"] {
        let mut tls = Tls::connect(&proxy.address(), b"http/1.1")?;
        tls.write_all(format!("GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let mut answer = [0; 13];
        tls.read_exact(&mut answer)?;
        ensure!(answer == *b"HTTP/1.1 200 ", "{page}: {}", String::from_utf8_lossy(&answer));
    }
    // The channel in which the proxy hears the client is none that the relay could sign.
    relay.set_up(&mut WebSocket::connect(&proxy.address())?, None)
}

/// What testssl.sh may call serious.
const EXPECTED: [&str; 3] = [
    // Clients know the server key, which issued the certificate, by the link: they ask no authority.
    "cert_chain_of_trust",
    // So there is nobody who would revoke it; `cert new` and a new link are what there is instead.
    "cert_revocation",
    // It speaks of the OpenSSL that it uses itself.
    "engine_problem",
];

/// Runs testssl.sh, without the network, and gives what it has found.
fn findings(address: &str, options: &[&str]) -> Result<Vec<Value>> {
    let folder = TempDir::with_prefix("mildam-")?;
    let file = folder.path().join("findings.json");
    let mut command = foreign("testssl", "testssl.sh")?;
    command.args(["--quiet", "--warnings", "off", "--color", "0", "--nodns", "none"]);
    command.arg("--jsonfile").arg(&file).args(options).arg(address);
    // Its exit code means something else in each version: all that counts is in the file.
    let (_, said) = run(command)?;
    let found = fs::read(&file).with_context(|| said.clone())?;
    serde_json::from_slice(&found).with_context(|| format!("testssl.sh did not end well: {said}"))
}

// REQ T7: what a scanner says of the TLS port.
#[test]
fn a_scanner_of_tls_finds_nothing_serious() -> Outcome {
    // Both halves take as long as each other, and they mostly wait.
    const HALVES: [&[&str]; 2] = [
        // Versions, ciphers, forward secrecy, certificate.
        &["-p", "-s", "-f", "-S"],
        // Vulnerabilities.
        &["-U"],
    ];
    let scene = Scene::start()?;
    let address = scene.relay.tls();
    let found: Vec<Value> = thread::scope(|scope| {
        let halves = HALVES.map(|options| scope.spawn(move || findings(address, options)));
        let mut found = Vec::new();
        for half in halves {
            found.extend(half.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        anyhow::Ok(found)
    })?;
    let text = |finding: &Value, field: &str| {
        finding.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    // Nothing was found by not looking.
    for id in ["TLS1_3", "cert_keySize", "heartbleed", "LUCKY13"] {
        ensure!(found.iter().any(|finding| text(finding, "id") == id), "{id} was not looked at");
    }
    let serious: Vec<&Value> = found
        .iter()
        .filter(|finding| !matches!(text(finding, "severity").as_str(), "OK" | "INFO" | "LOW"))
        .filter(|finding| !EXPECTED.contains(&text(finding, "id").as_str()))
        .collect();
    ensure!(serious.is_empty(), "{serious:#?}");
    Ok(())
}

/// Connects, plays the set-up, and tells the SHA-256 of the certificate that was shown.
fn shown_certificate(relay: &Served) -> Result<String> {
    let mut tls = Tls::connect(relay.ready("tls")?, carrier::ALPN)?;
    let binding = tls.0.conn.export_keying_material([0; 32], carrier::EXPORTER_LABEL, Some(&[]))?;
    relay.set_up(&mut tls, Some(binding))?;
    let chain = tls.0.conn.peer_certificates().context("no certificate was shown")?;
    let digest: [u8; 32] = Sha256::digest(chain.first().context("an empty chain")?).into();
    let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(pairs.join(":"))
}

/// Renews the certificate, and waits until that is what is shown.
fn renew(relay: &Served, shown: &Receiver<String>) -> Outcome {
    let before = shown.recv_timeout(PATIENCE).context("no connection at all")?;
    let mut command = Command::new(program("mildam-relay")?);
    command.args(["cert", "new", "--data"]).arg(relay.data());
    let (status, said) = run(command)?;
    ensure!(status.success(), "{said}");
    ensure!(!said.contains(&before), "the certificate is the same: {said}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match shown.recv_timeout(left).context("no connection after the renewal")? {
            certificate if said.contains(&certificate) => return Ok(()),
            certificate if certificate != before => bail!("{certificate} is neither {before} nor in {said}"),
            _ => ensure!(!left.is_zero(), "the old certificate is still shown"),
        }
    }
}

// REQ T7, S5: who runs a relay can renew its certificate at any hour of the day.
#[test]
fn the_certificate_changes_while_clients_connect() -> Outcome {
    // More than one address may make otherwise.
    const LIMITS: &str = "[limits]\nnew-connections = { burst = 100000, more = 1000, every-seconds = 1 }\n";
    let relay = Served::start_with(&[], LIMITS)?;
    let over = AtomicBool::new(false);
    let (sender, shown) = channel();
    thread::scope(|scope| {
        let (relay, over) = (&relay, &over);
        let load = scope.spawn(move || -> Outcome {
            while !over.load(Ordering::Relaxed) {
                // Who listens may have heard enough.
                sender.send(shown_certificate(relay)?).ok();
            }
            Ok(())
        });
        let renewed = renew(relay, &shown);
        over.store(true, Ordering::Relaxed);
        // A connection that fails is the reason why nothing more is heard.
        load.join().map_err(|_| anyhow!("a thread panicked"))?.context("a connection failed")?;
        renewed
    })
}
