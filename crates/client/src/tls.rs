//! TLS to the relay, and who vouches for its other end.

use std::fmt;
use std::sync::{Arc, OnceLock};

use mildam_protocol::ServerLink;
use mildam_protocol::carrier::EXPORTER_LABEL;
use mildam_protocol::records::Hash;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::certificate;
use crate::error::Error;

/// Who vouches for the other end of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voucher {
    /// The server key of the link: the certificate is its own.
    ServerKey,
    /// The server key of the link: it has issued the certificate.
    Issuer,
    /// An authority that this system trusts, for the host's name. The server key has yet to be shown.
    Authority,
}

/// Makes the verifier that asks the authorities. It is made only when nothing else vouches, since
/// it may have to read all that the system trusts.
#[derive(Clone)]
pub(crate) struct Authorities(Arc<MakeVerifier>);

type MakeVerifier =
    dyn Fn(&Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> + Send + Sync;

impl Authorities {
    /// Those that the system trusts.
    pub(crate) fn system() -> Self {
        Self::new(|provider| Ok(Arc::new(rustls_platform_verifier::Verifier::new(Arc::clone(provider))?)))
    }

    pub(crate) fn new(
        make: impl Fn(&Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").finish_non_exhaustive()
    }
}

/// What was found about a certificate.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Vouched(Voucher),
    /// Nobody vouches. The server key that it shows, if it shows one.
    Stranger(Option<Hash>),
}

/// Judges the certificate of one connection, and leaves the verdict for who made the connection.
#[derive(Debug)]
struct Judge {
    fingerprint: Hash,
    provider: Arc<CryptoProvider>,
    authorities: Authorities,
    verdict: Arc<OnceLock<Verdict>>,
}

impl Judge {
    /// What the server key of the link has to do with a certificate. Names and dates do not matter.
    fn pinned(&self, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Option<Voucher> {
        if certificate::fingerprint(leaf)? == self.fingerprint {
            return Some(Voucher::ServerKey);
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        let is_issuer = |issuer: &CertificateDer<'_>| {
            certificate::fingerprint(issuer) == Some(self.fingerprint)
                && certificate::is_issued_by(leaf, issuer, algorithms)
        };
        chain.iter().any(is_issuer).then_some(Voucher::Issuer)
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(voucher) = self.pinned(end_entity, intermediates) {
            let _ = self.verdict.set(Verdict::Vouched(voucher));
            return Ok(ServerCertVerified::assertion());
        }
        let asked = (self.authorities.0)(&self.provider).and_then(|authorities| {
            authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        });
        let algorithms = &self.provider.signature_verification_algorithms;
        match asked {
            Ok(verified) => {
                let _ = self.verdict.set(Verdict::Vouched(Voucher::Authority));
                Ok(verified)
            }
            Err(error) => {
                tracing::info!(%error, "nobody vouches for the server's certificate");
                let shown = certificate::server_key(end_entity, intermediates, algorithms);
                let _ = self.verdict.set(Verdict::Stranger(shown));
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
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

/// An open TLS connection.
pub(crate) struct Tls<S> {
    pub(crate) stream: TlsStream<S>,
    /// The channel binding (RFC 9266).
    pub(crate) binding: [u8; 32],
    pub(crate) voucher: Voucher,
    /// Whether the other end took up the protocol that was offered.
    pub(crate) agreed: bool,
}

/// Opens TLS over `stream`, offering the protocol `alpn`.
///
/// # Errors
/// `wrong_fingerprint` if nobody vouches for the other end, `set_up_failed` if it speaks TLS
/// otherwise or another protocol, `offline` if the connection broke.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    link: &ServerLink,
    alpn: &[u8],
    authorities: &Authorities,
) -> Result<Tls<S>, Error> {
    let verdict = Arc::new(OnceLock::new());
    let config = config(link, alpn, authorities, &verdict)?;
    let name = ServerName::try_from(link.host().to_owned()).map_err(|_| Error::offline())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let connected = connector.connect(name, stream).await;
    let verdict = verdict.get().copied();
    let stream = connected.map_err(|error| tls_error(&error, verdict))?;
    let Some(Verdict::Vouched(voucher)) = verdict else {
        return Err(Error::internal("a certificate that nobody judged"));
    };
    let (_, session) = stream.get_ref();
    let binding = session
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(&[]))
        .map_err(|_| Error::internal("TLS exporter"))?;
    let agreed = session.alpn_protocol() == Some(alpn);
    Ok(Tls { stream, binding, voucher, agreed })
}

fn config(
    link: &ServerLink,
    alpn: &[u8],
    authorities: &Authorities,
    verdict: &Arc<OnceLock<Verdict>>,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let judge = Judge {
        fingerprint: *link.fingerprint(),
        provider: Arc::clone(&provider),
        authorities: authorities.clone(),
        verdict: Arc::clone(verdict),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|_| Error::internal("TLS"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    // Each connection is judged by itself: none is resumed from another.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn tls_error(error: &std::io::Error, verdict: Option<Verdict>) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (inner, verdict) {
        (Some(rustls::Error::InvalidCertificate(_)), Some(Verdict::Stranger(Some(found)))) => {
            Error::wrong_fingerprint(&found)
        }
        (Some(rustls::Error::InvalidCertificate(_)), _) => Error::unknown_certificate(),
        (Some(_), _) => Error::new("set_up_failed", format!("No TLS connection could be made: {error}.")),
        (None, _) => Error::offline(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::date_time_ymd;
    use tokio::net::TcpStream;

    use super::*;
    use crate::testing::*;

    /// Connects by a link to the server key, to a server that shows `shown`.
    async fn meet(shown: Shown, authorities: &Authorities) -> Result<Voucher, Error> {
        let server = TlsServer::bind(shown, &["mildam/1"]).await;
        let link = server.link(&SERVER_KEY);
        let connect = async {
            let tcp = TcpStream::connect((link.host(), link.port())).await.unwrap();
            connect(tcp, &link, b"mildam/1", authorities).await.map(|tls| tls.voucher)
        };
        tokio::join!(connect, server.accept()).0
    }

    fn assert_refused(outcome: Result<Voucher, Error>, found: Option<Hash>) {
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), "wrong_fingerprint");
        assert_eq!(error.found_key(), found.map(|found| found.to_string()).as_deref());
    }

    #[tokio::test]
    async fn the_server_key_vouches_for_its_own_certificate_and_for_what_it_issued() {
        let none = trusting_none();
        assert_eq!(meet(own(&SERVER_KEY), &none).await, Ok(Voucher::ServerKey));
        assert_eq!(meet(issued(&SERVER_KEY, &params("localhost")), &none).await, Ok(Voucher::Issuer));
    }

    #[tokio::test]
    async fn neither_names_nor_dates_count_for_what_the_server_key_issued() {
        let mut dated = params("another.example.org");
        for (from, until) in [(1971, 1972), (2090, 2120)] {
            (dated.not_before, dated.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
            assert_eq!(meet(issued(&SERVER_KEY, &dated), &trusting_none()).await, Ok(Voucher::Issuer));
        }
    }

    #[tokio::test]
    async fn a_certificate_that_only_stands_beside_the_server_key_is_refused() {
        // What the server key has issued is of no use with another leaf in front of it.
        let genuine = issued(&SERVER_KEY, &params("localhost"));
        let mut forged = web("localhost");
        forged.chain[1] = genuine.chain[1].clone();
        assert_refused(meet(forged, &trusting_none()).await, None);

        // The same names in the forger's own issuer, and the genuine one behind.
        let mut forged = issued(&OTHER_KEY, &params("localhost"));
        forged.chain.push(genuine.chain[1].clone());
        assert_refused(meet(forged, &trusting_none()).await, Some(OTHER_KEY.fingerprint()));
    }

    #[tokio::test]
    async fn a_genuine_certificate_without_its_key_is_refused() {
        let stolen = Shown { key: web("localhost").key, ..issued(&SERVER_KEY, &params("localhost")) };
        assert_refused(meet(stolen, &trusting_none()).await, None);
    }

    #[tokio::test]
    async fn an_authority_vouches_for_the_name_of_the_host_only() {
        let (named, other) = (web("localhost"), web("example.org"));
        let (trusts_named, trusts_other) = (trusting(&named), trusting(&other));
        assert_eq!(meet(named, &trusts_named).await, Ok(Voucher::Authority));
        assert_refused(meet(other, &trusts_other).await, None);
        assert_refused(meet(web("localhost"), &trusts_named).await, None);
        assert_refused(meet(web("localhost"), &Authorities::system()).await, None);
    }

    #[tokio::test]
    async fn another_server_key_is_told_by_its_fingerprint() {
        let found = Some(OTHER_KEY.fingerprint());
        assert_refused(meet(own(&OTHER_KEY), &trusting_none()).await, found);
        assert_refused(meet(issued(&OTHER_KEY, &params("localhost")), &trusting_none()).await, found);
        // An authority's key is no server key, so it cannot be offered as one.
        assert_refused(meet(web("localhost"), &trusting_none()).await, None);
    }
}
