//! Servers for tests: keys, certificates, and TLS on port 0.

use std::sync::{Arc, LazyLock};

use http::HeaderValue;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use mildam_protocol::ServerLink;
use mildam_protocol::set_up::{self, ChannelBinding, ServerKey};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256};
use rustls::ServerConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::carrier::{self, Stream};
use crate::keep_alive::Heard;
use crate::tls::Authorities;
use crate::web_socket;

/// A key and a chain that show a server in TLS. They need not belong together.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// A server key, made once for all tests.
pub(crate) static SERVER_KEY: LazyLock<ServerKey> =
    LazyLock::new(|| ServerKey::generate(&mut crate::rng()).unwrap());
/// Another one.
pub(crate) static OTHER_KEY: LazyLock<ServerKey> =
    LazyLock::new(|| ServerKey::generate(&mut crate::rng()).unwrap());

fn key_pair(key: &ServerKey) -> KeyPair {
    let der = key.to_pkcs8().unwrap();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_slice()), &PKCS_RSA_SHA256)
        .unwrap()
}

pub(crate) fn params(host: &str) -> CertificateParams {
    CertificateParams::new([host.to_owned()]).unwrap()
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// A certificate of the server key itself.
pub(crate) fn own(key: &ServerKey) -> Shown {
    let pair = key_pair(key);
    let certificate = params("localhost").self_signed(&pair).unwrap();
    Shown {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(pair.serialize_der()).into(),
    }
}

/// A certificate that the server key has issued, and the server key's own.
pub(crate) fn issued(key: &ServerKey, params: &CertificateParams) -> Shown {
    issued_by(key_pair(key), params)
}

fn issued_by(issuer: KeyPair, params: &CertificateParams) -> Shown {
    let root = authority().self_signed(&issuer).unwrap();
    let pair = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&pair, &Issuer::new(authority(), issuer)).unwrap();
    Shown {
        chain: vec![leaf.der().clone(), root.der().clone()],
        key: PrivatePkcs8KeyDer::from(pair.serialize_der()).into(),
    }
}

/// A certificate of an authority that has nothing to do with any server key.
pub(crate) fn web(host: &str) -> Shown {
    issued_by(KeyPair::generate().unwrap(), &params(host))
}

/// The authority at the end of a chain, and no other, is trusted.
pub(crate) fn trusting(shown: &Shown) -> Authorities {
    let root = shown.chain.last().unwrap().clone();
    Authorities::new(move |provider| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone())?;
        let made = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        made.map(|verifier| verifier as _).map_err(|error| rustls::Error::General(error.to_string()))
    })
}

/// No authority is trusted.
pub(crate) fn trusting_none() -> Authorities {
    Authorities::new(|_| Err(rustls::Error::General("no authority is trusted".to_owned())))
}

/// A TLS server on port 0.
pub(crate) struct TlsServer {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsServer {
    pub(crate) async fn bind(shown: Shown, alpn: &[&str]) -> Self {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&shown.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certified = SingleCertAndKey::from(CertifiedKey::new(shown.chain, key));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certified));
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Its link, with the fingerprint of `key`.
    pub(crate) fn link(&self, key: &ServerKey) -> ServerLink {
        let port = self.listener.local_addr().unwrap().port();
        ServerLink::new("localhost", port, key.fingerprint()).unwrap()
    }

    pub(crate) async fn accept_tcp(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    pub(crate) async fn accept(&self) -> std::io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(self.accept_tcp().await).await
    }
}

/// The server's part in opening a WebSocket.
pub(crate) async fn accept_web_socket<S: Stream>(stream: S) -> Result<impl Stream, WsError> {
    // The form of the answer is what the library asks for.
    #[expect(clippy::result_large_err)]
    let answer = |request: &Request, mut response: Response| {
        assert_eq!(request.uri().path(), "/ws");
        assert_eq!(request.headers()[SEC_WEBSOCKET_PROTOCOL], "mildam.1");
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mildam.1"));
        Ok(response)
    };
    Ok(web_socket::bytes(tokio_tungstenite::accept_hdr_async(stream, answer).await?))
}

/// The channel binding that a server sees.
pub(crate) fn binding(stream: &TlsStream<TcpStream>) -> ChannelBinding {
    let (_, session) = stream.get_ref();
    Some(session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).unwrap())
}

/// The server's part in a set-up, over any stream.
pub(crate) async fn serve_set_up<S: Stream>(
    stream: &mut S,
    key: &ServerKey,
    binding: ChannelBinding,
) -> std::io::Result<()> {
    let (greeting, state) =
        set_up::server::start(key, "test", binding, &mut crate::rng()).map_err(std::io::Error::other)?;
    carrier::write(stream, &greeting).await?;
    let answer = read(stream).await?;
    let (delivery, state) = state.handle(&answer, &mut crate::rng()).map_err(std::io::Error::other)?;
    carrier::write(stream, &delivery).await?;
    let confirmation = read(stream).await?;
    let (last, _) = state.handle(&confirmation).map_err(std::io::Error::other)?;
    carrier::write(stream, &last).await
}

async fn read<S: Stream>(stream: &mut S) -> std::io::Result<Vec<u8>> {
    carrier::read_session(stream, &Heard::default()).await
}
