//! AES-256-GCM with a 12-byte IV, and HKDF, in the forms that this crate uses.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use mildam_records::Canonical;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::KeyError;

/// Bytes of an IV.
pub(crate) const IV: usize = 12;
/// A 32-byte secret.
pub(crate) type Key = Zeroizing<[u8; 32]>;

pub(crate) fn seal(
    key: &[u8; 32],
    iv: &[u8; IV],
    plain: &[u8],
    aad: &Canonical,
) -> Result<Vec<u8>, KeyError> {
    Aes256Gcm::new(key.into())
        .encrypt(iv.into(), Payload { msg: plain, aad: aad.as_bytes() })
        .map_err(|_| KeyError::Primitive("encryption"))
}

pub(crate) fn open(
    key: &[u8; 32],
    iv: &[u8; IV],
    sealed: &[u8],
    aad: &Canonical,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    Aes256Gcm::new(key.into())
        .decrypt(iv.into(), Payload { msg: sealed, aad: aad.as_bytes() })
        .map(Zeroizing::new)
        .map_err(|_| KeyError::DoesNotOpen)
}

/// `HKDF-SHA-256(salt, ikm, info)`, `N` bytes.
pub(crate) fn derive<const N: usize>(
    salt: &[u8],
    ikm: &[u8],
    info: &Canonical,
) -> Result<Zeroizing<[u8; N]>, KeyError> {
    let mut okm = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand(info.as_bytes(), &mut *okm)
        .map_err(|_| KeyError::Primitive("key derivation"))?;
    Ok(okm)
}
