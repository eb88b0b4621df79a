//! A connection over TLS that costs its owner little: what comes is told apart by what stands in clear
//! around it, and only opened where the answer itself is wanted.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mildam_e2ee::DeviceSecrets;
use mildam_e2ee::records::Hash;
use mildam_protocol::command::{Attach, Command, SessionId};
use mildam_protocol::session::{ClientSession, Incoming, client};
use mildam_protocol::set_up::{self, ClientKey, Established};
use mildam_protocol::{ServerLink, carrier, frame};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::people::{rng, rsa};

type Stream = TlsStream<TcpStream>;

/// How long, in bytes, a push of one of our messages is.
const MESSAGE: std::ops::Range<usize> = 1_000..3_000;

/// A relay to connect to.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    link: ServerLink,
    connector: TlsConnector,
    /// One for all: to make one takes a second.
    key: ClientKey,
}

impl Target {
    pub fn new(address: SocketAddr, link: ServerLink) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Careless(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![carrier::ALPN.to_vec()];
        let key = ClientKey::danger_from_pkcs8(&rsa("wrap")?)?;
        Ok(Self { address, link, connector: TlsConnector::from(Arc::new(config)), key })
    }

    /// TLS and the set-up. Whoever connects comes from an address of its own, so that no fixed share of
    /// one address holds up the load of many people.
    pub async fn connect(&self, from: Ipv4Addr) -> Result<Connection> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let tcp = socket.connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let mut stream = self.connector.connect(ServerName::try_from("localhost")?, tcp).await?;
        let (_, tls) = stream.get_ref();
        let binding = tls.export_keying_material([0; 32], carrier::EXPORTER_LABEL, Some(&[]))?;
        let state = set_up::client::start(*self.link.fingerprint(), self.key.clone(), Some(binding));
        let greeting = receive(&mut stream).await?;
        let (answer, state) = state.handle(&greeting, &mut rng())?;
        send(&mut stream, &answer).await?;
        let session_key = receive(&mut stream).await?;
        let (confirmation, state) = state.handle(&session_key, &mut rng())?;
        send(&mut stream, &confirmation).await?;
        let last = receive(&mut stream).await?;
        let established: Established<ClientSession> = state.handle(&last)?;
        let (sealer, opener) = established.session.split();
        let (read, write) = tokio::io::split(stream);
        Ok(Connection {
            requests: Requests { stream: write, sealer, session: None, asked: 0 },
            frames: Frames { stream: BufReader::with_capacity(64 * 1024, read), opener, payload: Vec::new() },
            transcript: established.transcript,
        })
    }
}

async fn send(stream: &mut Stream, payload: &[u8]) -> Result<()> {
    stream.write_all(&frame::encode(payload)?).await?;
    Ok(stream.flush().await?)
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    receive_into(stream, &mut payload).await?;
    Ok(payload)
}

async fn receive_into(stream: &mut (impl AsyncRead + Unpin), payload: &mut Vec<u8>) -> Result<()> {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).await?;
    payload.resize(frame::payload_length(header, frame::SESSION_LIMIT)?, 0);
    stream.read_exact(payload).await?;
    Ok(())
}

/// A connection whose session key is active.
pub struct Connection {
    pub requests: Requests,
    pub frames: Frames,
    pub transcript: Hash,
}

impl Connection {
    /// Makes it belong to a device by its session.
    pub async fn attach(&mut self, session: SessionId, secrets: &DeviceSecrets) -> Result<()> {
        self.requests.session = Some(session);
        let proof = secrets.sign_attach_proof(&self.transcript);
        self.ask(&Attach { proof }).await?;
        Ok(())
    }

    /// Asks for something and opens the answer. Not to be used after [`Frames::heard`].
    pub async fn ask<C: Command>(&mut self, command: &C) -> Result<C::Answer> {
        let request = self.requests.frame(command)?;
        let asked = self.requests.asked;
        self.requests.send(&request).await?;
        loop {
            match self.frames.open().await? {
                Incoming::Answer { id, outcome } if id == asked => {
                    return serde_json::from_value(outcome?).context("an answer of another form");
                }
                _ => {}
            }
        }
    }
}

/// What is written on a connection.
pub struct Requests {
    stream: WriteHalf<Stream>,
    sealer: client::Sealer,
    session: Option<SessionId>,
    asked: u64,
}

impl Requests {
    /// A request, sealed and framed. Frames must be sent in the order in which they were made.
    pub fn frame<C: Command>(&mut self, command: &C) -> Result<Vec<u8>> {
        self.asked += 1;
        let payload = self.sealer.request(self.asked, self.session.as_ref(), command, &mut rng())?;
        Ok(frame::encode(&payload)?)
    }

    /// The id of the last request.
    pub const fn last(&self) -> u64 {
        self.asked
    }

    /// Writes as many frames as there are in one go.
    pub async fn send(&mut self, frames: &[u8]) -> Result<()> {
        self.stream.write_all(frames).await?;
        Ok(self.stream.flush().await?)
    }
}

/// What stands in clear around an answer or a push.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    status: &'a str,
    id: Option<u64>,
    #[serde(borrow)]
    code: Option<&'a str>,
}

/// What came, without its content.
pub enum Heard {
    /// This request was done.
    Done(u64),
    /// This request was refused.
    Refused { id: u64, code: String },
    /// Something that the relay tells by itself.
    Push(Pushed),
}

/// What a push is by its length: these three differ much.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Message,
    Epoch,
    /// Shorter than both: while nobody comes or goes, being told to catch up.
    Other,
}

impl Pushed {
    fn of(length: usize) -> Self {
        match length {
            short if short < MESSAGE.start => Self::Other,
            length if MESSAGE.contains(&length) => Self::Message,
            _ => Self::Epoch,
        }
    }
}

/// What is read on a connection.
pub struct Frames {
    stream: BufReader<ReadHalf<Stream>>,
    opener: client::Opener,
    payload: Vec<u8>,
}

impl Frames {
    async fn open(&mut self) -> Result<Incoming> {
        receive_into(&mut self.stream, &mut self.payload).await?;
        Ok(self.opener.open(&self.payload)?)
    }

    /// Waits for the next frame and leaves it sealed. Must be awaited to its end: what it has read of a
    /// frame would be lost.
    pub async fn heard(&mut self) -> Result<Heard> {
        receive_into(&mut self.stream, &mut self.payload).await?;
        let Envelope { status, id, code } = serde_json::from_slice(&self.payload)?;
        Ok(match id {
            None => Heard::Push(Pushed::of(self.payload.len())),
            Some(id) if status == "success" => Heard::Done(id),
            Some(id) => Heard::Refused { id, code: code.unwrap_or(status).to_owned() },
        })
    }

    /// Reads in a task of its own, so that waiting for something can be given up. It ends with the
    /// connection.
    pub fn into_channel(mut self) -> UnboundedReceiver<Heard> {
        let (sender, heard) = unbounded_channel();
        tokio::spawn(async move {
            while let Ok(next) = self.heard().await {
                if sender.send(next).is_err() {
                    return;
                }
            }
        });
        heard
    }
}

/// Takes every certificate: the set-up shows who is at the other end.
#[derive(Debug)]
struct Careless(Arc<CryptoProvider>);

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
