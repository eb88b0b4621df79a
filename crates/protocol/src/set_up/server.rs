//! The server's side of the set-up.

use std::fmt;

use mildam_records::id::Hash;
use mildam_records::keys::rsa_from_spki;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::keys::{self, SESSION_KEY_BYTES, ServerKey};
use super::schedule::{self, Keys};
use super::wire::{
    self, ClientAnswer, ClientConfirmation, ClientStatus, Header, PROTOCOL_VERSION, ServerConfirmation,
    ServerGreeting, SessionKeyDelivery, Status,
};
use super::{ChannelBinding, Established, SetUpError};
use crate::session::ServerSession;

/// Speaks first: who the server is, and its key.
///
/// # Errors
/// [`SetUpError::Local`] if the greeting cannot be written.
pub fn start(
    key: &ServerKey,
    server_info: &str,
    binding: ChannelBinding,
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, ExpectClientKey), SetUpError> {
    let mut nonce = [0; Hash::LENGTH];
    rng.fill_bytes(&mut nonce);
    let greeting = wire::write(&ServerGreeting {
        header: wire::connecting(server_info, "send your RSA public key under the name publicKey"),
        public_key: key.spki().to_vec().into(),
        protocol: PROTOCOL_VERSION,
        nonce: Hash::from_bytes(nonce),
    })?;
    let state = ExpectClientKey {
        key: key.clone(),
        server_info: server_info.to_owned(),
        binding,
        greeting: greeting.clone(),
    };
    Ok((greeting, state))
}

/// Awaits the client's public key.
#[derive(Debug)]
pub struct ExpectClientKey {
    key: ServerKey,
    server_info: String,
    binding: ChannelBinding,
    greeting: Vec<u8>,
}

impl ExpectClientKey {
    /// Takes the client's key and delivers a session key under it.
    ///
    /// # Errors
    /// [`SetUpError`]; send [`SetUpError::refusal`] and close.
    pub fn handle(
        self,
        payload: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, ExpectConfirmation), SetUpError> {
        let answer: ClientAnswer = wire::read(payload, "client key")?;
        let client_key = rsa_from_spki(&answer.public_key, "client").map_err(|_| SetUpError::BadKey)?;
        let mut session_key = Zeroizing::new([0; SESSION_KEY_BYTES]);
        rng.fill_bytes(&mut *session_key);
        let sealed = keys::encrypt(&client_key, &session_key, rng)?;
        let signed = schedule::signed_bytes(&self.greeting, payload, &sealed, &self.binding);
        let delivery = wire::write(&SessionKeyDelivery {
            header: wire::connecting(
                &self.server_info,
                "confirm the session key with the status session_key_received",
            ),
            session_key: sealed.into(),
            signature: self.key.sign(&signed, rng)?.into(),
        })?;
        let transcript = schedule::transcript(&self.greeting, payload, &delivery, &self.binding);
        let keys = Keys::derive(&session_key, &transcript)?;
        let bound = self.binding.is_some();
        Ok((delivery, ExpectConfirmation { server_info: self.server_info, keys, transcript, bound }))
    }
}

/// Awaits the word that the session key arrived. Until then it is not active.
pub struct ExpectConfirmation {
    server_info: String,
    keys: Keys,
    transcript: Hash,
    bound: bool,
}

#[cfg(test)]
impl ExpectConfirmation {
    pub(super) fn keys_for_vectors(&self) -> [[u8; 32]; 4] {
        self.keys.all()
    }
}

impl ExpectConfirmation {
    /// Takes the confirmation, answers with the server's own, and activates the session key.
    ///
    /// # Errors
    /// [`SetUpError`]; send [`SetUpError::refusal`] and close.
    pub fn handle(self, payload: &[u8]) -> Result<(Vec<u8>, Established<ServerSession>), SetUpError> {
        let message: ClientConfirmation = wire::read(payload, "confirmation")?;
        if message.status == ClientStatus::Fail {
            return Err(SetUpError::refused("the client could not use the session key"));
        }
        let confirm = message.confirm.ok_or(SetUpError::Malformed("confirmation"))?;
        self.keys.check_client(&self.transcript, &confirm)?;
        let answer = wire::write(&ServerConfirmation {
            header: Header {
                status: Status::Success,
                server_info: self.server_info,
                message: "the session key is active".to_owned(),
                retry_after: None,
            },
            confirm: self.keys.server_confirmation(&self.transcript),
        })?;
        let session = ServerSession::new(&self.keys);
        Ok((answer, Established { session, transcript: self.transcript, bound: self.bound }))
    }
}

impl fmt::Debug for ExpectConfirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectConfirmation").finish_non_exhaustive()
    }
}
