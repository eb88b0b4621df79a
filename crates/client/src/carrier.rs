//! The way to the relay: TCP, TLS pinned to the link's fingerprint, frames, and the set-up.

use std::sync::Arc;

use mildam_protocol::ServerLink;
use mildam_protocol::frame::{self, HEADER, SESSION_LIMIT, SET_UP_LIMIT};
use mildam_protocol::records::Hash;
use mildam_protocol::session::ClientSession;
use mildam_protocol::set_up::{self, ClientKey, Established, SetUpError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::Error;
use crate::keep_alive::Heard;

/// What the set-up's channel binding is called (RFC 9266).
const EXPORTER: &[u8] = b"EXPORTER-Channel-Binding";
/// What TLS says to speak.
const ALPN: &[u8] = b"mildam/1";

/// After so many bytes of a long payload the server has been heard again.
const CHUNK: usize = 16 * 1024;

/// A byte stream of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection whose session key is active.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) established: Established<ClientSession>,
}

/// Accepts exactly the certificate whose public key has the link's fingerprint. Names and dates do
/// not matter: the fingerprint says which server is meant.
#[derive(Debug)]
struct Pinned {
    fingerprint: Hash,
    provider: Arc<CryptoProvider>,
}

fn fingerprint_of(certificate: &CertificateDer<'_>) -> Option<Hash> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    Some(Hash::from_bytes(Sha256::digest(parsed.subject_public_key_info()).into()))
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match fingerprint_of(end_entity) {
            Some(found) if found == self.fingerprint => Ok(ServerCertVerified::assertion()),
            Some(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
            None => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn tls_config(link: &ServerLink) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Pinned { fingerprint: *link.fingerprint(), provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|_| Error::internal("TLS"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Opens the carrier. All of it together may take as long as a set-up.
pub(crate) async fn open(link: &ServerLink) -> Result<(Box<dyn Stream>, Option<[u8; 32]>), Error> {
    timeout(set_up::TIME_LIMIT, open_tls(link)).await.map_err(|_| Error::offline())?
}

async fn open_tls(link: &ServerLink) -> Result<(Box<dyn Stream>, Option<[u8; 32]>), Error> {
    let tcp = TcpStream::connect((link.host(), link.port())).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(link.host().to_owned()).map_err(|_| Error::offline())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls_config(link)?));
    let tls = connector.connect(name, tcp).await.map_err(tls_error)?;
    let binding = tls
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER, Some(&[]))
        .map_err(|_| Error::internal("TLS exporter"))?;
    Ok((Box::new(tls), Some(binding)))
}

fn tls_error(error: std::io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Error::wrong_fingerprint("in its TLS certificate"),
        Some(_) => Error::new("set_up_failed", format!("No TLS connection could be made: {error}.")),
        None => Error::offline(),
    }
}

/// Agrees on a session key over an open carrier.
pub(crate) async fn set_up(
    mut stream: Box<dyn Stream>,
    binding: Option<[u8; 32]>,
    link: &ServerLink,
    key: ClientKey,
) -> Result<Connection, Error> {
    let outcome = timeout(set_up::TIME_LIMIT, agree(&mut stream, binding, link, key)).await;
    match outcome {
        Ok(Ok(established)) => Ok(Connection { stream, established }),
        Ok(Err(Agree::SetUp(error))) => {
            // The server is told, unless it is another one than the link names.
            if !matches!(error, SetUpError::WrongFingerprint { .. } | SetUpError::Refused { .. }) {
                let _ = write(&mut stream, &SetUpError::client_refusal()).await;
            }
            Err(error.into())
        }
        Ok(Err(Agree::Io)) => Err(Error::offline()),
        Err(_) => Err(Error::new(
            "set_up_failed",
            "The server took longer than 10 seconds to set up the connection.",
        )),
    }
}

enum Agree {
    SetUp(SetUpError),
    Io,
}

impl From<SetUpError> for Agree {
    fn from(error: SetUpError) -> Self {
        Self::SetUp(error)
    }
}

impl From<std::io::Error> for Agree {
    fn from(_: std::io::Error) -> Self {
        Self::Io
    }
}

async fn agree(
    stream: &mut Box<dyn Stream>,
    binding: Option<[u8; 32]>,
    link: &ServerLink,
    key: ClientKey,
) -> Result<Established<ClientSession>, Agree> {
    let state = set_up::client::start(*link.fingerprint(), key, binding);
    let (answer, state) = state.handle(&read(stream, SET_UP_LIMIT).await?, &mut crate::rng())?;
    write(stream, &answer).await?;
    let (answer, state) = state.handle(&read(stream, SET_UP_LIMIT).await?, &mut crate::rng())?;
    write(stream, &answer).await?;
    Ok(state.handle(&read(stream, SET_UP_LIMIT).await?)?)
}

/// Reads one frame's payload of a session.
pub(crate) async fn read_session(
    stream: &mut (impl AsyncRead + Unpin),
    heard: &Heard,
) -> std::io::Result<Vec<u8>> {
    read_heard(stream, SESSION_LIMIT, heard).await
}

async fn read(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> std::io::Result<Vec<u8>> {
    read_heard(stream, limit, &Heard::default()).await
}

async fn read_heard(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
    heard: &Heard,
) -> std::io::Result<Vec<u8>> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    heard.note();
    let length = frame::payload_length(header, limit).map_err(std::io::Error::other)?;
    let mut payload = vec![0; length];
    for chunk in payload.chunks_mut(CHUNK) {
        stream.read_exact(chunk).await?;
        heard.note();
    }
    Ok(payload)
}

/// Writes one frame.
pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> std::io::Result<()> {
    stream.write_all(&frame::encode(payload).map_err(std::io::Error::other)?).await?;
    stream.flush().await
}
