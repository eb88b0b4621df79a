//! Certificates for TLS: those that the relay issues under its own server key, and what can be said
//! of any other.
//!
//! The server key is the issuer and not the subject. So the key that TLS uses can be changed at any
//! time and the fingerprint in the server link stays; and a handshake costs no RSA signature.

use std::net::IpAddr;
use std::time::Duration;

use mildam_protocol::records::Hash;
use mildam_protocol::set_up::ServerKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// What the server key is called as an issuer.
const AUTHORITY: &str = "Mildam relay key";
/// How long an own certificate is valid: browsers and checkers take no longer one for sound. Mildam's
/// clients do not look at its dates.
const VALIDITY: Duration = Duration::from_secs(397 * 86_400);
/// It begins before it is made, for those whose clock is slow.
const BACKDATED: Duration = Duration::from_secs(2 * 86_400);
/// With less than this left it is made anew.
const RENEWAL: Duration = Duration::from_secs(120 * 86_400);

/// Why a certificate cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It could not be made.
    #[error("no certificate could be made: {0}")]
    Issue(String),
    /// There is no certificate in the PEM file.
    #[error("there is no certificate in PEM form in it")]
    NoCertificate,
    /// There is no private key in the PEM file.
    #[error("there is no private key in PEM form in it")]
    NoKey,
    /// A certificate is damaged.
    #[error("a certificate in it cannot be read")]
    Damaged,
    /// The key belongs to another certificate.
    #[error("certificate and key do not belong together")]
    Mismatch,
    /// The key is of a kind that TLS does not know here.
    #[error("the private key cannot be used: {0}")]
    Unusable(rustls::Error),
}

fn issue(error: impl std::fmt::Display) -> CertificateError {
    CertificateError::Issue(error.to_string())
}

/// A certificate with its chain, and its private key, each as PEM.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: Zeroizing<String>,
}

/// A new P-256 key, and a certificate of it under the server key for these names and addresses.
pub(crate) fn issue_own(
    server_key: &ServerKey,
    names: &[String],
    now: OffsetDateTime,
) -> Result<Issued, CertificateError> {
    let der = server_key.to_pkcs8().map_err(issue)?;
    let issuer_key =
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_slice()), &PKCS_RSA_SHA256)
            .map_err(issue)?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, AUTHORITY);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_certificate = authority.self_signed(&issuer_key).map_err(issue)?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
    let mut leaf = params(names)?;
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.not_before = now.checked_sub(signed(BACKDATED)).unwrap_or(now);
    leaf.not_after = leaf.not_before.checked_add(signed(VALIDITY)).unwrap_or(now);
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&authority, &issuer_key)).map_err(issue)?;
    Ok(Issued {
        chain: format!("{}{}", leaf.pem(), authority_certificate.pem()),
        key: Zeroizing::new(key.serialize_pem()),
    })
}

/// A new P-256 key and a request (PKCS #10) to an authority for a certificate of it, each as PEM.
pub(crate) fn request(names: &[String]) -> Result<Issued, CertificateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
    let request = params(names)?.serialize_request(&key).map_err(issue)?;
    Ok(Issued { chain: request.pem().map_err(issue)?, key: Zeroizing::new(key.serialize_pem()) })
}

/// The first name is the subject, too, as authorities want it.
fn params(names: &[String]) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(names).map_err(issue)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("Mildam relay", String::as_str));
    Ok(params)
}

fn signed(duration: Duration) -> time::Duration {
    time::Duration::try_from(duration).unwrap_or(time::Duration::MAX)
}

/// A chain and the key of its first certificate, which belong together.
pub(crate) struct KeyedChain {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl KeyedChain {
    /// Reads both from PEM.
    pub(crate) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        Ok(Self {
            chain: read_chain(chain)?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?,
        })
    }
}

/// Reads certificates from PEM: at least one.
pub(crate) fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = read.map_err(|_| CertificateError::Damaged)?;
    if chain.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(chain) }
}

/// What an operator wants to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Whom it names.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Names and addresses that it is for.
    pub names: Vec<String>,
    /// When it begins.
    pub not_before: OffsetDateTime,
    /// When it ends.
    pub not_after: OffsetDateTime,
    /// SHA-256 over the whole certificate (DER).
    pub fingerprint: Hash,
    /// SHA-256 over its public key (SubjectPublicKeyInfo).
    pub key_fingerprint: Hash,
    /// Whether the relay's server key issued it.
    pub own: bool,
}

impl Description {
    /// Describes the first certificate of a chain.
    ///
    /// # Errors
    /// [`CertificateError`] if it cannot be read.
    pub fn of(chain: &[CertificateDer<'_>], server_key: &Hash) -> Result<Self, CertificateError> {
        let first = chain.first().ok_or(CertificateError::NoCertificate)?;
        let leaf = parse(first)?;
        let mut own = false;
        for issuer in chain {
            let issuer = parse(issuer)?;
            own |= hash(issuer.public_key().raw) == *server_key
                && leaf.verify_signature(Some(issuer.public_key())).is_ok();
        }
        let names = leaf.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        Ok(Self {
            subject: leaf.subject().to_string(),
            issuer: leaf.issuer().to_string(),
            names: names.filter_map(name).collect(),
            not_before: leaf.validity().not_before.to_datetime(),
            not_after: leaf.validity().not_after.to_datetime(),
            fingerprint: hash(first),
            key_fingerprint: hash(leaf.public_key().raw),
            own,
        })
    }

    /// Whether it is the relay's own and should be made anew: it ends soon, lacks a name, or is from a
    /// server key that was lost.
    pub(crate) fn is_due(&self, names: &[String], now: OffsetDateTime) -> bool {
        let ends_soon = self.not_after - now < signed(RENEWAL);
        let was_own = self.issuer == format!("CN={AUTHORITY}");
        if self.own { ends_soon || names.iter().any(|name| !self.names.contains(name)) } else { was_own }
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    X509Certificate::from_der(der).map(|(_, read)| read).map_err(|_| CertificateError::Damaged)
}

fn hash(bytes: &[u8]) -> Hash {
    Hash::from_bytes(Sha256::digest(bytes).into())
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// Puts chain and key together for TLS.
pub(crate) fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch,
        error => CertificateError::Unusable(error),
    })
}
