//! Certificates that show a server key: which key, and who issued them.

use mildam_protocol::records::Hash;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage};

/// The length of a server key's SubjectPublicKeyInfo: RSA-3072 with the exponent 65537.
const SERVER_KEY_SPKI: usize = 422;

/// SHA-256 over a certificate's SubjectPublicKeyInfo, 32 bytes; none if it cannot be read.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Option<Hash> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    Some(Hash::from_bytes(Sha256::digest(parsed.subject_public_key_info()).into()))
}

/// Whether the key of `issuer` has signed `leaf`. Hosts and dates do not count: the key says which
/// server is meant, and a clock that is wrong says nothing about it.
pub(crate) fn is_issued_by(
    leaf: &CertificateDer<'_>,
    issuer: &CertificateDer<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let (Ok(leaf), Ok(anchor)) = (EndEntityCert::try_from(leaf), webpki::anchor_from_trusted_cert(issuer))
    else {
        return false;
    };
    let anchors = [TrustAnchor { name_constraints: None, ..anchor }];
    let verify = |time| {
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(algorithms.all, &anchors, &[], time, usage, None, None).map(drop)
    };
    match verify(UnixTime::since_unix_epoch(std::time::Duration::ZERO)) {
        // Too early in 1970; a time within the leaf's own dates is as good as any.
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => verify(not_before).is_ok(),
        other => other.is_ok(),
    }
}

/// The server key that a chain shows: one of the right kind that has signed the leaf, as a
/// certificate of its own says. What others issued shows none.
pub(crate) fn server_key(
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<Hash> {
    let shows_server_key = |certificate: &&CertificateDer<'_>| {
        EndEntityCert::try_from(*certificate).is_ok_and(|parsed| {
            parsed.subject() == parsed.issuer()
                && parsed.subject_public_key_info().len() == SERVER_KEY_SPKI
                && is_issued_by(leaf, certificate, algorithms)
        })
    };
    std::iter::once(leaf).chain(chain).find(shows_server_key).and_then(fingerprint)
}
