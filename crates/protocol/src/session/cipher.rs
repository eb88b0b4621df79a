//! One direction of a session.

use std::fmt;

use aes_gcm::aead::consts::U16;
use aes_gcm::aead::{Aead, AeadInOut, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, KeyInit};
use mildam_records::canonical::Canonical;
use rand_core::CryptoRng;

use super::{FRAME_LIMIT, SessionError};

/// Bytes of the IV that stands before each ciphertext.
pub(super) const IV: usize = 16;

/// AES-256-GCM with the seed's 16-byte IV. GHASH turns it into the counter block; a random IV of
/// 128 bits does not repeat within [`FRAME_LIMIT`] frames, and the position in the AAD would tell.
type Cipher = AesGcm<Aes256, U16>;

/// A key and how many frames it has carried.
pub(super) struct Direction {
    cipher: Cipher,
    position: u64,
}

impl Direction {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { cipher: Cipher::new(key.into()), position: 0 }
    }

    /// Begins the AAD of the next frame.
    pub(super) fn aad(&self, label: &str) -> Canonical {
        Canonical::new(label).integer(self.position)
    }

    pub(super) fn seal(
        &mut self,
        plain: &[u8],
        aad: &Canonical,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SessionError> {
        let next = self.next_position()?;
        let mut iv = [0; IV];
        rng.fill_bytes(&mut iv);
        let payload = Payload { msg: plain, aad: aad.as_bytes() };
        let ciphertext = self.cipher.encrypt(&iv.into(), payload).map_err(|_| SessionError::Local)?;
        self.position = next;
        Ok([iv.as_slice(), &ciphertext].concat())
    }

    /// Opens it where it lies: it may be long.
    pub(super) fn open(&mut self, mut sealed: Vec<u8>, aad: &Canonical) -> Result<Vec<u8>, SessionError> {
        let next = self.next_position()?;
        let iv = *sealed.first_chunk::<IV>().ok_or(SessionError::NotAuthentic)?;
        sealed.drain(..IV);
        self.cipher
            .decrypt_in_place(&iv.into(), aad.as_bytes(), &mut sealed)
            .map_err(|_| SessionError::NotAuthentic)?;
        self.position = next;
        Ok(sealed)
    }

    fn next_position(&self) -> Result<u64, SessionError> {
        if self.position >= FRAME_LIMIT {
            return Err(SessionError::UsedUp);
        }
        self.position.checked_add(1).ok_or(SessionError::UsedUp)
    }

    #[cfg(test)]
    pub(super) const fn jump_to(&mut self, position: u64) {
        self.position = position;
    }
}

impl fmt::Debug for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direction").field("position", &self.position).finish_non_exhaustive()
    }
}
