//! The other end of a connection: what docs/protocol.md asks of a client, and not one line more.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mildam_protocol::command::{Command, LogInStart, SessionId};
use mildam_protocol::frame::{self, Decoder, SESSION_LIMIT};
use mildam_protocol::password::{LOGIN_FINISH, Login};
use mildam_protocol::records::bytes::Bytes;
use mildam_protocol::records::{AccountId, Hash};
use mildam_protocol::session::client::{Opener, Sealer};
use mildam_protocol::session::{ClientSession, Incoming};
use mildam_protocol::set_up::{ChannelBinding, ClientKey, Established, client};
use mildam_protocol::{Event, Refusal};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::relay::{TestRelay, rng, server_key};

/// Where a test that waits for what never comes gives up.
const PATIENCE: Duration = Duration::from_secs(60);

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection on which frames come and go.
pub struct Wire {
    pub stream: Box<dyn Stream>,
    decoder: Decoder,
}

impl Wire {
    pub async fn plain(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), decoder: Decoder::new(SESSION_LIMIT) }
    }

    pub async fn write(&mut self, payload: &[u8]) {
        self.write_raw(&frame::encode(payload).unwrap()).await;
    }

    pub async fn write_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next payload; none once the other side has closed.
    pub async fn read(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(payload) = self.decoder.next().unwrap() {
                return Some(payload);
            }
            let count = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer));
            match count.await.expect("nothing came") {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.decoder.extend(&buffer[..count]),
            }
        }
    }

    pub async fn read_json(&mut self) -> Value {
        serde_json::from_slice(&self.read().await.expect("closed")).unwrap()
    }

    /// The client's part of the set-up.
    pub async fn set_up(&mut self, trusted: Hash, binding: ChannelBinding) -> Established<ClientSession> {
        let state = client::start(trusted, client_key(), binding);
        let (answer, state) = state.handle(&self.read().await.unwrap(), &mut rng()).unwrap();
        self.write(&answer).await;
        let (confirmation, state) = state.handle(&self.read().await.unwrap(), &mut rng()).unwrap();
        self.write(&confirmation).await;
        state.handle(&self.read().await.unwrap()).unwrap()
    }
}

/// One for all tests: it takes seconds to make.
pub fn client_key() -> ClientKey {
    static KEY: OnceLock<ClientKey> = OnceLock::new();
    // Any RSA-3072 key will do; that both sides have the same is of no concern to either.
    KEY.get_or_init(|| ClientKey::danger_from_pkcs8(server_key()).unwrap()).clone()
}

/// A client without a memory: it asks, and keeps what comes in between.
pub struct Client {
    wire: Wire,
    sealer: Sealer,
    opener: Opener,
    pub transcript: Hash,
    pub session: Option<SessionId>,
    next_id: u64,
    answers: BTreeMap<u64, Result<Value, Refusal>>,
    events: VecDeque<Event>,
    pub wants_presence: bool,
}

impl Client {
    /// The first step of a login, and the last word of a password to end it with.
    pub async fn password_proof(&mut self, account: &AccountId, password: &str) -> Bytes {
        let (login, request) = Login::start(password, &mut rng()).unwrap();
        let start = LogInStart { account: account.clone(), password: request, device: None, proof: None };
        let response = self.ask(&start).await.unwrap().password;
        let last = login.finish(account, &response, &self.transcript, &mut rng());
        last.unwrap_or_else(|_| Bytes(vec![0; LOGIN_FINISH]))
    }

    pub async fn connect(relay: &TestRelay) -> Self {
        Self::connect_to(relay.tls, *relay.link.fingerprint()).await
    }

    pub async fn connect_to(address: SocketAddr, trusted: Hash) -> Self {
        let (mut wire, binding, _) = tls(address, &[b"mildam/1"]).await.unwrap();
        let established = wire.set_up(trusted, Some(binding)).await;
        Self::begin(wire, established)
    }

    pub async fn connect_plain(relay: &TestRelay) -> Self {
        let mut wire = Wire::plain(relay.plain).await;
        let established = wire.set_up(*relay.link.fingerprint(), None).await;
        Self::begin(wire, established)
    }

    pub fn begin(wire: Wire, established: Established<ClientSession>) -> Self {
        let (sealer, opener) = established.session.split();
        Self {
            wire,
            sealer,
            opener,
            transcript: established.transcript,
            session: None,
            next_id: 1_000,
            answers: BTreeMap::new(),
            events: VecDeque::new(),
            wants_presence: false,
        }
    }

    /// Sends a request without waiting for its answer.
    pub async fn send<C: Command>(&mut self, command: &C) -> u64 {
        let (id, payload) = self.seal(command);
        self.wire.write(&payload).await;
        id
    }

    pub fn seal<C: Command>(&mut self, command: &C) -> (u64, Vec<u8>) {
        let id = self.next_id;
        self.next_id += 1;
        (id, self.sealer.request(id, self.session.as_ref(), command, &mut rng()).unwrap())
    }

    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// The answer to a request, or none if the relay closes first.
    pub async fn answer_if_any(&mut self, id: u64) -> Option<Result<Value, Refusal>> {
        while !self.answers.contains_key(&id) {
            self.listen().await?;
        }
        self.answers.remove(&id)
    }

    pub async fn answer<C: Command>(&mut self, id: u64) -> Result<C::Answer, Refusal> {
        let answer = self.answer_if_any(id).await.expect("the relay closed the connection");
        answer.map(|value| serde_json::from_value(value).unwrap())
    }

    pub async fn ask<C: Command>(&mut self, command: &C) -> Result<C::Answer, Refusal> {
        let id = self.send(command).await;
        self.answer::<C>(id).await
    }

    /// The next event.
    pub async fn event(&mut self) -> Event {
        self.event_if_any().await.expect("the relay closed the connection")
    }

    pub async fn event_if_any(&mut self) -> Option<Event> {
        while self.events.is_empty() {
            self.listen().await?;
        }
        self.events.pop_front()
    }

    /// The events so far. Everything that was pushed before the answer to a request that is sent
    /// now is among them.
    pub async fn events_until_now(&mut self) -> Vec<Event> {
        self.ask(&mildam_protocol::command::ServerInfo {}).await.unwrap();
        self.events.drain(..).collect()
    }

    pub async fn is_closed(&mut self) -> bool {
        while self.listen().await.is_some() {}
        true
    }

    /// Who comes and goes is told on top of everything else: those who do not ask for it do without.
    fn passes_over(&self, event: &Event) -> bool {
        matches!(event, Event::Presence { .. }) && !self.wants_presence
    }

    async fn listen(&mut self) -> Option<()> {
        let payload = self.wire.read().await?;
        match self.opener.open(&payload).unwrap() {
            Incoming::Answer { id, outcome } => drop(self.answers.insert(id, outcome)),
            Incoming::Push(event) if self.passes_over(&event) => {}
            Incoming::Push(event) => self.events.push_back(*event),
            other => panic!("unexpected: {other:?}"),
        }
        Some(())
    }
}

/// Connects with TLS and takes whatever certificate comes; gives it along with its chain.
pub async fn tls(
    address: SocketAddr,
    alpn: &[&[u8]],
) -> std::io::Result<(Wire, [u8; 32], Vec<CertificateDer<'static>>)> {
    let (stream, binding, chain) = tls_stream(address, alpn).await?;
    Ok((Wire::over(stream), binding, chain))
}

pub async fn tls_stream(
    address: SocketAddr,
    alpn: &[&[u8]],
) -> std::io::Result<(TlsStream<TcpStream>, [u8; 32], Vec<CertificateDer<'static>>)> {
    let stream = TcpStream::connect(address).await?;
    tls_over(stream, alpn).await
}

pub async fn tls_over(
    stream: TcpStream,
    alpn: &[&[u8]],
) -> std::io::Result<(TlsStream<TcpStream>, [u8; 32], Vec<CertificateDer<'static>>)> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (_, connection) = stream.get_ref();
    let label = b"EXPORTER-Channel-Binding";
    let binding = connection.export_keying_material([0; 32], label, Some(&[])).unwrap();
    let chain = connection.peer_certificates().unwrap().iter().map(|one| one.clone().into_owned()).collect();
    Ok((stream, binding, chain))
}

/// The set-up inside checks the server's key against the link, and the channel binding ties it to
/// this TLS connection.
#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
