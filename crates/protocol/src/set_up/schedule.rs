//! What follows from the session key and the transcript.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use mildam_records::canonical::Canonical;
use mildam_records::id::Hash;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{ChannelBinding, SetUpError};

/// What the server signs: `T("mildam/set-up/v1", frame 1, frame 2, sessionKey ciphertext,
/// channel binding?)`.
pub(super) fn signed_bytes(
    greeting: &[u8],
    answer: &[u8],
    session_key: &[u8],
    binding: &ChannelBinding,
) -> Vec<u8> {
    Canonical::new("mildam/set-up/v1")
        .bytes(greeting)
        .bytes(answer)
        .bytes(session_key)
        .optional(binding.as_ref().map(<[u8; 32]>::as_slice))
        .into_bytes()
}

/// `SHA-256(T("mildam/transcript/v1", frame 1, frame 2, frame 3, channel binding?))`.
pub(super) fn transcript(greeting: &[u8], answer: &[u8], delivery: &[u8], binding: &ChannelBinding) -> Hash {
    Canonical::new("mildam/transcript/v1")
        .bytes(greeting)
        .bytes(answer)
        .bytes(delivery)
        .optional(binding.as_ref().map(<[u8; 32]>::as_slice))
        .hash()
}

/// The four keys of a session, 32 bytes each:
/// `HKDF-SHA-256(salt = transcript, ikm = session key, info = T("mildam/session-keys/v1"))`, cut
/// in this order.
pub(crate) struct Keys {
    pub(crate) client_to_server: Zeroizing<[u8; 32]>,
    pub(crate) server_to_client: Zeroizing<[u8; 32]>,
    client_confirm: Zeroizing<[u8; 32]>,
    server_confirm: Zeroizing<[u8; 32]>,
}

impl Keys {
    pub(super) fn derive(session_key: &[u8; 32], transcript: &Hash) -> Result<Self, SetUpError> {
        let mut bytes = Zeroizing::new([0_u8; 128]);
        Hkdf::<Sha256>::new(Some(transcript.as_bytes()), session_key)
            .expand(Canonical::new("mildam/session-keys/v1").as_bytes(), &mut *bytes)
            .map_err(|_| SetUpError::Local("key derivation"))?;
        let mut parts = bytes.chunks_exact(32).map(|part| {
            let mut key = Zeroizing::new([0; 32]);
            key.copy_from_slice(part);
            key
        });
        let mut next = || parts.next().ok_or(SetUpError::Local("key derivation"));
        Ok(Self {
            client_to_server: next()?,
            server_to_client: next()?,
            client_confirm: next()?,
            server_confirm: next()?,
        })
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> [[u8; 32]; 4] {
        [*self.client_to_server, *self.server_to_client, *self.client_confirm, *self.server_confirm]
    }

    fn confirmation(key: &[u8; 32], label: &str, transcript: &Hash) -> Hmac<Sha256> {
        // A key shorter than SHA-256's block of 64 bytes is filled up with zeros (RFC 2104).
        let mut block = Zeroizing::new([0; 64]);
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        let mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
        mac.chain_update(Canonical::new(label).bytes(transcript.as_bytes()).as_bytes())
    }

    fn client_mac(&self, transcript: &Hash) -> Hmac<Sha256> {
        Self::confirmation(&self.client_confirm, "mildam/client-confirm/v1", transcript)
    }

    fn server_mac(&self, transcript: &Hash) -> Hmac<Sha256> {
        Self::confirmation(&self.server_confirm, "mildam/server-confirm/v1", transcript)
    }

    /// `HMAC-SHA-256(client confirm key, T("mildam/client-confirm/v1", transcript))`.
    pub(super) fn client_confirmation(&self, transcript: &Hash) -> Hash {
        Hash::from_bytes(self.client_mac(transcript).finalize().into_bytes().into())
    }

    /// `HMAC-SHA-256(server confirm key, T("mildam/server-confirm/v1", transcript))`.
    pub(super) fn server_confirmation(&self, transcript: &Hash) -> Hash {
        Hash::from_bytes(self.server_mac(transcript).finalize().into_bytes().into())
    }

    pub(super) fn check_client(&self, transcript: &Hash, confirm: &Hash) -> Result<(), SetUpError> {
        let checked = self.client_mac(transcript).verify_slice(confirm.as_bytes());
        checked.map_err(|_| SetUpError::BadConfirmation)
    }

    pub(super) fn check_server(&self, transcript: &Hash, confirm: &Hash) -> Result<(), SetUpError> {
        let checked = self.server_mac(transcript).verify_slice(confirm.as_bytes());
        checked.map_err(|_| SetUpError::BadConfirmation)
    }
}
