//! Sealing rows.
//!
//! AES-256-GCM with a **random 96-bit nonce for each write**. A counter would have to survive
//! everything that the vault survives, and it cannot: a restored copy of the folder, or a log that
//! lost its end, would count from an earlier number under the same key and use nonces twice, which
//! for GCM gives away both texts and the authentication key. Random nonces need no memory. They
//! collide with probability below 2^-32 up to 2^32 writes under one key (NIST SP 800-38D, 8.3). A
//! bucket key sees one room's messages of 30 days, a state key at most what is written until it is
//! rotated, and the vault key three short rows for each message: 2^32 writes are a thousand
//! million messages.
//!
//! ```text
//! value  = format (1 byte, 1) || pieces (u16) || bucket (u32) || generation (u64)
//!          || nonce (12) || ciphertext || tag (16)
//! AAD    = T("mildam/vault-row/v1", table name, row key, generation)
//! ```
//!
//! `bucket` says which bucket's key was used, 0 for the vault and state keys. `pieces` belongs to
//! the storing of long values: see [`crate::cell`].

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use mildam_records::Canonical;
use mildam_records::stack::scrubbed;
use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::row::Secret;
use crate::table::RowKey;

/// Length of all keys, in bytes.
pub(crate) const KEY_LENGTH: usize = 32;
/// Length of a nonce, in bytes.
pub(crate) const NONCE_LENGTH: usize = 12;

/// A key. It lies in one place, which is overwritten when it is dropped: what is moved would leave copies
/// behind on the stack.
pub(crate) type Key = Box<Zeroizing<[u8; KEY_LENGTH]>>;

/// A key of these bytes, if they are as many.
pub(crate) fn key_from(bytes: &[u8]) -> Option<Key> {
    let mut key = Key::default();
    (bytes.len() == KEY_LENGTH).then(|| key.copy_from_slice(bytes))?;
    Some(key)
}

/// 32 bytes from the operating system.
pub(crate) fn random_key() -> Result<Key, VaultError> {
    let mut key = Key::default();
    getrandom::fill(key.as_mut_slice()).map_err(|_| VaultError::NoRandomness)?;
    Ok(key)
}

/// The cipher of a key. Its key schedule begins with the key, so it is not moved.
fn cipher(key: &[u8; KEY_LENGTH]) -> Box<Aes256Gcm> {
    scrubbed(|| Box::new(Aes256Gcm::new(key.into())))
}

/// AES-256-GCM of a text and what belongs to it; none for a text that is too long.
pub(crate) fn encrypt(
    key: &[u8; KEY_LENGTH],
    nonce: [u8; NONCE_LENGTH],
    text: Payload<'_, '_>,
) -> Option<Vec<u8>> {
    let cipher = cipher(key);
    scrubbed(|| cipher.encrypt(&nonce.into(), text)).ok()
}

/// Opens what [`encrypt`] made; none if it is not that.
pub(crate) fn decrypt(
    key: &[u8; KEY_LENGTH],
    nonce: [u8; NONCE_LENGTH],
    text: Payload<'_, '_>,
) -> Option<Secret> {
    let cipher = cipher(key);
    scrubbed(|| cipher.decrypt(&nonce.into(), text)).ok().map(Zeroizing::new)
}

/// Fresh random bytes that are no secret.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| VaultError::NoRandomness)?;
    Ok(bytes)
}

/// A key that seals rows, with its generation.
pub(crate) struct SealingKey {
    cipher: Box<Aes256Gcm>,
    generation: u64,
}

impl SealingKey {
    pub(crate) fn new(key: &[u8; KEY_LENGTH], generation: u64) -> Self {
        Self { cipher: cipher(key), generation }
    }

    /// `generation || nonce || ciphertext || tag`.
    pub(crate) fn seal(&self, key: &RowKey, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let nonce: [u8; NONCE_LENGTH] = random()?;
        let aad = aad(key, self.generation);
        let sealed = scrubbed(|| self.cipher.encrypt(&nonce.into(), Payload { msg: plain, aad: &aad }))
            .map_err(|_| VaultError::RowTooLong { length: plain.len() })?;
        let mut bytes = self.generation.to_be_bytes().to_vec();
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(bytes)
    }

    /// Opens what [`SealingKey::seal`] made for the same row.
    pub(crate) fn open(&self, key: &RowKey, sealed: &[u8]) -> Option<Secret> {
        let (generation, rest) = sealed.split_first_chunk::<8>()?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LENGTH>()?;
        if u64::from_be_bytes(*generation) != self.generation {
            return None;
        }
        let aad = aad(key, self.generation);
        scrubbed(|| self.cipher.decrypt(&(*nonce).into(), Payload { msg: ciphertext, aad: &aad }))
            .ok()
            .map(Zeroizing::new)
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingKey(generation {})", self.generation)
    }
}

fn aad(key: &RowKey, generation: u64) -> Vec<u8> {
    Canonical::new("mildam/vault-row/v1")
        .text(key.table().name())
        .bytes(key.as_bytes())
        .integer(generation)
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    #[test]
    fn a_row_opens_only_in_its_place_and_generation() {
        let bytes = [7; KEY_LENGTH];
        let key = SealingKey::new(&bytes, 1);
        let row = RowKey::placed(Table::LogHash, 1, 2);
        let sealed = key.seal(&row, b"plain").unwrap();
        assert_eq!(&**key.open(&row, &sealed).unwrap(), b"plain");
        for other in [
            RowKey::placed(Table::LogHash, 1, 3),
            RowKey::placed(Table::LogHash, 2, 2),
            RowKey::placed(Table::History, 1, 2),
        ] {
            assert!(key.open(&other, &sealed).is_none());
        }
        let mut renumbered = sealed.clone();
        renumbered[7] = 2;
        assert!(SealingKey::new(&bytes, 2).open(&row, &renumbered).is_none());
        assert!(SealingKey::new(&[8; KEY_LENGTH], 1).open(&row, &sealed).is_none());
        assert_ne!(key.seal(&row, b"plain").unwrap(), sealed);
        for length in 0..sealed.len() {
            assert!(key.open(&row, &sealed[..length]).is_none());
        }
    }

    #[test]
    fn a_sealing_key_tells_nothing_in_debug() {
        insta::assert_debug_snapshot!(
            SealingKey::new(&[7; KEY_LENGTH], 3),
            @"SealingKey(generation 3)"
        );
    }
}
