//! The relay's own secrets: what keeps personal data unreadable in a stolen database.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use mildam_protocol::records::Canonical;
use mildam_protocol::records::id::{AccountId, Hash};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of the secret file: a key for tags, then a key for sealing.
pub const SECRET_BYTES: usize = 64;
const NONCE_BYTES: usize = 12;

/// Why an address could not be protected.
#[derive(Debug, thiserror::Error)]
#[error("personal data could not be sealed")]
pub struct SealError;

/// Keys that stand in a file beside the database, never in it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secrets {
    tag_key: [u8; 32],
    seal_key: [u8; 32],
}

impl Secrets {
    /// Takes the secret file's content; `None` for any length but [`SECRET_BYTES`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag_key, seal_key) = bytes.split_at_checked(32)?;
        Some(Self { tag_key: tag_key.try_into().ok()?, seal_key: seal_key.try_into().ok()? })
    }

    /// `HMAC-SHA-256(tag key, T("mildam/email-tag/v1", address))`: equal for equal addresses,
    /// and of no use without the key.
    ///
    /// # Errors
    /// [`SealError`] if the MAC cannot be made.
    pub fn email_tag(&self, address: &str) -> Result<Hash, SealError> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.tag_key).map_err(|_| SealError)?;
        let text = Canonical::new("mildam/email-tag/v1").text(address);
        mac.update(text.as_bytes());
        Ok(Hash::from_bytes(mac.finalize().into_bytes().into()))
    }

    /// The address under AES-256-GCM, bound to its account:
    /// `nonce (12 bytes) || ciphertext || tag (16 bytes)`.
    ///
    /// # Errors
    /// [`SealError`] if there is no randomness.
    pub fn seal_email(&self, account: &AccountId, address: &str) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError)?;
        let cipher = Aes256Gcm::new_from_slice(&self.seal_key).map_err(|_| SealError)?;
        let bound = Canonical::new("mildam/email-seal/v1").text(account.as_str());
        let sealed = cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: address.as_bytes(), aad: bound.as_bytes() })
            .map_err(|_| SealError)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // REQ A3
    #[test]
    fn addresses_are_compared_and_kept_without_being_readable() {
        let secrets = Secrets::from_bytes(&[7; SECRET_BYTES]).unwrap();
        let other = Secrets::from_bytes(&[8; SECRET_BYTES]).unwrap();
        let tag = |secrets: &Secrets, text| secrets.email_tag(text).unwrap();
        assert_eq!(tag(&secrets, "a@b.c"), tag(&secrets, "a@b.c"));
        assert_ne!(tag(&secrets, "a@b.c"), tag(&secrets, "a@b.d"));
        assert_ne!(tag(&secrets, "a@b.c"), tag(&other, "a@b.c"));
        let alice = "alice".parse().unwrap();
        let one = secrets.seal_email(&alice, "a@b.c").unwrap();
        assert_ne!(one, secrets.seal_email(&alice, "a@b.c").unwrap());
        assert!(!one.windows(5).any(|window| window == b"a@b.c"));
    }

    #[test]
    fn a_secret_file_has_one_length() {
        for length in [0, 32, SECRET_BYTES - 1, SECRET_BYTES + 1] {
            assert!(Secrets::from_bytes(&vec![1; length]).is_none(), "{length}");
        }
        assert_eq!(format!("{:?}", Secrets::from_bytes(&[7; SECRET_BYTES])), "Some(Secrets(..))");
    }
}
