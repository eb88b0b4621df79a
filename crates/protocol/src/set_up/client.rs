//! The client's side of the set-up.

use std::fmt;

use mildam_records::id::Hash;
use rand_core::CryptoRng;

use super::keys::{self, ClientKey};
use super::schedule::{self, Keys};
use super::wire::{
    self, ClientAnswer, ClientConfirmation, ClientStatus, PROTOCOL_VERSION, ServerConfirmation,
    ServerGreeting, SessionKeyDelivery, Status,
};
use super::{ChannelBinding, Established, SetUpError};
use crate::session::ClientSession;

/// Waits for the server to speak first. `trusted` is the fingerprint from the server link.
#[must_use]
pub const fn start(trusted: Hash, key: ClientKey, binding: ChannelBinding) -> ExpectServerKey {
    ExpectServerKey { trusted, key, binding, proxy_allowed: false }
}

/// Awaits the server's greeting and key.
#[derive(Debug)]
pub struct ExpectServerKey {
    trusted: Hash,
    key: ClientKey,
    binding: ChannelBinding,
    proxy_allowed: bool,
}

impl ExpectServerKey {
    /// Takes a server for good, too, that signs that it sees no TLS channel, because a proxy of its
    /// operator's ends TLS. To be called only where something else than the server key vouches for
    /// the other end of TLS: a certificate that was verified for the host's name.
    #[must_use]
    pub const fn allow_proxy(mut self) -> Self {
        self.proxy_allowed = true;
        self
    }

    /// Judges whether this is the server that the link names, and if so answers with a key.
    ///
    /// # Errors
    /// [`SetUpError::WrongFingerprint`] for another server: nothing must be sent to it.
    pub fn handle(
        self,
        payload: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, ExpectSessionKey), SetUpError> {
        let greeting: ServerGreeting = wire::read_server(payload, "greeting")?;
        if greeting.header.status != Status::Connecting {
            return Err(SetUpError::Malformed("greeting"));
        }
        if greeting.protocol != PROTOCOL_VERSION {
            return Err(SetUpError::Incompatible { theirs: greeting.protocol });
        }
        let found = keys::fingerprint_of(&greeting.public_key);
        if found != self.trusted {
            return Err(SetUpError::WrongFingerprint { found });
        }
        let mut nonce = [0; Hash::LENGTH];
        rng.fill_bytes(&mut nonce);
        let answer = wire::write(&ClientAnswer {
            public_key: self.key.spki().to_vec().into(),
            nonce: Hash::from_bytes(nonce),
        })?;
        let state = ExpectSessionKey {
            key: self.key,
            binding: self.binding,
            proxy_allowed: self.proxy_allowed,
            server_key: greeting.public_key.0,
            greeting: payload.to_vec(),
            answer: answer.clone(),
        };
        Ok((answer, state))
    }
}

/// Awaits the session key.
#[derive(Debug)]
pub struct ExpectSessionKey {
    key: ClientKey,
    binding: ChannelBinding,
    proxy_allowed: bool,
    server_key: Vec<u8>,
    greeting: Vec<u8>,
    answer: Vec<u8>,
}

impl ExpectSessionKey {
    /// Checks the server's signature, decrypts the session key and confirms it. `rng` blinds the
    /// decryption.
    ///
    /// # Errors
    /// [`SetUpError`]; send [`SetUpError::client_refusal`] and close.
    pub fn handle(
        self,
        payload: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, ExpectServerConfirmation), SetUpError> {
        let delivery: SessionKeyDelivery = wire::read_server(payload, "session key")?;
        if delivery.header.status != Status::Connecting {
            return Err(SetUpError::Malformed("session key"));
        }
        let verified = |binding: &ChannelBinding| {
            let signed = schedule::signed_bytes(&self.greeting, &self.answer, &delivery.session_key, binding);
            keys::verify(&self.server_key, &signed, &delivery.signature)
        };
        let binding = match verified(&self.binding) {
            Ok(()) => self.binding,
            Err(_) if self.proxy_allowed && verified(&None).is_ok() => None,
            Err(error) => return Err(error),
        };
        let session_key = self.key.decrypt(&delivery.session_key, rng)?;
        let transcript = schedule::transcript(&self.greeting, &self.answer, payload, &binding);
        let keys = Keys::derive(&session_key, &transcript)?;
        let confirmation = wire::write(&ClientConfirmation {
            status: ClientStatus::SessionKeyReceived,
            confirm: Some(keys.client_confirmation(&transcript)),
        })?;
        Ok((confirmation, ExpectServerConfirmation { keys, transcript, bound: binding.is_some() }))
    }
}

/// Awaits the server's confirmation.
pub struct ExpectServerConfirmation {
    keys: Keys,
    transcript: Hash,
    bound: bool,
}

impl ExpectServerConfirmation {
    /// Checks that the server holds the session key and saw the same transcript.
    ///
    /// # Errors
    /// [`SetUpError::BadConfirmation`], or what the server refused.
    pub fn handle(self, payload: &[u8]) -> Result<Established<ClientSession>, SetUpError> {
        let message: ServerConfirmation = wire::read_server(payload, "confirmation")?;
        if message.header.status != Status::Success {
            return Err(SetUpError::Malformed("confirmation"));
        }
        self.keys.check_server(&self.transcript, &message.confirm)?;
        let session = ClientSession::new(&self.keys);
        Ok(Established { session, transcript: self.transcript, bound: self.bound })
    }
}

impl fmt::Debug for ExpectServerConfirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectServerConfirmation").finish_non_exhaustive()
    }
}
