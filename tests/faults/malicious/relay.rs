//! A relay that was taken over: it stands in the relay's place with the relay's own key, reads
//! every request, answer and push, and does with them what a test tells it to.
//!
//! It keeps its records in the true relay behind it. That one, too, lets nobody use a session without
//! the key of its device, so the machine in the middle is lent these keys, for this and nothing else.

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use mildam_e2ee::DeviceSecrets;
use mildam_protocol::ServerLink;
use mildam_protocol::records::Hash;
use mildam_tests::{Person, Relay};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;

use super::hand::Hand;
use super::wire::{self, Answer, Reader, RelayKey, Writer};

/// Something on its way between a client and the relay.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// Whose connection it is; empty before it is logged in.
    pub account: String,
    /// What it is.
    pub kind: Kind,
    /// The name of the command or the event.
    pub name: String,
    /// With an answer: the data that was asked with.
    pub asked: Value,
    /// The data; with an answer that is a refusal: `{"code", "message"}`.
    pub data: Value,
    /// With an answer: `success`, `invalid` or `fail`.
    pub status: String,
}

/// The three kinds of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From a client.
    Request,
    /// From the relay, to a request.
    Answer,
    /// From the relay, by itself.
    Push,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It goes on, as the rules left it.
    Pass,
    /// It does not.
    Withhold,
    /// It does not, and the connection ends.
    Cut,
    /// A request does not go on, and is answered with this.
    Answer(Value),
    /// A request does not go on, and is refused with this code.
    Refuse(&'static str),
}

type Rule = Box<dyn FnMut(&mut Traffic) -> Fate + Send>;

/// Whose proof stands in for a client's, by session.
#[derive(Clone, Default)]
pub struct Devices(Arc<Mutex<HashMap<String, DeviceSecrets>>>);

impl Devices {
    /// Takes the key of a person's device.
    pub fn lend(&self, person: &Person) -> Result<()> {
        let hand = Hand::of(person)?;
        let session = hand.session.as_str().context("a session")?.to_owned();
        lock(&self.0).insert(session, hand.secrets);
        Ok(())
    }

    /// The proof that lets a connection use a session.
    fn proof(&self, session: &Value, transcript: &Hash) -> Result<Value> {
        let devices = lock(&self.0);
        let secrets = session.as_str().and_then(|session| devices.get(session));
        Ok(json!(secrets.context("nobody's session")?.sign_attach_proof(transcript)))
    }
}

#[derive(Default)]
struct Shared {
    /// Each with its number.
    rules: Vec<(u64, Rule)>,
    next_rule: u64,
    /// The connections that are logged in, by account.
    connections: HashMap<String, UnboundedSender<News>>,
    /// All that came by, as it came.
    seen: Vec<Traffic>,
    upstream: String,
    shut: bool,
}

/// The relay in the middle. It ends when this is dropped.
pub struct MaliciousRelay {
    _runtime: Runtime,
    shared: Arc<Mutex<Shared>>,
    link: String,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MaliciousRelay {
    /// Stands in front of a relay, with the key from its folder.
    pub fn before(relay: &Relay, devices: Devices) -> Result<Self> {
        let der = fs::read(relay.data().join("server-key.der"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let known: ServerLink = relay.link().parse()?;
        let port = listener.local_addr()?.port();
        let link = ServerLink::new("127.0.0.1", port, *known.fingerprint())?.to_string();
        let shared = Shared { upstream: relay.plain()?.to_owned(), ..Shared::default() };
        let shared = Arc::new(Mutex::new(shared));
        let place = Arc::new(Place {
            tls: tls(&der)?,
            key: RelayKey::from_pkcs8(&der)?,
            devices,
            shared: Arc::clone(&shared),
        });
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let place = Arc::clone(&place);
                // A connection that ends is no fault of this program.
                tokio::spawn(async move { place.stand_between(stream).await.ok() });
            }
        });
        Ok(Self { _runtime: runtime, shared, link })
    }

    /// The link to it: the fingerprint is the real relay's.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Adds a rule. Rules see everything in the order in which they were added, until one of them
    /// does anything but [`Fate::Pass`]. What comes back is for [`Self::lift`].
    pub fn rule(&self, rule: impl FnMut(&mut Traffic) -> Fate + Send + 'static) -> u64 {
        let mut shared = lock(&self.shared);
        shared.next_rule += 1;
        let number = shared.next_rule;
        shared.rules.push((number, Box::new(rule)));
        number
    }

    /// Takes a rule back.
    pub fn lift(&self, rule: u64) {
        lock(&self.shared).rules.retain(|(number, _)| *number != rule);
    }

    /// Adds a rule for what people are answered to a command.
    pub fn on_answer(
        &self,
        command: &'static str,
        mut rule: impl FnMut(&mut Traffic) + Send + 'static,
    ) -> u64 {
        self.rule(move |traffic| {
            if traffic.kind == Kind::Answer && traffic.name == command && traffic.status == "success" {
                rule(traffic);
            }
            Fate::Pass
        })
    }

    /// Adds a rule for every log item that reaches an account, in whatever way. Those for which it
    /// says false are withheld.
    pub fn on_item(
        &self,
        account: &'static str,
        mut rule: impl FnMut(&mut Value) -> bool + Send + 'static,
    ) -> u64 {
        self.rule(move |traffic| {
            if traffic.account != account {
                return Fate::Pass;
            }
            match (traffic.kind, traffic.name.as_str()) {
                (Kind::Push, "log") if !traffic.data.get_mut("item").is_none_or(&mut rule) => {
                    return Fate::Withhold;
                }
                (Kind::Answer, "room_log") => {
                    if let Some(items) = traffic.data.get_mut("items").and_then(Value::as_array_mut) {
                        items.retain_mut(&mut rule);
                    }
                }
                _ => {}
            }
            Fate::Pass
        })
    }

    /// Lets nobody in any more, or again.
    pub fn shut(&self, shut: bool) {
        lock(&self.shared).shut = shut;
    }

    /// Tells somebody who is connected something that the relay never said.
    pub fn push(&self, account: &str, event: &str, data: Value) -> Result<()> {
        let news = News::Push(json!({"event": event, "data": data}));
        let shared = lock(&self.shared);
        let connection = shared.connections.get(account).context("nobody of that account is connected")?;
        connection.send(news).map_err(|_| anyhow::anyhow!("{account} has just gone"))
    }

    /// Everything that came by and fits, as it was before any rule.
    pub fn seen(&self, fits: impl Fn(&Traffic) -> bool) -> Vec<Traffic> {
        lock(&self.shared).seen.iter().filter(|traffic| fits(traffic)).cloned().collect()
    }

    /// The data of every request of an account for a command.
    pub fn asked(&self, account: &str, command: &str) -> Vec<Value> {
        let fits = |traffic: &Traffic| {
            traffic.kind == Kind::Request && traffic.account == account && traffic.name == command
        };
        self.seen(fits).into_iter().map(|traffic| traffic.data).collect()
    }
}

/// TLS under the relay's key: to a client, there is no difference.
fn tls(der: &[u8]) -> Result<TlsAcceptor> {
    let der = PrivatePkcs8KeyDer::from(der);
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256)?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&pair)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], der.clone_key().into())?;
    config.alpn_protocols = vec![b"mildam/1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What reaches the middle of one connection.
enum News {
    Request(Value),
    Answer(Answer),
    Push(Value),
    End,
}

struct Place {
    tls: TlsAcceptor,
    key: RelayKey,
    devices: Devices,
    shared: Arc<Mutex<Shared>>,
}

impl Place {
    async fn stand_between(&self, stream: TcpStream) -> Result<()> {
        if lock(&self.shared).shut {
            return Ok(());
        }
        stream.set_nodelay(true)?;
        let stream = self.tls.accept(stream).await?;
        let binding =
            stream.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[]))?;
        let (from_client, to_client) = wire::serve(split(stream), &self.key, Some(&binding)).await?;
        let upstream = lock(&self.shared).upstream.clone();
        let upstream = TcpStream::connect(upstream).await?;
        upstream.set_nodelay(true)?;
        let (from_relay, to_relay, transcript) = wire::connect(split(upstream), &self.key).await?;
        let (sender, news) = unbounded_channel();
        let ears = [
            tokio::spawn(hear_client(from_client, sender.clone())),
            tokio::spawn(hear_relay(from_relay, sender.clone())),
        ];
        let shared = Arc::clone(&self.shared);
        let account = String::new();
        let asked = HashMap::new();
        let devices = self.devices.clone();
        let between = Between { shared, account, asked, devices, transcript, to_client, to_relay, sender };
        let outcome = between.run(news).await;
        // Each of them holds one half of a connection, which ends only without it.
        ears.iter().for_each(tokio::task::JoinHandle::abort);
        outcome
    }
}

async fn hear_client(mut reader: Reader<impl AsyncRead + Unpin>, news: UnboundedSender<News>) {
    while let Ok(request) = reader.request().await {
        news.send(News::Request(request)).ok();
    }
    news.send(News::End).ok();
}

async fn hear_relay(mut reader: Reader<impl AsyncRead + Unpin>, news: UnboundedSender<News>) {
    while let Ok(answer) = reader.answer().await {
        news.send(News::Answer(answer)).ok();
    }
    news.send(News::End).ok();
}

/// The middle of one connection.
struct Between<C, R> {
    shared: Arc<Mutex<Shared>>,
    account: String,
    /// Commands in hand: name and data, by the client's number.
    asked: HashMap<u64, (String, Value)>,
    devices: Devices,
    /// Of the connection to the relay.
    transcript: Hash,
    to_client: Writer<C>,
    to_relay: Writer<R>,
    sender: UnboundedSender<News>,
}

impl<C: AsyncWrite + Unpin, R: AsyncWrite + Unpin> Between<C, R> {
    async fn run(mut self, mut news: UnboundedReceiver<News>) -> Result<()> {
        while let Some(news) = news.recv().await {
            let goes_on = match news {
                News::Request(request) => self.on_request(request).await?,
                News::Answer(answer) => self.on_answer(answer).await?,
                News::Push(event) => {
                    self.to_client.answer(success(None, event)).await?;
                    true
                }
                News::End => false,
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// What the rules make of it.
    fn judge(&self, traffic: &mut Traffic) -> Fate {
        let mut shared = lock(&self.shared);
        shared.seen.push(traffic.clone());
        let mut fates = shared.rules.iter_mut().map(|(_, rule)| rule(traffic));
        fates.find(|fate| *fate != Fate::Pass).unwrap_or(Fate::Pass)
    }

    async fn on_request(&mut self, mut request: Value) -> Result<bool> {
        let id = request.get("id").and_then(Value::as_u64).context("a request without id")?;
        let name = request.get("command").and_then(Value::as_str).context("no command")?.to_owned();
        let data = request.get("data").cloned().unwrap_or_default();
        self.asked.insert(id, (name.clone(), data.clone()));
        let mut traffic = Traffic {
            account: self.account.clone(),
            kind: Kind::Request,
            name,
            asked: Value::Null,
            data,
            status: String::new(),
        };
        match self.judge(&mut traffic) {
            Fate::Pass => {
                if traffic.name == "attach" {
                    let session = request.get("session").cloned().unwrap_or_default();
                    let proof = self.devices.proof(&session, &self.transcript)?;
                    traffic.data.as_object_mut().context("no data")?.insert("proof".to_owned(), proof);
                }
                if let Some(fields) = request.as_object_mut() {
                    fields.insert("data".to_owned(), traffic.data);
                }
                self.to_relay.request(&request).await?;
            }
            Fate::Withhold => {}
            Fate::Cut => return Ok(false),
            Fate::Answer(data) => self.to_client.answer(success(Some(id), data)).await?,
            Fate::Refuse(code) => self.to_client.answer(refusal(id, code)).await?,
        }
        Ok(true)
    }

    async fn on_answer(&mut self, mut answer: Answer) -> Result<bool> {
        let id = answer.get("id").and_then(Value::as_u64);
        let text = |field: &str| answer.get(field).cloned().unwrap_or_default();
        let status = text("status").as_str().unwrap_or_default().to_owned();
        let (kind, name, asked, data) = match id.map(|id| self.asked.remove(&id)) {
            Some(asked) => {
                let (name, asked) = asked.context("an answer to nothing")?;
                let refused = || json!({"code": text("code"), "message": text("message")});
                (Kind::Answer, name, asked, answer.get("data").cloned().unwrap_or_else(refused))
            }
            None => {
                let mut push = text("data");
                let name = push.get("event").and_then(Value::as_str).unwrap_or_default().to_owned();
                (Kind::Push, name, Value::Null, push.get_mut("data").map(Value::take).unwrap_or_default())
            }
        };
        if name == "attach" && status == "success" {
            self.account = data.get("account").and_then(Value::as_str).context("no account")?.to_owned();
            lock(&self.shared).connections.insert(self.account.clone(), self.sender.clone());
        }
        let mut traffic = Traffic { account: self.account.clone(), kind, name, asked, data, status };
        match self.judge(&mut traffic) {
            Fate::Pass => {}
            Fate::Cut => return Ok(false),
            Fate::Refuse(code) => {
                self.to_client.answer(refusal(id.context("a push cannot be refused")?, code)).await?;
                return Ok(true);
            }
            _ => return Ok(true),
        }
        if answer.contains_key("data") {
            let data = match kind {
                Kind::Push => json!({"event": traffic.name, "data": traffic.data}),
                _ => traffic.data,
            };
            answer.insert("data".to_owned(), data);
        }
        self.to_client.answer(answer).await?;
        Ok(true)
    }
}

fn success(id: Option<u64>, data: Value) -> Answer {
    let mut answer = Answer::new();
    answer.insert("status".to_owned(), "success".into());
    answer.extend(id.map(|id| ("id".to_owned(), id.into())));
    answer.insert("data".to_owned(), data);
    answer
}

fn refusal(id: u64, code: &str) -> Answer {
    let mut answer = Answer::new();
    let fields = [("status", "invalid".into()), ("id", id.into()), ("code", code.into())];
    answer.extend(fields.map(|(field, value): (_, Value)| (field.to_owned(), value)));
    answer.insert("message".to_owned(), "no".into());
    answer
}
