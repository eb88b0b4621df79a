//! Sender chains: one for each device and epoch, one step for each message.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use mildam_records::message::MessageSalt;
use mildam_records::{Canonical, DeviceId, Hash, RoomId};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::KeyError;
use crate::padding;
use crate::seal::{self, IV, Key};
use crate::secret::SecretBytes;

/// The farthest that a sender's number may jump.
pub(crate) const MAX_JUMP: u64 = 1024;

/// `CK_n`, and n. Used from the sender's and from each receiver's side.
#[derive(Serialize, Deserialize)]
pub(crate) struct Chain {
    key: SecretBytes,
    n: u64,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain(.., n = {})", self.n)
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Result<Key, KeyError> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).map_err(|_| KeyError::Primitive("HMAC"))?;
    Ok(Zeroizing::new(mac.chain_update(message).finalize().into_bytes().into()))
}

impl Chain {
    /// `CK_0 = HKDF-SHA-256(salt "mildam/chain/v1", RoomKey, T("mildam/chain/v1", room, epoch,
    /// device))`.
    pub(crate) fn derive(
        room_key: &[u8; 32],
        room: &RoomId,
        epoch: u64,
        device: &DeviceId,
    ) -> Result<Self, KeyError> {
        let info =
            Canonical::new("mildam/chain/v1").bytes(room.as_bytes()).integer(epoch).bytes(device.as_bytes());
        let key: Key = seal::derive(b"mildam/chain/v1", room_key, &info)?;
        Ok(Self { key: key.as_slice().into(), n: 0 })
    }

    /// The number of the next message.
    pub(crate) const fn n(&self) -> u64 {
        self.n
    }

    /// `MK_n = HMAC(CK_n, 0x01)`, and the chain moves on to `CK_{n+1} = HMAC(CK_n, 0x02)`.
    pub(crate) fn step(&mut self) -> Result<MessageKey, KeyError> {
        let next = self.n.checked_add(1).ok_or(KeyError::Primitive("chain"))?;
        let message_key = hmac(&self.key, &[1])?;
        let key = hmac(&self.key, &[2])?;
        self.key = key.as_slice().into();
        self.n = next;
        Ok(MessageKey(message_key))
    }

    /// The key of message `n`, which is not behind and not more than [`MAX_JUMP`] ahead. Keys that
    /// are jumped over are gone: nothing is ever skipped legitimately.
    pub(crate) fn step_to(&mut self, n: u64) -> Result<MessageKey, KeyError> {
        let jump =
            n.checked_sub(self.n).filter(|jump| *jump <= MAX_JUMP).ok_or(KeyError::Primitive("chain"))?;
        for _ in 0..jump {
            self.step()?;
        }
        self.step()
    }
}

/// The key of one message: used once, by value.
pub(crate) struct MessageKey(Key);

/// What follows from a message key and the message's salt: `(key 32, iv 12, commit 32) =
/// HKDF-SHA-256(salt r, MK_n, T("mildam/message/v1"))`, 76 bytes.
pub(crate) struct MessageCipher {
    key: Key,
    iv: [u8; IV],
    commit: Hash,
}

impl MessageKey {
    pub(crate) fn with_salt(self, salt: &MessageSalt) -> Result<MessageCipher, KeyError> {
        let okm = seal::derive::<76>(salt.as_bytes(), &*self.0, &Canonical::new("mildam/message/v1"))?;
        let (key, rest) = okm.split_first_chunk::<32>().ok_or(KeyError::Primitive("key derivation"))?;
        let (iv, rest) = rest.split_first_chunk::<IV>().ok_or(KeyError::Primitive("key derivation"))?;
        let commit = Hash::from_slice(rest).ok_or(KeyError::Primitive("key derivation"))?;
        Ok(MessageCipher { key: Zeroizing::new(*key), iv: *iv, commit })
    }
}

impl MessageCipher {
    pub(crate) const fn commit(&self) -> Hash {
        self.commit
    }

    pub(crate) fn seal(self, content: &[u8], aad: &Canonical) -> Result<Vec<u8>, KeyError> {
        seal::seal(&self.key, &self.iv, &padding::pad(content), aad)
    }

    pub(crate) fn open(
        self,
        commit: &Hash,
        sealed: &[u8],
        aad: &Canonical,
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        if !bool::from(self.commit.as_bytes().ct_eq(commit.as_bytes())) {
            return Err(KeyError::DoesNotOpen);
        }
        let padded = seal::open(&self.key, &self.iv, sealed, aad)?;
        let content = padding::unpad(&padded).ok_or(KeyError::DoesNotOpen)?;
        Ok(Zeroizing::new(content.to_vec()))
    }
}
