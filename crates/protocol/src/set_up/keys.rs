//! The two RSA keys of a set-up.

use std::fmt;
use std::sync::Arc;

use mildam_records::id::Hash;
use mildam_records::keys::{PSS_SALT_BYTES, RSA_BITS, RSA_BYTES, rsa_from_spki};
use rand_core::CryptoRng;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use rsa::signature::{RandomizedSigner, SignatureEncoding, Verifier};
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey, pss};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::SetUpError;

const OAEP_LABEL: &[u8] = b"mildam/session-key/v1";
/// Bytes of the secret that the server chooses.
pub(super) const SESSION_KEY_BYTES: usize = 32;

fn generate(rng: &mut impl CryptoRng) -> Result<RsaPrivateKey, SetUpError> {
    const FAILED: SetUpError = SetUpError::Local("key generation");
    #[cfg(feature = "testing")]
    if let Some((p, q)) = mildam_test_keys::primes().map_err(|_| FAILED)? {
        return RsaPrivateKey::from_p_q(p, q, mildam_records::keys::RSA_EXPONENT.into()).map_err(|_| FAILED);
    }
    RsaPrivateKey::new(rng, usize::try_from(RSA_BITS).unwrap_or(0)).map_err(|_| FAILED)
}

fn spki_of(key: &RsaPrivateKey) -> Result<Vec<u8>, SetUpError> {
    let der = key.to_public_key().to_public_key_der();
    der.map(|der| der.as_bytes().to_vec()).map_err(|_| SetUpError::Local("key encoding"))
}

pub(super) fn fingerprint_of(spki: &[u8]) -> Hash {
    Hash::from_bytes(Sha256::digest(spki).into())
}

/// The server's lasting key, RSA-3072. It signs set-ups, and the relay's self-signed certificate
/// is made from it, so that one fingerprint in the server link pins both.
#[derive(Clone)]
pub struct ServerKey {
    key: Arc<RsaPrivateKey>,
    spki: Vec<u8>,
}

impl ServerKey {
    /// Makes a new key. Takes about a second.
    ///
    /// # Errors
    /// [`SetUpError::Local`] if no key could be made.
    pub fn generate(rng: &mut impl CryptoRng) -> Result<Self, SetUpError> {
        Self::from_key(generate(rng)?)
    }

    /// Reads PKCS #8 DER.
    ///
    /// # Errors
    /// [`SetUpError::BadKey`] unless it is RSA-3072 with exponent 65537.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, SetUpError> {
        Self::from_key(RsaPrivateKey::from_pkcs8_der(der).map_err(|_| SetUpError::BadKey)?)
    }

    fn from_key(key: RsaPrivateKey) -> Result<Self, SetUpError> {
        let spki = spki_of(&key)?;
        rsa_from_spki(&spki, "server").map_err(|_| SetUpError::BadKey)?;
        Ok(Self { key: Arc::new(key), spki })
    }

    /// PKCS #8 DER, for a file that only the relay may read.
    ///
    /// # Errors
    /// [`SetUpError::Local`] if the key cannot be encoded.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, SetUpError> {
        let der = self.key.to_pkcs8_der().map_err(|_| SetUpError::Local("key encoding"))?;
        Ok(Zeroizing::new(der.as_bytes().to_vec()))
    }

    /// SubjectPublicKeyInfo DER, 422 bytes.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 over [`Self::spki`]: what a server link carries.
    #[must_use]
    pub fn fingerprint(&self) -> Hash {
        fingerprint_of(&self.spki)
    }

    pub(super) fn sign(&self, bytes: &[u8], rng: &mut impl CryptoRng) -> Result<Vec<u8>, SetUpError> {
        let signer = pss::SigningKey::<Sha256>::new_with_salt_len((*self.key).clone(), PSS_SALT_BYTES);
        let signature = signer.try_sign_with_rng(rng, bytes).map_err(|_| SetUpError::Local("signature"))?;
        Ok(signature.to_vec())
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKey({})", self.fingerprint())
    }
}

pub(super) fn verify(spki: &[u8], bytes: &[u8], signature: &[u8]) -> Result<(), SetUpError> {
    let key = rsa_from_spki(spki, "server").map_err(|_| SetUpError::BadKey)?;
    let key = pss::VerifyingKey::<Sha256>::new_with_salt_len(key, PSS_SALT_BYTES);
    pss::Signature::try_from(signature)
        .and_then(|signature| key.verify(bytes, &signature))
        .map_err(|_| SetUpError::BadSignature)
}

/// The client's key, RSA-3072: made anew by each process and never stored, so that a recorded
/// connection cannot be opened later, not even on plain TCP.
#[derive(Clone)]
pub struct ClientKey {
    key: Arc<RsaPrivateKey>,
    spki: Vec<u8>,
}

impl ClientKey {
    /// Makes a new key. Takes about a second.
    ///
    /// # Errors
    /// [`SetUpError::Local`] if no key could be made.
    pub fn generate(rng: &mut impl CryptoRng) -> Result<Self, SetUpError> {
        let key = generate(rng)?;
        Ok(Self { spki: spki_of(&key)?, key: Arc::new(key) })
    }

    /// Reads PKCS #8 DER, for test vectors: a key from a file is not one that a process made anew.
    ///
    /// # Errors
    /// [`SetUpError::BadKey`] for anything but RSA-3072.
    pub fn danger_from_pkcs8(der: &[u8]) -> Result<Self, SetUpError> {
        let key = RsaPrivateKey::from_pkcs8_der(der).map_err(|_| SetUpError::BadKey)?;
        let spki = spki_of(&key)?;
        rsa_from_spki(&spki, "client").map_err(|_| SetUpError::BadKey)?;
        Ok(Self { spki, key: Arc::new(key) })
    }

    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn decrypt(
        &self,
        ciphertext: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Zeroizing<[u8; SESSION_KEY_BYTES]>, SetUpError> {
        if ciphertext.len() != RSA_BYTES {
            return Err(SetUpError::BadSessionKey);
        }
        let plain = self.key.decrypt_blinded(rng, Oaep::<Sha256>::new_with_label(OAEP_LABEL), ciphertext);
        let plain = Zeroizing::new(plain.map_err(|_| SetUpError::BadSessionKey)?);
        let secret = plain.as_slice().try_into().map_err(|_| SetUpError::BadSessionKey)?;
        Ok(Zeroizing::new(secret))
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(..)")
    }
}

pub(super) fn encrypt(
    key: &RsaPublicKey,
    secret: &[u8; SESSION_KEY_BYTES],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, SetUpError> {
    key.encrypt(rng, Oaep::<Sha256>::new_with_label(OAEP_LABEL), secret)
        .map_err(|_| SetUpError::Local("encryption"))
}
