//! What one address or one account can make a relay hold in memory, however it tries.
//!
//! A relay that reads slowly or hangs up does well: an attack ends when nothing more can be written, and only
//! memory and the answer to a neighbour are judged.

#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};
use std::{fs, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use mildam_e2ee::records::{AccountId, ClientMessageId, Hash};
use mildam_e2ee::{Body, Content, DeviceSecrets, KnownAccount, Room};
use mildam_protocol::command::{
    Attach, Command, Done, GetAccountKeys, MAX_KEYS, MAX_PAGE, MessageSend, Ping, RoomList, RoomLog,
    SessionId,
};
use mildam_protocol::frame::{self, SESSION_LIMIT, UNBOUND_LIMIT};
use mildam_protocol::session::{Incoming, client};
use mildam_protocol::set_up::{self, ChannelBinding, ClientKey};
use mildam_protocol::{Code, Refusal, ServerLink, carrier};
use mildam_tests::{PATIENCE, Person, Relay, Scene};
use mildam_vault::{Slot, Unlock, Vault};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::Outcome;
use crate::peer::rng;
use crate::set_up::Careless;

/// So many bytes more than an idle relay has may be resident.
const MOST: u64 = 64 << 20;
/// Connections of an attack that needs no more of them.
const CONNECTIONS: usize = 3;
/// Bytes that each of them offers.
const OFFERED: usize = (128 << 20) / CONNECTIONS;
/// Bytes that are written at once.
const CHUNK: usize = 64 * 1024;
/// After so long an attack has shown what it can do.
const ATTACK: Duration = Duration::from_secs(15);
/// A write that is blocked for so long ends an attack.
const BLOCKED: Duration = Duration::from_secs(5);
/// After an attack the relay may still be at work: it is watched until nothing has grown for so long.
const QUIET: Duration = Duration::from_secs(2);
/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(20);

/// Bytes of a process that are in memory.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim_end().parse()?;
    Ok(kibibytes << 10)
}

/// Waits until a peak has not risen for a while. It only bounds what is seen of a relay that fails.
fn settle(peak: &AtomicU64) {
    let begun = Instant::now();
    let (mut last, mut since) = (peak.load(Ordering::Relaxed), begun);
    while since.elapsed() < QUIET && begun.elapsed() < ATTACK {
        thread::sleep(SAMPLE);
        let now = peak.load(Ordering::Relaxed);
        if now > last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// Lets an attack happen and judges how the relay has taken it. What the attack returns, its connections,
/// stays until then.
fn endure<T>(relay: &Relay, attack: impl FnOnce() -> Result<T>) -> Outcome {
    let pid = relay.pid();
    let mut neighbour = neighbour(relay)?;
    neighbour.done(1, &Ping {})?;
    let idle = resident(pid)?;
    let (peak, over) = (AtomicU64::new(idle), AtomicBool::new(false));
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            // Nobody says that it is over if the attack panics.
            while !over.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                peak.fetch_max(resident(pid).unwrap_or_default(), Ordering::Relaxed);
                thread::sleep(SAMPLE);
            }
        });
        let outcome = attack().and_then(|held| {
            settle(&peak);
            let answered = neighbour.done(2, &Ping {}).context("a neighbour's ping");
            drop(held);
            answered
        });
        over.store(true, Ordering::Relaxed);
        outcome
    });
    let grown = peak.into_inner().saturating_sub(idle);
    ensure!(grown <= MOST, "{} MiB more than the {} MiB of an idle relay", grown >> 20, idle >> 20);
    outcome
}

/// Does the same on several connections at once.
fn together<S: Send>(mut lines: Vec<S>, work: impl Fn(&mut S) + Sync) -> Vec<S> {
    thread::scope(|scope| {
        for line in &mut lines {
            let work = &work;
            scope.spawn(move || work(line));
        }
    });
    lines
}

/// Writes the same again and again, as long as somebody takes it.
fn offer(stream: &mut impl Write, bytes: &[u8], most: usize) {
    let (begun, mut offered) = (Instant::now(), 0);
    while offered < most && begun.elapsed() < ATTACK && stream.write_all(bytes).is_ok() {
        offered += bytes.len();
    }
}

/// A stream on which no wait is without end.
fn bounded(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(BLOCKED))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The next frame's payload.
pub fn receive(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header)?;
    let mut payload = vec![0; frame::payload_length(header, SESSION_LIMIT)?];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}

/// A connection whose session key is active.
struct Line<S> {
    stream: S,
    session: Option<SessionId>,
    transcript: Hash,
    sealer: client::Sealer,
    opener: client::Opener,
}

impl<S: Read + Write> Line<S> {
    fn open(mut stream: S, relay: &Relay, binding: ChannelBinding) -> Result<Self> {
        let link: ServerLink = relay.link().parse()?;
        // Any key will do as this client's own, and to make one takes time.
        let key = ClientKey::danger_from_pkcs8(&fs::read(relay.data().join("server-key.der"))?)?;
        let state = set_up::client::start(*link.fingerprint(), key, binding);
        let (answer, state) = state.handle(&receive(&mut stream)?, &mut rng())?;
        stream.write_all(&frame::encode(&answer)?)?;
        let (confirmation, state) = state.handle(&receive(&mut stream)?, &mut rng())?;
        stream.write_all(&frame::encode(&confirmation)?)?;
        let established = state.handle(&receive(&mut stream)?)?;
        let (sealer, opener) = established.session.split();
        Ok(Self { stream, session: None, transcript: established.transcript, sealer, opener })
    }

    /// A request, sealed and framed.
    fn frame(&mut self, id: u64, command: &impl Command) -> Result<Vec<u8>> {
        let payload = self.sealer.request(id, self.session.as_ref(), command, &mut rng())?;
        Ok(frame::encode(&payload)?)
    }

    /// Asks for something, and waits until it is done.
    fn done(&mut self, id: u64, command: &impl Command) -> Outcome {
        let request = self.frame(id, command)?;
        self.stream.write_all(&request)?;
        loop {
            match self.opener.open(&receive(&mut self.stream)?)? {
                Incoming::Answer { outcome, .. } => return Ok(outcome.map(drop)?),
                Incoming::Push(_) | Incoming::UnknownPush => {}
            }
        }
    }
}

/// A stranger's connection over plain TCP.
fn stranger(relay: &Relay) -> Result<Line<TcpStream>> {
    Line::open(bounded(TcpStream::connect(relay.plain()?)?)?, relay, None)
}

/// Somebody at another address, who shares no limit with the attacker.
fn neighbour(relay: &Relay) -> Result<Line<TcpStream>> {
    let address = relay.plain()?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
        socket.connect(address).await?.into_std()
    })?;
    stream.set_nonblocking(false)?;
    Line::open(bounded(stream)?, relay, None)
}

/// TLS that reads only when it is told to: rustls' own stream may read in order to write.
pub struct Tls(pub StreamOwned<ClientConnection, TcpStream>);

impl Tls {
    /// Connects, whatever certificate is shown, and says what to speak (ALPN).
    pub fn connect(address: &str, protocol: &[u8]) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Careless(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        let mut stream = bounded(TcpStream::connect(address)?)?;
        connection.complete_io(&mut stream)?;
        Ok(Self(StreamOwned::new(connection, stream)))
    }
}

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.conn.writer().write(bytes)?;
        self.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.0.conn.wants_write() {
            self.0.conn.write_tls(&mut self.0.sock)?;
        }
        Ok(())
    }
}

/// Kinds of messages of a WebSocket (RFC 6455, 5.2).
const BINARY: u8 = 2;
const PING: u8 = 9;

/// A message as clients send it. The key that masks it is zero, so it stays as it is.
fn message(kind: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut message = vec![0x80 | kind];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..=125) => message.push(0x80 | length),
        _ => {
            message.push(0x80 | 126);
            message.extend(u16::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes());
        }
    }
    message.extend([0; 4]);
    message.extend(payload);
    Ok(message)
}

/// A WebSocket over TLS, by hand, as the stream of bytes in its binary messages.
pub struct WebSocket {
    tls: Tls,
    heard: VecDeque<u8>,
}

impl WebSocket {
    /// Opens one at an address where TLS is spoken.
    pub fn connect(address: &str) -> Result<Self> {
        let mut tls = Tls::connect(address, b"http/1.1")?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {}\r\n\r\n",
            carrier::WEB_SOCKET_PATH,
            carrier::WEB_SOCKET_PROTOCOL,
        );
        tls.write_all(request.as_bytes())?;
        let mut head: Vec<u8> = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte)?;
            head.extend(byte);
        }
        ensure!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Ok(Self { tls, heard: VecDeque::new() })
    }

    /// The same with the set-up done in it.
    fn set_up(relay: &Relay) -> Result<Line<Self>> {
        let socket = Self::connect(relay.tls())?;
        let connection = &socket.tls.0.conn;
        let binding = connection.export_keying_material([0; 32], carrier::EXPORTER_LABEL, Some(&[]))?;
        Line::open(socket, relay, Some(binding))
    }

    /// Hears the next message.
    fn hear(&mut self) -> io::Result<()> {
        let mut head = [0; 2];
        self.tls.read_exact(&mut head)?;
        let [kind, length] = head;
        let length = match length {
            126 => {
                let mut length = [0; 2];
                self.tls.read_exact(&mut length)?;
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.tls.read_exact(&mut length)?;
                u64::from_be_bytes(length)
            }
            short => u64::from(short),
        };
        let mut payload = Vec::new();
        Read::by_ref(&mut self.tls).take(length).read_to_end(&mut payload)?;
        if kind & 0x0f == BINARY {
            self.heard.extend(payload);
        }
        Ok(())
    }

    /// Sends messages of one kind and reads nothing.
    fn flood(&mut self, kind: u8, payload: &[u8]) {
        if let Ok(one) = message(kind, payload) {
            let many = one.repeat(CHUNK / one.len());
            offer(&mut self.tls, &many, OFFERED);
        }
    }
}

impl Read for WebSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.heard.is_empty() {
            self.hear()?;
        }
        self.heard.read(buffer)
    }
}

impl Write for WebSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tls.write_all(&message(BINARY, bytes)?)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls.flush()
    }
}

/// Opens the vault of somebody whose programs have ended.
fn vault(person: &Person) -> Result<Vault> {
    Ok(Vault::open(person.home(), Unlock::Passphrase(Zeroizing::new(person.passphrase())))?)
}

/// What lets connections belong to an account: its session, and the keys of its device.
struct Account {
    secrets: DeviceSecrets,
    session: SessionId,
}

impl Account {
    fn of(person: &Person) -> Result<Self> {
        let vault = vault(person)?;
        let secrets = DeviceSecrets::from_secret_bytes(&vault.get(Slot::Device)?.context("no device")?)?;
        let session: Value = serde_json::from_slice(&vault.get(Slot::Session)?.context("no session")?)?;
        let session = serde_json::from_value(session.get("session").context("no session")?.clone())?;
        Ok(Self { secrets, session })
    }

    /// A connection over plain TCP, logged in and attached.
    fn line(&self, relay: &Relay) -> Result<Line<TcpStream>> {
        let mut line = stranger(relay)?;
        line.session = Some(self.session.clone());
        let proof = self.secrets.sign_attach_proof(&line.transcript);
        line.done(1, &Attach { proof })?;
        Ok(line)
    }

    fn lines(&self, relay: &Relay, count: usize) -> Result<Vec<Line<TcpStream>>> {
        (0..count).map(|_| self.line(relay)).collect()
    }

    /// Puts as much into a room as one answer can hold, past the limit of the client.
    fn fill(&self, person: &Person, relay: &Relay, room: &str) -> Outcome {
        let vault = vault(person)?;
        let mut directory: BTreeMap<AccountId, KnownAccount> = BTreeMap::new();
        for (account, row) in vault.accounts()? {
            let row: Value = serde_json::from_slice(&row)?;
            directory.insert(account, serde_json::from_value(row.get("known").context("no keys")?.clone())?);
        }
        let row = vault.rooms()?.into_iter().find(|(id, _)| id.to_string() == room);
        let mut room = Room::from_secret_bytes(&row.context("no such room")?.1.state)?;
        let mut line = self.line(relay)?;
        let content = Content { sent_at: 0, body: Body::Text("x".repeat(95_000)) };
        let now = u64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?;
        for number in 1..=6_u8 {
            let id = ClientMessageId::from_bytes([number; ClientMessageId::LENGTH]);
            let message = room.seal(&content, id, &self.secrets, &directory, now, &mut rng())?;
            line.done(u64::from(number), &MessageSend { message })?;
        }
        Ok(())
    }
}

/// `{"":0}`: whoever makes an object of it needs a hundred times the memory of its text.
#[derive(Clone, Serialize, Deserialize)]
struct Tiny {
    #[serde(rename = "")]
    nothing: u8,
}

/// So many of them that they fill a frame of this length.
fn tiny_objects(limit: usize) -> Vec<Tiny> {
    // The rest is for the request around them.
    vec![Tiny { nothing: 0 }; limit.saturating_sub(256) / r#"{"":0},"#.len()]
}

/// A command that takes no data, with much of it.
#[derive(Serialize, Deserialize)]
struct FullPing(Vec<Tiny>);

impl Command for FullPing {
    const NAME: &'static str = "ping";
    const NEEDS_SESSION: bool = false;
    type Answer = Done;
}

/// A command that may be long, with data of another form.
#[derive(Serialize, Deserialize)]
struct TinyReceipts {
    receipts: Vec<Tiny>,
}

impl Command for TinyReceipts {
    const NAME: &'static str = "receipt_send";
    const NEEDS_SESSION: bool = true;
    type Answer = Done;
}

/// One request of an account that is longer than it may be.
fn ask_once(command: &impl Command) -> Outcome {
    let scene = Scene::start()?;
    let account = Account::of(&scene.alice()?)?;
    endure(&scene.relay, || {
        let mut line = account.line(&scene.relay)?;
        line.stream.set_read_timeout(Some(ATTACK))?;
        // However long it was, it is answered.
        let refused = line.done(2, command).err().and_then(|error| error.downcast::<Refusal>().ok());
        ensure!(refused.is_some_and(|refusal| refusal.code == Code::TooLarge), "it was not refused");
        Ok(line)
    })
}

// REQ S5
#[test]
fn web_socket_pings_without_a_reader_take_little_memory() -> Outcome {
    let scene = Scene::start()?;
    endure(&scene.relay, || {
        let lines: Vec<_> =
            (0..CONNECTIONS).map(|_| WebSocket::set_up(&scene.relay)).collect::<Result<_>>()?;
        Ok(together(lines, |line| line.stream.flood(PING, &[b'x'; 125])))
    })
}

// REQ S5
#[test]
fn web_socket_pings_before_the_set_up_take_little_memory() -> Outcome {
    let scene = Scene::start()?;
    endure(&scene.relay, || {
        let sockets: Vec<_> =
            (0..CONNECTIONS).map(|_| WebSocket::connect(scene.relay.tls())).collect::<Result<_>>()?;
        Ok(together(sockets, |socket| socket.flood(PING, &[b'x'; 125])))
    })
}

// REQ S5
#[test]
fn empty_web_socket_messages_take_little_memory() -> Outcome {
    let scene = Scene::start()?;
    endure(&scene.relay, || {
        let lines: Vec<_> =
            (0..CONNECTIONS).map(|_| WebSocket::set_up(&scene.relay)).collect::<Result<_>>()?;
        Ok(together(lines, |line| line.stream.flood(BINARY, &[])))
    })
}

// REQ S5
#[test]
fn a_strangers_frames_of_tiny_objects_take_little_memory() -> Outcome {
    let scene = Scene::start()?;
    let command = FullPing(tiny_objects(UNBOUND_LIMIT));
    endure(&scene.relay, || {
        let lines: Vec<_> = (0..CONNECTIONS).map(|_| stranger(&scene.relay)).collect::<Result<_>>()?;
        Ok(together(lines, |line| {
            let (begun, mut offered) = (Instant::now(), 0);
            for id in 1.. {
                let Ok(frame) = line.frame(id, &command) else { return };
                if offered >= OFFERED || begun.elapsed() >= ATTACK || line.stream.write_all(&frame).is_err() {
                    return;
                }
                offered += frame.len();
            }
        }))
    })
}

// REQ S5
#[test]
fn an_accounts_frame_of_tiny_objects_takes_little_memory() -> Outcome {
    ask_once(&FullPing(tiny_objects(SESSION_LIMIT)))
}

// REQ S5: also where a long request is in order.
#[test]
fn receipts_that_are_tiny_objects_take_little_memory() -> Outcome {
    ask_once(&TinyReceipts { receipts: tiny_objects(SESSION_LIMIT) })
}

// REQ S5
#[test]
fn answers_that_nobody_reads_take_little_memory() -> Outcome {
    /// As many as are in hand at a time on one connection.
    const REQUESTS: u64 = 64;
    let scene = Scene::start()?;
    let alice = scene.alice()?;
    let room = alice.room(&["room", "create", "--name", "모임"])?;
    let account = Account::of(&alice)?;
    account.fill(&alice, &scene.relay, &room)?;
    let log = RoomLog { room: room.parse()?, after_seq: 0, after_epoch: 0, limit: MAX_PAGE };
    let own: AccountId = alice.account().parse()?;
    let keys = GetAccountKeys { accounts: vec![own; MAX_KEYS] };
    endure(&scene.relay, || {
        // With more of them the account would be told to wait.
        let lines = account.lines(&scene.relay, 6)?;
        Ok(together(lines, |line| {
            for id in 2..2 + REQUESTS {
                let request = match id % 16 {
                    0 => line.frame(id, &keys),
                    1 => line.frame(id, &RoomList {}),
                    _ => line.frame(id, &log),
                };
                if request.is_ok_and(|request| line.stream.write_all(&request).is_err()) {
                    return;
                }
            }
        }))
    })
}

// REQ S5: what an account may send at once is little, but one address may have several.
#[test]
fn frames_that_never_end_take_little_memory() -> Outcome {
    let scene = Scene::start()?;
    let people = ["alice", "bob", "carol", "dave"].map(|name| scene.stranger(name));
    let link = scene.relay.link();
    thread::scope(|scope| {
        let sign_ups: Vec<_> =
            people.iter().map(|person| scope.spawn(move || person.sign_up(link))).collect();
        sign_ups.into_iter().try_for_each(|done| done.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    let accounts: Vec<Account> = people.iter().map(Account::of).collect::<Result<_>>()?;
    // The end would follow.
    let most = SESSION_LIMIT - CHUNK;
    let length = u32::try_from(SESSION_LIMIT)?.to_be_bytes();
    endure(&scene.relay, || {
        let mut lines = Vec::new();
        for account in &accounts {
            lines.extend(account.lines(&scene.relay, CONNECTIONS)?);
        }
        Ok(together(lines, |line| {
            if line.stream.write_all(&length).is_ok() {
                offer(&mut line.stream, &[0; CHUNK], most);
            }
        }))
    })
}
