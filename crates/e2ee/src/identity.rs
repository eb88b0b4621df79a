//! The identity key: what an account is.

use std::fmt;

use mildam_records::bytes::Bytes;
use mildam_records::keys::{PSS_SALT_BYTES, RSA_BITS};
use mildam_records::{AccountId, Canonical, IdentityPublicKey};
use rand_core::CryptoRng;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use rsa::{RsaPrivateKey, pss};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::KeyError;
use crate::recovery::RecoveryWords;
use crate::seal::{self, IV};

pub(crate) fn generate_rsa(rng: &mut impl CryptoRng) -> Result<RsaPrivateKey, KeyError> {
    #[cfg(feature = "testing")]
    if let Some((p, q)) = mildam_test_keys::primes().map_err(|_| KeyError::Generation)? {
        return RsaPrivateKey::from_p_q(p, q, mildam_records::keys::RSA_EXPONENT.into())
            .map_err(|_| KeyError::Generation);
    }
    let bits = usize::try_from(RSA_BITS).map_err(|_| KeyError::Generation)?;
    RsaPrivateKey::new(rng, bits).map_err(|_| KeyError::Generation)
}

pub(crate) fn spki(key: &RsaPrivateKey) -> Result<Vec<u8>, KeyError> {
    let der = key.to_public_key().to_public_key_der().map_err(|_| KeyError::Primitive("key encoding"))?;
    Ok(der.as_bytes().to_vec())
}

/// The private half of an account's identity key, RSA-3072. It exists on a device only during
/// sign-up and recovery: it signs the first device list of a generation, is sealed under the
/// recovery words, and is gone.
pub struct IdentityKey {
    key: RsaPrivateKey,
    public: IdentityPublicKey,
}

impl IdentityKey {
    /// Makes a new one. Takes about a second.
    ///
    /// # Errors
    /// [`KeyError::Generation`]
    pub fn generate(rng: &mut impl CryptoRng) -> Result<Self, KeyError> {
        Self::from_key(generate_rsa(rng)?)
    }

    /// Reads PKCS #8 DER, as [`SealedIdentity::open`] and test vectors have it.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] unless it is RSA-3072 with exponent 65537.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_key(RsaPrivateKey::from_pkcs8_der(der).map_err(|_| KeyError::Malformed("identity key"))?)
    }

    fn from_key(key: RsaPrivateKey) -> Result<Self, KeyError> {
        let public =
            IdentityPublicKey::from_spki(&spki(&key)?).map_err(|_| KeyError::Malformed("identity key"))?;
        Ok(Self { key, public })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &IdentityPublicKey {
        &self.public
    }

    /// RSA-PSS-SHA-256 with a 32-byte salt, 384 bytes.
    pub(crate) fn sign(&self, bytes: &[u8], rng: &mut impl CryptoRng) -> Result<Vec<u8>, KeyError> {
        let signer = pss::SigningKey::<Sha256>::new_with_salt_len(self.key.clone(), PSS_SALT_BYTES);
        let signature = signer.try_sign_with_rng(rng, bytes).map_err(|_| KeyError::Primitive("signature"))?;
        Ok(signature.to_vec())
    }

    /// Seals the private half under the recovery words.
    ///
    /// # Errors
    /// [`KeyError::Primitive`]
    pub fn seal(
        &self,
        words: &RecoveryWords,
        account: &AccountId,
        rng: &mut impl CryptoRng,
    ) -> Result<SealedIdentity, KeyError> {
        let mut iv = [0; IV];
        rng.fill_bytes(&mut iv);
        let der = self.key.to_pkcs8_der().map_err(|_| KeyError::Primitive("key encoding"))?;
        let sealed = seal::seal(&*words.key(account)?, &iv, der.as_bytes(), &aad(account, &self.public))?;
        Ok(SealedIdentity(Bytes([&[FORMAT][..], &iv, &sealed].concat())))
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey(.., {:?})", self.public)
    }
}

const FORMAT: u8 = 1;

fn aad(account: &AccountId, public: &IdentityPublicKey) -> Canonical {
    Canonical::new("mildam/sealed-identity/v1").text(account.as_str()).bytes(public.fingerprint().as_bytes())
}

/// An identity key under recovery words, for the server to keep:
/// `format (1 byte, 1) || IV (12) || AES-256-GCM of PKCS #8 DER, tag (16) at the end`, with
/// `AAD = T("mildam/sealed-identity/v1", account, identity fingerprint)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedIdentity(pub Bytes);

impl SealedIdentity {
    /// Opens it.
    ///
    /// # Errors
    /// [`KeyError::DoesNotOpen`] for other words or another account, [`KeyError::Malformed`].
    pub fn open(
        &self,
        words: &RecoveryWords,
        account: &AccountId,
        public: &IdentityPublicKey,
    ) -> Result<IdentityKey, KeyError> {
        let malformed = KeyError::Malformed("sealed identity key");
        let (format, rest) = self.0.split_first().ok_or(malformed)?;
        let (iv, sealed) = rest.split_first_chunk::<IV>().ok_or(malformed)?;
        if *format != FORMAT {
            return Err(malformed);
        }
        let der = seal::open(&*words.key(account)?, iv, sealed, &aad(account, public))?;
        let key = IdentityKey::from_pkcs8(&der)?;
        if key.public == *public { Ok(key) } else { Err(malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, account, rng};

    // REQ A4
    #[test]
    fn an_identity_key_comes_back_with_its_words_and_account_only() {
        let identity = testing::identity("alice");
        let (words, others) = (RecoveryWords::generate(&mut rng()), RecoveryWords::generate(&mut rng()));
        let sealed = identity.seal(&words, &account("alice"), &mut rng()).unwrap();
        let open = |sealed: &SealedIdentity, words, name| {
            sealed.open(words, &account(name), identity.public()).map(|key| key.public().fingerprint())
        };
        assert_eq!(open(&sealed, &words, "alice"), Ok(identity.public().fingerprint()));
        assert_eq!(open(&sealed, &others, "alice"), Err(KeyError::DoesNotOpen));
        assert_eq!(open(&sealed, &words, "bob"), Err(KeyError::DoesNotOpen));
        let another = testing::identity("bob");
        assert!(sealed.open(&words, &account("alice"), another.public()).is_err());
        let malformed = Err(KeyError::Malformed("sealed identity key"));
        let mut newer = sealed.clone();
        newer.0.0[0] = 2;
        assert_eq!(open(&newer, &words, "alice"), malformed);
        assert_eq!(open(&SealedIdentity(Bytes(vec![1; 8])), &words, "alice"), malformed);
        let mut altered = sealed;
        altered.0.0[100] ^= 1;
        assert_eq!(open(&altered, &words, "alice"), Err(KeyError::DoesNotOpen));
    }

    #[test]
    fn an_identity_key_shows_its_fingerprint_only() {
        let identity = testing::identity("alice");
        assert_eq!(format!("{identity:?}"), format!("IdentityKey(.., {:?})", identity.public()));
    }

    #[test]
    fn other_bytes_are_no_identity_key() {
        assert!(matches!(IdentityKey::from_pkcs8(b"key"), Err(KeyError::Malformed("identity key"))));
    }
}
